// SPDX-License-Identifier: GPL-2.0

//! The instructions that serve a request.
//!
//! The invalidation is the kernel's `icache_inval_all_pou()`, so that its workarounds
//! apply. The memory accesses are assembly because the same code runs at EL2 in
//! the nVHE hypervisor, which cannot call the kernel's atomics. They use exclusive pairs,
//! never FEAT_LSE, which is correct under `arm64.nolse_atomics` too; the cost is small,
//! since these words are accessed a few times per full invalidation.

use super::epoch;
use core::{arch::asm, cell::UnsafeCell};
use kernel::bindings;

/// A word in Normal cacheable memory.
///
/// # Invariants
///
/// All accesses are single-copy atomic.
#[repr(transparent)]
pub(crate) struct Word(UnsafeCell<u64>);

// SAFETY: By the type invariant, accesses from several CPUs are single-copy atomic.
unsafe impl Sync for Word {}

impl Word {
    pub(crate) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }
}

impl epoch::Word for Word {
    #[inline]
    fn load_acquire(&self) -> u64 {
        let value;
        // SAFETY: The address is that of a live, aligned `u64`; `LDAR` is
        // single-copy atomic.
        unsafe {
            asm!(
                "ldar {value}, [{word}]",
                word = in(reg) self.0.get(),
                value = out(reg) value,
                options(nostack, preserves_flags),
            )
        }
        value
    }

    #[inline]
    fn store_release(&self, value: u64) {
        // SAFETY: The address is that of a live, aligned `u64`; `STLR` is
        // single-copy atomic.
        unsafe {
            asm!(
                "stlr {value}, [{word}]",
                word = in(reg) self.0.get(),
                value = in(reg) value,
                options(nostack, preserves_flags),
            )
        }
    }

    #[inline]
    fn change(&self, old: u64, new: u64) -> bool {
        // Avoid an exclusive load that cannot succeed: it may take the cache line from the
        // CPU that is about to write to it.
        if self.load_acquire() != old {
            return false;
        }
        let found: u64;
        // SAFETY: The address is that of a live, aligned `u64`; an exclusive pair is
        // single-copy atomic.
        unsafe {
            asm!(
                "1: ldaxr {found}, [{word}]",
                "cmp {found}, {old}",
                "b.ne 2f",
                "stxr {failed:w}, {new}, [{word}]",
                "cbnz {failed:w}, 1b",
                "2:",
                word = in(reg) self.0.get(),
                old = in(reg) old,
                new = in(reg) new,
                found = out(reg) found,
                failed = out(reg) _,
                options(nostack),
            )
        }
        found == old
    }
}

/// The current CPU.
pub(crate) struct ThisCpu;

impl epoch::Cpu for ThisCpu {
    #[inline]
    fn complete(&self) {
        // SAFETY: A barrier changes no state.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) }
    }

    #[inline]
    fn invalidate_all(&self) {
        // SAFETY: Callable in any context. An instruction cache holds only copies, so
        // invalidating it never loses data.
        unsafe { bindings::__kvm_icache_inval_all_pou() }
    }

    #[inline]
    fn relax(&self) {
        // SAFETY: A hint changes no state.
        unsafe { asm!("yield", options(nomem, nostack, preserves_flags)) }
    }
}

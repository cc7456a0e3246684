// SPDX-License-Identifier: GPL-2.0

//! Instruction-cache invalidation for guest memory, in the kernel proper.
//!
//! Serves VHE and nVHE, where the host maintains the guests' stage-2 tables. In
//! protected mode the hypervisor does: see `hyp/nvhe/icache.rs`.
//!
//! C header: [`arch/arm64/include/asm/kvm_icache.h`](srctree/arch/arm64/include/asm/kvm_icache.h)

use kernel::{
    bindings, kvm,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    tracepoint::declare_trace,
};

#[path = "hyp/icache/mod.rs"]
mod icache;

declare_trace! {
    /// # Safety
    ///
    /// Always safe: the arguments are plain integers.
    unsafe fn kvm_icache_inval(size: u64, result: u32);
}

/// Serves a request for `size` bytes of the VM whose vCPU is running; see
/// `kvm_icache_request()`.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn __kvm_icache_request(
    _stat: *mut bindings::kvm_vm_stat,
    ctr: u64,
    aliasing: bool,
    size: u64,
    max_lines: u64,
) -> bindings::kvm_icache_result {
    let outcome = icache::request(ctr, aliasing, size, max_lines);
    kvm::with_running(|vcpu| {
        // SAFETY: A VM lives as long as one of its vCPUs runs.
        if let Some(counter) = unsafe { icache::counter(vcpu.vm().stat(), outcome) } {
            // SAFETY: Alive as above. What else KVM does with a counter is plain loads,
            // for user space to see, and a store that clears it.
            unsafe { Atomic::from_ptr(counter) }.add(1u64, Relaxed);
        }
    });
    // SAFETY: The arguments are plain integers.
    unsafe { kvm_icache_inval(size, outcome as u32) };
    outcome as bindings::kvm_icache_result
}

#[cfg(CONFIG_KVM_ARM64_ICACHE_BOUND_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_icache)]
mod tests {
    use super::*;

    use icache::{
        cpu::{ThisCpu, Word},
        epoch::{Epochs, Served, Word as _},
        plan::{line_bytes, plan, Plan},
        request, Outcome,
    };
    use kernel::{
        arm64::{cpufeature::sanitised, sysreg::CTR_EL0},
        interrupt::local_interrupt_disable,
        page::PAGE_SIZE,
    };

    /// `MAX_DVM_OPS`, that is `PTRS_PER_PTE`.
    const MAX_LINES: u64 = PAGE_SIZE as u64 / 8;

    /// The bound on this machine is that of `__invalidate_icache_max_range()`.
    #[test]
    fn bound_of_this_machine() {
        let ctr = sanitised::<CTR_EL0>();
        let bound = MAX_LINES << (2 + ctr.IminLine().get());

        assert_eq!(line_bytes(ctr.into()), ctr.icache_line_bytes() as u64);
        assert_eq!(
            plan(ctr.into(), false, false, bound, MAX_LINES),
            Plan::ByLine
        );
        assert_eq!(
            plan(ctr.into(), false, false, bound + 1, MAX_LINES),
            Plan::All
        );
        assert_eq!(
            plan(ctr.into(), false, true, bound + 1, MAX_LINES),
            Plan::Nothing
        );
        assert_eq!(plan(ctr.into(), true, false, 1, MAX_LINES), Plan::All);
        assert_eq!(plan(ctr.into(), true, false, 0, MAX_LINES), Plan::Nothing);
    }

    /// What the caller is told to do.
    #[test]
    fn outcomes() {
        let ctr = CTR_EL0::zeroed().with_const_IminLine::<4>().into();

        assert!(request(ctr, false, 0, MAX_LINES) == Outcome::Nothing);
        assert!(request(ctr, false, 64 * MAX_LINES, MAX_LINES) == Outcome::ByLine);
        let _guard = local_interrupt_disable();
        // Others may be running guests: theirs may be the one that serves this.
        let all = request(ctr, false, 64 * MAX_LINES + 64, MAX_LINES);
        assert!(all == Outcome::All || all == Outcome::AllShared);
    }

    /// With nobody else around, each request executes its own invalidation.
    #[test]
    fn alone() {
        let _guard = local_interrupt_disable();
        let epochs = Epochs::new(Word::new(0), Word::new(0));

        for _ in 0..10 {
            assert_eq!(epochs.serve(&ThisCpu), Served::Own);
        }
    }

    #[test]
    fn words() {
        let word = Word::new(u64::MAX);

        assert_eq!(word.load_acquire(), u64::MAX);
        assert!(!word.change(0, 1));
        assert_eq!(word.load_acquire(), u64::MAX);
        assert!(word.change(u64::MAX, 7));
        word.store_release(word.load_acquire() * 2);
        assert_eq!(word.load_acquire(), 14);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Bounded instruction-cache invalidation for guest memory.
//!
//! When a page of a guest becomes executable, stale instructions of whatever the
//! page held before must leave the instruction caches of all CPUs. KVM makes one
//! *request* for each stage-2 leaf that becomes executable. [`plan`] says what a
//! request needs, [`epoch`] lets CPUs that wait for a full invalidation share one,
//! [`cpu`] has the instructions, and this module puts them together, once for the
//! kernel proper (VHE and nVHE) and once for the protected-mode hypervisor.
//!
//! The decision is taken for the request as a whole. A caller that has to go
//! through the range in pieces (the hypervisor maps guest pages one at a time)
//! asks before it cuts the range, so the number of broadcast operations has a bound
//! that does not depend on the size of the mapping.

pub(crate) mod cpu;
pub(crate) mod epoch;
pub(crate) mod plan;

/// Register fields, as generated from `arch/arm64/tools/sysreg`.
#[allow(dead_code, missing_docs, non_upper_case_globals, unreachable_pub)]
pub(crate) mod sysreg {
    include!(concat!(
        env!("OBJTREE"),
        "/arch/arm64/include/generated/rust/sysreg-consts.rs"
    ));
}

use cpu::{ThisCpu, Word};
use epoch::{Epochs, Served};
use kernel::bindings;
use plan::{plan, Plan};

/// What became of a request: `enum kvm_icache_result` of the C header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Outcome {
    /// No invalidation was needed.
    Nothing = bindings::kvm_icache_result_KVM_ICACHE_NOTHING,
    /// The caller has to invalidate the range line by line.
    ByLine = bindings::kvm_icache_result_KVM_ICACHE_BY_LINE,
    /// This request executed a full invalidation.
    All = bindings::kvm_icache_result_KVM_ICACHE_ALL,
    /// Another request's full invalidation serves this one.
    AllShared = bindings::kvm_icache_result_KVM_ICACHE_ALL_SHARED,
}

/// The full invalidations of this exception level.
static EPOCHS: Epochs<Word> = Epochs::new(Word::new(0), Word::new(0));

/// Serves a request for `size` bytes as far as that is possible without touching
/// the range; the arguments are those of [`plan`]. Interrupts must be off.
///
/// The caller has found `CTR_EL0.DIC` clear: where it is set there is no call.
#[inline]
pub(crate) fn request(ctr: u64, aliasing: bool, size: u64, max_lines: u64) -> Outcome {
    match plan(ctr, aliasing, false, size, max_lines) {
        Plan::Nothing => Outcome::Nothing,
        Plan::ByLine => Outcome::ByLine,
        Plan::All => match EPOCHS.serve(&ThisCpu) {
            Served::Own => Outcome::All,
            Served::Shared => Outcome::AllShared,
        },
    }
}

/// The one counter of its VM that a request belongs to.
///
/// # Safety
///
/// `stat` points to the counters of a VM.
#[inline]
pub(crate) unsafe fn counter(
    stat: *mut bindings::kvm_vm_stat,
    outcome: Outcome,
) -> Option<*mut u64> {
    // SAFETY: By the caller's contract the fields exist.
    unsafe {
        match outcome {
            Outcome::Nothing => None,
            Outcome::ByLine => Some(&raw mut (*stat).icache_by_line),
            Outcome::All => Some(&raw mut (*stat).icache_full),
            Outcome::AllShared => Some(&raw mut (*stat).icache_full_saved),
        }
    }
}

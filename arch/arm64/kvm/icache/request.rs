// SPDX-License-Identifier: GPL-2.0

//! Bounded instruction-cache invalidation for guest memory.
//!
//! When a page of a guest becomes executable, stale instructions of whatever the
//! page held before must leave the instruction caches of all CPUs. KVM makes one
//! *request* for each stage-2 leaf that becomes executable, and one for all of a VM's
//! memory when a vCPU is reset on CPUs with FEAT_S2FWB. [`plan`] says what a
//! request needs, [`epoch`] lets CPUs that wait for a full invalidation share one,
//! [`cpu`] has the instructions, and this module puts them together, once for the
//! kernel proper (VHE and nVHE) and once for the protected-mode hypervisor.
//!
//! The decision is taken here, for the request as a whole; whoever is told to
//! invalidate by line does so whatever the size. A caller that has to go
//! through the range in pieces (the hypervisor maps guest pages one at a time)
//! asks before it cuts the range, so the number of broadcast operations has a bound
//! that does not depend on the size of the mapping.

use super::{
    cpu::{ThisCpu, Word},
    epoch::{Epochs, Served, TURNS},
    plan::{plan, Plan}, //
};
use kernel::{arm64::sysreg::CTR_EL0, bindings};

/// What became of a request: `enum kvm_icache_result` of the C header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Outcome {
    /// No invalidation was needed.
    Nothing = bindings::kvm_icache_result_KVM_ICACHE_NOTHING,
    /// The caller has to invalidate the range line by line.
    ByLine = bindings::kvm_icache_result_KVM_ICACHE_BY_LINE,
    /// This request executed a full invalidation.
    Full = bindings::kvm_icache_result_KVM_ICACHE_FULL,
    /// This request shared another one's full invalidation.
    Shared = bindings::kvm_icache_result_KVM_ICACHE_SHARED,
}

/// The full invalidations of this exception level.
static EPOCHS: Epochs<Word> = Epochs::new(Word::new(0), Word::new(0));

/// Serves a request for `size` bytes as far as that is possible without touching
/// the range; the arguments are those of [`plan`].
#[inline]
pub(crate) fn request(ctr: CTR_EL0, aliasing: bool, size: u64, max_lines: u64) -> Outcome {
    match plan(ctr, aliasing, size, max_lines) {
        Plan::Nothing => Outcome::Nothing,
        Plan::ByLine => Outcome::ByLine,
        Plan::All => match EPOCHS.serve(&ThisCpu, TURNS) {
            Served::Own => Outcome::Full,
            Served::Shared => Outcome::Shared,
        },
    }
}

/// Counts a request in the one counter that it belongs to.
///
/// A load and a store, as C has for such counters: one task at a time makes a vCPU's
/// requests. Who else writes (debugfs, or in protected mode a host that wants to) changes a
/// number that only user space reads.
///
/// # Safety
///
/// `stat` points to the counters of a vCPU.
#[inline]
pub(crate) unsafe fn count(stat: *mut bindings::kvm_vcpu_stat, outcome: Outcome) {
    // SAFETY: By the caller's contract the fields exist.
    let counter = unsafe {
        match outcome {
            Outcome::Nothing => return,
            Outcome::ByLine => &raw mut (*stat).icache_by_line,
            Outcome::Full => &raw mut (*stat).icache_full,
            Outcome::Shared => &raw mut (*stat).icache_shared,
        }
    };
    // SAFETY: As above. Volatile accesses of an aligned word are single-copy atomic.
    unsafe { counter.write_volatile(counter.read_volatile().wrapping_add(1)) };
}

// SPDX-License-Identifier: GPL-2.0

//! Bounded instruction-cache invalidation for guest memory.
//!
//! When a page of a guest becomes executable, stale instructions from its earlier
//! contents must leave the instruction caches of all CPUs. KVM makes one
//! *request* for each stage-2 leaf that becomes executable, and one for all of a VM's
//! memory when a vCPU is reset on CPUs with FEAT_S2FWB. [`plan`] decides how to serve a
//! request, [`epoch`] lets concurrent requests share a full invalidation,
//! [`cpu`] has the instructions, and this module combines them, once for the
//! kernel proper (VHE and nVHE) and once for the protected-mode hypervisor.
//!
//! The decision is taken here, for the request as a whole; a caller that is told to
//! invalidate by line does so whatever the size. A caller that goes through the range
//! in pieces (the hypervisor maps guest pages one at a time) makes the request before it
//! splits the range, so the number of broadcast operations has a bound that does not
//! depend on the size of the mapping.

use super::{
    cpu::{ThisCpu, Word},
    epoch::{Epochs, Served, TURNS},
    plan::{plan, Plan}, //
};
use kernel::{arm64::sysreg::CTR_EL0, bindings};

/// How a request was served: `enum kvm_icache_result` of the C header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Outcome {
    /// No invalidation was needed.
    Nothing = bindings::kvm_icache_result_KVM_ICACHE_NOTHING,
    /// The caller must invalidate the range line by line.
    ByLine = bindings::kvm_icache_result_KVM_ICACHE_BY_LINE,
    /// This request executed a full invalidation.
    Full = bindings::kvm_icache_result_KVM_ICACHE_FULL,
    /// This request shared the full invalidation of another request.
    Shared = bindings::kvm_icache_result_KVM_ICACHE_SHARED,
}

/// The full invalidations of this exception level.
static EPOCHS: Epochs<Word> = Epochs::new(Word::new(0), Word::new(0));

/// Serves a request for `size` bytes, except for invalidation by line, which needs the range
/// and is left to the caller. The arguments are those of [`plan`].
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

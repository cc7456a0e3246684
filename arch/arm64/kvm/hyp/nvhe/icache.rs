// SPDX-License-Identifier: GPL-2.0

//! Instruction-cache invalidation for guest memory, at EL2 in protected mode.
//!
//! Self-contained: of the kernel crate only types are used, and nothing here can
//! panic. A call to anything that the hypervisor's object lacks fails its link.
//!
//! C header: [`arch/arm64/include/asm/kvm_icache.h`](srctree/arch/arm64/include/asm/kvm_icache.h)

use kernel::{bindings, prelude::*};

#[path = "../icache/mod.rs"]
mod icache;

/// Serves a request for `size` bytes; see `kvm_icache_request()`.
///
/// # Safety
///
/// `stat` is NULL or points to the counters in the host's `struct kvm`, which the
/// hypervisor has pinned.
#[export]
pub unsafe extern "C" fn __kvm_icache_request(
    stat: *mut bindings::kvm_vm_stat,
    ctr: u64,
    aliasing: bool,
    size: u64,
    max_lines: u64,
) -> bindings::kvm_icache_result {
    let outcome = icache::request(ctr, aliasing, size, max_lines);
    // The hypervisor's own test of page ownership has a VM that no host has.
    if !stat.is_null() {
        // SAFETY: By the caller's contract.
        unsafe { icache::count(stat, outcome) };
    }
    outcome as bindings::kvm_icache_result
}

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
/// hypervisor has pinned, and the hypervisor's lock of that VM is held.
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
    if stat.is_null() {
        return outcome as bindings::kvm_icache_result;
    }
    // SAFETY: By the caller's contract.
    if let Some(counter) = unsafe { icache::counter(stat, outcome) } {
        // A load and a store do, since a VM's requests come one after the other, and
        // are all that EL2 should do: the host can write here, and could keep an
        // exclusive pair from ever succeeding.
        // SAFETY: By the caller's contract.
        unsafe { counter.write_volatile(counter.read_volatile().wrapping_add(1)) };
    }
    outcome as bindings::kvm_icache_result
}

// SPDX-License-Identifier: GPL-2.0

//! Instruction-cache invalidation for guest memory, at EL2 in protected mode.
//!
//! Self-contained: this crate uses only types of the kernel crate and only C functions of the
//! hypervisor's object, and cannot panic. A call to any other code fails the link of that
//! object.
//!
//! C header: [`arch/arm64/include/asm/kvm_icache.h`](srctree/arch/arm64/include/asm/kvm_icache.h)

use kernel::{bindings, prelude::*};

mod cpu;
mod epoch;
mod plan;
mod request;

/// Serves a request for `size` bytes; see `kvm_icache_request()`.
///
/// # Safety
///
/// `vcpu` is NULL or points to the host's vCPU that the hypervisor has loaded, and so
/// pinned, on this CPU.
#[export]
pub unsafe extern "C" fn __kvm_icache_request(
    vcpu: *mut bindings::kvm_vcpu,
    ctr: u64,
    aliasing: bool,
    size: u64,
    max_lines: u64,
) -> bindings::kvm_icache_result {
    let outcome = request::request(ctr.into(), aliasing, size, max_lines);
    // SAFETY: By the caller's contract the vCPU is alive. The host may write to the counters: no
    // code here relies on their values. The arguments of the trace are integers.
    unsafe {
        if !vcpu.is_null() {
            request::count(&raw mut (*vcpu).stat, outcome);
        }
        bindings::__kvm_icache_trace(size, outcome as u32);
    }
    outcome as bindings::kvm_icache_result
}

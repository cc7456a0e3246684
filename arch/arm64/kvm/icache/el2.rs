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
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_icache_serve(
    ctr: u64,
    aliasing: bool,
    size: u64,
    max_lines: u64,
) -> bindings::kvm_icache_result {
    request::request(ctr.into(), aliasing, size, max_lines) as bindings::kvm_icache_result
}

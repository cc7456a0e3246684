// SPDX-License-Identifier: GPL-2.0

//! The switch of the unit between host and guest, in the hypervisor's object of nVHE mode.
//!
//! Self-contained: this crate uses only types and inline functions of the kernel crate, and cannot
//! panic. A call to any other code fails the link of that object.
//!
//! C header: [`asm/kvm_spe.h`](srctree/arch/arm64/include/asm/kvm_spe.h)

use kernel::bindings::{
    kvm_spe_host as Host,
    kvm_spe_regs as Registers, //
};

mod entry;
mod switch;

// SPDX-License-Identifier: GPL-2.0

//! The ID registers of VMs, and other numbers that describe VMs: their defaults, and the values
//! that userspace may give them.
//!
//! C header: [`asm/kvm_baseline.h`](srctree/arch/arm64/include/asm/kvm_baseline.h)

use super::Vcpu;
use crate::{
    bindings,
    prelude::*, //
};
use core::ptr::null_mut;

/// An ID register that describes features of a VM.
///
/// # Invariants
///
/// KVM has a register with this encoding.
#[derive(Clone, Copy)]
pub struct IdRegister(u32);

/// The owner of an ID register.
#[derive(Clone, Copy)]
pub enum Owner<'a> {
    /// A vCPU whose ID registers are being set.
    Vcpu(&'a Vcpu),
    /// Any VM that has these features: bits `KVM_ARM_VCPU_*`.
    Features(usize),
}

impl Owner<'_> {
    /// Returns the vCPU, or null, and the features.
    fn parts(self) -> (*mut bindings::kvm_vcpu, usize) {
        match self {
            Self::Vcpu(vcpu) => (vcpu.as_raw(), 0),
            Self::Features(features) => (null_mut(), features),
        }
    }
}

impl IdRegister {
    /// Returns the register with this encoding, as `sys_reg()` gives it.
    ///
    /// Context: any.
    #[inline]
    pub fn new(encoding: u32) -> Option<Self> {
        // SAFETY: Always safe to call.
        let exists = unsafe { bindings::kvm_id_reg_exists(encoding) };

        // INVARIANT: Checked above.
        exists.then_some(Self(encoding))
    }

    /// Returns the register with this name, which is that of the architecture in lower case.
    ///
    /// Context: any.
    #[inline]
    pub fn find(name: &[u8]) -> Option<Self> {
        // SAFETY: The name is valid for reads of this length.
        Self::new(unsafe { bindings::kvm_id_reg_find(name.as_ptr(), name.len()) })
    }

    /// Returns the encoding.
    ///
    /// Context: any.
    #[inline]
    pub fn encoding(self) -> u32 {
        self.0
    }

    /// Returns the name, in upper case.
    ///
    /// Context: any.
    #[inline]
    pub fn name(self) -> &'static CStr {
        // SAFETY: By the type invariant the register exists; its name is static.
        unsafe { CStr::from_char_ptr(bindings::kvm_id_reg_name(self.0)) }
    }

    /// Returns a mask of the field that has a bit, or 0 if the kernel knows no such field.
    ///
    /// Context: any.
    #[inline]
    pub fn field(self, bit: u32) -> u64 {
        if bit >= u64::BITS {
            return 0;
        }
        // SAFETY: By the type invariant, and 1 can be shifted by `bit`.
        unsafe { bindings::kvm_id_reg_field(self.0, bit) }
    }

    /// Returns the value by default.
    ///
    /// Context: any, once KVM has initialised.
    #[inline]
    pub fn limit(self, owner: Owner<'_>) -> u64 {
        let (vcpu, features) = owner.parts();

        // SAFETY: By the type invariant; a vCPU is alive.
        unsafe { bindings::kvm_id_reg_limit(vcpu, features, self.0) }
    }

    /// Returns `limit` with the fields in `mask` lowered to the values nearest to `want` that
    /// userspace could set.
    ///
    /// Context: any, once KVM has initialised.
    #[inline]
    pub fn lower(self, owner: Owner<'_>, limit: u64, want: u64, mask: u64) -> u64 {
        let (vcpu, features) = owner.parts();

        // SAFETY: By the type invariant; a vCPU is alive.
        unsafe { bindings::kvm_id_reg_lower(vcpu, features, self.0, limit, want, mask) }
    }
}

/// Returns the features that VMs of this host can have: bits `KVM_ARM_VCPU_*`.
///
/// Context: any, once KVM has initialised: before that, C may stop the kernel (BUG).
#[inline]
pub fn offered_features() -> usize {
    // SAFETY: Always safe to call.
    unsafe { bindings::kvm_baseline_features() }
}

/// Returns whether VMs of this host can have a number, and the number that they have by default.
/// `ssbs` says whether they see FEAT_SSBS.
///
/// Context: any, once KVM has initialised.
#[inline]
pub fn try_number(key: bindings::kvm_baseline_key, number: u64, ssbs: bool) -> (bool, u64) {
    let mut own = 0;

    // SAFETY: The default is written to `own`.
    let good = unsafe { bindings::kvm_baseline_check(key, number, ssbs, &raw mut own) };
    (good, own)
}

/// Returns the AIDR_EL1 that guests see where userspace has set `aidr`.
///
/// Context: any.
#[inline]
pub fn visible_aidr(aidr: u64) -> u64 {
    // SAFETY: Always safe to call.
    unsafe { bindings::kvm_visible_aidr(aidr) }
}

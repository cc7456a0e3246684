// SPDX-License-Identifier: GPL-2.0

//! Kernel-based Virtual Machine.
//!
//! Views of the C structures for components that serve a VM or a vCPU; they own
//! nothing and live no longer than the call from C that hands them out.
//!
//! C header: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use crate::{
    arm64::sysreg::{Encoding, SystemRegister},
    bindings,
    cpu::CpuId,
    types::Opaque, //
};

/// A virtual machine: `struct kvm`.
///
/// # Invariants
///
/// A reference is to a VM that is alive for the lifetime of the reference.
#[repr(transparent)]
pub struct Vm(Opaque<bindings::kvm>);

impl Vm {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `ptr` points to a VM that stays alive for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kvm) -> &'a Self {
        // SAFETY: `Vm` is transparent over `struct kvm`; the rest is the caller's
        // contract. INVARIANT: Likewise.
        unsafe { &*ptr.cast() }
    }

    /// The counters that `KVM_GET_STATS_FD` of the VM shows.
    ///
    /// Several CPUs may change them at the same time: access them atomically.
    ///
    /// Context: any.
    pub fn stat(&self) -> *mut bindings::kvm_vm_stat {
        // SAFETY: By the type invariant the pointer is valid; no reference is made.
        unsafe { &raw mut (*self.0.get()).stat }
    }

    /// What `R` reads in the VM; final once a vCPU has run.
    ///
    /// Fails at build time unless `R` is one of the registers with op0 3, op1 0, CRn 0 and
    /// CRm 1 to 7, of which KVM keeps a value for each VM.
    ///
    /// Context: any.
    pub fn id_register<R: SystemRegister>(&self) -> R {
        const {
            let first = Encoding::new::<3, 0, 0, 1, 0>().as_u32();
            let last = Encoding::new::<3, 0, 0, 7, 7>().as_u32();
            assert!(first <= R::ENCODING.as_u32() && R::ENCODING.as_u32() <= last);
        }
        // SAFETY: By the type invariant the pointer is valid, and there is a value of this
        // register. User space may be writing it, by one store.
        unsafe { bindings::kvm_read_vm_id_reg(self.0.get(), R::ENCODING.as_u32()) }.into()
    }

    /// Whether the vCPUs have `FEATURE`, one of `KVM_ARM_VCPU_*`; false as long as none
    /// has been initialised. Fails at build time if there is no such feature.
    ///
    /// Context: any.
    pub fn has_vcpu_feature<const FEATURE: u32>(&self) -> bool {
        const { assert!(FEATURE < bindings::KVM_VCPU_MAX_FEATURES) }
        // SAFETY: By the type invariant the pointer is valid, and the feature has a bit.
        unsafe { bindings::kvm_vcpu_has_feature(self.0.get(), FEATURE as i32) }
    }
}

/// A virtual CPU: `struct kvm_vcpu`.
///
/// # Invariants
///
/// A reference is to a vCPU that is alive, as is its VM, for the lifetime of the
/// reference.
#[repr(transparent)]
pub struct Vcpu(Opaque<bindings::kvm_vcpu>);

impl Vcpu {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `ptr` points to a vCPU that stays alive for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kvm_vcpu) -> &'a Self {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`; the rest is the caller's
        // contract. INVARIANT: Likewise; a vCPU never outlives its VM.
        unsafe { &*ptr.cast() }
    }

    /// The VM that this vCPU belongs to.
    ///
    /// Context: any.
    pub fn vm(&self) -> &Vm {
        // SAFETY: By the type invariant the pointer is valid, `kvm` is set once when the
        // vCPU is made, and the VM outlives it.
        unsafe { Vm::from_raw((*self.0.get()).kvm) }
    }

    /// The number of this vCPU, as user space knows it.
    ///
    /// Context: any.
    pub fn id(&self) -> i32 {
        // SAFETY: By the type invariant the pointer is valid, and the number never changes.
        unsafe { (*self.0.get()).vcpu_id }
    }

    /// The CPU that this vCPU is loaded on, if any; the answer may be out of date unless
    /// it is this CPU and preemption is off.
    ///
    /// Context: any.
    pub fn cpu(&self) -> Option<CpuId> {
        // SAFETY: By the type invariant the pointer is valid. The task that runs the vCPU may
        // be writing the number, by one store.
        let cpu = unsafe { (&raw const (*self.0.get()).cpu).read_volatile() };

        // It is -1 while the vCPU is not loaded.
        CpuId::from_i32(cpu)
    }
}

/// Calls `f` with the vCPU that the current task has loaded on this CPU, if any.
///
/// To be called in the context of that task, where the vCPU cannot be unloaded
/// before `f` returns: not from an interrupt.
pub fn with_running<R>(f: impl FnOnce(&Vcpu) -> R) -> Option<R> {
    // SAFETY: Callable in any context.
    let vcpu = unsafe { bindings::kvm_get_running_vcpu() };
    if vcpu.is_null() {
        return None;
    }
    // SAFETY: The task that has a vCPU loaded holds a reference to it.
    Some(f(unsafe { Vcpu::from_raw(vcpu) }))
}

#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_arm64_kvm)]
mod tests {
    use super::*;

    use core::mem::MaybeUninit;
    use kernel::{
        arm64::sysreg::ID_AA64DFR0_EL1,
        prelude::*, //
    };

    /// Zeroed memory, as C has for a VM or a vCPU before it fills it in.
    fn blank<T>() -> Result<KVBox<MaybeUninit<T>>> {
        Ok(KVBox::new_uninit(GFP_KERNEL | __GFP_ZERO)?)
    }

    /// What a view says is what C has in the structures.
    #[test]
    fn views() -> Result {
        let mut kvm = blank::<bindings::kvm>()?;
        let kvm = kvm.as_mut_ptr();
        let mut vcpu = blank::<bindings::kvm_vcpu>()?;
        let vcpu = vcpu.as_mut_ptr();
        let dfr0 = ID_AA64DFR0_EL1::zeroed().with_const_BRPs::<5>();

        // SAFETY: Both are in memory of their own, which is zeroed.
        let view = unsafe {
            (*vcpu).kvm = kvm;
            (*vcpu).vcpu_id = 3;
            (*vcpu).cpu = -1;
            // The index of ID_AA64DFR0_EL1: CRm is 5, op2 is 0.
            (*kvm).arch.id_regs[(5 - 1) << 3] = dfr0.into();
            (*kvm).arch.vcpu_features[0] = 1 << bindings::KVM_ARM_VCPU_SVE;
            Vcpu::from_raw(vcpu)
        };
        assert_eq!(view.id(), 3);
        assert!(view.cpu().is_none());
        // SAFETY: As above.
        unsafe { (&raw mut (*vcpu).cpu).write_volatile(0) };
        assert_eq!(view.cpu().map(|cpu| cpu.as_u32()), Some(0));

        let vm = view.vm();
        assert!(core::ptr::eq(vm.0.get(), kvm));
        // SAFETY: As above; no reference is made.
        assert!(core::ptr::eq(vm.stat(), unsafe { &raw mut (*kvm).stat }));
        assert_eq!(vm.id_register::<ID_AA64DFR0_EL1>().BRPs().get(), 5);
        assert!(vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_SVE }>());
        assert!(!vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_EL1_32BIT }>());
        Ok(())
    }

    /// A task that runs no vCPU has none.
    #[test]
    fn no_vcpu_runs_here() {
        assert!(with_running(|_| ()).is_none());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Kernel-based Virtual Machine.
//!
//! Views of the C structures of a VM and of a vCPU, for components that C calls. They own
//! nothing, and live no longer than the call from C that provides them. The modules have the
//! functions of KVM that components need, so that these are safe to call.
//!
//! C header: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use crate::{
    arm64::sysreg::{Encoding, SystemRegister},
    bindings,
    cpu::CpuId,
    types::Opaque, //
};

#[cfg(CONFIG_KVM_ARM64_BASELINE)]
pub mod id_register;
#[cfg(CONFIG_KVM_ARM64_SPE)]
pub mod memory;
#[cfg(CONFIG_KVM_ARM64_SPE)]
pub mod spe;

/// Adds to one of the counters that `KVM_GET_STATS_FD` of a [`Vm`] or of a [`Vcpu`] shows.
///
/// Userspace may be reading the counter, and clearing it through debugfs, at the same time.
///
/// Context: any, except EL2 in nVHE mode.
#[macro_export]
macro_rules! kvm_stat_add {
    ($of:expr, $($counter:ident).+, $n:expr) => {{
        use $crate::sync::atomic::{Atomic, Relaxed};

        let (stat, n) = ($crate::kvm::HasStat::stat($of), $n);
        // SAFETY: The counters live as long as the reference to their VM or vCPU, and all
        // accesses are single-copy atomic.
        let counter = unsafe { Atomic::<u64>::from_ptr(&raw mut (*stat).$($counter).+) };
        counter.fetch_add(n, Relaxed);
    }};
}
pub use kvm_stat_add as stat_add;

/// Declares tracepoints that can be called with any arguments of these types, as the caller of the
/// macro promises by `unsafe`.
///
/// # Examples
///
/// ```ignore
/// declare_traces! {
///     // SAFETY: It records its arguments, which are integers.
///     unsafe extern {
///         safe fn kvm_spe_kick(vcpu_id: i32, first: u64, last: u64);
///     }
/// }
/// ```
#[macro_export]
macro_rules! kvm_declare_traces {
    (unsafe extern { $(safe fn $name:ident($($arg:ident: $type:ty),* $(,)?);)* }) => {$(
        #[inline(always)]
        fn $name($($arg: $type),*) {
            $crate::tracepoint::declare_trace! {
                /// # Safety
                ///
                /// Always safe to call, by the contract of `declare_traces!`.
                unsafe fn $name($($arg: $type),*);
            }

            // SAFETY: By the contract of `declare_traces!`.
            unsafe { $name($($arg),*) }
        }
    )*}
}
pub use kvm_declare_traces as declare_traces;

/// An object with counters: a [`Vm`] or a [`Vcpu`].
///
/// # Safety
///
/// The pointer that [`HasStat::stat`] returns is valid as long as the reference.
pub unsafe trait HasStat {
    /// The counters: `struct kvm_vm_stat` or `struct kvm_vcpu_stat`.
    type Stat;

    /// Returns the counters that `KVM_GET_STATS_FD` shows.
    ///
    /// Userspace may be reading them, and clearing them through debugfs, at any time, and several
    /// CPUs may change those of a VM.
    ///
    /// Context: any.
    fn stat(&self) -> *mut Self::Stat;
}

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
        // contract. INVARIANT: By the caller's contract.
        unsafe { &*ptr.cast() }
    }

    /// Returns the pointer that C has.
    ///
    /// Context: any.
    pub fn as_raw(&self) -> *mut bindings::kvm {
        self.0.get()
    }

    /// Returns the encoding of an ID register for which KVM keeps a value for each VM. Fails at
    /// build time unless it has op0 3, op1 0, CRn 0 and CRm 1 to 7.
    const fn id_register_encoding<R: SystemRegister>() -> u32 {
        const {
            let first = Encoding::new::<3, 0, 0, 1, 0>().as_u32();
            let last = Encoding::new::<3, 0, 0, 7, 7>().as_u32();
            assert!(first <= R::ENCODING.as_u32() && R::ENCODING.as_u32() <= last);
        }
        R::ENCODING.as_u32()
    }

    /// Returns the value of `R`, an ID register with op0 3, op1 0, CRn 0 and CRm 1 to 7, in the VM.
    /// Until a vCPU runs, the answer may be out of date unless `config_lock` is held.
    ///
    /// Context: any.
    #[inline]
    pub fn id_register<R: SystemRegister>(&self) -> R {
        // SAFETY: The VM is alive by the type invariant, and has a value of this register. Where
        // another task may be writing it, both accesses are single-copy atomic (READ_ONCE() and
        // WRITE_ONCE()).
        unsafe { bindings::kvm_read_vm_id_reg(self.as_raw(), Self::id_register_encoding::<R>()) }
            .into()
    }

    /// Sets the value of `R`, one of the registers that [`Vm::id_register`] returns.
    ///
    /// Context: process; `config_lock` is held, and no vCPU has run: otherwise, C warns, and stops
    /// a VM that has run.
    #[inline]
    pub fn set_id_register<R: SystemRegister>(&self, value: R) {
        let encoding = Self::id_register_encoding::<R>();

        // SAFETY: As in `id_register()`.
        unsafe { bindings::kvm_set_vm_id_reg(self.as_raw(), encoding, value.into()) };
    }

    /// Returns whether the vCPUs have `FEATURE`, one of `KVM_ARM_VCPU_*`; [`None`] before the
    /// first vCPU is initialised. The answer may be out of date unless `config_lock` is held. Fails
    /// at build time if there is no such feature.
    ///
    /// Context: any.
    #[inline]
    pub fn has_vcpu_feature<const FEATURE: u32>(&self) -> Option<bool> {
        const { assert!(FEATURE < bindings::KVM_VCPU_MAX_FEATURES) }
        // SAFETY: The VM is alive by the type invariant.
        if !unsafe { bindings::kvm_vcpu_features_configured(self.as_raw()) } {
            return None;
        }
        // SAFETY: As above, and the feature is a valid bit number.
        Some(unsafe { bindings::kvm_vcpu_has_feature(self.as_raw(), FEATURE as i32) })
    }
}

// SAFETY: The counters are a part of the VM, which is alive by the type invariant.
unsafe impl HasStat for Vm {
    type Stat = bindings::kvm_vm_stat;

    fn stat(&self) -> *mut Self::Stat {
        // SAFETY: As above; no reference is made.
        unsafe { &raw mut (*self.0.get()).stat }
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
        // contract. INVARIANT: By the caller's contract; a vCPU never outlives its VM.
        unsafe { &*ptr.cast() }
    }

    /// Returns the pointer that C has.
    ///
    /// Context: any.
    pub fn as_raw(&self) -> *mut bindings::kvm_vcpu {
        self.0.get()
    }

    /// Returns the VM that this vCPU belongs to.
    ///
    /// Context: any.
    pub fn vm(&self) -> &Vm {
        // SAFETY: By the type invariant the pointer is valid, `kvm` is set once when the
        // vCPU is created, and the VM outlives the vCPU.
        unsafe { Vm::from_raw((*self.0.get()).kvm) }
    }

    /// Returns the number of this vCPU in the user-space interface.
    ///
    /// Context: any.
    pub fn id(&self) -> i32 {
        // SAFETY: By the type invariant the pointer is valid, and the number never changes.
        unsafe { (*self.0.get()).vcpu_id }
    }

    /// Returns the index of this vCPU in its VM, from 0 and without gaps.
    ///
    /// Context: any.
    pub fn index(&self) -> usize {
        // SAFETY: By the type invariant the pointer is valid, and the index never changes.
        unsafe { (*self.0.get()).vcpu_idx as usize }
    }

    /// Returns the CPU that this vCPU is loaded on, if any. The answer may be out of date unless
    /// this is the current CPU and preemption is off.
    ///
    /// Context: any.
    pub fn cpu(&self) -> Option<CpuId> {
        // SAFETY: By the type invariant the pointer is valid. The task that runs the vCPU may
        // write the number concurrently, with a single store.
        let cpu = unsafe { (&raw const (*self.0.get()).cpu).read_volatile() };

        // It is -1 while the vCPU is not loaded.
        CpuId::from_i32(cpu)
    }
}

// SAFETY: The counters are a part of the vCPU, which is alive by the type invariant.
unsafe impl HasStat for Vcpu {
    type Stat = bindings::kvm_vcpu_stat;

    fn stat(&self) -> *mut Self::Stat {
        // SAFETY: As above; no reference is made.
        unsafe { &raw mut (*self.0.get()).stat }
    }
}

#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_arm64_kvm)]
mod tests {
    use super::*;

    use kernel::{
        arm64::sysreg::ID_AA64DFR0_EL1,
        prelude::*, //
    };

    /// Returns whether the vCPUs of a VM have these features.
    fn sve_and_aarch32(vm: &Vm) -> (Option<bool>, Option<bool>) {
        (
            vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_SVE }>(),
            vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_EL1_32BIT }>(),
        )
    }

    /// A counter is added to, and others are left alone.
    #[test]
    fn counters() -> Result {
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();

        // SAFETY: The VM is in zeroed memory that only this function can access.
        let (vm, read) = unsafe { (Vm::from_raw(kvm), || (*kvm).stat) };
        stat_add!(vm, generic.remote_tlb_flush_requests, 1);
        stat_add!(vm, generic.remote_tlb_flush_requests, u64::MAX);
        stat_add!(vm, generic.remote_tlb_flush_requests, 2);
        assert_eq!(read().generic.remote_tlb_flush_requests, 2);
        Ok(())
    }

    /// A view returns the values in the C structures.
    #[test]
    fn views() -> Result {
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();
        let mut vcpu = KVBox::<bindings::kvm_vcpu>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let vcpu = vcpu.as_mut_ptr();
        let dfr0 = ID_AA64DFR0_EL1::zeroed().with_const_BRPs::<5>();

        // SAFETY: Both are in their own zeroed memory.
        let view = unsafe {
            (*vcpu).kvm = kvm;
            (*vcpu).vcpu_id = 3;
            (*vcpu).vcpu_idx = 2;
            (*vcpu).cpu = -1;
            // The index of ID_AA64DFR0_EL1: CRm is 5, op2 is 0.
            (*kvm).arch.id_regs[(5 - 1) << 3] = dfr0.into();
            (*kvm).arch.vcpu_features[0] = 1 << bindings::KVM_ARM_VCPU_SVE;
            Vcpu::from_raw(vcpu)
        };
        assert_eq!((view.id(), view.index()), (3, 2));
        assert!(core::ptr::eq(view.as_raw(), vcpu));
        // SAFETY: As above; no reference is made.
        assert!(core::ptr::eq(view.stat(), unsafe { &raw mut (*vcpu).stat }));
        assert!(view.cpu().is_none());
        // SAFETY: As above.
        unsafe { (&raw mut (*vcpu).cpu).write_volatile(0) };
        assert_eq!(view.cpu().map(|cpu| cpu.as_u32()), Some(0));

        let vm = view.vm();
        assert!(core::ptr::eq(vm.as_raw(), kvm));
        // SAFETY: As above; no reference is made.
        assert!(core::ptr::eq(vm.stat(), unsafe { &raw mut (*kvm).stat }));
        assert_eq!(vm.id_register::<ID_AA64DFR0_EL1>().BRPs().get(), 5);
        assert_eq!(sve_and_aarch32(vm), (None, None));
        // SAFETY: As above.
        unsafe { (*kvm).arch.flags |= 1 << bindings::KVM_ARCH_FLAG_VCPU_FEATURES_CONFIGURED };
        assert_eq!(sve_and_aarch32(vm), (Some(true), Some(false)));
        Ok(())
    }
}

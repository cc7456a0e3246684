// SPDX-License-Identifier: GPL-2.0

//! The memory of a VM: the lock of its mappings at stage 2, and accesses as its guest performs
//! them.
//!
//! C headers: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h),
//! [`asm/kvm_mmu.h`](srctree/arch/arm64/include/asm/kvm_mmu.h),
//! [`asm/kvm_nested.h`](srctree/arch/arm64/include/asm/kvm_nested.h)

use super::{Vcpu, Vm};
use crate::{
    arm64::cpufeature::system_has,
    bindings,
    cpucap,
    error::to_result,
    prelude::*,
    types::NotThreadSafe, //
};

/// The lock of a VM's mappings at stage 2 (`mmu_lock`), held for reading or for writing.
///
/// # Invariants
///
/// This task has taken the lock, and has not released it.
#[must_use = "the lock is released when this is dropped"]
pub struct MmuLock<'a, const WRITE: bool>(&'a Vm, NotThreadSafe);

impl<'a, const WRITE: bool> MmuLock<'a, WRITE> {
    /// Takes the lock of a VM, until the returned value is dropped.
    ///
    /// Context: process; interrupts are on.
    #[inline]
    pub fn new(vm: &'a Vm) -> Self {
        // SAFETY: The VM is alive, and so its lock is initialised.
        unsafe {
            let lock = &raw mut (*vm.as_raw()).mmu_lock;
            if WRITE {
                bindings::write_lock(lock);
            } else {
                bindings::read_lock(lock);
            }
        }
        // INVARIANT: Taken above.
        Self(vm, NotThreadSafe)
    }

    /// Returns whether an access by a guest without EL2 does not fault at stage 2.
    ///
    /// Context: any.
    #[inline]
    pub fn is_mapped(&self, ipa: u64, is_write: bool) -> bool {
        // SAFETY: The VM is alive, and the lock is held by the type invariant.
        unsafe { bindings::kvm_s2_is_mapped(self.0.as_raw(), ipa, is_write) }
    }
}

impl<const WRITE: bool> Drop for MmuLock<'_, WRITE> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe {
            let lock = &raw mut (*self.0.as_raw()).mmu_lock;
            if WRITE {
                bindings::write_unlock(lock);
            } else {
                bindings::read_unlock(lock);
            }
        }
    }
}

/// A VM whose mappings change, or are looked at, by C.
///
/// # Invariants
///
/// `mmu_lock` is held for `'a`, and the vCPUs stay alive for `'a`.
pub struct LockedVm<'a>(&'a Vm, NotThreadSafe);

impl<'a> LockedVm<'a> {
    /// Wraps a pointer from C.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// `kvm` is a VM whose `mmu_lock` is held for `'a`, and none of whose vCPUs is destroyed before
    /// `'a` ends.
    #[inline]
    pub unsafe fn from_raw(kvm: *mut bindings::kvm) -> Self {
        // SAFETY: By the caller's contract. INVARIANT: By the caller's contract.
        Self(unsafe { Vm::from_raw(kvm) }, NotThreadSafe)
    }

    /// Returns the VM.
    ///
    /// Context: any.
    #[inline]
    pub fn vm(&self) -> &'a Vm {
        self.0
    }

    /// Returns the vCPUs of the VM.
    ///
    /// Context: any.
    #[inline]
    pub fn vcpus(&self) -> impl Iterator<Item = &'a Vcpu> + '_ {
        (0..).map_while(|i| {
            // SAFETY: The VM is alive.
            let vcpu = unsafe { bindings::kvm_get_vcpu(self.0.as_raw(), i) };

            // SAFETY: By the type invariant the vCPU is alive for `'a`.
            (!vcpu.is_null()).then(|| unsafe { Vcpu::from_raw(vcpu) })
        })
    }
}

/// A vCPU that this task has loaded, of a VM without EL2.
///
/// # Invariants
///
/// This task has loaded the vCPU, whose VM has no EL2, and holds `kvm->srcu`.
pub struct Loaded<'a>(&'a Vcpu, NotThreadSafe);

/// A register on which the translation at stage 1 of EL1 depends.
#[derive(Clone, Copy)]
pub enum Stage1 {
    /// SCTLR_EL1.
    Sctlr,
    /// TCR_EL1.
    Tcr,
    /// TTBR0_EL1.
    Ttbr0,
    /// TTBR1_EL1.
    Ttbr1,
    /// TCR2_EL1, of FEAT_TCR2.
    Tcr2,
    /// PIR_EL1, of FEAT_S1PIE.
    Pir,
    /// POR_EL1, of FEAT_S1POE.
    Por,
}

/// A descriptor that a walk of stage 1 is about to read.
pub struct Step {
    /// The address of the descriptor.
    pub ipa: u64,
    /// The number of bytes that it translates if it is the last one.
    pub size: u64,
    /// Whether descriptors are big-endian.
    pub is_big_endian: bool,
}

/// The translation of an address at stage 1 of EL1.
pub struct Translation {
    /// The address at stage 2.
    pub ipa: u64,
    /// The descriptor of the page or block; 0 if the MMU is off.
    pub descriptor: u64,
    /// Whether EL1 may write there.
    pub is_writable: bool,
}

impl<'a> Loaded<'a> {
    /// Notes that a vCPU is loaded.
    ///
    /// Context: process.
    ///
    /// # Safety
    ///
    /// As for the invariant of the type, for as long as the value exists.
    #[inline]
    pub unsafe fn new(vcpu: &'a Vcpu) -> Self {
        // INVARIANT: By the caller's contract.
        Self(vcpu, NotThreadSafe)
    }

    /// Returns the VM.
    ///
    /// Context: any.
    #[inline]
    pub fn vm(&self) -> &'a Vm {
        self.0.vm()
    }

    /// Returns the value of a register of the guest, or 0 if this machine lacks the register.
    ///
    /// Context: any.
    #[inline]
    pub fn register(&self, register: Stage1) -> u64 {
        let (number, exists) = match register {
            Stage1::Sctlr => (bindings::vcpu_sysreg_SCTLR_EL1, true),
            Stage1::Tcr => (bindings::vcpu_sysreg_TCR_EL1, true),
            Stage1::Ttbr0 => (bindings::vcpu_sysreg_TTBR0_EL1, true),
            Stage1::Ttbr1 => (bindings::vcpu_sysreg_TTBR1_EL1, true),
            Stage1::Tcr2 => (
                bindings::vcpu_sysreg_TCR2_EL1,
                system_has(cpucap!(HAS_TCR2)),
            ),
            Stage1::Pir => (
                bindings::vcpu_sysreg_PIR_EL1,
                system_has(cpucap!(HAS_S1PIE)),
            ),
            Stage1::Por => (
                bindings::vcpu_sysreg_POR_EL1,
                system_has(cpucap!(HAS_S1POE)),
            ),
        };

        if !exists {
            return 0;
        }
        // SAFETY: By the type invariant, and all CPUs have the register.
        unsafe { bindings::vcpu_read_sys_reg(self.0.as_raw(), number) }
    }

    /// Returns whether `KVM_RUN` must return to userspace before more of the guest is mapped: there
    /// is a signal, or the dirty ring, in which each mapping may use an entry, is full.
    ///
    /// Context: any.
    #[inline]
    pub fn has_to_stop(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::kvm_spe_has_to_stop(self.0.as_raw()) }
    }

    /// Reads eight bytes of the guest's memory; [`None`] if there is no memory.
    ///
    /// Context: process; may sleep.
    #[inline]
    pub fn read(&self, ipa: u64) -> Option<u64> {
        let mut value = 0u64;
        let place = (&raw mut value).cast();

        // SAFETY: By the type invariant `srcu` is held; the value has this size.
        let ret = unsafe { bindings::kvm_read_guest(self.vm().as_raw(), ipa, place, 8) };
        (ret == 0).then_some(value)
    }

    /// Maps memory of the guest at stage 2. Returns whether it had to be mapped. Fails with
    /// `ENOMEM` or `EINTR` if it may succeed later.
    ///
    /// Context: process; may sleep.
    #[inline]
    pub fn populate(&self, ipa: u64, writable: bool) -> Result<bool> {
        // SAFETY: By the type invariant.
        match unsafe { bindings::kvm_s2_populate(self.0.as_raw(), ipa, writable) } {
            ret @ 0.. => Ok(ret != 0),
            ret => Err(Error::from_errno(ret)),
        }
    }

    /// Translates an address by the guest's tables, and calls `f` with each descriptor before it is
    /// read. Fails with `EAGAIN` if the tables change meanwhile, and with another error if the
    /// translation faults.
    ///
    /// Context: process; may sleep.
    #[inline]
    pub fn translate(&self, va: u64, f: &mut dyn FnMut(Step)) -> Result<Translation> {
        let mut walk = Walk { va, f };
        let mut filter = bindings::s1_walk_filter {
            fn_: Some(Walk::step),
            priv_: (&raw mut walk).cast(),
        };
        let mut info = bindings::s1_walk_info {
            filter: &raw mut filter,
            regime: bindings::trans_regime_TR_EL10,
            ..Default::default()
        };
        let mut result = bindings::s1_walk_result::default();

        // SAFETY: By the type invariant. The walk keeps no pointers, and a walk that succeeds sets
        // these fields.
        unsafe {
            to_result(bindings::__kvm_translate_va(
                self.0.as_raw(),
                &raw mut info,
                &raw mut result,
                va,
            ))?;
            let found = result.__bindgen_anon_1.__bindgen_anon_1;
            Ok(Translation {
                ipa: found.pa,
                descriptor: found.desc,
                is_writable: found.pw,
            })
        }
    }
}

/// The argument of a walk.
struct Walk<'a> {
    va: u64,
    f: &'a mut dyn FnMut(Step),
}

impl Walk<'_> {
    /// Shows the descriptor that the walk is about to read.
    ///
    /// # Safety
    ///
    /// `context` is that of a walk, whose argument `walk` is a `Walk` to which nobody else has
    /// access.
    unsafe extern "C" fn step(context: *mut bindings::s1_walk_context, walk: *mut c_void) -> c_int {
        // SAFETY: By the caller's contract.
        let (context, info, walk) = unsafe {
            (
                &*context,
                &*(*context).wi,
                &mut *walk.cast::<Walk<'_>>(), //
            )
        };
        let stride = info.pgshift - 3;
        let shift = (3 - context.level) as u32 * stride + info.pgshift;
        // The table of the first level may have fewer entries.
        let top = if context.level == info.sl {
            64 - info.txsz
        } else {
            shift + stride
        };
        let index = (walk.va & (u64::MAX >> (64 - top))) >> shift;

        (walk.f)(Step {
            ipa: context.table_ipa | index << 3,
            size: 1 << shift,
            is_big_endian: info.be,
        });
        0
    }
}

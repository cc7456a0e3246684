// SPDX-License-Identifier: GPL-2.0

//! The setup by userspace before a VM runs: the SPU, its interrupt, and the CPUs of both.
//!
//! `kvm->arch.spe` and the setup of a vCPU change with `config_lock` held. Without the lock,
//! other tasks read the fields that describe the unit, so no reference to these fields is made.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed}, //
};

use kernel::{
    arm64::{
        cpufeature::{any_possible_cpu, possible_cpus},
        sysreg::*, //
    },
    bindings::{
        self,
        arm_spe_unit as Unit,
        kvm_device_attr as Attribute,
        KVM_ARM_VCPU_SPE_INIT as INIT,
        KVM_ARM_VCPU_SPE_IRQ as IRQ,
        KVM_ARM_VCPU_SPE_SPU as SPU, //
    },
    cpu::CpuId,
    cpumask::{Cpumask, CpumaskVar},
    error::{from_result, to_result},
    kvm::{
        Vcpu,
        Vm, //
    },
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

use super::{
    memory::Watched,
    registers::{Version, NEWEST}, //
};

/// The private peripheral interrupts of GICv2 and GICv3.
const PPIS: core::ops::Range<u32> = 16..32;
/// The maintenance interrupt that KVM gives to a virtual GIC by default (Arm BSA).
const MAINTENANCE: u32 = 25;

/// A reference to a unit, and to its module.
///
/// # Invariants
///
/// `arm_spe_unit_get()` has returned the pointer, and nobody has put the reference.
struct UnitRef(NonNull<Unit>);

impl UnitRef {
    /// Returns the unit whose device has this perf type.
    fn get(type_: c_int) -> Option<Self> {
        // SAFETY: Always safe to call. INVARIANT: The call takes a reference to the returned unit.
        NonNull::new(unsafe { bindings::arm_spe_unit_get(type_) }.cast_mut()).map(UnitRef)
    }

    /// Gives the reference away.
    fn into_raw(self) -> *mut Unit {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl core::ops::Deref for UnitRef {
    type Target = Unit;

    fn deref(&self) -> &Unit {
        // SAFETY: A registered unit is valid and not written, and this reference keeps its module.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for UnitRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::arm_spe_unit_put(self.0.as_ptr()) };
    }
}

/// The CPUs on which a VM may run: those that its PMU and its SPU both have.
#[derive(Clone, Copy)]
struct Usable<'a> {
    pmu: Option<&'a Cpumask>,
    spu: Option<&'a Cpumask>,
}

impl Usable<'_> {
    fn has(self, cpu: CpuId) -> bool {
        [self.pmu, self.spu]
            .iter()
            .flatten()
            .all(|mask| mask.test(cpu))
    }

    /// Fails with `EINVAL` if there is no such CPU.
    fn check(self) -> Result {
        if any_possible_cpu(|cpu| self.has(cpu)) {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Stores the CPUs in the mask of a VM. Tasks that load a vCPU may test bits of it meanwhile.
    ///
    /// # Safety
    ///
    /// `config_lock` of the VM is held.
    unsafe fn store(self, vm: &Vm) {
        // SAFETY: The VM is alive, and the mask is not moved; C accesses it bit by bit, too. By the
        // caller's contract nobody else changes it.
        unsafe {
            let mask = CpumaskVar::from_raw(&raw const (*vm.as_raw()).arch.supported_cpus).as_raw();

            for cpu in possible_cpus() {
                if self.has(cpu) {
                    bindings::__cpumask_set_cpu(cpu.as_u32(), mask);
                } else {
                    bindings::__cpumask_clear_cpu(cpu.as_u32() as c_int, mask);
                }
            }
        }
    }
}

/// The setup of a VM: the parts of `kvm->arch.spe` that this task may change.
///
/// # Invariants
///
/// This task holds `config_lock` of `vm`. `unit` is null, or valid with a reference of the VM;
/// `pmu_cpus` is null, or a mask that stays valid.
struct Setup<'a> {
    vm: &'a Vm,
    /// Tasks that run a vCPU may be reading this, and the interrupt.
    unit: &'a AtomicPtr<Unit>,
    pmu_cpus: &'a mut *const bindings::cpumask,
}

impl Setup<'_> {
    /// Calls `f` with the setup of a VM, and returns its result.
    ///
    /// # Safety
    ///
    /// `kvm` is a VM whose `config_lock` is held; this task has no other [`Setup`] of it.
    unsafe fn with<R>(kvm: *mut bindings::kvm, f: impl FnOnce(&mut Setup<'_>) -> R) -> R {
        // SAFETY: By the caller's contract. INVARIANT: By the caller's contract; C initialises the
        // pointers with null.
        let mut setup = unsafe {
            let spe = &raw mut (*kvm).arch.spe;

            Setup {
                vm: Vm::from_raw(kvm),
                unit: AtomicPtr::from_ptr((&raw mut (*spe).unit).cast()),
                pmu_cpus: &mut (*spe).pmu_cpus,
            }
        };

        f(&mut setup)
    }

    /// Fails with `ENXIO` if the vCPUs do not have the feature.
    fn check_feature(&self) -> Result {
        // SAFETY: By the type invariant.
        let config = unsafe { self.vm.config() };

        match config.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_SPE }>() {
            Some(true) => Ok(()),
            _ => Err(ENXIO),
        }
    }

    /// Returns the unit of the VM.
    fn unit(&self) -> Option<&Unit> {
        // SAFETY: By the type invariant.
        unsafe { self.unit.load(Relaxed).as_ref() }
    }

    /// Returns the interrupt of the SPU, or 0.
    fn irq(&self) -> u32 {
        irq_of(self.vm).load(Relaxed)
    }

    /// Returns the CPUs of the PMU, if userspace has named one.
    fn pmu(&self) -> Option<&Cpumask> {
        // SAFETY: By the type invariant.
        (!self.pmu_cpus.is_null()).then(|| unsafe { Cpumask::from_raw(*self.pmu_cpus) })
    }

    /// Returns the CPUs of the VM's SPU.
    fn spu(&self) -> Option<&Cpumask> {
        self.unit().map(cpus_of)
    }

    /// Checks that the VM can have a PMU of these CPUs.
    fn check_pmu(&self, pmu: &Cpumask) -> Result {
        let Some(spu) = self.spu() else {
            return Ok(());
        };

        Usable {
            pmu: Some(pmu),
            spu: Some(spu),
        }
        .check()
    }

    /// Sets the CPUs of the PMU, which have been checked.
    fn set_pmu(&mut self, pmu: &'static Cpumask) {
        *self.pmu_cpus = pmu.as_raw();
        let usable = Usable {
            pmu: Some(pmu),
            spu: self.spu(),
        };
        // SAFETY: By the type invariant.
        unsafe { usable.store(self.vm) };
    }

    /// Returns whether the VM's features are fixed: a vCPU has run, or is about to.
    fn is_fixed(&self) -> bool {
        let flags = (1 << bindings::KVM_ARCH_FLAG_HAS_RAN_ONCE)
            | (1 << bindings::KVM_ARCH_FLAG_FGU_INITIALIZED);

        // SAFETY: The VM is alive. The flags are set with the lock held.
        unsafe { (*self.vm.as_raw()).arch.flags & flags != 0 }
    }

    /// Returns whether an interrupt belongs to a timer or to the GIC.
    fn is_taken(&self, irq: u32) -> bool {
        // SAFETY: The VM is alive. The numbers are set with the lock held.
        let timers = unsafe { (*self.vm.as_raw()).arch.timer_data.ppi };

        irq == MAINTENANCE || timers.contains(&irq)
    }

    /// Returns whether the VM has a virtual GIC that is initialised.
    fn has_vgic(&self) -> bool {
        // SAFETY: The VM is alive. These are set with the lock held.
        unsafe {
            let vgic = &raw const (*self.vm.as_raw()).arch.vgic;

            (*vgic).in_kernel && (*vgic).initialized
        }
    }

    /// Gives the VM the unit whose device has this perf type.
    fn set_spu(&mut self, type_: c_int) -> Result {
        let unit = UnitRef::get(type_).ok_or(ENXIO)?;

        if self.is_fixed() {
            return Err(EBUSY);
        }
        let usable = Usable {
            pmu: self.pmu(),
            spu: Some(cpus_of(&unit)),
        };
        usable.check()?;
        // SAFETY: By the type invariant.
        unsafe { usable.store(self.vm) };
        self.store(unit);
        Ok(())
    }

    /// Stores the unit, and shows the guest FEAT_SPE.
    fn store(&mut self, unit: UnitRef) {
        let version = Version::try_new(unit.pmsver.into())
            .unwrap_or(NEWEST)
            .min(NEWEST);
        let kvm = self.vm.as_raw();
        let id = ID_AA64DFR0_EL1::ENCODING.as_u32();

        // SAFETY: The VM is alive, and has a value of the register, which changes with the lock
        // held. Other tasks read each of the values with one load.
        unsafe {
            let spe = &raw mut (*kvm).arch.spe;
            let dfr0 = self.vm.config().id_register::<ID_AA64DFR0_EL1>();

            (&raw mut (*spe).pmsver).write_volatile(version.get() as u8);
            (&raw mut (*spe).pmsidr).write_volatile(unit.pmsidr);
            (&raw mut (*spe).pmbidr).write_volatile(unit.pmbidr);
            (&raw mut (*spe).events).write_volatile(unit.events);
            if self.unit().is_none() {
                bindings::kvm_spe_add_user();
            }
            bindings::kvm_set_vm_id_reg(kvm, id, dfr0.with_PMSVer(version).into());
        }
        // INVARIANT: The VM takes the reference of the new `unit`, and the old one is put below.
        let old = self.unit.swap(unit.into_raw(), Relaxed);
        drop(NonNull::new(old).map(UnitRef));
    }
}

/// Returns the interrupt of the SPU on each vCPU of a VM, or 0.
pub(super) fn irq_of(vm: &Vm) -> &AtomicU32 {
    // SAFETY: The VM is alive, and all accesses while vCPUs run are atomic.
    unsafe { AtomicU32::from_ptr(&raw mut (*vm.as_raw()).arch.spe.irq) }
}

/// Returns the CPUs of a unit.
fn cpus_of(unit: &Unit) -> &Cpumask {
    // SAFETY: The mask of a unit is valid as long as the unit.
    unsafe { Cpumask::from_raw(unit.cpus) }
}

/// Checks that a VM can have a PMU of these CPUs. Fails with `EINVAL` if the VM has an SPU, and no
/// CPU has both.
///
/// Context: process.
///
/// # Safety
///
/// `kvm` is a VM whose `config_lock` is held; `cpus` is a mask that stays valid.
#[export]
unsafe extern "C" fn kvm_spe_check_pmu_cpus(
    kvm: *mut bindings::kvm,
    cpus: *const bindings::cpumask,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract.
        unsafe { Setup::with(kvm, |vm| vm.check_pmu(Cpumask::from_raw(cpus))) }.map(|()| 0)
    })
}

/// Sets the CPUs of the VM's PMU, which have been checked.
///
/// Context: process.
///
/// # Safety
///
/// As for [`kvm_spe_check_pmu_cpus`], and nobody else writes the VM's mask.
#[export]
unsafe extern "C" fn kvm_spe_set_pmu_cpus(kvm: *mut bindings::kvm, cpus: *const bindings::cpumask) {
    // SAFETY: By the caller's contract.
    unsafe { Setup::with(kvm, |vm| vm.set_pmu(Cpumask::from_raw(cpus))) };
}

/// The vCPU of an attribute, and its VM.
///
/// # Invariants
///
/// This task holds the vCPU's mutex, and the lock of `vm`, which is the VM of `vcpu`.
struct Target<'a, 'b> {
    vcpu: &'a Vcpu,
    vm: &'a mut Setup<'b>,
    has_irq: &'a mut bool,
    initialized: &'a mut bool,
}

/// Returns the place of an attribute's value.
fn value_of(attr: &Attribute, size: usize) -> UserSlice {
    UserSlice::new(UserPtr::from_addr(attr.addr as usize), size)
}

/// Reads the integer of an attribute.
fn integer(attr: &Attribute) -> Result<c_int> {
    value_of(attr, size_of::<c_int>()).reader().read()
}

impl Target<'_, '_> {
    /// Calls `f` with the target of an attribute, and returns its result. Fails with `ENXIO` if the
    /// VM does not have the feature: the group of attributes does not exist.
    ///
    /// # Safety
    ///
    /// This task holds the mutex of `vcpu`, and `config_lock` of its VM.
    unsafe fn with(
        vcpu: *mut bindings::kvm_vcpu,
        f: impl FnOnce(&mut Target<'_, '_>) -> Result,
    ) -> Result<c_int> {
        // SAFETY: By the caller's contract. No reference to the other fields is made.
        unsafe {
            let spe = &raw mut (*vcpu).arch.spe;

            Setup::with((*vcpu).kvm, |vm| {
                vm.check_feature()?;
                f(&mut Target {
                    vcpu: Vcpu::from_raw(vcpu),
                    vm,
                    has_irq: &mut (*spe).has_irq,
                    initialized: &mut (*spe).initialized,
                })
            })?;
        }
        Ok(0)
    }

    /// Sets the interrupt, which is the same on all vCPUs.
    fn set_irq(&mut self, irq: c_int) -> Result {
        let irq = u32::try_from(irq)?;

        if *self.has_irq {
            return Err(EBUSY);
        }
        let others = self.vm.irq();
        if !PPIS.contains(&irq) || self.vm.is_taken(irq) || (others != 0 && others != irq) {
            return Err(EINVAL);
        }
        irq_of(self.vm.vm).store(irq, Relaxed);
        *self.has_irq = true;
        Ok(())
    }

    /// Completes the setup of the vCPU.
    fn init(&mut self) -> Result {
        let vcpu = self.vcpu.as_raw();

        if *self.initialized {
            return Err(EBUSY);
        }
        if !self.vm.has_vgic() {
            return Err(ENODEV);
        }
        if !*self.has_irq || self.vm.unit().is_none() {
            return Err(ENXIO);
        }
        // SAFETY: The vCPU is alive, and the lock is held. The owner is only compared.
        unsafe {
            Watched::allocate(vcpu)?;
            let owner = (&raw mut (*vcpu).arch.spe).cast();
            to_result(bindings::kvm_vgic_set_owner(vcpu, self.vm.irq(), owner))?;
        }
        *self.initialized = true;
        Ok(())
    }

    /// Sets an attribute.
    fn set(&mut self, attr: &Attribute) -> Result {
        match u32::try_from(attr.attr).map_err(|_| ENXIO)? {
            IRQ => self.set_irq(integer(attr)?),
            SPU => self.vm.set_spu(integer(attr)?),
            INIT => self.init(),
            _ => Err(ENXIO),
        }
    }

    /// Gets an attribute: the interrupt.
    fn get(&self, attr: &Attribute) -> Result {
        if attr.attr != IRQ.into() || !*self.has_irq {
            return Err(ENXIO);
        }
        value_of(attr, size_of::<u32>())
            .writer()
            .write(&self.vm.irq())
    }
}

/// Sets an attribute of the group `KVM_ARM_VCPU_SPE_CTRL`. The errors are those that
/// Documentation/virt/kvm/devices/vcpu.rst describes.
///
/// Context: process.
///
/// # Safety
///
/// The mutex of `vcpu` and `config_lock` of its VM are held, and `attr` is valid.
#[export]
unsafe extern "C" fn __kvm_spe_set_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    // SAFETY: By the caller's contract.
    from_result(|| unsafe { Target::with(vcpu, |target| target.set(&*attr)) })
}

/// Gets an attribute of that group: the interrupt. Fails with `ENXIO` if none has been set.
///
/// Context: process.
///
/// # Safety
///
/// As for [`__kvm_spe_set_attr`].
#[export]
unsafe extern "C" fn __kvm_spe_get_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    // SAFETY: By the caller's contract.
    from_result(|| unsafe { Target::with(vcpu, |target| target.get(&*attr)) })
}

/// Returns 0 if a vCPU has the attribute of that group, and `-ENXIO` if not.
///
/// Context: process.
///
/// # Safety
///
/// As for [`__kvm_spe_set_attr`].
#[export]
unsafe extern "C" fn __kvm_spe_has_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    let has = |attr: u64| [IRQ, SPU, INIT].map(u64::from).contains(&attr);

    // SAFETY: By the caller's contract.
    from_result(|| unsafe { Target::with(vcpu, |_| has((*attr).attr).then_some(()).ok_or(ENXIO)) })
}

#[cfg(CONFIG_KVM_ARM64_SPE_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_spe)]
mod tests {
    use super::*;

    /// Returns a mask of some possible CPUs.
    fn mask(which: impl Fn(CpuId) -> bool) -> Result<CpumaskVar> {
        let mut mask = CpumaskVar::new_zero(GFP_KERNEL)?;

        for cpu in possible_cpus().filter(|cpu| which(*cpu)) {
            mask.set(cpu);
        }
        Ok(mask)
    }

    /// A VM with a PMU and an SPU runs on the CPUs that have both; with one of them, on the CPUs of
    /// that one. A combination without any CPU is refused.
    #[test]
    fn usable_cpus_are_those_of_both() -> Result {
        let (all, none) = (mask(|_| true)?, mask(|_| false)?);
        let (even, odd) = (
            mask(|cpu| cpu.as_u32() % 2 == 0)?,
            mask(|cpu| cpu.as_u32() % 2 == 1)?,
        );
        let has_odd = !odd.empty();

        for (pmu, spu, is_usable) in [
            (None, None, true),
            (Some(&all), Some(&all), true),
            (Some(&all), Some(&even), true),
            (Some(&even), Some(&all), true),
            (Some(&even), Some(&odd), false),
            (None, Some(&none), false),
            (Some(&odd), Some(&all), has_odd),
        ] {
            let usable = Usable {
                pmu: pmu.map(|mask: &CpumaskVar| &**mask),
                spu: spu.map(|mask: &CpumaskVar| &**mask),
            };

            assert_eq!(usable.check().is_ok(), is_usable);
            for cpu in possible_cpus() {
                let both = [pmu, spu].iter().flatten().all(|mask| mask.test(cpu));
                assert_eq!(usable.has(cpu), both);
            }
        }
        Ok(())
    }

    /// The mask of a VM is replaced as a whole.
    #[test]
    fn the_mask_of_a_vm_is_replaced() -> Result {
        let even = mask(|cpu| cpu.as_u32() % 2 == 0)?;
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();

        // With this option the mask is not part of the structure.
        if cfg!(CONFIG_CPUMASK_OFFSTACK) {
            return Ok(());
        }
        // SAFETY: It is in its own zeroed memory, to which no other code has access.
        let found = unsafe {
            CpumaskVar::from_raw_mut(&raw mut (*kvm).arch.supported_cpus).setall();
            Usable {
                pmu: None,
                spu: Some(&even),
            }
            .store(Vm::from_raw(kvm));
            CpumaskVar::from_raw(&raw const (*kvm).arch.supported_cpus)
        };
        for cpu in possible_cpus() {
            assert_eq!(found.test(cpu), even.test(cpu));
        }
        Ok(())
    }
}

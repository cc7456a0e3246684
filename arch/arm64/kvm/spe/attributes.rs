// SPDX-License-Identifier: GPL-2.0

//! The setup by userspace before a VM runs: the SPU, its interrupt, and the CPUs of both.
//!
//! `kvm->arch.spe` and the setup of a vCPU change with `config_lock` held. Without the lock,
//! other tasks read the fields that describe the unit, so no reference to these fields is made.

use kernel::{
    arm64::{
        cpufeature::any_possible_cpu,
        spe_unit::{Slot, Unit, UnitRef},
        sysreg::*, //
    },
    bindings::{
        self,
        kvm_device_attr as Attribute,
        KVM_ARM_VCPU_SPE_INIT as INIT,
        KVM_ARM_VCPU_SPE_IRQ as IRQ,
        KVM_ARM_VCPU_SPE_SPU as SPU, //
    },
    cpu::CpuId,
    cpumask::Cpumask,
    error::from_result,
    kvm::{
        spe::{add_user, VmSpu},
        Vcpu,
        Vm, //
    },
    prelude::*,
    sync::atomic::Relaxed,
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
}

/// The setup of a VM: the parts of `kvm->arch.spe` that this task may change.
///
/// # Invariants
///
/// This task holds `config_lock` of `vm`, whose SPU is `spu` and whose unit is `unit`.
pub(super) struct Setup<'a> {
    vm: &'a Vm,
    spu: VmSpu<'a>,
    unit: Slot<'a>,
    /// The CPUs of the PMU, if userspace has named one.
    pmu: &'a mut Option<&'static Cpumask>,
}

impl Setup<'_> {
    /// Calls `f` with the setup of a VM, and returns its result.
    ///
    /// # Safety
    ///
    /// `kvm` is a VM whose `config_lock` is held; this task has no other [`Setup`] of it.
    unsafe fn with<R>(kvm: *mut bindings::kvm, f: impl FnOnce(&mut Setup<'_>) -> R) -> R {
        // SAFETY: By the caller's contract. C initialises `pmu_cpus` and `unit` with null, which
        // stands for `None`; then only `set_pmu()` and `store()` write them. C puts the unit's
        // reference when it destroys the VM.
        // INVARIANT: By the caller's contract.
        let mut setup = unsafe {
            let vm = Vm::from_raw(kvm);
            let spe = &raw mut (*kvm).arch.spe;

            Setup {
                vm,
                spu: vm.spu(),
                unit: Slot::from_raw(&raw mut (*spe).unit),
                pmu: &mut *(&raw mut (*spe).pmu_cpus).cast(),
            }
        };

        f(&mut setup)
    }

    /// Fails with `ENXIO` if the vCPUs do not have the feature.
    fn check_feature(&self) -> Result {
        match self.vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_SPE }>() {
            Some(true) => Ok(()),
            _ => Err(ENXIO),
        }
    }

    /// Returns the interrupt of the SPU, or 0.
    fn irq(&self) -> u32 {
        self.spu.irq.load(Relaxed)
    }

    /// Returns the CPUs of the VM's SPU.
    fn spu_cpus(&self) -> Option<&Cpumask> {
        self.unit.get().map(Unit::cpus)
    }

    /// Checks that the VM can have a PMU of these CPUs.
    fn check_pmu(&self, pmu: &Cpumask) -> Result {
        let Some(spu) = self.spu_cpus() else {
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
        *self.pmu = Some(pmu);
        let usable = Usable {
            pmu: Some(pmu),
            spu: self.spu_cpus(),
        };
        self.vm.set_supported_cpus(|cpu| usable.has(cpu));
    }

    /// Returns whether an interrupt belongs to a timer or to the GIC.
    fn is_taken(&self, irq: u32) -> bool {
        irq == MAINTENANCE || self.vm.is_timer_interrupt(irq)
    }

    /// Gives the VM the unit whose device has this perf type.
    fn set_spu(&mut self, type_: c_int) -> Result {
        let unit = UnitRef::get(type_).ok_or(ENXIO)?;

        if self.vm.is_fixed() {
            return Err(EBUSY);
        }
        let usable = Usable {
            pmu: *self.pmu,
            spu: Some(unit.cpus()),
        };
        usable.check()?;
        self.vm.set_supported_cpus(|cpu| usable.has(cpu));
        self.store(unit);
        Ok(())
    }

    /// Stores the unit, and shows the guest FEAT_SPE.
    fn store(&mut self, unit: UnitRef) {
        let version = Version::try_new(unit.pmsver().into())
            .unwrap_or(NEWEST)
            .min(NEWEST);
        let dfr0 = self.vm.id_register::<ID_AA64DFR0_EL1>();

        self.spu.pmsver.store(version.get() as i8, Relaxed);
        self.spu.pmsidr.store(unit.pmsidr().into(), Relaxed);
        self.spu.pmbidr.store(unit.pmbidr().into(), Relaxed);
        self.spu.events.store(unit.events(), Relaxed);
        if self.unit.get().is_none() {
            add_user();
        }
        self.vm.set_id_register(dfr0.with_PMSVer(version));
        self.unit.replace(unit);
    }
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
        self.vm.spu.irq.store(irq, Relaxed);
        *self.has_irq = true;
        Ok(())
    }

    /// Completes the setup of the vCPU.
    fn init(&mut self) -> Result {
        if *self.initialized {
            return Err(EBUSY);
        }
        if !self.vm.vm.has_vgic() {
            return Err(ENODEV);
        }
        if !*self.has_irq || self.vm.unit.get().is_none() {
            return Err(ENXIO);
        }
        Watched::allocate(self.vcpu, self.vm)?;
        self.vcpu.own_spu_interrupt(self.vm.irq())?;
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

    use kernel::{arm64::cpufeature::possible_cpus, cpumask::CpumaskVar};

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
}

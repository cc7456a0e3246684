// SPDX-License-Identifier: GPL-2.0

//! The setup by userspace before a VM runs: the SPU, its interrupt, and the CPUs of both.
//!
//! `kvm->arch.spe` and the setup of a vCPU change with `config_lock` held. Other tasks read single
//! fields without it, so that no reference is made to them.

use core::ptr::NonNull;

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
    kvm::Vm,
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
struct UnitRef(NonNull<Unit>);

impl UnitRef {
    /// Returns the unit whose device has this perf type.
    fn get(type_: c_int) -> Option<Self> {
        // SAFETY: Always safe to call.
        NonNull::new(unsafe { bindings::arm_spe_unit_get(type_) }.cast_mut()).map(UnitRef)
    }

    /// Gives the reference to a VM, in place of the one that it has.
    ///
    /// # Safety
    ///
    /// `place` is the VM's, or null if it has none.
    unsafe fn replace(self, place: *mut *const Unit) {
        // SAFETY: By the caller's contract.
        let old = unsafe { place.replace(self.0.as_ptr()) };
        core::mem::forget(self);
        if let Some(old) = NonNull::new(old.cast_mut()) {
            drop(UnitRef(old));
        }
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
        // SAFETY: `get()` has returned it.
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
    /// `kvm` is a VM whose `config_lock` is held.
    unsafe fn store(self, kvm: *mut bindings::kvm) {
        // SAFETY: By the caller's contract. The mask is not moved while the VM is there.
        let mask = unsafe { CpumaskVar::from_raw(&raw const (*kvm).arch.supported_cpus) }.as_raw();

        for cpu in possible_cpus() {
            // SAFETY: The mask is valid, and C accesses it bit by bit, too.
            unsafe {
                if self.has(cpu) {
                    bindings::__cpumask_set_cpu(cpu.as_u32(), mask);
                } else {
                    bindings::__cpumask_clear_cpu(cpu.as_u32() as c_int, mask);
                }
            }
        }
    }
}

/// Returns the usable CPUs of a VM with this PMU.
///
/// # Safety
///
/// `kvm` is a VM whose `config_lock` is held for `'a`; `pmu` is null, or a mask that stays valid.
unsafe fn usable<'a>(kvm: *mut bindings::kvm, pmu: *const bindings::cpumask) -> Usable<'a> {
    // SAFETY: By the caller's contract; the unit of a VM is valid, and so is its mask.
    unsafe {
        Usable {
            pmu: (!pmu.is_null()).then(|| Cpumask::from_raw(pmu)),
            spu: (*kvm)
                .arch
                .spe
                .unit
                .as_ref()
                .map(|unit| Cpumask::from_raw(unit.cpus)),
        }
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
        let usable = unsafe { usable(kvm, cpus) };

        if usable.spu.is_some() {
            usable.check()?;
        }
        Ok(0)
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
    unsafe {
        usable(kvm, cpus).store(kvm);
        (*kvm).arch.spe.pmu_cpus = cpus;
    }
}

/// The vCPU of an attribute, and its VM.
///
/// # Invariants
///
/// `vcpu` is a vCPU of `kvm`, and `kvm->arch.config_lock` is held.
struct Target {
    vcpu: *mut bindings::kvm_vcpu,
    kvm: *mut bindings::kvm,
}

/// Reads the integer of an attribute.
fn integer(attr: &Attribute) -> Result<c_int> {
    let place = UserPtr::from_addr(attr.addr as usize);

    UserSlice::new(place, size_of::<c_int>()).reader().read()
}

impl Target {
    /// Returns the target of an attribute. Fails with `ENXIO` if the VM does not have the feature:
    /// the group of attributes does not exist.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose VM's `config_lock` is held.
    unsafe fn new(vcpu: *mut bindings::kvm_vcpu) -> Result<Self> {
        // SAFETY: By the caller's contract.
        let (kvm, config) = unsafe { ((*vcpu).kvm, Vm::from_raw((*vcpu).kvm).config()) };

        match config.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_SPE }>() {
            // INVARIANT: By the caller's contract.
            Some(true) => Ok(Self { vcpu, kvm }),
            _ => Err(ENXIO),
        }
    }

    /// Returns the state of the VM.
    fn of_vm(&self) -> *mut bindings::kvm_arch_spe {
        // SAFETY: By the type invariant.
        unsafe { &raw mut (*self.kvm).arch.spe }
    }

    /// Returns the state of the vCPU.
    fn of_vcpu(&self) -> *mut bindings::kvm_vcpu_spe {
        // SAFETY: By the type invariant.
        unsafe { &raw mut (*self.vcpu).arch.spe }
    }

    /// Returns whether the VM's features are fixed: a vCPU has run, or is about to.
    fn is_fixed(&self) -> bool {
        let flags = (1 << bindings::KVM_ARCH_FLAG_HAS_RAN_ONCE)
            | (1 << bindings::KVM_ARCH_FLAG_FGU_INITIALIZED);

        // SAFETY: By the type invariant. The flags are set with the lock held.
        unsafe { (*self.kvm).arch.flags & flags != 0 }
    }

    /// Returns whether an interrupt belongs to a timer or to the GIC.
    fn is_taken(&self, irq: u32) -> bool {
        // SAFETY: By the type invariant.
        let timers = unsafe { (*self.kvm).arch.timer_data.ppi };

        irq == MAINTENANCE || timers.contains(&irq)
    }

    /// Sets the interrupt, which is the same on all vCPUs.
    fn set_irq(&self, irq: c_int) -> Result {
        let irq = u32::try_from(irq)?;
        // SAFETY: By the type invariant.
        let (has_irq, others) = unsafe { ((*self.of_vcpu()).has_irq, (*self.of_vm()).irq) };

        if has_irq {
            return Err(EBUSY);
        }
        if !PPIS.contains(&irq) || self.is_taken(irq) || (others != 0 && others != irq) {
            return Err(EINVAL);
        }
        // SAFETY: By the type invariant.
        unsafe {
            (*self.of_vm()).irq = irq;
            (*self.of_vcpu()).has_irq = true;
        }
        Ok(())
    }

    /// Gives the VM the unit whose device has this perf type.
    fn set_spu(&self, type_: c_int) -> Result {
        let unit = UnitRef::get(type_).ok_or(ENXIO)?;
        let version = Version::try_new(unit.pmsver.into())
            .unwrap_or(NEWEST)
            .min(NEWEST);

        if self.is_fixed() {
            return Err(EBUSY);
        }
        let vm = self.of_vm();
        // SAFETY: By the type invariant; the masks are those of units that the VM has, or is given.
        // Other tasks read the registers with one load.
        unsafe {
            let is_first = (*vm).unit.is_null();
            let usable = Usable {
                spu: Some(Cpumask::from_raw(unit.cpus)),
                ..usable(self.kvm, (*vm).pmu_cpus)
            };
            usable.check()?;
            usable.store(self.kvm);
            (&raw mut (*vm).pmsver).write_volatile(version.get() as u8);
            (&raw mut (*vm).pmsidr).write_volatile(unit.pmsidr);
            (&raw mut (*vm).pmbidr).write_volatile(unit.pmbidr);
            (&raw mut (*vm).events).write_volatile(unit.events);
            unit.replace(&raw mut (*vm).unit);
            if is_first {
                bindings::kvm_spe_add_user();
            }
        }
        self.set_version(version);
        Ok(())
    }

    /// Shows the guest FEAT_SPE.
    fn set_version(&self, version: Version) {
        // SAFETY: By the type invariant; the VM has a value of this register.
        unsafe {
            let dfr0 = Vm::from_raw(self.kvm)
                .config()
                .id_register::<ID_AA64DFR0_EL1>();
            bindings::kvm_set_vm_id_reg(
                self.kvm,
                ID_AA64DFR0_EL1::ENCODING.as_u32(),
                dfr0.with_PMSVer(version).into(),
            );
        }
    }

    /// Completes the setup of the vCPU.
    fn init(&self) -> Result {
        // SAFETY: By the type invariant. These are set with the lock held.
        let (in_kernel, initialized, vcpu, irq, unit) = unsafe {
            let vgic = &raw const (*self.kvm).arch.vgic;
            (
                (*vgic).in_kernel,
                (*vgic).initialized,
                self.of_vcpu(),
                (*self.of_vm()).irq,
                (*self.of_vm()).unit,
            )
        };

        // SAFETY: By the type invariant.
        if unsafe { (*vcpu).initialized } {
            return Err(EBUSY);
        }
        if !in_kernel || !initialized {
            return Err(ENODEV);
        }
        // SAFETY: By the type invariant.
        if unsafe { !(*vcpu).has_irq } || unit.is_null() {
            return Err(ENXIO);
        }
        // SAFETY: By the type invariant.
        unsafe { Watched::allocate(self.vcpu)? };
        // SAFETY: By the type invariant. The owner is only an identity.
        unsafe {
            to_result(bindings::kvm_vgic_set_owner(self.vcpu, irq, vcpu.cast()))?;
            (*vcpu).initialized = true;
        }
        Ok(())
    }
}

/// Sets an attribute of the group `KVM_ARM_VCPU_SPE_CTRL`. The errors are those that
/// Documentation/virt/kvm/devices/vcpu.rst describes.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose VM's `config_lock` is held, and `attr` is valid.
#[export]
unsafe extern "C" fn __kvm_spe_set_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract.
        let (target, attr) = unsafe { (Target::new(vcpu)?, &*attr) };

        match u32::try_from(attr.attr).map_err(|_| ENXIO)? {
            IRQ => target.set_irq(integer(attr)?),
            SPU => target.set_spu(integer(attr)?),
            INIT => target.init(),
            _ => Err(ENXIO),
        }?;
        Ok(0)
    })
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
    from_result(|| {
        // SAFETY: By the caller's contract.
        let (target, attr) = unsafe { (Target::new(vcpu)?, &*attr) };
        // SAFETY: By the type invariant.
        let (has_irq, irq) = unsafe { ((*target.of_vcpu()).has_irq, (*target.of_vm()).irq) };

        if attr.attr != IRQ.into() || !has_irq {
            return Err(ENXIO);
        }
        let place = UserPtr::from_addr(attr.addr as usize);
        UserSlice::new(place, size_of::<u32>())
            .writer()
            .write(&irq)?;
        Ok(0)
    })
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
    from_result(|| {
        // SAFETY: By the caller's contract.
        let attr = unsafe {
            Target::new(vcpu)?;
            (*attr).attr
        };

        if [IRQ, SPU, INIT].map(u64::from).contains(&attr) {
            Ok(0)
        } else {
            Err(ENXIO)
        }
    })
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

    /// A VM runs on the CPUs that both its PMU and its SPU have; without either of them, that one
    /// does not matter. A combination without any CPU is refused.
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
            .store(kvm);
            CpumaskVar::from_raw(&raw const (*kvm).arch.supported_cpus)
        };
        for cpu in possible_cpus() {
            assert_eq!(found.test(cpu), even.test(cpu));
        }
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What userspace sets before a VM runs: the SPU, its interrupt, and the CPUs that follow from it.

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
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

use super::registers::{Version, NEWEST};

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

    /// Stores the CPUs in a mask.
    fn store(self, cpus: &mut Cpumask) {
        for cpu in possible_cpus() {
            if self.has(cpu) {
                cpus.set(cpu);
            } else {
                cpus.clear(cpu);
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

/// Checks that a VM can have a PMU of these CPUs. Fails with `EINVAL` if it has an SPU, and no CPU
/// has both.
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
        unsafe { usable(kvm, cpus) }.check()?;
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
unsafe extern "C" fn kvm_spe_set_pmu_cpus(
    kvm: *mut bindings::kvm,
    cpus: *const bindings::cpumask,
) {
    // SAFETY: By the caller's contract. Tasks that load a vCPU test single bits meanwhile, as when C
    // copies a mask.
    unsafe {
        usable(kvm, cpus).store(CpumaskVar::from_raw_mut(
            &raw mut (*kvm).arch.supported_cpus,
        ));
        (*kvm).arch.spe.pmu_cpus = cpus;
    }
}

/// The vCPU of an attribute, and its VM.
///
/// # Invariants
///
/// `vcpu` is a vCPU of `kvm`, and `kvm->arch.config_lock` is held.
struct Target<'a> {
    vcpu: *mut bindings::kvm_vcpu,
    kvm: *mut bindings::kvm,
    /// The state of the VM, and that of the vCPU.
    of_vm: &'a mut bindings::kvm_arch_spe,
    of_vcpu: &'a mut bindings::kvm_vcpu_spe,
}

/// Reads the integer of an attribute.
fn integer(attr: &Attribute) -> Result<c_int> {
    let place = UserPtr::from_addr(attr.addr as usize);

    UserSlice::new(place, size_of::<c_int>()).reader().read()
}

impl Target<'_> {
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose VM's `config_lock` is held, and there is no other value for the VM.
    unsafe fn new(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: By the caller's contract. Both states change only with the lock held.
        // INVARIANT: As above.
        unsafe {
            let kvm = (*vcpu).kvm;
            Self {
                vcpu,
                kvm,
                of_vm: &mut (*kvm).arch.spe,
                of_vcpu: &mut (*vcpu).arch.spe,
            }
        }
    }

    /// Returns whether a vCPU of the VM has run.
    fn has_run(&self) -> bool {
        // SAFETY: By the type invariant. The flag is set with the lock held.
        unsafe { (*self.kvm).arch.flags & (1 << bindings::KVM_ARCH_FLAG_HAS_RAN_ONCE) != 0 }
    }

    /// Returns whether an interrupt belongs to a timer or to the GIC.
    fn is_taken(&self, irq: u32) -> bool {
        // SAFETY: By the type invariant.
        let timers = unsafe { (*self.kvm).arch.timer_data.ppi };

        irq == MAINTENANCE || timers.contains(&irq.into())
    }

    /// Sets the interrupt, which is the same on all vCPUs.
    fn set_irq(&mut self, irq: c_int) -> Result {
        let irq = u32::try_from(irq)?;
        if self.of_vcpu.has_irq {
            return Err(EBUSY);
        }
        let others = self.of_vm.irq;
        if !PPIS.contains(&irq) || self.is_taken(irq) || (others != 0 && others != irq) {
            return Err(EINVAL);
        }
        self.of_vm.irq = irq;
        self.of_vcpu.has_irq = true;
        Ok(())
    }

    /// Gives the VM the unit whose device has this perf type.
    fn set_spu(&mut self, type_: c_int) -> Result {
        let unit = UnitRef::get(type_).ok_or(ENXIO)?;

        if self.has_run() {
            return Err(EBUSY);
        }
        let vm = &mut *self.of_vm;
        // SAFETY: The masks are those of units that the VM has, or is given.
        let usable = unsafe {
            Usable {
                pmu: (!vm.pmu_cpus.is_null()).then(|| Cpumask::from_raw(vm.pmu_cpus)),
                spu: Some(Cpumask::from_raw(unit.cpus)),
            }
        };
        usable.check()?;
        // SAFETY: By the type invariant. Tasks that load a vCPU test single bits meanwhile.
        usable.store(unsafe {
            CpumaskVar::from_raw_mut(&raw mut (*self.kvm).arch.supported_cpus)
        });
        let version = Version::try_new(unit.pmsver.into()).unwrap_or(NEWEST).min(NEWEST);
        vm.pmsver = version.get() as u8;
        vm.pmsidr = unit.pmsidr;
        vm.pmbidr = unit.pmbidr;
        // SAFETY: It is the VM's place for it.
        unsafe { unit.replace(&raw mut vm.unit) };
        self.set_version(version);
        Ok(())
    }

    /// Shows the guest FEAT_SPE.
    fn set_version(&self, version: Version) {
        let register = ID_AA64DFR0_EL1::ENCODING.as_u32();

        // SAFETY: By the type invariant; the VM has a value of this register.
        unsafe {
            let dfr0 = ID_AA64DFR0_EL1::from_raw(bindings::kvm_read_vm_id_reg(self.kvm, register));
            bindings::kvm_set_vm_id_reg(self.kvm, register, dfr0.with_PMSVer(version).into());
        }
    }

    /// Makes the vCPU ready to run.
    fn init(&mut self) -> Result {
        // SAFETY: By the type invariant. Both are set with the lock held.
        let (in_kernel, initialized) = unsafe {
            let vgic = &raw const (*self.kvm).arch.vgic;
            ((*vgic).in_kernel, (*vgic).initialized)
        };

        if self.of_vcpu.ready {
            return Err(EBUSY);
        }
        if !in_kernel || !initialized {
            return Err(ENODEV);
        }
        if !self.of_vcpu.has_irq || self.of_vm.unit.is_null() {
            return Err(ENXIO);
        }
        let owner: *mut c_void = (&raw mut *self.of_vcpu).cast();
        // SAFETY: By the type invariant. The owner is only an identity.
        to_result(unsafe { bindings::kvm_vgic_set_owner(self.vcpu, self.of_vm.irq, owner) })?;
        self.of_vcpu.ready = true;
        Ok(())
    }
}

/// Returns whether a vCPU has FEAT_SPE, that is, whether the group of attributes exists.
///
/// # Safety
///
/// `vcpu` is a vCPU.
unsafe fn has_feature(vcpu: *mut bindings::kvm_vcpu) -> bool {
    // SAFETY: By the caller's contract.
    unsafe {
        let kvm = (*vcpu).kvm;
        bindings::kvm_vcpu_features_configured(kvm)
            && bindings::kvm_vcpu_has_feature(kvm, bindings::KVM_ARM_VCPU_SPE as i32)
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
        let (mut target, attr) = unsafe {
            if !has_feature(vcpu) {
                return Err(ENXIO);
            }
            (Target::new(vcpu), &*attr)
        };

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
/// `vcpu` is a vCPU, and `attr` is valid.
#[export]
unsafe extern "C" fn kvm_spe_get_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract. The interrupt is set once.
        let (irq, attr) = unsafe {
            if !has_feature(vcpu) || !(*vcpu).arch.spe.has_irq {
                return Err(ENXIO);
            }
            ((*(*vcpu).kvm).arch.spe.irq, &*attr)
        };

        if attr.attr != IRQ.into() {
            return Err(ENXIO);
        }
        let place = UserPtr::from_addr(attr.addr as usize);
        UserSlice::new(place, size_of::<u32>()).writer().write(&irq)?;
        Ok(0)
    })
}

/// Returns 0 if a vCPU has the attribute of that group, and `-ENXIO` if not.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU, and `attr` is valid.
#[export]
unsafe extern "C" fn kvm_spe_has_attr(
    vcpu: *mut bindings::kvm_vcpu,
    attr: *mut Attribute,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract.
        let known = unsafe {
            has_feature(vcpu) && [IRQ, SPU, INIT].map(u64::from).contains(&(*attr).attr)
        };

        if known {
            Ok(0)
        } else {
            Err(ENXIO)
        }
    })
}

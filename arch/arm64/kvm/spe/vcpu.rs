// SPDX-License-Identifier: GPL-2.0

//! The SPU of a VM and of its vCPUs, and the registers as userspace and the guest access them.

use kernel::{
    arm64::{cpufeature::system_has, sysreg::*},
    bindings::{
        self,
        kvm_spe_regs as Registers, //
    },
    cpucap,
    interrupt::local_interrupt_disable,
    kvm::{Vcpu, Vm},
    prelude::*,
    sync::atomic::Relaxed, //
};

use super::{
    memory::Watched,
    registers::{Name, Register, View},
    window::{Faults, Watch}, //
};

/// The registers that identify the unit of a VM.
#[derive(Clone, Copy)]
pub(super) struct Identity {
    pub(super) pmsidr: PMSIDR_EL1,
    pub(super) pmbidr: PMBIDR_EL1,
    /// The filters of events that the unit has.
    events: u64,
}

impl Identity {
    /// Returns the registers of a VM's unit. Until a vCPU runs, the answer may be out of date
    /// unless `config_lock` is held.
    pub(super) fn of(vm: &Vm) -> Self {
        let spu = vm.spu();

        Self {
            pmsidr: spu.pmsidr.load(Relaxed).into(),
            pmbidr: spu.pmbidr.load(Relaxed).into(),
            events: spu.events.load(Relaxed),
        }
    }
}

/// Returns the SPU as a VM sees it; [`None`] for a VM without FEAT_SPE. The answer may be out of
/// date as for [`Identity::of`].
pub(super) fn view_of(vm: &Vm) -> Option<View> {
    let version = vm.id_register::<ID_AA64DFR0_EL1>().PMSVer();
    let unit = Identity::of(vm);

    View::new(version, unit.pmsidr, unit.pmbidr, unit.events)
}

/// The SPU of a vCPU: `vcpu->arch.spe`.
///
/// # Invariants
///
/// `vcpu` is a vCPU whose mutex this task holds, and whose VM is `vm`.
pub(super) struct Spu<'a> {
    pub(super) vcpu: &'a Vcpu,
    pub(super) vm: &'a Vm,
    /// The watch of the window; [`None`] before the setup is complete.
    pub(super) watch: Option<&'a Watch>,
    /// The faults of the unit; [`None`] as for `watch`.
    pub(super) faults: Option<&'a mut Faults>,
    pub(super) registers: &'a mut Registers,
    /// PMBSR_EL1 before the event.
    pub(super) pmbsr: u64,
    /// PMBLIMITR_EL1 of the unit while `ready`.
    pub(super) limit: &'a mut u64,
    pub(super) fixed: Fixed<'a>,
    /// The guest's buffer is enabled, and no event has stopped it.
    pub(super) enabled: &'a mut bool,
    /// What the unit writes next is mapped.
    pub(super) ready: &'a mut bool,
    /// The unit had an event: `registers` still has the unit's PMBSR_EL1, not the guest's.
    pub(super) event: &'a mut bool,
    /// The unit changes hands at entries and exits.
    pub(super) switched: &'a mut u32,
}

/// The properties of the unit that the first run of the VM fixes.
pub(super) struct Fixed<'a> {
    present: &'a mut bool,
    fne: &'a mut bool,
    pub(super) fine_grained: &'a mut bool,
}

impl Spu<'_> {
    /// Calls `f` with the SPU of a vCPU, and returns its result. Interrupts are off meanwhile: a
    /// task that is preempted loads its vCPU again, which takes over the unit's event.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose mutex is held by this task, which has no other [`Spu`] of it.
    pub(super) unsafe fn with<R>(
        vcpu: *mut bindings::kvm_vcpu,
        f: impl FnOnce(&mut Spu<'_>) -> R,
    ) -> R {
        let _guard = local_interrupt_disable();
        // SAFETY: By the caller's contract; the VM outlives the vCPU. Other tasks access
        // `window` atomically; debugfs may read old or new values. The faults belong to the task
        // that holds the mutex.
        // INVARIANT: By the caller's contract.
        let mut spu = unsafe {
            let spe = &raw mut (*vcpu).arch.spe;
            let vcpu = Vcpu::from_raw(vcpu);
            let watched = Watched::of(vcpu);

            Spu {
                vcpu,
                vm: vcpu.vm(),
                watch: watched.map(|it| &it.watch),
                faults: watched.map(|it| &mut *it.faults.get()),
                registers: &mut (*spe).regs,
                pmbsr: (*spe).pmbsr,
                limit: &mut (*spe).limit,
                fixed: Fixed {
                    present: &mut (*spe).present,
                    fne: &mut (*spe).fne,
                    fine_grained: &mut (*spe).fine_grained,
                },
                enabled: &mut (*spe).enabled,
                ready: &mut (*spe).ready,
                event: &mut (*spe).event,
                switched: &mut (*spe).switched,
            }
        };

        f(&mut spu)
    }

    /// Returns the place of a register.
    fn place(&mut self, register: Register) -> &mut u64 {
        let registers = &mut *self.registers;

        match register {
            Register::Pmscr => &mut registers.pmscr,
            Register::Pmsnevfr => &mut registers.pmsnevfr,
            Register::Pmsicr => &mut registers.pmsicr,
            Register::Pmsirr => &mut registers.pmsirr,
            Register::Pmsfcr => &mut registers.pmsfcr,
            Register::Pmsevfr => &mut registers.pmsevfr,
            Register::Pmslatfr => &mut registers.pmslatfr,
            Register::Pmblimitr => &mut registers.pmblimitr,
            Register::Pmbptr => &mut registers.pmbptr,
            Register::Pmbsr => &mut registers.pmbsr,
        }
    }

    /// Returns the value of a register; [`None`] if the VM does not have it.
    fn value(&mut self, view: &View, name: Name) -> Option<u64> {
        view.has(name).then(|| match name {
            Name::Own(register) => *self.place(register),
            Name::Pmsidr => view.pmsidr().into(),
            Name::Pmbidr => view.pmbidr().into(),
        })
    }

    /// Performs the guest's access to a register: writes `value`, or reads into it. Fails if the
    /// access is UNDEFINED.
    pub(super) fn access(&mut self, encoding: u32, is_write: bool, value: &mut u64) -> Result {
        if !is_write {
            *value = self.read(encoding)?;
            return Ok(());
        }
        // A register that identifies the unit cannot be written at all.
        let Some(Name::Own(_)) = Name::of(encoding) else {
            return Err(ENOENT);
        };

        self.write(encoding, *value)?;
        self.update();
        Ok(())
    }

    /// Returns the value of the register with this encoding. Fails with `ENOENT` if the VM does not
    /// have it.
    pub(super) fn read(&mut self, encoding: u32) -> Result<u64> {
        self.take_event();
        let view = view_of(self.vm).ok_or(ENOENT)?;

        Name::of(encoding)
            .and_then(|name| self.value(&view, name))
            .ok_or(ENOENT)
    }

    /// Writes a register. Fails with `ENOENT` if the VM does not have it, and with `EINVAL` if it
    /// identifies the unit and has another value.
    pub(super) fn write(&mut self, encoding: u32, value: u64) -> Result {
        self.take_event();
        let view = view_of(self.vm).ok_or(ENOENT)?;
        let name = Name::of(encoding).ok_or(ENOENT)?;
        let known = self.value(&view, name).ok_or(ENOENT)?;

        match name {
            Name::Own(register) => {
                *self.place(register) = value & view.kept(register);
                self.note_write(register);
                Ok(())
            }
            _ if value == known => Ok(()),
            _ => Err(EINVAL),
        }
    }

    /// Stores the properties of the unit that the first run of the VM fixes.
    ///
    /// If the unit has PMSDSFR_EL1, which KVM never switches, fine-grained traps suffice only with
    /// FEAT_FGT2, which traps that register.
    pub(super) fn fix(&mut self) {
        let Some(view) = view_of(self.vm) else {
            return;
        };
        let pmsidr = Identity::of(self.vm).pmsidr;
        let fds = pmsidr.FDS().into_bool();

        // Userspace may have written registers before it has lowered the version.
        for (register, _) in Register::ALL {
            *self.place(register) &= view.kept(register);
        }
        *self.fixed.present = true;
        *self.fixed.fne = pmsidr.FnE().into_bool();
        *self.fixed.fine_grained =
            system_has(cpucap!(HAS_FGT)) && (!fds || system_has(cpucap!(HAS_FGT2)));
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Gives the unit of this CPU to a guest, and takes it back.
//!
//! The hardware has the guest's values only between entry and exit: host code always finds the
//! host's values. All records are in memory before the buffer, its owner or its translation
//! changes. The order follows the Arm ARM, "Synchronization and Statistical Profiling".
//!
//! Pure logic: the registers are behind [`Access`], for which tests have a fake. EL2 has a register
//! PMSCR_EL2 beside PMSCR_EL1; all exception levels share each of the other registers.

use super::{Host, Registers};
use kernel::arm64::{access::Access, sysreg::*};

/// The CPU that switches, at EL2.
pub(crate) struct Switch<'a, A> {
    pub(crate) cpu: &'a A,
    /// HCR_EL2.E2H: EL1's registers have names of their own here.
    pub(crate) e2h: bool,
    /// PMSIDR_EL1.FnE: the unit has PMSNEVFR_EL1.
    pub(crate) fne: bool,
    /// Fine-grained traps suffice; otherwise, MDCR_EL2 traps all registers.
    pub(crate) fine_grained: bool,
}

/// `MDCR_EL2.E2PB`: the buffer is EL1's, and accesses of EL1 trap or not.
const E2PB_EL1_TRAPS: u64 = 0b10;
const E2PB_EL1: u64 = 0b11;

impl<A: Access> Switch<'_, A> {
    /// Reads a register of the unit, or one that exists at EL2.
    fn read<R: SystemRegister>(&self) -> u64 {
        // SAFETY: A value of this type exists only at EL2 of a CPU with FEAT_SPE.
        unsafe { self.cpu.read_present::<R>() }.into()
    }

    /// Writes such a register. The kernel does not rely on the change: the host gets its old values
    /// back.
    fn write<R: SystemRegister>(&self, value: u64) {
        // SAFETY: As for `read()`.
        unsafe { self.cpu.write(R::from(value)) };
    }

    /// Completes all records.
    fn drain(&self) {
        self.cpu.synchronise();
        self.cpu.complete_profiling();
        self.cpu.synchronise();
    }

    /// Returns PMSCR_EL1.
    fn pmscr_el1(&self) -> u64 {
        if self.e2h {
            self.read::<PMSCR_EL12>()
        } else {
            self.read::<PMSCR_EL1>()
        }
    }

    /// Sets PMSCR_EL1.
    fn set_pmscr_el1(&self, value: u64) {
        if self.e2h {
            self.write::<PMSCR_EL12>(value);
        } else {
            self.write::<PMSCR_EL1>(value);
        }
    }

    /// Saves the registers that select operations, except PMSCR_EL1.
    fn save_sampling(&self, to: &mut Registers) {
        to.pmsicr = self.read::<PMSICR_EL1>();
        to.pmsirr = self.read::<PMSIRR_EL1>();
        to.pmsfcr = self.read::<PMSFCR_EL1>();
        to.pmsevfr = self.read::<PMSEVFR_EL1>();
        to.pmslatfr = self.read::<PMSLATFR_EL1>();
        if self.fne {
            to.pmsnevfr = self.read::<PMSNEVFR_EL1>();
        }
    }

    /// Loads these registers.
    fn load_sampling(&self, from: &Registers) {
        self.write::<PMSICR_EL1>(from.pmsicr);
        self.write::<PMSIRR_EL1>(from.pmsirr);
        self.write::<PMSFCR_EL1>(from.pmsfcr);
        self.write::<PMSEVFR_EL1>(from.pmsevfr);
        self.write::<PMSLATFR_EL1>(from.pmslatfr);
        if self.fne {
            self.write::<PMSNEVFR_EL1>(from.pmsnevfr);
        }
    }

    /// Loads the buffer, which is disabled until its limit is written.
    fn load_buffer(&self, from: &Registers, pmblimitr: u64) {
        self.write::<PMBPTR_EL1>(from.pmbptr);
        self.write::<PMBSR_EL1>(from.pmbsr);
        self.write::<PMBLIMITR_EL1>(pmblimitr);
        self.cpu.synchronise();
    }

    /// Disables the buffer, after all records have been written to it.
    fn disable_buffer(&self) {
        self.write::<PMBLIMITR_EL1>(0);
        self.cpu.synchronise();
        self.write::<PMBSR_EL1>(0);
    }

    /// Stops the host's profiling, and saves its registers. In nVHE mode its buffer is disabled
    /// already, before the tables have changed.
    fn stop_host(&self, host: &mut Host) {
        let limit = PMBLIMITR_EL1::from_raw(self.read::<PMBLIMITR_EL1>());

        host.pmscr_el2 = self.read::<PMSCR_EL2>();
        self.write::<PMSCR_EL2>(0);
        if limit.E().into_bool() {
            self.drain();
        }
        host.regs.pmblimitr = limit.into();
        host.regs.pmbptr = self.read::<PMBPTR_EL1>();
        // The driver may leave an event behind in a buffer that it has disabled.
        host.regs.pmbsr = self.read::<PMBSR_EL1>();
        host.regs.pmscr = self.pmscr_el1();
        self.save_sampling(&mut host.regs);
        self.disable_buffer();
    }

    /// Gives the unit to a guest whose translation and traps are in place, with `limit` as
    /// PMBLIMITR_EL1. Without a limit, the unit writes nothing, and all accesses trap.
    pub(crate) fn give_to_guest(&self, guest: &Registers, limit: Option<u64>, host: &mut Host) {
        let (owner, open) = if self.fine_grained && limit.is_some() {
            (E2PB_EL1, MDCR_EL2::TPMS_MASK)
        } else {
            (E2PB_EL1_TRAPS, 0)
        };

        self.stop_host(host);
        host.mdcr_el2 = self.read::<MDCR_EL2>();
        let others = host.mdcr_el2 & !(MDCR_EL2::E2PB_MASK | open);
        self.write::<MDCR_EL2>(others | owner << MDCR_EL2::E2PB_SHIFT);
        self.cpu.synchronise();
        self.load_sampling(guest);
        if let Some(limit) = limit {
            self.load_buffer(guest, limit);
        }
        self.set_pmscr_el1(guest.pmscr);
    }

    /// Takes the unit from a guest whose translation and traps are still in place. A register whose
    /// writes trap stays as it was.
    pub(crate) fn take_from_guest(&self, guest: &mut Registers, enabled: bool, host: &Host) {
        guest.pmscr = self.pmscr_el1();
        self.set_pmscr_el1(0);
        self.drain();
        if enabled {
            guest.pmbptr = self.read::<PMBPTR_EL1>();
            guest.pmbsr = self.read::<PMBSR_EL1>();
        }
        self.save_sampling(guest);
        self.disable_buffer();
        self.write::<MDCR_EL2>(host.mdcr_el2);
        self.cpu.synchronise();
    }

    /// Gives the unit back to the host, whose translation and traps are in place.
    pub(crate) fn return_to_host(&self, host: &Host) {
        self.load_sampling(&host.regs);
        self.load_buffer(&host.regs, host.regs.pmblimitr);
        self.set_pmscr_el1(host.regs.pmscr);
        self.write::<PMSCR_EL2>(host.pmscr_el2);
    }
}

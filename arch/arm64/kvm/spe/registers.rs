// SPDX-License-Identifier: GPL-2.0

//! The registers of a guest's statistical profiling unit (SPU): the registers and bits that a VM
//! has, and the meaning of the unit's status.

use kernel::{arm64::sysreg::*, num::Bounded};

/// `ID_AA64DFR0_EL1.PMSVer`.
pub(crate) type Version = Bounded<u64, 4>;

/// The newest version of FEAT_SPE that guests can get: KVM does not switch the registers that later
/// versions add.
pub(crate) const NEWEST: Version = ID_AA64DFR0_EL1_PMSVer_V1P2;

/// A register that a guest may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    Pmscr,
    Pmsnevfr,
    Pmsicr,
    Pmsirr,
    Pmsfcr,
    Pmsevfr,
    Pmslatfr,
    Pmblimitr,
    Pmbptr,
    Pmbsr,
}

impl Register {
    /// All of them, with their encodings.
    pub(crate) const ALL: [(Register, Encoding); 10] = [
        (Register::Pmscr, PMSCR_EL1::ENCODING),
        (Register::Pmsnevfr, PMSNEVFR_EL1::ENCODING),
        (Register::Pmsicr, PMSICR_EL1::ENCODING),
        (Register::Pmsirr, PMSIRR_EL1::ENCODING),
        (Register::Pmsfcr, PMSFCR_EL1::ENCODING),
        (Register::Pmsevfr, PMSEVFR_EL1::ENCODING),
        (Register::Pmslatfr, PMSLATFR_EL1::ENCODING),
        (Register::Pmblimitr, PMBLIMITR_EL1::ENCODING),
        (Register::Pmbptr, PMBPTR_EL1::ENCODING),
        (Register::Pmbsr, PMBSR_EL1::ENCODING),
    ];
}

/// A register that a guest can name: one of its own, or one that identifies the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Own(Register),
    Pmsidr,
    Pmbidr,
}

impl Name {
    /// Returns the register whose C macro `SYS_<register>` has this value.
    pub(crate) fn of(encoding: u32) -> Option<Self> {
        if encoding == PMSIDR_EL1::ENCODING.as_u32() {
            return Some(Name::Pmsidr);
        }
        if encoding == PMBIDR_EL1::ENCODING.as_u32() {
            return Some(Name::Pmbidr);
        }
        let mut all = Register::ALL.iter();
        let (register, _) = all.find(|(_, own)| own.as_u32() == encoding)?;
        Some(Name::Own(*register))
    }
}

/// The SPU as a VM sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    version: Version,
    pmsidr: PMSIDR_EL1,
    pmbidr: PMBIDR_EL1,
    events: u64,
}

/// The fields of PMSIDR_EL1 that describe what FEAT_SPEv1p2 and earlier versions have. The others
/// announce registers and bits of later versions.
const PMSIDR_KNOWN: u64 = PMSIDR_EL1::PBT_MASK
    | PMSIDR_EL1::FORMAT_MASK
    | PMSIDR_EL1::COUNTSIZE_MASK
    | PMSIDR_EL1::MAXSIZE_MASK
    | PMSIDR_EL1::INTERVAL_MASK
    | PMSIDR_EL1::FNE_MASK
    | PMSIDR_EL1::ERND_MASK
    | PMSIDR_EL1::LDS_MASK
    | PMSIDR_EL1::ARCHINST_MASK
    | PMSIDR_EL1::FL_MASK
    | PMSIDR_EL1::FT_MASK
    | PMSIDR_EL1::FE_MASK;

/// The same for PMBIDR_EL1, except P, which is 0 since the guest owns the buffer.
const PMBIDR_KNOWN: u64 = PMBIDR_EL1::EA_MASK | PMBIDR_EL1::F_MASK | PMBIDR_EL1::ALIGN_MASK;

impl View {
    /// Creates the view of a unit with these registers, and these filters of events, for a VM whose
    /// `ID_AA64DFR0_EL1.PMSVer` is `version`. Returns [`None`] for a VM without FEAT_SPE.
    pub(crate) fn new(
        version: Version,
        pmsidr: PMSIDR_EL1,
        pmbidr: PMBIDR_EL1,
        events: u64,
    ) -> Option<Self> {
        let fne = version >= ID_AA64DFR0_EL1_PMSVer_V1P2 && pmsidr.FnE().into_bool();

        (version >= ID_AA64DFR0_EL1_PMSVer_IMP).then(|| View {
            version,
            pmsidr: PMSIDR_EL1::from_raw(pmsidr.into_raw() & PMSIDR_KNOWN).with_FnE(fne),
            pmbidr: PMBIDR_EL1::from_raw(pmbidr.into_raw() & PMBIDR_KNOWN),
            events,
        })
    }

    /// Returns PMSIDR_EL1.
    pub(crate) fn pmsidr(&self) -> PMSIDR_EL1 {
        self.pmsidr
    }

    /// Returns PMBIDR_EL1.
    pub(crate) fn pmbidr(&self) -> PMBIDR_EL1 {
        self.pmbidr
    }

    /// Returns whether the VM has the register.
    pub(crate) fn has(&self, name: Name) -> bool {
        name != Name::Own(Register::Pmsnevfr) || self.pmsidr.FnE().into_bool()
    }

    /// Returns the bits of a register that keep what is written to them.
    ///
    /// Filters of events that the unit does not have are RAZ/WI.
    pub(crate) fn kept(&self, register: Register) -> u64 {
        const FILTERS: u64 = PMSFCR_EL1::FE_MASK
            | PMSFCR_EL1::FT_MASK
            | PMSFCR_EL1::FL_MASK
            | PMSFCR_EL1::B_MASK
            | PMSFCR_EL1::LD_MASK
            | PMSFCR_EL1::ST_MASK;
        const LIMIT: u64 = PMBLIMITR_EL1::LIMIT_MASK | PMBLIMITR_EL1::E_MASK;
        let v1p2 = self.version >= ID_AA64DFR0_EL1_PMSVer_V1P2;

        match register {
            Register::Pmscr => !PMSCR_EL1::RES0,
            Register::Pmsicr => PMSICR_EL1::COUNT_MASK | self.if_random(PMSICR_EL1::ECOUNT_MASK),
            Register::Pmsirr => !PMSIRR_EL1::RES0,
            Register::Pmsfcr if self.has(Name::Own(Register::Pmsnevfr)) => {
                FILTERS | PMSFCR_EL1::FNE_MASK
            }
            Register::Pmsfcr => FILTERS,
            Register::Pmsevfr => self.events,
            Register::Pmsnevfr if self.has(Name::Own(Register::Pmsnevfr)) => self.events,
            Register::Pmsnevfr => 0,
            // "If PMSIDR_EL1.CountSize is 0b0010, MINLAT[15:12] is RES0."
            Register::Pmslatfr if self.pmsidr.COUNTSIZE() == PMSIDR_EL1_COUNTSIZE_12_BIT_SAT => {
                PMSLATFR_EL1::MINLAT_MASK & 0xfff
            }
            Register::Pmslatfr => PMSLATFR_EL1::MINLAT_MASK,
            Register::Pmblimitr if v1p2 => {
                LIMIT | PMBLIMITR_EL1::FM_MASK | PMBLIMITR_EL1::PMFZ_MASK
            }
            Register::Pmblimitr => LIMIT,
            Register::Pmbptr => u64::MAX << self.pmbidr.ALIGN().get(),
            Register::Pmbsr => !PMBSR_EL1::RES0,
        }
    }

    /// Returns `bits` if the unit varies its intervals by itself (PMSIDR_EL1.ERnd).
    fn if_random(&self, bits: u64) -> u64 {
        if self.pmsidr.ERND().into_bool() {
            bits
        } else {
            0
        }
    }
}

/// Returns whether the unit may write to a buffer with these registers: it is enabled, and no event
/// has stopped it (`ProfilingBufferEnabled()`, `SPEProfilingStopped()`).
pub(crate) fn is_enabled(pmblimitr: PMBLIMITR_EL1, pmbsr: PMBSR_EL1) -> bool {
    pmblimitr.E().into_bool() && !pmbsr.S().into_bool()
}

/// What an event of the unit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The guest gets it.
    OfGuest(PMBSR_EL1),
    /// The window is full, and goes on where the unit has stopped. The guest sees no event.
    WindowFull(PMBSR_EL1),
    /// The unit could not write at stage 2. The guest may see an event of another kind.
    Fault { event: PMBSR_EL1, lost: bool },
}

/// `PMBSR_EL1.MSS` for EC 0: the buffer is full (BSC).
const BUFFER_FULL: Bounded<u64, 16> = Bounded::<u64, 16>::new::<1>();

/// Returns the meaning of the status of a unit that has stopped, with the guest's new status.
/// `before` is the status with which the unit started. If `is_clipped`, the unit has had only a
/// part of the guest's buffer.
///
/// A guest that sees no event keeps the status from before, with the COLL that the unit has set.
pub(crate) fn what_of(pmbsr: PMBSR_EL1, before: PMBSR_EL1, is_clipped: bool) -> Event {
    let event = before.with_COLL(pmbsr.COLL());
    let lost = pmbsr.DL().into_bool();

    let is_full = pmbsr.EC() == PMBSR_EL1_EC_BUF && pmbsr.MSS() == BUFFER_FULL;
    let is_fault = [PMBSR_EL1_EC_FAULT_S2, PMBSR_EL1_EC_FAULT_GPC].contains(&pmbsr.EC());

    if is_fault {
        Event::Fault { event, lost }
    } else if is_full && is_clipped && !lost {
        Event::WindowFull(event)
    } else {
        Event::OfGuest(pmbsr)
    }
}

/// Returns the event that reports lost records: a full buffer (`EC_BUF`) or, if there is no memory,
/// an IMPLEMENTATION DEFINED event (`EC_IMP_DEF`). A guest has no stage 2 of its own, so the event
/// is never a fault at stage 2.
pub(crate) fn lost(pmbsr: PMBSR_EL1, class: Bounded<u64, 6>) -> PMBSR_EL1 {
    let event = PMBSR_EL1::from_raw(0)
        .with_EC(class)
        .with_DL(true)
        .with_S(true)
        .with_COLL(pmbsr.COLL());

    if class == PMBSR_EL1_EC_BUF {
        event.with_MSS(BUFFER_FULL)
    } else {
        event
    }
}

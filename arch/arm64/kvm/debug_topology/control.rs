// SPDX-License-Identifier: GPL-2.0

//! What the control registers of a VM's breakpoints and watchpoints mean on the CPU.
//!
//! A control register may name another breakpoint, the one that it is linked to, and
//! its type may be one that the breakpoint does not have. Where the architecture
//! leaves it open what becomes of such a value, the choice here is always that
//! nothing matches, and that no other register is affected: a value that hardware
//! would pass on to another breakpoint must not reach one of the CPU's spare ones.
//!
//! Pure logic: no kernel types, no state, every function total.

// Field names are the architecture's.
#![allow(non_upper_case_globals)]

use super::{sysreg::*, topology::*, Registers};

/// Bits of DBGBCR<n>_EL1 that a VM has. The others are RES0: they belong to
/// FEAT_Debugv8p9, FEAT_BWE, FEAT_ABLE and FEAT_RME, which KVM hides.
const BCR_BITS: u64 = DBGBCRn_EL1_BT_MASK
    | DBGBCRn_EL1_LBN_MASK
    | DBGBCRn_EL1_SSC_MASK
    | DBGBCRn_EL1_HMC_MASK
    | DBGBCRn_EL1_BAS_MASK
    | DBGBCRn_EL1_PMC_MASK
    | DBGBCRn_EL1_E_MASK;

/// Bits of DBGWCR<n>_EL1 that a VM has, likewise.
const WCR_BITS: u64 = DBGWCRn_EL1_MASK_MASK
    | DBGWCRn_EL1_WT_MASK
    | DBGWCRn_EL1_LBN_MASK
    | DBGWCRn_EL1_SSC_MASK
    | DBGWCRn_EL1_HMC_MASK
    | DBGWCRn_EL1_BAS_MASK
    | DBGWCRn_EL1_LSC_MASK
    | DBGWCRn_EL1_PAC_MASK
    | DBGWCRn_EL1_E_MASK;

/// BT[3] and BT[1], which are RES0 in a breakpoint that is not context-aware.
const BT_CONTEXT: u64 = 0b1010 << DBGBCRn_EL1_BT_SHIFT;

/// BAS[3] and BAS[1], which are copies of the bits below them.
const BAS_COPIES: u64 = 0b1010 << DBGBCRn_EL1_BAS_SHIFT;

/// A register of a VM, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// DBGBVR<n>_EL1.
    BreakpointValue(usize),
    /// DBGBCR<n>_EL1.
    BreakpointControl(usize),
    /// DBGWVR<n>_EL1.
    WatchpointValue(usize),
    /// DBGWCR<n>_EL1.
    WatchpointControl(usize),
}

impl Register {
    /// The register with op2 and CRm of its encoding, (2, 0, 0, `crm`, `op2`).
    pub(crate) const fn new(op2: u8, crm: u8) -> Option<Self> {
        let n = crm as usize;
        match op2 {
            _ if n >= MAX => None,
            4 => Some(Self::BreakpointValue(n)),
            5 => Some(Self::BreakpointControl(n)),
            6 => Some(Self::WatchpointValue(n)),
            7 => Some(Self::WatchpointControl(n)),
            _ => None,
        }
    }

    /// What `registers` have for this one.
    pub(crate) fn of(self, registers: &Registers) -> u64 {
        let (values, n) = match self {
            Self::BreakpointValue(n) => (&registers.dbg_bvr, n),
            Self::BreakpointControl(n) => (&registers.dbg_bcr, n),
            Self::WatchpointValue(n) => (&registers.dbg_wvr, n),
            Self::WatchpointControl(n) => (&registers.dbg_wcr, n),
        };
        values.get(n).copied().unwrap_or(0)
    }
}

/// A VM on a CPU that has more breakpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Guest {
    /// Where its breakpoints are.
    pub(crate) mapping: Mapping,
    /// How many watchpoints it has. They are never renumbered: ESR_ELx may report the
    /// number of one.
    pub(crate) watchpoints: usize,
    /// Whether it has the types that name one of the CONTEXTIDR registers, which came
    /// with FEAT_VHE.
    pub(crate) contextidr_types: bool,
    /// Whether it has AArch32 at EL0, and so DBGBCR<n>_EL1.BAS.
    pub(crate) aarch32: bool,
}

impl Guest {
    /// Whether the VM has `register`.
    pub(crate) const fn has(&self, register: Register) -> bool {
        has(self.mapping.vm(), self.watchpoints, register)
    }

    /// What the VM reads from DBGBCR`n`_EL1 that holds `value`.
    pub(crate) const fn kept_breakpoint(&self, n: usize, value: u64) -> u64 {
        let mut value = value & BCR_BITS;
        if !self.mapping.vm().is_context_aware(n) {
            value &= !BT_CONTEXT;
        }
        if self.aarch32 {
            value &= !BAS_COPIES;
            value | ((value & DBGBCRn_EL1_BAS_MASK) << 1)
        } else {
            value | DBGBCRn_EL1_BAS_MASK
        }
    }

    /// What the VM reads from a DBGWCR<n>_EL1 that holds `value`.
    pub(crate) const fn kept_watchpoint(&self, value: u64) -> u64 {
        value & WCR_BITS
    }

    /// What the CPU's register gets for DBGBCR`n`_EL1.
    pub(crate) const fn breakpoint(&self, n: usize, value: u64) -> u64 {
        let value = self.kept_breakpoint(n, value);
        if value & DBGBCRn_EL1_E_MASK == 0 {
            return 0;
        }
        match (value & DBGBCRn_EL1_BT_MASK) >> DBGBCRn_EL1_BT_SHIFT {
            DBGBCRn_EL1_BT_LINKED_ADDRESS => self.linked(value, DBGBCRn_EL1_LBN_MASK),
            DBGBCRn_EL1_BT_ADDRESS | DBGBCRn_EL1_BT_CONTEXT | DBGBCRn_EL1_BT_LINKED_CONTEXT => {
                value & !DBGBCRn_EL1_LBN_MASK
            }
            DBGBCRn_EL1_BT_CONTEXTIDR_EL1 | DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL1
                if self.contextidr_types =>
            {
                value & !DBGBCRn_EL1_LBN_MASK
            }
            // Mismatches are for AArch32 at EL1, the others for a VM that has EL2 in
            // hardware, which none has: what KVM runs a guest hypervisor in is EL1.
            _ => 0,
        }
    }

    /// What the CPU's register gets for DBGWCR`n`_EL1.
    pub(crate) const fn watchpoint(&self, n: usize, value: u64) -> u64 {
        let value = self.kept_watchpoint(value);
        if value & DBGWCRn_EL1_E_MASK == 0 || n >= self.watchpoints {
            0
        } else if value & DBGWCRn_EL1_WT_MASK != 0 {
            self.linked(value, DBGWCRn_EL1_LBN_MASK)
        } else {
            value & !DBGWCRn_EL1_LBN_MASK
        }
    }

    /// `value` with its link to where the CPU has that breakpoint, or 0 if the VM has no
    /// context-aware breakpoint of that number.
    const fn linked(&self, value: u64, lbn: u64) -> u64 {
        let shift = lbn.trailing_zeros();
        let n = ((value & lbn) >> shift) as usize;
        if !self.mapping.vm().is_context_aware(n) {
            return 0;
        }
        match self.mapping.physical(n) {
            Some(physical) => (value & !lbn) | ((physical as u64) << shift),
            None => 0,
        }
    }

    /// Takes over `register` from `view`, which is the VM's, to `image`, which is for the
    /// CPU. Gives it in `view` the value that the VM is to read back.
    ///
    /// Returns the number of the CPU's register, and its value; [`None`] if the VM does
    /// not have the register, and so no other has changed.
    pub(crate) fn update(
        &self,
        register: Register,
        view: &mut Registers,
        image: &mut Registers,
    ) -> Option<(usize, u64)> {
        if !self.has(register) {
            return None;
        }
        let (number, value, slot) = match register {
            Register::BreakpointValue(n) => {
                let physical = self.mapping.physical(n)?;
                let value = *view.dbg_bvr.get(n)?;
                (physical, value, image.dbg_bvr.get_mut(physical)?)
            }
            Register::BreakpointControl(n) => {
                let physical = self.mapping.physical(n)?;
                let kept = view.dbg_bcr.get_mut(n)?;
                *kept = self.kept_breakpoint(n, *kept);
                let value = self.breakpoint(n, *kept);
                (physical, value, image.dbg_bcr.get_mut(physical)?)
            }
            Register::WatchpointValue(n) => (n, *view.dbg_wvr.get(n)?, image.dbg_wvr.get_mut(n)?),
            Register::WatchpointControl(n) => {
                let kept = view.dbg_wcr.get_mut(n)?;
                *kept = self.kept_watchpoint(*kept);
                (n, self.watchpoint(n, *kept), image.dbg_wcr.get_mut(n)?)
            }
        };
        *slot = value;
        Some((number, value))
    }

    /// Makes `image` anew. Registers of the CPU that stand for none of the VM's are
    /// disabled.
    pub(crate) fn derive(&self, view: &mut Registers, image: &mut Registers) {
        *image = Registers::default();
        for n in 0..MAX {
            for register in [
                Register::BreakpointValue(n),
                Register::BreakpointControl(n),
                Register::WatchpointValue(n),
                Register::WatchpointControl(n),
            ] {
                self.update(register, view, image);
            }
        }
    }
}

/// Whether a VM with that many breakpoints and watchpoints has `register`.
pub(crate) const fn has(vm: Topology, watchpoints: usize, register: Register) -> bool {
    match register {
        Register::BreakpointValue(n) | Register::BreakpointControl(n) => n < vm.breakpoints(),
        Register::WatchpointValue(n) | Register::WatchpointControl(n) => n < watchpoints,
    }
}

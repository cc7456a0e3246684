// SPDX-License-Identifier: GPL-2.0

//! Translation of a VM's breakpoint and watchpoint registers to those of the CPU.
//!
//! A control register may name another breakpoint, to which it is linked, and its type may
//! be one that the breakpoint does not have. Where the architecture permits several results
//! for such a value, the translation makes the breakpoint or watchpoint match nothing and
//! affects no other register: a link that hardware would apply to another breakpoint must
//! not reach one of the CPU's spare breakpoints.
//!
//! Pure logic: no state, every function total.

use super::{topology::*, Registers};
use kernel::{
    arm64::sysreg::*,
    num::Bounded, //
};

/// Bits of DBGBCR<n>_EL1 that a VM has. The others are RES0: they belong to
/// FEAT_Debugv8p9, FEAT_BWE, FEAT_ABLE and FEAT_RME, which KVM hides.
const BCR_BITS: u64 = DBGBCRn_EL1::BT_MASK
    | DBGBCRn_EL1::LBN_MASK
    | DBGBCRn_EL1::SSC_MASK
    | DBGBCRn_EL1::HMC_MASK
    | DBGBCRn_EL1::BAS_MASK
    | DBGBCRn_EL1::PMC_MASK
    | DBGBCRn_EL1::E_MASK;

/// Bits of DBGWCR<n>_EL1 that a VM has. The others are RES0 too.
const WCR_BITS: u64 = DBGWCRn_EL1::MASK_MASK
    | DBGWCRn_EL1::WT_MASK
    | DBGWCRn_EL1::LBN_MASK
    | DBGWCRn_EL1::SSC_MASK
    | DBGWCRn_EL1::HMC_MASK
    | DBGWCRn_EL1::BAS_MASK
    | DBGWCRn_EL1::LSC_MASK
    | DBGWCRn_EL1::PAC_MASK
    | DBGWCRn_EL1::E_MASK;

/// Bits of DBGWVR<n>_EL1: an address, whose bits [1:0] are RES0.
const WVR_BITS: u64 = !0b11;

/// BT[3] and BT[1], which are RES0 in a breakpoint that is not context-aware.
const BT_CONTEXT: u64 = 0b1010 << DBGBCRn_EL1::BT_SHIFT;

/// BAS[3] and BAS[1], which are copies of the bits below them.
const BAS_COPIES: u64 = 0b1010 << DBGBCRn_EL1::BAS_SHIFT;

/// A debug register of a VM, with its number.
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
    /// Returns the register with the encoding (2, 0, 0, `crm`, `op2`).
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

    /// Returns op2 and CRm of this register's encoding.
    pub(crate) const fn encoding(self) -> (u8, u8) {
        match self {
            Self::BreakpointValue(n) => (4, n as u8),
            Self::BreakpointControl(n) => (5, n as u8),
            Self::WatchpointValue(n) => (6, n as u8),
            Self::WatchpointControl(n) => (7, n as u8),
        }
    }

    /// Returns the value of this register in `registers`.
    pub(crate) fn of(self, registers: &Registers) -> u64 {
        let (values, n) = match self {
            Self::BreakpointValue(n) => (&registers.dbg_bvr, n),
            Self::BreakpointControl(n) => (&registers.dbg_bcr, n),
            Self::WatchpointValue(n) => (&registers.dbg_wvr, n),
            Self::WatchpointControl(n) => (&registers.dbg_wcr, n),
        };
        values.get(n).copied().unwrap_or(0)
    }

    /// Sets this register in `registers`.
    pub(crate) fn set(self, registers: &mut Registers, value: u64) {
        let (values, n) = match self {
            Self::BreakpointValue(n) => (&mut registers.dbg_bvr, n),
            Self::BreakpointControl(n) => (&mut registers.dbg_bcr, n),
            Self::WatchpointValue(n) => (&mut registers.dbg_wvr, n),
            Self::WatchpointControl(n) => (&mut registers.dbg_wcr, n),
        };
        if let Some(slot) = values.get_mut(n) {
            *slot = value;
        }
    }
}

/// The breakpoint and watchpoint registers that a VM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// The breakpoints.
    pub(crate) topology: Topology,
    /// The number of watchpoints.
    pub(crate) watchpoints: usize,
    /// Whether the types that name one of the CONTEXTIDR registers exist (FEAT_VHE).
    pub(crate) contextidr_types: bool,
    /// Whether EL0 can be AArch32, so that DBGBCR<n>_EL1.BAS exists.
    pub(crate) aarch32: bool,
}

impl Features {
    /// Returns whether the VM has `register`. Accesses to other registers are UNDEFINED.
    pub(crate) const fn has(&self, register: Register) -> bool {
        match register {
            Register::BreakpointValue(n) | Register::BreakpointControl(n) => {
                n < self.topology.breakpoints()
            }
            Register::WatchpointValue(n) | Register::WatchpointControl(n) => n < self.watchpoints,
        }
    }

    /// Changes `register` in `view`, which the guest has written, to the value that the guest
    /// reads back: reserved bits do not keep written values.
    pub(crate) fn keep(&self, register: Register, view: &mut Registers) {
        match register {
            Register::BreakpointControl(n) => {
                if let Some(control) = view.dbg_bcr.get_mut(n) {
                    *control = self.kept_breakpoint(n, (*control).into()).into();
                }
            }
            Register::WatchpointControl(n) => {
                if let Some(control) = view.dbg_wcr.get_mut(n) {
                    *control = self.kept_watchpoint((*control).into()).into();
                }
            }
            Register::WatchpointValue(n) => {
                if let Some(value) = view.dbg_wvr.get_mut(n) {
                    *value &= WVR_BITS;
                }
            }
            // Which bits are RES0 depends on the type of the breakpoint.
            Register::BreakpointValue(_) => {}
        }
    }

    /// Returns the value that DBGBCR`n`_EL1 reads as after a write of `value`.
    pub(crate) const fn kept_breakpoint(&self, n: usize, value: DBGBCRn_EL1) -> DBGBCRn_EL1 {
        let mut value = value.into_raw() & BCR_BITS;
        if !self.topology.is_context_aware(n) {
            value &= !BT_CONTEXT;
        }
        if self.aarch32 {
            value &= !BAS_COPIES;
            value |= (value & DBGBCRn_EL1::BAS_MASK) << 1;
        } else {
            value |= DBGBCRn_EL1::BAS_MASK;
        }
        DBGBCRn_EL1::from_raw(value)
    }

    /// Returns the value that any DBGWCR<n>_EL1 reads as after a write of `value`.
    pub(crate) const fn kept_watchpoint(&self, value: DBGWCRn_EL1) -> DBGWCRn_EL1 {
        DBGWCRn_EL1::from_raw(value.into_raw() & WCR_BITS)
    }
}

/// A VM on a CPU whose counts differ.
///
/// # Invariants
///
/// `mapping.vm()` is `features.topology`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    features: Features,
    mapping: Mapping,
}

impl Guest {
    /// Creates the guest; returns [`None`] if there is no mapping, see [`Mapping::new`].
    pub(crate) const fn new(features: Features, cpu: Topology) -> Option<Self> {
        match Mapping::new(features.topology, cpu) {
            // INVARIANT: The mapping was created with `features.topology`.
            Some(mapping) => Some(Self { features, mapping }),
            None => None,
        }
    }

    /// Returns the value of the CPU's register for `value` in the VM's DBGBCR`n`_EL1.
    pub(crate) fn breakpoint(&self, n: usize, value: DBGBCRn_EL1) -> DBGBCRn_EL1 {
        let value = self.features.kept_breakpoint(n, value);
        let disabled = DBGBCRn_EL1::from_raw(0);

        if !value.E().into_bool() {
            disabled
        } else if value.BT() == DBGBCRn_EL1_BT_LINKED_ADDRESS {
            self.linked(value.LBN())
                .map_or(disabled, |lbn| value.with_LBN(lbn))
        } else if self.has_unlinked(value.BT()) {
            value.with_const_LBN::<0>()
        } else {
            disabled
        }
    }

    /// Returns whether `bt` is a type that the VM has and that names no other breakpoint.
    ///
    /// Mismatch types need AArch32 at EL1. Types that name VMID or CONTEXTIDR_EL2 need EL2 in
    /// hardware, which no VM has: KVM runs a guest hypervisor at EL1.
    fn has_unlinked(&self, bt: Bounded<u64, 4>) -> bool {
        let always = [
            DBGBCRn_EL1_BT_ADDRESS,
            DBGBCRn_EL1_BT_CONTEXT,
            DBGBCRn_EL1_BT_LINKED_CONTEXT,
        ];
        let contextidr = [
            DBGBCRn_EL1_BT_CONTEXTIDR_EL1,
            DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL1,
        ];

        always.contains(&bt) || (self.features.contextidr_types && contextidr.contains(&bt))
    }

    /// Returns the value of the CPU's register for `value` in the VM's DBGWCR`n`_EL1.
    pub(crate) fn watchpoint(&self, n: usize, value: DBGWCRn_EL1) -> DBGWCRn_EL1 {
        let value = self.features.kept_watchpoint(value);
        let disabled = DBGWCRn_EL1::from_raw(0);
        if !value.E().into_bool() || n >= self.features.watchpoints {
            disabled
        } else if value.WT().into_bool() {
            self.linked(value.LBN())
                .map_or(disabled, |lbn| value.with_LBN(lbn))
        } else {
            value.with_const_LBN::<0>()
        }
    }

    /// Returns the physical number of the VM's breakpoint `lbn`; [`None`] if the VM has no
    /// context-aware breakpoint of that number.
    fn linked(&self, lbn: Bounded<u64, 4>) -> Option<Bounded<u64, 4>> {
        let n = lbn.get() as usize;

        if !self.mapping.vm().is_context_aware(n) {
            return None;
        }
        Bounded::try_new(self.mapping.physical(n)? as u64)
    }

    /// Updates `image`, the CPU's registers, from `register` in `view`, the VM's registers.
    ///
    /// Returns the physical number and the value; [`None`], without a change, if the VM does
    /// not have the register.
    pub(crate) fn update(
        &self,
        register: Register,
        view: &Registers,
        image: &mut Registers,
    ) -> Option<(usize, u64)> {
        if !self.features.has(register) {
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
                let value = self.breakpoint(n, (*view.dbg_bcr.get(n)?).into()).into();
                (physical, value, image.dbg_bcr.get_mut(physical)?)
            }
            Register::WatchpointValue(n) => (n, *view.dbg_wvr.get(n)?, image.dbg_wvr.get_mut(n)?),
            Register::WatchpointControl(n) => {
                let value = self.watchpoint(n, (*view.dbg_wcr.get(n)?).into()).into();
                (n, value, image.dbg_wcr.get_mut(n)?)
            }
        };
        *slot = value;
        Some((number, value))
    }

    /// Rebuilds `image` from `view`, after fixing reserved bits in `view`. Registers of the CPU
    /// that correspond to none of the VM are disabled.
    pub(crate) fn derive(&self, view: &mut Registers, image: &mut Registers) {
        *image = Registers::default();
        for n in 0..MAX {
            for register in [
                Register::BreakpointValue(n),
                Register::BreakpointControl(n),
                Register::WatchpointValue(n),
                Register::WatchpointControl(n),
            ] {
                if self.features.has(register) {
                    self.features.keep(register, view);
                    self.update(register, view, image);
                }
            }
        }
    }
}

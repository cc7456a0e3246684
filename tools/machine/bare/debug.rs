// SPDX-License-Identifier: GPL-2.0

//! Tests breakpoints and watchpoints: their number, their traps, and their matches.

use crate::{cpu, sysreg::*, Expected, Report, FGT, MDCR_EL2};

mod breakpoints;
mod watchpoints;

const CONTEXT: u64 = 0x1234;
/// `MDSCR_EL1`: debug exceptions, at EL1 as well.
const ARMED: u64 = MDSCR_EL1_MDE | MDSCR_EL1_KDE;
/// The largest number of registers in a family.
const MAX: u64 = 16;

/// A function that writes `value`, if given, to a register, and reads the register.
type Access = fn(Option<u64>) -> u64;

/// Accesses the register with this encoding.
fn register<const REGISTER: u32>(value: Option<u64>) -> u64 {
    if let Some(value) = value {
        cpu::write::<REGISTER>(value);
    }
    cpu::read::<REGISTER>()
}

/// Defines the registers of one family, by number.
macro_rules! family {
    ($name:ident, $op2:ident) => {
        family!($name, $op2, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    };
    ($name:ident, $op2:ident, $($n:literal)*) => {
        const $name: [Access; MAX as usize] =
            [$(register::<{ debug_register($n, $op2) }>),*];
    };
}

family!(DBGBVR, DBGBVRn_EL1_Op2);
family!(DBGBCR, DBGBCRn_EL1_Op2);
family!(DBGWVR, DBGWVRn_EL1_Op2);
family!(DBGWCR, DBGWCRn_EL1_Op2);

/// Writes and reads both registers of breakpoint `n`: two accesses each.
extern "C" fn access_breakpoint(n: u64) {
    let n = n as usize;

    DBGBVR[n](Some(0x1000));
    DBGBCR[n](Some(0));
}

/// Does the same with watchpoint `n`.
extern "C" fn access_watchpoint(n: u64) {
    let n = n as usize;

    DBGWVR[n](Some(0x1000));
    DBGWCR[n](Some(0));
}

/// A breakpoint: its value, and `DBGBCR<n>_EL1` with E set.
#[derive(Clone, Copy)]
struct Breakpoint {
    value: u64,
    control: u64,
}

impl Breakpoint {
    /// Returns a breakpoint at EL1 of type `bt`.
    const fn of(bt: u64, value: u64) -> Self {
        let control = DBGBCRn_EL1_E
            | field(DBGBCRn_EL1_PMC, PMC_EL1)
            | field(DBGBCRn_EL1_BAS, BAS_A64)
            | field(DBGBCRn_EL1_BT, bt);

        Self { value, control }
    }

    /// Returns an address breakpoint that is linked to breakpoint `n`.
    const fn linked(address: u64, n: u64) -> Self {
        let this = Self::of(DBGBCRn_EL1_BT_LINKED_ADDRESS, address);

        Self {
            control: this.control | field(DBGBCRn_EL1_LBN, n),
            ..this
        }
    }

    /// Sets breakpoint `n` to this.
    fn set(&self, n: u64) {
        DBGBVR[n as usize](Some(self.value));
        DBGBCR[n as usize](Some(self.control));
    }
}

/// A breakpoint to which breakpoints and watchpoints can be linked.
const IN_CONTEXT: Breakpoint = Breakpoint::of(DBGBCRn_EL1_BT_LINKED_CONTEXT, CONTEXT);

/// Disables each breakpoint and each watchpoint.
fn disarm(expected: &Expected) {
    (0..expected.brps).for_each(|n| _ = DBGBCR[n as usize](Some(0)));
    (0..expected.wrps).for_each(|n| _ = DBGWCR[n as usize](Some(0)));
}

/// Returns how often `function` takes a debug exception of `class` at EL1 with `mdscr` in
/// `MDSCR_EL1`; the first one disables further ones.
fn hits(mdscr: u64, function: extern "C" fn(u64), argument: u64, class: u64) -> u64 {
    write!("mdscr_el1", mdscr);
    let taken = cpu::at(1, function, argument);

    if taken.count != 0 && (taken.el != 1 || taken.class() != class) {
        return u64::MAX;
    }
    taken.count
}

/// Checks the counts in the ID register.
fn counts(report: &mut Report, expected: &Expected) {
    let dfr0 = read!("id_aa64dfr0_el1");
    let [brps, wrps, ctx_cmps] = [
        ID_AA64DFR0_EL1_BRPs,
        ID_AA64DFR0_EL1_WRPs,
        ID_AA64DFR0_EL1_CTX_CMPs,
    ]
    .map(|mask| field_of(dfr0, mask));

    for (have, want, name) in [
        (brps, expected.brps, "ID_AA64DFR0_EL1.BRPs"),
        (wrps, expected.wrps, "ID_AA64DFR0_EL1.WRPs"),
        (ctx_cmps, expected.ctx_cmps, "ID_AA64DFR0_EL1.CTX_CMPs"),
    ] {
        report.same(have, want - 1, name, "ID_AA64DFR0_EL1");
    }
}

/// A family of registers: the name of one, an access to a pair of registers, the number of pairs,
/// and the rule for it.
type Family = (
    &'static str,
    extern "C" fn(u64),
    fn(&Expected) -> u64,
    &'static str,
);

const FAMILIES: [Family; 2] = [
    (
        "breakpoint",
        access_breakpoint,
        |expected| expected.brps,
        "DBGBCR<n>_EL1: n is less than NUM_BREAKPOINTS",
    ),
    (
        "watchpoint",
        access_watchpoint,
        |expected| expected.wrps,
        "DBGWCR<n>_EL1: n is less than NUM_WATCHPOINTS",
    ),
];

/// Checks which registers exist.
fn presence(report: &mut Report, expected: &Expected) {
    for n in 0..MAX {
        for (name, access, count, rule) in FAMILIES {
            let taken = cpu::at(1, access, n);
            let (good, is) = if n < count(expected) {
                (taken.count == 0, "there")
            } else {
                (taken.undefined(4) && taken.el == 1, "UNDEFINED")
            };
            report.check(good, format_args!("{name} {n} is {is}"), rule);
        }
    }
}

/// Checks the traps of all debug registers.
fn traps(report: &mut Report) {
    write!("mdcr_el2", MDCR_EL2 | MDCR_EL2_TDA);
    let taken = cpu::at(1, access_breakpoint, 0);
    report.check(
        taken.trapped(4, 2),
        format_args!("MDCR_EL2.TDA traps breakpoint registers to EL2"),
        "MDCR_EL2.TDA",
    );
    write!("mdcr_el2", MDCR_EL2);
}

/// Checks the traps of one family.
fn fine_grained_traps(report: &mut Report) {
    for (bit, name) in [
        (HDFGRTR_EL2_DBGBCRn_EL1, "DBGBCR"),
        (HDFGRTR_EL2_DBGBVRn_EL1, "DBGBVR"),
    ] {
        let (reads, writes) = cpu::fine_grained(bit, access_breakpoint);

        report.check(
            reads.trapped(1, 2) && reads.read(),
            format_args!("HDFGRTR_EL2 traps reads of {name}<n>_EL1 and no other access"),
            "HDFGRTR_EL2",
        );
        report.check(
            writes.trapped(1, 2) && !writes.read(),
            format_args!("HDFGWTR_EL2 traps writes of {name}<n>_EL1 and no other access"),
            "HDFGWTR_EL2",
        );
    }
}

/// Checks that without FEAT_FGT none of its registers exists.
fn no_fine_grained_traps(report: &mut Report) {
    cpu::clear();
    let _ = read!(SYS_HDFGRTR_EL2);
    report.check(
        cpu::taken().undefined(1),
        format_args!("without FEAT_FGT, HDFGRTR_EL2 is UNDEFINED"),
        "HDFGRTR_EL2",
    );
}

/// Runs all checks.
pub fn test(report: &mut Report, expected: &Expected) {
    counts(report, expected);
    presence(report, expected);
    traps(report);
    if expected.has(FGT) {
        fine_grained_traps(report);
    } else {
        no_fine_grained_traps(report);
    }
    breakpoints::test(report, expected);
    watchpoints::test(report, expected);
}

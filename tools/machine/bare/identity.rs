// SPDX-License-Identifier: GPL-2.0

//! The memory model control, and the registers that say what a CPU has.

use crate::{cpu, Expected, Report};

const AIDR_TSO: u64 = 1 << 9;
const ACTLR_TSO: u64 = 1 << 1;
/// `tso=el12` and `tso=impdef`: EL1 and EL2 have a register each.
const EL12: u64 = 3;
const IMPDEF: u64 = 4;
/// `HCR_EL2`: RW, EL2 as the host's, and the trap of `ACTLR_EL1`.
const HCR_E2H: u64 = 1 << 34;
const HCR_RW: u64 = 1 << 31;
const HCR_TACR: u64 = 1 << 21;
const HCR_FWB: u64 = 1 << 46;

extern "C" fn access_actlr(_: u64) {
    let value = read!("actlr_el1");
    write!("actlr_el1", value);
}

fn features(report: &mut Report, expected: &Expected) {
    let ctr = read!("ctr_el0");

    for (have, want, name) in [
        // FEAT_FGT2 is above FEAT_FGT.
        (
            (read!("id_aa64mmfr0_el1") >> 56 & 0xf).min(1),
            expected.features & 1,
            "FEAT_FGT",
        ),
        (
            read!("id_aa64mmfr2_el1") >> 40 & 0xf,
            expected.features >> 1 & 1,
            "FEAT_S2FWB",
        ),
        (ctr >> 29 & 1, expected.features >> 2 & 1, "CTR_EL0.DIC"),
        (ctr >> 28 & 1, expected.features >> 3 & 1, "CTR_EL0.IDC"),
        (ctr & 0xf, expected.iminline, "CTR_EL0.IminLine"),
        (
            read!("id_aa64dfr0_el1") >> 32 & 0xf,
            expected.spe * 2,
            "ID_AA64DFR0_EL1.PMSVer",
        ),
    ] {
        report.same(have, want, name, "ID registers");
    }
    write!("hcr_el2", HCR_RW | HCR_FWB);
    let stored = read!("hcr_el2") & HCR_FWB;
    write!("hcr_el2", HCR_RW);
    report.check(
        (stored != 0) == (expected.features & 2 != 0),
        format_args!("HCR_EL2.FWB is there with FEAT_S2FWB alone"),
        "HCR_EL2.FWB",
    );
}

/// `AIDR_EL1` and `ACTLR_EL1` are IMPLEMENTATION DEFINED: what is checked is what
/// the software that uses them relies on.
pub fn test(report: &mut Report, expected: &Expected) {
    features(report, expected);
    report.same(
        read!("aidr_el1") & AIDR_TSO,
        if expected.tso != 0 { AIDR_TSO } else { 0 },
        "AIDR_EL1 bit 9 says whether there is a memory model control",
        "AIDR_EL1",
    );
    report.same(
        read!("actlr_el1") & ACTLR_TSO,
        0,
        "TSO is off after reset",
        "ACTLR_EL1",
    );
    let reset = read!("actlr_el1");
    write!("actlr_el1", u64::MAX);
    report.same(
        read!("actlr_el1"),
        reset
            | if matches!(expected.tso, 1 | EL12 | IMPDEF) {
                ACTLR_TSO
            } else {
                0
            },
        "ACTLR_EL1 stores bit 1 where there is a control that takes writes, and nothing else",
        "ACTLR_EL1",
    );
    write!("actlr_el1", 0);
    report.same(
        read!("actlr_el1") & ACTLR_TSO,
        0,
        "TSO can be switched off",
        "ACTLR_EL1",
    );

    report.same(
        cpu::at(1, access_actlr, 0).count,
        0,
        "EL1 may access ACTLR_EL1",
        "HCR_EL2.TACR",
    );
    write!("hcr_el2", HCR_RW | HCR_TACR);
    let taken = cpu::at(1, access_actlr, 0);
    write!("hcr_el2", HCR_RW);
    report.check(
        taken.count == 2 && taken.el == 2 && taken.class() == 0x18,
        format_args!("HCR_EL2.TACR traps reads and writes of ACTLR_EL1 to EL2"),
        "HCR_EL2.TACR",
    );
}

extern "C" fn set_actlr(value: u64) {
    write!("actlr_el1", value);
}

extern "C" fn set_el12(value: u64) {
    write!("s3_5_c1_c0_1", value);
}

extern "C" fn set_impdef(value: u64) {
    write!("s3_6_c15_c14_6", value);
}

/// Runs `set` at EL2 and returns what it has done: exceptions, TSO of EL1 and TSO of EL2.
fn done_by_el2(hcr: u64, set: extern "C" fn(u64)) -> (u64, u64, u64) {
    write!("actlr_el1", 0);
    write!("actlr_el2", 0);
    write!("hcr_el2", hcr);
    let taken = cpu::at(2, set, ACTLR_TSO);
    write!("hcr_el2", HCR_RW);
    let bits = [read!("actlr_el1"), read!("actlr_el2")].map(|actlr| actlr & ACTLR_TSO);
    write!("actlr_el1", 0);
    (taken.count, bits[0], bits[1])
}

/// A register for each of EL1 and EL2 is what the software for CPUs that have it relies on: EL2's
/// is the one that an access to ACTLR_EL1 is redirected to, as for the registers in "Redirection of
/// accesses to EL1 registers" (HCR_EL2.E2H), and EL1's has one encoding or the other.
pub fn test_apart(report: &mut Report, expected: &Expected) {
    let apart = matches!(expected.tso, EL12 | IMPDEF);
    let none = (1, 0, 0);
    let el1 = (
        0,
        if expected.tso == 1 || apart {
            ACTLR_TSO
        } else {
            0
        },
        0,
    );
    let el2 = (0, 0, ACTLR_TSO);

    for (hcr, set, want, fact) in [
        (
            HCR_RW,
            set_actlr as extern "C" fn(u64),
            el1,
            "ACTLR_EL1 is EL1's",
        ),
        (HCR_RW, set_el12, none, "S3_5_C1_C0_1 is UNDEFINED"),
        (HCR_RW, set_impdef, none, "S3_6_C15_C14_6 is UNDEFINED"),
        (
            HCR_RW | HCR_E2H,
            set_actlr,
            if apart { el2 } else { el1 },
            "with E2H, ACTLR_EL1 is EL2's, if it has one",
        ),
        (
            HCR_RW | HCR_E2H,
            set_el12,
            if expected.tso == EL12 { el1 } else { none },
            "with E2H, S3_5_C1_C0_1 is EL1's (el12) or UNDEFINED",
        ),
        (
            HCR_RW | HCR_E2H,
            set_impdef,
            if expected.tso == IMPDEF { el1 } else { none },
            "with E2H, S3_6_C15_C14_6 is EL1's (impdef) or UNDEFINED",
        ),
    ] {
        let have = done_by_el2(hcr, set);
        report.check(have == want, format_args!("at EL2, {fact}"), "ACTLR_EL1");
        if have != want {
            report.note(format_args!("{have:x?}, not {want:x?}"));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The memory model control, and the registers that say what a CPU has.

use crate::{cpu, Report};

const AIDR_TSO: u64 = 1 << 9;
const ACTLR_TSO: u64 = 1 << 1;
/// `HCR_EL2`: RW, and the trap of `ACTLR_EL1`.
const HCR_RW: u64 = 1 << 31;
const HCR_TACR: u64 = 1 << 21;

extern "C" fn access_actlr(_: u64) {
    let value = read!("actlr_el1");
    write!("actlr_el1", value);
}

/// `AIDR_EL1` and `ACTLR_EL1` are IMPLEMENTATION DEFINED: what is checked is what
/// the software that uses them relies on.
pub fn test(report: &mut Report) {
    let has = read!("aidr_el1") & AIDR_TSO != 0;

    report.same(
        read!("actlr_el1") & ACTLR_TSO,
        0,
        "TSO is off after reset",
        "ACTLR_EL1",
    );
    write!("actlr_el1", u64::MAX);
    let stored = read!("actlr_el1");
    if has {
        report.check(
            stored == ACTLR_TSO || stored == 0,
            format_args!("ACTLR_EL1 stores bit 1 ({}) and no other", stored >> 1 & 1),
            "ACTLR_EL1",
        );
    } else {
        report.same(
            stored & ACTLR_TSO,
            0,
            "without AIDR_EL1 bit 9, ACTLR_EL1 bit 1 is no storage",
            "ACTLR_EL1",
        );
    }
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

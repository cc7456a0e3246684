// SPDX-License-Identifier: GPL-2.0

//! Registers, who owns the buffer, what traps.

use super::*;

const SYSREG_TRAP: u64 = 0x18;

/// A read and a write of one register, which both may be trapped.
macro_rules! access {
    ($register:literal) => {{
        extern "C" fn access(_: u64) {
            let value = read!($register);
            write!($register, value);
        }
        access as extern "C" fn(u64)
    }};
}

/// The registers that EL1 may write, with their bit of HDFGRTR_EL2 and HDFGWTR_EL2.
fn writable() -> [(&'static str, u32, extern "C" fn(u64)); 9] {
    [
        ("PMBLIMITR", 23, access!("s3_0_c9_c10_0")),
        ("PMBPTR", 24, access!("s3_0_c9_c10_1")),
        ("PMBSR", 25, access!("s3_0_c9_c10_3")),
        ("PMSCR", 26, access!("s3_0_c9_c9_0")),
        ("PMSEVFR", 27, access!("s3_0_c9_c9_5")),
        ("PMSFCR", 28, access!("s3_0_c9_c9_4")),
        ("PMSICR", 29, access!("s3_0_c9_c9_2")),
        ("PMSIRR", 31, access!("s3_0_c9_c9_3")),
        ("PMSLATFR", 32, access!("s3_0_c9_c9_6")),
    ]
}

extern "C" fn read_identification(_: u64) {
    let _ = (read!("s3_0_c9_c9_7"), read!("s3_0_c9_c10_7"));
}

/// Reads `PMBIDR_EL1` and leaves it where the caller finds it.
extern "C" fn read_identity(to: u64) {
    let value = read!("s3_0_c9_c10_7");
    // SAFETY: The caller's variable.
    unsafe { (to as *mut u64).write_volatile(value) };
}

pub(super) fn present(report: &mut Report, expected: &Expected) {
    let dfr0 = read!("id_aa64dfr0_el1");
    let idr = read!("s3_0_c9_c9_7");

    report.check(
        dfr0 >> 32 & 0xf >= 2,
        format_args!("FEAT_SPEv1p1 or later"),
        "ID_AA64DFR0_EL1.PMSVer",
    );
    report.same(
        idr & 7,
        7,
        "filtering by event, type and latency",
        "PMSIDR_EL1",
    );
    report.same(
        idr >> 12 & 0xf,
        6,
        "records are at most 64 bytes",
        "PMSIDR_EL1.MaxSize",
    );
    for (name, mdcr, function) in [
        (
            "MDCR_EL2.TPMS traps PMSCR_EL1",
            E2PB_EL1 | TPMS,
            access!("s3_0_c9_c9_0"),
        ),
        (
            "MDCR_EL2.E2PB 0b10 traps PMBPTR_EL1",
            2 << 12,
            access!("s3_0_c9_c10_1"),
        ),
        (
            "MDCR_EL2.E2PB 0b00 traps PMBPTR_EL1",
            0,
            access!("s3_0_c9_c10_1"),
        ),
    ] {
        write!("mdcr_el2", mdcr);
        let taken = cpu::at(1, function, 0);
        report.check(
            taken.count == 2 && taken.el == 2 && taken.class() == SYSREG_TRAP,
            format_args!("{name} to EL2"),
            "MDCR_EL2",
        );
    }
    write!("mdcr_el2", E2PB_EL1);
    write!("mdcr_el3", 2 << 12);
    let taken = cpu::at(1, access!("s3_0_c9_c9_0"), 0);
    report.check(
        taken.count == 2 && taken.el == 3 && taken.class() == SYSREG_TRAP,
        format_args!("MDCR_EL3.NSPB 0b10 traps PMSCR_EL1 to EL3"),
        "MDCR_EL3.NSPB",
    );
    write!("mdcr_el3", 3 << 12);
    report.same(
        cpu::at(1, access!("s3_0_c9_c10_1"), 0).count,
        0,
        "EL1 may access its buffer",
        "MDCR_EL2.E2PB 0b11",
    );
    if expected.features & 1 != 0 {
        for (name, bit, function) in writable() {
            write!("s3_4_c3_c1_4", 1 << bit);
            let reads = cpu::at(1, function, 0);
            write!("s3_4_c3_c1_4", 0);
            write!("s3_4_c3_c1_5", 1 << bit);
            let writes = cpu::at(1, function, 0);
            write!("s3_4_c3_c1_5", 0);
            report.check(
                reads.count == 1
                    && reads.el == 2
                    && reads.class() == SYSREG_TRAP
                    && reads.esr & 1 == 1
                    && writes.count == 1
                    && writes.el == 2
                    && writes.class() == SYSREG_TRAP
                    && writes.esr & 1 == 0,
                format_args!("HDFGRTR_EL2 and HDFGWTR_EL2 trap {name}_EL1"),
                "HDFGRTR_EL2, HDFGWTR_EL2",
            );
        }
        // PMSIDR_EL1 and PMBIDR_EL1.
        for bit in [30, 63] {
            write!("s3_4_c3_c1_4", 1 << bit);
            let taken = cpu::at(1, read_identification, 0);
            write!("s3_4_c3_c1_4", 0);
            report.check(
                taken.count == 1 && taken.el == 2,
                format_args!("HDFGRTR_EL2 bit {bit} traps one identification register"),
                "HDFGRTR_EL2",
            );
        }
    }
    for (e2pb, want) in [(0, 1), (3, 0)] {
        let mut identity = 0u64;
        write!("mdcr_el2", e2pb << 12);
        cpu::at(1, read_identity, core::ptr::addr_of_mut!(identity) as u64);
        report.same(
            identity >> 4 & 1,
            want,
            "PMBIDR_EL1.P says whether EL1 may program the buffer",
            "PMBIDR_EL1.P",
        );
    }
    write!("mdcr_el2", 0);
    let mut identity = 0u64;
    cpu::at(2, read_identity, core::ptr::addr_of_mut!(identity) as u64);
    report.same(
        identity >> 4 & 1,
        0,
        "EL2 may program the buffer",
        "PMBIDR_EL1.P",
    );
    let at_el3 = read!("s3_0_c9_c10_7");
    report.same(
        at_el3 >> 4 & 1,
        0,
        "EL3 may program the buffer",
        "PMBIDR_EL1.P",
    );
    write!("mdcr_el2", E2PB_EL1);
    // With HCR_EL2.E2H, PMSCR_EL1 at EL2 is PMSCR_EL2; checked from EL2.
    write!("s3_0_c9_c9_0", 0x1b);
    write!("hcr_el2", HCR_RW | 1 << 34);
    cpu::at(2, write_redirected, 0);
    write!("hcr_el2", HCR_RW);
    report.same(
        read!("s3_4_c9_c9_0"),
        0x3,
        "with E2H, PMSCR_EL1 at EL2 is PMSCR_EL2",
        "PMSCR_EL2",
    );
    report.same(
        read!("s3_0_c9_c9_0"),
        0x8,
        "with E2H, PMSCR_EL12 is PMSCR_EL1",
        "PMSCR_EL1",
    );
    write!("s3_4_c9_c9_0", 0);
    write!("s3_0_c9_c9_0", 0);
}

extern "C" fn write_redirected(_: u64) {
    write!("s3_0_c9_c9_0", 0x3);
    write!("s3_5_c9_c9_0", 0x8);
}

pub(super) fn later_version(report: &mut Report) {
    let taken = cpu::at(1, access!("s3_0_c9_c9_1"), 0);
    report.check(
        taken.count == 2 && taken.class() == 0,
        format_args!("PMSNEVFR_EL1 is UNDEFINED before FEAT_SPEv1p2"),
        "PMSNEVFR_EL1",
    );
}

/// Without FEAT_SPE there is none of its registers.
pub(super) fn absent(report: &mut Report) {
    for (name, _, function) in writable() {
        let taken = cpu::at(1, function, 0);
        report.check(
            taken.count == 2 && taken.el == 1 && taken.class() == 0,
            format_args!("without FEAT_SPE, {name}_EL1 is UNDEFINED"),
            "FEAT_SPE",
        );
    }
}

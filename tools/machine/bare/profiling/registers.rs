// SPDX-License-Identifier: GPL-2.0

//! Tests registers, the ownership of the buffer, and traps.

use super::*;

/// Defines a read and a write of one register, which may both be trapped.
macro_rules! access {
    ($register:ident) => {{
        extern "C" fn access(_: u64) {
            let value = read!($register);
            write!($register, value);
        }
        access as Access
    }};
}

pub(super) use access;

pub(super) type Access = extern "C" fn(u64);

/// The registers that EL1 may write, with their bit in HDFGRTR_EL2 and HDFGWTR_EL2.
const WRITABLE: [(&str, u64, Access); 9] = [
    (
        "PMBLIMITR",
        HDFGRTR_EL2_PMBLIMITR_EL1,
        access!(SYS_PMBLIMITR_EL1),
    ),
    ("PMBPTR", HDFGRTR_EL2_PMBPTR_EL1, access!(SYS_PMBPTR_EL1)),
    ("PMBSR", HDFGRTR_EL2_PMBSR_EL1, access!(SYS_PMBSR_EL1)),
    ("PMSCR", HDFGRTR_EL2_PMSCR_EL1, access!(SYS_PMSCR_EL1)),
    ("PMSEVFR", HDFGRTR_EL2_PMSEVFR_EL1, access!(SYS_PMSEVFR_EL1)),
    ("PMSFCR", HDFGRTR_EL2_PMSFCR_EL1, access!(SYS_PMSFCR_EL1)),
    ("PMSICR", HDFGRTR_EL2_PMSICR_EL1, access!(SYS_PMSICR_EL1)),
    ("PMSIRR", HDFGRTR_EL2_PMSIRR_EL1, access!(SYS_PMSIRR_EL1)),
    (
        "PMSLATFR",
        HDFGRTR_EL2_PMSLATFR_EL1,
        access!(SYS_PMSLATFR_EL1),
    ),
];

/// Reads the ID registers of FEAT_SPE.
extern "C" fn read_identification(_: u64) {
    let _ = (read!(SYS_PMSIDR_EL1), read!(SYS_PMBIDR_EL1));
}

/// Reads `PMBIDR_EL1` into the variable at `to`.
extern "C" fn read_identity(to: u64) {
    let value = read!(SYS_PMBIDR_EL1);
    // SAFETY: `to` is the address of the caller's variable.
    unsafe { (to as *mut u64).write_volatile(value) };
}

/// Checks the ID registers.
fn identification(report: &mut Report, expected: &Expected) {
    const FILTERS: u64 = PMSIDR_EL1_FE | PMSIDR_EL1_FT | PMSIDR_EL1_FL;
    let version = field_of(read!("id_aa64dfr0_el1"), ID_AA64DFR0_EL1_PMSVer);
    let idr = read!(SYS_PMSIDR_EL1);

    report.same(
        version,
        expected.spe_version,
        "the version is that of the command line",
        "ID_AA64DFR0_EL1.PMSVer",
    );
    report.same(
        idr & FILTERS,
        FILTERS,
        "filtering by event, type and latency",
        "PMSIDR_EL1",
    );
    report.same(
        field_of(idr, PMSIDR_EL1_MAXSIZE),
        MAXSIZE_64,
        "records are at most 64 bytes",
        "PMSIDR_EL1.MaxSize",
    );
}

/// Traps to EL2: `MDCR_EL2`, and an access that this value traps.
const TRAPS: [(&str, u64, Access); 3] = [
    (
        "MDCR_EL2.TPMS traps PMSCR_EL1",
        MDCR_EL2 | MDCR_EL2_TPMS,
        access!(SYS_PMSCR_EL1),
    ),
    (
        "MDCR_EL2.E2PB 0b10 traps PMBPTR_EL1",
        field(MDCR_EL2_E2PB, E2PB_TRAPPED),
        access!(SYS_PMBPTR_EL1),
    ),
    (
        "MDCR_EL2.E2PB 0b00 traps PMBPTR_EL1",
        0,
        access!(SYS_PMBPTR_EL1),
    ),
];

/// Checks the traps of all registers, and that there are no other traps.
fn traps(report: &mut Report) {
    for (name, mdcr, access) in TRAPS {
        write!("mdcr_el2", mdcr);
        report.check(
            cpu::at(1, access, 0).trapped(2, 2),
            format_args!("{name} to EL2"),
            "MDCR_EL2",
        );
    }
    write!("mdcr_el2", MDCR_EL2);
    write!("mdcr_el3", field(MDCR_EL3_NSPB, NSPB_TRAPPED));
    report.check(
        cpu::at(1, access!(SYS_PMSCR_EL1), 0).trapped(2, 3),
        format_args!("MDCR_EL3.NSPB 0b10 traps PMSCR_EL1 to EL3"),
        "MDCR_EL3.NSPB",
    );
    write!("mdcr_el3", field(MDCR_EL3_NSPB, NSPB_OWN));
    report.same(
        cpu::at(1, access!(SYS_PMBPTR_EL1), 0).count,
        0,
        "EL1 may access its buffer",
        "MDCR_EL2.E2PB 0b11",
    );
}

/// Checks the traps of single registers.
fn fine_grained_traps(report: &mut Report) {
    for (name, bit, access) in WRITABLE {
        let (reads, writes) = cpu::fine_grained(bit, access);
        let good = reads.trapped(1, 2) && reads.read() && writes.trapped(1, 2) && !writes.read();

        report.check(
            good,
            format_args!("HDFGRTR_EL2 and HDFGWTR_EL2 trap {name}_EL1"),
            "HDFGRTR_EL2, HDFGWTR_EL2",
        );
    }
    for bit in [HDFGRTR_EL2_PMSIDR_EL1_SHIFT, HDFGRTR_EL2_PMBIDR_EL1_SHIFT] {
        write!(SYS_HDFGRTR_EL2, 1 << bit);
        let taken = cpu::at(1, read_identification, 0);
        write!(SYS_HDFGRTR_EL2, 0);
        report.check(
            taken.count == 1 && taken.el == 2,
            format_args!("HDFGRTR_EL2 bit {bit} traps one identification register"),
            "HDFGRTR_EL2",
        );
    }
}

/// Returns `PMBIDR_EL1.P` as read at `el`: 1 if this Exception level does not own the buffer.
fn not_programmable(el: usize, mdcr: u64) -> u64 {
    let mut identity = 0u64;

    write!("mdcr_el2", mdcr);
    match el {
        3 => identity = read!(SYS_PMBIDR_EL1),
        _ => _ = cpu::at(el, read_identity, addr_of_mut!(identity) as u64),
    }
    write!("mdcr_el2", MDCR_EL2);
    field_of(identity, PMBIDR_EL1_P)
}

/// The owners of the buffer: an Exception level, `MDCR_EL2`, and PMBIDR_EL1.P.
const OWNERS: [(usize, u64, u64, &str); 4] = [
    (
        1,
        0,
        1,
        "PMBIDR_EL1.P says whether EL1 may program the buffer",
    ),
    (
        1,
        MDCR_EL2,
        0,
        "PMBIDR_EL1.P says whether EL1 may program the buffer",
    ),
    (2, 0, 0, "EL2 may program the buffer"),
    (3, 0, 0, "EL3 may program the buffer"),
];

/// Checks PMBIDR_EL1.P for each owner of the buffer.
fn owners(report: &mut Report) {
    for (el, mdcr, want, fact) in OWNERS {
        report.same(not_programmable(el, mdcr), want, fact, "PMBIDR_EL1.P");
    }
}

// Values written to PMSCR_EL1 and PMSCR_EL2.
const OF_EL1: u64 = PMSCR_EL1_CX;
const OF_EL2: u64 = PMSCR_EL2_E2SPE | PMSCR_EL2_E0HSPE;

/// Writes both registers, at EL2 with HCR_EL2.E2H.
extern "C" fn write_redirected(_: u64) {
    write!(SYS_PMSCR_EL1, OF_EL2);
    write!(SYS_PMSCR_EL12, OF_EL1);
}

/// Checks that with HCR_EL2.E2H, PMSCR_EL1 at EL2 is PMSCR_EL2.
fn redirection(report: &mut Report) {
    const OTHER: u64 = PMSCR_EL1_E0SPE | PMSCR_EL1_E1SPE | PMSCR_EL1_CX | PMSCR_EL1_PA;

    write!(SYS_PMSCR_EL1, OTHER);
    write!("hcr_el2", HCR_EL2_RW | HCR_EL2_E2H);
    cpu::at(2, write_redirected, 0);
    write!("hcr_el2", HCR_EL2_RW);
    report.same(
        read!(SYS_PMSCR_EL2),
        OF_EL2,
        "with E2H, PMSCR_EL1 at EL2 is PMSCR_EL2",
        "PMSCR_EL2",
    );
    report.same(
        read!(SYS_PMSCR_EL1),
        OF_EL1,
        "with E2H, PMSCR_EL12 is PMSCR_EL1",
        "PMSCR_EL1",
    );
    write!(SYS_PMSCR_EL2, 0);
    write!(SYS_PMSCR_EL1, 0);
}

/// Checks the registers of FEAT_SPE.
pub(super) fn present(report: &mut Report, expected: &Expected) {
    identification(report, expected);
    traps(report);
    if expected.has(FGT) {
        fine_grained_traps(report);
    }
    owners(report);
    redirection(report);
}

/// Checks that no register of a later version exists.
pub(super) fn later_versions(report: &mut Report, expected: &Expected) {
    if expected.spe_version < ID_AA64DFR0_EL1_PMSVer_V1P2 {
        report.check(
            cpu::at(1, access!(SYS_PMSNEVFR_EL1), 0).undefined(2),
            format_args!("PMSNEVFR_EL1 is UNDEFINED before FEAT_SPEv1p2"),
            "PMSNEVFR_EL1",
        );
    }
    report.check(
        cpu::at(1, access!(SYS_PMSDSFR_EL1), 0).undefined(2),
        format_args!("PMSDSFR_EL1 is UNDEFINED without FEAT_SPE_FDS"),
        "PMSDSFR_EL1",
    );
}

/// Checks that without FEAT_SPE none of its registers exists.
pub(super) fn absent(report: &mut Report) {
    for (name, _, access) in WRITABLE {
        let taken = cpu::at(1, access, 0);
        report.check(
            taken.undefined(2) && taken.el == 1,
            format_args!("without FEAT_SPE, {name}_EL1 is UNDEFINED"),
            "FEAT_SPE",
        );
    }
}

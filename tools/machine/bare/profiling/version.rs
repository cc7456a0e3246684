// SPDX-License-Identifier: GPL-2.0

//! Tests what each version of FEAT_SPE adds: v1p1 the misalignment event, v1p2 the inverted event
//! filter, the filter of branches that are not taken, and the discard mode.

use super::registers::{access, Access};
use super::sampling::{sample_mixed, MISALIGNED, WALK};
use super::*;

const V1P1: u64 = ID_AA64DFR0_EL1_PMSVer_V1P1;
const V1P2: u64 = ID_AA64DFR0_EL1_PMSVer_V1P2;

// Bits of PMSEVFR_EL1 and PMSNEVFR_EL1: L1 data cache refill, mispredicted; not taken; partial and
// empty predicates.
const REFILL: u64 = 1 << 3;
const MISPREDICTED: u64 = 1 << 7;
const NOT_TAKEN: u64 = 1 << 6;
const PREDICATES: u64 = 0b11 << 17;
/// Bits that are RAZ/WI before FEAT_SPEv1p4: 0, 16, 19 to 23, 32 to 47.
const RESERVED: u64 = 1 << 0 | 1 << 16 | 0x1f << 19 | 0xffff << 32;

const EVENT_BITS: &str = "the filter has the events of the version, others are RAZ/WI";

/// Returns the bits for events that a version has, and those that are RAZ/WI; others are
/// IMPLEMENTATION DEFINED.
fn event_bits(version: u64) -> (u64, u64) {
    let sve = field_of(read!("id_aa64pfr0_el1"), ID_AA64PFR0_EL1_SVE) != 0;
    let added = [
        (MISALIGNED, version >= V1P1),
        (PREDICATES, version >= V1P1 && sve),
        (NOT_TAKEN, version >= V1P2),
    ];
    let sum = |has| {
        let bits = added.iter().filter(|&&(_, is)| is == has);
        bits.fold(0, |sum, (bit, _)| sum | bit)
    };

    (
        REFILL | WALK | MISPREDICTED | sum(true),
        RESERVED | sum(false),
    )
}

/// Checks that `value`, read after a write of ones, has exactly the bits of a version.
fn has_bits(report: &mut Report, value: u64, version: u64, name: &str) {
    let (present, reserved) = event_bits(version);

    report.same(value & (present | reserved), present, EVENT_BITS, name);
}

/// Checks the filter for events, and identification.
fn registers(report: &mut Report, version: u64) {
    write!(SYS_PMSEVFR_EL1, !0);
    has_bits(report, read!(SYS_PMSEVFR_EL1), version, "PMSEVFR_EL1");
    write!(SYS_PMSEVFR_EL1, 0);
    let idr = read!(SYS_PMSIDR_EL1);
    report.same(
        field_of(idr, PMSIDR_EL1_FnE),
        u64::from(version >= V1P2),
        "inverted filtering by event exists from FEAT_SPEv1p2",
        "PMSIDR_EL1.FnE",
    );
    report.check(
        idr & PMSIDR_EL1_FDS == 0 && (version >= V1P2 || idr & PMSIDR_EL1_PBT == 0),
        format_args!("neither data source filtering, nor branch targets before FEAT_SPEv1p2"),
        "PMSIDR_EL1.FDS, PMSIDR_EL1.PBT",
    );
}

/// Checks that without FEAT_SPEv1p2 its controls have no effect.
fn without_v1p2(report: &mut Report) {
    prepare(PAGES);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FnE);
    let limit = read!(SYS_PMBLIMITR_EL1);
    write!(SYS_PMBLIMITR_EL1, 0);
    write!(SYS_PMBLIMITR_EL1, limit | discard_mode());
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(
        records(),
        SAMPLES,
        "before FEAT_SPEv1p2, neither FnE nor FM 0b10 has an effect",
        "PMSFCR_EL1.FnE, PMBLIMITR_EL1.FM",
    );
}

/// Returns PMBLIMITR_EL1 with the fill mode alone: discard.
const fn discard_mode() -> u64 {
    field(PMBLIMITR_EL1_FM, PMBLIMITR_EL1_FM_DISCARD)
}

/// Checks the discard mode: no record, and no event, though twice the work would fill the buffer.
fn discard(report: &mut Report) {
    prepare(1);
    let limit = read!(SYS_PMBLIMITR_EL1);
    write!(SYS_PMBLIMITR_EL1, 0);
    write!(SYS_PMBLIMITR_EL1, limit | discard_mode());
    report.same(
        read!(SYS_PMBLIMITR_EL1),
        limit | discard_mode(),
        "PMBLIMITR_EL1 has the discard mode",
        "PMBLIMITR_EL1.FM 0b10",
    );
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.check(
        records() == 0 && word(0) == 0 && read!(SYS_PMBSR_EL1) == 0,
        format_args!("and in it neither a record nor an event"),
        "PMBLIMITR_EL1.FM 0b10, SPECompleteSample()",
    );
    write!(SYS_PMBLIMITR_EL1, 0);
    write!(SYS_PMBLIMITR_EL1, PMBLIMITR_EL1_PMFZ);
    report.same(
        read!(SYS_PMBLIMITR_EL1),
        PMBLIMITR_EL1_PMFZ,
        "PMBLIMITR_EL1.PMFZ is storage",
        "PMBLIMITR_EL1.PMFZ",
    );
}

/// Checks the inverted filter: neither of two events.
fn inverted(report: &mut Report) {
    let sctlr = map_el1();

    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, ABOUT_256);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FnE);
    write!(SYS_PMSNEVFR_EL1, MISALIGNED | WALK);
    sample_mixed();
    let bad = count(|record| record.events & (MISALIGNED | WALK) != 0);
    report.check(
        bad == 0 && records() != 0,
        format_args!("inverted filter: records with neither of two events"),
        "PMSNEVFR_EL1, PMSFCR_EL1.FnE",
    );
    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, ABOUT_256);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FE | PMSFCR_EL1_FnE);
    write!(SYS_PMSEVFR_EL1, WALK);
    write!(SYS_PMSNEVFR_EL1, MISALIGNED);
    sample_mixed();
    let good = count(|record| record.events & (MISALIGNED | WALK) == WALK);
    report.check(
        good == records() && good != 0,
        format_args!("both filters: records with the one event, without the other"),
        "PMSFCR_EL1: FE and FnE",
    );
    write!("sctlr_el1", sctlr);
}

/// Samples the loop with branches that are not taken, with a filter. Returns the number of records
/// of such a branch, and of all.
fn untaken(filters: u64) -> (u64, u64) {
    prepare(PAGES);
    write!(SYS_PMSFCR_EL1, filters);
    write!(SYS_PMSEVFR_EL1, NOT_TAKEN);
    write!(SYS_PMSNEVFR_EL1, NOT_TAKEN);
    sample(PMSCR_EL1_E1SPE, 1, profiled_untaken);
    let branch = untaken_loop as usize as u64;
    (count(|record| record.pc() == branch), records())
}

/// Checks the filter of branches that are not taken, in both directions.
fn not_taken(report: &mut Report) {
    let (some, all) = untaken(0);
    let only = untaken(PMSFCR_EL1_FE);
    let other = untaken(PMSFCR_EL1_FnE);

    report.check(
        all == TURNS * UNTAKEN_TURN / INTERVAL && some != 0 && only == (some, some),
        format_args!("filter by event: the branches that are not taken, and nothing else"),
        "PMSEVFR_EL1.E[6]",
    );
    report.check(
        other == (0, all - some),
        format_args!("inverted: everything else"),
        "PMSNEVFR_EL1.E[6]",
    );
}

/// Traps of PMSNEVFR_EL1: the value of HDFGRTR_EL2 and HDFGWTR_EL2, MDCR_EL2, MDCR_EL3, the
/// Exception level that accesses, and that to which it is trapped, or 0.
type Trap = (u64, u64, u64, usize, u64, &'static str);

const FINE: u64 = HDFGRTR_EL2_nPMSNEVFR_EL1;
const OWN: u64 = field(MDCR_EL3_NSPB, NSPB_OWN);
const OPEN: u64 = OWN | MDCR_EL3_EnPMSN;
const TRAPS: [Trap; 5] = [
    (
        0,
        MDCR_EL2,
        OPEN,
        1,
        2,
        "HDFGRTR_EL2, HDFGWTR_EL2: nPMSNEVFR_EL1 0",
    ),
    (FINE, MDCR_EL2, OWN, 1, 3, "MDCR_EL3.EnPMSN 0"),
    (FINE, MDCR_EL2, OWN, 2, 3, "MDCR_EL3.EnPMSN 0"),
    (FINE, MDCR_EL2 | MDCR_EL2_TPMS, OPEN, 1, 2, "MDCR_EL2.TPMS"),
    (FINE, MDCR_EL2, OPEN, 1, 0, "nPMSNEVFR_EL1 1, EnPMSN 1"),
];

/// Accesses PMSNEVFR_EL1 under the controls of a trap, and checks to where it is trapped.
fn trap(report: &mut Report, expected: &Expected, trap: &Trap) {
    const ACCESS: Access = access!(SYS_PMSNEVFR_EL1);
    let &(fine, mdcr_el2, mdcr_el3, from, to, rule) = trap;

    if expected.has(FGT) {
        write!(SYS_HDFGRTR_EL2, fine);
        write!(SYS_HDFGWTR_EL2, fine);
    }
    write!("mdcr_el2", mdcr_el2);
    write!("mdcr_el3", mdcr_el3);
    let taken = cpu::at(from, ACCESS, 0);
    write!("mdcr_el3", OWN);
    write!("mdcr_el2", MDCR_EL2);
    if expected.has(FGT) {
        write!(SYS_HDFGRTR_EL2, 0);
        write!(SYS_HDFGWTR_EL2, 0);
    }
    let good = match to {
        0 => taken.count == 0,
        _ => taken.trapped(2, to),
    };
    report.check(
        good,
        format_args!("PMSNEVFR_EL1 at EL{from}: trapped to EL{to} (0: not at all)"),
        rule,
    );
}

/// Checks what FEAT_SPEv1p2 adds.
fn with_v1p2(report: &mut Report, expected: &Expected) {
    for each in TRAPS.iter().skip(usize::from(!expected.has(FGT))) {
        trap(report, expected, each);
    }
    write!(SYS_PMSNEVFR_EL1, !0);
    has_bits(
        report,
        read!(SYS_PMSNEVFR_EL1),
        expected.spe_version,
        "PMSNEVFR_EL1",
    );
    write!(SYS_PMSNEVFR_EL1, 0);
    discard(report);
    inverted(report);
    not_taken(report);
}

/// Runs all checks.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    registers(report, expected.spe_version);
    if expected.spe_version < V1P2 {
        without_v1p2(report);
    } else {
        with_v1p2(report, expected);
    }
}

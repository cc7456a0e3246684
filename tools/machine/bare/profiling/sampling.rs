// SPDX-License-Identifier: GPL-2.0

//! Tests which operations are sampled, and the contents of their records.

use super::*;

// Bits of the Events packet, and so of PMSEVFR_EL1 and PMSNEVFR_EL1.
const RETIRED: u64 = 1 << 1;
pub(super) const WALK: u64 = 1 << 5;
pub(super) const MISALIGNED: u64 = 1 << 11;

/// A condition on a record.
type Holds = fn(&Decoded) -> bool;

/// Returns whether a record is of an instruction of the loop.
pub(super) fn in_loop(record: &Decoded) -> bool {
    (work_loop as usize as u64..work_end as usize as u64).contains(&record.pc())
}

/// Conditions on each record if no optional packet is enabled.
const PLAIN: [(Holds, &str, &str); 4] = [
    (
        |record| record.well_formed,
        "each record is a row of known packets and an end",
        "Sample records",
    ),
    (
        in_loop,
        "each is of an instruction of the loop",
        "Address packet",
    ),
    (
        |record| record.events & RETIRED != 0,
        "each operation has retired",
        "Events packet, E[1]",
    ),
    (
        |record| record.of_ns_el1() && record.context.is_none() && record.time.is_none(),
        "Non-secure EL1, and neither context nor time that was not asked for",
        "PMSCR_EL1",
    ),
];

/// Checks the number of records, and their contents.
fn one_in_each_interval(report: &mut Report) {
    prepare(PAGES);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(
        records(),
        SAMPLES,
        "one record every 257 operations",
        "PMSIRR_EL1.INTERVAL",
    );
    for (holds, fact, rule) in PLAIN {
        report.same(count(holds), records(), fact, rule);
    }
}

/// Checks that a record has the context and the time if enabled.
fn asked_for(report: &mut Report) {
    const CONTEXT: u64 = 0x77;

    prepare(PAGES);
    write!("contextidr_el1", CONTEXT);
    sample(PMSCR_EL1_E1SPE | PMSCR_EL1_CX | PMSCR_EL1_TS, 1, profiled);
    let record = decode(0);
    report.same(
        record.context.unwrap_or(0),
        CONTEXT,
        "CONTEXTIDR_EL1 with PMSCR_EL1.CX",
        "PMSCR_EL1.CX",
    );
    report.check(
        record.time.is_some(),
        format_args!("a timestamp with PMSCR_EL1.TS"),
        "PMSCR_EL1.TS",
    );
}

/// Checks which Exception levels are sampled while EL1 owns the buffer.
fn owned_by_el1(report: &mut Report) {
    const RULE: &str = "StatisticalProfilingEnabled()";

    prepare(PAGES);
    sample(PMSCR_EL1_E0SPE, 1, profiled);
    report.same(records(), 0, "E0SPE alone: nothing of EL1", RULE);
    sample(PMSCR_EL1_E0SPE, 0, worked);
    report.check(
        records() != 0,
        format_args!("E0SPE alone: EL0 is sampled"),
        RULE,
    );
    prepare(PAGES);
    sample(PMSCR_EL1_E0SPE | PMSCR_EL1_E1SPE, 2, profiled);
    let fact = "EL1 owns the buffer: nothing of EL2";
    report.same(records(), 0, fact, RULE);
}

/// Samples EL2, which owns the buffer.
fn sample_el2(controls: u64) {
    write!("mdcr_el2", 0);
    write!(SYS_PMSCR_EL2, controls);
    cpu::at(2, profiled, 0);
    write!(SYS_PMSCR_EL2, 0);
    drain();
    write!("mdcr_el2", MDCR_EL2);
}

/// Checks that EL2 is sampled while it owns the buffer.
fn owned_by_el2(report: &mut Report) {
    prepare(PAGES);
    sample_el2(PMSCR_EL2_E2SPE);
    report.check(
        records() != 0,
        format_args!("EL2 owns the buffer and E2SPE: EL2 is sampled"),
        "PMSCR_EL2.E2SPE",
    );
}

/// `CNTVOFF_EL2` in checks of the time.
const OFFSET: u64 = 1 << 40;

/// Checks physical addresses, CONTEXTIDR_EL2, and the source of a record's time.
fn more_packets(report: &mut Report) {
    const CONTEXT: u64 = 0x99;

    prepare(PAGES);
    write!(SYS_PMSCR_EL2, PMSCR_EL2_PA | PMSCR_EL2_CX);
    write!(SYS_CONTEXTIDR_EL2, CONTEXT);
    sample(PMSCR_EL1_E1SPE | PMSCR_EL1_TS | PMSCR_EL1_PA, 1, profiled);
    let now = read!("cntpct_el0");
    let physical = count(|record| record.physical() == record.address);
    report.check(
        physical == records() && records() != 0,
        format_args!("with the MMU off, physical addresses are the virtual ones"),
        "PMSCR_EL1.PA, PMSCR_EL2.PA",
    );
    report.same(
        count(|record| record.context_el2 == Some(CONTEXT)),
        records(),
        "CONTEXTIDR_EL2 with PMSCR_EL2.CX",
        "PMSCR_EL2.CX",
    );
    report.same(
        count(|record| record.time.is_some_and(|t| t.wrapping_add(OFFSET) <= now)),
        records(),
        "virtual time is CNTPCT less CNTVOFF_EL2",
        "PMSCR_EL1.PCT 0b00",
    );
}

/// Checks that the time of a host at EL2 has no offset.
fn time_of_host(report: &mut Report) {
    prepare(PAGES);
    write!("hcr_el2", HCR_EL2_RW | HCR_EL2_E2H);
    sample_el2(PMSCR_EL2_E2SPE | PMSCR_EL2_TS);
    write!("hcr_el2", HCR_EL2_RW);
    write!("cntvoff_el2", 0);
    let good = count(|record| record.time.is_some_and(|t| t <= read!("cntpct_el0")));
    report.check(
        good == records() && good != 0,
        format_args!("a host at EL2 has no virtual offset"),
        "CNTVOFF_EL2, HCR_EL2.E2H",
    );
}

/// Samples the loop of different instructions, often enough to sample each of them.
pub(super) fn sample_mixed() {
    write!(SYS_PMSCR_EL1, PMSCR_EL1_E1SPE);
    for _ in 0..4 {
        cpu::at(1, profiled_mixed, 0);
    }
    write!(SYS_PMSCR_EL1, 0);
    drain();
}

/// Returns the number of records of that loop for which `holds` is true; its first argument is the
/// number of the instruction.
fn count_mixed(holds: impl Fn(usize, &Decoded) -> bool) -> u64 {
    let number = |record: &Decoded| record.pc().wrapping_sub(mixed_loop as usize as u64) / 4;

    count(|record| {
        let n = number(record) as usize;
        n < MIXED.len() && holds(n, record)
    })
}

/// Checks the class of each recorded instruction.
fn kinds(report: &mut Report, expected: &Expected) {
    let has = |record: &Decoded, event| record.events & event != 0;

    report.check(
        (0..MIXED.len()).all(|i| count_mixed(|n, _| n == i) != 0),
        format_args!("each instruction of a loop is chosen sooner or later"),
        "PMSIRR_EL1.RND",
    );
    report.same(
        count_mixed(|n, record| (record.kind, record.subclass) == MIXED[n]),
        count_mixed(|_, _| true),
        "atomics, exclusives, vectors, selects, branches are recorded as what they are",
        "Operation Type packet",
    );
    report.check(
        count_mixed(|n, record| has(record, WALK) != (n == WALKING)) <= 2,
        format_args!("the load that goes to another page walks the tables, no other"),
        "Events packet, E[5]",
    );
    let aware = expected.spe_version >= ID_AA64DFR0_EL1_PMSVer_V1P1;
    report.same(
        count_mixed(|n, record| has(record, MISALIGNED) != (aware && n == UNALIGNED)),
        0,
        "from FEAT_SPEv1p1, the load that is not aligned is, no other",
        "Events packet, E[11]",
    );
}

/// Checks a filter that passes only operations with a table walk, in the same loop.
fn walks(report: &mut Report, all: u64) {
    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, ABOUT_256);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FE);
    write!(SYS_PMSEVFR_EL1, WALK);
    sample_mixed();
    let filtered = records();
    let good = count(|record| record.events & WALK != 0);
    report.check(
        good == filtered && filtered != 0 && filtered < all,
        format_args!("filter by event: {filtered} of {all} records walked the tables"),
        "PMSEVFR_EL1",
    );
}

/// Checks the loop of different instructions.
fn mixed(report: &mut Report, expected: &Expected) {
    // Without the MMU, memory is Device memory, where accesses must be aligned.
    let sctlr = map_el1();

    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, ABOUT_256);
    sample_mixed();
    kinds(report, expected);
    note_buffer(report);
    walks(report, records());
    write!("sctlr_el1", sctlr);
}

/// Filters by type: the filter, and the class and the lowest subclass bit of operations that pass.
const TYPES: [(&str, u64, u8, u8); 3] = [
    ("loads", PMSFCR_EL1_LD, LOAD_STORE, 0),
    ("stores", PMSFCR_EL1_ST, LOAD_STORE, 1),
    ("branches", PMSFCR_EL1_B, BRANCH, 1),
];

/// Checks filters by type.
fn types(report: &mut Report) {
    for (name, filter, kind, lowest) in TYPES {
        prepare(PAGES);
        write!(SYS_PMSIRR_EL1, ABOUT_256);
        write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FT | filter);
        sample(PMSCR_EL1_E1SPE, 1, profiled);
        let good = count(|record| {
            let right = record.kind == kind && record.subclass & 1 == lowest;
            let addressed = (record.kind == LOAD_STORE) == record.address.is_some();
            right && addressed && record.well_formed
        });
        report.check(
            records() != 0,
            format_args!("filter {name}: some are recorded"),
            "PMSFCR_EL1.FT",
        );
        report.same(good, records(), "and nothing else", "PMSFCR_EL1.FT");
    }
}

/// Checks filters by latency.
fn latencies(report: &mut Report) {
    for (minimum, some) in [(1, true), (4, true), (4095, false)] {
        prepare(PAGES);
        write!(SYS_PMSIRR_EL1, ABOUT_256);
        write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FL);
        write!(SYS_PMSLATFR_EL1, minimum);
        sample(PMSCR_EL1_E1SPE, 1, profiled);
        let all = records();
        let good = count(|record| record.total >= minimum);
        report.check(
            good == all && (all != 0) == some,
            format_args!("minimum latency {minimum}: {all} records, none shorter"),
            "PMSLATFR_EL1.MINLAT",
        );
    }
}

/// Checks a filter that passes all operations, since every operation retires.
fn retired(report: &mut Report) {
    prepare(PAGES);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FE);
    write!(SYS_PMSEVFR_EL1, RETIRED);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(
        records(),
        SAMPLES,
        "filter by event: all of them have retired",
        "PMSEVFR_EL1",
    );
}

/// Runs all checks.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    one_in_each_interval(report);
    asked_for(report);
    owned_by_el1(report);
    owned_by_el2(report);
    note_buffer(report);
    write!("cntvoff_el2", OFFSET);
    more_packets(report);
    note_buffer(report);
    time_of_host(report);
    mixed(report, expected);
    types(report);
    latencies(report);
    retired(report);
}

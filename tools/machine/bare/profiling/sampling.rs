// SPDX-License-Identifier: GPL-2.0

//! What is sampled, and what the records of it say.

use super::*;

/// `E[5]`, TLB walk, and `E[11]`, misaligned.
const WALK: u64 = 1 << 5;
const MISALIGNED: u64 = 1 << 11;

fn one_in_each_interval(report: &mut Report) {
    let first = work_loop as usize as u64;
    let last = work_end as usize as u64;

    prepare(PAGES as u64);
    sample(EL1, 1, profiled);
    let count = records();
    report.same(
        count,
        TURNS * TURN / INTERVAL,
        "one record every 257 operations",
        "PMSIRR_EL1.INTERVAL",
    );
    let (mut in_loop, mut whole, mut retired, mut plain) = (0, 0, 0, 0);
    for n in 0..count {
        let record = decode(n);
        let pc = record.pc & ((1 << 56) - 1);

        in_loop += u64::from(pc >= first && pc < last);
        whole += u64::from(record.well_formed);
        retired += u64::from(record.events & 2 != 0);
        plain += u64::from(
            record.pc >> 61 == 0b101 && record.context.is_none() && record.time.is_none(),
        );
    }
    report.same(
        whole,
        count,
        "each record is a row of known packets and an end",
        "Sample records",
    );
    report.same(
        in_loop,
        count,
        "each is of an instruction of the loop",
        "Address packet",
    );
    report.same(
        retired,
        count,
        "each operation has retired",
        "Events packet, E[1]",
    );
    report.same(
        plain,
        count,
        "Non-secure EL1, and neither context nor time that was not asked for",
        "PMSCR_EL1",
    );

    prepare(PAGES as u64);
    write!("contextidr_el1", 0x77);
    sample(EL1 | 1 << 3 | 1 << 5, 1, profiled);
    let record = decode(0);
    report.same(
        record.context.unwrap_or(0),
        0x77,
        "CONTEXTIDR_EL1 with PMSCR_EL1.CX",
        "PMSCR_EL1.CX",
    );
    report.check(
        record.time.is_some(),
        format_args!("a timestamp with PMSCR_EL1.TS"),
        "PMSCR_EL1.TS",
    );

    prepare(PAGES as u64);
    write!("s3_0_c9_c9_0", EL0);
    cpu::at(1, profiled, 0);
    report.same(
        records(),
        0,
        "E0SPE alone: nothing of EL1",
        "StatisticalProfilingEnabled()",
    );
    cpu::at(0, profiled_el0, 0);
    write!("s3_0_c9_c9_0", 0);
    report.check(
        records() != 0,
        format_args!("E0SPE alone: EL0 is sampled"),
        "StatisticalProfilingEnabled()",
    );
    prepare(PAGES as u64);
    sample(EL0 | EL1, 2, profiled);
    report.same(
        records(),
        0,
        "EL1 owns the buffer: nothing of EL2",
        "StatisticalProfilingEnabled()",
    );
    prepare(PAGES as u64);
    write!("mdcr_el2", 0);
    write!("s3_4_c9_c9_0", 2);
    cpu::at(2, profiled, 0);
    write!("s3_4_c9_c9_0", 0);
    report.check(
        records() != 0,
        format_args!("EL2 owns the buffer and E2SPE: EL2 is sampled"),
        "PMSCR_EL2.E2SPE",
    );
    write!("mdcr_el2", E2PB_EL1);
}

/// Where the time of a record comes from, physical addresses, CONTEXTIDR_EL2.
fn more_packets(report: &mut Report) {
    const OFFSET: u64 = 1 << 40;

    write!("cntvoff_el2", OFFSET);
    prepare(PAGES as u64);
    write!("s3_0_c9_c9_0", EL1 | 1 << 5 | 1 << 4);
    write!("s3_4_c9_c9_0", 1 << 4 | 1 << 3);
    write!("s3_4_c13_c0_1", 0x99);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    let now = read!("cntpct_el0");
    let (count, mut physical, mut context, mut virtual_time) = (records(), 0, 0, 0);
    for record in (0..count).map(decode) {
        physical += u64::from(record.physical.map(|p| p & !(1 << 63)) == record.address);
        context += u64::from(record.context_el2 == Some(0x99));
        virtual_time += u64::from(record.time.is_some_and(|t| t.wrapping_add(OFFSET) <= now));
    }
    report.check(
        physical == count && count != 0,
        format_args!("with the MMU off, physical addresses are the virtual ones"),
        "PMSCR_EL1.PA, PMSCR_EL2.PA",
    );
    report.same(
        context,
        count,
        "CONTEXTIDR_EL2 with PMSCR_EL2.CX",
        "PMSCR_EL2.CX",
    );
    report.same(
        virtual_time,
        count,
        "virtual time is CNTPCT less CNTVOFF_EL2",
        "PMSCR_EL1.PCT 0b00",
    );
    note_buffer(report);

    // A host at EL2 has no offset.
    prepare(PAGES as u64);
    write!("mdcr_el2", 0);
    write!("hcr_el2", HCR_RW | 1 << 34);
    write!("s3_4_c9_c9_0", 2 | 1 << 5);
    cpu::at(2, profiled, 0);
    write!("s3_4_c9_c9_0", 0);
    write!("hcr_el2", HCR_RW);
    write!("mdcr_el2", E2PB_EL1);
    write!("cntvoff_el2", 0);
    let count = records();
    let good = (0..count)
        .map(decode)
        .filter(|r| r.time.is_some_and(|t| t <= read!("cntpct_el0")))
        .count() as u64;
    report.check(
        good == count && count != 0,
        format_args!("a host at EL2 has no virtual offset"),
        "CNTVOFF_EL2, HCR_EL2.E2H",
    );
}

/// What instructions are recorded as.
fn kinds(report: &mut Report) {
    let first = mixed_loop as usize as u64;
    let (mut seen, mut right, mut walks, mut misaligned) = ([0u64; 12], 0, 0, 0);
    // Without it memory is Device memory, where an access has to be aligned.
    let sctlr = map_el1();

    prepare(PAGES as u64);
    write!("s3_0_c9_c9_3", 256 | 1);
    write!("s3_0_c9_c9_0", EL1);
    // Enough for each of them to be chosen.
    for _ in 0..4 {
        cpu::at(1, profiled_mixed, 0);
    }
    write!("s3_0_c9_c9_0", 0);
    let count = records();
    let mut in_loop = 0;
    for record in (0..count).map(decode) {
        let n = ((record.pc & ((1 << 56) - 1)).wrapping_sub(first) / 4) as usize;
        let Some(&kind) = MIXED.get(n) else { continue };

        in_loop += 1;
        seen[n] += 1;
        right += u64::from((record.kind, record.subclass) == kind);
        walks += u64::from((record.events & WALK != 0) != (n == 7));
        misaligned += u64::from((record.events & MISALIGNED != 0) != (n == 9));
    }
    report.check(
        seen.iter().all(|&n| n != 0),
        format_args!("each instruction of a loop is chosen sooner or later"),
        "PMSIRR_EL1.RND",
    );
    report.same(
        right,
        in_loop,
        "atomics, exclusives, vectors, selects, branches are recorded as what they are",
        "Operation Type packet",
    );
    report.check(
        walks <= 2,
        format_args!("the load that goes to another page walks the tables, no other"),
        "Events packet, E[5]",
    );
    report.same(
        misaligned,
        0,
        "the load that is not aligned is, no other",
        "Events packet, E[11]",
    );
    note_buffer(report);

    prepare(PAGES as u64);
    write!("s3_0_c9_c9_3", 256 | 1);
    write!("s3_0_c9_c9_4", 1);
    write!("s3_0_c9_c9_5", WALK);
    write!("s3_0_c9_c9_0", EL1);
    for _ in 0..4 {
        cpu::at(1, profiled_mixed, 0);
    }
    write!("s3_0_c9_c9_0", 0);
    write!("sctlr_el1", sctlr);
    let filtered = records();
    let good = (0..filtered)
        .map(decode)
        .filter(|r| r.events & WALK != 0)
        .count() as u64;
    report.check(
        good == filtered && filtered != 0 && filtered < count,
        format_args!("filter by event: {filtered} of {count} records walked the tables"),
        "PMSEVFR_EL1",
    );
}

fn filters(report: &mut Report) {
    for (name, filter, kind, stores) in [
        ("loads", LOADS, 1, 0),
        ("stores", STORES, 1, 1),
        ("branches", BRANCHES, 2, 1),
    ] {
        prepare(PAGES as u64);
        // The interval varies, so that no type escapes.
        write!("s3_0_c9_c9_3", 256 | 1);
        write!("s3_0_c9_c9_4", TYPE | filter);
        sample(EL1, 1, profiled);
        let count = records();
        let good = (0..count)
            .map(decode)
            .filter(|r| r.kind == kind && r.well_formed && u64::from(r.subclass & 1) == stores)
            .filter(|r| (r.kind == 1) == r.address.is_some())
            .count() as u64;
        report.check(
            count != 0,
            format_args!("filter {name}: some are recorded"),
            "PMSFCR_EL1.FT",
        );
        report.same(good, count, "and nothing else", "PMSFCR_EL1.FT");
    }
    for (minimum, some) in [(1, true), (4, true), (4095, false)] {
        prepare(PAGES as u64);
        write!("s3_0_c9_c9_3", 256 | 1);
        write!("s3_0_c9_c9_4", 4);
        write!("s3_0_c9_c9_6", minimum);
        sample(EL1, 1, profiled);
        let count = records();
        let good = (0..count)
            .map(decode)
            .filter(|r| r.total >= minimum)
            .count() as u64;
        report.check(
            good == count && (count != 0) == some,
            format_args!("minimum latency {minimum}: {count} records, none shorter"),
            "PMSLATFR_EL1.MINLAT",
        );
    }
    // Every operation retires.
    prepare(PAGES as u64);
    write!("s3_0_c9_c9_4", 1);
    write!("s3_0_c9_c9_5", 1 << 1);
    sample(EL1, 1, profiled);
    report.same(
        records(),
        TURNS * TURN / INTERVAL,
        "filter by event: all of them have retired",
        "PMSEVFR_EL1",
    );
}

pub(super) fn test(report: &mut Report) {
    one_in_each_interval(report);
    note_buffer(report);
    more_packets(report);
    kinds(report);
    filters(report);
}

// SPDX-License-Identifier: GPL-2.0

//! Tests when records are in memory: they may stay in the Statistical Profiling Unit until
//! `PSB CSYNC`, and are discarded if the buffer is disabled or profiling is stopped before.

use super::*;

/// Returns the least and the largest number of records that are in the unit after the work, if a
/// record stays there for a number of instructions.
fn inside(instructions: u64) -> (u64, u64) {
    let about = instructions / INTERVAL;

    match about {
        _ if about > SAMPLES => (SAMPLES, SAMPLES),
        _ => (about.saturating_sub(1), (about + 1).min(SAMPLES)),
    }
}

/// Checks the pointer before and after `PSB CSYNC` at EL3.
fn behind(report: &mut Report, expected: &Expected) {
    let (least, most) = inside(expected.spe_lag * 1024);

    prepare(PAGES);
    sample_undrained(PMSCR_EL1_E1SPE, 1, worked);
    let before = records();
    let whole = count(|record| record.well_formed);
    let late = SAMPLES.wrapping_sub(before);
    report.check(
        least <= late && late <= most && whole == before,
        format_args!("before PSB CSYNC, {before} whole records are in memory"),
        "Synchronization and Statistical Profiling",
    );
    drain();
    report.check(
        records() == SAMPLES && count(sampling::in_loop) == SAMPLES,
        format_args!("after PSB CSYNC and DSB at EL3, all are"),
        "PSB CSYNC",
    );
}

/// Checks `PSB CSYNC` at EL1, at the end of the sampled program, and at EL2.
fn other_levels(report: &mut Report) {
    prepare(PAGES);
    sample_undrained(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(
        records(),
        SAMPLES,
        "after PSB CSYNC at EL1, all records are in memory",
        "PSB CSYNC",
    );
    prepare(PAGES);
    sample_undrained(PMSCR_EL1_E1SPE, 1, worked);
    cpu::at(2, synchronized, 0);
    report.same(
        records(),
        SAMPLES,
        "after PSB CSYNC at EL2, all records of EL1 are",
        "PSB CSYNC",
    );
}

/// Fills a buffer of one page without `PSB CSYNC` until the end, and checks the event.
fn full(report: &mut Report) {
    fill_page(worked);
    let whole = count(|record| record.well_formed);
    report.check(
        read!(SYS_PMBSR_EL1) == event(PMBSR_EL1_EC_BUF, BSC_FULL) && whole == PAGE / RECORD,
        format_args!("the buffer is full: {whole} whole records, and no partial one"),
        "PMBSR_EL1: EC 0, BSC 0b000001, DL 0",
    );
}

/// Checks that records in the unit are gone after `stop`.
fn discarded(report: &mut Report, stop: fn(), name: &str, rule: &str) {
    prepare(PAGES);
    sample_undrained(PMSCR_EL1_E1SPE, 1, worked);
    let before = records();
    stop();
    drain();
    report.check(
        records() == before && word(before * RECORD) == 0,
        format_args!("{name}: records that are not in memory yet never will be"),
        rule,
    );
}

/// Disables the buffer.
fn disable() {
    let limit = read!(SYS_PMBLIMITR_EL1);
    write!(SYS_PMBLIMITR_EL1, limit & !PMBLIMITR_EL1_E);
}

/// Stops profiling, as an event does.
fn stop() {
    write!(SYS_PMBSR_EL1, PMBSR_EL1_S);
}

/// Runs all checks.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    behind(report, expected);
    other_levels(report);
    full(report);
    let rule = "Enabling profiling: the Profiling Buffer is disabled";
    discarded(report, disable, "PMBLIMITR_EL1.E 0", rule);
    let rule = "Enabling profiling: profiling is stopped";
    discarded(report, stop, "PMBSR_EL1.S 1", rule);
    write!(SYS_PMBSR_EL1, 0);
}

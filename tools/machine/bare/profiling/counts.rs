// SPDX-License-Identifier: GPL-2.0

//! Work whose samples are known in number. The emulator's counters must be the same at its exit, so
//! the image does nothing else that is sampled.

use super::*;

/// `PMSIRR_EL1`: a sample every 1280 operations.
const EVERY_1280: u64 = field(PMSIRR_EL1_INTERVAL, 5);
/// Operations from one of these samples to the next. It is one more than a multiple of the length
/// of a turn, so that samples go through the instructions of the loop.
const LONG_INTERVAL: u64 = 5 * 256 + 1;
/// The number of these samples in one run of the work, and of those that are loads: each turn has
/// one.
const LONG_SAMPLES: u64 = TURNS * TURN / LONG_INTERVAL;
const LOADS: u64 = LONG_SAMPLES / TURN;

const _: () = assert!(LONG_INTERVAL % TURN == 1 && LONG_SAMPLES % TURN == 0);

/// The number of records in a full buffer of one page.
const FULL: u64 = PAGE / RECORD;

/// The samples that are in the unit while the last record that fits is written, if nothing is
/// written before the end.
const AFTER_FULL: u64 = 2 * TURNS * TURN / INTERVAL - FULL;

const RULE: &str = "PMSICR_EL1, SPEToCollectSample()";

/// Samples the work without a filter.
fn unfiltered(report: &mut Report) {
    prepare(PAGES);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(records(), SAMPLES, "no filter: each sample", RULE);
}

/// Samples the work with a filter for loads.
fn filtered(report: &mut Report) {
    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, EVERY_1280);
    write!(SYS_PMSFCR_EL1, PMSFCR_EL1_FT | PMSFCR_EL1_LD);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(records(), LOADS, "filter loads: one in four", "PMSFCR_EL1");
}

/// Samples until a buffer of one page is full; nothing is sampled after that.
fn full(report: &mut Report) {
    fill_page(profiled);
    report.same(
        read!(SYS_PMBSR_EL1),
        event(PMBSR_EL1_EC_BUF, BSC_FULL),
        "the buffer is full",
        "PMBSR_EL1: EC 0, BSC 0b000001",
    );
    report.same(records(), FULL, "of whole records", "PMBPTR_EL1");
}

/// Samples the work, and leaves the records in the unit.
fn undrained() {
    prepare(PAGES);
    sample_undrained(PMSCR_EL1_E1SPE, 1, worked);
}

/// Does what software must not do while records are in the unit. Returns how often.
fn mistakes() -> u64 {
    undrained();
    write!("mdcr_el2", 0);
    write!("mdcr_el2", MDCR_EL2);
    drain();
    undrained();
    let table = read!("ttbr0_el1");
    write!("ttbr0_el1", table ^ PAGE);
    write!("ttbr0_el1", table);
    drain();
    undrained();
    write!(SYS_PMBLIMITR_EL1, 0);
    5
}

/// Runs the work, and notes what the emulator must have counted. If records stay in the unit until
/// they are drained, this includes what software must not do then.
pub fn count_samples(report: &mut Report, expected: &Expected) {
    unfiltered(report);
    filtered(report);
    full(report);
    let stay = u64::from(expected.spe_lag * 1024 > SAMPLES * INTERVAL);
    let errors = if stay != 0 { mistakes() } else { 0 };
    report.note(format_args!(
        "spe chosen={} written={} filtered={} discarded=0 stopped={} faulted=0 lost=0 \
         undrained={} errors={errors} held=0",
        SAMPLES + LONG_SAMPLES + FULL + stay * (3 * SAMPLES + AFTER_FULL),
        SAMPLES + LOADS + FULL + stay * 2 * SAMPLES,
        LONG_SAMPLES - LOADS,
        stay * AFTER_FULL,
        stay * SAMPLES,
    ));
}

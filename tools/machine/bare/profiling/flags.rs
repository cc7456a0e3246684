// SPDX-License-Identifier: GPL-2.0

//! Tests whether writes to the buffer update the Access flag and the dirty state (PMBIDR_EL1.F).

use super::*;

/// A descriptor of the buffer's page, and what a write of a record does with it.
struct Case {
    stage: usize,
    /// Bits to set in the descriptor of the page, and bits to clear.
    set: u64,
    clear: u64,
    /// TCR_EL1.HA and HD, or VTCR_EL2.HA and HD.
    controls: u64,
    /// The bits that hardware changes, if it may.
    changes: u64,
    /// Whether the registers permit that hardware changes them.
    managed: bool,
    /// PMBSR_EL1.FSC if it does not.
    fsc: u64,
    name: &'static str,
}

const HA: [u64; 2] = [TCR_EL1_HA, VTCR_EL2_HA];
const HA_HD: [u64; 2] = [TCR_EL1_HA | TCR_EL1_HD, VTCR_EL2_HA | VTCR_EL2_HD];

/// Returns a page whose Access flag is clear.
const fn old(stage: usize, managed: bool, name: &'static str) -> Case {
    Case {
        stage,
        set: 0,
        clear: table::ACCESSED,
        controls: if managed { HA[stage - 1] } else { 0 },
        changes: table::ACCESSED,
        managed,
        fsc: FSC_ACCESS_L3,
        name,
    }
}

/// Returns a page that is writable-clean: DBM, and no permission to write.
const fn clean(stage: usize, managed: bool, name: &'static str) -> Case {
    let flag = [table::READ_ONLY, table::S2_WRITE][stage - 1];

    Case {
        stage,
        set: table::DBM | if stage == 1 { flag } else { 0 },
        clear: if stage == 1 { 0 } else { flag },
        controls: if managed {
            HA_HD[stage - 1]
        } else {
            HA[stage - 1]
        },
        changes: flag,
        managed,
        fsc: FSC_PERMISSION_L3,
        name,
    }
}

const CASES: [Case; 8] = [
    old(1, true, "stage 1, Access flag clear, TCR_EL1.HA"),
    old(1, false, "stage 1, Access flag clear, no TCR_EL1.HA"),
    clean(1, true, "stage 1, writable-clean, TCR_EL1.HD"),
    clean(1, false, "stage 1, writable-clean, no TCR_EL1.HD"),
    old(2, true, "stage 2, Access flag clear, VTCR_EL2.HA"),
    old(2, false, "stage 2, Access flag clear, no VTCR_EL2.HA"),
    clean(2, true, "stage 2, writable-clean, VTCR_EL2.HD"),
    clean(2, false, "stage 2, writable-clean, no VTCR_EL2.HD"),
];

/// Enables one stage with the page of a case in the window; returns its descriptor.
fn map(case: &Case) -> u64 {
    let page = [window::page(0), window::page_of_stage2(0)][case.stage - 1];
    let descriptor = page & !case.clear | case.set;

    if case.stage == 1 {
        map_el1();
        write!("tcr_el1", read!("tcr_el1") | case.controls);
        window::map_stage1(&[descriptor]);
    } else {
        map_stage2();
        write!("vtcr_el2", read!("vtcr_el2") | case.controls);
        window::map_stage2(&[descriptor]);
    }
    descriptor
}

/// Checks that a write changes the descriptor, and that all records are in memory.
fn updated(report: &mut Report, case: &Case, before: u64) {
    let good = read!(SYS_PMBSR_EL1) == 0 && read!(SYS_PMBPTR_EL1) == BEYOND + SAMPLES * RECORD;

    report.check(
        good && window::get(case.stage) == before ^ case.changes,
        format_args!("{}: hardware updates the descriptor", case.name),
        "PMBIDR_EL1.F 1",
    );
}

/// Checks that a write is a fault, and that neither the descriptor nor the memory changes.
fn faulted(report: &mut Report, expected: &Expected, case: &Case, before: u64) {
    let ec = [PMBSR_EL1_EC_FAULT_S1, PMBSR_EL1_EC_FAULT_S2][case.stage - 1];
    let rule = match case.fsc {
        FSC_ACCESS_L3 => "PMBIDR_EL1.F, PMBSR_EL1: FSC 0b001011",
        _ => "PMBIDR_EL1.F, PMBSR_EL1: FSC 0b001111",
    };

    report.check(
        read!(SYS_PMBSR_EL1) == fault_event(expected, ec, case.fsc),
        format_args!("{}: fault of stage {}, level 3", case.name, case.stage),
        rule,
    );
    report.check(
        window::get(case.stage) == before && word(0) == 0,
        format_args!("and neither the descriptor nor the buffer changes"),
        "PMBIDR_EL1.F",
    );
}

/// Checks one case.
fn case(report: &mut Report, expected: &Expected, case: &Case) {
    let sctlr = read!("sctlr_el1");
    let before = map(case);

    prepare(PAGES);
    enable(BEYOND, PAGE);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    write!("sctlr_el1", sctlr);
    write!("hcr_el2", HCR_EL2_RW);
    if case.managed && expected.spe_f != 0 {
        updated(report, case, before);
    } else {
        faulted(report, expected, case, before);
    }
}

/// Runs all checks.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    report.same(
        field_of(read!(SYS_PMBIDR_EL1), PMBIDR_EL1_F),
        expected.spe_f,
        "whether buffer writes update flags is as on the command line",
        "PMBIDR_EL1.F",
    );
    let managed = field_of(read!("id_aa64mmfr1_el1"), ID_AA64MMFR1_EL1_HAFDBS);
    if managed < ID_AA64MMFR1_EL1_HAFDBS_DBM {
        return report.note(format_args!("the CPU does not update the dirty state"));
    }
    for each in &CASES {
        case(report, expected, each);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tests a full buffer, faults of buffer writes, and EL3, where nothing is sampled.

use core::arch::asm;

use super::*;

/// Returns whether PMBIRQ, which is PPI 21 on this board, is pending.
fn interrupt_pending() -> bool {
    const PMBIRQ: u32 = 21;
    /// GICR_ISPENDR0, in the second frame of the redistributor of CPU 0.
    const GICR_ISPENDR0: *const u32 = (0x080a_0000 + 0x1_0000 + 0x200) as *const u32;

    // SAFETY: This is a register of the board's GICv3.
    unsafe { GICR_ISPENDR0.read_volatile() & 1 << PMBIRQ != 0 }
}

/// Fills a buffer of one page, and checks the event.
fn full(report: &mut Report) {
    fill_page(profiled);
    report.same(
        read!(SYS_PMBSR_EL1),
        event(PMBSR_EL1_EC_BUF, BSC_FULL),
        "buffer full",
        "PMBSR_EL1: EC 0, BSC 0b000001",
    );
    report.same(
        read!(SYS_PMBPTR_EL1),
        buffer() + PAGE,
        "and the pointer is at the limit",
        "PMBPTR_EL1",
    );
}

/// Checks the interrupt of the preceding event.
fn interrupt(report: &mut Report) {
    const RULE: &str = "PMBSR_EL1.S";

    report.check(
        interrupt_pending(),
        format_args!("PMBIRQ is asserted"),
        RULE,
    );
    write!(SYS_PMBSR_EL1, 0);
    report.check(
        !interrupt_pending(),
        format_args!("and not once PMBSR_EL1.S is clear"),
        RULE,
    );
}

/// Samples to a buffer at `address`, and checks the fault.
fn fault(report: &mut Report, address: u64, want: u64, fact: &str, rule: &str) {
    prepare(PAGES);
    enable(address, PAGE);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(read!(SYS_PMBSR_EL1), want, fact, rule);
}

/// Checks the pointer after a fault of the first record at `address`.
fn pointer(report: &mut Report, expected: &Expected, address: u64) {
    let pointer = read!(SYS_PMBPTR_EL1);

    if expected.spe_dl == 0 {
        report.same(
            pointer,
            address,
            "the pointer stays where the record would be",
            "PMBSR_EL1.DL 0",
        );
    } else {
        report.check(
            pointer > address && pointer < address + PAGE,
            format_args!("the pointer is in the page that faulted, past the last whole record"),
            "PMBSR_EL1.DL 1, Faults and watchpoints",
        );
    }
}

/// Checks faults of stage 1: for unmapped memory, then for read-only memory.
fn stage1(report: &mut Report, expected: &Expected) {
    let sctlr = map_el1();

    fault(
        report,
        BEYOND,
        fault_event(expected, PMBSR_EL1_EC_FAULT_S1, FSC_TRANSLATION_L1),
        "stage 1 translation fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100100, FSC 0b000101",
    );
    pointer(report, expected, BEYOND);
    let view = table::MEMORY | table::NORMAL | table::READ_ONLY | table::BLOCK;
    // SAFETY: The entry is not in use. It becomes a second mapping of the memory.
    unsafe { table::map(addr_of_mut!(STAGE1), 2, view) };
    fault(
        report,
        buffer() - table::MEMORY + BEYOND,
        fault_event(expected, PMBSR_EL1_EC_FAULT_S1, FSC_PERMISSION_L1),
        "stage 1 permission fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100100, FSC 0b001101",
    );
    write!("sctlr_el1", sctlr);
}

/// Checks a fault of the second page of the buffer: the records in the first are complete.
fn second_page(report: &mut Report, expected: &Expected) {
    let sctlr = map_el1();

    window::map_stage1(&[window::page(0)]);
    prepare(PAGES);
    enable(BEYOND, 2 * PAGE);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    report.same(
        read!(SYS_PMBSR_EL1),
        fault_event(expected, PMBSR_EL1_EC_FAULT_S1, FSC_TRANSLATION_L3),
        "stage 1 translation fault on the second page, level 3",
        "PMBSR_EL1: EC 0b100100, FSC 0b000111",
    );
    pointer(report, expected, BEYOND + PAGE);
    let whole = (0..PAGE / RECORD)
        .filter(|&n| decode(n).well_formed)
        .count() as u64;
    report.same(
        whole,
        PAGE / RECORD,
        "the first page has only whole records",
        "PMBSR_EL1.DL",
    );
    write!("sctlr_el1", sctlr);
}

/// Checks that buffer writes use stage 2, and a fault of stage 2.
fn stage2(report: &mut Report, expected: &Expected) {
    map_stage2();
    fault(
        report,
        BEYOND,
        fault_event(expected, PMBSR_EL1_EC_FAULT_S2, FSC_TRANSLATION_L1),
        "stage 2 translation fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100101, FSC 0b000101",
    );
    prepare(PAGES);
    sample(PMSCR_EL1_E1SPE, 1, profiled);
    write!("hcr_el2", HCR_EL2_RW);
    report.same(
        records(),
        SAMPLES,
        "with stage 2 in force, the buffer is the guest's",
        "Profiling Buffer",
    );
}

/// Checks that at EL3 nothing is sampled.
fn at_el3(report: &mut Report) {
    prepare(PAGES);
    write!(SYS_PMSCR_EL1, PMSCR_EL1_E0SPE | PMSCR_EL1_E1SPE);
    // SAFETY: As in profiled().
    unsafe { asm!("bl work", clobber_abi("C")) };
    write!(SYS_PMSCR_EL1, 0);
    report.same(
        records(),
        0,
        "nothing of EL3",
        "StatisticalProfilingEnabled()",
    );
}

/// Runs all checks.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    full(report);
    interrupt(report);
    stage1(report, expected);
    second_page(report, expected);
    stage2(report, expected);
    at_el3(report);
}

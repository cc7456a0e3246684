// SPDX-License-Identifier: GPL-2.0

//! A buffer that is full, that cannot be written, that is no buffer.

use super::*;
use core::arch::asm;

/// Whether PPI 21 is pending, by the redistributor of CPU 0 (`GICR_ISPENDR0`).
fn interrupt_pending() -> bool {
    // SAFETY: A register of the board's GICv3.
    unsafe { ((0x080a_0000 + 0x1_0000 + 0x200) as *const u32).read_volatile() >> 21 & 1 != 0 }
}

pub(super) fn test(report: &mut Report) {
    prepare(1);
    write!("s3_0_c9_c9_0", EL1);
    cpu::at(1, profiled, 0);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    report.same(
        read!("s3_0_c9_c10_3"),
        S | 1,
        "buffer full",
        "PMBSR_EL1: EC 0, BSC 0b000001",
    );
    report.same(
        read!("s3_0_c9_c10_1"),
        buffer() + 4096,
        "and the pointer is at the limit",
        "PMBPTR_EL1",
    );
    report.check(
        interrupt_pending(),
        format_args!("PMBIRQ is asserted"),
        "PMBSR_EL1.S",
    );
    write!("s3_0_c9_c10_3", 0);
    report.check(
        !interrupt_pending(),
        format_args!("and not once PMBSR_EL1.S is clear"),
        "PMBSR_EL1.S",
    );

    let sctlr = map_el1();
    // SAFETY: The table is not in use. Blocks of 1 GiB, as for stage 1.
    unsafe {
        let stage2 = core::ptr::addr_of_mut!(STAGE2).cast::<u64>();
        stage2.write_volatile(1 << 10 | 3 << 6 | 1);
        stage2
            .add(1)
            .write_volatile(0x4000_0000 | 1 << 10 | 3 << 6 | 0xf << 2 | 1);
    }
    prepare(PAGES as u64);
    write!("s3_0_c9_c10_1", 0x8000_0000);
    write!("s3_0_c9_c10_0", 0x8000_1000 | 1);
    sample(EL1, 1, profiled);
    report.same(
        read!("s3_0_c9_c10_3"),
        0x24 << 26 | S | 0x05,
        "stage 1 translation fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100100, FSC 0b000101",
    );
    report.same(
        read!("s3_0_c9_c10_1"),
        0x8000_0000,
        "the pointer stays where the record would be",
        "PMBPTR_EL1",
    );
    prepare(PAGES as u64);
    // SAFETY: The entry is not in use: the second view of the memory, read-only.
    unsafe {
        core::ptr::addr_of_mut!(STAGE1)
            .cast::<u64>()
            .add(2)
            .write_volatile(0x4000_0000 | 1 << 10 | 1 << 7 | 1 << 2 | 1)
    };
    write!("s3_0_c9_c10_1", buffer() + 0x4000_0000);
    write!("s3_0_c9_c10_0", (buffer() + 0x4000_1000) | 1);
    sample(EL1, 1, profiled);
    report.same(
        read!("s3_0_c9_c10_3"),
        0x24 << 26 | S | 0x0d,
        "stage 1 permission fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100100, FSC 0b001101",
    );
    write!("sctlr_el1", sctlr);

    // Stage 2: T0SZ 25, SL0 1 (level 1), the same blocks.
    write!("vtcr_el2", 25 | 1 << 6 | 1 << 31);
    write!("vttbr_el2", core::ptr::addr_of!(STAGE2) as u64);
    write!("hcr_el2", HCR_RW | 1);
    prepare(PAGES as u64);
    write!("s3_0_c9_c10_1", 0x8000_0000);
    write!("s3_0_c9_c10_0", 0x8000_1000 | 1);
    sample(EL1, 1, profiled);
    report.same(
        read!("s3_0_c9_c10_3"),
        0x25 << 26 | S | 0x05,
        "stage 2 translation fault on the buffer, level 1",
        "PMBSR_EL1: EC 0b100101, FSC 0b000101",
    );
    prepare(PAGES as u64);
    sample(EL1, 1, profiled);
    write!("hcr_el2", HCR_RW);
    report.same(
        records(),
        TURNS * TURN / INTERVAL,
        "with stage 2 in force, the buffer is the guest's",
        "Profiling Buffer",
    );

    // At EL3 nothing is sampled.
    prepare(PAGES as u64);
    write!("s3_0_c9_c9_0", EL0 | EL1);
    // SAFETY: As in profiled().
    unsafe { asm!("bl work", clobber_abi("C")) };
    write!("s3_0_c9_c9_0", 0);
    report.same(
        records(),
        0,
        "nothing of EL3",
        "StatisticalProfilingEnabled()",
    );
}

// SPDX-License-Identifier: GPL-2.0

//! FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

use core::arch::{asm, global_asm};

use crate::{cpu, Report, Table};

const SYSREG_TRAP: u64 = 0x18;

/// The Profiling Buffer: `PAGES` pages.
const PAGES: usize = 4;
const RECORD: u64 = 64;

#[repr(align(4096))]
struct Buffer(#[allow(dead_code)] [u8; PAGES * 4096]);

static mut BUFFER: Buffer = Buffer([0; PAGES * 4096]);

static mut STAGE1: Table = Table([0; 512]);
static mut STAGE2: Table = Table([0; 512]);

// The assembler knows the names only with the extension, so encodings are used:
// s3_0_c9_c9_{0 PMSCR, 2 PMSICR, 3 PMSIRR, 4 PMSFCR, 5 PMSEVFR, 6 PMSLATFR, 7 PMSIDR}_EL1,
// s3_0_c9_c10_{0 PMBLIMITR, 1 PMBPTR, 3 PMBSR, 7 PMBIDR}_EL1, s3_4_c9_c9_0 PMSCR_EL2,
// s3_5_c9_c9_0 PMSCR_EL12, s3_4_c3_c1_4 HDFGRTR_EL2, s3_4_c3_c1_5 HDFGWTR_EL2.

/// `PMSCR_EL1`: E0SPE and E1SPE.
const EL0: u64 = 1;
const EL1: u64 = 2;
/// `PMSFCR_EL1`: by type, with the types.
const TYPE: u64 = 2;
const BRANCHES: u64 = 1 << 16;
const LOADS: u64 = 1 << 17;
const STORES: u64 = 1 << 18;
/// `PMBSR_EL1`.
const S: u64 = 1 << 17;
const DL: u64 = 1 << 19;

const HCR_RW: u64 = 1 << 31;
const E2PB_EL1: u64 = 3 << 12;
const TPMS: u64 = 1 << 14;

/// Instructions of one turn of the loop below.
const TURN: u64 = 4;
const TURNS: u64 = 4096;

// The work that is profiled: in each turn a load, a store, an addition, a branch.
global_asm!(
    ".global work",
    "work:",
    "ldr x2, =WORD",
    "mov x3, #4096",
    "work_loop:",
    "ldr x4, [x2]",
    "str x4, [x2, #8]",
    "subs x3, x3, #1",
    "b.ne work_loop",
    "work_end:",
    "ret",
);

#[no_mangle]
static mut WORD: [u64; 2] = [0; 2];

extern "C" {
    fn work();
    fn work_loop();
    fn work_end();
}

extern "C" fn profiled(_: u64) {
    // SAFETY: The routine uses caller-saved registers.
    unsafe { asm!("bl work", "hint #17", "isb", clobber_abi("C")) };
}

/// The same at EL0.
extern "C" fn profiled_el0(_: u64) {
    // SAFETY: As above; the buffer is drained by who comes after.
    unsafe { asm!("bl work", clobber_abi("C")) };
}

extern "C" fn access_controls(_: u64) {
    let value = read!("s3_0_c9_c9_0");
    write!("s3_0_c9_c9_0", value);
}

extern "C" fn access_buffer(_: u64) {
    let value = read!("s3_0_c9_c10_1");
    write!("s3_0_c9_c10_1", value);
}

/// Reads `PMBIDR_EL1` and leaves it where the caller finds it.
extern "C" fn read_identity(to: u64) {
    let value = read!("s3_0_c9_c10_7");
    // SAFETY: The caller's variable.
    unsafe { (to as *mut u64).write_volatile(value) };
}

fn buffer() -> u64 {
    core::ptr::addr_of!(BUFFER) as u64
}

/// Sets profiling up: an empty buffer of `pages`, a sample every 256 instructions, no
/// filter.
fn prepare(pages: u64) {
    write!("s3_0_c9_c9_0", 0);
    write!("s3_0_c9_c10_0", 0);
    // SAFETY: Nothing writes to the buffer while it is disabled.
    unsafe { core::ptr::addr_of_mut!(BUFFER).write_bytes(0, 1) };
    write!("s3_0_c9_c10_1", buffer());
    write!("s3_0_c9_c10_3", 0);
    write!("s3_0_c9_c9_2", 0);
    write!("s3_0_c9_c9_3", 256);
    write!("s3_0_c9_c9_4", 0);
    write!("s3_0_c9_c9_5", 0);
    write!("s3_0_c9_c9_6", 0);
    write!("s3_0_c9_c10_0", (buffer() + pages * 4096) | 1);
}

/// The records of the buffer.
fn records() -> u64 {
    (read!("s3_0_c9_c10_1") - buffer()) / RECORD
}

/// What a record says.
#[derive(Default)]
struct Decoded {
    pc: u64,
    address: Option<u64>,
    kind: u8,
    subclass: u8,
    events: u64,
    context: Option<u64>,
    total: u64,
    time: Option<u64>,
    well_formed: bool,
}

/// Takes record `n` apart ("Statistical Profiling Extension sample record
/// specification").
fn decode(n: u64) -> Decoded {
    let mut out = Decoded::default();
    let mut at = (buffer() + n * RECORD) as *const u8;
    // SAFETY: The record lies in the buffer, which is disabled.
    let end = unsafe { at.add(RECORD as usize) };

    while at < end {
        // SAFETY: As above.
        let header = unsafe { at.read_volatile() };
        let size = if header & 0xf0 == 0 {
            0
        } else {
            1usize << (header >> 4 & 3)
        };
        let mut value = 0u64;
        // SAFETY: As above; no packet reaches beyond the record.
        unsafe {
            for i in 0..size {
                value |= u64::from(at.add(1 + i).read_volatile()) << (8 * i);
            }
            at = at.add(1 + size);
        }
        match header {
            0x01 | 0x71 => {
                out.time = (header == 0x71).then_some(value);
                out.well_formed = true;
                return out;
            }
            0xb0 => out.pc = value,
            0xb2 => out.address = Some(value),
            0xb1 | 0xb3 => {}
            0x64 => out.context = Some(value),
            0x65 => {}
            0x52 => out.events = value,
            0x48..=0x4a => {
                out.kind = header & 3;
                out.subclass = value as u8;
            }
            0x98 => out.total = value,
            0x99 | 0x9a => {}
            _ => return out,
        }
    }
    out
}

fn registers(report: &mut Report) {
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
            access_controls as extern "C" fn(u64),
        ),
        (
            "MDCR_EL2.E2PB 0b10 traps PMBPTR_EL1",
            2 << 12,
            access_buffer,
        ),
        ("MDCR_EL2.E2PB 0b00 traps PMBPTR_EL1", 0, access_buffer),
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
    let taken = cpu::at(1, access_controls, 0);
    report.check(
        taken.count == 2 && taken.el == 3 && taken.class() == SYSREG_TRAP,
        format_args!("MDCR_EL3.NSPB 0b10 traps PMSCR_EL1 to EL3"),
        "MDCR_EL3.NSPB",
    );
    write!("mdcr_el3", 3 << 12);
    report.same(
        cpu::at(1, access_buffer, 0).count,
        0,
        "EL1 may access its buffer",
        "MDCR_EL2.E2PB 0b11",
    );
    if read!("id_aa64mmfr0_el1") >> 56 & 0xf != 0 {
        // HDFGRTR_EL2.PMBPTR_EL1 is bit 24.
        write!("s3_4_c3_c1_4", 1 << 24);
        let taken = cpu::at(1, access_buffer, 0);
        write!("s3_4_c3_c1_4", 0);
        report.check(
            taken.count == 1 && taken.el == 2 && taken.esr & 1 == 1,
            format_args!("HDFGRTR_EL2 traps reads of PMBPTR_EL1 alone"),
            "HDFGRTR_EL2.PMBPTR_EL1",
        );
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

fn sampling(report: &mut Report) {
    let first = work_loop as usize as u64;
    let last = work_end as usize as u64;

    prepare(PAGES as u64);
    write!("s3_0_c9_c9_0", EL1);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    let count = records();
    report.same(
        count,
        TURNS * TURN / 256,
        "one record every 256 operations",
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
    write!("s3_0_c9_c9_0", EL1 | 1 << 3 | 1 << 5);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
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
    write!("s3_0_c9_c9_0", EL0 | EL1);
    cpu::at(2, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
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

fn filters(report: &mut Report) {
    for (name, filter, kind, stores) in [
        ("loads", LOADS, 1, 0),
        ("stores", STORES, 1, 1),
        ("branches", BRANCHES, 2, 1),
    ] {
        prepare(PAGES as u64);
        // Every 257th, so that no type escapes.
        write!("s3_0_c9_c9_3", 256 | 1);
        write!("s3_0_c9_c9_4", TYPE | filter);
        write!("s3_0_c9_c9_0", EL1);
        cpu::at(1, profiled, 0);
        write!("s3_0_c9_c9_0", 0);
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
        write!("s3_0_c9_c9_0", EL1);
        cpu::at(1, profiled, 0);
        write!("s3_0_c9_c9_0", 0);
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
    // Every operation retires; few walk the tables.
    for (event, name) in [(1, "retired"), (5, "TLB walk")] {
        prepare(PAGES as u64);
        write!("s3_0_c9_c9_4", 1);
        write!("s3_0_c9_c9_5", 1 << event);
        write!("s3_0_c9_c9_0", EL1);
        cpu::at(1, profiled, 0);
        write!("s3_0_c9_c9_0", 0);
        let count = records();
        let good = (0..count)
            .map(decode)
            .filter(|r| r.events >> event & 1 != 0)
            .count() as u64;
        let all = TURNS * TURN / 256;
        report.check(
            good == count
                && if event == 1 {
                    count == all
                } else {
                    count < all
                },
            format_args!("filter by event {name}: {count} records, all of them had it"),
            "PMSEVFR_EL1",
        );
    }
}

/// Whether PPI 21 is pending, by the redistributor of CPU 0 (`GICR_ISPENDR0`).
fn interrupt_pending() -> bool {
    // SAFETY: A register of the board's GICv3.
    unsafe { ((0x080a_0000 + 0x1_0000 + 0x200) as *const u32).read_volatile() >> 21 & 1 != 0 }
}

fn faults(report: &mut Report) {
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

    // Stage 1 of EL1: 1 GiB blocks, the first (devices) and the second (memory).
    // SAFETY: The tables are not in use.
    unsafe {
        let stage1 = core::ptr::addr_of_mut!(STAGE1).cast::<u64>();
        stage1.write_volatile(1 << 10 | 1);
        stage1
            .add(1)
            .write_volatile(0x4000_0000 | 1 << 10 | 1 << 2 | 1);
        let stage2 = core::ptr::addr_of_mut!(STAGE2).cast::<u64>();
        stage2.write_volatile(1 << 10 | 3 << 6 | 1);
        stage2
            .add(1)
            .write_volatile(0x4000_0000 | 1 << 10 | 3 << 6 | 0xf << 2 | 1);
    }
    // MAIR: 0 device, 1 normal. TCR: T0SZ 25, EPD1. SCTLR: M.
    write!("mair_el1", 0xff00);
    write!("tcr_el1", 25 | 1 << 23);
    write!("ttbr0_el1", core::ptr::addr_of!(STAGE1) as u64);
    let sctlr = read!("sctlr_el1");
    write!("sctlr_el1", sctlr | 1);
    prepare(PAGES as u64);
    write!("s3_0_c9_c10_1", 0x8000_0000);
    write!("s3_0_c9_c10_0", 0x8000_1000 | 1);
    write!("s3_0_c9_c9_0", EL1);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    report.same(
        read!("s3_0_c9_c10_3"),
        0x24 << 26 | S | DL | 0x05,
        "stage 1 translation fault on the buffer, level 1, data lost",
        "PMBSR_EL1: EC 0b100100, FSC 0b000101",
    );
    report.same(
        read!("s3_0_c9_c10_1"),
        0x8000_0000,
        "the pointer stays where the record would be",
        "PMBPTR_EL1",
    );
    write!("sctlr_el1", sctlr);

    // Stage 2: T0SZ 25, SL0 1 (level 1), the same blocks.
    write!("vtcr_el2", 25 | 1 << 6 | 1 << 31);
    write!("vttbr_el2", core::ptr::addr_of!(STAGE2) as u64);
    write!("hcr_el2", HCR_RW | 1);
    prepare(PAGES as u64);
    write!("s3_0_c9_c10_1", 0x8000_0000);
    write!("s3_0_c9_c10_0", 0x8000_1000 | 1);
    write!("s3_0_c9_c9_0", EL1);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    report.same(
        read!("s3_0_c9_c10_3"),
        0x25 << 26 | S | DL | 0x05,
        "stage 2 translation fault on the buffer, level 1, data lost",
        "PMBSR_EL1: EC 0b100101, FSC 0b000101",
    );
    prepare(PAGES as u64);
    write!("s3_0_c9_c9_0", EL1);
    cpu::at(1, profiled, 0);
    write!("s3_0_c9_c9_0", 0);
    write!("hcr_el2", HCR_RW);
    report.same(
        records(),
        TURNS * TURN / 256,
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

pub fn test(report: &mut Report) {
    let _ = work as usize;
    registers(report);
    sampling(report);
    filters(report);
    faults(report);
}

// SPDX-License-Identifier: GPL-2.0

//! FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

use core::arch::{asm, global_asm};

use crate::{cpu, Expected, Report, Table};

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
// s3_5_c9_c9_0 PMSCR_EL12, s3_4_c13_c0_1 CONTEXTIDR_EL2, s3_4_c3_c1_4 HDFGRTR_EL2, s3_4_c3_c1_5 HDFGWTR_EL2.

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

const HCR_RW: u64 = 1 << 31;
const E2PB_EL1: u64 = 3 << 12;
const TPMS: u64 = 1 << 14;

/// Instructions of one turn of the loop below.
const TURN: u64 = 4;
const TURNS: u64 = 4096;
/// Operations from one sample to the next: the one that finds the counter at zero is
/// chosen ("Statistical Profiling Extension sampling operations").
const INTERVAL: u64 = 256 + 1;

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

// One of each kind, and a load that goes to another page each time; the instructions
// that are told apart are those of MIXED, in its order.
global_asm!(
    ".arch_extension lse",
    ".global mixed",
    "mixed:",
    "ldr x2, =WORD",
    "ldr x9, =0x44000000",
    "mov x3, #1024",
    "mixed_loop:",
    "ldadd x4, x5, [x2]",
    "stadd x4, [x2]",
    "ldaxr x5, [x2]",
    "stxr w6, x5, [x2]",
    "ldr q0, [x2]",
    "csel x7, x7, x5, eq",
    "add x7, x7, #1",
    "ldr x8, [x9]",
    "add x9, x9, #1, lsl #12",
    "ldr w8, [x2, #2]",
    "subs x3, x3, #1",
    "b.ne mixed_loop",
    "ret",
);

/// Class and subclass of the instructions of the loop ("Operation Type packet").
const MIXED: [(u8, u8); 12] = [
    (1, 0x06),
    (1, 0x07),
    (1, 0x1a),
    (1, 0x0b),
    (1, 0x04),
    (0, 0x01),
    (0, 0x00),
    (1, 0x00),
    (0, 0x00),
    (1, 0x00),
    (0, 0x00),
    (2, 0x01),
];

/// `E[5]`, TLB walk, and `E[11]`, misaligned.
const WALK: u64 = 1 << 5;
const MISALIGNED: u64 = 1 << 11;

#[repr(align(16))]
struct Words(#[allow(dead_code)] [u64; 4]);

#[no_mangle]
static mut WORD: Words = Words([0; 4]);

extern "C" {
    fn work();
    fn work_loop();
    fn work_end();
    fn mixed();
    fn mixed_loop();
}

extern "C" fn profiled_mixed(_: u64) {
    // SAFETY: The routine uses caller-saved registers, and reads memory of the board.
    unsafe { asm!("bl mixed", "hint #17", "isb", clobber_abi("C")) };
}

/// A read and a write of one register, which both may be trapped.
macro_rules! access {
    ($register:literal) => {{
        extern "C" fn access(_: u64) {
            let value = read!($register);
            write!($register, value);
        }
        access as extern "C" fn(u64)
    }};
}

/// The registers that EL1 may write, with their bit of HDFGRTR_EL2 and HDFGWTR_EL2.
fn writable() -> [(&'static str, u32, extern "C" fn(u64)); 9] {
    [
        ("PMBLIMITR", 23, access!("s3_0_c9_c10_0")),
        ("PMBPTR", 24, access!("s3_0_c9_c10_1")),
        ("PMBSR", 25, access!("s3_0_c9_c10_3")),
        ("PMSCR", 26, access!("s3_0_c9_c9_0")),
        ("PMSEVFR", 27, access!("s3_0_c9_c9_5")),
        ("PMSFCR", 28, access!("s3_0_c9_c9_4")),
        ("PMSICR", 29, access!("s3_0_c9_c9_2")),
        ("PMSIRR", 31, access!("s3_0_c9_c9_3")),
        ("PMSLATFR", 32, access!("s3_0_c9_c9_6")),
    ]
}

extern "C" fn read_identification(_: u64) {
    let _ = (read!("s3_0_c9_c9_7"), read!("s3_0_c9_c10_7"));
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

/// Reads `PMBIDR_EL1` and leaves it where the caller finds it.
extern "C" fn read_identity(to: u64) {
    let value = read!("s3_0_c9_c10_7");
    // SAFETY: The caller's variable.
    unsafe { (to as *mut u64).write_volatile(value) };
}

fn buffer() -> u64 {
    core::ptr::addr_of!(BUFFER) as u64
}

/// Sets profiling up: an empty buffer of `pages`, a sample every [`INTERVAL`]
/// instructions, no filter.
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

/// Runs the function at exception level `el` with `controls` in `PMSCR_EL1`, and with
/// profiling off on the way out.
fn sample(controls: u64, el: u64, function: extern "C" fn(u64)) {
    write!("s3_0_c9_c9_0", controls);
    cpu::at(el, function, 0);
    write!("s3_0_c9_c9_0", 0);
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
    context_el2: Option<u64>,
    physical: Option<u64>,
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
            0xb1 => {}
            0xb3 => out.physical = Some(value),
            0x64 => out.context = Some(value),
            0x65 => out.context_el2 = Some(value),
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

fn registers(report: &mut Report, expected: &Expected) {
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
            access!("s3_0_c9_c9_0"),
        ),
        (
            "MDCR_EL2.E2PB 0b10 traps PMBPTR_EL1",
            2 << 12,
            access!("s3_0_c9_c10_1"),
        ),
        (
            "MDCR_EL2.E2PB 0b00 traps PMBPTR_EL1",
            0,
            access!("s3_0_c9_c10_1"),
        ),
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
    let taken = cpu::at(1, access!("s3_0_c9_c9_0"), 0);
    report.check(
        taken.count == 2 && taken.el == 3 && taken.class() == SYSREG_TRAP,
        format_args!("MDCR_EL3.NSPB 0b10 traps PMSCR_EL1 to EL3"),
        "MDCR_EL3.NSPB",
    );
    write!("mdcr_el3", 3 << 12);
    report.same(
        cpu::at(1, access!("s3_0_c9_c10_1"), 0).count,
        0,
        "EL1 may access its buffer",
        "MDCR_EL2.E2PB 0b11",
    );
    if expected.features & 1 != 0 {
        for (name, bit, function) in writable() {
            write!("s3_4_c3_c1_4", 1 << bit);
            let reads = cpu::at(1, function, 0);
            write!("s3_4_c3_c1_4", 0);
            write!("s3_4_c3_c1_5", 1 << bit);
            let writes = cpu::at(1, function, 0);
            write!("s3_4_c3_c1_5", 0);
            report.check(
                reads.count == 1
                    && reads.el == 2
                    && reads.class() == SYSREG_TRAP
                    && reads.esr & 1 == 1
                    && writes.count == 1
                    && writes.el == 2
                    && writes.class() == SYSREG_TRAP
                    && writes.esr & 1 == 0,
                format_args!("HDFGRTR_EL2 and HDFGWTR_EL2 trap {name}_EL1"),
                "HDFGRTR_EL2, HDFGWTR_EL2",
            );
        }
        // PMSIDR_EL1 and PMBIDR_EL1.
        for bit in [30, 63] {
            write!("s3_4_c3_c1_4", 1 << bit);
            let taken = cpu::at(1, read_identification, 0);
            write!("s3_4_c3_c1_4", 0);
            report.check(
                taken.count == 1 && taken.el == 2,
                format_args!("HDFGRTR_EL2 bit {bit} traps one identification register"),
                "HDFGRTR_EL2",
            );
        }
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
    write!("mdcr_el2", 0);
    let mut identity = 0u64;
    cpu::at(2, read_identity, core::ptr::addr_of_mut!(identity) as u64);
    report.same(
        identity >> 4 & 1,
        0,
        "EL2 may program the buffer",
        "PMBIDR_EL1.P",
    );
    let at_el3 = read!("s3_0_c9_c10_7");
    report.same(
        at_el3 >> 4 & 1,
        0,
        "EL3 may program the buffer",
        "PMBIDR_EL1.P",
    );
    write!("mdcr_el2", E2PB_EL1);
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

/// Switches the MMU of EL1 on, flat, with 1 GiB blocks: the first is devices, the
/// second memory. Returns what `SCTLR_EL1` was.
fn map_el1() -> u64 {
    // SAFETY: The table is not in use.
    unsafe {
        let stage1 = core::ptr::addr_of_mut!(STAGE1).cast::<u64>();
        stage1.write_volatile(1 << 10 | 1);
        stage1
            .add(1)
            .write_volatile(0x4000_0000 | 1 << 10 | 1 << 2 | 1);
    }
    // MAIR: 0 device, 1 normal. TCR: T0SZ 25, EPD1. SCTLR: M.
    write!("mair_el1", 0xff00);
    write!("tcr_el1", 25 | 1 << 23);
    write!("ttbr0_el1", core::ptr::addr_of!(STAGE1) as u64);
    let sctlr = read!("sctlr_el1");
    write!("sctlr_el1", sctlr | 1);
    sctlr
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

/// Puts what the buffer holds into the report, so that two runs can be compared.
fn note_buffer(report: &mut Report) {
    let mut sum = 0u64;

    for i in 0..PAGES * 4096 / 8 {
        // SAFETY: The buffer is disabled.
        let word = unsafe { (buffer() as *const u64).add(i).read_volatile() };
        sum = sum.rotate_left(5) ^ word;
    }
    report.note(format_args!("buffer {sum:#x}"));
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

/// Without FEAT_SPE there is none of its registers.
fn absent(report: &mut Report) {
    for (name, _, function) in writable() {
        let taken = cpu::at(1, function, 0);
        report.check(
            taken.count == 2 && taken.el == 1 && taken.class() == 0,
            format_args!("without FEAT_SPE, {name}_EL1 is UNDEFINED"),
            "FEAT_SPE",
        );
    }
}

pub fn test(report: &mut Report, expected: &Expected) {
    let taken = cpu::at(1, access!("s3_0_c9_c9_1"), 0);
    report.check(
        taken.count == 2 && taken.class() == 0,
        format_args!("PMSNEVFR_EL1 is UNDEFINED before FEAT_SPEv1p2"),
        "PMSNEVFR_EL1",
    );
    if expected.spe == 0 {
        return absent(report);
    }
    let _ = (work as usize, mixed as usize);
    registers(report, expected);
    sampling(report);
    note_buffer(report);
    more_packets(report);
    kinds(report);
    filters(report);
    faults(report);
}

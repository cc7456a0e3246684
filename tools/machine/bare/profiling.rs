// SPDX-License-Identifier: GPL-2.0

//! Tests FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

use core::arch::asm;
use core::ptr::{addr_of, addr_of_mut};

use crate::{
    cpu,
    sysreg::*,
    table::{self, Table},
    Expected, Report, FGT, MDCR_EL2,
};

mod counts;
mod faults;
mod flags;
mod lag;
mod record;
mod registers;
mod sampling;
mod tlb;
mod version;
mod window;
mod work;

pub use counts::count_samples;
use record::{decode, Decoded};
use work::*;

/// The Profiling Buffer: `PAGES` pages.
const PAGES: u64 = 4;
const PAGE: u64 = 4096;
const RECORD: u64 = 64;
const BYTES: usize = (PAGES * PAGE) as usize;

#[repr(align(4096))]
struct Buffer(#[allow(dead_code)] [u8; BYTES]);

static mut BUFFER: Buffer = Buffer([0; BYTES]);

static mut STAGE1: Table = Table::new();
static mut STAGE2: Table = Table::new();

/// `PMSIRR_EL1`: a sample every 256 operations, the lowest interval.
const EVERY_256: u64 = field(PMSIRR_EL1_INTERVAL, 1);
/// `PMSIRR_EL1`: the same with random variation, so that every instruction of a loop is sampled.
const ABOUT_256: u64 = EVERY_256 | PMSIRR_EL1_RND;
/// Operations from one sample to the next: the operation that finds the counter at zero is
/// sampled ("Statistical Profiling Extension sampling operations").
const INTERVAL: u64 = 256 + 1;
/// The gigabyte after the memory, which has no memory.
const BEYOND: u64 = 2 * table::MEMORY;
/// The number of records for one run of the work.
const SAMPLES: u64 = TURNS * TURN / INTERVAL;

/// Returns the address of the buffer.
fn buffer() -> u64 {
    addr_of!(BUFFER) as u64
}

/// Makes `bytes` bytes at `address` the Profiling Buffer.
fn enable(address: u64, bytes: u64) {
    write!(SYS_PMBLIMITR_EL1, 0);
    write!(SYS_PMBPTR_EL1, address);
    write!(SYS_PMBLIMITR_EL1, (address + bytes) | PMBLIMITR_EL1_E);
}

/// Completes the records of all earlier operations in memory: `PSB CSYNC`, which is `HINT #17`,
/// and `DSB`.
fn drain() {
    // SAFETY: Records go to the buffer of the test.
    unsafe { asm!("hint #17", "dsb sy", "isb") };
}

/// Invalidates all translations of EL1, EL0 and EL2, after changes of tables or of the registers
/// that control translation.
fn forget() {
    // SAFETY: The tables in use are complete.
    unsafe { asm!("dsb sy", "tlbi alle1", "tlbi alle2", "dsb sy", "isb") };
}

/// Sets profiling up: an empty buffer of `pages`, a sample every [`INTERVAL`]
/// instructions, no filter.
fn prepare(pages: u64) {
    write!(SYS_PMSCR_EL1, 0);
    drain();
    write!(SYS_PMBLIMITR_EL1, 0);
    forget();
    // SAFETY: The CPU does not write to the buffer while it is disabled.
    unsafe { addr_of_mut!(BUFFER).write_bytes(0, 1) };
    write!(SYS_PMBSR_EL1, 0);
    write!(SYS_PMSICR_EL1, 0);
    write!(SYS_PMSIRR_EL1, EVERY_256);
    write!(SYS_PMSFCR_EL1, 0);
    write!(SYS_PMSEVFR_EL1, 0);
    write!(SYS_PMSLATFR_EL1, 0);
    enable(buffer(), pages * PAGE);
}

/// Runs `function` at Exception level `el` with `controls` in `PMSCR_EL1`, and then switches
/// profiling off.
fn sample_undrained(controls: u64, el: usize, function: extern "C" fn(u64)) {
    write!(SYS_PMSCR_EL1, controls);
    cpu::at(el, function, 0);
    write!(SYS_PMSCR_EL1, 0);
}

/// Does the same, and completes the records.
fn sample(controls: u64, el: usize, function: extern "C" fn(u64)) {
    sample_undrained(controls, el, function);
    drain();
}

/// Samples `function` at EL1, twice, which is more than a buffer of one page has room for.
fn fill_page(function: extern "C" fn(u64)) {
    prepare(1);
    write!(SYS_PMSCR_EL1, PMSCR_EL1_E1SPE);
    cpu::at(1, function, 0);
    cpu::at(1, function, 0);
    write!(SYS_PMSCR_EL1, 0);
    drain();
}

/// Returns `PMBSR_EL1` of an event.
fn event(ec: u64, mss: u64) -> u64 {
    PMBSR_EL1_S | field(PMBSR_EL1_EC, ec) | field(PMBSR_EL1_MSS, mss)
}

/// Returns `PMBSR_EL1` of a fault.
fn fault_event(expected: &Expected, ec: u64, fsc: u64) -> u64 {
    event(ec, fsc) | field(PMBSR_EL1_DL, expected.spe_dl)
}

/// Returns the doubleword at an offset in the buffer.
fn word(offset: u64) -> u64 {
    // SAFETY: The offset is that of a record in the buffer, which the CPU does not write now.
    unsafe { ((buffer() + offset) as *const u64).read_volatile() }
}

/// Returns the number of records in the buffer.
fn records() -> u64 {
    (read!(SYS_PMBPTR_EL1) - buffer()) / RECORD
}

/// Returns the records of the buffer.
fn decoded() -> impl Iterator<Item = Decoded> {
    (0..records()).map(decode)
}

/// Returns the number of records in the buffer for which `holds` is true.
fn count(holds: impl Fn(&Decoded) -> bool) -> u64 {
    decoded().filter(holds).count() as u64
}

/// Enables the MMU of EL1 with an identity map: the first gigabyte is devices, the second memory.
/// Returns the previous `SCTLR_EL1`.
fn map_el1() -> u64 {
    // SAFETY: The table is not in use.
    unsafe {
        let stage1 = addr_of_mut!(STAGE1);
        table::map(stage1, 0, table::BLOCK);
        table::map(stage1, 1, table::MEMORY | table::NORMAL | table::BLOCK);
    }
    write!("mair_el1", MAIR_DEVICE_NORMAL);
    let tcr = field(TCR_EL1_T0SZ, table::T0SZ) | TCR_EL1_EPD1;
    write!("tcr_el1", tcr);
    write!("ttbr0_el1", addr_of!(STAGE1) as u64);
    let sctlr = read!("sctlr_el1");
    write!("sctlr_el1", sctlr | SCTLR_EL1_M);
    forget();
    sctlr
}

/// Enables stage 2, with the same mappings as stage 1 in [`map_el1`].
fn map_stage2() {
    /// `VTCR_EL2.SL0`: level 1.
    const LEVEL_1: u64 = 1;
    let block = table::S2_READ_WRITE | table::BLOCK;

    // SAFETY: The table is not in use.
    unsafe {
        let stage2 = addr_of_mut!(STAGE2);
        table::map(stage2, 0, block);
        table::map(stage2, 1, table::MEMORY | table::S2_NORMAL | block);
    }
    let vtcr = field(VTCR_EL2_T0SZ, table::T0SZ) | field(VTCR_EL2_SL0, LEVEL_1) | VTCR_EL2_RES1;
    write!("vtcr_el2", vtcr);
    write!("vttbr_el2", addr_of!(STAGE2) as u64);
    write!("hcr_el2", HCR_EL2_RW | HCR_EL2_VM);
    forget();
}

/// Adds the contents of the buffer to the report, so that two runs can be compared.
fn note_buffer(report: &mut Report) {
    let mut sum = 0u64;

    for i in 0..BYTES / size_of::<u64>() {
        // SAFETY: The buffer is disabled.
        let word = unsafe { (buffer() as *const u64).add(i).read_volatile() };
        sum = sum.rotate_left(5) ^ word;
    }
    report.note(format_args!("buffer {sum:#x}"));
}

/// Runs all checks; without FEAT_SPE, checks only that none of its registers exists.
pub fn test(report: &mut Report, expected: &Expected) {
    registers::later_versions(report, expected);
    if expected.spe == 0 {
        return registers::absent(report);
    }
    registers::present(report, expected);
    version::test(report, expected);
    sampling::test(report, expected);
    faults::test(report, expected);
    flags::test(report, expected);
    lag::test(report, expected);
    tlb::test(report);
}

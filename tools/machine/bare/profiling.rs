// SPDX-License-Identifier: GPL-2.0

//! Tests FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

use core::ptr::{addr_of, addr_of_mut};

use crate::{
    cpu,
    sysreg::*,
    table::{self, Table},
    Expected, Report, FGT, MDCR_EL2,
};

mod faults;
mod record;
mod registers;
mod sampling;
mod work;

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
/// The number of records for one run of the work.
const SAMPLES: u64 = TURNS * TURN / INTERVAL;

/// Returns the address of the buffer.
fn buffer() -> u64 {
    addr_of!(BUFFER) as u64
}

/// Makes `bytes` bytes at `address` the Profiling Buffer.
fn enable(address: u64, bytes: u64) {
    write!(SYS_PMBPTR_EL1, address);
    write!(SYS_PMBLIMITR_EL1, (address + bytes) | PMBLIMITR_EL1_E);
}

/// Sets profiling up: an empty buffer of `pages`, a sample every [`INTERVAL`]
/// instructions, no filter.
fn prepare(pages: u64) {
    write!(SYS_PMSCR_EL1, 0);
    write!(SYS_PMBLIMITR_EL1, 0);
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
fn sample(controls: u64, el: usize, function: extern "C" fn(u64)) {
    write!(SYS_PMSCR_EL1, controls);
    cpu::at(el, function, 0);
    write!(SYS_PMSCR_EL1, 0);
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
    sctlr
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
    registers::later_version(report);
    if expected.spe == 0 {
        return registers::absent(report);
    }
    registers::present(report, expected);
    sampling::test(report);
    faults::test(report);
}

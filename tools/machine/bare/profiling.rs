// SPDX-License-Identifier: GPL-2.0

//! FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

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

/// `PMSIRR_EL1`: a sample every 256 operations, the lowest interval,
const EVERY_256: u64 = field(PMSIRR_EL1_INTERVAL, 1);
/// or about so, so that nothing in a loop escapes.
const ABOUT_256: u64 = EVERY_256 | PMSIRR_EL1_RND;
/// Operations from one sample to the next: the one that finds the counter at zero is
/// chosen ("Statistical Profiling Extension sampling operations").
const INTERVAL: u64 = 256 + 1;
/// Records of one run of the work.
const SAMPLES: u64 = TURNS * TURN / INTERVAL;

/// Returns the address of the buffer.
fn buffer() -> u64 {
    addr_of!(BUFFER) as u64
}

/// Makes the `bytes` from `address` on the Profiling Buffer.
fn enable(address: u64, bytes: u64) {
    write!(SYS_PMBPTR_EL1, address);
    write!(SYS_PMBLIMITR_EL1, (address + bytes) | PMBLIMITR_EL1_E);
}

/// Sets profiling up: an empty buffer of `pages`, a sample every [`INTERVAL`]
/// instructions, no filter.
fn prepare(pages: u64) {
    write!(SYS_PMSCR_EL1, 0);
    write!(SYS_PMBLIMITR_EL1, 0);
    // SAFETY: Nothing writes to the buffer while it is disabled.
    unsafe { addr_of_mut!(BUFFER).write_bytes(0, 1) };
    write!(SYS_PMBSR_EL1, 0);
    write!(SYS_PMSICR_EL1, 0);
    write!(SYS_PMSIRR_EL1, EVERY_256);
    write!(SYS_PMSFCR_EL1, 0);
    write!(SYS_PMSEVFR_EL1, 0);
    write!(SYS_PMSLATFR_EL1, 0);
    enable(buffer(), pages * PAGE);
}

/// Runs the function at exception level `el` with `controls` in `PMSCR_EL1`, and with
/// profiling off on the way out.
fn sample(controls: u64, el: usize, function: extern "C" fn(u64)) {
    write!(SYS_PMSCR_EL1, controls);
    cpu::at(el, function, 0);
    write!(SYS_PMSCR_EL1, 0);
}

/// Returns how many records the buffer has.
fn records() -> u64 {
    (read!(SYS_PMBPTR_EL1) - buffer()) / RECORD
}

/// Returns the records of the buffer.
fn decoded() -> impl Iterator<Item = Decoded> {
    (0..records()).map(decode)
}

/// Returns for how many records of the buffer that holds.
fn count(holds: impl Fn(&Decoded) -> bool) -> u64 {
    decoded().filter(holds).count() as u64
}

/// Switches the MMU of EL1 on, flat: the first gigabyte is devices, the second memory. Returns
/// what `SCTLR_EL1` was.
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

/// Puts what the buffer holds into the report, so that two runs can be compared.
fn note_buffer(report: &mut Report) {
    let mut sum = 0u64;

    for i in 0..BYTES / size_of::<u64>() {
        // SAFETY: The buffer is disabled.
        let word = unsafe { (buffer() as *const u64).add(i).read_volatile() };
        sum = sum.rotate_left(5) ^ word;
    }
    report.note(format_args!("buffer {sum:#x}"));
}

/// Checks all of it; without FEAT_SPE, that there is none of its registers.
pub fn test(report: &mut Report, expected: &Expected) {
    registers::later_version(report);
    if expected.spe == 0 {
        return registers::absent(report);
    }
    registers::present(report, expected);
    sampling::test(report);
    faults::test(report);
}

// SPDX-License-Identifier: GPL-2.0

//! FEAT_SPE: registers and traps, sampling, records, the buffer and its faults.

use crate::{cpu, Expected, Report, Table};

mod faults;
mod record;
mod registers;
mod sampling;
mod work;

use record::decode;
use work::*;

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

/// Operations from one sample to the next: the one that finds the counter at zero is
/// chosen ("Statistical Profiling Extension sampling operations").
const INTERVAL: u64 = 256 + 1;

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

pub fn test(report: &mut Report, expected: &Expected) {
    registers::later_version(report);
    if expected.spe == 0 {
        return registers::absent(report);
    }
    registers::present(report, expected);
    sampling::test(report);
    faults::test(report);
}

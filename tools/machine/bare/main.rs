// SPDX-License-Identifier: GPL-2.0

//! Tests of the machine model without a kernel: an image that starts at
//! EL3 of QEMU's "virt" board and prints TAP on its UART.
//!
//! QEMU's loader devices write the expected properties of the CPU to [`EXPECTED`], since an
//! image that relied on the ID registers could not check them.
//!
//! Rules are cited by their section or register in the Arm Architecture
//! Reference Manual for A-profile (DDI 0487).

#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

#[macro_use]
mod cpu;
mod debug;
mod identity;
mod profiling;
mod sysreg;
mod table;

use core::fmt::{self, Write};
use core::ptr::addr_of_mut;

use sysreg::*;
use table::Table;

/// The address at which QEMU's loader devices put the expected properties: a byte for each
/// field of [`Expected`], in order.
const EXPECTED: *const u8 = 0x4010_0000 as *const u8;

/// The properties that QEMU's command line sets.
pub struct Expected {
    pub brps: u64,
    pub ctx_cmps: u64,
    pub wrps: u64,
    /// [`FGT`], [`S2FWB`], [`DIC`] and [`IDC`].
    pub features: u64,
    /// CTR_EL0.IminLine.
    pub iminline: u64,
    /// The memory model control. 0: none, 1: one, 2: one that ignores writes, 3 and 4: separate
    /// registers for EL1 and EL2, with one of two encodings for that of EL1.
    pub tso: u64,
    /// Whether the CPU has FEAT_SPE.
    pub spe: u64,
    /// ID_AA64DFR0_EL1.PMSVer.
    pub spe_version: u64,
    /// The number of instructions for which a record stays in the Statistical Profiling Unit, in
    /// units of 1024.
    pub spe_lag: u64,
    /// PMBIDR_EL1.F.
    pub spe_f: u64,
    /// PMBSR_EL1.DL after a fault of the buffer.
    pub spe_dl: u64,
    /// Whether the image runs only the work whose samples are known in number.
    pub only_counts: u64,
}

/// FEAT_FGT.
pub const FGT: u64 = 1 << 0;
/// FEAT_S2FWB.
pub const S2FWB: u64 = 1 << 1;
/// CTR_EL0.DIC.
pub const DIC: u64 = 1 << 2;
/// CTR_EL0.IDC.
pub const IDC: u64 = 1 << 3;

impl Expected {
    /// Reads the properties at [`EXPECTED`].
    fn read() -> Self {
        // SAFETY: The loader devices have written these bytes before the CPU started.
        let byte = |i| unsafe { u64::from(EXPECTED.add(i).read()) };

        Self {
            brps: byte(0),
            ctx_cmps: byte(1),
            wrps: byte(2),
            features: byte(3),
            iminline: byte(4),
            tso: byte(5),
            spe: byte(6),
            spe_version: byte(7),
            spe_lag: byte(8),
            spe_f: byte(9),
            spe_dl: byte(10),
            only_counts: byte(11),
        }
    }

    /// Returns whether the CPU has `feature`.
    pub fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }
}

struct Uart;

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(cpu::put);
        Ok(())
    }
}

/// The TAP report.
pub struct Report {
    count: u32,
    failed: u32,
}

impl Report {
    /// Reports one fact, and its rule.
    pub fn check(&mut self, holds: bool, fact: fmt::Arguments<'_>, rule: &str) {
        self.count += 1;
        self.failed += u32::from(!holds);
        let word = if holds { "ok" } else { "not ok" };
        let _ = writeln!(Uart, "{word} {} {fact} [{rule}]", self.count);
    }

    /// Reports a remark.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        let _ = writeln!(Uart, "# {text}");
    }

    /// Reports one fact, which holds if two numbers are the same.
    pub fn same(&mut self, have: u64, want: u64, fact: &str, rule: &str) {
        self.check(have == want, format_args!("{fact}"), rule);
        if have != want {
            let _ = writeln!(Uart, "# {have:#x}, not {want:#x}");
        }
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Uart, "Bail out! {info}");
    cpu::exit(2)
}

// Functions that the compiler calls, since there is no library.

#[no_mangle]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: By the contract of memset().
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

#[no_mangle]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for i in 0..count {
        // SAFETY: By the contract of memcpy().
        unsafe { to.add(i).write_volatile(from.add(i).read_volatile()) };
    }
    to
}

static mut STAGE1: Table = Table::new();

/// Enables the MMU of EL3 with an identity map: without the MMU, memory is Device memory, but the
/// core library makes unaligned accesses.
fn map_el3() {
    let table = addr_of_mut!(STAGE1);

    // SAFETY: The table is not in use yet. It maps devices, never executed, and memory.
    unsafe {
        table::map(table, 0, table::NEVER_EXECUTED | table::BLOCK);
        table::map(table, 1, table::MEMORY | table::NORMAL | table::BLOCK);
    }
    write!("mair_el3", MAIR_DEVICE_NORMAL);
    write!("tcr_el3", field(TCR_EL3_T0SZ, table::T0SZ) | TCR_EL3_RES1);
    write!("ttbr0_el3", table as u64);
    let sctlr = read!("sctlr_el3");
    write!("sctlr_el3", sctlr | SCTLR_EL3_M);
}

/// The default `MDCR_EL2`: EL1 may use debugging and profiling.
pub const MDCR_EL2: u64 = field(MDCR_EL2_E2PB, E2PB_OWN);

/// Makes EL2 and EL1 AArch64 and Non-secure, and the Profiling Buffer Non-secure, without traps.
fn lower_levels() {
    write!(
        "scr_el3",
        SCR_EL3_NS | SCR_EL3_HCE | SCR_EL3_RW | SCR_EL3_APK | SCR_EL3_API | SCR_EL3_FGTEn
    );
    write!("hcr_el2", HCR_EL2_RW);
    write!("mdcr_el3", field(MDCR_EL3_NSPB, NSPB_OWN));
    write!("mdcr_el2", MDCR_EL2);
}

#[no_mangle]
extern "C" fn main() -> ! {
    map_el3();
    lower_levels();
    let expected = Expected::read();
    let mut report = Report {
        count: 0,
        failed: 0,
    };
    let _ = writeln!(Uart, "TAP version 13");
    if expected.only_counts != 0 {
        profiling::count_samples(&mut report, &expected);
    } else {
        identity::test(&mut report, &expected);
        debug::test(&mut report, &expected);
        profiling::test(&mut report, &expected);
    }
    let _ = writeln!(Uart, "1..{}", report.count);
    cpu::exit(u64::from(report.failed != 0))
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of the machine model itself, without a kernel: an image that starts at
//! EL3 of QEMU's "virt" board and prints TAP on its UART.
//!
//! What the CPU must have is put at [`EXPECTED`] by QEMU's loader device, since an
//! image that believed the ID registers could not check them.
//!
//! Rules are cited by the section or the register of the Arm Architecture
//! Reference Manual for A-profile (DDI 0487) that has them.

#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

#[macro_use]
mod cpu;
mod debug;
mod identity;
mod profiling;

use core::fmt::{self, Write};

/// Where QEMU's loader device puts what the command line asked for: a byte for each
/// field of [`Expected`], in that order.
const EXPECTED: *const u8 = 0x4010_0000 as *const u8;

/// What the command line asked for.
pub struct Expected {
    pub brps: u64,
    pub ctx_cmps: u64,
    pub wrps: u64,
    /// FEAT_FGT, FEAT_S2FWB, CTR_EL0.DIC and CTR_EL0.IDC, from bit 0.
    pub features: u64,
    /// CTR_EL0.IminLine.
    pub iminline: u64,
    /// 0: no memory model control, 1: one, 2: one that ignores writes, 3 and 4: a register for each
    /// of EL1 and EL2, that of EL1 with one encoding or the other.
    pub tso: u64,
    /// Whether there is FEAT_SPE.
    pub spe: u64,
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
    /// One fact, and the rule that says so.
    pub fn check(&mut self, holds: bool, fact: fmt::Arguments<'_>, rule: &str) {
        self.count += 1;
        self.failed += u32::from(!holds);
        let word = if holds { "ok" } else { "not ok" };
        let _ = writeln!(Uart, "{word} {} {fact} [{rule}]", self.count);
    }

    /// A remark.
    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        let _ = writeln!(Uart, "# {text}");
    }

    /// Two numbers that must be the same.
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

// What the compiler calls, and no library is there for.

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

/// A translation table with 4 KiB granule.
#[repr(align(4096))]
pub struct Table(pub [u64; 512]);

static mut STAGE1: Table = Table([0; 512]);

/// Switches the MMU of EL3 on, flat: without it memory is Device memory, and the
/// core library makes accesses that are not aligned.
fn map_el3() {
    let table = core::ptr::addr_of_mut!(STAGE1).cast::<u64>();

    // SAFETY: The table is not in use yet. Blocks of 1 GiB: devices, never executed,
    // and memory.
    unsafe {
        table.write_volatile(1 << 54 | 1 << 10 | 1);
        table
            .add(1)
            .write_volatile(0x4000_0000 | 1 << 10 | 1 << 2 | 1);
    }
    write!("mair_el3", 0xff00);
    write!("tcr_el3", 25 | 1 << 31 | 1 << 23);
    write!("ttbr0_el3", table as u64);
    let sctlr = read!("sctlr_el3");
    write!("sctlr_el3", sctlr | 1);
}

#[no_mangle]
extern "C" fn main() -> ! {
    map_el3();
    // NS, HCE, RW, API, APK, FGTEn: EL2 and EL1 are AArch64 and Non-secure.
    write!("scr_el3", 1 | 1 << 8 | 1 << 10 | 3 << 16 | 1 << 27);
    write!("hcr_el2", 1 << 31);
    // The Profiling Buffer is Non-secure (MDCR_EL3.NSPB); EL2 traps nothing.
    write!("mdcr_el3", 3 << 12);
    write!("mdcr_el2", 3 << 12);

    // SAFETY: The loader device has written there before the CPU started.
    let [brps, ctx_cmps, wrps, features, iminline, tso, spe] =
        [0, 1, 2, 3, 4, 5, 6].map(|i| unsafe { u64::from(EXPECTED.add(i).read()) });
    let expected = Expected {
        brps,
        ctx_cmps,
        wrps,
        features,
        iminline,
        tso,
        spe,
    };
    let mut report = Report {
        count: 0,
        failed: 0,
    };
    let _ = writeln!(Uart, "TAP version 13");
    identity::test(&mut report, &expected);
    identity::test_apart(&mut report, &expected);
    debug::test(&mut report, &expected);
    profiling::test(&mut report, &expected);
    let _ = writeln!(Uart, "1..{}", report.count);
    cpu::exit(u64::from(report.failed != 0))
}

// SPDX-License-Identifier: GPL-2.0

//! Translation tables with 4 KiB granule: blocks of 1 GiB, and pages.
//!
//! The fields are those of "VMSAv8-64 Block descriptor" and its neighbours in the Arm ARM.

/// The start of the board's memory; devices are below.
pub const MEMORY: u64 = 0x4000_0000;
/// A block, valid, with the Access flag set.
pub const BLOCK: u64 = 1 << 10 | 0b01;
/// The Access flag.
pub const ACCESSED: u64 = 1 << 10;
/// A page, valid, with the Access flag set.
pub const PAGE: u64 = ACCESSED | 0b11;
/// The address of the next table.
pub const NEXT: u64 = 0b11;
/// DBM, the Dirty Bit Modifier.
pub const DBM: u64 = 1 << 51;
/// Stage 1: nG.
pub const NOT_GLOBAL: u64 = 1 << 11;
/// Stage 1, EL3: XN.
pub const NEVER_EXECUTED: u64 = 1 << 54;
/// Stage 1: AttrIndx, for [`crate::sysreg::MAIR_DEVICE_NORMAL`].
pub const NORMAL: u64 = 1 << 2;
/// Stage 1: AP\[2\].
pub const READ_ONLY: u64 = 1 << 7;
/// Stage 2: S2AP, both bits.
pub const S2_READ_WRITE: u64 = 0b11 << 6;
/// Stage 2: the write permission of S2AP, which is clear in a page that is writable-clean.
pub const S2_WRITE: u64 = 1 << 7;
/// Stage 2: MemAttr, Normal and Write-Back, inner and outer.
pub const S2_NORMAL: u64 = 0b1111 << 2;
/// T0SZ for 39 bits of address: the walk starts at level 1.
pub const T0SZ: u64 = 25;

/// A table of any level.
#[repr(align(4096))]
pub struct Table([u64; 512]);

impl Table {
    /// Returns a table in which nothing is mapped.
    pub const fn new() -> Self {
        Self([0; 512])
    }
}

/// Writes entry `n`; in a table of level 1 it maps gigabyte `n`.
///
/// # Safety
///
/// The table belongs to this program, and no CPU walks the entry now.
pub unsafe fn map(table: *mut Table, n: usize, descriptor: u64) {
    // SAFETY: By the contract of this function.
    unsafe { core::ptr::addr_of_mut!((*table).0[n]).write_volatile(descriptor) };
}

/// Returns entry `n`.
///
/// # Safety
///
/// The table belongs to this program.
pub unsafe fn entry(table: *const Table, n: usize) -> u64 {
    // SAFETY: By the contract of this function.
    unsafe { core::ptr::addr_of!((*table).0[n]).read_volatile() }
}

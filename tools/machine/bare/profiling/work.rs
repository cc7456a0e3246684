// SPDX-License-Identifier: GPL-2.0

//! The code that is profiled.

use core::arch::{asm, global_asm};

/// Instructions of one turn of the loop below.
pub(super) const TURN: u64 = 4;
pub(super) const TURNS: u64 = 4096;

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
pub(super) const MIXED: [(u8, u8); 12] = [
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

#[repr(align(16))]
struct Words(#[allow(dead_code)] [u64; 4]);

#[no_mangle]
static mut WORD: Words = Words([0; 4]);

extern "C" {
    pub(super) fn work_loop();
    pub(super) fn work_end();
    pub(super) fn mixed_loop();
}

pub(super) extern "C" fn profiled(_: u64) {
    // SAFETY: The routine uses caller-saved registers.
    unsafe { asm!("bl work", "hint #17", "isb", clobber_abi("C")) };
}

/// The same at EL0.
pub(super) extern "C" fn profiled_el0(_: u64) {
    // SAFETY: As above; the buffer is drained by who comes after.
    unsafe { asm!("bl work", clobber_abi("C")) };
}

pub(super) extern "C" fn profiled_mixed(_: u64) {
    // SAFETY: The routine uses caller-saved registers, and reads memory of the board.
    unsafe { asm!("bl mixed", "hint #17", "isb", clobber_abi("C")) };
}

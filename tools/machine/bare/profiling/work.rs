// SPDX-License-Identifier: GPL-2.0

//! The code that is profiled.

use core::arch::{asm, global_asm};

/// The number of instructions in one turn of the first loop below, and the number of turns.
pub(super) const TURN: u64 = 4;
pub(super) const TURNS: u64 = 4096;

// The profiled work: in each turn a load, a store, an addition, a branch.
global_asm!(
    ".global work, work_loop, work_end",
    "work:",
    "ldr x2, =WORD",
    "mov x3, #{turns}",
    "work_loop:",
    "ldr x4, [x2]",
    "str x4, [x2, #8]",
    "subs x3, x3, #1",
    "b.ne work_loop",
    "work_end:",
    "ret",
    turns = const TURNS,
);

// One instruction of each kind, and a load from another page in each turn. MIXED lists these
// instructions, in the same order.
global_asm!(
    ".arch_extension lse",
    ".global mixed, mixed_loop",
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

// In each turn a branch that is not taken, a subtraction, and a branch that is taken, except at the
// end.
global_asm!(
    ".global untaken_loop",
    "untaken:",
    "mov x3, #{turns}",
    "untaken_loop:",
    "cbnz xzr, 1f",
    "subs x3, x3, #1",
    "b.ne untaken_loop",
    "1: ret",
    turns = const TURNS,
);

/// The number of instructions in one turn of that loop.
pub(super) const UNTAKEN_TURN: u64 = 3;

// Classes ("Operation Type packet").
pub(super) const OTHER: u8 = 0;
pub(super) const LOAD_STORE: u8 = 1;
pub(super) const BRANCH: u8 = 2;

/// Class and subclass of the instructions of the loop.
pub(super) const MIXED: [(u8, u8); 12] = [
    // Atomic, load; atomic, store; load-acquire exclusive; store exclusive; SIMD&FP load.
    (LOAD_STORE, 0x06),
    (LOAD_STORE, 0x07),
    (LOAD_STORE, 0x1a),
    (LOAD_STORE, 0x0b),
    (LOAD_STORE, 0x04),
    // Conditional select; other.
    (OTHER, 0x01),
    (OTHER, 0x00),
    // Load of a general-purpose register with a table walk; unaligned load.
    (LOAD_STORE, 0x00),
    (OTHER, 0x00),
    (LOAD_STORE, 0x00),
    (OTHER, 0x00),
    // Conditional branch.
    (BRANCH, 0x01),
];
pub(super) const WALKING: usize = 7;
pub(super) const UNALIGNED: usize = 9;

#[repr(align(16))]
struct Words(#[allow(dead_code)] [u64; 4]);

#[no_mangle]
static mut WORD: Words = Words([0; 4]);

extern "C" {
    pub(super) fn work_loop();
    pub(super) fn work_end();
    pub(super) fn mixed_loop();
    pub(super) fn untaken_loop();
}

/// Runs the work, and drains the buffer (`PSB CSYNC`, which is `HINT #17`, and `DSB`).
pub(super) extern "C" fn profiled(_: u64) {
    // SAFETY: The routine uses caller-saved registers.
    unsafe { asm!("bl work", "hint #17", "dsb sy", "isb", clobber_abi("C")) };
}

/// Runs the work, and does not drain the buffer.
pub(super) extern "C" fn worked(_: u64) {
    // SAFETY: As above; later code drains the buffer.
    unsafe { asm!("bl work", clobber_abi("C")) };
}

/// Runs the loop of different instructions, and drains the buffer.
pub(super) extern "C" fn profiled_mixed(_: u64) {
    // SAFETY: The routine uses caller-saved registers, and reads memory of the board.
    unsafe { asm!("bl mixed", "hint #17", "dsb sy", "isb", clobber_abi("C")) };
}

/// Runs the loop with branches that are not taken.
pub(super) extern "C" fn profiled_untaken(_: u64) {
    // SAFETY: As in profiled().
    unsafe { asm!("bl untaken", clobber_abi("C")) };
}

/// Executes `PSB CSYNC` and `DSB`.
pub(super) extern "C" fn synchronized(_: u64) {
    // SAFETY: Records go to the buffer of the test.
    unsafe { asm!("hint #17", "dsb sy", "isb") };
}

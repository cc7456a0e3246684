// SPDX-License-Identifier: GPL-2.0

//! Running code at each exception level, and what comes of it.
//!
//! The image starts at EL3 and stays there. [`at`] runs a function at a lower
//! exception level and comes back by `SMC`. An exception on the way is noted in
//! [`Taken`] and what follows the instruction that caused it goes on; a debug
//! exception clears `MDSCR_EL1` and lets the instruction execute.

use core::arch::{asm, global_asm};
use core::ptr::{addr_of, addr_of_mut};

/// Stack of one exception level.
const STACK: usize = 16384;

/// The exceptions that have been taken since [`clear`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Taken {
    /// How many.
    pub count: u64,
    /// Exception level that the last one was taken to.
    pub el: u64,
    /// Its `ESR_ELx`.
    pub esr: u64,
    /// Its `ELR_ELx`.
    pub elr: u64,
}

impl Taken {
    /// `ESR_ELx.EC`.
    pub fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }
}

#[no_mangle]
static mut TAKEN: Taken = Taken {
    count: 0,
    el: 0,
    esr: 0,
    elr: 0,
};
#[no_mangle]
static mut STACKS: [[u8; STACK]; 4] = [[0; STACK]; 4];
#[no_mangle]
static mut BACK: [u64; 16] = [0; 16];

// The handler of an exception level: note what happened, go on behind it. SMC
// from below means that the function of at() is done.
global_asm!(
    r#"
    .macro handler el
    .p2align 11
    .global vectors_el\el
vectors_el\el:
    .rept 16
    .p2align 7
    b handle_el\el
    .endr
handle_el\el:
    stp x0, x1, [sp, #-16]!
    stp x2, x3, [sp, #-16]!
    mrs x0, esr_el\el
    lsr x1, x0, #26
    .if \el == 3
    cmp x1, #0x17
    b.eq back
    .endif
    // The end of a function at EL0, where SMC is undefined.
    mrs x2, elr_el\el
    ldr x3, =leave
    cmp x2, x3
    .if \el == 1
    b.eq leave
    .endif
    ldr x2, =TAKEN
    ldr x3, [x2]
    add x3, x3, #1
    str x3, [x2]
    mov x3, #\el
    str x3, [x2, #8]
    str x0, [x2, #16]
    mrs x3, elr_el\el
    str x3, [x2, #24]
    // SVC and HVC return behind themselves.
    cmp x1, #0x15
    b.eq 1f
    cmp x1, #0x16
    b.eq 1f
    // A breakpoint or watchpoint: off with it. What a breakpoint is on is executed then; what a
    // watchpoint is on is not, or its access would be one more that the emulator compares.
    and x2, x1, #~4
    cmp x2, #0x31
    b.ne 2f
    msr mdscr_el1, xzr
    tbz x1, #2, 1f
2:  add x3, x3, #4
    msr elr_el\el, x3
1:  ldp x2, x3, [sp], #16
    ldp x0, x1, [sp], #16
    eret
    .endm

    .section .text.start
    .global _start
_start:
    ldr x0, =STACKS
    add x0, x0, #16384
    add x1, x0, #16384          // EL1
    msr sp_el1, x1
    add x1, x1, #16384          // EL2
    msr sp_el2, x1
    add x1, x1, #16384          // EL3
    mov sp, x1
    msr sp_el0, x0
    ldr x0, =__bss
    ldr x1, =__bss_end
0:  cmp x0, x1
    b.hs 1f
    stp xzr, xzr, [x0], #16
    b 0b
1:  ldr x0, =vectors_el1
    msr vbar_el1, x0
    ldr x0, =vectors_el2
    msr vbar_el2, x0
    ldr x0, =vectors_el3
    msr vbar_el3, x0
    msr cptr_el3, xzr
    mov x0, #0x33ff
    msr cptr_el2, x0
    mov x0, #(3 << 20)
    msr cpacr_el1, x0
    isb
    b main

    .text
    handler 1
    handler 2
    handler 3

    // run(function, argument, SPSR): leave for a lower exception level
    .global run
run:
    ldr x3, =BACK
    stp x19, x20, [x3]
    stp x21, x22, [x3, #16]
    stp x23, x24, [x3, #32]
    stp x25, x26, [x3, #48]
    stp x27, x28, [x3, #64]
    stp x29, x30, [x3, #80]
    mov x4, sp
    str x4, [x3, #96]
    msr spsr_el3, x2
    msr elr_el3, x0
    mov x0, x1
    ldr x30, =leave
    eret
leave:
    smc #0
    b .
back:
    ldr x3, =BACK
    ldp x19, x20, [x3]
    ldp x21, x22, [x3, #16]
    ldp x23, x24, [x3, #32]
    ldp x25, x26, [x3, #48]
    ldp x27, x28, [x3, #64]
    ldp x29, x30, [x3, #80]
    ldr x4, [x3, #96]
    mov sp, x4
    ret
"#
);

extern "C" {
    fn run(function: extern "C" fn(u64), argument: u64, spsr: u64);
}

/// Forgets what has been taken.
pub fn clear() {
    // SAFETY: One CPU, and no code of a lower exception level is running.
    unsafe {
        addr_of_mut!(TAKEN).write_volatile(Taken {
            count: 0,
            el: 0,
            esr: 0,
            elr: 0,
        })
    };
}

/// What has been taken since [`clear`].
pub fn taken() -> Taken {
    // SAFETY: As for clear().
    unsafe { addr_of!(TAKEN).read_volatile() }
}

/// Runs `function(argument)` at exception level 0, 1 or 2, on that level's stack, with
/// PSTATE.D clear and all interrupts masked; returns the exceptions on the way.
pub fn at(el: u64, function: extern "C" fn(u64), argument: u64) -> Taken {
    let spsr = if el == 0 { 0x1c0 } else { 0x1c1 | el << 2 };

    clear();
    // SAFETY: The function gets a stack of its own, and comes back by the SMC that
    // is its return address.
    unsafe { run(function, argument, spsr) };
    taken()
}

/// Reads a system register by its name.
#[macro_export]
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: Reading it has no effect but an exception, which is noted.
        unsafe {
            core::arch::asm!(concat!("mov {0}, #0\n mrs {0}, ", $register), out(reg) value)
        };
        value
    }};
}

/// Writes a system register by its name, with an `ISB` behind it.
#[macro_export]
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: The tests write what changes only what they look at.
        unsafe { core::arch::asm!(concat!("msr ", $register, ", {}\n isb"), in(reg) value) };
    }};
}

/// Ends QEMU by semihosting (`SYS_EXIT_EXTENDED`), with an exit status.
pub fn exit(status: u64) -> ! {
    let block: [u64; 2] = [0x20026, status];

    // SAFETY: QEMU runs with semihosting and does not come back from this.
    unsafe {
        asm!("hlt #0xf000", in("x0") 0x20u64, in("x1") block.as_ptr());
    }
    loop {
        core::hint::spin_loop();
    }
}

/// Writes one character to the PL011 of the board.
pub fn put(byte: u8) {
    // SAFETY: The data register of the board's first UART.
    unsafe { (0x0900_0000 as *mut u32).write_volatile(byte.into()) };
}

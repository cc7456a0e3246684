// SPDX-License-Identifier: GPL-2.0

//! Runs code at each Exception level, and records the exceptions that it takes.
//!
//! The image starts at EL3 and stays there. [`at`] runs a function at a lower
//! Exception level, which returns by `SMC`. An exception meanwhile is recorded in
//! [`Taken`], and execution continues after the instruction that caused it; after a
//! breakpoint, `MDSCR_EL1` is cleared and the instruction executes.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::ptr::{addr_of, addr_of_mut};

use crate::sysreg::*;

/// Stack of one exception level.
const STACK: usize = 16384;

/// The exceptions taken since [`clear`].
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Taken {
    /// The number of exceptions.
    pub count: u64,
    /// The Exception level to which the last one was taken.
    pub el: u64,
    /// Its `ESR_ELx`.
    pub esr: u64,
    /// Its `ELR_ELx`.
    pub elr: u64,
}

impl Taken {
    /// No exception.
    const NONE: Self = Self {
        count: 0,
        el: 0,
        esr: 0,
        elr: 0,
    };

    /// Returns `ESR_ELx.EC`.
    pub fn class(&self) -> u64 {
        field_of(self.esr, ESR_ELx_EC)
    }

    /// Returns whether exactly `count` register accesses were UNDEFINED.
    pub fn undefined(&self, count: u64) -> bool {
        self.count == count && self.class() == EC_UNKNOWN
    }

    /// Returns whether exactly `count` register accesses were trapped to `el`.
    pub fn trapped(&self, count: u64, el: u64) -> bool {
        self.count == count && self.el == el && self.class() == EC_SYS64
    }

    /// Returns whether the trapped access was a read.
    pub fn read(&self) -> bool {
        self.esr & ESR_ELx_SYS64_ISS_DIR != 0
    }
}

#[no_mangle]
static mut TAKEN: Taken = Taken::NONE;
#[no_mangle]
static mut STACKS: [[u8; STACK]; 4] = [[0; STACK]; 4];
#[no_mangle]
static mut BACK: [u64; 16] = [0; 16];

// The exception handler: record the exception, and continue after the instruction. SMC
// from a lower level means that the function of at() has returned.
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
    lsr x1, x0, #{ec_shift}
    .if \el == 3
    cmp x1, #{smc}
    b.eq back
    .endif
    // The end of a function at EL0, where SMC is UNDEFINED.
    mrs x2, elr_el\el
    ldr x3, =leave
    cmp x2, x3
    .if \el == 1
    b.eq leave
    .endif
    ldr x2, =TAKEN
    ldr x3, [x2, #{count}]
    add x3, x3, #1
    str x3, [x2, #{count}]
    mov x3, #\el
    str x3, [x2, #{el}]
    str x0, [x2, #{esr}]
    mrs x3, elr_el\el
    str x3, [x2, #{elr}]
    // SVC and HVC return to the next instruction.
    cmp x1, #{svc}
    b.eq 1f
    cmp x1, #{hvc}
    b.eq 1f
    // A breakpoint or watchpoint: disable debug exceptions. After a breakpoint the instruction is
    // executed. After a watchpoint it is skipped, or the emulator would compare its access again.
    cmp x1, #{watchpoint}
    b.eq 3f
    cmp x1, #{breakpoint}
    b.ne 2f
    msr mdscr_el1, xzr
    b 1f
3:  msr mdscr_el1, xzr
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
    add x0, x0, #{stack}
    add x1, x0, #{stack}        // EL1
    msr sp_el1, x1
    add x1, x1, #{stack}        // EL2
    msr sp_el2, x1
    add x1, x1, #{stack}        // EL3
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
    mov x0, #{cptr_el2}
    msr cptr_el2, x0
    mov x0, #{cpacr_el1}
    msr cpacr_el1, x0
    isb
    b main

    .text
    handler 1
    handler 2
    handler 3

    // run(function, argument, SPSR): enter a lower Exception level
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
"#,
    ec_shift = const ESR_ELx_EC.trailing_zeros(),
    svc = const EC_SVC64,
    hvc = const EC_HVC64,
    smc = const EC_SMC64,
    breakpoint = const EC_BREAKPT_CUR,
    watchpoint = const EC_WATCHPT_CUR,
    count = const offset_of!(Taken, count),
    el = const offset_of!(Taken, el),
    esr = const offset_of!(Taken, esr),
    elr = const offset_of!(Taken, elr),
    stack = const STACK,
    cptr_el2 = const CPTR_EL2_RES1,
    cpacr_el1 = const field(CPACR_EL1_FPEN, FPEN_NO_TRAP),
);

extern "C" {
    fn run(function: extern "C" fn(u64), argument: u64, spsr: u64);
}

/// Clears the recorded exceptions.
pub fn clear() {
    // SAFETY: There is one CPU, and no code of a lower Exception level is running.
    unsafe { addr_of_mut!(TAKEN).write_volatile(Taken::NONE) };
}

/// Returns the exceptions taken since [`clear`].
pub fn taken() -> Taken {
    // SAFETY: As for clear().
    unsafe { addr_of!(TAKEN).read_volatile() }
}

/// Runs `function(argument)` at Exception level 0, 1 or 2, on that level's stack, with
/// PSTATE.D clear and all interrupts masked; returns the exceptions taken.
pub fn at(el: usize, function: extern "C" fn(u64), argument: u64) -> Taken {
    const MODES: [u64; 3] = [SPSR_ELx_M_EL0t, SPSR_ELx_M_EL1h, SPSR_ELx_M_EL2h];
    let spsr = SPSR_ELx_A | SPSR_ELx_I | SPSR_ELx_F | MODES[el];

    clear();
    // SAFETY: The function has a separate stack, and its return address is an SMC, which
    // comes back here.
    unsafe { run(function, argument, spsr) };
    taken()
}

/// Returns the exceptions of `access` at EL1 with `bit` of HDFGRTR_EL2 set, and with `bit` of
/// HDFGWTR_EL2 set: writable registers have the same bit in both.
pub fn fine_grained(bit: u64, access: extern "C" fn(u64)) -> (Taken, Taken) {
    write::<SYS_HDFGRTR_EL2>(bit);
    let reads = at(1, access, 0);
    write::<SYS_HDFGRTR_EL2>(0);
    write::<SYS_HDFGWTR_EL2>(bit);
    let writes = at(1, access, 0);
    write::<SYS_HDFGWTR_EL2>(0);
    (reads, writes)
}

/// Reads a system register: by name if every assembler knows the name, otherwise by the constant
/// with its encoding.
#[macro_export]
macro_rules! read {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: The only effect of the read can be an exception, which is recorded.
        unsafe {
            core::arch::asm!(concat!("mov {0}, #0\n mrs {0}, ", $register), out(reg) value)
        };
        value
    }};
    ($register:ident) => {
        $crate::cpu::read::<{ $register }>()
    };
}

/// Writes a system register, named as for `read!`, followed by an `ISB`.
#[macro_export]
macro_rules! write {
    ($register:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: The tests write only values whose effects they check.
        unsafe { core::arch::asm!(concat!("msr ", $register, ", {}\n isb"), in(reg) value) };
    }};
    ($register:ident, $value:expr) => {
        $crate::cpu::write::<{ $register }>($value)
    };
}

/// Returns the value of the register with this encoding, 0 after an exception.
#[inline(always)]
pub fn read<const REGISTER: u32>() -> u64 {
    let value: u64;

    // SAFETY: The only effect of the read can be an exception, which is recorded.
    unsafe {
        asm!(
            "mov {value}, #0",
            "mrs {value}, S{op0}_{op1}_C{crn}_C{crm}_{op2}",
            value = out(reg) value,
            op0 = const operands(REGISTER)[0],
            op1 = const operands(REGISTER)[1],
            crn = const operands(REGISTER)[2],
            crm = const operands(REGISTER)[3],
            op2 = const operands(REGISTER)[4],
        )
    };
    value
}

/// Writes the register with this encoding, followed by an `ISB`.
#[inline(always)]
pub fn write<const REGISTER: u32>(value: u64) {
    // SAFETY: The tests write only values whose effects they check; an exception is recorded.
    unsafe {
        asm!(
            "msr S{op0}_{op1}_C{crn}_C{crm}_{op2}, {value}",
            "isb",
            value = in(reg) value,
            op0 = const operands(REGISTER)[0],
            op1 = const operands(REGISTER)[1],
            crn = const operands(REGISTER)[2],
            crm = const operands(REGISTER)[3],
            op2 = const operands(REGISTER)[4],
        )
    };
}

/// Ends QEMU by semihosting, with an exit status.
pub fn exit(status: u64) -> ! {
    const SYS_EXIT_EXTENDED: u64 = 0x20;
    const ADP_STOPPED_APPLICATION_EXIT: u64 = 0x20026;
    let block: [u64; 2] = [ADP_STOPPED_APPLICATION_EXIT, status];

    // SAFETY: QEMU runs with semihosting and does not return from this call.
    unsafe {
        asm!("hlt #0xf000", in("x0") SYS_EXIT_EXTENDED, in("x1") block.as_ptr());
    }
    loop {
        core::hint::spin_loop();
    }
}

/// Writes one character to the PL011 of the board.
pub fn put(byte: u8) {
    /// UARTDR of the board's first UART.
    const UART: *mut u32 = 0x0900_0000 as *mut u32;

    // SAFETY: A store to this register changes no state of this program.
    unsafe { UART.write_volatile(byte.into()) };
}

// SPDX-License-Identifier: GPL-2.0

//! Runs debug programs at EL1, with nothing underneath but a CPU, and says what it took.
//!
//! The same image runs on the board of an emulator and in a VM: memory from 0x4000_0000,
//! an output register at 0x0900_0000, PSCI by HVC to end. `oracle.py` writes the programs
//! and describes their format; one line of output for each:
//!
//! ```text
//! <seed> <hits> <hash of the trace>
//! ```
//!
//! or, if asked to, the events of the trace instead of the hash.

#![no_std]
#![no_main]

use core::{
    arch::{asm, global_asm},
    fmt::{self, Write},
    panic::PanicInfo,
    ptr::{addr_of, addr_of_mut, read_volatile, write_volatile},
};

const OUTPUT: *mut u32 = 0x0900_0000 as *mut u32;
const CHECKPOINTS: *mut u32 = 0x0908_0000 as *mut u32;
const PROGRAMS: *const u64 = 0x4400_0000 as *const u64;
const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;

/// Exception classes (Arm ARM, ESR_EL1.EC).
const EC_SVC64: u64 = 0x15;
const EC_BREAKPOINT_LOWER: u64 = 0x30;
const EC_BREAKPOINT: u64 = 0x31;
const EC_WATCHPOINT_LOWER: u64 = 0x34;
const EC_WATCHPOINT: u64 = 0x35;

/// What ended a piece of code: `run()` fills it in.
#[repr(C)]
struct Exception {
    esr: u64,
    elr: u64,
    far: u64,
}

extern "C" {
    /// Runs at `pc` with `spsr` and x0 = `x0`, x1 = `x1`, until it takes an exception.
    fn run(pc: u64, spsr: u64, x0: u64, x1: u64, taken: *mut Exception);
    static slots: [[u32; 8]; 4];
    static code_load: u32;
    static code_store: u32;
    static code_access: [[u32; 2]; 128];
}

global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "adrp x0, stack_end",
    "add sp, x0, :lo12:stack_end",
    "adrp x0, vectors",
    "add x0, x0, :lo12:vectors",
    "msr vbar_el1, x0",
    "mov x0, #(3 << 20)",
    "msr cpacr_el1, x0",
    "isb",
    "bl main",
    ".text",
    ".balign 2048",
    "vectors:",
    // A synchronous exception goes back to where run() was called, whatever was running.
    ".rept 16",
    "b taken",
    ".balign 128",
    ".endr",
    "taken:",
    "msr tpidr_el1, x9",
    "adrp x9, saved",
    "add x9, x9, :lo12:saved",
    "ldp x19, x20, [x9]",
    "ldp x21, x22, [x9, #16]",
    "ldp x23, x24, [x9, #32]",
    "ldp x25, x26, [x9, #48]",
    "ldp x27, x28, [x9, #64]",
    "ldp x29, x30, [x9, #80]",
    "ldp x10, x4, [x9, #96]",
    "mov sp, x10",
    "mrs x10, esr_el1",
    "mrs x11, elr_el1",
    "stp x10, x11, [x4]",
    "mrs x10, far_el1",
    "str x10, [x4, #16]",
    "ret",
    ".global run",
    "run:",
    "adrp x9, saved",
    "add x9, x9, :lo12:saved",
    "stp x19, x20, [x9]",
    "stp x21, x22, [x9, #16]",
    "stp x23, x24, [x9, #32]",
    "stp x25, x26, [x9, #48]",
    "stp x27, x28, [x9, #64]",
    "stp x29, x30, [x9, #80]",
    "mov x10, sp",
    "stp x10, x4, [x9, #96]",
    "msr elr_el1, x0",
    "msr spsr_el1, x1",
    "mov x0, x2",
    "mov x1, x3",
    "eret",
    // What breakpoints can be put on.
    ".balign 32",
    ".global slots",
    "slots:",
    ".rept 4",
    "nop",
    "svc #0",
    ".balign 32",
    ".endr",
    ".global code_load",
    "code_load: ldr x1, [x0]",
    "svc #0",
    ".global code_store",
    "code_store: str x1, [x0]",
    "svc #0",
    // An access to each register: 16 x 4 x (write, read), in the order of `access()`.
    ".global code_access",
    "code_access:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    ".irp op2, 4, 5, 6, 7",
    "msr s2_0_c0_c\\n\\()_\\op2, x0",
    "svc #0",
    "mrs x0, s2_0_c0_c\\n\\()_\\op2",
    "b record",
    ".endr",
    ".endr",
    "record:",
    "adrp x1, value_read",
    "str x0, [x1, :lo12:value_read]",
    "svc #0",
    ".bss",
    ".balign 16",
    "saved: .skip 128",
    "value_read: .skip 16",
    "stack: .skip 16384",
    "stack_end:",
);

static mut DATA: [u64; 8] = [0; 8];

extern "C" {
    static value_read: u64;
}

/// Output, kept until a program has ended: each byte is an exit where this is a VM, and
/// what a program does must not depend on whether its trace is wanted.
struct Out {
    bytes: [u8; 32768],
    used: usize,
}

impl Out {
    fn flush(&mut self) {
        for byte in &self.bytes[..self.used] {
            // SAFETY: The board has its output register there.
            unsafe { write_volatile(OUTPUT, (*byte).into()) };
        }
        self.used = 0;
    }
}

impl Write for Out {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            // What does not fit is lost, and shows.
            *self.bytes.get_mut(self.used).ok_or(fmt::Error)? = byte;
            self.used += 1;
        }
        Ok(())
    }
}

static mut OUT: Out = Out {
    bytes: [0; 32768],
    used: 0,
};

/// What a program did: its events go to the hash, or to the output.
struct Trace<'a> {
    hash: u64,
    hits: u32,
    out: Option<&'a mut Out>,
}

impl Trace<'_> {
    fn event(&mut self, what: char, number: u64, value: u64) {
        // FNV-1a, of 64-bit words.
        for word in [what as u64, number, value] {
            self.hash = (self.hash ^ word).wrapping_mul(0x100_0000_01b3);
        }
        if let Some(out) = &mut self.out {
            let _ = write!(out, " {what}{number:x}:{value:x}");
        }
    }
}

/// An operation of a program.
#[derive(Clone, Copy)]
#[repr(C)]
struct Op {
    kind: u8,
    number: u8,
    _pad: [u8; 6],
    value: u64,
}

const WRITE: u8 = 1;
const READ: u8 = 2;
const CONTEXTIDR: u8 = 3;
const MDSCR: u8 = 4;
const OSLAR: u8 = 5;
const RUN: u8 = 6;
const CHECKPOINT: u8 = 7;

/// Accesses a register, numbered (n * 4 + op2 - 4) * 2 + 1 if it is read.
fn access(number: usize, value: u64) -> Result<u64, u64> {
    let mut taken = Exception {
        esr: 0,
        elr: 0,
        far: 0,
    };
    // SAFETY: The code does that one access and takes an exception, which comes back here.
    unsafe {
        let code = addr_of!(code_access) as u64 + 8 * number as u64;
        run(code, 0x3c5, value, 0, &mut taken);
        match taken.esr >> 26 & 0x3f {
            EC_SVC64 => Ok(read_volatile(addr_of!(value_read))),
            ec => Err(ec),
        }
    }
}

/// Addresses in DATA and in the code, by the numbers that programs have for them.
fn address(number: u64) -> u64 {
    match number {
        0..=3 => addr_of!(slots) as u64 + 32 * number,
        4..=11 => addr_of!(DATA) as u64 + 8 * (number - 4),
        other => other,
    }
}

/// Runs each slot, and loads and stores, at EL1 or EL0, with debug exceptions unmasked.
fn probe(el: u8, trace: &mut Trace<'_>) {
    let spsr = if el == 0 { 0x1c0 } else { 0x1c5 };
    for piece in 0..12u64 {
        let (pc, x0) = match piece {
            0..=3 => (address(piece), 0),
            4..=7 => (addr_of!(code_load) as u64, address(piece)),
            _ => (addr_of!(code_store) as u64, address(piece - 4)),
        };
        let mut taken = Exception {
            esr: 0,
            elr: 0,
            far: 0,
        };
        // SAFETY: Each piece ends in an exception, whether it is hit or not.
        unsafe { run(pc, spsr, x0, 0x55, &mut taken) };
        match taken.esr >> 26 & 0x3f {
            EC_SVC64 => continue,
            EC_BREAKPOINT | EC_BREAKPOINT_LOWER => trace.event('b', piece, taken.elr - pc),
            // The doubleword, and ISS.WnR. Which of its bytes FAR_EL1 has is up to the
            // implementation where several watchpoints match (Arm ARM, "Determining the
            // memory location that caused a Watchpoint exception").
            EC_WATCHPOINT | EC_WATCHPOINT_LOWER => trace.event(
                'w',
                piece,
                (taken.far - address(4) & !7) << 1 | taken.esr >> 6 & 1,
            ),
            ec => trace.event('?', piece, ec),
        }
        trace.hits += 1;
    }
}

macro_rules! msr {
    ($register:literal, $value:expr) => {
        // SAFETY: None of these changes what this program relies on.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) $value) }
    };
}

/// Bits of a register that are not RES0 without optional features; whether the others
/// read back is not for software to rely on.
fn defined(number: u8) -> u64 {
    match number % 4 {
        1 => 0x00ff_e1e7,
        3 => 0x1f1f_ffff,
        _ => u64::MAX,
    }
}

fn execute(op: Op, trace: &mut Trace<'_>) {
    match op.kind {
        WRITE => {
            // Addresses are numbers below 16 in the value registers.
            let value = if op.number & 1 == 0 {
                address(op.value)
            } else {
                op.value
            };
            if let Err(ec) = access(usize::from(op.number) * 2, value) {
                trace.event('u', op.number.into(), ec);
            }
        }
        READ => match access(usize::from(op.number) * 2 + 1, 0) {
            Ok(value) => trace.event('r', op.number.into(), value & defined(op.number)),
            Err(ec) => trace.event('u', op.number.into(), ec),
        },
        CONTEXTIDR => msr!("contextidr_el1", op.value),
        MDSCR => msr!("mdscr_el1", op.value),
        OSLAR => msr!("oslar_el1", op.value),
        RUN => probe(op.number, trace),
        // SAFETY: A VMM that stops there is told so by a store, which changes nothing here.
        CHECKPOINT => unsafe { write_volatile(CHECKPOINTS, 1) },
        _ => {}
    }
}

fn reset() {
    for number in 0..64 {
        let _ = access(number * 2, 0);
    }
    msr!("contextidr_el1", 0u64);
    msr!("mdscr_el1", 0u64);
    msr!("oslar_el1", 0u64);
}

fn off() -> ! {
    loop {
        // SAFETY: PSCI does not come back from this.
        unsafe { asm!("hvc #0", inout("x0") PSCI_SYSTEM_OFF => _) };
    }
}

#[no_mangle]
extern "C" fn main() -> ! {
    // SAFETY: Whoever started this has put programs there, as oracle.py wrote them.
    let (count, verbose) = unsafe { (PROGRAMS.read(), PROGRAMS.add(1).read() != 0) };
    // SAFETY: Likewise.
    let mut next = unsafe { PROGRAMS.add(2) };
    // SAFETY: There is one thread, and this is the only place that names it but for a panic.
    let out = unsafe { &mut *addr_of_mut!(OUT) };
    for _ in 0..count {
        // SAFETY: Likewise: a seed, a number of operations, and those.
        let (seed, length) = unsafe { (next.read(), next.add(1).read()) };
        // SAFETY: Likewise.
        let ops = unsafe { core::slice::from_raw_parts(next.add(2).cast::<Op>(), length as usize) };
        // SAFETY: Likewise.
        next = unsafe { next.add(2 + 2 * length as usize) };

        let _ = write!(out, "{seed:x}");
        let mut trace = Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            hits: 0,
            out: None,
        };
        if verbose {
            trace.out = Some(out);
        }
        reset();
        for op in ops {
            execute(*op, &mut trace);
        }
        let (hits, hash) = (trace.hits, trace.hash);
        let _ = match verbose {
            true => writeln!(out),
            false => writeln!(out, " {hits} {hash:016x}"),
        };
        out.flush();
    }
    off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: Nothing goes on after this.
    let out = unsafe { &mut *addr_of_mut!(OUT) };
    let _ = writeln!(out, "{info}");
    out.flush();
    off()
}

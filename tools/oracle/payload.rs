// SPDX-License-Identifier: GPL-2.0

//! Runs programs for debug registers or a profiling unit at EL1, without a kernel, and prints their
//! traces.
//!
//! The same image runs on the board of an emulator and in a VM: memory starts at 0x4000_0000,
//! an output register is at 0x0900_0000, and PSCI by HVC ends the run. `programs.py` writes the
//! programs and describes their format. The output has one line for each:
//!
//! ```text
//! <seed> <hits> <hash of the trace>
//! ```
//!
//! or, on request, the events of the trace instead of the hash. In programs for a profiling unit
//! (FEAT_SPE), a hit is a run in which the unit wrote, or had an event.

#![no_std]
#![no_main]

use core::{
    arch::{asm, global_asm},
    fmt::{self, Write},
    panic::PanicInfo,
    ptr::{addr_of, addr_of_mut, read_volatile, write_volatile},
};

mod sysreg {
    include!("../machine/bare/sysreg.rs");
}
use sysreg::*;

const OUTPUT: *mut u32 = 0x0900_0000 as *mut u32;
const CHECKPOINTS: *mut u32 = 0x0908_0000 as *mut u32;
const PROGRAMS: *const u64 = 0x4400_0000 as *const u64;
const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;

/// The exception that ended a piece of code, written by `run()`.
#[repr(C)]
struct Exception {
    esr: u64,
    elr: u64,
    far: u64,
}

impl Exception {
    /// Runs at `pc` with `spsr` and x0 = `x0`, x1 = `x1`; returns the exception that it takes.
    ///
    /// # Safety
    ///
    /// The code at `pc` changes nothing that this program relies on, and ends in an exception.
    unsafe fn of(pc: u64, spsr: u64, x0: u64, x1: u64) -> Self {
        let mut taken = Self {
            esr: 0,
            elr: 0,
            far: 0,
        };
        // SAFETY: By the contract of this function.
        unsafe { run(pc, spsr, x0, x1, &mut taken) };
        taken
    }

    /// Returns the exception class.
    fn class(&self) -> u64 {
        field_of(self.esr, ESR_ELx_EC)
    }
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
    "mov x0, #{cpacr}",
    "msr cpacr_el1, x0",
    "isb",
    "bl main",
    ".text",
    ".balign 2048",
    "vectors:",
    // A synchronous exception returns to the caller of run(), whatever code was running.
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
    // Slots of code for breakpoints.
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
    // An access to each register, in pieces of 8 bytes: 16 x 4 x (write, read). The registers are
    // S2_0_C0_C<n>_<op2>.
    ".global code_access",
    "code_access:",
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
    ".irp op2, {bvr}, {bcr}, {wvr}, {wcr}",
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
    cpacr = const field(CPACR_EL1_FPEN, FPEN_NO_TRAP),
    bvr = const DBGBVRn_EL1_Op2,
    bcr = const DBGBCRn_EL1_Op2,
    wvr = const DBGWVRn_EL1_Op2,
    wcr = const DBGWCRn_EL1_Op2,
);

static mut DATA: [u64; 8] = [0; 8];

extern "C" {
    static value_read: u64;
}

/// Output, which is buffered until a program has ended: in a VM each byte causes an exit, and
/// the behaviour of a program must not depend on whether its trace is wanted.
struct Out {
    bytes: [u8; 32768],
    used: usize,
}

impl Out {
    /// Prints the buffered output.
    fn flush(&mut self) {
        for byte in &self.bytes[..self.used] {
            // SAFETY: The board's output register is at this address.
            unsafe { write_volatile(OUTPUT, (*byte).into()) };
        }
        self.used = 0;
    }
}

impl Write for Out {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            // Output that does not fit is lost, and the error is visible.
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

/// The trace of a program: its events go to the hash, or to the output.
struct Trace<'a> {
    hash: u64,
    hits: u32,
    /// Whether the unit may have moved its pointer.
    moved: bool,
    out: Option<&'a mut Out>,
}

impl<'a> Trace<'a> {
    /// Starts a trace, which goes to `out` if given.
    fn new(out: Option<&'a mut Out>) -> Self {
        const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

        Self {
            hash: FNV_OFFSET,
            hits: 0,
            moved: false,
            out,
        }
    }

    /// Adds one event.
    fn event(&mut self, what: char, number: u64, value: u64) {
        // FNV-1a, of 64-bit words.
        const FNV_PRIME: u64 = 0x100_0000_01b3;

        for word in [what as u64, number, value] {
            self.hash = (self.hash ^ word).wrapping_mul(FNV_PRIME);
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
const SPE_WRITE: u8 = 8;
const SPE_READ: u8 = 9;
const SPE_RUN: u8 = 10;

/// The registers of breakpoint and watchpoint 0, as programs number them; the numbers for n are
/// higher by 4 * n.
const BVR: u8 = 0;
const BCR: u8 = 1;
const WVR: u8 = 2;
const WCR: u8 = 3;
/// The number of these registers.
const REGISTERS: usize = 4 * 16;

/// The PSTATE mask bits for all code; `SPSR_ELx_D` is added to mask debug exceptions.
const MASKED: u64 = SPSR_ELx_A | SPSR_ELx_I | SPSR_ELx_F;

/// Runs piece `number` of [`code_access`]; returns the value read, or the exception class.
fn access(number: usize, value: u64) -> Result<u64, u64> {
    let spsr = MASKED | SPSR_ELx_D | SPSR_ELx_M_EL1h;
    let code = addr_of!(code_access) as u64 + 8 * number as u64;

    // SAFETY: The code performs this one access and takes an exception.
    match unsafe { Exception::of(code, spsr, value, 0) }.class() {
        // SAFETY: The code has stored there, and does not run now.
        EC_SVC64 => Ok(unsafe { read_volatile(addr_of!(value_read)) }),
        ec => Err(ec),
    }
}

/// Writes a register; returns the exception class on failure.
fn write(register: usize, value: u64) -> Result<u64, u64> {
    access(register * 2, value)
}

/// Reads a register.
fn read(register: usize) -> Result<u64, u64> {
    access(register * 2 + 1, 0)
}

/// Returns the address in the code or in DATA for a number in a program.
fn address(number: u64) -> u64 {
    match number {
        0..=3 => addr_of!(slots) as u64 + 32 * number,
        4..=11 => addr_of!(DATA) as u64 + 8 * (number - 4),
        other => other,
    }
}

/// Returns the piece of code with this number, a slot, a load or a store, and its x0.
fn piece(number: u64) -> (u64, u64) {
    match number {
        0..=3 => (address(number), 0),
        4..=7 => (addr_of!(code_load) as u64, address(number)),
        _ => (addr_of!(code_store) as u64, address(number - 4)),
    }
}

/// Runs each slot, and loads and stores, at EL1 or EL0, with debug exceptions unmasked.
fn probe(el: u8, trace: &mut Trace<'_>) {
    let mode = if el == 0 {
        SPSR_ELx_M_EL0t
    } else {
        SPSR_ELx_M_EL1h
    };

    for number in 0..12u64 {
        let (pc, x0) = piece(number);
        // SAFETY: Each piece ends in an exception, whether or not a breakpoint or watchpoint hits.
        let taken = unsafe { Exception::of(pc, MASKED | mode, x0, 0x55) };
        let (what, value) = match taken.class() {
            EC_SVC64 => continue,
            EC_BREAKPT_CUR | EC_BREAKPT_LOW => ('b', taken.elr - pc),
            EC_WATCHPT_CUR | EC_WATCHPT_LOW => ('w', watched(&taken)),
            ec => ('?', ec),
        };
        trace.event(what, number, value);
        trace.hits += 1;
    }
}

/// Returns the traced part of a watchpoint exception: the doubleword, and ISS.WnR. If several
/// watchpoints match, the implementation chooses the byte of the doubleword in FAR_EL1 (Arm ARM,
/// "Determining the memory location that caused a Watchpoint exception").
fn watched(taken: &Exception) -> u64 {
    (taken.far - address(4) & !7) << 1 | field_of(taken.esr, ESR_ELx_WNR)
}

macro_rules! msr {
    ($register:literal, $value:expr) => {
        // SAFETY: No register written by this macro changes state that this program relies on.
        unsafe { asm!(concat!("msr ", $register, ", {}"), "isb", in(reg) $value) }
    };
}

/// Returns the bits of a register that are not RES0 without optional features; software cannot
/// rely on whether the other bits read back.
fn defined(number: u8) -> u64 {
    const COMMON_BCR: u64 = DBGBCRn_EL1_LBN | DBGBCRn_EL1_SSC | DBGBCRn_EL1_HMC | DBGBCRn_EL1_E;
    const COMMON_WCR: u64 = DBGWCRn_EL1_LBN | DBGWCRn_EL1_SSC | DBGWCRn_EL1_HMC | DBGWCRn_EL1_E;

    match number % 4 {
        BCR => COMMON_BCR | DBGBCRn_EL1_BT | DBGBCRn_EL1_BAS | DBGBCRn_EL1_PMC,
        WCR => {
            COMMON_WCR
                | DBGWCRn_EL1_MASK
                | DBGWCRn_EL1_WT
                | DBGWCRn_EL1_BAS
                | DBGWCRn_EL1_LSC
                | DBGWCRn_EL1_PAC
        }
        _ => u64::MAX,
    }
}

/// Executes one operation.
fn execute(op: Op, trace: &mut Trace<'_>) {
    let register = usize::from(op.number);

    match op.kind {
        WRITE => {
            // In the value registers small numbers are addresses.
            let value = match op.number % 4 {
                BVR | WVR => address(op.value),
                _ => op.value,
            };
            if let Err(ec) = write(register, value) {
                trace.event('u', op.number.into(), ec);
            }
        }
        READ => match read(register) {
            Ok(value) => trace.event('r', op.number.into(), value & defined(op.number)),
            Err(ec) => trace.event('u', op.number.into(), ec),
        },
        CONTEXTIDR => msr!("contextidr_el1", op.value),
        MDSCR => msr!("mdscr_el1", op.value),
        OSLAR => msr!("oslar_el1", op.value),
        RUN => probe(op.number, trace),
        SPE_WRITE => {
            spe_write(op.number, op.value);
            trace.moved &= op.number != PMBPTR;
        }
        SPE_READ if op.number == PMBPTR && trace.moved => {}
        SPE_READ => trace.event('r', op.number.into(), spe_read(op.number)),
        SPE_RUN => profile(op.value, trace),
        // SAFETY: The store only tells a VMM to stop, and changes nothing in this program.
        CHECKPOINT => unsafe { write_volatile(CHECKPOINTS, 1) },
        _ => {}
    }
}

/// The registers of a profiling unit, as programs number them.
const PMSCR: u8 = 0;
const PMSICR: u8 = 1;
const PMSIRR: u8 = 2;
const PMSFCR: u8 = 3;
const PMSEVFR: u8 = 4;
const PMSLATFR: u8 = 5;
const PMSNEVFR: u8 = 6;
const PMBLIMITR: u8 = 7;
const PMBPTR: u8 = 8;
const PMBSR: u8 = 9;
/// The first of those that cannot be written.
const PMSIDR: u8 = 10;

/// Writes a register of the unit.
fn spe_write(number: u8, value: u64) {
    match number {
        PMSCR => msr!("s3_0_c9_c9_0", value),
        PMSICR => msr!("s3_0_c9_c9_2", value),
        PMSIRR => msr!("s3_0_c9_c9_3", value),
        PMSFCR => msr!("s3_0_c9_c9_4", value),
        PMSEVFR => msr!("s3_0_c9_c9_5", value),
        PMSLATFR => msr!("s3_0_c9_c9_6", value),
        PMSNEVFR => msr!("s3_0_c9_c9_1", value),
        PMBLIMITR => msr!("s3_0_c9_c10_0", value),
        PMBPTR => msr!("s3_0_c9_c10_1", value),
        PMBSR => msr!("s3_0_c9_c10_3", value),
        _ => {}
    }
}

macro_rules! mrs {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: These registers can be read.
        unsafe { asm!(concat!("mrs {}, ", $register), out(reg) value) };
        value
    }};
}

/// Reads a register of the unit.
fn spe_read(number: u8) -> u64 {
    match number {
        PMSCR => mrs!("s3_0_c9_c9_0"),
        PMSICR => mrs!("s3_0_c9_c9_2"),
        PMSIRR => mrs!("s3_0_c9_c9_3"),
        PMSFCR => mrs!("s3_0_c9_c9_4"),
        PMSEVFR => mrs!("s3_0_c9_c9_5"),
        PMSLATFR => mrs!("s3_0_c9_c9_6"),
        PMSNEVFR => mrs!("s3_0_c9_c9_1"),
        PMBLIMITR => mrs!("s3_0_c9_c10_0"),
        PMBPTR => mrs!("s3_0_c9_c10_1"),
        PMBSR => mrs!("s3_0_c9_c10_3"),
        PMSIDR => mrs!("s3_0_c9_c9_7"),
        _ => mrs!("s3_0_c9_c10_7"),
    }
}

/// Profiles a loop of `turns` turns of four instructions, one sample in 257, and traces the state
/// of the buffer. An exit of a vCPU may lose a sample: from then on, until the pointer is written,
/// the trace has only whether the pointer has moved.
fn profile(turns: u64, trace: &mut Trace<'_>) {
    for filter in [PMSICR, PMSFCR, PMSEVFR, PMSLATFR, PMSNEVFR] {
        spe_write(filter, 0);
    }
    spe_write(PMSIRR, PMSIRR_EL1_INTERVAL & 1 << 8);
    let before = spe_read(PMBPTR);
    spe_write(PMSCR, PMSCR_EL1_E1SPE);
    // SAFETY: The loop only counts.
    unsafe {
        asm!("1: nop", "nop", "subs {0}, {0}, #1", "b.ne 1b", inout(reg) turns.max(1) => _);
    }
    spe_write(PMSCR, 0);
    // SAFETY: The instructions only complete what the unit has under way: PSB CSYNC, DSB.
    unsafe { asm!("hint #17", "dsb nsh", "isb") };
    spe_write(PMSICR, 0);
    let (after, status) = (spe_read(PMBPTR), spe_read(PMBSR));
    trace.event('s', 0, status);
    trace.event('p', 0, u64::from(after != before));
    trace.moved |= after != before;
    trace.hits += u32::from(after != before || status & PMBSR_EL1_S != 0);
}

/// Writes zero to each register of the unit that programs write.
fn reset_unit() {
    for register in PMSCR..PMSIDR {
        spe_write(register, 0);
    }
}

/// Writes zero to each register that programs write.
fn reset() {
    for register in 0..REGISTERS {
        let _ = write(register, 0);
    }
    msr!("contextidr_el1", 0u64);
    msr!("mdscr_el1", 0u64);
    msr!("oslar_el1", 0u64);
}

/// Ends the machine.
fn off() -> ! {
    loop {
        // SAFETY: PSCI does not come back from this.
        unsafe { asm!("hvc #0", inout("x0") PSCI_SYSTEM_OFF => _) };
    }
}

/// Returns the seed and the operations of the program at `next`, and advances `next`.
///
/// # Safety
///
/// `next` points to a program: a seed, a number of operations, and the operations.
unsafe fn program(next: &mut *const u64) -> (u64, &'static [Op]) {
    // SAFETY: By the contract of this function.
    let (seed, length) = unsafe { (next.read(), next.add(1).read() as usize) };
    // SAFETY: As above.
    let ops = unsafe { core::slice::from_raw_parts(next.add(2).cast::<Op>(), length) };
    // SAFETY: As above.
    *next = unsafe { next.add(2 + 2 * length) };
    (seed, ops)
}

/// Runs a program and prints its line.
fn run_program(seed: u64, ops: &[Op], verbose: bool, out: &mut Out) {
    let _ = write!(out, "{seed:x}");
    let mut trace = Trace::new(verbose.then_some(&mut *out));

    // A CPU without a unit has none of its registers.
    if ops.iter().any(|op| op.kind >= SPE_WRITE) {
        reset_unit();
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

#[no_mangle]
extern "C" fn main() -> ! {
    // SAFETY: The starter of this image has loaded a file from programs.py at this address.
    let (count, verbose) = unsafe { (PROGRAMS.read(), PROGRAMS.add(1).read() != 0) };
    // SAFETY: As above.
    let mut next = unsafe { PROGRAMS.add(2) };
    // SAFETY: There is one thread, and except for a panic only this statement refers to OUT.
    let out = unsafe { &mut *addr_of_mut!(OUT) };

    for _ in 0..count {
        // SAFETY: As above.
        let (seed, ops) = unsafe { program(&mut next) };
        run_program(seed, ops, verbose, out);
    }
    off()
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: No other code runs after the panic.
    let out = unsafe { &mut *addr_of_mut!(OUT) };
    let _ = writeln!(out, "{info}");
    out.flush();
    off()
}

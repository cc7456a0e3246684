// SPDX-License-Identifier: GPL-2.0

//! Programs that a profiler or a debugger is tried on.
//!
//! ```text
//! workload profile     two loops with names of their own: one loads, one branches
//! workload breakpoints hardware breakpoints by ptrace, as TAP
//! workload kexec IMAGE INITRD CMDLINE
//!                      boot another kernel at once, whatever runs
//! ```

use std::env;
use std::ffi::{c_void, CString};
use std::fs::File;
use std::hint::black_box;
use std::io;
use std::mem::{offset_of, size_of_val};
use std::os::fd::AsRawFd;
use std::process::exit;
use std::ptr::null_mut;

extern "C" {
    fn fork() -> i32;
    fn ptrace(request: i32, pid: i32, address: *mut c_void, data: *mut c_void) -> i64;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn raise(signal: i32) -> i32;
    fn reboot(command: i32) -> i32;
    fn syscall(number: i64, ...) -> i64;
    fn _exit(status: i32) -> !;
}

const PTRACE_TRACEME: i32 = 0;
const PTRACE_CONT: i32 = 7;
const PTRACE_GETREGSET: i32 = 0x4204;
const PTRACE_SETREGSET: i32 = 0x4205;
const NT_PRSTATUS: usize = 1;
const NT_ARM_HW_BREAK: usize = 0x402;
const SIGTRAP: i32 = 5;
const SIGSTOP: i32 = 19;

/// Loads from an array.
#[no_mangle]
#[inline(never)]
pub fn hot_loads(words: &[u64; 64], turns: u64) -> u64 {
    let mut sum = 0u64;
    for _ in 0..turns {
        let mut i = 0;
        while i < 64 {
            sum = sum.wrapping_add(black_box(words)[i]);
            i += 1;
        }
    }
    sum
}

/// Branches that depend on a number that changes.
#[no_mangle]
#[inline(never)]
pub fn hot_branches(turns: u64) -> u64 {
    let mut odd = 0;
    let mut state = 1u64;
    for _ in 0..turns {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if black_box(state) & 1 != 0 {
            odd = black_box(odd + 1);
        }
    }
    odd
}

/// Returns `n + 1`. Breakpoints are set on this function.
#[no_mangle]
#[inline(never)]
pub extern "C" fn target(n: u64) -> u64 {
    black_box(n + 1)
}

#[repr(C)]
struct Vector {
    base: *mut c_void,
    length: usize,
}

/// `struct user_hwdebug_state` of the kernel's `asm/ptrace.h`: how many registers there are in the
/// lowest byte of `info`, and for each of them the address and the control.
#[repr(C)]
#[derive(Clone, Copy)]
struct DebugState {
    info: u32,
    pad: u32,
    registers: [(u64, u32, u32); MAX],
}

/// Breakpoints that there can be.
const MAX: usize = 16;

/// A breakpoint on an A64 instruction at EL0, as the fields of `DBGBCR<n>_EL1`: E, PMC, BAS.
const ENABLED: u32 = 1 | 0b10 << 1 | 0b1111 << 5;

impl DebugState {
    /// No breakpoint.
    const NONE: Self = Self {
        info: 0,
        pad: 0,
        registers: [(0, 0, 0); MAX],
    };

    /// Returns the bytes of a state with `count` breakpoints.
    fn length(count: usize) -> usize {
        offset_of!(Self, registers) + count * size_of::<(u64, u32, u32)>()
    }
}

/// Returns where the breakpoint is.
fn target_address() -> u64 {
    target as usize as u64
}

/// A child that is traced.
struct Child(i32);

impl Child {
    /// Starts a child and waits until it stops. When it continues, the child calls [`target`] and
    /// exits, with 0 if the result is right.
    fn start() -> Self {
        let null = null_mut;

        // SAFETY: The child calls what is allowed after fork() of one thread.
        let pid = unsafe { fork() };
        if pid == 0 {
            // SAFETY: As above.
            unsafe {
                ptrace(PTRACE_TRACEME, 0, null(), null());
                raise(SIGSTOP);
                _exit((target(41) != 42) as i32);
            }
        }
        let child = Self(pid);
        child.wait();
        child
    }

    /// Waits until it stops or ends; returns its status.
    fn wait(&self) -> i32 {
        let mut status = 0;
        // SAFETY: The status is this function's.
        unsafe { waitpid(self.0, &mut status, 0) };
        status
    }

    /// Lets it go on, until it stops or ends; returns its status.
    fn go_on(&self) -> i32 {
        // SAFETY: The child is stopped.
        unsafe { ptrace(PTRACE_CONT, self.0, null_mut(), null_mut()) };
        self.wait()
    }

    /// Reads or writes the first bytes of a set of registers; returns whether that was possible.
    fn regset<T>(&self, request: i32, kind: usize, value: &mut T, length: usize) -> bool {
        let mut vector = Vector {
            base: (value as *mut T).cast(),
            length,
        };
        let data = (&mut vector as *mut Vector).cast();

        // SAFETY: The vector describes `value`.
        unsafe { ptrace(request, self.0, kind as *mut c_void, data) == 0 }
    }

    /// Reads the breakpoints.
    fn breakpoints(&self) -> Option<DebugState> {
        let mut state = DebugState::NONE;
        let length = size_of::<DebugState>();

        self.regset(PTRACE_GETREGSET, NT_ARM_HW_BREAK, &mut state, length)
            .then_some(state)
    }

    /// Sets that many breakpoints.
    fn set_breakpoints(&self, mut state: DebugState, count: usize) -> bool {
        let length = DebugState::length(count);

        self.regset(PTRACE_SETREGSET, NT_ARM_HW_BREAK, &mut state, length)
    }

    /// Returns the program counter.
    fn pc(&self) -> u64 {
        /// `struct user_pt_regs`: x0 to x30, SP, PC, PSTATE.
        const PC: usize = 32;
        let mut registers = [0u64; 34];
        let length = size_of_val(&registers);

        self.regset(PTRACE_GETREGSET, NT_PRSTATUS, &mut registers, length);
        registers[PC]
    }
}

/// The lines of a TAP report, which begins with how many there are.
struct Report(Vec<String>);

impl Report {
    /// Reports one fact.
    fn check(&mut self, holds: bool, fact: &str) {
        let n = self.0.len() + 1;
        self.0.push(format!(
            "{}ok {n} - {fact}",
            if holds { "" } else { "not " }
        ));
    }

    /// Prints it and ends the program: 0 if all facts hold.
    fn end(self) -> ! {
        println!("TAP version 13\n1..{}\n{}", self.0.len(), self.0.join("\n"));
        exit(self.0.iter().any(|line| line.starts_with("not")).into())
    }
}

/// Returns whether that is the status of a child that has been stopped by a signal, as
/// WIFSTOPPED() and WSTOPSIG() of `sys/wait.h` say it.
fn stopped_by(status: i32, signal: i32) -> bool {
    status & 0xff == 0x7f && status >> 8 == signal
}

/// Checks that there are `expected` breakpoints and no more, and that the last one can be set and
/// is hit.
fn breakpoints(expected: usize) -> ! {
    let mut report = Report(Vec::new());
    let child = Child::start();

    let state = child.breakpoints();
    report.check(state.is_some(), "NT_ARM_HW_BREAK can be read");
    report.check(
        state.is_some_and(|state| state.info as usize & 0xff == expected),
        "the kernel reports the breakpoints of the machine",
    );
    let mut armed = DebugState::NONE;
    armed.registers[expected - 1] = (target_address(), ENABLED, 0);
    report.check(
        child.set_breakpoints(armed, expected),
        "the last of them can be set",
    );
    if let Some(beyond) = armed.registers.get_mut(expected) {
        *beyond = (target_address(), ENABLED, 0);
        let set = child.set_breakpoints(armed, expected + 1);
        report.check(!set, "one more is refused");
    }
    let stopped = stopped_by(child.go_on(), SIGTRAP);
    report.check(
        stopped && child.pc() == target_address(),
        "the child stops at the breakpoint",
    );
    child.set_breakpoints(DebugState::NONE, expected);
    report.check(child.go_on() == 0, "and goes on to its end");
    report.end()
}

/// The number of kexec_file_load() (include/uapi/asm-generic/unistd.h), and of
/// LINUX_REBOOT_CMD_KEXEC (include/uapi/linux/reboot.h).
const KEXEC_FILE_LOAD: i64 = 294;
const REBOOT_KEXEC: i32 = 0x4558_4543;

/// Boots another kernel. Returns if that fails.
fn kexec(image: &str, initrd: &str, cmdline: &str) -> io::Result<()> {
    let (image, initrd) = (File::open(image)?, File::open(initrd)?);
    let cmdline = CString::new(cmdline)?;
    let length = cmdline.as_bytes_with_nul().len();
    let files = (image.as_raw_fd(), initrd.as_raw_fd());

    // SAFETY: The kernel reads the command line. If it goes on, this program does not.
    unsafe {
        let text = cmdline.as_ptr();
        if syscall(KEXEC_FILE_LOAD, files.0, files.1, length, text, 0u64) == 0 {
            reboot(REBOOT_KEXEC);
        }
    }
    Err(io::Error::last_os_error())
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("profile") => {
            let words = [3u64; 64];
            println!("{} {}", hot_loads(&words, 20_000), hot_branches(300_000));
        }
        Some("breakpoints") => {
            breakpoints(arguments.get(2).and_then(|n| n.parse().ok()).unwrap_or(6))
        }
        Some("kexec") if arguments.len() == 5 => {
            let why = kexec(&arguments[2], &arguments[3], &arguments[4]);
            eprintln!("kexec: {why:?}");
            exit(1);
        }
        _ => {
            eprintln!("usage: workload profile | breakpoints COUNT | kexec IMAGE INITRD CMDLINE");
            exit(2);
        }
    }
}

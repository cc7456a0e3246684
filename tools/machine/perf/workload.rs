// SPDX-License-Identifier: GPL-2.0

//! Programs that a profiler or a debugger is tried on.
//!
//! ```text
//! workload profile     two loops with names of their own: one loads, one branches
//! workload breakpoints hardware breakpoints by ptrace, as TAP
//! ```

use std::env;
use std::ffi::c_void;
use std::hint::black_box;
use std::process::exit;

extern "C" {
    fn fork() -> i32;
    fn ptrace(request: i32, pid: i32, address: *mut c_void, data: *mut c_void) -> i64;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn raise(signal: i32) -> i32;
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

/// What a breakpoint is put on.
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

/// `struct user_hwdebug_state` of the kernel's `asm/ptrace.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct DebugState {
    info: u32,
    pad: u32,
    registers: [(u64, u32, u32); 16],
}

fn regset<T>(request: i32, pid: i32, kind: usize, value: &mut T, length: usize) -> bool {
    let mut vector = Vector {
        base: (value as *mut T).cast(),
        length,
    };
    // SAFETY: The vector describes `value`.
    unsafe {
        ptrace(
            request,
            pid,
            kind as *mut c_void,
            (&mut vector as *mut Vector).cast(),
        ) == 0
    }
}

/// The lines of a TAP report, which begins with how many there are.
struct Report(Vec<String>);

impl Report {
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

fn breakpoints(expected: u32) -> ! {
    let mut report = Report(Vec::new());

    // SAFETY: The child calls what is allowed after fork() of one thread.
    let pid = unsafe { fork() };
    if pid == 0 {
        // SAFETY: As above.
        unsafe {
            ptrace(
                PTRACE_TRACEME,
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            );
            raise(SIGSTOP);
            _exit((target(41) != 42) as i32);
        }
    }
    let mut status = 0;
    // SAFETY: The status is this function's.
    unsafe { waitpid(pid, &mut status, 0) };
    let mut state = DebugState {
        info: 0,
        pad: 0,
        registers: [(0, 0, 0); 16],
    };
    let read = regset(
        PTRACE_GETREGSET,
        pid,
        NT_ARM_HW_BREAK,
        &mut state,
        size_of::<DebugState>(),
    );
    report.check(read, "NT_ARM_HW_BREAK can be read");
    report.check(
        state.info & 0xff == expected,
        "the kernel reports the breakpoints of the machine",
    );

    // The last one that there is: enabled, EL0, all four bytes.
    let last = expected as usize - 1;
    let mut armed = DebugState {
        info: 0,
        pad: 0,
        registers: [(0, 0, 0); 16],
    };
    armed.registers[last] = (target as usize as u64, 1 | 2 << 1 | 0xf << 5, 0);
    let length = 8 + 16 * (last + 1);
    report.check(
        regset(PTRACE_SETREGSET, pid, NT_ARM_HW_BREAK, &mut armed, length),
        "the last of them can be set",
    );
    if last < 15 {
        let mut beyond = armed;
        beyond.registers[last + 1] = beyond.registers[last];
        report.check(
            !regset(
                PTRACE_SETREGSET,
                pid,
                NT_ARM_HW_BREAK,
                &mut beyond,
                length + 16,
            ),
            "one more is refused",
        );
    }
    // SAFETY: The child is stopped.
    unsafe { ptrace(PTRACE_CONT, pid, std::ptr::null_mut(), std::ptr::null_mut()) };
    // SAFETY: As above.
    unsafe { waitpid(pid, &mut status, 0) };
    let mut registers = [0u64; 34];
    regset(PTRACE_GETREGSET, pid, NT_PRSTATUS, &mut registers, 34 * 8);
    report.check(
        status & 0xff == 0x7f && status >> 8 == SIGTRAP && registers[32] == target as usize as u64,
        "the child stops at the breakpoint",
    );
    armed.registers[last] = (0, 0, 0);
    regset(PTRACE_SETREGSET, pid, NT_ARM_HW_BREAK, &mut armed, length);
    // SAFETY: The child is stopped.
    unsafe { ptrace(PTRACE_CONT, pid, std::ptr::null_mut(), std::ptr::null_mut()) };
    // SAFETY: As above.
    unsafe { waitpid(pid, &mut status, 0) };
    report.check(status == 0, "and goes on to its end");
    report.end()
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
        _ => {
            eprintln!("usage: workload profile | breakpoints COUNT");
            exit(2);
        }
    }
}

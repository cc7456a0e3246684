// SPDX-License-Identifier: GPL-2.0

//! The program of the guest that `make fleet` moves: executes commands from the console, one word
//! per line, and answers with "guest: WORD ...".
//!
//! It arms all breakpoints and watchpoints of its CPU at its start, and writes to memory all the
//! time, so that a move must transfer both.

use std::{
    arch::asm,
    collections::hash_map::DefaultHasher,
    env, fs,
    hash::{Hash as _, Hasher as _},
    hint::black_box,
    io::{self, BufRead as _},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

extern "C" {
    fn syscall(number: i64, ...) -> i64;
    fn getauxval(entry: u64) -> u64;
}

const PERF_EVENT_OPEN: i64 = 241;
const READ: i64 = 63;
const CLOCK_GETTIME: i64 = 113;
const CLOCK_MONOTONIC: u64 = 1;
const REBOOT: i64 = 142;
/// Two magic numbers, and LINUX_REBOOT_CMD_RESTART.
const REBOOT_NOW: [u64; 3] = [0xfee1_dead, 0x2812_1969, 0x0123_4567];

/// Entries of the auxiliary vector that describe the CPU.
const VECTOR: [(&str, u64); 4] = [
    ("hwcap", 16),
    ("hwcap2", 26),
    ("hwcap3", 29),
    ("minsigstksz", 51),
];

/// CTR_EL0.TminLine: KVM's register does not have it, and a guest reads that of the host.
const TMINLINE: u64 = 0x3f << 32;

/// The most breakpoints, and watchpoints, that a CPU can have.
const MOST: usize = 16;
/// How often each is hit for one answer.
const HITS: u64 = 3;

fn target<const N: usize>() -> usize {
    black_box(N)
}

macro_rules! targets {
    ($($n:literal)*) => { [$(target::<$n>),*] };
}

static TARGETS: [fn() -> usize; MOST] = targets!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
static WORDS: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];

/// Counts hits of a breakpoint or a watchpoint of the only CPU.
struct Hits(i64);

impl Hits {
    /// `HW_BREAKPOINT_W`, on 8 bytes.
    const STORE: (u64, u64) = (2, 8);
    /// `HW_BREAKPOINT_X`, on 4 bytes.
    const EXECUTION: (u64, u64) = (4, 4);

    /// Arms one on the CPU, or returns [`None`] if all are in use.
    fn new((kind, length): (u64, u64), address: u64) -> Option<Self> {
        // struct perf_event_attr: PERF_TYPE_BREAKPOINT, of 72 bytes, pinned, not in the kernel.
        let mut attr = [0u64; 9];
        attr[0] = 5 | 72 << 32;
        attr[5] = 1 << 2 | 1 << 5 | 1 << 6;
        attr[6] = kind << 32;
        attr[7] = address;
        attr[8] = length;
        // SAFETY: The structure is as large as it says.
        let file = unsafe { syscall(PERF_EVENT_OPEN, attr.as_ptr(), -1i64, 0i64, -1i64, 0u64) };
        (file >= 0).then_some(Self(file))
    }

    fn count(&self) -> u64 {
        let mut count = 0u64;
        // SAFETY: The kernel writes 8 bytes.
        unsafe { syscall(READ, self.0, &mut count, size_of::<u64>()) };
        count
    }
}

/// All breakpoints and watchpoints that there are.
struct Armed {
    breakpoints: Vec<Hits>,
    watchpoints: Vec<Hits>,
}

impl Armed {
    fn new() -> Self {
        let executed = TARGETS.iter().map(|target| *target as usize as u64);
        let stored = WORDS.iter().map(|word| word.as_ptr() as u64);
        Self {
            breakpoints: executed
                .map_while(|address| Hits::new(Hits::EXECUTION, address))
                .collect(),
            watchpoints: stored
                .map_while(|address| Hits::new(Hits::STORE, address))
                .collect(),
        }
    }

    /// Hits each, and says how many of them have counted that.
    fn hit(&self) -> String {
        let all = || self.breakpoints.iter().chain(&self.watchpoints);
        let before: Vec<_> = all().map(Hits::count).collect();
        for _ in 0..HITS {
            TARGETS.iter().for_each(|target| {
                black_box(target)();
            });
            for word in &WORDS {
                word.store(1, Ordering::Relaxed);
            }
        }
        let good: Vec<_> = all()
            .zip(before)
            .map(|(hits, before)| hits.count() == before + HITS)
            .collect();
        let (breakpoints, watchpoints) = good.split_at(self.breakpoints.len());
        let fired = |all: &[bool]| {
            format!(
                "{} of {}",
                all.iter().filter(|one| **one).count(),
                all.len()
            )
        };
        format!(
            "{} breakpoints, {} watchpoints",
            fired(breakpoints),
            fired(watchpoints)
        )
    }
}

/// Returns what a register of the CPU says now, except for these bits.
macro_rules! register {
    ($name:literal) => {
        register!($name, 0)
    };
    ($name:literal, $but:expr) => {{
        let value: u64;
        // SAFETY: A program may read it, or Linux reads it in its place.
        unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
        format!(concat!($name, "={:#x}"), value & !$but)
    }};
}

/// Returns what programs are told of the CPU: by the auxiliary vector and by /proc/cpuinfo, as the
/// kernel has found it when it booted, and by registers.
fn cpu() -> String {
    // SAFETY: It only reads the process's own vector.
    let entry = |(name, entry)| format!("{name}={:#x}", unsafe { getauxval(entry) });
    let info = fs::read_to_string("/proc/cpuinfo").expect("/proc is there");
    let mut hasher = DefaultHasher::new();
    info.hash(&mut hasher);
    let mut words: Vec<_> = VECTOR.map(entry).into();
    words.push(format!("cpuinfo={:016x}", hasher.finish()));
    words.extend([
        register!("midr_el1"),
        register!("ctr_el0", TMINLINE),
        register!("dczid_el0"),
        register!("cntfrq_el0"),
    ]);
    words.join(" ")
}

/// Returns the time since the guest has booted, in seconds.
fn clock() -> String {
    let mut time = [0u64; 2];
    // SAFETY: The kernel writes a struct timespec.
    unsafe { syscall(CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr()) };
    format!("{}.{:09}", time[0], time[1])
}

static ROUNDS: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// Writes a mebibyte again and again, and reads what it has written the last time.
fn write_memory() {
    let mut pages = vec![[0u64; 512]; 256];
    loop {
        let round = ROUNDS.fetch_add(1, Ordering::Relaxed);
        for page in black_box(&mut pages) {
            WRONG.fetch_add(u64::from(page[7] != round), Ordering::Relaxed);
            page[7] = round + 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns what cpu() says in a new program, which gets the vector anew.
fn cpu_of_a_new_program() -> String {
    match Command::new("/proc/self/exe").arg("cpu").output() {
        Ok(said) => String::from_utf8_lossy(&said.stdout).trim().to_string(),
        Err(error) => error.to_string(),
    }
}

fn main() {
    if env::args().nth(1).is_some() {
        println!("{}", cpu());
        return;
    }
    let armed = Armed::new();
    thread::spawn(write_memory);
    println!("guest: booted");
    for word in io::stdin().lock().lines().map_while(Result::ok) {
        let answer = match word.as_str() {
            "cpu" => cpu_of_a_new_program(),
            "debug" => armed.hit(),
            "clock" => clock(),
            "memory" => {
                let [rounds, wrong] = [&ROUNDS, &WRONG].map(|n| n.load(Ordering::Relaxed));
                format!("{rounds} rounds, {wrong} wrong")
            }
            "reboot" => {
                let [first, second, restart] = REBOOT_NOW;
                // SAFETY: It does not return.
                unsafe { syscall(REBOOT, first, second, restart, 0u64) };
                continue;
            }
            _ => "?".into(),
        };
        println!("guest: {word} {answer}");
    }
}

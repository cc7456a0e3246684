// SPDX-License-Identifier: GPL-2.0

//! A QEMU TCG plugin that counts executed A64 instructions by class; see README.md.
//!
//! While a block is translated, each of its instructions gets an inline addition to a counter of
//! the vCPU that executes it. There is one set of counters per vCPU, so that concurrent vCPUs lose
//! no count, and one addition per instruction rather than per block, so that a block left half-way
//! by an exception counts as far as it came.
//!
//! A translated block is used at one Exception level only: QEMU looks blocks up by, among others,
//! the translation regime. So the level is read when the block is made, and costs nothing when it
//! runs.

mod a64;
mod counts;
mod ffi;
mod options;
mod order;
mod output;

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use a64::{Class, Mark, Order};
use counts::{Layout, Level, Site, What};
use ffi::{Info, Insn, Register, Scoreboard, Tb};
use options::{Options, Slow};
use output::Output;

/// The measurement between two marks.
#[derive(Default)]
struct Round {
    /// Measurements finished so far.
    finished: u64,
    /// The counts at the last start; `None` outside of a measurement.
    start: Option<Vec<u64>>,
}

struct Plugin {
    options: Options,
    layout: Layout,
    counts: Scoreboard,
    sites: Mutex<HashMap<Site, Scoreboard>>,
    round: Mutex<Round>,
    /// For each of `options.slow`, how many are still to sleep in this measurement.
    to_sleep: Vec<AtomicU64>,
    output: Output,
    /// The register that holds the current Exception level, if QEMU offers it.
    pstate: OnceLock<Option<Register>>,
    /// What to add to a host address to get the guest physical address.
    to_physical: OnceLock<Option<u64>>,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

impl Plugin {
    fn new(arguments: &[String]) -> Result<Plugin, String> {
        let options = Options::parse(arguments.iter().map(String::as_str))?;
        let names = options.ranges.iter().map(|range| range.name.clone());
        let layout = Layout::new(names, options.insns);
        Ok(Plugin {
            output: Output::new(options.out.as_deref())?,
            counts: Scoreboard::new(layout.cells()),
            to_sleep: options.slow.iter().map(|_| AtomicU64::new(0)).collect(),
            options,
            layout,
            sites: Mutex::default(),
            round: Mutex::default(),
            pstate: OnceLock::new(),
            to_physical: OnceLock::new(),
        })
    }

    /// Returns the current vCPU's Exception level: PSTATE.EL, which QEMU shows GDB in `cpsr` bits
    /// [3:2], in the format of SPSR_ELx.
    fn level(&self) -> Level {
        let pstate = self.pstate.get()?.as_ref()?.read()?;
        Some(((pstate >> 2) & 3) as u8)
    }

    fn translate(&self, tb: &Tb) {
        let level = self.level();
        for (i, insn) in tb.insns().enumerate() {
            self.locate_ram(&insn);
            if self.options.order && i == 0 && level == Some(0) {
                insn.call(order::user_cb, 0);
            }
            if let Some(opcode) = insn.opcode() {
                self.instrument(&insn, opcode, level);
            }
        }
    }

    /// Learns where RAM lies from the first instruction after reset, when the MMU is off and so
    /// the virtual address is the physical one.
    fn locate_ram(&self, insn: &Insn<'_>) {
        self.to_physical.get_or_init(|| {
            let in_ram = |ram: &&options::Range| ram.contains(insn.vaddr());
            self.options.ram.as_ref().filter(in_ram)?;
            Some(insn.vaddr().wrapping_sub(insn.host_address()?))
        });
    }

    fn physical(&self, insn: &Insn<'_>) -> Option<u64> {
        let offset = (*self.to_physical.get()?)?;
        let address = insn.host_address()?.wrapping_add(offset);
        let in_ram = |ram: &options::Range| ram.contains(address);
        self.options
            .ram
            .as_ref()
            .is_some_and(in_ram)
            .then_some(address)
    }

    /// Instruments one instruction. What is registered first happens first: a measurement includes
    /// neither of the hints that delimit it.
    fn instrument(&self, insn: &Insn<'_>, opcode: u32, level: Level) {
        let mark = a64::mark(opcode);
        if mark == Some(Mark::Stop) {
            insn.call(stop_cb, 0);
        }
        if self.options.insns {
            self.count(insn, What::Insns, level);
        }
        if mark == Some(Mark::Start) {
            insn.call(start_cb, 0);
        }
        if self.options.order {
            match a64::order(opcode) {
                Some(Order::Complete) => insn.call(order::dsb_cb, 0),
                Some(Order::SetActlr) => insn.call(order::actlr_cb, 0),
                None => {}
            }
        }
        if let Some(class) = a64::classify(opcode) {
            self.instrument_class(insn, opcode, class, level);
        }
    }

    fn instrument_class(&self, insn: &Insn<'_>, opcode: u32, class: Class, level: Level) {
        self.count(insn, What::Class(class), level);
        if self.options.sites.contains(&class) {
            let (vaddr, paddr) = (insn.vaddr(), self.physical(insn));
            self.count_site(
                insn,
                Site {
                    class,
                    vaddr,
                    opcode,
                    level,
                    paddr,
                },
            );
        }
        for (n, slow) in self.options.slow.iter().enumerate() {
            if slow.class == class {
                insn.call(sleep_cb, n);
            }
        }
    }

    fn count(&self, insn: &Insn<'_>, what: What, level: Level) {
        let address = insn.vaddr();
        let range = self
            .options
            .ranges
            .iter()
            .position(|range| range.contains(address));
        let cell = self.layout.cell(what, range.unwrap_or(usize::MAX), level);
        insn.count(self.counts.counter(cell));
    }

    fn count_site(&self, insn: &Insn<'_>, site: Site) {
        let mut sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let board = sites.entry(site).or_insert_with(|| Scoreboard::new(1));
        insn.count(board.counter(0));
    }

    fn start(&self) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.start = Some(self.counts.sums());
        self.set_to_sleep(|slow| slow.first.unwrap_or(0));
    }

    fn set_to_sleep(&self, number: impl Fn(&Slow) -> u64) {
        for (left, slow) in self.to_sleep.iter().zip(&self.options.slow) {
            left.store(number(slow), Relaxed);
        }
    }

    /// Returns how long an instruction of the `n`th of `options.slow` sleeps, if it does.
    fn sleeps(&self, n: usize) -> Option<Duration> {
        let slow = self.options.slow.get(n)?;
        if slow.first.is_some() {
            let take = |left: u64| left.checked_sub(1);
            self.to_sleep
                .get(n)?
                .fetch_update(Relaxed, Relaxed, take)
                .ok()?;
        }
        Some(Duration::from_micros(slow.microseconds))
    }

    fn stop(&self) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(start) = round.start.take() else {
            return self.output.write("mark-error stop without start\n");
        };
        round.finished += 1;
        self.set_to_sleep(|_| 0);
        let now = self.counts.sums();
        let during: Vec<_> = now
            .iter()
            .zip(start)
            .map(|(now, start)| now - start)
            .collect();
        let prefix = format!("mark {} ", round.finished);
        self.output.write(&self.layout.report(&prefix, &during));
    }

    fn report(&self) {
        let mut text = self.layout.report("", &self.counts.sums());
        if self.options.order {
            text.push_str(&order::report());
        }
        let sites = self.sites.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = sites
            .iter()
            .map(|(site, board)| (*site, board.counter(0).sum()));
        let mut executed: Vec<_> = counts.filter(|(_, count)| *count != 0).collect();
        executed.sort();
        text.extend(executed.iter().map(|(site, count)| site.report(*count)));
        self.output.write(&text);
    }
}

extern "C" fn vcpu_init_cb(_id: ffi::Id, _vcpu: c_uint) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.pstate.get_or_init(|| Register::find(c"cpsr"));
    }
}

extern "C" fn translate_cb(_id: ffi::Id, tb: *mut Tb) {
    // SAFETY: QEMU passes a block that is live until this callback returns.
    if let (Some(plugin), Some(tb)) = (PLUGIN.get(), unsafe { tb.as_ref() }) {
        plugin.translate(tb);
    }
}

extern "C" fn start_cb(_vcpu: c_uint, _data: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.start();
    }
}

extern "C" fn stop_cb(_vcpu: c_uint, _data: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.stop();
    }
}

/// Runs in the thread of the vCPU that executes the instruction, without QEMU's big lock.
extern "C" fn sleep_cb(_vcpu: c_uint, n: *mut c_void) {
    if let Some(time) = PLUGIN.get().and_then(|plugin| plugin.sleeps(n as usize)) {
        thread::sleep(time);
    }
}

extern "C" fn exit_cb(_id: ffi::Id, _data: *mut c_void) {
    if let Some(plugin) = PLUGIN.get() {
        plugin.report();
    }
}

fn install(id: ffi::Id, info: &Info, arguments: &[String]) -> Result<(), String> {
    if let Some(reason) = info.unsupported() {
        return Err(reason);
    }
    let plugin = Plugin::new(arguments)?;
    PLUGIN.set(plugin).map_err(|_| "already loaded")?;
    ffi::register(id, vcpu_init_cb, translate_cb, exit_cb);
    Ok(())
}

/// Sets the plugin up, when QEMU loads it. Not 0 makes QEMU refuse to start.
///
/// # Safety
///
/// `info` is valid during the call, and `argv` points to `argc` NUL-terminated strings.
#[no_mangle]
pub unsafe extern "C" fn qemu_plugin_install(
    id: ffi::Id,
    info: *const Info,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: By the caller's contract.
    let (info, arguments) = unsafe { (&*info, ffi::arguments(argc, argv)) };
    match install(id, info, &arguments) {
        Ok(()) => 0,
        Err(reason) => {
            eprintln!("opcodes: {reason}");
            -1
        }
    }
}

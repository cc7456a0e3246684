// SPDX-License-Identifier: GPL-2.0

//! A small VMM: it boots Linux, or runs a program of its own on one vCPU.
//!
//! It shows and tests how a VMM uses the capabilities of the host kernel: it gives a VM fewer
//! breakpoints, a CPU that other hosts have too, or a profiling unit that only some CPUs have,
//! saves the VM on one host and restores it on another, or moves it there while it runs.

mod baseline;
mod board;
mod failure;
mod gic;
mod linux;
mod machine;
mod migration;
mod missing;
mod ram;
mod registers;
mod spe;
mod state;
mod vcpu;

use std::{
    ops::RangeInclusive,
    path::PathBuf,
    process::ExitCode,
    sync::{
        atomic::{AtomicBool, Ordering},
        Mutex,
    },
};

use baseline::Baseline;
use board::{Board, PortState};
use failure::{During, Result};
use linux::Linux;
use machine::{Features, Machine, Shape};
use migration::{Arrival, Filling, Sending};
use spe::Unit;
use vcpu::Stop;

const USAGE: &str = "usage:
       vmm --kernel IMAGE [--initrd FILE] [--cmdline TEXT] [--cpus N] [--memory MIB]
           [--baseline FILE]
       vmm --load ADDRESS:FILE... --start ADDRESS [--breakpoints B/C] [--baseline FILE]
       vmm --restore FILE
       vmm --receive PORT
options for all of them: [--spe DEVICE] [--place CPU]
           [--save FILE [--checkpoint N] | --send HOST:PORT | --postcopy HOST:PORT]

  --kernel IMAGE        boot an arm64 Linux kernel; the console is a 16550A, ttyS0
  --initrd FILE         with this initial file system
  --cmdline TEXT        and this command line
  --cpus N              on N vCPUs (default 1, at most 16)
  --memory MIB          with so much memory, from 0x40000000 (default 256; without a kernel 96)
  --load ADDRESS:FILE   copy FILE to memory at ADDRESS
  --start ADDRESS       where the vCPU starts
  --breakpoints B/C     give the guest B breakpoints, C of them context-aware
  --baseline FILE       give the guest the CPU that FILE describes (baseline merge --format vmm)
  --restore FILE        run what was saved in FILE
  --receive PORT        run what another host sends to this TCP port
  --spe DEVICE          give the guest this profiling unit of the host, such as arm_spe_0
  --place CPU           start the vCPUs on this CPU (default: those of the unit, if any)
  --save FILE           save to FILE what is to run on: at a checkpoint, or at SIGUSR1
  --checkpoint N        at the Nth, counted from where this run begins (default 1)
  --send HOST:PORT      at SIGUSR1, send the running VM to another host; if that fails, it runs on
                        here
  --postcopy HOST:PORT  the same, but its memory follows once it runs there, and is lost if that
                        fails

A guest without a kernel prints by stores to 0x09000000, and has a checkpoint at each store to
0x09080000. Exit status: 0 if the guest switched itself off, 3 if it was saved or sent.";

/// Exit status of a run that ends with a machine that is saved, or on another host.
const SAVED: u8 = 3;

const MIB: u64 = 1 << 20;

/// The command line.
#[derive(Default)]
struct Arguments {
    loads: Vec<(u64, PathBuf)>,
    start: Option<u64>,
    kernel: Option<PathBuf>,
    initrd: Option<PathBuf>,
    cmdline: Option<String>,
    cpus: Option<u32>,
    memory: Option<u64>,
    breakpoints: Option<(u64, u64)>,
    baseline: Option<PathBuf>,
    restore: Option<PathBuf>,
    receive: Option<u16>,
    spe: Option<String>,
    place: Option<usize>,
    save: Option<PathBuf>,
    checkpoint: Option<u64>,
    send: Option<String>,
    postcopy: Option<String>,
}

impl Arguments {
    /// Returns whether the options can be used together.
    fn are_valid(&self) -> bool {
        let ways = [
            self.start.is_some(),
            self.kernel.is_some(),
            self.restore.is_some(),
            self.receive.is_some(),
        ];
        let is_new = self.start.is_some() || self.kernel.is_some();
        let of_linux = self.initrd.is_some() || self.cmdline.is_some() || self.cpus.is_some();
        ways.iter().filter(|way| **way).count() == 1
            && (self.kernel.is_some() || !of_linux)
            && (is_new
                || self.memory.is_none()
                    && self.breakpoints.is_none()
                    && self.baseline.is_none()
                    && self.loads.is_empty())
            && (self.checkpoint.is_none() || self.save.is_some())
            && [
                self.save.is_some(),
                self.send.is_some(),
                self.postcopy.is_some(),
            ]
            .iter()
            .filter(|leaves| **leaves)
            .count()
                <= 1
    }

    /// Returns the machine that is to be created.
    fn shape(&self) -> Shape {
        let linux = self.kernel.is_some();
        // A baseline describes a CPU that has all features.
        let whole = linux || self.baseline.is_some();
        Shape {
            memory: self.memory.unwrap_or(if linux { 256 } else { 96 }) * MIB,
            vcpus: self.cpus.unwrap_or(1),
            // Units and performance monitors have an interrupt.
            gic: whole || self.spe.is_some(),
            features: if whole {
                Features::ALL
            } else {
                Features::default()
            },
        }
    }
}

/// Returns a number, decimal or hexadecimal.
fn number(word: &str) -> Option<u64> {
    match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Parses the words of the command line; returns [`None`] if they are invalid.
fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments::default();
    while let Some(option) = words.next() {
        parse_one(&mut arguments, &option, words.next()?)?;
    }
    Some(arguments).filter(Arguments::are_valid)
}

/// Parses "B/C".
fn breakpoints(value: &str) -> Option<(u64, u64)> {
    let (all, context_aware) = value.split_once('/')?;
    let pair = (number(all)?, number(context_aware)?);
    ((1..=16).contains(&pair.0) && (1..=16).contains(&pair.1)).then_some(pair)
}

/// Parses a number that must be in a range.
fn within(text: &str, range: RangeInclusive<u64>) -> Option<u64> {
    number(text).filter(|n| range.contains(n))
}

/// Parses one option with its value.
fn parse_one(arguments: &mut Arguments, option: &str, value: String) -> Option<()> {
    match option {
        "--load" => {
            let (address, file) = value.split_once(':')?;
            arguments.loads.push((number(address)?, file.into()));
        }
        "--start" => arguments.start = Some(number(&value)?),
        "--kernel" => arguments.kernel = Some(value.into()),
        "--initrd" => arguments.initrd = Some(value.into()),
        "--cmdline" => arguments.cmdline = Some(value),
        "--cpus" => {
            arguments.cpus = Some(within(&value, 1..=gic::MAX_VCPUS.into())? as u32);
        }
        "--memory" => arguments.memory = Some(within(&value, 4..=1 << 20)?),
        "--breakpoints" => arguments.breakpoints = Some(breakpoints(&value)?),
        "--baseline" => arguments.baseline = Some(value.into()),
        "--restore" => arguments.restore = Some(value.into()),
        "--receive" => arguments.receive = Some(value.parse().ok()?),
        "--spe" => arguments.spe = Some(value),
        "--place" => {
            let known = 0..=libc::CPU_SETSIZE as u64 - 1;
            arguments.place = Some(within(&value, known)? as usize);
        }
        "--save" => arguments.save = Some(value.into()),
        "--checkpoint" => arguments.checkpoint = Some(within(&value, 1..=u64::MAX)?),
        "--send" => arguments.send = Some(value),
        "--postcopy" => arguments.postcopy = Some(value),
        _ => return None,
    }
    Some(())
}

/// Creates a machine that has not run.
fn create(arguments: &Arguments, unit: Option<Unit>) -> Result<Machine> {
    let mut shape = arguments.shape();
    let Some(file) = &arguments.baseline else {
        return Machine::new(shape, unit);
    };
    let baseline = Baseline::read(file)?;
    shape.features = baseline.of(shape.features)?;
    let machine = Machine::new(shape, unit)?;
    machine.shape.features.has_all_of(shape.features)?;
    for vcpu in &machine.vcpus {
        baseline.apply(vcpu)?;
    }
    Ok(machine)
}

/// Creates the machine that the command line describes and its devices, and takes over what another
/// host has sent. Its memory may still be filled.
fn machine(arguments: &Arguments) -> Result<(Machine, Board, Option<Filling>)> {
    let unit = arguments.spe.as_deref().map(Unit::find).transpose()?;
    let mut arrival = None;
    let (machine, port) = if let Some(file) = &arguments.restore {
        let (machine, port) = state::restore(file, unit)?;
        (machine, Some(port))
    } else if let Some(port) = arguments.receive {
        let (machine, port, from) = migration::receive(port, unit)?;
        arrival = Some(from);
        (machine, Some(port))
    } else {
        (create(arguments, unit)?, None)
    };
    if let Some((all, context_aware)) = arguments.breakpoints {
        machine.set_breakpoints(all, context_aware)?;
    }
    load(arguments, &machine)?;
    let checkpoint = match arguments.save {
        Some(_) => arguments.checkpoint.unwrap_or(1),
        None => 0,
    };
    let board = Board::new(machine.serial_interrupt()?, checkpoint, port)?;
    place(arguments, &machine)?;
    let filling = arrival.map(Arrival::take_over).transpose()?;
    Ok((machine, board, filling))
}

/// Moves this thread to the CPUs on which vCPUs start: all threads inherit them. Without a wish,
/// they are those that the VMM has been given.
fn place(arguments: &Arguments, machine: &Machine) -> Result {
    let cpus = match (arguments.place, &machine.unit) {
        (Some(cpu), _) => vec![cpu],
        (None, Some(unit)) => unit.cpus.clone(),
        (None, None) => return Ok(()),
    };
    spe::place_this_thread(&cpus).during(format!("placing vCPUs on {cpus:?}"))
}

/// Puts in memory what the command line names.
fn load(arguments: &Arguments, machine: &Machine) -> Result {
    for (address, file) in &arguments.loads {
        machine.load(file, *address)?;
    }
    if let Some(address) = arguments.start {
        machine.vcpus[0].start_at(address)?;
    }
    if let Some(kernel) = &arguments.kernel {
        let linux = Linux {
            kernel: kernel.clone(),
            initrd: arguments.initrd.clone(),
            cmdline: arguments.cmdline.clone().unwrap_or_default(),
        };
        linux.load(machine)?;
    }
    Ok(())
}

/// Set when the machine is to be saved or sent.
static PAUSE: AtomicBool = AtomicBool::new(false);

/// Handles SIGUSR1.
extern "C" fn pause(_: libc::c_int) {
    PAUSE.store(true, Ordering::SeqCst);
}

/// Runs the machine until the guest switches itself off, or it is saved or sent.
fn run(arguments: &Arguments) -> Result<ExitCode> {
    machine::handle_signals(pause);
    let (mut machine, board, filling) = machine(arguments)?;
    let result = run_to_end(arguments, &mut machine, &Mutex::new(board));
    match filling {
        Some(filling) if result.is_ok() => filling.join().expect("it does not panic"),
        // The memory stays until the VMM ends.
        Some(_) => std::mem::forget(machine),
        None => {}
    }
    result
}

/// Runs a machine until it is off, saved, or on another host.
fn run_to_end(
    arguments: &Arguments,
    machine: &mut Machine,
    board: &Mutex<Board>,
) -> Result<ExitCode> {
    loop {
        let postcopy = arguments.postcopy.is_some();
        let to = arguments.send.as_deref().or(arguments.postcopy.as_deref());
        let mut sending = to.map(|to| Sending::new(to, postcopy, machine));
        let ready = |ram: &_| sending.as_mut().is_none_or(|it| it.round(ram));
        let stop = machine.run(board, &PAUSE, ready)?;
        PAUSE.store(false, Ordering::SeqCst);
        let mut board = board.lock().unwrap();
        board.flush()?;
        if stop == Stop::Off {
            return Ok(ExitCode::SUCCESS);
        }
        if leave(arguments, sending, machine, board.state())? {
            return Ok(SAVED.into());
        }
    }
}

/// Saves a machine that has stopped, or sends the rest of it. Returns false if it stays here.
fn leave(
    arguments: &Arguments,
    sending: Option<Sending>,
    machine: &mut Machine,
    port: PortState,
) -> Result<bool> {
    for vcpu in &mut machine.vcpus {
        vcpu.settle()?;
    }
    if let Some(file) = &arguments.save {
        state::save(machine, port, file)?;
        return Ok(true);
    }
    let Some(mut sending) = sending else {
        // No option names a destination.
        return Ok(false);
    };
    if let Err(failure) = sending.finish(machine, port) {
        eprintln!("vmm: the guest runs on here: {failure}");
        return Ok(false);
    }
    sending.follow(&machine.ram)?;
    Ok(true)
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    run(&arguments).unwrap_or_else(|failure| {
        eprintln!("vmm: {failure}");
        ExitCode::FAILURE
    })
}

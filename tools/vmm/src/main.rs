// SPDX-License-Identifier: GPL-2.0

//! A small VMM: one vCPU, memory, an output register.
//!
//! It shows and tests how a VMM uses the capabilities of the host kernel: it gives a VM fewer
//! breakpoints, saves the VM on one host and restores it on another.

mod machine;
mod registers;
mod state;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use machine::{Bus, During, Machine, Result, Stop};

const USAGE: &str = "usage: vmm [--load ADDRESS:FILE]... [--start ADDRESS] [--breakpoints B/C]
           [--restore FILE] [--save FILE --checkpoint N]

  --load ADDRESS:FILE   copy FILE to memory at ADDRESS; memory is 96 MiB from 0x40000000
  --start ADDRESS       where the vCPU starts
  --breakpoints B/C     give the guest B breakpoints, C of them context-aware
  --restore FILE        run what was saved in FILE
  --save FILE           stop at a checkpoint, and save to FILE what is to run on
  --checkpoint N        at the Nth, counted from where this run begins (default 1)

The guest prints by stores to 0x09000000, and has a checkpoint at each store to
0x09080000. Exit status: 0 if the guest switched itself off, 3 if it was saved.";

/// Exit status of a run that ends with a saved machine.
const SAVED: u8 = 3;

const OUTPUT: u64 = 0x0900_0000;
const CHECKPOINT: u64 = 0x0908_0000;

/// The devices of the guest.
struct Board {
    output: io::BufWriter<io::Stdout>,
    /// The number of checkpoints up to the one that stops the vCPU; 0 if none does.
    checkpoints_left: u64,
}

impl Bus for Board {
    fn write(&mut self, address: u64, data: &[u8]) -> Result<bool> {
        match address {
            OUTPUT => {
                self.output.write_all(&data[..1]).during("output")?;
                Ok(false)
            }
            CHECKPOINT if self.checkpoints_left > 0 => {
                self.checkpoints_left -= 1;
                Ok(self.checkpoints_left == 0)
            }
            CHECKPOINT => Ok(false),
            _ => Err("nothing is there").during(format!("store to {address:#x}")),
        }
    }
}

/// The command line.
#[derive(Default)]
struct Arguments {
    loads: Vec<(u64, PathBuf)>,
    start: Option<u64>,
    breakpoints: Option<(u64, u64)>,
    restore: Option<PathBuf>,
    save: Option<PathBuf>,
    checkpoint: Option<u64>,
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
        let value = words.next()?;
        match option.as_str() {
            "--load" => {
                let (address, file) = value.split_once(':')?;
                arguments.loads.push((number(address)?, file.into()));
            }
            "--start" => arguments.start = Some(number(&value)?),
            "--breakpoints" => {
                let (all, context_aware) = value.split_once('/')?;
                let pair = (number(all)?, number(context_aware)?);
                if !(1..=16).contains(&pair.0) || !(1..=16).contains(&pair.1) {
                    return None;
                }
                arguments.breakpoints = Some(pair);
            }
            "--restore" => arguments.restore = Some(value.into()),
            "--save" => arguments.save = Some(value.into()),
            "--checkpoint" => arguments.checkpoint = Some(number(&value).filter(|n| *n > 0)?),
            _ => return None,
        }
    }
    Some(arguments).filter(|it| it.start.is_some() != it.restore.is_some())
}

/// Creates the machine that the command line describes.
fn machine(arguments: &Arguments) -> Result<Machine> {
    let machine = Machine::new()?;
    if let Some((all, context_aware)) = arguments.breakpoints {
        machine.set_breakpoints(all, context_aware)?;
    }
    if let Some(file) = &arguments.restore {
        state::restore(&machine, file)?;
    }
    for (address, file) in &arguments.loads {
        machine.load(file, *address)?;
    }
    if let Some(address) = arguments.start {
        machine.start_at(address)?;
    }
    Ok(machine)
}

/// Runs the machine, and saves it if requested.
fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut machine = machine(arguments)?;
    let mut board = Board {
        output: io::BufWriter::new(io::stdout()),
        checkpoints_left: arguments
            .save
            .as_ref()
            .map_or(0, |_| arguments.checkpoint.unwrap_or(1)),
    };
    let stop = machine.run(&mut board)?;
    board.output.flush().during("output")?;
    match (&arguments.save, stop) {
        (Some(file), Stop::Bus) => {
            machine.settle()?;
            state::save(&machine, file)?;
            Ok(SAVED.into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
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

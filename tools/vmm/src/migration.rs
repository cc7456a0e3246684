// SPDX-License-Identifier: GPL-2.0

//! Moves a running guest to another host.
//!
//! Its memory is copied while it runs, in rounds: each round copies the pages that the guest wrote
//! in the previous one. Once these are few, the guest stops, and the rest follows (precopy). Or the
//! guest stops at once, and its memory follows while it runs on the other host; pages for which a
//! thread waits there come first (postcopy).
//!
//! The other host answers when all is ready to run there; without an answer the guest continues
//! here. It runs on both hosts if the answer is lost, or comes as this host gives up: nothing here
//! is an arbiter. A guest whose memory follows ends with the connection.

use std::{
    collections::BTreeSet,
    io::{self, BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd,
    process, thread,
    time::Duration,
};

use crate::{
    board::PortState,
    failure::{During, Failure, Result},
    machine::{Machine, Shape},
    missing::Missing,
    ram::Ram,
    spe::Unit,
    state,
};

/// The guest stops when a round has had at most this many pages, or after [`ROUNDS`].
const FEW: usize = 256;
const ROUNDS: usize = 16;

/// For how long a host waits for the other one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The answer of the host that has the guest.
const TAKEN: [u8; 1] = [1];

/// A machine on its way.
pub struct Sending {
    to: String,
    shape: Shape,
    unit: bool,
    postcopy: bool,
    out: Option<BufWriter<TcpStream>>,
    /// The number of pages of each round.
    rounds: Vec<usize>,
    /// The addresses of the pages that follow.
    later: BTreeSet<u64>,
    failure: Option<Failure>,
}

impl Sending {
    /// Prepares to send a machine to `to`, "HOST:PORT"; with `postcopy` memory comes last.
    pub fn new(to: &str, postcopy: bool, machine: &Machine) -> Self {
        Self {
            to: to.into(),
            shape: machine.shape,
            unit: machine.unit.is_some(),
            postcopy,
            out: None,
            rounds: Vec::new(),
            later: BTreeSet::new(),
            failure: None,
        }
    }

    /// Copies memory while the guest runs. Returns whether the guest should stop: little is left,
    /// or [`Sending::finish`] will fail.
    pub fn round(&mut self, ram: &Ram) -> bool {
        if self.postcopy {
            return true;
        }
        match self.copy(ram) {
            Ok(count) => {
                self.rounds.push(count);
                count <= FEW || self.rounds.len() == ROUNDS
            }
            Err(failure) => {
                self.failure = Some(failure);
                true
            }
        }
    }

    /// Connects to the other host.
    fn connect(&self) -> Result<BufWriter<TcpStream>> {
        let stream = TcpStream::connect(&self.to).during(self.to.clone())?;
        set_up(&stream).during(self.to.clone())?;
        let mut out = BufWriter::new(stream);
        state::head(self.shape, self.unit, &mut out)?;
        Ok(out)
    }

    /// Copies what has been written since the last time, or all; returns the number of pages.
    fn copy(&mut self, ram: &Ram) -> Result<usize> {
        let addresses = if self.out.is_none() {
            ram.log_writes(true)?;
            let used = ram.used()?;
            self.out = Some(self.connect()?);
            used
        } else {
            ram.written()?
        };
        let out = self.out.as_mut().expect("it is connected");
        state::pages(ram, &addresses, out)?;
        out.flush().during(self.to.clone())?;
        Ok(addresses.len())
    }

    /// Sends the rest of the stopped machine, except for what follows. If that fails, the machine
    /// can run on.
    pub fn finish(&mut self, machine: &Machine, port: PortState) -> Result {
        let result = self.last(machine, port);
        if result.is_err() && !self.postcopy {
            // A dirty log without a reader costs time. If it stays on, the guest can still run.
            let _ = machine.ram.log_writes(false);
        }
        result
    }

    /// Sends the rest and waits for the answer.
    fn last(&mut self, machine: &Machine, port: PortState) -> Result {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let mut later = Vec::new();
        let last = if self.postcopy {
            later = machine.ram.used()?;
            self.out = Some(self.connect()?);
            0
        } else {
            self.copy(&machine.ram)?
        };
        let out = self.out.as_mut().expect("it is connected");
        state::rest(machine, port, &later, out)?;
        self.wait_for_answer()?;
        self.later = later.into_iter().collect();
        if self.postcopy {
            eprintln!("vmm: moved to {}", self.to);
            return Ok(());
        }
        let rounds: Vec<_> = self.rounds.iter().map(usize::to_string).collect();
        eprintln!(
            "vmm: moved to {}: {} pages while it ran, {last} after it had stopped",
            self.to,
            rounds.join(", ")
        );
        Ok(())
    }

    /// Waits until the other side has taken the guest.
    fn wait_for_answer(&mut self) -> Result {
        let out = self.out.as_mut().expect("it is connected");
        let mut answer = [0];

        out.flush().during(self.to.clone())?;
        let read = out.get_mut().read_exact(&mut answer);
        if read.is_err() || answer != TAKEN {
            return Err("it has not taken the guest").during(self.to.clone());
        }
        Ok(())
    }

    /// Sends the memory that follows: what is asked for, and meanwhile one page after the other.
    pub fn follow(mut self, ram: &Ram) -> Result {
        let mut out = self.out.take().expect("it is connected");
        let count = self.later.len();
        while let Some(first) = self.later.first().copied() {
            let next = match has_input(out.get_ref()) {
                true => {
                    let mut asked = [0; 8];
                    out.get_mut()
                        .read_exact(&mut asked)
                        .during(self.to.clone())?;
                    u64::from_le_bytes(asked)
                }
                false => first,
            };
            // What is asked for may be on its way.
            if self.later.remove(&next) {
                state::pages(ram, &[next], &mut out)?;
                out.flush().during(self.to.clone())?;
            }
        }
        if count > 0 {
            out.write_all(&[0; 8]).during(self.to.clone())?;
            out.flush().during(self.to.clone())?;
            eprintln!("vmm: {count} pages have followed");
        }
        let stream = out.get_mut();
        stream.shutdown(Shutdown::Write).during(self.to.clone())?;
        stream
            .read_to_end(&mut Vec::new())
            .during(self.to.clone())?;
        Ok(())
    }
}

/// Limits how long the other host may be silent, and sends at once what is written: requests of
/// pages are small.
fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)
}

/// Returns whether something can be read, or the connection has ended.
fn has_input(stream: &TcpStream) -> bool {
    let mut entry = libc::pollfd {
        fd: stream.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: The kernel writes to the entry.
    unsafe { libc::poll(&mut entry, 1, 0) == 1 }
}

/// The connection on which a machine has come, and what still comes.
pub struct Arrival {
    stream: TcpStream,
    port: u16,
    missing: Option<Missing>,
}

/// The thread that fills in memory.
pub type Filling = thread::JoinHandle<()>;

impl Arrival {
    /// Tells the other host that the machine runs here from now on, unless that has given up. The
    /// machine's memory must stay until the thread that is returned has ended. Without all of it
    /// the VMM ends.
    pub fn take_over(mut self) -> Result<Filling> {
        let name = format!("port {}", self.port);
        if has_input(&self.stream) {
            return Err("the other host has not waited").during(name);
        }
        self.stream.write_all(&TAKEN).during(name.clone())?;
        Ok(thread::spawn(move || {
            let Some(missing) = self.missing else {
                return;
            };
            if let Err(why) = missing.arrive(&mut self.stream) {
                eprintln!("vmm: {name}: the guest has lost memory: {why}");
                process::exit(1);
            }
        }))
    }
}

/// Waits for a machine at a port, and returns it with the registers of its serial port. A machine
/// that has a profiling unit gets `unit`.
pub fn receive(port: u16, unit: Option<Unit>) -> Result<(Machine, PortState, Arrival)> {
    let name = || format!("port {port}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).during(name())?;
    let (stream, _) = listener.accept().during(name())?;
    set_up(&stream).during(name())?;
    let from = BufReader::new(stream.try_clone().during(name())?);
    let (machine, state, later) = state::read(name(), from, unit)?;
    let missing = match later.is_empty() {
        true => None,
        false => Some(Missing::new(&machine.ram, later)?),
    };
    let arrival = Arrival {
        stream,
        port,
        missing,
    };
    Ok((machine, state, arrival))
}

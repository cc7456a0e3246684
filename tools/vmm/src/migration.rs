// SPDX-License-Identifier: GPL-2.0

//! The way of a running guest to another host.
//!
//! Its memory is copied while it runs, in rounds: what it has written in one is copied in the next.
//! Once that is little, the guest stops, and the rest follows. The other host answers when all is
//! ready to run there; without an answer the guest continues here. It runs on both hosts if only
//! the answer is lost: nothing here is an arbiter.

use std::{
    io::{BufReader, BufWriter, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    board::PortState,
    failure::{During, Failure, Result},
    machine::{Machine, Shape},
    ram::Ram,
    spe::Unit,
    state,
};

/// The guest stops when a round has had at most this many pages, or after [`ROUNDS`].
const FEW: usize = 256;
const ROUNDS: usize = 16;

/// For how long a host waits for the other one.
const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

/// The answer of the host that has the guest.
const TAKEN: [u8; 1] = [1];

/// A machine on its way.
pub struct Sending {
    to: String,
    shape: Shape,
    unit: bool,
    out: Option<BufWriter<TcpStream>>,
    /// The number of pages of each round.
    rounds: Vec<usize>,
    failure: Option<Failure>,
}

impl Sending {
    /// Prepares to send a machine to `to`, "HOST:PORT".
    pub fn new(to: &str, machine: &Machine) -> Self {
        Self {
            to: to.into(),
            shape: machine.shape,
            unit: machine.unit.is_some(),
            out: None,
            rounds: Vec::new(),
            failure: None,
        }
    }

    /// Copies memory while the guest runs. Returns whether the guest should stop: little is left,
    /// or [`Sending::finish`] will fail.
    pub fn round(&mut self, ram: &Ram) -> bool {
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
        stream.set_read_timeout(PATIENCE).during("timeout")?;
        stream.set_write_timeout(PATIENCE).during("timeout")?;
        let mut out = BufWriter::new(stream);
        state::head(self.shape, self.unit, &mut out)?;
        Ok(out)
    }

    /// Copies what has been written since the last time, or all; returns the number of pages.
    fn copy(&mut self, ram: &Ram) -> Result<usize> {
        let first = self.out.is_none();
        if first {
            self.out = Some(self.connect()?);
            ram.log_writes(true)?;
        }
        let addresses = if first { ram.used()? } else { ram.written()? };
        let out = self.out.as_mut().expect("it is connected");
        state::pages(ram, &addresses, out)?;
        out.flush().during(self.to.clone())?;
        Ok(addresses.len())
    }

    /// Sends the rest of the stopped machine. If that fails, the machine can run on.
    pub fn finish(mut self, machine: &Machine, port: PortState) -> Result {
        let result = self.last(machine, port);
        if result.is_err() && self.out.is_some() {
            // What is noted for nobody costs time, and is not worth the guest.
            let _ = machine.ram.log_writes(false);
        }
        result
    }

    /// Sends the rest and waits for the answer.
    fn last(&mut self, machine: &Machine, port: PortState) -> Result {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let last = self.copy(&machine.ram)?;
        let out = self.out.as_mut().expect("it is connected");
        state::rest(machine, port, out)?;
        out.flush().during(self.to.clone())?;
        let stream = out.get_mut();
        stream.shutdown(Shutdown::Write).during(self.to.clone())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).during(self.to.clone())?;
        if answer != TAKEN {
            return Err("it has not taken the guest").during(self.to.clone());
        }
        let rounds: Vec<_> = self.rounds.iter().map(usize::to_string).collect();
        eprintln!(
            "vmm: moved to {}: {} pages while it ran, {last} after it had stopped",
            self.to,
            rounds.join(", ")
        );
        Ok(())
    }
}

/// The connection on which a machine has come.
pub struct Arrival {
    stream: TcpStream,
    port: u16,
}

impl Arrival {
    /// Tells the other host that the machine runs here from now on.
    pub fn take_over(mut self) -> Result {
        self.stream
            .write_all(&TAKEN)
            .during(format!("port {}", self.port))
    }
}

/// Waits for a machine at a port, and returns it with the registers of its serial port. A machine
/// that has a profiling unit gets `unit`.
pub fn receive(port: u16, unit: Option<Unit>) -> Result<(Machine, PortState, Arrival)> {
    let name = || format!("port {port}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).during(name())?;
    let (stream, _) = listener.accept().during(name())?;
    stream.set_read_timeout(PATIENCE).during(name())?;
    let from = BufReader::new(stream.try_clone().during(name())?);
    let (machine, state) = state::read(name(), from, unit)?;
    Ok((machine, state, Arrival { stream, port }))
}

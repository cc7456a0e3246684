// SPDX-License-Identifier: GPL-2.0

//! The devices outside the guest's memory.

use std::io::{self, Write};

use vm_superio::{
    serial::{NoEvents, SerialState},
    Serial, Trigger,
};
use vmm_sys_util::eventfd::EventFd;

use crate::failure::{During, Result};

/// A guest without an operating system prints by storing bytes here.
pub const OUTPUT: u64 = 0x0900_0000;

/// The registers of the serial port, a 16550A.
pub const SERIAL: u64 = 0x0901_0000;

/// The size of the serial port's registers.
pub const SERIAL_SIZE: u64 = 8;

/// A guest stores here where it can be saved.
pub const CHECKPOINT: u64 = 0x0908_0000;

/// The interrupt of the serial port.
struct Interrupt(EventFd);

impl Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

/// The serial port.
type Port = Serial<Interrupt, NoEvents, io::Stdout>;

/// The registers of the serial port. The VMM never gives it input.
pub type PortState = [u8; 9];

/// The devices of a guest.
pub struct Board {
    output: io::BufWriter<io::Stdout>,
    serial: Port,
    /// The number of checkpoints up to the one that stops the vCPU; 0 if none does.
    checkpoints_left: u64,
}

impl Board {
    /// Creates the devices; `interrupt` is the serial port's, and the guest's checkpoint with this
    /// number stops it. The serial port has the registers that [`Board::state`] has returned, or
    /// those of a reset.
    pub fn new(interrupt: EventFd, checkpoint: u64, state: Option<PortState>) -> Result<Self> {
        let state = state.map_or_else(SerialState::default, |it| SerialState {
            baud_divisor_low: it[0],
            baud_divisor_high: it[1],
            interrupt_enable: it[2],
            interrupt_identification: it[3],
            line_control: it[4],
            line_status: it[5],
            modem_control: it[6],
            modem_status: it[7],
            scratch: it[8],
            in_buffer: Vec::new(),
        });
        Ok(Self {
            output: io::BufWriter::new(io::stdout()),
            serial: port(interrupt, &state)?,
            checkpoints_left: checkpoint,
        })
    }

    /// Handles a guest's store to `address`. Returns whether the vCPU must stop after the store.
    pub fn write(&mut self, address: u64, data: &[u8]) -> Result<bool> {
        match address {
            OUTPUT => self.output.write_all(&data[..1]).during("output")?,
            SERIAL..SERIAL_END => self
                .serial
                .write((address - SERIAL) as u8, data[0])
                .map_err(|e| format!("{e:?}"))
                .during("serial port")?,
            CHECKPOINT if self.checkpoints_left > 0 => {
                self.checkpoints_left -= 1;
                return Ok(self.checkpoints_left == 0);
            }
            CHECKPOINT => (),
            _ => return Err("nothing is there").during(format!("store to {address:#x}")),
        }
        Ok(false)
    }

    /// Handles a guest's load from `address`.
    pub fn read(&mut self, address: u64, data: &mut [u8]) -> Result {
        match address {
            SERIAL..SERIAL_END => {
                data.fill(0);
                data[0] = self.serial.read((address - SERIAL) as u8);
                Ok(())
            }
            _ => Err("nothing is there").during(format!("load from {address:#x}")),
        }
    }

    /// Writes what the guest has printed.
    pub fn flush(&mut self) -> Result {
        self.output.flush().during("output")
    }

    /// Returns the registers of the serial port.
    pub fn state(&self) -> PortState {
        let it = self.serial.state();

        [
            it.baud_divisor_low,
            it.baud_divisor_high,
            it.interrupt_enable,
            it.interrupt_identification,
            it.line_control,
            it.line_status,
            it.modem_control,
            it.modem_status,
            it.scratch,
        ]
    }
}

/// Returns a serial port with these registers.
fn port(interrupt: EventFd, state: &SerialState) -> Result<Port> {
    Serial::from_state(state, Interrupt(interrupt), NoEvents, io::stdout())
        .map_err(|e| format!("{e:?}"))
        .during("serial port")
}

const SERIAL_END: u64 = SERIAL + SERIAL_SIZE;

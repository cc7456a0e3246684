// SPDX-License-Identifier: GPL-2.0

//! The state of a machine in a file, with which it can continue on another host.
//!
//! All numbers are 64 bits, little-endian: the magic number; CNTFRQ_EL0 and DCZID_EL0 of the host;
//! size of memory, number of vCPUs, and whether there are an interrupt controller, performance
//! monitors, pointer authentication, SVE and a profiling unit; for each vCPU whether it is off, the
//! count of registers, and for each its number and its value, padded to a multiple of 8 bytes; the
//! words of the interrupt controller, three numbers each; the registers of the serial port; the
//! address of each page of 4096 bytes and its bytes, and 0. Pages of zeroes are left out.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use vm_memory::{Bytes, GuestAddress};

use crate::{
    baseline::Host,
    board::PortState,
    failure::{During, Result},
    machine::{self, Features, Machine, Shape, MEMORY_START},
    registers::{self, Register, PMCR_EL0, SVE_VLS},
    spe::Unit,
    vcpu::Vcpu,
};

const MAGIC: u64 = u64::from_le_bytes(*b"vmstate3");
const PAGE: usize = 4096;

/// Writes the state of a stopped machine. The file is written completely, or not at all.
pub fn save(machine: &Machine, port: PortState, path: &Path) -> Result {
    let unfinished = path.with_extension("part");
    let file = File::create(&unfinished).during(unfinished.display().to_string())?;
    let mut out = BufWriter::new(file);
    write(machine, port, &mut out)?;
    out.flush().during(unfinished.display().to_string())?;
    fs::rename(&unfinished, path).during(path.display().to_string())
}

/// Writes numbers.
fn words(out: &mut impl Write, values: &[u64]) -> Result {
    values
        .iter()
        .try_for_each(|value| out.write_all(&value.to_le_bytes()))
        .during("writing")
}

/// Writes the state to `out`.
fn write(machine: &Machine, port: PortState, out: &mut impl Write) -> Result {
    let (shape, host) = (&machine.shape, Host::own());
    let features = shape.features;
    words(out, &[MAGIC])?;
    words(
        out,
        &[host.cntfrq_el0, host.dczid_el0].map(Option::unwrap_or_default),
    )?;
    words(out, &[shape.memory, shape.vcpus.into()])?;
    words(
        out,
        &[
            shape.gic,
            features.pmu,
            features.ptrauth,
            features.sve,
            machine.unit.is_some(),
        ]
        .map(u64::from),
    )?;
    for vcpu in &machine.vcpus {
        write_vcpu(vcpu, out)?;
    }
    let gic = match &machine.gic {
        Some(gic) => gic.state()?,
        None => Vec::new(),
    };
    words(out, &[gic.len() as u64])?;
    for (group, attr, value) in gic {
        words(out, &[group.into(), attr, value])?;
    }
    words(out, &port.map(u64::from))?;
    write_pages(machine, out)
}

/// Writes the state of a vCPU.
fn write_vcpu(vcpu: &Vcpu, out: &mut impl Write) -> Result {
    let list = vcpu.register_list()?;
    words(out, &[vcpu.power()?.into(), list.len() as u64])?;
    for id in list {
        let mut register = vcpu.get(id)?;
        register
            .value
            .resize(register.value.len().next_multiple_of(8), 0);
        words(out, &[id])?;
        out.write_all(&register.value).during("writing")?;
    }
    Ok(())
}

/// Writes the pages that are not all zeroes.
fn write_pages(machine: &Machine, out: &mut impl Write) -> Result {
    let mut bytes = [0; PAGE];
    for address in (MEMORY_START..MEMORY_START + machine.shape.memory).step_by(PAGE) {
        machine
            .memory()
            .read_slice(&mut bytes, GuestAddress(address))
            .during("memory")?;
        if bytes.iter().any(|byte| *byte != 0) {
            words(out, &[address])?;
            out.write_all(&bytes).during("writing")?;
        }
    }
    words(out, &[0])
}

/// A file from which a machine is read.
struct Input {
    name: String,
    file: BufReader<File>,
}

impl Input {
    /// Opens the file.
    fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = BufReader::new(File::open(path).during(name.clone())?);
        Ok(Self { name, file })
    }

    /// Reads `count` bytes.
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        self.file
            .read_exact(&mut buffer)
            .during(self.name.clone())?;
        Ok(buffer)
    }

    /// Reads a number.
    fn word(&mut self) -> Result<u64> {
        Ok(Register::new(0, self.bytes(8)?).as_u64())
    }

    /// Reads a register.
    fn register(&mut self) -> Result<Register> {
        let id = self.word()?;
        let size = registers::size(id);
        let mut value = self.bytes(size.next_multiple_of(8))?;
        value.truncate(size);
        Ok(Register::new(id, value))
    }

    /// Reads a vCPU.
    fn vcpu(&mut self) -> Result<Saved> {
        let power = self.word()? as u32;
        let mut registers = Vec::new();
        for _ in 0..self.word()? {
            registers.push(self.register()?);
        }
        // ID registers first, since the other registers depend on them.
        registers.sort_by_key(|register| !registers::is_id(register.id));
        Ok(Saved { power, registers })
    }

    /// Restores the interrupt controller.
    fn gic(&mut self, machine: &Machine) -> Result {
        for _ in 0..self.word()? {
            let (group, attr, value) = (self.word()?, self.word()?, self.word()?);
            let gic = machine
                .gic
                .as_ref()
                .ok_or("there is none")
                .during("GICv3")?;
            gic.set(group as u32, attr, value)?;
        }
        Ok(())
    }

    /// Restores memory.
    fn pages(&mut self, machine: &Machine) -> Result {
        loop {
            let address = self.word()?;
            if address == 0 {
                return Ok(());
            }
            machine
                .memory()
                .write_slice(&self.bytes(PAGE)?, GuestAddress(address))
                .during("memory")?;
        }
    }
}

/// A vCPU of the file.
struct Saved {
    power: u32,
    registers: Vec<Register>,
}

impl Saved {
    /// Returns a register, if the vCPU has it.
    fn get(&self, id: u64) -> Option<&Register> {
        self.registers.iter().find(|register| register.id == id)
    }

    /// Restores the vCPU.
    fn restore(&self, vcpu: &Vcpu) -> Result {
        for register in &self.registers {
            // A register may be read-only if it already has the value.
            if vcpu.get(register.id)? != *register {
                vcpu.set(register)?;
            }
            if register.id == PMCR_EL0 {
                vcpu.has_counters(registers::counters(register.as_u64()))?;
            }
        }
        vcpu.set_power(self.power)
    }
}

/// Creates a machine that continues from the state in a file, and returns it with the registers of
/// its serial port. A machine that has a profiling unit gets `unit`.
pub fn restore(path: &Path, unit: Option<Unit>) -> Result<(Machine, PortState)> {
    let mut input = Input::open(path)?;
    if input.word()? != MAGIC {
        return Err("not the state of a machine").during(input.name);
    }
    let host = Host {
        cntfrq_el0: Some(input.word()?),
        dczid_el0: Some(input.word()?),
    };
    host.check()?;
    let mut shape = Shape {
        memory: input.word()?,
        vcpus: input.word()? as u32,
        gic: input.word()? != 0,
        features: Features {
            pmu: input.word()? != 0,
            ptrauth: input.word()? != 0,
            sve: input.word()? != 0,
            ..Features::default()
        },
    };
    if (input.word()? != 0) != unit.is_some() {
        return Err("it has a profiling unit, and --spe has to name one of this host; or neither")
            .during(input.name);
    }
    let mut saved = Vec::new();
    for _ in 0..shape.vcpus {
        saved.push(input.vcpu()?);
    }
    if let Some(first) = saved.first() {
        shape.features.longest_vector = first.get(SVE_VLS).map(registers::longest_vector);
        let value = |id| first.get(id).map(Register::as_u64);
        shape.features.identity = machine::is_other_identity(value)?;
    }
    let machine = Machine::new(shape, unit)?;
    machine.shape.features.has_all_of(shape.features)?;
    for (vcpu, saved) in machine.vcpus.iter().zip(saved) {
        saved.restore(vcpu)?;
    }
    input.gic(&machine)?;
    let mut port = PortState::default();
    for register in &mut port {
        *register = input.word()? as u8;
    }
    input.pages(&machine)?;
    Ok((machine, port))
}

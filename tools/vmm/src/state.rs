// SPDX-License-Identifier: GPL-2.0

//! The state of a machine, in a file or on its way to another host, which can continue with it.
//!
//! All numbers are 64 bits, little-endian: the magic number; CNTFRQ_EL0 and DCZID_EL0 of the host;
//! size of memory, number of vCPUs, and whether there are an interrupt controller, performance
//! monitors, pointer authentication, SVE and a profiling unit; the address of each page of 4096
//! bytes and its bytes, and 0. Pages of zeroes are left out; what comes last is valid. Then the
//! number of pages that come once the machine runs there, and their addresses; for each vCPU
//! whether it is off, the count of registers, and for each its number and its value, padded to a
//! multiple of 8 bytes; the words of the interrupt controller, three numbers each; the registers of
//! the serial port.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::{
    baseline::Host,
    board::PortState,
    failure::{During, Result},
    machine::{self, Features, Machine, Shape},
    ram::{Ram, PAGE},
    registers::{self, Register, PMCR_EL0, SVE_VLS},
    spe::Unit,
    vcpu::Vcpu,
};

const MAGIC: u64 = u64::from_le_bytes(*b"vmstate5");

/// Writes the state of a stopped machine. The file is written completely, or not at all.
pub fn save(machine: &Machine, port: PortState, path: &Path) -> Result {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let unfinished = PathBuf::from(unfinished);
    let file = File::create(&unfinished).during(unfinished.display().to_string())?;
    let mut out = BufWriter::new(file);
    head(machine.shape, machine.unit.is_some(), &mut out)?;
    pages(&machine.ram, &machine.ram.used()?, &mut out)?;
    rest(machine, port, &[], &mut out)?;
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

/// Writes what a machine is made of, which comes first; `unit` tells whether it has a profiling
/// unit.
pub fn head(shape: Shape, unit: bool, out: &mut impl Write) -> Result {
    let (features, host) = (shape.features, Host::own());
    words(out, &[MAGIC])?;
    words(
        out,
        &[host.cntfrq_el0, host.dczid_el0].map(Option::unwrap_or_default),
    )?;
    words(out, &[shape.memory, shape.vcpus.into()])?;
    let there = [
        shape.gic,
        features.pmu,
        features.ptrauth,
        features.sve,
        unit,
    ];
    words(out, &there.map(u64::from))
}

/// Writes these pages. They may be written again, as long as the rest is not.
pub fn pages(ram: &Ram, addresses: &[u64], out: &mut impl Write) -> Result {
    for address in addresses {
        words(out, &[*address])?;
        out.write_all(&ram.page(*address)?).during("writing")?;
    }
    Ok(())
}

/// Writes what comes after the pages of a stopped machine; those at the addresses `later` come once
/// it runs.
pub fn rest(machine: &Machine, port: PortState, later: &[u64], out: &mut impl Write) -> Result {
    words(out, &[0, later.len() as u64])?;
    words(out, later)?;
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
    words(out, &port.map(u64::from))
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

/// What a machine is read from.
struct Input<R> {
    name: String,
    from: R,
}

impl<R: Read> Input<R> {
    /// Reads `count` bytes.
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        self.from
            .read_exact(&mut buffer)
            .during(self.name.clone())?;
        Ok(buffer)
    }

    /// Reads a number.
    fn word(&mut self) -> Result<u64> {
        Ok(Register::new(0, self.bytes(8)?).as_u64())
    }

    /// Reads what a machine is made of; `unit` tells whether there is a profiling unit for it.
    fn head(&mut self, unit: bool) -> Result<Shape> {
        if self.word()? != MAGIC {
            return Err("not the state of a machine").during(self.name.clone());
        }
        let host = Host {
            cntfrq_el0: Some(self.word()?),
            dczid_el0: Some(self.word()?),
        };
        host.check()?;
        let shape = Shape {
            memory: self.word()?,
            vcpus: self.word()? as u32,
            gic: self.word()? != 0,
            features: Features {
                pmu: self.word()? != 0,
                ptrauth: self.word()? != 0,
                sve: self.word()? != 0,
                ..Features::default()
            },
        };
        if (self.word()? != 0) != unit {
            let why = "it has a profiling unit, and --spe has to name one of this host; or neither";
            return Err(why).during(self.name.clone());
        }
        Ok(shape)
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

    /// Reads memory.
    fn pages(&mut self, memory: &GuestMemoryMmap) -> Result {
        loop {
            let address = self.word()?;
            if address == 0 {
                return Ok(());
            }
            memory
                .write_slice(&self.bytes(PAGE)?, GuestAddress(address))
                .during("memory")?;
        }
    }
}

/// A vCPU that has been read.
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
    let name = path.display().to_string();
    let file = File::open(path).during(name.clone())?;
    match read(name.clone(), BufReader::new(file), unit)? {
        (machine, port, later) if later.is_empty() => Ok((machine, port)),
        _ => Err("some of the memory is missing").during(name),
    }
}

/// Does what [`restore`] does with the state that is read from `from`, which messages call `name`.
/// Also returns the addresses of the pages that are to come.
pub fn read(
    name: String,
    from: impl Read,
    unit: Option<Unit>,
) -> Result<(Machine, PortState, Vec<u64>)> {
    let mut input = Input { name, from };
    let mut shape = input.head(unit.is_some())?;
    let memory = Ram::map(shape.memory)?;
    input.pages(&memory)?;
    let later = (0..input.word()?)
        .map(|_| input.word())
        .collect::<Result<_>>()?;
    let mut saved = Vec::new();
    for _ in 0..shape.vcpus {
        saved.push(input.vcpu()?);
    }
    if let Some(first) = saved.first() {
        shape.features.longest_vector = first.get(SVE_VLS).map(registers::longest_vector);
        let value = |id| first.get(id).map(Register::as_u64);
        shape.features.identity = machine::is_other_identity(value)?;
    }
    let machine = Machine::with_memory(shape, unit, memory)?;
    machine.shape.features.has_all_of(shape.features)?;
    for (vcpu, saved) in machine.vcpus.iter().zip(saved) {
        saved.restore(vcpu)?;
    }
    input.gic(&machine)?;
    let mut port = PortState::default();
    for register in &mut port {
        *register = input.word()? as u8;
    }
    Ok((machine, port, later))
}

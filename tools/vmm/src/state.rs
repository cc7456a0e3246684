// SPDX-License-Identifier: GPL-2.0

//! The state of a machine in a file, with which it can continue on another host.
//!
//! All numbers are 64 bits, little-endian: the magic number; the count of registers, and
//! for each its number and its value, padded to a multiple of 8 bytes; the count of pages
//! of 4096 bytes, and for each its address and its bytes. Pages of zeroes are left out.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Read, Write},
    path::Path,
};

use vm_memory::{Bytes, GuestAddress};

use crate::{
    machine::{During, Machine, Result, MEMORY_SIZE, MEMORY_START},
    registers::{self, Register},
};

const MAGIC: u64 = u64::from_le_bytes(*b"vmstate1");
const PAGE: usize = 4096;

/// Writes the state of a stopped machine. The file is written completely, or not at all.
pub fn save(machine: &Machine, path: &Path) -> Result {
    let unfinished = path.with_extension("part");
    let file = File::create(&unfinished).during(unfinished.display().to_string())?;
    let mut out = BufWriter::new(file);
    write(machine, &mut out)?;
    out.flush().during(unfinished.display().to_string())?;
    fs::rename(&unfinished, path).during(path.display().to_string())
}

/// Writes the state to `out`.
fn write(machine: &Machine, out: &mut impl Write) -> Result {
    let word =
        |out: &mut dyn Write, value: u64| out.write_all(&value.to_le_bytes()).during("writing");
    word(out, MAGIC)?;
    let list = machine.register_list()?;
    word(out, list.len() as u64)?;
    for id in list {
        let mut register = machine.get(id)?;
        register
            .value
            .resize(register.value.len().next_multiple_of(8), 0);
        word(out, id)?;
        out.write_all(&register.value).during("writing")?;
    }
    let pages = used_pages(machine)?;
    word(out, pages.len() as u64)?;
    for (address, bytes) in pages {
        word(out, address)?;
        out.write_all(&bytes).during("writing")?;
    }
    Ok(())
}

/// Returns the pages that are not all zeroes, each with its address.
fn used_pages(machine: &Machine) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut pages = Vec::new();
    for address in (MEMORY_START..MEMORY_START + MEMORY_SIZE as u64).step_by(PAGE) {
        let mut bytes = vec![0; PAGE];
        machine
            .memory()
            .read_slice(&mut bytes, GuestAddress(address))
            .during("memory")?;
        if bytes.iter().any(|byte| *byte != 0) {
            pages.push((address, bytes));
        }
    }
    Ok(pages)
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
}

/// Restores the state in a file to a machine that has not run.
pub fn restore(machine: &Machine, path: &Path) -> Result {
    let mut input = Input::open(path)?;
    if input.word()? != MAGIC {
        return Err("not the state of a machine").during(input.name);
    }
    let mut list = Vec::new();
    for _ in 0..input.word()? {
        list.push(input.register()?);
    }
    // ID registers first, since the other registers depend on them.
    list.sort_by_key(|register| !registers::is_id(register.id));
    for register in &list {
        // A register may be read-only if it already has the value.
        if machine.get(register.id)? != *register {
            machine.set(register)?;
        }
    }
    for _ in 0..input.word()? {
        let address = input.word()?;
        machine
            .memory()
            .write_slice(&input.bytes(PAGE)?, GuestAddress(address))
            .during("memory")?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0

//! Rust arm64 ID register sample.
//!
//! Creates the file `arm64_idregs/registers` in debugfs. For each ID register that the kernel
//! records, the file shows the value of each CPU that has been up, and the system-wide safe value.
//! If CPUs differ, the register is marked, and the fields that differ are decoded:
//!
//! ```text
//! CTR_EL0 differs
//!   cpu0       0x000000009444c004
//!   cpu1       0x000000009444c003
//!   sanitised  0x000000009444c003
//!   IminLine   cpu0=4 cpu1=3 sanitised=3
//! ```

use kernel::{
    arm64::{
        cpufeature::{
            IdRegister,
            ID_REGISTERS, //
        },
        sysreg::Field, //
    },
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    debugfs::{
        Dir,
        File,
        Writer, //
    },
    fmt,
    prelude::*, //
};

module! {
    type: IdRegs,
    name: "rust_arm64_idregs",
    authors: ["Armature <armature@armature.invalid>"],
    description: "Rust arm64 ID register sample",
    license: "GPL",
}

/// The contents of the file.
struct Listing;

impl Writer for Listing {
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for register in ID_REGISTERS {
            write_register(f, register)?;
        }
        Ok(())
    }
}

/// Returns the CPUs that have been up, each with its value of `register`.
fn records(register: &IdRegister) -> impl Iterator<Item = (u32, u64)> + '_ {
    let cpus = (0..nr_cpu_ids()).filter_map(CpuId::from_u32);
    cpus.filter_map(|cpu| Some((cpu.as_u32(), register.recorded(cpu)?)))
}

/// Returns the bits in which CPUs differ.
fn differences(register: &IdRegister) -> u64 {
    let values = || records(register).map(|(_, value)| value);
    let ones = values().fold(0, |ones, value| ones | value);
    ones & !values().fold(u64::MAX, |common, value| common & value)
}

fn write_register(f: &mut fmt::Formatter<'_>, register: &IdRegister) -> fmt::Result {
    let differing = differences(register);
    let mark = if differing == 0 { "" } else { " differs" };
    writeln!(f, "{}{mark}", register.name())?;
    for (cpu, value) in records(register) {
        writeln!(f, "  cpu{cpu:<7} {value:#018x}")?;
    }
    if let Some(value) = register.sanitised() {
        writeln!(f, "  sanitised  {value:#018x}")?;
    }

    let fields = register.fields().iter();
    for field in fields.filter(|field| field.mask() & differing != 0) {
        write_field(f, register, field)?;
    }
    Ok(())
}

fn write_field(f: &mut fmt::Formatter<'_>, register: &IdRegister, field: &Field) -> fmt::Result {
    write!(f, "  {:<10}", field.name())?;
    for (cpu, value) in records(register) {
        write!(f, " cpu{cpu}=")?;
        write_value(f, field, value)?;
    }
    if let Some(value) = register.sanitised() {
        f.write_str(" sanitised=")?;
        write_value(f, field, value)?;
    }
    writeln!(f)
}

fn write_value(f: &mut fmt::Formatter<'_>, field: &Field, raw: u64) -> fmt::Result {
    let number = field.number(raw);
    match field.enumerator(field.extract(raw)) {
        Some(name) => write!(f, "{number}({name})"),
        None => write!(f, "{number}"),
    }
}

#[pin_data]
struct IdRegs {
    // Held only to remove the file when the module is unloaded, before the directory.
    #[pin]
    _registers: File<Listing>,
    _dir: Dir,
}

impl kernel::InPlaceModule for IdRegs {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let dir = Dir::new(c"arm64_idregs");

        try_pin_init!(Self {
            _registers <- dir.read_only_file(c"registers", Listing),
            _dir: dir,
        })
    }
}

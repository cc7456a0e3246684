// SPDX-License-Identifier: GPL-2.0

//! Boots Linux (Documentation/arch/arm64/booting.rst): the kernel at the start of memory, the
//! initial file system and the device tree at its end.

use std::{fs, fs::File, io::Cursor, path::PathBuf};

use linux_loader::loader::{pe, KernelLoader};
use vm_fdt::FdtWriter;
use vm_memory::{Bytes, GuestAddress};

use crate::{
    board::{SERIAL, SERIAL_SIZE},
    failure::{During, Result},
    gic::{DISTRIBUTOR, REDISTRIBUTORS, REDISTRIBUTOR_SIZE},
    machine::Machine,
    ram,
    registers::{Register, X0},
    spe,
};

/// The interrupt of the performance monitors, a PPI (Arm BSA).
pub const PMU_INTERRUPT: u32 = 23;

/// The largest device tree, and its alignment.
const TREE_SIZE: u64 = 2 << 20;

/// Where an Image has its size in memory, with what it does not have in the file.
const IMAGE_SIZE: std::ops::Range<usize> = 16..24;

const PAGE: u64 = 4096;

/// The phandle of the interrupt controller.
const GIC: u32 = 1;

// The cells of an interrupt:
// Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;
/// The interrupts of the architected timer: secure, non-secure, virtual, EL2 (Arm BSA).
const TIMERS: [u32; 4] = [29, 30, 27, 26];

/// A result of writing the device tree.
type Tree<T = ()> = std::result::Result<T, vm_fdt::Error>;

/// What a Linux guest starts from.
pub struct Linux {
    /// An arm64 `Image`.
    pub kernel: PathBuf,
    /// An archive for the initial file system.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub cmdline: String,
}

impl Linux {
    /// Puts everything in the memory of a machine and sets the first vCPU's registers.
    pub fn load(&self, machine: &Machine) -> Result {
        let tree_at = (ram::START + machine.shape.memory - TREE_SIZE) & !(TREE_SIZE - 1);
        let (start, end) = self.load_kernel(machine)?;
        let initrd = self.load_initrd(machine, tree_at)?;
        if end > initrd.map_or(tree_at, |(first, _)| first) {
            return Err("the guest has too little memory")
                .during(self.kernel.display().to_string());
        }
        let tree = self.device_tree(machine, initrd).during("device tree")?;
        pe::load_dtb(
            &machine.ram.memory,
            GuestAddress(tree_at),
            &mut Cursor::new(tree),
        )
        .during("device tree")?;

        let first = &machine.vcpus[0];
        first.set(&Register::new(X0, tree_at.to_le_bytes().to_vec()))?;
        first.start_at(start)
    }

    /// Copies the kernel to memory; returns where it starts, and the end of what it needs.
    fn load_kernel(&self, machine: &Machine) -> Result<(u64, u64)> {
        let name = || self.kernel.display().to_string();
        let mut file = File::open(&self.kernel).during(name())?;
        let at = Some(GuestAddress(ram::START));
        let start = pe::PE::load(&machine.ram.memory, at, &mut file, None)
            .during(name())?
            .kernel_load;
        let mut header = [0; IMAGE_SIZE.end];
        machine
            .ram
            .memory
            .read_slice(&mut header, start)
            .during(name())?;
        let size = Register::new(0, header[IMAGE_SIZE].to_vec()).as_u64();
        Ok((start.0, start.0.saturating_add(size)))
    }

    /// Copies the initial file system to memory, up to `end`; returns where it is.
    fn load_initrd(&self, machine: &Machine, end: u64) -> Result<Option<(u64, u64)>> {
        let Some(path) = &self.initrd else {
            return Ok(None);
        };
        let bytes = fs::read(path).during(path.display().to_string())?;
        let size = bytes.len() as u64;
        let at = end.saturating_sub(size) & !(PAGE - 1);
        machine
            .ram
            .memory
            .write_slice(&bytes, GuestAddress(at))
            .during(path.display().to_string())?;
        Ok(Some((at, at + size)))
    }

    /// Returns the device tree.
    fn device_tree(&self, machine: &Machine, initrd: Option<(u64, u64)>) -> Tree<Vec<u8>> {
        let mut tree = FdtWriter::new()?;
        let root = tree.begin_node("")?;
        tree.property_string("compatible", "linux,dummy-virt")?;
        tree.property_u32("#address-cells", 2)?;
        tree.property_u32("#size-cells", 2)?;
        tree.property_u32("interrupt-parent", GIC)?;
        self.chosen(&mut tree, initrd)?;

        let node = tree.begin_node(&format!("memory@{:x}", ram::START))?;
        tree.property_string("device_type", "memory")?;
        tree.property_array_u64("reg", &[ram::START, machine.shape.memory])?;
        tree.end_node(node)?;

        cpus(&mut tree, machine.shape.vcpus)?;
        controller(&mut tree, machine.shape.vcpus)?;
        devices(&mut tree, machine)?;
        tree.end_node(root)?;
        tree.finish()
    }

    /// Describes what the kernel starts with.
    fn chosen(&self, tree: &mut FdtWriter, initrd: Option<(u64, u64)>) -> Tree {
        let node = tree.begin_node("chosen")?;
        tree.property_string("bootargs", &self.cmdline)?;
        tree.property_string("stdout-path", &format!("/serial@{SERIAL:x}"))?;
        if let Some((start, end)) = initrd {
            tree.property_u64("linux,initrd-start", start)?;
            tree.property_u64("linux,initrd-end", end)?;
        }
        tree.end_node(node)
    }
}

/// Describes the CPUs, and PSCI, which switches them on and off.
fn cpus(tree: &mut FdtWriter, vcpus: u32) -> Tree {
    let cpus = tree.begin_node("cpus")?;
    tree.property_u32("#address-cells", 1)?;
    tree.property_u32("#size-cells", 0)?;
    for cpu in 0..vcpus {
        let node = tree.begin_node(&format!("cpu@{cpu:x}"))?;
        tree.property_string("device_type", "cpu")?;
        tree.property_string("compatible", "arm,armv8")?;
        tree.property_string("enable-method", "psci")?;
        tree.property_u32("reg", cpu)?;
        tree.end_node(node)?;
    }
    tree.end_node(cpus)?;

    let node = tree.begin_node("psci")?;
    let compatible = ["arm,psci-1.0", "arm,psci-0.2"].map(String::from);
    tree.property_string_list("compatible", compatible.into())?;
    tree.property_string("method", "hvc")?;
    tree.end_node(node)
}

/// Describes the interrupt controller.
fn controller(tree: &mut FdtWriter, vcpus: u32) -> Tree {
    let size = DISTRIBUTOR.end - DISTRIBUTOR.start;
    let redistributors = u64::from(vcpus) * REDISTRIBUTOR_SIZE;
    let reg = [DISTRIBUTOR.start, size, REDISTRIBUTORS, redistributors];

    let node = tree.begin_node(&format!("interrupt-controller@{:x}", DISTRIBUTOR.start))?;
    tree.property_string("compatible", "arm,gic-v3")?;
    tree.property_null("interrupt-controller")?;
    tree.property_u32("#interrupt-cells", 3)?;
    tree.property_array_u64("reg", &reg)?;
    tree.property_phandle(GIC)?;
    tree.end_node(node)
}

/// Returns the cells of a private interrupt.
fn private(interrupt: u32) -> [u32; 3] {
    [PRIVATE, interrupt - 16, LEVEL]
}

/// Describes the timer, the serial port and the units that the vCPUs have.
fn devices(tree: &mut FdtWriter, machine: &Machine) -> Tree {
    let node = tree.begin_node("timer")?;
    tree.property_string("compatible", "arm,armv8-timer")?;
    tree.property_array_u32("interrupts", &TIMERS.map(private).concat())?;
    tree.property_null("always-on")?;
    tree.end_node(node)?;

    let node = tree.begin_node(&format!("serial@{SERIAL:x}"))?;
    tree.property_string("compatible", "ns16550a")?;
    tree.property_array_u64("reg", &[SERIAL, SERIAL_SIZE])?;
    tree.property_u32("clock-frequency", 1_843_200)?;
    tree.property_array_u32("interrupts", &[SHARED, Machine::SERIAL_INTERRUPT, EDGE])?;
    tree.end_node(node)?;

    if machine.shape.features.pmu {
        unit(tree, "pmu", "arm,armv8-pmuv3", PMU_INTERRUPT)?;
    }
    if machine.unit.is_some() {
        let compatible = "arm,statistical-profiling-extension-v1";
        unit(tree, "spe", compatible, spe::INTERRUPT)?;
    }
    Ok(())
}

/// Describes a unit of the vCPUs with a private interrupt.
fn unit(tree: &mut FdtWriter, name: &str, compatible: &str, interrupt: u32) -> Tree {
    let node = tree.begin_node(name)?;
    tree.property_string("compatible", compatible)?;
    tree.property_array_u32("interrupts", &private(interrupt))?;
    tree.end_node(node)
}

// SPDX-License-Identifier: GPL-2.0

//! The statistical profiling unit of a VM (Documentation/virt/kvm/arm/spe.rst).

use std::{fs, io, mem, path::Path};

use crate::{
    failure::{During, Result},
    vcpu::Vcpu,
};

// The numbers of the kernel's asm/kvm_spe.h.
/// The capability.
pub const KVM_CAP_ARM_SPE: u64 = 4096;
/// The bit of the vCPU feature.
pub const KVM_ARM_VCPU_SPE: u32 = 24;
const KVM_ARM_VCPU_SPE_CTRL: u32 = 64;
const KVM_ARM_VCPU_SPE_IRQ: u64 = 0;
const KVM_ARM_VCPU_SPE_INIT: u64 = 1;
const KVM_ARM_VCPU_SPE_SPU: u64 = 2;

/// The interrupt of the unit, a PPI (Arm BSA).
pub const INTERRUPT: u32 = 21;

/// A unit of the host.
pub struct Unit {
    /// The name of its device.
    pub name: String,
    /// Its CPUs, for messages.
    pub list: String,
    /// Its CPUs.
    pub cpus: Vec<usize>,
    kind: i32,
}

impl Unit {
    /// Finds a unit by the name of its device, such as `arm_spe_0`.
    pub fn find(name: &str) -> Result<Self> {
        let device = Path::new("/sys/bus/event_source/devices").join(name);
        let read = |file: &str| -> Result<String> {
            let path = device.join(file);
            let text = fs::read_to_string(&path).during(path.display().to_string())?;
            Ok(text.trim().into())
        };
        let list = read("cpumask")?;

        Ok(Self {
            name: name.into(),
            kind: read("type")?.parse().during(format!("type of {name}"))?,
            cpus: cpus(&list).ok_or(&*list).during("list of CPUs")?,
            list: format!("CPU {list}"),
        })
    }

    /// Gives a vCPU the unit and its interrupt.
    pub fn give(&self, vcpu: &Vcpu) -> Result {
        let set = |attr, value| vcpu.set_attribute(KVM_ARM_VCPU_SPE_CTRL, attr, value);

        if vcpu.id == 0 {
            set(KVM_ARM_VCPU_SPE_SPU, Some(self.kind))?;
        }
        set(KVM_ARM_VCPU_SPE_IRQ, Some(INTERRUPT as i32))?;
        set(KVM_ARM_VCPU_SPE_INIT, None)
    }

    /// Moves this thread to the CPUs of the unit.
    pub fn place_this_thread(&self) -> Result {
        place_this_thread(&self.cpus).during(format!("moving to {}", self.list))
    }
}

/// Moves this thread to these CPUs.
pub fn place_this_thread(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: All bits of the set may be 0, and the macro checks the number.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        set
    };
    // SAFETY: The set is valid.
    match unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Parses a list of CPUs, such as "0,2-3".
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

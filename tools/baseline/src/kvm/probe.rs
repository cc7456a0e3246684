// SPDX-License-Identifier: GPL-2.0

//! Asks KVM what this host can give to VMs: tries each value in scratch VMs.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    fs,
    os::fd::AsRawFd,
    path::Path,
};

use kvm_bindings::{kvm_create_device, KVM_CREATE_DEVICE_TEST};

use super::{cntfrq_el0, dczid_el0, Here, How, Scratch, PARAMETER, WRITABLE_IMPLEMENTATION};
use crate::{
    host::{Choice, Facts, Group, Hex, Host, Implementation, FEATURES},
    registers::{self, Register, AIDR_EL1, CLIDR_EL1, MIDR_EL1, REVIDR_EL1},
    Error,
};

/// KVM_REG_ARM_DEMUX: CCSIDR_EL1 by the value of CSSELR_EL1.
const DEMUX: u64 = 0x6020_0000_0011_0000;
/// As many as KVM has (CSSELR_MAX): seven levels of caches, of data and of instructions.
const CSSELR_VALUES: u64 = 14;
/// KVM_CREATE_DEVICE: _IOWR(KVMIO, 0xe0, struct kvm_create_device).
const CREATE_DEVICE: u64 = 0xc00c_aee0;

/// Capabilities by which VMMs decide what a VM has.
const CAPABILITIES: &[(&str, u32)] = &[
    ("ARM_EL1_32BIT", 93),
    ("GUEST_DEBUG_HW_BPS", 119),
    ("GUEST_DEBUG_HW_WPS", 120),
    ("ARM_INJECT_SERROR_ESR", 158),
    ("STEAL_TIME", 187),
    ("ARM_MTE", 205),
    ("ARM_SYSTEM_SUSPEND", 216),
    ("COUNTER_OFFSET", 227),
    ("ARM_WRITABLE_IMP_ID_REGS", 239),
    ("ARM_EL2", 240),
];

/// The version of the interrupt controller, and its type in KVM_CREATE_DEVICE.
const GIC: &[(u32, u32)] = &[(2, 5), (3, 7)];

/// The values of registers, by their names.
type Values = BTreeMap<String, Hex>;

/// Asks this host what it can give to VMs.
pub fn probe(name: Option<String>) -> Result<Host, Error> {
    let host = Here::open()?;
    need_no_baseline()?;
    let offered = FEATURES.into_iter().filter(|feature| host.offers(feature));
    let offered: Vec<_> = offered.collect();
    let scratch = host.scratch(&offered, How::default())?;
    let registers = values(&scratch);
    if !registers.contains_key("ID_AA64PFR0_EL1") {
        return Err(Error("KVM gives no ID registers".into()));
    }
    // Where this VM cannot run, no other one can.
    host.scratch(&offered, How::default())?.run()?;
    Ok(Host {
        name: name.unwrap_or_else(|| uname().0),
        kernel: uname().1,
        derived_from: None,
        baseline: Path::new(PARAMETER).exists(),
        told: scratch.told(),
        features: features(&host, &offered, &registers)?,
        choices: choices(&host, &offered, &registers)?,
        registers,
        implementation: implementation(&host, &scratch),
        facts: facts(&host, &scratch, &offered),
        capabilities: capabilities(&host),
    })
}

fn need_no_baseline() -> Result<(), Error> {
    if fs::read_to_string(PARAMETER).is_ok_and(|text| !text.trim().is_empty()) {
        return Err(Error(format!(
            "this host has a baseline, which hides what it can do: \
             take it away first (echo > {PARAMETER})"
        )));
    }
    Ok(())
}

/// Returns the values of all registers that a VM has.
fn values(scratch: &Scratch) -> Values {
    registers::all()
        .filter_map(|register| Some((register.name.into(), Hex(scratch.get(register.id)?))))
        .collect()
}

/// Returns each feature with the registers that have another value without it.
fn features(
    host: &Here,
    offered: &[&str],
    registers: &Values,
) -> Result<BTreeMap<String, Values>, Error> {
    let without = |feature: &str| {
        let others = offered.iter().filter(|one| **one != feature);
        let others: Vec<_> = others.copied().collect();
        let mut values = values(&host.scratch(&others, How::default())?);
        values.retain(|name, value| registers.get(name) != Some(value));
        Ok((feature.to_string(), values))
    };
    offered.iter().map(|feature| without(feature)).collect()
}

/// Returns the groups that can have other values.
fn choices(host: &Here, offered: &[&str], registers: &Values) -> Result<Vec<Choice>, Error> {
    let mut found = Vec::new();
    for group in Group::all() {
        let own = group.value(|register| Some(registers.get(register.name)?.0));
        let Some(own) = own else { continue };
        let accepted = accepted(host, offered, group, &own, registers)?;
        if accepted.len() > 1 {
            found.push(Choice {
                fields: group.names().to_vec(),
                accepted,
            });
        }
    }
    Ok(found)
}

/// Returns the values of a group that KVM takes, keeps, and still has after the VM has run.
fn accepted(
    host: &Here,
    features: &[&str],
    group: &Group,
    own: &[u64],
    registers: &Values,
) -> Result<BTreeSet<Vec<u64>>, Error> {
    let mut found = BTreeSet::from([own.to_vec()]);
    let mut scratch = host.scratch(features, How::default())?;
    for value in product(group) {
        if value == own {
            continue;
        }
        let new = changed(group, &value, registers);
        let sets = new.iter().map(|(one, value)| scratch.set(one.id, *value));
        let taken: Vec<_> = sets.collect();
        if !taken.contains(&false) && keeps(&mut scratch, group, &value)? {
            found.insert(value);
        }
        // The values that were accepted, and the run, would affect the next trial.
        if taken.contains(&true) {
            scratch = host.scratch(features, How::default())?;
        }
    }
    Ok(found)
}

/// Returns whether a VM has a value of a group, and still has it after a run.
fn keeps(scratch: &mut Scratch, group: &Group, value: &[u64]) -> Result<bool, Error> {
    let has = |scratch: &Scratch| {
        let now = group.value(|register| scratch.get(register.id));
        now.as_deref() == Some(value)
    };
    if !has(scratch) {
        return Ok(false);
    }
    scratch.run()?;
    Ok(has(scratch))
}

/// Returns all values of a group.
fn product(group: &Group) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::new()];
    for (_, field) in group.parts() {
        let longer = |start: &Vec<u64>| {
            let values = field.tries().into_iter();
            let start = start.clone();
            values.map(move |value| [start.as_slice(), &[value]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Returns the registers that a value of a group changes, with their new values.
fn changed(group: &Group, value: &[u64], registers: &Values) -> Vec<(&'static Register, u64)> {
    let mut new: Vec<(&'static Register, u64)> = Vec::new();
    for ((register, field), value) in group.parts().zip(value) {
        match new.iter_mut().find(|(known, _)| known.id == register.id) {
            Some((_, whole)) => *whole = field.with(*whole, *value),
            None => {
                let own = registers.get(register.name).map_or(0, |own| own.0);
                new.push((register, field.with(own, *value)));
            }
        }
    }
    new
}

fn implementation(host: &Here, scratch: &Scratch) -> Option<Implementation> {
    Some(Implementation {
        midr_el1: Hex(scratch.get(MIDR_EL1)?),
        revidr_el1: Hex(scratch.get(REVIDR_EL1)?),
        aidr_el1: Hex(scratch.get(AIDR_EL1)?),
        writable: host.has(WRITABLE_IMPLEMENTATION) > 0,
    })
}

fn capabilities(host: &Here) -> BTreeMap<String, i64> {
    let all = CAPABILITIES.iter();
    all.map(|(name, number)| (name.to_string(), host.has(*number).into()))
        .collect()
}

fn facts(host: &Here, scratch: &Scratch, offered: &[&str]) -> Facts {
    let ccsidr_el1 = (0..CSSELR_VALUES)
        .filter_map(|csselr| Some((csselr.to_string(), Hex(scratch.get(DEMUX | csselr)?))))
        .collect();
    let gic = GIC.iter().filter(|(_, kind)| {
        let mut device = kvm_create_device {
            type_: *kind,
            fd: 0,
            flags: KVM_CREATE_DEVICE_TEST,
        };
        // SAFETY: With the flag, KVM only tests, and gives no file descriptor.
        let result =
            unsafe { libc::ioctl(scratch.vm.as_raw_fd(), CREATE_DEVICE as _, &mut device) };
        result == 0
    });
    // SAFETY: It asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Facts {
        cntfrq_el0: Some(cntfrq_el0()),
        dczid_el0: Some(Hex(dczid_el0())),
        sve_lengths: scratch.lengths(),
        pmu_counters: offered.contains(&"pmu").then(|| scratch.counters() as u32),
        clidr_el1: scratch.get(CLIDR_EL1).map(Hex),
        ccsidr_el1,
        ipa_bits: (host.ipa_bits != 0).then_some(host.ipa_bits),
        gic: gic.map(|(version, _)| *version).collect(),
        page_size: Some(page as u64 / 1024),
    }
}

/// Returns the name of the host and the release of its kernel.
fn uname() -> (String, String) {
    // SAFETY: All fields of the structure are arrays of characters.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: The kernel writes to the structure, which is this function's.
    unsafe { libc::uname(&mut names) };
    let text = |field: &[libc::c_char]| {
        // SAFETY: The kernel ends names by a zero.
        let text = unsafe { CStr::from_ptr(field.as_ptr()) };
        text.to_string_lossy().into_owned()
    };
    (text(&names.nodename), text(&names.release))
}

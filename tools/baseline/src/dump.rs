// SPDX-License-Identifier: GPL-2.0

//! Hosts that are not at hand: reads dumps of their registers, and derives what KVM would accept
//! from the masks of a kernel that was asked, and from which values are safe.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{
    host::{Choice, Group, Hex, Host, Implementation},
    registers::{self, Register, AIDR_EL1, MIDR_EL1, REVIDR_EL1},
    text::number,
    Error,
};

/// What Firecracker's cpu-template-helper writes.
#[derive(Deserialize)]
struct Fingerprint {
    guest_cpu_config: Template,
}

/// A custom CPU template of Firecracker, as "template dump" writes it.
#[derive(Deserialize)]
struct Template {
    reg_modifiers: Vec<Modifier>,
}

#[derive(Deserialize)]
struct Modifier {
    addr: String,
    bitmap: String,
}

/// Fields that a VM has only with a feature, and loses without it.
const OF_FEATURES: &[(&str, &str, &[&str])] = &[
    ("sve", "ID_AA64PFR0_EL1", &["SVE"]),
    (
        "sve",
        "ID_AA64ZFR0_EL1",
        &[
            "F64MM", "F32MM", "F16MM", "I8MM", "SM4", "SHA3", "B16B16", "BF16", "BitPerm",
            "EltPerm", "AES", "SVEver",
        ],
    ),
    ("ptrauth", "ID_AA64ISAR1_EL1", &["APA", "API", "GPA", "GPI"]),
    ("ptrauth", "ID_AA64ISAR2_EL1", &["APA3", "GPA3"]),
    ("pmu", "ID_AA64DFR0_EL1", &["PMUVer"]),
    ("pmu", "ID_DFR0_EL1", &["PerfMon"]),
];

/// Registers that identify the CPU: MIDR_EL1, REVIDR_EL1 and AIDR_EL1, and KVM's identifiers.
const IMPLEMENTATION: [(&str, u64); 3] = [
    ("MIDR_EL1", MIDR_EL1),
    ("REVIDR_EL1", REVIDR_EL1),
    ("AIDR_EL1", AIDR_EL1),
];

/// Returns the name of a register that a dump gives by its identifier.
fn named(id: u64) -> Option<&'static str> {
    let register = registers::all().find(|register| register.id == id);
    let other = IMPLEMENTATION.iter().find(|(_, known)| *known == id);
    register
        .map(|register| register.name)
        .or(other.map(|(name, _)| *name))
}

/// Reads a dump: Firecracker's JSON, or lines with a register and its value, where the register is
/// an architecture's name or KVM's identifier. `path` is for messages.
pub fn read(path: &str, text: &str) -> Result<BTreeMap<String, Hex>, Error> {
    let found = if text.trim_start().starts_with('{') {
        firecracker(text).map_err(|what| Error(format!("{path}: {what}")))?
    } else {
        lines(path, text)?
    };
    if found.is_empty() {
        return Err(Error(format!("{path}: no ID register is in it")));
    }
    Ok(found)
}

fn firecracker(text: &str) -> Result<BTreeMap<String, Hex>, String> {
    let template = serde_json::from_str(text)
        .map(|Fingerprint { guest_cpu_config }| guest_cpu_config)
        .or_else(|_| serde_json::from_str::<Template>(text))
        .map_err(|error| format!("not a file of cpu-template-helper: {error}"))?;
    let mut found = BTreeMap::new();
    for Modifier { addr, bitmap } in template.reg_modifiers {
        let id = number(&addr).ok_or_else(|| format!("{addr:?} is not a number"))?;
        let Some(register) = named(id) else {
            continue;
        };
        let bits: String = bitmap.chars().filter(|c| *c != '_').collect();
        let value = bits
            .strip_prefix("0b")
            .filter(|digits| digits.chars().all(|c| c.is_digit(2)))
            .and_then(|digits| u64::from_str_radix(digits, 2).ok())
            .ok_or_else(|| format!("{addr:?}: {bitmap:?} is not a value in binary"))?;
        if found.insert(register.into(), Hex(value)).is_some() {
            return Err(format!("{addr:?} is given twice"));
        }
    }
    Ok(found)
}

fn lines(path: &str, text: &str) -> Result<BTreeMap<String, Hex>, Error> {
    let mut found = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let wrong = |what: String| Error(format!("{path}:{}: {what}", i + 1));
        let Some((register, value)) = entry(line).map_err(wrong)? else {
            continue;
        };
        if found.insert(register.to_string(), Hex(value)).is_some() {
            return Err(wrong(format!("{register} is given twice")));
        }
    }
    Ok(found)
}

/// Returns the register of a line, and its value. Returns [`None`] for an empty line, a comment, or
/// an identifier that this program does not know.
fn entry(line: &str) -> Result<Option<(&'static str, u64)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let words: Vec<_> = line
        .split(|c: char| c.is_whitespace() || "=:,".contains(c))
        .filter(|word| !word.is_empty())
        .collect();
    let wrong = "not a register and its value";
    let [name, value] = words[..] else {
        return Err(wrong.into());
    };
    let value = number(value).ok_or(wrong)?;
    let id = number(name);
    let own = registers::named(name).map(|register| register.name);
    let mut others = IMPLEMENTATION.iter().map(|(other, _)| *other);
    let other = others.find(|other| other.eq_ignore_ascii_case(name));
    match own.or(other).or_else(|| named(id?)) {
        Some(register) => Ok(Some((register, value))),
        None if id.is_some() => Ok(None),
        None => Err(format!("no register {name:?}")),
    }
}

/// Describes a host by its registers and by a host that has the kernel which it will run.
pub fn derive(name: &str, mut registers: BTreeMap<String, Hex>, like: &Host) -> Host {
    let [midr, revidr, aidr] = IMPLEMENTATION.map(|(name, _)| registers.remove(name));
    let implementation = midr.map(|midr_el1| Implementation {
        midr_el1,
        revidr_el1: revidr.unwrap_or_default(),
        aidr_el1: aidr.unwrap_or_default(),
        writable: like.implementation.is_some_and(|one| one.writable),
    });
    let own = |register: &Register| Some(registers.get(register.name)?.0);
    let groups = Group::all().iter();
    let choices = groups.filter_map(|group| choice(group, &group.value(own)?, like));
    Host {
        name: name.into(),
        kernel: like.kernel.clone(),
        derived_from: Some(like.name.clone()),
        baseline: like.baseline,
        told: like.told.clone(),
        choices: choices.collect(),
        features: features(own),
        registers,
        implementation,
        ..Host::default()
    }
}

/// Returns the features that show in registers, with the registers' values without each.
fn features(own: impl Fn(&Register) -> Option<u64>) -> BTreeMap<String, BTreeMap<String, Hex>> {
    let mut found: BTreeMap<String, BTreeMap<String, Hex>> = BTreeMap::new();
    for (feature, register, fields) in OF_FEATURES {
        let Some(register) = registers::named(register) else {
            continue;
        };
        let Some(value) = own(register) else { continue };
        let fields = fields.iter().filter_map(|field| register.field(field));
        let without = fields.fold(value, |value, field| field.with(value, 0));
        if without != value {
            let feature = found.entry((*feature).into()).or_default();
            feature.insert(register.name.into(), Hex(without));
        }
    }
    found
}

/// Returns what KVM would accept of a group, if that is more than its value.
fn choice(group: &Group, own: &[u64], like: &Host) -> Option<Choice> {
    let accepted = accepted(group, own, like);
    let fields = group.names().to_vec();
    (accepted.len() > 1).then_some(Choice { fields, accepted })
}

/// Returns the values of a group that KVM would accept.
fn accepted(group: &Group, own: &[u64], like: &Host) -> BTreeSet<Vec<u64>> {
    let mut found = BTreeSet::from([Vec::new()]);
    for ((register, field), own) in group.parts().zip(own) {
        let writable = match like.told.get(register.name) {
            Some(mask) => mask.0 & field.mask() == field.mask(),
            // The masks are those of ID registers. KVM computes levels of workarounds from the
            // host, whatever it is told; only with kvm.baseline= a VM has its own.
            None => register.is_pseudo() && (!register.name.starts_with("smccc") || like.baseline),
        };
        let values: Vec<u64> = field
            .tries()
            .into_iter()
            .filter(|value| value == own || writable && field.is_safe(*value, *own))
            .collect();
        found = found
            .iter()
            .flat_map(|start| {
                values.iter().map(|value| {
                    let mut all = start.clone();
                    all.push(*value);
                    all
                })
            })
            .collect();
    }
    found.retain(|value| value == own || is_valid(group, value));
    found.insert(own.to_vec());
    found
}

/// Returns whether KVM may accept the values of fields, which are safe, together.
fn is_valid(group: &Group, value: &[u64]) -> bool {
    let names = group.names();
    match (names[0].as_str(), value) {
        // kvm_debug_topology_valid(): there are two breakpoints at least.
        ("ID_AA64DFR0_EL1.BRPs", [breakpoints, context_aware]) => {
            *breakpoints >= 1 && context_aware <= breakpoints
        }
        // set_id_aa64dfr0_el1(): Armv8.0 at least.
        ("ID_AA64DFR0_EL1.DebugVer", [version]) => *version >= 6,
        // set_id_dfr0_el1(): none, or PMUv3 at least; and Armv8 at least.
        ("ID_DFR0_EL1.PerfMon", [version]) => *version == 0 || *version >= 3,
        ("ID_DFR0_EL1.CopDbg", [version]) => *version >= 6,
        // kvm_arm_set_fw_reg(): PSCI 0.1 is for VMs without KVM_ARM_VCPU_PSCI_0_2.
        ("psci.level", [version]) => *version >= 2,
        // set_id_aa64pfr0_el1(): the VM has these levels.
        ("ID_AA64PFR0_EL1.EL0" | "ID_AA64PFR0_EL1.EL1", [level]) => *level != 0,
        _ => true,
    }
}

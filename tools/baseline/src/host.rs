// SPDX-License-Identifier: GPL-2.0

//! What is known of hosts, and its JSON.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::LazyLock,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    registers::{self, Field, Register, PAIRS},
    text, Error,
};

/// The version of the JSON that this program writes and reads.
pub const FORMAT: u32 = 1;

/// What a vCPU may have or not: bits of `KVM_ARM_VCPU_INIT`, as `-cpu host` takes them.
pub const FEATURES: [&str; 3] = ["sve", "ptrauth", "pmu"];

/// A number that is written in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex(pub u64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text::number(&text)
            .filter(|_| text.starts_with("0x"))
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a number like 0x1f")))
    }
}

/// A file: one host that was probed, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    pub format: u32,
    pub hosts: Vec<Host>,
}

/// One host, as its KVM describes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    pub name: String,
    /// The release of its kernel.
    pub kernel: String,
    /// If the host was not probed: the probed host whose kernel was assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived_from: Option<String>,
    /// Whether its KVM has `kvm.baseline=`.
    #[serde(default)]
    pub baseline: bool,
    /// The registers' values in a new VM that has all features.
    pub registers: BTreeMap<String, Hex>,
    /// The bits that KVM says can be written (`KVM_ARM_GET_REG_WRITABLE_MASKS`).
    #[serde(default)]
    pub told: BTreeMap<String, Hex>,
    /// The fields that can have other values.
    pub choices: Vec<Choice>,
    /// The features that it offers, each with the registers that have another value without it.
    pub features: BTreeMap<String, BTreeMap<String, Hex>>,
    /// [`None`] if it is not known.
    #[serde(default)]
    pub implementation: Option<Implementation>,
    #[serde(default)]
    pub facts: Facts,
    /// KVM's capabilities that differ between hosts, by name.
    #[serde(default)]
    pub capabilities: BTreeMap<String, i64>,
}

/// The values of a field, or of fields that depend on each other, which KVM accepts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// `register.field`.
    pub fields: Vec<String>,
    /// One value a field.
    pub accepted: BTreeSet<Vec<u64>>,
}

/// The registers that identify the CPU. Guests choose workarounds for errata by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Implementation {
    pub midr_el1: Hex,
    pub revidr_el1: Hex,
    pub aidr_el1: Hex,
    /// Whether a VMM may set them (`KVM_CAP_ARM_WRITABLE_IMP_ID_REGS`).
    pub writable: bool,
}

/// Properties that KVM cannot change, or not through registers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The frequency of the timers, in Hz. Guests read the CPU's.
    pub cntfrq_el0: Option<u64>,
    pub dczid_el0: Option<Hex>,
    /// In bits.
    #[serde(default)]
    pub sve_lengths: Vec<u32>,
    /// Event counters, without the cycle counter.
    pub pmu_counters: Option<u32>,
    pub clidr_el1: Option<Hex>,
    #[serde(default)]
    pub ccsidr_el1: BTreeMap<String, Hex>,
    /// The size of guests' physical addresses, in bits.
    pub ipa_bits: Option<u32>,
    /// The versions of interrupt controllers.
    #[serde(default)]
    pub gic: Vec<u32>,
    /// In KiB.
    pub page_size: Option<u64>,
}

/// Fields whose values belong together: mostly one.
#[derive(Debug)]
pub struct Group {
    parts: Vec<(&'static Register, &'static Field)>,
    /// `register.field` of each.
    names: Vec<String>,
}

static GROUPS: LazyLock<Vec<Group>> = LazyLock::new(Group::list);

impl Group {
    /// Returns the groups of all registers.
    pub fn all() -> &'static [Self] {
        &GROUPS
    }

    fn list() -> Vec<Self> {
        let in_pair = |register: &Register, field: &Field| {
            PAIRS
                .iter()
                .find(|pair| pair.contains(&(register.name, field.name)))
        };
        let mut found = Vec::new();
        for register in registers::all() {
            for field in register.fields {
                match in_pair(register, field) {
                    None => found.push(Self::new(vec![(register, field)])),
                    Some(pair) if pair[0] == (register.name, field.name) => {
                        let parts = pair.iter().filter_map(|(register, field)| {
                            let register = registers::named(register)?;
                            Some((register, register.field(field)?))
                        });
                        found.push(Self::new(parts.collect()));
                    }
                    Some(_) => {}
                }
            }
        }
        found
    }

    fn new(parts: Vec<(&'static Register, &'static Field)>) -> Self {
        let name =
            |(register, field): &(&Register, &Field)| format!("{}.{}", register.name, field.name);
        Self {
            names: parts.iter().map(name).collect(),
            parts,
        }
    }

    pub fn parts(&self) -> impl Iterator<Item = (&'static Register, &'static Field)> + '_ {
        self.parts.iter().copied()
    }

    /// Returns the names of its fields, `register.field`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns its value in the registers that `of` gives. Returns [`None`] if one is not there.
    pub fn value(&self, of: impl Fn(&Register) -> Option<u64>) -> Option<Vec<u64>> {
        self.parts()
            .map(|(register, field)| Some(field.of(of(register)?)))
            .collect()
    }

    /// Returns whether a value is one of the group: a number for each field, which fits into it.
    fn fits(&self, value: &[u64]) -> bool {
        let fits =
            |((_, field), part): ((_, &Field), &u64)| field.of(field.with(0, *part)) == *part;
        value.len() == self.parts.len() && self.parts().zip(value).all(fits)
    }

    /// Returns what a value is worth; the greater offers more.
    pub fn worth(&self, value: &[u64]) -> Vec<i64> {
        self.parts()
            .zip(value)
            .map(|((_, field), value)| field.worth(*value))
            .collect()
    }

    /// Returns a value in words.
    pub fn spell(&self, value: &[u64]) -> String {
        let words: Vec<_> = self
            .parts()
            .zip(value)
            .map(|((_, field), value)| field.spell(*value))
            .collect();
        words.join(" with ")
    }
}

impl Host {
    /// Returns whether the host does not have a feature. A dump does not say of each.
    pub fn lacks(&self, feature: &str) -> bool {
        self.derived_from.is_none() && !self.features.contains_key(feature)
    }

    /// Returns the value of a register in a VM that lacks some features. Returns [`None`] if the
    /// host does not have the register.
    pub fn register(&self, register: &Register, without: &[&str]) -> Option<u64> {
        let own = self.registers.get(register.name)?.0;
        let features = self.features.iter();
        let gone = features.filter(|(feature, _)| without.contains(&feature.as_str()));
        Some(gone.fold(own, |value, (_, registers)| {
            let other = registers.get(register.name).map_or(own, |other| other.0);
            value ^ own ^ other
        }))
    }

    /// Returns the values of a group that its KVM accepts in such a VM.
    pub fn accepted(&self, group: &Group, without: &[&str]) -> BTreeSet<Vec<u64>> {
        let own = group.value(|register| self.register(register, &[]));
        let now = group.value(|register| self.register(register, without));
        let names = group.names();
        let choice = self.choices.iter().find(|one| one.fields == names);
        match choice {
            Some(choice) if own == now => choice.accepted.clone(),
            _ => now.into_iter().collect(),
        }
    }

    /// Checks that the host makes sense to this program.
    pub fn check(&self) -> Result<(), Error> {
        if !self.is_named() {
            return Err(Error("a host has no name, or a bad one".into()));
        }
        let choices = || self.choices.iter().find_map(|one| self.wrong_choice(one));
        match self
            .unknown_name()
            .or_else(choices)
            .or_else(|| self.wrong_fact())
        {
            Some(what) => Err(Error(format!("host {}: {what}", self.name))),
            None => Ok(()),
        }
    }

    /// Returns whether the host has a name, and its texts can be in a line.
    fn is_named(&self) -> bool {
        let texts = [&self.name, &self.kernel].into_iter();
        let mut texts = texts
            .chain(&self.derived_from)
            .chain(self.capabilities.keys());
        !self.name.is_empty() && !texts.any(|text| text.contains(char::is_control))
    }

    /// Returns which name of a register or feature this program does not know.
    fn unknown_name(&self) -> Option<String> {
        let of_features = self.features.values().flat_map(|map| map.keys());
        let mut names = self
            .registers
            .keys()
            .chain(self.told.keys())
            .chain(of_features);
        let is_register = |name: &String| registers::all().any(|one| one.name == name);
        let register = names.find(|name| !is_register(name));
        if let Some(name) = register {
            return Some(format!("there is no register {name:?}"));
        }
        let mut features = self.features.keys();
        let feature = features.find(|name| !FEATURES.contains(&name.as_str()))?;
        Some(format!("there is no feature {feature:?}"))
    }

    /// Returns a message if a fact has a value that no host can have.
    fn wrong_fact(&self) -> Option<String> {
        // SVE_VL_MAX of the kernel's interface, in bits; PMCR_EL0.N has five bits.
        let is_length = |bits: &u32| bits % 128 == 0 && (128..=65536).contains(bits);
        let wrong = self.facts.sve_lengths.iter().find(|bits| !is_length(bits));
        let length = wrong.map(|bits| format!("no vector has {bits} bits"));
        let counters = self.facts.pmu_counters.filter(|count| *count > 31);
        length.or_else(|| counters.map(|count| format!("no PMU has {count} counters")))
    }

    /// Returns what is wrong with a choice, if something is.
    fn wrong_choice(&self, choice: &Choice) -> Option<String> {
        let name = choice.fields.join(" with ");
        let mut groups = Group::all().iter();
        let Some(group) = groups.find(|group| group.names() == choice.fields) else {
            return Some(format!("there is no field {name:?}"));
        };
        let Some(own) = group.value(|register| self.register(register, &[])) else {
            return Some(format!("{name} has no value"));
        };
        if !choice.accepted.iter().all(|value| group.fits(value)) {
            return Some(format!("{name} has a value that does not fit"));
        }
        (!choice.accepted.contains(&own))
            .then(|| format!("{name} does not accept the host's own value"))
    }
}

impl Fleet {
    /// Reads a file. `path` is for messages.
    pub fn parse(path: &str, text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let wrong = |error: serde_json::Error| {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "it is truncated".into(),
                _ => error.to_string(),
            };
            Error(format!("{path}: not a file of this program: {what}"))
        };
        let Version { format } = serde_json::from_str(text).map_err(wrong)?;
        if format != FORMAT {
            return Err(Error(format!(
                "{path}: its format is {format}, and this program reads format {FORMAT}: \
                 use the program that wrote it, or probe once more"
            )));
        }
        let fleet: Self = serde_json::from_str(text).map_err(wrong)?;
        if fleet.hosts.is_empty() {
            return Err(Error(format!("{path}: no host is in it")));
        }
        for host in &fleet.hosts {
            host.check()
                .map_err(|Error(what)| Error(format!("{path}: {what}")))?;
        }
        Ok(fleet)
    }

    /// Returns the file.
    pub fn write(&self) -> String {
        serde_json::to_string_pretty(self).expect("all keys are texts") + "\n"
    }

    /// Joins files. A host may be in several of them if all say the same of it, as merged files
    /// that overlap do, but not twice on its own.
    pub fn join(files: Vec<(String, Self)>) -> Result<Self, Error> {
        let mut hosts: BTreeMap<String, (Host, String, bool)> = BTreeMap::new();
        for (path, fleet) in files {
            let alone = fleet.hosts.len() == 1;
            for host in fleet.hosts {
                if let Some((other, before, was_alone)) = hosts.get(&host.name) {
                    if other != &host || alone && *was_alone {
                        return Err(Error(format!(
                            "the host {} is given twice, in {before} and {path}: \
                             leave one out, or name them differently (probe --name)",
                            host.name
                        )));
                    }
                    continue;
                }
                hosts.insert(host.name.clone(), (host, path.clone(), alone));
            }
        }
        let hosts = hosts.into_values().map(|(host, ..)| host).collect();
        Ok(Self {
            format: FORMAT,
            hosts,
        })
    }
}

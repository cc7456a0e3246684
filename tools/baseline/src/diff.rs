// SPDX-License-Identifier: GPL-2.0

//! Compares two CPUs: of hosts, of fleets, or of a text for the kernel.

use crate::{
    host::{Fleet, Group, Hex, Host, FEATURES},
    merge::{self, Policy},
    registers::{self, OF_DEVICES},
    text::Text,
    Error,
};

/// One of the two.
pub enum Side {
    Host(Box<Host>),
    Text(Text),
}

impl Side {
    /// Reads a file: a host, a fleet, of which the common CPU counts, or a text.
    pub fn read(path: &str, text: &str) -> Result<Self, Error> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self::Text(Text::parse(path, text)?));
        }
        let mut fleet = Fleet::parse(path, text)?;
        if fleet.hosts.len() == 1 {
            return Ok(Self::Host(Box::new(fleet.hosts.remove(0))));
        }
        let policy = Policy {
            accept_errata: true,
            ..Policy::default()
        };
        let merged = merge::merge(&fleet, policy)
            .map_err(|reasons| Error(format!("{path}: no common CPU: {}", reasons.join("; "))))?;
        Ok(Self::Text(Text::of(&merged, &fleet, false)))
    }

    /// Returns the value of a group. Returns [`None`] if it has none.
    fn value(&self, group: &Group) -> Option<Vec<u64>> {
        match self {
            Self::Host(host) => group.value(|register| host.register(register, &[])),
            Self::Text(text) => group
                .parts()
                .map(|(register, field)| {
                    let set = text.sets.iter().find(|set| set.register == register.name)?;
                    (set.mask & field.mask() == field.mask()).then(|| field.of(set.value))
                })
                .collect(),
        }
    }

    fn accepted(&self, group: &Group) -> Option<String> {
        let Self::Host(host) = self else { return None };
        let values = host.accepted(group, &[]);
        let values: Vec<_> = values.iter().map(|value| group.spell(value)).collect();
        Some(values.join(" or "))
    }

    /// Returns what is not in ID registers, in words.
    fn facts(&self) -> Vec<(String, Option<String>)> {
        let mut found = Vec::new();
        let mut add = |what: &str, value: Option<String>| found.push((what.to_string(), value));
        match self {
            Self::Host(host) => {
                let one = host.implementation;
                add("MIDR_EL1", one.map(|one| one.midr_el1.to_string()));
                add("REVIDR_EL1", one.map(|one| one.revidr_el1.to_string()));
                add("AIDR_EL1", one.map(|one| one.aidr_el1.to_string()));
                let facts = &host.facts;
                add(
                    "CNTFRQ_EL0",
                    facts.cntfrq_el0.map(|value| value.to_string()),
                );
                add("DCZID_EL0", facts.dczid_el0.map(|value| value.to_string()));
                add(
                    "PMCR_EL0.N",
                    facts.pmu_counters.map(|value| value.to_string()),
                );
                let longest = facts.sve_lengths.iter().max();
                add("the longest vector", longest.map(u32::to_string));
                for feature in FEATURES {
                    let known = host.derived_from.is_none() || !host.lacks(feature);
                    let word = if host.features.contains_key(feature) {
                        "on"
                    } else {
                        "off"
                    };
                    add(feature, known.then(|| word.into()));
                }
            }
            Self::Text(text) => {
                let hex = |value: Option<u64>| value.map(|value| Hex(value).to_string());
                add("MIDR_EL1", hex(text.midr_el1));
                add("REVIDR_EL1", hex(text.revidr_el1));
                add("AIDR_EL1", hex(text.aidr_el1));
                add("CNTFRQ_EL0", text.cntfrq_el0.map(|value| value.to_string()));
                add("DCZID_EL0", hex(text.dczid_el0));
                add(
                    "PMCR_EL0.N",
                    text.pmu_counters.map(|value| value.to_string()),
                );
                add(
                    "the longest vector",
                    text.sve_length.map(|value| value.to_string()),
                );
                for feature in FEATURES {
                    let off = text.off.iter().any(|off| off == feature);
                    add(feature, Some(if off { "off" } else { "on" }.into()));
                }
            }
        }
        found
    }
}

/// Returns the differences, one a line.
pub fn lines(a: &Side, b: &Side) -> Vec<String> {
    let mut found = Vec::new();
    let of_device = |group: &&Group| {
        let mut parts = group.parts();
        parts.any(|(register, field)| OF_DEVICES.contains(&(register.name, field.name)))
    };
    for group in Group::all().iter().filter(|group| !of_device(group)) {
        let fields = group.names().join(" with ");
        match (a.value(group), b.value(group)) {
            (Some(one), Some(other)) if one != other => found.push(format!(
                "{fields}: {}, and {}",
                group.spell(&one),
                group.spell(&other)
            )),
            (None, Some(value)) if value.iter().any(|part| *part != 0) => {
                found.push(format!("{fields}: not named, and {}", group.spell(&value)))
            }
            (Some(value), None) if value.iter().any(|part| *part != 0) => {
                found.push(format!("{fields}: {}, and not named", group.spell(&value)))
            }
            _ => {}
        }
        if let (Some(one), Some(other)) = (a.accepted(group), b.accepted(group)) {
            if one != other {
                found.push(format!("{fields}: accepts {one}, and {other}"));
            }
        }
    }
    if let (Side::Host(a), Side::Host(b)) = (a, b) {
        for register in registers::all() {
            let known = |host: &Host| host.registers.contains_key(register.name);
            match (known(a), known(b)) {
                (true, false) => found.push(format!("{register}: only {} has it", a.name)),
                (false, true) => found.push(format!("{register}: only {} has it", b.name)),
                _ => {}
            }
        }
    }
    if let (Side::Host(a), Side::Host(b)) = (a, b) {
        let others = |host: &Host| {
            let facts = &host.facts;
            [
                ("vector lengths", format!("{:?}", facts.sve_lengths)),
                ("CLIDR_EL1", format!("{:?}", facts.clidr_el1)),
                ("CCSIDR_EL1", format!("{:?}", facts.ccsidr_el1)),
                (
                    "the size of physical addresses",
                    format!("{:?}", facts.ipa_bits),
                ),
                ("interrupt controllers", format!("{:?}", facts.gic)),
                ("capabilities", format!("{:?}", host.capabilities)),
                ("writable bits", format!("{:?}", host.told)),
            ]
        };
        for ((what, one), (_, other)) in others(a).into_iter().zip(others(b)) {
            if one != other {
                found.push(format!("{what}: {one}, and {other}"));
            }
        }
    }
    for ((what, one), (_, other)) in a.facts().into_iter().zip(b.facts()) {
        match (one, other) {
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => found.push(format!("{what}: {one}, and {other}")),
            (Some(one), None) => found.push(format!("{what}: {one}, and not named")),
            (None, Some(other)) => found.push(format!("{what}: not named, and {other}")),
            (None, None) => {}
        }
    }
    found
}

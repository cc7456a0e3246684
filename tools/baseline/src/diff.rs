// SPDX-License-Identifier: GPL-2.0

//! Compares two CPUs: of hosts, of fleets, or of a text for the kernel.

use crate::{
    host::{Fleet, Group, Host},
    merge::{self, Policy},
    registers,
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

    fn implementation(&self) -> Option<[u64; 3]> {
        let one = match self {
            Self::Host(host) => host.implementation,
            Self::Text(text) => text.implementation(),
        }?;
        Some([one.midr_el1.0, one.revidr_el1.0, one.aidr_el1.0])
    }

    fn facts(&self) -> Vec<(&'static str, Option<String>)> {
        let (cntfrq, dczid, counters) = match self {
            Self::Host(host) => (
                host.facts.cntfrq_el0,
                host.facts.dczid_el0.map(|hex| hex.0),
                host.facts.pmu_counters,
            ),
            Self::Text(text) => (text.cntfrq_el0, text.dczid_el0, text.pmu_counters),
        };
        let lengths = match self {
            Self::Host(host) => host.facts.sve_lengths.iter().max().copied(),
            Self::Text(text) => text.sve_length,
        };
        vec![
            ("CNTFRQ_EL0", cntfrq.map(|value| value.to_string())),
            ("DCZID_EL0", dczid.map(|value| value.to_string())),
            ("PMCR_EL0.N", counters.map(|value| value.to_string())),
            ("SVE vector length", lengths.map(|value| value.to_string())),
        ]
    }
}

/// Returns the differences, one a line.
pub fn lines(a: &Side, b: &Side) -> Vec<String> {
    let mut found = Vec::new();
    for group in Group::all() {
        let fields = group.names().join(" with ");
        match (a.value(&group), b.value(&group)) {
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
        if let (Some(one), Some(other)) = (a.accepted(&group), b.accepted(&group)) {
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
    if let (Some(one), Some(other)) = (a.implementation(), b.implementation()) {
        if one != other {
            let spell = |[midr, revidr, aidr]: [u64; 3]| format!("{midr:#x} {revidr:#x} {aidr:#x}");
            found.push(format!(
                "MIDR_EL1, REVIDR_EL1 and AIDR_EL1: {}, and {}",
                spell(one),
                spell(other)
            ));
        }
    }
    for ((what, one), (_, other)) in a.facts().into_iter().zip(b.facts()) {
        if let (Some(one), Some(other)) = (one, other) {
            if one != other {
                found.push(format!("{what}: {one}, and {other}"));
            }
        }
    }
    found
}

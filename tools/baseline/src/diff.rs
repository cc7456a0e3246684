// SPDX-License-Identifier: GPL-2.0

//! Compares two CPUs: of hosts, of fleets, or of a text for the kernel.

use crate::{
    host::{Fleet, Group, Hex, Host, FEATURES},
    merge::{self, Policy},
    registers::{self, Register, OF_DEVICES},
    text::Text,
    Error,
};

/// One side of the comparison.
pub enum Side {
    Host(Box<Host>),
    Text(Text),
}

/// A fact that is not in ID registers: its name, and its value if that is known.
type Fact = (&'static str, Option<String>);

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
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Host(host) => facts_of_host(host),
            Self::Text(text) => facts_of_text(text),
        }
    }
}

fn spelled<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.into()
}

fn facts_of_host(host: &Host) -> Vec<Fact> {
    let (one, facts) = (host.implementation, &host.facts);
    let features = FEATURES.map(|feature| {
        let known = host.derived_from.is_none() || !host.lacks(feature);
        let word = on_or_off(host.features.contains_key(feature));
        (feature, known.then_some(word))
    });
    let others = [
        ("MIDR_EL1", spelled(one.map(|one| one.midr_el1))),
        ("REVIDR_EL1", spelled(one.map(|one| one.revidr_el1))),
        ("AIDR_EL1", spelled(one.map(|one| one.aidr_el1))),
        ("CNTFRQ_EL0", spelled(facts.cntfrq_el0)),
        ("DCZID_EL0", spelled(facts.dczid_el0)),
        ("PMCR_EL0.N", spelled(facts.pmu_counters)),
        (
            "the longest vector",
            spelled(facts.sve_lengths.iter().max()),
        ),
    ];
    others.into_iter().chain(features).collect()
}

/// Returns the facts of a text, in the order of [`facts_of_host`].
fn facts_of_text(text: &Text) -> Vec<Fact> {
    let hex = |value: Option<u64>| spelled(value.map(Hex));
    let who = text.who().map(|(name, _, value)| (name, hex(value)));
    let others = [
        ("CNTFRQ_EL0", spelled(text.cntfrq_el0)),
        ("DCZID_EL0", hex(text.dczid_el0)),
        ("PMCR_EL0.N", spelled(text.pmu_counters)),
        ("the longest vector", spelled(text.sve_length)),
    ];
    let features = FEATURES.map(|feature| {
        let off = text.off.iter().any(|off| off == feature);
        (feature, Some(on_or_off(!off)))
    });
    who.into_iter().chain(others).chain(features).collect()
}

/// Returns whether a text takes EL2 away; a host's capabilities say whether it offers EL2.
fn el2(text: &Text) -> Option<String> {
    let off = text.off.iter().any(|off| off == "el2");
    off.then(|| on_or_off(false))
}

/// Returns a line with two values if they differ, and [`None`] if not.
fn difference(what: &str, one: Option<String>, other: Option<String>) -> Option<String> {
    let named = |value: &Option<String>| value.clone().unwrap_or("not named".into());
    (one != other).then(|| format!("{what}: {}, and {}", named(&one), named(&other)))
}

/// Returns in what the values of a group differ, and then those that are accepted.
fn of_group(a: &Side, b: &Side, group: &Group) -> impl Iterator<Item = String> {
    let fields = group.names().join(" with ");
    let spell = |value: Option<Vec<u64>>| value.map(|value| group.spell(&value));
    let is_host = |side: &Side| matches!(side, Side::Host(_));
    let values = match (a.value(group), b.value(group)) {
        // A host whose kernel does not know a field has nothing there.
        (Some(value), None) | (None, Some(value))
            if (is_host(a) || is_host(b)) && value.iter().all(|part| *part == 0) =>
        {
            None
        }
        (one, other) => difference(&fields, spell(one), spell(other)),
    };
    let accepted = a.accepted(group).zip(b.accepted(group));
    let accepted = accepted.filter(|(one, other)| one != other);
    let accepted = accepted.map(|(one, other)| format!("{fields}: accepts {one}, and {other}"));
    values.into_iter().chain(accepted)
}

/// Returns the register as one that only one of the hosts has. Returns [`None`] if it is not.
fn of_one(a: &Host, b: &Host, register: &Register) -> Option<String> {
    let known = |host: &Host| host.registers.contains_key(register.name);
    let host = match (known(a), known(b)) {
        (true, false) => a,
        (false, true) => b,
        _ => return None,
    };
    Some(format!("{register}: only {} has it", host.name))
}

/// Returns the bits outside of known fields in which the values of two hosts differ, if any.
fn of_rest(a: &Host, b: &Host, register: &Register) -> Option<String> {
    let rest = |host: &Host| Some(host.registers.get(register.name)?.0 & !register.mask());
    let (one, other) = (rest(a)?, rest(b)?);
    let what = format!("{register}, bits outside of known fields");
    difference(&what, spelled(Some(Hex(one))), spelled(Some(Hex(other))))
}

/// Returns what is known of hosts only.
fn details(host: &Host) -> [Fact; 7] {
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
    .map(|(what, value)| (what, Some(value)))
}

/// Returns a line for each fact that differs. Both sides have the facts in the same order.
fn of_facts(
    a: impl IntoIterator<Item = Fact>,
    b: impl IntoIterator<Item = Fact>,
) -> impl Iterator<Item = String> {
    let both = a.into_iter().zip(b);
    both.filter_map(|((what, one), (_, other))| difference(what, one, other))
}

/// Returns the differences, one a line.
pub fn lines(a: &Side, b: &Side) -> Vec<String> {
    let of_device = |group: &&Group| {
        let mut parts = group.parts();
        parts.any(|(register, field)| OF_DEVICES.contains(&(register.name, field.name)))
    };
    let groups = Group::all().iter().filter(|group| !of_device(group));
    let mut found: Vec<_> = groups.flat_map(|group| of_group(a, b, group)).collect();
    match (a, b) {
        (Side::Host(a), Side::Host(b)) => {
            found.extend(registers::all().filter_map(|register| of_one(a, b, register)));
            found.extend(registers::all().filter_map(|register| of_rest(a, b, register)));
            found.extend(of_facts(details(a), details(b)));
        }
        (Side::Text(a), Side::Text(b)) => found.extend(difference("el2", el2(a), el2(b))),
        _ => (),
    }
    found.extend(of_facts(a.facts(), b.facts()));
    found
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of what needs no KVM, and the hosts that they use.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    host::{Choice, Fleet, Group, Hex, Host, Implementation, FEATURES, FORMAT},
    merge::{self, Baseline, Policy},
    registers,
};

mod files;
mod merging;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }
}

const REGISTERS: [&str; 6] = [
    "CTR_EL0",
    "ID_AA64DFR0_EL1",
    "ID_AA64ISAR1_EL1",
    "ID_AA64MMFR0_EL1",
    "ID_AA64PFR0_EL1",
    "ID_AA64PFR1_EL1",
];

impl Random {
    /// Returns registers with small values in their fields.
    fn registers(&mut self) -> BTreeMap<String, Hex> {
        let mut registers = BTreeMap::new();
        for name in REGISTERS {
            let register = registers::named(name).unwrap();
            let value = register.fields.iter().fold(0, |value, field| {
                field.with(value, self.below(3).min((1 << field.width) - 1))
            });
            registers.insert(name.into(), Hex(value));
        }
        registers.insert("smccc_wa1".into(), Hex(self.below(3)));
        registers
    }

    /// Returns what is accepted of each group.
    fn choices(&mut self, registers: &BTreeMap<String, Hex>) -> Vec<Choice> {
        let mut choices = Vec::new();
        for group in Group::all() {
            let own = group.value(|register| Some(registers.get(register.name)?.0));
            let Some(own) = own else { continue };
            let accepted = self.accepted(group, own);
            if accepted.len() > 1 {
                choices.push(Choice {
                    fields: group.names().to_vec(),
                    accepted,
                });
            }
        }
        choices
    }

    /// Returns mostly all of the small values.
    fn accepted(&mut self, group: &Group, own: Vec<u64>) -> BTreeSet<Vec<u64>> {
        let mut accepted = BTreeSet::from([own]);
        let all = self.below(8) != 0;
        for (a, b) in (0..3).flat_map(|a| (0..3).map(move |b| (a, b))) {
            let parts = group.parts().zip([a, b]);
            let value = parts.map(|((_, field), value)| value.min((1 << field.width) - 1));
            if all || self.below(3) == 0 {
                accepted.insert(value.collect());
            }
        }
        accepted
    }

    /// Returns some features, of which one shows in a register.
    fn features(
        &mut self,
        registers: &BTreeMap<String, Hex>,
    ) -> BTreeMap<String, BTreeMap<String, Hex>> {
        let some = FEATURES.into_iter().filter(|_| self.below(4) != 0);
        let mut features: BTreeMap<_, _> = some
            .map(|feature| (feature.to_string(), BTreeMap::new()))
            .collect();
        if let Some(feature) = features.get_mut("ptrauth") {
            let register = registers::named("ID_AA64ISAR1_EL1").unwrap();
            let own = registers[register.name].0;
            let without = register.field("API").unwrap().with(own, 0);
            let without = register.field("APA").unwrap().with(without, 0);
            feature.insert(register.name.into(), Hex(without));
        }
        features
    }
}

/// Creates a host in which few things differ from other hosts, so that many fleets have a CPU.
fn host(name: &str, random: &mut Random) -> Host {
    let registers = random.registers();
    Host {
        name: name.into(),
        kernel: "7.3.4".into(),
        choices: random.choices(&registers),
        features: random.features(&registers),
        registers,
        implementation: Some(Implementation {
            midr_el1: Hex(0x410f_d400 | random.below(2)),
            writable: true,
            ..Implementation::default()
        }),
        ..Host::default()
    }
}

fn fleet(hosts: &[Host]) -> Fleet {
    Fleet {
        format: FORMAT,
        hosts: hosts.to_vec(),
    }
}

fn join(files: &[Fleet]) -> Fleet {
    let files = files.iter().cloned().map(|one| ("file".into(), one));
    Fleet::join(files.collect()).unwrap()
}

fn merged(fleet: &Fleet) -> Result<Baseline, Vec<String>> {
    merge::merge(fleet, Policy::default())
}

/// Returns a host with few values: what it has, and what it accepts.
fn small(name: &str, registers: &[(&str, u64)], choices: &[(&[&str], &[&[u64]])]) -> Host {
    let choices = choices.iter().map(|(fields, accepted)| Choice {
        fields: fields.iter().map(|field| field.to_string()).collect(),
        accepted: accepted.iter().map(|value| value.to_vec()).collect(),
    });
    Host {
        name: name.into(),
        registers: registers
            .iter()
            .map(|(name, value)| (name.to_string(), Hex(*value)))
            .collect(),
        choices: choices.collect(),
        ..Host::default()
    }
}

// SPDX-License-Identifier: GPL-2.0

//! What hosts must have in common that is not in fields of ID registers, and what the user has to
//! know.

use std::collections::BTreeSet;

use super::{Merge, Policy, Row};
use crate::{
    errata::{self, Says},
    host::{Hex, Host, Implementation},
};

impl<'a> Merge<'a> {
    /// Notes that the description of caches differs, which only kvm.baseline= makes equal.
    pub(super) fn caches(&mut self) {
        let clidr = self.by_value(|host| host.facts.clidr_el1);
        let ccsidr = self.by_value(|host| {
            let sizes = &host.facts.ccsidr_el1;
            (!sizes.is_empty()).then(|| sizes.clone())
        });
        if clidr.len() < 2 && ccsidr.len() < 2 {
            return;
        }
        let old = self.names(|host| !host.baseline);
        if !old.is_empty() {
            self.notes.push(format!(
                "CLIDR_EL1 or CCSIDR_EL1 differ: a VMM has to set them, since {} has no \
                 kvm.baseline=",
                old.join(", ")
            ));
        }
    }

    /// Chooses who made the CPU.
    pub(super) fn implementation(&mut self, policy: Policy) -> Option<Implementation> {
        let known: Vec<_> = self
            .hosts
            .iter()
            .filter_map(|host| Some((host, host.implementation?)))
            .collect();
        if known.len() < self.hosts.len() {
            self.notes
                .push("MIDR_EL1 is not known of all hosts: run check on them".into());
        }
        let key = |one: &Implementation| (one.midr_el1, one.revidr_el1, one.aidr_el1);
        let (_, first) = known.first()?;
        if known.iter().all(|(_, other)| key(other) == key(first)) {
            // A host that joins has to have it, too.
            return (known.len() == self.hosts.len()).then_some(*first);
        }
        let dic = self.chosen("CTR_EL0", "DIC") != Some(0);
        let cpu = |one: &Implementation| (one.midr_el1.0, one.revidr_el1.0);
        let missed = |told: &Implementation| -> BTreeSet<String> {
            let real = known.iter().map(|(_, real)| cpu(real));
            real.flat_map(|real| errata::missed(real, cpu(told), dic, |what| self.says(what)))
                .collect()
        };
        let cannot = |told: &Implementation| -> Vec<&str> {
            let hosts = known
                .iter()
                .filter(|(host, own)| !host.baseline && !own.writable && key(own) != key(told));
            hosts.map(|(host, _)| host.name.as_str()).collect()
        };
        // The greatest of those that miss the least: any order will do, as long as it is one.
        let (_, chosen) = known.iter().min_by_key(|(_, one)| {
            (
                cannot(one).len(),
                missed(one).len(),
                std::cmp::Reverse(key(one)),
            )
        })?;
        let chosen = *chosen;
        let cannot = cannot(&chosen);
        let missed = missed(&chosen);
        if !missed.is_empty() {
            let what = format!(
                "MIDR_EL1: a guest that is told {} misses {}",
                spell_implementation(&chosen),
                missed.into_iter().collect::<Vec<_>>().join(", ")
            );
            if policy.accept_errata {
                self.notes.push(what);
            } else {
                self.reasons
                    .push(format!("{what} (--accept-errata if that does not matter)"));
            }
        }
        if !cannot.is_empty() {
            self.reasons.push(format!(
                "MIDR_EL1: the hosts differ, and the kernel of {} cannot give another one to a VM",
                cannot.join(" and ")
            ));
        }
        self.rows.push(Row {
            field: "MIDR_EL1, REVIDR_EL1 and AIDR_EL1".into(),
            chosen: spell_implementation(&chosen),
            values: self
                .hosts
                .iter()
                .map(|host| host.implementation.as_ref().map(spell_implementation))
                .map(Option::unwrap_or_default)
                .collect(),
            limiting: Vec::new(),
        });
        Some(Implementation {
            writable: true,
            ..chosen
        })
    }

    /// Returns whether the VM's ID registers say what the kernel otherwise takes from the model.
    fn says(&self, what: Says) -> bool {
        let least = |register, field, least| {
            self.chosen(register, field)
                .is_some_and(|value| value >= least)
        };
        match what {
            Says::Csv3 => least("ID_AA64PFR0_EL1", "CSV3", 1),
            Says::Csv2 => least("ID_AA64PFR0_EL1", "CSV2", 1),
            Says::Csv2OrEcbhb => {
                least("ID_AA64PFR0_EL1", "CSV2", 3) || least("ID_AA64MMFR1_EL1", "ECBHB", 1)
            }
            Says::Bbm => least("ID_AA64MMFR2_EL1", "BBM", 3),
            Says::Nothing => false,
        }
    }

    /// Returns what all hosts must have in common, or adds a reason.
    pub(super) fn same(&mut self, what: &str, of: impl Fn(&Host) -> Option<u64>) -> Option<u64> {
        let found = self.by_value(of);
        if found.len() > 1 {
            let values = found
                .iter()
                .map(|(value, names)| format!("{} has {value}", names.join(" and ")));
            let values = values.collect::<Vec<_>>().join(", ");
            self.reasons
                .push(format!("{what} cannot be changed for a VM: {values}"));
        }
        found.into_keys().next()
    }

    pub(super) fn sve_length(&mut self) -> Option<u32> {
        if self.without.contains(&"sve") {
            return None;
        }
        let lengths = self.hosts.iter().map(|host| &host.facts.sve_lengths);
        let lengths: BTreeSet<_> = lengths.filter(|list| !list.is_empty()).collect();
        if lengths.len() < 2 {
            return lengths.first()?.iter().max().copied();
        }
        // All lengths up to the longest must be those of every host: a gap cannot be hidden.
        let upto = |list: &[u32], limit: u32| {
            let fits = list.iter().filter(|length| **length <= limit);
            fits.copied().collect::<BTreeSet<u32>>()
        };
        let any = lengths.first()?.iter();
        let common = any.copied().filter(|limit| {
            let sets: BTreeSet<_> = lengths.iter().map(|list| upto(list, *limit)).collect();
            sets.len() == 1 && sets.iter().all(|set| set.contains(limit))
        });
        let longest = common.max();
        if longest.is_none() {
            self.unlike = Some("sve");
        }
        let spelled = |list: &[u32]| list.iter().max().map_or("none".into(), u32::to_string);
        let most = self
            .hosts
            .iter()
            .flat_map(|host| &host.facts.sve_lengths)
            .max();
        self.rows.push(Row {
            field: "SVE vector length, in bits".into(),
            chosen: longest.map_or("none".into(), |length| length.to_string()),
            values: self
                .hosts
                .iter()
                .map(|host| spelled(&host.facts.sve_lengths))
                .collect(),
            limiting: (0..self.hosts.len())
                .filter(|i| self.hosts[*i].facts.sve_lengths.iter().max() != most)
                .collect(),
        });
        longest
    }

    pub(super) fn pmu_counters(&mut self) -> Option<u32> {
        if self.without.contains(&"pmu") {
            return None;
        }
        let counters: Vec<_> = self
            .hosts
            .iter()
            .map(|host| host.facts.pmu_counters)
            .collect();
        let least = counters.iter().flatten().min().copied()?;
        let most = counters.iter().flatten().max().copied()?;
        if least == most {
            return Some(least);
        }
        self.rows.push(Row {
            field: "PMCR_EL0.N".into(),
            chosen: least.to_string(),
            values: counters
                .iter()
                .map(|count| count.map_or(String::new(), |count| count.to_string()))
                .collect(),
            limiting: (0..counters.len())
                .filter(|i| counters[*i].is_some_and(|count| count < most))
                .collect(),
        });
        Some(least)
    }

    pub(super) fn no_el2(&self) -> bool {
        let offers = |host: &Host| host.capabilities.get("ARM_EL2").is_some_and(|one| *one > 0);
        let some = self.hosts.iter().any(offers);
        some && !self.hosts.iter().all(offers)
    }

    /// Notes what else differs.
    pub(super) fn other_facts(&mut self) {
        for feature in &self.without {
            let lacks = |host: &Host| host.lacks(feature);
            let limiting: Vec<_> = (0..self.hosts.len())
                .filter(|i| lacks(&self.hosts[*i]))
                .collect();
            if limiting.len() < self.hosts.len() {
                let values = self.hosts.iter().map(|host| match lacks(host) {
                    true => "no".into(),
                    // Of pointer authentication, or of vector lengths.
                    false if limiting.is_empty() => "another kind".into(),
                    false => "yes".into(),
                });
                self.rows.push(Row {
                    field: (*feature).into(),
                    chosen: "off".into(),
                    values: values.collect(),
                    limiting,
                });
            }
        }
        self.unknown("CNTFRQ_EL0", |host| host.facts.cntfrq_el0.is_some());
        self.unknown("DCZID_EL0", |host| host.facts.dczid_el0.is_some());
        if !self.without.contains(&"sve") {
            self.unknown("SVE vector lengths", |host| {
                !host.facts.sve_lengths.is_empty()
            });
        }
        if !self.without.contains(&"pmu") {
            self.unknown("event counters", |host| host.facts.pmu_counters.is_some());
        }
        self.note("the size of guests' physical addresses, in bits", |host| {
            Some(host.facts.ipa_bits?.to_string())
        });
        self.note("the versions of interrupt controllers", |host| {
            (!host.facts.gic.is_empty()).then(|| format!("{:?}", host.facts.gic))
        });
        self.note("the size of pages, in KiB", |host| {
            Some(host.facts.page_size?.to_string())
        });
        self.note("the kernel", |host| Some(host.kernel.clone()));
        let names: BTreeSet<_> = self
            .hosts
            .iter()
            .flat_map(|host| host.capabilities.keys())
            .collect();
        for name in names {
            self.note(&format!("the capability {name}"), |host| {
                Some(host.capabilities.get(name)?.to_string())
            });
        }
        let derived = self.names(|host| host.derived_from.is_some());
        if !derived.is_empty() {
            self.notes.push(format!(
                "{} {} not been asked, what KVM accepts there is derived: run check",
                derived.join(", "),
                if derived.len() == 1 { "has" } else { "have" }
            ));
        }
        let trapped = self.differing("CTR_EL0");
        if !trapped.is_empty() {
            self.notes.push(format!(
                "CTR_EL0: on {} each read of it by a guest is trapped",
                trapped.join(", ")
            ));
        }
    }

    /// Returns the names of the hosts whose own value of a register is not the chosen one.
    pub(super) fn differing(&self, register: &str) -> Vec<&'a str> {
        let Some((value, mask)) = self.values.get(register) else {
            return Vec::new();
        };
        self.names(|host| {
            let own = host.registers.get(register);
            own.is_some_and(|own| own.0 & mask != *value)
        })
    }

    /// Notes that not all hosts say something.
    pub(super) fn unknown(&mut self, what: &str, is_known: impl Fn(&Host) -> bool) {
        let names = self.names(|host| !is_known(host));
        let note = format!("{what}: not known of {}", names.join(", "));
        if !names.is_empty() && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Notes what hosts have, if that is not the same.
    fn note(&mut self, what: &str, of: impl Fn(&Host) -> Option<String>) {
        let found = self.by_value(of);
        if found.len() > 1 {
            let values = found
                .iter()
                .map(|(value, names)| format!("{value} ({})", names.join(", ")));
            let values = values.collect::<Vec<_>>().join(", ");
            self.notes.push(format!("{what} differs: {values}"));
        }
    }
}

fn spell_implementation(one: &Implementation) -> String {
    let Hex(midr) = one.midr_el1;
    match errata::model(midr) {
        Some(model) => format!("{model} r{}p{}", midr >> 20 & 0xf, midr & 0xf),
        None => one.midr_el1.to_string(),
    }
}

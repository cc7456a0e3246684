// SPDX-License-Identifier: GPL-2.0

//! Properties outside of ID registers that hosts must have in common, and notes for the user.

use std::collections::BTreeSet;

use super::{Merge, Row};
use crate::host::Host;

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

    /// Chooses the longest vector, in bits.
    pub(super) fn sve_length(&mut self) -> Option<u32> {
        if self.without.contains(&"sve") {
            return None;
        }
        let lengths = self.hosts.iter().map(|host| &host.facts.sve_lengths);
        let lengths: BTreeSet<_> = lengths.filter(|list| !list.is_empty()).collect();
        if lengths.len() < 2 {
            return lengths.first()?.iter().max().copied();
        }
        let longest = common_length(&lengths);
        if longest.is_none() {
            self.unlike = Some("sve");
        }
        self.rows.push(self.sve_row(longest));
        longest
    }

    fn sve_row(&self, longest: Option<u32>) -> Row {
        let own = self.hosts.iter();
        let own = own.map(|host| host.facts.sve_lengths.iter().max().copied());
        let own: Vec<_> = own.collect();
        let spelled = |length: &Option<u32>| length.map_or("none".into(), |one| one.to_string());
        let most = own.iter().max().copied().flatten();
        Row {
            field: "SVE vector length, in bits".into(),
            chosen: spelled(&longest),
            values: own.iter().map(spelled).collect(),
            limiting: (0..own.len()).filter(|i| own[*i] != most).collect(),
        }
    }

    /// Chooses the number of event counters.
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

    /// Returns whether some hosts can give EL2 to VMs, and others cannot.
    pub(super) fn no_el2(&self) -> bool {
        let offers = |host: &Host| host.capabilities.get("ARM_EL2").is_some_and(|one| *one > 0);
        let some = self.hosts.iter().any(offers);
        some && !self.hosts.iter().all(offers)
    }

    /// Notes what else differs.
    pub(super) fn other_facts(&mut self) {
        let features = self.without.iter();
        let rows: Vec<_> = features.filter_map(|one| self.feature_row(one)).collect();
        self.rows.extend(rows);
        self.note_unknown();
        self.note_differing();
        self.note_derived();
        self.note_trapped();
        self.note_workarounds();
    }

    /// Returns the row of a feature that no VM has, if some host has it.
    fn feature_row(&self, feature: &str) -> Option<Row> {
        let lacks: Vec<_> = self.hosts.iter().map(|host| host.lacks(feature)).collect();
        let limiting: Vec<_> = (0..lacks.len()).filter(|i| lacks[*i]).collect();
        let values = lacks.iter().map(|lacks| match lacks {
            true => "no".into(),
            // Of pointer authentication, or of vector lengths.
            false if limiting.is_empty() => "another kind".into(),
            false => "yes".into(),
        });
        (limiting.len() < lacks.len()).then(|| Row {
            field: feature.into(),
            chosen: "off".into(),
            values: values.collect(),
            limiting: limiting.clone(),
        })
    }

    /// Notes facts that are not known of all hosts.
    fn note_unknown(&mut self) {
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
    }

    /// Notes differences between hosts that do not affect the choice.
    fn note_differing(&mut self) {
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
        let hosts = self.hosts.iter();
        let names: BTreeSet<_> = hosts.flat_map(|host| host.capabilities.keys()).collect();
        for name in names {
            self.note(&format!("the capability {name}"), |host| {
                Some(host.capabilities.get(name)?.to_string())
            });
        }
    }

    /// Notes which hosts have not been asked.
    fn note_derived(&mut self) {
        let derived = self.names(|host| host.derived_from.is_some());
        if !derived.is_empty() {
            self.notes.push(format!(
                "{} {} not been asked, what KVM accepts there is derived: run check",
                derived.join(", "),
                if derived.len() == 1 { "has" } else { "have" }
            ));
        }
    }

    /// Notes on which hosts CTR_EL0 is trapped.
    fn note_trapped(&mut self) {
        let trapped = self.differing("CTR_EL0");
        if !trapped.is_empty() {
            self.notes.push(format!(
                "CTR_EL0: on {} each read of it by a guest is trapped",
                trapped.join(", ")
            ));
        }
    }

    /// Notes which hosts have workarounds in firmware that guests are not told of.
    fn note_workarounds(&mut self) {
        for register in ["smccc_wa1", "smccc_wa2", "smccc_wa3"] {
            let unused = self.differing(register);
            if !unused.is_empty() {
                self.notes.push(format!(
                    "{register}: guests on {} do not use the firmware's mitigation",
                    unused.join(", ")
                ));
            }
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

    /// Notes the hosts of which a fact is not known.
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

/// Returns the longest vector up to which all lists are the same: a gap cannot be hidden.
fn common_length(lengths: &BTreeSet<&Vec<u32>>) -> Option<u32> {
    let upto = |list: &[u32], limit: u32| {
        let fits = list.iter().filter(|length| **length <= limit);
        fits.copied().collect::<BTreeSet<u32>>()
    };
    let any = lengths.first()?.iter();
    let common = any.copied().filter(|limit| {
        let sets: BTreeSet<_> = lengths.iter().map(|list| upto(list, *limit)).collect();
        sets.len() == 1 && sets.iter().all(|set| set.contains(limit))
    });
    common.max()
}

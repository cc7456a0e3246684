// SPDX-License-Identifier: GPL-2.0

//! Chooses the registers that identify the CPU, by which guests choose workarounds for errata.

use std::{cmp::Reverse, collections::BTreeSet};

use super::{Merge, Policy, Row};
use crate::{
    errata::{self, Says},
    host::{Hex, Implementation},
};

impl<'a> Merge<'a> {
    /// Chooses who made the CPU.
    pub(super) fn implementation(&mut self, policy: Policy) -> Option<Implementation> {
        let hosts = self.hosts.iter();
        let known: Vec<_> = hosts.filter_map(|host| host.implementation).collect();
        if known.len() < self.hosts.len() {
            self.notes
                .push("MIDR_EL1 is not known of all hosts: run check on them".into());
        }
        let first = known.first()?;
        if known.iter().all(|other| key(other) == key(first)) {
            // A host that joins has to have it, too.
            return (known.len() == self.hosts.len()).then_some(*first);
        }
        // The greatest of those that miss the least: any order will do, as long as it is one.
        let chosen = *known.iter().min_by_key(|one| {
            let cannot = self.cannot_give(one).len();
            (cannot, self.missed(one).len(), Reverse(key(one)))
        })?;
        if !policy.plain {
            self.report_errata(&chosen, policy);
            self.report_kernels(&chosen);
        }
        self.rows.push(self.implementation_row(&chosen));
        Some(Implementation {
            writable: true,
            ..chosen
        })
    }

    /// Returns what a guest that is told this does wrong on some host.
    fn missed(&self, told: &Implementation) -> BTreeSet<String> {
        let dic = self.chosen("CTR_EL0", "DIC") != Some(0);
        let cpu = |one: &Implementation| (one.midr_el1.0, one.revidr_el1.0);
        let known = self.hosts.iter().filter_map(|host| host.implementation);
        known
            .flat_map(|real| errata::missed(cpu(&real), cpu(told), dic, |what| self.says(what)))
            .collect()
    }

    /// Returns the names of the hosts that cannot tell this to guests.
    fn cannot_give(&self, told: &Implementation) -> Vec<&'a str> {
        self.names(|host| {
            let own = host.implementation.as_ref();
            !host.baseline && own.is_some_and(|own| !own.writable && key(own) != key(told))
        })
    }

    /// Adds a note or a reason, if guests miss something.
    fn report_errata(&mut self, chosen: &Implementation, policy: Policy) {
        let missed = Vec::from_iter(self.missed(chosen));
        if missed.is_empty() {
            return;
        }
        let what = format!(
            "MIDR_EL1: a guest that is told {} misses {}",
            spell(chosen),
            missed.join(", ")
        );
        if policy.accept_errata {
            self.notes.push(what);
        } else {
            self.reasons
                .push(format!("{what} (--accept-errata if that does not matter)"));
        }
    }

    /// Adds a reason, if kernels cannot give it to VMs.
    fn report_kernels(&mut self, chosen: &Implementation) {
        let cannot = self.cannot_give(chosen);
        if !cannot.is_empty() {
            self.reasons.push(format!(
                "MIDR_EL1: the hosts differ, and the kernel of {} cannot give another one to a VM",
                cannot.join(" and ")
            ));
        }
    }

    fn implementation_row(&self, chosen: &Implementation) -> Row {
        let known = self.hosts.iter().map(|host| host.implementation.as_ref());
        let values = known.map(|one| one.map(spell).unwrap_or_default());
        Row {
            field: "MIDR_EL1, REVIDR_EL1 and AIDR_EL1".into(),
            chosen: spell(chosen),
            values: values.collect(),
            limiting: Vec::new(),
        }
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
}

/// Returns what guests see of it.
fn key(one: &Implementation) -> (Hex, Hex, Hex) {
    (one.midr_el1, one.revidr_el1, one.aidr_el1)
}

fn spell(one: &Implementation) -> String {
    let Hex(midr) = one.midr_el1;
    match errata::model(midr) {
        Some(model) => format!("{model} r{}p{}", midr >> 20 & 0xf, midr & 0xf),
        None => one.midr_el1.to_string(),
    }
}

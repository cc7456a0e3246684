// SPDX-License-Identifier: GPL-2.0

//! Finds the CPU that all hosts can give to a VM.
//!
//! A field gets the default of a host which all others accept, so that as little as possible has to
//! be set; only if there is none, the best value that all accept. The result is a function of the
//! set of hosts, which a merged file keeps: so it does not matter in which order they are merged.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    host::{Fleet, Group, Host, Implementation, FEATURES},
    registers::{self, Field, Register, OF_DEVICES},
};

mod facts;
mod implementation;

/// What the user has decided.
#[derive(Clone, Copy, Debug, Default)]
pub struct Policy {
    /// Another MIDR_EL1 may be given, though guests then miss workarounds.
    pub accept_errata: bool,
    /// The VM has none of the features, as Firecracker's have by default.
    pub plain: bool,
}

/// The CPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Values of ID registers, and the bits for which they hold, in the order of encodings.
    pub registers: Vec<Set>,
    pub firmware: Vec<Set>,
    /// Features that not all hosts have.
    pub without: Vec<&'static str>,
    /// Whether some hosts can give EL2 to VMs, and others cannot.
    pub no_el2: bool,
    /// The longest vector, in bits, if the VM has any.
    pub sve_length: Option<u32>,
    /// Event counters, if the VM has any.
    pub pmu_counters: Option<u32>,
    /// The registers that identify the CPU, if known of all hosts, or if they differ.
    pub implementation: Option<Implementation>,
    /// What all hosts have in common, and what a host must have that joins.
    pub cntfrq_el0: Option<u64>,
    pub dczid_el0: Option<u64>,
    /// What some hosts have to give up.
    pub rows: Vec<Row>,
    /// What the user has to know.
    pub notes: Vec<String>,
}

/// A register of the baseline.
#[derive(Clone, Debug, PartialEq)]
pub struct Set {
    pub register: &'static str,
    pub value: u64,
    pub mask: u64,
}

/// A field in which hosts differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub field: String,
    pub chosen: String,
    /// What each host has by default, in the order of the hosts.
    pub values: Vec<String>,
    /// The hosts because of which others give up something.
    pub limiting: Vec<usize>,
}

/// The reasons why there is no common CPU, one per line.
pub type Reasons = Vec<String>;

/// Finds the CPU. Returns all reasons if there is none.
pub fn merge(fleet: &Fleet, policy: Policy) -> Result<Baseline, Reasons> {
    let hosts = &fleet.hosts;
    let lacks = |feature: &str| hosts.iter().any(|host| host.lacks(feature));
    let mut without: Vec<_> = FEATURES
        .into_iter()
        .filter(|feature| policy.plain || lacks(feature))
        .collect();
    loop {
        let mut merge = Merge::new(hosts, without.clone());
        let found = merge.all(policy);
        let Some(feature) = merge.unlike else {
            return found;
        };
        // Without it, the hosts may have a common CPU.
        without.push(feature);
        without.sort_unstable();
    }
}

/// What a host says of a group.
struct Answer {
    host: usize,
    /// What it has by default.
    own: Vec<u64>,
    accepted: BTreeSet<Vec<u64>>,
}

struct Merge<'a> {
    hosts: &'a [Host],
    without: Vec<&'static str>,
    /// A feature of which the hosts have no kind in common.
    unlike: Option<&'static str>,
    values: BTreeMap<&'static str, (u64, u64)>,
    rows: Vec<Row>,
    notes: Vec<String>,
    reasons: Reasons,
}

impl<'a> Merge<'a> {
    fn new(hosts: &'a [Host], without: Vec<&'static str>) -> Self {
        Self {
            hosts,
            without,
            unlike: None,
            values: BTreeMap::new(),
            rows: Vec::new(),
            notes: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Finds everything.
    fn all(&mut self, policy: Policy) -> Result<Baseline, Reasons> {
        self.fields();
        self.unknown_bits();
        self.caches();
        let implementation = self.implementation(policy);
        let clock = "the frequency of the timers, CNTFRQ_EL0,";
        let cntfrq_el0 = self.same(clock, |host| host.facts.cntfrq_el0);
        let dczid_el0 = self.same("DCZID_EL0", |host| host.facts.dczid_el0.map(|hex| hex.0));
        let sve_length = self.sve_length();
        let pmu_counters = self.pmu_counters();
        self.other_facts();

        if !self.reasons.is_empty() {
            return Err(std::mem::take(&mut self.reasons));
        }
        Ok(Baseline {
            registers: self.sets(false),
            firmware: self.sets(true),
            without: self.without.clone(),
            no_el2: self.no_el2(),
            sve_length,
            pmu_counters,
            implementation,
            cntfrq_el0,
            dczid_el0,
            rows: std::mem::take(&mut self.rows),
            notes: std::mem::take(&mut self.notes),
        })
    }

    /// Chooses the values of fields, and of those for AArch32 if the VM has that.
    fn fields(&mut self) {
        let of_32 = |group: &Group| group.parts().any(|(register, _)| register.is_aarch32());
        let groups = Group::all();
        for group in groups.iter().filter(|group| !of_32(group)) {
            self.choose(group);
        }
        if self.has_aarch32() {
            for group in groups.iter().filter(|group| of_32(group)) {
                self.choose(group);
            }
        }
    }

    /// Returns the names of some hosts.
    fn names(&self, which: impl Fn(&Host) -> bool) -> Vec<&'a str> {
        let hosts = self.hosts.iter().filter(|host| which(host));
        hosts.map(|host| host.name.as_str()).collect()
    }

    /// Returns the names of the hosts that have each value.
    fn by_value<T: Ord>(&self, of: impl Fn(&Host) -> Option<T>) -> BTreeMap<T, Vec<&'a str>> {
        let mut found: BTreeMap<T, Vec<&str>> = BTreeMap::new();
        for host in self.hosts {
            if let Some(value) = of(host) {
                found.entry(value).or_default().push(&host.name);
            }
        }
        found
    }

    /// Returns the feature that a group describes.
    fn feature(&self, group: &Group) -> Option<&'static str> {
        let depends = |feature: &&str| {
            let mut hosts = self.hosts.iter();
            hosts.any(|host| {
                let with = group.value(|register| host.register(register, &[]));
                with != group.value(|register| host.register(register, &[feature]))
            })
        };
        let mut features = FEATURES.into_iter();
        features.find(|feature| !self.without.contains(feature) && depends(feature))
    }

    /// Returns what the hosts say of a group. Not every kernel has each pseudo register, nor a dump
    /// each register.
    fn answers(&self, group: &Group) -> Vec<Answer> {
        let hosts = self.hosts.iter().enumerate();
        let answers = hosts.filter_map(|(i, host)| {
            Some(Answer {
                host: i,
                own: group.value(|register| host.register(register, &self.without))?,
                accepted: host.accepted(group, &self.without),
            })
        });
        answers.collect()
    }

    /// Chooses the value of a group of fields.
    fn choose(&mut self, group: &Group) {
        let answers = self.answers(group);
        if answers.is_empty() {
            return;
        }
        self.unknown_registers(group, &answers);
        let Some(chosen) = best(group, &answers) else {
            self.unlike = self.unlike.or_else(|| self.feature(group));
            let fields = group.names().join(" with ");
            let what = self.disjoint(group);
            self.reasons.push(format!("{fields}: {what}"));
            return;
        };
        let of_device = |(register, field): (&Register, &Field)| {
            OF_DEVICES.contains(&(register.name, field.name))
        };
        if group.parts().any(of_device) {
            return;
        }
        self.row(group, &answers, &chosen);
        for ((register, field), value) in group.parts().zip(&chosen) {
            let set = self.values.entry(register.name).or_default();
            set.0 = field.with(set.0, *value);
            set.1 |= field.mask();
        }
    }

    /// Notes which hosts do not know a group, unless the others have nothing there: a register that
    /// a kernel does not know is 0.
    fn unknown_registers(&mut self, group: &Group, answers: &[Answer]) {
        let mut parts = answers.iter().flat_map(|one| &one.own);
        if answers.len() == self.hosts.len() || parts.all(|part| *part == 0) {
            return;
        }
        let registers: BTreeSet<_> = group.parts().map(|(one, _)| one.name).collect();
        for register in registers {
            self.unknown(register, |host| host.registers.contains_key(register));
        }
    }

    /// Describes accepted values that have nothing in common.
    fn disjoint(&self, group: &Group) -> String {
        let by_values = self.by_value(|host| {
            let values = host.accepted(group, &self.without);
            (!values.is_empty()).then_some(values)
        });
        let spelled = by_values.iter().map(|(values, names)| {
            let values: Vec<_> = values.iter().map(|value| group.spell(value)).collect();
            format!("{} can have {}", names.join(" and "), values.join(" or "))
        });
        spelled.collect::<Vec<_>>().join(", ")
    }

    /// Adds a row, if the hosts differ.
    fn row(&mut self, group: &Group, answers: &[Answer], chosen: &Vec<u64>) {
        if answers.iter().all(|one| one.own == *chosen) {
            return;
        }
        let mut values = vec![String::new(); self.hosts.len()];
        for answer in answers {
            values[answer.host] = group.spell(&answer.own);
        }
        let refuses = |answer: &&Answer| {
            let mut all = answers.iter();
            all.any(|other| !answer.accepted.contains(&other.own))
        };
        let limiting = answers.iter().filter(refuses);
        self.rows.push(Row {
            field: group.names().join(" with "),
            chosen: group.spell(chosen),
            values,
            limiting: limiting.map(|answer| answer.host).collect(),
        });
    }

    /// Returns the value that the VM gets of a field.
    fn chosen(&self, register: &str, field: &str) -> Option<u64> {
        let field = registers::named(register)?.field(field)?;
        let (value, mask) = self.values.get(register)?;
        (mask & field.mask() != 0).then(|| field.of(*value))
    }

    /// Returns whether the VM has AArch32 at EL0. If it does not, though some hosts do, those hide
    /// the registers that describe it.
    fn has_aarch32(&mut self) -> bool {
        const EL0_ONLY_64: u64 = 1;
        if self.chosen("ID_AA64PFR0_EL1", "EL0") != Some(EL0_ONLY_64) {
            return true;
        }
        let el0 = registers::named("ID_AA64PFR0_EL1").map(|it| (it, it.field("EL0")));
        let describes = |host: &Host| {
            registers::all()
                .filter(|register| register.is_aarch32())
                .any(|register| host.register(register, &[]).is_some_and(|value| value != 0))
        };
        // Without AArch32 its ID registers are UNKNOWN: KVM may show something in them.
        let has = |host: &Host| {
            let own = el0.and_then(|(it, field)| Some(field?.of(host.register(it, &[])?)));
            own.map_or_else(|| describes(host), |own| own != EL0_ONLY_64)
        };
        let cannot = self.names(|host| has(host) && !host.baseline);
        let lacking = self.names(|host| !has(host));
        if !lacking.is_empty() && !cannot.is_empty() {
            self.reasons.push(format!(
                "AArch32: {} does not have it, and the kernel of {} cannot hide the ID registers \
                 that describe it (it has no kvm.baseline=)",
                lacking.join(" and "),
                cannot.join(" and ")
            ));
        }
        lacking.is_empty() && !cannot.is_empty()
    }

    /// Checks that bits which this program does not know are the same.
    fn unknown_bits(&mut self) {
        for register in registers::all() {
            let rest = |host: &Host| {
                let value = host.register(register, &self.without)?;
                Some(value & !register.mask())
            };
            if self.by_value(rest).len() > 1 {
                self.reasons.push(format!(
                    "{register}: bits that this program does not know differ: use a newer one"
                ));
            }
        }
    }

    fn sets(&self, pseudo: bool) -> Vec<Set> {
        registers::all()
            .filter(|register| register.is_pseudo() == pseudo)
            .filter(|register| self.values.contains_key(register.name))
            // Reads of it are trapped if it is another one.
            .filter(|register| {
                register.name != "CTR_EL0" || !self.differing(register.name).is_empty()
            })
            .map(|register| {
                let (value, mask) = self.values[register.name];
                Set {
                    register: register.name,
                    value,
                    mask,
                }
            })
            .collect()
    }
}

/// Returns the value that a group gets.
fn best(group: &Group, answers: &[Answer]) -> Option<Vec<u64>> {
    let (first, others) = answers.split_first()?;
    let others: Vec<_> = others.iter().map(|one| &one.accepted).collect();
    let common: Vec<_> = first
        .accepted
        .iter()
        .filter(|value| others.iter().all(|set| set.contains(*value)))
        .collect();
    // Exact values have no order of their own; any will do, as long as it is one.
    let key = |value: &&&Vec<u64>| (group.worth(value), (**value).clone());
    let is_default = |value: &&&Vec<u64>| answers.iter().any(|one| one.own == ***value);
    let defaults = common.iter().filter(is_default);
    let found = defaults.max_by_key(key);
    let found = found.or_else(|| common.iter().max_by_key(key))?;
    Some((*found).clone())
}

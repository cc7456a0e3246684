// SPDX-License-Identifier: GPL-2.0

//! The text of `kvm.baseline=`: what a VM gets, as `register=value/mask` and `key=value`, joined by
//! commas.

use std::fmt::Write as _;

use crate::{
    host::Fleet,
    merge::{Baseline, Set},
    registers::{self, Register, AIDR_EL1, MIDR_EL1, REVIDR_EL1},
    Error,
};

/// The longest text that the kernel takes, in bytes.
pub const LONGEST: usize = 4095;
/// The longest command line of the kernel (`COMMAND_LINE_SIZE`), for all parameters together.
pub const COMMAND_LINE: usize = 2048;

/// What a text says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Text {
    /// ID registers and pseudo registers.
    pub sets: Vec<Set>,
    /// The registers that the text names by their encodings: they are 0 on all hosts, so a kernel
    /// may not know their names.
    pub encoded: Vec<&'static str>,
    pub midr_el1: Option<u64>,
    pub revidr_el1: Option<u64>,
    pub aidr_el1: Option<u64>,
    pub cntfrq_el0: Option<u64>,
    pub dczid_el0: Option<u64>,
    /// Features that are off.
    pub off: Vec<String>,
    /// The longest vector, in bits.
    pub sve_length: Option<u32>,
    pub pmu_counters: Option<u32>,
}

impl Text {
    /// Returns what a baseline says: all fields that hosts have in common, or with `fewest` only
    /// those in which they differ.
    pub fn of(baseline: &Baseline, fleet: &Fleet, fewest: bool) -> Self {
        let counts = |set: &Set, mask| !fewest || differs(baseline, fleet, set, mask);
        let registers = baseline.registers.iter();
        let registers = registers.filter_map(|set| narrowed(set, |mask| counts(set, mask)));
        let firmware = baseline.firmware.iter();
        let firmware = firmware.filter(|set| counts(set, set.mask)).cloned();
        let sets: Vec<_> = registers.chain(firmware).collect();
        let names = sets.iter().map(|set| set.register);
        let mut known = fleet.hosts.iter().map(|host| host.implementation);
        let same = known.all(|one| one == fleet.hosts[0].implementation);
        let implementation = baseline.implementation.filter(|_| !fewest || !same);
        Self {
            encoded: names.filter(|name| is_unused(fleet, name)).collect(),
            sets,
            midr_el1: implementation.map(|one| one.midr_el1.0),
            revidr_el1: implementation.map(|one| one.revidr_el1.0),
            aidr_el1: implementation.map(|one| one.aidr_el1.0),
            cntfrq_el0: baseline.cntfrq_el0,
            dczid_el0: baseline.dczid_el0,
            off: off(baseline),
            sve_length: baseline.sve_length,
            pmu_counters: baseline.pmu_counters,
        }
    }

    /// Returns the text.
    pub fn write(&self) -> String {
        let mut words = Vec::new();
        for set in &self.sets {
            let name = set.register.to_lowercase();
            let register = registers::named(set.register).expect("the text has known ones");
            words.push(if register.is_pseudo() {
                format!("{name}={:#x}", set.value)
            } else if self.encoded.contains(&set.register) {
                format!("{}={:#x}/{:#x}", register.encoding(), set.value, set.mask)
            } else {
                format!("{name}={:#x}/{:#x}", set.value, set.mask)
            });
        }
        for (key, value) in [
            ("midr_el1", self.midr_el1),
            ("revidr_el1", self.revidr_el1),
            ("aidr_el1", self.aidr_el1),
            ("dczid_el0", self.dczid_el0),
        ] {
            words.extend(value.map(|value| format!("{key}={value:#x}")));
        }
        let number = |key: &str, value: Option<u64>| value.map(|value| format!("{key}={value}"));
        words.extend(number("cntfrq_el0", self.cntfrq_el0));
        words.extend(number("pmcr_el0.n", self.pmu_counters.map(u64::from)));
        words.extend(number("sve", self.sve_length.map(u64::from)));
        words.extend(self.off.iter().map(|feature| format!("{feature}=off")));
        words.join(",")
    }

    /// Reads a text. `path` is for messages.
    pub fn parse(path: &str, text: &str) -> Result<Self, Error> {
        let mut found = Self::default();
        let mut seen = Vec::new();
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(Error(format!(
                "{path}: longer than {LONGEST} bytes, which is the most that the kernel takes"
            )));
        }
        for word in text.split(',') {
            let wrong = |what: &str| Error(format!("{path}: {word:?}: {what}"));
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| wrong("not like register=value/mask or key=value"))?;
            if seen.contains(&key) {
                return Err(wrong("given twice"));
            }
            seen.push(key);
            found.take(key, value).map_err(|what| wrong(&what))?;
        }
        found.off.sort_unstable();
        Ok(found)
    }

    /// Takes one word. Fails with what is wrong with it.
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let parsed = |text: &str| number(text).ok_or(format!("{text:?} is not a number"));
        let (value, mask) = match value.split_once('/') {
            Some((value, mask)) => (value, Some(parsed(mask)?)),
            None => (value, None),
        };
        let without_mask = mask.map_or(Ok(()), |_| Err("it takes no mask".into()));
        if value == "off" {
            return without_mask.and_then(|()| self.take_off(key));
        }
        let value = parsed(value)?;
        match self.take_number(key, value)? {
            true => without_mask,
            false => self.take_register(key, value, mask),
        }
    }

    /// Takes a feature that is off.
    fn take_off(&mut self, key: &str) -> Result<(), String> {
        if !["sve", "ptrauth", "pmu", "el2"].contains(&key) {
            return Err("cannot be off".into());
        }
        self.off.push(key.into());
        Ok(())
    }

    /// Takes the value of a key that has no mask. Returns whether the key is one of these.
    fn take_number(&mut self, key: &str, value: u64) -> Result<bool, String> {
        let short = || u32::try_from(value).map_err(|_| "too large".to_string());
        match key {
            "midr_el1" => self.midr_el1 = Some(value),
            "revidr_el1" => self.revidr_el1 = Some(value),
            "aidr_el1" => self.aidr_el1 = Some(value),
            "cntfrq_el0" => self.cntfrq_el0 = Some(value),
            "dczid_el0" => self.dczid_el0 = Some(value),
            "sve" => self.sve_length = Some(short()?),
            "pmcr_el0.n" => self.pmu_counters = Some(short()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Takes the value of a register, and the bits for which it holds.
    fn take_register(&mut self, key: &str, value: u64, mask: Option<u64>) -> Result<(), String> {
        let is_it = |one: &&Register| {
            one.name.to_lowercase() == key || !one.is_pseudo() && one.encoding() == key
        };
        let register = registers::all().find(is_it);
        let register = register.ok_or("there is no such register or key")?;
        if self.sets.iter().any(|set| set.register == register.name) {
            return Err("given twice".into());
        }
        if register.name.to_lowercase() != key {
            self.encoded.push(register.name);
        }
        let whole = register.is_pseudo().then(|| register.mask());
        let mask = mask.or(whole).unwrap_or(0);
        if mask == 0 {
            return Err("it has no mask".into());
        }
        if value & !mask != 0 {
            return Err("the value has bits outside the mask".into());
        }
        self.sets.push(Set {
            register: register.name,
            value,
            mask,
        });
        Ok(())
    }

    /// Returns the registers that identify the CPU: their names, KVM's identifiers, and the values.
    pub fn who(&self) -> [(&'static str, u64, Option<u64>); 3] {
        [
            ("MIDR_EL1", MIDR_EL1, self.midr_el1),
            ("REVIDR_EL1", REVIDR_EL1, self.revidr_el1),
            ("AIDR_EL1", AIDR_EL1, self.aidr_el1),
        ]
    }

    /// Returns the SHA-256 of the text, by which hosts with the same one are known.
    pub fn digest(&self) -> String {
        use sha2::Digest;

        let sum = sha2::Sha256::digest(self.write());
        sum.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes it");
            text
        })
    }
}

/// Returns whether the value of a host differs from `set` in the bits of `mask`.
fn differs(baseline: &Baseline, fleet: &Fleet, set: &Set, mask: u64) -> bool {
    let register = registers::named(set.register);
    fleet.hosts.iter().any(|host| {
        let own = register.and_then(|one| host.register(one, &baseline.without));
        own.is_some_and(|own| (own ^ set.value) & mask != 0)
    })
}

/// Returns a set with only the fields that count, by their masks. Returns [`None`] if none does.
fn narrowed(set: &Set, counts: impl Fn(u64) -> bool) -> Option<Set> {
    let register = registers::named(set.register).expect("the baseline knows it");
    let mask = register
        .fields
        .iter()
        .map(|field| field.mask())
        .filter(|mask| set.mask & mask != 0 && counts(*mask))
        .fold(0, |all, mask| all | mask);
    (mask != 0).then_some(Set {
        mask,
        value: set.value & mask,
        ..*set
    })
}

/// Returns whether an ID register is zero on all hosts.
fn is_unused(fleet: &Fleet, name: &str) -> bool {
    let register = registers::named(name).filter(|one| !one.is_pseudo());
    register.is_some_and(|one| {
        let mut own = fleet.hosts.iter().map(|host| host.register(one, &[]));
        own.all(|value| value.unwrap_or(0) == 0)
    })
}

/// Returns the features that VMs with a baseline do not have, sorted.
fn off(baseline: &Baseline) -> Vec<String> {
    let el2 = baseline.no_el2.then_some("el2");
    let off = baseline.without.iter().copied().chain(el2);
    let mut off: Vec<_> = off.map(String::from).collect();
    off.sort_unstable();
    off
}

/// Returns the number that a text is, in decimal, or in hexadecimal after 0x.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let good = digits.chars().all(|c| c.is_digit(radix));
    good.then(|| u64::from_str_radix(digits, radix).ok())?
}

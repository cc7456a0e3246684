// SPDX-License-Identifier: GPL-2.0

//! The meaning of a baseline's text, and the check that VMs of this host can have the baseline.

use kernel::{
    arm64::sysreg::*,
    bindings,
    fmt::{self, Write},
    kvm::id_register::{offered_features, try_number, IdRegister, Owner},
    prelude::*,
    str::{BStr, Formatter},
    sync::Arc, //
};

use super::{
    judge::{check, Bits, Refusal, Registers},
    keys::{self, Key, FEATURES, KEYS},
    text::{words, Encoded, Malformed, Value, Word, LONGEST},
    Set, //
};

/// The number of the bit for a VM without AArch32, in masks of `KVM_ARM_VCPU_*` bits.
const NO_AA32: u32 = bindings::KVM_BASELINE_NO_AA32.trailing_zeros();

/// The ID registers of a VM whose VMM takes all features that this host offers, except EL2.
pub(super) struct Host {
    /// Bits `KVM_ARM_VCPU_*`.
    pub(super) features: usize,
}

impl Registers for Host {
    fn limit(&self, id: u32) -> u64 {
        IdRegister::new(id).map_or(0, |it| it.limit(Owner::Features(self.features)))
    }

    fn field(&self, id: u32, bit: u32) -> u64 {
        IdRegister::new(id).map_or(0, |it| it.field(bit))
    }

    fn lower(&self, id: u32, limit: u64, want: u64, mask: u64) -> u64 {
        IdRegister::new(id).map_or(limit, |it| {
            it.lower(Owner::Features(self.features), limit, want, mask)
        })
    }
}

/// Prints the name of an ID register in lower case, or its encoding if that was given.
pub(super) struct Name(pub(super) Set);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.encoded {
            let [op0, op1, crn, crm, op2] = Encoded::parts(self.0.id);
            return f.write_fmt(fmt!("s{op0}_{op1}_c{crn}_c{crm}_{op2}"));
        }
        let name = IdRegister::new(self.0.id).map_or(c"", IdRegister::name);

        name.to_bytes()
            .iter()
            .try_for_each(|c| f.write_char(char::from(c.to_ascii_lowercase())))
    }
}

/// Prints a number in hexadecimal or decimal, as its key requires.
pub(super) struct Number<'a>(pub(super) &'a Key, pub(super) u64);

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Number(key, value) = self;

        if key.hex {
            f.write_fmt(fmt!("{value:#x}"))
        } else {
            f.write_fmt(fmt!("{value}"))
        }
    }
}

/// The baseline of a host's VMs. It never changes after its creation.
pub(super) struct Baseline {
    /// By ascending encoding.
    pub(super) sets: KVec<Set>,
    /// The numbers, by the names in C.
    numbers: [Option<u64>; KEYS.len()],
    /// The features that VMs lack, as bits `KVM_ARM_VCPU_*`.
    off: usize,
    /// The text that gives this baseline, in canonical form. Not longer than [`LONGEST`].
    pub(super) text: KVec<u8>,
}

/// Logs why a word is refused, with the beginning of the word if it is long.
fn refuse(word: &[u8], why: fmt::Arguments<'_>) -> Error {
    let word = word.get(..80).unwrap_or(word);

    pr_err!("baseline: {}: {}\n", BStr::from_bytes(word), why);
    EINVAL
}

/// Logs why VMs of this host cannot have a register's value in a baseline.
fn refuse_bits(set: &Set, refusal: Refusal) -> Error {
    let (field, limit, why) = match refusal {
        Refusal::Part { field, limit } => (field, limit, "the mask has only a part of the field"),
        Refusal::Beyond { field, limit } => (field, limit, "cannot have that"),
    };
    let bits = Bits::of(field);

    pr_err!(
        "baseline: {}[{}:{}]={:#x}: VMs of this host have {:#x}, and {}\n",
        Name(*set),
        bits.msb,
        bits.lsb,
        bits.get(set.value),
        bits.get(limit),
        why,
    );
    EINVAL
}

impl Baseline {
    /// Parses a text. Returns [`None`] if the text is empty; logs why this host refuses the text.
    pub(super) fn new(text: &[u8]) -> Result<Option<Arc<Self>>> {
        if text.len() > LONGEST {
            pr_err!("baseline: longer than {} bytes\n", LONGEST);
            return Err(EINVAL);
        }
        if text.is_empty() {
            return Ok(None);
        }
        let mut it = Baseline {
            sets: KVec::new(),
            numbers: [None; KEYS.len()],
            off: 0,
            text: KVec::new(),
        };
        for word in words(text) {
            it.read(word)?;
        }
        it.check()?;
        it.text = it.canonical()?;
        Ok(Some(Arc::new(it, GFP_KERNEL)?))
    }

    /// Reads a word.
    fn read(&mut self, bytes: &[u8]) -> Result {
        let word =
            Word::new(bytes).map_err(|it: Malformed| refuse(bytes, fmt!("{}", it.words())))?;
        let is_new = match word.value {
            Value::Bits { value, mask } => self.read_bits(&word, value, mask),
            Value::Number(value) => self.read_number(&word, value),
            Value::Off => self.read_off(&word),
        };

        match is_new? {
            Some(true) => Ok(()),
            Some(false) => Err(refuse(bytes, fmt!("is given twice"))),
            None => Err(refuse(
                bytes,
                fmt!("VMs have nothing with that name and kind of value"),
            )),
        }
    }

    /// Adds bits of a register. Returns whether it is new, or [`None`] if VMs lack the register.
    fn read_bits(&mut self, word: &Word<'_>, value: u64, mask: u64) -> Result<Option<bool>> {
        let encoding = Encoded::read(word.name).map(Encoded::id);
        let encoded = encoding.is_some();
        let found = match encoding {
            Some(id) => IdRegister::new(id),
            None => IdRegister::find(word.name),
        };
        let Some(id) = found.map(IdRegister::encoding) else {
            return Ok(None);
        };

        let Err(at) = self.sets.binary_search_by_key(&id, |it| it.id) else {
            return Ok(Some(false));
        };
        self.sets.reserve(1, GFP_KERNEL)?;
        let set = Set {
            id,
            encoded,
            value,
            mask,
        };
        self.sets.insert_within_capacity(at, set)?;
        Ok(Some(true))
    }

    /// Adds a number. Returns whether it is new, or [`None`] if there is no such key.
    fn read_number(&mut self, word: &Word<'_>, value: u64) -> Result<Option<bool>> {
        let Some(key) = KEYS.iter().find(|it| it.name.as_bytes() == word.name) else {
            return Ok(None);
        };
        let sve = 1 << bindings::KVM_ARM_VCPU_SVE;
        let no_sve = key.id == keys::SVE && self.off & sve != 0;

        Ok(self.numbers.get_mut(key.id as usize).map(|number| {
            let is_new = number.is_none() && !no_sve;
            *number = Some(value);
            is_new
        }))
    }

    /// Takes a feature away. Returns whether it is new, or [`None`] if there is no such feature.
    fn read_off(&mut self, word: &Word<'_>) -> Result<Option<bool>> {
        let Some((name, bits)) = FEATURES.iter().find(|it| it.0.as_bytes() == word.name) else {
            return Ok(None);
        };
        let length = self.number(keys::SVE);
        let is_new = self.off & bits == 0 && (*name != "sve" || length.is_none());

        self.off |= bits;
        Ok(Some(is_new))
    }

    /// Returns the ID registers of a VM of this host with all features that this baseline leaves.
    fn host(&self) -> Host {
        let aa32 = usize::from(self.hides_aa32()) << NO_AA32;

        Host {
            features: offered_features() & !self.off | aa32,
        }
    }

    /// Checks that VMs of this host can have all of this baseline. If not, logs why.
    fn check(&self) -> Result {
        let host = self.host();

        // A baseline without AArch32 may have the host's own values of the AArch32 ID registers.
        let with_aa32 = Host {
            features: host.features & !(1 << NO_AA32),
        };
        let is_own = |set: &Set| (with_aa32.limit(set.id) ^ set.value) & set.mask == 0;

        for set in &self.sets {
            match check(&host, set) {
                Err(refusal) if !is_own(set) => return Err(refuse_bits(set, refusal)),
                _ => (),
            }
        }
        for key in &KEYS {
            if let Some(value) = self.number(key.id) {
                self.check_number(&host, key, value)?;
            }
        }
        Ok(())
    }

    /// Returns whether VMs of this host can have a number, and the number that they have without a
    /// baseline.
    fn judge_number(&self, host: &Host, key: &Key, value: u64) -> (bool, u64) {
        let pfr1 = ID_AA64PFR1_EL1::ENCODING.as_u32();
        let limit = host.limit(pfr1);
        let pfr1 = self
            .set(pfr1)
            .map_or(limit, |it| limit & !it.mask | it.value);
        let ssbs = ID_AA64PFR1_EL1::from_raw(pfr1).SSBS() >= ID_AA64PFR1_EL1_SSBS_IMP;

        try_number(key.id, value, ssbs)
    }

    /// Checks that VMs of this host can have a number. If not, logs why.
    fn check_number(&self, host: &Host, key: &Key, value: u64) -> Result {
        let (good, own) = self.judge_number(host, key, value);

        if good {
            return Ok(());
        }
        pr_err!(
            "baseline: {}={}: VMs of this host have {}, and cannot have that\n",
            key.name,
            Number(key, value),
            Number(key, own)
        );
        Err(EINVAL)
    }

    /// Returns the keys whose number is not this host's own, each with the own and the new number.
    pub(super) fn lowered_numbers(&self) -> impl Iterator<Item = (&'static Key, u64, u64)> + '_ {
        let host = self.host();

        KEYS.iter().filter_map(move |key| {
            let value = self.number(key.id)?;
            let (_, own) = self.judge_number(&host, key, value);
            (own != value).then_some((key, own, value))
        })
    }

    /// Returns the names of the features that VMs cannot have.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &'static str> + '_ {
        FEATURES
            .iter()
            .filter(|it| self.off & it.1 != 0)
            .map(|it| it.0)
    }

    /// Returns this baseline's value and mask for a register, if any.
    pub(super) fn set(&self, id: u32) -> Option<&Set> {
        let at = self.sets.binary_search_by_key(&id, |it| it.id).ok()?;

        self.sets.get(at)
    }

    /// Returns the number that this baseline has for `key`.
    pub(super) fn number(&self, key: keys::Id) -> Option<u64> {
        *self.numbers.get(key as usize)?
    }

    /// Returns whether VMs have no AArch32, so that its ID registers are RAZ/WI.
    pub(super) fn hides_aa32(&self) -> bool {
        self.set(ID_AA64PFR0_EL1::ENCODING.as_u32())
            .is_some_and(|it| {
                it.mask & ID_AA64PFR0_EL1::EL0_MASK == ID_AA64PFR0_EL1::EL0_MASK
                    && ID_AA64PFR0_EL1::from_raw(it.value).EL0() == ID_AA64PFR0_EL1_EL0_IMP
            })
    }

    /// Returns the features that VMs cannot have, as bits `KVM_ARM_VCPU_*`.
    pub(super) fn hidden_features(&self) -> usize {
        let aa32 = usize::from(self.hides_aa32()) << bindings::KVM_ARM_VCPU_EL1_32BIT;

        self.off | aa32
    }

    /// Returns the canonical text. [`LONGEST`] bytes have room for a word per register and key.
    fn canonical(&self) -> Result<KVec<u8>> {
        let mut text = KVec::from_elem(0, LONGEST, GFP_KERNEL)?;
        let mut formatter = Formatter::new(&mut text);

        self.write(&mut formatter).map_err(|_| EINVAL)?;
        let len = formatter.bytes_written();
        text.truncate(len);
        Ok(text)
    }

    /// Writes the canonical text.
    fn write(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let mut separator = Separator(false);

        for set in &self.sets {
            let (name, value, mask) = (Name(*set), set.value, set.mask);
            separator.write(out)?;
            out.write_fmt(fmt!("{name}={value:#x}/{mask:#x}"))?;
        }
        for key in &KEYS {
            if let Some(value) = self.number(key.id) {
                let (name, value) = (key.name, Number(key, value));
                separator.write(out)?;
                out.write_fmt(fmt!("{name}={value}"))?;
            }
        }
        for name in self.hidden() {
            separator.write(out)?;
            out.write_fmt(fmt!("{name}=off"))?;
        }
        Ok(())
    }
}

/// Writes the comma before each word except the first.
struct Separator(bool);

impl Separator {
    fn write(&mut self, out: &mut Formatter<'_>) -> fmt::Result {
        match core::mem::replace(&mut self.0, true) {
            false => Ok(()),
            true => out.write_str(","),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tells whether VMs of this host can have the CPU that a text describes.

use super::{cntfrq_el0, dczid_el0, Here, How, Scratch, EL2, WRITABLE_IMPLEMENTATION};
use crate::{
    host::FEATURES,
    merge::Set,
    registers::{self, Field, Register},
    text::Text,
    Error,
};

/// Checks that VMs of this host can have what a text says. Fails with what it refuses first.
pub fn check(text: &Text) -> Result<(), Error> {
    let host = Here::open()?;
    check_fixed(text)?;
    // A feature that this host lacks shows in the fields that say whether a VM has it.
    let features: Vec<_> = FEATURES
        .into_iter()
        .filter(|feature| host.offers(feature) && !text.off.iter().any(|off| off == feature))
        .collect();
    let how = how(&host, &host.scratch(&features, How::default())?, text)?;
    let fresh = || host.scratch(&features, how);
    let mut scratch = fresh()?;
    if how.implementation {
        set_implementation(&scratch, text)?;
    }
    for set in &text.sets {
        set_register(&scratch, set, fresh)?;
    }
    scratch.run()?;
    let mut sets = text.sets.iter();
    sets.try_for_each(|set| check_kept(&scratch, set))
}

fn refuses<T>(what: String) -> Result<T, Error> {
    Err(Error(format!("this host refuses it: {what}")))
}

fn register(set: &Set) -> &'static Register {
    registers::named(set.register).expect("the text has known ones")
}

/// Checks the values that KVM cannot change for a VM.
fn check_fixed(text: &Text) -> Result<(), Error> {
    for (what, wanted, own) in [
        ("CNTFRQ_EL0", text.cntfrq_el0, cntfrq_el0()),
        ("DCZID_EL0", text.dczid_el0, dczid_el0()),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != own) {
            return refuses(format!("{what} is {own} here, and cannot be {wanted}"));
        }
    }
    Ok(())
}

/// Returns how a VM is made that can have what a text says. `scratch` is a new one.
fn how(host: &Here, scratch: &Scratch, text: &Text) -> Result<How, Error> {
    let too_long = |longest: &u32| !scratch.lengths().contains(longest);
    if let Some(longest) = text.sve_length.filter(too_long) {
        return refuses(format!("SVE vectors of {longest} bits"));
    }
    let too_many = |wanted: &u32| u64::from(*wanted) > scratch.counters();
    if let Some(wanted) = text.pmu_counters.filter(too_many) {
        let own = scratch.counters();
        return refuses(format!("PMCR_EL0.N: {wanted} event counters, it has {own}"));
    }
    let other = text
        .who()
        .into_iter()
        .find(|(_, id, wanted)| wanted.is_some_and(|wanted| scratch.get(*id) != Some(wanted)));
    if let Some((name, id, _)) = other.filter(|_| host.has(WRITABLE_IMPLEMENTATION) <= 0) {
        let own = scratch.get(id).unwrap_or(0);
        return refuses(format!("{name}: it is {own:#x}, and cannot be changed"));
    }
    Ok(How {
        implementation: other.is_some(),
        sve_length: text.sve_length,
    })
}

fn set_implementation(scratch: &Scratch, text: &Text) -> Result<(), Error> {
    for (name, id, wanted) in text.who() {
        if wanted.is_some_and(|wanted| !scratch.set(id, wanted)) {
            return refuses(name.into());
        }
    }
    Ok(())
}

/// Sets a register. `fresh` returns a new VM, to find the field that is refused.
fn set_register(
    scratch: &Scratch,
    set: &Set,
    fresh: impl Fn() -> Result<Scratch, Error>,
) -> Result<(), Error> {
    let register = register(set);
    let Some(own) = scratch.get(register.id) else {
        return match set.value {
            0 => Ok(()),
            _ => refuses(format!("{register}: it is not known here")),
        };
    };
    let new = own & !set.mask | set.value;
    if own & set.mask == set.value || accepts(scratch, register, new) {
        return Ok(());
    }
    refuses(refused(register, set, own, &fresh()?))
}

/// Sets a register. Returns whether it then has the value.
fn accepts(scratch: &Scratch, register: &Register, value: u64) -> bool {
    scratch.set(register.id, value) && scratch.get(register.id) == Some(value)
}

/// Checks that a VM that has run still has what was set.
fn check_kept(scratch: &Scratch, set: &Set) -> Result<(), Error> {
    let register = register(set);
    if scratch.get(register.id).unwrap_or(0) & set.mask == set.value {
        return Ok(());
    }
    refuses(format!(
        "{register}: another value than {:#x}/{:#x} after the VM has run",
        set.value, set.mask
    ))
}

/// Checks that VMs have what a text says without their VMM's help, as `kvm.baseline=` gives it to
/// them. Fails with what differs first.
pub fn applied(text: &Text) -> Result<(), Error> {
    let host = Here::open()?;
    let found = match offered(&host, text) {
        Some(what) => Some(what),
        None => {
            let features: Vec<_> = FEATURES
                .into_iter()
                .filter(|feature| host.offers(feature))
                .collect();
            let scratch = host.scratch(&features, How::default())?;
            let fields = || text.sets.iter().find_map(|set| other_field(&scratch, set));
            other_number(&scratch, text).or_else(fields)
        }
    };
    found.map_or(Ok(()), |what| {
        Err(Error(format!(
            "VMs of this host do not have it by themselves: {what}: is kvm.baseline= set to it?"
        )))
    })
}

/// Returns a feature that KVM offers although the text turns it off.
fn offered(host: &Here, text: &Text) -> Option<String> {
    let offers = |feature: &&String| match feature.as_str() {
        "el2" => host.has(EL2) > 0,
        feature => host.offers(feature),
    };
    let feature = text.off.iter().find(offers)?;
    Some(format!("{feature} is offered"))
}

/// Returns the first number of a VM that differs from the text.
fn other_number(scratch: &Scratch, text: &Text) -> Option<String> {
    let longest = scratch.lengths().last().copied().unwrap_or(0);
    let own = |id| scratch.get(id).unwrap_or(0);
    let counts = [
        (
            "the longest SVE vector",
            longest.into(),
            text.sve_length.map(u64::from),
        ),
        (
            "PMCR_EL0.N",
            scratch.counters(),
            text.pmu_counters.map(u64::from),
        ),
    ];
    let who = text.who().map(|(name, id, wanted)| (name, own(id), wanted));
    let mut numbers = counts.into_iter().chain(who);
    numbers.find_map(|(name, own, wanted)| {
        let wanted = wanted.filter(|wanted| *wanted != own)?;
        Some(format!("{name} is {own:#x}, not {wanted:#x}"))
    })
}

/// Returns the first field of a register in which a VM differs.
fn other_field(scratch: &Scratch, set: &Set) -> Option<String> {
    let register = register(set);
    let own = scratch.get(register.id).unwrap_or(0);
    let differ = (own ^ set.value) & set.mask;
    let other = |field: &&Field| differ & field.mask() != 0;
    (differ != 0).then(|| match register.fields.iter().find(other) {
        Some(field) => format!(
            "{register}.{} is {}, not {}",
            field.name,
            field.spell(field.of(own)),
            field.spell(field.of(own & !set.mask | set.value))
        ),
        None => format!("{register} is {own:#x}, not {:#x}", set.value),
    })
}

/// Returns in words which field of a register is refused. `scratch` is a new VM.
fn refused(register: &Register, set: &Set, own: u64, scratch: &Scratch) -> String {
    match refused_field(register, set, own, scratch) {
        Some(field) => format!(
            "{register}.{}: it has {} and does not accept {}",
            field.name,
            field.spell(field.of(own)),
            field.spell(field.of(set.value))
        ),
        None => format!(
            "{register}: it has {own:#x} and does not accept {:#x}",
            set.value
        ),
    }
}

/// Returns the field that is refused: the one without which the others are accepted, or the first
/// that is not accepted after those above it.
fn refused_field(
    register: &Register,
    set: &Set,
    own: u64,
    scratch: &Scratch,
) -> Option<&'static Field> {
    let wanted = |field: &Field| field.of(set.value);
    let accepts = |new| accepts(scratch, register, new);
    let differs = |field: &&Field| set.mask & field.mask() != 0 && wanted(field) != field.of(own);
    let fields: Vec<_> = register.fields.iter().filter(differs).collect();
    let all = own & !set.mask | set.value;
    let without = |field: &Field| field.with(all, field.of(own));
    let alone = fields.iter().find(|field| accepts(without(field)));
    let mut now = own;
    let mut after = fields.iter().filter(|field| {
        let new = field.with(now, wanted(field));
        let good = accepts(new);
        if good {
            now = new;
        }
        !good
    });
    alone.or_else(|| after.next()).copied()
}

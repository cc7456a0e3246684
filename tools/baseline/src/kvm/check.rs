// SPDX-License-Identifier: GPL-2.0

//! Tells whether VMs of this host can have the CPU that a text describes.

use super::{cntfrq_el0, dczid_el0, Here, How, Scratch, EL2, WRITABLE_IMPLEMENTATION};
use crate::{
    host::FEATURES,
    merge::Set,
    registers::{self, Field, Register, AIDR_EL1, MIDR_EL1, REVIDR_EL1},
    text::Text,
    Error,
};

/// Checks that VMs of this host can have what a text says. Fails with what it refuses first.
pub fn check(text: &Text) -> Result<(), Error> {
    let host = Here::open()?;
    let refuses = |what: String| Err(Error(format!("this host refuses it: {what}")));
    for (what, wanted, own) in [
        ("CNTFRQ_EL0", text.cntfrq_el0, cntfrq_el0()),
        ("DCZID_EL0", text.dczid_el0, dczid_el0()),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != own) {
            return refuses(format!("{what} is {own} here, and cannot be {wanted}"));
        }
    }
    // A feature that this host lacks shows in the fields that say whether a VM has it.
    let features: Vec<_> = FEATURES
        .into_iter()
        .filter(|feature| host.offers(feature) && !text.off.iter().any(|off| off == feature))
        .collect();

    let mut how = How::default();
    let mut scratch = host.scratch(&features, how)?;
    if let Some(longest) = text.sve_length {
        if !scratch.lengths().contains(&longest) {
            return refuses(format!("SVE vectors of {longest} bits"));
        }
        how.sve_length = Some(longest);
    }
    if let Some(wanted) = text.pmu_counters {
        let own = scratch.counters();
        if u64::from(wanted) > own {
            return refuses(format!("PMCR_EL0.N: {wanted} event counters, it has {own}"));
        }
    }
    let who = [
        ("MIDR_EL1", MIDR_EL1, text.midr_el1),
        ("REVIDR_EL1", REVIDR_EL1, text.revidr_el1),
        ("AIDR_EL1", AIDR_EL1, text.aidr_el1),
    ];
    let other = |(_, id, wanted): &(_, u64, Option<u64>)| {
        wanted.is_some_and(|wanted| scratch.get(*id) != Some(wanted))
    };
    how.implementation = who.iter().any(other);
    if how.implementation && host.has(WRITABLE_IMPLEMENTATION) <= 0 {
        let (name, id, _) = who.iter().find(|one| other(one)).expect("there is one");
        let own = scratch.get(*id).unwrap_or(0);
        return refuses(format!("{name}: it is {own:#x}, and cannot be changed"));
    }

    scratch = host.scratch(&features, how)?;
    if how.implementation {
        for (name, id, wanted) in who {
            if wanted.is_some_and(|wanted| !scratch.set(id, wanted)) {
                return refuses(name.into());
            }
        }
    }
    for set in &text.sets {
        let register = registers::named(set.register).expect("the text has known ones");
        match scratch.get(register.id) {
            None if set.value == 0 => {}
            None => return refuses(format!("{register}: it is not known here")),
            Some(own) if own & set.mask == set.value => {}
            Some(own) => {
                let new = own & !set.mask | set.value;
                let keeps = |scratch: &Scratch| scratch.get(register.id) == Some(new);
                if !scratch.set(register.id, new) || !keeps(&scratch) {
                    let fresh = host.scratch(&features, how)?;
                    return refuses(refused(register, set, own, &fresh));
                }
            }
        }
    }
    scratch.run()?;
    for set in &text.sets {
        let register = registers::named(set.register).expect("the text has known ones");
        if scratch.get(register.id).unwrap_or(0) & set.mask != set.value {
            return refuses(format!(
                "{register}: another value than {:#x}/{:#x} after the VM has run",
                set.value, set.mask
            ));
        }
    }
    Ok(())
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

/// Returns what is offered though it is off.
fn offered(host: &Here, text: &Text) -> Option<String> {
    let offers = |feature: &&String| match feature.as_str() {
        "el2" => host.has(EL2) > 0,
        feature => host.offers(feature),
    };
    let feature = text.off.iter().find(offers)?;
    Some(format!("{feature} is offered"))
}

/// Returns which number of a VM is not the one that the text has.
fn other_number(scratch: &Scratch, text: &Text) -> Option<String> {
    let longest = scratch.lengths().last().copied().unwrap_or(0);
    let own = |id| scratch.get(id).unwrap_or(0);
    [
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
        ("MIDR_EL1", own(MIDR_EL1), text.midr_el1),
        ("REVIDR_EL1", own(REVIDR_EL1), text.revidr_el1),
        ("AIDR_EL1", own(AIDR_EL1), text.aidr_el1),
    ]
    .into_iter()
    .find_map(|(name, own, wanted)| {
        let wanted = wanted.filter(|wanted| *wanted != own)?;
        Some(format!("{name} is {own:#x}, not {wanted:#x}"))
    })
}

/// Returns the first field of a register in which a VM differs.
fn other_field(scratch: &Scratch, set: &Set) -> Option<String> {
    let register = registers::named(set.register).expect("the text has known ones");
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

/// Names the field of a register that is refused, in a new VM: the one without which the others
/// are accepted, or the first that is not accepted after those above it.
fn refused(register: &Register, set: &Set, own: u64, scratch: &Scratch) -> String {
    let wanted = |field: &Field| field.of(set.value);
    let accepts = |new| scratch.set(register.id, new) && scratch.get(register.id) == Some(new);
    let differs = |field: &&&Field| set.mask & field.mask() != 0 && wanted(field) != field.of(own);
    let fields: Vec<_> = register.fields.iter().collect();
    let fields: Vec<_> = fields.iter().filter(differs).copied().collect();
    let all = own & !set.mask | set.value;
    let alone = fields
        .iter()
        .find(|field| accepts(field.with(all, field.of(own))));
    let mut now = own;
    let mut after = fields.iter().filter(|field| {
        let new = field.with(now, wanted(field));
        let good = accepts(new);
        if good {
            now = new;
        }
        !good
    });
    match alone.or_else(|| after.next()) {
        Some(field) => format!(
            "{register}.{}: it has {} and does not accept {}",
            field.name,
            field.spell(field.of(own)),
            field.spell(wanted(field))
        ),
        None => format!(
            "{register}: it has {own:#x} and does not accept {:#x}",
            set.value
        ),
    }
}

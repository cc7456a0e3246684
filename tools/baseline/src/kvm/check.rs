// SPDX-License-Identifier: GPL-2.0

//! Tells whether VMs of this host can have the CPU that a text describes.

use super::{cntfrq_el0, dczid_el0, Here, How, Scratch, PMCR_EL0, WRITABLE_IMPLEMENTATION};
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
        let own = scratch.get(PMCR_EL0).map_or(0, |value| value >> 11 & 0x1f);
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

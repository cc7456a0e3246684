// SPDX-License-Identifier: GPL-2.0

//! Errata that guests work around, and models that they trust, because of MIDR_EL1.

mod cpus;
mod safe;
mod table;

use cpus::{Model, Range};
use safe::SAFE;
use table::{Erratum, Kind, ERRATA};

pub use safe::Says;

impl Range {
    /// Returns whether a CPU is one of these, with its erratum not fixed.
    fn has(&self, midr: u64, revidr: u64) -> bool {
        let model = (midr >> 24 & 0xff, midr >> 4 & 0xfff);
        let revision = (midr >> 16 & 0xf0 | midr & 0xf) as u8;
        let is_fixed =
            |(fixed, mask): &(u8, u32)| *fixed == revision && revidr & u64::from(*mask) != 0;
        model == (self.implementer.into(), self.part.into())
            && (self.first..=self.last).contains(&revision)
            && !self.fixed.iter().any(is_fixed)
    }
}

/// The identification of a CPU: MIDR_EL1 and REVIDR_EL1.
pub type Cpu = (u64, u64);

fn is_in(ranges: &[Range], (midr, revidr): Cpu) -> bool {
    ranges.iter().any(|range| range.has(midr, revidr))
}

/// Returns how many branches a guest runs against Spectre-BHB on a CPU, if it does.
fn branches(cpu: Cpu) -> Option<u32> {
    let affected = ERRATA.iter().filter(|erratum| is_in(erratum.ranges, cpu));
    let loops = affected.filter_map(|erratum| match erratum.kind {
        Kind::Branches(count) => Some(count),
        _ => None,
    });
    loops.max()
}

impl Erratum {
    /// Returns the mistake that a guest makes about this erratum, if any: see [`missed`].
    fn missed(&self, real: Cpu, told: Cpu, dic: bool) -> Option<String> {
        let (needed, done) = (is_in(self.ranges, real), is_in(self.ranges, told));
        let wrong = match self.kind {
            Kind::Neutral => needed && !done,
            Kind::WithDic => dic && needed && !done,
            Kind::Harmful => needed != done,
            Kind::Branches(_) => false,
        };
        let harm = match done {
            true => "workaround that does harm: ",
            false => "",
        };
        wrong.then(|| format!("{harm}{} ({})", self.name, self.source))
    }
}

/// Returns what a guest does wrong where the CPU is not safe from Spectre-BHB.
fn missed_branches(real: Cpu, told: Cpu) -> Option<String> {
    match (branches(real), branches(told)) {
        (Some(needed), done) if done < Some(needed) => Some(format!(
            "Spectre-BHB, {needed} branches (spectre_bhb_loop_affected())"
        )),
        (None, Some(_)) => {
            Some("Spectre-BHB, by a call to the firmware (has_spectre_bhb_fw_mitigation())".into())
        }
        _ => None,
    }
}

/// Returns the mistakes that a guest makes on CPU `real` if it is told that it has CPU `told`:
/// missing workarounds, harmful workarounds, and properties that the CPU does not have. `says`
/// returns whether the VM's ID registers state a property, and `dic` is CTR_EL0.DIC of the VM.
pub fn missed(real: Cpu, told: Cpu, dic: bool, says: impl Fn(Says) -> bool) -> Vec<String> {
    let errata = ERRATA.iter().filter_map(|one| one.missed(real, told, dic));
    let unsafe_here = SAFE
        .iter()
        .filter(|safe| !says(safe.says) && is_in(safe.ranges, told) && !is_in(safe.ranges, real));
    let unsafe_here = unsafe_here.map(|safe| format!("{}, {}", safe.name, safe.source));
    let mut found: Vec<_> = errata.chain(unsafe_here).collect();
    let mut bhb = SAFE.iter().filter(|safe| safe.says == Says::Csv2OrEcbhb);
    if !bhb.any(|safe| says(safe.says) || is_in(safe.ranges, real)) {
        found.extend(missed_branches(real, told));
    }
    found
}

/// Names of models that are used as hosts (MIDR_EL1 of `arch/arm64/include/asm/cputype.h`).
const NAMES: &[(Model, &str)] = &[
    ((0x41, 0xd03), "Cortex-A53"),
    ((0x41, 0xd04), "Cortex-A35"),
    ((0x41, 0xd05), "Cortex-A55"),
    ((0x41, 0xd07), "Cortex-A57"),
    ((0x41, 0xd08), "Cortex-A72"),
    ((0x41, 0xd09), "Cortex-A73"),
    ((0x41, 0xd0a), "Cortex-A75"),
    ((0x41, 0xd0b), "Cortex-A76"),
    ((0x41, 0xd0c), "Neoverse N1"),
    ((0x41, 0xd0d), "Cortex-A77"),
    ((0x41, 0xd40), "Neoverse V1"),
    ((0x41, 0xd41), "Cortex-A78"),
    ((0x41, 0xd49), "Neoverse N2"),
    ((0x41, 0xd4f), "Neoverse V2"),
    ((0x41, 0xd84), "Neoverse V3"),
    ((0x41, 0xd8e), "Neoverse N3"),
    ((0x43, 0x0af), "ThunderX2"),
    ((0x46, 0x001), "A64FX"),
    ((0x48, 0xd01), "TaiShan v110"),
    ((0x4e, 0x004), "Carmel"),
    ((0x4e, 0x010), "Olympus"),
    ((0x6d, 0xd49), "Cobalt 100"),
    ((0xc0, 0xac3), "AmpereOne"),
    ((0xc0, 0xac4), "AmpereOne A"),
];

/// Returns the name of a model.
pub fn model(midr: u64) -> Option<&'static str> {
    let model = ((midr >> 24 & 0xff) as u8, (midr >> 4 & 0xfff) as u16);
    let found = NAMES.iter().find(|(known, _)| *known == model);
    found.map(|(_, name)| *name)
}

// SPDX-License-Identifier: GPL-2.0

//! Errata that guests work around, and models that they trust, because of MIDR_EL1.

mod table;

use table::{Model, Range, ERRATA, SAFE};

pub use table::Safe;

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

/// Loops of branches against Spectre-BHB: a longer one does for a CPU that needs a shorter one, and
/// a guest that has one does not call the firmware.
const BRANCHES: [(u32, &str); 6] = [
    (132, "Spectre-BHB, 132 branches"),
    (38, "Spectre-BHB, 38 branches"),
    (32, "Spectre-BHB, 32 branches"),
    (24, "Spectre-BHB, 24 branches"),
    (11, "Spectre-BHB, 11 branches"),
    (8, "Spectre-BHB, 8 branches"),
];

/// Who made a CPU: MIDR_EL1 and REVIDR_EL1.
pub type Cpu = (u64, u64);

fn is_in(ranges: &[Range], (midr, revidr): Cpu) -> bool {
    ranges.iter().any(|range| range.has(midr, revidr))
}

fn branches(cpu: Cpu) -> Option<u32> {
    let mut affected = ERRATA.iter().filter(|erratum| is_in(erratum.ranges, cpu));
    affected.find_map(|erratum| {
        let mut loops = BRANCHES.iter();
        loops
            .find(|(_, name)| *name == erratum.name)
            .map(|(count, _)| *count)
    })
}

/// Returns what a guest does wrong on CPU `real` if it is told that it has CPU `told`: the errata
/// that it does not work around, and what it takes for granted. `is_safe` tells of a register's
/// field, whether the VM's value says what the kernel otherwise knows by the model.
pub fn missed(real: Cpu, told: Cpu, is_safe: impl Fn(&Safe) -> bool) -> Vec<String> {
    let loops = |name: &str| BRANCHES.iter().any(|(_, branch)| *branch == name);
    let mut found: Vec<_> = ERRATA
        .iter()
        .filter(|erratum| !loops(erratum.name))
        .filter(|erratum| is_in(erratum.ranges, real) && !is_in(erratum.ranges, told))
        .map(|erratum| format!("{} ({})", erratum.name, erratum.source))
        .collect();
    let safe = SAFE.iter().filter(|safe| !is_safe(safe));
    let trusted = safe.filter(|safe| is_in(safe.ranges, told) && !is_in(safe.ranges, real));
    found.extend(trusted.map(|safe| format!("{}, {}", safe.name, safe.source)));
    let mut bhb = SAFE
        .iter()
        .filter(|safe| safe.name.starts_with("Spectre-BHB"));
    let needs_none = bhb.any(|safe| is_safe(safe) || is_in(safe.ranges, real));
    let (needed, done) = (branches(real), branches(told));
    if !needs_none && done < needed {
        let missing = BRANCHES.iter().find(|(count, _)| Some(*count) == needed);
        found.extend(missing.map(|(_, name)| name.to_string()));
    } else if !needs_none && needed.is_none() && done.is_some() {
        found.push("Spectre-BHB, by a call to the firmware".into());
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

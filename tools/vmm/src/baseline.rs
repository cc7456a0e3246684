// SPDX-License-Identifier: GPL-2.0

//! The CPU that a guest gets, if hosts between which it may move differ: what the tool `baseline`
//! has found (`baseline merge --format vmm`).
//!
//! Between the first and the last line, a line is KVM's number of a register, a value and the mask
//! of its bits that count; or the name of something else, and its value.

use std::{arch::asm, fs, path::Path};

use crate::{
    failure::{During, Result},
    machine::{self, Features},
    number,
    registers::{self, Register},
    vcpu::Vcpu,
};

const FIRST: &str = "baseline 1\n";
const LAST: &str = "end\n";

/// A CPU for guests.
#[derive(Default)]
pub struct Baseline {
    /// Registers: number, value, mask.
    registers: Vec<[u64; 3]>,
    /// What guests read of the host itself.
    host: Host,
    counters: Option<u64>,
    longest_vector: Option<u64>,
    off: Vec<String>,
}

/// Registers that guests read without KVM's help: a guest that has seen other values does not
/// notice that they have changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// CNTFRQ_EL0: the frequency of the guest's clock, in Hz.
    pub cntfrq_el0: Option<u64>,
    /// DCZID_EL0: how much DC ZVA clears.
    pub dczid_el0: Option<u64>,
}

impl Host {
    /// Reads those of this host.
    pub fn own() -> Self {
        let (cntfrq_el0, dczid_el0);
        // SAFETY: Any program may read DCZID_EL0, and Linux lets programs read CNTFRQ_EL0.
        unsafe {
            asm!(
                "mrs {}, cntfrq_el0", "mrs {}, dczid_el0",
                out(reg) cntfrq_el0, out(reg) dczid_el0, options(nomem, nostack)
            )
        };
        Self {
            cntfrq_el0: Some(cntfrq_el0),
            dczid_el0: Some(dczid_el0),
        }
    }

    /// Fails if this host has other values, and a guest thus cannot run on it.
    pub fn check(&self) -> Result {
        let own = Self::own();
        for (name, wanted, own, why) in [
            (
                "CNTFRQ_EL0",
                self.cntfrq_el0,
                own.cntfrq_el0,
                "the guest's clock would be wrong",
            ),
            (
                "DCZID_EL0",
                self.dczid_el0,
                own.dczid_el0,
                "the guest would clear memory that it does not mean to",
            ),
        ] {
            if let (Some(wanted), Some(own)) = (wanted, own) {
                if wanted != own {
                    let differ = format!("it is {own} on this host and {wanted} for the guest");
                    return Err(format!("{differ}: {why}")).during(name);
                }
            }
        }
        Ok(())
    }
}

impl Baseline {
    /// Reads a file, all of it or nothing.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).during(name.clone())?;
        let lines = text
            .strip_prefix(FIRST)
            .ok_or("not of this kind (baseline merge --format vmm)")
            .and_then(|rest| rest.strip_suffix(LAST).ok_or("it has no end"))
            .during(name.clone())?;
        let mut found = Self::default();
        for line in lines.lines() {
            found
                .line(&line.split_whitespace().collect::<Vec<_>>())
                .ok_or_else(|| format!("what is {line:?}?"))
                .during(name.clone())?;
        }
        Ok(found)
    }

    /// Parses a line.
    fn line(&mut self, words: &[&str]) -> Option<()> {
        match words {
            [id, value, mask] => {
                let id = number(id).filter(|id| registers::size(*id) == 8)?;
                self.registers.push([id, number(value)?, number(mask)?]);
            }
            [name @ ("sve" | "ptrauth" | "pmu" | "el2"), "off"] => self.off.push((*name).into()),
            ["cntfrq_el0", value] => self.host.cntfrq_el0 = Some(number(value)?),
            ["dczid_el0", value] => self.host.dczid_el0 = Some(number(value)?),
            ["pmcr_el0.n", value] => self.counters = Some(number(value)?),
            ["sve", value] => self.longest_vector = Some(number(value)?),
            _ => return None,
        }
        Some(())
    }

    /// Returns these features without those that are off. Fails if this host cannot have the CPU.
    pub fn of(&self, features: Features) -> Result<Features> {
        self.host.check()?;
        let has = |name: &str| !self.off.iter().any(|off| off == name);
        let value = |wanted| {
            let found = self.registers.iter().find(|[id, ..]| *id == wanted);
            found.map(|[_, value, _]| *value)
        };
        Ok(Features {
            pmu: features.pmu && has("pmu"),
            ptrauth: features.ptrauth && has("ptrauth"),
            sve: features.sve && has("sve"),
            longest_vector: self.longest_vector,
            identity: machine::is_other_identity(value)?,
        })
    }

    /// Gives a vCPU that has not run the registers. Fails with the first that KVM refuses.
    pub fn apply(&self, vcpu: &Vcpu) -> Result {
        for [id, value, mask] in &self.registers {
            let Ok(own) = vcpu.get(*id) else {
                // A kernel that does not have the register has nothing to hide in it.
                if value & mask == 0 {
                    continue;
                }
                return Err("this kernel does not have it").during(format!("register {id:#x}"));
            };
            let new = own.as_u64() & !mask | value & mask;
            if new == own.as_u64() {
                continue;
            }
            vcpu.set(&Register::new(*id, new.to_le_bytes().to_vec()))?;
            // Kernels before ours take a lower level of a workaround, and keep their own.
            let kept = vcpu.get(*id)?.as_u64();
            if kept != new {
                return Err(format!("this kernel takes {new:#x}, and keeps {kept:#x}"))
                    .during(format!("register {id:#x}"));
            }
        }
        match self.counters {
            Some(counters) => vcpu.set_counters(counters),
            None => Ok(()),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The ID registers: their fields, the architecture's words for values, and which of two values is
//! the safe one, generated from the kernel's description and its cpufeature.c.

use std::fmt;

/// An ID register.
#[derive(Debug)]
pub struct Register {
    /// The architecture's name.
    pub name: &'static str,
    /// KVM's identifier (`struct kvm_one_reg`).
    pub id: u64,
    /// From the highest bits to the lowest.
    pub fields: &'static [Field],
}

/// A field of an ID register.
#[derive(Debug)]
pub struct Field {
    /// The architecture's name.
    pub name: &'static str,
    /// The lowest bit.
    pub lsb: u32,
    /// The number of bits.
    pub width: u32,
    /// Whether values are in two's complement.
    pub signed: bool,
    pub rule: Rule,
    /// The value that every CPU may be said to have.
    pub safe: u64,
    /// The architecture's names of values.
    pub values: &'static [(&'static str, u64)],
    /// The values to try, or none for all.
    pub tries: &'static [u64],
}

/// How the kernel orders the values of a field (`enum ftr_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Lower,
    Higher,
    /// The greater is safe, and 0, which says nothing, is the safest.
    HigherOrZero,
    /// There is no order, but for the safe value.
    Exact,
}

include!(concat!(env!("OUT_DIR"), "/tables.rs"));

// KVM_REG_ARM64 | KVM_REG_SIZE_U64, and the groups KVM_REG_ARM_FW and KVM_REG_ARM_FW_FEAT_BMAP.
const FIRMWARE: u64 = 0x6030_0000_0014_0000;
const BITMAPS: u64 = 0x6030_0000_0016_0000;

/// Versions of PSCI that KVM knows: major << 16 | minor.
const PSCI: &[u64] = &[1, 2, 0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003];

const fn level(lsb: u32, width: u32, values: Words, tries: &'static [u64]) -> Field {
    Field {
        name: "level",
        lsb,
        width,
        signed: false,
        rule: Rule::Lower,
        safe: 0,
        values,
        tries,
    }
}

const fn bit(lsb: u32, name: &'static str) -> Field {
    Field {
        name,
        ..level(lsb, 1, &[], &[])
    }
}

type Words = &'static [(&'static str, u64)];

const LEVELS: Words = &[("not available", 0), ("available", 1), ("not required", 2)];

/// KVM's pseudo registers for what firmware offers
/// (Documentation/virt/kvm/arm/fw-pseudo-registers), by their keys in `kvm.baseline=`.
static PSEUDO: &[Register] = &[
    Register {
        name: "psci",
        id: FIRMWARE,
        fields: &[level(0, 32, &[], PSCI)],
    },
    Register {
        name: "smccc_wa1",
        id: FIRMWARE | 1,
        fields: &[level(0, 4, LEVELS, &[])],
    },
    Register {
        name: "smccc_wa2",
        id: FIRMWARE | 2,
        fields: &[
            Field {
                values: &[
                    ("not available", 0),
                    ("unknown", 1),
                    ("available", 2),
                    ("not required", 3),
                ],
                ..level(0, 4, &[], &[])
            },
            bit(4, "enabled"),
        ],
    },
    Register {
        name: "smccc_wa3",
        id: FIRMWARE | 3,
        fields: &[level(0, 4, LEVELS, &[])],
    },
    Register {
        name: "std_bmap",
        id: BITMAPS,
        fields: &[bit(0, "trng")],
    },
    Register {
        name: "std_hyp_bmap",
        id: BITMAPS | 1,
        fields: &[bit(0, "pv_time")],
    },
    Register {
        name: "vendor_hyp_bmap",
        id: BITMAPS | 2,
        fields: &[bit(0, "func_feat"), bit(1, "ptp")],
    },
    Register {
        name: "vendor_hyp_bmap2",
        id: BITMAPS | 3,
        fields: &[bit(0, "discover_impl_ver"), bit(1, "discover_impl_cpus")],
    },
];

/// Fields whose values depend on each other: the second says more about the first, or is limited
/// by it.
pub const PAIRS: &[[(&str, &str); 2]] = &[
    [("ID_AA64DFR0_EL1", "BRPs"), ("ID_AA64DFR0_EL1", "CTX_CMPs")],
    [("ID_AA64PFR0_EL1", "RAS"), ("ID_AA64PFR1_EL1", "RAS_frac")],
    [
        ("ID_AA64PFR0_EL1", "MPAM"),
        ("ID_AA64PFR1_EL1", "MPAM_frac"),
    ],
    [
        ("ID_AA64PFR0_EL1", "CSV2"),
        ("ID_AA64PFR1_EL1", "CSV2_frac"),
    ],
    [("ID_AA64PFR1_EL1", "MTE"), ("ID_AA64PFR1_EL1", "MTE_frac")],
    [("ID_AA64MMFR2_EL1", "NV"), ("ID_AA64MMFR4_EL1", "NV_frac")],
    // A CPU that can mitigate Spectre-v4 by itself needs no workaround of firmware.
    [("ID_AA64PFR1_EL1", "SSBS"), ("smccc_wa2", "level")],
];

/// Fields that follow from devices which the VMM gives to the VM: no baseline sets them.
pub const OF_DEVICES: &[(&str, &str)] = &[
    ("ID_AA64PFR0_EL1", "GIC"),
    ("ID_AA64PFR2_EL1", "GCIE"),
    ("ID_PFR1_EL1", "GIC"),
    ("ID_AA64DFR0_EL1", "PMSVer"),
];

/// Returns all ID registers, in the order of their encodings, and the pseudo registers.
pub fn all() -> impl Iterator<Item = &'static Register> {
    TABLE.iter().chain(PSEUDO)
}

/// Returns the register with a name, in any case.
pub fn named(name: &str) -> Option<&'static Register> {
    all().find(|one| one.name.eq_ignore_ascii_case(name))
}

impl Register {
    /// Returns the architecture's text of the encoding, which `id` has in its lowest 16 bits.
    pub fn encoding(&self) -> String {
        let part = |lsb: u32, bits: u32| self.id >> lsb & ((1 << bits) - 1);
        let (op0, op1, crn, crm) = (part(14, 2), part(11, 3), part(7, 4), part(3, 4));
        format!("s{op0}_{op1}_c{crn}_c{crm}_{}", part(0, 3))
    }

    /// Returns whether it is one of KVM's pseudo registers.
    pub fn is_pseudo(&self) -> bool {
        PSEUDO.iter().any(|one| one.id == self.id)
    }

    /// Returns the field with a name, in any case.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields
            .iter()
            .find(|one| one.name.eq_ignore_ascii_case(name))
    }

    /// Returns the bits that belong to fields.
    pub fn mask(&self) -> u64 {
        self.fields
            .iter()
            .fold(0, |mask, field| mask | field.mask())
    }

    /// Returns whether it describes AArch32: those are unknown where there is none.
    pub fn is_aarch32(&self) -> bool {
        !self.is_pseudo() && !self.name.starts_with("ID_AA64") && self.name != "CTR_EL0"
    }
}

impl Field {
    /// Returns its bits in the register.
    pub fn mask(&self) -> u64 {
        (u64::MAX >> (64 - self.width)) << self.lsb
    }

    /// Returns its value in that of the register.
    pub fn of(&self, register: u64) -> u64 {
        (register & self.mask()) >> self.lsb
    }

    /// Returns the register's value with another one of the field.
    pub fn with(&self, register: u64, value: u64) -> u64 {
        register & !self.mask() | (value << self.lsb) & self.mask()
    }

    /// Returns the values to try.
    pub fn tries(&self) -> Vec<u64> {
        match self.tries {
            [] => (0..1 << self.width.min(8)).collect(),
            some => some.to_vec(),
        }
    }

    fn number(&self, value: u64) -> i64 {
        if self.signed {
            (value << (64 - self.width)) as i64 >> (64 - self.width)
        } else {
            value as i64
        }
    }

    /// Returns what a value is worth: the greater of two offers more.
    pub fn worth(&self, value: u64) -> i64 {
        let number = self.number(value);
        match self.rule {
            Rule::Lower => number,
            Rule::Higher => -number,
            Rule::HigherOrZero if number == 0 => i64::MIN,
            Rule::HigherOrZero => -number,
            Rule::Exact if value == self.safe => i64::MIN,
            Rule::Exact => number,
        }
    }

    /// Returns whether a CPU that has `own` may be said to have `value`.
    pub fn is_safe(&self, value: u64, own: u64) -> bool {
        value == own
            || match self.rule {
                Rule::Exact => value == self.safe,
                _ => self.worth(value) < self.worth(own),
            }
    }

    /// Returns the architecture's word for a value, if it has one.
    pub fn word(&self, value: u64) -> Option<&'static str> {
        let named = self.values.iter().find(|(_, number)| *number == value);
        named.map(|(word, _)| *word)
    }

    /// Returns a value in the architecture's words, or its number.
    pub fn spell(&self, value: u64) -> String {
        match self.word(value) {
            Some(word) => format!("{value} ({word})"),
            None => value.to_string(),
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

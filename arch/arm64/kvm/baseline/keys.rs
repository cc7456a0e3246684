// SPDX-License-Identifier: GPL-2.0

//! The numbers and features that a baseline can have besides ID registers, and their names.

use kernel::{
    arm64::sysreg::*,
    bindings::{
        KVM_ARM_VCPU_HAS_EL2 as HAS_EL2,
        KVM_ARM_VCPU_HAS_EL2_E2H0 as HAS_EL2_E2H0,
        KVM_ARM_VCPU_PMU_V3 as PMU_V3,
        KVM_ARM_VCPU_PMU_V3_STRICT as PMU_V3_STRICT,
        KVM_ARM_VCPU_PTRAUTH_ADDRESS as PTRAUTH_ADDRESS,
        KVM_ARM_VCPU_PTRAUTH_GENERIC as PTRAUTH_GENERIC,
        KVM_ARM_VCPU_SVE, //
    }, //
};

pub(crate) use kernel::bindings::{
    kvm_baseline_key as Id,
    kvm_baseline_key_KVM_BASELINE_AIDR as AIDR,
    kvm_baseline_key_KVM_BASELINE_CNTFRQ as CNTFRQ,
    kvm_baseline_key_KVM_BASELINE_DCZID as DCZID,
    kvm_baseline_key_KVM_BASELINE_KEYS as COUNT,
    kvm_baseline_key_KVM_BASELINE_MIDR as MIDR,
    kvm_baseline_key_KVM_BASELINE_PMU_COUNTERS as PMU_COUNTERS,
    kvm_baseline_key_KVM_BASELINE_PSCI as PSCI,
    kvm_baseline_key_KVM_BASELINE_REVIDR as REVIDR,
    kvm_baseline_key_KVM_BASELINE_STD_BMAP as STD_BMAP,
    kvm_baseline_key_KVM_BASELINE_STD_HYP_BMAP as STD_HYP_BMAP,
    kvm_baseline_key_KVM_BASELINE_SVE as SVE,
    kvm_baseline_key_KVM_BASELINE_VENDOR_HYP_BMAP as VENDOR_HYP_BMAP,
    kvm_baseline_key_KVM_BASELINE_VENDOR_HYP_BMAP2 as VENDOR_HYP_BMAP2,
    kvm_baseline_key_KVM_BASELINE_WA1 as WA1,
    kvm_baseline_key_KVM_BASELINE_WA2 as WA2,
    kvm_baseline_key_KVM_BASELINE_WA3 as WA3, //
};

/// A number that a baseline can have.
pub(crate) struct Key {
    /// The name in the text.
    pub(crate) name: &'static str,
    /// The name in C.
    pub(crate) id: Id,
    /// Whether the canonical text has the number in hexadecimal.
    pub(crate) hex: bool,
}

const fn hex(name: &'static str, id: Id) -> Key {
    Key {
        name,
        id,
        hex: true,
    }
}

const fn decimal(name: &'static str, id: Id) -> Key {
    Key {
        name,
        id,
        hex: false,
    }
}

/// All keys, in the order of the canonical text.
pub(crate) const KEYS: [Key; COUNT as usize] = [
    hex("psci", PSCI),
    hex("smccc_wa1", WA1),
    hex("smccc_wa2", WA2),
    hex("smccc_wa3", WA3),
    hex("std_bmap", STD_BMAP),
    hex("std_hyp_bmap", STD_HYP_BMAP),
    hex("vendor_hyp_bmap", VENDOR_HYP_BMAP),
    hex("vendor_hyp_bmap2", VENDOR_HYP_BMAP2),
    hex("midr_el1", MIDR),
    hex("revidr_el1", REVIDR),
    hex("aidr_el1", AIDR),
    hex("dczid_el0", DCZID),
    decimal("cntfrq_el0", CNTFRQ),
    decimal("pmcr_el0.n", PMU_COUNTERS),
    decimal("sve", SVE),
];

/// The registers that identify an implementation, of which VMs can have any value.
pub(crate) const IMPLEMENTATION: [(Encoding, Id); 3] = [
    (MIDR_EL1::ENCODING, MIDR),
    (REVIDR_EL1::ENCODING, REVIDR),
    (AIDR_EL1::ENCODING, AIDR),
];

/// The features that a baseline can take away, in the order of the canonical text: names, and bits
/// `KVM_ARM_VCPU_*`.
pub(crate) const FEATURES: [(&str, usize); 4] = [
    ("el2", 1 << HAS_EL2 | 1 << HAS_EL2_E2H0),
    ("pmu", 1 << PMU_V3 | 1 << PMU_V3_STRICT),
    ("ptrauth", 1 << PTRAUTH_ADDRESS | 1 << PTRAUTH_GENERIC),
    ("sve", 1 << KVM_ARM_VCPU_SVE),
];

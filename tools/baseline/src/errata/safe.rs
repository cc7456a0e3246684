// SPDX-License-Identifier: GPL-2.0

//! CPUs that the kernel trusts because of their model; see [`table`](super::table) for the sources.

use super::cpus::*;

/// Which fields of ID registers say of a CPU that it has a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// ID_AA64PFR0_EL1.CSV3 is not 0.
    Csv3,
    /// ID_AA64PFR0_EL1.CSV2 is not 0.
    Csv2,
    /// ID_AA64PFR0_EL1.CSV2 is 3, or ID_AA64MMFR1_EL1.ECBHB is not 0.
    Csv2OrEcbhb,
    /// ID_AA64MMFR2_EL1.BBM is 3.
    Bbm,
    /// None: ID_AA64PFR1_EL1.SSBS says that a mitigation can be had, not that it is not needed.
    Nothing,
}

/// A property that the kernel trusts some CPUs to have, although no ID register says so.
///
/// A guest that is given the MIDR_EL1 of such a CPU does without a mitigation, or relies on the
/// property, so all other CPUs that it runs on must have it as well: by this list, or by the field
/// that `name` gives.
#[derive(Clone, Copy, Debug)]
pub struct Safe {
    /// What the CPUs are safe from, or have; and the field that says the same of other CPUs.
    pub name: &'static str,
    /// Function, to find it in the kernel.
    pub source: &'static str,
    pub says: Says,
    pub ranges: &'static [Range],
}

pub static SAFE: &[Safe] = &[
    Safe {
        name: "Meltdown (ID_AA64PFR0_EL1.CSV3)",
        source: "unmap_kernel_at_el0(), kpti_safe_list",
        says: Says::Csv3,
        ranges: &[
            all(THUNDERX2),
            all(VULCAN),
            all(BRAHMA_B53),
            all(CORTEX_A35),
            all(CORTEX_A53),
            all(CORTEX_A55),
            all(CORTEX_A57),
            all(CORTEX_A72),
            all(CORTEX_A73),
            all(TSV110),
            all(CARMEL),
            all(KRYO_2XX_GOLD),
            all(KRYO_2XX_SILVER),
            all(KRYO_3XX_SILVER),
            all(KRYO_4XX_SILVER),
        ],
    },
    Safe {
        name: "Spectre-v2 (ID_AA64PFR0_EL1.CSV2)",
        source: "spectre_v2_get_cpu_hw_mitigation_state(), spectre_v2_safe_list",
        says: Says::Csv2,
        ranges: &[
            all(CORTEX_A35),
            all(CORTEX_A53),
            all(CORTEX_A55),
            all(BRAHMA_B53),
            all(TSV110),
            all(KRYO_2XX_SILVER),
            all(KRYO_3XX_SILVER),
            all(KRYO_4XX_SILVER),
        ],
    },
    // A CPU with the field is not safe, but has the means: PSTATE.SSBS. This list comes first, so
    // that a guest with one of these models uses neither PSTATE.SSBS nor the call to firmware.
    Safe {
        name: "Spectre-v4 (ID_AA64PFR1_EL1.SSBS)",
        source: "spectre_v4_get_cpu_hw_mitigation_state(), spectre_v4_safe_list",
        says: Says::Nothing,
        ranges: &[
            all(CORTEX_A35),
            all(CORTEX_A53),
            all(CORTEX_A55),
            all(BRAHMA_B53),
            all(KRYO_3XX_SILVER),
            all(KRYO_4XX_SILVER),
        ],
    },
    Safe {
        name: "Spectre-BHB (ID_AA64PFR0_EL1.CSV2 of 3, or ID_AA64MMFR1_EL1.ECBHB)",
        source: "is_spectre_bhb_safe(), spectre_bhb_safe_list",
        says: Says::Csv2OrEcbhb,
        ranges: &[
            all(CORTEX_A35),
            all(CORTEX_A53),
            all(CORTEX_A55),
            all(CORTEX_A510),
            all(CORTEX_A520),
            all(BRAHMA_B53),
            all(KRYO_2XX_SILVER),
            all(KRYO_3XX_SILVER),
            all(KRYO_4XX_SILVER),
        ],
    },
    // The list leaves out C1-Ultra and C1-Premium before r1p1 because of erratum 3683289.
    Safe {
        name: "Break-before-make at level 3 (ID_AA64MMFR2_EL1.BBM)",
        source: "cpu_supports_bbml3(), supports_bbml3_list",
        says: Says::Bbm,
        ranges: &[
            revisions(CORTEX_X4, 0x03, 0x0f),
            revisions(NEOVERSE_V3, 0x02, 0x0f),
            revisions(NEOVERSE_V3AE, 0x02, 0x0f),
            all(OLYMPUS),
            all(AMPERE1),
            all(AMPERE1A),
            all(CORTEX_A520AE),
            all(CORTEX_A715),
            all(CORTEX_A720AE),
            all(CORTEX_A725),
            all(NEOVERSE_N3),
            all(C1_NANO),
            all(C1_PRO),
            revisions(C1_ULTRA, 0x11, 0xff),
            revisions(C1_PREMIUM, 0x11, 0xff),
        ],
    },
    // Only in kernels that let a thread choose its memory model, which 7.3.4 as released does not.
    Safe {
        name: "Total store order (no field)",
        source: "has_tso_fixed(), always_tso()",
        says: Says::Nothing,
        ranges: &[all(DENVER), all(CARMEL), all(A64FX)],
    },
];

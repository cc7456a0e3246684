// SPDX-License-Identifier: GPL-2.0
//! CPU errata that a Linux guest works around because of what MIDR_EL1 and REVIDR_EL1 say.
//!
//! [`ERRATA`] has what a kernel does at EL1, inside a VM. What only a hypervisor does, or only with
//! a unit that a VM does not have, is not in it; the end of this file lists that, with reasons.
//! [`SAFE`](super::safe::SAFE) has the opposite: CPUs that the kernel trusts because of their
//! model.
//!
//! The tables describe Linux 7.3 (7.3.4) and come from:
//!
//! - `arch/arm64/kernel/cpu_errata.c`: most errata;
//! - `arch/arm64/kernel/proton-pack.c`: Spectre;
//! - `arch/arm64/kernel/cpufeature.c`: Meltdown, the hardware dirty bit, break-before-make;
//! - `arch/arm64/include/asm/assembler.h`, `arch/arm64/kernel/pi/map_kernel.c`,
//!   `drivers/clocksource/arm_arch_timer.c`, `drivers/perf/arm_pmuv3.c`: one each;
//! - `arch/arm64/kernel/memory_model/policy.rs`: total store order, not in 7.3.4 as released;
//! - `arch/arm64/include/asm/cputype.h`: the numbers;
//! - `Documentation/arch/arm64/silicon-errata.rst`: the names.
//!
//! There is one [`Erratum`] for each option of the kernel, since a guest may have been built with
//! any of them off. Options that lead to the same code on the same CPUs share an entry.
//!
//! Most workarounds only cost time on a CPU that does not need them; [`Kind`] says which do more.

use super::cpus::*;

/// What else a workaround does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only costs time on a CPU that does not need it.
    Neutral,
    /// It takes away what another CPU needs, or is wrong there.
    Harmful,
    /// It is a loop of so many branches. A longer one does for a CPU that needs a shorter one, and
    /// a guest that has one does not call the firmware, which other CPUs need.
    Branches(u32),
    /// It is needed only if CTR_EL0.DIC is 1.
    WithDic,
}

/// Something that the kernel works around on some CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Erratum {
    /// As the documentation of the kernel names it.
    pub name: &'static str,
    /// Option of the workaround, or function, to find it in the kernel.
    pub source: &'static str,
    pub kind: Kind,
    pub ranges: &'static [Range],
}

/// Falkor v1, by variant 0 and revision 0, then Kryo, whose models `is_kryo_midr()` tells by the
/// upper four bits of the part.
static FALKOR_V1_AND_KRYO: [Range; 0x101] = {
    let mut ranges = [only(FALKOR_V1, 0x00); 0x101];
    let mut low = 0;
    while low < 0x100 {
        ranges[1 + low as usize] = all((KRYO.0, KRYO.1 | low));
        low += 1;
    }
    ranges
};

pub static ERRATA: &[Erratum] = &[
    // Caches.
    Erratum {
        name: "ARM Cortex-A53 826319, 827319, 824069",
        source: "CONFIG_ARM64_ERRATUM_826319, CONFIG_ARM64_ERRATUM_827319, \
                 CONFIG_ARM64_ERRATUM_824069",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A53, 0x00, 0x02)],
    },
    // The same code as for 826319.
    Erratum {
        name: "ARM Cortex-A53 819472",
        source: "CONFIG_ARM64_ERRATUM_819472",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A53, 0x00, 0x01)],
    },
    // The kernel also requires that CTR_EL0.DIC is 1. Where a VM is given 0, there is nothing to
    // hide from its programs.
    Erratum {
        name: "ARM Neoverse-N1 1542419",
        source: "CONFIG_ARM64_ERRATUM_1542419",
        kind: Kind::WithDic,
        ranges: &[all(NEOVERSE_N1)],
    },
    // the kernel does not isolate its page tables from programs (KPTI), even if it
    // would for Meltdown or for randomised addresses.
    Erratum {
        name: "Cavium ThunderX 27456",
        source: "CONFIG_CAVIUM_ERRATUM_27456",
        kind: Kind::Harmful,
        ranges: &[revisions(THUNDERX, 0x00, 0x11), only(THUNDERX_81XX, 0x00)],
    },
    // Loads, stores and barriers.
    Erratum {
        name: "ARM Cortex-A57 832075",
        source: "CONFIG_ARM64_ERRATUM_832075",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A57, 0x00, 0x12)],
    },
    // Modules. The kernel itself is linked for the erratum, whatever it runs on.
    Erratum {
        name: "ARM Cortex-A53 843419",
        source: "CONFIG_ARM64_ERRATUM_843419",
        kind: Kind::Neutral,
        ranges: &[
            fixed(revisions(CORTEX_A53, 0x00, 0x04), &[(0x04, 1 << 8)]),
            only(BRAHMA_B53, 0x00),
        ],
    },
    Erratum {
        name: "ARM Cortex-A53 845719",
        source: "CONFIG_ARM64_ERRATUM_845719",
        kind: Kind::Neutral,
        ranges: &[
            revisions(CORTEX_A53, 0x00, 0x04),
            only(BRAHMA_B53, 0x00),
            only(KRYO_2XX_SILVER, 0xa4),
        ],
    },
    Erratum {
        name: "ARM Cortex-A77 1508412",
        source: "CONFIG_ARM64_ERRATUM_1508412",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A77, 0x00, 0x10)],
    },
    Erratum {
        name: "NVIDIA Olympus T410-OLY-1027",
        source: "CONFIG_NVIDIA_OLYMPUS_1027_ERRATUM",
        kind: Kind::Neutral,
        ranges: &[all(OLYMPUS)],
    },
    // Address translation. The next five lead to the same code: invalidations are repeated.
    Erratum {
        name: "Qualcomm Falkor v1 and Kryo E1009",
        source: "CONFIG_QCOM_FALKOR_ERRATUM_1009",
        kind: Kind::Neutral,
        ranges: &FALKOR_V1_AND_KRYO,
    },
    Erratum {
        name: "ARM Cortex-A76 1286807",
        source: "CONFIG_ARM64_ERRATUM_1286807",
        kind: Kind::Neutral,
        ranges: &[
            revisions(CORTEX_A76, 0x00, 0x30),
            revisions(KRYO_4XX_GOLD, 0xce, 0xfe),
        ],
    },
    Erratum {
        name: "ARM Cortex-A55 2441007",
        source: "CONFIG_ARM64_ERRATUM_2441007",
        kind: Kind::Neutral,
        ranges: &[all(CORTEX_A55)],
    },
    Erratum {
        name: "ARM Cortex-A510 2441009",
        source: "CONFIG_ARM64_ERRATUM_2441009",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A510, 0x00, 0x11)],
    },
    Erratum {
        name: "ARM Cortex-X4 4118414 and the same of other models (CVE-2025-10263)",
        source: "CONFIG_ARM64_ERRATUM_4118414",
        kind: Kind::Neutral,
        ranges: &[
            all(C1_PREMIUM),
            all(C1_ULTRA),
            all(CORTEX_A76),
            all(CORTEX_A76AE),
            all(CORTEX_A77),
            all(CORTEX_A78),
            all(CORTEX_A78AE),
            all(CORTEX_A78C),
            all(CORTEX_A710),
            all(CORTEX_X1),
            all(CORTEX_X1C),
            all(CORTEX_X2),
            all(CORTEX_X3),
            all(CORTEX_X4),
            all(CORTEX_X925),
            all(NEOVERSE_N1),
            all(NEOVERSE_N2),
            all(NEOVERSE_V1),
            all(NEOVERSE_V2),
            all(NEOVERSE_V3),
            all(NEOVERSE_V3AE),
            all(OLYMPUS),
            all(COBALT_100),
        ],
    },
    Erratum {
        name: "Qualcomm Falkor v1 and Kryo E1003",
        source: "CONFIG_QCOM_FALKOR_ERRATUM_1003",
        kind: Kind::Neutral,
        ranges: &FALKOR_V1_AND_KRYO,
    },
    // The other half of the workaround, that KVM traps TTBR0_EL1 and TTBR1_EL1, is up to the host.
    Erratum {
        name: "Cavium ThunderX2 219, prefetch",
        source: "CONFIG_CAVIUM_TX2_ERRATUM_219",
        kind: Kind::Neutral,
        ranges: &[all(VULCAN), all(THUNDERX2)],
    },
    Erratum {
        name: "Fujitsu A64FX E#010001",
        source: "CONFIG_FUJITSU_ERRATUM_010001",
        kind: Kind::Neutral,
        ranges: &[only(A64FX, 0x00), only(A64FX, 0x10)],
    },
    // The next two lead to the same code: no common not private translations.
    Erratum {
        name: "NVIDIA Carmel CNP",
        source: "CONFIG_NVIDIA_CARMEL_CNP_ERRATUM",
        kind: Kind::Neutral,
        ranges: &[all(CARMEL)],
    },
    Erratum {
        name: "Hisilicon Hip09 162100125",
        source: "CONFIG_HISILICON_ERRATUM_162100125",
        kind: Kind::Neutral,
        ranges: &[all(HIP09)],
    },
    // The next two lead to the same code: no hardware management of the dirty bit.
    Erratum {
        name: "ARM Cortex-A55 1024718",
        source: "CONFIG_ARM64_ERRATUM_1024718",
        kind: Kind::Neutral,
        ranges: &[all(CORTEX_A55), only(KRYO_4XX_SILVER, 0xde)],
    },
    Erratum {
        name: "ARM Cortex-A510 2051678",
        source: "CONFIG_ARM64_ERRATUM_2051678",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A510, 0x00, 0x02)],
    },
    Erratum {
        name: "ARM Cortex-A715 2645198",
        source: "CONFIG_ARM64_ERRATUM_2645198",
        kind: Kind::Neutral,
        ranges: &[all(CORTEX_A715)],
    },
    // The next two lead to the same code: an invalidation before each return to EL0.
    Erratum {
        name: "ARM Cortex-A520 2966298",
        source: "CONFIG_ARM64_ERRATUM_2966298",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A520, 0x00, 0x01)],
    },
    Erratum {
        name: "ARM Cortex-A510 3117295",
        source: "CONFIG_ARM64_ERRATUM_3117295",
        kind: Kind::Neutral,
        ranges: &[all(CORTEX_A510)],
    },
    // Instructions that programs must not use.
    Erratum {
        name: "ARM Cortex-A57 1742098, Cortex-A72 1655431",
        source: "CONFIG_ARM64_ERRATUM_1742098",
        kind: Kind::Neutral,
        ranges: &[revisions(CORTEX_A57, 0x01, 0xff), all(CORTEX_A72)],
    },
    Erratum {
        name: "ARM Cortex-A510 2658417",
        source: "CONFIG_ARM64_ERRATUM_2658417",
        kind: Kind::Neutral,
        ranges: &[fixed(
            revisions(CORTEX_A510, 0x00, 0x11),
            &[(0x11, 1 << 25)],
        )],
    },
    // Timers.
    Erratum {
        name: "ARM Cortex-A73 858921",
        source: "CONFIG_ARM64_ERRATUM_858921",
        kind: Kind::Neutral,
        ranges: &[all(CORTEX_A73)],
    },
    Erratum {
        name: "ARM Cortex-A76 and Neoverse-N1 1188873, 1418040",
        source: "CONFIG_ARM64_ERRATUM_1418040",
        kind: Kind::Neutral,
        ranges: &[
            revisions(CORTEX_A76, 0x00, 0x31),
            revisions(NEOVERSE_N1, 0x00, 0x31),
            revisions(KRYO_4XX_GOLD, 0xce, 0xff),
        ],
    },
    Erratum {
        name: "APM X-Gene timer with 31 bits",
        source: "__arch_timer_check_delta()",
        kind: Kind::Neutral,
        ranges: &[revisions(XGENE, 0x00, 0x0f)],
    },
    // CPU interface of the interrupt controller. It does harm: an interrupt counts as spurious if
    // ICC_AP1R0_EL1 does not change as it is acknowledged, which is wrong on CPUs with more than 32
    // groups of priorities.
    Erratum {
        name: "Cavium ThunderX GICv3 23154, 38545",
        source: "CONFIG_CAVIUM_ERRATUM_23154",
        kind: Kind::Harmful,
        ranges: &[
            all(THUNDERX),
            all(THUNDERX_81XX),
            all(THUNDERX_83XX),
            all(OCTX2_98XX),
            all(OCTX2_96XX),
            all(OCTX2_95XX),
            all(OCTX2_95XXN),
            all(OCTX2_95XXMM),
            all(OCTX2_95XXO),
        ],
    },
    // PMU. The kernel does not call it an erratum.
    Erratum {
        name: "NVIDIA Olympus PMCCNTR_EL0 in WFI and WFE",
        source: "armv8pmu_is_in_avoid_pmccntr_cpus()",
        kind: Kind::Neutral,
        ranges: &[all(OLYMPUS)],
    },
    // Speculation.
    Erratum {
        name: "ARM Cortex-X4 3194386 and the same of other models (MSR SSBS)",
        source: "CONFIG_ARM64_ERRATUM_3194386",
        kind: Kind::Neutral,
        ranges: &[
            all(CORTEX_A76),
            all(CORTEX_A77),
            all(CORTEX_A78),
            all(CORTEX_A78C),
            all(CORTEX_A710),
            all(CORTEX_A715),
            all(CORTEX_A720),
            all(CORTEX_A720AE),
            all(CORTEX_A725),
            all(CORTEX_X1),
            all(CORTEX_X1C),
            all(CORTEX_X2),
            all(CORTEX_X3),
            all(CORTEX_X4),
            all(CORTEX_X925),
            all(COBALT_100),
            all(NEOVERSE_N1),
            all(NEOVERSE_N2),
            all(NEOVERSE_N3),
            all(NEOVERSE_V1),
            all(NEOVERSE_V2),
            all(NEOVERSE_V3),
            all(NEOVERSE_V3AE),
        ],
    },
    // the sequence of branches replaces the call to firmware (or to the hypervisor),
    // which other CPUs need. The kernel applies it if ID_AA64PFR0_EL1.CSV2 is 0 and the call is
    // offered. Kryo 2xx Gold has the part of Falkor v1, so it is taken for that.
    Erratum {
        name: "Spectre-v2, branches in place of the call",
        source: "spectre_v2_get_sw_mitigation_cb()",
        kind: Kind::Harmful,
        ranges: &[all(FALKOR), all(FALKOR_V1)],
    },
    // The next six are loops of branches at each entry to the kernel. A longer loop also does for
    // CPUs that need a shorter one: with several kinds of CPUs, the kernel takes the longest. The
    // kernel applies none if ID_AA64PFR0_EL1.CSV2 is 3, if ID_AA64MMFR1_EL1.ECBHB is not 0,
    // or if there is the CLRBHB instruction, which it then uses.
    //
    // a loop replaces the call to firmware (or to the hypervisor), which is for CPUs
    // that have none of the three, no loop, and are not in the list for Spectre-BHB in `SAFE`. The
    // kernel has no list of these.
    Erratum {
        name: "Spectre-BHB, 132 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k132_list",
        kind: Kind::Branches(132),
        ranges: &[all(CORTEX_X3), all(NEOVERSE_V2)],
    },
    Erratum {
        name: "Spectre-BHB, 38 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k38_list",
        kind: Kind::Branches(38),
        ranges: &[all(CORTEX_A715), all(CORTEX_A720), all(CORTEX_A720AE)],
    },
    Erratum {
        name: "Spectre-BHB, 32 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k32_list",
        kind: Kind::Branches(32),
        ranges: &[
            all(CORTEX_A78),
            all(CORTEX_A78AE),
            all(CORTEX_A78C),
            all(CORTEX_X1),
            all(CORTEX_X1C),
            all(CORTEX_A710),
            all(CORTEX_X2),
            all(NEOVERSE_N2),
            all(NEOVERSE_V1),
            all(TSV110),
        ],
    },
    Erratum {
        name: "Spectre-BHB, 24 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k24_list",
        kind: Kind::Branches(24),
        ranges: &[
            all(CORTEX_A76),
            all(CORTEX_A76AE),
            all(CORTEX_A77),
            all(NEOVERSE_N1),
            all(KRYO_4XX_GOLD),
            all(HIP09),
        ],
    },
    Erratum {
        name: "Spectre-BHB, 11 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k11_list",
        kind: Kind::Branches(11),
        ranges: &[all(AMPERE1)],
    },
    Erratum {
        name: "Spectre-BHB, 8 branches",
        source: "spectre_bhb_loop_affected(), spectre_bhb_k8_list",
        kind: Kind::Branches(8),
        ranges: &[all(CORTEX_A72), all(CORTEX_A57)],
    },
];
// What is not in the tables, and why.
//
// Only the hypervisor works around it, at EL2. (A guest that is itself a hypervisor, with a virtual
// EL2, is not considered.)
//
// - Cortex-A57 834220: KVM, as it handles faults at stage 2.
// - Cortex-A76 1165522, Cortex-A55 1530923 and Kryo 4xx Silver, Cortex-A57 1319537, Cortex-A72
//   1319367 (ARM64_WORKAROUND_SPECULATIVE_AT): KVM, as it switches between VMs. No other code asks.
// - Cortex-A76 1463225 and Kryo 4xx Gold: has_cortex_a76_erratum_1463225() requires that the kernel
//   runs at EL2 (VHE).
// - Cortex-A510 2077057: KVM, as it steps a guest.
// - Cortex-A57 and Cortex-A72, Spectre-v3a: addresses of the vectors of EL2.
// - Cavium ThunderX 30115: KVM traps the guest's accesses to the interrupt controller.
// - Cavium ThunderX2 219, TTBRx_EL1: KVM traps them, with several threads per core.
// - AmpereOne AC03_CPU_38, AC04_CPU_10: KVM clears VTCR_EL2.HA, and HA and HD in TCR_EL1 of VMs.
// - AmpereOne AC04_CPU_23: writes to HCR_EL2.
// - AmpereOne AC03_CPU_57, AC04_CPU_29: KVM, as it deactivates interrupts of VMs, on all CPUs.
// - Cortex-A57 852523, Cortex-A72 853709: KVM, with the order of registers on all CPUs.
// - Qualcomm Oryon, CNTVOFF_EL2: KVM, with the offset of the timer.
// - Apple, PMUv3 by traps of HACR_EL2, and GICv3 with SEIS: both require EL2 (VHE).
// - Apple M2, HCR_EL2.NV1 (has_nv1()), and M1 and M2, ICH_HCR_EL2.TDIR (can_trap_icv_dir_el1()):
//   abilities of a hypervisor.
//
// It concerns a unit that a VM does not have:
//
// - Trace buffer and trace unit: Cortex-A710 and Cortex-X2 2119858 and 2224489, Cortex-A710
//   2054223, Neoverse-N2 and Cobalt 100 2139208, 2253138 and 2067961, Cortex-A510 2064142, 2038923
//   and 1902691; Cortex-A76 and Neoverse-N1 1490853, Cortex-A77 1491015, Cortex-X1 1502854,
//   Neoverse-V1 1619801.
// - Activity monitors, which KVM hides: Cortex-A510 2457168, Cortex-A725 3821522.
// - SME, which KVM hides: C1-Pro 4193714. A kernel at EL1 does work around it if it finds SME. With
//   a KVM that gives SME to VMs, ERRATA needs CONFIG_ARM64_ERRATUM_4193714:
//   `fixed(revisions(C1_PRO, 0x00, 0x12), &[(0x12, 1 << 0)])`.
// - Physical interrupt controller and ITS: GIC-700 2941627; Cavium 22375, 24313, 23144 and 38539;
//   Hip07 161600802; Hip09 162100801; QDF2400 E0065; NVIDIA T241-FABRIC-4; Renesas Gen4; RK3568
//   3568002; RK3588 3588001; ASR8601 8601001; Socionext pre-ITS. Most go by the unit's own
//   registers or by the device tree.
// - SMMU, with its performance monitors: MMU-500 562869, 841119, 826419 and 1047329; MMU-600
//   1076982 and 1209401; MMU-700 2133013, 2268618, 2812531 and 3777127; MMU L1 3878312; MMU S3
//   3995052; Cavium 27704, 74 and 126; Marvell 582743; Hisilicon 161010701, 161010803, 162001800
//   and 162001900; T264-SMMU-3.
// - CMN-650 3642720; MPAM of T241 (T241-MPAM-1, -4 and -6).
// - cppc_cpufreq_get_transition_delay_us() (Falkor) and hisi_read_sccl_and_ccl_id() (TSV110):
//   frequency of the CPUs, and monitors outside the CPUs.
// - is_octeontx() of cavium-rng-vf.c (ThunderX): a device of that SoC.
//
// MIDR_EL1 does not decide:
//
// - SI L1 4311569: an argument of the kernel.
// - Timers of Freescale A-008585, Hisilicon 161010101 and Allwinner UNKNOWN1: the device tree or
//   the OEM of an ACPI table. Guests need these, but whoever makes their tables has to say so.
// - Mismatched cache type: CTR_EL0.
// - APEI of HPE m400: ACPI tables, which have to match in addition to the implementer.
// - Falkor E1041, and Neoverse-N1 1349291: the same code on all CPUs.
// - Spectre-v2, Spectre-v4 and Spectre-BHB by calls to firmware: what SMCCC_ARCH_FEATURES returns.
//   The list of CPUs for Spectre-BHB that older kernels had (Cortex-A73, Cortex-A75) is gone.

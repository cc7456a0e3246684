// SPDX-License-Identifier: GPL-2.0

//! Models of CPUs, by the numbers in MIDR_EL1 (`arch/arm64/include/asm/cputype.h`).

/// CPUs of one model, by MIDR_EL1.
///
/// MIDR_EL1.Architecture is always 0xf.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    pub implementer: u8,
    pub part: u16,
    /// variant << 4 | revision, inclusive
    pub first: u8,
    /// variant << 4 | revision, inclusive
    pub last: u8,
    /// REVIDR_EL1 bits that say the erratum is fixed: (variant << 4 | revision, mask) pairs. Any
    /// bit of the mask is enough.
    pub fixed: &'static [(u8, u32)],
}

/// MIDR_EL1.Implementer and MIDR_EL1.PartNum.
pub type Model = (u8, u16);

pub const fn revisions((implementer, part): Model, first: u8, last: u8) -> Range {
    Range {
        implementer,
        part,
        first,
        last,
        fixed: &[],
    }
}

pub const fn all(model: Model) -> Range {
    revisions(model, 0, 0xff)
}

pub const fn only(model: Model, revision: u8) -> Range {
    revisions(model, revision, revision)
}

pub const fn fixed(range: Range, fixed: &'static [(u8, u32)]) -> Range {
    Range { fixed, ..range }
}

pub const ARM: u8 = 0x41;
pub const BROADCOM: u8 = 0x42;
pub const CAVIUM: u8 = 0x43;
pub const FUJITSU: u8 = 0x46;
pub const HISILICON: u8 = 0x48;
pub const NVIDIA: u8 = 0x4e;
pub const APM: u8 = 0x50;
pub const QUALCOMM: u8 = 0x51;
pub const MICROSOFT: u8 = 0x6d;
pub const AMPERE: u8 = 0xc0;

pub const CORTEX_A53: Model = (ARM, 0xd03);
pub const CORTEX_A35: Model = (ARM, 0xd04);
pub const CORTEX_A55: Model = (ARM, 0xd05);
pub const CORTEX_A57: Model = (ARM, 0xd07);
pub const CORTEX_A72: Model = (ARM, 0xd08);
pub const CORTEX_A73: Model = (ARM, 0xd09);
pub const CORTEX_A76: Model = (ARM, 0xd0b);
pub const NEOVERSE_N1: Model = (ARM, 0xd0c);
pub const CORTEX_A77: Model = (ARM, 0xd0d);
pub const CORTEX_A76AE: Model = (ARM, 0xd0e);
pub const NEOVERSE_V1: Model = (ARM, 0xd40);
pub const CORTEX_A78: Model = (ARM, 0xd41);
pub const CORTEX_A78AE: Model = (ARM, 0xd42);
pub const CORTEX_X1: Model = (ARM, 0xd44);
pub const CORTEX_A510: Model = (ARM, 0xd46);
pub const CORTEX_A710: Model = (ARM, 0xd47);
pub const CORTEX_X2: Model = (ARM, 0xd48);
pub const NEOVERSE_N2: Model = (ARM, 0xd49);
pub const CORTEX_A78C: Model = (ARM, 0xd4b);
pub const CORTEX_X1C: Model = (ARM, 0xd4c);
pub const CORTEX_A715: Model = (ARM, 0xd4d);
pub const CORTEX_X3: Model = (ARM, 0xd4e);
pub const NEOVERSE_V2: Model = (ARM, 0xd4f);
pub const CORTEX_A520: Model = (ARM, 0xd80);
pub const CORTEX_A720: Model = (ARM, 0xd81);
pub const CORTEX_X4: Model = (ARM, 0xd82);
pub const NEOVERSE_V3AE: Model = (ARM, 0xd83);
pub const NEOVERSE_V3: Model = (ARM, 0xd84);
pub const CORTEX_X925: Model = (ARM, 0xd85);
pub const CORTEX_A725: Model = (ARM, 0xd87);
pub const CORTEX_A520AE: Model = (ARM, 0xd88);
pub const CORTEX_A720AE: Model = (ARM, 0xd89);
pub const C1_NANO: Model = (ARM, 0xd8a);
pub const C1_PRO: Model = (ARM, 0xd8b);
pub const C1_ULTRA: Model = (ARM, 0xd8c);
pub const NEOVERSE_N3: Model = (ARM, 0xd8e);
pub const C1_PREMIUM: Model = (ARM, 0xd90);

pub const BRAHMA_B53: Model = (BROADCOM, 0x100);
pub const VULCAN: Model = (BROADCOM, 0x516);

pub const THUNDERX: Model = (CAVIUM, 0x0a1);
pub const THUNDERX_81XX: Model = (CAVIUM, 0x0a2);
pub const THUNDERX_83XX: Model = (CAVIUM, 0x0a3);
pub const THUNDERX2: Model = (CAVIUM, 0x0af);
pub const OCTX2_98XX: Model = (CAVIUM, 0x0b1);
pub const OCTX2_96XX: Model = (CAVIUM, 0x0b2);
pub const OCTX2_95XX: Model = (CAVIUM, 0x0b3);
pub const OCTX2_95XXN: Model = (CAVIUM, 0x0b4);
pub const OCTX2_95XXMM: Model = (CAVIUM, 0x0b5);
pub const OCTX2_95XXO: Model = (CAVIUM, 0x0b6);

pub const A64FX: Model = (FUJITSU, 0x001);

pub const TSV110: Model = (HISILICON, 0xd01);
pub const HIP09: Model = (HISILICON, 0xd02);

pub const DENVER: Model = (NVIDIA, 0x003);
pub const CARMEL: Model = (NVIDIA, 0x004);
pub const OLYMPUS: Model = (NVIDIA, 0x010);

pub const XGENE: Model = (APM, 0x000);

/// The first of 0x100 parts: the kernel takes all of them for Kryo in [`FALKOR_V1_AND_KRYO`].
pub const KRYO: Model = (QUALCOMM, 0x200);
/// The same part as [`KRYO_2XX_GOLD`].
pub const FALKOR_V1: Model = (QUALCOMM, 0x800);
pub const KRYO_2XX_GOLD: Model = (QUALCOMM, 0x800);
pub const KRYO_2XX_SILVER: Model = (QUALCOMM, 0x801);
pub const KRYO_3XX_SILVER: Model = (QUALCOMM, 0x803);
pub const KRYO_4XX_GOLD: Model = (QUALCOMM, 0x804);
pub const KRYO_4XX_SILVER: Model = (QUALCOMM, 0x805);
pub const FALKOR: Model = (QUALCOMM, 0xc00);

pub const COBALT_100: Model = (MICROSOFT, 0xd49);

pub const AMPERE1: Model = (AMPERE, 0xac3);
pub const AMPERE1A: Model = (AMPERE, 0xac4);

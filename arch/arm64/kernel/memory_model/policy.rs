// SPDX-License-Identifier: GPL-2.0

//! Decides on requests of threads, and which bits and registers hold a memory model.
//!
//! Pure logic: no state, every function total.

use kernel::arm64::sysreg::{Layout, AIDR_EL1, MIDR_EL1};

/// A memory model: `PR_SET_MEM_MODEL_*` of the user-space interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Model {
    /// The order that the architecture guarantees. Every thread starts with it.
    Default = 0,
    /// Total store order, as on x86.
    Tso = 1,
}

/// The error for a number that encodes no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unknown;

impl TryFrom<u64> for Model {
    type Error = Unknown;

    fn try_from(number: u64) -> Result<Self, Unknown> {
        match number {
            0 => Ok(Self::Default),
            1 => Ok(Self::Tso),
            _ => Err(Unknown),
        }
    }
}

/// The memory models that all CPUs of the system support.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// The default model only.
    None,
    /// Total store order always: stronger than the default, so nothing is switched.
    Fixed,
    /// Either model, as each thread chooses.
    Switched,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The model is not available.
    Refuse,
    /// The model, or a stronger one, is always in force.
    Nothing,
    /// The thread gets the model.
    Switch(Model),
}

/// Decides on a request.
pub(crate) const fn request(support: Support, model: Model) -> Outcome {
    match (support, model) {
        (Support::Switched, model) => Outcome::Switch(model),
        (_, Model::Default) | (Support::Fixed, Model::Tso) => Outcome::Nothing,
        (Support::None, Model::Tso) => Outcome::Refuse,
    }
}

/// MIDR_EL1 implementers and parts (`asm/cputype.h`).
const APPLE: u64 = 0x61;
const NVIDIA: u64 = 0x4e;
const NVIDIA_DENVER: u64 = 0x003;
const NVIDIA_CARMEL: u64 = 0x004;
const FUJITSU: u64 = 0x46;
const FUJITSU_A64FX: u64 = 0x001;

/// Returns whether the implementer is Apple, so that the IMPLEMENTATION DEFINED bit 9 of AIDR_EL1
/// advertises the control, and bit 1 of ACTLR_EL1 is the control.
fn defines_control(midr: MIDR_EL1) -> bool {
    midr.Implementer() == APPLE
}

/// Returns whether the CPU always has total store order: NVIDIA's Denver and Carmel, Fujitsu's
/// A64FX.
fn always_tso(midr: MIDR_EL1) -> bool {
    matches!(
        (midr.Implementer().get(), midr.PartNum().get()),
        (NVIDIA, NVIDIA_DENVER | NVIDIA_CARMEL) | (FUJITSU, FUJITSU_A64FX)
    )
}

/// AIDR_EL1.TSO: the CPU has the control.
const AIDR_EL1_TSO: u64 = 1 << 9;

/// ACTLR_EL1.EnTSO: total store order is in force at the Exception levels of the register.
const ACTLR_EL1_EN_TSO: u64 = 1 << 1;

/// Returns whether a CPU advertises the control.
pub(crate) fn advertises(midr: MIDR_EL1, aidr: AIDR_EL1) -> bool {
    defines_control(midr) && aidr.into_raw() & AIDR_EL1_TSO != 0
}

/// Returns `actlr`, which is ACTLR_EL1 by any of its names, with its model replaced by `model`.
pub(crate) fn with_model<R: Layout>(actlr: R, model: Model) -> R {
    let actlr: u64 = actlr.into();

    R::from(match model {
        Model::Default => actlr & !ACTLR_EL1_EN_TSO,
        Model::Tso => actlr | ACTLR_EL1_EN_TSO,
    })
}

/// Returns the model in `actlr`, which is ACTLR_EL1 by any of its names.
pub(crate) fn model_in<R: Layout>(actlr: R) -> Model {
    let actlr: u64 = actlr.into();

    if actlr & ACTLR_EL1_EN_TSO != 0 {
        Model::Tso
    } else {
        Model::Default
    }
}

/// Returns whether `midrs` is not empty and all its CPUs always have total store order.
pub(crate) fn all_always_tso(mut midrs: impl Iterator<Item = MIDR_EL1>) -> bool {
    midrs.next().is_some_and(always_tso) && midrs.all(always_tso)
}

/// A register that holds a memory model. All except [`Register::Own`] come from
/// [`register_of_guests`], which returns only registers that the CPU has, or from the number that
/// the same CPU has stored for its register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Register {
    /// ACTLR_EL1, by that name: the register that the kernel itself runs with.
    Own = 0,
    /// ACTLR_EL12: the register of EL1 while HCR_EL2.E2H is 1, where EL2 has its own.
    El12 = 1,
    /// The same by the IMPLEMENTATION DEFINED encoding S3_6_C15_C14_6, which the first CPUs with
    /// the control have in place of ACTLR_EL12.
    ImpdefEl12 = 2,
}

impl TryFrom<u8> for Register {
    type Error = Unknown;

    fn try_from(number: u8) -> Result<Self, Unknown> {
        match number {
            0 => Ok(Self::Own),
            1 => Ok(Self::El12),
            2 => Ok(Self::ImpdefEl12),
            _ => Err(Unknown),
        }
    }
}

/// Returns the register that holds the memory model of guests, or [`None`] if it is not known.
///
/// Where the kernel runs at EL1, this is its own register. In VHE mode it depends on the CPU. The
/// encodings and the parts that have them come from m1n1, the boot loader and hypervisor for these
/// CPUs: `SYS_ACTLR_EL12` and `SYS_IMP_APL_ACTLR_EL12` (`src/cpu_regs.h`, `src/hv_exc.c`),
/// `actlr_el2` of `midr_parts[]` (`src/chickens.c`), and the part numbers in `src/midr.h`. No
/// architecture document describes these registers, so a part that is not listed is taken to have
/// neither; M4, about which m1n1 is not sure, is not listed.
pub(crate) fn register_of_guests(vhe: bool, midr: MIDR_EL1) -> Option<Register> {
    if !vhe {
        return Some(Register::Own);
    }
    match (defines_control(midr), midr.PartNum().get()) {
        // M1: Icestorm and Firestorm, then those of M1 Pro and Max.
        (true, 0x022..=0x025 | 0x028 | 0x029) => Some(Register::ImpdefEl12),
        // M2 (Blizzard, Avalanche) and M3 (Sawtooth, Everest), with Pro and Max.
        (true, 0x032..=0x035 | 0x038 | 0x039) => Some(Register::El12),
        (true, 0x042..=0x045 | 0x048 | 0x049) => Some(Register::El12),
        _ => None,
    }
}

/// Parses the value of `kvm-arm.tso=`. Returns the model of guests, or [`None`] if it is invalid.
pub(crate) const fn parse_option(value: &[u8]) -> Option<Model> {
    match value {
        b"on" => Some(Model::Tso),
        b"off" => Some(Model::Default),
        _ => None,
    }
}

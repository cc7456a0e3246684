// SPDX-License-Identifier: GPL-2.0

//! What a thread may ask for, and what follows from it on this system.
//!
//! Pure logic: no kernel types, no state, every function total.

/// A memory model: `PR_SET_MEM_MODEL_*` of the user-space interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Model {
    /// What the architecture promises, and every thread starts with.
    Default = 0,
    /// Total store order, as on x86.
    Tso = 1,
}

impl Model {
    /// The model that user space has this number for.
    pub(crate) const fn new(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Default),
            1 => Some(Self::Tso),
            _ => None,
        }
    }
}

/// What all CPUs of the system can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// The default model only.
    None,
    /// Total store order always: stronger than the default, and nothing to switch.
    Fixed,
    /// Either, as each thread wants.
    Switched,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It cannot be had.
    Refuse,
    /// It is in force already, or something stronger is.
    Nothing,
    /// The thread gets it.
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

/// AIDR_EL1.TSO: the CPU has the control. Bit 9 of a register that is IMPLEMENTATION
/// DEFINED, so that it means this only where the implementer is Apple.
const AIDR_EL1_TSO: u64 = 1 << 9;

/// ACTLR_EL1.EnTSO: total store order is in force at EL1 and EL0. Likewise.
pub(crate) const ACTLR_EL1_EN_TSO: u64 = 1 << 1;

/// MIDR_EL1.Implementer of Apple.
const IMPLEMENTER_APPLE: u64 = 0x61;

/// Whether a CPU says that it has the control.
pub(crate) const fn advertises(midr: u64, aidr: u64) -> bool {
    midr >> 24 & 0xff == IMPLEMENTER_APPLE && aidr & AIDR_EL1_TSO != 0
}

/// AIDR_EL1 as a guest may see it.
pub(crate) const fn without_control(aidr: u64) -> u64 {
    aidr & !AIDR_EL1_TSO
}

/// ACTLR_EL1 with `model` in place of the one in `actlr`.
pub(crate) const fn with_model(actlr: u64, model: Model) -> u64 {
    match model {
        Model::Default => actlr & !ACTLR_EL1_EN_TSO,
        Model::Tso => actlr | ACTLR_EL1_EN_TSO,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The arm64 architecture: system registers, and the features of this machine's CPUs.
//!
//! Names are those of the Arm Architecture Reference Manual (Arm ARM, DDI 0487), in the same case.

pub mod access;
pub mod cpufeature;
#[cfg(CONFIG_ARM_SPE_UNIT)]
pub mod spe_unit;
pub mod sysreg;
pub mod this_cpu;

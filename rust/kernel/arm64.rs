// SPDX-License-Identifier: GPL-2.0

//! The arm64 architecture: its system registers, and what the CPUs of this machine implement.
//!
//! Names are those of the Arm Architecture Reference Manual (Arm ARM, DDI 0487), in its case.

pub mod access;
pub mod cpufeature;
pub mod sysreg;
pub mod this_cpu;

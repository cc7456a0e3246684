// SPDX-License-Identifier: GPL-2.0

//! Access to the system registers of a CPU.
//!
//! Code that reads and writes registers takes an [`Access`], so that tests can check its logic and
//! the order of its accesses: [`ThisCpu`](super::this_cpu::ThisCpu) on a machine, a fake in tests.

use super::sysreg::*;

/// A register that every CPU has, at EL1 and at EL2.
///
/// # Safety
///
/// Every CPU has the register, and reading it has no effect.
pub unsafe trait Universal: SystemRegister {}

macro_rules! universal {
    ($($register:ident)*) => {$(
        // SAFETY: Every implementation must have the register (Arm ARM D24.2, by its name), and
        // reading it has no effect.
        unsafe impl Universal for $register {}
    )*};
}

universal! { ACTLR_EL1 AIDR_EL1 CTR_EL0 CurrentEL ID_AA64DFR0_EL1 MIDR_EL1 REVIDR_EL1 }

/// The system registers of a CPU, and the barriers that belong to them.
pub trait Access {
    /// Returns the value of `R`, if the CPU has it.
    ///
    /// # Safety
    ///
    /// The CPU has `R` at this Exception level, and reading it has no effect.
    unsafe fn read_present<R: SystemRegister>(&self) -> R;

    /// Writes `R`. [`Access::synchronise`] makes it effective for the instructions that follow.
    ///
    /// # Safety
    ///
    /// The CPU has `R` at this Exception level, and the write changes nothing that the kernel
    /// relies on.
    unsafe fn write<R: SystemRegister>(&self, value: R);

    /// Completes all earlier memory accesses for the Inner Shareable domain: `DSB ISH`.
    fn complete(&self);

    /// Writes all records of statistical profiling to memory: `PSB CSYNC` and `DSB NSH`.
    fn complete_profiling(&self);

    /// Synchronises the context, so that later instructions see earlier register writes: `ISB`.
    fn synchronise(&self);

    /// Returns the value of `R`.
    fn read<R: Universal>(&self) -> R {
        // SAFETY: By the contract of `Universal`.
        unsafe { self.read_present() }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How many breakpoints there are, and which of a CPU's stand for those of a VM.
//!
//! Context-aware breakpoints are the highest-numbered ones (Arm ARM, section
//! "Breakpoint types and linking of breakpoints"). A VM that has fewer breakpoints
//! than the CPU expects them right below the end of its own, so its ordinary
//! breakpoints are the CPU's first ones, and its context-aware breakpoints are the
//! CPU's last ones:
//!
//! ```text
//! VM,  4 of them, 2 context-aware:   0  1              2c 3c
//! CPU, 6 of them, 2 context-aware:   0  1  (2)  (3)    4c 5c
//! ```
//!
//! Pure logic: no kernel types, no state, every function total.

use super::sysreg::*;

/// Breakpoints, or watchpoints, that can be reached without MDSELR_EL1.
pub(crate) const MAX: usize = 16;

/// Breakpoints of a VM, or of a CPU, in numbers.
///
/// # Invariants
///
/// `context_aware <= breakpoints <= MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    breakpoints: usize,
    context_aware: usize,
}

/// A field that has a number less one, of a register whose other fields do not matter.
const fn number(register: u64, mask: u64, shift: u32) -> usize {
    ((register & mask) >> shift) as usize + 1
}

impl Topology {
    /// What `ID_AA64DFR0_EL1` says. More context-aware breakpoints than breakpoints
    /// cannot be: all of them are.
    pub(crate) const fn of(dfr0: u64) -> Self {
        let breakpoints = number(dfr0, ID_AA64DFR0_EL1_BRPs_MASK, ID_AA64DFR0_EL1_BRPs_SHIFT);
        let context_aware = number(
            dfr0,
            ID_AA64DFR0_EL1_CTX_CMPs_MASK,
            ID_AA64DFR0_EL1_CTX_CMPs_SHIFT,
        );

        // INVARIANT: Both fields have four bits, and the smaller number is taken.
        Self {
            breakpoints,
            context_aware: if context_aware < breakpoints {
                context_aware
            } else {
                breakpoints
            },
        }
    }

    /// The first [`MAX`] breakpoints of a CPU with these registers.
    ///
    /// With FEAT_Debugv8p9 a CPU may have more than those, and the context-aware ones
    /// are at the end of them all (Arm ARM, ID_AA64DFR1_EL1).
    pub(crate) const fn of_cpu(dfr0: u64, dfr1: u64) -> Self {
        let first = Self::of(dfr0);
        if all_in_reach(dfr1) {
            return first;
        }
        let all = number(dfr1, ID_AA64DFR1_EL1_BRPs_MASK, ID_AA64DFR1_EL1_BRPs_SHIFT);
        let context_aware = number(
            dfr1,
            ID_AA64DFR1_EL1_CTX_CMPs_MASK,
            ID_AA64DFR1_EL1_CTX_CMPs_SHIFT,
        );
        let context_aware = if context_aware > first.context_aware {
            context_aware
        } else {
            first.context_aware
        };

        // INVARIANT: What is beyond the first breakpoints is taken away from both numbers.
        Self {
            breakpoints: first.breakpoints,
            context_aware: first
                .breakpoints
                .saturating_sub(all.saturating_sub(context_aware)),
        }
    }

    /// The number of breakpoints.
    pub(crate) const fn breakpoints(self) -> usize {
        self.breakpoints
    }

    /// The number of them that are context-aware.
    pub(crate) const fn context_aware(self) -> usize {
        self.context_aware
    }

    /// The number of those that are not, which is that of the first one that is.
    pub(crate) const fn ordinary(self) -> usize {
        self.breakpoints - self.context_aware
    }

    /// Whether there is a breakpoint `n`, and it is context-aware.
    pub(crate) const fn is_context_aware(self, n: usize) -> bool {
        self.ordinary() <= n && n < self.breakpoints
    }
}

/// Whether a CPU with this `ID_AA64DFR1_EL1` has no breakpoints but those that can be reached
/// without MDSELR_EL1. Of others at least the last context-aware one is beyond.
pub(crate) const fn all_in_reach(dfr1: u64) -> bool {
    number(dfr1, ID_AA64DFR1_EL1_BRPs_MASK, ID_AA64DFR1_EL1_BRPs_SHIFT) <= MAX
}

/// Whether a VM may be told `dfr0`, as far as breakpoints are concerned, where `now` is
/// what it has been told so far.
///
/// An implementation has at least two breakpoints, and no more of them are
/// context-aware than there are (Arm ARM, ID_AA64DFR0_EL1). What the host does not have
/// is for others to refuse.
pub(crate) const fn may_be_told(dfr0: u64, now: u64) -> bool {
    const BOTH: u64 = ID_AA64DFR0_EL1_BRPs_MASK | ID_AA64DFR0_EL1_CTX_CMPs_MASK;
    let brps = (dfr0 & ID_AA64DFR0_EL1_BRPs_MASK) >> ID_AA64DFR0_EL1_BRPs_SHIFT;
    let ctx_cmps = (dfr0 & ID_AA64DFR0_EL1_CTX_CMPs_MASK) >> ID_AA64DFR0_EL1_CTX_CMPs_SHIFT;

    (dfr0 ^ now) & BOTH == 0 || (brps >= 1 && ctx_cmps <= brps)
}

/// Which breakpoints of a CPU stand for those of a VM that has fewer.
///
/// # Invariants
///
/// `vm` has fewer breakpoints than `cpu`, and no more that are context-aware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    vm: Topology,
    cpu: Topology,
}

impl Mapping {
    /// Makes the mapping; [`None`] if the VM's breakpoints are the CPU's first ones
    /// anyway, or if the CPU lacks what the VM was promised.
    pub(crate) const fn new(vm: Topology, cpu: Topology) -> Option<Self> {
        if vm.breakpoints < cpu.breakpoints && vm.context_aware <= cpu.context_aware {
            // INVARIANT: Just tested.
            Some(Self { vm, cpu })
        } else {
            None
        }
    }

    /// What the VM has.
    pub(crate) const fn vm(self) -> Topology {
        self.vm
    }

    /// What the CPU has.
    pub(crate) const fn cpu(self) -> Topology {
        self.cpu
    }

    /// The CPU's breakpoint for breakpoint `n` of the VM; [`None`] if it has no such.
    pub(crate) const fn physical(self, n: usize) -> Option<usize> {
        if n < self.vm.ordinary() {
            Some(n)
        } else if n < self.vm.breakpoints {
            Some(n + (self.cpu.breakpoints - self.vm.breakpoints))
        } else {
            None
        }
    }
}

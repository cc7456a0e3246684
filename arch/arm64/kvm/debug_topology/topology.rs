// SPDX-License-Identifier: GPL-2.0

//! Counts of breakpoints, and the mapping from a VM's breakpoints to a CPU's.
//!
//! ID_AA64DFR0_EL1.BRPs is the number of the last context-aware breakpoint, and the
//! context-aware breakpoints are the last ones up to it (Arm ARM, ID_AA64DFR0_EL1). A VM
//! whose counts differ from those of the CPU expects its last breakpoints to be the
//! context-aware ones. So its ordinary breakpoints map to the CPU's first ones, and its
//! context-aware breakpoints to the CPU's last context-aware ones:
//!
//! ```text
//! VM,  4 breakpoints, 2 context-aware:   0  1              2c 3c
//! CPU, 6 breakpoints, 2 context-aware:   0  1  (2)  (3)    4c 5c
//! ```
//!
//! FEAT_Debugv8p9 adds breakpoints after the last context-aware one, and banks of
//! registers that MDSELR_EL1 selects. KVM gives a VM neither. This file is about the
//! first bank: ID_AA64DFR0_EL1 describes its breakpoints up to the last context-aware
//! one. ID_AA64DFR1_EL1 is needed only for the number of registers in that bank.
//!
//! Pure logic: no state, every function total.

use kernel::arm64::sysreg::{ID_AA64DFR0_EL1, ID_AA64DFR1_EL1};

/// The largest number of breakpoints, or of watchpoints, in one bank of registers.
pub(crate) const MAX: usize = 16;

/// The breakpoints of a VM, or those of a CPU up to its last context-aware one, as counts.
///
/// # Invariants
///
/// `context_aware <= breakpoints <= MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topology {
    breakpoints: usize,
    context_aware: usize,
}

impl Topology {
    /// Returns the topology that `dfr0` describes. If a CPU with FEAT_Debugv8p9 has more
    /// context-aware breakpoints than fit in the first bank, all of that bank are context-aware.
    pub(crate) fn of(dfr0: ID_AA64DFR0_EL1) -> Self {
        Self::new(dfr0.breakpoints(), dfr0.context_aware_breakpoints())
    }

    /// Creates the topology with these counts, or with the closest possible ones.
    pub(crate) const fn new(breakpoints: usize, context_aware: usize) -> Self {
        let breakpoints = if breakpoints < MAX { breakpoints } else { MAX };

        // INVARIANT: `breakpoints` is at most `MAX`, and `context_aware` is limited to it.
        Self {
            breakpoints,
            context_aware: if context_aware < breakpoints {
                context_aware
            } else {
                breakpoints
            },
        }
    }

    /// Returns the number of breakpoints.
    pub(crate) const fn breakpoints(self) -> usize {
        self.breakpoints
    }

    /// Returns the number of context-aware breakpoints.
    pub(crate) const fn context_aware(self) -> usize {
        self.context_aware
    }

    /// Returns the number of ordinary breakpoints, which is the index of the first
    /// context-aware one.
    pub(crate) const fn ordinary(self) -> usize {
        self.breakpoints - self.context_aware
    }

    /// Returns whether breakpoint `n` exists and is context-aware.
    pub(crate) const fn is_context_aware(self, n: usize) -> bool {
        self.ordinary() <= n && n < self.breakpoints
    }
}

/// Returns the index of the last breakpoint of the first bank, of a CPU with these
/// registers.
///
/// If ID_AA64DFR1_EL1.BRPs is not 0, it is the count of breakpoints minus one. Otherwise,
/// ID_AA64DFR0_EL1.BRPs is that count minus one.
pub(crate) fn last_breakpoint(dfr0: ID_AA64DFR0_EL1, dfr1: ID_AA64DFR1_EL1) -> usize {
    last(dfr0.BRPs().get() as usize, dfr1.BRPs().get() as usize)
}

/// Returns the index of the last watchpoint of the first bank; the WRPs fields work like the
/// BRPs fields in [`last_breakpoint`].
pub(crate) fn last_watchpoint(dfr0: ID_AA64DFR0_EL1, dfr1: ID_AA64DFR1_EL1) -> usize {
    last(dfr0.WRPs().get() as usize, dfr1.WRPs().get() as usize)
}

const fn last(in_dfr0: usize, in_dfr1: usize) -> usize {
    match in_dfr1 {
        0 => in_dfr0,
        1..MAX => in_dfr1,
        _ => MAX - 1,
    }
}

/// Returns whether `dfr0` may replace `now` as a VM's ID_AA64DFR0_EL1, as far as
/// breakpoints are concerned.
///
/// An implementation has at least two breakpoints, and CTX_CMPs is not greater than BRPs
/// (Arm ARM, ID_AA64DFR0_EL1). The caller compares `dfr0` with the host's value.
pub(crate) fn is_valid(dfr0: ID_AA64DFR0_EL1, now: ID_AA64DFR0_EL1) -> bool {
    let (brps, ctx_cmps) = (dfr0.BRPs(), dfr0.CTX_CMPs());

    (brps, ctx_cmps) == (now.BRPs(), now.CTX_CMPs()) || (brps >= 1 && ctx_cmps <= brps)
}

/// The mapping of a VM's breakpoints to those of a CPU with other counts.
///
/// # Invariants
///
/// `vm` is not `cpu`, and neither count of `vm` is greater than that of `cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    vm: Topology,
    cpu: Topology,
}

impl Mapping {
    /// Creates the mapping; returns [`None`] if the counts are the same, so that no mapping is
    /// needed, or if the CPU has fewer breakpoints or context-aware ones than the VM.
    pub(crate) const fn new(vm: Topology, cpu: Topology) -> Option<Self> {
        let fewer = vm.breakpoints < cpu.breakpoints || vm.context_aware < cpu.context_aware;

        if fewer && vm.breakpoints <= cpu.breakpoints && vm.context_aware <= cpu.context_aware {
            // INVARIANT: Just tested.
            Some(Self { vm, cpu })
        } else {
            None
        }
    }

    /// Returns the VM's topology.
    pub(crate) const fn vm(self) -> Topology {
        self.vm
    }

    /// Returns the CPU's topology, for tests.
    #[cfg(test)]
    pub(crate) const fn cpu(self) -> Topology {
        self.cpu
    }

    /// Returns the physical number of the VM's breakpoint `n`; [`None`] if the VM has no
    /// breakpoint `n`.
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

// SPDX-License-Identifier: GPL-2.0

//! The choice between invalidation by line and full invalidation.
//!
//! Pure logic: no state, every function total. The same file is compiled into the kernel proper,
//! into the nVHE object and into a test program for the build host.

use kernel::arm64::sysreg::CTR_EL0;

/// The maintenance that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// `CTR_EL0.DIC`, or no bytes: no instruction-cache maintenance is needed.
    Nothing,
    /// `IC IVAU` for each line of the range.
    ByLine,
    /// `IC IALLUIS`, once.
    All,
}

/// Decides how to invalidate `size` bytes of freshly mapped guest memory.
///
/// * `ctr`: the sanitised `CTR_EL0`. If its DIC bit is set, no CPU of the system needs
///   invalidation to the Point of Unification for instruction to data coherence. Its
///   line size is the smallest of the system, since any CPU may invalidate a range.
/// * `aliasing`: whether the instruction cache is aliasing (VIPT): a line may be at an
///   index that the hypervisor's address does not select.
/// * `size`: the size of the whole request in bytes, before the range is split.
/// * `max_lines`: the largest number of maintenance instructions that one request may
///   broadcast (`MAX_DVM_OPS`).
///
/// A request of exactly `max_lines` lines is served by line.
#[inline(always)]
pub(crate) fn plan(ctr: CTR_EL0, aliasing: bool, size: u64, max_lines: u64) -> Plan {
    if ctr.DIC().into_bool() || size == 0 {
        Plan::Nothing
    } else if aliasing || size.div_ceil(ctr.icache_line_bytes() as u64) > max_lines {
        Plan::All
    } else {
        Plan::ByLine
    }
}

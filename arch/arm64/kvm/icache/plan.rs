// SPDX-License-Identifier: GPL-2.0

//! How much of the instruction cache one request has to invalidate.
//!
//! Pure logic: no kernel types, no state, every function total. The same file
//! is compiled into the kernel proper, into the nVHE object and into a test
//! program for the build host.

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
/// * `ctr`: the sanitised `CTR_EL0`. With its DIC bit the system as a whole needs no
///   invalidation to the Point of Unification for instruction to data coherence. Its
///   line size is the smallest of the system, since a range may be invalidated from any CPU.
/// * `aliasing`: whether the instruction cache is a VIPT one, in which a line
///   may sit at an index that the hypervisor's address does not lead to.
/// * `size`: in bytes, of the whole request, before it is cut into pieces.
/// * `max_lines`: how many maintenance instructions one request may broadcast
///   (`MAX_DVM_OPS`).
///
/// A request of exactly `max_lines` lines goes line by line.
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

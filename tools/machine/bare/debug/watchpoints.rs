// SPDX-License-Identifier: GPL-2.0

//! Tests matches of watchpoints.

use core::ptr::{addr_of, addr_of_mut};

use super::*;

/// `DBGWCR<n>_EL1` without LSC: enabled at EL1, for all bytes of a doubleword.
const WATCH: u64 =
    DBGWCRn_EL1_E | field(DBGWCRn_EL1_PAC, PAC_EL1) | field(DBGWCRn_EL1_BAS, BAS_DOUBLEWORD);
const WATCH_STORES: u64 = WATCH | field(DBGWCRn_EL1_LSC, LSC_STORES);
const WATCH_ALL: u64 = WATCH | field(DBGWCRn_EL1_LSC, LSC_ALL);

/// The watched word, in a separate page, so that only the accesses below are compared with its
/// address.
#[repr(align(4096))]
struct Watched(u64);

static mut WATCHED: Watched = Watched(0);

/// Stores to the watched word, and loads from it, in the context `context`.
extern "C" fn store(context: u64) {
    write!("contextidr_el1", context);
    // SAFETY: No other code accesses the word.
    unsafe {
        let word = addr_of_mut!(WATCHED.0);
        word.write_volatile(word.read_volatile() + 1);
    }
    write!("contextidr_el1", 0);
}

/// Loads the watched word, or stores to it.
extern "C" fn access(is_store: u64) {
    // SAFETY: No other code accesses the word.
    unsafe {
        let word = addr_of_mut!(WATCHED.0);
        match is_store {
            0 => _ = word.read_volatile(),
            _ => word.write_volatile(0),
        }
    }
}

/// Returns how often [`store`] in `context` hits the watchpoint.
fn stored(context: u64) -> u64 {
    hits(ARMED, store, context, EC_WATCHPT_CUR)
}

/// Returns `DBGWCR<n>_EL1` of a watchpoint that is linked to breakpoint `n`.
fn linked_to(n: u64) -> u64 {
    WATCH_STORES | DBGWCRn_EL1_WT | field(DBGWCRn_EL1_LBN, n)
}

/// Checks watchpoints that are linked to context-aware breakpoints, and to ordinary ones.
fn linked(report: &mut Report, expected: &Expected, control: Access) {
    let context_aware = expected.brps - 1;

    IN_CONTEXT.set(context_aware);
    control(Some(linked_to(context_aware)));
    for (context, want, fact) in [
        (CONTEXT, 1, "linked watchpoint in its context"),
        (CONTEXT + 1, 0, "linked watchpoint in another context"),
    ] {
        report.same(stored(context), want, fact, "DBGWCR<n>_EL1.WT");
    }
    if expected.ctx_cmps < expected.brps {
        control(Some(linked_to(0)));
        report.same(
            stored(CONTEXT),
            0,
            "watchpoint linked to one that is not context-aware: never",
            "DBGWCR<n>_EL1.LBN, CONSTRAINED UNPREDICTABLE",
        );
    }
}

/// Checks the access that the exception reports.
fn syndromes(report: &mut Report) {
    for (is_store, name) in [
        (1, "a store is reported as one"),
        (0, "a load after a store is reported as a load"),
        (1, "and a store after that as a store"),
    ] {
        let hit = hits(ARMED, access, is_store, EC_WATCHPT_CUR);
        report.check(
            hit == 1 && field_of(cpu::taken().esr, ESR_ELx_WNR) == is_store,
            format_args!("{name}"),
            "ESR_ELx, ISS encoding for a Watchpoint exception: WnR",
        );
    }
}

/// Runs all checks, on the last watchpoint.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    let last = (expected.wrps - 1) as usize;

    DBGWVR[last](Some(addr_of!(WATCHED) as u64));
    DBGWCR[last](Some(WATCH_STORES));
    report.same(
        stored(CONTEXT),
        1,
        "the last watchpoint sees a store, and no load",
        "DBGWCR<n>_EL1.LSC",
    );
    linked(report, expected, DBGWCR[last]);
    DBGWCR[last](Some(WATCH_ALL));
    syndromes(report);
    disarm(expected);
}

// SPDX-License-Identifier: GPL-2.0

//! Tests matches of breakpoints.

use core::arch::{asm, global_asm};

use super::*;

// The instruction with breakpoints, and the next one.
global_asm!(".global probe_target", "probe_target:", "nop", "ret");

extern "C" {
    fn probe_target();
}

/// Returns the address of breakpoints.
fn target() -> u64 {
    probe_target as usize as u64
}

/// Executes two instructions in the context `context`; the first is at the address of breakpoints.
extern "C" fn probe(context: u64) {
    write!("contextidr_el1", context);
    // SAFETY: This calls the code above.
    unsafe { asm!("bl {target}", target = sym probe_target, out("x30") _) };
    write!("contextidr_el1", 0);
}

/// Returns how often a breakpoint hits in `context`.
fn probed(context: u64) -> u64 {
    hits(ARMED, probe, context, EC_BREAKPT_CUR)
}

/// Checks that there is no debug exception without the registers.
fn nothing_armed(report: &mut Report) {
    report.same(
        probed(CONTEXT),
        0,
        "nothing armed, nothing hit",
        "Breakpoint exceptions",
    );
}

/// The masking of debug exceptions: `OSLAR_EL1`, `MDSCR_EL1`, and how often a breakpoint hits.
const ENABLES: [(u64, u64, u64, &str, &str); 3] = [
    (
        0,
        ARMED,
        1,
        "unlinked address match",
        "DBGBCR<n>_EL1.BT 0b0000",
    ),
    (
        OSLAR_EL1_OSLK,
        ARMED,
        0,
        "not with the OS Lock locked",
        "OSLSR_EL1.OSLK",
    ),
    (
        0,
        MDSCR_EL1_KDE,
        0,
        "not with MDSCR_EL1.MDE clear",
        "MDSCR_EL1.MDE",
    ),
];

/// Checks an unlinked address breakpoint, and the bits that must enable it.
fn unlinked(report: &mut Report) {
    Breakpoint::of(DBGBCRn_EL1_BT_ADDRESS, target()).set(0);
    for (lock, mdscr, want, fact, rule) in ENABLES {
        write!("oslar_el1", lock);
        let have = hits(mdscr, probe, CONTEXT, EC_BREAKPT_CUR);
        report.same(have, want, fact, rule);
    }
}

/// Cases of a linked breakpoint: whether its target is enabled, the context of the instruction, and
/// how often the breakpoint hits.
const LINKS: [(bool, u64, u64, &str, &str); 3] = [
    (
        true,
        CONTEXT,
        1,
        "linked address match in its context",
        "DBGBCR<n>_EL1.BT 0b0001",
    ),
    (
        true,
        CONTEXT + 1,
        0,
        "linked address match in another context",
        "DBGBCR<n>_EL1.BT 0b0001",
    ),
    (
        false,
        CONTEXT,
        0,
        "linked to a breakpoint that is disabled",
        "DBGBCR<n>_EL1.LBN",
    ),
];

/// Checks a breakpoint that is linked to a context-aware one.
fn linked(report: &mut Report, last: u64) {
    Breakpoint::linked(target(), last).set(0);
    for (enabled, context, want, fact, rule) in LINKS {
        IN_CONTEXT.set(last);
        if !enabled {
            DBGBCR[last as usize](Some(0));
        }
        report.same(probed(context), want, fact, rule);
    }
}

/// Checks a breakpoint whose link is invalid.
fn linked_in_vain(report: &mut Report, expected: &Expected) {
    const RULE: &str = "DBGBCR<n>_EL1.LBN, CONSTRAINED UNPREDICTABLE";
    let first_context_aware = expected.brps - expected.ctx_cmps;

    if first_context_aware > 1 {
        let n = first_context_aware - 1;
        IN_CONTEXT.set(n);
        Breakpoint::linked(target(), n).set(0);
        let fact = "linked to one that is not context-aware: never";
        report.same(probed(CONTEXT), 0, fact, RULE);
        report.same(
            field_of(DBGBCR[n as usize](None), DBGBCRn_EL1_BT),
            DBGBCRn_EL1_BT_LINKED_ADDRESS,
            "BT[1] of one that is not context-aware is RES0",
            "DBGBCR<n>_EL1.BT",
        );
    }
    if expected.brps < MAX {
        Breakpoint::linked(target(), expected.brps).set(0);
        let fact = "linked to one that is not there: never";
        report.same(probed(CONTEXT), 0, fact, RULE);
    }
}

/// Checks an unlinked context breakpoint.
fn context(report: &mut Report, last: u64) {
    Breakpoint::of(DBGBCRn_EL1_BT_CONTEXT, CONTEXT).set(last);
    let hit = probed(CONTEXT);
    report.check(
        hit == 1 && cpu::taken().elr != target(),
        format_args!(
            "context match: whatever the address, from the first instruction of the context"
        ),
        "DBGBCR<n>_EL1.BT 0b0010",
    );
    report.same(
        probed(CONTEXT + 1),
        0,
        "context match: none of another",
        "DBGBCR<n>_EL1.BT 0b0010",
    );
}

/// `CONTEXTIDR_EL2` while breakpoints that compare it are tested.
const CONTEXT_EL2: u64 = CONTEXT + 7;

/// Types that compare one half of the value: the lower half with CONTEXTIDR_EL1, or the upper half
/// with CONTEXTIDR_EL2. The unlinked type, the linked type, the value, and whether it matches.
const HALVES: [(u64, u64, u64, bool, &str); 4] = [
    (
        DBGBCRn_EL1_BT_CONTEXTIDR_EL1,
        DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL1,
        CONTEXT,
        true,
        "CONTEXTIDR_EL1 match",
    ),
    (
        DBGBCRn_EL1_BT_CONTEXTIDR_EL1,
        DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL1,
        CONTEXT << 32 | 0x55,
        false,
        "CONTEXTIDR_EL1 match: not by the upper half",
    ),
    (
        DBGBCRn_EL1_BT_CONTEXTIDR_EL2,
        DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL2,
        CONTEXT_EL2 << 32,
        true,
        "CONTEXTIDR_EL2 match",
    ),
    (
        DBGBCRn_EL1_BT_CONTEXTIDR_EL2,
        DBGBCRn_EL1_BT_LINKED_CONTEXTIDR_EL2,
        CONTEXT_EL2,
        false,
        "CONTEXTIDR_EL2 match: not by the lower half",
    ),
];

/// Checks the types of FEAT_VHE.
fn halves(report: &mut Report, expected: &Expected, last: u64) {
    let vhe = field_of(read!("id_aa64mmfr1_el1"), ID_AA64MMFR1_EL1_VH) != 0;

    if vhe {
        write!(SYS_CONTEXTIDR_EL2, CONTEXT_EL2);
    }
    for (bt, linked_bt, value, matches, fact) in HALVES {
        let want = u64::from(vhe && matches);
        Breakpoint::of(bt, value).set(last);
        let rule = "DBGBCR<n>_EL1.BT 0b0110, 0b1100";
        report.same(probed(CONTEXT), want, fact, rule);

        Breakpoint::of(linked_bt, value).set(last);
        Breakpoint::linked(target(), last).set(0);
        let rule = "DBGBCR<n>_EL1.BT 0b0111, 0b1101";
        let fact = "and so for a breakpoint linked to it";
        report.same(probed(CONTEXT), want, fact, rule);
        disarm(expected);
    }
    if vhe {
        write!(SYS_CONTEXTIDR_EL2, 0);
    }
}

/// Runs all checks. There are at least two breakpoints, and the last one is context-aware.
pub(super) fn test(report: &mut Report, expected: &Expected) {
    let last = expected.brps - 1;

    write!("oslar_el1", 0);
    disarm(expected);
    nothing_armed(report);
    unlinked(report);
    linked(report, last);
    linked_in_vain(report, expected);
    disarm(expected);
    context(report, last);
    disarm(expected);
    halves(report, expected, last);
}

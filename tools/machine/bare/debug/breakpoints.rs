// SPDX-License-Identifier: GPL-2.0

//! When a breakpoint matches.

use core::arch::{asm, global_asm};

use super::*;

// What breakpoints are set on, and what is executed after it.
global_asm!(".global probe_target", "probe_target:", "nop", "ret");

extern "C" {
    fn probe_target();
}

/// Returns where breakpoints are set.
fn target() -> u64 {
    probe_target as usize as u64
}

/// Executes two instructions in the context `context`; the first is the one that
/// breakpoints are set on.
extern "C" fn probe(context: u64) {
    write!("contextidr_el1", context);
    // SAFETY: A call of what is above.
    unsafe { asm!("bl {target}", target = sym probe_target, out("x30") _) };
    write!("contextidr_el1", 0);
}

/// Returns how often a breakpoint is hit in that context.
fn probed(context: u64) -> u64 {
    hits(ARMED, probe, context, EC_BREAKPT_CUR)
}

/// Checks that it is the registers that make debug exceptions.
fn nothing_armed(report: &mut Report) {
    report.same(
        probed(CONTEXT),
        0,
        "nothing armed, nothing hit",
        "Breakpoint exceptions",
    );
}

/// What keeps debug exceptions away: `OSLAR_EL1`, `MDSCR_EL1`, and how often a breakpoint is hit.
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

/// Checks a breakpoint that is on an address and nothing else, and what has to be enabled for it.
fn unlinked(report: &mut Report) {
    Breakpoint::of(DBGBCRn_EL1_BT_ADDRESS, target()).set(0);
    for (lock, mdscr, want, fact, rule) in ENABLES {
        write!("oslar_el1", lock);
        let have = hits(mdscr, probe, CONTEXT, EC_BREAKPT_CUR);
        report.same(have, want, fact, rule);
    }
}

/// What a breakpoint can be linked to: whether that is enabled, where the instruction is executed,
/// and how often the breakpoint is hit.
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

/// Checks a breakpoint that is linked to another, which is context-aware.
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

/// Checks a breakpoint that is linked to what it cannot be linked to.
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

/// Checks a breakpoint on a context alone.
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

/// Types that go by one half of the value: CONTEXTIDR_EL1 alone by the lower one, CONTEXTIDR_EL2
/// by the upper one. The type, that of one to link to, the value, and whether it matches.
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

/// Checks the types that are FEAT_VHE's.
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

/// Checks all of it. There are two breakpoints at least, the last is context-aware.
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

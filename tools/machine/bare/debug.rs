// SPDX-License-Identifier: GPL-2.0

//! Breakpoints and watchpoints: how many there are, who may access them, and when
//! they match.

use core::arch::asm;

use crate::{cpu, Expected, Report};

const UNDEFINED: u64 = 0x00;
const SYSREG_TRAP: u64 = 0x18;
const BREAKPOINT_SAME_EL: u64 = 0x31;
const WATCHPOINT_SAME_EL: u64 = 0x35;

/// `DBGBCR<n>_EL1`: E, PMC of EL1, BAS of an A64 instruction.
const ENABLED: u64 = 1 | 1 << 1 | 0xf << 5;
/// `DBGWCR<n>_EL1`: E, PAC of EL1, stores, all eight bytes.
const WATCH_STORES: u64 = 1 | 1 << 1 | 2 << 3 | 0xff << 5;
const CONTEXT: u64 = 0x1234;

const fn bt(kind: u64) -> u64 {
    kind << 20
}

const fn lbn(n: u64) -> u64 {
    n << 16
}

/// Writes `value`, if there is one, to `S2_0_C0_C<N>_<OP2>`, and reads it.
fn register<const N: u32, const OP2: u32>(value: Option<u64>) -> u64 {
    let mut now = 0u64;

    // SAFETY: The tests write what changes only what they look at; an access that
    // is not possible is noted.
    unsafe {
        if let Some(value) = value {
            asm!("msr S2_0_C0_C{n}_{op2}, {v}", "isb", n = const N, op2 = const OP2, v = in(reg) value);
        }
        asm!("mrs {v}, S2_0_C0_C{n}_{op2}", n = const N, op2 = const OP2, v = inout(reg) now);
    }
    now
}

/// The registers of one family, by number.
macro_rules! family {
    ($name:ident, $op2:literal) => {
        const $name: [fn(Option<u64>) -> u64; 16] = [
            register::<0, $op2>,
            register::<1, $op2>,
            register::<2, $op2>,
            register::<3, $op2>,
            register::<4, $op2>,
            register::<5, $op2>,
            register::<6, $op2>,
            register::<7, $op2>,
            register::<8, $op2>,
            register::<9, $op2>,
            register::<10, $op2>,
            register::<11, $op2>,
            register::<12, $op2>,
            register::<13, $op2>,
            register::<14, $op2>,
            register::<15, $op2>,
        ];
    };
}

family!(DBGBVR, 4);
family!(DBGBCR, 5);
family!(DBGWVR, 6);
family!(DBGWCR, 7);

/// Writes and reads the pair of breakpoint registers with that number: two accesses
/// each.
extern "C" fn access_breakpoint(n: u64) {
    let n = n as usize;

    DBGBVR[n](Some(0x1000));
    DBGBCR[n](Some(0));
}

extern "C" fn access_watchpoint(n: u64) {
    let n = n as usize;

    DBGWVR[n](Some(0x1000));
    DBGWCR[n](Some(0));
}

/// Executes two instructions in the context `context`; the first is the one that
/// breakpoints are set on.
extern "C" fn probe(context: u64) {
    write!("contextidr_el1", context);
    // SAFETY: A call of what is below.
    unsafe { asm!("bl {target}", target = sym probe_target, out("x30") _) };
    write!("contextidr_el1", 0);
}

core::arch::global_asm!(".global probe_target", "probe_target:", "nop", "ret");

extern "C" {
    fn probe_target();
}

/// In a page of its own, so that no access but those below is compared with its address.
#[repr(align(4096))]
struct Watched(u64);

static mut WATCHED: Watched = Watched(0);

/// Stores to the watched word, and loads from it, in the context `context`.
extern "C" fn store(context: u64) {
    write!("contextidr_el1", context);
    // SAFETY: Nobody else has the word.
    unsafe {
        let word = core::ptr::addr_of_mut!(WATCHED.0);
        word.write_volatile(word.read_volatile() + 1);
    }
    write!("contextidr_el1", 0);
}

/// Loads the watched word, or stores to it.
extern "C" fn access(is_store: u64) {
    // SAFETY: Nobody else has the word.
    unsafe {
        let word = core::ptr::addr_of_mut!(WATCHED.0);
        match is_store {
            0 => _ = word.read_volatile(),
            _ => word.write_volatile(0),
        }
    }
}

/// No breakpoint or watchpoint is enabled.
fn disarm(expected: &Expected) {
    (0..expected.brps).for_each(|n| _ = DBGBCR[n as usize](Some(0)));
    (0..expected.wrps).for_each(|n| _ = DBGWCR[n as usize](Some(0)));
}

/// `MDSCR_EL1`: MDE and KDE.
const ARMED: u64 = 1 << 15 | 1 << 13;

/// How often the function runs into a debug exception of `class` at EL1; the first one
/// switches the others off.
fn hits(function: extern "C" fn(u64), context: u64, class: u64) -> u64 {
    write!("mdscr_el1", ARMED);
    let taken = cpu::at(1, function, context);

    if taken.count != 0 && (taken.el != 1 || taken.class() != class) {
        return u64::MAX;
    }
    taken.count
}

fn counts(report: &mut Report, expected: &Expected) {
    let dfr0 = read!("id_aa64dfr0_el1");

    report.same(
        dfr0 >> 12 & 0xf,
        expected.brps - 1,
        "ID_AA64DFR0_EL1.BRPs",
        "ID_AA64DFR0_EL1",
    );
    report.same(
        dfr0 >> 20 & 0xf,
        expected.wrps - 1,
        "ID_AA64DFR0_EL1.WRPs",
        "ID_AA64DFR0_EL1",
    );
    report.same(
        dfr0 >> 28 & 0xf,
        expected.ctx_cmps - 1,
        "ID_AA64DFR0_EL1.CTX_CMPs",
        "ID_AA64DFR0_EL1",
    );
    for n in 0..16 {
        let taken = cpu::at(1, access_breakpoint, n);
        let there = n < expected.brps;
        report.check(
            if there {
                taken.count == 0
            } else {
                taken.count == 4 && taken.el == 1 && taken.class() == UNDEFINED
            },
            format_args!(
                "breakpoint {n} is {}",
                if there { "there" } else { "UNDEFINED" }
            ),
            "DBGBCR<n>_EL1: n is less than NUM_BREAKPOINTS",
        );
        let taken = cpu::at(1, access_watchpoint, n);
        let there = n < expected.wrps;
        report.check(
            if there {
                taken.count == 0
            } else {
                taken.count == 4 && taken.el == 1 && taken.class() == UNDEFINED
            },
            format_args!(
                "watchpoint {n} is {}",
                if there { "there" } else { "UNDEFINED" }
            ),
            "DBGWCR<n>_EL1: n is less than NUM_WATCHPOINTS",
        );
    }
}

fn traps(report: &mut Report, expected: &Expected) {
    write!("mdcr_el2", 3 << 12 | 1 << 9);
    let taken = cpu::at(1, access_breakpoint, 0);
    report.check(
        taken.count == 4 && taken.el == 2 && taken.class() == SYSREG_TRAP,
        format_args!("MDCR_EL2.TDA traps breakpoint registers to EL2"),
        "MDCR_EL2.TDA",
    );
    write!("mdcr_el2", 3 << 12);
    if expected.features & 1 == 0 {
        cpu::clear();
        let _ = read!("s3_4_c3_c1_4");
        report.check(
            cpu::taken().class() == UNDEFINED && cpu::taken().count == 1,
            format_args!("without FEAT_FGT, HDFGRTR_EL2 is UNDEFINED"),
            "HDFGRTR_EL2",
        );
        return;
    }
    // HDFGRTR_EL2 and HDFGWTR_EL2: DBGBCRn_EL1 is bit 0, DBGBVRn_EL1 bit 1.
    for (bit, name) in [(0, "DBGBCR"), (1, "DBGBVR")] {
        write!("s3_4_c3_c1_4", 1 << bit);
        let reads = cpu::at(1, access_breakpoint, 0);
        write!("s3_4_c3_c1_4", 0);
        write!("s3_4_c3_c1_5", 1 << bit);
        let writes = cpu::at(1, access_breakpoint, 0);
        write!("s3_4_c3_c1_5", 0);
        report.check(
            reads.count == 1 && reads.esr & 1 == 1 && reads.el == 2 && reads.class() == SYSREG_TRAP,
            format_args!("HDFGRTR_EL2 traps reads of {name}<n>_EL1 and no other access"),
            "HDFGRTR_EL2",
        );
        report.check(
            writes.count == 1
                && writes.esr & 1 == 0
                && writes.el == 2
                && writes.class() == SYSREG_TRAP,
            format_args!("HDFGWTR_EL2 traps writes of {name}<n>_EL1 and no other access"),
            "HDFGWTR_EL2",
        );
    }
}

fn breakpoints(report: &mut Report, expected: &Expected) {
    let target = probe_target as usize as u64;
    let context_aware = (expected.brps - 1) as usize;
    let first = expected.brps - expected.ctx_cmps;

    write!("oslar_el1", 0);
    disarm(expected);
    report.same(
        hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
        0,
        "nothing armed, nothing hit",
        "Breakpoint exceptions",
    );

    DBGBVR[0](Some(target));
    DBGBCR[0](Some(ENABLED | bt(0)));
    report.same(
        hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
        1,
        "unlinked address match",
        "DBGBCR<n>_EL1.BT 0b0000",
    );
    write!("oslar_el1", 1);
    report.same(
        hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
        0,
        "not with the OS Lock locked",
        "OSLSR_EL1.OSLK",
    );
    write!("oslar_el1", 0);
    write!("mdscr_el1", 1 << 13);
    report.same(
        cpu::at(1, probe, CONTEXT).count,
        0,
        "not with MDSCR_EL1.MDE clear",
        "MDSCR_EL1.MDE",
    );

    DBGBVR[context_aware](Some(CONTEXT));
    DBGBCR[context_aware](Some(ENABLED | bt(3)));
    DBGBCR[0](Some(ENABLED | bt(1) | lbn(context_aware as u64)));
    if context_aware != 0 {
        report.same(
            hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
            1,
            "linked address match in its context",
            "DBGBCR<n>_EL1.BT 0b0001",
        );
        report.same(
            hits(probe, CONTEXT + 1, BREAKPOINT_SAME_EL),
            0,
            "linked address match in another context",
            "DBGBCR<n>_EL1.BT 0b0001",
        );
        DBGBCR[context_aware](Some(0));
        report.same(
            hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
            0,
            "linked to a breakpoint that is disabled",
            "DBGBCR<n>_EL1.LBN",
        );
    }
    if first > 1 {
        let n = (first - 1) as usize;
        DBGBVR[n](Some(CONTEXT));
        DBGBCR[n](Some(ENABLED | bt(3)));
        DBGBCR[0](Some(ENABLED | bt(1) | lbn(n as u64)));
        report.same(
            hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
            0,
            "linked to one that is not context-aware: never",
            "DBGBCR<n>_EL1.LBN, CONSTRAINED UNPREDICTABLE",
        );
        report.same(
            DBGBCR[n](None) >> 20 & 0xf,
            1,
            "BT[1] of one that is not context-aware is RES0",
            "DBGBCR<n>_EL1.BT",
        );
    }
    if expected.brps < 16 {
        DBGBCR[0](Some(ENABLED | bt(1) | lbn(expected.brps)));
        report.same(
            hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
            0,
            "linked to one that is not there: never",
            "DBGBCR<n>_EL1.LBN, CONSTRAINED UNPREDICTABLE",
        );
    }
    disarm(expected);

    DBGBVR[context_aware](Some(CONTEXT));
    DBGBCR[context_aware](Some(ENABLED | bt(2)));
    let hit = hits(probe, CONTEXT, BREAKPOINT_SAME_EL);
    report.check(
        hit == 1 && cpu::taken().elr != target,
        format_args!(
            "context match: whatever the address, from the first instruction of the context"
        ),
        "DBGBCR<n>_EL1.BT 0b0010",
    );
    report.same(
        hits(probe, CONTEXT + 1, BREAKPOINT_SAME_EL),
        0,
        "context match: none of another",
        "DBGBCR<n>_EL1.BT 0b0010",
    );
    disarm(expected);

    // CONTEXTIDR_EL1 alone goes by the lower half of the value, CONTEXTIDR_EL2 by the
    // upper half; both are FEAT_VHE's.
    let vhe = u64::from(read!("id_aa64mmfr1_el1") >> 8 & 0xf != 0);
    if vhe != 0 {
        write!("s3_4_c13_c0_1", CONTEXT + 7);
    }
    for (kind, value, hit, name) in [
        (6, CONTEXT, vhe, "CONTEXTIDR_EL1 match"),
        (
            6,
            CONTEXT << 32 | 0x55,
            0,
            "CONTEXTIDR_EL1 match: not by the upper half",
        ),
        (12, (CONTEXT + 7) << 32, vhe, "CONTEXTIDR_EL2 match"),
        (
            12,
            CONTEXT + 7,
            0,
            "CONTEXTIDR_EL2 match: not by the lower half",
        ),
    ] {
        DBGBVR[context_aware](Some(value));
        DBGBCR[context_aware](Some(ENABLED | bt(kind)));
        report.same(
            hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
            hit,
            name,
            "DBGBCR<n>_EL1.BT 0b0110, 0b1100",
        );
        if context_aware != 0 {
            DBGBCR[context_aware](Some(ENABLED | bt(kind | 1)));
            DBGBVR[0](Some(target));
            DBGBCR[0](Some(ENABLED | bt(1) | lbn(context_aware as u64)));
            report.same(
                hits(probe, CONTEXT, BREAKPOINT_SAME_EL),
                hit,
                "and so for a breakpoint linked to it",
                "DBGBCR<n>_EL1.BT 0b0111, 0b1101",
            );
        }
        disarm(expected);
    }
    if vhe != 0 {
        write!("s3_4_c13_c0_1", 0);
    }
}

fn watchpoints(report: &mut Report, expected: &Expected) {
    let context_aware = (expected.brps - 1) as usize;
    let last = (expected.wrps - 1) as usize;
    let word = core::ptr::addr_of!(WATCHED) as u64;

    DBGWVR[last](Some(word));
    DBGWCR[last](Some(WATCH_STORES));
    report.same(
        hits(store, CONTEXT, WATCHPOINT_SAME_EL),
        1,
        "the last watchpoint sees a store, and no load",
        "DBGWCR<n>_EL1.LSC",
    );
    DBGBVR[context_aware](Some(CONTEXT));
    DBGBCR[context_aware](Some(ENABLED | bt(3)));
    DBGWCR[last](Some(WATCH_STORES | 1 << 20 | lbn(context_aware as u64)));
    report.same(
        hits(store, CONTEXT, WATCHPOINT_SAME_EL),
        1,
        "linked watchpoint in its context",
        "DBGWCR<n>_EL1.WT",
    );
    report.same(
        hits(store, CONTEXT + 1, WATCHPOINT_SAME_EL),
        0,
        "linked watchpoint in another context",
        "DBGWCR<n>_EL1.WT",
    );
    if expected.ctx_cmps < expected.brps {
        DBGWCR[last](Some(WATCH_STORES | 1 << 20));
        report.same(
            hits(store, CONTEXT, WATCHPOINT_SAME_EL),
            0,
            "watchpoint linked to one that is not context-aware: never",
            "DBGWCR<n>_EL1.LBN, CONSTRAINED UNPREDICTABLE",
        );
    }
    DBGWCR[last](Some(WATCH_STORES | 1 << 3));
    for (is_store, name) in [
        (1, "a store is reported as one"),
        (0, "a load after a store is reported as a load"),
        (1, "and a store after that as a store"),
    ] {
        let hit = hits(access, is_store, WATCHPOINT_SAME_EL);
        report.check(
            hit == 1 && cpu::taken().esr >> 6 & 1 == is_store,
            format_args!("{name}"),
            "ESR_ELx, ISS encoding for a Watchpoint exception: WnR",
        );
    }
    disarm(expected);
}

pub fn test(report: &mut Report, expected: &Expected) {
    counts(report, expected);
    traps(report, expected);
    breakpoints(report, expected);
    watchpoints(report, expected);
}

// SPDX-License-Identifier: GPL-2.0

//! Tests the translations that the Statistical Profiling Unit caches.
//!
//! The buffer is one page at [`BEYOND`]. Its translation leads to page A, is used and so cached,
//! and is then removed from the table. Until an invalidation that applies to it, records still go
//! to A, which the architecture permits and the model does. After one, they go where the table
//! leads.

use super::*;

/// `PMSIRR_EL1`: three or four samples in one run of the work, so that all fit into the page.
const FEW: u64 = field(PMSIRR_EL1_INTERVAL, 17);
// Pages of the buffer to which the translation leads.
const A: u64 = 0;
const B: u64 = 1;
// Identifiers of the tests, and others.
const ASID: u64 = 1;
const OTHER_ASID: u64 = 2;
const VMID: u64 = 1;
const OTHER_VMID: u64 = 2;

type Run = extern "C" fn(u64);

/// Defines a TLBI instruction, with the barriers that complete it.
macro_rules! tlbi {
    ($name:literal) => {{
        extern "C" fn run(_: u64) {
            // SAFETY: The tables in use are complete.
            unsafe { asm!(concat!("tlbi ", $name), "dsb sy", "isb") };
        }
        ($name, run as Run)
    }};
    ($name:literal, operand) => {{
        extern "C" fn run(operand: u64) {
            // SAFETY: As above.
            unsafe {
                asm!(
                    ".arch_extension tlb-rmi",
                    concat!("tlbi ", $name, ", {}"),
                    "dsb sy",
                    "isb",
                    in(reg) operand,
                )
            };
        }
        ($name, run as Run)
    }};
}

/// Returns the operand for an address: the page, and the ASID, which some instructions ignore.
const fn of(asid: u64, address: u64) -> u64 {
    field(TLBI_ASID, asid) | address >> 12
}

/// Returns the operand for the shortest range of addresses, which is two pages.
const fn range(asid: u64, address: u64) -> u64 {
    of(asid, address) | field(TLBI_RANGE_TG, TLBI_RANGE_TG_4K)
}

const HERE: u64 = of(ASID, BEYOND);
const ELSEWHERE: u64 = of(ASID, BEYOND + 16 * PAGE);
const OTHERS: u64 = of(OTHER_ASID, BEYOND);
const HERE_RANGE: u64 = range(ASID, BEYOND);
const ELSEWHERE_RANGE: u64 = range(ASID, BEYOND + 2 * PAGE);
const OTHERS_RANGE: u64 = range(OTHER_ASID, BEYOND);

/// An invalidation: its name and instruction, the Exception level that executes it, its operand.
type Tlbi = ((&'static str, Run), usize, u64);

/// Invalidations of a page of stage 1 that is not global.
const APPLY: [Tlbi; 23] = [
    (tlbi!("vae1", operand), 1, HERE),
    (tlbi!("vaae1", operand), 1, HERE),
    (tlbi!("vale1", operand), 1, HERE),
    (tlbi!("vaale1", operand), 1, HERE),
    (tlbi!("aside1", operand), 1, HERE),
    (tlbi!("vmalle1"), 1, 0),
    (tlbi!("vae1is", operand), 1, HERE),
    (tlbi!("vaae1is", operand), 1, HERE),
    (tlbi!("vale1is", operand), 1, HERE),
    (tlbi!("vaale1is", operand), 1, HERE),
    (tlbi!("aside1is", operand), 1, HERE),
    (tlbi!("vmalle1is"), 1, 0),
    (tlbi!("vae1os", operand), 1, HERE),
    (tlbi!("aside1os", operand), 1, HERE),
    (tlbi!("rvae1", operand), 1, HERE_RANGE),
    (tlbi!("rvaae1", operand), 1, HERE_RANGE),
    (tlbi!("rvale1", operand), 1, HERE_RANGE),
    (tlbi!("rvaale1", operand), 1, HERE_RANGE),
    (tlbi!("rvae1is", operand), 1, HERE_RANGE),
    (tlbi!("vaae1", operand), 1, OTHERS),
    (tlbi!("vmalls12e1"), 2, 0),
    (tlbi!("alle1"), 2, 0),
    (tlbi!("alle1is"), 2, 0),
];

/// Invalidations of something else: another ASID, another address, another regime.
const SPARE: [Tlbi; 12] = [
    (tlbi!("vae1", operand), 1, OTHERS),
    (tlbi!("vale1", operand), 1, OTHERS),
    (tlbi!("aside1", operand), 1, OTHERS),
    (tlbi!("rvae1", operand), 1, OTHERS_RANGE),
    (tlbi!("vae1", operand), 1, ELSEWHERE),
    (tlbi!("vaae1", operand), 1, ELSEWHERE),
    (tlbi!("vale1", operand), 1, ELSEWHERE),
    (tlbi!("vaale1", operand), 1, ELSEWHERE),
    (tlbi!("vae1is", operand), 1, OTHERS),
    (tlbi!("rvae1", operand), 1, ELSEWHERE_RANGE),
    (tlbi!("vae2", operand), 2, HERE),
    (tlbi!("alle2"), 2, 0),
];

const SCOPE: &str = "TLB maintenance instruction scope";
const CACHED: &str = "a cached translation may be used until it is invalidated";

/// Returns the descriptor of stage 1 for a page of the buffer, which is not global.
fn page(n: u64) -> u64 {
    window::page(n) | table::NOT_GLOBAL
}

/// Samples the work, and returns the page of the buffer to which records went.
fn recorded() -> Option<u64> {
    let from = read!(SYS_PMBPTR_EL1).wrapping_sub(BEYOND);

    sample(PMSCR_EL1_E1SPE, 1, profiled);
    match from < PAGE {
        true => [A, B].into_iter().find(|n| word(n * PAGE + from) != 0),
        false => None,
    }
}

/// Starts profiling with an empty buffer in the window, and returns where the first records went.
fn begin() -> Option<u64> {
    prepare(PAGES);
    write!(SYS_PMSIRR_EL1, FEW);
    enable(BEYOND, PAGE);
    recorded()
}

/// Maps the window with a descriptor in stage 1, in a regime with an ASID.
fn with_asid(descriptor: u64) {
    write!(
        "ttbr0_el1",
        addr_of!(STAGE1) as u64 | field(TLBI_ASID, ASID)
    );
    window::map_stage1(&[descriptor]);
}

/// Runs an invalidation.
fn invalidate(&((_, run), el, operand): &Tlbi) {
    cpu::at(el, run, operand);
}

/// Checks that an invalidation applies to the cached translation.
fn applies(report: &mut Report, stage: usize, tlbi: &Tlbi, next: u64) {
    let before = begin();
    window::put(stage, 0);
    invalidate(tlbi);
    window::put(stage, next);
    let after = recorded();
    report.check(
        before == Some(A) && after == Some(B),
        format_args!(
            "TLBI {} {:#x}: records go where the table leads",
            tlbi.0 .0, tlbi.2
        ),
        SCOPE,
    );
}

/// Checks that an invalidation does not apply to the cached translation.
fn spares(report: &mut Report, stage: usize, tlbi: &Tlbi) {
    let before = begin();
    window::put(stage, 0);
    invalidate(tlbi);
    let after = recorded();
    report.check(
        before == Some(A) && after == Some(A),
        format_args!("TLBI {} {:#x} is of something else", tlbi.0 .0, tlbi.2),
        CACHED,
    );
}

/// Checks that without an invalidation the cached translation is used.
fn cached(report: &mut Report) {
    for (next, what) in [(0, "removed from"), (page(B), "changed in")] {
        with_asid(page(A));
        let before = begin();
        window::put(1, next);
        report.check(
            before == Some(A) && recorded() == Some(A),
            format_args!("a translation that is {what} the table is still used"),
            CACHED,
        );
    }
}

/// Checks invalidations of a global page: the ASID does not matter for one by address, and one by
/// ASID does not apply.
fn global(report: &mut Report) {
    with_asid(window::page(A));
    applies(
        report,
        1,
        &(tlbi!("vae1", operand), 1, OTHERS),
        window::page(B),
    );
    with_asid(window::page(A));
    spares(report, 1, &(tlbi!("aside1", operand), 1, HERE));
}

/// Checks all invalidations of stage 1, without stage 2.
fn stage1(report: &mut Report) {
    let sctlr = map_el1();

    cached(report);
    for tlbi in &APPLY {
        with_asid(page(A));
        applies(report, 1, tlbi, page(B));
    }
    for tlbi in &SPARE {
        with_asid(page(A));
        spares(report, 1, tlbi);
    }
    global(report);
    drain();
    write!("sctlr_el1", sctlr);
}

/// Maps the window in both stages to page A, with the VMID of the test.
fn with_stage2() {
    with_asid((BEYOND | table::NORMAL | table::PAGE) | table::NOT_GLOBAL);
    set_vmid(VMID);
    window::map_stage2(&[window::page_of_stage2(A)]);
}

/// Writes the VMID.
fn set_vmid(vmid: u64) {
    write!(
        "vttbr_el2",
        addr_of!(STAGE2) as u64 | field(VTTBR_EL2_VMID, vmid)
    );
}

/// Checks invalidations by VMID.
fn vmids(report: &mut Report) {
    let all: Tlbi = (tlbi!("alle1"), 2, 0);
    let both: Tlbi = (tlbi!("vmalls12e1"), 2, 0);
    let first: Tlbi = (tlbi!("vmalle1"), 1, 0);

    for (tlbi, vmid, want) in [
        (&both, VMID, B),
        (&both, OTHER_VMID, A),
        (&first, OTHER_VMID, A),
        (&all, OTHER_VMID, B),
    ] {
        with_stage2();
        let before = begin();
        window::put(2, 0);
        set_vmid(vmid);
        invalidate(tlbi);
        set_vmid(VMID);
        if want == B {
            window::put(2, window::page_of_stage2(B));
        }
        report.check(
            before == Some(A) && recorded() == Some(want),
            format_args!("TLBI {} with VMID {vmid}, page {want}", tlbi.0 .0),
            SCOPE,
        );
    }
}

/// Checks that invalidation by IPA alone keeps a translation of both stages.
fn by_ipa(report: &mut Report, ipa: Tlbi) {
    with_stage2();
    let before = begin();
    window::put(2, 0);
    invalidate(&ipa);
    let between = recorded();
    invalidate(&(tlbi!("vmalle1"), 1, 0));
    window::put(2, window::page_of_stage2(B));
    report.check(
        before == Some(A) && between == Some(A),
        format_args!("TLBI {} keeps a combined translation", ipa.0 .0),
        "Invalidating TLB entries from stage 2 translations",
    );
    report.check(
        recorded() == Some(B),
        format_args!("and after TLBI vmalle1 records go where the tables lead"),
        "Invalidating TLB entries from stage 2 translations",
    );
}

/// Checks invalidations with both stages.
fn stage2(report: &mut Report) {
    let sctlr = map_el1();

    map_stage2();
    vmids(report);
    by_ipa(report, (tlbi!("ipas2e1", operand), 2, BEYOND >> 12));
    by_ipa(report, (tlbi!("ipas2le1", operand), 2, BEYOND >> 12));
    by_ipa(report, (tlbi!("ipas2e1is", operand), 2, BEYOND >> 12));
    drain();
    write!("hcr_el2", HCR_EL2_RW);
    write!("vttbr_el2", 0);
    write!("sctlr_el1", sctlr);
}

/// Runs all checks.
pub(super) fn test(report: &mut Report) {
    stage1(report);
    stage2(report);
    write!("ttbr0_el1", addr_of!(STAGE1) as u64);
    prepare(PAGES);
}

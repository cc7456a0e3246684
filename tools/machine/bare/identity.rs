// SPDX-License-Identifier: GPL-2.0

//! Tests the memory model control, and the ID registers.
//!
//! `AIDR_EL1` and `ACTLR_EL1` are IMPLEMENTATION DEFINED, so the tests check the behaviour on
//! which software relies.

use crate::{cpu, sysreg::*, Expected, Report, DIC, FGT, IDC, S2FWB};

/// The bit of `AIDR_EL1` that advertises the control.
const AIDR_TSO: u64 = 1 << 9;
/// The control in `ACTLR_EL1`.
const ACTLR_TSO: u64 = 1 << 1;

// Values of Expected::tso for which writes have an effect.
const ON: u64 = 1;
const EL12: u64 = 3;
const IMPDEF: u64 = 4;

/// Returns `bits` if `holds`, otherwise 0.
fn when(holds: bool, bits: u64) -> u64 {
    if holds {
        bits
    } else {
        0
    }
}

/// Checks the fields of the ID registers.
fn features(report: &mut Report, expected: &Expected) {
    let (ctr, dfr0) = (read!("ctr_el0"), read!("id_aa64dfr0_el1"));
    let (mmfr0, mmfr2) = (read!("id_aa64mmfr0_el1"), read!("id_aa64mmfr2_el1"));
    // FEAT_FGT2 is above FEAT_FGT.
    let fgt = field_of(mmfr0, ID_AA64MMFR0_EL1_FGT).min(ID_AA64MMFR0_EL1_FGT_IMP);
    let fwb = field_of(mmfr2, ID_AA64MMFR2_EL1_FWB);
    let [dic, idc, line] =
        [CTR_EL0_DIC, CTR_EL0_IDC, CTR_EL0_IminLine].map(|mask| field_of(ctr, mask));
    let spe = field_of(dfr0, ID_AA64DFR0_EL1_PMSVer);
    let version = expected.spe * expected.spe_version;
    let has = |feature| u64::from(expected.has(feature));

    for (have, want, name) in [
        (fgt, has(FGT), "FEAT_FGT"),
        (fwb, has(S2FWB), "FEAT_S2FWB"),
        (dic, has(DIC), "CTR_EL0.DIC"),
        (idc, has(IDC), "CTR_EL0.IDC"),
        (line, expected.iminline, "CTR_EL0.IminLine"),
        (spe, version, "ID_AA64DFR0_EL1.PMSVer"),
    ] {
        report.same(have, want, name, "ID registers");
    }
}

/// Checks that `HCR_EL2.FWB` can be written with FEAT_S2FWB only.
fn write_back(report: &mut Report, expected: &Expected) {
    write!("hcr_el2", HCR_EL2_RW | HCR_EL2_FWB);
    let stored = read!("hcr_el2") & HCR_EL2_FWB;
    write!("hcr_el2", HCR_EL2_RW);
    report.check(
        (stored != 0) == expected.has(S2FWB),
        format_args!("HCR_EL2.FWB is there with FEAT_S2FWB alone"),
        "HCR_EL2.FWB",
    );
}

/// Checks the value that the control stores.
fn control(report: &mut Report, expected: &Expected) {
    let reset = read!("actlr_el1");
    let stored = when(matches!(expected.tso, ON | EL12 | IMPDEF), ACTLR_TSO);

    report.same(
        read!("aidr_el1") & AIDR_TSO,
        when(expected.tso != 0, AIDR_TSO),
        "AIDR_EL1 bit 9 says whether there is a memory model control",
        "AIDR_EL1",
    );
    for (written, bits, want, fact) in [
        (None, ACTLR_TSO, 0, "TSO is off after reset"),
        (
            Some(u64::MAX),
            u64::MAX,
            reset | stored,
            "ACTLR_EL1 stores bit 1 where there is a control that takes writes, and nothing else",
        ),
        (Some(0), ACTLR_TSO, 0, "TSO can be switched off"),
    ] {
        if let Some(value) = written {
            write!("actlr_el1", value);
        }
        report.same(read!("actlr_el1") & bits, want, fact, "ACTLR_EL1");
    }
}

/// Reads the control and writes it.
extern "C" fn access_actlr(_: u64) {
    let value = read!("actlr_el1");
    write!("actlr_el1", value);
}

/// Checks the traps of the control.
fn traps(report: &mut Report) {
    report.same(
        cpu::at(1, access_actlr, 0).count,
        0,
        "EL1 may access ACTLR_EL1",
        "HCR_EL2.TACR",
    );
    write!("hcr_el2", HCR_EL2_RW | HCR_EL2_TACR);
    let taken = cpu::at(1, access_actlr, 0);
    write!("hcr_el2", HCR_EL2_RW);
    report.check(
        taken.trapped(2, 2),
        format_args!("HCR_EL2.TACR traps reads and writes of ACTLR_EL1 to EL2"),
        "HCR_EL2.TACR",
    );
}

/// Writes ACTLR_EL1.
extern "C" fn set_actlr(value: u64) {
    write!("actlr_el1", value);
}

/// Writes EL1's separate register, by the encoding of ACTLR_EL12.
extern "C" fn set_el12(value: u64) {
    write!(SYS_ACTLR_EL12, value);
}

/// Writes EL1's separate register, by the IMPLEMENTATION DEFINED encoding.
extern "C" fn set_impdef(value: u64) {
    write!(SYS_IMP_APL_ACTLR_EL12, value);
}

/// The control that a write at EL2 reaches.
enum Reaches {
    Nothing,
    /// The control of EL1.
    El1,
    /// The control of EL1 if it is of this kind, otherwise none.
    El1With(u64),
    /// The control of EL2, if EL2 has its own.
    Own,
}

impl Reaches {
    /// Returns the effect of a write of [`ACTLR_TSO`], in the form of [`done_by_el2`].
    fn done(&self, tso: u64) -> Done {
        let apart = matches!(tso, EL12 | IMPDEF);
        let el1 = (0, when(tso == ON || apart, ACTLR_TSO), 0);

        match *self {
            Self::El1 => el1,
            Self::El1With(kind) if tso == kind => el1,
            Self::Own if apart => (0, 0, ACTLR_TSO),
            Self::Own => el1,
            _ => (1, 0, 0),
        }
    }
}

type Set = extern "C" fn(u64);
/// The number of exceptions, TSO of EL1, and TSO of EL2.
type Done = (u64, u64, u64);

const HOST: u64 = HCR_EL2_RW | HCR_EL2_E2H;

/// The controls that writes at EL2 reach. On CPUs with separate registers of EL1 and EL2, software
/// relies on them: an access to ACTLR_EL1 is redirected to EL2's register, as for the registers in
/// "Redirection of accesses to EL1 registers" (HCR_EL2.E2H), and EL1's has one of two encodings.
const REACHED: [(u64, Set, Reaches, [&str; 3]); 6] = [
    (
        HCR_EL2_RW,
        set_actlr,
        Reaches::El1,
        ["", "ACTLR_EL1", " is EL1's"],
    ),
    (
        HCR_EL2_RW,
        set_el12,
        Reaches::Nothing,
        ["", REG_ACTLR_EL12, " is UNDEFINED"],
    ),
    (
        HCR_EL2_RW,
        set_impdef,
        Reaches::Nothing,
        ["", REG_IMP_APL_ACTLR_EL12, " is UNDEFINED"],
    ),
    (
        HOST,
        set_actlr,
        Reaches::Own,
        ["with E2H, ", "ACTLR_EL1", " is EL2's, if it has one"],
    ),
    (
        HOST,
        set_el12,
        Reaches::El1With(EL12),
        [
            "with E2H, ",
            REG_ACTLR_EL12,
            " is EL1's (el12) or UNDEFINED",
        ],
    ),
    (
        HOST,
        set_impdef,
        Reaches::El1With(IMPDEF),
        [
            "with E2H, ",
            REG_IMP_APL_ACTLR_EL12,
            " is EL1's (impdef) or UNDEFINED",
        ],
    ),
];

/// Runs `set` at EL2 and returns its effect.
fn done_by_el2(hcr: u64, set: Set) -> Done {
    write!("actlr_el1", 0);
    write!("actlr_el2", 0);
    write!("hcr_el2", hcr);
    let taken = cpu::at(2, set, ACTLR_TSO);
    write!("hcr_el2", HCR_EL2_RW);
    let bits = [read!("actlr_el1"), read!("actlr_el2")].map(|actlr| actlr & ACTLR_TSO);
    write!("actlr_el1", 0);
    (taken.count, bits[0], bits[1])
}

/// Checks which register EL2 reaches by each encoding.
fn apart(report: &mut Report, expected: &Expected) {
    for (hcr, set, reaches, [before, register, after]) in REACHED {
        let (have, want) = (done_by_el2(hcr, set), reaches.done(expected.tso));

        report.check(
            have == want,
            format_args!("at EL2, {before}{register}{after}"),
            "ACTLR_EL1",
        );
        if have != want {
            report.note(format_args!("{have:x?}, not {want:x?}"));
        }
    }
}

/// Runs all checks.
pub fn test(report: &mut Report, expected: &Expected) {
    features(report, expected);
    write_back(report, expected);
    control(report, expected);
    traps(report);
    apart(report, expected);
}

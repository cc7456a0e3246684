// SPDX-License-Identifier: GPL-2.0

//! Tests of both outputs for well-formed input, and of the errors for other input.

use super::*;

/// Returns a register `R` with the body `body`, which starts at line 2.
fn sysreg(body: &str) -> String {
    format!("Sysreg R 3 0 0 0 1\n{body}\nEndSysreg\n")
}

fn parse(text: &str) -> Source {
    Source::parse(text).unwrap()
}

/// Checks that both outputs refuse `text`, with an error at `line` that contains `what`.
#[track_caller]
fn refused(text: &str, line: usize, what: &str) {
    let errors = ["--consts", "--types"].map(|mode| generate(mode, text).unwrap_err());
    for error in errors {
        assert_eq!(error.line, line, "{}", error.what);
        assert!(error.what.contains(what), "{}", error.what);
    }
}

/// Checks that the constants for `text` contain each of `lines`.
#[track_caller]
fn has_consts(text: &str, lines: &[&str]) {
    let output = generate("--consts", text).unwrap();
    for line in lines {
        assert!(output.lines().any(|l| l == *line), "{line} in\n{output}");
    }
}

#[track_caller]
fn has_types(text: &str, parts: &[&str]) {
    let output = generate("--types", text).unwrap();
    for part in parts {
        assert!(output.contains(part), "{part} in\n{output}");
    }
}

#[test]
fn bits() {
    let all = Bits { msb: 63, lsb: 0 };
    assert_eq!((all.width(), all.mask()), (64, u64::MAX));
    let top = Bits { msb: 63, lsb: 63 };
    assert_eq!((top.width(), top.mask()), (1, 1 << 63));
    assert_eq!(Bits { msb: 7, lsb: 4 }.mask(), 0xf0);
    assert_eq!(Bits { msb: 7, lsb: 4 }.to_string(), "7:4");
    assert_eq!(top.to_string(), "63");
}

#[test]
fn empty_input() {
    for text in ["", "\n\n", "# comment\n  # indented comment\n"] {
        assert_eq!(parse(text).counts, Counts::default());
    }
}

#[test]
fn encoding() {
    has_consts(
        "Sysreg R 3 7 15 14 6\nField 63:0 F\nEndSysreg\n",
        &[
            "pub const REG_R: &str = \"S3_7_C15_C14_6\";",
            "pub const SYS_R: u32 = 0x1ffec0;",
            "pub const SYS_R_Op0: u32 = 3;",
            "pub const SYS_R_Op1: u32 = 7;",
            "pub const SYS_R_CRn: u32 = 15;",
            "pub const SYS_R_CRm: u32 = 14;",
            "pub const SYS_R_Op2: u32 = 6;",
        ],
    );
}

#[test]
fn field() {
    let text = sysreg("Res0 63:8\nField 7:4 F\nField 3 G\nRes0 2:0");
    has_consts(
        &text,
        &[
            "pub const R_F: u64 = 0x00000000000000f0;",
            "pub const R_F_MASK: u64 = 0x00000000000000f0;",
            "pub const R_F_SHIFT: u32 = 4;",
            "pub const R_F_WIDTH: u32 = 4;",
            "pub const R_G_MASK: u64 = 0x0000000000000008;",
            "pub const R_G_WIDTH: u32 = 1;",
            "pub const R_RES0: u64 = 0xffffffffffffff07;",
        ],
    );
    has_types(&text, &["pub struct R(u64) {", "7:4 F;", "3:3 G;"]);
}

#[test]
fn reserved() {
    let text = sysreg("Res0 63:32\nRes1 31\nUnkn 30:8\nRaz 7:4\nField 3:0 F");
    has_consts(
        &text,
        &[
            "pub const R_RES0: u64 = 0xffffffff00000000;",
            "pub const R_RES1: u64 = 0x0000000080000000;",
            "pub const R_UNKN: u64 = 0x000000007fffff00;",
        ],
    );
    has_types(
        &text,
        &[
            "const RAZ: u64 = 0x00000000000000f0;",
            "/// - Bits 63:32: RES0.",
            "/// - Bits 31: RES1.",
            "/// - Bits 30:8: UNKN.",
            "/// - Bits 7:4: RAZ.",
        ],
    );
}

#[test]
fn enums() {
    let text = sysreg(
        "UnsignedEnum 63:60 U\n\t0b0000 NI\n\t0b0001 IMP\nEndEnum\n\
         SignedEnum 59:56 S\n\t0b1111 NI\nEndEnum\n\
         Enum 55:0 E\n# comment\n\t0b1 4KB\nEndEnum",
    );
    has_consts(
        &text,
        &[
            "pub const R_U_SIGNED: bool = false;",
            "pub const R_S_SIGNED: bool = true;",
            "pub const R_U_IMP: u64 = 0b1;",
            "pub const R_S_NI: u64 = 0b1111;",
            "pub const R_E_4KB: u64 = 0b1;",
        ],
    );
    assert!(!generate("--consts", &text).unwrap().contains("R_E_SIGNED"));
    has_types(
        &text,
        &[
            "pub const R_U_IMP: ::kernel::num::Bounded<u64, 4>",
            "pub const fn S_signed(self) -> i64 {",
            "((self.into_raw() << 4) as i64) >> 60",
            "signed: Some(true),",
            "signed: None,",
            "(0b1, \"4KB\"),",
        ],
    );
}

#[test]
fn shared_layout() {
    let text = "SysregFields L\nRes1 63\nField 62:0 F\nEndSysregFields\n\
                Sysreg A 3 0 0 0 1\nFields L\nEndSysreg\n\
                Sysreg B 3 0 0 0 2\nMapping A\nEndSysreg\n";
    has_consts(
        text,
        &[
            "pub const L_F_SHIFT: u32 = 0;",
            "pub const A_RES1: u64 = L_RES1;",
            "pub const B_RES1: u64 = A_RES1;",
        ],
    );
    has_types(
        text,
        &[
            "pub struct L(u64) {",
            "pub struct A(u64) {",
            "pub struct B(u64) {",
            "another way to reach `A`",
        ],
    );
    let output = generate("--types", text).unwrap();
    assert_eq!(output.matches("62:0 F;").count(), 3);
    assert_eq!(output.matches("sysreg::SystemRegister for").count(), 2);
}

#[test]
fn prefixed_layout() {
    let text = sysreg("Prefix P\nRes1 63\nField 62:0 F\nEndPrefix\nRes0 63:1\nField 0 F");
    has_consts(
        &text,
        &[
            "pub const P_R_F_WIDTH: u32 = 63;",
            "pub const P_R_RES1: u64 = 0x8000000000000000;",
            "pub const R_F_WIDTH: u32 = 1;",
            "pub const R_RES1: u64 = 0x0000000000000000;",
        ],
    );
    has_types(
        &text,
        &["pub struct P_R(u64) {", "pub struct R(u64) {", "with P."],
    );
}

#[test]
fn counts() {
    let text = sysreg("Res0 63:4\nEnum 3:0 F\n0b1 A\n0b0 B\nEndEnum");
    let mut expected = Counts::default();
    for statement in ["Sysreg", "Res0", "Enum", "0b", "0b"] {
        expected.add(statement);
    }
    assert_eq!(parse(&text).counts, expected);
}

#[test]
fn output_that_lacks_a_statement_is_an_error() {
    let mut source = parse(&sysreg("Field 63:0 F"));
    source.counts.add("Field");
    for output in [consts::write(&source), types::write(&source)] {
        let error = output.unwrap_err();
        assert!(error.what.contains("Field=2"), "{}", error.what);
        assert!(error.what.contains("Field=1"), "{}", error.what);
    }
}

#[test]
fn unknown_option() {
    assert!(generate("--other", "").is_err());
}

#[test]
fn statement_out_of_place() {
    refused("Field 63:0 F\n", 1, "unexpected 'Field' in Root");
    refused("EndSysreg\n", 1, "unexpected");
    refused("ConditionalField 63:0 F\n", 1, "unexpected");
    refused(&sysreg("Sysreg S 3 0 0 0 2"), 2, "unexpected");
    refused(&sysreg("0b0 NI"), 2, "unexpected");
    refused(&sysreg("EndEnum"), 2, "unexpected");
    refused(&sysreg("EndPrefix"), 2, "unexpected");
    refused(&sysreg("Enum 63:0 F\nField 3 G"), 3, "in Enum");
    refused("SysregFields L\nFields M\n", 2, "unexpected");
    refused("SysregFields L\nField 63:0 F\nEndSysreg\n", 3, "unexpected");
    refused(&sysreg("Prefix P\nPrefix Q"), 3, "in Prefix");
}

#[test]
fn wrong_number_of_words() {
    refused("Sysreg R 3 0 0 0\n", 1, "6 words");
    refused("SysregFields\n", 1, "1 words");
    refused(&sysreg("Field 63:0"), 2, "2 words");
    refused(&sysreg("Field 63:0 F # comment"), 2, "5 words");
    refused(&sysreg("Res0 63:0 F"), 2, "3 words");
    refused(&sysreg("Enum 63:0 F\n0b0"), 3, "1 words");
    refused(&sysreg("Enum 63:0 F\n0b0 NI\nEndEnum F"), 4, "2 words");
    refused(&sysreg("Fields"), 2, "1 words");
    refused(&sysreg("Prefix"), 2, "1 words");
}

#[test]
fn operand_out_of_range() {
    for (operands, name) in [
        ("4 0 0 0 0", "op0"),
        ("0 8 0 0 0", "op1"),
        ("0 0 16 0 0", "CRn"),
        ("0 0 0 16 0", "CRm"),
        ("0 0 0 0 8", "op2"),
        ("0 0 0 0 +1", "op2"),
        ("x 0 0 0 0", "op0"),
    ] {
        refused(&format!("Sysreg R {operands}\n"), 1, name);
    }
}

#[test]
fn bad_range_of_bits() {
    refused(&sysreg("Field 64:0 F"), 2, "not valid");
    refused(&sysreg("Res0 63:4\nField 0:3 F"), 3, "not valid");
    refused(&sysreg("Field 63- F"), 2, "not a range");
    refused(&sysreg("Field 63:0:0 F"), 2, "not a range");
    refused(&sysreg("Field :0 F"), 2, "not a range");
    refused(&sysreg("Field +63:0 F"), 2, "not a range");
}

#[test]
fn gap_and_overlap() {
    refused(&sysreg("Field 62:0 F"), 2, "starts at 62, not at 63");
    refused(&sysreg("Field 63:8 F\nField 6:0 G"), 3, "not at 7");
    refused(&sysreg("Field 63:8 F\nField 8:0 G"), 3, "not at 7");
    refused(&sysreg("Field 63:0 F\nField 0 G"), 3, "after bit 0");
    refused(&sysreg("Field 63:1 F"), 3, "bits 0:0 are not described");
    refused("SysregFields L\nEndSysregFields\n", 2, "bits 63:0");
    refused(&sysreg("Prefix P\nField 63:1 F\nEndPrefix"), 4, "bits 0:0");
    refused(&sysreg("Prefix P\nField 63:0 F\nEndPrefix"), 5, "bits 63:0");
}

#[test]
fn bad_enumerator() {
    refused(&sysreg("Enum 63:62 F\n0b100 A"), 3, "does not fit");
    refused(&sysreg("Enum 63:62 F\n0b01 A\n0b1 B"), 4, "already");
    refused(&sysreg("Enum 63:62 F\n0b2 A"), 3, "not a binary number");
    refused(&sysreg("Enum 63:62 F\n0b A"), 3, "not a binary number");
    refused(&sysreg("Enum 63:62 F\n0b+1 A"), 3, "not a binary number");
    refused(&sysreg("Enum 63:62 F\n0b0b1 A"), 3, "not a binary number");
    refused(&sysreg("Enum 63:62 F\n1 A"), 3, "unexpected");
    refused(&sysreg("Enum 63:62 F\n0b1 A-B"), 3, "not a name");
}

#[test]
fn bad_name() {
    refused("Sysreg 1R 3 0 0 0 0\n", 1, "not a name");
    refused(&sysreg("Field 63:0 F-G"), 2, "not a name");
    refused(&sysreg("Field 63:0 _F"), 2, "not a name");
    refused(&sysreg("Prefix P-Q"), 2, "not a name");
}

#[test]
fn second_definition() {
    let text = sysreg("Field 63:0 F");
    refused(&format!("{text}{text}"), 4, "already defined at line 1");
    let text = "SysregFields R\nField 63:0 F\nEndSysregFields\n".to_string() + &text;
    refused(&text, 4, "already defined at line 1");
    let prefix = "Prefix P\nField 63:0 F\nEndPrefix\n";
    refused(&sysreg(&format!("{prefix}{prefix}")), 5, "already used");
}

#[test]
fn bad_reference() {
    refused(&sysreg("Fields L"), 2, "L is not defined");
    refused(&sysreg("Mapping S"), 2, "S is not defined");
    // Each kind of reference needs its own kind of target.
    refused(&sysreg("Fields R"), 2, "R is not defined");
    refused(&sysreg("Mapping R"), 2, "mapped to itself");
    refused(&sysreg("Field 63 F\nFields L"), 3, "already described");
    refused(&sysreg("Fields L\nFields L"), 3, "already described");
    refused(&sysreg("Fields L\nField 63:0 F"), 3, "of another block");
    refused(&sysreg("Fields L\nPrefix P"), 3, "of another block");
}

#[test]
fn prefix_after_fields() {
    refused(&sysreg("Field 63:0 F\nPrefix P"), 3, "before the others");
}

#[test]
fn block_that_does_not_end() {
    refused("Sysreg R 3 0 0 0 1\nField 63:0 F\n", 1, "does not end");
    refused("\nSysregFields L\nEnum 63:0 F\n", 2, "does not end");
}

#[test]
fn names_that_collide() {
    let types_refuse = |body: &str, line, what: &str| {
        let error = generate("--types", &sysreg(body)).unwrap_err();
        assert_eq!(error.line, line);
        assert!(error.what.contains(what), "{}", error.what);
    };
    // The names differ in C and as constants, but not in upper case.
    types_refuse("Field 63:1 Fx\nField 0 FX", 3, "FX_MASK");
    types_refuse("Field 63:1 F\nField 0 with_F", 3, "with_F");
    types_refuse("Field 63:0 into_raw", 2, "into_raw");
    types_refuse("Field 63:0 type", 2, "word of the language");

    refused(&sysreg("Field 63:1 F\nField 0 F"), 3, "already");
    // An enumerator MASK would be a second mask of its field.
    let text = sysreg("Enum 63:0 F\n0b0 MASK\nEndEnum");
    let error = generate("--consts", &text).unwrap_err();
    assert_eq!((error.line, error.what.contains("R_F_MASK")), (3, true));
}

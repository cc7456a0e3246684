// SPDX-License-Identifier: GPL-2.0

//! Tests of what the program reads and writes.

use std::collections::BTreeMap;

use super::{fleet, host, merged, small, Random};
use crate::{
    diff, dump,
    host::{Fleet, Hex, Host},
    merge::Baseline,
    output::{self, Format},
    registers,
    text::Text,
    words, Error,
};

/// Texts are read as they were written.
#[test]
fn texts() {
    let mut random = Random(11);
    let mut some = 0;

    for _ in 0..500 {
        let fleet = fleet(&[host("a", &mut random), host("b", &mut random)]);
        let Ok(baseline) = merged(&fleet) else {
            continue;
        };
        some += 1;
        for fewest in [false, true] {
            let text = Text::of(&baseline, &fleet, fewest);
            if !text.write().is_empty() {
                assert_eq!(Text::parse("x", &text.write()).unwrap(), text);
            }
        }
    }
    assert!(some > 50);
}

/// Texts, and what is wrong with them.
const BAD_TEXTS: &[(&str, &str)] = &[
    ("", "not like register=value/mask"),
    ("id_aa64pfr0_el1", "not like register=value/mask"),
    ("id_aa64pfr0_el1=1", "it has no mask"),
    ("id_aa64pfr0_el1=0x1/0xg", "\"0xg\" is not a number"),
    ("id_aa64pfr0_el1=0x11/0xf", "bits outside the mask"),
    ("ID_AA64PFR0_EL1=0x1/0xf", "no such register"),
    ("id_aa64pfr9_el1=0x1/0xf", "no such register"),
    ("s3_0_c0_c15_0=0x1/0xf", "no such register"),
    (
        "id_aa64pfr0_el1=0x1/0xf,s3_0_c0_c4_0=0x1/0xf",
        "given twice",
    ),
    (
        "id_aa64pfr0_el1=0x1/0xf,id_aa64pfr0_el1=0x1/0xf",
        "given twice",
    ),
    ("midr_el1=1/1", "takes no mask"),
    ("sve=99999999999", "too large"),
    ("psci=off", "cannot be off"),
    ("sve=off/0x1", "takes no mask"),
    ("id_aa64pfr0_el1=0x+1/0xf", "is not a number"),
];

/// Texts that say something else, or nothing, are not read.
#[test]
fn bad_texts() {
    for (text, what) in BAD_TEXTS {
        let error = Text::parse("x", text).unwrap_err();
        assert!(
            error.0.starts_with("x: ") && error.0.contains(what),
            "{text}: {error:?}"
        );
    }
    let long = format!("id_aa64pfr0_el1=0x1/0xf,{}", "x".repeat(4096));
    assert!(Text::parse("x", &long)
        .unwrap_err()
        .0
        .contains("4095 bytes"));
}

/// What is changed in a file of this program, to what, and what is wrong then.
const BAD_CHANGES: &[(&str, &str, &str)] = &[
    ("\"format\":1", "\"format\":2", "its format is 2"),
    ("\"name\":\"a\"", "\"name\":\"\"", "no name"),
    ("\"name\":\"a\"", "\"nane\":\"a\"", "unknown field `nane`"),
    ("\"CTR_EL0\"", "\"CTR_EL9\"", "no register \"CTR_EL9\""),
    ("CTR_EL0.DIC", "CTR_EL0.DIK", "no field \"CTR_EL0.DIK\""),
    ("\"accepted\":[[0]", "\"accepted\":[[99]", "does not fit"),
    (":\"0x", ":\"0y", "is not a number like 0x1f"),
    ("\"7.3.4\"", "\"7.3.4\\n# more\"", "a bad one"),
    (":\"0x", ":\"0x+", "is not a number like 0x1f"),
];

/// Files that are not files of this program.
#[test]
fn bad_files() {
    let good = serde_json::to_string(&fleet(&[host("a", &mut Random(1))])).unwrap();
    assert!(Fleet::parse("x", &good).is_ok());
    let refused = |text: &str, what: &str| {
        let Error(error) = Fleet::parse("x", text).unwrap_err();
        assert!(
            error.starts_with("x: ") && error.contains(what),
            "{what}: {error:?}"
        );
        assert!(!error.contains('\n'));
    };
    refused(&good[..good.len() / 2], "it is truncated");
    refused("", "it is truncated");
    refused("{}", "missing field `format`");
    refused(r#"{"format":1,"hosts":[]}"#, "no host is in it");
    for (from, to, what) in BAD_CHANGES {
        assert!(good.contains(from), "{from}");
        refused(&good.replacen(from, to, 1), what);
    }
}

/// Files say of vectors and counters only what hosts can have.
#[test]
fn bad_facts() {
    let refused = |change: fn(&mut Host), what: &str| {
        let mut one = host("a", &mut Random(1));
        change(&mut one);
        assert!(one.check().unwrap_err().0.contains(what), "{what}");
    };
    refused(
        |one| one.facts.sve_lengths = vec![128, 100],
        "no vector has 100 bits",
    );
    refused(
        |one| one.facts.sve_lengths = vec![65664],
        "no vector has 65664 bits",
    );
    refused(
        |one| one.facts.pmu_counters = Some(32),
        "no PMU has 32 counters",
    );
}

/// A host counts once.
#[test]
fn twice() {
    let (mut random, join) = (Random(5), |files: &[&Fleet]| {
        let files = files.iter().map(|one| ("x".to_string(), (*one).clone()));
        Fleet::join(files.collect())
    });
    let [a, b, c] = ["a", "b", "c"].map(|name| fleet(&[host(name, &mut random)]));
    let other = fleet(&[host("a", &mut random)]);
    let ab = join(&[&a, &b]).unwrap();
    let bc = join(&[&b, &c]).unwrap();
    assert_eq!(join(&[&ab, &bc]).unwrap().hosts.len(), 3);
    for files in [&[&a, &a][..], &[&a, &other], &[&ab, &other]] {
        assert!(join(files)
            .unwrap_err()
            .0
            .contains("the host a is given twice"));
    }
}

/// Texts that are no dumps, and what is wrong.
const BAD_DUMPS: &[(&str, &str)] = &[
    ("", "no ID register is in it"),
    ("ID_AA64DFR9_EL1=0x1", "x:1: no register"),
    ("ID_AA64DFR0_EL1=one", "x:1: not a register and its value"),
    ("ID_AA64DFR0_EL1", "x:1: not a register and its value"),
    (
        "ID_AA64DFR0_EL1=1\nid_aa64dfr0_el1=2",
        "x:2: ID_AA64DFR0_EL1 is given twice",
    ),
    ("{}", "not a file of cpu-template-helper"),
    (
        r#"{"reg_modifiers":[{"addr":"0x603000000013c028","bitmap":"0b1"},
            {"addr":"0x603000000013c028","bitmap":"0b1"}]}"#,
        "given twice",
    ),
    (
        r#"{"reg_modifiers":[{"addr":"0x603000000013c028","bitmap":"0b+1"}]}"#,
        "not a value in binary",
    ),
];

/// Dumps in each of their forms, and others.
#[test]
fn dumps() {
    let expected = BTreeMap::from([("ID_AA64DFR0_EL1".to_string(), Hex(0x1030_5008))]);
    for text in [
        "ID_AA64DFR0_EL1=0x10305008\n",
        "# of a host\nid_aa64dfr0_el1: 0x10305008",
        "0x603000000013c028 0x10305008\n0x603000000013ffff 0x1",
        r#"{"reg_modifiers":[{"addr":"0x603000000013c028",
            "bitmap":"0b0000000000000000000000000000000000010000001100000101000000001000"}]}"#,
        r#"{"firecracker_version":"1.7.0","kernel_version":"6.1","microcode_version":"0",
            "bios_version":"1","bios_revision":"1","guest_cpu_config":{"kvm_capabilities":[],
            "vcpu_features":[],"reg_modifiers":[{"addr":"0x603000000013c028",
            "bitmap":"0b00010000001100000101000000001000"}]}}"#,
    ] {
        assert_eq!(dump::read("x", text).unwrap(), expected, "{text}");
    }
    for (text, what) in BAD_DUMPS {
        let error = dump::read("x", text).unwrap_err();
        assert!(error.0.contains(what), "{text}: {error:?}");
    }
}

/// Returns a host that was not asked, and whose kernel lets some fields be written.
fn derived_host() -> Host {
    let like = Host {
        name: "probed".into(),
        told: BTreeMap::from([
            ("ID_AA64DFR0_EL1".into(), Hex(0xf000_f00f)),
            ("ID_AA64ISAR0_EL1".into(), Hex(0xf << 60)),
        ]),
        ..Host::default()
    };
    let registers = BTreeMap::from([
        ("ID_AA64DFR0_EL1".into(), Hex(0x1030_3108)),
        ("ID_AA64ISAR0_EL1".into(), Hex(0x1100_0000_0000_0000)),
    ]);
    dump::derive("g", registers, &like)
}

/// KVM would accept what can be written there and is safe.
#[test]
fn derived() {
    let host = derived_host();
    assert_eq!(host.derived_from.as_deref(), Some("probed"));
    let accepted = |fields: &[&str]| {
        let choice = host.choices.iter().find(|one| one.fields == fields);
        choice.map(|one| one.accepted.iter().cloned().collect::<Vec<_>>())
    };
    // At least two breakpoints, and CTX_CMPs not above BRPs.
    let pairs = [[1, 0], [1, 1], [2, 0], [2, 1], [3, 0], [3, 1]].map(|pair| pair.to_vec());
    assert_eq!(
        accepted(&["ID_AA64DFR0_EL1.BRPs", "ID_AA64DFR0_EL1.CTX_CMPs"]),
        Some(pairs.to_vec())
    );
    let versions = [[6], [7], [8]].map(|version| version.to_vec());
    assert_eq!(
        accepted(&["ID_AA64DFR0_EL1.DebugVer"]),
        Some(versions.to_vec())
    );
    assert_eq!(accepted(&["ID_AA64DFR0_EL1.PMUVer"]), None);
    let either = [[0], [1]].map(|value| value.to_vec());
    assert_eq!(accepted(&["ID_AA64ISAR0_EL1.RNDR"]), Some(either.to_vec()));
    assert_eq!(accepted(&["ID_AA64ISAR0_EL1.TLB"]), None);
    assert!(host.features.contains_key("pmu"));
}

/// Returns hosts that differ in several fields, and their CPU.
fn unlike_hosts() -> (Fleet, Baseline) {
    let mut random = Random(2);
    loop {
        let fleet = fleet(&[host("a<b>", &mut random), host("c|d", &mut random)]);
        if let Ok(baseline) = merged(&fleet) {
            if baseline.rows.len() > 3 {
                return (fleet, baseline);
            }
        }
    }
}

/// The JSON and the text for the kernel can be read again.
#[test]
fn forms_that_are_read() {
    let (fleet, baseline) = unlike_hosts();
    let write = |format| output::write(&fleet, &baseline, format, false);
    assert_eq!(Fleet::parse("x", &write(Format::Json)).unwrap(), fleet);
    let text = Text::parse("x", &write(Format::Kernel)).unwrap();
    assert_eq!(text, Text::of(&baseline, &fleet, false));
}

/// Reports name all fields, and have no names of hosts as they are.
#[test]
fn reports() {
    let (fleet, baseline) = unlike_hosts();
    let write = |format| output::write(&fleet, &baseline, format, false);
    let page = write(Format::Html);
    assert!(page.contains("a&lt;b&gt;") && !page.contains("a<b>") && page.ends_with("</html>\n"));
    let report = write(Format::Markdown);
    assert!(report.contains("c\\|d") && report.contains("a&lt;b&gt;"));
    for row in &baseline.rows {
        assert!(report.contains(&row.field) && page.contains(&row.field));
    }
}

/// Returns the lines for the VMM, except those of dczid_el0, pmcr_el0.n and sve.
fn vmm_lines(text: &Text) -> Vec<String> {
    let sets = text.sets.iter().map(|set| {
        let id = registers::named(set.register).unwrap().id;
        format!("{id:#x} {:#x} {:#x}", set.value, set.mask)
    });
    let who = [
        ("0x603000000013c000", text.midr_el1),
        ("0x603000000013c006", text.revidr_el1),
        ("0x603000000013c807", text.aidr_el1),
    ];
    let who = who
        .into_iter()
        .filter_map(|(id, value)| Some(format!("{id} {:#x} 0xffffffffffffffff", value?)));
    let clock = text.cntfrq_el0.map(|value| format!("cntfrq_el0 {value}"));
    let off = text.off.iter().map(|feature| format!("{feature} off"));
    sets.chain(who).chain(clock).chain(off).collect()
}

/// The VMM is told what the kernel is told.
#[test]
fn form_for_vmm() {
    let (fleet, baseline) = unlike_hosts();
    let lines = output::write(&fleet, &baseline, Format::Vmm, false);
    let mut lines: Vec<_> = lines.lines().collect();
    assert_eq!((lines.remove(0), lines.pop()), ("baseline 1", Some("end")));
    for line in vmm_lines(&Text::of(&baseline, &fleet, false)) {
        let at = lines.iter().position(|one| *one == line).expect(&line);
        lines.remove(at);
    }
    let named = |line: &&str| !line.starts_with("0x") && line.split(' ').count() == 2;
    assert!(lines.iter().all(named), "{lines:?}");
}

/// Firecracker is told of the fields that differ.
#[test]
fn form_for_firecracker() {
    let (fleet, baseline) = unlike_hosts();
    let template = output::write(&fleet, &baseline, Format::Firecracker, false);
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    let fewest = Text::of(&baseline, &fleet, true);
    let modifiers = template["reg_modifiers"].as_array().unwrap();
    assert_eq!(modifiers.len(), fewest.sets.len());
    for (set, modifier) in fewest.sets.iter().zip(modifiers) {
        let bitmap = modifier["bitmap"].as_str().unwrap();
        let number = |of: char| {
            let digits = bitmap[2..].chars().map(|c| if c == of { '1' } else { '0' });
            u64::from_str_radix(&digits.collect::<String>(), 2).unwrap()
        };
        assert_eq!((number('1'), !number('x')), (set.value, set.mask));
    }
}

/// The fields that one side does not name are found.
#[test]
fn differences() {
    let side = |text: &str| diff::Side::read("x", text).unwrap();
    let one = side("id_aa64isar0_el1=0x1000000000000000/0xf000000000000000");
    let other = side("id_aa64isar0_el1=0x0/0xf000000000000000,id_aa64isar1_el1=0x1/0xf");
    assert_eq!(diff::lines(&one, &one), Vec::<String>::new());
    let lines = diff::lines(&one, &other);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("ID_AA64ISAR0_EL1.RNDR: 1 (IMP), and 0 (NI)"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("ID_AA64ISAR1_EL1.DPB: not named, and 1"),
        "{lines:?}"
    );
    let lines = diff::lines(&side("sve=off"), &side("pmu=off,midr_el1=0x1,sve=128"));
    assert_eq!(lines.len(), 4, "{lines:?}");
    let lines = diff::lines(&side("sve=off,el2=off"), &side("sve=off"));
    assert_eq!(lines, ["el2: off, and not named"]);
    // A text that lowers a field to 0 is not one that leaves it alone.
    let lines = diff::lines(&side("id_aa64isar0_el1=0x0/0xf00000"), &side("sve=128"));
    assert!(
        lines[0].starts_with("ID_AA64ISAR0_EL1.ATOMIC: 0 (NI), and not named"),
        "{lines:?}"
    );
    // Whether there is an interrupt controller is not of the CPU.
    let fleet = fleet(&[small("a", &[("ID_AA64PFR0_EL1", 0x0100_0011)], &[])]);
    let text = Text::of(&merged(&fleet).unwrap(), &fleet, false).write();
    let host = serde_json::to_string(&fleet).unwrap();
    let lines = diff::lines(&side(&text), &side(&host));
    assert!(lines.iter().all(|line| !line.contains("GIC")), "{lines:?}");
}

/// Hosts differ, too, in bits that no field is known of.
#[test]
fn unknown_differences() {
    let register = registers::all().find(|one| one.mask() != u64::MAX).unwrap();
    let host = |bits: u64| {
        let fleet = fleet(&[small("a", &[(register.name, bits)], &[])]);
        diff::Side::read("x", &serde_json::to_string(&fleet).unwrap()).unwrap()
    };
    let lines = diff::lines(&host(0), &host(!register.mask()));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("outside of known fields"), "{lines:?}");
}

/// The manual's table of some registers: name, KVM's identifier, and fields.
#[test]
fn table() {
    let found = registers::all().filter(|one| !one.is_pseudo()).count();
    assert!(found > 40, "{found}");
    let pfr0 = registers::named("id_aa64pfr0_el1").unwrap();
    assert_eq!(pfr0.id, 0x6030_0000_0013_c020);
    let fields: Vec<_> = pfr0
        .fields
        .iter()
        .rev()
        .take(4)
        .map(|field| (field.name, field.lsb))
        .collect();
    assert_eq!(fields, [("EL0", 0), ("EL1", 4), ("EL2", 8), ("EL3", 12)]);
    assert_eq!(
        registers::named("CTR_EL0").unwrap().id,
        0x6030_0000_0013_d801
    );
    for register in registers::all() {
        let bits = register.fields.iter().fold(0u64, |all, field| {
            assert_eq!(all & field.mask(), 0, "{register}.{}", field.name);
            all | field.mask()
        });
        assert_eq!(bits, register.mask());
    }
}

/// The words are of fields that there are.
#[test]
fn phrases() {
    let names: Vec<_> = words::all().map(|(name, _)| name).collect();
    assert!(names.len() > 200 && names.is_sorted());
    for name in names {
        let (register, field) = name.split_once('.').unwrap();
        let register = registers::named(register).unwrap();
        assert!(register.field(field).is_some(), "{name}");
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of merging.

use std::collections::{BTreeMap, BTreeSet};

use super::{fleet, host, join, merged, small, Random};
use crate::{
    dump, errata,
    host::{Choice, Group, Hex, Host, FEATURES},
    merge::{self, Baseline, Policy},
    output::{self, Format},
    registers::{self, Field, Rule},
    text::Text,
};

/// Returns the value that a baseline gives to a group, if it names all of it.
fn value(baseline: &Baseline, group: &Group) -> Option<Vec<u64>> {
    let sets = || baseline.registers.iter().chain(&baseline.firmware);
    group
        .parts()
        .map(|(register, field)| {
            let set = sets().find(|set| set.register == register.name)?;
            (set.mask & field.mask() == field.mask()).then(|| field.of(set.value))
        })
        .collect()
}

/// Checks that each host accepts a baseline, and that no group could be better for all.
fn check(hosts: &[Host], baseline: &Baseline) {
    for group in Group::all() {
        let Some(chosen) = value(baseline, &group) else {
            continue;
        };
        let without = &baseline.without;
        let sets = hosts.iter().map(|host| host.accepted(group, without));
        let sets: Vec<BTreeSet<Vec<u64>>> = sets.collect();
        let own = hosts
            .iter()
            .filter_map(|host| group.value(|register| host.register(register, without)));
        let own: Vec<_> = own.collect();
        let accepted = |value: &Vec<u64>| sets.iter().all(|set| set.contains(value));
        assert!(accepted(&chosen), "{:?} {chosen:?}", group.names());
        let is_default = own.contains(&chosen);
        for other in sets[0].iter().filter(|other| accepted(other)) {
            let better = group.worth(other) > group.worth(&chosen);
            // The default of a host comes first, and the better of two defaults.
            assert!(
                !better || is_default && !own.contains(other),
                "{:?}: {other:?} is better than {chosen:?}",
                group.names()
            );
            assert!(is_default || !own.contains(other), "{:?}", group.names());
        }
    }
}

/// Merging is associative, commutative and idempotent, and its result is the best that all accept.
#[test]
fn random_fleets() {
    let mut random = Random(0x5eed);
    let (mut some, mut none) = (0, 0);

    for _ in 0..10_000 {
        let hosts: Vec<_> = ["a", "b", "c"]
            .iter()
            .map(|name| host(name, &mut random))
            .collect();
        let [a, b, c] = [0, 1, 2].map(|i| fleet(&hosts[i..=i]));
        let left = join(&[join(&[a.clone(), b.clone()]), c.clone()]);
        let right = join(&[a.clone(), join(&[c.clone(), b.clone()])]);
        assert_eq!(left, right);
        assert_eq!(join(&[left.clone(), right.clone()]), left);
        let mut turned = left.clone();
        turned.hosts.reverse();
        match (merged(&left), merged(&turned)) {
            (Ok(one), Ok(other)) => {
                some += 1;
                let text = |baseline| Text::of(baseline, &left, false);
                assert_eq!(text(&one), text(&other));
                check(&hosts, &one);
            }
            (Err(_), Err(_)) => none += 1,
            (one, other) => panic!("{one:?} and {other:?}"),
        }
    }
    assert!(some > 1000 && none > 1000, "{some} {none}");
}

/// A host has a CPU in common with itself: its default, with nothing to give up.
#[test]
fn alone() {
    let mut random = Random(7);

    for _ in 0..1000 {
        let one = host("a", &mut random);
        let twin = Host {
            name: "b".into(),
            ..one.clone()
        };
        for fleet in [fleet(&[one.clone()]), fleet(&[one.clone(), twin])] {
            let baseline = merged(&fleet).unwrap();
            assert_eq!(baseline.rows, []);
            for group in Group::all() {
                if let Some(value) = value(&baseline, &group) {
                    let own = group.value(|register| one.register(register, &baseline.without));
                    assert_eq!(Some(value), own);
                }
            }
            assert_eq!(Text::of(&baseline, &fleet, true).sets, []);
        }
    }
}

/// Returns the fields with the numbers of breakpoints, and of those that are context-aware.
fn breakpoint_fields() -> [&'static Field; 2] {
    let register = registers::named("ID_AA64DFR0_EL1").unwrap();
    ["BRPs", "CTX_CMPs"].map(|name| register.field(name).unwrap())
}

/// Returns all pairs of such numbers, where context-aware ones are some of all.
fn breakpoint_pairs() -> impl Iterator<Item = [u64; 2]> {
    (1..16).flat_map(|all| (0..=all).map(move |some| [all, some]))
}

/// Returns a host that has such numbers, and accepts lower ones.
fn with_breakpoints(name: &str, own: [u64; 2]) -> Host {
    let [breakpoints, context_aware] = breakpoint_fields();
    let value = context_aware.with(breakpoints.with(0, own[0]), own[1]);
    let below = |one: &[u64; 2]| one[0] <= own[0] && one[1] <= own[1];
    let accepted = breakpoint_pairs().filter(below);
    let fields = ["ID_AA64DFR0_EL1.BRPs", "ID_AA64DFR0_EL1.CTX_CMPs"];
    Host {
        name: name.into(),
        registers: BTreeMap::from([("ID_AA64DFR0_EL1".into(), Hex(value))]),
        choices: vec![Choice {
            fields: fields.map(String::from).into(),
            accepted: accepted.map(|one| one.to_vec()).collect(),
        }],
        ..Host::default()
    }
}

/// Two hosts have the lower numbers of breakpoints in common.
#[test]
fn breakpoints() {
    let fields = breakpoint_fields();

    for a in breakpoint_pairs() {
        for b in breakpoint_pairs() {
            let hosts = [with_breakpoints("a", a), with_breakpoints("b", b)];
            let baseline = merged(&fleet(&hosts)).unwrap();
            check(&hosts, &baseline);
            let value = baseline.registers[0].value;
            // Fewer breakpoints may also mean fewer context-aware ones.
            let all = a[0].min(b[0]);
            let expected = [all, a[1].min(b[1]).min(all)];
            assert_eq!(fields.map(|field| field.of(value)), expected);
        }
    }
}

/// Returns two values of each of two fields.
fn two_by_two() -> impl Iterator<Item = Vec<u64>> {
    (0..4).map(|n| vec![n / 2, n % 2])
}

/// Returns a host that has one of these values, by its number, and accepts those whose bits are
/// set.
fn with_pair(pair: &[(&str, &str); 2], (own, accepts): (usize, u32)) -> Host {
    let own = two_by_two().nth(own).unwrap();
    let mut registers = BTreeMap::<_, Hex>::new();
    for ((register, field), value) in pair.iter().zip(&own) {
        let field = registers::named(register).unwrap().field(field).unwrap();
        let known = registers.entry(register.to_string()).or_default();
        known.0 = field.with(known.0, *value);
    }
    let accepted = two_by_two().enumerate();
    let accepted = accepted.filter(|(n, _)| accepts >> n & 1 != 0);
    let fields = pair.map(|(register, field)| format!("{register}.{field}"));
    Host {
        name: format!("{own:?} {accepts}"),
        registers,
        choices: vec![Choice {
            fields: fields.into(),
            accepted: accepted.map(|(_, value)| value).collect(),
        }],
        ..Host::default()
    }
}

/// All that two hosts may have and accept of two fields that depend on each other, with two values
/// each: they have something in common if both accept it, and then the best of that.
#[test]
fn pairs() {
    // A host accepts what it has.
    let all = || (0..4).flat_map(|own| (0..16).map(move |all| (own, all | 1 << own)));

    for pair in registers::PAIRS {
        for (one, other) in all().flat_map(|one| all().map(move |other| (one, other))) {
            let hosts = [one, other].map(|host| with_pair(pair, host));
            match merged(&fleet(&hosts)) {
                Ok(baseline) => check(&hosts, &baseline),
                Err(_) => assert_eq!(one.1 & other.1, 0, "{pair:?} {hosts:?}"),
            }
            assert!(one.1 & other.1 != 0 || merged(&fleet(&hosts)).is_err());
        }
    }
}

/// Of two values, one is safe.
#[test]
fn orders() {
    let field = |register, field| registers::named(register).unwrap().field(field).unwrap();
    for (register, name, value, own, safe) in [
        ("ID_AA64ISAR0_EL1", "RNDR", 0, 1, true),
        ("ID_AA64ISAR0_EL1", "RNDR", 1, 0, false),
        // Signed: 0xf says that there is none.
        ("ID_AA64PFR0_EL1", "FP", 0xf, 0, true),
        ("ID_AA64PFR0_EL1", "FP", 0, 0xf, false),
        ("ID_AA64MMFR0_EL1", "TGRAN4", 0xf, 1, true),
        ("ID_AA64MMFR0_EL1", "TGRAN4_2", 1, 2, true),
        ("ID_AA64MMFR0_EL1", "TGRAN4_2", 0, 2, false),
        ("ID_AA64MMFR1_EL1", "SpecSEI", 1, 0, true),
        ("ID_AA64MMFR1_EL1", "SpecSEI", 0, 1, false),
        ("CTR_EL0", "CWG", 0, 4, true),
        ("CTR_EL0", "CWG", 5, 4, true),
        ("CTR_EL0", "CWG", 3, 4, false),
        ("CTR_EL0", "CWG", 5, 0, false),
        ("ID_AA64ISAR1_EL1", "API", 1, 5, false),
        ("ID_AA64ISAR1_EL1", "API", 0, 5, true),
        ("ID_AA64DFR0_EL1", "PMUVer", 5, 6, true),
    ] {
        assert_eq!(
            field(register, name).is_safe(value, own),
            safe,
            "{register}.{name}"
        );
    }
    assert_eq!(field("ID_AA64DFR0_EL1", "DebugVer").rule, Rule::Lower);
}

/// The hosts of which one has no AArch32 have a CPU only if the other can hide it.
#[test]
fn no_aarch32() {
    let pfr0 = |el0: u64| BTreeMap::from([("ID_AA64PFR0_EL1".to_string(), Hex(0x10 | el0))]);
    let choice = Choice {
        fields: vec!["ID_AA64PFR0_EL1.EL0".into()],
        accepted: BTreeSet::from([vec![1], vec![2]]),
    };
    let mut with = Host {
        name: "v1".into(),
        registers: pfr0(2),
        choices: vec![choice],
        ..Host::default()
    };
    with.registers
        .insert("ID_ISAR0_EL1".into(), Hex(0x0210_1110));
    let mut without = Host {
        name: "v2".into(),
        registers: pfr0(1),
        ..Host::default()
    };
    // KVM shows this, though the host has no AArch32.
    without
        .registers
        .insert("ID_DFR0_EL1".into(), Hex(0x300_0000));
    without.registers.insert("ID_ISAR0_EL1".into(), Hex(0));

    let reasons = merged(&fleet(&[with.clone(), without.clone()])).unwrap_err();
    assert!(reasons.len() == 1 && reasons[0].starts_with("AArch32: v2 does not have it"));
    assert!(reasons[0].contains("of v1 cannot hide"), "{reasons:?}");
    with.baseline = true;
    let baseline = merged(&fleet(&[with, without])).unwrap();
    let names: Vec<_> = baseline.registers.iter().map(|set| set.register).collect();
    assert_eq!(names, ["ID_AA64PFR0_EL1"]);
    assert_eq!(baseline.registers[0].value & 0xf, 1);
}

/// It does not matter what KVM shows of AArch32 on hosts without it.
#[test]
fn aarch64_only() {
    let host = |name: &str, version: u64| {
        let registers = [
            ("ID_AA64PFR0_EL1", 0x11),
            ("ID_DFR0_EL1", version << 24),
            ("ID_AA64DFR0_EL1", version << 8 | 6),
        ];
        let versions: &[&[u64]] = &[&[4], &[5], &[6]];
        let accepted = &versions[..version as usize - 3];
        let without = [("ID_AA64DFR0_EL1", 6), ("ID_DFR0_EL1", 0)];
        let without = without.map(|(name, value)| (name.to_string(), Hex(value)));
        Host {
            features: BTreeMap::from([("pmu".to_string(), BTreeMap::from(without))]),
            ..small(name, &registers, &[(&["ID_AA64DFR0_EL1.PMUVer"], accepted)])
        }
    };
    let fleet = fleet(&[host("a", 6), host("b", 5)]);
    let baseline = merged(&fleet).unwrap();
    let named = |name| baseline.registers.iter().find(|set| set.register == name);
    assert_eq!(named("ID_DFR0_EL1"), None);
    assert_eq!(named("ID_AA64DFR0_EL1").unwrap().value >> 8 & 0xf, 5);
    assert!(!baseline.without.contains(&"pmu"));
}

/// Hosts have no CPU in common if they differ in a value that KVM cannot change for a VM.
#[test]
fn clocks() {
    let host = |name: &str, hertz| {
        let mut host = host(name, &mut Random(3));
        host.facts.cntfrq_el0 = Some(hertz);
        host
    };
    let reasons = merged(&fleet(&[host("a", 1_000_000_000), host("b", 62_500_000)])).unwrap_err();
    assert_eq!(reasons.len(), 1);
    assert!(reasons[0].contains("a has 1000000000") && reasons[0].contains("b has 62500000"));
}

/// The lengths of vectors up to the limit have to be the same.
#[test]
fn vectors() {
    let host = |name: &str, lengths: &[u32]| {
        let mut host = host(name, &mut Random(3));
        host.features = FEATURES
            .map(|one| (one.to_string(), BTreeMap::new()))
            .into();
        host.facts.sve_lengths = lengths.to_vec();
        host
    };
    for (a, b, longest, off) in [
        (&[128, 256][..], &[128, 256][..], Some(256), false),
        (&[128, 256], &[128], Some(128), false),
        (&[128, 256, 512], &[128, 256, 384, 512], Some(256), false),
        (&[256], &[128, 256], None, true),
    ] {
        let baseline = merged(&fleet(&[host("a", a), host("b", b)])).unwrap();
        assert_eq!(baseline.sve_length, longest, "{a:?} {b:?}");
        assert_eq!(baseline.without.contains(&"sve"), off, "{a:?} {b:?}");
    }
}

/// A kind of pointer authentication that the other host does not have leaves none.
#[test]
fn kinds() {
    let host = |name: &str, kind| {
        let register = registers::named("ID_AA64ISAR1_EL1").unwrap();
        let with = register.field("API").unwrap().with(0, kind);
        Host {
            name: name.into(),
            registers: BTreeMap::from([(register.name.into(), Hex(with))]),
            features: BTreeMap::from([(
                "ptrauth".into(),
                BTreeMap::from([(register.name.into(), Hex(0))]),
            )]),
            ..Host::default()
        }
    };
    let hosts = [host("a", 3), host("b", 5)];
    let baseline = merged(&fleet(&hosts)).unwrap();
    assert!(baseline.without.contains(&"ptrauth"));
    assert_eq!(baseline.registers[0].value, 0);
    assert!(baseline
        .rows
        .iter()
        .any(|row| row.field == "ptrauth" && row.chosen == "off"));
    let baseline = merged(&fleet(&[host("a", 3), host("b", 3)])).unwrap();
    assert!(!baseline.without.contains(&"ptrauth"));
}

const N1: errata::Cpu = (0x413f_d0c1, 0);
const V1: errata::Cpu = (0x411f_d401, 0);
const N2: errata::Cpu = (0x410f_d490, 0);
const A53: errata::Cpu = (0x410f_d034, 0);
const A75: errata::Cpu = (0x410f_d0a0, 0);
const A76: errata::Cpu = (0x410f_d0b0, 0);
const THUNDERX: errata::Cpu = (0x430f_0a10, 0);

/// A guest that is told of its own CPU misses nothing, and otherwise errata of that.
#[test]
fn errata_of_models() {
    let missed = |real, told| errata::missed(real, told, true, |_| false);

    for cpu in [N1, V1, N2, A53, A76] {
        assert_eq!(missed(cpu, cpu), Vec::<String>::new());
    }
    // Neoverse N1 before r4p1 has an erratum of its own; both lists are in cpu_errata.c.
    let of_n1 = missed(N1, V1);
    assert!(
        of_n1.iter().any(|name| name.contains("1542419")),
        "{of_n1:?}"
    );
}

/// Cortex-A53 is safe from Spectre-BHB, and a guest that thinks so leaves others unprotected.
#[test]
fn spectre_bhb() {
    let missed = |real, told| {
        let missed = errata::missed(real, told, true, |_| false);
        missed.iter().any(|name| name.starts_with("Spectre-BHB"))
    };

    assert!(missed(V1, A53));
    // A longer loop is enough, and a shorter one is not.
    assert!(!missed(A76, V1));
    assert!(missed(V1, A76));
    // The fields may say what is otherwise known of the model.
    let by_field = errata::missed(V1, A53, true, |_| true);
    assert!(
        by_field.iter().all(|name| !name.starts_with("Spectre")),
        "{by_field:?}"
    );
}

/// Guests have to know of the errata of all hosts.
#[test]
fn errata_of_fleets() {
    let host = |name: &str, (midr, _)| {
        let mut host = host(name, &mut Random(3));
        host.implementation.as_mut().unwrap().midr_el1 = Hex(midr);
        host
    };
    let fleet = fleet(&[host("n1", N1), host("a53", A53)]);
    assert!(merged(&fleet).unwrap_err()[0].starts_with("MIDR_EL1: a guest that is told"));
    let accepted = Policy {
        accept_errata: true,
        ..Policy::default()
    };
    let baseline = merge::merge(&fleet, accepted).unwrap();
    assert!(baseline.implementation.is_some());
}

/// A workaround may do harm on CPUs that do not need it.
#[test]
fn harmful_workarounds() {
    let missed = |real, told, dic| errata::missed(real, told, dic, |_| false);

    let of_a75 = missed(A75, THUNDERX, true);
    assert!(
        of_a75
            .iter()
            .any(|what| what.starts_with("workaround that does harm: Cavium")),
        "{of_a75:?}"
    );
    // Erratum 1542419 is of instruction caches that need no invalidation.
    for dic in [false, true] {
        let of_n1 = missed(N1, A75, dic);
        assert_eq!(
            of_n1.iter().any(|what| what.contains("1542419")),
            dic,
            "{of_n1:?}"
        );
    }
}

/// Of the CPUs that may be told, one is taken which all hosts can give to VMs.
#[test]
fn who_can_be_told() {
    let host = |name: &str, midr, writable| {
        let mut host = host(name, &mut Random(3));
        let one = host.implementation.as_mut().unwrap();
        (one.midr_el1, one.writable) = (Hex(midr), writable);
        host
    };
    for (a, b) in [(false, true), (true, false)] {
        let hosts = [host("a", 0x411f_d401, a), host("b", 0x411f_d402, b)];
        let told = merged(&fleet(&hosts)).unwrap().implementation.unwrap();
        assert_eq!(told.midr_el1.0, if a { 0x411f_d402 } else { 0x411f_d401 });
    }
    let neither = [host("a", 0x411f_d401, false), host("b", 0x411f_d402, false)];
    assert!(merged(&fleet(&neither)).unwrap_err()[0].contains("cannot give another one"));
    // A host that joins has to have the same, too.
    let same = [host("a", 0x411f_d401, false), host("b", 0x411f_d401, false)];
    let baseline = merged(&fleet(&same)).unwrap();
    assert!(baseline.implementation.is_some() && baseline.rows.is_empty());
}

/// Firmware need not do what the CPU can, so that both belong together.
#[test]
fn spectre_v4() {
    let pair = &["ID_AA64PFR1_EL1.SSBS", "smccc_wa2.level"][..];
    let n1 = [("ID_AA64PFR1_EL1", 0x20), ("smccc_wa2", 0)];
    let n1 = small("n1", &n1, &[(pair, &[&[2, 0], &[1, 0], &[0, 3]])]);
    let a72 = small("a72", &[("ID_AA64PFR1_EL1", 0), ("smccc_wa2", 3)], &[]);
    let baseline = merged(&fleet(&[n1, a72])).unwrap();
    assert_eq!(
        (baseline.registers[0].value, baseline.firmware[0].value),
        (0, 3)
    );
}

/// A value that is not known of one host is taken from the others, with a note.
#[test]
fn unknown_registers() {
    let field = &["ID_AA64ISAR0_EL1.RNDR"][..];
    let one = small(
        "a",
        &[("ID_AA64ISAR0_EL1", 1 << 60)],
        &[(field, &[&[0], &[1]])],
    );
    let other = small("b", &[("ID_AA64ISAR0_EL1", 0)], &[]);
    let silent = small("c", &[("ID_AA64PFR0_EL1", 0x11)], &[]);
    let baseline = merged(&fleet(&[one, other, silent])).unwrap();
    let set = baseline
        .registers
        .iter()
        .find(|set| set.register == "ID_AA64ISAR0_EL1");
    assert_eq!(set.unwrap().value >> 60, 0);
    assert_eq!(baseline.rows[0].values, ["1 (IMP)", "0 (NI)", ""]);
    assert!(baseline
        .notes
        .iter()
        .any(|note| note == "ID_AA64ISAR0_EL1: not known of c"));
    assert!(baseline
        .notes
        .iter()
        .any(|note| note == "CNTFRQ_EL0: not known of a, b, c"));
}

/// A dump that does not show a feature does not take it from the others.
#[test]
fn features_of_dumps() {
    let with = small("a", &[("ID_AA64DFR0_EL1", 0x1030_5608)], &[]);
    let with = Host {
        features: FEATURES
            .map(|one| (one.to_string(), BTreeMap::new()))
            .into(),
        ..with
    };
    let dump = BTreeMap::from([
        ("ID_AA64DFR0_EL1".to_string(), Hex(0x1030_5608)),
        ("MIDR_EL1".to_string(), Hex(0x411f_d401)),
    ]);
    let derived = dump::derive("g", dump, &with);
    assert_eq!(derived.implementation.unwrap().midr_el1, Hex(0x411f_d401));
    let baseline = merged(&fleet(&[with.clone(), derived])).unwrap();
    assert_eq!(baseline.without, Vec::<&str>::new());
    let lacking = small("b", &[("ID_AA64DFR0_EL1", 0x1030_5608)], &[]);
    assert_eq!(merged(&fleet(&[with, lacking])).unwrap().without, FEATURES);
}

/// Firecracker's VMs have no features, so that its template says nothing of them.
#[test]
fn plain() {
    let host = |name: &str, version: u64| {
        let dfr0 = 0x1030_5008 | version << 8;
        let host = small(name, &[("ID_AA64DFR0_EL1", dfr0)], &[]);
        let without = BTreeMap::from([("ID_AA64DFR0_EL1".to_string(), Hex(0x1030_5008))]);
        Host {
            features: BTreeMap::from([("pmu".to_string(), without)]),
            ..host
        }
    };
    let fleet = fleet(&[host("a", 5), host("b", 4)]);
    let policy = Policy {
        plain: true,
        ..Policy::default()
    };
    let baseline = merge::merge(&fleet, policy).unwrap();
    let template = output::write(&fleet, &baseline, Format::Firecracker, true);
    let template: serde_json::Value = serde_json::from_str(&template).unwrap();
    assert_eq!(baseline.registers[0].value & 0xf00, 0);
    assert_eq!(template["vcpu_features"].as_array().unwrap().len(), 0);
    // What the VMs do not have is not set.
    assert_eq!(template["reg_modifiers"].as_array().unwrap().len(), 0);
}

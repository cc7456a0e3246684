// SPDX-License-Identifier: GPL-2.0

//! Writes the tables of ID registers that `registers.rs` includes.
//!
//! Their fields, and the names of values, come from the output of `gen-sysreg --consts`, whose path
//! is in `SYSREG_CONSTS`. Which of two values is the safe one comes from the kernel's cpufeature.c,
//! whose path is in `CPUFEATURE`.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

/// A field, with its order as cpufeature.c has it.
#[derive(Default)]
struct Field {
    name: String,
    lsb: u32,
    width: u32,
    signed: bool,
    values: Vec<(String, u64)>,
}

/// How cpufeature.c orders the values of a field.
struct Order {
    signed: bool,
    rule: &'static str,
    safe: String,
}

/// KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM64_SYSREG: op0, op1, CRn, CRm and op2 follow.
const SYSREG: u64 = 0x6030_0000_0013_0000;
/// The encodings of ID registers: op0 3, op1 0, CRn 0, CRm 1 to 7.
const ID: std::ops::Range<u64> = 0xc008..0xc040;
/// Others that say who made the CPU, and what caches it has.
const OTHERS: [&str; 4] = ["MIDR_EL1", "REVIDR_EL1", "AIDR_EL1", "CLIDR_EL1"];
/// Fields which KVM orders, though cpufeature.c does not (`kvm_arm64_ftr_safe_value`).
const ORDERED: [&str; 3] = [
    "ID_AA64DFR0_EL1_PMUVer",
    "ID_AA64DFR0_EL1_DebugVer",
    "ID_DFR0_EL1_PerfMon",
];

fn main() {
    let read = |variable: &str| {
        println!("cargo::rerun-if-env-changed={variable}");
        let path = env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
        println!("cargo::rerun-if-changed={path}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (consts, cpufeature) = (read("SYSREG_CONSTS"), read("CPUFEATURE"));
    let numbers = numbers(&consts);
    let orders = orders(&cpufeature);
    assert!(orders.len() > 150, "cpufeature.c is not what it was");
    let mut used = 0;
    let mut out = String::from("static TABLE: &[Register] = &[\n");

    for (register, encoding, fields) in registers(&consts, &numbers) {
        writeln!(
            out,
            "Register {{ name: {register:?}, id: {:#x}, fields: &[",
            SYSREG | encoding
        )
        .unwrap();
        for field in fields {
            let name = format!("{register}_{}", field.name);
            let order = orders.get(&name);
            used += usize::from(order.is_some());
            let (rule, safe) = order.map_or(("Lower", 0), |order| {
                let named = numbers.get(&order.safe).copied();
                let safe = named.or_else(|| parse(&order.safe));
                let safe = safe.unwrap_or_else(|| panic!("{}: not a value", order.safe));
                let ordered = ORDERED.contains(&name.as_str());
                (if ordered { "Lower" } else { order.rule }, safe)
            });
            let signed = order.map_or(field.signed, |order| order.signed);
            writeln!(
                out,
                "Field {{ name: {:?}, lsb: {}, width: {}, signed: {signed}, rule: Rule::{rule}, \
                 safe: {safe}, values: &{:?}, tries: &[] }},",
                field.name, field.lsb, field.width, field.values
            )
            .unwrap();
        }
        out.push_str("] },\n");
    }
    out.push_str("];\n");
    for name in OTHERS {
        let id = SYSREG | numbers[&format!("SYS_{name}")] >> 5;
        // Only arm64 asks for some of them.
        writeln!(out, "#[allow(dead_code)]\npub const {name}: u64 = {id:#x};").unwrap();
    }
    // Those of GMID_EL1, DCZID_EL0 and MPAMIDR_EL1 are not of ID registers.
    assert!(
        used + 16 > orders.len(),
        "{used} of {} orders",
        orders.len()
    );
    let dir = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&dir).join("tables.rs"), out).expect("OUT_DIR can be written");
}

/// Returns the number that a constant of Rust or C stands for.
fn parse(text: &str) -> Option<u64> {
    match text.split_at_checked(2) {
        Some(("0x", digits)) => u64::from_str_radix(digits, 16).ok(),
        Some(("0b", digits)) => u64::from_str_radix(digits, 2).ok(),
        _ => text.parse().ok(),
    }
}

/// Returns each constant's name and value.
fn constants(consts: &str) -> impl Iterator<Item = (&str, &str)> {
    consts.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(": ")?;
        Some((name, rest.split_once(" = ")?.1.strip_suffix(';')?))
    })
}

fn numbers(consts: &str) -> BTreeMap<String, u64> {
    constants(consts)
        .filter_map(|(name, value)| Some((name.to_string(), parse(value)?)))
        .collect()
}

/// Returns the ID registers and CTR_EL0 with their fields, in the order of their encodings.
fn registers(consts: &str, numbers: &BTreeMap<String, u64>) -> Vec<(String, u64, Vec<Field>)> {
    let mut found: Vec<(String, u64, Vec<Field>)> = Vec::new();
    let mut current = None;

    for (name, value) in constants(consts) {
        if let Some(register) = name.strip_prefix("REG_") {
            let encoding = numbers[&format!("SYS_{register}")] >> 5;
            current = (ID.contains(&encoding) || register == "CTR_EL0").then(|| {
                found.push((register.into(), encoding, Vec::new()));
            });
            continue;
        }
        let (Some(()), Some((register, _, fields))) = (current, found.last_mut()) else {
            continue;
        };
        let Some(rest) = name.strip_prefix(&format!("{register}_")) else {
            continue;
        };
        if let Some(field) = rest.strip_suffix("_SHIFT") {
            let width = numbers[&format!("{register}_{field}_WIDTH")];
            let signed = consts.contains(&format!("{register}_{field}_SIGNED: bool = true;"));
            fields.push(Field {
                name: field.into(),
                lsb: numbers[name] as u32,
                width: width as u32,
                signed,
                values: Vec::new(),
            });
        } else if let Some(field) = fields.last_mut() {
            if let Some(word) = rest.strip_prefix(&format!("{}_", field.name)) {
                if value.starts_with("0b") {
                    field.values.push((word.into(), numbers[name]));
                }
            }
        }
    }
    found.retain(|(_, _, fields)| !fields.is_empty());
    found.sort_by_key(|(_, encoding, _)| *encoding);
    found
}

/// Returns how cpufeature.c orders the values of fields, by REGISTER_FIELD.
fn orders(cpufeature: &str) -> BTreeMap<String, Order> {
    let mut found = BTreeMap::new();
    let mut signed = false;

    for chunk in cpufeature.split("ARM64_FTR_BITS(") {
        let follows_signed = std::mem::replace(&mut signed, chunk.ends_with("S_"));
        // The macros themselves, and what comes before the first one, have no such word.
        let Some((_, rest)) = chunk.split_once("STRICT, ") else {
            continue;
        };
        let words = rest.split_once(')').map_or(rest, |(words, _)| words);
        let words: Vec<_> = words.split(',').map(str::trim).collect();
        let [rule, shift, _, safe] = words[..] else {
            continue;
        };
        // Others are of registers without names of fields.
        let Some(name) = shift.strip_suffix("_SHIFT") else {
            continue;
        };
        let rule = match rule {
            "FTR_LOWER_SAFE" => "Lower",
            "FTR_HIGHER_SAFE" => "Higher",
            "FTR_HIGHER_OR_ZERO_SAFE" => "HigherOrZero",
            "FTR_EXACT" => "Exact",
            _ => panic!("{name}: no such rule: {rule}"),
        };
        let safe = safe.to_string();
        found.insert(
            name.to_string(),
            Order {
                signed: follows_signed,
                rule,
                safe,
            },
        );
    }
    found
}

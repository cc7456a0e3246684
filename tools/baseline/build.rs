// SPDX-License-Identifier: GPL-2.0

//! Writes the tables of ID registers that `registers.rs` includes.
//!
//! Their fields, and the names of values, come from the output of `gen-sysreg --consts`, whose path
//! is in `SYSREG_CONSTS`. Which of two values is the safe one comes from the kernel's cpufeature.c,
//! whose path is in `CPUFEATURE`.

use std::{collections::BTreeMap, env, fs, path::Path};

/// The numbers of constants, by their names.
type Numbers = BTreeMap<String, u64>;

/// A register of the description.
struct Register {
    name: String,
    encoding: u64,
    fields: Vec<Field>,
}

/// A field of a register.
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
/// Other registers, which identify the CPU or describe its caches.
const OTHERS: [&str; 4] = ["MIDR_EL1", "REVIDR_EL1", "AIDR_EL1", "CLIDR_EL1"];
/// Fields which KVM orders, though cpufeature.c does not (`kvm_arm64_ftr_safe_value`).
const ORDERED: [&str; 3] = [
    "ID_AA64DFR0_EL1_PMUVer",
    "ID_AA64DFR0_EL1_DebugVer",
    "ID_DFR0_EL1_PerfMon",
];

fn main() {
    let (consts, cpufeature) = (read("SYSREG_CONSTS"), read("CPUFEATURE"));
    let numbers = numbers(&consts);
    let orders = orders(&cpufeature);
    assert!(orders.len() > 150, "cpufeature.c is not what it was");
    let registers = registers(&consts, &numbers);
    let names = registers.iter().flat_map(Register::names);
    let used = names.filter(|name| orders.contains_key(name)).count();
    // Those of GMID_EL1, DCZID_EL0 and MPAMIDR_EL1 are not of ID registers.
    assert!(
        used + 16 > orders.len(),
        "{used} of {} orders",
        orders.len()
    );
    let rows = registers.iter().map(|one| one.row(&orders, &numbers));
    let table = format!(
        "static TABLE: &[Register] = &[\n{}];\n{}",
        rows.collect::<String>(),
        identifiers(&numbers)
    );
    let dir = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&dir).join("tables.rs"), table).expect("OUT_DIR can be written");
}

/// Returns the text of the file whose path is in a variable of the environment.
fn read(variable: &str) -> String {
    println!("cargo::rerun-if-env-changed={variable}");
    let path = env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    println!("cargo::rerun-if-changed={path}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the constants of the registers that are no ID registers.
fn identifiers(numbers: &Numbers) -> String {
    let line = |name| {
        let id = SYSREG | numbers[&format!("SYS_{name}")] >> 5;
        // Only arm64 asks for some of them.
        format!("#[allow(dead_code)]\npub const {name}: u64 = {id:#x};\n")
    };
    OTHERS.into_iter().map(line).collect()
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

/// Returns the numbers of those that are numbers.
fn numbers(consts: &str) -> Numbers {
    constants(consts)
        .filter_map(|(name, value)| Some((name.to_string(), parse(value)?)))
        .collect()
}

impl Register {
    /// Returns whether the table has it: ID registers and CTR_EL0 are there.
    fn is_listed(&self) -> bool {
        ID.contains(&self.encoding) || self.name == "CTR_EL0"
    }

    /// Takes a constant, if it is the place of a field, or a value of the last one.
    fn take(&mut self, name: &str, value: &str, consts: &str, numbers: &Numbers) {
        let Some(rest) = name.strip_prefix(&format!("{}_", self.name)) else {
            return;
        };
        if let Some(field) = rest.strip_suffix("_SHIFT") {
            let prefix = format!("{}_{field}", self.name);
            self.fields.push(Field {
                name: field.into(),
                lsb: numbers[name] as u32,
                width: numbers[&format!("{prefix}_WIDTH")] as u32,
                signed: consts.contains(&format!("{prefix}_SIGNED: bool = true;")),
                values: Vec::new(),
            });
        } else if let Some(field) = self.fields.last_mut() {
            let word = rest.strip_prefix(&format!("{}_", field.name));
            if let Some(word) = word.filter(|_| value.starts_with("0b")) {
                field.values.push((word.into(), numbers[name]));
            }
        }
    }

    /// Returns the names by which cpufeature.c knows the fields.
    fn names(&self) -> impl Iterator<Item = String> + '_ {
        let fields = self.fields.iter();
        fields.map(|field| format!("{}_{}", self.name, field.name))
    }

    /// Returns its row of the table.
    fn row(&self, orders: &BTreeMap<String, Order>, numbers: &Numbers) -> String {
        let fields = self.fields.iter().zip(self.names());
        let rows = fields.map(|(field, name)| field.row(&name, orders.get(&name), numbers));
        format!(
            "Register {{ name: {:?}, id: {:#x}, fields: &[\n{}] }},\n",
            self.name,
            SYSREG | self.encoding,
            rows.collect::<String>()
        )
    }
}

impl Field {
    /// Returns its row in that of the register.
    fn row(&self, name: &str, order: Option<&Order>, numbers: &Numbers) -> String {
        let (rule, safe) = order.map_or(("Lower", 0), |order| {
            let ordered = ORDERED.contains(&name);
            let rule = if ordered { "Lower" } else { order.rule };
            (rule, order.safe_value(numbers))
        });
        let signed = order.map_or(self.signed, |order| order.signed);
        format!(
            "Field {{ name: {:?}, lsb: {}, width: {}, signed: {signed}, rule: Rule::{rule}, \
             safe: {safe}, values: &{:?}, tries: &[] }},\n",
            self.name, self.lsb, self.width, self.values
        )
    }
}

impl Order {
    /// Returns the number of the safe value.
    fn safe_value(&self, numbers: &Numbers) -> u64 {
        let named = numbers.get(&self.safe).copied();
        let safe = named.or_else(|| parse(&self.safe));
        safe.unwrap_or_else(|| panic!("{}: not a value", self.safe))
    }

    /// Returns what follows `ARM64_FTR_BITS(` or `S_ARM64_FTR_BITS(`: the name of a field, and its
    /// order. Returns [`None`] if that is of no field.
    fn parse(text: &str, signed: bool) -> Option<(String, Self)> {
        // The macros themselves, and what comes before the first one, have no such word.
        let (_, rest) = text.split_once("STRICT, ")?;
        let words = rest.split_once(')').map_or(rest, |(words, _)| words);
        let words: Vec<_> = words.split(',').map(str::trim).collect();
        let [rule, shift, _, safe] = words[..] else {
            return None;
        };
        // Others are of registers without names of fields.
        let name = shift.strip_suffix("_SHIFT")?;
        let rule = match rule {
            "FTR_LOWER_SAFE" => "Lower",
            "FTR_HIGHER_SAFE" => "Higher",
            "FTR_HIGHER_OR_ZERO_SAFE" => "HigherOrZero",
            "FTR_EXACT" => "Exact",
            _ => panic!("{name}: no such rule: {rule}"),
        };
        let safe = safe.into();
        Some((name.into(), Self { signed, rule, safe }))
    }
}

/// Returns the ID registers and CTR_EL0 with their fields, in the order of their encodings.
fn registers(consts: &str, numbers: &Numbers) -> Vec<Register> {
    let mut found: Vec<Register> = Vec::new();

    for (name, value) in constants(consts) {
        if let Some(register) = name.strip_prefix("REG_") {
            found.push(Register {
                name: register.into(),
                encoding: numbers[&format!("SYS_{register}")] >> 5,
                fields: Vec::new(),
            });
        } else if let Some(register) = found.last_mut().filter(|one| one.is_listed()) {
            register.take(name, value, consts, numbers);
        }
    }
    found.retain(|register| !register.fields.is_empty());
    found.sort_by_key(|register| register.encoding);
    found
}

/// Returns how cpufeature.c orders the values of fields, by REGISTER_FIELD.
fn orders(cpufeature: &str) -> BTreeMap<String, Order> {
    let mut found = BTreeMap::new();
    let mut signed = false;

    for chunk in cpufeature.split("ARM64_FTR_BITS(") {
        let follows_signed = std::mem::replace(&mut signed, chunk.ends_with("S_"));
        found.extend(Order::parse(chunk, follows_signed));
    }
    found
}

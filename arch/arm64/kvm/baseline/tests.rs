// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host with `rustc --test`.
//! This crate root is beside that of the component, so that both find the same modules.

#![allow(dead_code)]

mod judge;
mod text;

use judge::*;
use text::{Malformed::*, *};

/// As in the component: some bits of an ID register.
struct Set {
    id: u32,
    value: u64,
    mask: u64,
}

#[test]
fn words_of_a_text() {
    let all = |text: &'static [u8]| words(text).collect::<Vec<_>>();

    assert_eq!(all(b""), [b""; 0]);
    assert_eq!(all(b"a=1"), [b"a=1"]);
    assert_eq!(all(b"a=1,b=2"), [b"a=1", b"b=2"]);
    // An empty word is refused as a word.
    assert_eq!(all(b","), [b"", b""]);
    assert_eq!(all(b"a=1,"), [&b"a=1"[..], b""]);
}

const fn bits(value: u64, mask: u64) -> Value {
    Value::Bits { value, mask }
}

const VALUES: &[(&str, Value)] = &[
    ("r=0/1", bits(0, 1)),
    ("r=0x1/0xf", bits(1, 15)),
    ("r=010/0xff", bits(10, 255)),
    ("r=0xAb/0xfF", bits(0xab, 0xff)),
    ("r=0/0xffffffffffffffff", bits(0, u64::MAX)),
    (
        "r=0xffffffffffffffff/18446744073709551615",
        bits(u64::MAX, u64::MAX),
    ),
    ("r=7", Value::Number(7)),
    ("r=0x0", Value::Number(0)),
    ("r=off", Value::Off),
];

const MALFORMED: &[(&str, Malformed)] = &[
    ("", NotAWord),
    ("r", NotAWord),
    ("=1", NotAWord),
    ("r=", BadNumber),
    ("r=/1", BadNumber),
    ("r=1/", BadNumber),
    ("r=0x", BadNumber),
    ("r=0X1", BadNumber),
    ("r=x1", BadNumber),
    ("r=1g/0xf", BadNumber),
    ("r=-1", BadNumber),
    ("r=+1", BadNumber),
    ("r= 1", BadNumber),
    ("r=1 ", BadNumber),
    ("r=1/1/1", BadNumber),
    ("r=Off", BadNumber),
    ("r=off/1", BadNumber),
    ("r=0x10000000000000000", BadNumber),
    ("r=18446744073709551616", BadNumber),
    ("r=0/0", BadMask),
    ("r=2/1", BadMask),
];

#[test]
fn values() {
    for (word, expected) in VALUES {
        let word = Word::new(word.as_bytes()).unwrap();
        assert_eq!((word.name, word.value), (&b"r"[..], *expected));
    }
    for (word, expected) in MALFORMED {
        assert_eq!(Word::new(word.as_bytes()), Err(*expected), "{word}");
    }
}

/// The encodings of ID_AA64DFR2_EL1 and CTR_EL0, and the smallest and the greatest fields.
const ENCODINGS: &[(&str, [u32; 5])] = &[
    ("s3_0_c0_c5_2", [3, 0, 0, 5, 2]),
    ("s3_3_c0_c0_1", [3, 3, 0, 0, 1]),
    ("s0_7_c15_c15_7", [0, 7, 15, 15, 7]),
    ("s3_0_c0_c10_0", [3, 0, 0, 10, 0]),
];

const NO_ENCODINGS: &[&str] = &[
    "",
    "s3",
    "s3_0_c0_c5",
    "s3_0_c0_c5_",
    "s3_0_c0_c5_2_",
    "s3_0_0_5_2",
    "S3_0_C0_C5_2",
    "s4_0_c0_c5_2",
    "s3_8_c0_c5_2",
    "s3_0_c16_c5_2",
    "s3_0_c0_c5_8",
    "s3_0_c0_c05_2",
    "s3_0_c0_cx_2",
    "id_aa64dfr2_el1",
    "s3_0_c0_c99999999999999999999_2",
];

#[test]
fn encodings() {
    for (name, parts) in ENCODINGS {
        let [op0, op1, crn, crm, op2] = parts;
        let expected = op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5;
        let id = Encoded::read(name.as_bytes()).map(Encoded::id);
        assert_eq!(id, Some(expected), "{name}");
        assert_eq!(Encoded::parts(expected), *parts);
    }
    for name in NO_ENCODINGS {
        assert_eq!(Encoded::read(name.as_bytes()), None, "{name}");
    }
}

/// A random word is refused, or keeps its meaning when it is written again.
#[test]
fn noise() {
    let letters = b"ar019fx=/,o \0\xff";
    let mut seed = 1u64;
    let mut random = |bound: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        (seed >> 33) as usize % bound
    };
    let mut read = 0;

    for _ in 0..1_000_000 {
        let len = random(12);
        let text: Vec<u8> = (0..len).map(|_| letters[random(letters.len())]).collect();
        for word in words(&text) {
            let Ok(it) = Word::new(word) else { continue };
            let name = String::from_utf8_lossy(it.name).into_owned();
            let again = match it.value {
                Value::Bits { value, mask } => format!("{name}={value:#x}/{mask}"),
                Value::Number(value) => format!("{name}={value}"),
                Value::Off => format!("{name}=off"),
            };
            read += 1;
            assert!(!it.name.is_empty());
            if it.name.is_ascii() {
                assert_eq!(Word::new(again.as_bytes()).unwrap(), it);
            }
        }
    }
    assert!(read > 1000);
}

/// The register that the checks are tried with.
///
/// | bits | field |
/// |---|---|
/// | 1:0 | can be lowered |
/// | 3:2 | can be lowered; not valid if greater than that in 1:0 |
/// | 5:4 | not writable |
/// | 7:6 | not known |
struct Fake {
    limit: u64,
}

const FIELDS: [u64; 3] = [0x03, 0x0c, 0x30];
const WRITABLE: [u64; 2] = [0x03, 0x0c];

fn is_valid(value: u64) -> bool {
    (value >> 2 & 3) <= (value & 3)
}

impl Registers for Fake {
    fn limit(&self, id: u32) -> u64 {
        assert_eq!(id, 5);
        self.limit
    }

    fn field(&self, _: u32, bit: u32) -> u64 {
        FIELDS
            .into_iter()
            .find(|field| field >> bit & 1 != 0)
            .unwrap_or(0)
    }

    fn lower(&self, _: u32, limit: u64, want: u64, mask: u64) -> u64 {
        let lowered = WRITABLE.into_iter().filter(|field| field & !mask == 0);
        let lowered = lowered.fold(limit, |value, field| {
            value & !field | (limit & field).min(want & field)
        });

        if is_valid(lowered) {
            lowered
        } else {
            limit
        }
    }
}

/// Returns whether a VM can have the value, from the table above and nothing else.
fn can_have(limit: u64, value: u64, mask: u64) -> bool {
    let whole = limit & !mask | value;
    let lowered = |field: u64| whole & field <= limit & field;

    whole & 0xf0 == limit & 0xf0 && WRITABLE.into_iter().all(lowered) && is_valid(whole)
}

/// Asserts that the check of a value is right. `seen` counts the outcomes: accepted, a part of a
/// field, beyond the limit.
fn try_value(limit: u64, value: u64, mask: u64, seen: &mut [u32; 3]) {
    let set = Set { id: 5, value, mask };
    let differs = (limit ^ value) & mask;
    let split = FIELDS
        .into_iter()
        .find(|field| field & differs != 0 && field & !mask != 0);
    let possible = can_have(limit, value, mask);
    let what = format!("{limit:#x} {value:#x}/{mask:#x}");

    match (check(&Fake { limit }, &set), split) {
        (Ok(()), None) => {
            seen[0] += 1;
            assert!(possible, "{what}");
        }
        (Err(Refusal::Part { field, limit: own }), Some(split)) => {
            seen[1] += 1;
            assert_eq!((field, own), (split, limit));
        }
        (Err(Refusal::Beyond { field, limit: own }), None) => {
            seen[2] += 1;
            assert!(!possible, "{what}");
            assert_eq!(own, limit);
            assert_ne!(field & differs, 0);
            // The named field is one that is refused alone, if any field is.
            let alone = |field: u64| !can_have(limit, value & field, field);
            let mut fields = FIELDS.into_iter().chain([0x40, 0x80]);
            let any = fields.any(|field| field & differs != 0 && alone(field));
            assert!(alone(field) || !any, "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

/// Every default, value and mask: what is accepted, and what the refusal names.
#[test]
fn every_value_of_a_register() {
    let mut seen = [0; 3];

    for limit in (0..256).filter(|&limit| is_valid(limit)) {
        for mask in 1..256 {
            for value in (0..256).filter(|value| value & !mask == 0) {
                try_value(limit, value, mask, &mut seen);
            }
        }
    }
    assert!(seen.into_iter().all(|n| n > 1000), "{seen:?}");
}

#[test]
fn bits_of_a_mask() {
    for (mask, msb, lsb, value) in [
        (1, 0, 0, 0),
        (0xf0, 7, 4, 0xe),
        (1 << 63, 63, 63, 1),
        (u64::MAX, 63, 0, 0x8000_0000_0000_00e0),
    ] {
        let bits = Bits::of(mask);
        assert_eq!((bits.msb, bits.lsb), (msb, lsb));
        assert_eq!(bits.get(0x8000_0000_0000_00e0), value);
    }
}

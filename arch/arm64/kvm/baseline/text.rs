// SPDX-License-Identifier: GPL-2.0

//! The text of `kvm.baseline=`: words, joined by commas.
//!
//! | Word | Meaning |
//! |---|---|
//! | `register=value/mask` | the bits in `mask` of an ID register |
//! | `key=value` | a number |
//! | `key=off` | VMs lack a feature |
//!
//! Names are in lower case, and numbers decimal or, after `0x`, hexadecimal. This module does not
//! decide which names exist. A register that has no name in this kernel can be given by its
//! encoding, as `s3_0_c0_c5_2`, so that several kernels can have the same text.

/// The longest text that a write to sysfs can have, in bytes without the new line.
pub(crate) const LONGEST: usize = 4095;

/// A reason why a text is not one of a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// There is no `=`, or nothing before it.
    NotAWord,
    /// A number is missing, has other characters, or has more than 64 bits.
    BadNumber,
    /// `value` has bits that are not in `mask`, or `mask` has none.
    BadMask,
}

impl Malformed {
    /// Returns what is wrong, for a message.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Malformed::NotAWord => "is neither register=value/mask nor key=value",
            Malformed::BadNumber => "has no number of at most 64 bits",
            Malformed::BadMask => "has a mask of 0, or bits outside of its mask",
        }
    }
}

/// The part of a word that follows the `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// `value/mask`.
    Bits {
        /// No bit is outside of `mask`.
        value: u64,
        /// At least one bit.
        mask: u64,
    },
    /// `value`.
    Number(u64),
    /// `off`.
    Off,
}

/// A word of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: Value,
}

/// Returns the parts of `text` before and after the first `separator`.
fn split(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&c| c == separator)?;

    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Parses a number.
fn number(text: &[u8]) -> Result<u64, Malformed> {
    let (digits, radix) = match text.strip_prefix(b"0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let mut number = 0u64;

    if digits.is_empty() {
        return Err(Malformed::BadNumber);
    }
    for &c in digits {
        let digit = char::from(c).to_digit(radix).ok_or(Malformed::BadNumber)?;
        number = number
            .checked_mul(radix.into())
            .and_then(|number| number.checked_add(digit.into()))
            .ok_or(Malformed::BadNumber)?;
    }
    Ok(number)
}

impl<'a> Word<'a> {
    /// Reads a word.
    pub(crate) fn new(word: &'a [u8]) -> Result<Self, Malformed> {
        let (name, value) = split(word, b'=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or(Malformed::NotAWord)?;
        let value = match split(value, b'/') {
            None if value == b"off" => Value::Off,
            None => Value::Number(number(value)?),
            Some((value, mask)) => {
                let (value, mask) = (number(value)?, number(mask)?);
                if mask == 0 || value & !mask != 0 {
                    return Err(Malformed::BadMask);
                }
                Value::Bits { value, mask }
            }
        };

        Ok(Word { name, value })
    }
}

/// Returns the words of `text`: none if it is empty.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let separator = |&c: &u8| c == b',';

    text.split(separator).skip(usize::from(text.is_empty()))
}

/// The encoding of a System register (Arm ARM, "S<op0>_<op1>_<Cn>_<Cm>_<op2>").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Encoded(u32);

/// The parts of an encoding in the order of the text: the characters before the part, its shift in
/// the number that `sys_reg()` gives, and its highest value.
const PARTS: [(&[u8], u32, u64); 5] = [
    (b"s", 19, 3),
    (b"_", 16, 7),
    (b"_c", 12, 15),
    (b"_c", 8, 15),
    (b"_", 5, 7),
];

impl Encoded {
    /// Reads an encoding.
    pub(crate) fn read(name: &[u8]) -> Option<Self> {
        let (mut left, mut encoding) = (name, 0);

        for (before, shift, highest) in PARTS {
            left = left.strip_prefix(before)?;
            let digits = left.iter().take_while(|c| c.is_ascii_digit()).count();
            let (part, rest) = left.split_at_checked(digits)?;
            let value = number(part).ok().filter(|&it| it <= highest)?;
            // There is one text for each encoding.
            if part.len() > 1 && part.starts_with(b"0") {
                return None;
            }
            encoding |= (value as u32) << shift;
            left = rest;
        }
        left.is_empty().then_some(Encoded(encoding))
    }

    /// Returns the number that `sys_reg()` gives.
    pub(crate) fn id(self) -> u32 {
        self.0
    }

    /// Returns the five parts of the encoding `id`, in the order of the text.
    pub(crate) fn parts(id: u32) -> [u32; 5] {
        PARTS.map(|(_, shift, highest)| id >> shift & highest as u32)
    }
}

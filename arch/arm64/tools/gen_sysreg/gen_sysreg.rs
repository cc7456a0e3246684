// SPDX-License-Identifier: GPL-2.0

//! Generates the Rust view of the arm64 system registers from `arch/arm64/tools/sysreg`.
//!
//! `gen-sysreg.awk` writes the C view of the same file, and is the specification of the language:
//! all input that is accepted here has the same meaning there, and every value written here has the
//! name and the value of the C macro. Three errors are detected only here: a target of `Fields`
//! or `Mapping` that is not in the file, a `Sysreg` and a `SysregFields` with the same name, and an
//! enumerator that does not fit its field.
//!
//! Usage: `gen-sysreg --consts|--types FILE`
//!
//! - `--consts` writes plain constants that need no other code: tests compare the types,
//!   and the constants themselves, with C.
//! - `--types` writes one `bitfield!` type per register, for the `kernel` crate. Unlike a constant,
//!   an unused type costs compile time (all types together cost ten times as much as the rest of
//!   the crate), so the types are arms of a macro, one arm per block of the file.
//!
//! No statement is left out silently: a statement that can't be expressed is an error that names
//! its line, and both outputs compare the number of statements written with the number read.

use std::{
    collections::BTreeMap,
    env,
    fmt,
    fs,
    process::ExitCode, //
};

mod consts;
mod output;
mod parser;
#[cfg(test)]
mod tests;
mod types;

/// An error at a line of the input; line 0 means the input as a whole.
#[derive(Debug, PartialEq)]
struct Error {
    line: usize,
    what: String,
}

type Result<T = ()> = std::result::Result<T, Error>;

fn error<T>(line: usize, what: impl Into<String>) -> Result<T> {
    Err(Error {
        line,
        what: what.into(),
    })
}

/// The number of statements of each kind that were read, or written.
#[derive(Debug, Default, PartialEq)]
struct Counts(BTreeMap<&'static str, usize>);

impl Counts {
    fn add(&mut self, statement: &'static str) {
        *self.0.entry(statement).or_insert(0) += 1;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (statement, count) in &self.0 {
            write!(f, " {statement}={count}")?;
        }
        Ok(())
    }
}

/// A range of bits: `msb >= lsb`, both below 64.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bits {
    msb: u32,
    lsb: u32,
}

impl Bits {
    fn width(self) -> u32 {
        self.msb - self.lsb + 1
    }

    fn mask(self) -> u64 {
        (u64::MAX >> (64 - self.width())) << self.lsb
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.msb == self.lsb {
            write!(f, "{}", self.msb)
        } else {
            write!(f, "{}:{}", self.msb, self.lsb)
        }
    }
}

/// The kind of statement that describes a range of bits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Field,
    Enum,
    SignedEnum,
    UnsignedEnum,
    Res0,
    Res1,
    Unkn,
    Raz,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "Field" => Self::Field,
            "Enum" => Self::Enum,
            "SignedEnum" => Self::SignedEnum,
            "UnsignedEnum" => Self::UnsignedEnum,
            "Res0" => Self::Res0,
            "Res1" => Self::Res1,
            "Unkn" => Self::Unkn,
            "Raz" => Self::Raz,
            _ => return None,
        })
    }

    fn statement(self) -> &'static str {
        match self {
            Self::Field => "Field",
            Self::Enum => "Enum",
            Self::SignedEnum => "SignedEnum",
            Self::UnsignedEnum => "UnsignedEnum",
            Self::Res0 => "Res0",
            Self::Res1 => "Res1",
            Self::Unkn => "Unkn",
            Self::Raz => "Raz",
        }
    }

    fn is_reserved(self) -> bool {
        matches!(self, Self::Res0 | Self::Res1 | Self::Unkn | Self::Raz)
    }

    fn is_enum(self) -> bool {
        matches!(self, Self::Enum | Self::SignedEnum | Self::UnsignedEnum)
    }

    /// Returns whether the field is signed, if the file says so.
    fn signed(self) -> Option<bool> {
        match self {
            Self::SignedEnum => Some(true),
            Self::UnsignedEnum => Some(false),
            _ => None,
        }
    }
}

/// One enumerator of a field.
#[derive(Debug)]
struct Enumerator {
    line: usize,
    name: String,
    value: u64,
}

/// One field, or one run of reserved bits (whose name is empty).
#[derive(Debug)]
struct Item {
    line: usize,
    kind: Kind,
    bits: Bits,
    name: String,
    enumerators: Vec<Enumerator>,
}

/// A description of all 64 bits. A register has one, and another one for each `Prefix`.
#[derive(Debug, Default)]
struct Layout {
    line: usize,
    prefix: Option<String>,
    items: Vec<Item>,
}

impl Layout {
    /// Returns the name of this layout as a layout of `owner`.
    fn name(&self, owner: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}_{owner}"),
            None => owner.into(),
        }
    }

    fn fields(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.kind.is_reserved())
    }

    fn mask(&self, kind: Kind) -> u64 {
        let of_kind = self.items.iter().filter(|item| item.kind == kind);
        of_kind.fold(0, |mask, item| mask | item.bits.mask())
    }

    /// Returns the highest bit that has no description yet.
    fn next_bit(&self) -> Option<u32> {
        match self.items.last() {
            Some(item) => item.bits.lsb.checked_sub(1),
            None => Some(63),
        }
    }
}

/// The source of a block's bits.
#[derive(Debug)]
enum Body {
    /// Layouts in the block itself, the prefixed ones first.
    Here(Vec<Layout>),
    /// A `SysregFields` block.
    Fields(String),
    /// The register for which this block is another encoding.
    Mapping(String),
}

/// The operands of `MRS` that name a register.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Encoding {
    op0: u32,
    op1: u32,
    crn: u32,
    crm: u32,
    op2: u32,
}

impl Encoding {
    /// Returns the value of `sys_reg(op0, op1, crn, crm, op2)`.
    fn sys_reg(self) -> u32 {
        (self.op0 << 19) | (self.op1 << 16) | (self.crn << 12) | (self.crm << 8) | (self.op2 << 5)
    }
}

impl fmt::Display for Encoding {
    /// Writes the generic name that every assembler knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            op0,
            op1,
            crn,
            crm,
            op2,
        } = self;
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

/// A `Sysreg` block, or a `SysregFields` block, which has no encoding.
#[derive(Debug)]
struct Block {
    line: usize,
    name: String,
    encoding: Option<Encoding>,
    body: Body,
}

impl Block {
    fn statement(&self) -> &'static str {
        match self.encoding {
            Some(_) => "Sysreg",
            None => "SysregFields",
        }
    }

    /// Returns the layouts described in this block itself.
    fn own_layouts(&self) -> &[Layout] {
        match &self.body {
            Body::Here(layouts) => layouts,
            Body::Fields(_) | Body::Mapping(_) => &[],
        }
    }
}

/// A whole input, checked.
#[derive(Debug, Default)]
struct Source {
    blocks: Vec<Block>,
    counts: Counts,
}

impl Source {
    fn find(&self, name: &str, registers: bool) -> Option<&Block> {
        let mut blocks = self.blocks.iter();
        blocks.find(|block| block.name == name && block.encoding.is_some() == registers)
    }

    /// Returns the block that `block` refers to, or `block` if it describes its bits itself.
    fn target<'a>(&'a self, block: &'a Block) -> Result<&'a Block> {
        let (name, registers) = match &block.body {
            Body::Here(_) => return Ok(block),
            Body::Fields(name) => (name, false),
            Body::Mapping(name) => (name, true),
        };
        match self.find(name, registers) {
            Some(target) => Ok(target),
            None => error(
                block.line,
                format!("{}: {name} is not defined in this file", block.name),
            ),
        }
    }

    /// Returns the block that describes the bits of `block`, following all references.
    fn provider<'a>(&'a self, block: &'a Block) -> Result<&'a Block> {
        let mut provider = block;
        // A chain with more links than there are blocks is circular.
        for _ in &self.blocks {
            if let Body::Here(_) = provider.body {
                return Ok(provider);
            }
            provider = self.target(provider)?;
        }
        error(block.line, format!("{} is mapped to itself", block.name))
    }
}

fn generate(mode: &str, text: &str) -> Result<String> {
    let source = Source::parse(text)?;
    match mode {
        "--consts" => consts::write(&source),
        "--types" => types::write(&source),
        _ => error(0, format!("unknown option '{mode}'")),
    }
}

fn run() -> std::result::Result<(), String> {
    let args: Vec<String> = env::args().collect();
    let [_, mode, path] = args.as_slice() else {
        return Err("usage: gen-sysreg --consts|--types FILE".into());
    };
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let output =
        generate(mode, &text).map_err(|Error { line, what }| format!("{path}:{line}: {what}"))?;
    print!("{output}");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

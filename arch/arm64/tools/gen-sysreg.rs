// SPDX-License-Identifier: GPL-2.0

//! Generates the Rust view of the arm64 system registers from `arch/arm64/tools/sysreg`.
//!
//! `gen-sysreg.awk` writes the C view of the same file, and is the specification of the language:
//! what it accepts is accepted here with the same meaning, and every value written here has the
//! name and the value of the C macro.
//!
//! Usage: `gen-sysreg --consts|--types FILE`
//!
//! - `--consts` writes plain constants that need nothing but a language, so that code which can't
//!   use the `kernel` crate (the nVHE object, tests on the build host) shares them.
//! - `--types` writes one `bitfield!` type per register, for the `kernel` crate. Unlike a constant,
//!   a type costs compile time when nobody uses it (ten times that of the rest of the crate, for
//!   all of them), so they come as the arms of a macro, one per block of the file.
//!
//! Nothing is left out silently: a statement that can't be expressed is an error that names its
//! line, and both outputs count what they write against what was read.

use std::{
    collections::{
        BTreeMap,
        HashMap,
        HashSet, //
    },
    env,
    fmt,
    fs,
    process::ExitCode, //
};

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

/// How many statements of each kind were read, or written.
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

/// What the statement that describes some bits says of them.
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

    /// The sign of the field, where the file gives one.
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

/// A description of all 64 bits. A register has one, and one more per `Prefix`.
#[derive(Debug, Default)]
struct Layout {
    line: usize,
    prefix: Option<String>,
    items: Vec<Item>,
}

impl Layout {
    /// The name this layout has when it belongs to `owner`.
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

    /// The first bit, from the top, that has no description yet.
    fn next_bit(&self) -> Option<u32> {
        match self.items.last() {
            Some(item) => item.bits.lsb.checked_sub(1),
            None => Some(63),
        }
    }
}

/// Where a block takes its bits from.
#[derive(Debug)]
enum Body {
    /// They are described here, the prefixed layouts first.
    Here(Vec<Layout>),
    /// Those of a `SysregFields` block.
    Fields(String),
    /// Those of the register that this one is another way to reach.
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
    fn parse(line: usize, words: &[&str]) -> Result<Self> {
        Ok(Self {
            op0: operand(line, words, 2, "op0", 3)?,
            op1: operand(line, words, 3, "op1", 7)?,
            crn: operand(line, words, 4, "CRn", 15)?,
            crm: operand(line, words, 5, "CRm", 15)?,
            op2: operand(line, words, 6, "op2", 7)?,
        })
    }

    /// The value of `sys_reg(op0, op1, crn, crm, op2)`.
    fn sys_reg(self) -> u32 {
        (self.op0 << 19) | (self.op1 << 16) | (self.crn << 12) | (self.crm << 8) | (self.op2 << 5)
    }
}

impl fmt::Display for Encoding {
    /// The generic name that every assembler knows.
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

    /// The layouts described in this block itself.
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
    fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::default();
        for (index, text) in text.lines().enumerate() {
            parser.line = index + 1;
            let words: Vec<&str> = text.split_whitespace().collect();
            if words.first().is_some_and(|word| !word.starts_with('#')) {
                parser.statement(&words)?;
            }
        }
        let source = parser.finish()?;
        for block in &source.blocks {
            source.provider(block)?;
        }
        Ok(source)
    }

    fn find(&self, name: &str, registers: bool) -> Option<&Block> {
        let mut blocks = self.blocks.iter();
        blocks.find(|block| block.name == name && block.encoding.is_some() == registers)
    }

    /// The block that `block` takes its bits from directly; itself when it describes them.
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

    /// The block that describes the bits of `block`.
    fn provider<'a>(&'a self, block: &'a Block) -> Result<&'a Block> {
        let mut provider = block;
        // A chain longer than the file has blocks runs in a circle.
        for _ in &self.blocks {
            if let Body::Here(_) = provider.body {
                return Ok(provider);
            }
            provider = self.target(provider)?;
        }
        error(block.line, format!("{} is mapped to itself", block.name))
    }
}

/// What encloses the current line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Context {
    Root,
    Sysreg,
    SysregFields,
    Prefix,
    Enum,
}

/// Reads statements one after the other.
#[derive(Default)]
struct Parser {
    line: usize,
    source: Source,
    /// The open `Sysreg` or `SysregFields` block.
    block: Option<Block>,
    /// The layout being read in the open block, or in its open `Prefix`.
    layout: Layout,
    /// Whether the last item of `layout` is an enumeration that has not ended.
    in_enum: bool,
}

impl Parser {
    fn context(&self) -> Context {
        match &self.block {
            None => Context::Root,
            Some(_) if self.in_enum => Context::Enum,
            Some(_) if self.layout.prefix.is_some() => Context::Prefix,
            Some(block) if block.encoding.is_some() => Context::Sysreg,
            Some(_) => Context::SysregFields,
        }
    }

    fn error<T>(&self, what: impl Into<String>) -> Result<T> {
        error(self.line, what)
    }

    fn statement(&mut self, words: &[&str]) -> Result {
        use Context::*;

        let context = self.context();
        if let (Some(kind), Sysreg | SysregFields | Prefix) = (Kind::parse(words[0]), context) {
            return self.item(kind, words);
        }
        match (words[0], context) {
            ("Sysreg", Root) => self.open_sysreg(words),
            ("SysregFields", Root) => self.open_fields(words),
            ("Fields" | "Mapping", Sysreg) => self.reference(words),
            ("Prefix", Sysreg | SysregFields) => self.open_prefix(words),
            ("EndPrefix", Prefix) => self.close_prefix(words),
            ("EndEnum", Enum) => self.close_enum(words),
            ("EndSysreg", Sysreg) => self.close_block(words),
            ("EndSysregFields", SysregFields) => self.close_block(words),
            (value, Enum) if value.starts_with("0b") => self.enumerator(words),
            (word, _) => self.error(format!("unexpected '{word}' in {context:?}")),
        }
    }

    fn expect_words(&self, words: &[&str], count: usize) -> Result {
        if words.len() == count {
            return Ok(());
        }
        self.error(format!(
            "{} words found where {count} are expected",
            words.len()
        ))
    }

    fn open_sysreg(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 7)?;
        let encoding = Encoding::parse(self.line, words)?;
        self.open(words[1], Some(encoding))
    }

    fn open_fields(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 2)?;
        self.open(words[1], None)
    }

    fn open(&mut self, name: &str, encoding: Option<Encoding>) -> Result {
        self.check_name(name)?;
        // A `Sysreg` and a `SysregFields` would be two types of the same name.
        let mut earlier = self.source.blocks.iter();
        if let Some(block) = earlier.find(|block| block.name == name) {
            return self.error(format!("{name} is already defined at line {}", block.line));
        }
        let block = Block {
            line: self.line,
            name: name.into(),
            encoding,
            body: Body::Here(Vec::new()),
        };
        self.source.counts.add(block.statement());
        self.block = Some(block);
        self.layout = Layout {
            line: self.line,
            ..Layout::default()
        };
        Ok(())
    }

    fn reference(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 2)?;
        let described = !self.layout.items.is_empty();
        let Some(block) = &mut self.block else {
            return error(self.line, "no open block");
        };
        if described || !matches!(&block.body, Body::Here(layouts) if layouts.is_empty()) {
            return error(self.line, "some bits are already described");
        }
        let target = words[1].into();
        let (statement, body) = match words[0] {
            "Fields" => ("Fields", Body::Fields(target)),
            _ => ("Mapping", Body::Mapping(target)),
        };
        // An error in the reference is one of this line.
        block.line = self.line;
        block.body = body;
        self.source.counts.add(statement);
        Ok(())
    }

    fn open_prefix(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 2)?;
        self.check_name(words[1])?;
        let Some(Body::Here(layouts)) = self.block.as_ref().map(|block| &block.body) else {
            return self.error("the bits are those of another block");
        };
        if !self.layout.items.is_empty() {
            return self.error("prefixed fields must come before the others");
        }
        let prefix = Some(words[1].to_string());
        if layouts.iter().any(|layout| layout.prefix == prefix) {
            return self.error(format!("prefix {} is already used", words[1]));
        }
        self.layout.prefix = prefix;
        self.layout.line = self.line;
        self.source.counts.add("Prefix");
        Ok(())
    }

    fn close_prefix(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 1)?;
        self.close_layout()
    }

    /// Moves the layout that was read into the open block.
    fn close_layout(&mut self) -> Result {
        if let Some(bit) = self.layout.next_bit() {
            return self.error(format!("bits {bit}:0 are not described"));
        }
        let layout = std::mem::take(&mut self.layout);
        match self.block.as_mut().map(|block| &mut block.body) {
            Some(Body::Here(layouts)) => layouts.push(layout),
            _ => return self.error("the bits are those of another block"),
        }
        self.layout.line = self.line;
        Ok(())
    }

    fn close_block(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 1)?;
        if let Some(Body::Here(_)) = self.block.as_ref().map(|block| &block.body) {
            self.close_layout()?;
        }
        self.source.blocks.extend(self.block.take());
        Ok(())
    }

    fn item(&mut self, kind: Kind, words: &[&str]) -> Result {
        self.expect_words(words, if kind.is_reserved() { 2 } else { 3 })?;
        if let Some(Body::Fields(_) | Body::Mapping(_)) =
            self.block.as_ref().map(|block| &block.body)
        {
            return self.error("the bits are those of another block");
        }
        let name = words.get(2).copied().unwrap_or_default();
        if !kind.is_reserved() {
            self.check_name(name)?;
        }
        let item = Item {
            line: self.line,
            kind,
            bits: self.bits(words[1])?,
            name: name.into(),
            enumerators: Vec::new(),
        };
        self.layout.items.push(item);
        self.in_enum = kind.is_enum();
        self.source.counts.add(kind.statement());
        Ok(())
    }

    /// Reads `<msb>[:<lsb>]`, which has to go on where the last item ended.
    fn bits(&self, word: &str) -> Result<Bits> {
        let (msb, lsb) = word.split_once(':').unwrap_or((word, word));
        let (Some(msb), Some(lsb)) = (decimal(msb), decimal(lsb)) else {
            return self.error(format!("'{word}' is not a range of bits"));
        };
        if msb > 63 || msb < lsb {
            return self.error(format!("range of bits {word} is not valid"));
        }
        match self.layout.next_bit() {
            Some(bit) if bit == msb => Ok(Bits { msb, lsb }),
            Some(bit) => self.error(format!("{word} starts at {msb}, not at {bit}")),
            None => self.error(format!("{word} comes after bit 0")),
        }
    }

    fn enumerator(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 2)?;
        let line = self.line;
        let Some(value) = binary(words[0]) else {
            return self.error(format!("'{}' is not a binary number", words[0]));
        };
        // A name may start with a digit: it only ever comes after that of its field.
        if !words[1].chars().all(is_name_char) {
            return self.error(format!("'{}' is not a name", words[1]));
        }
        let Some(item) = self.layout.items.last_mut() else {
            return error(line, "no open enumeration");
        };
        if value > u64::MAX >> (64 - item.bits.width()) {
            return error(line, format!("{} does not fit in {}", words[0], item.name));
        }
        if item.enumerators.iter().any(|other| other.value == value) {
            return error(line, format!("{} is already an enumerator", words[0]));
        }
        item.enumerators.push(Enumerator {
            line,
            name: words[1].into(),
            value,
        });
        self.source.counts.add("0b");
        Ok(())
    }

    fn close_enum(&mut self, words: &[&str]) -> Result {
        self.expect_words(words, 1)?;
        self.in_enum = false;
        Ok(())
    }

    fn check_name(&self, name: &str) -> Result {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if starts && name.chars().all(is_name_char) {
            return Ok(());
        }
        self.error(format!("'{name}' is not a name"))
    }

    fn finish(self) -> Result<Source> {
        match &self.block {
            Some(block) => error(block.line, format!("{} does not end", block.name)),
            None => Ok(self.source),
        }
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn decimal(word: &str) -> Option<u32> {
    // `parse()` alone would take a sign.
    let digits = word.bytes().all(|byte| byte.is_ascii_digit());
    word.parse().ok().filter(|_| digits)
}

fn binary(word: &str) -> Option<u64> {
    // `from_str_radix()` alone would take a sign.
    let digits = word.strip_prefix("0b")?;
    let all = digits.bytes().all(|byte| matches!(byte, b'0' | b'1'));
    u64::from_str_radix(digits, 2).ok().filter(|_| all)
}

fn operand(line: usize, words: &[&str], index: usize, name: &str, max: u32) -> Result<u32> {
    let word = words.get(index).copied().unwrap_or_default();
    match decimal(word) {
        Some(value) if value <= max => Ok(value),
        _ => error(line, format!("{name} '{word}' is not in 0 to {max}")),
    }
}

/// Text being written, the names it defines, and the statements that have gone into it.
#[derive(Default)]
struct Output {
    text: String,
    names: HashMap<String, usize>,
    counts: Counts,
    /// What is being written stands in another block too, and is counted there.
    borrowed: bool,
}

impl Output {
    fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    /// Counts a statement that has been written.
    fn count(&mut self, statement: &'static str) {
        if !self.borrowed {
            self.counts.add(statement);
        }
    }

    /// Records that `name` is defined because of `line`. C would only warn of a second definition.
    fn define(&mut self, line: usize, name: &str) -> Result {
        match self.names.insert(name.into(), line) {
            None => Ok(()),
            Some(earlier) => error(
                line,
                format!("{name} is already defined because of line {earlier}"),
            ),
        }
    }

    /// Writes a constant.
    fn constant(&mut self, line: usize, name: &str, ty: &str, value: impl fmt::Display) -> Result {
        self.define(line, name)?;
        self.line(format!("pub const {name}: {ty} = {value};"));
        Ok(())
    }

    /// Hands the text over if it holds every statement that was read.
    fn finish(self, read: &Counts) -> Result<String> {
        if self.counts == *read {
            return Ok(self.text);
        }
        error(0, format!("read:{read}; but written:{}", self.counts))
    }
}

const CONSTS_HEADER: &str = "\
// SPDX-License-Id\
entifier: GPL-2.0
//
// Generated by gen-sysreg from arch/arm64/tools/sysreg - do not edit.
//
// The constants of asm/sysreg-defs.h, with the same names and values. Include this in a module
// that allows `dead_code` and `non_upper_case_globals`.
";

/// Writes the constants.
fn consts(source: &Source) -> Result<String> {
    let mut out = Output::default();
    out.line(CONSTS_HEADER);
    for block in &source.blocks {
        out.counts.add(block.statement());
        if let Some(encoding) = block.encoding {
            const_encoding(&mut out, block, encoding)?;
        }
        match &block.body {
            Body::Here(layouts) => {
                for layout in layouts {
                    const_layout(&mut out, layout, &block.name)?;
                }
            }
            Body::Fields(target) => const_reference(&mut out, block, "Fields", target)?,
            Body::Mapping(target) => const_reference(&mut out, block, "Mapping", target)?,
        }
        out.line("");
    }
    out.finish(&source.counts)
}

fn const_encoding(out: &mut Output, block: &Block, encoding: Encoding) -> Result {
    let Block { line, name, .. } = block;
    out.constant(
        *line,
        &format!("REG_{name}"),
        "&str",
        format!("\"{encoding}\""),
    )?;
    let value = format!("{:#x}", encoding.sys_reg());
    out.constant(*line, &format!("SYS_{name}"), "u32", value)?;
    for (operand, value) in [
        ("Op0", encoding.op0),
        ("Op1", encoding.op1),
        ("CRn", encoding.crn),
        ("CRm", encoding.crm),
        ("Op2", encoding.op2),
    ] {
        out.constant(*line, &format!("SYS_{name}_{operand}"), "u32", value)?;
    }
    Ok(())
}

/// As in C, the reserved bits are those of the target, and its fields keep the target's names.
fn const_reference(
    out: &mut Output,
    block: &Block,
    statement: &'static str,
    target: &str,
) -> Result {
    for mask in ["RES0", "RES1", "UNKN"] {
        let name = format!("{}_{mask}", block.name);
        out.constant(block.line, &name, "u64", format!("{target}_{mask}"))?;
    }
    out.counts.add(statement);
    Ok(())
}

fn const_layout(out: &mut Output, layout: &Layout, owner: &str) -> Result {
    let name = layout.name(owner);
    if layout.prefix.is_some() {
        out.counts.add("Prefix");
    }
    for item in &layout.items {
        if !item.kind.is_reserved() {
            const_field(out, &name, item)?;
        }
        out.counts.add(item.kind.statement());
    }
    for (mask, kind) in [
        ("RES0", Kind::Res0),
        ("RES1", Kind::Res1),
        ("UNKN", Kind::Unkn),
    ] {
        let value = format!("{:#018x}", layout.mask(kind));
        out.constant(layout.line, &format!("{name}_{mask}"), "u64", value)?;
    }
    Ok(())
}

fn const_field(out: &mut Output, layout: &str, item: &Item) -> Result {
    let Item { line, bits, .. } = item;
    let name = format!("{layout}_{}", item.name);
    let mask = format!("{:#018x}", bits.mask());
    out.constant(*line, &name, "u64", &mask)?;
    out.constant(*line, &format!("{name}_MASK"), "u64", &mask)?;
    out.constant(*line, &format!("{name}_SHIFT"), "u32", bits.lsb)?;
    out.constant(*line, &format!("{name}_WIDTH"), "u32", bits.width())?;
    if let Some(signed) = item.kind.signed() {
        out.constant(*line, &format!("{name}_SIGNED"), "bool", signed)?;
    }
    for enumerator in &item.enumerators {
        let value = format!("{:#b}", enumerator.value);
        let name = format!("{name}_{}", enumerator.name);
        out.constant(enumerator.line, &name, "u64", value)?;
        out.counts.add("0b");
    }
    Ok(())
}

const TYPES_HEADER: &str = "\
// SPDX-License-Id\
entifier: GPL-2.0
//
// Generated by gen-sysreg from arch/arm64/tools/sysreg - do not edit.

/// Makes the type of each register or layout named, and the constants that are its enumerators.
macro_rules! sysreg_types {
    ($($name:ident)*) => {
        $(sysreg_types!(@$name);)*
    };
";

/// Names `bitfield!` or a derived trait would define or shadow, whatever the fields.
const RESERVED_NAMES: [&str; 10] = [
    "from_raw",
    "into_raw",
    "from",
    "into",
    "clone",
    "eq",
    "ne",
    "fmt",
    "zeroed",
    "init_zeroed",
];

/// Words that can't be the name of a method.
const KEYWORDS: [&str; 52] = [
    "Self", "abstract", "as", "async", "await", "become", "box", "break", "const", "continue",
    "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if",
    "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
    "ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof",
    "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// Writes the types.
fn types(source: &Source) -> Result<String> {
    let mut out = Output::default();
    out.line(TYPES_HEADER);
    for block in &source.blocks {
        let provider = source.provider(block)?;
        out.line(format!("    (@{}) => {{", block.name));
        out.borrowed = !std::ptr::eq(provider, block);
        for layout in provider.own_layouts() {
            type_bitfield(&mut out, block, layout)?;
            type_layout(&mut out, block, layout);
            type_encoding(&mut out, block, layout);
        }
        out.borrowed = false;
        for layout in block.own_layouts() {
            type_enumerators(&mut out, &block.name, layout)?;
        }
        out.counts.add(block.statement());
        match &block.body {
            Body::Here(_) => {}
            Body::Fields(_) => out.counts.add("Fields"),
            Body::Mapping(_) => out.counts.add("Mapping"),
        }
        out.line("    };");
    }
    out.line("}");
    out.finish(&source.counts)
}

/// Writes the `bitfield!` itself.
///
/// Fields keep the architecture's case: `bitfield!` only needs their names to stay apart once in
/// upper case, which is checked.
fn type_bitfield(out: &mut Output, block: &Block, layout: &Layout) -> Result {
    let name = layout.name(&block.name);
    out.define(block.line, &name)?;
    check_items(layout)?;
    out.line("::kernel::bitfield! {");
    type_doc(out, block, layout);
    out.line(format!("    pub struct {name}(u64) {{"));
    for item in layout.fields() {
        let Bits { msb, lsb } = item.bits;
        out.line(format!("        /// {}", field_doc(item)));
        out.line(format!("        {msb}:{lsb} {};", item.name));
        out.count(item.kind.statement());
    }
    out.line("    }\n}\n");
    type_signed(out, &name, layout);
    Ok(())
}

/// Checks that the items `bitfield!` makes of the fields don't collide.
fn check_items(layout: &Layout) -> Result {
    let mut items: HashSet<String> = RESERVED_NAMES.map(String::from).into();
    for item in layout.fields() {
        let (name, upper) = (&item.name, item.name.to_ascii_uppercase());
        if KEYWORDS.contains(&name.as_str()) {
            return error(item.line, format!("{name} is a word of the language"));
        }
        for made in [
            name.clone(),
            format!("with_{name}"),
            format!("with_const_{name}"),
            format!("try_with_{name}"),
            format!("__{name}"),
            format!("__with_{name}"),
            format!("{name}_signed"),
            format!("{upper}_MASK"),
            format!("{upper}_SHIFT"),
            format!("{upper}_RANGE"),
        ] {
            if let Some(made) = items.replace(made) {
                return error(item.line, format!("{name}: {made} already exists"));
            }
        }
    }
    Ok(())
}

fn type_doc(out: &mut Output, block: &Block, layout: &Layout) {
    let what = match (block.encoding, &block.body) {
        (None, _) => "the layout of several registers.".into(),
        (Some(encoding), Body::Here(_)) => format!("register `{encoding}`."),
        (Some(encoding), Body::Fields(target)) => {
            format!("register `{encoding}`, with the fields of `{target}`.")
        }
        (Some(encoding), Body::Mapping(target)) => {
            format!("register `{encoding}`, another way to reach `{target}`.")
        }
    };
    out.line(format!("    /// `{}`: {what}", block.name));
    if let Some(prefix) = &layout.prefix {
        out.line(format!("    ///\n    /// As it is with {prefix}."));
        out.count("Prefix");
    }
    for item in layout.items.iter().filter(|item| item.kind.is_reserved()) {
        let reserved = item.kind.statement().to_ascii_uppercase();
        out.line(format!(
            "    ///\n    /// - Bits {}: {reserved}.",
            item.bits
        ));
        out.count(item.kind.statement());
    }
}

fn field_doc(item: &Item) -> String {
    let mut doc = format!("`{}`, bits {}", item.name, item.bits);
    if let Some(signed) = item.kind.signed() {
        doc.push_str(if signed { ", signed" } else { ", unsigned" });
    }
    for (index, enumerator) in item.enumerators.iter().enumerate() {
        let separator = if index == 0 { ": " } else { ", " };
        let Enumerator { name, value, .. } = enumerator;
        doc.push_str(&format!("{separator}{value:#b} `{name}`"));
    }
    doc.push('.');
    doc
}

/// Writes getters that extend the sign: `bitfield!` has only unsigned fields.
fn type_signed(out: &mut Output, name: &str, layout: &Layout) {
    let is_signed = |item: &&Item| item.kind.signed() == Some(true);
    if !layout.fields().any(|item| is_signed(&item)) {
        return;
    }
    out.line(format!("impl {name} {{"));
    for item in layout.fields().filter(is_signed) {
        let (field, bits) = (&item.name, item.bits);
        let (up, down) = (63 - bits.msb, 64 - bits.width());
        out.line(format!(
            "    /// `{field}`, bits {bits}, as the signed number it is.\n    \
             #[inline(always)]\n    \
             pub const fn {field}_signed(self) -> i64 {{\n        \
             ((self.into_raw() << {up}) as i64) >> {down}\n    \
             }}"
        ));
    }
    out.line("}\n");
}

fn type_layout(out: &mut Output, block: &Block, layout: &Layout) {
    let name = layout.name(&block.name);
    out.line(format!(
        "impl ::kernel::arm64::sysreg::Layout for {name} {{"
    ));
    out.line(format!("    const NAME: &'static str = \"{name}\";"));
    type_fields(out, layout);
    for kind in [Kind::Res0, Kind::Res1, Kind::Unkn, Kind::Raz] {
        let mask = kind.statement().to_ascii_uppercase();
        let value = layout.mask(kind);
        out.line(format!("    const {mask}: u64 = {value:#018x};"));
    }
    out.line("}\n");
}

fn type_fields(out: &mut Output, layout: &Layout) {
    out.line("    const FIELDS: &'static [::kernel::arm64::sysreg::Field] = &[");
    for item in layout.fields() {
        let Bits { msb, lsb } = item.bits;
        out.line("        ::kernel::arm64::sysreg::Field {");
        out.line(format!("            name: \"{}\",", item.name));
        out.line(format!("            msb: {msb},\n            lsb: {lsb},"));
        let signed = item.kind.signed();
        out.line(format!("            signed: {signed:?},"));
        out.line("            enumerators: &[");
        for enumerator in &item.enumerators {
            let Enumerator { name, value, .. } = enumerator;
            out.line(format!("                ({value:#b}, \"{name}\"),"));
        }
        out.line("            ],\n        },");
    }
    out.line("    ];");
}

fn type_encoding(out: &mut Output, block: &Block, layout: &Layout) {
    let Some(encoding) = block.encoding else {
        return;
    };
    let Encoding {
        op0,
        op1,
        crn,
        crm,
        op2,
    } = encoding;
    let name = layout.name(&block.name);
    out.line(format!(
        "impl ::kernel::arm64::sysreg::SystemRegister for {name} {{\n    \
         const ENCODING: ::kernel::arm64::sysreg::Encoding =\n        \
         ::kernel::arm64::sysreg::Encoding::new::<{op0}, {op1}, {crn}, {crm}, {op2}>();\n\
         }}\n"
    ));
}

/// Writes the enumerators as constants of the exact type of their field, under their C names.
///
/// They are not `enum`s, because hardware newer than the file has other values, which have to
/// stay comparable; and not associated constants, because those of `bitfield!` (`TLB_RANGE`, for
/// the bits of a field `TLB`) are in the way of an enumerator `RANGE`.
fn type_enumerators(out: &mut Output, owner: &str, layout: &Layout) -> Result {
    for item in layout.fields() {
        let width = item.bits.width();
        for enumerator in &item.enumerators {
            let Enumerator { line, name, value } = enumerator;
            let constant = format!("{}_{}_{name}", layout.name(owner), item.name);
            out.line(format!(
                "/// [`{0}`]`.{1}` is {value:#b}, `{name}`.",
                layout.name(owner),
                item.name
            ));
            let ty = format!("::kernel::num::Bounded<u64, {width}>");
            let value = format!("::kernel::num::Bounded::<u64, {width}>::new::<{value:#b}>()");
            out.constant(*line, &constant, &ty, value)?;
            out.counts.add("0b");
        }
    }
    if layout.fields().any(|item| !item.enumerators.is_empty()) {
        out.line("");
    }
    Ok(())
}

fn generate(mode: &str, text: &str) -> Result<String> {
    let source = Source::parse(text)?;
    match mode {
        "--consts" => consts(&source),
        "--types" => types(&source),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A register `R` whose body is `body`, which starts at line 2.
    fn sysreg(body: &str) -> String {
        format!("Sysreg R 3 0 0 0 1\n{body}\nEndSysreg\n")
    }

    fn parse(text: &str) -> Source {
        Source::parse(text).unwrap()
    }

    /// Checks that both outputs refuse `text`, because of `line`, for a reason that has `what`.
    #[track_caller]
    fn refused(text: &str, line: usize, what: &str) {
        let errors = ["--consts", "--types"].map(|mode| generate(mode, text).unwrap_err());
        for error in errors {
            assert_eq!(error.line, line, "{}", error.what);
            assert!(error.what.contains(what), "{}", error.what);
        }
    }

    /// Checks that the constants of `text` have each of `lines`.
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
        for output in [consts(&source), types(&source)] {
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
        // Each kind of reference has its own kind of target.
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
        // Apart in C and as constants, but not in upper case.
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
}

// SPDX-License-Identifier: GPL-2.0

//! Reads the statements of `arch/arm64/tools/sysreg`.

use super::*;

/// The block that encloses the current line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Context {
    Root,
    Sysreg,
    SysregFields,
    Prefix,
    Enum,
}

/// The state of the parser.
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
        // An error in the reference is reported for this line.
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

    /// Moves the completed layout into the open block.
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

    /// Reads `<msb>[:<lsb>]`, which must continue where the last item ended.
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
        // A name may start with a digit, since the name of its field always precedes it.
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

impl Source {
    /// Reads a whole file, and checks that each referenced block exists.
    pub(super) fn parse(text: &str) -> Result<Self> {
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

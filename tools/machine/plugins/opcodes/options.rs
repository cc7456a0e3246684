// SPDX-License-Identifier: GPL-2.0

//! The plugin's arguments. Pure: text in, [`Options`] or one line of complaint out.

use crate::a64::{self, Class};

/// A named, inclusive interval of addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Range {
    pub name: String,
    pub first: u64,
    pub last: u64,
}

impl Range {
    pub fn contains(&self, address: u64) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// Instructions that sleep before they execute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slow {
    pub class: Class,
    pub microseconds: u64,
    /// Only so many of each measurement, and none outside of one.
    pub first: Option<u64>,
}

/// Everything that can be asked of the plugin.
#[derive(PartialEq, Eq, Debug)]
pub struct Options {
    /// Where reports go; QEMU's log (`-d plugin`) if absent.
    pub out: Option<String>,
    /// Classes whose instructions are listed by address.
    pub sites: Vec<Class>,
    /// The first range that contains an instruction's virtual address takes its count.
    pub ranges: Vec<Range>,
    /// Classes whose instructions sleep before they execute.
    pub slow: Vec<Slow>,
    /// Guest physical addresses of the RAM that the first instruction executes from.
    pub ram: Option<Range>,
    /// Whether to count all instructions too, which instruments each one.
    pub insns: bool,
    /// Whether to look at the order of accesses of EL0 and writes of ACTLR_EL1.
    pub order: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            out: None,
            sites: Vec::new(),
            ranges: Vec::new(),
            slow: Vec::new(),
            ram: None,
            insns: true,
            order: false,
        }
    }
}

impl Options {
    /// Reads `name=value` arguments; an argument may be given more than once.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Options, String> {
        let mut options = Options::default();
        for argument in arguments {
            options
                .set(argument)
                .map_err(|reason| format!("{argument}: {reason}"))?;
        }
        Ok(options)
    }

    fn set(&mut self, argument: &str) -> Result<(), String> {
        let (name, value) = argument.split_once('=').ok_or("not name=value")?;
        match name {
            "out" => self.out = Some(file_name(value)?),
            "where" => self.sites.extend(classes(value)?),
            "ranges" => self.add_ranges(value)?,
            "slow" => self.slow.extend(slow(value)?),
            "ram" => self.ram = Some(interval("ram", value)?),
            "insns" => self.insns = switch(value)?,
            "order" => self.order = switch(value)?,
            // QEMU splits at commas and turns a lone word into `word=on`.
            _ if value == "on" => return Err("unknown argument (join classes with '+')".into()),
            _ => return Err("unknown argument".into()),
        }
        Ok(())
    }

    fn add_ranges(&mut self, value: &str) -> Result<(), String> {
        for item in value.split(';') {
            let (name, bounds) = item.split_once(':').ok_or("not NAME:LO-HI")?;
            let taken = name == "other" || self.ranges.iter().any(|range| range.name == name);
            if taken || !is_word(name) {
                return Err(format!("bad or repeated range name '{name}'"));
            }
            self.ranges.push(interval(name, bounds)?);
        }
        Ok(())
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn file_name(value: &str) -> Result<String, String> {
    match value {
        "" => Err("empty file name".into()),
        _ => Ok(value.into()),
    }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("neither on nor off".into()),
    }
}

/// Classes and families, separated by `+` or, where QEMU's parser lets it through, `,`.
fn classes(value: &str) -> Result<Vec<Class>, String> {
    let mut list = Vec::new();
    for name in value.split(['+', ',']) {
        match a64::named(name) {
            found if found.is_empty() => return Err(format!("unknown class '{name}'")),
            found => list.extend(found),
        }
    }
    Ok(list)
}

/// Parses `CLASS:MICROSECONDS` or `CLASS:MICROSECONDS:FIRST`.
fn slow(value: &str) -> Result<Vec<Slow>, String> {
    let (names, rest) = value.split_once(':').ok_or("not CLASS:MICROSECONDS")?;
    let (time, first) = match rest.split_once(':') {
        Some((time, first)) => (time, Some(first.parse().map_err(|_| "not a number")?)),
        None => (rest, None),
    };
    let microseconds = time.parse().map_err(|_| "not a number of microseconds")?;
    Ok(classes(names)?
        .into_iter()
        .map(|class| Slow {
            class,
            microseconds,
            first,
        })
        .collect())
}

/// Parses `LO-HI`, both hexadecimal and both inside.
fn interval(name: &str, value: &str) -> Result<Range, String> {
    let (first, last) = value.split_once('-').ok_or("not LO-HI")?;
    let (first, last) = (hex(first)?, hex(last)?);
    match first <= last {
        true => Ok(Range {
            name: name.into(),
            first,
            last,
        }),
        false => Err("LO is above HI".into()),
    }
}

fn hex(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let all_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| all_hex);
    number.ok_or_else(|| format!("'{text}' is not a 64-bit hexadecimal number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(argument: &str) -> Result<Options, String> {
        Options::parse([argument])
    }

    #[test]
    fn nothing_asked() {
        assert_eq!(Options::parse([]), Ok(Options::default()));
    }

    #[test]
    fn classes_and_families() {
        let options = one("where=lse+lsui").unwrap();
        let names: Vec<_> = options.sites.iter().map(|class| class.name()).collect();
        assert_eq!(names, ["lse", "lsui"]);
        assert_eq!(one("where=lse,lsui").unwrap(), options);
        assert_eq!(one("where=ic").unwrap().sites.len(), 3);
    }

    #[test]
    fn ranges() {
        let options = one("ranges=kernel:0xffff800000000000-ffffffffffffffff;hyp:0-0").unwrap();
        assert_eq!(options.ranges.len(), 2);
        assert!(options.ranges[0].contains(u64::MAX));
        assert!(!options.ranges[0].contains(0xffff_7fff_ffff_ffff));
        assert!(options.ranges[1].contains(0) && !options.ranges[1].contains(1));
    }

    #[test]
    fn slow_may_be_repeated() {
        let options = Options::parse(["slow=ic_ialluis:200000", "slow=tlbi:1:3"]).unwrap();
        let times: Vec<_> = options
            .slow
            .iter()
            .map(|slow| (slow.class.name(), slow.microseconds, slow.first))
            .collect();
        assert_eq!(times, [("ic_ialluis", 200_000, None), ("tlbi", 1, Some(3))]);
    }

    const BAD: &[&str] = &[
        "where=",
        "where=nosuch",
        "lsui=on",
        "nosuch=1",
        "word",
        "out=",
        "insns=maybe",
        "slow=ic_iallu",
        "slow=ic_iallu:-1",
        "slow=ic_iallu:x",
        "slow=nosuch:1",
        "slow=ic_iallu:1:",
        "slow=ic_iallu:1:x",
        "ranges=a",
        "ranges=a:1",
        "ranges=a:2-1",
        "ranges=:1-2",
        "ranges=other:1-2",
        "ranges=a:1-2;a:3-4",
        "ranges=a b:1-2",
        "ranges=a:x-2",
        "ranges=a:-2",
        "ranges=a:+1-2",
        "ranges=a:1-10000000000000000",
        "ram=40000000",
    ];

    #[test]
    fn refusals_name_the_argument() {
        for argument in BAD {
            let complaint = one(argument).expect_err(argument);
            assert!(complaint.starts_with(argument), "{complaint}");
            assert!(!complaint.contains('\n'));
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! How counts are laid out and printed. Pure: no QEMU here.
//!
//! A count is kept for each combination of what was executed (all instructions, or a class), where
//! (address range) and at which Exception level; these [cells](Layout::cell) are numbered from 0,
//! and every instruction adds 1 to one cell, or two if it is in a class. All that is printed is a
//! sum of cells.

use std::fmt::Write;

use crate::a64::{self, Class};

/// EL0 to EL3, and one for "could not be read".
const LEVELS: usize = 5;

/// The Exception level an instruction executes at; `None` if it could not be read.
pub type Level = Option<u8>;

/// What is counted: everything, or the members of one class.
#[derive(Clone, Copy)]
pub enum What {
    Insns,
    Class(Class),
}

impl What {
    const COUNT: usize = 1 + Class::COUNT;

    fn all() -> impl Iterator<Item = What> {
        std::iter::once(What::Insns).chain(Class::all().map(What::Class))
    }

    fn index(self) -> usize {
        match self {
            What::Insns => 0,
            What::Class(class) => 1 + class.index(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            What::Insns => "insns",
            What::Class(class) => class.name(),
        }
    }
}

/// The numbering of cells, given the names of the address ranges.
pub struct Layout {
    ranges: Vec<String>,
    insns: bool,
}

impl Layout {
    /// Addresses outside all ranges count under `other`, after them. `insns` tells whether the
    /// count of all instructions is kept, and so printed.
    pub fn new(ranges: impl IntoIterator<Item = String>, insns: bool) -> Layout {
        let other = std::iter::once(String::from("other"));
        Layout {
            ranges: ranges.into_iter().chain(other).collect(),
            insns,
        }
    }

    pub fn cells(&self) -> usize {
        What::COUNT * self.ranges.len() * LEVELS
    }

    /// Returns the number of a cell; `range` beyond the last stands for `other`.
    pub fn cell(&self, what: What, range: usize, level: Level) -> usize {
        let range = range.min(self.ranges.len() - 1);
        let level = level.map_or(LEVELS - 1, |level| usize::from(level).min(LEVELS - 1));
        (what.index() * self.ranges.len() + range) * LEVELS + level
    }

    fn whats(&self) -> impl Iterator<Item = What> + '_ {
        What::all().filter(|what| self.insns || !matches!(what, What::Insns))
    }

    /// Returns the report: a line per class and family, then what is not 0 by Exception level and
    /// by range. Every line starts with `prefix`.
    pub fn report(&self, prefix: &str, cells: &[u64]) -> String {
        let view = View {
            layout: self,
            cells,
        };
        let mut text = String::new();
        view.totals(prefix, &mut text);
        view.families(prefix, &mut text);
        view.levels(prefix, &mut text);
        view.ranges(prefix, &mut text);
        text
    }
}

/// Writes one line; writing to a `String` does not fail.
fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(arguments);
    text.push('\n');
}

/// Cells together with what they mean.
struct View<'a> {
    layout: &'a Layout,
    cells: &'a [u64],
}

impl View<'_> {
    /// Returns the sum over the cells of `what` whose range and level `wanted` accepts.
    fn sum(&self, what: What, wanted: impl Fn(usize, usize) -> bool) -> u64 {
        let size = self.layout.ranges.len() * LEVELS;
        let cells = self.cells.iter().skip(what.index() * size).take(size);
        let wanted = cells
            .enumerate()
            .filter(|(i, _)| wanted(i / LEVELS, i % LEVELS));
        wanted.map(|(_, count)| count).sum()
    }

    fn total(&self, what: What) -> u64 {
        self.sum(what, |_, _| true)
    }

    fn totals(&self, prefix: &str, text: &mut String) {
        for what in self.layout.whats() {
            line(
                text,
                format_args!("{prefix}{} {}", what.name(), self.total(what)),
            );
        }
    }

    fn families(&self, prefix: &str, text: &mut String) {
        for family in a64::FAMILIES {
            let members = Class::all().filter(|class| a64::in_family(*class, family));
            let sum: u64 = members.map(|class| self.total(What::Class(class))).sum();
            line(text, format_args!("{prefix}{family} {sum}"));
        }
    }

    fn levels(&self, prefix: &str, text: &mut String) {
        for (level, name) in ["0", "1", "2", "3", "?"].into_iter().enumerate() {
            for what in self.layout.whats() {
                match self.sum(what, |_, l| l == level) {
                    0 => {}
                    sum => line(
                        text,
                        format_args!("{prefix}el {name} {} {sum}", what.name()),
                    ),
                }
            }
        }
    }

    fn ranges(&self, prefix: &str, text: &mut String) {
        // Without ranges all is `other`, which says nothing.
        let ranges = self.layout.ranges.iter().enumerate();
        for (range, name) in ranges.filter(|_| self.layout.ranges.len() > 1) {
            for what in self.layout.whats() {
                match self.sum(what, |r, _| r == range) {
                    0 => {}
                    sum => line(
                        text,
                        format_args!("{prefix}range {name} {} {sum}", what.name()),
                    ),
                }
            }
        }
    }
}

/// An instruction at an address, for the table of `where=`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Site {
    pub class: Class,
    pub vaddr: u64,
    pub opcode: u32,
    pub level: Level,
    pub paddr: Option<u64>,
}

impl Site {
    pub fn report(&self, count: u64) -> String {
        let level = self.level.map_or("?".into(), |level| level.to_string());
        let paddr = self.paddr.map_or("-".into(), |paddr| format!("{paddr:#x}"));
        let Site { vaddr, opcode, .. } = self;
        let name = self.class.name();
        format!("where {name} {vaddr:#018x} {opcode:#010x} {count} el{level} pa={paddr}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str) -> What {
        What::Class(a64::named(name)[0])
    }

    #[test]
    fn cells_are_distinct_and_in_bounds() {
        let layout = Layout::new(["a".into(), "b".into()], true);
        let mut seen = vec![false; layout.cells()];
        for what in What::all() {
            for range in 0..3 {
                for level in [Some(0), Some(1), Some(2), Some(3), None] {
                    let cell = layout.cell(what, range, level);
                    assert!(!std::mem::replace(&mut seen[cell], true));
                }
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn sums() {
        let layout = Layout::new(["low".into()], true);
        let mut cells = vec![0; layout.cells()];
        cells[layout.cell(class("lse"), 0, Some(0))] = 3;
        cells[layout.cell(class("lse"), 1, Some(2))] = 4;
        cells[layout.cell(class("lsui"), 9, None)] = 1;
        let text = layout.report("mark 7 ", &cells);
        let has = |line: &str| text.lines().any(|l| l == line);
        assert!(has("mark 7 lse 7") && has("mark 7 lsui 1") && has("mark 7 atomics 8"));
        assert!(has("mark 7 hvc 0") && has("mark 7 insns 0"));
        assert!(has("mark 7 el 0 lse 3") && has("mark 7 el 2 lse 4") && has("mark 7 el ? lsui 1"));
        assert!(has("mark 7 range low lse 3") && has("mark 7 range other lse 4"));
        assert!(!text.contains("el 1"));
    }

    #[test]
    fn no_range_lines_without_ranges_and_no_insns_if_not_kept() {
        let layout = Layout::new([], false);
        let text = layout.report("", &vec![1; layout.cells()]);
        assert!(!text.contains("range") && !text.contains("insns"));
        assert!(text.lines().any(|line| line == "lse 5"));
    }

    #[test]
    fn site_line() {
        let site = Site {
            class: a64::named("lse")[0],
            vaddr: 0xffff_8000_8001_0000,
            opcode: 0xb821_0040,
            level: Some(2),
            paddr: Some(0x4021_0000),
        };
        let expected = "where lse 0xffff800080010000 0xb8210040 5 el2 pa=0x40210000\n";
        assert_eq!(site.report(5), expected);
        let unknown = Site {
            level: None,
            paddr: None,
            ..site
        };
        assert!(unknown.report(1).ends_with(" 1 el? pa=-\n"));
    }
}

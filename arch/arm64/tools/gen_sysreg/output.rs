// SPDX-License-Identifier: GPL-2.0

//! Output text, and the count of the statements in it.

use super::*;
use std::collections::HashMap;

/// Output text, the names that it defines, and the number of statements written to it.
#[derive(Default)]
pub(super) struct Output {
    text: String,
    names: HashMap<String, usize>,
    pub(super) counts: Counts,
    /// Whether the text being written comes from another block, and is counted there.
    pub(super) borrowed: bool,
}

impl Output {
    pub(super) fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    /// Counts a statement that has been written.
    pub(super) fn count(&mut self, statement: &'static str) {
        if !self.borrowed {
            self.counts.add(statement);
        }
    }

    /// Records that `line` defines `name`, or fails on a second definition, for which C only warns.
    pub(super) fn define(&mut self, line: usize, name: &str) -> Result {
        match self.names.insert(name.into(), line) {
            None => Ok(()),
            Some(earlier) => error(
                line,
                format!("{name} is already defined because of line {earlier}"),
            ),
        }
    }

    /// Writes a constant.
    pub(super) fn constant(
        &mut self,
        line: usize,
        name: &str,
        ty: &str,
        value: impl fmt::Display,
    ) -> Result {
        self.define(line, name)?;
        self.line(format!("pub const {name}: {ty} = {value};"));
        Ok(())
    }

    /// Returns the text if it contains every statement that was read.
    pub(super) fn finish(self, read: &Counts) -> Result<String> {
        if self.counts == *read {
            return Ok(self.text);
        }
        error(0, format!("read:{read}; but written:{}", self.counts))
    }
}

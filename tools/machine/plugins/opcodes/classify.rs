// SPDX-License-Identifier: GPL-2.0

//! The decoder as a filter: one hexadecimal opcode a line in, `opcode class` out (`-` for none),
//! so that tests can hold it against a disassembler.

#[allow(dead_code)]
mod a64;

use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let insn = u32::from_str_radix(&line, 16).map_err(io::Error::other)?;
        let class = match a64::mark(insn) {
            Some(_) => "mark",
            None => a64::classify(insn).map_or("-", a64::Class::name),
        };
        writeln!(out, "{line} {class}")?;
    }
    out.flush()
}

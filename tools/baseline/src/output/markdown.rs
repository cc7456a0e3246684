// SPDX-License-Identifier: GPL-2.0

//! The report as Markdown.

use super::{about, alone, escape, summary, LIMITS};
use crate::{
    host::Fleet,
    merge::{Baseline, Row},
    text::Text,
};

/// Returns the report.
pub fn report(fleet: &Fleet, baseline: &Baseline) -> String {
    let names: Vec<_> = fleet.hosts.iter().map(|host| cell(&host.name)).collect();
    let parts = [
        format!("# One CPU for {}\n\n", names.join(", ")),
        format!("{}\n", summary(fleet, baseline)),
        limits(fleet, baseline),
        table(&names, baseline),
        notes(baseline),
        format!("\n{LIMITS}\n"),
        for_kernel(&Text::of(baseline, fleet, false)),
    ];
    parts.concat()
}

fn cell(text: &str) -> String {
    escape(text).replace('|', "\\|")
}

/// Returns one sentence on each host that limits others.
fn limits(fleet: &Fleet, baseline: &Baseline) -> String {
    let sentence = |(i, name): (usize, &str)| {
        let (count, things) = match alone(i, baseline) {
            0 => return String::new(),
            1 => (1, "thing"),
            count => (count, "things"),
        };
        format!("{name} alone makes the others give up {count} {things}.\n")
    };
    let names = fleet.hosts.iter().map(|host| host.name.as_str());
    names.enumerate().map(sentence).collect()
}

/// Returns the table of the fields in which hosts differ, if they do.
fn table(names: &[String], baseline: &Baseline) -> String {
    if baseline.rows.is_empty() {
        return String::new();
    }
    format!(
        "\n| field | about | all get | {} |\n|---|---|---|{}\n{}\
         \nHosts in bold make others give up a value.\n",
        names.join(" | "),
        "---|".repeat(names.len()),
        baseline.rows.iter().map(table_row).collect::<String>()
    )
}

fn table_row(row: &Row) -> String {
    let values = row.values.iter().enumerate().map(|(i, value)| {
        let bold = if row.limiting.contains(&i) { "**" } else { "" };
        format!("{bold}{}{bold}", cell(value))
    });
    format!(
        "| {} | {} | {} | {} |\n",
        cell(&row.field),
        about(row),
        cell(&row.chosen),
        values.collect::<Vec<_>>().join(" | ")
    )
}

fn notes(baseline: &Baseline) -> String {
    if baseline.notes.is_empty() {
        return String::new();
    }
    let notes = baseline.notes.iter();
    let items = notes.map(|note| format!("- {}\n", escape(note)));
    format!("\n## Notes\n\n{}", items.collect::<String>())
}

fn for_kernel(text: &Text) -> String {
    format!(
        "\n## For the kernel\n\n```\nkvm.baseline={}\n```\n\nSHA-256: {}\n",
        text.write(),
        text.digest()
    )
}

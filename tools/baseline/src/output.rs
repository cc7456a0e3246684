// SPDX-License-Identifier: GPL-2.0

//! The forms of a result: JSON, texts for the kernel and for tools/vmm, Firecracker's template, and
//! reports for people.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    host::{Fleet, Group, Host},
    merge::{Baseline, Row},
    registers::{self, AIDR_EL1, MIDR_EL1, REVIDR_EL1},
    text::Text,
    words,
};

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// All that is known of the hosts, which can be merged with others, and checked.
    Json,
    /// What kvm.baseline= takes.
    Kernel,
    /// What the option --baseline of tools/vmm takes.
    Vmm,
    /// A custom CPU template for Firecracker, whose VMs have no SVE, PAuth or PMU.
    Firecracker,
    /// A report, as Markdown.
    Markdown,
    /// A report, as a page for a browser.
    Html,
}

/// Returns the result in a form.
pub fn write(fleet: &Fleet, baseline: &Baseline, format: Format, fewest: bool) -> String {
    match format {
        Format::Json => fleet.write(),
        Format::Kernel => Text::of(baseline, fleet, fewest).write() + "\n",
        Format::Vmm => vmm(&Text::of(baseline, fleet, fewest)),
        Format::Firecracker => firecracker(&Text::of(baseline, fleet, true)),
        Format::Markdown => markdown(fleet, baseline),
        Format::Html => html(fleet, baseline),
    }
}

/// Returns a line for each register: KVM's identifier, the value and the mask; and for what is not
/// a register of KVM, its name and its value. The first and the last line show that it is whole.
fn vmm(text: &Text) -> String {
    let mut out = String::from("baseline 1\n");
    let mut line = |words: &[String]| writeln!(out, "{}", words.join(" ")).expect("it grows");
    let hex = |value: u64| format!("{value:#x}");
    for (id, value) in [
        (MIDR_EL1, text.midr_el1),
        (REVIDR_EL1, text.revidr_el1),
        (AIDR_EL1, text.aidr_el1),
    ] {
        if let Some(value) = value {
            line(&[hex(id), hex(value), hex(u64::MAX)]);
        }
    }
    for set in &text.sets {
        let register = registers::named(set.register).expect("the text has known ones");
        line(&[hex(register.id), hex(set.value), hex(set.mask)]);
    }
    for (key, value) in [
        ("cntfrq_el0", text.cntfrq_el0),
        ("dczid_el0", text.dczid_el0),
        ("pmcr_el0.n", text.pmu_counters.map(u64::from)),
        ("sve", text.sve_length.map(u64::from)),
    ] {
        if let Some(value) = value {
            line(&[key.into(), value.to_string()]);
        }
    }
    for feature in &text.off {
        line(&[feature.clone(), "off".into()]);
    }
    out + "end\n"
}

/// Returns a line for each field, or pair of fields, of a host.
pub fn fields(host: &Host) -> String {
    let mut out = String::new();
    for group in Group::all() {
        let Some(own) = group.value(|register| host.register(register, &[])) else {
            continue;
        };
        let bits = group.parts().map(|(register, field)| {
            let msb = field.lsb + field.width - 1;
            format!("{:#x}[{msb}:{}]", register.id, field.lsb)
        });
        let spell = |value: &Vec<u64>| {
            let parts: Vec<_> = value.iter().map(u64::to_string).collect();
            parts.join(",")
        };
        let accepted = host.accepted(group, &[]);
        let _ = writeln!(
            out,
            "{} {} {}: {}",
            bits.collect::<Vec<_>>().join("+"),
            group.names().join("+"),
            spell(&own),
            accepted.iter().map(spell).collect::<Vec<_>>().join(" ")
        );
    }
    out
}

/// Returns a custom CPU template: bits that are set, cleared, or left ("x").
fn firecracker(text: &Text) -> String {
    let modifiers = text.sets.iter().filter_map(|set| {
        let register = registers::named(set.register)?;
        let bits: String = (0..64)
            .rev()
            .map(|bit| match (set.mask >> bit & 1, set.value >> bit & 1) {
                (0, _) => 'x',
                (_, 0) => '0',
                _ => '1',
            })
            .collect();
        Some(json!({ "addr": format!("{:#x}", register.id), "bitmap": format!("0b{bits}") }))
    });
    let template = json!({
        "kvm_capabilities": [],
        "vcpu_features": [],
        "reg_modifiers": modifiers.collect::<Vec<_>>(),
    });
    let mut text = serde_json::to_string_pretty(&template).expect("it is JSON");
    text.push('\n');
    text
}

/// Returns what fields of a row are about, or nothing.
fn about(row: &Row) -> String {
    let phrases = row.field.split(" with ").filter_map(words::about);
    phrases.collect::<Vec<_>>().join("; ")
}

/// Returns one sentence on each host that limits others.
fn limits(fleet: &Fleet, baseline: &Baseline) -> Vec<String> {
    let alone = |i: usize| {
        let rows = baseline.rows.iter();
        rows.filter(|row| row.limiting == [i]).count()
    };
    let hosts = fleet.hosts.iter().enumerate();
    hosts
        .filter(|(i, _)| alone(*i) > 0)
        .map(|(i, host)| {
            let count = alone(i);
            format!(
                "{} alone is why the others give up {count} {}.",
                host.name,
                if count == 1 { "thing" } else { "things" }
            )
        })
        .collect()
}

fn summary(fleet: &Fleet, baseline: &Baseline) -> String {
    let all = match fleet.hosts.len() {
        1 => return "One host: its VMs have the CPU that its KVM gives them.".into(),
        2 => "Both hosts".to_string(),
        count => format!("All {count} hosts"),
    };
    match baseline.rows.len() {
        0 => format!("{all} give the same CPU to their VMs as it is."),
        1 => format!("{all} can give one CPU to their VMs. They differ in 1 thing."),
        rows => format!("{all} can give one CPU to their VMs. They differ in {rows} things."),
    }
}

fn markdown(fleet: &Fleet, baseline: &Baseline) -> String {
    let cell = |text: &str| escape(text).replace('|', "\\|");
    let names: Vec<_> = fleet.hosts.iter().map(|host| cell(&host.name)).collect();
    let mut out = format!(
        "# One CPU for {}\n\n{}\n",
        names.join(", "),
        summary(fleet, baseline)
    );
    for line in limits(fleet, baseline) {
        let _ = writeln!(out, "{line}");
    }
    if !baseline.rows.is_empty() {
        let _ = writeln!(
            out,
            "\n| field | about | all get | {} |\n|---|---|---|{}",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for row in &baseline.rows {
            let values = row.values.iter().enumerate().map(|(i, value)| {
                let value = cell(value);
                if row.limiting.contains(&i) {
                    format!("**{value}**")
                } else {
                    value
                }
            });
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                cell(&row.field),
                about(row),
                cell(&row.chosen),
                values.collect::<Vec<_>>().join(" | ")
            );
        }
        out.push_str("\nHosts in bold are why others give up something.\n");
    }
    if !baseline.notes.is_empty() {
        out.push_str("\n## Notes\n\n");
        for note in &baseline.notes {
            let _ = writeln!(out, "- {}", escape(note));
        }
    }
    let _ = writeln!(out, "\n{LIMITS}");
    let text = Text::of(baseline, fleet, false);
    let _ = writeln!(
        out,
        "\n## For the kernel\n\n```\nkvm.baseline={}\n```\n\nSHA-256: {}",
        text.write(),
        text.digest()
    );
    out
}

/// What nothing can tell from ID registers.
pub const LIMITS: &str = "Not covered: events that performance counters know, \
    behaviour of interrupt controllers that no ID register describes, what is left to the \
    implementation, and programs that try instructions instead of asking for them. Hidden fields \
    are not trapped.";

const STYLE: &str = "\
:root { color-scheme: light dark; --line: #8884; --dim: #777; --lim: #c2410c; --limb: #f9731622; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem;
    padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.lead { font-size: 1.1rem; margin: 0 0 1rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem;
    min-width: 11rem; }
.card b { display: block; } .card small, .about { color: var(--dim); }
.card.limits { border-color: var(--lim); background: var(--limb); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .7rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }
thead th { border-bottom-width: 2px; white-space: nowrap; }
td.name, pre, code { font-family: ui-monospace, monospace; font-size: .9em; }
td.all { font-weight: 600; }
td.limits { background: var(--limb); color: var(--lim); font-weight: 600; }
.about { display: block; font-family: system-ui, sans-serif; }
.key { color: var(--lim); font-weight: 600; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid var(--line);
  border-radius: .5rem; padding: .8rem; }
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn html(fleet: &Fleet, baseline: &Baseline) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>One CPU for {} hosts</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>One CPU for {} hosts</h1>\n<p class=\"lead\">{}</p>\n",
        fleet.hosts.len(),
        fleet.hosts.len(),
        escape(&summary(fleet, baseline))
    );
    out.push_str("<div class=\"cards\">\n");
    for (i, host) in fleet.hosts.iter().enumerate() {
        let rows = baseline.rows.iter();
        let alone = rows.filter(|row| row.limiting == [i]).count();
        let gives_up = |row: &&Row| {
            let value = row.values[i].as_str();
            !["", "no"].contains(&value) && value != row.chosen && !row.limiting.is_empty()
        };
        let given_up = baseline.rows.iter().filter(gives_up);
        let _ = writeln!(
            out,
            "<div class=\"card{}\"><b>{}</b><small>Linux {}{}</small><br>gives up {}{}</div>",
            if alone > 0 { " limits" } else { "" },
            escape(&host.name),
            escape(&host.kernel),
            if host.derived_from.is_some() {
                ", derived"
            } else {
                ""
            },
            given_up.count(),
            if alone > 0 {
                format!("<br><span class=\"key\">alone limits {alone}</span>")
            } else {
                String::new()
            }
        );
    }
    out.push_str("</div>\n");
    if !baseline.rows.is_empty() {
        out.push_str("<h2>In what they differ</h2>\n<div class=\"scroll\"><table>\n<thead><tr>");
        out.push_str("<th>field</th><th>all get</th>");
        for host in &fleet.hosts {
            let _ = write!(out, "<th>{}</th>", escape(&host.name));
        }
        out.push_str("</tr></thead>\n<tbody>\n");
        for row in &baseline.rows {
            let _ = write!(
                out,
                "<tr><td class=\"name\">{}<span class=\"about\">{}</span></td>\
                 <td class=\"all\">{}</td>",
                escape(&row.field),
                escape(&about(row)),
                escape(&row.chosen)
            );
            for (i, value) in row.values.iter().enumerate() {
                let class = if row.limiting.contains(&i) {
                    " class=\"limits\""
                } else {
                    ""
                };
                let _ = write!(out, "<td{class}>{}</td>", escape(value));
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody>\n</table></div>\n<p><span class=\"key\">Marked</span>: ");
        out.push_str("because of this host, others give up what they have.</p>\n");
    }
    if !baseline.notes.is_empty() {
        out.push_str("<h2>Notes</h2>\n<ul>\n");
        for note in &baseline.notes {
            let _ = writeln!(out, "<li>{}</li>", escape(note));
        }
        out.push_str("</ul>\n");
    }
    let _ = writeln!(out, "<p class=\"about\">{LIMITS}</p>");
    let text = Text::of(baseline, fleet, false);
    let _ = write!(
        out,
        "<h2>For the kernel</h2>\n<pre>kvm.baseline={}</pre>\n\
         <p>SHA-256 <code>{}</code></p>\n</body>\n</html>\n",
        escape(&text.write()),
        text.digest()
    );
    out
}

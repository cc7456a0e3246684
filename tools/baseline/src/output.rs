// SPDX-License-Identifier: GPL-2.0

//! The forms of a result: JSON, texts for the kernel and for tools/vmm, Firecracker's template, and
//! reports for people.

use std::fmt::Write as _;

use serde_json::json;

use crate::{
    host::{Fleet, Group, Host},
    merge::{Baseline, Row},
    registers,
    text::Text,
    words,
};

mod html;
mod markdown;

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

/// Differences between hosts that ID registers do not show.
const LIMITS: &str = "Not covered: events that performance counters know, \
    behaviour of interrupt controllers that no ID register describes, what is left to the \
    implementation, and programs that try instructions instead of asking for them. Hidden fields \
    are not trapped.";

/// Returns the result in a form.
pub fn write(fleet: &Fleet, baseline: &Baseline, format: Format, fewest: bool) -> String {
    match format {
        Format::Json => fleet.write(),
        Format::Kernel => Text::of(baseline, fleet, fewest).write() + "\n",
        Format::Vmm => vmm(&Text::of(baseline, fleet, fewest)),
        Format::Firecracker => firecracker(&Text::of(baseline, fleet, true)),
        Format::Markdown => markdown::report(fleet, baseline),
        Format::Html => html::page(fleet, baseline),
    }
}

/// Returns a line for each register: KVM's identifier, the value and the mask; and for what is not
/// a register of KVM, its name and its value. The first and the last line show that it is whole.
fn vmm(text: &Text) -> String {
    let who = text.who().into_iter();
    let who = who.filter_map(|(_, id, value)| Some((id, value?, u64::MAX)));
    let sets = text.sets.iter().map(|set| {
        let register = registers::named(set.register).expect("the text has known ones");
        (register.id, set.value, set.mask)
    });
    let registers = who
        .chain(sets)
        .map(|(id, value, mask)| format!("{id:#x} {value:#x} {mask:#x}\n"));
    let numbers = [
        ("cntfrq_el0", text.cntfrq_el0),
        ("dczid_el0", text.dczid_el0),
        ("pmcr_el0.n", text.pmu_counters.map(u64::from)),
        ("sve", text.sve_length.map(u64::from)),
    ];
    let numbers = numbers.into_iter();
    let numbers = numbers.filter_map(|(key, value)| Some(format!("{key} {}\n", value?)));
    let off = text.off.iter().map(|feature| format!("{feature} off\n"));
    let lines: String = registers.chain(numbers).chain(off).collect();
    format!("baseline 1\n{lines}end\n")
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

/// Returns in how many rows a host is the only one that limits others.
fn alone(i: usize, baseline: &Baseline) -> usize {
    let rows = baseline.rows.iter();
    rows.filter(|row| row.limiting == [i]).count()
}

/// Returns in one or two sentences what the hosts have in common.
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

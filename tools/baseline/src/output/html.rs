// SPDX-License-Identifier: GPL-2.0

//! The report as a page for a browser.

use super::{about, alone, escape, summary, LIMITS};
use crate::{
    host::{Fleet, Host},
    merge::{Baseline, Row},
    text::Text,
};

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

/// Returns the page.
pub fn page(fleet: &Fleet, baseline: &Baseline) -> String {
    let parts = [
        head(fleet, baseline),
        cards(fleet, baseline),
        table(fleet, baseline),
        notes(baseline),
        foot(&Text::of(baseline, fleet, false)),
    ];
    parts.concat()
}

fn head(fleet: &Fleet, baseline: &Baseline) -> String {
    let title = format!("One CPU for {} hosts", fleet.hosts.len());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>{title}</h1>\n<p class=\"lead\">{}</p>\n",
        escape(&summary(fleet, baseline))
    )
}

fn cards(fleet: &Fleet, baseline: &Baseline) -> String {
    let hosts = fleet.hosts.iter().enumerate();
    let cards = hosts.map(|(i, host)| card(i, host, baseline));
    format!(
        "<div class=\"cards\">\n{}</div>\n",
        cards.collect::<String>()
    )
}

fn card(i: usize, host: &Host, baseline: &Baseline) -> String {
    let (class, key) = match alone(i, baseline) {
        0 => ("", String::new()),
        count => (
            " limits",
            format!("<br><span class=\"key\">alone limits {count}</span>"),
        ),
    };
    let derived = host.derived_from.as_ref().map_or("", |_| ", derived");
    format!(
        "<div class=\"card{class}\"><b>{}</b><small>Linux {}{derived}</small>\
         <br>gives up {}{key}</div>\n",
        escape(&host.name),
        escape(&host.kernel),
        given_up(i, baseline)
    )
}

/// Returns in how many rows a host has what it gives up because of others.
fn given_up(i: usize, baseline: &Baseline) -> usize {
    let gives_up = |row: &&Row| {
        let value = row.values[i].as_str();
        !["", "no"].contains(&value) && value != row.chosen && !row.limiting.is_empty()
    };
    baseline.rows.iter().filter(gives_up).count()
}

/// Returns the table of the fields in which hosts differ, if they do.
fn table(fleet: &Fleet, baseline: &Baseline) -> String {
    if baseline.rows.is_empty() {
        return String::new();
    }
    let name = |host: &Host| format!("<th>{}</th>", escape(&host.name));
    format!(
        "<h2>Differences</h2>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th>field</th><th>all get</th>{}</tr></thead>\n<tbody>\n{}\
         </tbody>\n</table></div>\n<p><span class=\"key\">Marked</span>: \
         this host makes others give up a value.</p>\n",
        fleet.hosts.iter().map(name).collect::<String>(),
        baseline.rows.iter().map(table_row).collect::<String>()
    )
}

fn table_row(row: &Row) -> String {
    let values = row.values.iter().enumerate().map(|(i, value)| {
        let limits = row.limiting.contains(&i);
        let class = if limits { " class=\"limits\"" } else { "" };
        format!("<td{class}>{}</td>", escape(value))
    });
    format!(
        "<tr><td class=\"name\">{}<span class=\"about\">{}</span></td>\
         <td class=\"all\">{}</td>{}</tr>\n",
        escape(&row.field),
        escape(&about(row)),
        escape(&row.chosen),
        values.collect::<String>()
    )
}

fn notes(baseline: &Baseline) -> String {
    if baseline.notes.is_empty() {
        return String::new();
    }
    let notes = baseline.notes.iter();
    let items = notes.map(|note| format!("<li>{}</li>\n", escape(note)));
    format!("<h2>Notes</h2>\n<ul>\n{}</ul>\n", items.collect::<String>())
}

fn foot(text: &Text) -> String {
    format!(
        "<p class=\"about\">{LIMITS}</p>\n\
         <h2>For the kernel</h2>\n<pre>kvm.baseline={}</pre>\n\
         <p>SHA-256 <code>{}</code></p>\n</body>\n</html>\n",
        escape(&text.write()),
        text.digest()
    )
}

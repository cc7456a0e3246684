// SPDX-License-Identifier: GPL-2.0

//! What fields of ID registers are about, in a few words, for reports.

/// Lines with "REGISTER.FIELD" and a phrase, sorted.
const WORDS: &str = include_str!("words.txt");

/// Returns all fields with their phrases.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    WORDS.lines().filter_map(|line| {
        let (field, phrase) = line.split_once(' ')?;
        Some((field, phrase.trim_start()))
    })
}

/// Returns what a field is about, if that is known.
pub fn about(field: &str) -> Option<&'static str> {
    all()
        .find(|(known, _)| *known == field)
        .map(|(_, phrase)| phrase)
}

# SPDX-License-Identifier: GPL-2.0
"""Judges the counts of executed instructions that the counting plugin reports."""

import collections.abc
import operator
import re

from armature.ktap import Result, fact

# The plugin's families of classes. The plugin sums families for the whole run only, not by mark,
# exception level or range.
FAMILIES = {
    "atomics": ("lse", "lse128", "lsui", "lsfe", "rcw"),
    "ic": ("ic_ivau", "ic_iallu", "ic_ialluis"),
}
RELATIONS = {"==": operator.eq, ">": operator.gt, "<=": operator.le}


def figure(line: str) -> tuple[str, int] | None:
    """Returns the name and the figure in a line of the plugin: "CLASS", "el E CLASS", "range R
    CLASS", or "mark CLASS" for one mark; None if the line has no figure."""
    match = re.fullmatch(r"(?!where )(?:(mark) \d+ )?(.+) (\d+)", line.strip())
    return (" ".join(filter(None, match.groups()[:2])), int(match[3])) if match else None


def read(text: str) -> dict[str, int]:
    """Returns the plugin's figures by name, summed over all marks."""
    counts: dict[str, int] = {}
    for name, count in filter(None, map(figure, text.splitlines())):
        counts[name] = counts.get(name, 0) + count
    sums: dict[str, int] = {}
    for name, count in counts.items():
        *where, last = name.split()
        for family in (f for f, classes in FAMILIES.items() if where and last in classes):
            key = " ".join((*where, family))
            sums[key] = sums.get(key, 0) + count
    return counts | sums


def found(counts: dict[str, int], name: str) -> int | None:
    """Returns a figure, or None if it was not counted. The plugin does not print a zero for an
    exception level or a range; the figure is 0 if the class is among those of the whole run."""
    if name.startswith("mark") and "mark insns" not in counts:
        return None
    return counts.get(name, 0 if name.split()[-1] in counts else None)


def judge(where: str, rules: collections.abc.Iterable[str], text: str) -> list[Result]:
    """Returns whether each rule ("NAME RELATION FIGURE") holds."""
    counts = read(text)
    places = "; ".join(line for line in text.splitlines() if line.startswith("where"))[:300]
    results = []
    for rule in rules:
        name, relation, limit = rule.rsplit(" ", 2)
        have = found(counts, name)
        holds = have is not None and RELATIONS[relation](have, int(limit))
        counted = f"counted {'nothing' if have is None else have} {places}"
        results.append(fact(where, f"executed/{rule}", holds, counted))
    return results

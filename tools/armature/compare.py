# SPDX-License-Identifier: GPL-2.0
"""Compares figures of `make bench`: the base kernel's and ours.

Each row is one benchmark. A row fails if our kernel executes more than 1.001 times the
instructions of the base, or if the two do not measure the same: a row is missing, or the number of
iterations or the KVM mode differs. Rules change the bounds of single rows.
"""

import collections.abc
import dataclasses
import pathlib
from typing import Any

from armature.process import Failure

# The bounds are ratios of integers, so that rounding does not decide a verdict.
IDLE, IN_USE = (1001, 1000), (1020, 1000)


class BadResults(Failure):
    """Figures that cannot be compared."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """The rows to judge, and their bounds."""

    # The rows to judge; empty means all rows.
    only: tuple[str, ...] = ()
    # Rows in which a capability is in use, not idle: at most 1.02 times the base.
    in_use: tuple[str, ...] = ()
    # Rows in which our kernel must cost less.
    below: tuple[str, ...] = ()
    # Rows that show the price of a capability, and are not judged.
    cost: tuple[str, ...] = ()
    # Rows that may cost at most so many instructions more.
    at_most: tuple[tuple[str, int], ...] = ()
    # (row, percent, other row): a bound on one of our rows, relative to another of our rows.
    bounds: tuple[tuple[str, int, str], ...] = ()
    # (row, instructions, other row): how many more than another of our rows it may cost.
    more: tuple[tuple[str, int, str], ...] = ()

    def named(self) -> set[str]:
        """Returns the rows that have a specific rule."""
        return {*self.in_use, *self.below, *self.cost, *(name for name, _ in self.at_most)}


@dataclasses.dataclass
class Figures:
    """The figures of one kernel: (figure, iterations) by name, and facts that must agree."""

    rows: dict[str, tuple[int, int]]
    info: dict[str, str]


@dataclasses.dataclass
class Row:
    """One benchmark."""

    name: str
    vanilla: int | None
    ours: int | None
    verdict: str

    @property
    def good(self) -> bool:
        """Returns whether the verdict is not a failure."""
        return self.verdict not in ("missing", "iterations", "slower", "not below")

    @property
    def ratio(self) -> float | None:
        """Returns the ratio of our figure to the base's; None if it is undefined."""
        if self.vanilla == self.ours:
            return 1.0
        return self.ours / self.vanilla if self.vanilla and self.ours is not None else None


@dataclasses.dataclass
class Outcome:
    """The result of comparing two kernels."""

    rows: list[Row]
    mismatches: list[str]
    bounds: list[tuple[bool, str]]

    @property
    def good(self) -> bool:
        """Returns whether all rows, bounds and facts are good."""
        return (
            not self.mismatches
            and all(row.good for row in self.rows)
            and all(holds for holds, _ in self.bounds)
        )


def parse(lines: collections.abc.Iterable[str]) -> Figures:
    """Reads lines "bench NAME FIGURE ITERATIONS" and "info NAME TEXT"."""
    figures = Figures({}, {})
    for line in filter(None, map(str.strip, lines)):
        match line.split():
            case ["bench", name, figure, iterations] if (
                figure.isdecimal() and iterations.isdecimal()
            ):
                if name in figures.rows:
                    raise BadResults(f"{name} is there twice")
                figures.rows[name] = int(figure), int(iterations)
            case ["info", name, *words]:
                figures.info[name] = " ".join(words)
            case _:
                raise BadResults(f"not a result line: {line!r}")
    if not figures.rows:
        raise BadResults("no result lines")
    return figures


def load(path: pathlib.Path) -> Figures:
    """Reads a file of such lines."""
    try:
        return parse(path.read_text(encoding="ascii").splitlines())
    except (OSError, UnicodeDecodeError, BadResults) as error:
        raise BadResults(f"{path}: {error}") from error


def exceeds(ours: int, base: int, limit: tuple[int, int]) -> bool:
    """Returns whether `ours` is more than `limit` times the base."""
    return ours * limit[1] > base * limit[0]


def verdict(name: str, base: int, ours: int, rules: Rules) -> str:
    """Returns the verdict on a row that both have, with the same iterations."""
    at_most = dict(rules.at_most)
    if name in rules.cost:
        return "cost"
    if name in rules.below and ours >= base:
        return "not below"
    if name in at_most and ours > base:
        return "within" if ours <= base + at_most[name] else "slower"
    if exceeds(ours, base, IDLE):
        return "in use" if name in rules.in_use and not exceeds(ours, base, IN_USE) else "slower"
    return "equal" if ours == base else "faster" if ours < base else "within"


def row(name: str, base: Figures, ours: Figures, rules: Rules) -> Row:
    """Returns one row. "NAME.min" has the rules of NAME."""
    theirs, own = base.rows.get(name), ours.rows.get(name)
    if theirs is None or own is None:
        return Row(name, theirs and theirs[0], own and own[0], "missing")
    said = verdict(name.removesuffix(".min"), theirs[0], own[0], rules)
    return Row(name, theirs[0], own[0], said if theirs[1] == own[1] else "iterations")


def bound(ours: Figures, name: str, percent: int, other: str) -> tuple[bool, str]:
    """Returns whether a bound on one of our rows relative to another holds, and a line about it."""
    figure, of = bounded(ours, name, other)
    holds = figure * 100 <= of * percent
    return holds, f"{'within' if holds else 'FAIL'} {percent} %: {name} {figure}, {other} {of}"


def difference(ours: Figures, name: str, most: int, other: str) -> tuple[bool, str]:
    """Returns whether one of our rows costs at most so many instructions more than another, and a
    line about it."""
    figure, of = bounded(ours, name, other)
    holds = figure - of <= most
    return (
        holds,
        f"{'within' if holds else 'FAIL'} {most} more: {name} {figure}, {other} {of}, "
        f"{figure - of:+}",
    )


def bounded(ours: Figures, *names: str) -> list[int]:
    """Returns the figures of rows that a bound names."""
    for name in names:
        if name not in ours.rows:
            raise BadResults(f"there is no row {name!r}")
    return [ours.rows[name][0] for name in names]


def compare(base: Figures, ours: Figures, rules: Rules = Rules()) -> Outcome:
    """Compares two kernels. Raises BadResults for a rule about a missing row."""
    names = [*dict.fromkeys([*base.rows, *ours.rows, *rules.only])]
    names = [name for name in names if not rules.only or name.removesuffix(".min") in rules.only]
    if unknown := sorted(rules.named() - set(names)):
        raise BadResults(f"there is no row {unknown[0]}")
    keys = sorted(base.info.keys() | ours.info.keys())
    return Outcome(
        [row(name, base, ours, rules) for name in names],
        [
            f"{key}: vanilla {base.info.get(key)!r}, ours {ours.info.get(key)!r}"
            for key in keys
            if base.info.get(key) != ours.info.get(key)
        ],
        [bound(ours, *one) for one in rules.bounds]
        + [difference(ours, *one) for one in rules.more],
    )


def table(outcome: Outcome) -> str:
    """Returns the comparison as a readable table."""
    form = "{:<28} {:>12} {:>12} {:>9}  {}"
    lines = [line for _, line in outcome.bounds]
    lines.append(form.format("name", "vanilla", "ours", "ratio", "verdict"))
    for one in outcome.rows:
        cells = ["-" if figure is None else figure for figure in (one.vanilla, one.ours)]
        ratio = "-" if one.ratio is None else f"{one.ratio:.6f}"
        lines.append(
            form.format(one.name, *cells, ratio, one.verdict if one.good else f"FAIL {one.verdict}")
        )
    lines += ["FAIL different machines: " + line for line in outcome.mismatches]
    lines.append("pass" if outcome.good else "FAIL")
    return "\n".join(lines)


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Returns the comparison as data for JSON."""
    rows = [
        dataclasses.asdict(one) | {"ratio": one.ratio, "pass": one.good} for one in outcome.rows
    ]
    return {
        "rows": rows,
        "mismatches": outcome.mismatches,
        "pass": outcome.good,
        "bounds": [line for _, line in outcome.bounds],
    }

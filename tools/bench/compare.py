#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compare two result files of run.sh: the base kernel's and ours.

Each row is one benchmark.  A row fails when ours executes more than 1.001
times the instructions of the base, or when the two files do not measure the
same thing: a row missing from one of them, another number of iterations,
another KVM mode.  --in-use names rows in which a capability is not idle but does its
work; those may cost up to 1.02 times, and say so.  --below names rows in which ours
must cost less; --cost those that are the price of a capability, which are only shown.
--only leaves out all rows but those that it names, and --at-most NAME=N allows a row N
instructions more. --bound NAME=PERCENT:OTHER is a bound on one of our rows by another of ours.

Exit status: 0 all rows pass, 1 some row fails, 2 a file is unusable.
"""

import argparse
import json
import sys

# The bound as a ratio of integers, so that no rounding decides a verdict.
LIMIT_NUM, LIMIT_DEN = 1001, 1000
IN_USE_NUM, IN_USE_DEN = 1020, 1000


class BadResults(Exception):
    """A result file that cannot be compared."""


class Results:
    """One file: figures by name, and facts that must agree."""

    def __init__(self):
        self.figures = {}
        self.info = {}

    def add(self, line):
        kind, _, rest = line.strip().partition(" ")
        if kind == "bench":
            self._add_figure(rest)
        elif kind == "info":
            key, _, value = rest.partition(" ")
            self.info[key] = value
        elif line.strip():
            raise BadResults(f"not a result line: {line.strip()!r}")

    def _add_figure(self, text):
        fields = text.split()
        if len(fields) != 3 or not all(f.isdecimal() for f in fields[1:]):
            raise BadResults(f"not 'bench <name> <n> <n>': {text!r}")
        if fields[0] in self.figures:
            raise BadResults(f"{fields[0]} is there twice")
        self.figures[fields[0]] = (int(fields[1]), int(fields[2]))


def parse(lines):
    results = Results()
    for line in lines:
        results.add(line)
    if not results.figures:
        raise BadResults("no result lines")
    return results


def load(path):
    try:
        with open(path, encoding="ascii") as lines:
            return parse(lines)
    except (OSError, UnicodeDecodeError, BadResults) as error:
        raise BadResults(f"{path}: {error}") from error


def judge(base, ours, kind=None):
    """The verdict on one row of (figure, iterations), None if missing."""
    if base is None or ours is None:
        return "missing"
    if base[1] != ours[1]:
        return "iterations"
    if kind == "cost":
        return "cost"
    if kind == "below" and ours[0] >= base[0]:
        return "not below"
    if isinstance(kind, int) and ours[0] > base[0]:
        return "within" if ours[0] <= base[0] + kind else "slower"
    if ours[0] * LIMIT_DEN > base[0] * LIMIT_NUM:
        within = ours[0] * IN_USE_DEN <= base[0] * IN_USE_NUM
        return "in use" if kind == "in use" and within else "slower"
    if ours[0] == base[0]:
        return "equal"
    return "faster" if ours[0] < base[0] else "within"


def bound(ours, text):
    """What `text`, a --bound, says of our figures: (whether it holds, a line that says so)."""
    name, _, limit = text.partition("=")
    percent, _, other = limit.partition(":")
    if not percent.isdecimal():
        raise BadResults(f"not NAME=PERCENT:OTHER: {text!r}")
    for row_name in (name, other):
        if row_name not in ours.figures:
            raise BadResults(f"there is no row {row_name!r}")
    figure, of = ours.figures[name][0], ours.figures[other][0]
    holds = figure * 100 <= of * int(percent)
    return holds, f"{'within' if holds else 'FAIL'} {percent} %: {name} {figure}, {other} {of}"


FAILURES = frozenset(("missing", "iterations", "slower", "not below"))


def ratio(base, ours):
    """Ours to base, None where there is no such number."""
    if base == ours:
        return 1.0
    if not base or ours is None:
        return None
    return ours / base


def row(name, base, ours, kind=None):
    verdict = judge(base, ours, kind)
    figures = [pair[0] if pair else None for pair in (base, ours)]
    return {
        "name": name,
        "vanilla": figures[0],
        "ours": figures[1],
        "ratio": ratio(*figures),
        "verdict": verdict,
        "pass": verdict not in FAILURES,
    }


def mismatches(base, ours):
    """Facts on which the two files differ, as lines to print."""
    keys = sorted(base.info.keys() | ours.info.keys())
    return [
        f"{key}: vanilla {base.info.get(key)!r}, ours {ours.info.get(key)!r}"
        for key in keys
        if base.info.get(key) != ours.info.get(key)
    ]


def compare(base, ours, kinds=None, only=()):
    """`kinds` says of some rows what they are: "in use", "below", "cost", or what they may
    be more."""
    kinds = kinds or {}
    names = list(base.figures)
    names += [name for name in ours.figures if name not in base.figures]
    names += [name for name in only if name not in names]
    names = [name for name in names if not only or name.removesuffix(".min") in only]
    unknown = sorted(set(kinds) - set(names))
    if unknown:
        raise BadResults(f"there is no row {unknown[0]}")
    rows = [row(n, base.figures.get(n), ours.figures.get(n), kinds.get(n.removesuffix(".min")))
            for n in names]
    differ = mismatches(base, ours)
    return {
        "limit": LIMIT_NUM / LIMIT_DEN,
        "info": base.info,
        "mismatches": differ,
        "rows": rows,
        "pass": not differ and all(r["pass"] for r in rows),
    }


def table(outcome):
    form = "{:<28} {:>12} {:>12} {:>9}  {}"
    lines = [form.format("name", "vanilla", "ours", "ratio", "verdict")]
    for r in outcome["rows"]:
        cells = ["-" if r[k] is None else r[k] for k in ("vanilla", "ours")]
        quotient = "-" if r["ratio"] is None else f"{r['ratio']:.6f}"
        verdict = r["verdict"] if r["pass"] else "FAIL " + r["verdict"]
        lines.append(form.format(r["name"], *cells, quotient, verdict))
    lines += ["FAIL different machines: " + m for m in outcome["mismatches"]]
    lines.append("pass" if outcome["pass"] else "FAIL")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vanilla", help="result file of the base kernel")
    parser.add_argument("ours", help="result file of our kernel")
    parser.add_argument("--json", metavar="FILE", help="also write JSON")
    parser.add_argument("--in-use", metavar="NAME", action="append", default=[],
                        help="a row in which a capability does its work")
    parser.add_argument("--below", metavar="NAME", action="append", default=[],
                        help="a row in which ours must cost less")
    parser.add_argument("--cost", metavar="NAME", action="append", default=[],
                        help="a row that is only shown")
    parser.add_argument("--only", metavar="NAME", action="append", default=[],
                        help="a row to look at; the default is all of them")
    parser.add_argument("--at-most", metavar="NAME=N", action="append", default=[],
                        help="a row that may be N instructions more, and not one beyond")
    parser.add_argument("--bound", metavar="NAME=PERCENT:OTHER", action="append", default=[],
                        help="a row of ours that is at most so much of another one of ours")
    args = parser.parse_args(argv)
    try:
        kinds = {name: kind for kind, names in (("in use", args.in_use), ("below", args.below),
                                                ("cost", args.cost)) for name in names}
        kinds |= {name: int(more) for name, _, more in (a.partition("=") for a in args.at_most)}
        ours = load(args.ours)
        outcome = compare(load(args.vanilla), ours, kinds, args.only)
        bounds = [bound(ours, text) for text in args.bound]
    except ValueError:
        parser.error("--at-most takes NAME=N")
    except BadResults as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    outcome["pass"] &= all(holds for holds, _ in bounds)
    print("\n".join([line for _, line in bounds] + [table(outcome)]))
    if args.json:
        with open(args.json, "w", encoding="ascii") as out:
            json.dump(outcome, out, indent=2)
            out.write("\n")
    return 0 if outcome["pass"] else 1


if __name__ == "__main__":
    sys.exit(main())

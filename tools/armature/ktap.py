# SPDX-License-Identifier: GPL-2.0
"""Reads TAP and KTAP, with the kernel tree's parser (tools/testing/kunit)."""

import collections.abc
import dataclasses
import fnmatch
import importlib
import io
import re
import sys
from typing import Any

from armature.place import TREE

GOOD = ("SUCCESS", "SKIPPED")


@dataclasses.dataclass
class Result:
    """The result of one test: status is pass, fail or skip."""

    where: str
    name: str
    status: str
    detail: str = ""


def fact(where: str, name: str, good: bool, detail: str = "") -> Result:
    """Returns whether something holds, as a result; `detail` says why not."""
    return Result(where, name, "pass" if good else "fail", "" if good else detail)


def parse(text: str) -> Any:
    """Returns the tree of tests in a text, or None if there is no TAP in it."""
    path = str(TREE / "tools/testing/kunit")
    if path not in sys.path:
        sys.path.append(path)
    if not re.search(r"K?TAP version", text):
        return None
    silent = importlib.import_module("kunit_printer").Printer(print=False, output=io.StringIO())
    return importlib.import_module("kunit_parser").parse_run_tests(text.splitlines(), silent)


def leaves(test: Any, path: tuple[str, ...] = ()) -> collections.abc.Iterator[tuple[str, Any]]:
    """Yields each test by name, and the exit status of a program whose own lines all pass."""
    path = path + ((test.name,) if test.name and test.name != "main" else ())
    if not test.subtests:
        yield "/".join(path) or "(a test that did not run)", test
        return
    below = [leaf for child in test.subtests for leaf in leaves(child, path)]
    yield from below
    if test.status.name not in GOOD and all(leaf.status.name in GOOD for _, leaf in below):
        yield "/".join((*path, "(its exit)")), test


def results(
    where: str, text: str, skips: collections.abc.Sequence[str], prefix: str = ""
) -> list[Result]:
    """Returns the results in a text. A skip whose name and reason match no pattern of `skips` is
    a failure, and so is a text without TAP."""
    tree = parse(text)
    if tree is None:
        return [Result(where, prefix + "ktap", "fail", "no KTAP output")]
    return [result(where, prefix + name, test, skips) for name, test in leaves(tree)]


def result(where: str, name: str, test: Any, skips: collections.abc.Sequence[str]) -> Result:
    """Returns one test as a result."""
    reason = getattr(test, "skip_reason", "") or "; ".join(test.log[-3:])
    if test.status.name == "SUCCESS":
        return Result(where, name, "pass")
    if test.status.name == "SKIPPED":
        own = name.split("/", 1)[-1] if name.startswith("kunit/") else name
        if any(fnmatch.fnmatch(f"{own} {reason}", pattern) for pattern in skips):
            return Result(where, name, "skip", reason)
        reason = f"skipped, which this machine has no reason for: {reason}"
    return Result(where, name, "fail", reason)


def whole(text: str) -> str:
    """Returns the TAP of a step, whose plan may come last, as the parser requires it: with a
    version and the plan first."""
    plan = re.findall(r"^1\.\.\d+$", text, re.M)[-1:]
    lines = [line for line in text.splitlines() if not re.match(r"1\.\.\d+$|TAP version", line)]
    return "\n".join(["TAP version 14", *plan, *lines]) + "\n"


def of_step(where: str, text: str, code: int) -> list[Result]:
    """Returns the results of a step that prints TAP and has ended with the exit status `code`. A
    step that died half-way has failed."""
    plan = re.findall(r"^1\.\.(\d+)$", text, re.M)[-1:]
    lines = re.findall(r"^(not ok|ok) ", text, re.M)
    found = results(where, whole(text), ["*"]) if lines else []
    if plan != [str(len(lines))] or (code and "not ok" not in lines):
        found.append(
            Result(
                where,
                f"{where} ran to its end",
                "fail",
                f"exit {code}, plan {' '.join(plan) or 'none'}, {len(lines)} results",
            )
        )
    return found

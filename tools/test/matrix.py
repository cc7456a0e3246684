# SPDX-License-Identifier: GPL-2.0
"""The machines of the tests: reads tools/test/matrix/*.toml.

A [[boot]] is one machine:

  name      of the boot, unique
  for       what it proves: `make test ONLY=pattern` selects by this and by name
  kernel    which kernel of tools/build/kernel.sh (default armature; with
            CONFIG=debug, debug takes the place of armature)
  machine   the [machine.NAME] of the same file that has cpu, smp and the like
  cpu, smp, memory, mte, mode (vhe, nvhe, protected, nested), cmdline, qemu
  board     more properties of the board
  model     true: the emulator of the machine model, also where the CPU has none of
            its properties (one of them is enough to get it)
  perf      true: Debian's perf is there
  l2        true: Debian's QEMU is there, and a Linux for it to boot
  image     true: /Image is this kernel, for a test that boots it in place of the running one;
            tests after that one are run there, if its command line has CONTINUE=N, the number of
            that test
  crash     true: a test makes this kernel panic, by sysrq
  apart     true: only if ONLY names it, or what it is for, since it takes a kernel of its own
  same      a boot whose console and test output must be the same as these
  bootargs  false: none at all, so that CONFIG_CMDLINE counts
  lie       "CPU1 lacks REGISTER.FIELD": what that CPU reads once the tests run
  kunit     true: KUnit suites of ours run at boot and are counted
  tests     programs, a line each: "name: command"; files of build/selftests by
            their path
  skips     what may skip on this machine, as patterns of name and reason: any other
            skip is a failure
  log       regular expressions that the console must show
  nolog     those it must not show
  plugin    arguments for the opcode-counting plugin
  count     what the plugin's figures must be: "NAME == n", "NAME > n", "NAME <= n";
            NAME is a class, "el E CLASS", "range R CLASS" (R is named in plugin), or
            "mark CLASS" between a test's marks
  limit     seconds (default 120) on a fast host: three times that ends the boot

What is written once a file: [default] has keys of all its boots, [machine.NAME] those of a
machine, and [lists] lists that a boot names in place of writing them. A list where one value
belongs (mode = ["vhe", "nvhe"]) is an axis: a boot for each value, with {mode} in the name.
"""

import pathlib
import tomllib
from typing import Any

Row = dict[str, Any]

FILES = pathlib.Path(__file__).resolve().parent / "matrix"
SCALARS = ("cpu", "smp", "memory", "mode", "kernel", "machine", "cmdline")
LISTS = ("for", "board", "tests", "skips", "log", "nolog", "count")
KEYS = {"name", "mte", "qemu", "model", "perf", "l2", "image", "crash", "apart", "same", "bootargs",
        "lie", "kunit", "plugin", "limit", *SCALARS, *LISTS}


def along_axes(row: Row) -> list[Row]:
    """Returns a row for each value of each axis, in the order in which they are written."""
    for key in SCALARS:
        if isinstance(row.get(key), list):
            return [one for value in row[key] for one in along_axes(
                {**row, key: value, "name": row["name"].replace(f"{{{key}}}", str(value))})]
    return [row]


def resolve(row: Row, file: Row) -> Row:
    """Returns the row with its machine and its lists in place of their names."""
    machine = file.get("machine", {})[row["machine"]] if "machine" in row else {}
    whole = {**file.get("default", {}), **machine, **row}
    whole.pop("machine", None)
    for key in LISTS:
        if isinstance(whole.get(key), str):
            whole[key] = file["lists"][whole[key]]
    return whole


def check(rows: list[Row]) -> None:
    """Refuses what is a slip of whoever wrote it."""
    names = [row["name"] for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"two boots of one name: {twice}"
    for row in rows:
        assert row.get("tests") or row.get("kunit"), f"{row['name']} tests nothing"
        assert set(row) <= KEYS, f"{row['name']} has unknown keys: {sorted(set(row) - KEYS)}"
        assert "{" not in row["name"], f"{row['name']} names an axis that it does not have"


def load(files: pathlib.Path = FILES) -> list[Row]:
    """Returns every boot, a file after the other."""
    rows = []
    for path in sorted(files.glob("*.toml")):
        try:
            file = tomllib.loads(path.read_text())
            rows += [resolve(one, file) for row in file["boot"] for one in along_axes(row)]
        except (KeyError, tomllib.TOMLDecodeError) as error:
            raise SystemExit(f"armature: {path.name}: {error} is missing or is no TOML") from error
    check(rows)
    return rows

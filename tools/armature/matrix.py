# SPDX-License-Identifier: GPL-2.0
"""The machines of the tests: reads tools/test/matrix/*.toml.

A [[boot]] is one machine:

  name      the unique name of the boot
  for       its subject: `make test ONLY=pattern` selects by subject and by name
  kernel    a kernel of kernels.py (default armature; CONFIG=debug replaces armature by debug)
  machine   the [machine.NAME] of the same file, with cpu, smp and similar keys
  cpu, smp, memory, mte, mode (vhe, nvhe, protected, nested), cmdline, qemu; the
            defaults are max, 2 CPUs, 1G, false, vhe, and empty
  board     more properties of the board
  model     true: use the emulator of the machine model, even if the CPU has none of
            its properties (any such property selects it anyway)
  perf      true: the machine has Debian's perf
  l2        true: the machine has Debian's QEMU
  guest     commands, like tests, of a guest, which a VMM in the machine boots: /l2/Image is its
            kernel, and /l2/initrd runs the commands and reports on the guest's console. If the
            machine has Debian's perf, the guest has it, too
  guest_kernel  a kernel of kernels.py for that (default: this one)
  image     true: /Image is this kernel, for a test that boots it in place of the running one;
            if there is a guest, it is in the guest, and the guest's kernel; the tests after
            that one run in the new kernel, if its command line has CONTINUE=N, where N is the
            number of that test
  crash     true: a test makes this kernel panic, by sysrq
  apart     true: select only if ONLY is the subject or the name's first words, since the boot needs
            its own kernel
  same      a boot whose console and test output must be the same as those of this boot
  bootargs  false: pass no command line, so that CONFIG_CMDLINE applies
  lie       "CPU1 lacks REGISTER.FIELD", "CPU1 gets 0 from FUNCTION": hide a feature on that CPU
            once the tests run
  kunit     true: our KUnit suites run at boot and are counted
  tests     commands, one per line: "name: command"; {PLACE/FILE} is a file that is copied to the
            machine (PLACES), and is replaced by its path there
  skips     tests that may skip on this machine, as patterns of name and reason: any other
            skip is a failure
  log       regular expressions that the console must match
  nolog     regular expressions that the console must not match
  plugin    arguments for the opcode-counting plugin
  count     rules for the plugin's figures: "NAME == n", "NAME > n", "NAME <= n";
            NAME is a class, "el E CLASS", "range R CLASS" (R is named in plugin), or
            "mark CLASS" between a test's marks
  limit     seconds (default 120) on a fast host: the boot is stopped after three times this

To avoid repetition, [default] has keys for all boots of its file, [machine.NAME] has keys of a
machine or of a group of boots, and [lists] has lists that a boot can name (tests = "NAME"). A list
may include others, as "@NAME". Words after the name, quoted as in a shell, replace {1}, {2} in its
lines: with oracle = ["oracle-{1}: sh {oracle/{1}.bin} {2}"] in [lists], a boot tests
"@oracle 4-2 4/2".

One [[boot]] may define several boots. A list in place of a single value (mode = ["vhe", "nvhe"]) is
an axis: there is a boot for each value. [boot.each] has the names of boots, each with keys that
add to or replace those of the [[boot]]. {mode}, or the name of another key that can be an axis,
stands for its value in the texts of a boot: its name, the lists that it names, its own lines.
"""

import collections
import collections.abc
import dataclasses
import fnmatch
import pathlib
import re
import shlex
import tomllib
from typing import Any

from armature.place import BUILD, MOVING, SEEDS, TOP, asked, programs_asked
from armature.process import Failure

Row = dict[str, Any]

FILES = TOP / "tools/test/matrix"
SCALARS = ("cpu", "smp", "memory", "mode", "kernel", "machine", "cmdline")
LISTS = ("for", "board", "tests", "guest", "skips", "log", "nolog", "count")
# The factor for limits of the matrix: they are for machines that hang, and hosts differ that much
# in speed. The debug kernel takes longer still.
PATIENCE, PATIENCE_DEBUG = 3, 24
# The directories of files of tests; files of "kernel" are built with the kernel of the boot.
PLACES = {
    "kvm": BUILD / "selftests/kvm",
    "arm64": BUILD / "selftests/arm64",
    "oracle": BUILD / "oracle",
    "vmm": BUILD / "vmm",
    "baseline": BUILD / "baseline",
    "perf": BUILD / "perf",
    "l2": TOP / "tools/machine/l2",
    "module": BUILD / "module",
    "kernel": pathlib.Path(),
}
FILE = re.compile(r"(?<!\$)\{([\w.-]+)/([\w./-]+)\}")
# The placeholder of a word in a line of a list.
WORD = re.compile(r"\{(\d+)\}")
# The CPU properties of the machine model (tools/machine/README.md).
PROPERTIES = {"brps", "ctx-cmps", "wrps", "fgt", "fwb", "dic", "idc", "iminline", "tso"} | {
    f"spe{more}" for more in ("", "-version", "-lag", "-dl", "-f")
}


@dataclasses.dataclass(frozen=True)
class Machine:
    """A machine: QEMU's arm64 `virt` board with a kernel at EL2."""

    cpu: str = "max"
    smp: int = 2
    memory: str = "1G"
    mte: bool = False
    mode: str = "vhe"
    cmdline: str = ""
    qemu: str = ""
    board: tuple[str, ...] = ()
    model: bool = False
    bootargs: bool = True

    def properties(self) -> set[str]:
        """Returns the properties of the machine model that the CPU is given."""
        return {word.split("=")[0] for word in self.cpu.split(",")[1:]} & PROPERTIES

    def wants_model(self) -> bool:
        """Returns whether the machine needs the emulator of the machine model."""
        return self.model or bool(self.properties())

    def with_spe(self) -> bool:
        """Returns whether a CPU of the machine may have FEAT_SPE."""
        return "spe" in self.properties()


@dataclasses.dataclass(frozen=True)
class Boot:
    """A machine, its tests, and the expected results."""

    name: str
    purposes: tuple[str, ...]
    machine: Machine
    kernel: str = "armature"
    tests: tuple[tuple[str, str], ...] = ()
    guest: tuple[tuple[str, str], ...] = ()
    guest_kernel: str = ""
    skips: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    nolog: tuple[str, ...] = ()
    count: tuple[str, ...] = ()
    plugin: str | None = None
    lie: str | None = None
    same: str | None = None
    kunit: bool = False
    perf: bool = False
    l2: bool = False
    image: bool = False
    crash: bool = False
    apart: bool = False
    limit: float = 120

    def places(self) -> set[str]:
        """Returns the places that its tests name."""
        commands = [command for _, command in self.tests + self.guest]
        return {place for command in commands for place, _ in FILE.findall(command)}

    def needs(self) -> set[str]:
        """Returns the goals that must be built for the boot (build.py)."""
        needs = {f"kernel:{self.kernel}"}
        needs |= {f"files:{place}" for place in self.places()}
        needs |= {"model"} if self.machine.wants_model() else set()
        needs |= {"plugins"} if self.plugin is not None else set()
        needs |= {f"kernel:{self.guest_kernel}"} if self.guest_kernel else set()
        return needs | {word for word in ("perf", "l2") if getattr(self, word)}


def along_axes(row: Row) -> list[Row]:
    """Returns a row for each combination of values of the axes, in the order of the file."""
    for axis, values in row.items():
        if axis == "each":
            return [one for each in each_of(row) for one in along_axes(each)]
        if axis in SCALARS and isinstance(values, list):
            return [one for value in values for one in along_axes({**row, axis: value})]
    return [row]


def each_of(row: Row) -> list[Row]:
    """Returns the rows of a [boot.each], with the keys that they share."""
    shared = {key: value for key, value in row.items() if key != "each"}
    if slips := [name for name, keys in row["each"].items() if not isinstance(keys, dict)]:
        raise Failure(f"the matrix has a [boot.each] with '{slips[0]}', which is no table")
    return [{**shared, "name": name, **keys} for name, keys in row["each"].items()]


def filled(row: Row) -> Row:
    """Returns the row with each {KEY} that can be an axis replaced by its value."""

    def fill(old: Any) -> Any:
        if isinstance(old, list):
            return [fill(one) for one in old]
        for axis in SCALARS if isinstance(old, str) else ():
            old = old.replace(f"{{{axis}}}", str(row.get(axis, f"{{{axis}}}")))
        return old

    return {key: fill(old) for key, old in row.items()}


def spelt_out(lines: str | list[str], lists: dict[str, list[str]]) -> list[str]:
    """Returns the lines with the names of lists replaced by the lines of these lists."""
    if isinstance(lines, str):
        lines = [f"@{lines}"]
    return [
        one
        for line in lines
        for one in (spelt_out(lines_of(line[1:], lists), lists) if line[:1] == "@" else [line])
    ]


def lines_of(name: str, lists: dict[str, list[str]]) -> list[str]:
    """Returns the lines of a list, with the words after its name in place of {1}, {2}."""
    name, *words = shlex.split(name)
    used = {int(number) for line in lists[name] for number in WORD.findall(line)}
    if used != set(range(1, len(words) + 1)):
        raise Failure(f"the matrix has a list '{name}' that takes {len(used)} words: {words}")
    return [WORD.sub(lambda number: words[int(number[1]) - 1], line) for line in lists[name]]


def resolve(row: Row, file: Row) -> Row:
    """Returns the row with the names of its machine, axes and lists replaced by their contents."""
    machine = file.get("machine", {})[row["machine"]] if "machine" in row else {}
    whole = filled({**file.get("default", {}), **machine, **row})
    whole.pop("machine", None)
    for name in LISTS:
        if name in whole:
            whole[name] = spelt_out(whole[name], file.get("lists", {}))
    return whole


def test_of(line: str) -> tuple[str, str]:
    """Returns the name and the command of a line of `tests`."""
    name, colon, command = (part.strip() for part in line.partition(":"))
    if not colon or not command:
        raise Failure(f"the matrix has a test without a command: '{line}'")
    if unknown := [place for place, _ in FILE.findall(command) if place not in PLACES]:
        raise Failure(f"the matrix has a test with files of '{unknown[0]}': {', '.join(PLACES)}")
    return name, command


def boot_of(row: Row) -> Boot:
    """Returns the boot that a row describes. Raises Failure for a mistake in the row."""
    machines = {field.name for field in dataclasses.fields(Machine)}
    boots = {field.name for field in dataclasses.fields(Boot)} - {"machine", "purposes"} | {"for"}
    if unknown := sorted(set(row) - machines - boots):
        raise Failure(f"the boot {row['name']} has unknown keys: {', '.join(unknown)}")
    if "{" in row["name"]:
        raise Failure(f"the boot {row['name']} names an axis that it does not have")
    if row.get("perf") and row.get("l2"):
        raise Failure(f"the boot {row['name']} has perf and l2: both bring libraries")
    if not row.get("tests") and not row.get("kunit"):
        raise Failure(f"the boot {row['name']} tests nothing")
    given: Row = {
        key: tuple(value) if isinstance(value, list) else value for key, value in row.items()
    }
    for key in ("tests", "guest"):
        given[key] = tuple(test_of(line) for line in row.get(key, ()))
    purposes = given.pop("for")
    machine = Machine(**{key: given.pop(key) for key in sorted(machines & set(given))})
    return Boot(purposes=purposes, machine=machine, **given)


def in_force(boot: Boot) -> Boot:
    """Returns the boot with the limit and the kernel of this run."""
    debug = asked("CONFIG") == "debug"
    limit = boot.limit * (PATIENCE_DEBUG if debug else PATIENCE)
    if any("{oracle/" in command for _, command in boot.tests):
        seeds, moving = programs_asked()
        limit *= max(1, seeds / SEEDS, moving / (10 * MOVING))
    return dataclasses.replace(
        boot,
        limit=limit,
        kernel="debug" if debug and boot.kernel == "armature" else boot.kernel,
    )


def load(files: pathlib.Path = FILES) -> list[Boot]:
    """Returns the boots of all files, in order."""
    boots: list[Boot] = []
    for path in sorted(files.glob("*.toml")):
        try:
            file = tomllib.loads(path.read_text())
            boots += [
                boot_of(resolve(one, file)) for row in file["boot"] for one in along_axes(row)
            ]
        except (KeyError, ValueError) as error:
            raise Failure(f"{path.name}: {error} is missing or is no TOML") from error
    names = [boot.name for boot in boots]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Failure(f"the matrix has two boots of one name: {', '.join(twice)}")
    return [in_force(boot) for boot in boots]


def words(boots: collections.abc.Iterable[Boot]) -> list[str]:
    """Returns the subjects of all boots."""
    return sorted({word for boot in boots for word in boot.purposes})


def in_turn(boots: list[Boot]) -> list[Boot]:
    """Returns the boots with one of each subject after the other: if there is no time left for the
    last ones, every subject has had its turns."""
    turns: collections.Counter[str] = collections.Counter()
    places = []
    for boot in boots:
        places.append(turns[boot.purposes[0]])
        turns[boot.purposes[0]] += 1
    return [boot for _, boot in sorted(zip(places, boots), key=lambda pair: pair[0])]


def is_selected(boot: Boot, pattern: str) -> bool:
    """Returns whether a pattern is a subject of a boot, a shell pattern for its name, or some of
    the name's words in their order: its first words, if the boot needs its own kernel."""
    if pattern in boot.purposes or fnmatch.fnmatchcase(boot.name, pattern):
        return True
    name, words = f"-{boot.name}-", f"-{pattern}-"
    return name.startswith(words) if boot.apart else words in name


def select(boots: list[Boot], pattern: str) -> list[Boot]:
    """Returns the boots that ONLY=`pattern` selects: without a pattern all boots that need no
    kernel of their own, for "=NAME" that boot with the boot that it is compared with."""
    if not pattern:
        return [boot for boot in boots if not boot.apart]
    if pattern.startswith("="):
        chosen = [boot for boot in boots if boot.name == pattern[1:]]
        if not chosen:
            raise Failure(f"there is no boot '{pattern[1:]}' in tools/test/matrix")
        compared = {boot.same for boot in chosen}
        return [boot for boot in boots if boot.name in compared] + chosen
    return [boot for boot in boots if is_selected(boot, pattern)]

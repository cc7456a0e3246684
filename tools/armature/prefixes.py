# SPDX-License-Identifier: GPL-2.0
"""Builds every prefix of the series, without warnings in our Rust code: with the options that the
prefix has, without them, and without Rust. Builds the whole series also with each single option
off, without KVM, with C helpers inlined into Rust code, and with Rust's overflow checks, which
Debian enables. Prints TAP.
"""

import pathlib
import re
import shutil
import subprocess

from armature import kernels, process
from armature.kernels import OBJECTS, SOURCE, fragment, options
from armature.place import BUILD, JOBS, LOGS, TREE
from armature.process import Failure, inside, say

OURS = re.compile(
    r"^ +--> /armature/src/(arch/arm64|drivers/perf/arm_spe_unit|rust/kernel/(arm64|kvm)|"
    r"samples/rust/rust_arm64)",
    re.M,
)
NOKVM = "# CONFIG_KVM is not set\n"


def names() -> list[str]:
    """Returns the project's options, without CONFIG_."""
    return re.findall(r"^CONFIG_(\w+)=y$", options(), re.M)


def configuration(name: str) -> str:
    """Returns the configuration called `name`."""
    base, norust = fragment("base"), fragment("norust")
    if name.startswith("without-"):
        return f"{base}{options()}# CONFIG_{name.removeprefix('without-')} is not set\n"
    return {
        "on": base + fragment("options") + fragment("tests"),
        "off": base,
        "norust": base + norust,
        "inline-helpers": f"{base}{options()}CONFIG_RUST_INLINE_HELPERS=y\n",
        "overflow-checks": f"{base}{options()}CONFIG_RUST_OVERFLOW_CHECKS=y\n",
        "nokvm": base + options() + NOKVM,
        "nokvm-norust": f"{base}{norust}{NOKVM}CONFIG_ARM64_NOLSE_ATOMICS=y\n",
    }[name]


def expected(name: str, option: str) -> bool:
    """Returns whether an option must be on in the configuration called `name`."""
    if name in ("off", "norust") or name == f"without-{option}":
        return False
    if name == "nokvm-norust":
        return option == "ARM64_NOLSE_ATOMICS"
    return not (name == "nokvm" and option.startswith("KVM_"))


def git(*words: str) -> str:
    """Returns git's output for the tree."""
    return process.output(["git", "-C", str(TREE), *words])


def not_as_asked(name: str, config: str) -> list[str]:
    """Returns the options of this prefix that are not set as expected."""
    has = [
        option
        for option in names()
        if not subprocess.run(
            [
                "git",
                "-C",
                str(TREE),
                "grep",
                "-q",
                f"^config {option}$",
                "HEAD",
                "--",
                "arch/arm64/",
            ],
            check=False,
        ).returncode
    ]
    wrong = [
        option for option in has if (f"CONFIG_{option}=y\n" in config) != expected(name, option)
    ]
    extra = {
        "inline-helpers": "RUST_INLINE_HELPERS",
        "overflow-checks": "RUST_OVERFLOW_CHECKS",
    }.get(name)
    return wrong + ([extra] if extra and f"CONFIG_{extra}=y\n" not in config else [])


def make(objects: pathlib.Path, *words: str) -> list[str]:
    """Returns the command that runs the kernel's make for these objects."""
    fixed = f"make -s -C {SOURCE} O={OBJECTS} LLVM=1 ARCH=arm64 -j{JOBS}".split()
    return inside(*fixed, *words, binds={TREE: SOURCE, objects: OBJECTS})


def runs(command: list[str], log: pathlib.Path) -> bool:
    """Runs a command with its output in a log; returns whether it succeeds."""
    with process.started(command, log) as child:
        code = child.wait()
    if code < 0:
        raise process.Killed("interrupted")
    return code == 0


def build(name: str) -> str | None:
    """Builds the checked-out tree; returns the error, or None."""
    objects, log = BUILD / f"obj/prefix-{name}", LOGS / f"prefix-{name}.log"
    with process.resumed(objects):
        return compiled(name, objects, log)


def compiled(name: str, objects: pathlib.Path, log: pathlib.Path) -> str | None:
    """Configures and builds the checked-out tree; returns the error, or None."""
    (objects / "want.config").write_text(configuration(name))
    config = make(objects, f"KCONFIG_ALLCONFIG={OBJECTS}/want.config", "allnoconfig")
    if not runs(config, log):
        return "it has no configuration"
    if wrong := not_as_asked(name, (objects / ".config").read_text()):
        return f"{', '.join(wrong)} not as asked for"
    if not runs(make(objects, "vmlinux", "modules"), log):
        return "\n".join(process.last_lines(log, 5))
    warned = OURS.search(log.read_text(errors="replace"))
    return "a warning in Rust code of ours" if warned else None


class Report:
    """Prints TAP."""

    def __init__(self) -> None:
        """Starts an empty report."""
        self.count = self.failed = 0

    def add(self, what: str, wrong: str | None) -> None:
        """Prints one line, and the error, if any."""
        self.count += 1
        self.failed += wrong is not None
        print(f"{'not ok' if wrong else 'ok'} {self.count} - {what}", flush=True)
        for line in (wrong or "").splitlines():
            print(f"# {line}", flush=True)


def check(report: Report, configurations: list[str]) -> None:
    """Builds the checked-out tree in each configuration: first one alone, so that ccache has the
    shared objects for the others; then the others in parallel, since most of such a build waits
    for one crate or one link."""
    subject = git("log", "-1", "--format=%s")
    say("prefix", subject)
    first, *others = configurations
    report.add(f"{subject}, {first}", build(first))
    with process.pool(2) as pool:
        for name, wrong in zip(others, pool.map(build, others)):
            report.add(f"{subject}, {name}", wrong)


def main(words: list[str]) -> int:
    """Checks every prefix, or starts at the patch whose number is in `words`; returns 1 if a
    prefix does not build."""
    first = words[0] if words else "1"
    if not first.isdecimal() or first == "0":
        raise Failure(f"prefixes takes the number of a patch, from 1, not '{first}'")
    kernels.tree()
    report = Report()
    try:
        commits = git("rev-list", "--reverse", "base..series").split()
        for commit in commits[int(first) - 1 :]:
            git("checkout", "-q", "-f", "--detach", commit)
            check(report, ["on", "off", "norust"])
        for option in names():
            check(report, [f"without-{option}"])
        check(report, ["nokvm", "nokvm-norust", "inline-helpers", "overflow-checks"])
    finally:
        kernels.tree()
    for made in BUILD.glob("obj/prefix-*"):
        if made.name not in ("prefix-on", "prefix-off", "prefix-norust"):
            shutil.rmtree(made)
    print(f"1..{report.count}")
    return 1 if report.failed else 0

# SPDX-License-Identifier: GPL-2.0
"""Moves a Linux guest to another host, and back, in the middle of a `perf record` with FEAT_SPE.

On both hosts, one of two CPUs has FEAT_SPE. First, tools/vmm copies the guest's memory while it
profiles (precopy): if the unit wrote to a page and KVM did not report it, the page would have old
records, or none, on the other host. On the way back, the memory follows while the guest profiles
(postcopy): the pages of the window must arrive before the unit writes. A host whose VMM has no unit
for the guest refuses the guest, which continues on its own host. The guest's kernel is the base's.
"""

import collections.abc
import dataclasses
import re

from armature import build, ktap, machine, network, oracle, process
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD, TOP

STEP = "profile-move"
# A host's part, in the words of vmm-move.sh.
PARTS = ("first", "second")
HOST = Machine(cpu="max,spe=off:on,spe-version=3,spe-lag=64", memory="2G")
LIMIT = 900
MOVED = r"^# vmm: moved to .*: (\d+(?:, \d+)*) pages while it ran, (\d+) after"
FOLLOWED = r"^# vmm: (\d+) pages have followed"
ASKED = r"^# vmm: all memory is here; (\d+) pages were asked for"
RUNS_ON = "# vmm: the guest runs on here: "
REFUSED = "it has a profiling unit, and --spe has to name one"


def files() -> dict[str, machine.File]:
    """Returns the files of both hosts, by path."""
    scratch = process.scratch(STEP)
    perf: dict[str, machine.File] = {
        "/": build.foreign("perf"),
        "/tests.d/spe-move.sh": TOP / "tools/machine/perf/spe-move.sh",
        "/tests.d/workload": BUILD / "perf/workload",
        "/tests": "perf\tsh /tests.d/spe-move.sh /tests.d/workload\n",
    }
    machine.initramfs(scratch / "guest", perf)
    return {
        "/vmm": BUILD / "vmm/vmm",
        "/vmm-move.sh": TOP / "tools/machine/l2/vmm-move.sh",
        "/l2/Image": Kernel("vanilla").image(),
        "/l2/initrd": scratch / "guest",
    }


def number(pattern: str, text: str) -> int:
    """Returns the number that is found, or 0."""
    found = re.search(pattern, text, re.M)
    return int(found[1]) if found else 0


def judge(said: dict[str, list[str]]) -> collections.abc.Iterator[Result]:
    """Yields the results of what the hosts have printed."""
    first, second = ("\n".join(said[name]) for name in PARTS)
    refused = RUNS_ON in first and REFUSED in second
    yield fact(STEP, "a host without a unit refuses the guest, which runs on", refused, str(said))
    moved = re.search(MOVED, first, re.M)
    rounds = [int(word) for word in moved[1].split(", ")] if moved else []
    what = "memory is copied again while the guest runs"
    yield fact(STEP, what, len(rounds) > 1, str(rounds))
    followed, asked = number(FOLLOWED, second), number(ASKED, first)
    what = "memory follows the guest, which waits for some of it"
    yield fact(STEP, what, 0 < asked < followed, f"{asked} of {followed} pages")
    for name, line in (
        ("first", "console: guest: profiles"),
        ("second", "the guest profiles here, too"),
        ("first", "console: guest: has profiled"),
    ):
        yield fact(STEP, f"{name}: '{line}'", line in "\n".join(said[name]), str(said[name][-9:]))
    told = "\n".join(re.findall(r"^console: (.*)$", f"{first}\n{second}", re.M))
    complaint = machine.SPLAT.search(told)
    yield fact(STEP, "the guest's kernel does not complain", not complaint, str(complaint))
    tests = re.search(r"^KTAP version.*?^# end$", told, re.M | re.S)
    yield from ktap.results(STEP, tests[0] if tests else "", [])


def step() -> list[Result]:
    """Returns whether a guest profiles on while it moves."""
    build.all_of({"model", "perf", "files:perf", "files:vmm", "kernel:armature", "kernel:vanilla"})
    given = files()
    boots = {name: f"{STEP}-{name}" for name in PARTS}

    def run(name: str) -> list[str]:
        board = dataclasses.replace(HOST, qemu=network.links(PARTS, name))
        command = f"sh /vmm-move.sh {name} /vmm arm_spe_0"
        return oracle.in_machine(board, "armature", boots[name], command, given, LIMIT)

    return list(judge(network.together(boots, run)))

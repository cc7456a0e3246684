# SPDX-License-Identifier: GPL-2.0
"""Moves a Linux guest to another host in the middle of a `perf record` with FEAT_SPE.

On both hosts, one of two CPUs has FEAT_SPE. tools/vmm copies the guest's memory while it profiles:
a page that the unit has written, and KVM does not report, would have old records there, or none. A
host whose VMM has no unit for the guest refuses it, and it runs on where it is. The guest's kernel
is the base's.
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
PARTS = {"source": "send", "target": "receive"}
HOST = Machine(cpu="max,spe=off:on,spe-version=3,spe-lag=64", memory="2G")
LIMIT = 900
MOVED = r"^# vmm: moved to .*: (\d+(?:, \d+)*) pages while it ran, (\d+) after"
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


def judge(said: dict[str, list[str]]) -> collections.abc.Iterator[Result]:
    """Yields the results of what the hosts have printed."""
    text = {name: "\n".join(lines) for name, lines in said.items()}
    refused = RUNS_ON in text["source"] and REFUSED in text["target"]
    yield fact(STEP, "a host without a unit refuses the guest, which runs on", refused, str(said))
    moved = re.search(MOVED, text["source"], re.M)
    rounds = [int(word) for word in moved[1].split(", ")] if moved else []
    what = "memory is copied again while the guest runs"
    yield fact(STEP, what, len(rounds) > 1, str(rounds))
    for name, console in (("source", "guest: profiles"), ("target", "guest: has profiled")):
        there = f"console: {console}" in text[name]
        yield fact(STEP, f"{name}: '{console}'", there, text[name][-300:])
    told = "\n".join(re.findall(r"^console: (.*)$", f"{text['source']}\n{text['target']}", re.M))
    complaint = machine.SPLAT.search(told)
    yield fact(STEP, "the guest's kernel does not complain", not complaint, str(complaint))
    tests = re.search(r"^KTAP version.*?^# end$", told, re.M | re.S)
    yield from ktap.results(STEP, tests[0] if tests else "", [])


def step() -> list[Result]:
    """Returns whether a guest profiles on while it moves."""
    build.all_of({"model", "perf", "files:perf", "files:vmm", "kernel:armature", "kernel:vanilla"})
    given = files()
    names = tuple(PARTS)
    boots = {name: f"{STEP}-{name}" for name in names}

    def run(name: str) -> list[str]:
        board = dataclasses.replace(HOST, qemu=network.links(names, name))
        command = f"sh /vmm-move.sh {PARTS[name]} /vmm arm_spe_0"
        return oracle.in_machine(board, "armature", boots[name], command, given, LIMIT)

    return list(judge(network.together(boots, run)))

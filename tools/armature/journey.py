# SPDX-License-Identifier: GPL-2.0
"""Moves a running guest around unlike machines, with a VMM that knows nothing of baselines.

The machines of fleet.py run at the same time, with a network between them. Debian's QEMU, with -cpu
host, moves a Linux guest from each to the next and back to the first, by its own live migration. On
each machine, the guest checks its CPU, fires all breakpoints and watchpoints, which it has armed at
boot, measures its clock, and reboots. Before that, machines refuse the VM in three cases: without a
baseline, with one that does not identify the CPU, and with one that does not lower the level of a
firmware workaround.
"""

import collections.abc
import dataclasses
import pathlib
import re

from armature import build, fleet, machine, network, oracle, process, sysreg
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.place import BUILD, TOP
from armature.process import Failure

SOURCE = TOP / "tools/machine/fleet"
LIMIT = 5400
NAMES = tuple(fleet.HOSTS)
NUMBER = {name: number for number, name in enumerate(NAMES, 1)}
# KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1, _2 and _3.
WORKAROUNDS = {n: f"0x603000000014000{n}" for n in (1, 2, 3)}
# How Debian's QEMU says that KVM refuses a register.
REFUSED = "error while loading state for instance 0x0 of device 'cpu'"
IDENTITY = ("midr_el1", "revidr_el1", "aidr_el1")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A baseline with which one machine refuses the VMs of another."""

    name: str
    source: str
    target: str
    text: str
    # What the tool says of one of the two, as a regular expression.
    named: str


def without(text: str, *keys: str) -> str:
    """Returns the text of a baseline without some of its words."""
    return ",".join(word for word in text.split(",") if word.split("=")[0] not in keys)


def level(seen: list[str], n: int) -> int:
    """Returns the level of a firmware workaround in what a VMM like QEMU sees."""
    words = (line.split() for line in seen)
    return next(int(word[2], 16) for word in words if word[:2] == ["qemu", WORKAROUNDS[n]])


def refusals(text: str, seen: dict[str, list[str]]) -> list[Refusal]:
    """Returns the refusals to show, for a fleet with the baseline `text`; `seen` has the registers
    of each machine without a baseline. Raises Failure if the machines are too much alike."""
    first, second = NAMES[:2]
    unknown = without(text, *IDENTITY)
    found = [
        Refusal("no baseline", first, second, "", r"\S+ is "),
        Refusal("a baseline without MIDR_EL1", first, second, unknown, "MIDR_EL1 is .*, not "),
    ]
    for n in WORKAROUNDS:
        for source in NAMES:
            for target in NAMES:
                if level(seen[source], n) > level(seen[target], n):
                    what = f"a baseline without the level of SMCCC_ARCH_WORKAROUND_{n}"
                    less = without(text, f"smccc_wa{n}")
                    return [
                        *found,
                        Refusal(what, source, target, less, rf"smccc_wa{n}\..* is .*, not "),
                    ]
    raise Failure("all machines have the same firmware workarounds")


def part(name: str, shown: list[Refusal]) -> str:
    """Returns what a machine does, in the words of host.sh."""
    first, number = NAMES[0], NUMBER[name]
    lines = [". /fleet/host.sh", f"network {number} || fail 'no network'"]
    for n, one in enumerate(shown):
        port = f"$((PORT + {n + 1})) '{one.name}'"
        if name in (one.source, one.target):
            lines.append(f"baseline /fleet/less-{n}")
            offer = f"offer {NUMBER[one.target]} {port}"
            lines.append(offer if name == one.source else f"refuse {port}")
    lines.append("baseline /fleet/text")
    following = NAMES[number % len(NAMES)]
    move = f"send {NUMBER[following]} {following}"
    if name == first:
        lines += ["start", "hear booted", "checks start", f"clock start; {move}"]
        lines += [f"receive {first}", "stop"]
    else:
        lines += [f"receive {name}", move]
    return "; ".join([*lines, "console"])


def files(text: str, shown: list[Refusal], work: pathlib.Path) -> dict[str, machine.File]:
    """Returns the files of every machine, by path."""
    own: dict[str, machine.File] = {
        "/show": "stty -echo\nexec /tests.d/guest\n",
        "/tests.d/guest": BUILD / "fleet/guest",
    }
    machine.initramfs(work / "guest", own)
    less: dict[str, machine.File] = {
        f"/fleet/less-{n}": f"{one.text}\n" for n, one in enumerate(shown)
    }
    return {
        "/": build.foreign("qemu"),
        "/fleet/host.sh": SOURCE / "host.sh",
        "/fleet/baseline": fleet.TOOL / "baseline",
        "/fleet/Image": Kernel("armature").image(),
        "/fleet/initrd": work / "guest",
        "/fleet/text": f"{text}\n",
        **less,
    }


def together(
    kernel: str, shown: list[Refusal], given: dict[str, machine.File]
) -> dict[str, list[str]]:
    """Runs all machines at the same time; returns what each has printed."""
    boots = {name: f"fleet-{name}" for name in NAMES}

    def run(name: str) -> list[str]:
        qemu = network.links(NAMES, name)
        board = dataclasses.replace(fleet.HOSTS[name], qemu=qemu, memory="2G")
        return oracle.in_machine(board, kernel, boots[name], part(name, shown), given, LIMIT)

    return network.together(boots, run)


def counts(text: str) -> tuple[int, int]:
    """Returns how many breakpoints and watchpoints VMs with a baseline have."""
    word = next(word for word in text.split(",") if word.startswith("id_aa64dfr0_el1="))
    value = int(word.partition("=")[2].partition("/")[0], 16)
    shifts = (sysreg.constants()[f"ID_AA64DFR0_EL1_{name}_SHIFT"] for name in ("BRPs", "WRPs"))
    breakpoints, watchpoints = ((value >> shift & 0xF) + 1 for shift in shifts)
    return breakpoints, watchpoints


def judge_refusals(
    shown: list[Refusal], said: dict[str, list[str]]
) -> collections.abc.Iterator[Result]:
    """Yields whether QEMU has refused VMs, and the tool has said why."""
    for one in shown:
        told = [line for line in said[one.source] + said[one.target] if line.startswith(one.name)]
        refused = any("QEMU: " in line and REFUSED in line for line in told)
        why = re.compile(f"by themselves: {one.named}")
        good = refused and any(map(why.search, told))
        yield fact("fleet", f"{one.source} to {one.target}: {one.name}: refused", good, str(told))


def judge(
    fired: str, shown: list[Refusal], said: dict[str, list[str]]
) -> collections.abc.Iterator[Result]:
    """Yields the results of what the machines have printed. The guest has to say `fired` when it
    tries its breakpoints."""
    yield from judge_refusals(shown, said)
    lines = [line for all_of in said.values() for line in all_of]
    places = ["start", *(f"{name}{more}" for name in NAMES for more in ("", ", rebooted"))]

    def answer(place: str, what: str) -> str:
        start = f"{place}: {what} "
        return next((line.removeprefix(start) for line in lines if line.startswith(start)), "")

    cpu = answer("start", "cpu")
    known = re.match(r"hwcap=0x[1-9a-f].* cpuinfo=.* midr_el1=0x[1-9a-f]", cpu)
    yield fact("fleet", "start: the guest knows its CPU", bool(known), cpu)
    for place in places:
        for what, right in (
            ("cpu", re.escape(cpu)),
            ("debug", re.escape(fired)),
            ("memory", r"[1-9]\d* rounds, 0 wrong"),
            # In per cent.
            ("clock", r"-?0\.\d+"),
        ):
            found = answer(place, what)
            good = bool(found) and bool(re.fullmatch(right, found))
            yield fact("fleet", f"{place}: {what}", good, f"{found}; not {right}")
    console = "\n".join(line for line in lines if line.startswith("console: "))
    complaint = machine.SPLAT.search(console)
    good = bool(console) and not complaint
    yield fact("fleet", "the guest's kernel does not complain", good, str(complaint))


@dataclasses.dataclass(frozen=True)
class Journey:
    """The first sentences of the report, the refusals that were tried, the breakpoints that the
    guest must report as fired, and the output of the machines."""

    says: str
    shown: list[Refusal]
    fired: str
    said: dict[str, list[str]]

    def results(self) -> list[Result]:
        """Returns the results."""
        return list(judge(self.fired, self.shown, self.said))


def go(kernel: str) -> Journey:
    """Lets the guest go around."""
    fleet_ = fleet.found(kernel)
    text = fleet_.texts["fleet"].read_text().strip()
    shown = refusals(text, fleet_.seen)
    said = together(kernel, shown, files(text, shown, process.scratch("journey")))
    (fleet.REPORT / "journey.txt").write_text(
        "".join(f"{name}: {line}\n" for name, all_of in said.items() for line in all_of)
    )
    fired = "{0} of {0} breakpoints, {1} of {1} watchpoints".format(*counts(text))
    return Journey(fleet_.says, shown, fired, said)


def ready() -> str:
    """Builds what is needed, and returns the kernel."""
    kernel = build.module_kernel()
    build.all_of({"model", "l2", "files:baseline", "files:fleet", "kernel:armature"})
    build.all_of({f"kernel:{kernel}"})
    return kernel


def step() -> list[Result]:
    """Returns the results: that VMs are the same on all machines, and move between them."""
    kernel = ready()
    return [*fleet.results(kernel), *go(kernel).results()]


def summary(journey: Journey) -> collections.abc.Iterator[str]:
    """Yields what has happened, in a few lines."""

    def told(start: str, *names: str) -> str:
        """Returns the rest of the first line that starts so."""
        lines = (line for name in names for line in journey.said[name])
        return next(
            (line.removeprefix(start) for line in lines if line.startswith(start)), "nothing"
        )

    yield journey.says
    for one in journey.shown:
        why = told(f"{one.name}: baseline: VMs of this host ", one.target, one.source)
        what = f"{one.source} to {one.target} with {one.name}: refused"
        yield f"{what}; VMs {why.rpartition(': is ')[0]}"
    yield f"{NAMES[0]}: a guest runs: {told('start: debug ', NAMES[0])} fire"
    for name in NAMES:
        there = NAMES[NUMBER[name] % len(NAMES)]
        again = told(f"{there}, rebooted: debug ", there)
        faster = told(f"{there}: clock ", there)
        yield (
            f"{name}: moved {told('moved ', name)}; after a reboot there: {again} fire; its clock "
            f"is {faster} % faster"
        )
    yield "The report is build/report/fleet/index.html (.png); what was said: journey.txt beside it"


def main() -> int:
    """Shows the journey; returns 1 if a result is a failure."""
    (BUILD / "report/boots").mkdir(parents=True, exist_ok=True)
    journey = go(ready())
    print("\n".join(summary(journey)))
    wrong = [one for one in [fleet.picture(), *journey.results()] if one.status != "pass"]
    for one in wrong:
        print(f"NOT so: {one.name} ({one.detail})")
    return 1 if wrong else 0

# SPDX-License-Identifier: GPL-2.0
"""Gives VMs of unlike machines the same CPU: each machine is asked what it can give, the tool finds
what all have, and every kernel is given that.

The machines have other CPUs, of which two are those of public clouds. All that a VMM sees of a vCPU
(tools/baseline/test/registers.c) must then be equal, for vCPUs as several VMMs make them.
"""

import base64
import dataclasses
import functools
import gzip
import pathlib

from armature import oracle, process
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD, JOBS
from armature.process import Failure, inside

# The clock of the first two is that of their models. They have 6 breakpoints, 2 of them
# context-aware.
HOSTS = {
    "v1": Machine(cpu="neoverse-v1"),
    "n2": Machine(cpu="neoverse-n2"),
    "max": Machine(cpu="max,cntfrq=62500000,brps=16,ctx-cmps=4"),
}
TOOL = BUILD / "baseline"
REPORT = BUILD / "report/fleet"
PARAMETER = "/sys/module/kvm/parameters/baseline"
LIMIT = 300


def on_host(name: str, kernel: str, what: str, command: str, *files: pathlib.Path) -> list[str]:
    """Runs a command on a machine of the fleet, and returns the lines that it prints. The files are
    in its root directory, beside the tools."""
    tools = {f"/{tool}": TOOL / tool for tool in ("baseline", "registers")}
    given = {f"/{file.name}": file for file in files}
    return oracle.in_machine(
        HOSTS[name], kernel, f"fleet-{name}-{what}", command, {**tools, **given}, LIMIT
    )


# Prints the files given to it, each as one line.
PACK = "pack() { for f in $@; do gzip -c /tmp/$f | base64 -w 0; echo; done; }; "


def unpacked(lines: list[str]) -> list[bytes]:
    """Returns the files that PACK has printed."""
    return [gzip.decompress(base64.b64decode(line)) for line in lines]


def probe(name: str, kernel: str, work: pathlib.Path) -> tuple[pathlib.Path, list[str]]:
    """Asks the KVM of a machine what it can give to VMs; returns the file, and what VMMs see of
    vCPUs."""
    run = f"{PACK} /baseline probe --name {name} -o /tmp/p && /registers > /tmp/r && pack p r"
    said, seen = unpacked(on_host(name, kernel, "probe", run))
    file = work / f"{name}.json"
    file.write_bytes(said)
    return file, seen.decode().splitlines()


def merge(files: list[pathlib.Path], form: str, out: pathlib.Path) -> None:
    """Finds the CPU that machines have in common. Raises Failure if there is none."""
    words: list[str | pathlib.Path] = [
        "merge",
        *files,
        "--format",
        form,
        "--accept-errata",
        "-o",
        out,
    ]
    process.output(inside(TOOL / "baseline-host", *words))


def same(name: str, kernel: str, text: pathlib.Path) -> list[str]:
    """Returns what VMMs see of vCPUs on a machine with the baseline."""
    run = f"{PACK} cat /{text.name} > {PARAMETER} && /registers > /tmp/r && pack r"
    return unpacked(on_host(name, kernel, "same", run, text))[0].decode().splitlines()


def differences(all_of: dict[str, list[str]]) -> str:
    """Returns the first lines in which machines differ, or nothing."""
    names = list(all_of)
    found = []
    for name in names[1:]:
        odd = set(all_of[names[0]]) ^ set(all_of[name])
        found += [f"{names[0]}, {name}: {line}" for line in sorted(odd)[:3]]
    return "; ".join(found)


def given(kernel: str, text: pathlib.Path) -> tuple[dict[str, list[str]], list[Result]]:
    """Gives all machines the baseline; returns what VMMs then see of vCPUs, and whether each has
    taken it."""
    seen, results = {}, []
    with process.pool(JOBS) as pool:
        jobs = {name: pool.submit(same, name, kernel, text) for name in HOSTS}
        for name, job in jobs.items():
            try:
                seen[name] = job.result()
            except Failure as failure:
                results.append(fact("fleet", f"{name} takes the baseline", False, str(failure)))
            else:
                results.append(fact("fleet", f"{name} takes the baseline", True))
    return seen, results


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What the machines have in common, as the text for the kernel; and without it, what VMMs see
    of vCPUs on each."""

    text: pathlib.Path
    seen: dict[str, list[str]]


@functools.cache
def found(kernel: str) -> Fleet:
    """Asks all machines, and merges the answers; the report is build/report/fleet/index.html."""
    work = process.scratch("fleet")
    REPORT.mkdir(parents=True, exist_ok=True)
    process.say("fleet", f"asking {', '.join(host.cpu for host in HOSTS.values())}")
    with process.pool(JOBS) as pool:
        answers = dict(zip(HOSTS, pool.map(lambda name: probe(name, kernel, work), HOSTS)))
    files = [file for file, _ in answers.values()]
    merge(files, "html", REPORT / "index.html")
    merge(files, "kernel", REPORT / "text")
    return Fleet(REPORT / "text", {name: seen for name, (_, seen) in answers.items()})


def results(kernel: str) -> list[Result]:
    """Returns whether VMs of all machines are the same with the baseline."""
    fleet = found(kernel)
    plain = differences(fleet.seen)
    seen, taken = given(kernel, fleet.text)
    odd = differences(seen)
    kinds = sorted({line.split()[0] for lines in seen.values() for line in lines})
    return [
        fact("fleet", "without a baseline, VMs differ", bool(plain)),
        *taken,
        *(
            fact(
                "fleet",
                f"{kind}: the same registers on all machines",
                f" {kind} " not in odd and len(seen) == len(HOSTS),
                odd,
            )
            for kind in kinds
        ),
    ]

# SPDX-License-Identifier: GPL-2.0
"""Gives VMs of machines that differ the same CPU: the tool asks each machine what it can give, and
finds the common CPU, which every kernel then gets as its baseline.

Each machine has a different CPU; three are those of public clouds. All that a VMM sees of a
vCPU (tools/baseline/test/registers.c) must then be equal, for vCPUs as several VMMs make them.
"""

import base64
import dataclasses
import functools
import gzip
import pathlib
import struct
import zlib

from armature import oracle, process
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD, JOBS, LOGS
from armature.process import Failure, inside

# The clock of the first three is that of their models. They have 6 breakpoints, 2 of them
# context-aware.
HOSTS = {
    "v1": Machine(cpu="neoverse-v1"),
    "n2": Machine(cpu="neoverse-n2"),
    "n1": Machine(cpu="neoverse-n1"),
    "max": Machine(cpu="max,cntfrq=62500000,brps=16,ctx-cmps=4"),
}
# Sets of hosts; each gets one baseline. Neoverse N1 has neither SVE nor PAuth, so VMs of a set with
# N1 have neither.
FLEETS = {"fleet": tuple(HOSTS), "fleet-sve": ("v1", "n2", "max")}
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


def same(name: str, kernel: str, texts: list[pathlib.Path]) -> list[list[str]]:
    """Returns what VMMs see of vCPUs on a machine with each of these baselines."""
    run = PACK + " && ".join(
        f"cat /{text.name} > {PARAMETER} && /registers > /tmp/r && pack r" for text in texts
    )
    seen = unpacked(on_host(name, kernel, "same", run, *texts))
    return [one.decode().splitlines() for one in seen]


def differences(all_of: dict[str, list[str]]) -> str:
    """Returns the first lines in which machines differ, or nothing."""
    names = list(all_of)
    found = []
    for name in names[1:]:
        odd = set(all_of[names[0]]) ^ set(all_of[name])
        found += [f"{names[0]}, {name}: {line}" for line in sorted(odd)[:3]]
    return "; ".join(found)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The baselines, as texts for the kernel, by the name of the fleet; the registers that VMMs see
    without a baseline, by machine; and the first sentences of the report."""

    texts: dict[str, pathlib.Path]
    seen: dict[str, list[str]]
    says: str


def given(kernel: str, fleet: Fleet) -> tuple[dict[str, dict[str, list[str]]], list[Result]]:
    """Gives machines the baselines of their fleets. Returns what VMMs then see of vCPUs, by fleet
    and machine, and whether each machine has taken its baselines."""
    seen: dict[str, dict[str, list[str]]] = {what: {} for what in FLEETS}
    results = []
    with process.pool(JOBS) as pool:
        own = {name: [what for what in FLEETS if name in FLEETS[what]] for name in HOSTS}
        jobs = {
            name: pool.submit(same, name, kernel, [fleet.texts[what] for what in own[name]])
            for name in HOSTS
        }
        for name, job in jobs.items():
            try:
                for what, lines in zip(own[name], job.result(), strict=True):
                    seen[what][name] = lines
            except Failure as failure:
                results.append(fact("fleet", f"{name} takes the baseline", False, str(failure)))
            else:
                results.append(fact("fleet", f"{name} takes the baseline", True))
    return seen, results


# The build root is a sandbox already.
BROWSER = (
    *("timeout", "120", "chromium-headless-shell", "--no-sandbox", "--disable-gpu"),
    *("--hide-scrollbars", "--window-size=1280,5600"),
)


def is_written_on(png: bytes) -> bool:
    """Returns whether a picture shows more than a blank page: at least a tenth of its rows have
    pixels of several kinds."""
    at, data = 8, b""
    width, height, depth, kind = struct.unpack_from(">IIBB", png, 16)
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    # A row begins with the number of its filter. Types 2 and 6 have 3 and 4 samples a pixel.
    samples = {2: 3, 6: 4}.get(kind, 1)
    rows, length = zlib.decompress(data), 1 + width * samples * depth // 8
    written = sum(len(set(rows[i + 1 : i + length])) > 8 for i in range(0, len(rows), length))
    return bool(written * 10 >= height)


def picture() -> Result:
    """Takes a picture of the report, as a browser shows it; returns whether the report is there."""
    out = REPORT / "index.png"
    out.unlink(missing_ok=True)
    command = inside(*BROWSER, f"--screenshot={out}", (REPORT / "index.html").as_uri())
    with process.started(command, LOGS / "browser.log") as browser:
        good = browser.wait() == 0 and out.exists() and is_written_on(out.read_bytes())
    return fact("fleet", "a browser shows the report", good, "see build/log/browser.log")


@functools.cache
def found(kernel: str) -> Fleet:
    """Asks all machines, and merges the answers; the report is build/report/fleet/index.html, and
    the same in Markdown is beside it."""
    work = process.scratch("fleet")
    REPORT.mkdir(parents=True, exist_ok=True)
    process.say("fleet", f"asking {', '.join(host.cpu for host in HOSTS.values())}")
    with process.pool(JOBS) as pool:
        answers = dict(zip(HOSTS, pool.map(lambda name: probe(name, kernel, work), HOSTS)))
    texts = {what: REPORT / f"{what}.txt" for what in FLEETS}
    for what, text in texts.items():
        merge([answers[name][0] for name in FLEETS[what]], "kernel", text)
    files = [file for file, _ in answers.values()]
    merge(files, "html", REPORT / "index.html")
    merge(files, "markdown", REPORT / "report.md")
    # What follows the title.
    says = (REPORT / "report.md").read_text().splitlines()[2]
    return Fleet(texts, {name: seen for name, (_, seen) in answers.items()}, says)


def of_kind(kind: str, seen: dict[str, list[str]]) -> dict[str, list[str]]:
    """Returns the registers of one kind of vCPU."""
    return {
        name: [line for line in lines if line.startswith(f"{kind} ")]
        for name, lines in seen.items()
    }


def results(kernel: str) -> list[Result]:
    """Returns whether VMs of all machines are the same with the baseline."""
    fleet = found(kernel)
    seen, all_of = given(kernel, fleet)
    plain = differences(fleet.seen)
    all_of.append(fact("fleet", "without a baseline, VMs differ", bool(plain)))
    kinds = sorted({line.split()[0] for lines in fleet.seen.values() for line in lines})
    for what, names in FLEETS.items():
        for kind in kinds:
            of_it = of_kind(kind, seen[what])
            odd = differences(of_it)
            good = not odd and tuple(of_it) == names and all(of_it.values())
            name = f"{what}: {kind}: the same registers on all machines"
            all_of.append(fact("fleet", name, good, odd))
    return [*all_of, picture()]

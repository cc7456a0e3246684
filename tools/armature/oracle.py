# SPDX-License-Identifier: GPL-2.0
"""Runs debug programs on machines that have the VM's counts of breakpoints, and in VMs.

Writes B-C.bin and B-C.trace to build/oracle, for the boots that run the same programs in VMs.
6-2-el1 has only types of breakpoints that need no EL2; programs of B-C.moving are saved and
restored half-way; programs of spe are for a profiling unit.
SEEDS= is the number of programs per topology (default 1000), MOVING= the number of those that move
(default 20).
"""

import collections.abc
import pathlib
import shutil

from armature import build, machine, process, programs
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD, programs_asked
from armature.process import Failure, inside
from armature.programs import Program

OUT = BUILD / "oracle"
PROGRAMS_AT, PAYLOAD_AT = 0x44000000, 0x40200000
LIMIT = 600
# (breakpoints, context-aware ones, types of EL1 only)
TOPOLOGIES = (
    (2, 1, False),
    (2, 2, False),
    (4, 2, False),
    (5, 1, False),
    (6, 1, False),
    (6, 2, False),
    (6, 2, True),
)


def of_topology(brps: int, ctx_cmps: int) -> str:
    """Returns the CPU of a machine with this topology."""
    return f"max,brps={brps},ctx-cmps={ctx_cmps}"


# A CPU whose profiling unit is that of the machines of tools/test/matrix/spe.toml.
WITH_UNIT = "max,spe=on,spe-version=3"


def native(cpu: str, file: pathlib.Path) -> str:
    """Returns the trace of the programs on a machine with this CPU."""
    line = f"""-M virt,gic-version=3 -cpu {cpu} -m 128M
        -nodefaults -display none -monitor none -serial stdio
        -device loader,file={OUT / "payload"},addr={PAYLOAD_AT:#x},cpu-num=0
        -device loader,file={file},addr={PROGRAMS_AT:#x},force-raw=on"""
    said = process.output(inside("timeout", str(LIMIT), build.model(), *line.split()))
    return said.replace("\r", "")


def topology(brps: int, ctx_cmps: int, el1: bool) -> Result:
    """Creates programs for a topology and their traces, with enough hits for a meaningful
    comparison."""
    name = f"{brps}-{ctx_cmps}{'-el1' if el1 else ''}"
    seeds, moving = programs_asked()
    made = []
    for seed in range(1, max(seeds, moving) + 1):
        ops = programs.of_seed(seed, brps, ctx_cmps)
        made.append((seed, programs.without_el2(ops) if el1 else ops))
    programs.write(OUT / f"{name}.bin", made[:seeds], False)
    saved = [(seed, programs.with_checkpoint(ops)) for seed, ops in made[:moving]]
    programs.write(OUT / f"{name}.moving", saved, False)
    return traced(name, of_topology(brps, ctx_cmps), seeds, 10)


def profiling() -> Result:
    """Creates programs for a profiling unit and their traces."""
    seeds, _ = programs_asked()
    made = [(seed, programs.SpeWriter(seed).whole()) for seed in range(1, seeds + 1)]
    programs.write(OUT / "spe.bin", made, False)
    return traced("spe", WITH_UNIT, seeds, 1)


def traced(name: str, cpu: str, seeds: int, each: int) -> Result:
    """Runs programs on a machine, and returns whether they have at least `each` hits on average."""
    trace = native(cpu, OUT / f"{name}.bin")
    (OUT / f"{name}.trace").write_text(f"{trace}\n")
    hits = [int(line.split()[1]) for line in trace.splitlines()]
    quiet = hits.count(0)
    good = len(hits) == seeds and sum(hits) > seeds * each and quiet * 4 < seeds
    what = f"{seeds} programs on {name}: {sum(hits)} hits, {quiet} programs without any"
    return fact("oracle", what, good, f"{len(hits)} traces")


def step() -> list[Result]:
    """Creates the programs and traces of all topologies, and returns the results."""
    build.all_of({"model", "files:oracle"})
    return [*(topology(*one) for one in TOPOLOGIES), profiling()]


def vm_files(file: pathlib.Path) -> dict[str, machine.File]:
    """Returns the files that a machine needs to run programs in a VM."""
    return {"/vmm": BUILD / "vmm/vmm", "/payload": OUT / "payload", "/programs": file}


# The VMM's arguments for a VM that runs programs.
LOAD = f"--load {PAYLOAD_AT:#x}:/payload --load {PROGRAMS_AT:#x}:/programs --start {PAYLOAD_AT:#x}"


def in_machine(
    cpu: Machine,
    kernel: str,
    name: str,
    command: str,
    files: collections.abc.Mapping[str, machine.File],
    limit: float,
) -> list[str]:
    """Runs a command on a machine and returns the lines that it prints; consoles are in
    build/report/boots/NAME. Raises Failure if the command fails, or the kernel complains."""
    where = BUILD / "report/boots" / name
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    initrd, console, tap = where / "initrd", where / "console.log", where / "tap.log"
    machine.initramfs(initrd, {**files, "/tests": f"command\t{command}\n"})
    line = machine.command(cpu, Kernel(kernel).image(), initrd, console, "-serial", f"file:{tap}")
    code = machine.run(line, limit, where / "qemu.log")
    initrd.unlink()
    if complaint := machine.SPLAT.search(machine.said(console)):
        raise Failure(f"the kernel of the host with {cpu.cpu} says: {complaint.group(0)}")
    return what_it_said(cpu, code, machine.said(tap))


def what_it_said(cpu: Machine, code: int | None, tap: str) -> list[str]:
    """Returns the lines of the only command of a machine that has ended with `code`. Raises
    Failure if either has failed."""
    lines = [line[2:] for line in tap.splitlines() if line.startswith("# ")]
    if code is None:
        raise Failure(f"the host with {cpu.cpu} is not done in time")
    if code or "\nnot ok" in tap or lines[:1] + lines[-1:] != ["running command", "end"]:
        raise Failure(f"the host with {cpu.cpu} ended with {code}: {' / '.join(lines[-3:])}")
    return lines[1:-1]


def in_vm(cpu: Machine, given: str, file: pathlib.Path) -> str:
    """Returns the trace of the programs in a VM on a machine. `given` is the VM's topology, B/C, or
    "-" for the host's; or the profiling unit that the VM gets."""
    option = "--spe" if given.startswith("arm_spe") else "--breakpoints"
    command = f"/vmm {LOAD}{'' if given == '-' else f' {option} {given}'}"
    return "\n".join(in_machine(cpu, "armature", "in-vm", command, vm_files(file), LIMIT))


Side = collections.abc.Callable[[pathlib.Path], str]


def traces(
    made: list[tuple[int, Program]], sides: list[Side], verbose: bool = False
) -> list[list[str]]:
    """Returns the traces of the programs on each side, one line per program."""
    file = process.scratch("minimise") / "programs"
    programs.write(file, made, verbose)
    return [side(file).splitlines() for side in sides]


def minimise(ops: Program, sides: list[Side]) -> Program:
    """Returns the shortest part of a program for which the two sides still differ."""
    size = max(1, len(ops))
    while size:
        candidates = (
            [ops]
            if size == len(ops)
            else [ops[:i] + ops[i + size :] for i in range(0, len(ops), size)]
        )
        first, second = traces(list(enumerate(candidates)), sides)
        differ = [one for one, a, b in zip(candidates, first, second) if a != b]
        if size == len(ops) and not differ:
            raise Failure("both sides agree on this program")
        if not differ or size == len(ops):
            size //= 2
        else:
            ops = differ[0]
    return ops


def main(words: list[str]) -> int:
    """Minimises a program: "minimise B/C SEED CPU [GIVEN [MODE]]" prints the shortest part whose
    trace in a VM with B/C on a machine with CPU differs from that on a machine with B/C. GIVEN is
    the VM's topology if not B/C; "-" is the host's. For B/C arm_spe_0 the program is one for a
    profiling unit, which the VM has."""
    if words[:1] != ["minimise"] or not 4 <= len(words) <= 6:
        raise Failure("usage: oracle minimise B/C|arm_spe_0 SEED CPU [GIVEN [MODE]]")
    counts, seed, cpu, given, mode = [*words[1:], *[words[1], "vhe"][len(words) - 4 :]]
    build.all_of({"model", "files:oracle", "files:vmm", "kernel:armature"})
    board = Machine(cpu=cpu, mode=mode)
    if counts.startswith("arm_spe"):
        bare, whole = WITH_UNIT, programs.SpeWriter(int(seed, 16)).whole()
    else:
        brps, ctx_cmps = map(int, counts.split("/"))
        bare, whole = of_topology(brps, ctx_cmps), programs.of_seed(int(seed, 16), brps, ctx_cmps)
    sides: list[Side] = [lambda file: native(bare, file), lambda file: in_vm(board, given, file)]
    ops = minimise(whole, sides)
    print(f"seed {seed} on {counts}: {len(ops)} operations are enough")
    for op in ops:
        print(f"  {programs.describe(op)}")
    for name, trace in zip(("native", "VM"), traces([(int(seed, 16), ops)], sides, verbose=True)):
        print(f"  {name:6}: {' '.join(trace)}")
    return 0

# SPDX-License-Identifier: GPL-2.0
"""Moves a VM with armed, linked breakpoints from host to host.

The hosts are machines with 16 and with 6 breakpoints, which identify themselves as other CPUs. The
guest gets the CPU that the tool finds for both, but only 4 breakpoints, 2 of them context-aware. It
runs a debug program of the oracle, whose trace shows which breakpoints hit.
Each host runs the guest up to a checkpoint and saves it; the next host continues from there. In
the end the trace must be that of a machine with 4 breakpoints.
"""

import base64
import gzip
import pathlib

from armature import build, machine, oracle, process, programs
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD
from armature.process import Failure, inside
from armature.programs import (
    BCR,
    BVR,
    CHECKPOINT,
    CONTEXTIDR,
    CONTEXTS,
    MDSCR,
    READ,
    RUN,
    WCR,
    WRITE,
    WVR,
    Program,
)
from armature.sysreg import field

# The second has the MIDR_EL1 of QEMU's "max" with another revision.
HOSTS = ["max,brps=16,ctx-cmps=4", "max,brps=6,ctx-cmps=2,midr=0x000f0511"] * 2
LIMIT = {"debug": 2400}
BRPS, CTX_CMPS = 4, 2
# The VMM's exit status after it has saved the VM at a checkpoint.
SAVED = 3


def breakpoint_(n: int, value: int, **fields: int | str) -> Program:
    """Returns the operations that arm breakpoint `n`, at EL1 and EL0."""
    control = field("DBGBCRn_EL1", BAS=programs.ALL_OF_WORD, PMC=3, E=1, **fields)
    return [(WRITE, n * 4 + BCR, control), (WRITE, n * 4 + BVR, value)]


def watchpoint(n: int, value: int, lbn: int) -> Program:
    """Returns the operations that arm watchpoint `n` for loads and stores, linked to breakpoint
    `lbn`."""
    control = field("DBGWCRn_EL1", WT=1, LBN=lbn, BAS=programs.ALL_OF_DOUBLEWORD, LSC=3, PAC=3, E=1)
    return [(WRITE, n * 4 + WCR, control), (WRITE, n * 4 + WVR, value)]


def program(checkpoints: bool) -> Program:
    """Returns a program with two linked pairs and a linked watchpoint, which runs in three
    contexts, also after each move."""
    ops = [
        (MDSCR, 0, programs.enabled()),
        *breakpoint_(2, CONTEXTS[0], BT="LINKED_CONTEXT"),
        *breakpoint_(3, CONTEXTS[1], BT="LINKED_CONTEXT"),
        *breakpoint_(0, 0, BT="LINKED_ADDRESS", LBN=2),
        *breakpoint_(1, 1, BT="LINKED_ADDRESS", LBN=3),
        *watchpoint(0, 4, 3),
    ]
    for host in range(len(HOSTS)):
        for context in CONTEXTS:
            ops += [(CONTEXTIDR, 0, context), (RUN, host % 2, 0)]
        ops += [(READ, n, 0) for n in range(BRPS * 4) if n % 4 < 2]
        if checkpoints and host < len(HOSTS) - 1:
            ops.append((CHECKPOINT, 0, 0))
    return ops


def on_host(
    number: int, kernel: str, options: str, files: dict[str, machine.File]
) -> tuple[str, bytes | None]:
    """Runs the VMM on a host; returns the guest's output, and the VM that was saved."""
    run = (
        f"/vmm {options} > /tmp/guest; rc=$?; cat /tmp/guest; "
        f"test $rc = {SAVED} && {{ echo STATE; gzip -c /tmp/state | base64; }}; "
        f"test $rc = 0 -o $rc = {SAVED}"
    )
    lines = oracle.in_machine(
        Machine(cpu=HOSTS[number]),
        kernel,
        f"migrate-{number + 1}",
        run,
        {**files, "/vmm": BUILD / "vmm/vmm"},
        LIMIT.get(kernel, 300),
    )
    if "STATE" not in lines:
        return "\n".join(lines), None
    at = lines.index("STATE")
    return "\n".join(lines[:at]), gzip.decompress(base64.b64decode("".join(lines[at + 1 :])))


def ask(number: int, kernel: str, work: pathlib.Path) -> pathlib.Path:
    """Asks a host what it can give to VMs; returns the file."""
    run = f"/baseline probe --name host-{number + 1} -o /tmp/p && gzip -c /tmp/p | base64"
    tool = {"/baseline": BUILD / "baseline/baseline"}
    lines = oracle.in_machine(
        Machine(cpu=HOSTS[number]),
        kernel,
        f"migrate-ask-{number + 1}",
        run,
        tool,
        LIMIT.get(kernel, 300),
    )
    file = work / f"host-{number + 1}.json"
    file.write_bytes(gzip.decompress(base64.b64decode("".join(lines))))
    return file


def common(kernel: str, work: pathlib.Path) -> pathlib.Path:
    """Returns the file with the CPU that both hosts can give to the guest."""
    with process.pool(2) as pool:
        hosts = list(pool.map(lambda number: ask(number, kernel, work), range(2)))
    out = work / "cpu"
    words: list[str | pathlib.Path] = ["merge", *hosts]
    words += ["--format", "vmm", "--accept-errata", "-o", out]
    process.output(inside(BUILD / "baseline/baseline-host", *words))
    return out


def around(kernel: str, work: pathlib.Path) -> tuple[str, int]:
    """Moves the VM from host to host; returns the guest's output, and the number of hosts."""
    programs.write(work / "programs", [(1, program(True))], True)
    options = f"{oracle.LOAD} --baseline /cpu --breakpoints {BRPS}/{CTX_CMPS} --save /tmp/state"
    files = {**oracle.vm_files(work / "programs"), "/cpu": common(kernel, work)}
    for number, cpu in enumerate(HOSTS):
        said, state = on_host(number, kernel, options, files)
        if state is None:
            print(f"host {number + 1}, {cpu}: the guest has ended", flush=True)
            return said, number + 1
        print(
            f"host {number + 1}, {cpu}: ran to a checkpoint, saved ({len(state)} bytes)", flush=True
        )
        (work / "state").write_bytes(state)
        options, files = "--restore /state --save /tmp/state", {"/state": work / "state"}
    return said, 0


def migrate(kernel: str) -> Result:
    """Returns whether breakpoints fired on every host as on a machine with the VM's counts."""
    work = process.scratch("migrate")
    programs.write(work / "native", [(1, program(False))], True)
    want = oracle.native(oracle.of_topology(BRPS, CTX_CMPS), work / "native")
    print(
        f"guest: {BRPS} breakpoints, of which 2 and 3 are context-aware; 0 is linked to 2, 1 and a "
        "watchpoint to 3",
        flush=True,
    )
    try:
        said, hosts = around(kernel, work)
    except Failure as failure:
        return fact("migrate", "the VM goes from host to host", False, str(failure))
    print(f"guest: {said}\na machine with {BRPS}: {want}")
    fired = all(what in said.split() for what in ("b0:0", "b1:0", "w4:0"))
    good = said == want and hosts == len(HOSTS) and fired
    what = f"breakpoints fired on every host as on a machine with {BRPS}"
    return fact("migrate", what, good, f"{hosts} hosts: {said}")


def step() -> list[Result]:
    """Returns the results, on the kernel of the tests."""
    kernel = build.module_kernel()
    build.all_of({"model", "files:oracle", "files:vmm", "baseline", f"kernel:{kernel}"})
    return [migrate(kernel)]


def main() -> int:
    """Shows the migration; returns 1 if the trace differs from that of one machine."""
    build.all_of({"model", "files:oracle", "files:vmm", "baseline", "kernel:armature"})
    process.say("migrate", "booting four hosts, one after the other")
    (BUILD / "report/boots").mkdir(parents=True, exist_ok=True)
    result = migrate("armature")
    print(
        f"{'the same' if result.status == 'pass' else 'NOT the same'}: {result.name}"
        f"{'' if result.status == 'pass' else f' ({result.detail})'}"
    )
    return 0 if result.status == "pass" else 1

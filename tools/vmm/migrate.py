#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A VM with armed, linked breakpoints goes from host to host.

The hosts are machines with 16 and with 6 breakpoints. The guest has 4, of which 2 are
context-aware, and runs a debug program of the oracle, whose trace tells what its
breakpoints did. Each host runs it up to a checkpoint and saves it; the next one goes on
from there. In the end the trace is that of a machine with 4 breakpoints.

    migrate.py [KERNEL]    the kernel of the hosts: armature, or debug

Runs in the build root. Exit status 0 if the breakpoints went on firing everywhere, and no
host's console has a complaint of the kernel; consoles are in build/report/boots/migrate-N.
"""

import base64
import pathlib
import shutil
import subprocess
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = TOP / "build"
KERNEL = sys.argv[1] if len(sys.argv) > 1 else "armature"
sys.path[:0] = [str(TOP / "tools/machine"), str(TOP / "tools/oracle")]
import machine as machines  # noqa: E402
import oracle  # noqa: E402

HOSTS = ["max,brps=16,ctx-cmps=4", "max,brps=6,ctx-cmps=2", "max,brps=16,ctx-cmps=4",
         "max,brps=6,ctx-cmps=2"]
BRPS, CTX_CMPS = 4, 2
LINKED, LINKED_CONTEXT = 1 << 20, 3 << 20
ARMED = 0x1E7  # BAS, EL1 and EL0, enabled


def program(checkpoints):
    """Two linked pairs and a linked watchpoint, in three contexts, again after each move."""
    ops = [(oracle.MDSCR, 0, oracle.ON),
           (oracle.WRITE, 2 * 4 + oracle.BCR, LINKED_CONTEXT | ARMED), (oracle.WRITE, 2 * 4 + oracle.BVR, 0x11),
           (oracle.WRITE, 3 * 4 + oracle.BCR, LINKED_CONTEXT | ARMED), (oracle.WRITE, 3 * 4 + oracle.BVR, 0x22),
           (oracle.WRITE, 0 * 4 + oracle.BCR, LINKED | 2 << 16 | ARMED), (oracle.WRITE, 0 * 4 + oracle.BVR, 0),
           (oracle.WRITE, 1 * 4 + oracle.BCR, LINKED | 3 << 16 | ARMED), (oracle.WRITE, 1 * 4 + oracle.BVR, 1),
           (oracle.WRITE, 0 * 4 + oracle.WCR, 1 << 20 | 3 << 16 | 0x1FFF), (oracle.WRITE, 0 * 4 + oracle.WVR, 4)]
    for host in range(len(HOSTS)):
        for context in (0x11, 0x22, 0x33):
            ops += [(oracle.CONTEXTIDR, 0, context), (oracle.RUN, host % 2, 0)]
        ops += [(oracle.READ, n, 0) for n in range(BRPS * 4) if n % 4 < 2]
        if checkpoints and host < len(HOSTS) - 1:
            ops += [(oracle.CHECKPOINT, 0, 0)]
    return ops


def run_on(cpu, where, options, files):
    """Boot a host and run the VMM on it; what the guest printed, and the saved state.

    Its console and the rest of what it leaves are in `where`.
    """
    run = (f"/vmm {options} > /tmp/guest; rc=$?; cat /tmp/guest; "
           "test $rc = 3 && { echo STATE; gzip -c /tmp/state | base64; }; test $rc = 0 -o $rc = 3")
    kernel = pathlib.Path((BUILD / f"kernel-{KERNEL}").read_text().strip()) / "arch/arm64/boot/Image"
    machines.initramfs(where / "initrd", files | {"/tests": f"vmm\t{run}\n"})
    line = machines.command({"cpu": cpu}, kernel, where / "initrd", where / "console.log", where / "tap.log")
    ended = machines.run(line, 2400 if KERNEL == "debug" else 300, where / "qemu.log")
    (where / "initrd").unlink()
    # QEMU makes both as it starts: they are missing if it does not.
    console, text = ((where / log).read_text(errors="replace") if (where / log).exists() else ""
                     for log in ("console.log", "tap.log"))
    if complaint := machines.SPLAT.search(console):
        sys.exit(f"migrate.py: the kernel of the host with {cpu} says: {complaint.group(0)}")
    if ended != 0:
        sys.exit(f"migrate.py: the host with {cpu} " + ("is not done in time" if ended is None else "ended in an error"))
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    if "not ok" in text or "running vmm" not in lines or "end" not in lines:
        sys.exit(f"migrate.py: on {cpu}: " + " / ".join(lines))
    lines = lines[lines.index("running vmm") + 1:lines.index("end")]
    if "STATE" not in lines:
        return "\n".join(lines), None
    at = lines.index("STATE")
    return "\n".join(lines[:at]), base64.b64decode("".join(lines[at + 1:]))


def expected(where):
    """The trace of the same program on a machine that has no more breakpoints."""
    oracle.write(where / "native.bin", [(1, program(False))], True)
    qemu = (BUILD / "qemu-model").read_text().strip()
    return subprocess.run(
        [qemu, "-M", "virt,gic-version=3", "-cpu", f"max,brps={BRPS},ctx-cmps={CTX_CMPS}", "-m", "128M",
         "-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio",
         "-device", f"loader,file={BUILD}/oracle/payload,addr=0x40200000,cpu-num=0",
         "-device", f"loader,file={where}/native.bin,addr=0x44000000,force-raw=on"],
        check=True, capture_output=True, text=True, timeout=60).stdout.strip()


def main():
    """As above."""
    with tempfile.TemporaryDirectory() as work:
        where = pathlib.Path(work)
        want = expected(where)
        oracle.write(where / "programs", [(1, program(True))], True)
        (where / "state.gz").write_bytes(b"")
        print("guest: 4 breakpoints, of which 2 and 3 are context-aware; 0 is linked to 2, 1 and a watchpoint to 3")
        for number, cpu in enumerate(HOSTS):
            if number == 0:
                options = (f"--load 0x40200000:/payload --load 0x44000000:/programs --start 0x40200000 "
                           f"--breakpoints {BRPS}/{CTX_CMPS} --save /tmp/state")
                files = {"/payload": BUILD / "oracle/payload", "/programs": where / "programs"}
            else:
                options = "--restore /state --save /tmp/state"
                files = {"/state": where / "state"}
            host = BUILD / f"report/boots/migrate-{number + 1}"
            shutil.rmtree(host, ignore_errors=True)
            host.mkdir(parents=True)
            said, state = run_on(cpu, host, options, files | {"/vmm": BUILD / "oracle/vmm"})
            if state is None:
                print(f"host {number + 1}, {cpu}: the guest has ended")
                break
            print(f"host {number + 1}, {cpu}: ran to a checkpoint, saved ({len(state)} bytes compressed)")
            (where / "state.gz").write_bytes(state)
            subprocess.run(f"gzip -dc {where}/state.gz > {where}/state", shell=True, check=True)
        hits = said.split().count
        print(f"guest: {said}")
        print(f"a machine with 4: {want}")
        good = said == want and number == len(HOSTS) - 1 and hits("b0:0") and hits("b1:0") and hits("w4:0")
        print("the same: breakpoints fired on every host as on a machine with 4" if good else "NOT the same")
        sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

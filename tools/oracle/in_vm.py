#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""in_vm.py CPU B/C FILE [MODE]: what the programs in FILE do in a VM on a machine with CPU.

Prints what payload.rs prints. B/C is what the VM is given, or "-" for what the host has; MODE is of
the host's KVM.
Runs in the build root, after a boot of the debug_topology tests has built what it takes.
"""

import pathlib
import sys
import tempfile

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = TOP / "build"
sys.path.insert(0, str(TOP / "tools/machine"))
import machine as machines  # noqa: E402


def main():
    """As above."""
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    cpu, topology, programs = sys.argv[1:4]
    boot = {"cpu": cpu} | ({"mode": sys.argv[4]} if len(sys.argv) == 5 else {})
    given = "" if topology == "-" else f"--breakpoints {topology}"
    run = f"/vmm --load 0x40200000:/payload --load 0x44000000:/programs --start 0x40200000 {given}"
    kernel = pathlib.Path((BUILD / "kernel-armature").read_text().strip()) / "arch/arm64/boot/Image"
    with tempfile.TemporaryDirectory() as work:
        where = pathlib.Path(work)
        machines.initramfs(where / "initrd", {
            "/vmm": BUILD / "oracle/vmm", "/payload": BUILD / "oracle/payload",
            "/programs": pathlib.Path(programs), "/tests": f"trace\t{run}\n"})
        line = machines.command(boot, kernel, where / "initrd", where / "console", where / "tap")
        if machines.run(line, 300, where / "qemu.log") != 0:
            sys.exit("in_vm.py: the machine does not end")
        text = (where / "tap").read_text(errors="replace")
    lines = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    print("\n".join(line for line in lines if line not in ("running trace", "end")))
    if "not ok" in text:
        sys.exit(1)


if __name__ == "__main__":
    main()

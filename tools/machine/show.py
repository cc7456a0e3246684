#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Boots the machine and shows each capability in a few lines: what was asked, what the
machine has, what happened. With an argument of 1, ends in a shell on the last machine."""

import os
import re
import subprocess
import sys

import machine as machines

BUILD = machines.TOP / "build"
IMAGE = BUILD / "obj/armature/arch/arm64/boot/Image"
ICACHE = BUILD / "selftests/kvm/arm64/icache_bound"
HWCAP = BUILD / "selftests/arm64/nolse/nolse_hwcap"
TOPOLOGY = BUILD / "selftests/kvm/arm64/debug_topology"
MODEL = BUILD / "selftests/arm64/memory_model/memory_model"

STORM = """
/tests.d/icache_bound -v 4 -r 2 > /tmp/out 2>&1 || echo "not ok: exit $?"
sed -n 's/^# round/round/p; s/^ok [0-9]* //p; /^not ok/p' /tmp/out | grep -v SKIP
"""

ATOMICS = """
grep -m1 Features /proc/cpuinfo | grep -q atomics && echo 'user space sees: atomics' || echo 'user space sees: no atomics'
test -e /dev/kvm && echo 'KVM: runs guests' || echo 'KVM: does not run guests'
dmesg | grep -E 'ISAR0_EL1\\[23:20\\]|kvm \\[|kvm:' | grep -iE 'forced|nolse|atomics' | sed 's/^\\[[^]]*\\] *//'
"""


# The distribution's emulator matches a context only where an address is linked to it: the
# machine model (make test ONLY=debug_topology) has the rest.
BREAKPOINTS = """
/tests.d/debug_topology -y > /tmp/out 2>&1
sed -n '/4.2: context match/d; s/^ok [0-9]* \\(4.2: .*match.*\\|4.2: .*watchpoint.*\\|4.2: registers.*\\|4.2: a bad.*\\)/\\1/p; /^not ok [0-9]* 4.2/p' /tmp/out
"""

TSO = """
/tests.d/memory_model fixed > /tmp/out 2>&1 || echo "not ok: exit $?"
sed -n 's/^ok [0-9]* //p; /^not ok/p' /tmp/out | grep -v SKIP
"""

FOUND = """
dmesg | sed 's/^\\[[^]]*\\] *//' | grep -E 'hw-breakpoint|arm_spe|SANITY|PPI partition|Detected .*cache|kvm \\[1\\]: .*initialized'
"""


def show(title, asked, machine, script, must, files=None, plugin=None):
    """Boot, run the script, and print what it said under the heading; each of `must` is the
    beginning of a line of it."""
    print(f"\n{title}\n  asked:   {asked}\n  machine: {machine['cpu']}, {machine.get('smp', 2)} CPUs"
          f"{', kvm-arm.mode=' + machine['mode'] if 'mode' in machine else ''}", flush=True)
    work = BUILD / "show"
    work.mkdir(exist_ok=True)
    machines.initramfs(work / "initrd", {"/show": f"{script}\necho shown\n", **(files or {})})
    console, counts = work / "console.log", work / "counts.txt"
    for old in (console, counts):
        old.unlink(missing_ok=True)
    # Warnings too, to be seen by what looks for splats.
    machine = {**machine, "cmdline": f"loglevel=5 {machine.get('cmdline', '')}"}
    option = f"{BUILD}/plugins/libopcodes.so,out={counts},{plugin}" if plugin else None
    ended = machines.run(machines.command(machine, IMAGE, work / "initrd", console, None, option), 120, work / "qemu.log")
    if not console.exists():
        sys.exit((work / "qemu.log").read_text(errors="replace"))
    said = console.read_text(errors="replace").replace("\r", "")
    # The kernel's own lines have a time in front; the script shows those that matter.
    lines = [line for line in said.splitlines() if line.strip() and not line.startswith("[")]
    shown = "shown" in lines
    for line in [line for line in lines if line != "shown"][-10:]:
        print(f"  {line}")
    if counts.exists():
        figures = dict(re.findall(r"^(el \d atomics|mark|atomics|ic_ialluis) (\d+)$", counts.read_text(), re.M))
        print("  counted: " + ", ".join(f"{k} {v}" for k, v in sorted(figures.items())))
    wrong = [line for line in lines if line.startswith("not ok")]
    wrong += [f"no line '{start}...'" for start in must if not any(line.startswith(start) for line in lines)]
    if ended != 0 or not shown or machines.SPLAT.search(said) or wrong:
        sys.exit(f"  this is not as it should be{': ' + wrong[0] if wrong else ''}; "
                 "the machine's console is build/show/console.log")


def shell(machine):
    """A shell in the machine, on this terminal."""
    work = BUILD / "show"
    machines.initramfs(work / "initrd", {f"/tests.d/{test.name}": test for test in (ICACHE, HWCAP, TOPOLOGY, MODEL)})
    print("\nA shell in the machine; 'poweroff -f' or Ctrl-A X ends it.", flush=True)
    subprocess.run(machines.command({**machine, "cmdline": "quiet SHELL_ON_CONSOLE=1"}, IMAGE,
                                    work / "initrd", "stdio"), check=False)


def main():
    if os.environ.get("CPU"):
        own = {"cpu": os.environ["CPU"], "smp": int(os.environ.get("SMP", "2")), "memory": "2G"}
        show("A machine of your own", "what does the kernel find?", own, FOUND, ["hw-breakpoint"])
        if sys.argv[1:] == ["1"]:
            shell(own)
        return
    show("Bounded instruction-cache invalidation", "4 vCPUs fetch from 4 new 2 MiB blocks at once, twice",
         {"cpu": "neoverse-n1", "smp": 4, "memory": "2G"}, STORM, ["round 1", "round 2"],
         {"/tests.d/icache_bound": ICACHE}, "slow=ic_ialluis:100000")
    contain = "arm64.nolse_atomics kvm-arm.nolse_policy=contain"
    show("arm64.nolse_atomics", "no atomics, and guests that have no memory but Write-Back",
         {"cpu": "max", "cmdline": contain}, ATOMICS,
         ["user space sees: no atomics", "KVM: runs guests"], plugin="insns=on")
    show("The same, on CPUs without FEAT_S2FWB", "the same",
         {"cpu": "neoverse-n1", "cmdline": contain}, ATOMICS,
         ["user space sees: no atomics", "KVM: does not run guests"])
    show("A VM with fewer breakpoints than its CPU", "4 of 6 breakpoints, the context-aware ones its last two",
         {"cpu": "max"}, BREAKPOINTS, ["4/2: linked", "4/2: registers", "4/2: a bad link"],
         {"/tests.d/debug_topology": TOPOLOGY})
    show("Memory model of a thread", "prctl(PR_SET_MEM_MODEL) on a CPU that has total store order always",
         {"cpu": "a64fx"}, TSO, ["SET(TSO) succeeds"],
         {"/tests.d/memory_model": MODEL})
    if sys.argv[1:] == ["1"]:
        shell({"cpu": "max"})


if __name__ == "__main__":
    main()

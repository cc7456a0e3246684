# SPDX-License-Identifier: GPL-2.0
"""Boots machines and shows each capability in a few lines: the request, the machine, and the
result. On a terminal, ends in a shell on the last machine."""

import collections.abc
import dataclasses
import pathlib
import re
import subprocess
import sys

from armature import build, machine
from armature.kernels import Kernel
from armature.matrix import Machine
from armature.place import BUILD, asked, number
from armature.process import Failure, inside, say

WORK = BUILD / "show"
LIMIT = 300
PROGRAMS = {
    "icache_bound": "kvm",
    "nolse_hwcap": "arm64",
    "debug_topology": "kvm",
    "memory_model": "arm64",
    "vmm": "vmm",
}

STORM = """
/tests.d/icache_bound -v 4 -r 2 > /tmp/out 2>&1 || echo "not ok: exit $?"
sed -n 's/^# round/round/p; s/^ok [0-9]* //p; /^not ok/p' /tmp/out | grep -v SKIP
"""

ATOMICS = r"""
grep -m1 Features /proc/cpuinfo | grep -q atomics && echo 'user space sees: atomics' ||
    echo 'user space sees: no atomics'
test -e /dev/kvm && echo 'KVM: runs guests' || echo 'KVM: does not run guests'
dmesg | sed 's/^\[[^]]*\] *//' |
    grep -E 'ISAR0_EL1\[23:20\]|kvm \[|kvm:' | grep -iE 'forced|nolse|atomics'
"""

# The distribution's emulator matches a context only if an address is linked to it; the machine
# model (make test ONLY=debug_topology) tests unlinked matches.
BREAKPOINTS = r"""
/tests.d/debug_topology -y > /tmp/out 2>&1
sed -n -e '/4.2: context match/d' -e '/^not ok [0-9]* 4.2/p' \
    -e 's/^ok [0-9]* \(4.2: \(.*match\|.*watchpoint\|registers\|a bad\).*\)/\1/p' /tmp/out
"""

TSO = """
/tests.d/memory_model fixed > /tmp/out 2>&1 || echo "not ok: exit $?"
sed -n 's/^ok [0-9]* //p; /^not ok/p' /tmp/out | grep -v SKIP
"""

PROFILE = r"""
/tests.d/vmm --kernel /l2/Image --initrd /l2/initrd --memory 384 --spe arm_spe_0 --place 0 \
    --cmdline 'console=ttyS0 quiet panic=-1' > /tmp/out 2> /tmp/err || echo "not ok: exit $?"
sed 's/^vmm: //' /tmp/err
tr -d '\r' < /tmp/out | sed -n 's/^guest: //p'
"""
IN_GUEST = r"""
cd /tmp
export HOME=/tmp PATH=$PATH:/usr/bin
perf record -q -c 2048 -e arm_spe_0/jitter=1/u -- workload profile > /dev/null 2>&1
echo "guest: perf record: $(perf script --itrace=i1i -F ip 2> /dev/null | grep -c .) samples"
perf report --stdio -q --itrace=i1i -F overhead,symbol 2> /dev/null | grep hot_ |
    head -n 2 | sed 's/^ */guest: perf report: /'
perf mem record --ldlat 1 --all-user -c 2048 -o mem.data -- workload profile > /dev/null 2>&1
perf mem report -i mem.data --stdio 2> /dev/null | awk '
    /hot_loads/ { print "guest: perf mem report: " $1 " of what loads cost is in hot_loads"; exit }'
perf c2c record --ldlat 1 --all-user -c 2048 -o c2c.data -- workload profile > /dev/null 2>&1
perf c2c report -i c2c.data --stdio 2> /dev/null | awk '
    /Load Operations/ { print "guest: perf c2c report: " $NF " loads"; exit }'
"""

FOUND = r"""
dmesg | sed 's/^\[[^]]*\] *//' |
    grep -E 'hw-breakpoint|arm_spe|SANITY|PPI partition|Detected .*cache|kvm \[1\]: .*initialized'
"""


@dataclasses.dataclass(frozen=True)
class Scene:
    """A demonstration: its machine, script and program. For each of `must`, the script prints a
    line that starts with it."""

    title: str
    question: str
    machine: Machine
    script: str
    must: tuple[str, ...]
    program: str | None = None
    plugin: str | None = None
    # The script of a Linux guest with perf, which `script` boots.
    guest: str | None = None


CONTAIN = "arm64.nolse_atomics kvm-arm.nolse_policy=contain"
SCENES = (
    # Each full invalidation takes 100 ms, so that requests overlap, and each turn of a wait takes
    # 1 ms, so that the wait is long enough for sharing.
    Scene(
        "Bounded instruction-cache invalidation",
        "4 vCPUs fetch from 4 new 2 MiB blocks at once, twice",
        Machine("neoverse-n1", 4, "2G"),
        STORM,
        ("round 1", "round 2"),
        "icache_bound",
        "slow=ic_ialluis:100000,slow=yield:1000",
    ),
    Scene(
        "arm64.nolse_atomics",
        "no atomics, and guests that have no memory but Write-Back",
        Machine(cmdline=CONTAIN),
        ATOMICS,
        ("user space sees: no atomics", "KVM: runs guests"),
        plugin="insns=on",
    ),
    Scene(
        "The same, on CPUs without FEAT_S2FWB",
        "the same",
        Machine("neoverse-n1", cmdline=CONTAIN),
        ATOMICS,
        ("user space sees: no atomics", "KVM: does not run guests"),
    ),
    Scene(
        "A VM with fewer breakpoints than its CPU",
        "4 of 6 breakpoints, the context-aware ones its last two",
        Machine(),
        BREAKPOINTS,
        ("4/2: linked", "4/2: registers", "4/2: a bad link"),
        "debug_topology",
    ),
    Scene(
        "Memory model of a thread",
        "prctl(PR_SET_MEM_MODEL) on a CPU that has total store order always",
        Machine("a64fx"),
        TSO,
        ("SET(TSO) succeeds",),
        "memory_model",
    ),
    Scene(
        "Profiling in a guest, where only some CPUs can",
        "perf in a Linux guest whose VMM starts on CPU 0; CPU 1 has FEAT_SPE, CPU 0 has not",
        Machine("max,spe=off:on", memory="2G"),
        PROFILE,
        (
            "vCPU 0: CPU 0 does not have arm_spe_0: moved",
            *("perf record: ", "perf report: ", "perf mem report: ", "perf c2c report: "),
        ),
        "vmm",
        guest=IN_GUEST,
    ),
)


def file_of(program: str) -> pathlib.Path:
    """Returns the path of a selftest."""
    directory = {
        "kvm": "selftests/kvm/arm64",
        "arm64": f"selftests/arm64/{program.split('_hwcap')[0]}",
        "vmm": "vmm",
    }[PROGRAMS[program]]
    return BUILD / directory / program


def heading(scene: Scene) -> None:
    """Prints the title, the request and the machine."""
    own = scene.machine
    mode = "" if own.mode == "vhe" else f", kvm-arm.mode={own.mode}"
    print(
        f"\n{scene.title}\n  asked:   {scene.question}\n  machine: {own.cpu}, {own.smp} CPUs{mode}",
        flush=True,
    )


def counted(counts: pathlib.Path) -> None:
    """Prints the plugin's counts, if it was loaded."""
    figures = re.findall(
        r"^(el \d atomics|mark|atomics|ic_ialluis) (\d+)$", machine.said(counts), re.M
    )
    if figures:
        print("  counted: " + ", ".join(f"{name} {figure}" for name, figure in sorted(figures)))


def files_of_guest(script: str) -> dict[str, machine.File]:
    """Returns the kernel and the initramfs of a guest that runs a script, by path in the machine
    that boots it."""
    own: dict[str, machine.File] = {
        "/show": script,
        "/": build.foreign("perf"),
        "/tests.d/workload": BUILD / "perf/workload",
    }
    machine.initramfs(WORK / "l2", own)
    return {"/l2/initrd": WORK / "l2", "/l2/Image": Kernel("armature").image()}


def play(scene: Scene) -> tuple[list[str], int | None]:
    """Boots the machine and runs the script; returns its output, and QEMU's exit status.
    Warnings go to the console too, which is searched for splats."""
    console, counts = WORK / "console.log", WORK / "counts.txt"
    for old in (console, counts):
        old.unlink(missing_ok=True)
    files: dict[str, machine.File] = {"/show": f"{scene.script}\necho shown\n"}
    if scene.program:
        files[f"/tests.d/{scene.program}"] = file_of(scene.program)
    if scene.guest:
        files |= files_of_guest(scene.guest)
    machine.initramfs(WORK / "initrd", files)
    board = dataclasses.replace(scene.machine, cmdline=f"loglevel=5 {scene.machine.cmdline}")
    more = (
        ["-plugin", f"{BUILD}/plugins/libopcodes.so,out={counts},{scene.plugin}"]
        if scene.plugin
        else []
    )
    image = Kernel("armature").image()
    line = machine.command(board, image, WORK / "initrd", console, *more)
    code = machine.run(line, LIMIT, WORK / "qemu.log")
    # Kernel messages start with a time; the script prints the relevant ones itself.
    said = [
        line
        for line in machine.said(console).splitlines()
        if line.strip() and not line.startswith("[")
    ]
    return said, code


def show(scene: Scene) -> None:
    """Shows one scene. Raises Failure if its output is not as expected."""
    heading(scene)
    said, code = play(scene)
    for line in [line for line in said if line != "shown"][-10:]:
        print(f"  {line}")
    counted(WORK / "counts.txt")
    wrong = [line for line in said if line.startswith("not ok")]
    wrong += [
        f"no line '{start}...'"
        for start in scene.must
        if not any(line.startswith(start) for line in said)
    ]
    if splat := machine.SPLAT.search(machine.said(WORK / "console.log")):
        wrong.append(splat.group(0))
    if code != 0 or "shown" not in said or wrong:
        raise Failure(
            f"the output is not as expected{': ' + wrong[0] if wrong else ''}; "
            "the machine's console is build/show/console.log"
        )


def shell(own: Machine) -> None:
    """Runs a shell in the machine, on this terminal."""
    machine.initramfs(WORK / "initrd", {f"/tests.d/{name}": file_of(name) for name in PROGRAMS})
    print("\nA shell in the machine; 'poweroff -f' or Ctrl-A X ends it.", flush=True)
    board = dataclasses.replace(own, cmdline="quiet SHELL_ON_CONSOLE=1")
    line = machine.command(board, Kernel("armature").image(), WORK / "initrd", None)
    subprocess.run(inside(*line), close_fds=False, check=False)


def scenes() -> collections.abc.Sequence[Scene]:
    """Returns the scenes: every capability, or the kernel's findings on CPU= with SMP= CPUs."""
    if not asked("CPU"):
        return SCENES
    own = Machine(asked("CPU"), number("SMP", 2), "2G")
    return [
        Scene("A machine of your own", "what does the kernel find?", own, FOUND, ("hw-breakpoint",))
    ]


def main() -> int:
    """Builds the missing programs, and shows the scenes."""
    build.all_of(
        {
            "kernel:armature",
            "plugins",
            "files:kvm",
            "files:arm64",
            "model",
            *([] if asked("CPU") else ["files:vmm", "files:perf", "perf"]),
        }
    )
    WORK.mkdir(exist_ok=True)
    say(
        "run",
        (
            f"booting: -cpu {asked('CPU')}"
            if asked("CPU")
            else "booting: a CPU without CTR_EL0.DIC, then one with everything"
        ),
    )
    for scene in scenes():
        show(scene)
    if sys.stdin.isatty() and sys.stdout.isatty():
        shell(scenes()[-1].machine if asked("CPU") else Machine())
    say("run", "done")
    return 0

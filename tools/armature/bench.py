# SPDX-License-Identifier: GPL-2.0
"""Counts the instructions that the base kernel and ours execute, on one emulated CPU.

These options make two runs of one kernel identical, instruction for instruction:
  -icount shift=0,sleep=off   each instruction takes 1 ns; idle time is skipped
  -smp 1                      events have one order
  cntfrq=1000000000           the counter ticks once per instruction, on every model
  -seed, dtb-randomness=off   FEAT_RNG and the seeds in the device tree are fixed
  -rtc ...,clock=vm           the date does not come from the host
  nokaslr, norandmaps         addresses are fixed
The command line is padded to a fixed length, which decides the alignment of the device tree's
strings: this changes the boot figure by 0.13 %. With kunit.enable=0 the figure does not depend on
the number of built-in tests.
"""

import collections.abc
import functools
import json
import os
import pathlib
import re
import shutil

from armature import build, compare, counts, machine, process
from armature.compare import Rules
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.matrix import Machine
from armature.place import BUILD, TOP, asked
from armature.process import Failure, inside, say

LIMIT = 900
# Unpacked in the background, /init may be busy when it is to run.
CMDLINE = "console=ttyAMA0 quiet nokaslr norandmaps kunit.enable=0 initramfs_async=0"
# The cost of these functions depends on where the linker has put the strings.
STRINGS = ("strcmp", "strncmp", "strlen", "strnlen", "strchr", "strrchr", "memchr", "memcmp")
TSO = "max,tso=on,midr=0x610f0ff0"


@functools.cache
def program() -> pathlib.Path:
    """Writes an initramfs with the benchmark as its /init, and returns its path. The bytes are
    always the same; they are written once, since machines that run at the same time read them."""
    stage, out = process.scratch("bench-init"), BUILD / "bench/init.cpio"
    build.built("bench", inside(TOP / "tools/bench/build", stage / "init"))
    for made in (stage / "init", stage):
        os.utime(made, (0, 0))
    out.parent.mkdir(exist_ok=True)
    machine.pack(stage, out)
    shutil.rmtree(stage)
    return out


def qemu(cpu: str, image: pathlib.Path, cmdline: str, *more: str) -> list[str]:
    """Returns the command line of QEMU for a reproducible run."""
    fixed = f"""-M virt,virtualization=on,gic-version=3,dtb-randomness=off
        -cpu {cpu},cntfrq=1000000000 -smp 1 -m 1G -icount shift=0,sleep=off -seed 1
        -rtc base=2000-01-01,clock=vm -nodefaults -serial stdio -display none -monitor none
        -no-reboot -kernel {image}"""
    own = machine.emulator(Machine(cpu=cpu))
    return [own, *fixed.split(), "-append", f"{cmdline:256}", *more]


def measure(image: pathlib.Path, out: pathlib.Path, cpu: str, mode: str, strings: bool) -> None:
    """Runs the benchmark, after program(), on one kernel and writes its lines to `out`; with
    `strings`, boots once more for the row boot_but_strings. The console is OUT.log."""
    out.unlink(missing_ok=True)
    cmdline = CMDLINE + ("" if mode == "vhe" else f" kvm-arm.mode={mode}")
    console = pathlib.Path(f"{out}.log")
    code = machine.run(qemu(cpu, image, cmdline, "-initrd", str(program())), LIMIT, console)
    said = machine.said(console)
    if code or "\nbench-end\n" not in said:
        raise Failure(
            f"{image} has not come to the end of the benchmark (status {code}); "
            f"the console is {console.relative_to(TOP)}"
        )
    lines = re.findall(r"^(?:bench|info) .*$", said, re.M)
    if strings:
        lines.append(boot_but_strings(image, out, cpu, cmdline))
    out.write_text("\n".join(lines) + "\n")


def string_ranges(image: pathlib.Path) -> str:
    """Returns the address ranges of these functions for the plugin: "NAME:FIRST-LAST;..."."""
    system_map = image.parents[3] / "System.map"
    symbols = sorted(line.split() for line in system_map.read_text().splitlines())
    ranges: dict[str, str] = {}
    for number, (address, _, name) in enumerate(symbols):
        if name in STRINGS and name not in ranges:
            end = next(other for other, _, _ in symbols[number:] if other != address)
            ranges[name] = f"{name}:{address}-{int(end, 16) - 1:x}"
    return ";".join(ranges.values())


def boot_but_strings(image: pathlib.Path, out: pathlib.Path, cpu: str, cmdline: str) -> str:
    """Boots without a program to run, and returns a line with the executed instructions, except
    those of the string functions."""
    figures, console = pathlib.Path(f"{out}.opcodes"), pathlib.Path(f"{out}.boot.log")
    plugin = f"{BUILD / 'plugins/libopcodes.so'},out={figures},ranges={string_ranges(image)}"
    machine.run(
        qemu(cpu, image, f"{cmdline} rdinit=/none panic=-1", "-plugin", plugin), LIMIT, console
    )
    if "Kernel panic - not syncing: No working init found" not in machine.said(console):
        raise Failure(
            f"{image} does not boot to its end; the console is {console.relative_to(TOP)}"
        )
    count = counts.read(machine.said(figures))
    strings = [count[f"range {name} insns"] for name in STRINGS if f"range {name} insns" in count]
    if not strings:
        raise Failure(f"{figures} has no figures of string functions")
    return f"bench boot_but_strings {count['insns'] - sum(strings)} 1"


def both(ours: str, name: str, cpu: str, mode: str, strings: bool = False) -> None:
    """Measures the base kernel and ours at the same time, into NAME.vanilla and NAME.ours."""
    out = program().parent
    with process.pool(2) as pool:
        for job in [
            pool.submit(measure, Kernel(kernel).image(), out / f"{name}.{side}", cpu, mode, strings)
            for side, kernel in (("vanilla", "vanilla"), ("ours", ours))
        ]:
            job.result()


def judge(name: str, rules: Rules) -> compare.Outcome:
    """Compares the figures that were measured as `name`."""
    out = BUILD / "bench"
    return compare.compare(
        compare.load(out / f"{name}.vanilla"), compare.load(out / f"{name}.ours"), rules
    )


# The allowed cost of a write that traps because breakpoints are mapped, relative to a hypercall.
WRITES = ("debug_write_mapped", "debug_write_idle_mapped")
WRITE_BOUNDS = (
    ("debug_write_mapped", 110, "hypercall_debug_mapped"),
    ("debug_write_idle_mapped", 110, "hypercall"),
)
SWITCHES = ("switch_process_pipe", "switch_thread_yield", "switch_thread_tso")


# What a VM pays for capabilities that it does not use. SPE has three patched-out branches for an
# entry and an exit, and two for a vCPU that is loaded; the others have up to seven instructions
# more where a vCPU is loaded and put, and three where debug registers are switched.
PATCHED_OUT = (("hypercall", 3), ("hypercall_debug", 5), ("exit_to_user", 12))

# KVM makes a file in debugfs for each counter of a VM and of its vCPU, of which ours have 13, and
# two files show the topology and the unit. The ID registers are set as the baseline requires.
CREATION = (("vm_create", 25000), ("vcpu_init", 2500))


def facts(mode: str) -> collections.abc.Iterator[tuple[str, Rules]]:
    """Yields the groups of rows for each "must hold", and the rules for them."""
    yield (
        f"{mode}: a VM left alone: patched-out branches",
        Rules(
            only=("hypercall", "exit_to_user", "hypercall_debug"),
            at_most=PATCHED_OUT,
        ),
    )
    yield (
        f"{mode}: a VM is created, and its ID registers are set",
        Rules(only=tuple(name for name, _ in CREATION), at_most=CREATION),
    )
    mapped = ("hypercall_debug_mapped", "exit_to_user_debug_mapped")
    yield (
        f"{mode}: a VM whose breakpoints are mapped and in use costs less than before to switch",
        Rules(only=mapped, below=mapped),
    )
    yield (
        f"{mode}: a write that traps because breakpoints are mapped costs at most 1.1 hypercalls",
        Rules(only=WRITES, cost=WRITES, bounds=WRITE_BOUNDS),
    )
    if mode == "vhe":
        # Each has two switches, and each switch has one patched-out branch more.
        yield (
            "vhe: a context switch without the feature",
            Rules(only=SWITCHES[:2], at_most=tuple((name, 2) for name in SWITCHES[:2])),
        )


def step() -> list[Result]:
    """Returns the results for these facts, on the kernel of the tests: the tests are off and do not
    change these figures, so no separate kernel is needed."""
    build.all_of({"kernel:vanilla", "kernel:armature", "model"})
    results = []
    for mode in ("vhe", "nvhe"):
        both("armature", f"counts-{mode}", "max", mode)
        for what, rules in facts(mode):
            outcome = judge(f"counts-{mode}", rules)
            print(compare.table(outcome))
            results.append(fact("counts", what, outcome.good, "see build/report/steps/counts.txt"))
    results += spe_step()
    both("armature", "counts-tso", TSO, "vhe")
    print("with the feature:")
    print(compare.table(judge("counts-tso", Rules(only=SWITCHES, cost=SWITCHES))))
    return results


# The instructions that fill a window, 2048 records, at perf's default period where a unit's
# smallest interval is 1024, as that of Neoverse N1 is.
FILLED = 2048 * 1024
# A VM with a profiling unit, relative to a VM without: the buffer is off, and enabled. Without
# fine-grained traps the unit changes hands in any case.
SPE = ("hypercall_gic", "hypercall_spe", "hypercall_spe_enabled")
SPE_BOUNDS = {
    "max,spe=on": (
        ("hypercall_spe", 10, "hypercall_gic"),
        ("hypercall_spe_enabled", 400, "hypercall_spe"),
    ),
    "max,spe=on,fgt=off": (("hypercall_spe_enabled", 400, "hypercall_gic"),),
}


def spe_step() -> list[Result]:
    """Returns the results for the profiling unit of a VM."""
    results = []
    for cpu, more in SPE_BOUNDS.items():
        for mode in ("vhe", "nvhe"):
            out = BUILD / f"bench/counts-{cpu.replace(',', '+')}-{mode}.ours"
            measure(Kernel("armature").image(), out, cpu, mode, strings=False)
            ours = compare.load(out)
            outcome = compare.compare(ours, ours, Rules(only=SPE, more=more))
            moved = ours.rows["spe_start_elsewhere"][0]
            print(f"{cpu}, {mode}: our kernel's profiling units\n{spe_table(ours, outcome)}")
            what = f"{mode}, {cpu}: the profiling unit of a VM costs what it may"
            results.append(fact("counts", what, outcome.good, "see build/report/steps/counts.txt"))
            share = f"{100 * moved / FILLED:.1f} % of what fills a window moves it"
            print(share)
            what = f"{mode}, {cpu}: moving a window costs at most 2 % of what fills it"
            results.append(fact("counts", what, moved * 50 <= FILLED, share))
    return results


def spe_table(ours: compare.Figures, outcome: compare.Outcome) -> str:
    """Returns the bounds, and the figures of all rows of the profiling unit."""
    lines = [line for _, line in outcome.bounds]
    for name, (figure, _) in ours.rows.items():
        if "spe" in name or "gic" in name:
            lines.append(f"{name:<28} {figure:>12}")
    return "\n".join(lines)


def rules_of(cpu: str, mode: str) -> Rules:
    """Returns the rules for every row of `make bench` on one machine."""
    # Not in protected mode, where the guest has the host's counts of breakpoints.
    below = (
        ("hypercall_debug_mapped", "exit_to_user_debug_mapped")
        if cpu == "max" and mode != "protected"
        else ()
    )
    # Without CTR_EL0.DIC, the bound on I-cache invalidation is in use.
    in_use = ("exec_fault_4k", "exec_fault_2m") if cpu == "neoverse-n1" else ()
    cost = ("boot", *WRITES, *(("switch_thread_tso",) if "tso=on" in cpu else ()))
    return Rules(below=below, in_use=in_use, cost=cost, at_most=CREATION, bounds=WRITE_BOUNDS)


def main() -> int:
    """Measures on each CPU model and in each KVM mode, or on CPU= alone; returns 1 if an idle
    capability costs something."""
    build.all_of(
        {"kernel:vanilla", "kernel:bench", "plugins", *(["model"] if "," in asked("CPU") else [])}
    )
    good = True
    for mode in ("vhe", "nvhe", "protected"):
        for cpu in [asked("CPU")] if asked("CPU") else ["max", "neoverse-n1"]:
            say("bench", f"{cpu}, {mode}")
            # QEMU splits plugin arguments at commas, so the name must have none.
            name = f"{cpu}-{mode}".replace(",", "+")
            both("bench", name, cpu, mode, strings=True)
            outcome = judge(name, rules_of(cpu, mode))
            (BUILD / f"bench/{name}.json").write_text(
                json.dumps(compare.as_json(outcome), indent=2)
            )
            print(f"\n{cpu}, {mode}\n{compare.table(outcome)}", flush=True)
            good &= outcome.good
    print(
        "\nbench: an idle capability costs at most 0.1 %; 'boot' is shown and judged as "
        "'boot_but_strings'"
        if good
        else "\nbench: FAILED, see above"
    )
    return 0 if good else 1

# SPDX-License-Identifier: GPL-2.0
"""Goals of the build, and their dependencies.

A goal is a word: kernel:VARIANT, model (the emulator of the machine model), perf and l2 (Debian's
programs for arm64), plugins, files:PLACE (files that tests use in machines), sysreg (constants of
the system registers), tree.
"""

import collections.abc
import concurrent.futures
import dataclasses
import functools
import pathlib
import shutil

from armature import kernels, process
from armature.kernels import Kernel
from armature.place import BUILD, JOBS, LOGS, TOP, TREE, asked
from armature.process import Failure, inside, say


@dataclasses.dataclass(frozen=True)
class Goal:
    """The function that builds a goal, and the goals that must be built before."""

    reach: collections.abc.Callable[[], object]
    needs: set[str] = dataclasses.field(default_factory=set)


# Additional goals of this run.
ALSO: dict[str, Goal] = {}
# Goals that have been built in this run.
_reached: set[str] = set()


@functools.cache
def model() -> pathlib.Path:
    """Returns the emulator of the machine model."""
    return printed("machine/qemu.sh")


@functools.cache
def foreign(program: str) -> pathlib.Path:
    """Returns the directory of a Debian program for arm64, laid out as in a machine."""
    return printed("machine/foreign.sh", program)


def printed(step: str, *words: str) -> pathlib.Path:
    """Returns the path that a shell step prints, after it has built the file if missing."""
    return pathlib.Path(process.output(["nice", "-n", "10", process.script(step), *words]))


def module_kernel() -> str:
    """Returns the kernel that `make module` builds for."""
    return "debug" if asked("CONFIG") == "debug" else "armature"


def goal(name: str) -> Goal:
    """Returns the goal with this name."""
    kind, _, rest = name.partition(":")
    if kind == "kernel":
        kernel = Kernel(rest)
        return Goal(kernel.build, set() if kernel.of_base else {"tree"})
    return (FILES if kind == "files" else GOALS | ALSO)[rest if kind == "files" else name]


def closure(goals: collections.abc.Iterable[str]) -> list[str]:
    """Returns the goals with all their dependencies, each after its dependencies."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order and name not in _reached:
            for before in sorted(goal(name).needs):
                visit(before)
            order.append(name)

    for name in sorted(goals, key=importance):
        visit(name)
    return order


def importance(name: str) -> tuple[int, str]:
    """Returns the sort key of a goal: the emulator takes long and few goals wait for it,
    and goals that only read the source can come last."""
    first = ("tree", "model", "kernel", "files", "", "step")
    kind = name.partition(":")[0]
    return first.index(kind if kind in first else ""), name


def all_of(goals: collections.abc.Iterable[str], workers: int = 2) -> None:
    """Builds all goals, at most `workers` at a time: one build alone leaves CPUs idle while it
    links or compiles a crate. On the first Failure, stops the other builds and raises it."""
    waiting = closure(goals)
    with process.pool(workers) as pool:
        running: dict[concurrent.futures.Future[object], str] = {}
        while waiting or running:
            ready = [name for name in waiting if goal(name).needs <= _reached]
            for name in ready[: workers - len(running)]:
                waiting.remove(name)
                running[pool.submit(goal(name).reach)] = name
            done, _ = concurrent.futures.wait(running, return_when="FIRST_COMPLETED")
            for job in done:
                name = running.pop(job)
                job.result()
                _reached.add(name)


def built(name: str, command: list[str]) -> None:
    """Runs the build of a program, with its output in a log. Raises Failure if the build fails."""
    with process.started(command, LOGS / f"{name}.log") as work:
        if work.wait():
            raise Failure(f"{name} does not build: build/log/{name}.log")


def plugins() -> None:
    """Builds the emulator's plugins."""
    built("plugins", inside(TOP / "tools/machine/plugins/build", BUILD / "plugins"))


def workload() -> None:
    """Builds the workload for profilers and debuggers, and copies scripts beside it."""
    (BUILD / "perf").mkdir(exist_ok=True)
    built("workload", inside(TOP / "tools/machine/perf/build", BUILD / "perf"))
    for name in ("spe-test.sh", "spe-host.sh", "spe-kexec.sh"):
        shutil.copy(TOP / "tools/machine/perf" / name, BUILD / "perf")


def fleet_guest() -> None:
    """Builds the program of the guest that moves around a fleet."""
    (BUILD / "fleet").mkdir(exist_ok=True)
    built("fleet", inside(TOP / "tools/machine/fleet/build", BUILD / "fleet/guest"))


def oracle() -> None:
    """Builds the guest that runs debug programs, and copies the scripts that run it in machines
    beside it."""
    out = BUILD / "oracle"
    out.mkdir(exist_ok=True)
    built("payload", inside(*with_sysreg(), TOP / "tools/oracle/build", out / "payload"))
    for name in ("compare", "migrate"):
        shutil.copy(TOP / "tools/oracle" / name, out)


def vmm() -> None:
    """Builds the VMM."""
    (BUILD / "vmm").mkdir(exist_ok=True)
    built("vmm", inside(*with_crates(), TOP / "tools/vmm/build", BUILD / "vmm/vmm"))


def with_sysreg() -> list[str]:
    """Returns the command prefix that tells a build the path of the system register constants."""
    return ["env", f"SYSREG_CONSTS={BUILD / 'sysreg/consts.rs'}"]


def with_crates() -> list[str]:
    """Returns the same for the build of the VMM, with the path of the crates that it needs."""
    return [*with_sysreg(), f"CRATES={printed('vmm/crates.sh')}"]


def with_tables() -> list[str]:
    """Returns the same for the build of the tool that finds a common CPU, with the path of
    cpufeature.c, which orders the values of fields."""
    return [*with_sysreg(), f"CPUFEATURE={TREE / 'arch/arm64/kernel/cpufeature.c'}"]


def baseline() -> None:
    """Builds the tool that finds a common CPU: for arm64, and for this host, with its manual
    pages."""
    out = BUILD / "baseline"
    out.mkdir(exist_ok=True)
    say("baseline", "building the tool")
    tool = TOP / "tools/baseline/build"
    built("baseline", inside(*with_tables(), tool, out / "baseline"))
    built("baseline-host", inside(*with_tables(), tool, out / "baseline-host", "host"))
    (out / "man").mkdir(exist_ok=True)
    process.output(inside(out / "baseline-host", "man", out / "man"))
    # The command that makes the pages is not for users.
    (out / "man/baseline-man.1").unlink()


def baseline_tests() -> None:
    """Builds the tool, and what tests it in machines."""
    baseline()
    out, source = BUILD / "baseline", TOP / "tools/baseline/test"
    compiler = "aarch64-linux-gnu-gcc -O2 -Wall -Werror -static -o".split()
    for program in ("brute", "registers"):
        built(program, inside(*compiler, out / program, source / f"{program}.c"))
    for script in ("machine.sh", "vmm.sh", "guest.sh"):
        shutil.copy(source / script, out)


def selftests(part: str) -> None:
    """Builds the kselftests of KVM ("kvm") or our own for arm64 ("arm64"), statically linked."""
    out = BUILD / "selftests"
    (out / part).mkdir(parents=True, exist_ok=True)
    say("selftests", f"building those of {part}")
    binds: process.Binds = {TREE: "/armature/src", out: "/armature/out"}
    command = inside("sh", "-eu", "-c", SELFTESTS[part], "sh", f"-j{JOBS}", binds=binds)
    with process.resumed(out / part, out / f"headers-{part}", out / f"usr-{part}"):
        process.logged(f"selftests-{part}", command)


_MAKE = """
make="make -s -C /armature/src ARCH=arm64 CROSS_COMPILE=aarch64-linux-gnu- $1"
$make O=/armature/out/headers-{0} INSTALL_HDR_PATH=/armature/out/usr-{0} headers_install
flags="-isystem /armature/out/usr-{0}/include"
"""
SELFTESTS = {
    "kvm": _MAKE.format("kvm")
    + """
$make -C tools/testing/selftests/kvm O=/armature/out/headers-kvm OUTPUT=/armature/out/kvm \
    KHDR_INCLUDES="$flags" EXTRA_CFLAGS=-static
""",
    "arm64": _MAKE.format("arm64")
    + """
$make -C tools/testing/selftests/arm64 ARM64_SUBTARGETS="nolse memory_model" \
    OUTPUT=/armature/out/arm64 KHDR_INCLUDES="$flags" LDFLAGS=-static
""",
}


def module() -> None:
    """Builds this repository's Kbuild as an external module, in build/module, after removing
    objects of other kernels."""
    kernel, out = Kernel(module_kernel()), BUILD / "module"
    mark = out / "for"
    if out.exists() and not (mark.exists() and mark.read_text() == kernel.variant):
        shutil.rmtree(out)
    out.mkdir(exist_ok=True)
    mark.write_text(kernel.variant)
    say("module", "building")
    binds: process.Binds = {TREE: kernels.SOURCE, kernel.objects(): kernels.OBJECTS}
    words = ["LLVM=1", "ARCH=arm64", f"M={TOP}", f"MO={out}", "modules"]
    with process.resumed(out):
        process.logged("module", inside("make", "-C", kernels.OBJECTS, *words, binds=binds))
    say("module", "build/module/samples/rust/rust_arm64_idregs.ko")


def sysreg() -> None:
    """Generates build/sysreg/consts.rs from the tree's description of the system registers."""
    out, source = BUILD / "sysreg", TREE / "arch/arm64/tools/sysreg"
    generator = TREE / "arch/arm64/tools/gen_sysreg"
    newest = max(path.stat().st_mtime for path in (source, *generator.glob("*.rs")))
    if (out / "consts.rs").exists() and (out / "consts.rs").stat().st_mtime > newest:
        return
    out.mkdir(exist_ok=True)
    built(
        "sysreg",
        inside(
            "sh",
            "-euc",
            """
        rustc --edition 2021 -O -o "$1/gen-sysreg" "$2/gen_sysreg.rs"
        "$1/gen-sysreg" --consts "$3" > "$1/consts.new"
        mv "$1/consts.new" "$1/consts.rs"
        """,
            "sh",
            out,
            generator,
            source,
        ),
    )


GOALS = {
    "tree": Goal(kernels.tree),
    "model": Goal(model),
    "perf": Goal(lambda: foreign("perf")),
    "l2": Goal(lambda: foreign("qemu")),
    "plugins": Goal(plugins),
    "sysreg": Goal(sysreg, {"tree"}),
    "baseline": Goal(baseline, {"sysreg"}),
}
# Builders of the files that tests use in machines, by place (matrix.PLACES); those of "kernel" are
# built with the kernel.
FILES = {
    "kvm": Goal(lambda: selftests("kvm"), {"tree"}),
    "arm64": Goal(lambda: selftests("arm64"), {"tree"}),
    "oracle": Goal(oracle, {"sysreg"}),
    "vmm": Goal(vmm, {"sysreg"}),
    "baseline": Goal(baseline_tests, {"sysreg"}),
    "perf": Goal(workload),
    "fleet": Goal(fleet_guest),
    "l2": Goal(lambda: None),
    "module": Goal(module, {f"kernel:{module_kernel()}"}),
    "kernel": Goal(lambda: None),
}

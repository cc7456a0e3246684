# SPDX-License-Identifier: GPL-2.0
"""Boots the machines of the matrix and judges their logs."""

import collections.abc
import concurrent.futures
import dataclasses
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time

from armature import build, counts, gdbstub, ktap, machine, matrix, process
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.matrix import Boot, Machine
from armature.place import BUILD, JOBS, REPORT, asked, spent
from armature.process import Failure, say

# Seconds for which a boot that has started before DEADLINE may continue after it.
GRACE = 600
# Lines of a kernel's warning that are reported: where it is, what ran, and the call trace.
LINES_OF_SPLAT = 40


@dataclasses.dataclass
class Ran:
    """The outcome of a boot: the exit status of QEMU (None after its limit), and its logs."""

    boot: Boot
    where: pathlib.Path
    code: int | None = 0

    def said(self, log: str) -> str:
        """Returns a log: console.log, tap.log or counts.txt."""
        return machine.said(self.where / log)


def source(boot: Boot, place: str, file: str) -> pathlib.Path:
    """Returns the path of a test's file on this host. Raises Failure if it does not exist."""
    directory = Kernel(boot.kernel).objects() if place == "kernel" else matrix.PLACES[place]
    if not (directory / file).is_file():
        raise Failure(f"the boot {boot.name} needs {place}/{file}, which is not there")
    return directory / file


def guest_path(file: str) -> str:
    """Returns the path of a test's file in the machine."""
    name = pathlib.PurePath(file).name
    return f"/{name}" if name.endswith(".ko") else f"/tests.d/{name}"


def files_of(boot: Boot, work: pathlib.Path) -> dict[str, machine.File]:
    """Returns the files that a boot needs in the initramfs, by path in the machine."""
    files = files_of_tests(boot, boot.tests)
    image = Kernel(boot.kernel).image()
    perf: dict[str, machine.File] = {"/": build.foreign("perf")} if boot.perf else {}
    if boot.guest:
        kernel = Kernel(boot.guest_kernel).image() if boot.guest_kernel else image
        another = {"/Image": kernel} if boot.image else {}
        machine.initramfs(work / "l2", files_of_tests(boot, boot.guest) | perf | another)
        files |= {"/l2/initrd": work / "l2", "/l2/Image": kernel}
    elif boot.image:
        files["/Image"] = image
    if boot.l2:
        files["/"] = build.foreign("qemu")
    return files | perf


def files_of_tests(
    boot: Boot, tests: collections.abc.Sequence[tuple[str, str]]
) -> dict[str, machine.File]:
    """Returns the list of tests, and the files that they need, by path in the machine."""
    files: dict[str, machine.File] = {}
    for place, file in (found for _, command in tests for found in matrix.FILE.findall(command)):
        here = source(boot, place, file)
        if files.setdefault(guest_path(file), here) != here:
            raise Failure(f"the boot {boot.name} has two files called {here.name}")
    if tests:
        files["/tests"] = "".join(
            f"{name}\t{matrix.FILE.sub(lambda file: guest_path(file[2]), command)}\n"
            for name, command in tests
        )
    return files


def machine_of(boot: Boot) -> Machine:
    """Returns the machine of a boot, with KUnit enabled if the boot asks for it."""
    if not boot.kunit:
        return boot.machine
    cmdline = f"kunit.enable=1 kunit.autorun=1 {boot.machine.cmdline}"
    return dataclasses.replace(boot.machine, cmdline=cmdline)


def run(boot: Boot, where: pathlib.Path) -> Ran:
    """Boots a machine and returns the outcome, with logs in `where`."""
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir(parents=True)
    initrd, console, tap = where / "initrd", where / "console.log", where / "tap.log"
    machine.initramfs(initrd, files_of(boot, where))
    more = ["-serial", f"file:{tap}"]
    if boot.plugin is not None:
        plugin = BUILD / "plugins/libopcodes.so"
        more += ["-plugin", f"{plugin},out={where / 'counts.txt'},{boot.plugin}"]
    with tempfile.TemporaryDirectory() as socket:
        if boot.lie:
            more += ["-gdb", "unix:/armature/gdb/socket,server=on,wait=off"]
            threading.Thread(
                target=lie_when_ready,
                daemon=True,
                args=(boot, pathlib.Path(socket) / "socket", tap),
            ).start()
        line = machine.command(
            machine_of(boot), Kernel(boot.kernel).image(), initrd, console, *more
        )
        code = machine.run(line, boot.limit, where / "qemu.log", {socket: "/armature/gdb"})
    for made in (initrd, where / "l2"):
        made.unlink(missing_ok=True)
    return Ran(boot, where, code)


def lie_when_ready(boot: Boot, socket: pathlib.Path, tap: pathlib.Path) -> None:
    """Waits until the machine runs its tests, then changes an ID register of one CPU."""
    assert boot.lie
    for _ in range(int(boot.limit) * 10):
        if "# running" in machine.said(tap):
            gdbstub.lie(socket, Kernel(boot.kernel).objects(), boot.lie, boot.limit)
            return
        time.sleep(0.1)


def without_panic(console: str) -> str:
    """Returns the console without a requested panic, up to the start of the next kernel."""
    return re.sub(r"sysrq: Trigger a crash.*?(?=\bBye!)", "", console, count=1, flags=re.S)


def splat_of(console: str) -> str:
    """Returns the first lines of a report that no healthy kernel prints, without their times; ""
    if there is none."""
    found = machine.SPLAT.search(console)
    if not found:
        return ""
    lines = console[console.rfind("\n", 0, found.start()) + 1 :].splitlines()
    lines = [re.sub(r"^\[ *\d+\.\d+\](\[ *[CT]\d+\])? ", "", line) for line in lines]
    return "\n".join([line for line in lines if "cut here ]" not in line][:LINES_OF_SPLAT])


def judge_console(boot: Boot, console: str) -> collections.abc.Iterator[Result]:
    """Yields whether the console has all required lines, and no forbidden ones."""
    if boot.crash:
        console = without_panic(console)
    clean = machine.SPLAT.search(console) is None
    yield fact(boot.name, "console/no splat", clean, splat_of(console))
    for pattern in boot.log:
        shown = re.search(pattern, console) is not None
        yield fact(boot.name, f"console/has: {pattern}", shown, "the console does not show it")
    for pattern in boot.nolog:
        shown = re.search(pattern, console) is not None
        yield fact(boot.name, f"console/has not: {pattern}", not shown, "the console shows it")


def judge_samples(boot: Boot, messages: str) -> collections.abc.Iterator[Result]:
    """Yields whether the emulator's counters account for every sample of FEAT_SPE on each CPU, and
    whether software never took the buffer away while records were in the unit."""
    counted = re.findall(r"^arm_spe_counts cpu (\d+): (.*)$", messages, re.M)
    if not counted:
        yield Result(boot.name, "spe/the emulator counts samples", "fail", "its log has no figures")
    for cpu, line in counted:
        number = {name: int(figure) for name, figure in re.findall(r"(\w+)=(\d+)", line)}
        errors = number.pop("errors")
        known = number.pop("chosen") == sum(number.values())
        yield fact(boot.name, f"spe/every sample of CPU {cpu} is accounted for", known, line)
        yield fact(boot.name, f"spe/CPU {cpu} is drained when it must be", errors == 0, line)


def how_it_ended(ran: Ran) -> str | None:
    """Returns how the machine failed, and in which test; None if it has finished its tests."""
    tap, console = ran.said("tap.log"), ran.said("console.log")
    if ran.code == 0 and (not ran.boot.tests or re.search(r"^# end$", tap, re.M)):
        return None
    running = re.findall(r"^# running (.*)$", tap, re.M) or re.findall(
        r"(?:# Subtest:|\bok \d+) (.*?)$", console, re.M
    )
    what = (
        f"no end after {ran.boot.limit:.0f} s"
        if ran.code is None
        else f"QEMU ended with status {ran.code}" if ran.code else "the machine stopped by itself"
    )
    return f"{what}, in {running[-1] if running else 'the boot'}"


def judge(ran: Ran) -> list[Result]:
    """Returns the results of a boot."""
    boot, console, tap = ran.boot, ran.said("console.log"), ran.said("tap.log")
    results = list(judge_console(boot, console))
    if boot.kunit:
        results += ktap.results(boot.name, console, boot.skips, "kunit/")
    if boot.tests:
        results += ktap.results(boot.name, tap, boot.skips)
    if boot.machine.with_spe():
        results += judge_samples(boot, ran.said("qemu.log"))
    results += counts.judge(boot.name, boot.count, ran.said("counts.txt"))
    results += [
        Result(boot.name, f"{program} (exit)", "fail", f"exit {code}")
        for program, code in re.findall(r"^not ok \d+ (\S+) # exit (.*)$", tap, re.M)
    ]
    if what := how_it_ended(ran):
        results.append(Result(boot.name, "machine/ended", "fail", what))
    return results


def lines_to_compare(log: pathlib.Path) -> list[str]:
    """Returns the lines of a log without times and numbers that depend on them: -icount makes the
    instructions identical, but QEMU's main loop uses the host's clock."""
    return [
        re.sub(r"^\[ *\d+\.\d+\]|(?<=Random seed: )0x.*", "", line)
        for line in machine.said(log).splitlines()
    ]


def judge_same(boot: Boot) -> collections.abc.Iterator[Result]:
    """Yields whether the logs of a boot equal those of the boot that it names."""
    for log in ("console.log", "tap.log"):
        ours, others = (
            lines_to_compare(REPORT / "boots" / str(name) / log) for name in (boot.name, boot.same)
        )
        same = bool(ours) and ours == others
        differ = next(
            (f"{a!r} and {b!r}" for a, b in zip(ours, others) if a != b),
            "one ends before the other",
        )
        yield fact(boot.name, f"{log} is that of {boot.same}", same, differ)


def late(boot: Boot) -> list[Result]:
    """Returns the result of a boot for which there was no time."""
    return [Result(boot.name, "machine/ran", "skip", f"no time left after {asked('DEADLINE')} s")]


def in_time(boot: Boot, reports: pathlib.Path) -> list[Result]:
    """Runs a boot and returns its results; or a skip, if no time was left to start or finish it."""
    if not asked("DEADLINE"):
        return judge(run(boot, reports / boot.name))
    left = float(asked("DEADLINE")) - spent() + GRACE
    if left < GRACE:
        return late(boot)
    ran = run(dataclasses.replace(boot, limit=min(left, boot.limit)), reports / boot.name)
    return late(boot) if ran.code is None and left < boot.limit else judge(ran)


def attempt(boot: Boot, reports: pathlib.Path) -> tuple[list[Result], float]:
    """Returns the results of a boot and its duration in seconds. Errors become results, so that
    the other boots continue."""
    begun = time.monotonic()
    try:
        results = in_time(boot, reports)
    except Exception as error:  # pylint: disable=broad-exception-caught
        results = [Result(boot.name, "machine/ran", "fail", f"{type(error).__name__}: {error}")]
    return results, time.monotonic() - begun


def run_all(boots: list[Boot], reports: pathlib.Path) -> tuple[list[Result], dict[str, float]]:
    """Boots the machines, as many at a time as there are CPUs; returns their results, and the
    duration of each in seconds."""
    results: list[Result] = []
    seconds: dict[str, float] = {}
    with process.pool(JOBS) as pool:
        jobs = {pool.submit(attempt, boot, reports): boot.name for boot in boots}
        for count, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            name = jobs[job]
            found, seconds[name] = job.result()
            results += found
            failed = [result for result in found if result.status == "fail"]
            bad = len(failed)
            say(
                "boot",
                f"{count}/{len(boots)}  {name}: {len(found) - bad} of {len(found)} in "
                f"{seconds[name]:.0f} s{'  FAILED' if bad else ''}",
            )
            for result in failed:
                print(f"{result.name}: {result.detail}", file=sys.stderr, flush=True)
    skipped = {result.where for result in results if result.name == "machine/ran"}
    for boot in boots:
        if boot.same and not skipped & {boot.name, boot.same}:
            results += judge_same(boot)
    return results, seconds


def needs(boots: collections.abc.Iterable[Boot]) -> set[str]:
    """Returns the goals that must be built for these boots."""
    return {need for boot in boots for need in boot.needs()}

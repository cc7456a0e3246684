# SPDX-License-Identifier: GPL-2.0
"""Boots the machines of the matrix and judges what was found there."""

import collections.abc
import concurrent.futures
import dataclasses
import pathlib
import re
import shutil
import tempfile
import threading
import time

from armature import build, counts, gdbstub, ktap, machine, matrix
from armature.kernels import Kernel
from armature.ktap import Result
from armature.matrix import Boot, Machine
from armature.place import BUILD, JOBS, REPORT, asked, spent
from armature.process import Failure, say

# Seconds that a boot which has begun before DEADLINE may go on after it.
GRACE = 600


@dataclasses.dataclass
class Ran:
    """What a boot has left: the exit status of QEMU (None if its time was over), and its logs."""

    boot: Boot
    where: pathlib.Path
    code: int | None = 0

    def said(self, log: str) -> str:
        """Returns a log: console.log, tap.log or counts.txt."""
        return machine.said(self.where / log)


def source(boot: Boot, place: str, file: str) -> pathlib.Path:
    """Returns where a file of a test is on this host. Raises Failure if there is none."""
    directory = Kernel(boot.kernel).objects() if place == "kernel" else matrix.PLACES[place]
    if not (directory / file).is_file():
        raise Failure(f"the boot {boot.name} needs {place}/{file}, which is not there")
    return directory / file


def guest_path(file: str) -> str:
    """Returns where a file of a test is in the machine."""
    name = pathlib.PurePath(file).name
    return f"/{name}" if name.endswith(".ko") else f"/tests.d/{name}"


def files_of(boot: Boot, work: pathlib.Path) -> dict[str, machine.File]:
    """Returns what the initramfs of a boot has besides its own, by where it goes."""
    files: dict[str, machine.File] = {}
    for place, file in (
        found for _, command in boot.tests for found in matrix.FILE.findall(command)
    ):
        here = source(boot, place, file)
        if files.setdefault(guest_path(file), here) != here:
            raise Failure(f"the boot {boot.name} has two files called {here.name}")
    if boot.tests:
        files["/tests"] = "".join(
            f"{name}\t{matrix.FILE.sub(lambda file: guest_path(file[2]), command)}\n"
            for name, command in boot.tests
        )
    image = Kernel(boot.kernel).image()
    if boot.image:
        files["/Image"] = image
    if boot.perf:
        files["/"] = build.foreign("perf")
    if boot.l2:
        # What a VMM in the machine boots: this kernel, and a program that speaks.
        machine.initramfs(work / "l2", {"/tests": "speaks\techo hello\n"})
        files |= {"/": build.foreign("qemu"), "/l2/initrd": work / "l2", "/l2/Image": image}
    return files


def machine_of(boot: Boot) -> Machine:
    """Returns the machine of a boot, with what runs KUnit if that is asked for."""
    if not boot.kunit:
        return boot.machine
    cmdline = f"kunit.enable=1 kunit.autorun=1 {boot.machine.cmdline}"
    return dataclasses.replace(boot.machine, cmdline=cmdline)


def run(boot: Boot, where: pathlib.Path) -> Ran:
    """Boots a machine and returns what it has left, in `where`."""
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
    """Waits until the machine is up and runs its tests, then lets one CPU lie."""
    assert boot.lie
    for _ in range(int(boot.limit) * 10):
        if "# running" in machine.said(tap):
            gdbstub.lie(socket, Kernel(boot.kernel).objects(), boot.lie, boot.limit)
            return
        time.sleep(0.1)


def without_panic(console: str) -> str:
    """Returns the console but for a panic that was asked for, up to the kernel booted then."""
    return re.sub(r"sysrq: Trigger a crash.*?(?=\bBye!)", "", console, count=1, flags=re.S)


def judge_console(boot: Boot, console: str) -> collections.abc.Iterator[Result]:
    """Yields whether the console has what it must and nothing that it must not."""
    if boot.crash:
        console = without_panic(console)
    splat = machine.SPLAT.search(console)
    line = console[splat.start() :].splitlines()[0] if splat else ""
    yield Result(boot.name, "console/no splat", "fail" if splat else "pass", line)
    for pattern in boot.log:
        yield Result(
            boot.name,
            f"console/has: {pattern}",
            "pass" if re.search(pattern, console) else "fail",
            "the console does not show it",
        )
    for pattern in boot.nolog:
        yield Result(
            boot.name,
            f"console/has not: {pattern}",
            "fail" if re.search(pattern, console) else "pass",
            "the console shows it",
        )


def how_it_ended(ran: Ran) -> str | None:
    """Returns what went wrong with the machine, and in which test; None if it came to its end."""
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
    """Returns what a boot has shown."""
    boot, console, tap = ran.boot, ran.said("console.log"), ran.said("tap.log")
    results = list(judge_console(boot, console))
    if boot.kunit:
        results += ktap.results(boot.name, console, boot.skips, "kunit/")
    if boot.tests:
        results += ktap.results(boot.name, tap, boot.skips)
    results += counts.judge(boot.name, boot.count, ran.said("counts.txt"))
    results += [
        Result(boot.name, f"{program} (exit)", "fail", f"exit {code}")
        for program, code in re.findall(r"^not ok \d+ (\S+) # exit (.*)$", tap, re.M)
    ]
    if what := how_it_ended(ran):
        results.append(Result(boot.name, "machine/ended", "fail", what))
    return results


def lines_to_compare(log: pathlib.Path) -> list[str]:
    """Returns the lines of a log but for times and what comes of them: -icount makes the
    instructions the same, and the main loop of QEMU goes by the host's clock."""
    return [
        re.sub(r"^\[ *\d+\.\d+\]|(?<=Random seed: )0x.*", "", line)
        for line in machine.said(log).splitlines()
    ]


def judge_same(boot: Boot) -> collections.abc.Iterator[Result]:
    """Yields whether the logs of a boot are those of the one that it names."""
    for log in ("console.log", "tap.log"):
        ours, others = (
            lines_to_compare(REPORT / "boots" / str(name) / log) for name in (boot.name, boot.same)
        )
        same = bool(ours) and ours == others
        differ = next(
            (f"{a!r} and {b!r}" for a, b in zip(ours, others) if a != b),
            "one ends before the other",
        )
        yield Result(
            boot.name,
            f"{log} is that of {boot.same}",
            "pass" if same else "fail",
            "" if same else differ,
        )


def late(boot: Boot) -> list[Result]:
    """Returns that there was no time for a boot."""
    return [Result(boot.name, "machine/ran", "skip", f"no time left after {asked('DEADLINE')} s")]


def in_time(boot: Boot, reports: pathlib.Path) -> list[Result]:
    """Returns what a boot has shown, unless there was no time left to begin it, or to end it."""
    if not asked("DEADLINE"):
        return judge(run(boot, reports / boot.name))
    left = float(asked("DEADLINE")) - spent() + GRACE
    if left < GRACE:
        return late(boot)
    ran = run(dataclasses.replace(boot, limit=min(left, boot.limit)), reports / boot.name)
    return late(boot) if ran.code is None and left < boot.limit else judge(ran)


def attempt(boot: Boot, reports: pathlib.Path) -> tuple[list[Result], float]:
    """Returns what a boot has shown and how many seconds it took; whatever happens, the other boots
    go on."""
    begun = time.monotonic()
    try:
        results = in_time(boot, reports)
    except Exception as error:  # pylint: disable=broad-exception-caught
        results = [Result(boot.name, "machine/ran", "fail", f"{type(error).__name__}: {error}")]
    return results, time.monotonic() - begun


def run_all(boots: list[Boot], reports: pathlib.Path) -> tuple[list[Result], dict[str, float]]:
    """Boots the machines, as many at a time as there are CPUs; returns what they have shown, and
    the seconds that each took."""
    results: list[Result] = []
    seconds: dict[str, float] = {}
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        jobs = {pool.submit(attempt, boot, reports): boot.name for boot in boots}
        for count, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            name = jobs[job]
            found, seconds[name] = job.result()
            results += found
            bad = sum(result.status == "fail" for result in found)
            say(
                "boot",
                f"{count}/{len(boots)}  {name}: {len(found) - bad} of {len(found)} in "
                f"{seconds[name]:.0f} s{'  FAILED' if bad else ''}",
            )
    skipped = {result.where for result in results if result.name == "machine/ran"}
    for boot in boots:
        if boot.same and not skipped & {boot.name, boot.same}:
            results += judge_same(boot)
    return results, seconds


def needs(boots: collections.abc.Iterable[Boot]) -> set[str]:
    """Returns what has to be built for these boots."""
    return {need for boot in boots for need in boot.needs()}

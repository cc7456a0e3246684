# SPDX-License-Identifier: GPL-2.0
"""The commands that tools/armature.sh passes on."""

import collections.abc
import os
import signal
import sys

from armature import (
    bench,
    build,
    deb,
    journey,
    kernels,
    lint,
    migrate,
    oracle,
    prefixes,
    process,
    pure,
    show,
    steps,
)
from armature.kernels import Kernel
from armature.place import BUILD, LOGS, asked, misspelt
from armature.process import Failure

Words = list[str]


def kernel(words: Words) -> int:
    """Builds KERNEL= or the kernel named by the first word: all of it, or the targets in the other
    words. "NAME --make WORD..." runs make for a kernel that is already configured."""
    name, *rest = words or [asked("KERNEL", "armature")]
    own = Kernel(name)
    if rest[:1] == ["--make"]:
        process.run(own.make(*rest[1:]))
        return 0
    if not own.of_base:
        kernels.tree()
    own.build(*rest)
    return 0


def module(_: Words) -> int:
    """Builds samples/ as an external module of our kernel."""
    build.all_of({"files:module"})
    return 0


def baseline(_: Words) -> int:
    """Builds the tool that finds the CPU which all hosts of a fleet can give to VMs."""
    build.all_of({"baseline"})
    for name in ("baseline", "baseline-host", "man"):
        print(f"build/baseline/{name}")
    return 0


def lint_all() -> int:
    """Lints, then builds every prefix of the series; returns 1 if something is wrong."""
    return lint.show(lint.step()) | prefixes.main([])


def plain(main: collections.abc.Callable[[], int]) -> collections.abc.Callable[[Words], int]:
    """Returns a command that takes no arguments."""

    def command(words: Words) -> int:
        if words:
            raise Failure(f"'{words[0]}' is no argument of this command")
        return main()

    return command


COMMANDS: dict[str, collections.abc.Callable[[Words], int]] = {
    "run": plain(show.main),
    "migrate": plain(migrate.main),
    "fleet": plain(journey.main),
    "test": plain(steps.test),
    "bench": plain(bench.main),
    "kernel": kernel,
    "deb": plain(deb.main),
    "module": module,
    "baseline": baseline,
    "oracle": oracle.main,
    "prefixes": prefixes.main,
    "lint": plain(lint_all),
    "docs": plain(lambda: lint.show(lint.docs())),
    "pure": plain(lambda: lint.show(pure.step())),
}


def main(words: Words) -> int:
    """Runs a command; returns its exit status."""
    # Programs that are started must find their own Python libraries.
    for name in ("PYTHONHOME", "PYTHONPATH"):
        os.environ.pop(name, None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for directory in (BUILD, LOGS):
        directory.mkdir(exist_ok=True)
    try:
        if wrong := misspelt():
            raise Failure(f"{wrong}={asked(wrong)} is no number")
        return COMMANDS[words[0]](words[1:])
    except Failure as failure:
        print(f"armature: {failure}", file=sys.stderr)
    except KeyboardInterrupt:
        print("armature: interrupted; the same command goes on from here", file=sys.stderr)
    finally:
        process.stop_all()
    return 1

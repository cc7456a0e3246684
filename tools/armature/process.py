# SPDX-License-Identifier: GPL-2.0
"""Runs commands on the host or in the build root, with progress and one-line errors."""

import collections.abc
import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
from typing import IO

from armature.place import BUILD, CACHE, LOGS, TOP, spent

Child = subprocess.Popen[bytes]
Word = str | pathlib.Path
Binds = collections.abc.Mapping[Word, str]
# Seconds after which a running step prints that it continues.
BEAT = 30
_children: set[Child] = set()
_ending = threading.Event()


class Failure(Exception):
    """An error and its remedy, in one line."""


class Killed(Failure):
    """A program that a signal has ended."""


def say(step: str, text: str) -> None:
    """Prints one line of progress with the time since the command started."""
    seconds = int(spent())
    print(f"[{seconds // 60:3}:{seconds % 60:02}] {step:9} {text}", file=sys.stderr, flush=True)


def inside(*command: Word, binds: Binds | None = None) -> list[str]:
    """Returns the command that runs `command` in the build root; `binds` are additional host
    directories, by path in the root."""
    line = [str(TOP / "tools/build/enter.sh")]
    for source, target in (binds or {}).items():
        line += ["-b", f"{source}:{target}"]
    return line + [str(word) for word in command]


@contextlib.contextmanager
def kept_in_mind(child: Child) -> collections.abc.Iterator[Child]:
    """Ensures that a child process and all its descendants end with the block. Raises Failure if
    everything is being ended."""
    _children.add(child)
    if _ending.is_set():
        stop(child)
        raise Failure("interrupted")
    try:
        yield child
    finally:
        stop(child)
        _children.discard(child)


def stop(child: Child) -> None:
    """Ends a child process, unless it has ended."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def stop_all() -> None:
    """Ends all child processes."""
    for child in tuple(_children):
        stop(child)


@contextlib.contextmanager
def pool(workers: int) -> collections.abc.Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Yields an executor that ends with the block, when its jobs have ended. If the block is left
    by an exception, such as Ctrl-C, running jobs lose their child processes and no other starts."""
    executor = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        yield executor
    except BaseException as reason:
        if not isinstance(reason, Exception):
            _ending.set()
        executor.shutdown(wait=False, cancel_futures=True)
        stop_all()
        raise
    finally:
        executor.shutdown()


def output(command: list[str]) -> str:
    """Returns the output of a command; its messages go to our standard error."""
    with kept_in_mind(
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
            close_fds=False,
        )
    ) as child:
        said = child.communicate()[0].decode(errors="replace")
    if child.returncode:
        raise Failure(f"{pathlib.Path(command[0]).name} has failed")
    return said.strip()


def run(command: list[str]) -> None:
    """Runs a command with our standard output and standard error."""
    if code := subprocess.run(command, close_fds=False, check=False).returncode:
        sys.exit(code)


@contextlib.contextmanager
def started(
    command: list[str],
    log: pathlib.Path,
    out: IO[bytes] | None = None,
    env: collections.abc.Mapping[str, str] | None = None,
) -> collections.abc.Iterator[Child]:
    """Starts a command with its messages in `log`, and its output there too unless `out` is given.
    The command does not outlive the block."""
    with open(log, "wb") as messages:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out or messages,
            stderr=messages,
            env=env,
            start_new_session=True,
            close_fds=False,
        )
    with kept_in_mind(child):
        yield child


def last_lines(log: pathlib.Path, count: int) -> list[str]:
    """Returns the last `count` lines of a log."""
    return log.read_text(errors="replace").splitlines()[-count:]


def logged(name: str, command: list[str]) -> None:
    """Runs a command with its output in build/log/NAME.log, and regularly prints that it continues.
    If the command fails, shows the end of the log and raises Failure."""
    log = LOGS / f"{name}.log"
    with started(command, log) as child:
        while True:
            try:
                code = child.wait(BEAT)
                break
            except subprocess.TimeoutExpired:
                say(name, "".join(last_lines(log, 1))[:70])
    if code < 0:
        raise Killed(f"{name} was interrupted")
    if code:
        print("\n".join(last_lines(log, 25)), file=sys.stderr)
        raise Failure(f"{name} failed; the whole log is {log.relative_to(TOP)}")


@contextlib.contextmanager
def locked(name: str) -> collections.abc.Iterator[None]:
    """Holds the lock called `name`, so that two checkouts do not create the same cache entry at the
    same time."""
    with open(CACHE / f"{name}.lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lock", f"waiting for another run that makes {name}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def resumed(*directories: pathlib.Path) -> collections.abc.Iterator[None]:
    """Runs a build that continues in these directories. make takes a file for finished if it is
    newer than its sources, and a program that is killed may leave half a file: after such an end,
    first removes what was written since that build had started."""
    mark = directories[0] / "unfinished"
    for directory in directories:
        directory.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        since = mark.stat().st_mtime_ns
        for directory in directories:
            for path in directory.rglob("*"):
                if not path.is_dir() and path.lstat().st_mtime_ns >= since:
                    path.unlink()
    mark.touch()
    try:
        yield
    except Killed:
        raise
    except Failure:
        # make has removed what failed.
        mark.unlink()
        raise
    mark.unlink()


def need_space(where: pathlib.Path, gib: int) -> None:
    """Raises Failure if less than `gib` GiB are free."""
    stat = os.statvfs(where)
    free = stat.f_bavail * stat.f_frsize >> 30
    if free < gib:
        elsewhere = (
            ", or point XDG_CACHE_HOME elsewhere" if CACHE in (where, *where.parents) else ""
        )
        raise Failure(
            f"{where} has {free} GiB free and this step needs {gib}: free some{elsewhere}"
        )


def key(*parts: str) -> str:
    """Returns 16 hex digits that change when any part changes."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def script(path: str) -> str:
    """Returns the path of a shell step."""
    return str(TOP / "tools" / path)


def scratch(name: str) -> pathlib.Path:
    """Returns a new, empty directory called `name` that the build root can see."""
    where = BUILD / "scratch" / name
    subprocess.run(["rm", "-rf", where], check=True)
    where.mkdir(parents=True)
    return where

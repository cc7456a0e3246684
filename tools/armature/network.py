# SPDX-License-Identifier: GPL-2.0
"""Runs several machines at the same time, with a network between them.

A machine's number, from 1, is the last part of its address, 10.0.0.N. What a script prints to the
console after "host: " is progress.
"""

import collections.abc
import concurrent.futures
import os
import pathlib
import re
import threading

from armature import machine, process
from armature.place import BUILD
from armature.process import Failure, say

Names = collections.abc.Sequence[str]


def links(names: Names, name: str) -> str:
    """Returns QEMU's arguments for the network card of a machine. The emulators form the network,
    by abstract sockets that belong to this process; the first machine has the hub."""
    card = f"-device virtio-net-device,netdev=card,mac=52:54:00:12:34:0{names.index(name) + 1}"

    def stream(other: str, ident: str, more: str) -> str:
        where = f"addr.type=unix,addr.abstract=on,addr.path=armature-{os.getpid()}-{other}"
        return f"-netdev stream,id={ident},{where},{more}"

    if name != names[0]:
        return f"{stream(name, 'card', 'server=off,reconnect-ms=500')} {card}"
    ports = [f"-netdev hubport,id=card,hubid=0 {card}"]
    for other in names[1:]:
        ports.append(stream(other, other, "server=on"))
        ports.append(f"-netdev hubport,id=port-{other},hubid=0,netdev={other}")
    return " ".join(ports)


class Progress:
    """Prints what machines tell while they run."""

    def __init__(self, consoles: dict[str, pathlib.Path]) -> None:
        """Begins to watch consoles, by the names of their machines."""
        self.consoles = consoles
        self.lines = dict.fromkeys(consoles, 0)
        self.ended = threading.Event()

    def look(self) -> None:
        """Prints what is new."""
        for name, console in self.consoles.items():
            # The kernel's own lines may come in between.
            told = re.findall(r"^host: (.*?)(?:\[ *\d+\.\d+\].*)?\n", machine.said(console), re.M)
            for line in told[self.lines[name] :]:
                say(name, line)
            self.lines[name] = len(told)

    def watch(self) -> None:
        """Prints what is new until the end."""
        while not self.ended.wait(1):
            self.look()
        self.look()


def together(
    boots: collections.abc.Mapping[str, str], run: collections.abc.Callable[[str], list[str]]
) -> dict[str, list[str]]:
    """Runs machines at the same time, each by `run` of its name, and returns what each has printed.
    `boots` has the name of each machine's boot. The first Failure ends all."""
    failed = threading.Event()

    def one(name: str) -> list[str]:
        if failed.is_set():
            raise Failure("another machine has failed")
        return run(name)

    progress = Progress(
        {name: BUILD / f"report/boots/{boot}/console.log" for name, boot in boots.items()}
    )
    with process.pool(len(boots) + 1) as pool:
        watching = pool.submit(progress.watch)
        jobs = {name: pool.submit(one, name) for name in boots}
        try:
            done, _ = concurrent.futures.wait(jobs.values(), return_when="FIRST_EXCEPTION")
            for job in done:
                if error := job.exception():
                    failed.set()
                    raise error
        except BaseException:
            process.stop_all()
            raise
        finally:
            progress.ended.set()
        watching.result()
    return {name: job.result() for name, job in jobs.items()}

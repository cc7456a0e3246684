# SPDX-License-Identifier: GPL-2.0
"""Paths of the project, and options from the environment."""

import os
import pathlib
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = TOP / "build"
LOGS = BUILD / "log"
REPORT = BUILD / "report"
CACHE = pathlib.Path(os.environ.get("CACHE", BUILD / "cache"))
ROOT = pathlib.Path(os.environ.get("ROOT", "/"))
TREE = BUILD / "tree"
# What a command's variables count.
NUMBERS = ("DEADLINE", "JOBS", "MOVING", "SEEDS", "SEQUENCES", "SMP")
STARTED = float(os.environ.get("STARTED") or time.time())


def asked(name: str, default: str = "") -> str:
    """Returns the value of an environment variable, or the default if it is empty or not set."""
    return os.environ.get(name) or default


def misspelt() -> str | None:
    """Returns the name of a variable that should be a number and is not, if there is one."""
    return next((name for name in NUMBERS if not asked(name, "0").isdecimal()), None)


def number(name: str, default: int = 0) -> int:
    """Returns the number in a variable, or the default if there is none."""
    return int(asked(name)) if asked(name).isdecimal() else default


JOBS = number("JOBS") or os.cpu_count() or 1
# The default number of random programs per topology, and of those that move to another machine.
SEEDS, MOVING = 1000, 20


def programs_asked() -> tuple[int, int]:
    """Returns the numbers of random programs, and of those that move, of this run."""
    return number("SEEDS", SEEDS), number("MOVING", MOVING)


def spent() -> float:
    """Returns the seconds since the command started."""
    return time.time() - STARTED

# SPDX-License-Identifier: GPL-2.0
"""Breaks the source on purpose, and checks that the responsible tests fail.

Each file of tools/test/breaks is a patch with lines "Noticed-by: BOOT: TEST". The number at the
start of its name is a group: patches of one group do not mask each other, and share a kernel.
BREAKS=WORD selects patches whose name contains WORD. The patches are applied to build/tree, which
the next build restores.
"""

import collections.abc
import itertools
import os
import pathlib
import re
import subprocess

from armature import boot, build, kernels, matrix, oracle
from armature.kernels import Kernel
from armature.ktap import Result, fact
from armature.place import BUILD, TOP, TREE, asked
from armature.process import Failure, say

PATCHES = TOP / "tools/test/breaks"


def group(patch: pathlib.Path) -> int:
    """Returns the group of a patch."""
    return int(patch.name.split("-", 1)[0])


def noticed_by(patch: pathlib.Path) -> list[tuple[str, str]]:
    """Returns the (boot, test) pairs that must notice a patch."""
    return re.findall(r"^Noticed-by: ([^:]*): (.*)$", patch.read_text(), re.M)


def git(*words: str) -> int:
    """Runs git on the tree; returns its exit status."""
    return subprocess.run(["git", "-C", str(TREE), *words], close_fds=False, check=False).returncode


def apply(patches: collections.abc.Sequence[pathlib.Path]) -> None:
    """Applies patches to the tree, which must be clean."""
    git("checkout", "-q", "-f")
    for patch in patches:
        if git("apply", str(patch)):
            raise Failure(f"{patch.name} no longer applies: update it")


def failed(results: list[Result], where: str, test: str) -> bool:
    """Returns whether the test of that boot has failed. A missing figure does not count, nor does
    what a machine that has not finished has not printed. The parser of TAP loses the name of a
    program that ends before its last test."""
    own = [result for result in results if result.where == where and result.status == "fail"]
    unfinished = any(result.name.startswith("machine/") for result in own)
    program, _, alone = test.partition("/")
    if program in ("console", "executed"):
        return not unfinished and any(
            result.name.startswith(test) and "counted nothing" not in result.detail
            for result in own
        )
    return any(result.name.startswith(test) or result.name == alone for result in own)


def broken(patches: list[pathlib.Path]) -> list[Result]:
    """Returns whether each test that must notice one of the patches does."""
    apply(patches)
    Kernel("armature").build()
    names = {where for patch in patches for where, _ in noticed_by(patch)}
    results, _ = boot.run_all([one for one in matrix.load() if one.name in names], BUILD / "breaks")
    found = []
    for patch in patches:
        what = f"{patch.stem}: {patch.read_text().splitlines()[0]}"
        found += [
            fact("breaks", f"{what}: noticed by {where}: {test}", failed(results, where, test))
            for where, test in noticed_by(patch)
        ]
    for missed in (result for result in found if result.status == "fail"):
        say("breaks", f"NOT {missed.name}")
    return found


def step() -> list[Result]:
    """Returns whether all patches were noticed."""
    chosen = sorted(
        PATCHES.glob(f"*{asked('BREAKS')}*.patch"), key=lambda patch: (group(patch), patch.name)
    )
    if not chosen:
        raise Failure(f"BREAKS={asked('BREAKS')} matches nothing in tools/test/breaks")
    names = {where for patch in chosen for where, _ in noticed_by(patch)}
    needs = boot.needs(one for one in matrix.load() if one.name in names)
    build.all_of(needs)
    if "files:oracle" in needs:
        # The programs, which the boots read.
        oracle.step()
    # From here on, build the tree as it is, with the patches.
    os.environ["AS_IT_IS"] = "1"
    results: list[Result] = []
    try:
        for number, patches in itertools.groupby(chosen, group):
            say("breaks", f"group {number}")
            try:
                results += broken(list(patches))
            except Failure as failure:
                # The other groups go on.
                results.append(fact("breaks", f"group {number}", False, str(failure)))
    finally:
        del os.environ["AS_IT_IS"]
        kernels.tree()
    return results

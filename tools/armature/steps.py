# SPDX-License-Identifier: GPL-2.0
"""Runs `make test`, from the selection to the report, including the steps besides the boots."""

import collections.abc
import contextlib
import dataclasses
import os
import shutil
import time

from armature import (
    bench,
    boot,
    breaks,
    build,
    deb,
    journey,
    lint,
    matrix,
    migrate,
    model,
    oracle,
    process,
    profile_move,
    pure,
    report,
)
from armature.ktap import Result, of_step
from armature.matrix import Boot
from armature.place import LOGS, REPORT, asked, spent
from armature.process import Failure, inside, say, script

# Steps that only read the source come last, and start only before this part of DEADLINE: boots
# have priority.
READERS_SHARE = 0.85


@dataclasses.dataclass(frozen=True)
class Step:
    """A step besides the boots of the matrix: `run` returns its results. ONLY= selects the step by
    its name, by one of its subjects, or by boots with goals that need its results; `make test`
    without ONLY= selects the step unless `alone` is set."""

    name: str
    run: collections.abc.Callable[[], list[Result]]
    subjects: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    alone: bool = False


def shell(name: str, command: list[str]) -> list[Result]:
    """Runs a shell step that prints TAP, and keeps its output in build/report/steps."""
    tap, env = REPORT / f"steps/{name}.tap", {**os.environ, "AS_IT_IS": "1"}
    with open(tap, "wb") as out, process.started(
        command, LOGS / f"step-{name}.log", out, env
    ) as child:
        code = child.wait()
    return of_step(name, tap.read_text(errors="replace"), code)


def of_shell(name: str, command: list[str]) -> Step:
    """Returns the shell step called `name`."""
    return Step(name, lambda: shell(name, command))


# The steps, in the order in which they run.
PURE = Step("pure", pure.step)
BESIDE = (
    PURE,
    of_shell("house", ["env", "OBJECTS=1", script("test/house.sh")]),
    of_shell("plugins", inside(script("machine/plugins/test.sh"))),
)
ON_MACHINES = (
    Step("machine", model.step, ("debug_topology", "icache", "memory_model", "spe")),
    Step("oracle", oracle.step, needs=frozenset({"files:oracle"})),
    Step("migrate", migrate.step, ("debug_topology", "baseline")),
    Step("fleet", journey.step, ("baseline",)),
    Step(profile_move.STEP, profile_move.step, ("spe",)),
    Step("counts", bench.step, ("debug_topology", "memory_model", "spe", "baseline")),
    Step("breaks", breaks.step, alone=True),
    Step("deb", deb.step, alone=True),
)
READERS = (Step("lint", lint.step), Step("docs", lint.docs))
EVERY = (*BESIDE, *ON_MACHINES, *READERS)


@dataclasses.dataclass
class Selection:
    """The boots and steps that ONLY= selects."""

    boots: list[Boot]
    steps: list[Step]


@dataclasses.dataclass
class Outcome:
    """The results of a step."""

    results: list[Result]
    seconds: float = 0.0


def wanted(step: Step, pattern: str, boots: list[Boot]) -> bool:
    """Returns whether ONLY=`pattern` selects a step, and these boots."""
    if step.name == pattern:
        return True
    if step in READERS:
        return bool(asked("LINT"))
    if step.name == "counts" and asked("CONFIG"):
        # Counts are for kernels without debug checks.
        return False
    if not pattern:
        return not step.alone
    if step is PURE:
        # A single boot is used in a developer's inner loop.
        return bool(boots) and not pattern.startswith("=")
    return pattern in step.subjects or bool(step.needs & boot.needs(boots))


def select(pattern: str) -> Selection:
    """Returns the selection of ONLY=`pattern`. Raises Failure if it is empty."""
    boots = matrix.load()
    names = {step.name for step in EVERY}
    chosen = matrix.select(boots, pattern)
    if not chosen and pattern not in names:
        raise Failure(
            f"ONLY={pattern} matches nothing; it may be words of a boot's name or one of: "
            f"{' '.join(sorted({*matrix.words(boots), *names}))}"
        )
    if pattern in {one.name for one in boots}:
        pattern = f"={pattern}"
    steps = [step for step in EVERY if wanted(step, pattern, chosen)]
    return Selection(chosen, steps)


def attempt(step: Step) -> Outcome:
    """Runs a step. A failure becomes a result, so that the other steps continue."""
    if asked("DEADLINE") and step not in BESIDE:
        if spent() > float(asked("DEADLINE")) * (READERS_SHARE if step in READERS else 1):
            say(step.name, "skipped: no time left")
            return Outcome([Result(step.name, step.name, "skip", "no time left")])
    say(step.name, "testing")
    begun = time.monotonic()
    try:
        results = step.run()
    except Exception as error:  # the other steps go on
        what = str(error) if isinstance(error, Failure) else f"{type(error).__name__}: {error}"
        results = [Result(step.name, f"{step.name} ran to its end", "fail", what)]
    bad = sum(result.status == "fail" for result in results)
    say(step.name, f"{len(results) - bad} of {len(results)}{'  FAILED' if bad else ''}")
    return Outcome(results, time.monotonic() - begun)


def beside_the_build(chosen: Selection) -> dict[str, Outcome]:
    """Builds the goals, and meanwhile runs the steps that need no machine."""
    outcomes: dict[str, Outcome] = {}

    def goal_of(step: Step) -> build.Goal:
        def run() -> None:
            outcomes[step.name] = attempt(step)

        return build.Goal(run, {"tree", "sysreg"})

    build.ALSO.update(
        {f"step:{step.name}": goal_of(step) for step in chosen.steps if step in BESIDE}
    )
    build.all_of(boot.needs(chosen.boots) | set(build.ALSO))
    return {step.name: outcomes[step.name] for step in BESIDE if step.name in outcomes}


def noted(step: Step) -> Outcome:
    """Runs a step, and keeps what it prints in build/report/steps."""
    with open(
        REPORT / f"steps/{step.name}.txt", "w", encoding="utf-8"
    ) as said, contextlib.redirect_stdout(said):
        return attempt(step)


def test() -> int:
    """Builds the goals of the selected tests, runs the tests, and reports; returns 1 on failure."""
    if asked("CONFIG") not in ("", "debug"):
        raise Failure(f"CONFIG={asked('CONFIG')} is unknown: debug, or nothing")
    chosen = select(asked("ONLY"))
    shutil.rmtree(REPORT, ignore_errors=True)
    (REPORT / "steps").mkdir(parents=True)
    outcomes = beside_the_build(chosen)
    for step in (step for step in chosen.steps if step in ON_MACHINES):
        outcomes[step.name] = noted(step)
    found: list[Result] = []
    took: dict[str, float] = {}
    if chosen.boots:
        say("boot", f"booting {len(chosen.boots)} machines")
        found, took = boot.run_all(matrix.in_turn(chosen.boots), REPORT / "boots")
    for step in (step for step in chosen.steps if step in READERS):
        outcomes[step.name] = noted(step)
    results = [result for outcome in outcomes.values() for result in outcome.results]
    seconds = {name: outcome.seconds for name, outcome in outcomes.items()}
    return report.write(results + found, seconds | took, chosen.boots)

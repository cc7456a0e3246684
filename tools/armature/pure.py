# SPDX-License-Identifier: GPL-2.0
"""Runs the tests that need no machine: the pure modules on the build host, the generator against C,
and the code that judges results.

The modules' tests.rs are programs for the build host. The crate `kernel` that they use is a small
one: the kernel's own files, and tools/test/host for the rest.
"""

import pathlib
import re
import shutil

from armature import build, process
from armature.ktap import Result, fact
from armature.lint import Log
from armature.place import BUILD, TOP, TREE, asked
from armature.process import Failure, inside, say

STEP = "pure"
WORK = BUILD / STEP
RUSTC = ("rustc", "--edition", "2021", "-O")
EPOCH = pathlib.Path("arch/arm64/kvm/icache/epoch.rs")
BARRIER = "        cpu.complete();\n"
# The barriers of EPOCH that the exploration of all interleavings knows; that of
# icache_inval_all_pou() has a test of its own.
BARRIERS = 2
EXPLORATION = "every_interleaving"
# Other changes of EPOCH that it must notice: the old text, the new text, and what they take away.
MUTATIONS = (
    ("for _ in 0..turns {", "for _ in 0..u64::from(turns) << 40 {", "the bound of a wait"),
    (
        "        cpu.invalidate_all();\n",
        "        cpu.invalidate_all();\n        self.done.store_release(seen.wrapping_add(1));\n",
        "who may raise done",
    ),
    ("if done > seen {", "if done >= seen {", "what started too early"),
    (
        "self.started.change(done, ",
        "self.started.change(self.started.load_acquire(), ",
        "that there is one owner",
    ),
)
# The condition for a value that all hosts of a fleet accept.
COMMON = "others.iter().all(|set| set.contains(*value))"


def host_crate(log: Log) -> None:
    """Builds the crate `kernel` of the build host. Raises Failure if it does not build."""
    crate, generated = WORK / "kernel", WORK / "arch/arm64/include/generated/rust"
    for directory in (crate / "arm64", generated):
        directory.mkdir(parents=True)
    for source in ("bitfield.rs", "num.rs"):
        shutil.copy(TREE / "rust/kernel" / source, crate)
    shutil.copytree(TREE / "rust/kernel/num", crate / "num")
    for source in ("access.rs", "sysreg.rs"):
        shutil.copy(TOP / "rust/kernel/arm64" / source, crate / "arm64")
    shutil.copy(TOP / "tools/test/host/kernel.rs", crate)
    shutil.copy(TOP / "tools/test/host/fake.rs", crate / "arm64")
    script = """
        "$1/gen-sysreg" --types "$2/arch/arm64/tools/sysreg" > "$3/sysreg-types.rs"
        rustc --edition 2021 -O --cap-lints allow --crate-type proc-macro --crate-name paste \\
            --extern proc_macro /usr/share/cargo/registry/paste-*/src/lib.rs --out-dir "$4"
        OBJTREE=$4 rustc --edition 2021 -O --crate-type rlib --extern "paste=$4/libpaste.so" \\
            "$4/kernel/kernel.rs" --out-dir "$4"
        """
    places = (BUILD / "sysreg", TREE, generated, WORK)
    if not log.run(inside("sh", "-euc", script, "sh", *places)):
        raise Failure(f"the host's kernel crate does not build: {log.path.relative_to(TOP)}")


def compiled(log: Log, root: pathlib.Path, out: pathlib.Path, *flags: str) -> bool:
    """Builds a crate root of tests; returns whether it builds."""
    words = [*build.with_sysreg(), *RUSTC, *flags, "--extern", "kernel", "--test"]
    return log.run(inside(*words, "-L", WORK, root, "-o", out))


def component(root: pathlib.Path) -> list[Result]:
    """Returns the results of a component's tests.rs."""
    name = root.parent.name
    log, program = Log(f"pure-{name}"), WORK / name
    if not compiled(log, root, program, "-D", "warnings", "--crate-name", name):
        return [fact(STEP, f"{name} builds", False, log.text()[-300:])]
    # The build root clears the environment.
    wish = [f"SEQUENCES={asked('SEQUENCES')}"] if asked("SEQUENCES") else []
    good = log.run(inside("env", *wish, program, "--test-threads", "2"))
    return tests_of(name, log, good)


def tests_of(name: str, log: Log, good: bool) -> list[Result]:
    """Returns the results of a Rust test program, whose exit status was 0 if `good`."""
    tests = re.findall(r"^test (\S+) .*\.\.\. (\w+)$", log.text(), re.M)
    results = [fact(STEP, f"{name}::{test}", status == "ok") for test, status in tests]
    if not good or not results:
        results.append(fact(STEP, f"{name} ends well", False, log.text()[-300:]))
    return results


def tool() -> list[Result]:
    """Returns the results of the tests of tools/baseline."""
    log = Log("pure-baseline-tool")
    return tests_of("baseline-tool", log, log.run(testing(TOP / "tools/baseline")))


def testing(tool_: pathlib.Path) -> list[str]:
    """Returns the command that tests the tool in a directory."""
    (BUILD / "baseline").mkdir(exist_ok=True)
    out = BUILD / "baseline/test"
    return inside(*build.with_tables(), "TEST=1", tool_ / "build", out, "host")


def greater() -> Result:
    """Returns whether the tool's tests fail if it takes the greater of two values although one
    host lacks it."""
    broken, log = WORK / "broken-baseline", Log("pure-baseline-broken")
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(TOP / "tools/baseline", broken)
    text = (broken / "src/merge.rs").read_text()
    (broken / "src/merge.rs").write_text(text.replace(COMMON, COMMON.replace("all", "any")))
    noticed = (
        COMMON in text
        and not log.run(testing(broken))
        and re.search(r"^test .*random_fleets .*FAILED", log.text(), re.M) is not None
    )
    what = "baseline: a value that one host lacks is noticed"
    return fact(STEP, what, noticed, log.text()[-300:])


def mutations() -> list[tuple[str, str]]:
    """Returns texts of EPOCH that lack one thing each, and the names of these things."""
    text = (TOP / EPOCH).read_text()
    ends = [match.end() for match in re.finditer(re.escape(BARRIER), text)]
    found = [
        (
            text[: end - len(BARRIER)] + text[end:],
            f"the barrier before line {text[:end].count(chr(10))}",
        )
        for end in ends
    ]
    return found + [(text.replace(old, new), what) for old, new, what in MUTATIONS]


def misses(text: str, what: str) -> Result:
    """Returns whether the exploration of all interleavings fails with this text of EPOCH."""
    broken, log = WORK / "broken", Log("pure-broken")
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree((TOP / EPOCH).parent, broken)
    (broken / EPOCH.name).write_text(text)
    failed = re.compile(rf"^test .*{EXPLORATION}_of_three_requests .* FAILED", re.M)
    noticed = (
        text != (TOP / EPOCH).read_text()
        and compiled(log, broken / "tests.rs", WORK / "explore")
        and not log.run(inside(WORK / "explore", EXPLORATION))
        and failed.search(log.text()) is not None
    )
    return fact(STEP, f"icache: the exploration misses {what}", noticed, log.text()[-300:])


def constants() -> Result:
    """Returns whether the generator's constants are those of C."""
    log = Log("pure-sysreg")
    good = log.run(inside(TOP / "tools/test/sysreg-consts.sh", TREE))
    last = "".join(process.last_lines(log.path, 1))
    return fact(STEP, f"sysreg: {last if good else 'constants are those of C'}", good, last)


def judges() -> Result:
    """Returns whether the tests of the code that judges results pass."""
    log = Log("pure-judges")
    words = "env PYTHONPATH=tools python3 -B -m unittest discover -t tools -s tools/armature/tests"
    good = log.run(inside(*words.split()))
    ran = re.search(r"^Ran ([1-9]\d*) tests", log.text(), re.M)
    what = f"what judges in tools/armature: {ran[1] if ran else 'no'} tests"
    return fact(STEP, what, good and ran is not None, log.text()[-300:])


def step() -> list[Result]:
    """Returns all of this."""
    build.all_of({"sysreg"})
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    host_crate(Log("pure-crate"))
    results = []
    for root in sorted(TOP.glob("arch/arm64/k*/*/tests.rs")):
        results += component(root)
    results += [*tool(), greater()]
    say("pure", "the exploration without one thing at a time")
    changed = mutations()
    barriers = len(changed) - len(MUTATIONS)
    if barriers != BARRIERS:
        results.append(
            fact(STEP, f"icache: {BARRIERS} barriers can be taken away", False, f"{barriers}")
        )
    results += [misses(text, what) for text, what in changed]
    return [*results, constants(), judges()]

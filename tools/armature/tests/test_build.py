# SPDX-License-Identifier: GPL-2.0
"""Tests the order of builds, the configurations of kernels, and the selection of steps."""

import os
import threading
import time
import unittest
import unittest.mock

from armature import breaks, build, kernels, process, steps
from armature.kernels import Kernel
from armature.ktap import Result
from armature.process import Failure


class Graph(unittest.TestCase):
    """Tests goals and their dependencies."""

    def goals(self, done: list[str], **needs: set[str]) -> dict[str, build.Goal]:
        """Returns goals that record in `done` that they were built."""

        def noting(name: str) -> build.Goal:
            return build.Goal(lambda: done.append(name), needs[name])

        return {name: noting(name) for name in needs}

    def test_order(self) -> None:
        """Checks that dependencies come first, each goal is built once, and no other goals are."""
        done: list[str] = []
        with unittest.mock.patch.object(
            build, "ALSO", self.goals(done, a={"b", "c"}, b={"c"}, c=set(), d=set())
        ), unittest.mock.patch.object(build, "_reached", set()):
            build.all_of({"a"})
            build.all_of({"a", "b"})
        self.assertEqual(done, ["c", "b", "a"])

    def test_failure(self) -> None:
        """Checks that a failure ends the build, and that no dependent goal is built."""

        def fails() -> None:
            raise Failure("no")

        done: list[str] = []
        goals = {**self.goals(done, a={"b"}), "b": build.Goal(fails)}
        with unittest.mock.patch.object(build, "ALSO", goals), unittest.mock.patch.object(
            build, "_reached", set()
        ), self.assertRaisesRegex(Failure, "no"):
            build.all_of({"a"})
        self.assertEqual(done, [])


class Interruption(unittest.TestCase):
    """A command that is interrupted."""

    def test_what_runs_ends_and_nothing_else_begins(self) -> None:
        """Ends within a second, whatever was queued."""
        begun: list[int] = []

        def job(number: int) -> None:
            begun.append(number)
            process.output(["sleep", "60"])

        started = time.monotonic()
        with unittest.mock.patch.object(process, "_ending", threading.Event()), self.assertRaises(
            KeyboardInterrupt
        ), process.pool(2) as pool:
            jobs = [pool.submit(job, number) for number in range(9)]
            while len(begun) < 2:
                time.sleep(0.01)
            raise KeyboardInterrupt
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual(sorted(begun), [0, 1])
        self.assertTrue(all(one.cancelled() for one in jobs[2:]))

    def test_half_a_file_is_written_again(self) -> None:
        """Checks that make does not take for finished what a killed program has begun, that nothing
        else is built again, and that an error of the build leaves what stands."""
        objects = process.scratch("resumed")
        for target, recipe in (
            ("old", "cp source $@"),
            ("new", "head -c1 source > $@; $$KILL; cp source $@"),
            ("bad", "cp new $@; $$FAIL; cp source $@"),
        ):
            with open(objects / "Makefile", "a", encoding="utf-8") as file:
                file.write(f"{target}: source\n\t{recipe}\n")
        (objects / "source").write_text("whole")
        long_ago = time.time() - 60
        os.utime(objects / "source", (long_ago, long_ago))

        def make(target: str, **env: str) -> None:
            words = [f"{key}={value}" for key, value in env.items()]
            with process.resumed(objects):
                process.logged("make", ["env", *words, "make", "-C", str(objects), target])

        make("old")
        time.sleep(0.05)
        with self.assertRaises(process.Killed):
            make("new", KILL="kill -KILL 0")
        self.assertEqual((objects / "new").read_text(), "w")
        old = (objects / "old").stat().st_mtime_ns
        make("new")
        self.assertEqual((objects / "new").read_text(), "whole")
        self.assertEqual((objects / "old").stat().st_mtime_ns, old)
        new = (objects / "new").stat().st_mtime_ns
        time.sleep(0.05)
        with unittest.mock.patch("sys.stderr"), self.assertRaises(Failure):
            make("bad", FAIL="exit 1")
        make("bad")
        self.assertEqual((objects / "new").stat().st_mtime_ns, new)


class Configuration(unittest.TestCase):
    """Tests the configuration of a kernel."""

    def test_options_are_those_of_the_menu(self) -> None:
        """Checks that the options are those of the menu, and that test options are separate."""
        self.assertIn("CONFIG_KVM_ARM64_DEBUG_TOPOLOGY=y\n", kernels.options())
        self.assertNotIn("_TEST", kernels.options())
        self.assertEqual(
            [line for line in kernels.options(test=True).split() if "_TEST=" not in line], []
        )

    def test_what_is_not_taken(self) -> None:
        """Checks that the last line that names an option counts."""
        config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\n"
        for want, missing in (
            ("CONFIG_A=y\n", []),
            ("# CONFIG_D is not set\n", []),
            ("CONFIG_A=n\nCONFIG_A=y\n", []),
            ("CONFIG_B=y\n", ["CONFIG_B=y"]),
            ("# CONFIG_C is not set\n", ["# CONFIG_C is not set"]),
        ):
            self.assertEqual(kernels.not_taken(want, config), missing)

    def test_no_such_kernel(self) -> None:
        """Checks that the error names the choices."""
        with self.assertRaisesRegex(Failure, "no kernel 'x': armature"):
            Kernel("x")


class Steps(unittest.TestCase):
    """Tests which steps belong to a selection."""

    def names(self, only: str, **env: str) -> list[str]:
        """Returns the steps that ONLY=`only` selects."""
        with unittest.mock.patch.dict("os.environ", {"CONFIG": "", "LINT": "", **env}):
            return [step.name for step in steps.select(only).steps]

    def test_selections(self) -> None:
        """Checks the selection of everything, one boot, a capability, and a step."""
        everything = ["pure", "house", "plugins"]
        everything += ["machine", "oracle", "migrate", "fleet", "profile-move", "counts"]
        self.assertEqual(self.names(""), everything)
        self.assertEqual(self.names("", LINT="1"), [*everything, "lint", "docs"])
        self.assertNotIn("counts", self.names("", CONFIG="debug"))
        self.assertEqual(self.names("=icache-n1-vhe"), [])
        self.assertEqual(self.names("=debug_topology-vhe"), ["oracle"])
        self.assertEqual(self.names("icache"), ["pure", "machine"])
        self.assertEqual(
            self.names("debug_topology"), ["pure", "machine", "oracle", "migrate", "counts"]
        )
        self.assertEqual(self.names("baseline"), ["pure", "migrate", "fleet", "counts"])
        self.assertIn("profile-move", self.names("spe"))
        self.assertEqual(self.names("profile-move"), ["profile-move"])
        self.assertEqual(self.names("=baseline-max"), [])
        self.assertEqual(self.names("breaks"), ["breaks"])
        for alone in ("pure", "fleet", "counts", "lint", "docs", "machine"):
            self.assertIn(alone, self.names(alone))
        with self.assertRaisesRegex(Failure, "matches nothing"):
            self.names("no-such-test")


class Attempt(unittest.TestCase):
    """A step that does not come to its end."""

    def test_it_is_a_failure_and_the_others_go_on(self) -> None:
        """Raises one of any kind."""
        for reason in (Failure("no"), OSError("no")):

            def run(reason: Exception = reason) -> list[Result]:
                raise reason

            results = steps.attempt(steps.Step("step", run)).results
            self.assertEqual(
                [(r.name, r.status) for r in results], [("step ran to its end", "fail")]
            )
            self.assertIn("no", results[0].detail)

    def test_no_time_left(self) -> None:
        """Starts no step after the deadline, and none that reads the source even
        shortly before it."""
        for spent, reader, status in (
            (99, False, "pass"),
            (101, False, "skip"),
            (99, True, "skip"),
        ):
            step = steps.Step("step", lambda: [Result("step", "it", "pass")])
            with (
                unittest.mock.patch.dict("os.environ", {"DEADLINE": "100"}),
                unittest.mock.patch("armature.steps.spent", return_value=spent),
                unittest.mock.patch("armature.steps.READERS", (step,) if reader else ()),
            ):
                self.assertEqual(steps.attempt(step).results[0].status, status)


class Breaks(unittest.TestCase):
    """Tests whether a break counts as noticed."""

    def test_noticed(self) -> None:
        """Checks that the named test of a finished boot must fail, and not for lack of a figure."""
        bad, other = Result("b", "one/two", "fail", "x"), Result("b", "three", "fail", "x")
        self.assertTrue(breaks.failed([bad], "b", "one/two"))
        self.assertFalse(breaks.failed([other], "b", "one"))
        self.assertFalse(breaks.failed([Result("b", "one", "pass")], "b", "one"))
        self.assertFalse(breaks.failed([bad], "c", "one/two"))
        dead = Result("b", "machine/ended", "fail")
        self.assertTrue(breaks.failed([bad, dead], "b", "one/two"))
        for name in ("console/two", "executed/two"):
            self.assertTrue(breaks.failed([Result("b", name, "fail")], "b", name))
            self.assertFalse(breaks.failed([Result("b", name, "fail"), dead], "b", name))
        # The program has ended before its last test.
        self.assertTrue(breaks.failed([Result("b", "two", "fail")], "b", "one/two"))
        nothing = Result("b", "executed/one", "fail", "counted nothing")
        self.assertFalse(breaks.failed([nothing], "b", "executed/one"))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: GPL-2.0
"""Tests the judging of consoles, KTAP, figures, and machines that do not end."""

import pathlib
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree as xml

from armature import boot, counts, ktap, place, process, report
from armature.boot import Ran
from armature.ktap import Result
from armature.matrix import Boot, Machine

TWO = (("one", "true"), ("two", "true"))
BOOT = Boot("boot", ("x",), Machine(), tests=TWO, limit=360)


class Logs(unittest.TestCase):
    """Tests that need the logs of a boot."""

    def ran(self, what: Boot = BOOT, code: int | None = 0, console: str = "", tap: str = "") -> Ran:
        """Returns a boot that has left these logs."""
        where = tempfile.TemporaryDirectory()
        self.addCleanup(where.cleanup)
        path = pathlib.Path(where.name)
        (path / "console.log").write_text(console)
        (path / "tap.log").write_text(tap)
        return Ran(what, path, code)


class Deadline(Logs):
    """Tests that no boot starts after DEADLINE, and that a running one has GRACE more."""

    def test_what_is_left_is_skipped_and_says_so(self) -> None:
        """Checks that a boot after DEADLINE does not start."""
        with unittest.mock.patch.object(boot, "run") as run, unittest.mock.patch.dict(
            "os.environ", {"DEADLINE": "10"}
        ), unittest.mock.patch.object(boot, "spent", return_value=11):
            results = boot.in_time(BOOT, place.BUILD)
        run.assert_not_called()
        self.assertEqual([(r.name, r.status) for r in results], [("machine/ran", "skip")])

    def test_what_does_not_end_in_time_is_skipped_too(self) -> None:
        """Checks that a boot is judged if it has ended, or without DEADLINE."""
        for deadline, code, status in (
            ("10", None, {"skip"}),
            ("10", 1, {"pass", "fail"}),
            ("", None, {"pass", "fail"}),
        ):
            ran = self.ran(code=code)
            with unittest.mock.patch.object(
                boot, "run", return_value=ran
            ) as run, unittest.mock.patch.dict(
                "os.environ", {"DEADLINE": deadline}
            ), unittest.mock.patch.object(
                boot, "spent", return_value=9
            ), unittest.mock.patch.object(
                boot, "GRACE", 100
            ):
                results = boot.in_time(BOOT, place.BUILD)
            self.assertEqual({r.status for r in results}, status)
            self.assertEqual(run.call_args.args[0].limit, 101 if deadline else 360)


class Splats(unittest.TestCase):
    """Tests messages that no healthy kernel prints."""

    def judged(self, console: str, crash: bool = False) -> str:
        """Returns whether the console is good."""
        own = Boot("boot", (), Machine(), crash=crash)
        return next(
            r.status for r in boot.judge_console(own, console) if r.name == "console/no splat"
        )

    def test_reports_fail_the_boot(self) -> None:
        """Checks warnings, BUGs, sanitizers, lockdep and stalls."""
        for line in (
            "WARNING: CPU: 0 PID: 1 at kernel/smp.c:1 f+0x1/0x2",
            "BUG: KASAN: slab-out-of-bounds in f+0x1/0x2",
            "BUG: sleeping function called from invalid context at f.c:1",
            "UBSAN: array-index-out-of-bounds in f.c:1:2",
            "Internal error: Oops: 0000000096000004 [#1] SMP",
            "Kernel panic - not syncing: nVHE hyp panic",
            "INFO: task init:1 blocked for more than 120 seconds.",
            "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "WARNING: possible circular locking dependency detected",
            "INFO: possible recursive locking detected",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 26s!",
        ):
            self.assertEqual(self.judged(f"[ 0.1] a\n[ 1.0] {line}\n[ 1.1] b\n"), "fail", line)

    def test_a_report_says_where(self) -> None:
        """Checks that the place of a warning is reported, without times; an end before it fails."""
        cut = "[    1.0] a\n[    1.1][   T17] ------------[ cut here ]------------\n"
        where = "WARNING: kernel/smp.c:1 at f+0x1/0x2, CPU#0: init/1"
        for console, detail in (
            (f"{cut}[    1.2][   T17] {where}\n[    1.3] pc : f\n", f"{where}\npc : f"),
            (cut, ""),
        ):
            result = next(boot.judge_console(Boot("boot", (), Machine()), console))
            self.assertEqual((result.status, result.detail), ("fail", detail))

    def test_what_a_healthy_kernel_says_does_not(self) -> None:
        """Checks similar words in healthy messages."""
        for line in (
            "Debug warnings are on",
            "kvm [1]: VHE mode initialized successfully",
            "SYS_ID_AA64ISAR0_EL1[23:20]: forced to 0",
        ):
            self.assertEqual(self.judged(line), "pass", line)

    def test_a_panic_that_is_asked_for(self) -> None:
        """Checks that only that panic is accepted, and only up to the next kernel."""
        console = (
            "[ 1.0] sysrq: Trigger a crash\n[ 1.0] Kernel panic - not syncing: sysrq triggered "
            "crash\n[ 1.1] Call trace:\n[ 1.2] Bye!\n[ 0.0] Booting Linux\n"
        )
        for text, crash, status in (
            (console, True, "pass"),
            (console, False, "fail"),
            (console + "[ 0.1] WARNING: CPU: 0", True, "fail"),
            (console.replace("Bye!", ""), True, "fail"),
        ):
            self.assertEqual(self.judged(text, crash), status)

    def test_patterns(self) -> None:
        """Checks required and forbidden patterns."""
        own = Boot("boot", (), Machine(), log=("wanted",), nolog=("bad",))
        for console, statuses in (
            ("wanted", ["pass", "pass", "pass"]),
            ("bad", ["pass", "fail", "fail"]),
        ):
            self.assertEqual([r.status for r in boot.judge_console(own, console)], statuses)


class Ktap(unittest.TestCase):
    """Tests the reading of KTAP."""

    def statuses(self, text: str, *skips: str) -> dict[str, str]:
        """Returns the statuses by name."""
        return {r.name: r.status for r in ktap.results("boot", text, skips)}

    def test_passed_and_failed(self) -> None:
        """Checks the status of each test by name."""
        said = self.statuses("KTAP version 1\n1..2\nok 1 one\nnot ok 2 two # exit 1\n# end\n")
        self.assertEqual(said, {"one": "pass", "two": "fail"})

    def test_nothing_and_half_are_failures(self) -> None:
        """Checks that a test that has not run has not passed."""
        for text in ("", "KTAP version 1\n1..2\n", "KTAP version 1\n1..2\nok 1 one\n"):
            self.assertIn("fail", self.statuses(text).values())

    def test_a_skip_needs_a_reason_that_the_row_has(self) -> None:
        """Checks that any other skip is a failure."""
        text = "KTAP version 1\n1..1\nok 1 one # SKIP no such device\n"
        self.assertEqual(self.statuses(text), {"one": "fail"})
        self.assertEqual(self.statuses(text, "*no such device*"), {"one": "skip"})

    def test_steps(self) -> None:
        """Checks that the plan may come last, and that a dead or silent step fails."""

        def step(text: str, code: int) -> list[tuple[str, str]]:
            return [(r.name, r.status) for r in ktap.of_step("step", text, code)]

        good = "# said\nok 1 - one\nok 2 - two # SKIP none\n1..2\n"
        self.assertEqual(step(good, 0), [("one", "pass"), ("two", "skip")])
        self.assertEqual(step("not ok 1 - one\n1..1\n", 1), [("one", "fail")])
        for text, code in (
            (good, 1),
            ("ok 1 - one\n", 0),
            ("ok 1 - one\n1..2\n", 0),
            ("", 0),
            ("1..0\n", 1),
        ):
            self.assertEqual(step(text, code)[-1], ("step ran to its end", "fail"))


class Ends(Logs):
    """Tests the ways in which a machine can end."""

    def test_that_of_all_tests(self) -> None:
        """Checks that a complete run is no error."""
        self.assertIsNone(boot.how_it_ended(self.ran(tap="# running one\nok 1 one\n# end\n")))

    def test_hung(self) -> None:
        """Checks that the hanging test is named, in KUnit too."""
        ran = self.ran(code=None, tap="# running one\nok 1 one\n# running two\n")
        self.assertEqual(boot.how_it_ended(ran), "no end after 360 s, in two")
        kunit = Boot("boot", (), Machine(), kunit=True)
        ran = self.ran(kunit, None, "# Subtest: icache\n    ok 1 bound\n")
        self.assertIn("in bound", str(boot.how_it_ended(ran)))

    def test_stopped_by_itself(self) -> None:
        """Checks a machine that stops early, or with a bad exit status."""
        self.assertEqual(
            boot.how_it_ended(self.ran()), "the machine stopped by itself, in the boot"
        )
        ran = self.ran(code=1, tap="# running two\n# end\n")
        self.assertIn("status 1", str(boot.how_it_ended(ran)))

    def test_what_is_started_ends_with_the_block(self) -> None:
        """Checks that a process ends with the block, and leaves its status if it ends by itself."""
        with tempfile.TemporaryDirectory() as where:
            log = pathlib.Path(where) / "log"
            with process.started(["sleep", "60"], log) as child:
                pass
            self.assertEqual(child.returncode, -9)
            with process.started(["sh", "-c", "echo said; exit 3"], log) as child:
                self.assertEqual(child.wait(5), 3)
            self.assertEqual(process.last_lines(log, 1), ["said"])


class Counts(unittest.TestCase):
    """Tests rules for the plugin's counts."""

    def judged(self, rule: str, text: str) -> str:
        """Returns whether a rule holds."""
        return counts.judge("boot", [rule], text)[0].status

    def test_rules(self) -> None:
        """Checks that families are summed, and that the figure of a known class may be 0."""
        text = "insns 9\nlse 3\natomics 3\nel 2 lse 3\nwhere lse 0x12 0x34 5\n"
        for rule, status in (
            ("el 2 atomics == 3", "pass"),
            ("el 2 atomics == 0", "fail"),
            ("el 1 atomics == 0", "pass"),
            ("lse > 2", "pass"),
            ("lse <= 2", "fail"),
        ):
            self.assertEqual(self.judged(rule, text), status, rule)

    def test_marks_are_summed(self) -> None:
        """Checks that figures of the same name are summed over marks."""
        text = "insns 9\nlse 3\nmark 1 insns 4\nmark 2 insns 5\nmark 2 lse 3\n"
        self.assertEqual(self.judged("mark insns == 9", text), "pass")
        self.assertEqual(self.judged("mark lse == 3", text), "pass")

    def test_no_figure_is_no_zero(self) -> None:
        """Checks that a missing count or mark is not taken for 0."""
        self.assertEqual(self.judged("el 2 atomics == 0", ""), "fail")
        self.assertEqual(self.judged("mark lse == 0", "insns 9\nlse 3\n"), "fail")


class Report(unittest.TestCase):
    """Tests the report."""

    def test_junit_takes_any_name(self) -> None:
        """Checks names with characters that XML forbids."""
        results = [Result("boot", "a\x01b<&", "fail", "c\x02")]
        with tempfile.TemporaryDirectory() as where, unittest.mock.patch.object(
            report, "REPORT", pathlib.Path(where)
        ):
            report.junit(results, {"boot": 1.0})
            suite = xml.parse(pathlib.Path(where) / "junit.xml").getroot()[0]
        self.assertEqual((suite.get("failures"), suite[0].get("name")), ("1", "a?b<&"))


if __name__ == "__main__":
    unittest.main()

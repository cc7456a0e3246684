# SPDX-License-Identifier: GPL-2.0
"""What run.py makes of consoles, of KTAP and of machines that do not end."""

import pathlib
import sys
import tempfile
import unittest
import unittest.mock
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import run  # noqa: E402

ROW = {"limit": 360, "name": "boot", "tests": ["one: true", "two: true"]}


def statuses(text, **row):
    return {r.name: r.status for r in run.results_of({**ROW, **row}, text)}


class Deadline(unittest.TestCase):
    def test_what_is_left_is_skipped_and_says_so(self):
        with unittest.mock.patch.dict(run.os.environ, {"DEADLINE": "10"}):
            results, seconds = run.boot_in_time(ROW, run.time.time() - 11)
            self.assertEqual([(r.name, r.status) for r in results], [("machine/ran", "skip")])
        for deadline, begun in (("", 0), ("10", run.time.time())):
            with unittest.mock.patch.dict(run.os.environ, {"DEADLINE": deadline}), \
                    unittest.mock.patch.object(run, "boot", return_value=("booted", 0) if deadline else "booted"):
                self.assertEqual(run.boot_in_time(ROW, begun), "booted" if not deadline else ("booted", 0))

    def test_what_does_not_end_in_time_is_skipped_too(self):
        row = {**ROW, "limit": run.GRACE + 100}
        for took, statuses in ((run.GRACE + 5, ["skip"]), (20, ["fail"])):
            with unittest.mock.patch.dict(run.os.environ, {"DEADLINE": "10"}), \
                    unittest.mock.patch.object(run, "boot", return_value=([run.Result("b", "t", "fail")], took)) as boot:
                results, _ = run.boot_in_time(row, run.time.time() - 6)
            self.assertEqual([r.status for r in results], statuses)
            self.assertLess(boot.call_args.args[0]["limit"], run.GRACE + 5)


class Splats(unittest.TestCase):
    def judged(self, line):
        console = f"[    0.1] before\n[    1.0] {line}\n[    1.1] after\n"
        return next(r.status for r in run.judge_log(ROW, console) if r.name == "console/no splat")

    def test_reports_fail_the_boot(self):
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
            self.assertEqual(self.judged(line), "fail", line)

    def test_what_a_healthy_kernel_says_does_not(self):
        for line in ("Debug warnings are on", "kvm [1]: VHE mode initialized successfully",
                     "SYS_ID_AA64ISAR0_EL1[23:20]: forced to 0"):
            self.assertEqual(self.judged(line), "pass", line)

    def test_a_panic_that_is_asked_for(self):
        console = ("[ 1.0] sysrq: Trigger a crash\n[ 1.0] Kernel panic - not syncing: sysrq triggered crash\n"
                   "[ 1.1] Call trace:\n[ 1.2] Bye!\n[ 0.0] Booting Linux\n")
        for text, crash, status in ((console, True, "pass"), (console, False, "fail"),
                                    (console + "[ 0.1] WARNING: CPU: 0", True, "fail"),
                                    (console.replace("Bye!", ""), True, "fail")):
            judged = next(r.status for r in run.judge_log({**ROW, "crash": crash}, text) if r.name == "console/no splat")
            self.assertEqual(judged, status)

    def test_patterns(self):
        row = {**ROW, "log": ["wanted"], "nolog": ["bad"]}
        self.assertEqual([r.status for r in run.judge_log(row, "wanted")], ["pass", "pass", "pass"])
        self.assertEqual([r.status for r in run.judge_log(row, "bad")], ["pass", "fail", "fail"])


class Ktap(unittest.TestCase):
    def test_passed_and_failed(self):
        said = statuses("KTAP version 1\n1..2\nok 1 one\nnot ok 2 two # exit 1\n# end\n")
        self.assertEqual(said, {"one": "pass", "two": "fail"})

    def test_nothing_and_half_are_failures(self):
        self.assertIn("fail", statuses("").values())
        self.assertIn("fail", statuses("KTAP version 1\n1..2\n").values())
        self.assertIn("fail", statuses("KTAP version 1\n1..2\nok 1 one\n").values())

    def test_a_skip_needs_a_reason_that_the_row_has(self):
        text = "KTAP version 1\n1..1\nok 1 one # SKIP no such device\n"
        self.assertEqual(statuses(text), {"one": "fail"})
        self.assertEqual(statuses(text, skips=["*no such device*"]), {"one": "skip"})


class Ends(unittest.TestCase):
    def test_that_of_all_tests(self):
        self.assertIsNone(run.how_it_ended(ROW, 0, "", "# running one\nok 1 one\n# end\n"))

    def test_hung(self):
        said = run.how_it_ended({**ROW, "limit": 7}, None, "", "# running one\nok 1 one\n# running two\n")
        self.assertEqual(said, "no end after 7 s, in two")

    def test_hung_in_kunit(self):
        said = run.how_it_ended({"name": "boot", "kunit": True, "limit": 360}, None, "# Subtest: icache\n    ok 1 bound\n", "")
        self.assertIn("in bound", said)

    def test_stopped_by_itself(self):
        self.assertEqual(run.how_it_ended(ROW, 0, "", ""), "the machine stopped by itself, in the boot")
        self.assertIn("status 1", run.how_it_ended(ROW, 1, "", "# running two\n# end\n"))

    def test_the_limit(self):
        with tempfile.TemporaryDirectory() as where:
            errors = pathlib.Path(where) / "log"
            self.assertIsNone(run.machines.run(["sleep", "60"], 0.2, errors))
            self.assertEqual(run.machines.run(["true"], 5, errors), 0)


class Counts(unittest.TestCase):
    def judged(self, rule, text):
        with tempfile.TemporaryDirectory() as where:
            out = pathlib.Path(where) / "counts"
            out.write_text(text)
            return next(iter(run.judge_counts({**ROW, "count": [rule]}, out))).status

    def test_rules(self):
        text = "insns 9\nlse 3\natomics 3\nel 2 lse 3\n"
        self.assertEqual(self.judged("el 2 atomics == 3", text), "pass")
        self.assertEqual(self.judged("el 2 atomics == 0", text), "fail")
        self.assertEqual(self.judged("el 1 atomics == 0", text), "pass")
        self.assertEqual(self.judged("lse > 2", text), "pass")
        self.assertEqual(self.judged("lse <= 2", text), "fail")

    def test_no_figure_is_no_zero(self):
        self.assertEqual(self.judged("el 2 atomics == 0", ""), "fail")
        self.assertEqual(self.judged("mark lse == 0", "insns 9\nlse 3\n"), "fail")


class Report(unittest.TestCase):
    def test_junit_takes_any_name(self):
        results = [run.Result("boot", "a\x01b<&", "fail", "c\x02")]
        with tempfile.TemporaryDirectory() as where:
            run.REPORT = pathlib.Path(where)
            run.junit(results, {"boot": 1.0})
            suite = xml.parse(run.REPORT / "junit.xml").getroot()[0]
        self.assertEqual((suite.get("failures"), suite[0].get("name")), ("1", "a?b<&"))


if __name__ == "__main__":
    unittest.main()

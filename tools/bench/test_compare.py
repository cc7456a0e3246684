# SPDX-License-Identifier: GPL-2.0
"""Tests of compare.py: python3 -m unittest discover tools/bench"""

import contextlib
import io
import json
import os
import tempfile
import unittest

import compare


def outcome(base, ours):
    return compare.compare(compare.parse(base), compare.parse(ours))


def verdict(base, ours):
    result = outcome([f"bench x {base} 1"], [f"bench x {ours} 1"])
    return result["rows"][0]["verdict"], result["pass"]


class Bound(unittest.TestCase):
    def test_equal(self):
        self.assertEqual(verdict(1000, 1000), ("equal", True))

    def test_at_the_bound(self):
        self.assertEqual(verdict(1000, 1001), ("within", True))

    def test_one_past_the_bound(self):
        self.assertEqual(verdict(1000, 1002), ("slower", False))

    def test_one_more_of_fewer_than_a_thousand(self):
        self.assertEqual(verdict(999, 1000), ("slower", False))

    def test_beyond_double_precision(self):
        base = 10**18
        self.assertEqual(verdict(base, base * 1001 // 1000), ("within", True))
        self.assertEqual(
            verdict(base, base * 1001 // 1000 + 1), ("slower", False)
        )

    def test_faster(self):
        self.assertEqual(verdict(1000, 10), ("faster", True))

    def test_zero(self):
        self.assertEqual(verdict(0, 0), ("equal", True))
        self.assertEqual(verdict(0, 1), ("slower", False))


def verdict_as(kind, base, ours):
    result = compare.compare(compare.parse([f"bench x {base} 1"]),
                             compare.parse([f"bench x {ours} 1"]), {"x": kind})
    return result["rows"][0]["verdict"], result["pass"]


class Kinds(unittest.TestCase):
    def test_in_use(self):
        self.assertEqual(verdict_as("in use", 1000, 1020), ("in use", True))
        self.assertEqual(verdict_as("in use", 1000, 1021), ("slower", False))

    def test_below(self):
        self.assertEqual(verdict_as("below", 1000, 999), ("faster", True))
        self.assertEqual(verdict_as("below", 1000, 1000), ("not below", False))
        self.assertEqual(verdict_as("below", 1000, 1001), ("not below", False))

    def test_cost(self):
        self.assertEqual(verdict_as("cost", 1, 1000), ("cost", True))

    def test_at_most(self):
        self.assertEqual(verdict_as(4, 6401, 6405), ("within", True))
        self.assertEqual(verdict_as(4, 6401, 6406), ("slower", False))
        self.assertEqual(verdict_as(0, 2101, 2102), ("slower", False))

    def test_kind_of_no_row(self):
        base = compare.parse(["bench a 1 1"])
        with self.assertRaises(compare.BadResults):
            compare.compare(base, base, {"b": "below"})

    def test_only(self):
        base = compare.parse(["bench a 1 1", "bench a.min 1 1", "bench b 1 1"])
        ours = compare.parse(["bench a 1 1", "bench a.min 1 1", "bench b 2 1"])
        result = compare.compare(base, ours, only=["a"])
        self.assertEqual([r["name"] for r in result["rows"]], ["a", "a.min"])
        self.assertTrue(result["pass"])

    def test_only_what_is_missing(self):
        base = compare.parse(["bench a 1 1"])
        result = compare.compare(base, base, only=["b"])
        self.assertEqual([r["verdict"] for r in result["rows"]], ["missing"])
        self.assertFalse(result["pass"])


class SameThing(unittest.TestCase):
    def test_missing_from_ours(self):
        result = outcome(["bench a 1 1", "bench b 1 1"], ["bench a 1 1"])
        self.assertEqual(result["rows"][1]["verdict"], "missing")
        self.assertFalse(result["pass"])

    def test_missing_from_vanilla(self):
        result = outcome(["bench a 1 1"], ["bench a 1 1", "bench b 1 1"])
        self.assertEqual(result["rows"][1]["verdict"], "missing")
        self.assertFalse(result["pass"])

    def test_other_iterations(self):
        result = outcome(["bench a 1 1"], ["bench a 1 2"])
        self.assertEqual(result["rows"][0]["verdict"], "iterations")
        self.assertFalse(result["pass"])

    def test_other_mode(self):
        row = "bench a 1 1"
        result = outcome(["info kvm-mode VHE", row], [row])
        self.assertTrue(result["rows"][0]["pass"])
        self.assertFalse(result["pass"])

    def test_same_mode(self):
        lines = ["info kvm-mode kvm [1]: VHE", "bench a 1 1"]
        self.assertTrue(outcome(lines, lines)["pass"])

    def test_one_bad_row_among_good(self):
        result = outcome(
            ["bench a 1 1", "bench b 1 1", "bench c 1 1"],
            ["bench a 1 1", "bench b 2 1", "bench c 1 1"],
        )
        self.assertEqual(
            [r["pass"] for r in result["rows"]], [True, False, True]
        )
        self.assertFalse(result["pass"])


class Unusable(unittest.TestCase):
    def test_lines(self):
        for line in (
            "bench a",
            "bench a 1",
            "bench a 1 1 1",
            "bench a -1 1",
            "bench a 1.5 1",
            "panic",
        ):
            with self.subTest(line), self.assertRaises(compare.BadResults):
                compare.parse([line])

    def test_empty(self):
        with self.assertRaises(compare.BadResults):
            compare.parse(["\n"])

    def test_twice(self):
        with self.assertRaises(compare.BadResults):
            compare.parse(["bench a 1 1", "bench a 1 1"])


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)

    def file(self, name, text):
        path = os.path.join(self.dir.name, name)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def run_main(self, *args):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = compare.main(list(args))
        return status, out.getvalue(), err.getvalue()

    def test_pass(self):
        path = self.file("a", "bench a 5 1\n")
        status, out, _ = self.run_main(path, path)
        self.assertEqual(status, 0)
        self.assertIn("1.000000  equal", out)

    def test_fail_and_json(self):
        base = self.file("a", "bench a 5 1\n")
        ours = self.file("b", "bench a 6 1\n")
        report = os.path.join(self.dir.name, "json")
        status, out, _ = self.run_main(base, ours, "--json", report)
        self.assertEqual(status, 1)
        self.assertIn("FAIL slower", out)
        with open(report, encoding="ascii") as lines:
            loaded = json.load(lines)
        self.assertEqual(loaded["rows"][0]["ratio"], 1.2)
        self.assertFalse(loaded["pass"])

    def test_bound(self):
        path = self.file("a", "bench a 110 1\nbench b 100 1\n")
        for percent, status in ((110, 0), (109, 1)):
            self.assertEqual(self.run_main(path, path, "--bound", f"a={percent}:b")[0], status)
        for bad in ("a=1", "a=x:b", "c=110:b", "a=110:c"):
            self.assertEqual(self.run_main(path, path, "--bound", bad)[0], 2)

    def test_missing_row_prints(self):
        base = self.file("a", "bench a 5 1\nbench b 0 1\n")
        ours = self.file("b", "bench b 1 1\n")
        status, out, _ = self.run_main(base, ours)
        self.assertEqual(status, 1)
        self.assertIn("FAIL missing", out)

    def test_unusable(self):
        good = self.file("a", "bench a 5 1\n")
        for bad in ("/nonexistent", self.file("b", ""), self.file("c", "é")):
            with self.subTest(bad):
                status, out, err = self.run_main(good, bad)
                self.assertEqual(status, 2)
                self.assertEqual(out, "")
                self.assertIn(bad, err)


if __name__ == "__main__":
    unittest.main()

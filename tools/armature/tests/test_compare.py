# SPDX-License-Identifier: GPL-2.0
"""Tests the comparison of figures at its bounds and one above them."""

import pathlib
import tempfile
import unittest

from armature import compare
from armature.compare import BadResults, Outcome, Rules


def outcome(base: list[str], ours: list[str], rules: Rules = Rules()) -> Outcome:
    """Returns the comparison of two kernels' lines."""
    return compare.compare(compare.parse(base), compare.parse(ours), rules)


def verdict(base: int, ours: int, rules: Rules = Rules()) -> tuple[str, bool]:
    """Returns the verdict on one row, and whether all is well."""
    result = outcome([f"bench x {base} 1"], [f"bench x {ours} 1"], rules)
    return result.rows[0].verdict, result.good


class Bound(unittest.TestCase):
    """Tests the bound on the cost of an idle capability."""

    def test_bound(self) -> None:
        """Checks figures at, above and below the bound, and beyond the precision of a double."""
        big = 10**18
        for base, ours, said in (
            (1000, 1000, ("equal", True)),
            (1000, 1001, ("within", True)),
            (1000, 1002, ("slower", False)),
            (999, 1000, ("slower", False)),
            (big, big * 1001 // 1000, ("within", True)),
            (big, big * 1001 // 1000 + 1, ("slower", False)),
            (1000, 10, ("faster", True)),
            (0, 0, ("equal", True)),
            (0, 1, ("slower", False)),
        ):
            self.assertEqual(verdict(base, ours), said)


class Kinds(unittest.TestCase):
    """Tests rows with specific rules."""

    def test_rules(self) -> None:
        """Checks each rule at its bound and above it."""
        for rules, base, ours, said in (
            (Rules(in_use=("x",)), 1000, 1020, ("in use", True)),
            (Rules(in_use=("x",)), 1000, 1021, ("slower", False)),
            (Rules(below=("x",)), 1000, 999, ("faster", True)),
            (Rules(below=("x",)), 1000, 1000, ("not below", False)),
            (Rules(below=("x",)), 1000, 1001, ("not below", False)),
            (Rules(cost=("x",)), 1, 1000, ("cost", True)),
            (Rules(at_most=(("x", 4),)), 6401, 6405, ("within", True)),
            (Rules(at_most=(("x", 4),)), 6401, 6406, ("slower", False)),
            (Rules(at_most=(("x", 0),)), 2101, 2102, ("slower", False)),
        ):
            self.assertEqual(verdict(base, ours, rules), said)

    def test_rule_of_no_row(self) -> None:
        """Checks that a rule about a missing row is refused."""
        with self.assertRaises(BadResults):
            outcome(["bench a 1 1"], ["bench a 1 1"], Rules(below=("b",)))

    def test_only(self) -> None:
        """Checks that other rows are ignored, and that a missing row fails."""
        base, ours = ["bench a 1 1", "bench a.min 1 1", "bench b 1 1"], [
            "bench a 1 1",
            "bench a.min 1 1",
            "bench b 2 1",
        ]
        result = outcome(base, ours, Rules(only=("a",)))
        self.assertEqual([row.name for row in result.rows], ["a", "a.min"])
        self.assertTrue(result.good)
        result = outcome(base, ours, Rules(only=("c",)))
        self.assertEqual([row.verdict for row in result.rows], ["missing"])
        self.assertFalse(result.good)

    def test_bounds(self) -> None:
        """Checks the bound on one of our rows relative to another."""
        lines = ["bench a 110 1", "bench b 100 1"]
        for percent, good in ((110, True), (109, False)):
            self.assertEqual(outcome(lines, lines, Rules(bounds=(("a", percent, "b"),))).good, good)
        for bad in (("c", 110, "b"), ("a", 110, "c")):
            with self.assertRaises(BadResults):
                outcome(lines, lines, Rules(bounds=(bad,)))


class SameThing(unittest.TestCase):
    """Tests that both kernels must measure the same."""

    def test_rows(self) -> None:
        """Checks a row that one kernel lacks, and different numbers of iterations."""
        a, both = ["bench a 1 1"], ["bench a 1 1", "bench b 1 1"]
        for base, ours in ((a, both), (both, a)):
            result = outcome(base, ours)
            self.assertEqual(result.rows[1].verdict, "missing")
            self.assertFalse(result.good)
        self.assertEqual(outcome(a, ["bench a 1 2"]).rows[0].verdict, "iterations")

    def test_machines(self) -> None:
        """Checks that different facts fail the whole comparison."""
        lines = ["info kvm-mode kvm [1]: VHE", "bench a 1 1"]
        self.assertTrue(outcome(lines, lines).good)
        result = outcome(lines, lines[1:])
        self.assertTrue(result.rows[0].good)
        self.assertFalse(result.good)

    def test_one_bad_row_among_good(self) -> None:
        """Checks that one bad row fails the comparison."""
        base = ["bench a 1 1", "bench b 1 1", "bench c 1 1"]
        result = outcome(base, [line.replace("b 1 1", "b 2 1") for line in base])
        self.assertEqual([row.good for row in result.rows], [True, False, True])
        self.assertFalse(result.good)
        self.assertIn("FAIL slower", compare.table(result))
        self.assertEqual(compare.as_json(result)["rows"][1]["ratio"], 2.0)


class Unusable(unittest.TestCase):
    """Tests input that cannot be compared."""

    def test_lines(self) -> None:
        """Checks that each bad line is refused."""
        for line in (
            "bench a",
            "bench a 1",
            "bench a 1 1 1",
            "bench a -1 1",
            "bench a 1.5 1",
            "panic",
        ):
            with self.subTest(line), self.assertRaises(BadResults):
                compare.parse([line])
        for lines in (["\n"], ["bench a 1 1", "bench a 1 1"]):
            with self.assertRaises(BadResults):
                compare.parse(lines)

    def test_files(self) -> None:
        """Checks that the error names the file."""
        with tempfile.TemporaryDirectory() as where:
            empty, other = pathlib.Path(where) / "empty", pathlib.Path(where) / "other"
            empty.write_text("")
            other.write_text("é")
            for bad in (empty, other, pathlib.Path("/nonexistent")):
                with self.assertRaisesRegex(BadResults, str(bad)):
                    compare.load(bad)


if __name__ == "__main__":
    unittest.main()

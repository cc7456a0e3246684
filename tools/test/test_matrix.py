# SPDX-License-Identifier: GPL-2.0
"""What matrix.py makes of axes, of machines and lists with names, and of slips."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import matrix  # noqa: E402

FILE = """
[default]
for = ["one"]
limit = 10
[machine.large]
cpu = "max"
smp = 8
[lists]
both = ["a: true", "b: true"]
[[boot]]
name = "large-{mode}"
machine = "large"
mode = ["vhe", "nvhe"]
tests = "both"
[[boot]]
name = "small"
for = ["two"]
cpu = "max"
limit = 20
kunit = true
"""


def load(text):
    with tempfile.TemporaryDirectory() as where:
        (pathlib.Path(where) / "file.toml").write_text(text)
        return matrix.load(pathlib.Path(where))


class Matrix(unittest.TestCase):
    def test_everything_that_has_a_name(self):
        large = {"for": ["one"], "limit": 10, "cpu": "max", "smp": 8, "tests": ["a: true", "b: true"]}
        self.assertEqual(load(FILE), [
            {**large, "name": "large-vhe", "mode": "vhe"},
            {**large, "name": "large-nvhe", "mode": "nvhe"},
            {"name": "small", "for": ["two"], "limit": 20, "cpu": "max", "kunit": True}])

    def test_slips(self):
        for text, change in (("unknown key", ("limit = 20", "limits = 20")),
                             ("two boots", ("large-{mode}", "small")),
                             ("tests nothing", ("kunit = true", "")),
                             ("does not have", ("large-{mode}", "large-{cpu}-{mode}"))):
            with self.subTest(text), self.assertRaises(AssertionError):
                load(FILE.replace(*change))

    def test_a_name_that_is_missing_and_no_toml(self):
        for change in (('machine = "large"', 'machine = "huge"'), ('"both"', '"none"'), ("[lists]", "[lists")):
            with self.subTest(change), self.assertRaises(SystemExit):
                load(FILE.replace(*change))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: GPL-2.0
"""Tests axes, named machines and lists, mistakes in the matrix, and selection by ONLY=."""

import pathlib
import tempfile
import unittest

from armature import matrix
from armature.matrix import Boot, Machine
from armature.process import Failure

FILE = """
[default]
for = ["one"]
limit = 10
[machine.large]
cpu = "max"
smp = 8
[lists]
both = ["a: true", "b: {kvm/x} {oracle/y} ${no}"]
all = ["@both", "c: true"]
pair = ["{1}: {kvm/{1}} {2}", "@both"]
log-nvhe = ["nVHE"]
log-vhe = ["VHE"]
[[boot]]
name = "large-{mode}"
machine = "large"
mode = ["vhe", "nvhe"]
tests = "all"
log = "log-{mode}"
[[boot]]
name = "small"
for = ["two"]
cpu = "max,brps=6:8"
limit = 20
kunit = true
apart = true
"""
BOTH = (("a", "true"), ("b", "{kvm/x} {oracle/y} ${no}"), ("c", "true"))


def load(text: str) -> list[Boot]:
    """Returns the boots of a file."""
    with tempfile.TemporaryDirectory() as where:
        (pathlib.Path(where) / "file.toml").write_text(text)
        return matrix.load(pathlib.Path(where))


GROUP = FILE[: FILE.index("[[boot]]")] + """
[[boot]]
kernel = ["k1", "k2"]
tests = ["@pair x 'y z'"]
skips = ["{kernel}-{mode}"]
[boot.each]
"{kernel}-{mode}" = { mode = ["vhe", "nvhe"] }
"{kernel}-{machine}" = { machine = "large", mode = "nested", tests = "both" }
"""


class Matrix(unittest.TestCase):
    """Tests the reading of a matrix file."""

    def test_everything_that_has_a_name(self) -> None:
        """Checks axes, machines, lists, and lists of lists."""

        def large(mode: str, log: str) -> Boot:
            return Boot(
                f"large-{mode}",
                ("one",),
                Machine(cpu="max", smp=8, mode=mode),
                tests=BOTH,
                log=(log,),
                limit=30,
            )

        self.assertEqual(
            load(FILE),
            [
                large("vhe", "VHE"),
                large("nvhe", "nVHE"),
                Boot(
                    "small", ("two",), Machine(cpu="max,brps=6:8"), kunit=True, apart=True, limit=60
                ),
            ],
        )

    def test_groups(self) -> None:
        """Checks several boots of one [[boot]], names in braces, and a list that takes words."""
        boots = load(GROUP)
        self.assertEqual(
            [(boot.name, boot.machine.mode, boot.machine.smp) for boot in boots],
            [
                ("k1-vhe", "vhe", 2),
                ("k1-nvhe", "nvhe", 2),
                ("k1-large", "nested", 8),
                ("k2-vhe", "vhe", 2),
                ("k2-nvhe", "nvhe", 2),
                ("k2-large", "nested", 8),
            ],
        )
        self.assertEqual(boots[0].tests, (("x", "{kvm/x} y z"), *BOTH[:2]))
        self.assertEqual(boots[2].tests, BOTH[:2])
        self.assertEqual(boots[4].skips, ("k2-nvhe",))

    def test_slips_in_groups(self) -> None:
        """Checks that each mistake is refused with its name."""
        for text, old, new in (
            ("a list 'pair' that takes 2 words", "@pair x 'y z'", "@pair x y z"),
            ("a list 'pair' that takes 2 words", "@pair x 'y z'", "@pair x"),
            ("a list 'both' that takes 0 words", '"both"', '"both x"'),
            ("No closing quotation", "@pair x 'y z'", "@pair x 'y z"),
            ("with 'cpu', which is no table", "[boot.each]", '[boot.each]\ncpu = "max"'),
        ):
            with self.subTest(text), self.assertRaisesRegex(Failure, text):
                load(GROUP.replace(old, new))

    def test_slips(self) -> None:
        """Checks that each mistake is refused with its name."""
        for text, old, new in (
            ("unknown keys: limits", "limit = 20", "limits = 20"),
            ("two boots", 'name = "small"', 'name = "large-vhe"'),
            ("tests nothing", "kunit = true", ""),
            ("does not have", "large-{mode}", "large-{kernel}-{mode}"),
            ("without a command", "c: true", "c"),
            ("files of 'nowhere'", "{kvm/x}", "{nowhere/x}"),
            ("missing or is no TOML", 'machine = "large"', 'machine = "huge"'),
            ("missing or is no TOML", '"all"', '"none"'),
            ("missing or is no TOML", "[lists]", "[lists"),
        ):
            with self.subTest(text), self.assertRaisesRegex(Failure, text):
                load(FILE.replace(old, new))

    def test_needs(self) -> None:
        """Checks that a boot needs its kernel, the files of its tests, and the model if used."""
        large, _, small = load(FILE)
        self.assertEqual(large.needs(), {"kernel:armature", "files:kvm", "files:oracle"})
        self.assertEqual(small.needs(), {"kernel:armature", "model"})

    def test_the_matrix_itself(self) -> None:
        """Checks that every row of the project is valid, and that compared boots exist."""
        boots = matrix.load()
        names = {boot.name for boot in boots}
        self.assertGreater(len(boots), 100)
        self.assertLessEqual({boot.same for boot in boots if boot.same}, names)


class Select(unittest.TestCase):
    """Tests selection by ONLY=."""

    def chosen(self, pattern: str) -> list[str]:
        """Returns the names of the selected boots."""
        return [boot.name for boot in matrix.select(load(FILE), pattern)]

    def test_turns(self) -> None:
        """Checks that every subject has its turn before one has a second, and keeps its order."""
        boots = [Boot(name, (name[0],), Machine()) for name in ("a1", "a2", "a3", "b1", "c1", "c2")]
        names = [boot.name for boot in matrix.in_turn(boots)]
        self.assertEqual(names, ["a1", "b1", "c1", "a2", "c2", "a3"])

    def test_patterns(self) -> None:
        """Checks an empty pattern, one boot, words of a name, the shell's patterns, and a subject;
        and that nothing but its subject or its first words selects a boot that stays apart."""
        self.assertEqual(self.chosen(""), ["large-vhe", "large-nvhe"])
        self.assertEqual(self.chosen("=small"), ["small"])
        self.assertEqual(self.chosen("vhe"), ["large-vhe"])
        self.assertEqual(self.chosen("arg"), [])
        self.assertEqual(self.chosen("large-*"), ["large-vhe", "large-nvhe"])
        apart = Boot("configs-rt-nolse", ("configs",), Machine(), apart=True)
        for pattern in ("configs", "configs-rt", "configs-rt-nolse", "configs-*"):
            self.assertTrue(matrix.is_selected(apart, pattern), pattern)
        for pattern in ("nolse", "rt", "config", "rt-nolse"):
            self.assertFalse(matrix.is_selected(apart, pattern), pattern)
        self.assertEqual(self.chosen("two"), ["small"])
        self.assertEqual(self.chosen("three"), [])
        with self.assertRaisesRegex(Failure, "no boot 'smal'"):
            self.chosen("=smal")


if __name__ == "__main__":
    unittest.main()

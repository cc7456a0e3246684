# SPDX-License-Identifier: GPL-2.0
"""Tests the judging of the moves around a fleet."""

import unittest

from armature import journey
from armature.journey import NAMES, Refusal
from armature.process import Failure

LESS = "a=0x0/0xf,midr_el1=0x1,revidr_el1=0x0,aidr_el1=0x0,smccc_wa3=0x0"
CPU = "hwcap=0x1 hwcap2=0x0 cpuinfo=2 midr_el1=0xf0510"
DEBUG = "6 of 6 breakpoints, 4 of 4 watchpoints"
SHOWN = [Refusal("no baseline", "v1", "n2", "", "A.B is ")]
WHY = "no baseline: VMs of this host do not have it by themselves: A.B is 1, not 2: is it set?"


def firmware(third: int) -> list[str]:
    """Returns the firmware registers that a VMM sees, with this third level."""
    levels = (1, 1, third)
    return [f"qemu {journey.WORKAROUNDS[n]} {level:#x}" for n, level in enumerate(levels, 1)]


def good() -> dict[str, list[str]]:
    """Returns what machines print if all is well."""
    said: dict[str, list[str]] = {name: [] for name in NAMES}
    said["n2"] += [
        "no baseline: QEMU: error while loading state for instance 0x0 of device 'cpu'",
        "console: [0.0] booted",
    ]
    said["v1"].append(WHY)
    for place, name in [("start", "v1"), *((name, name) for name in NAMES)]:
        for when in (place,) if place == "start" else (place, f"{place}, rebooted"):
            said[name] += [f"{when}: cpu {CPU}", f"{when}: debug {DEBUG}"]
            said[name] += [f"{when}: memory 12 rounds, 0 wrong", f"{when}: clock -0.01"]
    return said


class Judge(unittest.TestCase):
    """What the machines have printed."""

    def wrong(self, said: dict[str, list[str]]) -> list[str]:
        """Returns the names of what failed."""
        return [one.name for one in journey.judge(DEBUG, SHOWN, said) if one.status != "pass"]

    def test_good(self) -> None:
        """Finds nothing wrong."""
        self.assertEqual(self.wrong(good()), [])
        self.assertGreater(len(list(journey.judge(DEBUG, SHOWN, good()))), 20)

    def test_each_line_counts(self) -> None:
        """Finds something wrong without any of the lines."""
        for name, lines in good().items():
            for n in range(len(lines)):
                less = good()
                del less[name][n]
                self.assertTrue(self.wrong(less), lines[n])

    def test_changes(self) -> None:
        """Finds another value wrong, and a complaint."""
        for old, new in (
            (CPU, CPU.replace("cpuinfo=2", "cpuinfo=3")),
            (DEBUG, "5 of 6 breakpoints, 4 of 4 watchpoints"),
            ("0 wrong", "1 wrong"),
            ("12 rounds", "0 rounds"),
            ("-0.01", "1.2"),
            ("error while", "all is well"),
        ):
            said = good()
            said["n2"] = [line.replace(old, new) for line in said["n2"]]
            self.assertTrue(self.wrong(said), new)
        said = {
            name: [line.replace("A.B is 1", "C.D is 1") for line in lines]
            for name, lines in good().items()
        }
        self.assertEqual(len(self.wrong(said)), 1)
        nothing = {
            name: [line.replace(CPU, "hwcap=0x0 cpuinfo=2") for line in lines]
            for name, lines in good().items()
        }
        self.assertEqual(self.wrong(nothing), ["start: the guest knows its CPU"])
        said = good()
        said["max"].append("console: WARNING: x")
        self.assertEqual(self.wrong(said), ["the guest's kernel does not complain"])


class Refusals(unittest.TestCase):
    """The baselines with which VMs are refused."""

    def test_workaround(self) -> None:
        """Checks that the machines differ, and that the target has less."""
        seen = {name: firmware(1) for name in NAMES} | {"max": firmware(2)}
        found = journey.refusals(LESS, seen)
        self.assertEqual((found[2].source, found[2].text), ("max", LESS.rpartition(",")[0]))
        self.assertEqual(found[2].target, "v1")
        self.assertRegex("smccc_wa3.level is 2 (not required), not 0", found[2].named)
        self.assertEqual(found[1].text, "a=0x0/0xf,smccc_wa3=0x0")
        self.assertEqual(found[0].text, "")

    def test_alike(self) -> None:
        """Machines that are too much alike are an error."""
        with self.assertRaises(Failure):
            journey.refusals(LESS, {name: firmware(1) for name in NAMES})

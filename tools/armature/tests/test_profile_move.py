# SPDX-License-Identifier: GPL-2.0
"""Tests the judging of the move of a guest that profiles."""

import unittest

from armature import profile_move

# These are not needed: the last line of the guest's tests shows that all have run.
UNUSED = (
    "the guest profiles here",
    "console: 1..1",
    "console: # running perf",
    "console:     TAP version 13",
)


def good() -> dict[str, list[str]]:
    """Returns what both hosts print if all is well."""
    return {
        "first": [
            "the guest profiles here",
            f"{profile_move.RUNS_ON}10.0.0.2:4444: Broken pipe",
            "# vmm: moved to 10.0.0.2:4444: 900, 30, 2 pages while it ran, 12 after it had stopped",
            "# vmm: all memory is here; 40 pages were asked for",
            "console: KTAP version 1",
            "console: 1..1",
            "console: # running perf",
            "console: guest: profiles",
            "console: guest: has profiled",
            "console:     TAP version 13",
            "console:     1..2",
            "console:     ok 1 - perf records on one host",
            "console:     ok 2 - and has lost none",
            "console: ok 1 perf",
            "console: # end",
        ],
        "second": [
            f"# vmm: port 4444: {profile_move.REFUSED} of this host; or neither",
            "the guest profiles here, too",
            "# vmm: 900 pages have followed",
        ],
    }


def wrong(said: dict[str, list[str]]) -> list[str]:
    """Returns the names of what failed."""
    return [one.name for one in profile_move.judge(said) if one.status != "pass"]


class Judge(unittest.TestCase):
    """What the hosts have printed."""

    def test_good(self) -> None:
        """Finds nothing wrong."""
        self.assertEqual(wrong(good()), [])
        self.assertGreater(len(list(profile_move.judge(good()))), 8)

    def test_each_line_counts(self) -> None:
        """Finds something wrong without any of the lines that matter."""
        for name, lines in good().items():
            for n, line in enumerate(lines):
                if line in UNUSED:
                    continue
                less = good()
                del less[name][n]
                self.assertTrue(wrong(less), line)

    def test_changes(self) -> None:
        """Finds another value wrong, and a complaint."""
        for name, old, new in (
            ("first", "900, 30, 2 pages", "900 pages"),
            ("first", "40 pages were", "0 pages were"),
            ("second", "900 pages have", "40 pages have"),
            ("first", "ok 2 - and", "not ok 2 - and"),
            ("first", "console: # end", "console: WARNING: CPU: 0 PID: 1 at x.c:1 f+0x1/0x2"),
        ):
            said = good()
            said[name] = [line.replace(old, new) for line in said[name]]
            self.assertNotEqual(said, good())
            self.assertTrue(wrong(said), new)

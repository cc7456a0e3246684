#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""added.py TREE BASE LOG: prints the lines of a compiler's log about lines that the series adds.

Warnings about upstream code are ignored. Exits with 1 if there is a warning about added lines.
"""

import re
import subprocess
import sys


def added_lines(tree, base):
    """Returns the lines of each file that are in the work tree but not in the base."""
    diff = subprocess.run(["git", "-C", tree, "diff", "-U0", "--no-renames", base], capture_output=True,
                          text=True, check=True).stdout
    added, path = {}, None
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line[6:]
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(hunk.group(1)), int(hunk.group(2) or 1)
            added.setdefault(path, set()).update(range(start, start + count))
    return added


def main():
    tree, base, log = sys.argv[1:]
    added = added_lines(tree, base)
    ours = []
    for line in open(log, errors="replace"):
        about = re.search(r"(?:^|[ /])((?:arch|rust|include|drivers|samples|kernel|tools)/[^:\s]+):(\d+)", line)
        if about and int(about.group(2)) in added.get(about.group(1), ()):
            ours.append(line)
    sys.stdout.writelines(ours)
    return 1 if ours else 0


if __name__ == "__main__":
    sys.exit(main())

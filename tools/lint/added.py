#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""added.py TREE BASE LOG: the lines of a compiler's log that are about lines which the series adds.

Upstream's own warnings are not ours to answer for. Exits with 1 if there is one of ours.
"""

import re
import subprocess
import sys


def added_lines(tree, base):
    """Lines of each file that the work tree has and the base has not."""
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

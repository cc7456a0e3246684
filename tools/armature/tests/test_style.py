# SPDX-License-Identifier: GPL-2.0
"""Tests what finds differences from the project's style."""

import pathlib
import tempfile
import unittest
import unittest.mock

from armature import style

CODE = {
    "a.rs": "impl A {\n    pub(crate) fn one<T>(\n        a: T,\n    ) -> A {\n{}    }\n}\n",
    "a.c": "static int one(struct a *a,\n\t       int b)\n{\n{}}\n",
    "a.py": 'def one() -> None:\n    """Adds."""\n{}',
    "a.sh": "#!/bin/sh\none() {\n{}}\n",
}


class Style(unittest.TestCase):
    """Tests the project's own checks on files of its kinds."""

    def setUp(self) -> None:
        """Makes a project of files that `write` writes."""
        self.top = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(unittest.mock.patch.object(style, "TOP", self.top))
        self.enterContext(unittest.mock.patch.object(style, "ours", self.files))

    def files(self, *patterns: str) -> list[str]:
        """Returns the files with these endings."""
        endings = tuple(pattern.removeprefix("*") for pattern in patterns)
        return [path.name for path in self.top.iterdir() if path.name.endswith(endings)]

    def write(self, name: str, text: str) -> None:
        """Writes one file, and removes the others."""
        for path in self.top.iterdir():
            path.unlink()
        (self.top / name).write_text(text)

    def test_length(self) -> None:
        """Counts lines with code, in every language."""
        for name, code in CODE.items():
            comment = "# no" if name.endswith(("py", "sh")) else "// no"
            for lines in (style.LINES, style.LINES + 1):
                body = f"    a\n\n    {comment}\n" + "    a\n" * (lines - 1)
                self.write(name, code.replace("{}", body))
                self.assertEqual(
                    [(found, style.length(text)) for found, text in style.bodies(name)],
                    [("one", lines)],
                    name,
                )
                self.assertEqual(bool(style.long_functions()), lines > style.LINES, name)

    def test_columns(self) -> None:
        """Counts a tab up to the next eighth column, and as one in a script of the shell's."""
        line = "\t" + "a" * (style.COLUMNS - 8)
        for name, more, good in (
            ("a.rs", "", True),
            ("a.c", "a", False),
            ("a.sh", "a" * 7, True),
            ("a.sh", "a" * 8, False),
        ):
            self.write(name, f"{line}{more}\n")
            self.assertEqual(style.columns() == "", good, (name, more))

    def test_verbs(self) -> None:
        """Finds a comment of a function that begins with something else."""
        for name, code in (
            ("a.rs", "\n/// {}.\n#[inline]\npub fn a() {\n"),
            ("a.py", 'def a() -> None:\n    """{}."""\n'),
        ):
            self.write(name, code.replace("{}", "Returns one"))
            self.assertEqual(style.without_verbs(), "")
            self.write(name, code.replace("{}", "The one"))
            self.assertEqual(style.without_verbs(), f"{name}: a: begins with 'The'\n")

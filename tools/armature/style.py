# SPDX-License-Identifier: GPL-2.0
"""Finds what differs from the project's style and no existing tool looks for."""

import ast
import collections.abc
import functools
import pathlib
import re

from armature import process
from armature.place import TOP

COLUMNS = 100
# Lines of a function's body, without comments and blank lines.
LINES = 30
# The line before the body of a function, and that after it.
BODIES = {
    ".rs": re.compile(
        r"^( *)(?:pub(?:\(\w+\))? )?(?:const |unsafe |extern \"C\" )*fn (\w+)[^;{]*"
        r"(?:where[^{]*)?\{\n(.*?)^\1\}",
        re.M | re.S,
    ),
    ".c": re.compile(r"^()[a-z][^\n;]*?(\w+)\([^;{}]*?\)\n\{\n(.*?)^\}", re.M | re.S),
    ".sh": re.compile(r"^()(\w+)\(\) \{\n(.*?)^\}", re.M | re.S),
}
BODIES[".h"] = BODIES[".c"]
COMMENT = re.compile(r"\s*(?://|#|/\*|\*|$)")
SHELL = re.compile(r"#!(/usr/bin/env bash|/bin/sh)")
# A comment in Rust that does not begin with a verb, and the function below it.
NO_VERB = re.compile(
    r"^(?! *///).*\n */// (?![A-Z][a-z]+s\b|#)(\S+).*\n(?:\s*(?:///|#\[).*\n)*"
    r"\s*(?:pub(?:\(\w+\))? )?(?:const )?(?:unsafe )?(?:extern \"C\" )?fn (\w+)",
    re.M,
)
VERB = re.compile(r"[A-Z][a-z]+s\b")
# The same in C, and before tests in Rust: a noun clause.
NOUN = re.compile(
    r"^(?:/\*\*?(?:\n \*)?|///) ((?:What|Whether|How|Which|Where|Who|Why)\b).*\n"
    r"(?:(?: \*|///|#\[).*\n)*(?:fn |(?!pub\b)[a-z0-9_]+ [a-z0-9_ ]*\*?)(\w+)\(",
    re.M,
)


@functools.cache
def ours(*patterns: str) -> list[str]:
    """Returns the files of the project with these patterns of git's."""
    listed = process.output(
        ["git", "-C", str(TOP), "ls-files", "-co", "--exclude-standard", "--", *patterns]
    )
    return [path for path in listed.splitlines() if (TOP / path).exists()]


def shell() -> set[str]:
    """Returns the files in the shell's language: by their name, or by their first line."""
    begin = {path for path in ours("tools", ".ci") if SHELL.match(text_of(path))}
    return begin.union(ours("*.sh"))


def text_of(path: str) -> str:
    """Returns the contents of a file."""
    return (TOP / path).read_text(encoding="utf-8", errors="replace")


def columns() -> str:
    """Returns the lines that are longer than COLUMNS; in the shell's files, a tab counts as one."""
    scripts = shell()
    named = ours("*.rs", "*.py", "*.toml", "*.c", "*.h", "*.S", "*.rst")
    return "".join(
        f"{path}:{number}: has {len(line)} columns\n"
        for path in sorted(scripts.union(named))
        for number, text in enumerate(text_of(path).splitlines(), 1)
        if len(line := text if path in scripts else text.expandtabs(8)) > COLUMNS
    )


def functions(path: str) -> collections.abc.Iterator[ast.FunctionDef]:
    """Yields the functions of a file in Python."""
    tree = ast.parse(text_of(path))
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def bodies(path: str) -> collections.abc.Iterator[tuple[str, str]]:
    """Yields the names of the functions of a file, and their bodies."""
    text = text_of(path)
    if path.endswith(".py"):
        lines = text.splitlines()
        for node in functions(path):
            begin = node.body[ast.get_docstring(node) is not None :]
            if begin:
                yield node.name, "\n".join(lines[begin[0].lineno - 1 : node.end_lineno])
        return
    suffix = pathlib.PurePath(path).suffix or ".sh"
    for found in BODIES[suffix].finditer(text):
        yield found[2], found[3]


def length(body: str) -> int:
    """Returns the number of lines with code."""
    return sum(COMMENT.match(line) is None for line in body.splitlines())


def long_functions() -> str:
    """Returns the functions that are longer than LINES."""
    named = ours("*.rs", "*.py", "*.c", "*.h")
    return "".join(
        f"{path}: {name}: has {length(body)} lines\n"
        for path in sorted(shell().union(named))
        for name, body in bodies(path)
        if length(body) > LINES
    )


def without_verbs() -> str:
    """Returns the functions whose comments do not begin with what the function does."""
    rust = (
        (path, found[2], found[1])
        for path in ours("*.rs")
        for found in NO_VERB.finditer(text_of(path))
        if "#[test]" not in found[0]
    )
    python = (
        (path, node.name, doc.split()[0])
        for path in ours("*.py")
        for node in functions(path)
        if (doc := ast.get_docstring(node)) and not VERB.match(doc)
    )
    nouns = (
        (path, found[2], found[1])
        for path in ours("*.rs", "*.c", "*.h")
        for found in NOUN.finditer(text_of(path))
    )
    return "".join(
        f"{path}: {name}: begins with '{word}'\n" for path, name, word in (*rust, *python, *nouns)
    )

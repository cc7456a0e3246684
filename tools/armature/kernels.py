# SPDX-License-Identifier: GPL-2.0
"""Configures and builds a kernel.

Objects are in build/obj/VARIANT; objects of the unpatched base, which are the same for all
checkouts, are in the cache. Source and objects have the same paths in the build root for every
checkout, so that all of them share ccache.
"""

import collections.abc
import dataclasses
import pathlib
import re
import shutil

from armature import process
from armature.place import BUILD, CACHE, JOBS, ROOT, TOP, TREE, asked
from armature.process import Failure, inside, say

CONFIGS = TOP / "tools/machine/config"
SOURCE, OBJECTS = "/armature/src", "/armature/obj"
# The version of the base kernel's build: a new number rebuilds it.
FORMAT = "2"
# Changes of the series that depend on no option: the numbers of CPU capabilities, and the fixes in
# the first FIXES patches.
NUMBERS = "arch/arm64/tools/cpucaps"
FIXES = 2

# The configuration fragments of each kernel, in order: files of tools/machine/config, or "options"
# and "tests", which come from the menu in Kconfig.
VARIANTS = {
    # Base and series, with our options on.
    "armature": "base options tests",
    # The same, for lint.
    "clippy": "base options tests",
    # Without tests of any kind.
    "bench": "base options",
    # With run-time checks, and as distributions and debuggers configure it: see the fragments.
    **{name: f"base options tests {name}" for name in ("debug", "rt", "cfi", "pauth", "kcsan")},
    # Debian's configuration for arm64 with our options, without modules, by gcc.
    "debian": "debian options",
    "64k": "base options small 64k",
    # For the test of the Debian package (deb.py).
    "disk": "base options disk",
    # The base alone, with the same configuration; only the second's C code is counted.
    "vanilla": "base",
    "vanilla64k": "base small 64k norust",
    # Debian stable's own kernel, older than the base, which is not built.
    "stable": "",
    # Without Rust, and so without our options; and the reference for the C code of that kernel: the
    # base with the changes that depend on no option.
    "off": "base norust",
    "reference": "base norust",
}


def options(test: bool = False) -> str:
    """Returns the project's options, or its test options, as lines of a configuration, from the
    menu in Kconfig."""
    files = re.findall(r'^source "(.*)"$', (TOP / "Kconfig").read_text(), re.M)
    text = "\n".join((TOP / file).read_text() for file in files)
    found = re.findall(r"^config (\w+)\n(?:\t.*\n|\n)*?\t(bool|tristate) ", text, re.M)
    return "".join(
        f"CONFIG_{name}={'m' if test and kind == 'tristate' else 'y'}\n"
        for name, kind in found
        if name.endswith("_TEST") == test
    )


def fragment(name: str) -> str:
    """Returns the lines of a fragment."""
    if name == "options":
        return options()
    text = (CONFIGS / f"{name}.config").read_text()
    return options(test=True) + text if name == "tests" else text


def not_taken(want: str, config: str) -> list[str]:
    """Returns the lines of `want` that do not hold in the configuration. If `want` names an option
    twice, the last line counts."""
    lines = {}
    for line in want.splitlines():
        if match := re.match(r"(?:# )?(CONFIG_\w+)(?:=| is not set)", line):
            lines[match[1]] = line
    have = set(config.splitlines())
    return [
        line
        for name, line in lines.items()
        if not (
            line in have
            or line.startswith("#")
            and not any(one.startswith(f"{name}=") for one in have)
        )
    ]


def mended() -> dict[process.Word, str]:
    """Writes the files of the base that the first patches mend, as these leave them, and returns
    where they belong."""
    git = ("git", "-C", str(TREE))
    commits = process.output([*git, "rev-list", "--reverse", "base..series"]).split()
    commit, place = commits[FIXES - 1], BUILD / "mended"
    binds: dict[process.Word, str] = {}
    for file in process.output([*git, "diff", "--name-only", "base", commit]).split():
        # The output has no line's end at its end.
        text, path = process.output([*git, "show", f"{commit}:{file}"]) + "\n", place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        binds[path] = f"{SOURCE}/{file}"
    return binds


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel, by its name in VARIANTS."""

    variant: str

    def __post_init__(self) -> None:
        """Refuses an unknown name."""
        if self.variant not in VARIANTS:
            raise Failure(f"there is no kernel '{self.variant}': {', '.join(VARIANTS)}")

    @property
    def of_base(self) -> bool:
        """Returns whether the kernel is the same for all checkouts."""
        return self.variant.startswith("vanilla") or self.variant == "stable"

    def wanted(self) -> str:
        """Returns the required configuration."""
        return "".join(map(fragment, VARIANTS[self.variant].split()))

    def source(self) -> pathlib.Path:
        """Returns the path of its source."""
        return base() if self.of_base or self.variant == "reference" else TREE

    def objects(self) -> pathlib.Path:
        """Returns the path of its objects."""
        if not self.of_base:
            return BUILD / "obj" / self.variant
        key = process.key(FORMAT, base().name, ROOT.name, self.wanted())
        return CACHE / f"{self.variant}-{key}"

    def image(self) -> pathlib.Path:
        """Returns the path of the image that a machine boots."""
        if self.variant == "stable":
            return packaged() / "boot/Image"
        return self.objects() / "arch/arm64/boot/Image"

    def make(self, *words: str) -> list[str]:
        """Returns the command that runs the kernel's make."""
        binds: dict[process.Word, str] = {self.source(): SOURCE, self.objects(): OBJECTS}
        if self.variant == "reference":
            binds |= {TREE / NUMBERS: f"{SOURCE}/{NUMBERS}", **mended()}
        tools = "CROSS_COMPILE=aarch64-linux-gnu-" if self.variant == "debian" else "LLVM=1"
        return inside(
            "make",
            "-C",
            SOURCE,
            f"O={OBJECTS}",
            tools,
            "ARCH=arm64",
            f"-j{JOBS}",
            *words,
            binds=binds,
        )

    def configure(self) -> None:
        """Creates the configuration: allnoconfig with the fragments on top. Raises Failure if a
        line of the fragments does not hold, since a dependency is missing."""
        objects = self.objects()
        want, config = self.wanted(), objects / ".config"
        (objects / "want.config").write_text(self.beneath() + want)
        process.logged(
            f"config-{self.variant}",
            self.make(f"KCONFIG_ALLCONFIG={OBJECTS}/want.config", "allnoconfig"),
        )
        if missing := not_taken(want, config.read_text()):
            config.unlink()
            raise Failure(
                f"the kernel {self.variant} does not take {', '.join(missing)}: "
                "is something missing that it depends on?"
            )

    def beneath(self) -> str:
        """Returns the configuration to which the fragments are added."""
        if self.variant != "debian":
            return ""
        config = process.output([process.script("build/base.sh"), "config"])
        return re.sub(
            r"^(CONFIG_.*)=m$", r"# \1 is not set", pathlib.Path(config).read_text(), flags=re.M
        )

    def build(self, *targets: str) -> None:
        """Configures and builds the targets, or all of it."""
        if self.variant == "stable":
            packaged()
            return
        objects = self.objects()
        if not self.of_base:
            self.prepare(objects)
            self.compile(targets)
            return
        if not (objects / "done").exists():
            with process.locked(self.variant):
                if not (objects / "done").exists():
                    objects.mkdir(parents=True, exist_ok=True)
                    self.compile(targets)
                    if not targets:
                        (objects / "done").touch()

    def prepare(self, objects: pathlib.Path) -> None:
        """Creates the directory of the objects. Existing objects of the reference are removed for
        another base: its files may be older than the objects, and make compares times."""
        of = objects / "base"
        if self.variant == "reference":
            if objects.exists() and (not of.exists() or of.read_text() != str(base())):
                shutil.rmtree(objects)
            objects.mkdir(parents=True, exist_ok=True)
            of.write_text(str(base()))
        objects.mkdir(parents=True, exist_ok=True)

    def compile(self, targets: collections.abc.Sequence[str]) -> None:
        """Configures and builds, with progress."""
        process.need_space(self.objects(), 3)
        say(self.variant, "building the kernel")
        whole = ["Image"] if self.variant == "debian" else ["Image", "modules"]
        with process.resumed(self.objects()):
            self.configure()
            process.logged(f"kernel-{self.variant}", self.make(*(targets or whole)))
        say(self.variant, "kernel ready")


def packaged() -> pathlib.Path:
    """Returns the directory of Debian stable's own kernel, laid out as in a machine."""
    return pathlib.Path(process.output([process.script("machine/foreign.sh"), "linux"]))


def base() -> pathlib.Path:
    """Returns the source of the base kernel."""
    global _base
    if _base is None:
        _base = pathlib.Path(process.output([process.script("build/base.sh")]))
    return _base


_base: pathlib.Path | None = None


def tree() -> None:
    """Updates build/tree, the patched source; with AS_IT_IS, builds it as it is."""
    if not asked("AS_IT_IS"):
        process.run([process.script("build/series.sh"), "tree"])

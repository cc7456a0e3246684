# SPDX-License-Identifier: GPL-2.0
"""Configures and builds a kernel.

Objects are in build/obj/VARIANT; those of the base alone, which no checkout changes, in the cache.
Source and objects have the same paths in the build root for every checkout, so that ccache serves
them all.
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
# How a kernel of the base is built: another number builds it anew.
FORMAT = "2"
CPUCAPS = "arch/arm64/tools/cpucaps"

# What each kernel is, by the fragments of its configuration, in order: files of
# tools/machine/config, or "options" and "tests", which are those of the menu in Kconfig.
VARIANTS = {
    # Base and series, our options on.
    "armature": "base options tests suspend",
    # The same for lint, and without tests of any kind.
    "clippy": "base options tests suspend",
    "bench": "base options suspend",
    # With run-time checks, and as distributions and debuggers configure it, see the fragments.
    **{
        name: f"base options tests suspend {name}"
        for name in ("debug", "rt", "cfi", "pauth", "kcsan")
    },
    # Debian's configuration for arm64 with our options, without modules, by gcc.
    "debian": "debian options",
    "64k": "base options small 64k",
    # What a package is made of to try that (deb.py).
    "disk": "base options disk",
    # The base alone, same configuration; of the second, only C code is counted.
    "vanilla": "base suspend",
    "vanilla64k": "base small 64k norust",
    # Without Rust and so without our options; and the base with the series' numbers of CPU
    # capabilities, which the C code of the first is compared with.
    "off": "base suspend norust",
    "reference": "base suspend norust",
}


def options(test: bool = False) -> str:
    """Returns the project's options as lines of a configuration, or those of its tests; from the
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
    """Returns the lines of `want` that do not hold in the configuration; the last one counts where
    it names an option twice."""
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


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel, by its name in VARIANTS."""

    variant: str

    def __post_init__(self) -> None:
        """Refuses a name that is none."""
        if self.variant not in VARIANTS:
            raise Failure(f"there is no kernel '{self.variant}': {', '.join(VARIANTS)}")

    @property
    def of_base(self) -> bool:
        """Whether no checkout changes it."""
        return self.variant.startswith("vanilla")

    def wanted(self) -> str:
        """Returns the configuration that has to hold."""
        return "".join(map(fragment, VARIANTS[self.variant].split()))

    def source(self) -> pathlib.Path:
        """Returns the source that it is built from."""
        return base() if self.of_base or self.variant == "reference" else TREE

    def objects(self) -> pathlib.Path:
        """Returns where its objects are."""
        if not self.of_base:
            return BUILD / "obj" / self.variant
        key = process.key(FORMAT, base().name, ROOT.name, self.wanted())
        return CACHE / f"{self.variant}-{key}"

    def image(self) -> pathlib.Path:
        """Returns what a machine boots."""
        return self.objects() / "arch/arm64/boot/Image"

    def make(self, *words: str) -> list[str]:
        """Returns the command that runs the kernel's make."""
        binds: dict[process.Word, str] = {self.source(): SOURCE, self.objects(): OBJECTS}
        if self.variant == "reference":
            binds[TREE / CPUCAPS] = f"{SOURCE}/{CPUCAPS}"
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
        """Makes the configuration: allnoconfig with the fragments on top. Raises Failure if a line
        of them does not hold then, since a dependency is missing."""
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
        """Returns the configuration that the fragments are laid on."""
        if self.variant != "debian":
            return ""
        config = process.output([process.script("build/base.sh"), "config"])
        return re.sub(
            r"^(CONFIG_.*)=m$", r"# \1 is not set", pathlib.Path(config).read_text(), flags=re.M
        )

    def build(self, *targets: str) -> None:
        """Configures and builds the targets, or all of it."""
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
        """Makes the directory of the objects. make goes by times, and the files of another base
        may be older than the objects of the reference."""
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
        self.configure()
        whole = ["Image"] if self.variant == "debian" else ["Image", "modules"]
        process.logged(f"kernel-{self.variant}", self.make(*(targets or whole)))
        say(self.variant, "kernel ready")


def base() -> pathlib.Path:
    """Returns the source of the base kernel."""
    global _base
    if _base is None:
        _base = pathlib.Path(process.output([process.script("build/base.sh")]))
    return _base


_base: pathlib.Path | None = None


def tree() -> None:
    """Brings build/tree, the patched source, up to date, unless what somebody has done to it is
    what is to be built (AS_IT_IS)."""
    if not asked("AS_IT_IS"):
        process.run([process.script("build/series.sh"), "tree"])

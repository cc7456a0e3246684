# SPDX-License-Identifier: GPL-2.0
"""Runs the checks that a maintainer would run on the series before reading it."""

import collections.abc
import pathlib
import re

from armature import build, process, style
from armature.kernels import SOURCE, VARIANTS, Kernel
from armature.ktap import Result, fact
from armature.place import BUILD, LOGS, TOP, TREE
from armature.process import Failure, inside, say
from armature.style import ours

CLIPPY = Kernel("clippy")
TARGET = ("--target", "aarch64-unknown-linux-gnu", "-C", "panic=abort")
# The crate roots of the kernel that are not called like their directories.
ROOTS = ("rust/kernel.o", "samples/rust/rust_arm64_idregs.o")
# The hypervisor's Makefile builds those of EL2.
EL2 = "arch/arm64/kvm/hyp/nvhe/"
# Programs for arm64 that no kernel has, and those for the build host with their kind.
PROGRAMS = (
    "machine/bare/main",
    "machine/fleet/guest",
    "machine/perf/workload",
    "oracle/payload",
)
HOST_PROGRAMS = (
    ("arch/arm64/tools/gen_sysreg/gen_sysreg", "bin"),
    ("tools/machine/plugins/opcodes/lib", "cdylib"),
)
OUR_RUST = re.compile(
    r"^ +--> .*(arm64|kernel/kvm\.rs|icache|nolse|debug_topology|memory_model|"
    r"arm_spe_unit|kvm/spe|kvm/baseline|rust_arm64)",
    re.M,
)
OUR_DOC = re.compile(r"^(?:warning|error).*\n(?:.*\n){0,6}?.*kernel/(?:arm64|kvm)", re.M)
# checkpatch: a function in Rust is exported by a file in C.
IGNORED_BY_CHECKPATCH = (
    "FILE_PATH_CHANGES,CAMELCASE,NO_AUTHOR_SIGN_OFF,EMBEDDED_FILENAME,EXPORT_SYMBOL"
)
# shellcheck: "[ condition ]; report $? name" is how results are reported, "for try in 1 2".
IGNORED_BY_SHELLCHECK = "SC2319,SC2034"
# pycodestyle: the formatter has a space before a colon that is an operator.
IGNORED_BY_PYCODESTYLE = "E203,W503,E704"
# Hosts of registries, and paths of the machine on which the series was written.
TRACES = r"deb\.debian\.org|/root/|/home/"


class Log:
    """The log of a check: the output of its commands, and its complaints."""

    def __init__(self, name: str) -> None:
        """Begins an empty log."""
        self.path = LOGS / f"lint-{re.sub('[^a-zA-Z0-9]+', '-', name)}.log"
        self.path.write_text("")

    def run(self, command: list[str]) -> bool:
        """Runs a command; returns whether it succeeds."""
        part = self.path.with_suffix(".part")
        with process.started(command, part) as child:
            code = child.wait()
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(part.read_text(errors="replace"))
        part.unlink()
        return code == 0

    def text(self) -> str:
        """Returns all that was said."""
        return self.path.read_text()

    def complain(self, text: str) -> bool:
        """Notes what is wrong; returns whether that is nothing."""
        with open(self.path, "a", encoding="utf-8") as log:
            log.write(text)
        return not text


def patches() -> str:
    """Returns all patches, one after the other."""
    return "".join(path.read_text() for path in sorted((TOP / "patches").glob("*.patch")))


def touched_objects() -> list[str]:
    """Returns the objects of upstream's C and assembly files that the series touches, and of its
    own C."""
    changed = re.findall(r"^diff --git a/((?!rust/|tools/).*)\.[cS] b/", patches(), re.M)
    sources = {*changed, *(path.removesuffix(".c") for path in ours("arch/*.c", "drivers/*.c"))}
    return sorted({object_of(path) for path in sources})


def object_of(path: str) -> str:
    """Returns the object of a C source, as make is asked for it."""
    if "/nvhe/" in path:
        return f"{path}.nvhe.o"
    if "/kvm/icache/el2" in path:
        return path.replace("/kvm/icache/", "/kvm/hyp/nvhe/../../icache/") + ".nvhe.o"
    return f"{path}.o"


def again(objects: collections.abc.Iterable[str]) -> None:
    """Removes objects, so that their compilers speak once more."""
    for path in objects:
        (CLIPPY.objects() / path).unlink(missing_ok=True)


def rust_format(log: Log) -> bool:
    """Runs rustfmt on every file."""
    command = "rustfmt --edition 2021 --config-path build/tree/.rustfmt.toml --check".split()
    return log.run(inside(*command, *ours("*.rs")))


def crate_roots() -> list[str]:
    """Returns the objects of the kernel's crates: of a file that is called like its directory."""
    paths = map(pathlib.PurePath, ours("arch/*.rs", "drivers/*.rs"))
    named = [path for path in paths if path.stem == path.parent.name and "tools" not in path.parts]
    return [*ROOTS, *(f"{path.with_suffix('.o')}" for path in named)]


def rust_clippy(log: Log) -> bool:
    """Runs clippy on the kernel's crates and on programs."""
    again([*crate_roots(), *(f"{path.removesuffix('.rs')}.nvhe.o" for path in ours("*/el2.rs"))])
    good = [log.run(CLIPPY.make("CLIPPY=1", *crate_roots(), EL2))]
    driver = ["clippy-driver", "--edition", "2021", "-D", "warnings", "--emit=metadata"]
    driver += ["-o", "/tmp/out"]
    for program in PROGRAMS:
        # Fields of registers are written as shifts between ors, as in the kernel.
        words = [*driver, *TARGET, "-A", "clippy::precedence", f"tools/{program}.rs"]
        good.append(log.run(inside(*build.with_sysreg(), *words)))
    for program, kind in HOST_PROGRAMS:
        good.append(log.run(inside(*driver, "--crate-type", kind, f"{program}.rs")))
    vmm = [*build.with_crates(), "CLIPPY=1", "tools/vmm/build"]
    good.append(log.run(inside(*vmm, BUILD / "vmm/vmm")))
    tool = [*build.with_tables(), "CLIPPY=1", "tools/baseline/build"]
    good.append(log.run(inside(*tool, BUILD / "baseline/clippy")))
    return all(good) and not OUR_RUST.search(log.text())


def rust_doc(log: Log) -> bool:
    """Runs rustdoc, which must not warn about our part of the kernel crate."""
    return log.run(CLIPPY.make("rustdoc")) and not OUR_DOC.search(log.text())


def check_patches(log: Log) -> bool:
    """Runs checkpatch on every mail of the series."""
    if not log.run([process.script("build/series.sh"), "mail"]):
        return False
    mails = sorted(set((BUILD / "series").glob("*.patch")) - set((BUILD / "series").glob("0000-*")))
    command = "scripts/checkpatch.pl --strict --no-signoff --show-types"
    command = f'cd build/tree && {command} --ignore {IGNORED_BY_CHECKPATCH} "$@"'
    log.run(inside("sh", "-c", command, "sh", *mails))
    totals = re.findall("^total: ", log.text(), re.M)
    return len(totals) == len(mails) and not re.search("^(ERROR|WARNING|CHECK):", log.text(), re.M)


def added_lines() -> dict[str, set[int]]:
    """Returns the lines of each file that the series adds."""
    added: dict[str, set[int]] = {}
    lines: set[int] = set()
    diff = process.output(["git", "-C", str(TREE), "diff", "-U0", "--no-renames", "base"])
    for line in diff.splitlines():
        if line.startswith("+++ "):
            lines = added.setdefault(line[6:], set())
        elif hunk := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            start, count = int(hunk[1]), int(hunk[2] or 1)
            lines.update(range(start, start + count))
    return added


def about_ours(log: str, added: dict[str, set[int]]) -> list[str]:
    """Returns the lines of a compiler's log that are about lines which the series adds: upstream's
    own warnings are not ours to answer for."""
    places = r"(?:^|[ /])((?:arch|rust|include|drivers|samples|kernel|tools)/[^:\s]+):(\d+)"
    found = [(re.search(places, line), line) for line in log.splitlines()]
    return [line for about, line in found if about and int(about[2]) in added.get(about[1], set())]


def strict_objects(log: Log, how: str) -> bool:
    """Builds the objects that the series touches with another make variable: W=1, or C=2 for
    sparse."""
    objects = touched_objects()
    again(objects)
    good = log.run(CLIPPY.make(how, *objects))
    return log.complain("\n".join(about_ours(log.text(), added_lines()))) and good


def kernel_doc(log: Log) -> bool:
    """Runs kernel-doc, which must say nothing about our C."""
    files = ours("arch/*.h", "arch/*.c", "drivers/*.c", "include/*.h")
    command = 'cd build/tree && for f in "$@"; do scripts/kernel-doc -none -Wall "$f"; done'
    return log.run(inside("sh", "-c", command, "sh", *files)) and not log.text()


def shell_scripts(log: Log) -> bool:
    """Runs shellcheck on every script of the shell's."""
    flags = ["-x", "-S", "warning", "-e", IGNORED_BY_SHELLCHECK]
    return log.run(inside("shellcheck", *flags, *sorted(style.shell())))


def python_sources(log: Log) -> bool:
    """Runs pyflakes and pycodestyle, and checks types."""
    files = ours("*.py")
    alone = [path for path in files if not path.startswith("tools/armature/")]
    layout = [f"--max-line-length={style.COLUMNS}", f"--ignore={IGNORED_BY_PYCODESTYLE}"]
    types = "env MYPYPATH=tools mypy --strict --cache-dir=/dev/null".split()
    return all(
        [
            log.run(inside("pyflakes3", *files)),
            log.run(inside("pycodestyle", *layout, *files)),
            log.run(inside(*types, "-p", "armature")),
            *(log.run(inside(*types, path)) for path in alone),
        ]
    )


def breaks_apply(log: Log) -> bool:
    """Checks that each patch of tools/test/breaks applies, and names a test that notices it."""
    good = []
    for patch in sorted((TOP / "tools/test/breaks").glob("*.patch")):
        good.append(log.run(["git", "-C", str(TREE), "apply", "--check", str(patch)]))
        if not re.search("^Noticed-by: .*: ", patch.read_text(), re.M):
            good.append(log.complain(f"{patch.name} names no test\n"))
    return all(good)


def configurations(log: Log) -> bool:
    """Checks that each kernel takes the options of its fragments, also those that are seldom
    built."""
    wrong = []
    for kernel in map(Kernel, VARIANTS):
        # step() has configured the one with which the checks run.
        if kernel.of_base or kernel.objects() == CLIPPY.objects():
            continue
        kernel.prepare(kernel.objects())
        with process.resumed(kernel.objects()):
            try:
                kernel.configure()
            except Failure as failure:
                wrong.append(f"{failure}\n")
    return log.complain("".join(wrong))


def no_traces(log: Log) -> bool:
    """Checks that nothing names a registry's host, or a path of the writer's machine."""
    own = str(pathlib.Path(__file__).relative_to(TOP))
    words = ["git", "-C", str(TOP), "grep", "-nIE", TRACES, "--", ".", ":!LICENSES", f":!{own}"]
    return not log.run(words)


CHECKS: tuple[tuple[str, collections.abc.Callable[[Log], bool]], ...] = (
    ("rustfmt", rust_format),
    ("clippy", rust_clippy),
    ("rustdoc", rust_doc),
    ("checkpatch --strict", check_patches),
    ("W=1 on what is touched", lambda log: strict_objects(log, "W=1")),
    ("sparse on what is touched", lambda log: strict_objects(log, "C=2")),
    ("kernel-doc", kernel_doc),
    ("shellcheck", shell_scripts),
    ("pyflakes, pycodestyle and mypy", python_sources),
    ("columns", lambda log: log.complain(style.columns())),
    ("length of functions", lambda log: log.complain(style.long_functions())),
    ("comments begin with verbs", lambda log: log.complain(style.without_verbs())),
    ("breaks apply", breaks_apply),
    ("kernels take their options", configurations),
    ("no host names or paths", no_traces),
)


def step() -> list[Result]:
    """Returns the result of every check."""
    build.all_of({"tree", "sysreg"})
    CLIPPY.build("prepare", "modules_prepare")
    results = []
    with process.resumed(CLIPPY.objects()):
        for name, check in CHECKS:
            say("lint", name)
            log = Log(name)
            good = check(log)
            end = "" if good else "\n".join(process.last_lines(log.path, 15))
            results.append(fact("lint", name, good, end))
    return results


# The pages, and the examples in them: each on its own, with the headers that the series makes.
PAGES = """
cd /armature/src
mkdir -p /tmp/docs
make -s O=/tmp/docs SPHINXDIRS="arch/arm64 virt/kvm" SPHINXOPTS="$1" htmldocs
rm -rf "$2/docs"
mkdir -p "$2/docs"
cp -r /tmp/docs/Documentation/output/. "$2/docs/"
"""
EXAMPLES = """
make -s -C /armature/src ARCH=arm64 O=/tmp/headers INSTALL_HDR_PATH=/tmp/usr headers_install
for example; do
    echo "$example"
    aarch64-linux-gnu-gcc -Wall -Wextra -Werror -isystem /tmp/usr/include -c "$example" -o /tmp/o
done
"""


def pages() -> Result:
    """Builds the pages of arch/arm64 and virt/kvm, without a warning about one of ours."""
    changed = re.findall(r"^\+\+\+ b/(Documentation/.*\.rst)$", patches(), re.M)
    names = "|".join(map(re.escape, sorted({*changed, *ours("Documentation/*.rst")})))
    log = Log("docs")
    command = inside("sh", "-euc", PAGES, "sh", "-j2", BUILD, binds={TREE: SOURCE})
    good = log.run(command)
    about = re.findall(rf"^.*(?:{names}):.*(?:WARNING|ERROR).*$", log.text(), re.M)
    detail = "\n".join(about or process.last_lines(log.path, 5))
    name = "the documentation builds without a warning of ours"
    return fact("docs", name, good and not about, detail)


def examples_of(page: pathlib.Path) -> list[str]:
    """Returns the examples in C of a page."""
    blocks = re.findall(r"^\.\. code-block:: c\n((?:\t.*\n|\n)+)", page.read_text(), re.M)
    return [re.sub("^\t", "", block, flags=re.M) for block in blocks]


def examples() -> Result:
    """Compiles the examples of our pages."""
    work, log, files = process.scratch("examples"), Log("docs-examples"), []
    for page in (TOP / path for path in ours("Documentation/*.rst")):
        for number, example in enumerate(examples_of(page)):
            files.append(work / f"{page.stem}-{number}.c")
            files[-1].write_text(example)
    good = log.run(inside("sh", "-euc", EXAMPLES, "sh", *files, binds={TREE: SOURCE}))
    end = "\n".join(process.last_lines(log.path, 15))
    what = f"{len(files)} examples compile"
    return fact("docs", what, good and bool(files), end)


def docs() -> list[Result]:
    """Returns whether the pages build, which are in build/docs then, and their examples."""
    build.all_of({"tree"})
    say("docs", "building the pages of arch/arm64 and virt/kvm")
    return [pages(), examples()]


def show(results: list[Result]) -> int:
    """Prints results; returns 1 if one is a failure."""
    for number, result in enumerate(results, 1):
        print(f"{'ok' if result.status == 'pass' else 'not ok'} {number} - {result.name}")
        if result.status != "pass":
            print("".join(f"# {line}\n" for line in result.detail.splitlines()), end="")
    return 1 if any(result.status == "fail" for result in results) else 0

# SPDX-License-Identifier: GPL-2.0
"""Tests the machine model without a kernel: runs the bare-metal image on CPUs with different
properties, and checks the emulator's messages for bad values."""

import collections.abc
import dataclasses
import re
import subprocess

from armature import build, ktap
from armature.ktap import Result, fact
from armature.place import BUILD, LOGS, TOP
from armature.process import inside

STEP = "machine"
FGT, S2FWB, DIC, IDC = 1, 2, 4, 8
ALL = FGT | S2FWB | DIC | IDC
# The image's numbers for the values of `tso=`; see bare/main.rs.
NO_TSO, ON, RO, EL12, IMPDEF = range(5)
SPE_PROPERTIES = ("spe", "spe-version", "spe-f", "spe-dl", "spe-lag")
PROPERTIES = ("brps", "ctx-cmps", "wrps", "fgt", "fwb", "dic", "idc", "iminline", "tso")
# FEAT_SPE's versions, by ID_AA64DFR0_EL1.PMSVer.
V1P0, V1P1, V1P2 = 1, 2, 3


@dataclasses.dataclass(frozen=True)
class Cpu:
    """A CPU, and the properties that the image must find: counts of breakpoints, context-aware
    ones and watchpoints, features, CTR_EL0.IminLine, the memory model control, FEAT_SPE: its
    version, for how many instructions a record stays in the unit (in units of 1024),
    PMBIDR_EL1.F, PMBSR_EL1.DL after a fault. `only_counts`: run only the work with a known number
    of samples."""

    name: str
    brps: int = 6
    ctx_cmps: int = 2
    wrps: int = 4
    features: int = ALL
    iminline: int = 4
    tso: int = NO_TSO
    spe: bool = False
    spe_version: int = V1P1
    spe_lag: int = 0
    spe_f: bool = True
    spe_dl: bool = False
    only_counts: bool = False

    def expected(self) -> bytes:
        """Returns the expected properties for the image: a byte each."""
        return bytes(
            (
                self.brps,
                self.ctx_cmps,
                self.wrps,
                self.features,
                self.iminline,
                self.tso,
                self.spe,
                self.spe_version if self.spe else 0,
                self.spe_lag,
                self.spe_f,
                self.spe_dl,
                self.only_counts,
            )
        )


SPE = Cpu("max,spe=on", spe=True)
CPUS = (
    Cpu("max"),
    Cpu("cortex-a57", features=0),
    Cpu("neoverse-n1", features=0),
    Cpu("a64fx", features=0, iminline=6),
    Cpu("max,brps=4,ctx-cmps=1", brps=4, ctx_cmps=1),
    Cpu("max,brps=2,ctx-cmps=1,wrps=2,fgt=off", 2, 1, 2, ALL & ~FGT),
    Cpu("max,brps=16,ctx-cmps=6,wrps=16", 16, 6, 16),
    Cpu("max,brps=16,ctx-cmps=16", 16, 16),
    Cpu("max,fwb=off", features=ALL & ~S2FWB),
    Cpu("max,dic=off", features=ALL & ~DIC),
    Cpu("max,idc=off,iminline=6", features=ALL & ~IDC, iminline=6),
    Cpu("max,tso=on", tso=ON),
    Cpu("max,tso=ro", tso=RO),
    Cpu("max,tso=el12", tso=EL12),
    Cpu("max,tso=impdef", tso=IMPDEF),
    SPE,
    Cpu("max,spe=on,fgt=off", features=ALL & ~FGT, spe=True),
    Cpu("max,spe=on,spe-version=1", spe=True, spe_version=V1P0),
    Cpu("max,spe=on,spe-version=3", spe=True, spe_version=V1P2),
    Cpu("max,spe=on,spe-version=3,fgt=off", features=ALL & ~FGT, spe=True, spe_version=V1P2),
    Cpu("max,spe=on,spe-f=off", spe=True, spe_f=False),
    Cpu("max,spe=on,spe-dl=on", spe=True, spe_dl=True),
    Cpu("max,spe=on,spe-lag=2048", spe=True, spe_lag=2),
    Cpu("max,spe=on,spe-lag=16384", spe=True, spe_lag=16),
    Cpu(
        "max,spe=on,spe-version=3,spe-f=off,spe-dl=on,spe-lag=2048",
        spe=True,
        spe_version=V1P2,
        spe_lag=2,
        spe_f=False,
        spe_dl=True,
    ),
)
# CPUs on which the image runs only the work whose samples are known in number.
COUNTED = (
    Cpu("max,spe=on", spe=True, only_counts=True),
    Cpu("max,spe=on,spe-version=3", spe=True, spe_version=V1P2, only_counts=True),
    Cpu("max,spe=on,spe-lag=16384", spe=True, spe_lag=16, only_counts=True),
)

# The emulator's messages, with the bad arguments that cause them.
REFUSALS = (
    ("'1' is no value of 'brps'", "-cpu max,brps=1"),
    ("'17' is no value of 'brps'", "-cpu max,brps=17"),
    ("'x' is no value of 'wrps'", "-cpu max,wrps=4:x"),
    ("'' is no value of 'brps'", "-cpu max,brps=4:"),
    ("'yes' is no value of 'spe'", "-cpu max,spe=yes"),
    ("'0' is no value of 'spe-version'", "-cpu max,spe=on,spe-version=0"),
    ("'4' is no value of 'spe-version'", "-cpu max,spe=on,spe-version=4"),
    ("'yes' is no value of 'spe-f'", "-cpu max,spe=on,spe-f=yes"),
    ("'1' is no value of 'spe-dl'", "-cpu max,spe=on,spe-dl=1"),
    ("'on' is no value of 'spe-lag'", "-cpu max,spe=on,spe-lag=on"),
    ("'ro' is no value of 'fgt'", "-cpu max,fgt=ro"),
    ("'el12' is no value of 'fgt'", "-cpu max,fgt=el12"),
    ("'1' is no value of 'iminline'", "-cpu max,iminline=1"),
    (
        "there cannot be more context-aware breakpoints than breakpoints",
        "-cpu max,brps=2,ctx-cmps=3",
    ),
    ("'brps' has 3 values and the machine 2 CPUs", "-cpu max,brps=6:8:4"),
    ("need gic-version=3", "-M virt,gic-version=2 -cpu max,spe=on"),
)

# Patterns of lines that tracing must print.
TRACES = (
    ("writes of ACTLR_EL1", "arm_actlr_write.*cpu 0 EL3 own of EL2 0 value 0xffffffffffffffff"),
    ("trapped accesses to debug registers", "arm_sysreg_trap.*cpu 0 EL1 to EL2: DBGBCR0_EL1 write"),
)


def qemu(*words: str) -> tuple[str, int]:
    """Runs the emulator; returns its output and its exit status."""
    rest = "-nodefaults -display none -monitor none".split()
    line = inside("timeout", "60", build.model(), *words, *rest)
    done = subprocess.run(
        line,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=False,
        check=False,
    )
    return done.stdout.decode(errors="replace").replace("\r", ""), done.returncode


def image(cpu: Cpu, *more: str) -> tuple[str, int]:
    """Runs the bare-metal image; returns the output of image and emulator, and the exit status."""
    line = f"""-M virt,secure=on,virtualization=on,gic-version=3 -cpu {cpu.name} -m 1G
        -semihosting-config enable=on,target=native
        -kernel {BUILD / "bare/image"}"""
    return qemu(*line.split(), *loaders(cpu.expected()), *more)


def loaders(expected: bytes) -> list[str]:
    """Returns QEMU's arguments that write bytes to the image's EXPECTED: a device writes 8."""
    words = []
    for start in range(0, len(expected), 8):
        number = int.from_bytes(expected[start : start + 8], "little")
        place = f"loader,addr={0x40100000 + start:#x},data={number},data-len=8"
        words += ["-device", place]
    return words


def counted(cpu: Cpu, *more: str) -> tuple[str, int]:
    """Runs the image reproducibly."""
    return image(cpu, "-icount", "shift=0,sleep=off", "-serial", "stdio", *more)


def on_cpu(cpu: Cpu) -> collections.abc.Iterator[Result]:
    """Yields the results of the image on one CPU."""
    said, code = counted(cpu)
    for result in ktap.of_step(STEP, said, code):
        yield dataclasses.replace(result, name=f"{cpu.name}: {result.name}")
    yield fact(STEP, f"{cpu.name}: the image runs to its end", code == 0, f"status {code}")


def spe_counts(line: str) -> dict[str, int]:
    """Returns the counters of a line, by name."""
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


def samples_are_counted() -> collections.abc.Iterator[Result]:
    """Yields whether the emulator's counters at its exit are those that the image notes."""
    for cpu in COUNTED:
        said, code = counted(cpu, "-trace", "arm_spe_counts")
        for result in ktap.of_step(STEP, said, code):
            yield dataclasses.replace(result, name=f"{cpu.name}: counts: {result.name}")
        noted = re.search(r"^# spe (chosen=.*)$", said, re.M)
        shown = re.search(r"^arm_spe_counts cpu 0: (chosen=.*)$", said, re.M)
        want = spe_counts(noted[1]) if noted else {}
        have = spe_counts(shown[1]) if shown else {}
        good = bool(want) and {name: have.get(name) for name in want} == want
        what = "the emulator counts the samples as the image does"
        yield fact(STEP, f"{cpu.name}: {what}", good, f"{have}, not {want}")


def runs_are_the_same() -> Result:
    """Returns whether two runs give the same output, with the same bytes in SPE's buffer."""
    first, second = counted(SPE)[0], counted(SPE)[0]
    same = first == second and re.search("^# buffer 0x", first, re.M) is not None
    what = "a second run says the same, with the same bytes in the buffer"
    return fact(STEP, f"{SPE.name}: {what}", same)


def traced() -> collections.abc.Iterator[Result]:
    """Yields whether accesses to system registers can be traced."""
    said, code = image(
        Cpu("max,tso=on", tso=ON),
        "-serial",
        "null",
        "-trace",
        "arm_actlr_write",
        "-trace",
        "arm_sysreg_trap",
    )
    yield fact(STEP, "the image runs with its accesses traced", code == 0, f"status {code}")
    for name, pattern in TRACES:
        yield fact(STEP, f"{name} can be traced", re.search(pattern, said) is not None)


def refused() -> collections.abc.Iterator[Result]:
    """Yields whether bad values are refused, by name."""
    for text, words in REFUSALS:
        board = [] if "-M" in words else ["-M", "virt"]
        said, code = qemu(*board, "-smp", "2", "-S", *words.split())
        good = code not in (0, 124) and text in said
        yield fact(STEP, f"refused: {words}", good, said[-200:])


def listed() -> collections.abc.Iterator[Result]:
    """Yields whether the help of the CPU lists each property."""
    said, _ = qemu("-M", "virt", "-cpu", "max,help")
    for name in PROPERTIES + SPE_PROPERTIES:
        yield fact(STEP, f"-cpu max,help lists {name}", f"\n  {name}=<list>  - " in said)


def step() -> list[Result]:
    """Returns the results for the machine model."""
    build.all_of({"model", "sysreg"})
    (BUILD / "bare").mkdir(exist_ok=True)
    script = TOP / "tools/machine/bare/build"
    build.built("bare", inside(*build.with_sysreg(), script, BUILD / "bare/image"))
    results = [result for cpu in CPUS for result in on_cpu(cpu)]
    (LOGS / "step-machine.log").write_text(
        "\n".join(f"{r.status} {r.name} {r.detail}" for r in results)
    )
    return [
        *results,
        runs_are_the_same(),
        *samples_are_counted(),
        *traced(),
        *refused(),
        *listed(),
    ]

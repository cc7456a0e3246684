# SPDX-License-Identifier: GPL-2.0
"""Generates debug programs from seeds.

A file of programs consists of 64-bit words: the number of programs, whether full traces are wanted,
and for each program its seed, its number of operations, and the operations. An operation is two
words: kind | number << 8, and a value.

  WRITE, READ   access the register `number`, which is n * 4 + op2 - 4; in value registers, a
                value below 4 is a slot of code, below 12 a word of data
  CONTEXTIDR, MDSCR, OSLAR   write the value to that register
  RUN           run the code at EL `number`
  CHECKPOINT    lets a VMM stop; it leaves no trace
  SPE_WRITE, SPE_READ   access the register `number` of a profiling unit (SPE_REGISTERS)
  SPE_RUN       profile a loop of `value` turns

A program is a function of its seed, and of the counts of breakpoints and of context-aware ones; or
it is one for a profiling unit.
"""

import collections.abc
import pathlib
import random
import struct

from armature.sysreg import constants, field

Op = tuple[int, int, int]
Program = list[Op]

WRITE, READ, CONTEXTIDR, MDSCR, OSLAR, RUN, CHECKPOINT = range(1, 8)
SPE_WRITE, SPE_READ, SPE_RUN = range(8, 11)
BVR, BCR, WVR, WCR = range(4)
CONTEXTS = [0x11, 0x22, 0x33]
# Byte address selects (BAS) for bytes of a word, and of a doubleword.
ALL_OF_WORD, ALL_OF_DOUBLEWORD = 0xF, 0xFF


def mdscr(**bits: int) -> int:
    """Returns MDSCR_EL1 with these fields."""
    return field("MDSCR_EL1", **bits)


def enabled() -> int:
    """Returns MDSCR_EL1 with debug exceptions on, at EL1 as well."""
    return mdscr(MDE=1, KDE=1)


class Writer:
    """The generator of one program."""

    def __init__(self, seed: int, brps: int, ctx_cmps: int, wrps: int = 4) -> None:
        """Starts the program of a seed."""
        self.rng = random.Random(f"{seed} {brps} {ctx_cmps}")
        self.brps, self.wrps = brps, wrps
        self.context_aware = range(brps - ctx_cmps, brps)

    def lbn(self) -> int:
        """Returns a breakpoint for a link: mostly a context-aware one."""
        return (
            self.rng.choice(self.context_aware)
            if self.rng.random() < 0.8
            else self.rng.randrange(16)
        )

    def type_of(self, n: int) -> int:
        """Returns a type for breakpoint `n`: mostly one that the breakpoint has."""
        if n in self.context_aware and self.rng.random() < 0.8:
            return self.rng.choice([2, 3, 3, 3, 3, 6, 7, 7])
        return self.rng.choice([0, 1, 1, 1]) if self.rng.random() < 0.9 else self.rng.randrange(16)

    def control(self, n: int) -> tuple[int, int]:
        """Returns DBGBCR<n>_EL1, sometimes with arbitrary bits, and its type."""
        bt = self.type_of(n)
        lbn, bas = self.lbn(), self.rng.choice([15, 15, 15, 15, 3, 12])
        value = field(
            "DBGBCRn_EL1",
            BT=bt,
            LBN=lbn,
            BAS=bas,
            PMC=self.rng.choice([1, 1, 2, 3, 3]),
            E=int(self.rng.random() < 0.9),
        )
        named = field("DBGBCRn_EL1", BT=15, LBN=15, BAS=15, PMC=3, E=1)
        return value | (self.rng.getrandbits(64) & ~named if self.rng.random() < 0.05 else 0), bt

    def some_of(self, pair: Program) -> Program:
        """Returns both writes in any order, or sometimes only one of them."""
        return self.rng.sample(pair, self.rng.choice([1, 2, 2, 2, 2]))

    def breakpoint(self, n: int) -> Program:
        """Returns writes to the registers of breakpoint `n`."""
        control, bt = self.control(n)
        value = self.rng.choice(CONTEXTS) if bt & 2 else self.rng.randrange(4)
        return self.some_of([(WRITE, n * 4 + BCR, control), (WRITE, n * 4 + BVR, value)])

    def watchpoint(self, n: int) -> Program:
        """Returns writes to the registers of watchpoint `n`, sometimes with any HMC and SSC."""
        rng = self.rng
        control = field(
            "DBGWCRn_EL1",
            WT=int(rng.random() < 0.6),
            LBN=self.lbn(),
            BAS=rng.choice([255, 255, 255, 15, 240]),
            LSC=rng.choice([1, 2, 3]),
            PAC=rng.choice([1, 2, 3, 3]),
            E=int(rng.random() < 0.9),
        )
        if rng.random() < 0.05:
            control |= field("DBGWCRn_EL1", HMC=rng.getrandbits(1), SSC=rng.getrandbits(2))
        return self.some_of(
            [(WRITE, n * 4 + WCR, control), (WRITE, n * 4 + WVR, 4 + rng.randrange(4))]
        )

    def step(self) -> Program:
        """Returns the next operations; sometimes they address a breakpoint that does not exist."""
        rng, what = self.rng, self.rng.random()
        if what < 0.40:
            return self.breakpoint(
                rng.randrange(self.brps) if rng.random() < 0.97 else rng.randrange(16)
            )
        if what < 0.60:
            return self.watchpoint(rng.randrange(self.wrps))
        if what < 0.75:
            return [(CONTEXTIDR, 0, rng.choice(CONTEXTS))]
        if what < 0.78:
            return [(MDSCR, 0, rng.choice([enabled(), enabled(), mdscr(MDE=1), 0]))]
        if what < 0.80:
            return [(OSLAR, 0, rng.randrange(2))]
        if what < 0.90:
            n = rng.randrange(self.brps if rng.random() < 0.9 else 16)
            return [(READ, n * 4 + rng.randrange(2), 0)]
        return [(RUN, rng.randrange(2), 0)]

    def whole(self) -> Program:
        """Returns the program. It starts with the breakpoints that give most hits, and ends with
        runs in every context, and reads of the registers."""
        ops: Program = [(MDSCR, 0, enabled()), (CONTEXTIDR, 0, CONTEXTS[0])]
        for n in self.context_aware:
            ops += self.breakpoint(n)
        for _ in range(self.rng.randrange(10, 50)):
            ops += self.step()
        ops += [(OSLAR, 0, 0), (MDSCR, 0, enabled())]
        for context in CONTEXTS:
            ops += [(CONTEXTIDR, 0, context), (RUN, 1, 0), (RUN, 0, 0)]
        ops += [(READ, n * 4 + which, 0) for n in range(self.brps) for which in (BVR, BCR)]
        return ops + [(READ, n * 4 + which, 0) for n in range(self.wrps) for which in (WVR, WCR)]


def of_seed(seed: int, brps: int, ctx_cmps: int) -> Program:
    """Returns the program of a seed."""
    return Writer(seed, brps, ctx_cmps).whole()


def without_el2(ops: Program) -> Program:
    """Returns the operations with only the breakpoint types of a machine without EL2: no type
    compares CONTEXTIDR_EL2 or a VMID (DBGBCR<n>_EL1.BT 0b1xxx)."""
    el2 = constants()["DBGBCRn_EL1_BT_VMID"] << constants()["DBGBCRn_EL1_BT_SHIFT"]
    return [
        (kind, number, value & ~el2 if (kind, number % 4) == (WRITE, BCR) else value)
        for kind, number, value in ops
    ]


SPE_REGISTERS = """PMSCR PMSICR PMSIRR PMSFCR PMSEVFR PMSLATFR PMSNEVFR PMBLIMITR PMBPTR PMBSR
    PMSIDR PMBIDR""".split()
PMSCR, PMBLIMITR, PMBPTR, PMBSR = (
    SPE_REGISTERS.index(name) for name in ("PMSCR", "PMBLIMITR", "PMBPTR", "PMBSR")
)
# Where buffers are, in the machine's memory: they start in these 64 KiB, and have up to 12 pages.
SPE_BUFFER, SPE_SIZE = 0x45C0_0000, 0x1_0000
PAGE = 0x1000
# A run with so many turns gives about 155 records, of 64 bytes: more than a page has, and less than
# four have.
SPE_TURNS = 10000


class SpeWriter:
    """The generator of a program for a profiling unit."""

    def __init__(self, seed: int) -> None:
        """Starts the program of a seed."""
        self.rng = random.Random(f"spe {seed}")

    def buffer(self) -> Program:
        """Returns writes of a pointer and a limit, which enables the buffer in most cases. The
        limit may be before the pointer."""
        rng = self.rng
        page = rng.randrange(SPE_SIZE // PAGE)
        pointer = SPE_BUFFER + page * PAGE + rng.choice([0, 0, 0, 64, 640, rng.randrange(PAGE)])
        pages = rng.choice([1, 1, -1, 0, 8, 8, 12])
        limit = SPE_BUFFER + max(0, page + pages) * PAGE
        mode = constants()["PMBLIMITR_EL1_FM_DISCARD"] if rng.random() < 0.1 else 0
        enabled = int(rng.random() < 0.85)
        limit |= field("PMBLIMITR_EL1", E=enabled, FM=mode)
        writes = [(SPE_WRITE, PMBPTR, pointer), (SPE_WRITE, PMBLIMITR, limit)]
        return writes if rng.random() < 0.8 else writes[::-1]

    def status(self) -> Program:
        """Returns a write of PMBSR_EL1: mostly one that clears the event, as drivers do."""
        value = 0 if self.rng.random() < 0.6 else self.rng.getrandbits(32)
        return [(SPE_WRITE, PMBSR, value)]

    def other(self) -> Program:
        """Returns a write of arbitrary bits to a register that says nothing of the buffer. It does
        not start to profile."""
        number = self.rng.randrange(PMBLIMITR)
        value = self.rng.getrandbits(64)
        if number == PMSCR:
            value &= ~field("PMSCR_EL1", E1SPE=1, E0SPE=1)
        return [(SPE_WRITE, number, value)]

    def step(self) -> Program:
        """Returns the next operations."""
        what = self.rng.random()
        if what < 0.25:
            return self.buffer() + self.rng.choice([[], [(SPE_RUN, 0, SPE_TURNS)]])
        if what < 0.35:
            return self.status()
        if what < 0.5:
            return self.other()
        if what < 0.75:
            return [(SPE_READ, self.rng.randrange(len(SPE_REGISTERS)), 0)]
        return [(SPE_RUN, 0, self.rng.choice([1, SPE_TURNS]))]

    def whole(self) -> Program:
        """Returns the program, which ends with reads of all registers."""
        ops: Program = self.buffer()
        for _ in range(self.rng.randrange(5, 25)):
            ops += self.step()
        return ops + [(SPE_READ, number, 0) for number in range(len(SPE_REGISTERS))]


def with_checkpoint(ops: Program) -> Program:
    """Returns the operations with a checkpoint after two thirds of them."""
    at = len(ops) * 2 // 3
    return ops[:at] + [(CHECKPOINT, 0, 0)] + ops[at:]


def write(
    path: pathlib.Path, programs: collections.abc.Sequence[tuple[int, Program]], verbose: bool
) -> None:
    """Writes programs with their seeds to a file."""
    with open(path, "wb") as out:
        out.write(struct.pack("<QQ", len(programs), verbose))
        for seed, ops in programs:
            out.write(struct.pack("<QQ", seed, len(ops)))
            for kind, number, value in ops:
                out.write(struct.pack("<QQ", kind | number << 8, value))


def describe(op: Op) -> str:
    """Returns an operation as text, with the architecture's names."""
    kind, number, value = op
    register = f"{('DBGBVR', 'DBGBCR', 'DBGWVR', 'DBGWCR')[number % 4]}{number // 4}_EL1"
    return {
        WRITE: f"{register} = {value:#x}",
        READ: f"read {register}",
        CONTEXTIDR: f"CONTEXTIDR_EL1 = {value:#x}",
        MDSCR: f"MDSCR_EL1 = {value:#x}",
        OSLAR: f"OSLAR_EL1 = {value}",
        RUN: f"run at EL{number}",
        CHECKPOINT: "checkpoint",
        SPE_WRITE: f"{SPE_REGISTERS[number % len(SPE_REGISTERS)]}_EL1 = {value:#x}",
        SPE_READ: f"read {SPE_REGISTERS[number % len(SPE_REGISTERS)]}_EL1",
        SPE_RUN: f"profile {value} turns",
    }[kind]

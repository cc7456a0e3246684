#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Debug programs from seeds: write them, and find what is left of one that fails.

    oracle.py generate FILE BRPS CTX_CMPS FIRST COUNT [--verbose] [--checkpoints] [--el1]
    oracle.py minimise BRPS CTX_CMPS SEED COMMAND_NATIVE COMMAND_VM

FILE, in words of 64 bits: the number of programs, whether traces are wanted whole,
and for each program its seed, its number of operations, and those, two words each:

    kind | number << 8, value

    1 WRITE register, 2 READ register: number is n * 4 + op2 - 4. In the value registers
      a value below 4 is a slot of code, below 12 a word of data
    3 CONTEXTIDR_EL1, 4 MDSCR_EL1, 5 OSLAR_EL1: value
    6 RUN at EL number
    7 CHECKPOINT, for a VMM that can stop there; it leaves no trace

A program is a function of its seed and of BRPS and CTX_CMPS. With --el1 its breakpoints have
no type that compares with EL2's CONTEXTIDR_EL2 or VMID (DBGBCR<n>_EL1.BT 0b1xxx). The commands of `minimise`
take a FILE and print what payload.rs prints.
"""

import random
import shlex
import struct
import subprocess
import sys
import tempfile

WRITE, READ, CONTEXTIDR, MDSCR, OSLAR, RUN, CHECKPOINT = range(1, 8)
BVR, BCR, WVR, WCR = range(4)
CONTEXTS = [0x11, 0x22, 0x33]
ON = 1 << 15 | 1 << 13  # MDSCR_EL1.MDE and KDE


def program(seed, brps, ctx_cmps, wrps=4):
    """The operations of a seed: (kind, number, value)."""
    rng = random.Random(f"{seed} {brps} {ctx_cmps}")
    context_aware = range(brps - ctx_cmps, brps)

    def lbn():
        return rng.choice(context_aware) if rng.random() < 0.8 else rng.randrange(16)

    def bcr(n):
        aware = n in context_aware
        bt = rng.choice([2, 3, 3, 3, 3, 6, 7, 7]) if aware and rng.random() < 0.8 else \
            rng.choice([0, 1, 1, 1]) if rng.random() < 0.9 else rng.randrange(16)
        value = bt << 20 | lbn() << 16 | rng.choice([15, 15, 15, 15, 3, 12]) << 5
        value |= rng.choice([1, 1, 2, 3, 3]) << 1 | (rng.random() < 0.9)
        return value | (rng.getrandbits(64) & ~0x00FFE1E7 if rng.random() < 0.05 else 0), bt

    def breakpoint_(n):
        control, bt = bcr(n)
        value = rng.choice(CONTEXTS) if bt & 2 else rng.randrange(4)
        pair = [(WRITE, n * 4 + BCR, control), (WRITE, n * 4 + BVR, value)]
        return rng.sample(pair, rng.choice([1, 2, 2, 2, 2]))

    def watchpoint(n):
        control = (rng.random() < 0.6) << 20 | lbn() << 16 | rng.choice([255, 255, 255, 15, 240]) << 5
        control |= rng.choice([1, 2, 3]) << 3 | rng.choice([1, 2, 3, 3]) << 1 | (rng.random() < 0.9)
        pair = [(WRITE, n * 4 + WCR, control), (WRITE, n * 4 + WVR, 4 + rng.randrange(4))]
        return rng.sample(pair, rng.choice([1, 2, 2, 2, 2]))

    def step():
        what = rng.random()
        if what < 0.40:
            # Now and then one that is not there.
            return breakpoint_(rng.randrange(brps) if rng.random() < 0.97 else rng.randrange(16))
        if what < 0.60:
            return watchpoint(rng.randrange(wrps))
        if what < 0.75:
            return [(CONTEXTIDR, 0, rng.choice(CONTEXTS))]
        if what < 0.78:
            return [(MDSCR, 0, rng.choice([ON, ON, 1 << 15, 0]))]
        if what < 0.80:
            return [(OSLAR, 0, rng.randrange(2))]
        if what < 0.90:
            return [(READ, rng.randrange(brps if rng.random() < 0.9 else 16) * 4 + rng.randrange(2), 0)]
        return [(RUN, rng.randrange(2), 0)]

    ops = [(MDSCR, 0, ON), (CONTEXTIDR, 0, CONTEXTS[0])]
    # What gives most hits first: a linked pair and something that links to it.
    for n in context_aware:
        ops += breakpoint_(n)
    for _ in range(rng.randrange(10, 50)):
        ops += step()
    ops += [(OSLAR, 0, 0), (MDSCR, 0, ON)]
    for context in CONTEXTS:
        ops += [(CONTEXTIDR, 0, context), (RUN, 1, 0), (RUN, 0, 0)]
    ops += [(READ, n * 4 + which, 0) for n in range(brps) for which in (BVR, BCR)]
    ops += [(READ, n * 4 + which, 0) for n in range(wrps) for which in (WVR, WCR)]
    return ops


def write(path, programs, verbose):
    """Write `programs`, a list of (seed, ops)."""
    with open(path, "wb") as out:
        out.write(struct.pack("<QQ", len(programs), verbose))
        for seed, ops in programs:
            out.write(struct.pack("<QQ", seed, len(ops)))
            for kind, number, value in ops:
                out.write(struct.pack("<QQ", kind | number << 8, value))


def describe(ops):
    """A program, an operation a line, in the names of the architecture."""
    names = ["DBGBVR", "DBGBCR", "DBGWVR", "DBGWCR"]
    for kind, number, value in ops:
        register = f"{names[number % 4]}{number // 4}_EL1"
        yield {WRITE: f"{register} = {value:#x}", READ: f"read {register}",
               CONTEXTIDR: f"CONTEXTIDR_EL1 = {value:#x}", MDSCR: f"MDSCR_EL1 = {value:#x}",
               OSLAR: f"OSLAR_EL1 = {value}", RUN: f"run at EL{number}",
               CHECKPOINT: "checkpoint"}[kind]


def minimise(brps, ctx_cmps, seed, commands):
    """Drop operations as long as the two sides still disagree; print what remains."""
    def disagree(candidates):
        """The numbers of the candidates whose traces differ; each command runs once for all."""
        with tempfile.NamedTemporaryFile(suffix=".bin") as file:
            write(file.name, list(enumerate(candidates)), False)
            sides = [subprocess.run(shlex.split(command) + [file.name], check=True,
                                    capture_output=True, text=True).stdout.split("\n")
                     for command in commands]
        return [i for i in range(len(candidates)) if sides[0][i] != sides[1][i]]

    ops = program(seed, brps, ctx_cmps)
    if not disagree([ops]):
        sys.exit(f"seed {seed:x}: both sides agree")
    size = max(1, len(ops) // 2)
    while True:
        candidates = [ops[:i] + ops[i + size:] for i in range(0, len(ops), size)]
        found = disagree(candidates)
        if found:
            ops = candidates[found[0]]
        elif size == 1:
            break
        else:
            size //= 2
    print(f"seed {seed:x} on {brps}/{ctx_cmps}: {len(ops)} operations are enough")
    for line in describe(ops):
        print(f"  {line}")
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        write(file.name, [(seed, ops)], True)
        for name, command in zip(("native", "VM"), commands):
            trace = subprocess.run(shlex.split(command) + [file.name], check=True,
                                   capture_output=True, text=True).stdout.strip()
            print(f"  {name:6}: {trace}")


def without_el2(ops):
    """The operations with breakpoints of the types only that a machine without EL2 has."""
    return [(kind, number, value & ~(1 << 23) if (kind, number % 4) == (WRITE, BCR) else value)
            for kind, number, value in ops]


def main():
    """As above."""
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    options = {word for word in sys.argv[1:] if word.startswith("--")}
    if words[:1] == ["generate"] and len(words) == 6 and options <= {"--verbose", "--checkpoints", "--el1"}:
        brps, ctx_cmps, first, count = (int(word, 0) for word in words[2:])
        programs = [(seed, program(seed, brps, ctx_cmps)) for seed in range(first, first + count)]
        if "--el1" in options:
            programs = [(seed, without_el2(ops)) for seed, ops in programs]
        if "--checkpoints" in options:
            programs = [(seed, ops[:len(ops) * 2 // 3] + [(CHECKPOINT, 0, 0)] + ops[len(ops) * 2 // 3:])
                        for seed, ops in programs]
        write(words[1], programs, "--verbose" in options)
    elif words[:1] == ["minimise"] and len(words) == 6:
        minimise(int(words[1]), int(words[2]), int(words[3], 16), words[4:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Compares the plugin's decoder with LLVM's disassembler.

Generates every opcode of the encoding groups that have classes, with a few values for each
register field, and compares. The argument is the decoder as a filter. Exits 1 on a difference.
"""

import collections
import collections.abc
import re
import struct
import subprocess
import sys
import tempfile

ORDER = "(a|l|al)?"
MNEMONICS = {
    "lse": rf"casp{ORDER}|(cas|swp){ORDER}[bh]?"
    rf"|(ld|st)(add|clr|eor|set|smax|smin|umax|umin){ORDER}[bh]?",
    "lse128": f"(ldclrp|ldsetp|swpp){ORDER}",
    "rcw": f"rcws?(clr|swp|set|cas|casp|clrp|swpp|setp){ORDER}",
    "svc": "svc",
    "hvc": "hvc",
    "smc": "smc",
    "eret": "eret(aa|ab)?",
    "yield": "yield",
    "psb": "psb",
    "tlbi": "tlbip?",
}
# Classes that LLVM 19 does not name: newer features (FEAT_LSUI, FEAT_LSFE, FEAT_PoPS,
# FEAT_OCCMO), or instructions without an alias. Pairs with Rt or Rt2 = 31, and unallocated TLB
# operations, are counted on purpose.
UNNAMED = {
    "<unknown>": {"lsui", "lsui_ex", "lsui_pair", "lsfe", "lse128", "rcw"},
    "sys": {
        "tlbi",
        "dc_civaps",
        "dc_cigdvaps",
        "dc_cvaoc",
        "dc_cgdvaoc",
        "dc_civaoc",
        "dc_cigdvaoc",
        "dc_cipapa",
        "dc_cigdpapa",
    },
    "sysp": {"tlbi"},
}
MARKS = {"#0x5a", "#0x5b"}


def loads_and_stores() -> collections.abc.Iterator[int]:
    """Yields opcodes with bit 27 set and bit 25 clear, with all of bits 31:21 and 15:10."""
    tops = [top for top in range(1 << 11) if top >> 6 & 1 and not top >> 4 & 1]
    for top in tops:
        for low in range(1 << 6):
            for rs in (2, 3, 31):
                for rt in (4, 5, 31):
                    yield top << 21 | rs << 16 | low << 10 | 1 << 5 | rt


def system() -> collections.abc.Iterator[int]:
    """Yields all of SYS and SYSP, with and without a register, and all hints."""
    for base in (0xD5080000, 0xD5480000):
        for operation in range(1 << 14):
            for rt in (2, 31):
                yield base | operation << 5 | rt
    for imm in range(0x80):
        yield 0xD503201F | imm << 5


def exceptions_and_returns() -> collections.abc.Iterator[int]:
    """Yields "Exception generation", and "Unconditional branch (register)"."""
    for top in range(1 << 8):
        for low in range(1 << 8):
            yield 0xD4000000 | top << 16 | low
    for opc in range(1 << 4):
        for op3 in range(1 << 6):
            for rn in (2, 31):
                for op4 in (0, 2, 31):
                    yield 0xD61F0000 | opc << 21 | op3 << 10 | rn << 5 | op4


def decoded(classify: str, opcodes: list[int]) -> list[str]:
    """Returns the classes of opcodes by the decoder."""
    text = "".join(f"{opcode:08x}\n" for opcode in opcodes)
    run = subprocess.run([classify], input=text, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in run.stdout.splitlines()]


def disassembled(opcodes: list[int]) -> list[list[str]]:
    """Returns the words of instructions by the disassembler."""
    with tempfile.TemporaryDirectory() as folder:
        raw, elf = f"{folder}/raw", f"{folder}/elf"
        with open(raw, "wb") as file:
            file.write(b"".join(struct.pack("<I", opcode) for opcode in opcodes))
        subprocess.run(
            [
                "llvm-objcopy",
                "-I",
                "binary",
                "-O",
                "elf64-littleaarch64",
                "--rename-section=.data=.text,code",
                raw,
                elf,
            ],
            check=True,
        )
        dump = ["llvm-objdump", "-d", "-z", "--no-show-raw-insn", "--mattr=+all", elf]
        run = subprocess.run(dump, capture_output=True, text=True, check=True)
    return [
        line.split(":", 1)[1].split()
        for line in run.stdout.splitlines()
        if re.match(r"\s+[0-9a-f]+:", line)
    ]


def expected(words: list[str]) -> str:
    """Returns the class of an instruction."""
    if words[0] in ("ic", "dc"):
        return f"{words[0]}_{words[1].rstrip(',')}"
    if words[0] == "hint":
        return "mark" if words[1] in MARKS else "-"
    for name, pattern in MNEMONICS.items():
        if re.fullmatch(pattern, words[0]):
            return name
    return "-"


def main() -> None:
    """Compares all opcodes, and exits with 1 if one differs."""
    opcodes = [*loads_and_stores(), *system(), *exceptions_and_returns()]
    ours, theirs = decoded(sys.argv[1], opcodes), disassembled(opcodes)
    assert len(ours) == len(theirs) == len(opcodes)
    differ, agreed = 0, collections.Counter[str]()
    for opcode, name, words in zip(opcodes, ours, theirs):
        if name == expected(words):
            agreed[name] += 1
        elif name not in UNNAMED.get(words[0], ()):
            differ += 1
            if differ <= 10:
                print(f"# {opcode:#010x} is {name}, LLVM says {' '.join(words)}")
    print(f"# {len(opcodes)} opcodes, {len(agreed)} classes agreed on, {differ} differences")
    missing = set(MNEMONICS) - set(agreed)
    if missing:
        print(f"# never agreed on: {' '.join(sorted(missing))}")
    sys.exit(1 if differ or missing else 0)


main()

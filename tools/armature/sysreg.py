# SPDX-License-Identifier: GPL-2.0
"""Provides the encodings and fields of system registers, from the kernel's generator."""

import functools
import pathlib
import re

from armature import build
from armature.place import BUILD


@functools.cache
def constants() -> dict[str, int]:
    """Returns every constant by name, which is the name of the C macro."""
    build.all_of({"sysreg"})
    return read(BUILD / "sysreg/consts.rs")


def read(consts: pathlib.Path) -> dict[str, int]:
    """Returns the constants of a file from the generator, except those that refer to another
    constant."""
    found = re.findall(r"^pub const (\w+): u\d+ = (\d\w*);$", consts.read_text(), re.M)
    return {name: int(value, 0) for name, value in found}


def field(register: str, **values: int | str) -> int:
    """Returns the value of a register with these fields: numbers, or names of values."""
    bits = 0
    for name, value in values.items():
        number = constants()[f"{register}_{name}_{value}"] if isinstance(value, str) else value
        shifted = number << constants()[f"{register}_{name}_SHIFT"]
        assert not shifted & ~constants()[f"{register}_{name}_MASK"], f"{register}.{name} = {value}"
        bits |= shifted
    return bits

# SPDX-License-Identifier: GPL-2.0
"""Hides a feature on one CPU through QEMU's gdb stub, since QEMU has no option for this.

The kernel reads the ID registers of a CPU that comes up with __read_sysreg_by_encoding(). Each time
that the chosen CPU returns from this function with the chosen register, one field of the result is
cleared. Or a function of the kernel returns 0 on the chosen CPU. Nothing else in the machine
changes.
"""

import pathlib
import re
import socket
import time

X0, X30 = 0, 30


class Stub:
    """A client of the gdb remote protocol, with commands for breakpoints and registers only."""

    def __init__(self, path: pathlib.Path, limit: float) -> None:
        """Connects to the socket within `limit` seconds."""
        deadline = time.monotonic() + limit
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(str(path)):
            if time.monotonic() > deadline:
                raise EOFError
            time.sleep(0.05)
        self.socket.settimeout(limit)
        self.buffer = b""

    def ask(self, text: str) -> str:
        """Sends a packet and returns the answer."""
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())
        while not (match := re.search(rb"\$([^#]*)#..", self.buffer)):
            more = self.socket.recv(4096)
            if not more:
                raise EOFError
            self.buffer += more
        self.buffer = self.buffer[match.end() :]
        self.socket.sendall(b"+")
        return match.group(1).decode()

    def register(self, number: int) -> int:
        """Returns a register of the chosen thread."""
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int) -> None:
        """Changes a register of the chosen thread."""
        self.ask(f"P{number:x}={value.to_bytes(8, 'little').hex()}")

    def resume(self, how: str) -> str:
        """Continues as a vCont packet says, and returns the thread that stops next."""
        thread = re.search(r"thread:([^;]*)", self.ask(how))
        if not thread:
            raise EOFError
        self.ask(f"Hg{thread.group(1)}")
        return thread.group(1)

    def step_over(self, thread: str, address: int) -> None:
        """Executes the instruction under a breakpoint."""
        self.ask(f"z1,{address:x},4")
        self.resume(f"vCont;s:{thread}")
        self.ask(f"Z1,{address:x},4")


def constant(objects: pathlib.Path, name: str) -> int:
    """Returns a constant that the kernel's build has generated."""
    text = (objects / "arch/arm64/include/generated/rust/sysreg-consts.rs").read_text()
    match = re.search(rf"pub const {name}: \w+ = (\w+);", text)
    assert match, f"there is no {name}"
    return int(match.group(1), 0)


def symbol(objects: pathlib.Path, name: str) -> int:
    """Returns the address of a function of the kernel."""
    match = re.search(rf"^(\w+) \w {name}$", (objects / "System.map").read_text(), re.M)
    assert match, f"there is no {name}"
    return int(match.group(1), 16)


def clear_in_result(stub: Stub, thread: str, entry: int, mask: int) -> None:
    """Runs the function that starts at `entry` to its return, and clears bits of its result."""
    back = stub.register(X30)
    stub.step_over(thread, entry)
    stub.ask(f"Z1,{back:x},4")
    stub.resume(f"vCont;c:{thread}")
    stub.set_register(X0, stub.register(X0) & ~mask)
    stub.ask(f"z1,{back:x},4")


def meaning(objects: pathlib.Path, what: str) -> tuple[int, int, int | None, int]:
    """Returns the number of the CPU, the address of the function, its argument that counts if not
    any does, and the bits of its result to clear."""
    if match := re.fullmatch(r"CPU(\d+) gets 0 from (\w+)", what):
        return int(match[1]), symbol(objects, match[2]), None, -1
    match = re.fullmatch(r"CPU(\d+) lacks (\w+)\.(\w+)", what)
    assert match, what
    return (
        int(match[1]),
        symbol(objects, "__read_sysreg_by_encoding"),
        constant(objects, f"SYS_{match[2]}"),
        constant(objects, f"{match[2]}_{match[3]}_MASK"),
    )


def lie(path: pathlib.Path, objects: pathlib.Path, what: str, limit: float) -> None:
    """Clears a field that a CPU reads ("CPU1 lacks REGISTER.FIELD"), or what a function returns
    there ("CPU1 gets 0 from FUNCTION"), until the machine ends."""
    number, entry, encoding, mask = meaning(objects, what)
    try:
        stub = Stub(path, limit)
        stub.ask("?")
        stub.ask(f"Z1,{entry:x},4")
        while True:
            thread = stub.resume("vCont;c")
            chosen = int(thread.split(".")[-1], 16) == number + 1
            if chosen and encoding in (None, stub.register(X0) & 0xFFFFFFFF):
                clear_in_result(stub, thread, entry, mask)
            else:
                stub.step_over(thread, entry)
    except (EOFError, OSError):
        return

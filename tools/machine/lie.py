# SPDX-License-Identifier: GPL-2.0
"""A CPU that lacks what the others have: until QEMU can be told so, through its gdb stub.

The kernel reads the ID registers of a CPU that comes up with __read_sysreg_by_encoding(). Each
time that the chosen CPU returns from there with the chosen register, one field of the result is
cleared. Nothing else of the machine is touched.
"""

import re
import socket
import time


class Stub:
    """The gdb remote protocol, as far as breakpoints and registers need it."""

    def __init__(self, path, limit):
        deadline = time.monotonic() + limit
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.socket.settimeout(limit)
        self.buffer = b""

    def send(self, text):
        self.socket.sendall(f"${text}#{sum(text.encode()) & 255:02x}".encode())

    def receive(self):
        while True:
            match = re.search(rb"\$([^#]*)#..", self.buffer)
            if match:
                self.buffer = self.buffer[match.end():]
                self.socket.sendall(b"+")
                return match.group(1).decode()
            more = self.socket.recv(4096)
            if not more:
                raise EOFError
            self.buffer += more

    def ask(self, text):
        self.send(text)
        return self.receive()

    def register(self, number):
        return int.from_bytes(bytes.fromhex(self.ask(f"p{number:x}")), "little")

    def set_register(self, number, value):
        self.ask(f"P{number:x}={value.to_bytes(8, 'little').hex()}")

    def resume(self, how):
        """Continue ("c") or step ("s"), and return the thread that stopped next."""
        stop = self.ask(how)
        thread = re.search(r"thread:([^;]*)", stop)
        if not thread:
            raise EOFError
        self.ask(f"Hg{thread.group(1)}")
        return thread.group(1)

    def step_over(self, thread, address):
        self.ask(f"z1,{address:x},4")
        self.resume(f"vCont;s:{thread}")
        self.ask(f"Z1,{address:x},4")


def constant(objects, name):
    consts = (objects / "arch/arm64/include/generated/rust/sysreg-consts.rs").read_text()
    return int(re.search(rf"pub const {name}: \w+ = (\w+);", consts).group(1), 0)


def symbol(objects, name):
    table = (objects / "System.map").read_text()
    return int(re.search(rf"^(\w+) \w {name}$", table, re.M).group(1), 16)


def lie(path, objects, cpu, register, field, limit):
    """Clear `register`.`field` in what CPU `cpu` reads, until the machine ends."""
    encoding = constant(objects, f"SYS_{register}")
    mask = constant(objects, f"{register}_{field}_MASK")
    entry = symbol(objects, "__read_sysreg_by_encoding")
    stub = Stub(path, limit)
    try:
        stub.ask("?")
        stub.ask(f"Z1,{entry:x},4")
        while True:
            thread = stub.resume("vCont;c")
            mine = int(thread.split(".")[-1], 16) == cpu + 1
            if mine and stub.register(0) & 0xffffffff == encoding:
                back = stub.register(30)
                stub.step_over(thread, entry)
                stub.ask(f"Z1,{back:x},4")
                stub.resume(f"vCont;c:{thread}")
                stub.set_register(0, stub.register(0) & ~mask)
                stub.ask(f"z1,{back:x},4")
            else:
                stub.step_over(thread, entry)
    except (EOFError, OSError):
        return

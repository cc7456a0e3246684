# SPDX-License-Identifier: GPL-2.0
"""Boots a machine: QEMU's arm64 `virt` board with a kernel at EL2."""

import collections.abc
import pathlib
import re
import shutil
import subprocess
import sys

from armature import build, process
from armature.matrix import Machine
from armature.place import ROOT, TOP
from armature.process import Failure, inside

# A file of an initramfs: its text, or its path.
File = str | pathlib.Path
BUSYBOX = ROOT / "usr/bin/busybox"
EM_AARCH64 = b"\xb7\x00"

# Messages that a healthy kernel never prints.
SPLAT = re.compile(
    r"WARNING: |\bBUG: |\bBUG at |Internal error|Oops|Kernel panic|KASAN:|UBSAN:|"
    r"INFO: (possible|task|rcu)|rcu: INFO|suspicious RCU|inconsistent lock state|"
    r"circular locking|sleeping function called|bad unlock balance|Unable to handle kernel|"
    r"hung_task|soft lockup|watchdog: |Call trace:|cut here|Unexpected kernel BRK|hyp panic|"
    r"INFO: trying to register"
)

# Programs that the init and the tests call; "busybox --install" would need a writable /bin first.
APPLETS = """sh mount mkdir grep sed tail head cat echo poweroff sync stty setsid cttyhack ls dmesg
    insmod rmmod awk sleep tr cut wc sort uniq test true false expr printf seq kill ps uname
    taskset timeout find chmod cp mv rm ln env id od nproc sysctl basename dirname mknod free
    base64 gzip nc ifconfig netstat mkfifo chrt top vi less more which hexdump tee xargs date usleep
    umount cpio""".split()
DIRECTORIES = ("bin", "sbin", "dev", "proc", "sys", "tmp", "tests.d")


def busybox_for_arm64() -> pathlib.Path:
    """Returns the arm64 busybox of the build root, after checking the architecture of the file."""
    with open(BUSYBOX, "rb") as binary:
        header = binary.read(20)
    if header[18:20] != EM_AARCH64:  # e_machine of the ELF header
        raise Failure(
            f"{BUSYBOX} is not an arm64 program: is busybox-static:arm64 in the build root?"
        )
    return BUSYBOX


def initramfs(out: pathlib.Path, files: collections.abc.Mapping[str, File]) -> None:
    """Writes an initramfs: busybox, our init, what tests of it call, and `files` by path in the
    machine. A directory is copied with its contents."""
    stage = out.with_suffix(".d")
    shutil.rmtree(stage, ignore_errors=True)
    for directory in DIRECTORIES:
        (stage / directory).mkdir(parents=True)
    shutil.copy(busybox_for_arm64(), stage / "bin/busybox")
    for applet in APPLETS:
        (stage / "bin" / applet).symlink_to("busybox")
    for name in ("init", "tap.sh", "network.sh"):
        shutil.copy(TOP / "tools/machine" / name, stage / name)
    for path, source in files.items():
        put(stage / path.lstrip("/"), source)
    pack(stage, out)
    shutil.rmtree(stage)


def put(target: pathlib.Path, source: File) -> None:
    """Writes one file, or copies it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, str):
        target.write_text(source)
    elif source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)


def pack(stage: pathlib.Path, out: pathlib.Path) -> None:
    """Writes a directory as an initramfs; the same files and times give the same bytes."""
    subprocess.run(
        inside(
            "sh",
            "-c",
            'cd "$1" && find . | LC_ALL=C sort | '
            'cpio -o -H newc -R 0:0 --reproducible --quiet > "$2"',
            "sh",
            stage,
            out,
        ),
        check=True,
        close_fds=False,
    )


def append(machine: Machine) -> str:
    """Returns the kernel's command line."""
    words = ["console=ttyAMA0", "panic=-1"] if machine.bootargs else []
    if machine.mode != "vhe":
        words.append(f"kvm-arm.mode={machine.mode}")
    return " ".join([*words, *machine.cmdline.split()])


def emulator(machine: Machine) -> str:
    """Returns the emulator for a machine."""
    return str(build.model()) if machine.wants_model() else "qemu-system-aarch64"


def arguments(machine: Machine) -> list[str]:
    """Returns QEMU's arguments for the board, its CPUs and its memory."""
    board = ["virt", "virtualization=on", "gic-version=3", *machine.board]
    board += ["mte=on"] if machine.mte else []
    return [
        "-M",
        ",".join(board),
        "-cpu",
        machine.cpu,
        "-smp",
        str(machine.smp),
        "-m",
        machine.memory,
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        *(("-trace", "arm_spe_counts") if machine.with_spe() else ()),
    ]


def serial(port: pathlib.Path | None) -> list[str]:
    """Returns QEMU's arguments for a console: a file, or this terminal."""
    if port is None:
        return ["-serial", "mon:stdio"]
    return ["-monitor", "none", "-serial", f"file:{port}"]


def command(
    machine: Machine,
    kernel: pathlib.Path,
    initrd: pathlib.Path,
    console: pathlib.Path | None,
    *more: str,
) -> list[str]:
    """Returns the command line of QEMU, with `more` arguments."""
    return [
        emulator(machine),
        *arguments(machine),
        "-kernel",
        str(kernel),
        "-initrd",
        str(initrd),
        "-append",
        append(machine),
        *serial(console),
        *more,
        *machine.qemu.split(),
    ]


def run(
    line: list[str], limit: float, log: pathlib.Path, binds: process.Binds | None = None
) -> int | None:
    """Runs QEMU in the build root until it ends by itself, and returns its exit status; or None
    after `limit` seconds. Its messages go to `log`, and are shown if it has failed."""
    with process.started(inside(*line, binds=binds), log) as qemu:
        try:
            code = qemu.wait(limit)
        except subprocess.TimeoutExpired:
            return None
    if code:
        sys.stderr.write(log.read_text(errors="replace"))
    return code


def said(log: pathlib.Path) -> str:
    """Returns the contents of a machine's log, which does not exist if QEMU has not started."""
    return log.read_text(errors="replace").replace("\r", "") if log.exists() else ""

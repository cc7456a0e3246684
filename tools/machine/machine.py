# SPDX-License-Identifier: GPL-2.0
"""A machine: QEMU's arm64 `virt` board with our kernel at EL2, and what it said.

Runs inside the build root. A machine is described by a dict with the keys of
a row of tools/test/matrix; see there.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parent.parent
BUSYBOX = pathlib.Path("/usr/bin/busybox")

# What a healthy kernel never prints.
SPLAT = re.compile(
    r"WARNING: |\bBUG: |\bBUG at |Internal error|Oops|Kernel panic|KASAN:|UBSAN:|"
    r"INFO: (possible|task|rcu)|rcu: INFO|suspicious RCU|inconsistent lock state|"
    r"circular locking|sleeping function called|bad unlock balance|Unable to handle kernel|"
    r"hung_task|soft lockup|watchdog: |Call trace:|cut here|Unexpected kernel BRK|hyp panic|"
    r"INFO: trying to register")


def busybox_for_arm64():
    """The arm64 busybox of the build root; the file says what it is for."""
    with open(BUSYBOX, "rb") as binary:
        header = binary.read(20)
    if header[18:20] != b"\xb7\x00":  # e_machine: EM_AARCH64
        sys.exit(f"{BUSYBOX} is not an arm64 program: is busybox-static:arm64 in the build root?")
    return BUSYBOX


def initramfs(out, files):
    """Write an initramfs to `out`: busybox, our init, and `files` {path: source}."""
    stage = out.with_suffix(".d")
    shutil.rmtree(stage, ignore_errors=True)
    for directory in ("bin", "sbin", "dev", "proc", "sys", "tmp", "tests.d"):
        (stage / directory).mkdir(parents=True)
    shutil.copy(busybox_for_arm64(), stage / "bin/busybox")
    for applet in APPLETS:
        (stage / "bin" / applet).symlink_to("busybox")
    shutil.copy(HERE / "init", stage / "init")
    for path, source in files.items():
        target = stage / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, str):
            target.write_text(source)
        elif source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy(source, target)
    names = subprocess.run(["find", "."], cwd=stage, capture_output=True, check=True).stdout
    with open(out, "wb") as archive:
        subprocess.run(["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet"],
                       cwd=stage, input=names, stdout=archive, check=True)
    shutil.rmtree(stage)


# What the init and the tests call; "busybox --install" would need a writable /bin first.
APPLETS = """sh mount mkdir grep sed tail head cat echo poweroff sync stty setsid cttyhack ls dmesg
    insmod rmmod awk sleep tr cut wc sort uniq test true false expr printf seq kill ps uname
    taskset timeout find chmod cp mv rm ln env id od nproc sysctl basename dirname mknod free
    base64 gzip nc ifconfig netstat mkfifo chrt top vi less more which hexdump tee xargs date usleep umount cpio""".split()


# The CPU properties of the machine model (tools/machine/README.md).
PROPERTIES = {"brps", "ctx-cmps", "wrps", "fgt", "fwb", "dic", "idc", "iminline", "tso", "spe"}


def wants_model(machine):
    """Whether a machine needs the emulator of the machine model."""
    asked = {word.split("=")[0] for word in machine.get("cpu", "max").split(",")[1:]}
    return machine.get("model", False) or bool(asked & PROPERTIES)


def command(machine, kernel, initrd, console, tap=None, plugin=None):
    """The QEMU command line of a machine."""
    board = ["virt", "virtualization=on", "gic-version=3", *machine.get("board", [])]
    if machine.get("mte"):
        board.append("mte=on")
    append = ["console=ttyAMA0", "panic=-1"] if machine.get("bootargs", True) else []
    if "mode" in machine and machine["mode"] != "vhe":
        append.append(f"kvm-arm.mode={machine['mode']}")
    append += machine.get("cmdline", "").split()
    program = (TOP / "build/qemu-model").read_text().strip() if wants_model(machine) else "qemu-system-aarch64"
    line = [program, "-M", ",".join(board), "-cpu", machine.get("cpu", "max"),
            "-smp", str(machine.get("smp", 2)), "-m", machine.get("memory", "1G"),
            "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(kernel), "-initrd", str(initrd), "-append", " ".join(append)]
    line += ["-monitor", "none"] if console != "stdio" else []
    line += ["-serial", "mon:stdio" if console == "stdio" else f"file:{console}"]
    if tap:
        line += ["-serial", f"file:{tap}"]
    if plugin:
        line += ["-plugin", plugin]
    line += machine.get("qemu", "").split()
    return line


def run(line, limit, errors):
    """Run QEMU until it ends by itself or `limit` seconds have passed; its exit status, or None."""
    with open(errors, "wb") as log:
        process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        sys.stderr.write(pathlib.Path(errors).read_text(errors="replace"))
    return code

# SPDX-License-Identifier: GPL-2.0
"""Builds Debian packages for arm64 of the patched kernel, with the tree's bindeb-pkg.

Our options are added to the configuration CONFIG=FILE, or to Debian's configuration for this
kernel, without debug information.
"""

import dataclasses
import pathlib
import re
import shutil
import subprocess

from armature import build, kernels, ktap, machine, process
from armature.kernels import SOURCE, Kernel, not_taken, options
from armature.ktap import Result
from armature.matrix import Machine
from armature.place import BUILD, JOBS, LOGS, TOP, TREE, asked
from armature.process import Failure, inside, say

OUT = BUILD / "deb"
# The path during the build; the packages are written above the objects.
THERE = "/armature/deb"
GIB = 30
# Seconds for Debian's tools under emulation, on a fast host.
LIMIT = 1800


def make(*words: str) -> list[str]:
    """Returns the command that runs the kernel's make. It builds no package of headers, which would
    need programs that run on arm64."""
    env = ["KBUILD_DEBARCH=arm64", "KDEB_CHANGELOG_DIST=trixie", "DEBFULLNAME=Armature",
           "DEBEMAIL=armature@armature.invalid",
           "DEB_BUILD_PROFILES=cross pkg.linux-upstream.nokernelheaders"]  # fmt: skip
    flags = ["LLVM=1", "ARCH=arm64", f"-j{JOBS}"]
    command = [
        "env",
        *env,
        "make",
        "-C",
        SOURCE,
        f"O={THERE}/objects",
        "DPKG_FLAGS=-d",
        *flags,
        *words,
    ]
    return inside(*command, binds={TREE: SOURCE, OUT: THERE})


def wanted(config: pathlib.Path | None) -> str:
    """Returns the base configuration with our options."""
    if config:
        return config.read_text() + options()
    debian = pathlib.Path(process.output([process.script("build/base.sh"), "config"]))
    # Debug information takes most of the time and of the space.
    return f"{debian.read_text()}CONFIG_DEBUG_INFO_NONE=y\n{options()}"


def configure(config: pathlib.Path | None) -> None:
    """Creates the configuration. Raises Failure if it lacks one of our options."""
    objects = OUT / "objects"
    (objects / ".config").write_text(wanted(config))
    process.logged("deb-config", make("olddefconfig"))
    if missing := not_taken(options(), (objects / ".config").read_text()):
        raise Failure(
            f"that configuration does not take {', '.join(missing)}: "
            "it needs CONFIG_RUST=y, CONFIG_KVM=y and what those depend on"
        )


def package(config: pathlib.Path | None) -> pathlib.Path:
    """Builds the packages, and returns the path of the kernel's package."""
    if config and not config.is_file():
        raise Failure(f"CONFIG={config} is no file")
    kernels.tree()
    OUT.mkdir(exist_ok=True)
    process.need_space(OUT, 3 if config else GIB)
    for old in OUT.glob("*.deb"):
        old.unlink()
    with process.resumed(OUT / "objects"):
        configure(config)
        name = config or "a kernel by the configuration of Debian"
        say("deb", f"building the packages of {name}")
        process.logged("deb", make("bindeb-pkg"))
    images = [path for path in OUT.glob("linux-image-*.deb") if "-dbg_" not in path.name]
    if len(images) != 1:
        raise Failure(f"{len(images)} packages of a kernel came out: the log is build/log/deb.log")
    return images[0]


def main() -> int:
    """Builds the packages and prints their paths."""
    image = package(pathlib.Path(asked("CONFIG")).absolute() if asked("CONFIG") else None)
    say("deb", "done")
    for path in sorted(OUT.glob("*.deb")):
        print(path.relative_to(TOP))
    print(f"On an arm64 machine with Debian: apt install ./{image.name}")
    return 0


# The init of the machine in Debian's root: installs the package with apt, and writes the resulting
# files to the disk.
INSTALL = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
exec > /dev/ttyAMA1 2>&1
apt-get install -y --no-install-recommends /*.deb && rm /*.deb && echo installed
tar -c --one-file-system -f /dev/vda -C / ./boot ./usr/lib/modules ./etc ./var/lib/dpkg && echo kept
exec > /dev/null 2>&1; sync; echo o > /proc/sysrq-trigger; sleep 60
"""

CHECK = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t debugfs debug /sys/kernel/debug
exec > /dev/ttyAMA1 2>&1
n=0
check() { n=$((n + 1)); name=$1; shift; "$@" && echo "ok $n - $name" || echo "not ok $n - $name"; }
echo TAP version 14
echo 1..9
check "dpkg knows the package" dpkg -s "linux-image-$(uname -r)"
check "the modules are those of the kernel that runs" test -d "/lib/modules/$(uname -r)"
check "modprobe finds the sample" modprobe rust_arm64_idregs
check "and it works" grep -q ID_AA64ISAR0_EL1 /sys/kernel/debug/arm64_idregs/registers
check "KVM is up" test -c /dev/kvm
check "modprobe finds the driver of profiling units" modprobe arm_spe_pmu
/spe hold > /held & holder=$!
until grep -q held /held || ! kill -0 $holder; do sleep 1; done
cpus=$(cat /sys/bus/event_source/devices/arm_spe_0/cpumask)
shown="^VM: SPU .* on CPUs $cpus, interrupt 21"
check "a VM has the unit" grep -q "$shown" /sys/kernel/debug/kvm/*/spe
rmmod arm_spe_pmu 2> /refused
check "which the driver cannot leave" grep -q "in use" /refused
kill $holder; wait $holder
check "until the VM is gone" rmmod arm_spe_pmu
exec > /dev/null 2>&1; sync; echo o > /proc/sysrq-trigger; sleep 60
"""


def unpack(archive: pathlib.Path, where: pathlib.Path, *members: str) -> None:
    """Unpacks a tar archive, or only the named members; a later archive replaces files of an
    earlier one."""
    command = inside("tar", "--no-same-owner", "-xf", archive, "-C", where, "--exclude", "./dev")
    subprocess.run([*command, *members], check=True)


@dataclasses.dataclass(frozen=True)
class Debian:
    """A machine with Debian's root: its name in logs, its kernel, the archives that are unpacked
    over the root, and its files, which include /init."""

    name: str
    kernel: pathlib.Path
    files: dict[str, machine.File]
    archives: tuple[pathlib.Path, ...] = ()


def boot(debian: Debian, *more: str) -> str:
    """Boots a machine with Debian's root, with more arguments for the emulator; returns the
    output."""
    work = OUT / "work"
    shutil.rmtree(work, ignore_errors=True)
    stage, initrd, console, tap = work / "root", work / "initrd", work / "console", work / "tap"
    stage.mkdir(parents=True)
    for archive in (build.foreign("debian") / "root.tar", *debian.archives):
        unpack(archive, stage)
    for path, source in debian.files.items():
        machine.put(stage / path, source)
    (stage / "init").chmod(0o755)
    machine.pack(stage, initrd)
    shutil.rmtree(stage)
    own = Machine("max,spe=on", memory="3G")
    line = machine.command(own, debian.kernel, initrd, console, "-serial", f"file:{tap}", *more)
    code = machine.run(line, LIMIT, LOGS / f"deb-{debian.name}.log")
    shutil.copy(console, LOGS / f"deb-{debian.name}-console.log")
    if code != 0 or machine.SPLAT.search(machine.said(console)):
        raise Failure(f"the machine is not well: build/log/deb-{debian.name}-console.log")
    return machine.said(tap)


def installed(image: pathlib.Path) -> pathlib.Path:
    """Installs the package with apt, on a machine that boots its kernel; returns the resulting
    root as a tar file."""
    subprocess.run(inside("dpkg-deb", "-x", image, OUT / "unpacked"), check=True)
    kernel = next((OUT / "unpacked/boot").glob("vmlinuz-*"))
    disk = OUT / "disk"
    with open(disk, "wb") as file:
        file.truncate(1 << 30)
    drive = f"-drive file={disk},format=raw,if=none,id=disk -device virtio-blk-device,drive=disk"
    files: dict[str, machine.File] = {"init": INSTALL, image.name: image}
    said = boot(Debian("install", kernel, files), *drive.split())
    (LOGS / "deb-apt.log").write_text(said)
    if not re.search("^installed\nkept$", said, re.M):
        raise Failure("apt does not install the package: build/log/deb-apt.log")
    return disk


def step() -> list[Result]:
    """Builds the package of a small kernel, installs it in a Debian root, boots that root, and
    returns the results."""
    build.all_of({"tree", "files:kvm", "model"})
    small = Kernel("disk")
    small.prepare(small.objects())
    small.configure()
    image = package(small.objects() / ".config")
    disk = installed(image)
    rest = OUT / "after"
    shutil.rmtree(rest, ignore_errors=True)
    rest.mkdir()
    unpack(disk, rest, "./boot")
    kernel = next((rest / "boot").glob("vmlinuz-*"))
    files: dict[str, machine.File] = {"init": CHECK, "spe": BUILD / "selftests/kvm/arm64/spe"}
    said = boot(Debian("boot", kernel, files, (disk,)))
    results = ktap.of_step("deb", said, 0)
    return [Result("deb", "apt installs the package in a Debian root for arm64", "pass"), *results]

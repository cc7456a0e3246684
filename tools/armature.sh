#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The commands of the project. `make NAME` calls this with NAME.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/build/lib.sh"

help() {
	cat << 'TEXT'
Use
  make run             build what is missing, boot the machine, show what the kernel can do
                         CPU=max,brps=6:16 SMP=2  a machine of your own (tools/machine/README.md)
  make migrate         a VM with armed breakpoints goes between two unlike hosts
  make fleet           a guest of Debian's QEMU goes around four unlike hosts
  make shell           a shell in the build root, with every tool
  make test            everything that proves the project; ends with a table
                         ONLY=icache|nolse|debug_topology|machine|...   part of it
                         CONFIG=debug                  with lockdep, KASAN and UBSAN
                         ONLY=configs                  on kernels as distributions configure them
  make bench           instructions executed: vanilla, ours, ratio (CPU=... for one machine)
Change
  make edit            build/edit: a git work tree, one commit a patch
  make refresh         write its commits back to the overlay and patches/
  make series          build/series: the mails for a list
  make kernel          build/obj/armature: the kernel alone
                         KERNEL=debug|rt|cfi|pauth|kcsan|debian|64k|...
  make deb             build/deb: Debian packages for arm64, by Debian's configuration of
                       this kernel or that of CONFIG=file, with our options on
  make baseline        build/baseline: the tool that finds the CPU which all hosts of a fleet
                       can give to VMs, for arm64 and for this host
  make module          build/module: samples/ as an external module of that kernel
Check
  make lint            rustfmt, clippy, rustdoc, checkpatch, sparse, W=1, kernel-doc; then every
                       prefix of the series: 71 kernels, about two hours
  make docs            the pages of arch/arm64 and virt/kvm with the tree's Sphinx
  make doctor          what this host lacks, and the command that mends it
Clean
  make clean           remove build/
  make distclean       the same, and the caches outside the checkout
BASE=/path/to/linux takes that tree instead of the one that `base` pins.
TEXT
}

doctor() {
	local bad=0

	# test_for NAME REMEDY COMMAND...: says whether the command succeeds, or else what does it.
	test_for() {
		if "${@:3}" > /dev/null 2>&1; then
			printf '  ok      %s\n' "$1"
		else
			printf '  lacking %s: %s\n' "$1" "$2"
			bad=1
		fi
	}
	for tool in git make mmdebstrap bwrap; do
		case $tool in bwrap) package=bubblewrap ;; *) package=$tool ;; esac
		test_for "$tool" "apt-get install $package" command -v "$tool"
	done
	test_for "Debian's archive keys" "apt-get install debian-archive-keyring" archive_key
	if command -v bwrap > /dev/null; then
		test_for "namespaces, by bubblewrap" \
			"'bwrap --ro-bind / / --unshare-pid true' says why: a container needs to be allowed them" \
			bwrap --ro-bind / / --unshare-pid true
	fi
	if [ "$(id -u)" != 0 ]; then
		test_for newuidmap "apt-get install uidmap" command -v newuidmap
		test_for "subordinate user ids" \
			"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)" \
			grep -qE "^($(id -un)|$(id -u)):" /etc/subuid
		test_for "user namespaces" "sysctl -w kernel.unprivileged_userns_clone=1 or, on Ubuntu, \
kernel.apparmor_restrict_unprivileged_userns=0; or run as root" unshare -Ur true
	fi
	# The build root is created in /var/tmp.
	for place in "$CACHE 20" "$BUILD 20" "/var/tmp 4"; do
		want=${place##* } place=${place% *}
		free=$(df --output=avail -BG "$place" | tail -n 1 | tr -dc 0-9)
		test_for "$free GiB free in $place, of $want" "free some" [ "$free" -ge "$want" ]
	done
	[ $bad = 0 ] && echo "Nothing is missing: make run"
	return $bad
}

# python COMMAND...: tools/armature, by the Python of the build root and with its loader and
# libraries, so that this host needs none.
python() {
	local root usr loader

	"$here/build/root.sh"
	root=$(root_dir)
	usr=$root/usr
	case $(uname -m) in
	x86_64) loader=lib64/ld-linux-x86-64.so.2 ;;
	aarch64) loader=lib/ld-linux-aarch64.so.1 ;;
	*) die "this host is $(uname -m), and the tools run on x86_64 and aarch64" ;;
	esac
	exec env PYTHONHOME="$usr" PYTHONPATH="$TOP/tools" PYTHONUTF8=1 PYTHONDONTWRITEBYTECODE=1 \
		CACHE="$CACHE" ROOT="$root" JOBS="$JOBS" \
		"$usr/$loader" --library-path "$usr/lib/$(uname -m)-linux-gnu" "$usr/bin/python3" -m armature "$@"
}

TARGETS="run migrate fleet shell test bench edit refresh series kernel module baseline deb lint \
docs doctor clean distclean help"
case " $TARGETS oracle prefixes pure " in
*" ${1:-help} "*) ;;
*) die "there is no target '$1': ${TARGETS// /, }" ;;
esac
case ${1:-help} in
help | doctor | shell) ;;
*) alone ;;
esac
case ${1:-help} in
help) help ;;
doctor) doctor ;;
run | migrate | fleet | test | bench | kernel | module | baseline | deb | oracle | prefixes | \
	pure | lint | docs)
	python "$@" ;;
shell)
	in_use
	"$here/build/root.sh" && in_root bash
	;;
edit | refresh) exec "$here/build/series.sh" "$1" ;;
series) exec "$here/build/series.sh" mail ;;
clean | distclean)
	work=$("$here/build/series.sh" unsaved) ||
		die "build/edit cannot be looked at: see there, or remove it"
	[ -z "$work" ] ||
		die "build/edit has work that is not in patches/: 'make refresh', or remove build/edit"
	[ "$1" = clean ] || sole_user
	# In one step, so that an interruption leaves no partial directory.
	discard "$BUILD"
	[ "$1" = clean ] || discard "$CACHE"
	;;
esac

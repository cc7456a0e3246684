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
                         CPU=max,brps=6:16 SMP=2       a machine of your own (tools/machine/README.md)
  make migrate         a VM with armed breakpoints goes between hosts with 16 and with 6
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
  make kernel          build/obj/armature: the kernel alone (KERNEL=debug|rt|cfi|pauth|kcsan|debian|64k|...)
  make deb             build/deb: Debian packages for arm64, by Debian's configuration of this kernel or
                       that of CONFIG=file, with our options on
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

	ok() { printf '  ok      %s\n' "$1"; }
	lacks() { printf '  lacking %s: %s\n' "$1" "$2"; bad=1; }
	for tool in git make mmdebstrap bwrap; do
		case $tool in bwrap) package=bubblewrap ;; *) package=$tool ;; esac
		if command -v "$tool" > /dev/null; then ok "$tool"; else lacks "$tool" "apt-get install $package"; fi
	done
	if archive_key; then ok "Debian's archive keys"; else lacks "Debian's archive keys" "apt-get install debian-archive-keyring"; fi
	if ! command -v bwrap > /dev/null; then
		:
	elif bwrap --ro-bind / / --unshare-pid true 2> /dev/null; then
		ok "namespaces, by bubblewrap"
	else
		lacks "namespaces, by bubblewrap" "'bwrap --ro-bind / / --unshare-pid true' says why: a container needs to be allowed them"
	fi
	if [ "$(id -u)" != 0 ]; then
		if command -v newuidmap > /dev/null; then ok newuidmap; else lacks newuidmap "apt-get install uidmap"; fi
		if grep -qE "^($(id -un)|$(id -u)):" /etc/subuid 2> /dev/null; then ok "subordinate user ids"; else lacks "subordinate user ids" "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"; fi
		if unshare -Ur true 2> /dev/null; then ok "user namespaces"; else lacks "user namespaces" "sysctl -w kernel.unprivileged_userns_clone=1 or, on Ubuntu, kernel.apparmor_restrict_unprivileged_userns=0; or run as root"; fi
	fi
	# The build root is created in /var/tmp.
	for place in "$CACHE 20" "$BUILD 20" "/var/tmp 4"; do
		want=${place##* } place=${place% *}
		free=$(df --output=avail -BG "$place" | tail -n 1 | tr -dc 0-9)
		if [ "$free" -ge "$want" ]; then ok "$free GiB free in $place"; else lacks "space in $place ($free of $want GiB)" "free some"; fi
	done
	[ $bad = 0 ] && echo "Nothing is missing: make run"
	return $bad
}

# python COMMAND...: runs tools/armature with the Python, loader and libraries of the build root, so
# that this host needs no Python.
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

case ${1:-help} in
run | migrate | test | bench | edit | refresh | series | kernel | module | deb | oracle | prefixes | sysreg | lint | docs | clean | distclean)
	alone
	;;
esac
case ${1:-help} in
help) help ;;
doctor) doctor ;;
run | migrate | test | bench | kernel | module | deb | oracle | prefixes | sysreg) python "$@" ;;
shell)
	in_use
	"$here/build/root.sh" && in_root bash
	;;
edit | refresh) exec "$here/build/series.sh" "$1" ;;
series) exec "$here/build/series.sh" mail ;;
lint)
	"$here/lint/lint.sh"
	python prefixes
	;;
docs) exec "$here/lint/docs.sh" ;;
clean | distclean)
	work=$("$here/build/series.sh" unsaved) || die "build/edit cannot be looked at: see there, or remove it"
	[ -z "$work" ] || die "build/edit has work that is not in patches/: 'make refresh', or remove build/edit"
	[ "$1" = clean ] || sole_user
	# In one step, so that an interruption leaves no partial directory.
	discard "$BUILD"
	[ "$1" = clean ] || discard "$CACHE"
	;;
*) die "there is no target '$1': run, migrate, shell, test, bench, edit, refresh, series, kernel, module, deb, lint, docs, doctor, clean, distclean or help" ;;
esac

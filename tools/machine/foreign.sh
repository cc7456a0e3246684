#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# foreign.sh perf|qemu: installs a Debian program for arm64, with its libraries, in the
# cache. Prints the directory, which is laid out like the root of a machine.
# foreign.sh linux: the same for Debian's kernel: boot/Image.
# foreign.sh debian: the same for a small Debian with apt. Prints the directory of root.tar.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

SUITE=trixie
case ${1:-} in
perf) package=linux-perf program=perf ;;
qemu) package=qemu-system-arm program=qemu-system-aarch64 ;;
linux) package=linux-image-arm64 program='' ;;
debian) package='' program='' ;;
*) die "usage: foreign.sh perf|qemu|linux|debian" ;;
esac

# source_line: prints the package source of the build root.
source_line() {
	sed -n 's/^\(deb .*\) '$SUITE' main.*/\1 '$SUITE' main/p' "$(root_dir)/etc/apt/sources.list" |
		head -n 1
}

# make_root PART: creates PART/tree/root.tar. Packages are configured without a chroot, since
# programs of another architecture cannot run.
make_root() {
	local as=()

	[ "$(id -u)" = 0 ] || as=(unshare --map-root-user --map-auto)
	rm -rf "$1"
	mkdir -p "$1/tree"
	TMPDIR=/var/tmp "${as[@]}" mmdebstrap --mode=chrootless --variant=apt --architectures=arm64 \
		--include=kmod,mount \
		--format=tar "$SUITE" "$1/tree/root.tar" "$(source_line)"
}

# unpack PART: unpacks the packages to PART/all. Programs of another architecture cannot run.
unpack() {
	rm -rf "$1"
	mkdir -p "$1/all" "$1/tree"
	TMPDIR=/var/tmp mmdebstrap --variant=extract --architectures=arm64 --include="$package" \
		--format=tar "$SUITE" - "$(source_line)" |
		tar -x --no-same-owner --exclude='./dev/*' --exclude='./lib/modules/*' \
			--exclude='./usr/lib/modules/*' -C "$1/all"
}

# make_kernel PART: creates PART/tree with the kernel.
make_kernel() {
	unpack "$1"
	mkdir "$1/tree/boot"
	cp "$1"/all/boot/vmlinuz-* "$1/tree/boot/Image"
}

# make_tree PART: creates PART/tree with the program and its libraries.
make_tree() {
	local part=$1

	unpack "$part"
	mkdir -p "$part/tree/lib" "$part/tree/usr/bin"
	in_root -b "$part:/armature/foreign" sh -eu -c '
		cd /armature/foreign
		needed() { llvm-readelf -d "$1" | sed -n "s/.*(NEEDED).*\[\(.*\)\]/\1/p"; }
		cp "all/usr/bin/$1" tree/usr/bin
		todo="tree/usr/bin/$1"
		while [ -n "$todo" ]; do
			set -- $todo
			todo=
			for object; do
				for library in $(needed "$object"); do
					[ ! -e "tree/lib/$library" ] || continue
					cp -L "$(find all/usr/lib all/lib -name "$library" | head -n 1)" tree/lib
					todo="$todo tree/lib/$library"
				done
			done
		done
		cp -L all/usr/lib/ld-linux-aarch64.so.1 tree/lib 2> /dev/null ||
			cp -L all/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 tree/lib
	' sh "$program"
}

"$TOP/tools/build/root.sh"
dir=$CACHE/$1-arm64-$(key "$0" "$(root_dir)")
if [ ! -d "$dir" ]; then
	locked "$1-arm64"
	if [ ! -d "$dir" ]; then
		disk "$CACHE" 3
		say "$1" "Debian's ${program:-$1} for arm64"
		case $1 in
		linux) how=make_kernel ;;
		debian) how=make_root ;;
		*) how=make_tree ;;
		esac
		logged "$1-arm64" "$how" "$dir.part"
		mv "$dir.part/tree" "$dir"
		rm -rf "$dir.part"
	fi
fi
printf '%s\n' "$dir"

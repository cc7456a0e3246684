#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Builds the emulator of the machine model: Debian's QEMU source package with the
# patches of tools/machine/qemu/, built once and kept in the cache. Prints the
# path of the program. "qemu.sh source DIR" writes the patched source to DIR as
# a git repository with one commit per patch, "qemu.sh refresh DIR" writes its
# commits back.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

PATCHES=$TOP/tools/machine/qemu
# The version for which the patches were made; a later version of the same series
# is used if they apply.
QEMU_SERIES=10.0
QEMU_VERSION=1:10.0.13+ds-0+deb13u1
QEMU_DSC_SHA256=a426c892e5369058c3423816c8625bc8010bb5a58ece57261f62b64ee4d765ad

# fetch DIR: downloads the newest source package of the series to DIR; apt checks it
# against the archive's signed index, and dpkg-source against its .dsc.
fetch() {
	in_root -b "$1:/armature/qemu" sh -eu -c '
		sed -n "s/^deb \(.*\) trixie main.*/deb-src \1 trixie main/p" /etc/apt/sources.list |
			head -n 1 > /tmp/sources.list
		set -- -o Dir::Etc::sourcelist=/tmp/sources.list -o Dir::Etc::sourceparts=/dev/null \
			-o APT::Sandbox::User=root
		apt-get "$@" -qq update
		cd /armature/qemu
		apt-get "$@" -qq --download-only source qemu
		dpkg-source --no-check -x ./*.dsc source
	'
}

# version_of DIR: prints the version of the package in DIR, if the package is complete.
version_of() {
	local version dsc

	dsc=$(find "$1" -maxdepth 1 -name '*.dsc')
	[ -f "$dsc" ] && [ -f "$1/source/configure" ] || return 1
	version=$(sed -n 's/^Version: //p' "$dsc" | head -n 1)
	[ "$version" != "$QEMU_VERSION" ] ||
		[ "$(sha256sum < "$dsc" | cut -d' ' -f1)" = "$QEMU_DSC_SHA256" ] || return 1
	printf '%s\n' "$version"
}

# prepare DIR: downloads to DIR and makes DIR/source a repository with Debian's source
# and a commit for each of our patches.
prepare() {
	local dir=$1 version='' try

	for try in 1 2; do
		rm -rf "$dir"
		mkdir -p "$dir"
		(logged qemu-fetch fetch "$dir") 2> "$LOGS/qemu-fetch.err" || continue
		version=$(version_of "$dir") && break
		say qemu "the source package is not what it should be (SHA-256): fetching it again"
	done
	case ${version#*:} in
	'')
		die "QEMU's source package cannot be fetched: check the network;" \
			"the log is build/log/qemu-fetch.log"
		;;
	"$QEMU_SERIES".*) ;;
	*) die "the archive has QEMU $version, and the machine model is for $QEMU_SERIES" ;;
	esac
	[ "$version" = "$QEMU_VERSION" ] ||
		say qemu "QEMU $version in place of the pinned $QEMU_VERSION: taken if the patches apply"
	apply "$dir/source" "$version"
}

# apply DIR VERSION: makes DIR a repository with its files and a commit for each of our patches.
apply() {
	local patch

	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
	export GIT_AUTHOR_NAME=Armature GIT_AUTHOR_EMAIL=armature@armature.invalid
	export GIT_COMMITTER_NAME=Armature GIT_COMMITTER_EMAIL=armature@armature.invalid
	cd "$1"
	rm -rf debian .pc
	git init -q -b base
	git config gc.auto 0
	git add -A -f .
	git commit -q --no-verify -m "QEMU $2"
	git checkout -q -b model
	for patch in "$PATCHES"/*.patch; do
		git am -q --whitespace=nowarn "$patch" > "$LOGS/qemu-am.log" 2>&1 ||
			die "${patch##*/} does not apply to QEMU $2: build/log/qemu-am.log"
	done
	cd "$TOP"
}

# The board and the devices that a machine may have: QEMU's other boards and devices
# for Arm would be a third of its build.
DEVICES="ARM_VIRT GENERIC_LOADER VIRTIO_BLK VIRTIO_NET VIRTIO_RNG VIRTIO_SERIAL"

build() {
	in_root -b "$1:/armature/qemu" sh -eu -c '
		mkdir -p /armature/qemu/obj
		cd /armature/qemu/obj
		for device in $1; do echo "CONFIG_$device=y"; done > \
			../source/configs/devices/aarch64-softmmu/armature.mak
		../source/configure --cc="ccache gcc" --target-list=aarch64-softmmu \
			--with-devices-aarch64=armature \
			--without-default-devices --without-default-features --enable-tcg --enable-fdt=system \
			--enable-plugins --disable-docs --disable-debug-info --disable-install-blobs --disable-download
		ninja -j"$JOBS" qemu-system-aarch64
	' sh "$DEVICES"
}

"$TOP/tools/build/root.sh"
case ${1:-} in
source)
	[ ! -e "${2:?source needs a directory}" ] || die "$2 exists: name a directory that does not"
	dest=$(realpath -m "$2")
	prepare "$dest.part"
	mv "$dest.part/source" "$dest"
	rm -rf "$dest.part"
	exit
	;;
refresh)
	[ -d "${2:?refresh needs a directory}/.git" ] || die "$2 is not what 'qemu.sh source' makes"
	rm -rf "$PATCHES.new"
	git -C "$2" -c core.abbrev=12 format-patch -q --no-signature --zero-commit --no-stat -N \
		-o "$PATCHES.new" base..model
	[ -n "$(find "$PATCHES.new" -name '*.patch' 2> /dev/null)" ] ||
		die "$2 has no commits between base and model"
	rm -rf "$PATCHES"
	mv "$PATCHES.new" "$PATCHES"
	exit
	;;
esac

dir=$(kept "$CACHE/qemu-$(key "$0" "$(root_dir)" "$(cat "$PATCHES"/*.patch)")")
if [ ! -x "$dir/qemu-system-aarch64" ]; then
	locked qemu
	dir=$(kept "$dir")
	if [ ! -x "$dir/qemu-system-aarch64" ]; then
		disk "$CACHE" 4
		say qemu "the emulator of the machine model (about five minutes)"
		prepare "$dir.part"
		logged qemu build "$dir.part"
		mkdir -p "$dir.part/done"
		cp "$dir.part/obj/qemu-system-aarch64" "$dir.part/done"
		part=$dir.part
		version=$(version_of "$part")
		[ "$version" = "$QEMU_VERSION" ] || dir+=-$version
		rm -rf "$dir"
		mv "$part/done" "$dir"
		rm -rf "$part"
		say qemu "done"
	fi
fi
printf '%s\n' "$dir/qemu-system-aarch64"

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Debian's perf for arm64 with the libraries it needs, in the cache. Prints the
# directory, which is laid out like the root of a machine.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

SUITE=trixie

make_perf() {
	local part=$1

	rm -rf "$part"
	mkdir -p "$part/all" "$part/tree/lib" "$part/tree/usr/bin"
	# Only unpacked: nothing of another architecture is run.
	TMPDIR=/var/tmp mmdebstrap --variant=extract --architectures=arm64 --include=linux-perf \
		--format=tar "$SUITE" - "$(sed -n 's/^\(deb .*\) '$SUITE' main.*/\1 '$SUITE' main/p' "$(root_dir)/etc/apt/sources.list" | head -n 1)" |
		tar -x --no-same-owner --exclude='./dev/*' -C "$part/all"
	in_root -b "$part:/armature/perf" sh -eu -c '
		cd /armature/perf
		needed() { llvm-readelf -d "$1" | sed -n "s/.*(NEEDED).*\[\(.*\)\]/\1/p"; }
		cp all/usr/bin/perf tree/usr/bin
		todo="tree/usr/bin/perf"
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
		cp -L all/usr/lib/ld-linux-aarch64.so.1 tree/lib 2> /dev/null || cp -L all/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 tree/lib
	'
}

"$TOP/tools/build/root.sh"
dir=$CACHE/perf-$(key "$0" "$(root_dir)")
if [ ! -d "$dir" ]; then
	locked perf
	if [ ! -d "$dir" ]; then
		disk "$CACHE" 2
		say perf "Debian's perf for arm64"
		logged perf make_perf "$dir.part"
		mv "$dir.part/tree" "$dir"
		rm -rf "$dir.part"
	fi
fi
printf '%s\n' "$dir"

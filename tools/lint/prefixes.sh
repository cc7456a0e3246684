#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Every prefix of the series builds: with our options as far as it has them,
# without them, and without Rust. Prints TAP. What is built is what the series
# touches: arch/arm64/kernel, arch/arm64/kvm, rust and the sample. With an argument, from
# the patch of that number on.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

n=0
failed=0
trap '"$TOP/tools/build/series.sh" tree' EXIT

build() {
	local config=$1 obj=$BUILD/obj/prefix-$1 targets='prepare arch/arm64/kernel/ arch/arm64/kvm/' fragments=base

	case $config in
	on) fragments='base options tests' targets="$targets samples/rust/" ;;
	norust) fragments='base norust' ;;
	esac
	mkdir -p "$obj"
	for fragment in $fragments; do
		cat "$TOP/tools/machine/config/$fragment.config"
	done > "$obj/want.config"
	# shellcheck disable=SC2086
	in_root -b "$BUILD/tree:/armature/src" -b "$obj:/armature/obj" sh -eu -c '
		make="make -s -C /armature/src O=/armature/obj LLVM=1 ARCH=arm64 -j$JOBS"
		$make KCONFIG_ALLCONFIG=/armature/obj/want.config allnoconfig
		for target; do $make "$target"; done' sh $targets
}

"$TOP/tools/build/series.sh" tree
base=$(git -C "$BUILD/tree" rev-parse base)
for commit in $(git -C "$BUILD/tree" rev-list --reverse "$base..series" | tail -n "+${1:-1}"); do
	git -C "$BUILD/tree" checkout -q -f --detach "$commit"
	for config in on off norust; do
		n=$((n + 1))
		say prefix "$(git -C "$BUILD/tree" log -1 --format=%s), $config"
		if build $config > "$LOGS/prefix-$config.log" 2>&1 < /dev/null; then
			echo "ok $n - $(git -C "$BUILD/tree" log -1 --format=%s), $config"
		else
			echo "not ok $n - $(git -C "$BUILD/tree" log -1 --format=%s), $config"
			tail -n 5 "$LOGS/prefix-$config.log" | sed 's/^/# /'
			cp "$LOGS/prefix-$config.log" "$LOGS/prefix-failed-$n.log"
			failed=1
		fi
	done
done
echo "1..$n"
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Every prefix of the series builds and links, Rust code of ours without a warning: with
# our options as far as it has them, without them, and without Rust; the whole of it also
# with each option alone off, without KVM, and with C helpers inlined into Rust code.
# Prints TAP. With an argument, from the patch of that number on.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

n=0
failed=0
trap '"$TOP/tools/build/series.sh" tree' EXIT

options=$(options | sed 's/=y$//')

# fragments CONFIG: the configuration of that name.
fragments() {
	local config=$TOP/tools/machine/config

	case $1 in
	on) cat "$config/base.config" "$config/tests.config" && options && options test ;;
	off) cat "$config/base.config" ;;
	norust) cat "$config/base.config" "$config/norust.config" ;;
	without-*) cat "$config/base.config" && options && echo "# CONFIG_${1#without-} is not set" ;;
	inline-helpers)
		cat "$config/base.config" && options
		echo CONFIG_RUST_INLINE_HELPERS=y
		;;
	nokvm) cat "$config/base.config" && options && echo "# CONFIG_KVM is not set" ;;
	nokvm-norust)
		cat "$config/base.config" "$config/norust.config"
		printf '# CONFIG_KVM is not set\nCONFIG_ARM64_NOLSE_ATOMICS=y\n'
		;;
	esac
}

# taken CONFIG DIR: each option that this prefix has is in force, if it was asked for.
taken() {
	local option

	[ "$1" != inline-helpers ] || grep -q "^CONFIG_RUST_INLINE_HELPERS=y" "$2/.config" || { echo "no inlined helpers"; return 1; }
	for option in $options; do
		git -C "$BUILD/tree" grep -q "^config ${option#CONFIG_}\$" HEAD -- arch/arm64/ || continue
		case $1:$option in
		off:* | norust:* | without-"${option#CONFIG_}":* | nokvm:CONFIG_KVM_*) ! grep -q "^$option=" "$2/.config" ;;
		nokvm-norust:CONFIG_ARM64_NOLSE_ATOMICS) grep -q "^$option=y" "$2/.config" ;;
		nokvm-norust:*) ! grep -q "^$option=" "$2/.config" ;;
		*) grep -q "^$option=y" "$2/.config" ;;
		esac || { echo "$option is not as asked for"; return 1; }
	done
}

build() {
	local obj=$BUILD/obj/prefix-$1

	mkdir -p "$obj"
	fragments "$1" > "$obj/want.config"
	in_root -b "$BUILD/tree:/armature/src" -b "$obj:/armature/obj" \
		make -s -C /armature/src O=/armature/obj LLVM=1 ARCH=arm64 KCONFIG_ALLCONFIG=/armature/obj/want.config allnoconfig &&
		taken "$1" "$obj" &&
		in_root -b "$BUILD/tree:/armature/src" -b "$obj:/armature/obj" \
			make -s -C /armature/src O=/armature/obj LLVM=1 ARCH=arm64 -j"$JOBS" vmlinux modules &&
		! grep -E '^ +--> /armature/src/(arch/arm64|rust/kernel/(arm64|kvm)|samples/rust/rust_arm64)' "$LOGS/prefix-$1.log"
}

# check CONFIG...: what is checked out builds in each of them. The first one alone, so that
# ccache has for the others what they share; those at the same time, since most of such a
# build waits for one crate or one link.
check() {
	local config subject builds=()

	subject=$(git -C "$BUILD/tree" log -1 --format=%s)
	say prefix "$subject"
	for config; do
		build "$config" > "$LOGS/prefix-$config.log" 2>&1 < /dev/null &
		builds+=($!)
		[ ${#builds[@]} -gt 1 ] || verdict "$subject" "$config" "${builds[0]}"
	done
	for config in "${@:2}"; do
		builds=("${builds[@]:1}")
		verdict "$subject" "$config" "${builds[0]}"
	done
}

# verdict SUBJECT CONFIG PID: a line of TAP, once that build has ended.
verdict() {
	n=$((n + 1))
	if wait "$3"; then
		echo "ok $n - $1, $2"
	else
		echo "not ok $n - $1, $2"
		tail -n 5 "$LOGS/prefix-$2.log" | sed 's/^/# /'
		cp "$LOGS/prefix-$2.log" "$LOGS/prefix-failed-$n.log"
		failed=1
	fi
}

"$TOP/tools/build/series.sh" tree
base=$(git -C "$BUILD/tree" rev-parse base)
for commit in $(git -C "$BUILD/tree" rev-list --reverse "$base..series" | tail -n "+${1:-1}"); do
	git -C "$BUILD/tree" checkout -q -f --detach "$commit"
	check on off norust
done
for option in $options; do
	check "without-${option#CONFIG_}"
done
check nokvm nokvm-norust inline-helpers
rm -rf "$BUILD"/obj/prefix-without-* "$BUILD"/obj/prefix-nokvm* "$BUILD/obj/prefix-inline-helpers"
echo "1..$n"
exit $failed

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel.sh VARIANT [TARGET...]: configure and build one kernel.
#
#   armature     base + series, our options on       debug      the same with run-time checks
#   off          base + series, without Rust         64k        ours with 64 KiB pages
#                and so without our options          clippy     ours, for lint
#   rt, cfi, pauth, kcsan: ours as distributions and debuggers configure it, see their fragments
#   debian       Debian's configuration for arm64 with our options, without modules, by gcc
#   bench        ours, without tests of any kind
#   vanilla      the base alone, same configuration  vanilla64k
#   reference    the base with the series' numbers of CPU capabilities: what the code of
#                upstream objects is compared with
#
# Objects are in build/obj/VARIANT; those of the base alone, which no checkout
# changes, in the cache. Source and objects have the same paths in the build
# root for every checkout, so that ccache serves them all.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

CONFIGS=$TOP/tools/machine/config

# fragments VARIANT: the configuration fragments, in order.
fragments() {
	case $1 in
	armature) echo base options tests suspend ;;
	clippy) echo base options tests suspend ;;
	bench) echo base options suspend ;;
	debug) echo base options tests suspend debug ;;
	rt | cfi | pauth | kcsan) echo base options tests suspend "$1" ;;
	debian) echo debian options ;;
	64k) echo base options small 64k ;;
	vanilla) echo base suspend ;;
	# Their C code is compared, and none of our options can be chosen without Rust.
	off | reference) echo base suspend norust ;;
	# Only its C code is counted.
	vanilla64k) echo base small 64k norust ;;
	*) die "there is no kernel '$1': armature, debug, rt, cfi, pauth, kcsan, debian, 64k, off, bench, vanilla or vanilla64k" ;;
	esac
}

# text VARIANT: its fragments, one after the other.
text() {
	local fragment

	for fragment in $(fragments "$1"); do
		case $fragment in
		options) options ;;
		tests) options test && cat "$CONFIGS/tests.config" ;;
		*) cat "$CONFIGS/$fragment.config" ;;
		esac
	done
}

# objects VARIANT: where its objects are.
objects() {
	case $1 in
	vanilla*)
		local base
		base=$("$TOP/tools/build/base.sh")
		# shellcheck disable=SC2046
		echo "$CACHE/$1-$(key "$0" "${base##*/}" "$(root_dir)" $(fragments "$1" | sed "s|[^ ]*|$CONFIGS/&.config|g"))"
		;;
	*) echo "$BUILD/obj/$1" ;;
	esac
}

source_of() {
	case $1 in
	vanilla* | reference) "$TOP/tools/build/base.sh" ;;
	*) echo "$BUILD/tree" ;;
	esac
}

kmake() {
	local over=() tools=LLVM=1

	[ "$variant" != debian ] || tools=CROSS_COMPILE=aarch64-linux-gnu-
	[ "$variant" != reference ] ||
		over=(-b "$BUILD/tree/arch/arm64/tools/cpucaps:/armature/src/arch/arm64/tools/cpucaps")
	in_root -b "$src:/armature/src" -b "$obj:/armature/obj" "${over[@]}" \
		make -C /armature/src O=/armature/obj "$tools" ARCH=arm64 -j"$JOBS" "$@"
}

# beneath: the configuration that the fragments are laid on.
beneath() {
	local config

	[ "$variant" = debian ] || return 0
	config=$("$TOP/tools/build/base.sh" config)
	sed 's/^\(CONFIG_.*\)=m$/# \1 is not set/' "$config"
}

# configure: allnoconfig with the fragments on top; every line of them must
# hold afterwards, or a dependency is missing.
configure() {
	local want missing

	want=$(text "$variant")
	{ beneath && echo "$want"; } > "$obj/want.config.new"
	rm -f "$obj/want.config"
	kmake KCONFIG_ALLCONFIG=/armature/obj/want.config.new allnoconfig
	missing=$(echo "$want" | grep -E '^CONFIG_.*=|is not set' | tac | awk -F'[= ]' '{ n = $1 == "#" ? $2 : $1 } !seen[n]++' |
		while read -r line; do
			case $line in
			'# '*) ! grep -q "^${line:2:-11}=" "$obj/.config" || echo "$line" ;;
			*) grep -qxF "$line" "$obj/.config" || echo "$line" ;;
			esac
		done)
	[ -z "$missing" ] || { echo "configuration not taken: $missing"; rm -f "$obj/.config"; return 1; }
	mv "$obj/want.config.new" "$obj/want.config"
}

build() {
	configure
	kmake "$@"
}

variant=${1:-armature}
shift || true
fragments "$variant" > /dev/null
src=$(source_of "$variant")
obj=$(objects "$variant")
case ${1:-} in
--objects) echo "$obj"; exit ;;
--make) shift; kmake "$@"; exit ;;
esac
all=
[ $# -gt 0 ] || { all=1; set -- Image modules; [ "$variant" != debian ] || set -- Image; }
case $variant in
vanilla*)
	[ ! -e "$obj/done" ] || exit 0
	locked "$variant"
	[ ! -e "$obj/done" ] || exit 0
	;;
# AS_IT_IS: what a test has done to the tree is what it wants built.
*) [ -n "${AS_IT_IS:-}" ] || "$TOP/tools/build/series.sh" tree ;;
esac
# make goes by times, and the files of another base may be older than the objects.
[ "$variant" != reference ] || [ "$(cat "$obj/base" 2> /dev/null)" = "$src" ] || rm -rf "$obj"
mkdir -p "$obj"
[ "$variant" != reference ] || echo "$src" > "$obj/base"
disk "$obj" 3
say "$variant" "building the kernel"
logged "kernel-$variant" build "$@"
case $variant$all in vanilla*1) touch "$obj/done" ;; esac
say "$variant" "kernel ready"

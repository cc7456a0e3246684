#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The commands of the project. `make NAME` calls this with NAME.
set -eu -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/build/lib.sh"

# help: prints the list of commands.
help() {
	cat "$here/armature.help"
}

# test_for NAME REMEDY COMMAND...: prints whether the command succeeds. If it fails, also prints the
# remedy and sets `bad`.
test_for() {
	if "${@:3}" > /dev/null 2>&1; then
		printf '  ok      %s\n' "$1"
	else
		printf '  lacking %s: %s\n' "$1" "$2"
		bad=1
	fi
}

# user_namespaces: prints whether a user who is not root may enter the build root.
user_namespaces() {
	test_for newuidmap "apt-get install uidmap" command -v newuidmap
	test_for "subordinate user ids" \
		"usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)" \
		grep -qE "^($(id -un)|$(id -u)):" /etc/subuid
	test_for "user namespaces" "sysctl -w kernel.unprivileged_userns_clone=1 or, on Ubuntu, \
kernel.apparmor_restrict_unprivileged_userns=0; or run as root" unshare -Ur true
}

# doctor: prints what this host lacks; fails if anything is missing.
doctor() {
	bad=0
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
	[ "$(id -u)" = 0 ] || user_namespaces
	# The build root is created in /var/tmp.
	for place in "$CACHE 20" "$BUILD 20" "/var/tmp 4"; do
		want=${place##* } place=${place% *}
		free=$(df --output=avail -BG "$place" | tail -n 1 | tr -dc 0-9)
		test_for "$free GiB free in $place, of $want" "free some" [ "$free" -ge "$want" ]
	done
	[ $bad = 0 ] && echo "Nothing is missing: make run"
	return $bad
}

# python COMMAND...: runs tools/armature with the Python of the build root, its loader and its
# libraries, so that this host needs no Python.
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
		die "git cannot read build/edit: repair it, or remove it"
	[ -z "$work" ] ||
		die "build/edit has work that is not in patches/: 'make refresh', or remove build/edit"
	[ "$1" = clean ] || sole_user
	# In one step, so that an interruption leaves no partial directory.
	discard "$BUILD"
	[ "$1" = clean ] || discard "$CACHE"
	;;
esac

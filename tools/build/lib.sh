# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Functions that all steps share: paths, progress, errors, and running commands
# in the build root. Sourced by bash, with "set -eu -o pipefail".

shopt -s inherit_errexit
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:?is not set: set it, or XDG_CACHE_HOME}/.cache}/armature
BUILD=$TOP/build
LOGS=$BUILD/log
JOBS=${JOBS:-$(nproc)}
STARTED=${STARTED:-$(date +%s)}
export STARTED
# shellcheck source=base
. "$TOP/base"

# Use a proxy that is configured for this host's apt only.
if [ -z "${http_proxy:-}" ] && command -v apt-config > /dev/null; then
	eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
	[ "${http_proxy:-}" != DIRECT ] || unset http_proxy
	[ -z "${http_proxy:-}" ] || export http_proxy
fi

case $TOP:$CACHE in
/usr/* | /etc/* | *:/usr/* | *:/etc/*)
	echo "armature: neither the checkout nor the cache can be under /usr or /etc:" \
		"the build root has its own" >&2
	exit 1
	;;
*[[:space:]]*)
	echo "armature: neither the path of the checkout nor that of the cache can have a space:" \
		"kbuild takes none" >&2
	exit 1
	;;
esac
mkdir -p "$CACHE" "$LOGS"

# say STEP TEXT: prints one line of progress with the time since the command started.
say() {
	local t=$(($(date +%s) - STARTED))

	printf '[%3d:%02d] %-9s %s\n' $((t / 60)) $((t % 60)) "$1" "${*:2}" >&2
}

# die TEXT: prints one line with the error and its remedy, and exits.
die() {
	printf 'armature: %s\n' "$*" >&2
	exit 1
}

# key FILE|TEXT...: prints 16 hex digits that change when an input changes.
key() {
	local i

	for i; do
		if [ -f "$i" ]; then sha256sum < "$i"; else printf '%s\n' "$i"; fi
	done | sha256sum | cut -c1-16
}

# kept DIR: prints this directory of the cache, or DIR-VERSION if that version was taken in
# place of the pinned one.
kept() {
	local other

	other=$(find "$CACHE" -maxdepth 1 -path "$1-*" ! -name '*.part' | sort -V | tail -n 1)
	if [ -d "$1" ] || [ -z "$other" ]; then echo "$1"; else echo "$other"; fi
}

# archive_key: tests whether this host can check signatures of Debian's archive.
archive_key() {
	compgen -G '/usr/share/keyrings/debian-archive-keyring.*' > /dev/null
}

# locked NAME: holds the lock called NAME until this shell ends, so that two
# checkouts on one machine do not create the same cache entry at the same time.
locked() {
	local fd

	exec {fd}> "$CACHE/$1.lock"
	LOCKS="${LOCKS:-} $fd"
	flock -n "$fd" || { say lock "waiting for another run that makes $1"; flock "$fd"; }
}

# alone: allows one command at a time in this checkout, and keeps the cache while it
# runs. Child processes inherit the locks, so the next command waits for child processes
# that a killed command has left.
alone() {
	[ -z "${ARMATURE_ALONE:-}" ] || return 0
	export ARMATURE_ALONE=1
	while :; do
		mkdir -p "$LOGS"
		exec 8> "$BUILD/lock"
		flock -n 8 || { say lock "waiting for another command of this checkout"; flock 8; }
		# "clean" may have removed the lock meanwhile.
		[ ! "$BUILD/lock" -ef "/proc/$BASHPID/fd/8" ] || break
	done
	in_use
}

# in_use: keeps the cache while this shell runs.
in_use() {
	while :; do
		mkdir -p "$CACHE"
		exec 7> "$CACHE/in-use.lock"
		flock -s 7
		# "distclean" may have removed the lock meanwhile.
		[ ! "$CACHE/in-use.lock" -ef "/proc/$BASHPID/fd/7" ] || break
	done
}

# sole_user: fails unless no other command uses the cache.
sole_user() {
	flock -x -n 7 || die "another checkout is using $CACHE: wait for it to end"
}

# discard DIR: renames DIR before removing its contents, so that it disappears as a whole.
discard() {
	rm -rf "$1.gone"
	[ ! -e "$1" ] || mv "$1" "$1.gone"
	rm -rf "$1.gone"
}

# logged NAME COMMAND...: runs a command with its output in a file, whose last lines
# are shown if the command fails; prints a line each minute while the command runs.
logged() {
	local log=$LOGS/$1.log name=$1 rc=0 pid beat

	shift
	"$@" > "$log" 2>&1 < /dev/null &
	pid=$!
	# This loop holds neither the lock nor the output of its caller, and ends
	# with the caller.
	(
		exec > /dev/null < /dev/null
		for fd in 7 8 ${LOCKS:-}; do exec {fd}>&-; done
		trap 'kill $! 2> /dev/null; exit' TERM
		while sleep 30 & wait $!; kill -0 $$ 2> /dev/null; do
			say "$name" "$(tail -n 1 "$log" | cut -c1-70)"
		done
	) &
	beat=$!
	wait "$pid" || rc=$?
	{ kill "$beat" && wait "$beat"; } 2> /dev/null || true
	[ $rc = 0 ] || { tail -n 25 "$log" >&2; die "$name failed; the whole log is ${log#"$TOP"/}"; }
}

# disk DIR GIB: fails unless DIR has so much free space.
disk() {
	local free

	free=$(df --output=avail -BG "$1" | tail -n 1 | tr -dc 0-9)
	[ "$free" -ge "$2" ] || case $1 in
	"$CACHE"*)
		die "$1 has $free GiB free and this step needs $2: free some," \
			"or point XDG_CACHE_HOME elsewhere"
		;;
	*) die "$1 has $free GiB free and this step needs $2: free some" ;;
	esac
}

root_dir() {
	printf '%s/root-%s' "$CACHE" "$(key "$TOP/tools/build/root.sh" "$TOP/tools/build/packages")"
}

# in_root [-b DIR:MOUNT]... COMMAND...: runs a command in the build root, in place of this shell if
# ENTER is "exec". The root is read-only; the checkout and the cache keep their paths, -b adds
# others.
in_root() {
	local root proxy mounts=()

	root=$(root_dir)
	for proxy in http_proxy https_proxy no_proxy; do
		[ -z "${!proxy:-}" ] || mounts+=(--setenv "$proxy" "${!proxy}")
	done
	while [ "$1" = -b ]; do
		mounts+=(--bind "${2%:*}" "${2##*:}")
		shift 2
	done
	${ENTER:-} bwrap --ro-bind "$root/usr" /usr --ro-bind "$root/etc" /etc --tmpfs /var \
		--ro-bind "$root/var/lib/dpkg" /var/lib/dpkg --dir /var/lib/apt/lists --dir /var/cache/apt \
		--dir /var/tmp \
		--symlink usr/bin /bin --symlink usr/sbin /sbin --symlink usr/lib /lib \
		--symlink usr/lib64 /lib64 \
		--dev /dev --proc /proc --tmpfs /tmp --tmpfs /run \
		--ro-bind-try /etc/resolv.conf /etc/resolv.conf \
		--bind "$CACHE" "$CACHE" --bind "$TOP" "$TOP" \
		--unshare-pid --die-with-parent --chdir "$TOP" --clearenv "${mounts[@]}" \
		--setenv PATH /usr/lib/ccache:/usr/lib/llvm-19/bin:/usr/bin:/bin:/usr/sbin:/sbin \
		--setenv HOME /tmp --setenv LC_ALL C.UTF-8 --setenv TERM "${TERM:-dumb}" \
		--setenv CCACHE_DIR "$CACHE/ccache" --setenv CCACHE_MAXSIZE 6G \
		--setenv CCACHE_NOHASHDIR 1 --setenv CCACHE_COMPILERCHECK content \
		--setenv KBUILD_BUILD_TIMESTAMP 2026-01-01 --setenv KBUILD_BUILD_USER armature \
		--setenv KBUILD_BUILD_HOST armature --setenv SOURCE_DATE_EPOCH 1767225600 \
		--setenv JOBS "$JOBS" --setenv STARTED "$STARTED" --setenv PYTHONDONTWRITEBYTECODE 1 \
		--setenv GIT_CONFIG_GLOBAL /dev/null --setenv GIT_CONFIG_COUNT 1 \
		--setenv GIT_CONFIG_KEY_0 safe.directory --setenv GIT_CONFIG_VALUE_0 '*' \
		-- "$@"
}

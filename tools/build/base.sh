#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The base kernel as a git repository with one commit, in the cache: from the
# Debian source package that `base` pins, or from the tree in $BASE.
# Prints the repository's path. "base.sh check TARBALL VERSION" only compares a
# file with the pin, "base.sh unpack DEB DIR" only unpacks one. "base.sh config"
# prints the path of Debian's configuration of that kernel for arm64.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

# The version of the repository's format; a new number creates a new repository.
FORMAT=1

# version_of DIR: prints the version of a source tree, from its Makefile.
version_of() {
	awk -F' *= *' '
		$1 == "VERSION" { v = $2 }
		$1 == "PATCHLEVEL" { p = $2 }
		$1 == "SUBLEVEL" { print v "." p "." $2; exit }' "$1/Makefile"
}

# fetch DIR PACKAGE SUITE [ARCHITECTURE]: downloads the package's .deb to DIR; apt checks it
# against the archive's signed index.
fetch() {
	in_root sh -eu -c '
		sources=/tmp/sources.list
		sed -n "s/^\(deb .*\) trixie main.*/\1 $3 main/p" /etc/apt/sources.list | head -n 1 > $sources
		architecture=${4:-$(dpkg --print-architecture)}
		set -- "$1" "$2" -o Dir::Etc::sourcelist=$sources -o Dir::Etc::sourceparts=/dev/null \
			-o APT::Sandbox::User=root \
			-o APT::Architecture="$architecture" -o APT::Architectures="$architecture"
		dir=$1 package=$2
		shift 2
		apt-get "$@" -qq update
		cd "$dir"
		apt-get "$@" -qq download "$package"
	' sh "$@"
}

# check TARBALL DEB_VERSION: the pinned package must have the pinned content;
# another version of the series has been checked by apt against its index.
check() {
	local sum

	sum=$(sha256sum "$1" | cut -d' ' -f1)
	[ -n "$sum" ] && [ -n "$2" ] || return 1
	[ "$2" != "$BASE_DEB" ] || [ "$sum" = "$BASE_SHA256" ]
}

# unpack DEB DIR: unpacks the checked source tree of the package to DIR/linux. bash
# does not stop at errors in the callers, so every step handles its own. Returns 1 if
# the package does not have the pinned content, 2 if there was no space.
unpack() {
	local deb=$1 dir=$2 version tar=$2/x/usr/src/linux-source-$BASE_SERIES.tar.xz

	version=$(in_root dpkg-deb -f "$deb" Version) || return 1
	in_root dpkg-deb --fsys-tarfile "$deb" > /dev/null || return 1
	in_root dpkg-deb -x "$deb" "$dir/x" || return 2
	[ -f "$tar" ] && check "$tar" "$version" || return 1
	mkdir "$dir/linux" || return 2
	echo "$version" > "$dir/version" || return 2
	in_root tar -xJf "$tar" --strip-components=1 -C "$dir/linux" || return 2
	rm -rf "$dir/x"
}

# commit DIR: makes the tree in DIR a repository whose only commit depends on
# nothing except the tree.
commit() {
	in_root -b "$1:/armature/linux" sh -eu -c '
		cd /armature/linux
		export GIT_AUTHOR_NAME=Armature GIT_AUTHOR_EMAIL=armature@armature.invalid
		export GIT_COMMITTER_NAME=Armature GIT_COMMITTER_EMAIL=armature@armature.invalid
		export GIT_AUTHOR_DATE="1767225600 +0000" GIT_COMMITTER_DATE="1767225600 +0000"
		git init -q -b base
		git config core.fileMode true
		git config gc.auto 0
		git add -A -f .
		git commit -q --no-verify -m "Linux $1"
	' sh "$(version_of "$1")"
}

from_archive() {
	local dest=$1 part=$1.part choice try rc version

	for choice in $BASE_PACKAGES; do
		for try in 1 2; do
			rm -rf "$part"
			mkdir -p "$part"
			say base "fetching ${choice%%/*} from ${choice##*/}"
			(logged "base-${choice##*/}" fetch "$part" "${choice%%/*}" "${choice##*/}") \
				2> "$LOGS/base.err" || continue
			say base "checking and unpacking"
			rc=0
			unpack "$part"/*.deb "$part" || rc=$?
			[ $rc != 2 ] || die "the kernel source does not unpack into $CACHE: is the disk full?"
			if [ $rc = 0 ]; then
				version=$(cat "$part/version")
				[ "$version" = "$BASE_DEB" ] || dest+=-$version
				finish "$part/linux" "$dest"
				rm -rf "$part"
				return
			fi
			say base "the download is not what base says it is (SHA-256): fetching it again"
		done
	done
	rm -rf "$part"
	die "no suite has Linux $BASE_SERIES intact (the logs are build/log/base-*.log):" \
		"check the network, or name a tree with BASE=/path/to/linux"
}

check_version() {
	local version

	version=$(version_of "$1")
	case $version in
	"$BASE_SERIES".*) ;;
	*) die "that tree is Linux $version, and the series is for $BASE_SERIES.y" ;;
	esac
	[ "$version" = "$BASE_VERSION" ] ||
		say base "Linux $version in place of the pinned $BASE_VERSION: taken if the series applies"
}

finish() {
	check_version "$1"
	# Debian's packaging adds a block that makes git ignore the kernel itself.
	sed -i '/^# Debian packaging: ignore everything/,$d' "$1/.gitignore"
	commit "$1"
	mv "$1" "$2"
}

from_tree() {
	local dest=$1 part=$1.part

	rm -rf "$part"
	check_version "$BASE"
	if [ -e "$BASE/.git" ]; then
		[ -z "$(git -C "$BASE" status --porcelain -uno)" ] ||
			die "$BASE has changes that are not committed: commit them, or stash them"
	elif [ -e "$BASE/.config" ] || [ -e "$BASE/include/config" ]; then
		die "$BASE has been built in: 'make mrproper' there"
	fi
	say base "copying $BASE"
	mkdir -p "$part"
	if [ -e "$BASE/.git" ]; then
		git -C "$BASE" archive HEAD | tar -x -C "$part"
	else
		cp -a "$BASE/." "$part"
	fi
	finish "$part" "$dest"
}

# config: prints the path, in the cache, of Debian's configuration for arm64.
config() {
	local file part choice package=linux-config-$BASE_SERIES

	file=$CACHE/config-$(key "$FORMAT" "$BASE_DEB")
	part=$file.part
	[ ! -f "$file" ] || { printf '%s\n' "$file"; return; }
	locked config
	[ ! -f "$file" ] || { printf '%s\n' "$file"; return; }
	for choice in $BASE_PACKAGES; do
		rm -rf "$part"
		mkdir -p "$part"
		say base "fetching $package from ${choice##*/}"
		(logged "config-${choice##*/}" fetch "$part" "$package" "${choice##*/}" arm64) \
			2> "$LOGS/base.err" || continue
		in_root dpkg-deb -x "$part"/*.deb "$part/x"
		in_root xz -dc "$part/x/usr/src/$package/config.arm64_none_arm64.xz" > "$part/config"
		mv "$part/config" "$file"
		rm -rf "$part"
		printf '%s\n' "$file"
		return
	done
	rm -rf "$part"
	die "no suite has $package (the logs are build/log/config-*.log): check the network"
}

case ${1:-} in
check) check "$2" "$3"; exit ;;
unpack) mkdir -p "$3" && unpack "$2" "$3"; exit ;;
config) "$TOP/tools/build/root.sh"; config; exit ;;
esac
"$TOP/tools/build/root.sh"
if [ -n "${BASE:-}" ]; then
	[ -f "$BASE/Makefile" ] && [ -d "$BASE/arch/arm64" ] ||
		die "BASE=$BASE is not a kernel source tree"
	id=
	# Do not use the commit of a repository that contains a plain tree.
	[ ! -e "$BASE/.git" ] || id=$(git -C "$BASE" rev-parse HEAD) || die "BASE=$BASE has no commit"
	[ -n "$id" ] || id=$(cd "$BASE" && find . -type f -printf '%P %s %T@\n' | sort | sha256sum)
	dir=$CACHE/base-$(key "$FORMAT" "$BASE" "$id")
else
	dir=$(kept "$CACHE/base-$(key "$FORMAT" "$BASE_DEB" "$BASE_SHA256")")
fi
if [ ! -d "$dir" ]; then
	locked base
	disk "$CACHE" 6
	dir=$(kept "$dir")
	[ -d "$dir" ] || if [ -n "${BASE:-}" ]; then from_tree "$dir"; else from_archive "$dir"; fi
	dir=$(kept "$dir")
fi
printf '%s\n' "$dir"

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The build root: Debian stable with every tool the project uses, made once by
# mmdebstrap and entered with bubblewrap. Nothing else is put on the host.
set -eu -o pipefail
. "$(dirname "$0")/lib.sh"

SUITE=trixie

install_host_tools() {
	local missing=() as=()

	command -v mmdebstrap > /dev/null || missing+=(mmdebstrap)
	[ -d "$root" ] || archive_key || missing+=(debian-archive-keyring)
	command -v bwrap > /dev/null || missing+=(bubblewrap)
	[ "$(id -u)" = 0 ] || command -v newuidmap > /dev/null || missing+=(uidmap)
	[ ${#missing[@]} = 0 ] && return
	say host "installing ${missing[*]}"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo > /dev/null || die "run as root: apt-get install ${missing[*]}"
		as=(sudo)
	fi
	logged host "${as[@]}" sh -c '
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@"
		' sh "${missing[@]}"
}

# host_mirror: prints the mirror of this host's apt, the first one if apt has a list of
# mirrors; or nothing, for mmdebstrap's default.
host_mirror() {
	local uri

	command -v apt-get > /dev/null || return 0
	apt-get indextargets --format '$(REPO_URI) $(LABEL)' 'Created-By: Packages' 'Origin: Debian' \
		2> /dev/null |
		awk '$2 == "Debian" { print $1 }' | while read -r uri; do
		case $uri in
		http:* | https:*) echo "$uri" ;;
		mirror+file:*) awk '/^https?:/ { print $1; exit }' "/${uri#mirror+file:*/}" 2> /dev/null ;;
		esac
	done | head -n 1 || true
}

make_root() {
	local root=$1 mirror include backports machines

	mirror=$(host_mirror)
	# The first architecture is that of the programs which run on this host.
	machines=$(dpkg --print-architecture)
	[ "$machines" = arm64 ] || machines+=,arm64
	include=$(grep -v '^#' "$TOP/tools/build/packages" | paste -sd,)
	# The kernel source of the pinned version may be newer than stable.
	backports='cd "$1/etc/apt" &&
		sed -n "s/^\(deb .*\) '$SUITE' main.*/\1 '$SUITE'-backports main/p" sources.list \
			> sources.list.d/backports.list'
	rm -rf "$root.part"
	mkdir -p "$root.part"
	disk /var/tmp 4
	TMPDIR=/var/tmp mmdebstrap --variant=apt --architectures="$machines" --include="$include" \
		--aptopt='APT::Install-Recommends "false"' --customize-hook="$backports" \
		--format=tar "$SUITE" - ${mirror:+"deb $mirror $SUITE main"} |
		tar -x --no-same-owner --exclude='./dev/*' -C "$root.part"
	touch "$root.part/etc/resolv.conf"
	mv "$root.part" "$root"
}

root=$(root_dir)
if [ ! -d "$root" ]; then
	install_host_tools
	locked root
	if [ ! -d "$root" ]; then
		disk "$CACHE" 6
		say root "Debian $SUITE with the tool chain (about two minutes)"
		logged root make_root "$root"
		say root "done"
	fi
fi
install_host_tools

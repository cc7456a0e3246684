#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# crates.sh: fetches the published crates that tools/vmm/crates names, once, into the cache. Prints
# the directory, which has one directory a crate, as "cargo vendor" makes it.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

LIST=$TOP/tools/vmm/crates

# fetch PART: fetches the crates, and those that they need, to PART/vendor.
fetch() {
	local mounts=() certificates=/etc/ssl/certs/ca-certificates.crt

	rm -rf "$1"
	mkdir -p "$1/src"
	: > "$1/src/lib.rs"
	{
		printf '[package]\nname = "crates"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n'
		sed -n 's/^\([a-z-]*\) \([0-9.]*\) .*/\1 = { version = "=\2", default-features = false }/p' \
			"$LIST"
	} > "$1/Cargo.toml"
	# What this host trusts, as a proxy may require.
	[ ! -f "$certificates" ] || mounts=(-b "$certificates:$certificates")
	in_root "${mounts[@]}" -b "$1:/armature/crates" sh -eu -c '
		cd /armature/crates
		CARGO_HOME=/armature/crates/home cargo vendor --quiet vendor
	' > /dev/null
}

# check PART: fails unless each crate is the one that has been published with this checksum. Cargo
# checks the files against the same list when it builds.
check() {
	local name version sum

	while read -r name version sum; do
		case $name in '#'*) continue ;; esac
		grep -q "\"package\":\"$sum\"" "$1/vendor/$name/.cargo-checksum.json" ||
			die "the crate $name $version is not the published one (SHA-256)"
		cp -R "$1/vendor/$name" "$1/tree/"
	done < "$LIST"
}

"$TOP/tools/build/root.sh"
dir=$CACHE/crates-$(key "$LIST" "$TOP/tools/vmm/crates.sh")
[ ! -d "$dir" ] || { echo "$dir"; exit; }
locked crates
if [ ! -d "$dir" ]; then
	say crates "fetching $(grep -vc '^#' "$LIST") crates"
	(logged crates fetch "$dir.part") ||
		die "the crates cannot be fetched: check the network; the log is build/log/crates.log"
	mkdir "$dir.part/tree"
	check "$dir.part"
	mv "$dir.part/tree" "$dir"
	rm -rf "$dir.part"
fi
echo "$dir"

#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Our pages with the tree's Sphinx, into build/docs; a warning about one of them
# fails. TAP on standard output.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

"$TOP/tools/build/series.sh" tree
# Pages that are new, and those that the series changes.
pages=$( (cd "$TOP" && git ls-files -co --exclude-standard -- 'Documentation/*.rst'
	sed -n 's|^+++ b/\(Documentation/.*\.rst\)$|\1|p' patches/*.patch) | sort -u | paste -sd'|')
out=$LOGS/docs.out
say docs "building the pages of arch/arm64 and virt/kvm"
rc=0
in_root -b "$BUILD/tree:/armature/src" sh -eu -c '
	cd /armature/src
	mkdir -p /tmp/docs
	make -s O=/tmp/docs SPHINXDIRS="arch/arm64 virt/kvm" SPHINXOPTS="-j$JOBS" htmldocs
	rm -rf "$1/docs" && mkdir -p "$1/docs" && cp -r /tmp/docs/Documentation/output/. "$1/docs/"' sh "$BUILD" > "$out" 2>&1 || rc=$?
echo "1..1"
if [ $rc != 0 ]; then
	tail -n 5 "$out" >&2
	echo "not ok 1 - the documentation builds"
	exit 1
elif grep -E "($pages):.*(WARNING|ERROR)" "$out" >&2; then
	echo "not ok 1 - the documentation builds without a warning of ours"
	exit 1
else
	echo "ok 1 - the documentation builds without a warning of ours"
	say docs "build/docs/index.html"
fi

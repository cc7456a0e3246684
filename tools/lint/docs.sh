#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Builds the documentation with the tree's Sphinx, into build/docs. Fails on a warning
# about one of our pages, and on a C example that does not compile. Prints TAP.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

[ -n "${AS_IT_IS:-}" ] || "$TOP/tools/build/series.sh" tree
# New pages, and pages that the series changes.
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
# Compiles each example separately, with the headers of the series.
examples() {
	# shellcheck disable=SC2046
	in_root -b "$BUILD/tree:/armature/src" sh -eu -c '
		make -s -C /armature/src ARCH=arm64 O=/tmp/headers INSTALL_HDR_PATH=/tmp/usr headers_install
		for page; do
			awk -v page="/tmp/$(basename "$page" .rst)" "
				/^\.\. code-block:: c\$/ { n++; inside = 1; next }
				inside && /^[^\t]/ { inside = 0 }
				inside { print substr(\$0, 2) > (page \"-\" n \".c\") }" "$page"
		done
		for example in /tmp/*.c; do
			echo "${example##*/}"
			aarch64-linux-gnu-gcc -Wall -Wextra -Werror -isystem /tmp/usr/include -c "$example" -o /tmp/example.o
		done' sh $(cd "$TOP" && git ls-files -co --exclude-standard -- 'Documentation/*.rst')
}

echo "1..2"
n=0
if examples > "$LOGS/docs-examples.out" 2>&1 && n=$(grep -c '\.c$' "$LOGS/docs-examples.out"); then
	echo "ok 2 - $n examples compile"
else
	tail -n 15 "$LOGS/docs-examples.out" >&2
	echo "not ok 2 - the examples compile"
	rc_examples=1
fi
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
exit "${rc_examples:-0}"

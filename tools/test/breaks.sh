#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# breaks.sh: break things on purpose, and see the tests that are there for them
# fail. Prints TAP: a test that does not notice is "not ok". The source that is
# broken is build/tree, which the next build puts right.
#
# Each file of breaks/ is a patch with lines "Noticed-by: BOOT: TEST". The number in front of its
# name is a group: patches of one group hide nothing from each other, and share a kernel. BREAKS=WORD
# takes those whose name has that word.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

tree=$BUILD/tree
n=0
failed=0

restore() {
	git -C "$tree" checkout -q -f
	"$TOP/tools/build/kernel.sh" armature
}

# noticed PATCH: a line of TAP for each test that has to fail.
noticed() {
	local boot test what

	what="$(basename "$1" .patch): $(head -n 1 "$1")"
	while IFS=: read -r boot test; do
		test=${test# }
		n=$((n + 1))
		if grep -F "FAILED $boot: $test" "$BUILD/breaks.out" | grep -qv "counted nothing" &&
			! grep -qF "FAILED $boot: machine/" "$BUILD/breaks.out"; then
			echo "ok $n - $what: noticed by $boot: $test"
		else
			echo "not ok $n - $what: not noticed by $boot: $test"
			failed=1
		fi
	done < <(sed -n 's/^Noticed-by: //p' "$1")
}

# broken PATCH...: applies them, builds, boots what has to notice, and looks whether it has.
broken() {
	local patch boot

	git -C "$tree" checkout -q -f
	for patch; do
		git -C "$tree" apply "$patch" || die "${patch##*/} no longer applies: make it anew for what it breaks"
	done
	AS_IT_IS=1 "$TOP/tools/build/kernel.sh" armature
	rm -rf "$BUILD/breaks"
	: > "$BUILD/breaks.out"
	for boot in $(sed -n 's/^Noticed-by: \([^:]*\):.*/\1/p' "$@" | sort -u); do
		in_root env REPORT="$BUILD/breaks" "$TOP/tools/test/run.py" run "=$boot" >> "$BUILD/breaks.out" 2> /dev/null || true
	done
	for patch; do
		noticed "$patch"
	done
}

"$TOP/tools/build/series.sh" tree
trap restore EXIT
chosen=$(find "$TOP/tools/test/breaks" -name "*${BREAKS:-}*.patch" | sort)
[ -n "$chosen" ] || die "BREAKS=${BREAKS:-} matches nothing in tools/test/breaks"
for group in $(sed 's|.*/\([0-9]*\)-.*|\1|' <<< "$chosen" | sort -nu); do
	# shellcheck disable=SC2046
	broken $(grep "/$group-" <<< "$chosen")
done
echo "1..$n"
exit $failed

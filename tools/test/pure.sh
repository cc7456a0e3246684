#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# pure.sh: unit tests of the pure modules, and the generator's check against C;
# prints TAP. Runs in the build root.
set -eu -o pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
n=0
failed=0

report() {
	n=$((n + 1))
	if [ "$1" = ok ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; failed=1; fi
}

rustc --edition 2021 -O "$top/arch/arm64/tools/gen-sysreg.rs" -o "$work/gen-sysreg"
"$work/gen-sysreg" --consts "$top/build/tree/arch/arm64/tools/sysreg" > "$work/consts.rs"
for test in "$top"/tools/test/pure/*.rs; do
	name=$(basename "$test" .rs)
	SYSREG_CONSTS=$work/consts.rs rustc --edition 2021 -O -D warnings --test "$test" -o "$work/$name"
	rc=0
	"$work/$name" --test-threads 2 > "$work/$name.out" 2>&1 || rc=$?
	[ $rc = 0 ] || cat "$work/$name.out" >&2
	while read -r _ what _ status; do
		report "$status" "$name::$what"
	done < <(grep '^test .* \.\.\. ' "$work/$name.out")
	[ $rc = 0 ] || report failed "$name exits with $rc"
done

# Each barrier of the sharing is there for a reason, which the exploration of all interleavings knows.
epoch=arch/arm64/kvm/hyp/icache/epoch.rs
barriers=0
for barrier in $(grep -n 'cpu\.complete();' "$top/$epoch" | cut -d: -f1); do
	rm -rf "$work/broken"
	mkdir -p "$work/broken/tools/test"
	cp -r "$top/tools/test/pure" "$work/broken/tools/test"
	(cd "$top" && cp -r --parents arch/arm64/kvm/hyp/icache "$work/broken")
	sed -i "${barrier}d" "$work/broken/$epoch"
	barriers=$((barriers + 1))
	noticed=failed
	if ! SYSREG_CONSTS=$work/consts.rs rustc --edition 2021 -O --test "$work/broken/tools/test/pure/icache.rs" -o "$work/broken/icache" 2> "$work/broken/out"; then
		cat "$work/broken/out" >&2
	elif ! "$work/broken/icache" every_interleaving > "$work/broken/out" 2>&1; then
		! grep -q '^test .*every_interleaving_of_three_requests .* FAILED' "$work/broken/out" || noticed=ok
	fi
	report $noticed "icache: the exploration misses the barrier in line $barrier of epoch.rs"
done
[ $barriers = 3 ] || report failed "icache: there are three barriers to take away (found: $barriers)"

if "$top/tools/test/sysreg-consts.sh" "$top/build/tree" > "$work/consts.out" 2>&1; then
	report ok "sysreg: $(tail -n 1 "$work/consts.out")"
else
	cat "$work/consts.out" >&2
	report failed "sysreg: constants are those of C"
fi
for judge in bench test; do
	if python3 -B -m unittest discover -s "$top/tools/$judge" > "$work/judge.out" 2>&1 &&
		ran=$(grep -oE '^Ran [1-9][0-9]* tests' "$work/judge.out"); then
		report ok "what judges in tools/$judge: $ran"
	else
		cat "$work/judge.out" >&2
		report failed "what judges in tools/$judge"
	fi
done
echo "1..$n"
exit $failed

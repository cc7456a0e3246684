#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# breaks.sh: break things on purpose, and see the tests that are there for them
# fail. Prints TAP: a test that does not notice is "not ok". The source that is
# broken is build/tree, which the next build puts right.
set -eu -o pipefail
. "$(dirname "$0")/../build/lib.sh"

tree=$BUILD/tree
n=0
failed=0

restore() {
	git -C "$tree" checkout -q -f
	"$TOP/tools/build/kernel.sh" armature
}

# edit FILE SED-EXPRESSION: must change something.
edit() {
	cp "$tree/$1" "$tree/$1.whole"
	sed -i "$2" "$tree/$1"
	! cmp -s "$tree/$1" "$tree/$1.whole" || die "breaks.sh: $2 does not match in $1"
	rm "$tree/$1.whole"
}

# noticed BOOT TEST WHAT: TEST failed on BOOT.
noticed() {
	n=$((n + 1))
	if grep -F "FAILED $1: $2" "$BUILD/breaks.out" | grep -qv "counted nothing" &&
		! grep -qF "FAILED $1: machine/" "$BUILD/breaks.out"; then
		echo "ok $n - $3: noticed by $1: $2"
	else
		echo "not ok $n - $3: not noticed by $1: $2"
		failed=1
	fi
}

"$TOP/tools/build/series.sh" tree
trap restore EXIT
edit arch/arm64/kvm/hyp/icache/plan.rs 's/> max_lines/>= max_lines/'
edit arch/arm64/kernel/entry.S '/^alternative_if_not ARM64_HAS_LSE_ATOMICS/,/^alternative_else_nop_endif/d'
edit arch/arm64/kvm/nolse/policy.rs 's/(true, Policy::Auto, false) => Decision::RefuseNoFwb/(true, Policy::Auto, false) => Decision::RunContained/'
AS_IT_IS=1 "$TOP/tools/build/kernel.sh" armature
rm -rf "$BUILD/breaks"
: > "$BUILD/breaks.out"
for boot in kunit-n1 nolse-mte nolse-policy-n1-auto; do
	in_root env REPORT="$BUILD/breaks" "$TOP/tools/test/run.py" run "=$boot" >> "$BUILD/breaks.out" 2> /dev/null || true
done
noticed kunit-n1 "kunit/kvm_arm64_icache/bound_of_this_machine" "bound off by one"
noticed nolse-mte "executed/el 2 atomics == 0" "STSET left in entry.S"
noticed nolse-policy-n1-auto "no-kvm" "FEAT_S2FWB not checked"
noticed nolse-policy-n1-auto "console/has: arm64.nolse_atomics needs" "FEAT_S2FWB not checked"
echo "1..$n"
exit $failed

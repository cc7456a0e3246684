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

rustc --edition 2021 -O "$top/arch/arm64/tools/gen_sysreg/gen_sysreg.rs" -o "$work/gen-sysreg"
"$work/gen-sysreg" --consts "$top/build/tree/arch/arm64/tools/sysreg" > "$work/consts.rs"

# A kernel crate for these modules: files of the kernel crate beside host/kernel.rs.
generated=$work/arch/arm64/include/generated/rust
mkdir -p "$generated" "$work/kernel/arm64"
"$work/gen-sysreg" --types "$top/build/tree/arch/arm64/tools/sysreg" > "$generated/sysreg-types.rs"
cp -r "$top"/build/tree/rust/kernel/{bitfield.rs,num.rs,num} "$top/tools/test/host/kernel.rs" "$work/kernel"
cp "$top"/rust/kernel/arm64/{access,sysreg}.rs "$top/tools/test/host/fake.rs" "$work/kernel/arm64"
paste=$(echo /usr/share/cargo/registry/paste-*/src/lib.rs)
rustc --edition 2021 -O --cap-lints allow --crate-type proc-macro --crate-name paste --extern proc_macro "$paste" --out-dir "$work"
OBJTREE=$work rustc --edition 2021 -O --crate-type rlib --extern "paste=$work/libpaste.so" "$work/kernel/kernel.rs" --out-dir "$work"
for test in "$top"/arch/arm64/{kernel,kvm}/*/tests.rs; do
	name=$(basename "${test%/tests.rs}")
	SYSREG_CONSTS=$work/consts.rs rustc --edition 2021 -O -D warnings -L "$work" --extern kernel --test --crate-name "$name" "$test" -o "$work/$name"
	rc=0
	"$work/$name" --test-threads 2 > "$work/$name.out" 2>&1 || rc=$?
	[ $rc = 0 ] || cat "$work/$name.out" >&2
	while read -r _ what _ status; do
		report "$status" "$name::$what"
	done < <(grep '^test .* \.\.\. ' "$work/$name.out")
	[ $rc = 0 ] || report failed "$name exits with $rc"
done

# The exploration of all interleavings must fail without each barrier of the sharing (that of
# icache_inval_all_pou() has a separate test), without the bound of the wait, and without the owner's
# exclusive right to its number.
epoch=arch/arm64/kvm/icache/epoch.rs
# misses SED WHAT: checks that the exploration fails when SED is applied to epoch.rs.
misses() {
	local noticed=failed

	rm -rf "$work/broken"
	mkdir -p "$work/broken"
	(cd "$top" && cp -r --parents arch/arm64/kvm/icache "$work/broken")
	sed -i "$1" "$work/broken/$epoch"
	if cmp -s "$top/$epoch" "$work/broken/$epoch"; then
		echo "pure.sh: $1 does not match in $epoch" >&2
	elif ! SYSREG_CONSTS=$work/consts.rs rustc --edition 2021 -O -L "$work" --extern kernel --test "$work/broken/arch/arm64/kvm/icache/tests.rs" -o "$work/broken/icache" 2> "$work/broken/out"; then
		cat "$work/broken/out" >&2
	elif ! "$work/broken/icache" every_interleaving > "$work/broken/out" 2>&1; then
		! grep -q '^test .*every_interleaving_of_three_requests .* FAILED' "$work/broken/out" || noticed=ok
	fi
	report $noticed "icache: the exploration misses $2"
}
barriers=0
for barrier in $(grep -n 'cpu\.complete();' "$top/$epoch" | cut -d: -f1); do
	barriers=$((barriers + 1))
	misses "${barrier}d" "the barrier in line $barrier of epoch.rs"
done
[ $barriers = 2 ] || report failed "icache: there are two barriers to take away (found: $barriers)"
misses 's/for _ in 0\.\.turns {/for _ in 0..u64::from(turns) << 40 {/' "the bound of a wait"
misses 's/^        cpu\.invalidate_all();$/&\n        self.done.store_release(seen.wrapping_add(1));/' "who may raise done"
misses 's/if done > seen {/if done >= seen {/' "what started too early"
misses 's/self\.started\.change(done, /self.started.change(self.started.load_acquire(), /' "that there is one owner"

if "$top/tools/test/sysreg-consts.sh" "$top/build/tree" > "$work/consts.out" 2>&1; then
	report ok "sysreg: $(tail -n 1 "$work/consts.out")"
else
	cat "$work/consts.out" >&2
	report failed "sysreg: constants are those of C"
fi
if PYTHONPATH=$top/tools python3 -B -m unittest discover -t "$top/tools" -s "$top/tools/armature/tests" > "$work/judge.out" 2>&1 &&
	ran=$(grep -oE '^Ran [1-9][0-9]* tests' "$work/judge.out"); then
	report ok "what judges in tools/armature: $ran"
else
	cat "$work/judge.out" >&2
	report failed "what judges in tools/armature"
fi
echo "1..$n"
exit $failed

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

# boots NAME...: build what is broken, and boot these machines.
boots() {
	local boot

	AS_IT_IS=1 "$TOP/tools/build/kernel.sh" armature
	rm -rf "$BUILD/breaks"
	: > "$BUILD/breaks.out"
	for boot; do
		in_root env REPORT="$BUILD/breaks" "$TOP/tools/test/run.py" run "=$boot" >> "$BUILD/breaks.out" 2> /dev/null || true
	done
}

topology=arch/arm64/kvm/debug_topology
"$TOP/tools/build/series.sh" tree
trap restore EXIT
edit arch/arm64/kvm/hyp/icache/plan.rs 's/> max_lines/>= max_lines/'
edit arch/arm64/kernel/entry.S '/^alternative_if_not ARM64_HAS_LSE_ATOMICS/,/^alternative_else_nop_endif/d'
edit arch/arm64/kvm/nolse/policy.rs 's/(true, Policy::Auto, false) => Decision::RefuseNoFwb/(true, Policy::Auto, false) => Decision::RunContained/'
edit $topology/control.rs 's/((physical as u64) << shift)/(((physical - (physical - n)) as u64) << shift)/'
edit arch/arm64/kvm/mmu.c 's/^\t\t\t !kvm_nolse_contained() ?/\t\t\t true ?/'
# The naive SET: the register first, then the thread, and nothing to keep others away.
edit arch/arm64/kernel/memory_model.rs '/^            let _guard = local_interrupt_disable();$/{N;d}'
edit arch/arm64/kernel/memory_model.rs 's/unsafe { (&raw mut (\*me).thread.mem_model).write(model as u32) };/put_in_force(model); unsafe { (\&raw mut (*me).thread.mem_model).write(model as u32) };/; /^            put_in_force(model);$/d'
boots kunit-n1 nolse-mte nolse-policy-n1-auto nolse-uncached-vhe debug_topology-vhe debug_topology-nested mem_model-stress
noticed kunit-n1 "kunit/kvm_arm64_icache/bound_of_this_machine" "bound off by one"
noticed nolse-mte "executed/el 2 atomics == 0" "STSET left in entry.S"
noticed nolse-policy-n1-auto "no-kvm" "FEAT_S2FWB not checked"
noticed nolse-policy-n1-auto "console/has: arm64.nolse_atomics needs" "FEAT_S2FWB not checked"
noticed nolse-uncached-vhe "nolse_uncached/the guest has Device memory" "Non-cacheable memory left to guests"
noticed mem_model-stress "stress/while being moved" "SET without a guard"
noticed debug_topology-vhe "debug_topology/4/2: linked address match, every pair" "LBN left untranslated"
noticed debug_topology-vhe "debug_topology/4/2: the tracepoint has the translated link" "LBN left untranslated"
noticed debug_topology-vhe "oracle-4-2" "LBN left untranslated"
noticed debug_topology-nested "nested/CPU1: L2's linked breakpoint fires at EL1" "LBN left untranslated"

# One at a time: each of these hides the others.
git -C "$tree" checkout -q -f
edit $topology/topology.rs 's/Some(n + (self.cpu.breakpoints - self.vm.breakpoints))/Some(n + (self.cpu.breakpoints - self.vm.breakpoints) - 1)/'
# And with it what has nothing to do with breakpoints: one CPU asked in place of all, and nothing counted at EL2.
edit arch/arm64/kvm/nolse.rs 's/^        system_has(cpucap!(HAS_STAGE2_FWB)),$/        CpuId::from_u32(0).and_then(recorded::<ID_AA64MMFR2_EL1>).is_some_and(|r| r.FWB() == ID_AA64MMFR2_EL1_FWB_IMP),/'
edit arch/arm64/kvm/hyp/nvhe/icache.rs 's/wrapping_add(1)/wrapping_add(0)/'
boots debug_topology-vhe nolse-policy-fwb-on-off icache-512M-4k
noticed nolse-policy-fwb-on-off "no-kvm" "FEAT_S2FWB of one CPU taken for that of all"
noticed icache-512M-4k "icache_bound/each request is counted once" "nothing counted at EL2"
noticed debug_topology-vhe "debug_topology/4/2: context match at the context-aware ones" "mapping off by one"
noticed debug_topology-vhe "oracle-4-2" "mapping off by one"

git -C "$tree" checkout -q -f
edit $topology.rs 's/if \*self.brps != brps {/if *self.brps == 0 {/'
boots debug_topology-mixed debug_topology-nested
noticed debug_topology-mixed "debug_topology/4/1: armed breakpoints fire wherever the vCPU goes" "image not made anew on another CPU"
noticed debug_topology-nested "nested/L2's armed breakpoints fire wherever the vCPU goes" "image not made anew on another CPU"
echo "1..$n"
exit $failed

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
edit arch/arm64/kvm/icache/plan.rs 's/> max_lines/>= max_lines/'
edit arch/arm64/kernel/entry.S '/^alternative_if_not ARM64_HAS_LSE_ATOMICS/,/^alternative_else_nop_endif/d'
edit arch/arm64/kvm/nolse/policy.rs 's/(true, Policy::Contain, false) => Decision::RefuseNoFwb/(true, Policy::Contain, false) => Decision::RunContained/'
edit $topology/translate.rs 's/Bounded::try_new(self.mapping.physical(n)? as u64)/self.mapping.physical(n).map(|_| lbn)/'
edit arch/arm64/kvm/mmu.c 's/if (s2vi->map_non_cacheable \&\& kvm_nolse/if (s2vi->map_non_cacheable \&\& !(s2vi->vm_flags \& VM_ALLOW_ANY_UNCACHED) \&\& kvm_nolse/'
# The naive SET: the register first, then the thread, and nothing to keep others away.
edit arch/arm64/kernel/memory_model/memory_model.rs '/^            let guard = local_interrupt_disable();$/d; s/^            let cpu = ThisCpu::new(&guard);$/            let cpu = unsafe { ThisCpu::assume() };/'
edit arch/arm64/kernel/memory_model/memory_model.rs 's/unsafe { (&raw mut (\*me).thread.memory_model).write(model as u32) };/switch::put(\&cpu, Register::Own, model); &/; /^            switch::put(&cpu, Register::Own, model);$/d'
boots kunit-n1 nolse-mte nolse-policy-n1-contain nolse-uncached-vhe debug_topology-vhe debug_topology-nested memory_model-stress
noticed kunit-n1 "kunit/kvm_arm64_icache/bound_of_this_machine" "bound off by one"
noticed nolse-mte "executed/el 2 atomics == 0" "STSET left in entry.S"
noticed nolse-policy-n1-contain "no-kvm" "FEAT_S2FWB not checked"
noticed nolse-policy-n1-contain "console/has: kvm-arm.nolse_policy=contain needs" "FEAT_S2FWB not checked"
noticed nolse-uncached-vhe "nolse_uncached/Normal Non-cacheable: LDADD gives EFAULT, and where" "Non-cacheable memory left to contained guests"
noticed memory_model-stress "stress/while being moved" "SET without a guard"
noticed debug_topology-vhe "debug_topology/4/2: linked address match, every pair" "LBN left untranslated"
noticed debug_topology-vhe "debug_topology/4/2: the tracepoint has the translated link" "LBN left untranslated"
noticed debug_topology-vhe "oracle-4-2" "LBN left untranslated"
noticed debug_topology-nested "nested/CPU1: L2's linked breakpoint fires at EL1" "LBN left untranslated"

# One at a time: each of these hides the others.
git -C "$tree" checkout -q -f
edit $topology/topology.rs 's/Some(n + (self.cpu.breakpoints - self.vm.breakpoints))/Some(n + (self.cpu.breakpoints - self.vm.breakpoints) - 1)/'
# And with it what has nothing to do with breakpoints: one CPU asked in place of all, and nothing counted at EL2.
edit arch/arm64/kvm/nolse/nolse.rs 's/^        system_has(cpucap!(HAS_STAGE2_FWB)),$/        CpuId::from_u32(0).and_then(recorded::<ID_AA64MMFR2_EL1>).is_some_and(|r| r.FWB() == ID_AA64MMFR2_EL1_FWB_IMP),/'
edit arch/arm64/kvm/icache/el2.rs 's/if !vcpu.is_null() {/if false {/'
boots debug_topology-vhe nolse-policy-fwb-on-off icache-512M-4k
noticed nolse-policy-fwb-on-off "no-kvm" "FEAT_S2FWB of one CPU taken for that of all"
noticed icache-512M-4k "icache_bound/each request is counted once" "nothing counted at EL2"
noticed debug_topology-vhe "debug_topology/4/2: context match at the context-aware ones" "mapping off by one"
noticed debug_topology-vhe "oracle-4-2" "mapping off by one"

git -C "$tree" checkout -q -f
edit arch/arm64/include/asm/kvm_debug_topology.h 's/vcpu->arch.debug_cpu != vcpu->cpu/vcpu->arch.debug_cpu < 0/'
boots debug_topology-mixed debug_topology-nested
noticed debug_topology-mixed "debug_topology/4/1: armed breakpoints fire wherever the vCPU goes" "image not made anew on another CPU"
noticed debug_topology-nested "nested/L2's armed breakpoints fire wherever the vCPU goes" "image not made anew on another CPU"

# Only the number of breakpoints looked at; DBGDIDR left to the CPU; what userspace writes, and a reset,
# not taken over.
git -C "$tree" checkout -q -f
edit $topology/topology.rs 's/let fewer = vm.breakpoints < cpu.breakpoints || vm.context_aware < cpu.context_aware;/let fewer = vm.breakpoints < cpu.breakpoints;/'
edit arch/arm64/include/asm/kvm_debug_topology.h 's/return vcpu->arch.debug_image && vcpu->kvm->arch.debug_topology.aarch32;/return false;/'
edit arch/arm64/kvm/sys_regs.c '/^\tkvm_debug_topology_stale(vcpu);$/d'
boots debug_topology-vhe
noticed debug_topology-vhe "debug_topology/6/1: context types are RES0 in ordinary ones" "6/1 on 6/2 not mapped"
noticed debug_topology-vhe "oracle-6-1" "6/1 on 6/2 not mapped"
noticed debug_topology-vhe "debug_topology/4/2: AArch32 at EL0 reads the VM's numbers" "DBGDIDR not trapped"
noticed debug_topology-vhe "debug_topology/4/2: what userspace writes later is in force" "KVM_SET_ONE_REG not taken over"
noticed debug_topology-vhe "debug_topology/4/2: KVM_ARM_VCPU_INIT disarms them" "a reset not taken over"

git -C "$tree" checkout -q -f
edit $topology/debug_topology.rs '/^        self.features.keep(register, self.view);$/d'
boots debug_topology-vhe
noticed debug_topology-vhe "oracle-6-2" "RES0 bits kept where KVM answers"

# I-cache: a request that waits for as long as it takes.
git -C "$tree" checkout -q -f
edit arch/arm64/kvm/icache/epoch.rs 's/for _ in 0\.\.turns {/for _ in 0..u64::from(turns) << 40 {/'
boots icache-owner
noticed icache-owner "icache_bound/one vCPU is stopped in every round, and holds up no other" "a wait without a bound"

# What a guest that is contained must not have, and a policy that nobody has stated.
git -C "$tree" checkout -q -f
edit arch/arm64/kvm/mmu.c 's/if (s2vi->map_non_cacheable \&\& kvm_nolse/if (s2vi->map_non_cacheable \&\& (s2vi->vm_flags \& VM_ALLOW_ANY_UNCACHED) \&\& kvm_nolse/'
edit arch/arm64/kvm/mmu.c '/^\tif (kvm_nolse_contained()) {$/,/^\t}$/d'
edit arch/arm64/kvm/nolse/nolse.rs '/^#.link_section = ".data..ro_after_init".$/d'
edit arch/arm64/kvm/vgic/vgic-init.c '/^\t\tvgic_v2_contain();$/s/vgic_v2_contain()/(void)vgic_v2_contain/'
edit arch/arm64/kvm/nested.c 's/resx.res0 |= kvm_nolse_hcr_res0();/resx.res0 |= 0;/'
edit arch/arm64/kvm/nolse/policy.rs 's/(true, Policy::Deny, _) => Decision::RefuseDenied/(true, Policy::Deny, _) => Decision::RunUncontained/'
boots nolse-uncached-nvhe nolse-gicv2 nolse-at kunit-protected-nolse nolse-policy-max
noticed nolse-uncached-nvhe "nolse_uncached/Device: LDADD gives EFAULT, and where" "Device memory left to contained guests"
noticed nolse-uncached-nvhe "nolse_uncached/Device: LDADD has not executed" "Device memory left to contained guests"
noticed nolse-gicv2 "nolse_gicv2/KVM_CREATE_DEVICE gives -19" "a GICv2 left to contained guests"
noticed nolse-at "nolse_nested/HCR_EL2.CD that the guest reads" "HCR_EL2.CD left to guest hypervisors"
noticed kunit-protected-nolse "kunit/kvm_arm64_nolse/cd_of_guest_hypervisors" "NVHCR_EL2.CD left to guest hypervisors"
noticed kunit-protected-nolse "kunit/kvm_arm64_nolse/device_memory_is_refused" "Device memory left to contained guests"
noticed kunit-protected-nolse "kunit/kvm_arm64_nolse/read_only_after_init" "policy and decision writable after init"
noticed nolse-policy-max "no-kvm" "a policy that nobody has stated taken for allow"

# The memory model: masking where it is read in place of where it is stored, a model that changes too
# early in a context switch, and what another kernel gets.
git -C "$tree" checkout -q -f
edit arch/arm64/kvm/sys_regs.c 's/boot_cpu_aidr_val = memory_model_visible_aidr(read_sysreg(aidr_el1));/boot_cpu_aidr_val = read_sysreg(aidr_el1);/'
edit arch/arm64/kernel/process.c '/^\tmemory_model_thread_switch(prev, next);$/d; s/^\tgcs_thread_switch(next);$/&\n\tmemory_model_thread_switch(prev, next);/'
edit arch/arm64/kernel/machine_kexec.c '/memory_model_cpu_leave();/d'
boots memory_model-vhe memory_model-order memory_model-kexec-vhe
noticed memory_model-vhe "regs/the guest and userspace read the same" "AIDR_EL1 hidden where it is read only"
noticed memory_model-order "executed/actlr_early == 0" "model changed above the DSB"
noticed memory_model-kexec-vhe "console/has not: firmware has left total store order" "kexec with the model of a thread"

git -C "$tree" checkout -q -f
edit arch/arm64/kernel/memory_model/switch.rs 's/^        cpu.complete();$//'
boots memory_model-order
noticed memory_model-order "executed/actlr_early == 0" "no DSB before the model changes"
echo "1..$n"
exit $failed

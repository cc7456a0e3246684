/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bounded invalidation of the instruction cache for guest memory.
 */

#ifndef __ARM64_KVM_ICACHE_H__
#define __ARM64_KVM_ICACHE_H__

#include <linux/types.h>

struct kvm_vm_stat;

/**
 * enum kvm_icache_result - What became of a request
 * @KVM_ICACHE_NOTHING: no invalidation was needed
 * @KVM_ICACHE_BY_LINE: the caller has to invalidate the range line by line
 * @KVM_ICACHE_ALL: all of the instruction cache has been invalidated
 * @KVM_ICACHE_ALL_SHARED: the same, by another request that this one waited for
 */
enum kvm_icache_result {
	KVM_ICACHE_NOTHING,
	KVM_ICACHE_BY_LINE,
	KVM_ICACHE_ALL,
	KVM_ICACHE_ALL_SHARED,
};

#ifdef CONFIG_KVM_ARM64_ICACHE_BOUND

#include <linux/cache.h>
#include <linux/irqflags.h>
#include <asm/alternative.h>
#include <asm/kvm_asm.h>
#include <asm/tlbflush.h>

enum kvm_icache_result __kvm_icache_request(struct kvm_vm_stat *stat, u64 ctr,
					    bool aliasing, u64 size,
					    u64 max_lines);

/* The sanitised CTR_EL0, readable in the kernel proper and at EL2. */
static __always_inline u64 kvm_icache_ctr(void)
{
	u64 ctr;

	asm volatile(ALTERNATIVE_CB("movz %0, #0\n"
				    "movk %0, #0, lsl #16\n"
				    "movk %0, #0, lsl #32\n"
				    "movk %0, #0, lsl #48\n",
				    ARM64_ALWAYS_SYSTEM,
				    kvm_compute_final_ctr_el0)
		     : "=r" (ctr));
	return ctr;
}

/**
 * kvm_icache_request() - Invalidate the instruction cache for a new mapping
 * @stat: at EL2, counters of the VM, or NULL: nothing is counted. Not used in
 *	  the kernel proper, which counts for the VM whose vCPU is running
 * @size: bytes that become executable, all of them, before any chunking
 *
 * The data must have been cleaned to the Point of Unification, by this CPU or
 * by one whose clean has completed. Does not sleep. On hardware with
 * CTR_EL0.DIC it is one patched branch.
 *
 * Return: whether the caller has to invalidate the range line by line.
 */
static __always_inline bool kvm_icache_request(struct kvm_vm_stat *stat,
					       size_t size)
{
	if (alternative_has_cap_unlikely(ARM64_HAS_CACHE_DIC))
		return false;

#ifndef __KVM_NVHE_HYPERVISOR__
	/* Others may be waiting for this CPU's invalidation */
	guard(irqsave)();
#endif
	return __kvm_icache_request(stat, kvm_icache_ctr(), icache_is_aliasing(),
				    size, MAX_DVM_OPS) == KVM_ICACHE_BY_LINE;
}

#else

static __always_inline bool kvm_icache_request(struct kvm_vm_stat *stat,
					       size_t size)
{
	return true;
}

#endif /* CONFIG_KVM_ARM64_ICACHE_BOUND */

#endif /* __ARM64_KVM_ICACHE_H__ */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Bounded invalidation of the instruction cache for guest memory.
 */

#ifndef __ARM64_KVM_ICACHE_H__
#define __ARM64_KVM_ICACHE_H__

#include <linux/cacheflush.h>
#include <linux/kvm_host.h>
#include <asm/kvm_mmu.h>

/**
 * enum kvm_icache_result - How a request was served
 * @KVM_ICACHE_NOTHING: no invalidation was needed
 * @KVM_ICACHE_BY_LINE: the caller must invalidate the range line by line
 * @KVM_ICACHE_FULL: the request executed a full invalidation
 * @KVM_ICACHE_SHARED: the request shared the full invalidation of another request
 */
enum kvm_icache_result {
	KVM_ICACHE_NOTHING,
	KVM_ICACHE_BY_LINE,
	KVM_ICACHE_FULL,
	KVM_ICACHE_SHARED,
};

#ifdef CONFIG_KVM_ARM64_ICACHE_BOUND

#include <linux/cache.h>
#include <asm/alternative.h>
#include <asm/kvm_asm.h>
#include <asm/tlbflush.h>

#ifdef __KVM_NVHE_HYPERVISOR__
#include <nvhe/pkvm.h>
#endif

enum kvm_icache_result kvm_icache_serve(u64 ctr, bool aliasing, u64 size, u64 max_lines);

/* Called by kvm_icache_serve(): icache_inval_all_pou() */
void __kvm_icache_inval_all_pou(void);
/* Emits the tracepoint; at EL2, the hypervisor event */
void kvm_icache_trace(u64 size, enum kvm_icache_result result);

static inline const char *kvm_icache_result_str(u32 result)
{
	switch (result) {
	case KVM_ICACHE_NOTHING:
		return "nothing";
	case KVM_ICACHE_BY_LINE:
		return "by line";
	case KVM_ICACHE_FULL:
		return "full";
	case KVM_ICACHE_SHARED:
		return "shared";
	}

	return "unknown";
}

/* Returns the sanitised CTR_EL0, in the kernel proper and at EL2. */
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

/*
 * Returns the vCPU on whose behalf stage 2 is changed, to count the request, or NULL. At
 * EL2 this is the host's vCPU, which the hypervisor has pinned and can write to; a VM of
 * the hypervisor's selftests has none.
 */
static inline struct kvm_vcpu *kvm_icache_vcpu(void)
{
#ifdef __KVM_NVHE_HYPERVISOR__
	struct pkvm_hyp_vcpu *hyp_vcpu = pkvm_get_loaded_hyp_vcpu();

	return hyp_vcpu ? hyp_vcpu->host_vcpu : NULL;
#else
	return kvm_get_running_vcpu();
#endif
}

/*
 * Counts a request. Only one task at a time makes a vCPU's requests. Other writers (debugfs, or in
 * protected mode a malicious host) change a number that only userspace reads.
 */
static inline void kvm_icache_count(struct kvm_vcpu *vcpu, enum kvm_icache_result result)
{
	switch (result) {
	case KVM_ICACHE_NOTHING:
		break;
	case KVM_ICACHE_BY_LINE:
		vcpu->stat.icache_by_line++;
		break;
	case KVM_ICACHE_FULL:
		vcpu->stat.icache_full++;
		break;
	case KVM_ICACHE_SHARED:
		vcpu->stat.icache_shared++;
		break;
	}
}

/* Serves, counts and traces a request of @vcpu, or of none. */
static inline enum kvm_icache_result __kvm_icache_request(struct kvm_vcpu *vcpu, size_t size)
{
	enum kvm_icache_result result;

	result = kvm_icache_serve(kvm_icache_ctr(), icache_is_aliasing(), size, MAX_DVM_OPS);
	if (vcpu)
		kvm_icache_count(vcpu, result);
	kvm_icache_trace(size, result);
	return result;
}

/**
 * kvm_icache_request() - Invalidate the instruction cache for a new mapping
 * @size: number of bytes that become executable, before the range is split
 *
 * The data must have been cleaned to the Point of Unification, by this CPU or
 * by another one whose clean has completed. Called by a task, with stage 2 locked.
 * Does not sleep, and disables neither interrupts nor preemption. With
 * CTR_EL0.DIC the request is one patched branch.
 *
 * Return: whether the caller must pass the range to kvm_icache_inval_lines().
 */
static __always_inline bool kvm_icache_request(size_t size)
{
	if (alternative_has_cap_unlikely(ARM64_HAS_CACHE_DIC))
		return false;

	return __kvm_icache_request(kvm_icache_vcpu(), size) == KVM_ICACHE_BY_LINE;
}

/* Invalidates a range line by line, after kvm_icache_request() has returned true. */
static inline void kvm_icache_inval_lines(void *va, size_t size)
{
	icache_inval_pou((unsigned long)va, (unsigned long)va + size);
}

/**
 * kvm_icache_inval_all() - Invalidate the instruction cache for all of a VM's memory
 * @vcpu: the vCPU that makes the request, its mutex held
 *
 * Makes a request of SIZE_MAX bytes; otherwise like kvm_icache_request().
 */
static __always_inline void kvm_icache_inval_all(struct kvm_vcpu *vcpu)
{
	if (alternative_has_cap_unlikely(ARM64_HAS_CACHE_DIC))
		return;

	__kvm_icache_request(vcpu, SIZE_MAX);
}

#else

static __always_inline bool kvm_icache_request(size_t size)
{
	return true;
}

#define kvm_icache_inval_lines __invalidate_icache_guest_page

static __always_inline void kvm_icache_inval_all(struct kvm_vcpu *vcpu)
{
	icache_inval_all_pou();
}

#endif /* CONFIG_KVM_ARM64_ICACHE_BOUND */

#endif /* __ARM64_KVM_ICACHE_H__ */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM on machines that must not use atomic instructions (arm64.nolse_atomics).
 */

#ifndef __ARM64_KVM_NOLSE_H__
#define __ARM64_KVM_NOLSE_H__

#include <linux/types.h>

#include <asm/sysreg.h>

struct kvm;

#ifdef CONFIG_ARM64_NOLSE_ATOMICS

int kvm_nolse_setup(char *arg);
int kvm_nolse_init(void);
bool kvm_nolse_contained(void);
void kvm_nolse_refused(struct kvm *kvm);

#else

static inline int kvm_nolse_init(void)
{
	return 0;
}

static inline bool kvm_nolse_contained(void)
{
	return false;
}

static inline void kvm_nolse_refused(struct kvm *kvm) { }

#endif /* CONFIG_ARM64_NOLSE_ATOMICS */

/*
 * Returns the bits of HCR_EL2 and NVHCR_EL2 that are RES0 for a contained guest
 * hypervisor: CD makes memory Non-cacheable whatever FWB is.
 */
static inline u64 kvm_nolse_hcr_res0(void)
{
	return kvm_nolse_contained() ? HCR_EL2_CD : 0;
}

#endif /* __ARM64_KVM_NOLSE_H__ */

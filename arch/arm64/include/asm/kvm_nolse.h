/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM on machines that go without atomic instructions (arm64.nolse_atomics).
 */

#ifndef __ARM64_KVM_NOLSE_H__
#define __ARM64_KVM_NOLSE_H__

#include <linux/types.h>

#ifdef CONFIG_ARM64_NOLSE_ATOMICS

int kvm_nolse_setup(char *arg);
int kvm_nolse_init(void);
bool kvm_nolse_contained(void);

#else

static inline int kvm_nolse_init(void)
{
	return 0;
}

static inline bool kvm_nolse_contained(void)
{
	return false;
}

#endif /* CONFIG_ARM64_NOLSE_ATOMICS */

#endif /* __ARM64_KVM_NOLSE_H__ */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Breakpoint and watchpoint registers, and their number in a VM.
 */
#ifndef SELFTEST_KVM_DEBUG_TOPOLOGY_H
#define SELFTEST_KVM_DEBUG_TOPOLOGY_H

#include <linux/bitfield.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <asm/sysreg.h>

#include "kvm_util.h"
#include "ucall_common.h"

#define BCR_E		BIT(0)
#define BCR_EL1		BIT(1)
#define BCR_PMC(n)	((u64)(n) << 1)
#define BCR_HMC		BIT(13)
#define BCR_SSC(n)	((u64)(n) << 14)
#define BCR_BAS		GENMASK(8, 5)
#define BCR_LBN(n)	((u64)(n) << 16)
#define BCR_BT(n)	((u64)(n) << 20)
#define BCR_ARMED	(BCR_BAS | BCR_EL1 | BCR_E)

#define BT_ADDRESS		0x0
#define BT_LINKED_ADDRESS	0x1
#define BT_CONTEXT		0x2
#define BT_LINKED_CONTEXT	0x3

#define WCR_BAS		GENMASK(12, 5)
#define WCR_LSC		GENMASK(4, 3)
#define WCR_WT		BIT(20)
#define WCR_MASK(n)	((u64)(n) << 24)
#define WCR_ARMED	(WCR_BAS | WCR_LSC | BCR_EL1 | BCR_E)

#define SPSR_SS		BIT(21)
#define MDSCR_SS	BIT(0)
#define MDSCR_KDE	BIT(13)
#define MDSCR_MDE	BIT(15)

#define THIS_CONTEXT	0x1234567
#define OTHER_CONTEXT	0x7654321

#define MAX_CPUS	16

#define ADDRESS_OF(label)						\
({									\
	u64 __address;							\
	asm("adrp	%0, " #label "\n\t"				\
	    "add	%0, %0, :lo12:" #label : "=r" (__address));	\
	__address;							\
})

#define DFR0	KVM_ARM64_SYS_REG(SYS_ID_AA64DFR0_EL1)
#define BVR(n)	ARM64_SYS_REG(2, 0, 0, n, 4)
#define BCR(n)	ARM64_SYS_REG(2, 0, 0, n, 5)
#define WVR(n)	ARM64_SYS_REG(2, 0, 0, n, 6)
#define WCR(n)	ARM64_SYS_REG(2, 0, 0, n, 7)

#define BRPS(dfr0)	((int)FIELD_GET(ID_AA64DFR0_EL1_BRPs, dfr0) + 1)
#define CTX_CMPS(dfr0)	((int)FIELD_GET(ID_AA64DFR0_EL1_CTX_CMPs, dfr0) + 1)
#define WRPS(dfr0)	((int)FIELD_GET(ID_AA64DFR0_EL1_WRPs, dfr0) + 1)

static inline u64 with_topology(u64 dfr0, int brps, int ctx_cmps)
{
	dfr0 &= ~(ID_AA64DFR0_EL1_BRPs | ID_AA64DFR0_EL1_CTX_CMPs);
	return dfr0 | FIELD_PREP(ID_AA64DFR0_EL1_BRPs, brps - 1) |
	       FIELD_PREP(ID_AA64DFR0_EL1_CTX_CMPs, ctx_cmps - 1);
}

/* Returns a mask of the ID_AA64DFR0_EL1 fields that userspace may write for @vm. */
static inline u64 writable_dfr0(struct kvm_vm *vm)
{
	u64 masks[KVM_ARM_FEATURE_ID_RANGE_SIZE];
	struct reg_mask_range range = { .addr = (u64)masks };

	vm_ioctl(vm, KVM_ARM_GET_REG_WRITABLE_MASKS, &range);
	return masks[KVM_ARM_FEATURE_ID_RANGE_IDX(3, 0, 0, 5, 0)];
}

/* Gets the GUEST_SYNC() at which @vcpu has stopped; any other exit fails the test. */
static inline void get_sync(struct kvm_vcpu *vcpu, struct ucall *uc)
{
	switch (get_ucall(vcpu, uc)) {
	case UCALL_SYNC:
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(*uc);
		break;
	default:
		TEST_FAIL("Unknown ucall %lu", uc->cmd);
	}
}

/* The count of breakpoints of a CPU, and of the context-aware ones among them. */
struct topology {
	int brps, ctx_cmps;
};

/* Parses "B/C[:B/C...]", a topology per CPU. Returns the number of CPUs, 0 if @list is invalid. */
static inline int parse_cpus(char *list, struct topology *cpus)
{
	int nr = 0, end;
	char *word;

	for (word = strtok(list, ":"); word; word = strtok(NULL, ":")) {
		if (nr == MAX_CPUS ||
		    sscanf(word, "%d/%d%n", &cpus[nr].brps, &cpus[nr].ctx_cmps, &end) != 2 ||
		    word[end] || cpus[nr].brps < 2 || cpus[nr].brps > 16 ||
		    cpus[nr].ctx_cmps < 1 || cpus[nr].ctx_cmps > cpus[nr].brps)
			return 0;
		nr++;
	}

	return nr;
}

#endif /* SELFTEST_KVM_DEBUG_TOPOLOGY_H */

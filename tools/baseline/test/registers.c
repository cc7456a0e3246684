// SPDX-License-Identifier: GPL-2.0
/*
 * Prints what a VMM that moves VMs sees of a vCPU, before it has run: a line for each register in
 * the list (KVM_GET_REG_LIST), with its value if that describes the CPU, for vCPUs as several VMMs
 * make them. On hosts between which VMs can move, the output is the same.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#define BIT(n)	(1U << (n))

/* What vCPUs have, if the host offers it. */
static const struct {
	const char *name;
	unsigned int features;
} kinds[] = {
	/* -cpu host */
	{ "qemu", BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(KVM_ARM_VCPU_SVE) | BIT(KVM_ARM_VCPU_PMU_V3) |
		  BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) | BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC) },
	/* -cpu host,pmu=off */
	{ "qemu-nopmu", BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(KVM_ARM_VCPU_SVE) |
		  BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) | BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC) },
	/* Its default; --pmu */
	{ "kvmtool", BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(KVM_ARM_VCPU_SVE) |
		  BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) | BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC) },
	{ "kvmtool-pmu", BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(KVM_ARM_VCPU_PMU_V3) },
	{ "firecracker", BIT(KVM_ARM_VCPU_PSCI_0_2) },
};

static const struct {
	int cap;
	unsigned int features;
} offers[] = {
	{ KVM_CAP_ARM_SVE, BIT(KVM_ARM_VCPU_SVE) },
	{ KVM_CAP_ARM_PMU_V3, BIT(KVM_ARM_VCPU_PMU_V3) },
	{ KVM_CAP_ARM_PTRAUTH_ADDRESS, BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) },
	{ KVM_CAP_ARM_PTRAUTH_GENERIC, BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC) },
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int need(const char *what, int result)
{
	if (result < 0)
		fail(what);
	return result;
}

/* Returns whether the value is that of a CPU, and not of one that has been reset. */
static bool describes(uint64_t id)
{
	unsigned int reg = id & 0xffff;

	switch (id & KVM_REG_ARM_COPROC_MASK) {
	case KVM_REG_ARM_DEMUX:
	case KVM_REG_ARM_FW:
	case KVM_REG_ARM_FW_FEAT_BMAP:
		return true;
	case KVM_REG_ARM64_SVE:
		return id == KVM_REG_ARM64_SVE_VLS;
	case KVM_REG_ARM64_SYSREG:
		/* Op0 3, CRn 0: identification, except MPIDR_EL1 and CSSELR_EL1; and PMCR_EL0 */
		return ((reg & 0xc780) == 0xc000 && reg != 0xc005 && reg != 0xd000) ||
		       reg == 0xdce0;
	default:
		return false;
	}
}

static uint64_t value_of(int vcpu, uint64_t id)
{
	uint64_t value[32] = { 0 };
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)value };

	need("KVM_GET_ONE_REG", ioctl(vcpu, KVM_GET_ONE_REG, &reg));
	return value[0];
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print(const char *kind, int vcpu)
{
	struct kvm_reg_list count = { .n = 0 }, *list;

	ioctl(vcpu, KVM_GET_REG_LIST, &count);
	list = malloc(sizeof(*list) + count.n * sizeof(list->reg[0]));
	list->n = count.n;
	need("KVM_GET_REG_LIST", ioctl(vcpu, KVM_GET_REG_LIST, list));
	qsort(list->reg, list->n, sizeof(list->reg[0]), by_id);
	for (uint64_t i = 0; i < list->n; i++) {
		printf("%s %#llx", kind, list->reg[i]);
		if (describes(list->reg[i]))
			printf(" %#llx", (unsigned long long)value_of(vcpu, list->reg[i]));
		putchar('\n');
	}
	free(list);
}

int main(void)
{
	int kvm = need("/dev/kvm", open("/dev/kvm", O_RDWR));

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };
		int vm = need("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));
		int vcpu = need("KVM_CREATE_VCPU", ioctl(vm, KVM_CREATE_VCPU, 0));
		int sve = KVM_ARM_VCPU_SVE;

		init.features[0] = kinds[i].features;
		for (unsigned int n = 0; n < sizeof(offers) / sizeof(*offers); n++)
			if (ioctl(vm, KVM_CHECK_EXTENSION, offers[n].cap) <= 0)
				init.features[0] &= ~offers[n].features;
		need("KVM_ARM_VCPU_INIT", ioctl(vcpu, KVM_ARM_VCPU_INIT, &init));
		if (init.features[0] & BIT(KVM_ARM_VCPU_SVE))
			need("KVM_ARM_VCPU_FINALIZE", ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &sve));
		print(kinds[i].name, vcpu);
	}
	return 0;
}

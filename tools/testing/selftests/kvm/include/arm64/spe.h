/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The SPU of a VM, for tests: where it is, and how a VM gets it.
 */

#ifndef SELFTEST_KVM_ARM64_SPE_H
#define SELFTEST_KVM_ARM64_SPE_H

#include <sched.h>
#include <asm/kvm_spe.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"

#define SPE_PPI	21

/* The unit: its perf type, a CPU that has it, and one that lacks it or -1 */
static int unit_type, right_cpu = -1, wrong_cpu = -1;

static inline int read_number(const char *device, const char *file, const char *format, int *value)
{
	char path[256];
	FILE *stream;
	int n;

	snprintf(path, sizeof(path), "/sys/bus/event_source/devices/%s/%s", device, file);
	stream = fopen(path, "r");
	if (!stream)
		return 0;

	n = fscanf(stream, format, value);
	fclose(stream);
	return n;
}

static inline void find_unit(void)
{
	cpu_set_t cpus;
	char list[256];
	FILE *stream;
	int first, last;

	if (read_number("arm_spe_0", "type", "%d", &unit_type) != 1)
		ksft_exit_skip("there is no arm_spe_0\n");

	stream = fopen("/sys/bus/event_source/devices/arm_spe_0/cpumask", "r");
	TEST_ASSERT(stream && fgets(list, sizeof(list), stream), "arm_spe_0 has no cpumask");
	fclose(stream);
	CPU_ZERO(&cpus);
	for (char *part = strtok(list, ",\n"); part; part = strtok(NULL, ",\n")) {
		int found = sscanf(part, "%d-%d", &first, &last);

		if (found < 2)
			last = first;
		while (first <= last)
			CPU_SET(first++, &cpus);
	}
	for (int cpu = sysconf(_SC_NPROCESSORS_ONLN) - 1; cpu >= 0; cpu--) {
		if (CPU_ISSET(cpu, &cpus))
			right_cpu = cpu;
		else
			wrong_cpu = cpu;
	}
}

static inline int set_attr(struct kvm_vcpu *vcpu, u64 attr, int value)
{
	return __vcpu_device_attr_set(vcpu, KVM_ARM_VCPU_SPE_CTRL, attr, &value);
}

static inline int set_irq(struct kvm_vcpu *vcpu, int irq)
{
	return set_attr(vcpu, KVM_ARM_VCPU_SPE_IRQ, irq);
}

static inline int set_spu(struct kvm_vcpu *vcpu, int type)
{
	return set_attr(vcpu, KVM_ARM_VCPU_SPE_SPU, type);
}

static inline int init(struct kvm_vcpu *vcpu)
{
	return set_attr(vcpu, KVM_ARM_VCPU_SPE_INIT, 0);
}

#endif /* SELFTEST_KVM_ARM64_SPE_H */

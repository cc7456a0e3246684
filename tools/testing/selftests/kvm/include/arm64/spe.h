/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The SPU of a VM, for tests: where it is, how a VM gets it, and how a guest profiles itself.
 *
 * Records have 64 bytes: tests that read them need a unit whose PMSIDR_EL1 says so, as the machine
 * model's does.
 */

#ifndef SELFTEST_KVM_ARM64_SPE_H
#define SELFTEST_KVM_ARM64_SPE_H

#include <sched.h>
#include <string.h>
#include <asm/kvm_spe.h>

#include "kselftest.h"
#include "gic.h"
#include "kvm_util.h"
#include "processor.h"

#define SPE_PPI	21
#define RECORD	64

/* A sample every 257 operations: PMSIRR_EL1.INTERVAL is 1. */
#define INTERVAL	BIT(8)
#define PERIOD		257

/* Packets: Statistical Profiling Extension protocol packet headers */
#define PACKET_ADDRESS_PC	0xb0
#define PACKET_TIMESTAMP	0x71
#define PACKET_END		0x01

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

/*
 * Guest
 */

static u64 interrupts, status, pointer;

/* 4 instructions a turn, and one to return */
#define LOOP_BYTES	20

void loop(u64 turns);
asm(".pushsection .text\n"
	"loop:\n"
	"1:	add	x1, x1, #1\n"
	"	nop\n"
	"	subs	x0, x0, #1\n"
	"	b.ne	1b\n"
	"	ret\n"
	".popsection\n");

static inline void psb_csync(void)
{
	asm volatile("hint #17" : : : "memory");
}

static inline void guest_irq(struct ex_regs *regs)
{
	unsigned int irq = gic_get_and_ack_irq();

	if (irq == IAR_SPURIOUS)
		return;

	GUEST_ASSERT_EQ(irq, SPE_PPI);
	WRITE_ONCE(interrupts, interrupts + 1);
	WRITE_ONCE(status, read_sysreg_s(SYS_PMBSR_EL1));
	WRITE_ONCE(pointer, read_sysreg_s(SYS_PMBPTR_EL1));
	write_sysreg_s(0, SYS_PMBLIMITR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	gic_set_eoi(irq);
}

/* All operations are samples, one in PERIOD. */
static inline void set_up_unit(void)
{
	gic_init(GIC_V3, 1);
	gic_irq_enable(SPE_PPI);
	local_irq_enable();
	write_sysreg_s(0, SYS_PMSCR_EL1);
	write_sysreg_s(0, SYS_PMSFCR_EL1);
	write_sysreg_s(0, SYS_PMSEVFR_EL1);
	write_sysreg_s(0, SYS_PMSLATFR_EL1);
	write_sysreg_s(INTERVAL, SYS_PMSIRR_EL1);
	write_sysreg_s(0, SYS_PMSICR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
}

static inline void start(void *where, u64 size, u64 controls)
{
	write_sysreg_s((u64)where, SYS_PMBPTR_EL1);
	write_sysreg_s(((u64)where + size) | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
	isb();
	write_sysreg_s(controls, SYS_PMSCR_EL1);
	isb();
}

/* Returns the pointer. */
static inline u64 stop_at(void)
{
	u64 end;

	write_sysreg_s(0, SYS_PMSCR_EL1);
	isb();
	psb_csync();
	dsb(nsh);
	isb();
	end = read_sysreg_s(SYS_PMBPTR_EL1);
	write_sysreg_s(0, SYS_PMBLIMITR_EL1);
	isb();
	return end;
}

/* Returns the payload of a packet of the record, or -1. */
static inline u64 payload(const u8 *record, u8 header)
{
	for (int i = 0; i < RECORD && record[i] != PACKET_END;) {
		int size = record[i] == 0x00 ? 0 : 1 << (record[i] >> 4 & 3);
		u64 value = 0;

		memcpy(&value, record + i + 1, size);
		if (record[i] == header)
			return value;
		if (record[i] == PACKET_TIMESTAMP)
			break;
		i += 1 + size;
	}
	return -1;
}

/* Says whether the record is of an instruction of loop(), at EL1. */
static inline bool in_loop(const u8 *record)
{
	u64 pc = payload(record, PACKET_ADDRESS_PC);

	return record[0] == PACKET_ADDRESS_PC && (pc >> 61 & 3) == 1 &&
	       (pc & GENMASK(47, 0)) >= ((u64)loop & GENMASK(47, 0)) &&
	       (pc & GENMASK(47, 0)) < (((u64)loop + LOOP_BYTES) & GENMASK(47, 0));
}

/* Returns a VM with @n vCPUs, which are in @vcpu and run @code. */
static inline struct kvm_vm *vm_with_spus(struct kvm_vcpu *vcpu[], void *code[], int n,
					  size_t dirty_ring)
{
	struct kvm_vm *vm = vm_create(n);
	struct kvm_vcpu_init features;

	if (dirty_ring)
		vm_enable_dirty_ring(vm, dirty_ring);
	kvm_get_default_vcpu_target(vm, &features);
	features.features[0] |= BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_PSCI_0_2);
	for (int i = 0; i < n; i++)
		vcpu[i] = aarch64_vcpu_add(vm, i, &features, code[i]);
	vm_init_descriptor_tables(vm);
	for (int i = 0; i < n; i++)
		vcpu_init_descriptor_tables(vcpu[i]);
	vm_install_exception_handler(vm, VECTOR_IRQ_CURRENT, guest_irq);
	kvm_arch_vm_finalize_vcpus(vm);
	TEST_ASSERT(!set_spu(vcpu[0], unit_type), "the unit of the VM");
	for (int i = 0; i < n; i++)
		TEST_ASSERT(!set_irq(vcpu[i], SPE_PPI) && !init(vcpu[i]), "setup of vCPU %d", i);
	return vm;
}

static inline struct kvm_vm *vm_with_spu(struct kvm_vcpu **vcpu, void *code)
{
	return vm_with_spus(vcpu, &code, 1, 0);
}

#endif /* SELFTEST_KVM_ARM64_SPE_H */

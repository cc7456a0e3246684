// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memory_regs - Check that guests see no trace of the memory model control.
 *
 * Apple CPUs advertise the control in AIDR_EL1 and have it in ACTLR_EL1. On these
 * CPUs, the values that KVM stores and returns have neither bit, whether or not the
 * host offers the control. On other CPUs the bits have another meaning, and the test
 * checks only that the guest and KVM_GET_ONE_REG agree.
 *
 *   -p	test a protected VM as well
 */
#include <linux/sizes.h>

#include "debug_topology.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define ACTLR_EnTSO		BIT(1)
#define AIDR_TSO		BIT(9)
#define MIDR_IMPLEMENTER(midr)	((midr) >> 24 & 0xff)
#define IMPLEMENTER_APPLE	0x61

#define REG_MIDR		KVM_ARM64_SYS_REG(SYS_MIDR_EL1)
#define REG_AIDR		KVM_ARM64_SYS_REG(SYS_AIDR_EL1)
#define REG_ACTLR		KVM_ARM64_SYS_REG(SYS_ACTLR_EL1)

static struct {
	u64 aidr;
	u64 actlr;
	u64 actlr_after_write;
} seen;

static void guest_code(void)
{
	for (;;) {
		seen.aidr = read_sysreg(aidr_el1);
		seen.actlr = read_sysreg(actlr_el1);
		write_sysreg(~seen.actlr, actlr_el1);
		isb();
		seen.actlr_after_write = read_sysreg(actlr_el1);
		GUEST_SYNC(0);
	}
}

static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static typeof(seen) *guest;
static bool apple;

static void make_vm(bool writable)
{
	vm = vm_create(1);
	if (writable)
		vm_enable_cap(vm, KVM_CAP_ARM_WRITABLE_IMP_ID_REGS, 0);
	vcpu = vm_vcpu_add(vm, 0, guest_code);
	kvm_arch_vm_finalize_vcpus(vm);
	guest = addr_gva2hva(vm, (gva_t)&seen);
}

static void run(void)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "the guest has not come to its end");
}

/* Returns whether the guest and userspace read the same, and the guest's write is ignored. */
static bool agree(void)
{
	run();
	return guest->aidr == vcpu_get_reg(vcpu, REG_AIDR) &&
	       guest->actlr == vcpu_get_reg(vcpu, REG_ACTLR) &&
	       guest->actlr == guest->actlr_after_write;
}

static bool hidden(void)
{
	return !apple || (!(guest->aidr & AIDR_TSO) && !(guest->actlr & ACTLR_EnTSO));
}

static void test_as_created(void)
{
	bool agrees = true, hides = true;
	int cpu;

	make_vm(false);
	apple = MIDR_IMPLEMENTER(vcpu_get_reg(vcpu, REG_MIDR)) == IMPLEMENTER_APPLE;
	for (cpu = 0; cpu < sysconf(_SC_NPROCESSORS_ONLN); cpu++) {
		pin_self_to_cpu(cpu);
		/* The guest reads this CPU's AIDR_EL1, userspace reads the boot CPU's */
		agrees &= agree() || (!apple && cpu);
		hides &= hidden();
	}
	ksft_test_result(agrees, "the guest and userspace read the same\n");
	ksft_test_result(hides, "neither has the bits, on any CPU\n");
	pin_self_to_cpu(0);
}

/* KVM accepts registers with the bits, as saved by a kernel that shows them. */
static void test_old_stream(void)
{
	u64 aidr = vcpu_get_reg(vcpu, REG_AIDR);

	ksft_test_result(!apple || !__vcpu_set_reg(vcpu, REG_AIDR, aidr | AIDR_TSO),
			 "AIDR_EL1 with the bit is accepted\n");
	ksft_test_result(agree() && hidden() && guest->aidr == aidr, "and stays without it\n");
	ksft_test_result(__vcpu_set_reg(vcpu, REG_AIDR, aidr ^ 1) == -1 && errno == EINVAL,
			 "AIDR_EL1 with another bit is refused\n");
	ksft_test_result(!__vcpu_set_reg(vcpu, REG_ACTLR, 0x6),
			 "ACTLR_EL1 with the bit is accepted\n");
	ksft_test_result(agree() && hidden() && guest->actlr == (apple ? 0x4 : 0x6),
			 "and what remains is what the guest reads\n");
	kvm_vm_free(vm);
}

static void test_writable(void)
{
	if (!kvm_has_cap(KVM_CAP_ARM_WRITABLE_IMP_ID_REGS)) {
		ksft_test_result_skip("no KVM_CAP_ARM_WRITABLE_IMP_ID_REGS\n");
		return;
	}
	make_vm(true);
	vcpu_set_reg(vcpu, REG_AIDR, AIDR_TSO | 1);
	ksft_test_result(agree() && guest->aidr == (AIDR_TSO | 1),
			 "AIDR_EL1 is what the VMM writes, if it is writable\n");
	kvm_vm_free(vm);
}

/*
 * A protected VM: the test sees only the values that it stores to MMIO, and its code
 * must be in its own memory.
 */
#define CODE_GPA	SZ_1G
#define CODE_SIZE	SZ_64K
#define MMIO_GPA	SZ_16M

asm(".pushsection .text\n"
	"pvm_code:\n"
	"mov x1, #0x1000000\n"
	"mrs x0, actlr_el1\n"
	"str x0, [x1]\n"
	"mvn x0, x0\n"
	"msr actlr_el1, x0\n"
	"isb\n"
	"mrs x0, actlr_el1\n"
	"str x0, [x1]\n"
	"mrs x0, aidr_el1\n"
	"str x0, [x1]\n"
	"b .\n"
	"pvm_code_end:\n"
	".popsection\n");

static u64 next_store(int fd, struct kvm_run *run)
{
	u64 value;

	TEST_ASSERT(!ioctl(fd, KVM_RUN, NULL), "KVM_RUN: errno %d", errno);
	TEST_ASSERT(run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
		    run->mmio.phys_addr == MMIO_GPA, "exit %u in place of a store",
		    run->exit_reason);
	memcpy(&value, run->mmio.data, sizeof(value));
	return value;
}

static u64 get_reg(int fd, u64 id)
{
	u64 value;
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&value };

	TEST_ASSERT(!ioctl(fd, KVM_GET_ONE_REG, &reg), "KVM_GET_ONE_REG: errno %d", errno);
	return value;
}

static void set_reg(int fd, u64 id, u64 value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (u64)&value };

	TEST_ASSERT(!ioctl(fd, KVM_SET_ONE_REG, &reg), "KVM_SET_ONE_REG: errno %d", errno);
}

static int make_pvm(int kvm, struct kvm_run **run)
{
	int vm_fd = ioctl(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED), fd;
	void *code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = CODE_GPA,
		.memory_size = CODE_SIZE,
		.userspace_addr = (u64)code,
	};
	struct kvm_vcpu_init init;

	TEST_ASSERT(vm_fd >= 0, "no protected VM: errno %d", errno);
	memcpy(code, (void *)ADDRESS_OF(pvm_code), ADDRESS_OF(pvm_code_end) - ADDRESS_OF(pvm_code));
	TEST_ASSERT(!ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &region), "memory: errno %d", errno);
	TEST_ASSERT(!ioctl(vm_fd, KVM_ARM_PREFERRED_TARGET, &init), "target: errno %d", errno);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	TEST_ASSERT(fd >= 0 && !ioctl(fd, KVM_ARM_VCPU_INIT, &init), "vCPU: errno %d", errno);
	*run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL), PROT_READ | PROT_WRITE,
		    MAP_SHARED, fd, 0);
	set_reg(fd, ARM64_CORE_REG(regs.pc), CODE_GPA);
	return fd;
}

static void test_protected(void)
{
	struct kvm_run *run;
	int fd = make_pvm(open_kvm_dev_path_or_exit(), &run);
	u64 before, after, aidr;

	set_reg(fd, REG_ACTLR, ACTLR_EnTSO);
	before = next_store(fd, run);
	after = next_store(fd, run);
	aidr = next_store(fd, run);
	ksft_test_result(!before && before == after && before == get_reg(fd, REG_ACTLR),
			 "protected: ACTLR_EL1 is 0 for the guest and for userspace\n");
	ksft_test_result((!apple || !(aidr & AIDR_TSO)) && aidr == get_reg(fd, REG_AIDR),
			 "protected: AIDR_EL1 is the same for both, and without the bit\n");
}

int main(int argc, char **argv)
{
	bool protected = argc == 2 && !strcmp(argv[1], "-p");

	ksft_print_header();
	ksft_set_plan(protected ? 10 : 8);
	test_as_created();
	test_old_stream();
	test_writable();
	if (protected)
		test_protected();
	ksft_finished();
}

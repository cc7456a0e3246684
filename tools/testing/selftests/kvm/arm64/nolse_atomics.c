// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_atomics - Check guests on a host booted with arm64.nolse_atomics, on a
 * CPU that implements FEAT_LSE.
 *
 * The ID register fields that announce atomic instructions to memory read 0 and
 * cannot be raised. A guest that uses exclusives works. The CPU cannot trap LSE
 * instructions, so a guest that executes them regardless works as well: KVM
 * runs there only if the owner of the machine has stated that this does no harm.
 *
 * nolse_uncached tests memory that stage 2 would map Normal Non-cacheable.
 */
#include <linux/bitfield.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/auxv.h>

#include <asm/hwcap.h>
#include <asm/sysreg.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define NR_VCPUS		2
#define NR_ADDS			100000UL

struct field {
	const char *name;
	u32 reg;
	u64 mask;
};

#define FIELD(_reg, _field)				\
{							\
	.name = #_reg "." #_field,			\
	.reg = SYS_##_reg,				\
	.mask = _reg##_##_field##_MASK,			\
}

static const struct field fields[] = {
	FIELD(ID_AA64ISAR0_EL1, ATOMIC),
	FIELD(ID_AA64ISAR3_EL1, LSUI),
	FIELD(ID_AA64ISAR3_EL1, LSFE),
};

static inline u64 add_lse(u64 *word, u64 addend)
{
	u64 old;

	asm volatile(".arch_extension lse\n\t"
		     "ldadd %2, %0, %1"
		     : "=r" (old), "+Q" (*word) : "r" (addend) : "memory");

	return old;
}

/* Guest */

static u64 guest_word;

static void guest_read_regs(void)
{
	GUEST_SYNC2(read_sysreg_s(SYS_ID_AA64ISAR0_EL1), read_sysreg_s(SYS_ID_AA64ISAR3_EL1));
	GUEST_DONE();
}

static void guest_add_exclusive(u64 *word)
{
	u32 failed;
	u64 tmp;

	do {
		asm volatile("ldxr %0, %2\n\t"
			     "add %0, %0, #1\n\t"
			     "stxr %w1, %0, %2"
			     : "=&r" (tmp), "=&r" (failed), "+Q" (*word) : : "memory");
	} while (failed);
}

static void guest_exclusives(void)
{
	u64 i;

	for (i = 0; i < NR_ADDS; i++)
		guest_add_exclusive(&guest_word);
	GUEST_DONE();
}

static void guest_lse(void)
{
	u64 i;

	for (i = 0; i < NR_ADDS; i++)
		add_lse(&guest_word, 1);
	GUEST_DONE();
}

/* Host */

static void run_to_done(struct kvm_vcpu *vcpu, struct ucall *sync)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			TEST_ASSERT(sync, "Unexpected sync");
			*sync = uc;
			break;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		case UCALL_DONE:
			return;
		default:
			TEST_FAIL("Unexpected ucall %lu", uc.cmd);
		}
	}
}

static u64 get_field(struct kvm_vcpu *vcpu, const struct field *f)
{
	return (vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(f->reg)) & f->mask) >> __ffs(f->mask);
}

static int set_field(struct kvm_vcpu *vcpu, const struct field *f, u64 val)
{
	u64 reg = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(f->reg)) & ~f->mask;

	return __vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(f->reg), reg | val << __ffs(f->mask));
}

/* Returns the first value above 0 that is not refused with EINVAL, or 0. */
static u64 first_raised(struct kvm_vcpu *vcpu, const struct field *f)
{
	u64 val;

	for (val = 1; val <= f->mask >> __ffs(f->mask); val++)
		if (!set_field(vcpu, f, val) || errno != EINVAL || get_field(vcpu, f))
			return val;

	return 0;
}

#define NR_FIELD_FACTS		3

static void test_field(struct kvm_vcpu *vcpu, const struct field *f, const char *who)
{
	u64 val = get_field(vcpu, f), raised;

	if (val)
		ksft_print_msg("%s reads %lu\n", f->name, val);
	ksft_test_result(!val, "%s: %s reads 0\n", who, f->name);
	ksft_test_result(!set_field(vcpu, f, 0) && !get_field(vcpu, f),
			 "%s: %s accepts 0\n", who, f->name);

	raised = first_raised(vcpu, f);
	if (raised)
		ksft_print_msg("%s = %lu was not refused with EINVAL\n", f->name, raised);
	ksft_test_result(!raised, "%s: %s above 0 gives EINVAL\n", who, f->name);
}

/*
 * A writable field stays writable: a VMM that hides the feature on a host that
 * has it, to migrate to this host, must find the same mask on both.
 */
static void test_mask(struct kvm_vcpu *vcpu, const struct field *f)
{
	u64 masks[KVM_ARM_FEATURE_ID_RANGE_SIZE] = {};
	struct reg_mask_range range = { .addr = (u64)masks };
	int idx = KVM_ARM_FEATURE_ID_RANGE_IDX(sys_reg_Op0(f->reg), sys_reg_Op1(f->reg),
					       sys_reg_CRn(f->reg), sys_reg_CRm(f->reg),
					       sys_reg_Op2(f->reg));

	vm_ioctl(vcpu->vm, KVM_ARM_GET_REG_WRITABLE_MASKS, &range);
	ksft_test_result((masks[idx] & f->mask) == f->mask,
			 "VM: %s is in the writable mask\n", f->name);
}

static void test_vm_fields(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_read_regs);
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		test_field(vcpu, &fields[i], "VM");
		test_mask(vcpu, &fields[i]);
	}
	kvm_vm_free(vm);
}

static void test_guest_fields(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_read_regs);
	struct ucall uc = {};
	u64 val;
	int i;

	run_to_done(vcpu, &uc);
	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		val = uc.args[fields[i].reg == SYS_ID_AA64ISAR3_EL1];
		ksft_test_result(!(val & fields[i].mask), "guest: %s reads 0\n", fields[i].name);
	}
	kvm_vm_free(vm);
}

/* The library cannot create protected VMs: this VM has no memory and never runs. */
static bool create_protected(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init;
	int kvm = open_kvm_dev_path_or_exit();

	vm->fd = ioctl(kvm, KVM_CREATE_VM, (void *)KVM_VM_TYPE_ARM_PROTECTED);
	close(kvm);
	if (vm->fd < 0)
		return false;

	vcpu->vm = vm;
	vcpu->fd = __vm_ioctl(vm, KVM_CREATE_VCPU, (void *)0UL);
	TEST_ASSERT_VM_VCPU_IOCTL(vcpu->fd >= 0, KVM_CREATE_VCPU, vcpu->fd, vm);
	vm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_PSCI_0_2);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);

	return true;
}

static void test_protected_fields(void)
{
	struct kvm_vcpu vcpu = {};
	struct kvm_vm vm = {};
	int i;

	if (!create_protected(&vm, &vcpu)) {
		for (i = 0; i < NR_FIELD_FACTS * ARRAY_SIZE(fields); i++)
			ksft_test_result_skip("protected VM: not a pKVM host\n");
		return;
	}

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		test_field(&vcpu, &fields[i], "protected VM");
	close(vcpu.fd);
	close(vm.fd);
}

static void *vcpu_thread(void *vcpu)
{
	run_to_done(vcpu, NULL);
	return NULL;
}

/* Returns the word after every vCPU has added NR_ADDS to it. */
static u64 run_adders(void *guest_code)
{
	struct kvm_vcpu *vcpus[NR_VCPUS];
	pthread_t threads[NR_VCPUS];
	struct kvm_vm *vm;
	int i;

	guest_word = 0;
	vm = vm_create_with_vcpus(NR_VCPUS, guest_code, vcpus);
	vm_init_descriptor_tables(vm);
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_init_descriptor_tables(vcpus[i]);
		TEST_ASSERT(!pthread_create(&threads[i], NULL, vcpu_thread, vcpus[i]),
			    "pthread_create() failed");
	}
	for (i = 0; i < NR_VCPUS; i++)
		pthread_join(threads[i], NULL);
	sync_global_from_guest(vm, guest_word);
	kvm_vm_free(vm);

	return guest_word;
}

static sigjmp_buf no_lse;

static void sigill(int sig)
{
	siglongjmp(no_lse, 1);
}

static bool cpu_has_lse(void)
{
	struct sigaction sa = { .sa_handler = sigill }, old;
	u64 word = 0;
	bool has;

	sigaction(SIGILL, &sa, &old);
	has = !sigsetjmp(no_lse, 1);
	if (has)
		add_lse(&word, 1);
	sigaction(SIGILL, &old, NULL);

	return has;
}

int main(void)
{
	ksft_print_header();

	if (!cpu_has_lse())
		ksft_exit_skip("CPU without FEAT_LSE, nothing to hide\n");
	if (getauxval(AT_HWCAP) & HWCAP_ATOMICS)
		ksft_exit_skip("the kernel uses FEAT_LSE (no arm64.nolse_atomics)\n");

	test_disable_default_vgic();
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_ARM_SUPPORTED_REG_MASK_RANGES));

	ksft_set_plan((2 * NR_FIELD_FACTS + 2) * ARRAY_SIZE(fields) + 2);

	test_vm_fields();
	test_guest_fields();
	test_protected_fields();

	ksft_test_result(run_adders(guest_exclusives) == NR_VCPUS * NR_ADDS,
			 "guest: exclusives on %d vCPUs add up\n", NR_VCPUS);
	ksft_test_result(run_adders(guest_lse) == NR_VCPUS * NR_ADDS,
			 "guest: LDADD to Normal Cacheable memory still executes\n");

	ksft_finished();
}

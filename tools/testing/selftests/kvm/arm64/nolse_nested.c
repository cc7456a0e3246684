// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_nested - Check that a contained guest hypervisor (kvm-arm.nolse_policy=contain)
 * cannot make its guest's memory Non-cacheable with HCR_EL2.CD, which FEAT_S2FWB does
 * not override: the bit must be RES0.
 *
 * A KUnit test in arch/arm64/kvm/nolse/nolse.rs covers NVHCR_EL2.CD, since user space
 * cannot reach that register on a CPU without FEAT_NV3.
 *
 *   nolse_nested [res0|kept]	whether the bit must be RES0 or kept; by default as
 *				the command line asks for
 */
#include <string.h>

#include <asm/sysreg.h>

#include "../../arm64/nolse/nolse_state.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

/* ID affects only instruction fetches, which are not atomics, and must be kept. */
#define BITS	(HCR_EL2_CD | HCR_EL2_ID)

static void guest_code(void)
{
	write_sysreg(read_sysreg(hcr_el2) | BITS, hcr_el2);
	GUEST_SYNC(0);
	/* Until the next exit, the register is memory that keeps all bits (FEAT_NV2). */
	GUEST_SYNC1(read_sysreg(hcr_el2) & BITS);
	GUEST_DONE();
}

static u64 hcr_el2_of(struct kvm_vcpu *vcpu)
{
	return vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_HCR_EL2)) & BITS;
}

/* Returns whether the bit must be RES0: as the argument says, or the command line. */
static bool must_be_res0(int argc, char **argv)
{
	bool res0 = argc == 2 ? !strcmp(argv[1], "res0") : nolse_contained_by_cmdline();

	if (argc == 1 && !res0) {
		ksft_print_header();
		ksft_exit_skip("res0, or kept: the command line does not say\n");
	}
	if (argc > 2 || (argc == 2 && !res0 && strcmp(argv[1], "kept"))) {
		fprintf(stderr, "usage: %s [res0|kept]\n", argv[0]);
		exit(KSFT_FAIL);
	}
	return res0;
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu_init init;

	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_HAS_EL2);
	*vcpu = aarch64_vcpu_add(vm, 0, &init, guest_code);
	kvm_arch_vm_finalize_vcpus(vm);
	return vm;
}

int main(int argc, char **argv)
{
	u64 expected = must_be_res0(argc, argv) ? HCR_EL2_ID : BITS;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;

	ksft_print_header();
	if (!kvm_check_cap(KVM_CAP_ARM_EL2))
		ksft_exit_skip("no guest can have an EL2\n");
	ksft_set_plan(3);

	vm = create_vm(&vcpu);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "No sync");
	ksft_print_msg("HCR_EL2.{CD,ID} is 0x%lx\n", hcr_el2_of(vcpu));
	ksft_test_result(hcr_el2_of(vcpu) == expected, "HCR_EL2.CD that the guest has set\n");

	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "No sync");
	ksft_test_result(uc.args[0] == expected, "HCR_EL2.CD that the guest reads\n");

	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_HCR_EL2),
		     vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_HCR_EL2)) | BITS);
	ksft_test_result(hcr_el2_of(vcpu) == expected, "HCR_EL2.CD that user space has set\n");
	kvm_vm_free(vm);
	ksft_finished();
}

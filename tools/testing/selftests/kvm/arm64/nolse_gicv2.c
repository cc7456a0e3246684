// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_gicv2 - Check that a contained guest (arm64.nolse_atomics with
 * kvm-arm.nolse_policy=contain) gets no GICv2 on a host that would map the virtual CPU
 * interface for it, which is Device memory.
 *
 *   nolse_gicv2 [refused|offered]	whether KVM must refuse or offer a GICv2; by default
 *					"refused" if the command line says contain
 */
#include <string.h>

#include "../../arm64/nolse/nolse_state.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define DIST_BASE	0x8000000ULL
#define CPU_BASE	0x8010000ULL

/* Calls KVM_CREATE_DEVICE. Returns 0, or a negative errno. */
static int create_device(struct kvm_vm *vm, u32 flags, int *fd)
{
	struct kvm_create_device device = {
		.type = KVM_DEV_TYPE_ARM_VGIC_V2,
		.flags = flags,
	};
	int ret = __vm_ioctl(vm, KVM_CREATE_DEVICE, &device);

	*fd = device.fd;
	return ret ? -errno : 0;
}

static void guest_code(void)
{
	GUEST_DONE();
}

/* Returns whether the first vCPU runs, which makes KVM map the interface. */
static bool runs_with_one(struct kvm_vm *vm, struct kvm_vcpu *vcpu, int gic)
{
	u64 dist = DIST_BASE, cpu = CPU_BASE;
	struct ucall uc;

	kvm_device_attr_set(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_DIST, &dist);
	kvm_device_attr_set(gic, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_CPU, &cpu);
	kvm_device_attr_set(gic, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);

	return !__vcpu_run(vcpu) && get_ucall(vcpu, &uc) == UCALL_DONE;
}

static void result(int ret, int expected, const char *what)
{
	if (ret != expected)
		ksft_print_msg("%s gives %d\n", what, ret);
	ksft_test_result(ret == expected, "%s gives %d\n", what, expected);
}

static void test(bool contained)
{
	int expected = contained ? -ENODEV : 0, ret, fd;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	ret = create_device(vm, KVM_CREATE_DEVICE_TEST, &fd);
	result(ret, expected, "KVM_CREATE_DEVICE_TEST");
	ret = create_device(vm, 0, &fd);
	result(ret, expected, "KVM_CREATE_DEVICE");
	if (contained)
		ksft_test_result(!__vcpu_run(vcpu), "a guest runs without\n");
	else
		ksft_test_result(!ret && runs_with_one(vm, vcpu, fd), "a guest runs with it\n");
	kvm_vm_free(vm);

	vm = vm_create(1);
	ret = __vm_ioctl(vm, KVM_CREATE_IRQCHIP, NULL) ? -errno : 0;
	result(ret, expected, "KVM_CREATE_IRQCHIP");
	kvm_vm_free(vm);
}

int main(int argc, char **argv)
{
	bool contained = argc == 2 ? !strcmp(argv[1], "refused") : nolse_contained_by_cmdline();

	ksft_print_header();
	if (argc == 1 && !contained)
		ksft_exit_skip("refused, or offered: the command line does not say\n");
	if (argc > 2 || (argc == 2 && !contained && strcmp(argv[1], "offered")))
		ksft_exit_fail_msg("usage: %s [refused|offered]\n", argv[0]);

	test_disable_default_vgic();
	ksft_set_plan(4);
	test(contained);
	ksft_finished();
}

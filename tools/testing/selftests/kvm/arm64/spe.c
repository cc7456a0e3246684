// SPDX-License-Identifier: GPL-2.0-only
/*
 * spe - Check that a VM gets the Statistical Profiling Unit that userspace names,
 * with the errors that Documentation/virt/kvm/devices/vcpu.rst describes, and that
 * its vCPUs run only on the CPUs of that unit.
 *
 * The machine needs an arm_spe_* device. On a machine where not all CPUs have FEAT_SPE,
 * everything but KVM_RUN is done on a CPU that lacks it.
 *
 *   spe [absent|differs|hold|nested]
 *	absent	KVM must offer nothing
 *	differs	the unit's registers differ between its CPUs, so no VM can have the unit
 *	hold	keep a VM with the unit
 *	nested	VMs can have EL2, but not with the feature
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "spe.h"
#include "test_util.h"
#include "ucall.h"

#define OTHER	20

#define REG(name)	{ #name, KVM_ARM64_SYS_REG(SYS_##name) }

static const struct reg {
	const char *name;
	u64 id;
} writable[] = {
	REG(PMSCR_EL1), REG(PMSICR_EL1), REG(PMSIRR_EL1), REG(PMSFCR_EL1), REG(PMSEVFR_EL1),
	REG(PMSLATFR_EL1), REG(PMBLIMITR_EL1), REG(PMBPTR_EL1), REG(PMBSR_EL1),
}, inverted = REG(PMSNEVFR_EL1), invariant[] = {
	REG(PMSIDR_EL1), REG(PMBIDR_EL1),
};

static const u64 dfr0 = KVM_ARM64_SYS_REG(SYS_ID_AA64DFR0_EL1);

#define check(condition, ...)						\
	do {								\
		bool holds = condition;					\
									\
		if (!holds)						\
			ksft_print_msg("line %d: %s, errno %d\n", __LINE__, #condition, errno); \
		ksft_test_result(holds, __VA_ARGS__);			\
	} while (0)

static bool fails(int ret, int error)
{
	return ret == -1 && errno == error;
}

/*
 * Guest
 */

static u64 undefined;

static void guest_undefined(struct ex_regs *regs)
{
	WRITE_ONCE(undefined, undefined + 1);
	regs->pc += 4;
}

#define undefined_by(access)						\
	({								\
		u64 before = READ_ONCE(undefined);			\
									\
		access;							\
		READ_ONCE(undefined) - before;				\
	})

/* Counts the registers of FEAT_SPE that are UNDEFINED, 13 in all versions. */
static void guest_absent(void)
{
	u64 count = 0;

	count += undefined_by(read_sysreg_s(SYS_PMSCR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSICR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSIRR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSFCR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSEVFR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSLATFR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSNEVFR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSDSFR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMSIDR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMBLIMITR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMBPTR_EL1));
	count += undefined_by(read_sysreg_s(SYS_PMBSR_EL1));
	count += undefined_by(write_sysreg_s(0, SYS_PMBSR_EL1));
	GUEST_DONE();
}

/* Writes and reads registers, between visits to userspace. */
static void guest_registers(void)
{
	write_sysreg_s(0x12345600, SYS_PMSIRR_EL1);
	write_sysreg_s(0xabc0, SYS_PMBPTR_EL1);
	GUEST_SYNC(undefined);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSIRR_EL1), 0x12345600);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), 0xabc0);
	GUEST_SYNC(read_sysreg_s(SYS_PMSIDR_EL1));
	GUEST_SYNC(undefined_by(write_sysreg_s(0, SYS_PMSIDR_EL1)));
	GUEST_SYNC(undefined_by(read_sysreg_s(SYS_PMSNEVFR_EL1)));
	GUEST_SYNC(undefined_by(read_sysreg_s(SYS_PMSDSFR_EL1)));
	GUEST_DONE();
}

/* Says whether the interrupt is pending. */
static void guest_pending(void)
{
	gic_init(GIC_V3, 2);
	GUEST_SYNC(gic_irq_get_pending(SPE_PPI));
	GUEST_DONE();
}

/*
 * Host
 */

static struct kvm_vm *new_vm(struct kvm_vcpu *vcpu[2], u32 features, void *code)
{
	struct kvm_vm *vm = vm_create(2);
	struct kvm_vcpu_init init;

	vm_init_descriptor_tables(vm);
	for (int i = 0; i < 2; i++) {
		kvm_get_default_vcpu_target(vm, &init);
		init.features[0] |= features;
		vcpu[i] = aarch64_vcpu_add(vm, i, &init, code);
		vcpu_init_descriptor_tables(vcpu[i]);
	}
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_UNKNOWN, guest_undefined);
	return vm;
}

/* A VM whose vCPUs can run. */
static struct kvm_vm *ready_vm(struct kvm_vcpu *vcpu[2], void *code)
{
	struct kvm_vm *vm = vm_with_spus(vcpu, (void *[]) { code, code }, 2, 0);

	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_UNKNOWN, guest_undefined);
	return vm;
}

static bool listed(struct kvm_vcpu *vcpu, u64 id)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(vcpu);
	bool found = false;

	for (u64 i = 0; i < list->n; i++)
		found |= list->reg[i] == id;
	free(list);
	return found;
}

static u64 version(struct kvm_vcpu *vcpu)
{
	return SYS_FIELD_GET(ID_AA64DFR0_EL1, PMSVer, vcpu_get_reg(vcpu, dfr0));
}

static int set_version(struct kvm_vcpu *vcpu, u64 value)
{
	u64 old = vcpu_get_reg(vcpu, dfr0) & ~ID_AA64DFR0_EL1_PMSVer_MASK;

	return __vcpu_set_reg(vcpu, dfr0, old | FIELD_PREP(ID_AA64DFR0_EL1_PMSVer, value));
}

static void vm_features(void)
{
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = vm_create(2);

	kvm_get_default_vcpu_target(vm, &init);
	vcpu[0] = __vm_vcpu_add(vm, 0);
	vcpu[1] = __vm_vcpu_add(vm, 1);
	init.features[0] = BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_EL1_32BIT);
	check(fails(__vcpu_ioctl(vcpu[0], KVM_ARM_VCPU_INIT, &init), EINVAL),
	      "KVM_ARM_VCPU_INIT with AArch32 at EL1: EINVAL\n");
	init.features[0] = BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_HAS_EL2);
	check(fails(__vcpu_ioctl(vcpu[0], KVM_ARM_VCPU_INIT, &init), EINVAL),
	      "KVM_ARM_VCPU_INIT with EL2: EINVAL\n");
	init.features[0] = BIT(KVM_ARM_VCPU_SPE);
	check(!__vcpu_ioctl(vcpu[0], KVM_ARM_VCPU_INIT, &init), "KVM_ARM_VCPU_INIT with SPE\n");
	init.features[0] = 0;
	check(fails(__vcpu_ioctl(vcpu[1], KVM_ARM_VCPU_INIT, &init), EINVAL),
	      "one vCPU with SPE and one without: EINVAL\n");
	kvm_vm_free(vm);
}

static void without_attributes(struct kvm_vcpu *vcpu[2])
{
	int irq;

	check(fails(set_irq(vcpu[0], SPE_PPI), ENXIO), "without: IRQ: ENXIO\n");
	check(fails(set_spu(vcpu[0], unit_type), ENXIO), "without: SPU: ENXIO\n");
	check(fails(init(vcpu[0]), ENXIO), "without: INIT: ENXIO\n");
	check(fails(__vcpu_device_attr_get(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ,
					   &irq), ENXIO), "without: get IRQ: ENXIO\n");
	check(fails(__vcpu_has_device_attr(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ),
		    ENXIO), "without: KVM_HAS_DEVICE_ATTR: ENXIO\n");
}

static void without_registers(struct kvm_vcpu *vcpu[2])
{
	bool none = true;
	u64 value;

	check(version(vcpu[0]) == 0, "without: PMSVer is 0\n");
	check(fails(set_version(vcpu[0], 1), EINVAL) && !set_version(vcpu[0], 0),
	      "without: PMSVer cannot be raised\n");
	for (int i = 0; i < ARRAY_SIZE(writable); i++)
		none &= !listed(vcpu[0], writable[i].id) &&
			fails(__vcpu_get_reg(vcpu[0], writable[i].id, &value), ENOENT) &&
			fails(__vcpu_set_reg(vcpu[0], writable[i].id, 0), ENOENT);
	for (int i = 0; i < ARRAY_SIZE(invariant); i++)
		none &= !listed(vcpu[0], invariant[i].id);
	check(none && !listed(vcpu[0], inverted.id), "without: no register is listed\n");
}

/* Without the feature: neither the attributes nor the registers */
static void vm_without(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, 0, guest_absent);

	without_attributes(vcpu);
	without_registers(vcpu);
	kvm_arch_vm_finalize_vcpus(vm);
	vcpu_run(vcpu[0]);
	sync_global_from_guest(vm, undefined);
	check(get_ucall(vcpu[0], NULL) == UCALL_DONE && undefined == 13,
	      "without: every register is UNDEFINED\n");
	kvm_vm_free(vm);
}

static void choose_interrupt(struct kvm_vcpu *vcpu[2])
{
	static const int wrong[] = { -1, 0, 15, 25, 26, 27, 28, 30, 32, 1000 };
	bool all = true;
	int irq = 0;

	check(fails(__vcpu_device_attr_get(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ,
					   &irq), ENXIO), "get IRQ before it is set: ENXIO\n");
	for (int i = 0; i < ARRAY_SIZE(wrong); i++)
		all &= fails(set_irq(vcpu[0], wrong[i]), EINVAL);
	check(all, "IRQ: an SGI, an SPI, or one of timers or GIC: EINVAL\n");
	check(fails(__vcpu_device_attr_set(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ,
					   (void *)8), EFAULT), "IRQ at a bad address: EFAULT\n");
	check(!set_irq(vcpu[0], SPE_PPI), "IRQ: a PPI\n");
	check(fails(set_irq(vcpu[0], SPE_PPI), EBUSY), "IRQ a second time: EBUSY\n");
	check(fails(set_irq(vcpu[1], OTHER), EINVAL), "IRQ of another vCPU differs: EINVAL\n");
	vcpu_device_attr_get(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ, &irq);
	check(irq == SPE_PPI, "get IRQ\n");
}

/* Chooses the unit, and initialises the vCPU that has an interrupt, too early at first. */
static void choose_unit(struct kvm_vm *vm, struct kvm_vcpu *vcpu[2])
{
	check(fails(__vcpu_run(vcpu[0]), EPERM), "KVM_RUN before the SPU: EPERM\n");
	check(fails(init(vcpu[0]), ENODEV), "INIT before the GIC is: ENODEV\n");
	kvm_arch_vm_finalize_vcpus(vm);
	check(fails(init(vcpu[0]), ENXIO), "INIT without SPU: ENXIO\n");
	check(fails(set_spu(vcpu[0], unit_type + 1000), ENXIO), "SPU of no such type: ENXIO\n");
	check(fails(set_spu(vcpu[0], 1), ENXIO), "SPU of another driver: ENXIO\n");
	check(!set_spu(vcpu[0], unit_type), "SPU\n");
	check(!set_spu(vcpu[1], unit_type), "SPU again\n");
	check(fails(init(vcpu[1]), ENXIO), "INIT without IRQ: ENXIO\n");
	check(fails(__vcpu_run(vcpu[0]), EPERM), "KVM_RUN before INIT: EPERM\n");
	check(!init(vcpu[0]), "INIT\n");
	check(fails(init(vcpu[0]), EBUSY), "INIT a second time: EBUSY\n");
}

static void vm_attributes(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE), guest_registers);

	choose_interrupt(vcpu);
	choose_unit(vm, vcpu);
	check(fails(set_attr(vcpu[0], 17, 0), ENXIO), "an unknown attribute: ENXIO\n");
	check(fails(__vcpu_has_device_attr(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, 17), ENXIO),
	      "KVM_HAS_DEVICE_ATTR of an unknown one: ENXIO\n");
	check(!__vcpu_has_device_attr(vcpu[0], KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_SPU),
	      "KVM_HAS_DEVICE_ATTR\n");
	pin_self_to_cpu(right_cpu);
	vcpu_run(vcpu[0]);
	check(get_ucall(vcpu[0], NULL) == UCALL_SYNC, "and KVM_RUN: the guest has its registers\n");
	check(fails(set_spu(vcpu[1], unit_type), EBUSY), "SPU after a vCPU has run: EBUSY\n");
	kvm_vm_free(vm);
}

/* An interrupt that the PMU has already, in both orders */
static void clashes(bool pmu_first)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_PMU_V3),
				   guest_registers);
	int irq = SPE_PPI, ret[2];

	kvm_arch_vm_finalize_vcpus(vm);
	vcpu_device_attr_set(vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &irq);
	TEST_ASSERT(!set_irq(vcpu[0], SPE_PPI) && !set_spu(vcpu[0], unit_type), "setup");
	for (int i = 0; i < 2; i++)
		ret[i] = !i == pmu_first ?
			__vcpu_device_attr_set(vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
					       KVM_ARM_VCPU_PMU_V3_INIT, NULL) : init(vcpu[0]);
	check(!ret[0] && fails(ret[1], EEXIST), "the PMU's interrupt, %s first: EEXIST\n",
	      pmu_first ? "PMU" : "SPE");
	kvm_vm_free(vm);
}

static void write_registers(struct kvm_vcpu *vcpu[2], u64 newest)
{
	bool all = true;

	/* Among events, every unit has E[7]: mispredicted branches */
	for (int i = 0; i < ARRAY_SIZE(writable); i++) {
		all &= listed(vcpu[0], writable[i].id);
		vcpu_set_reg(vcpu[0], writable[i].id, BIT(7));
		all &= vcpu_get_reg(vcpu[0], writable[i].id) == BIT(7) ||
		       writable[i].id == KVM_ARM64_SYS_REG(SYS_PMSFCR_EL1) ||
		       writable[i].id == KVM_ARM64_SYS_REG(SYS_PMSIRR_EL1) ||
		       writable[i].id == KVM_ARM64_SYS_REG(SYS_PMBLIMITR_EL1);
	}
	check(all, "registers are listed, and read back\n");
	vcpu_set_reg(vcpu[0], KVM_ARM64_SYS_REG(SYS_PMBLIMITR_EL1), 0x12345fff);
	check(vcpu_get_reg(vcpu[0], KVM_ARM64_SYS_REG(SYS_PMBLIMITR_EL1)) ==
	      (newest >= 3 ? 0x12345027 : 0x12345001), "PMBLIMITR_EL1: RES0 bits\n");
}

static void read_invariant(struct kvm_vcpu *vcpu[2])
{
	for (int i = 0; i < ARRAY_SIZE(invariant); i++) {
		u64 value = vcpu_get_reg(vcpu[0], invariant[i].id);

		check(listed(vcpu[0], invariant[i].id) &&
		      !__vcpu_set_reg(vcpu[0], invariant[i].id, value) &&
		      fails(__vcpu_set_reg(vcpu[0], invariant[i].id, value ^ 1), EINVAL),
		      "%s is invariant: another value: EINVAL\n", invariant[i].name);
	}
	check(!(vcpu_get_reg(vcpu[0], KVM_ARM64_SYS_REG(SYS_PMBIDR_EL1)) & PMBIDR_EL1_P),
	      "PMBIDR_EL1.P is 0\n");
}

static void lower_version(struct kvm_vcpu *vcpu[2], u64 newest)
{
	check(listed(vcpu[0], inverted.id) == (newest >= 3), "PMSNEVFR_EL1 with FEAT_SPEv1p2\n");
	check(fails(set_version(vcpu[0], newest + 1), EINVAL), "PMSVer cannot be raised\n");
	check(!set_version(vcpu[0], 1) && version(vcpu[0]) == 1 &&
	      !listed(vcpu[0], inverted.id) &&
	      !(vcpu_get_reg(vcpu[0], invariant[0].id) & PMSIDR_EL1_FnE),
	      "PMSVer can be lowered: PMSNEVFR_EL1 and PMSIDR_EL1.FnE are gone\n");
	check(!set_version(vcpu[0], 0) && !listed(vcpu[0], writable[0].id),
	      "PMSVer can be 0: there is no register\n");
}

static void vm_registers(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE), guest_registers);
	u64 newest;

	check(version(vcpu[0]) == 0 && !listed(vcpu[0], writable[0].id),
	      "no SPU yet: PMSVer is 0, and there is no register\n");
	TEST_ASSERT(!set_spu(vcpu[0], unit_type), "SPU");
	newest = version(vcpu[0]);
	check(newest >= 1 && newest <= 3, "PMSVer is that of the unit, at most 3\n");
	write_registers(vcpu, newest);
	read_invariant(vcpu);
	lower_version(vcpu, newest);
	kvm_vm_free(vm);
}

/* Checks that a vCPU with a unit lists all registers above, and else what others list. */
static void vm_list(void)
{
	struct kvm_vcpu *vcpu[2], *other[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE), guest_registers);
	struct kvm_vm *without = new_vm(other, 0, guest_absent);
	struct kvm_reg_list *list, *less;
	u64 more;

	TEST_ASSERT(!set_spu(vcpu[0], unit_type), "SPU");
	list = vcpu_get_reg_list(vcpu[0]);
	less = vcpu_get_reg_list(other[0]);
	more = ARRAY_SIZE(writable) + ARRAY_SIZE(invariant) + listed(vcpu[0], inverted.id);
	check(list->n == less->n + more, "the list has %lu registers more\n", more);
	free(list);
	free(less);
	kvm_vm_free(vm);
	kvm_vm_free(without);
}

static u64 next_sync(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	return uc.cmd == UCALL_SYNC ? uc.args[1] : -1;
}

/* Runs a vCPU where it cannot run, and then where it can. */
static void run_elsewhere(struct kvm_vcpu *vcpu[2])
{
	if (wrong_cpu >= 0) {
		struct kvm_run *run = vcpu[0]->run;

		pin_self_to_cpu(wrong_cpu);
		check(!__vcpu_run(vcpu[0]) && run->exit_reason == KVM_EXIT_FAIL_ENTRY &&
		      run->fail_entry.hardware_entry_failure_reason ==
		      KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED && run->fail_entry.cpu == wrong_cpu,
		      "KVM_RUN on CPU %d fails, and says so\n", wrong_cpu);
	} else {
		ksft_test_result_skip("KVM_RUN on a CPU without FEAT_SPE: all have it\n");
	}
	check(vcpu_get_reg(vcpu[0], KVM_ARM64_SYS_REG(SYS_PMBPTR_EL1)) == 0xabc0,
	      "there userspace reads what the guest wrote\n");
	pin_self_to_cpu(right_cpu);
	check(next_sync(vcpu[0]) == vcpu_get_reg(vcpu[0], invariant[0].id),
	      "the guest goes on, and reads PMSIDR_EL1\n");
}

/* The line follows a PMBSR_EL1.S that userspace restores, before INIT and after it. */
static void vm_pending(void)
{
	u64 id = KVM_ARM64_SYS_REG(SYS_PMBSR_EL1);
	struct kvm_vcpu *vcpu[2];

	for (int early = 0; early < 2; early++) {
		struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE), guest_pending);

		kvm_arch_vm_finalize_vcpus(vm);
		TEST_ASSERT(!set_spu(vcpu[0], unit_type), "SPU");
		for (int i = 0; i < 2; i++) {
			TEST_ASSERT(!set_irq(vcpu[i], SPE_PPI), "IRQ");
			if (early)
				vcpu_set_reg(vcpu[i], id, i ? 0 : PMBSR_EL1_S);
			TEST_ASSERT(!init(vcpu[i]), "INIT");
			if (!early)
				vcpu_set_reg(vcpu[i], id, i ? 0 : PMBSR_EL1_S);
		}
		pin_self_to_cpu(right_cpu);
		check(next_sync(vcpu[0]) == 1 && next_sync(vcpu[1]) == 0,
		      "PMBSR_EL1.S restored %s INIT raises the interrupt\n",
		      early ? "before" : "after");
		kvm_vm_free(vm);
	}
}

static void vm_guest(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = ready_vm(vcpu, guest_registers);
	struct kvm_vcpu_init init;

	pin_self_to_cpu(right_cpu);
	check(next_sync(vcpu[0]) == 0, "a guest writes its registers\n");
	run_elsewhere(vcpu);
	check(next_sync(vcpu[0]) == 1, "which is UNDEFINED to write\n");
	check(next_sync(vcpu[0]) == (version(vcpu[0]) < 3),
	      "PMSNEVFR_EL1 is UNDEFINED before FEAT_SPEv1p2\n");
	check(next_sync(vcpu[0]) == 1, "PMSDSFR_EL1 is UNDEFINED\n");
	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_PSCI_0_2);
	if (wrong_cpu >= 0)
		pin_self_to_cpu(wrong_cpu);
	vcpu_ioctl(vcpu[0], KVM_ARM_VCPU_INIT, &init);
	check(vcpu_get_reg(vcpu[0], KVM_ARM64_SYS_REG(SYS_PMBPTR_EL1)) == 0 &&
	      version(vcpu[0]) != 0, "KVM_ARM_VCPU_INIT resets registers, and not the VM\n");
	kvm_vm_free(vm);
}

/* Gives the VM a PMU and an SPU, one of them a second time. */
static void choose_units(struct kvm_vcpu *vcpu[2], bool pmu_first)
{
	int type;

	if (read_number("armv8_pmuv3_0", "type", "%d", &type) != 1 &&
	    read_number("armv8_pmuv3", "type", "%d", &type) != 1)
		TEST_FAIL("there is no PMU");
	for (int i = 0; i < 3; i++) {
		if (!i == pmu_first)
			vcpu_device_attr_set(vcpu[0], KVM_ARM_VCPU_PMU_V3_CTRL,
					     KVM_ARM_VCPU_PMU_V3_SET_PMU, &type);
		else
			TEST_ASSERT(!set_spu(vcpu[0], unit_type), "SPU");
	}
}

static void init_units(struct kvm_vcpu *vcpu[2])
{
	int irq = 23;

	for (int i = 0; i < 2; i++) {
		vcpu_device_attr_set(vcpu[i], KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ,
				     &irq);
		vcpu_device_attr_set(vcpu[i], KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
				     NULL);
		TEST_ASSERT(!set_irq(vcpu[i], SPE_PPI) && !init(vcpu[i]), "setup");
	}
}

/* The mask of the PMU and that of the SPU, in both orders: neither undoes the other. */
static void masks(bool pmu_first)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE) | BIT(KVM_ARM_VCPU_PMU_V3),
				   guest_registers);

	kvm_arch_vm_finalize_vcpus(vm);
	choose_units(vcpu, pmu_first);
	init_units(vcpu);
	pin_self_to_cpu(right_cpu);
	check(next_sync(vcpu[0]) == 0, "CPUs of PMU and SPU, %s first: runs on CPU %d\n",
	      pmu_first ? "PMU" : "SPU", right_cpu);
	if (wrong_cpu >= 0) {
		pin_self_to_cpu(wrong_cpu);
		check(!__vcpu_run(vcpu[0]) &&
		      vcpu[0]->run->exit_reason == KVM_EXIT_FAIL_ENTRY,
		      "and not on CPU %d\n", wrong_cpu);
	} else {
		ksft_test_result_skip("and not on a CPU without FEAT_SPE: all have it\n");
	}
	kvm_vm_free(vm);
}

/* Takes a CPU offline, or brings it back. */
static void set_online(const char *path, bool online)
{
	char command[96];

	snprintf(command, sizeof(command), "echo %d > %s", online, path);
	TEST_ASSERT_EQ(system(command), 0);
}

/* The last CPU of the unit is taken offline: the vCPU stops, and goes on when it is back. */
static void cpu_offline(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = ready_vm(vcpu, guest_registers);
	char path[64];
	cpu_set_t all;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", right_cpu);
	if (wrong_cpu < 0 || wrong_cpu + 2 != sysconf(_SC_NPROCESSORS_ONLN) || access(path, W_OK)) {
		ksft_test_result_skip("the last CPU of the unit offline: it is not the last one\n");
		ksft_test_result_skip("and online again: it is not the last one\n");
	} else {
		pin_self_to_cpu(right_cpu);
		TEST_ASSERT_EQ(next_sync(vcpu[0]), 0);
		CPU_ZERO(&all);
		for (int cpu = 0; cpu < 64; cpu++)
			CPU_SET(cpu, &all);
		sched_setaffinity(0, sizeof(all), &all);
		set_online(path, false);
		check(!__vcpu_run(vcpu[0]) &&
		      vcpu[0]->run->exit_reason == KVM_EXIT_FAIL_ENTRY,
		      "the last CPU of the unit offline: KVM_RUN fails, and says so\n");
		set_online(path, true);
		pin_self_to_cpu(right_cpu);
		check(next_sync(vcpu[0]) == vcpu_get_reg(vcpu[0], invariant[0].id),
		      "and online again: the guest goes on\n");
	}
	kvm_vm_free(vm);
}

static void absent(void)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_vcpu_init init;

	ksft_set_plan(2);
	check(kvm_check_cap(KVM_CAP_ARM_SPE) == 0, "KVM_CAP_ARM_SPE is 0\n");
	kvm_get_default_vcpu_target(vm, &init);
	init.features[0] |= BIT(KVM_ARM_VCPU_SPE);
	check(fails(__vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init), EINVAL),
	      "KVM_ARM_VCPU_INIT with SPE: EINVAL\n");
	kvm_vm_free(vm);
	ksft_finished();
}

static void differs(void)
{
	struct kvm_vcpu *vcpu[2];
	struct kvm_vm *vm = new_vm(vcpu, BIT(KVM_ARM_VCPU_SPE), guest_absent);

	ksft_set_plan(4);
	check(fails(set_spu(vcpu[0], unit_type), ENXIO), "SPU of unlike CPUs: ENXIO\n");
	check(!version(vcpu[0]), "the VM does not see FEAT_SPE\n");
	kvm_arch_vm_finalize_vcpus(vm);
	check(!set_irq(vcpu[0], SPE_PPI) && fails(init(vcpu[0]), ENXIO),
	      "INIT without SPU: ENXIO\n");
	check(fails(__vcpu_run(vcpu[0]), EPERM), "KVM_RUN: EPERM\n");
	kvm_vm_free(vm);
	ksft_finished();
}

/* On a machine whose VMs can have EL2. */
static void nested(void)
{
	ksft_set_plan(5);
	check(kvm_check_cap(KVM_CAP_ARM_EL2) == 1, "VMs can have EL2\n");
	vm_features();
	ksft_finished();
}

/* Keeps a VM with the unit until a signal comes. */
static void hold(void)
{
	struct kvm_vcpu *vcpu;

	vm_with_spu(&vcpu, NULL);
	puts("held");
	fflush(stdout);
	for (;;)
		pause();
}

static void all(void)
{
	ksft_print_msg("perf type %d, CPU %d has the unit, CPU %d does not\n", unit_type,
		       right_cpu, wrong_cpu);
	ksft_set_plan(67);
	if (wrong_cpu >= 0)
		pin_self_to_cpu(wrong_cpu);
	check(kvm_check_cap(KVM_CAP_ARM_SPE) == 1, "KVM_CAP_ARM_SPE is 1\n");
	vm_features();
	vm_without();
	vm_attributes();
	if (wrong_cpu >= 0)
		pin_self_to_cpu(wrong_cpu);
	for (int i = 0; i < 2; i++)
		clashes(i);
	vm_registers();
	vm_list();
	vm_guest();
	vm_pending();
	for (int i = 0; i < 2; i++) {
		if (wrong_cpu >= 0)
			pin_self_to_cpu(wrong_cpu);
		masks(i);
	}
	cpu_offline();
	ksft_finished();
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	ksft_print_header();
	if (!strcmp(what, "absent"))
		absent();

	find_unit();
	if (!strcmp(what, "differs"))
		differs();
	if (!strcmp(what, "hold"))
		hold();
	if (!strcmp(what, "nested"))
		nested();
	all();
}

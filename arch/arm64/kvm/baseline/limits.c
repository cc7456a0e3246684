// SPDX-License-Identifier: GPL-2.0-only
/*
 * The numbers that VMs of this host have besides ID registers, for baseline.rs.
 */

#include <linux/cpufeature.h>
#include <linux/kvm_host.h>

#include <asm/fpsimd.h>
#include <asm/kvm_baseline.h>
#include <asm/kvm_emulate.h>
#include <asm/sysreg.h>

#include <kvm/arm_psci.h>

static u64 own_number(enum kvm_baseline_key key, bool ssbs)
{
	static const u64 fw_regs[] = {
		[KVM_BASELINE_PSCI] = KVM_REG_ARM_PSCI_VERSION,
		[KVM_BASELINE_WA1] = KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1,
		[KVM_BASELINE_WA2] = KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2,
		[KVM_BASELINE_WA3] = KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3,
		[KVM_BASELINE_STD_BMAP] = KVM_REG_ARM_STD_BMAP,
		[KVM_BASELINE_STD_HYP_BMAP] = KVM_REG_ARM_STD_HYP_BMAP,
		[KVM_BASELINE_VENDOR_HYP_BMAP] = KVM_REG_ARM_VENDOR_HYP_BMAP,
		[KVM_BASELINE_VENDOR_HYP_BMAP2] = KVM_REG_ARM_VENDOR_HYP_BMAP_2,
	};

	if (key < ARRAY_SIZE(fw_regs))
		return kvm_arm_default_fw_reg(fw_regs[key], ssbs);

	switch (key) {
	case KVM_BASELINE_MIDR:
		return kvm_id_reg_limit(NULL, 0, SYS_MIDR_EL1);
	case KVM_BASELINE_REVIDR:
		return kvm_id_reg_limit(NULL, 0, SYS_REVIDR_EL1);
	case KVM_BASELINE_AIDR:
		return kvm_id_reg_limit(NULL, 0, SYS_AIDR_EL1);
	case KVM_BASELINE_DCZID:
		return read_sanitised_ftr_reg(SYS_DCZID_EL0);
	case KVM_BASELINE_CNTFRQ:
		return read_sysreg(cntfrq_el0);
	case KVM_BASELINE_PMU_COUNTERS:
		return IS_ENABLED(CONFIG_HW_PERF_EVENTS) ? kvm_arm_pmu_default_counters() : 0;
	case KVM_BASELINE_SVE:
		return system_supports_sve() ? 8 * kvm_sve_max_vl : 0;
	default:
		return 0;
	}
}

static bool is_psci_version(u64 value)
{
	switch (value) {
	case KVM_ARM_PSCI_0_2:
	case KVM_ARM_PSCI_1_0:
	case KVM_ARM_PSCI_1_1:
	case KVM_ARM_PSCI_1_2:
	case KVM_ARM_PSCI_1_3:
		return true;
	default:
		return false;
	}
}

/**
 * kvm_baseline_check() - Check a number of a baseline
 * @key: the key of the number
 * @value: the number
 * @ssbs: whether VMs with the baseline see FEAT_SSBS
 * @own: where to store the number that VMs of this host have
 *
 * Return: whether VMs of this host can have the number.
 */
bool kvm_baseline_check(enum kvm_baseline_key key, u64 value, bool ssbs, u64 *own)
{
	*own = own_number(key, ssbs);

	switch (key) {
	case KVM_BASELINE_PSCI:
		return is_psci_version(value) && value <= *own;
	case KVM_BASELINE_WA2:
		/* KVM no longer reports the other levels */
		return value == KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_NOT_AVAIL || value == *own;
	case KVM_BASELINE_STD_BMAP:
	case KVM_BASELINE_STD_HYP_BMAP:
	case KVM_BASELINE_VENDOR_HYP_BMAP:
	case KVM_BASELINE_VENDOR_HYP_BMAP2:
		return !(value & ~*own);
	case KVM_BASELINE_MIDR:
		return value <= U32_MAX;
	case KVM_BASELINE_REVIDR:
	case KVM_BASELINE_AIDR:
		return true;
	case KVM_BASELINE_DCZID:
	case KVM_BASELINE_CNTFRQ:
		/* KVM cannot give a VM another value */
		return value == *own;
	case KVM_BASELINE_SVE:
		return value && value % 128 == 0 && value <= *own && sve_vq_available(value / 128);
	default:
		return value <= *own;
	}
}

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Statistical profiling in guests.
 */

#ifndef __ARM64_KVM_SPE_H__
#define __ARM64_KVM_SPE_H__

#include <linux/kvm_host.h>
#include <linux/perf/arm_spe_unit.h>

#ifdef CONFIG_KVM_ARM64_SPE

/* A VM that has no SPU accepts only 0 here, as for PMUVer. */
#define KVM_SPE_DFR0_WRITABLE	ID_AA64DFR0_EL1_PMSVer_MASK

void kvm_spe_seen(void);
bool kvm_spe_supported(void);
int kvm_spe_check_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus);
void kvm_spe_set_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus);
bool kvm_spe_has_reg(struct kvm *kvm, u32 reg);
bool kvm_spe_access(struct kvm_vcpu *vcpu, u32 reg, bool is_write, u64 *val);
int kvm_spe_get_reg(struct kvm_vcpu *vcpu, u32 reg, u64 *val);
int kvm_spe_set_reg(struct kvm_vcpu *vcpu, u32 reg, u64 val);
int __kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);

static inline int kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	guard(mutex)(&vcpu->kvm->arch.config_lock);
	return __kvm_spe_set_attr(vcpu, attr);
}

/* Notes that a vCPU cannot run on @cpu, before anything is loaded that this CPU may lack. */
static inline void kvm_spe_load_cpu(struct kvm_vcpu *vcpu, int cpu)
{
	if (vcpu->kvm->arch.spe.unit && !cpumask_test_cpu(cpu, vcpu->kvm->arch.supported_cpus))
		vcpu_set_on_unsupported_cpu(vcpu);
}

/* Returns the highest value of ID_AA64DFR0_EL1.PMSVer that @kvm may have, in place. */
static inline u64 kvm_spe_dfr0(struct kvm *kvm)
{
	return SYS_FIELD_PREP(ID_AA64DFR0_EL1, PMSVer, kvm->arch.spe.pmsver);
}

/* Returns PMSIDR_EL1 of the VM's SPU, on any CPU. */
static inline u64 kvm_spe_pmsidr(struct kvm *kvm)
{
	return kvm->arch.spe.pmsidr;
}

/* Says whether VMs may have @features together, on this machine. */
static inline bool kvm_spe_allows(unsigned long features)
{
	if (!(features & BIT(KVM_ARM_VCPU_SPE)))
		return true;

	return kvm_spe_supported() &&
	       !(features & (BIT(KVM_ARM_VCPU_EL1_32BIT) | BIT(KVM_ARM_VCPU_HAS_EL2)));
}

/* Says whether a vCPU may run; returns -EPERM before KVM_ARM_VCPU_SPE_INIT. */
static inline int kvm_spe_first_run(struct kvm_vcpu *vcpu)
{
	return vcpu_has_feature(vcpu, KVM_ARM_VCPU_SPE) && !vcpu->arch.spe.ready ? -EPERM : 0;
}

static inline void kvm_spe_reset(struct kvm_vcpu *vcpu)
{
	vcpu->arch.spe.regs = (struct kvm_spe_regs) {};
}

static inline void kvm_spe_destroy(struct kvm *kvm)
{
	if (kvm->arch.spe.unit)
		arm_spe_unit_put(kvm->arch.spe.unit);
}

#else

#define KVM_SPE_DFR0_WRITABLE	0

static inline u64 kvm_spe_dfr0(struct kvm *kvm)
{
	return 0;
}

static inline u64 kvm_spe_pmsidr(struct kvm *kvm)
{
	return read_sysreg_s(SYS_PMSIDR_EL1);
}

static inline int kvm_spe_check_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus)
{
	return 0;
}

static inline void kvm_spe_set_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus)
{
	cpumask_copy(kvm->arch.supported_cpus, cpus);
}

static inline bool kvm_spe_allows(unsigned long features)
{
	return true;
}

static inline int kvm_spe_first_run(struct kvm_vcpu *vcpu)
{
	return 0;
}

static inline int kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline int kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline int kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	return -ENXIO;
}

static inline void kvm_spe_seen(void) { }
static inline void kvm_spe_load_cpu(struct kvm_vcpu *vcpu, int cpu) { }
static inline void kvm_spe_reset(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_destroy(struct kvm *kvm) { }

#endif /* CONFIG_KVM_ARM64_SPE */

#endif /* __ARM64_KVM_SPE_H__ */

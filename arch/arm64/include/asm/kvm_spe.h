/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Statistical profiling in guests.
 */

#ifndef __ARM64_KVM_SPE_H__
#define __ARM64_KVM_SPE_H__

#include <linux/jump_label.h>
#include <linux/kvm_host.h>
#include <linux/perf/arm_spe_unit.h>

#include <asm/kvm_emulate.h>
#include <asm/kvm_hyp.h>

#ifdef CONFIG_KVM_ARM64_SPE

/* What became of the buffer of a vCPU before an entry; for the tracepoint */
enum kvm_spe_outcome {
	KVM_SPE_COMPARED,
	KVM_SPE_WALKED,
	KVM_SPE_POSTPONED,
	KVM_SPE_GONE,
};

/* Some VM has an SPU: without one, nobody tests for it. Counts these VMs. */
DECLARE_STATIC_KEY_FALSE(kvm_spe_used);

static inline void kvm_spe_add_user(void)
{
	static_branch_inc(&kvm_spe_used);
}

void kvm_spe_create_debugfs(struct kvm *kvm);
void kvm_spe_show_vcpu(struct seq_file *m, struct kvm_vcpu *vcpu);
void kvm_spe_seen(void);
bool kvm_spe_supported(void);
int kvm_spe_check_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus);
void kvm_spe_set_pmu_cpus(struct kvm *kvm, const struct cpumask *cpus);
bool kvm_spe_has_reg(struct kvm *kvm, u32 reg);
bool kvm_spe_access(struct kvm_vcpu *vcpu, u32 reg, bool is_write, u64 *val);
int kvm_spe_get_reg(struct kvm_vcpu *vcpu, u32 reg, u64 *val);
int kvm_spe_set_reg(struct kvm_vcpu *vcpu, u32 reg, u64 val);
void __kvm_spe_update(struct kvm_vcpu *vcpu);
void __kvm_spe_make_ready(struct kvm_vcpu *vcpu);
void __kvm_spe_invalidate(struct kvm *kvm, gfn_t first, gfn_t last);
bool __kvm_spe_is_watched(struct kvm *kvm, gfn_t first, gfn_t last);
bool __kvm_spe_keeps_young(struct kvm *kvm, gfn_t first, gfn_t last);
void __kvm_spe_relax(struct kvm *kvm);
void kvm_spe_reset(struct kvm_vcpu *vcpu);
void kvm_spe_destroy_vcpu(struct kvm_vcpu *vcpu);
int __kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int __kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);
int __kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr);

static inline int kvm_spe_set_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	guard(mutex)(&vcpu->kvm->arch.config_lock);
	return __kvm_spe_set_attr(vcpu, attr);
}

static inline int kvm_spe_get_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	guard(mutex)(&vcpu->kvm->arch.config_lock);
	return __kvm_spe_get_attr(vcpu, attr);
}

static inline int kvm_spe_has_attr(struct kvm_vcpu *vcpu, struct kvm_device_attr *attr)
{
	guard(mutex)(&vcpu->kvm->arch.config_lock);
	return __kvm_spe_has_attr(vcpu, attr);
}

/*
 * Before @vcpu is entered, what the unit writes next has to be made ready, and what it says has to
 * be heard.
 */
static inline void kvm_spe_request(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_SPE, vcpu);
}

/* The same for vCPUs that may run: none of their units writes when this returns. */
static inline void kvm_spe_request_of(struct kvm *kvm, unsigned long *vcpus)
{
	kvm_make_vcpus_request_mask(kvm, KVM_REQ_SPE, vcpus);
}

static inline void kvm_spe_clear_request(struct kvm_vcpu *vcpu)
{
	kvm_clear_request(KVM_REQ_SPE, vcpu);
}

/* Userspace comes first: it has a signal, or has to empty the ring of dirty pages. */
static inline bool kvm_spe_has_to_stop(struct kvm_vcpu *vcpu)
{
	return kvm_test_request(KVM_REQ_DIRTY_RING_SOFT_FULL, vcpu) || signal_pending(current);
}

static inline void kvm_spe_check_request(struct kvm_vcpu *vcpu)
{
	if (kvm_check_request(KVM_REQ_SPE, vcpu)) {
		guard(srcu)(&vcpu->kvm->srcu);
		__kvm_spe_make_ready(vcpu);
	}
}

/* Entries of stage 2 are about to get permissions, whatever older translations say. */
static inline void kvm_spe_relax(struct kvm *kvm)
{
	if (static_branch_unlikely(&kvm_spe_used) && kvm->arch.spe.unit)
		__kvm_spe_relax(kvm);
}

/* Takes over what userspace has changed. The CPU may have no unit, and none is touched here. */
static inline void kvm_spe_load(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_used) && vcpu->arch.spe.present)
		__kvm_spe_update(vcpu);
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

void __kvm_spe_to_guest(struct kvm_vcpu_spe *spe, struct kvm_spe_host *host, bool e2h);
bool __kvm_spe_from_guest(struct kvm_vcpu_spe *spe, struct kvm_spe_host *host, bool e2h);
void __kvm_spe_to_host(struct kvm_vcpu_spe *spe, struct kvm_spe_host *host, bool e2h);
void kvm_spe_fix(struct kvm_vcpu *vcpu);
void __kvm_spe_power_off(struct kvm_vcpu *vcpu);

/* Says whether the unit changes hands with @vcpu. A NOP while no VM has one. */
static __always_inline bool kvm_spe_is_switched(struct kvm_vcpu *vcpu)
{
	return static_branch_unlikely(&kvm_spe_used) && vcpu->arch.spe.switched;
}

/* Gives the unit to a guest, which is entered next; at EL2. */
static __always_inline void kvm_spe_to_guest(struct kvm_vcpu *vcpu)
{
	if (kvm_spe_is_switched(vcpu))
		__kvm_spe_to_guest(&vcpu->arch.spe, host_data_ptr(spe), has_vhe() || has_hvhe());
}

/* Takes the unit from a guest, whose translation and traps are still in place; at EL2. */
static __always_inline void kvm_spe_from_guest(struct kvm_vcpu *vcpu)
{
	if (kvm_spe_is_switched(vcpu) &&
	    __kvm_spe_from_guest(&vcpu->arch.spe, host_data_ptr(spe), has_vhe() || has_hvhe()))
		kvm_spe_request(vcpu);
}

/* Gives the unit back to the host, whose translation and traps are in place; at EL2. */
static __always_inline void kvm_spe_to_host(struct kvm_vcpu *vcpu)
{
	if (kvm_spe_is_switched(vcpu))
		__kvm_spe_to_host(&vcpu->arch.spe, host_data_ptr(spe), has_vhe() || has_hvhe());
}

/* The hypervisor panics: the guest's records are not to go where the host's tables say. */
static __always_inline void kvm_spe_panic(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.spe.switched) {
		write_sysreg_el1(0, SYS_PMSCR);
		isb();
		psb_csync();
		dsb(nsh);
		write_sysreg_s(0, SYS_PMBLIMITR_EL1);
		isb();
	}
}

/* The vCPU is about to wait for interrupts: that of the unit may be one. */
static inline void kvm_spe_sync(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_used) && vcpu->arch.spe.event)
		__kvm_spe_update(vcpu);
}

/* The guest has switched the vCPU off: so is its buffer, and the interrupt. */
static inline void kvm_spe_power_off(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.spe.present)
		__kvm_spe_power_off(vcpu);
}

/*
 * Sets the fine-grained traps of a vCPU: of what turns the buffer on and off; of its limit, which
 * is not the unit's; of what identifies the unit, and says who owns it; and of the filters, if the
 * unit has some that the guest does not.
 * The hint PSB CSYNC does not trap, as if the VM had FEAT_SPEv1p5.
 */
static inline void kvm_spe_load_fgt(struct kvm_vcpu *vcpu)
{
	if (!static_branch_unlikely(&kvm_spe_used) || !vcpu->arch.spe.present)
		return;

	*vcpu_fgt(vcpu, HDFGRTR_EL2) |= HDFGRTR_EL2_PMBIDR_EL1 | HDFGRTR_EL2_PMBSR_EL1 |
					HDFGRTR_EL2_PMBLIMITR_EL1 | HDFGRTR_EL2_PMSIDR_EL1;
	*vcpu_fgt(vcpu, HDFGWTR_EL2) |= HDFGWTR_EL2_PMBLIMITR_EL1 | HDFGWTR_EL2_PMBPTR_EL1 |
					HDFGWTR_EL2_PMBSR_EL1;
	if (vcpu->kvm->arch.spe.pmsidr & (PMSIDR_EL1_FDS | PMSIDR_EL1_EFT))
		*vcpu_fgt(vcpu, HDFGWTR_EL2) |= HDFGWTR_EL2_PMSFCR_EL1;
	*vcpu_fgt(vcpu, HFGITR_EL2) &= ~HFGITR_EL2_PSBCSYNC;
}

/* Returns the fields of ID_AA64DFR0_EL1 that userspace may write because of FEAT_SPE. */
static inline u64 kvm_spe_writable(struct kvm *kvm)
{
	return test_bit(KVM_ARCH_FLAG_VCPU_FEATURES_CONFIGURED, &kvm->arch.flags) &&
	       kvm_vcpu_has_feature(kvm, KVM_ARM_VCPU_SPE) ? ID_AA64DFR0_EL1_PMSVer_MASK : 0;
}

/* Says whether a vCPU may run; returns -EPERM before KVM_ARM_VCPU_SPE_INIT. */
static inline int kvm_spe_first_run(struct kvm_vcpu *vcpu)
{
	return vcpu_has_feature(vcpu, KVM_ARM_VCPU_SPE) && !vcpu->arch.spe.initialized ? -EPERM : 0;
}

static inline void kvm_spe_destroy(struct kvm *kvm)
{
	if (kvm->arch.spe.unit) {
		arm_spe_unit_put(kvm->arch.spe.unit);
		static_branch_dec(&kvm_spe_used);
	}
}

#else

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

static inline u64 kvm_spe_writable(struct kvm *kvm)
{
	return 0;
}

static inline void kvm_spe_to_guest(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_from_guest(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_to_host(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_panic(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_fix(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_power_off(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_load_fgt(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_seen(void) { }
static inline void kvm_spe_load(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_reset(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_destroy(struct kvm *kvm) { }
static inline void kvm_spe_create_debugfs(struct kvm *kvm) { }
static inline void kvm_spe_destroy_vcpu(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_check_request(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_sync(struct kvm_vcpu *vcpu) { }
static inline void kvm_spe_relax(struct kvm *kvm) { }

#endif /* CONFIG_KVM_ARM64_SPE */

#endif /* __ARM64_KVM_SPE_H__ */

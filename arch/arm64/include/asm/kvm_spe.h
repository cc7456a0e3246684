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

/* The outcome of making a vCPU's window ready before an entry; for the tracepoint */
enum kvm_spe_outcome {
	KVM_SPE_COMPARED,
	KVM_SPE_WALKED,
	KVM_SPE_POSTPONED,
	KVM_SPE_GONE,
};

/* True while any VM has an SPU; the key counts these VMs. */
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
 * Requests that KVM takes over the unit's event and makes the window ready before the next entry of
 * @vcpu.
 */
static inline void kvm_spe_request(struct kvm_vcpu *vcpu)
{
	kvm_make_request(KVM_REQ_SPE, vcpu);
}

/* Makes the same request of vCPUs that may run. When this returns, their units do not write. */
static inline void kvm_spe_request_of(struct kvm *kvm, unsigned long *vcpus)
{
	kvm_make_vcpus_request_mask(kvm, KVM_REQ_SPE, vcpus);
}

static inline void kvm_spe_clear_request(struct kvm_vcpu *vcpu)
{
	kvm_clear_request(KVM_REQ_SPE, vcpu);
}

/* Returns whether KVM must exit to userspace first: for a signal, or for a full dirty ring. */
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

/* Notes that a stage-2 entry is about to get a permission that cached translations may lack. */
static inline void kvm_spe_relax(struct kvm *kvm)
{
	if (static_branch_unlikely(&kvm_spe_used) && READ_ONCE(kvm->arch.spe.unit))
		__kvm_spe_relax(kvm);
}

/* Takes over changes by userspace. Accesses no register of the unit: the CPU may have no unit. */
static inline void kvm_spe_load(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_used) && vcpu->arch.spe.present)
		__kvm_spe_update(vcpu);
}

/* Returns the highest value of ID_AA64DFR0_EL1.PMSVer that @kvm may have, in place. */
static inline u64 kvm_spe_dfr0(struct kvm *kvm)
{
	return SYS_FIELD_PREP(ID_AA64DFR0_EL1, PMSVer, READ_ONCE(kvm->arch.spe.pmsver));
}

/* Returns PMSIDR_EL1 of the VM's SPU, on any CPU. */
static inline u64 kvm_spe_pmsidr(struct kvm *kvm)
{
	return READ_ONCE(kvm->arch.spe.pmsidr);
}

/* Returns whether FEAT_SPE permits vCPUs with this combination of @features on this machine. */
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

/* Returns whether entries and exits of @vcpu switch the unit. A NOP while no VM has a unit. */
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

/* Disables the unit in a panic: guest records must not be written through the host's tables. */
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

/* Takes over an event, which may raise the interrupt, before the vCPU waits for interrupts. */
static inline void kvm_spe_sync(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_spe_used) && vcpu->arch.spe.event)
		__kvm_spe_update(vcpu);
}

/* Disables the buffer and clears the interrupt of a vCPU that the guest has powered off. */
static inline void kvm_spe_power_off(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.spe.present)
		__kvm_spe_power_off(vcpu);
}

/*
 * Sets the fine-grained traps of a vCPU: writes of the buffer's registers; reads of PMBLIMITR_EL1
 * and PMBSR_EL1, which may have other values in the unit; reads of the registers that identify the
 * unit and its owner; and writes of PMSFCR_EL1, if the unit has filters that the guest lacks.
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
	if (kvm_spe_pmsidr(vcpu->kvm) & (PMSIDR_EL1_FDS | PMSIDR_EL1_EFT))
		*vcpu_fgt(vcpu, HDFGWTR_EL2) |= HDFGWTR_EL2_PMSFCR_EL1;
	*vcpu_fgt(vcpu, HFGITR_EL2) &= ~HFGITR_EL2_PSBCSYNC;
}

/* Returns the fields of ID_AA64DFR0_EL1 that userspace may write because of FEAT_SPE. */
static inline u64 kvm_spe_writable(struct kvm *kvm)
{
	return test_bit(KVM_ARCH_FLAG_VCPU_FEATURES_CONFIGURED, &kvm->arch.flags) &&
	       kvm_vcpu_has_feature(kvm, KVM_ARM_VCPU_SPE) ? ID_AA64DFR0_EL1_PMSVer_MASK : 0;
}

/* Returns 0 if a vCPU may run, or -EPERM if it still needs KVM_ARM_VCPU_SPE_INIT. */
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

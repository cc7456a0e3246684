/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A CPU that all hosts of a fleet can give to VMs (kvm.baseline=).
 */

#ifndef __ARM64_KVM_BASELINE_H__
#define __ARM64_KVM_BASELINE_H__

#include <linux/kvm_host.h>

/* The numbers that a baseline can have besides ID registers: see keys.rs for their names. */
enum kvm_baseline_key {
	KVM_BASELINE_PSCI,
	KVM_BASELINE_WA1,
	KVM_BASELINE_WA2,
	KVM_BASELINE_WA3,
	KVM_BASELINE_STD_BMAP,
	KVM_BASELINE_STD_HYP_BMAP,
	KVM_BASELINE_VENDOR_HYP_BMAP,
	KVM_BASELINE_VENDOR_HYP_BMAP2,
	KVM_BASELINE_MIDR,
	KVM_BASELINE_REVIDR,
	KVM_BASELINE_AIDR,
	KVM_BASELINE_DCZID,
	KVM_BASELINE_CNTFRQ,
	KVM_BASELINE_PMU_COUNTERS,
	KVM_BASELINE_SVE,
	KVM_BASELINE_KEYS,
};

/* In masks of KVM_ARM_VCPU_* bits: the VM has no AArch32, even if the host has AArch32. */
#define KVM_BASELINE_NO_AA32	0x80000000UL
static_assert(KVM_VCPU_MAX_FEATURES < 31);

#ifdef CONFIG_KVM_ARM64_BASELINE

void kvm_baseline_init(void);
int kvm_baseline_replace(const char *text);
size_t kvm_baseline_text(u8 *buffer);
unsigned long kvm_baseline_features(void);
void __kvm_baseline_take(struct kvm *kvm);
void kvm_baseline_drop(struct kvm *kvm);
u64 __kvm_baseline_lower(struct kvm_vcpu *vcpu, u32 id, u64 limit);
u64 __kvm_baseline_reset(struct kvm_vcpu *vcpu, u32 id, u64 limit);
u64 __kvm_baseline_number(const struct kvm *kvm, enum kvm_baseline_key key, u64 otherwise);
bool __kvm_baseline_hides_aa32(const struct kvm *kvm);
unsigned long kvm_baseline_hidden_features(const struct kvm *kvm);
bool kvm_baseline_hides_cap(struct kvm *kvm, long ext);
void kvm_baseline_show(struct seq_file *m, struct kvm_vcpu *vcpu);
void kvm_baseline_create_debugfs(struct kvm *kvm);
bool kvm_baseline_check(enum kvm_baseline_key key, u64 value, bool ssbs, u64 *own);

u64 kvm_arm_default_fw_reg(u64 regid, bool ssbs);
u8 kvm_arm_pmu_default_counters(void);
u32 kvm_id_reg_find(const char *name, size_t len);
bool kvm_id_reg_exists(u32 id);
const char *kvm_id_reg_name(u32 id);
u64 kvm_id_reg_limit(struct kvm_vcpu *vcpu, unsigned long features, u32 id);
u64 kvm_id_reg_field(u32 id, unsigned int bit);
u64 kvm_id_reg_lower(struct kvm_vcpu *vcpu, unsigned long features, u32 id, u64 limit, u64 want,
		     u64 mask);

/* Gives a new VM the baseline of this host. */
static inline void kvm_baseline_take(struct kvm *kvm)
{
	if (!kvm_vm_is_protected(kvm))
		__kvm_baseline_take(kvm);
}

/* Returns whether the ID registers of a VM follow a baseline. */
static inline bool kvm_baseline_is_set(struct kvm *kvm)
{
	return kvm->arch.baseline;
}

/**
 * kvm_baseline_lower() - Apply the VM's baseline to the default of an ID register
 * @vcpu: a vCPU whose features are set
 * @id: the encoding of the register
 * @limit: the value that the register has without a baseline
 *
 * Return: the default value of the register with the baseline.
 */
static inline u64 kvm_baseline_lower(struct kvm_vcpu *vcpu, u32 id, u64 limit)
{
	return kvm_baseline_is_set(vcpu->kvm) ? __kvm_baseline_lower(vcpu, id, limit) : limit;
}

/* Does the same as kvm_baseline_lower() when a register is reset, and traces a lowered value. */
static inline u64 kvm_baseline_reset(struct kvm_vcpu *vcpu, u32 id, u64 limit)
{
	return kvm_baseline_is_set(vcpu->kvm) ? __kvm_baseline_reset(vcpu, id, limit) : limit;
}

/* Returns the smaller of @number and the number that the VM's baseline has for @key, if any. */
static inline u64 kvm_baseline_min(struct kvm *kvm, enum kvm_baseline_key key, u64 number)
{
	return kvm_baseline_is_set(kvm) ? min(number, __kvm_baseline_number(kvm, key, number)) :
					  number;
}

/* Returns the longest vector of a VM by default, in bytes, where the host has up to @max_vl. */
static inline unsigned int kvm_baseline_sve_max_vl(struct kvm *kvm, unsigned int max_vl)
{
	return kvm_baseline_min(kvm, KVM_BASELINE_SVE, BITS_PER_BYTE * max_vl) / BITS_PER_BYTE;
}

/* Returns whether the VM has no AArch32 because of its baseline. */
static inline bool kvm_baseline_hides_aa32(struct kvm *kvm)
{
	return kvm_baseline_is_set(kvm) && __kvm_baseline_hides_aa32(kvm);
}

#else

static inline bool kvm_baseline_is_set(struct kvm *kvm)
{
	return false;
}

static inline u64 kvm_baseline_lower(struct kvm_vcpu *vcpu, u32 id, u64 limit)
{
	return limit;
}

static inline u64 kvm_baseline_reset(struct kvm_vcpu *vcpu, u32 id, u64 limit)
{
	return limit;
}

static inline u64 kvm_baseline_min(struct kvm *kvm, enum kvm_baseline_key key, u64 number)
{
	return number;
}

static inline unsigned int kvm_baseline_sve_max_vl(struct kvm *kvm, unsigned int max_vl)
{
	return max_vl;
}

static inline bool kvm_baseline_hides_aa32(struct kvm *kvm)
{
	return false;
}

static inline unsigned long kvm_baseline_hidden_features(const struct kvm *kvm)
{
	return 0;
}

static inline bool kvm_baseline_hides_cap(struct kvm *kvm, long ext)
{
	return false;
}

static inline void kvm_baseline_init(void) { }
static inline void kvm_baseline_take(struct kvm *kvm) { }
static inline void kvm_baseline_drop(struct kvm *kvm) { }
static inline void kvm_baseline_create_debugfs(struct kvm *kvm) { }

#endif /* CONFIG_KVM_ARM64_BASELINE */

/* Returns whether a VM has AArch32 at EL0, and so the ID registers of AArch32. */
static inline bool kvm_vm_has_aa32(struct kvm *kvm)
{
	return kvm_supports_32bit_el0() && !kvm_baseline_hides_aa32(kvm);
}

#endif /* __ARM64_KVM_BASELINE_H__ */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMs whose breakpoints differ from those of the CPU that they run on.
 */

#ifndef __ARM64_KVM_DEBUG_TOPOLOGY_H__
#define __ARM64_KVM_DEBUG_TOPOLOGY_H__

#include <linux/kvm_host.h>

/* Traps all accesses to DBG{B,W}{C,V}R<n>_EL1; HDFGWTR_EL2 has the same bits */
#define KVM_DEBUG_TOPOLOGY_FGT	(HDFGRTR_EL2_DBGBCRn_EL1 | HDFGRTR_EL2_DBGBVRn_EL1 | \
				 HDFGRTR_EL2_DBGWCRn_EL1 | HDFGRTR_EL2_DBGWVRn_EL1)
static_assert(KVM_DEBUG_TOPOLOGY_FGT ==
	      (HDFGWTR_EL2_DBGBCRn_EL1 | HDFGWTR_EL2_DBGBVRn_EL1 |
	       HDFGWTR_EL2_DBGWCRn_EL1 | HDFGWTR_EL2_DBGWVRn_EL1));

#ifdef CONFIG_KVM_ARM64_DEBUG_TOPOLOGY

u64 __kvm_debug_topology_writable(struct kvm *kvm);
bool kvm_debug_topology_valid(u64 dfr0, u64 now);
u32 kvm_debug_topology_last_breakpoint(u64 dfr0, u64 dfr1);
u32 kvm_debug_topology_last_watchpoint(u64 dfr0, u64 dfr1);
void kvm_debug_topology_fix(struct kvm *kvm);
int kvm_debug_topology_create(struct kvm_vcpu *vcpu);
void kvm_debug_topology_destroy(struct kvm_vcpu *vcpu);
void __kvm_debug_topology_load(struct kvm_vcpu *vcpu);
void __kvm_debug_topology_stale(struct kvm_vcpu *vcpu);
bool kvm_debug_topology_has(struct kvm_vcpu *vcpu, u8 op2, u8 crm);
void __kvm_debug_topology_written(struct kvm_vcpu *vcpu, u8 op2, u8 crm);
bool __kvm_debug_topology_access(struct kvm_vcpu *vcpu, u8 op2, u8 crm, bool is_write, u64 *val);
void kvm_debug_topology_show(struct seq_file *m, struct kvm *kvm);
void kvm_debug_topology_show_vcpu(struct seq_file *m, struct kvm_vcpu *vcpu);
void kvm_debug_topology_create_debugfs(struct kvm *kvm);

/* Returns a mask of the ID_AA64DFR0_EL1 fields that userspace may write. Takes config_lock. */
static inline u64 kvm_debug_topology_writable(struct kvm *kvm)
{
	guard(mutex)(&kvm->arch.config_lock);
	return __kvm_debug_topology_writable(kvm);
}

/* With FEAT_Debugv8p9, the CPU's first bank may have more registers than @dfr0 describes. */
static inline void kvm_debug_topology_init_cpu(u64 dfr0)
{
	u64 dfr1 = read_sysreg(id_aa64dfr1_el1);

	*host_data_ptr(debug_brps) = kvm_debug_topology_last_breakpoint(dfr0, dfr1);
	*host_data_ptr(debug_wrps) = kvm_debug_topology_last_watchpoint(dfr0, dfr1);
}

/**
 * kvm_debug_topology_first_run() - Prepare a vCPU that has never run
 * @vcpu: a vCPU that is not loaded; its VM's config_lock is held
 *
 * Return: 0, or -ENOMEM.
 */
static inline int kvm_debug_topology_first_run(struct kvm_vcpu *vcpu)
{
	if (!kvm_vm_has_ran_once(vcpu->kvm))
		kvm_debug_topology_fix(vcpu->kvm);

	return vcpu->kvm->arch.debug_topology.mappable ? kvm_debug_topology_create(vcpu) : 0;
}

/**
 * kvm_debug_topology_load() - Prepare a vCPU's breakpoints for this CPU
 * @vcpu: a vCPU that is being loaded
 */
static __always_inline void kvm_debug_topology_load(struct kvm_vcpu *vcpu)
{
	if (unlikely(vcpu->arch.debug_mapping))
		__kvm_debug_topology_load(vcpu);
}

/**
 * kvm_debug_topology_image() - Get the image that the CPU uses in place of vcpu_debug_state
 * @vcpu: a loaded vCPU
 *
 * Return: the image, at a kernel address, or NULL if the vCPU is not mapped.
 */
static __always_inline struct kvm_guest_debug_arch *
kvm_debug_topology_image(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.debug_image;
}

/* DBGDIDR, which AArch32 at EL0 may read, has no fine-grained trap: MDCR_EL2.TDA must trap it. */
static inline bool kvm_debug_topology_traps_dbgdidr(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.debug_image && vcpu->kvm->arch.debug_topology.aarch32;
}

/* Counts a trapped access to a breakpoint or watchpoint register. */
static inline void kvm_debug_topology_count(struct kvm_vcpu *vcpu)
{
	if (vcpu->arch.debug_image)
		vcpu->stat.debug_reg_exits++;
}

/**
 * kvm_debug_topology_written() - Complete a write that has trapped
 * @vcpu: a loaded vCPU
 * @op2: op2 of the register that has changed in vcpu_debug_state
 * @crm: CRm of that register, its number
 */
static inline void kvm_debug_topology_written(struct kvm_vcpu *vcpu, u8 op2, u8 crm)
{
	guard(preempt)();
	__kvm_debug_topology_written(vcpu, op2, crm);
}

/**
 * kvm_debug_topology_access() - Perform an access that has trapped
 * @vcpu: a loaded vCPU that has an image
 * @op2: op2 of the register
 * @crm: CRm of the register, its number
 * @is_write: whether the access is a write
 * @val: the value to write, or where to store the value read
 *
 * Return: false if the VM does not have the register, and nothing was done.
 */
static inline bool kvm_debug_topology_access(struct kvm_vcpu *vcpu, u8 op2, u8 crm, bool is_write,
					     u64 *val)
{
	guard(preempt)();
	return __kvm_debug_topology_access(vcpu, op2, crm, is_write, val);
}

/**
 * kvm_debug_topology_stale() - Note that userspace or a reset has changed vcpu_debug_state
 * @vcpu: a vCPU that will be loaded before it runs
 */
static inline void kvm_debug_topology_stale(struct kvm_vcpu *vcpu)
{
	if (unlikely(vcpu->arch.debug_mapping))
		__kvm_debug_topology_stale(vcpu);
}

#else

static inline u64 __kvm_debug_topology_writable(struct kvm *kvm)
{
	return 0;
}

static inline u64 kvm_debug_topology_writable(struct kvm *kvm)
{
	return 0;
}

static inline bool kvm_debug_topology_valid(u64 dfr0, u64 now)
{
	return true;
}

static inline int kvm_debug_topology_first_run(struct kvm_vcpu *vcpu)
{
	return 0;
}

static __always_inline struct kvm_guest_debug_arch *
kvm_debug_topology_image(struct kvm_vcpu *vcpu)
{
	return NULL;
}

static inline bool kvm_debug_topology_traps_dbgdidr(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_debug_topology_has(struct kvm_vcpu *vcpu, u8 op2, u8 crm)
{
	return true;
}

static inline bool kvm_debug_topology_access(struct kvm_vcpu *vcpu, u8 op2, u8 crm, bool is_write,
					     u64 *val)
{
	return false;
}

static inline void kvm_debug_topology_init_cpu(u64 dfr0) { }
static inline void kvm_debug_topology_destroy(struct kvm_vcpu *vcpu) { }
static inline void kvm_debug_topology_load(struct kvm_vcpu *vcpu) { }
static inline void kvm_debug_topology_count(struct kvm_vcpu *vcpu) { }
static inline void kvm_debug_topology_written(struct kvm_vcpu *vcpu, u8 op2, u8 crm) { }
static inline void kvm_debug_topology_stale(struct kvm_vcpu *vcpu) { }
static inline void kvm_debug_topology_create_debugfs(struct kvm *kvm) { }

#endif /* CONFIG_KVM_ARM64_DEBUG_TOPOLOGY */

#endif /* __ARM64_KVM_DEBUG_TOPOLOGY_H__ */

/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * VMs with fewer breakpoints than the CPU that they run on.
 */

#ifndef __ARM64_KVM_DEBUG_TOPOLOGY_H__
#define __ARM64_KVM_DEBUG_TOPOLOGY_H__

#include <linux/kvm_host.h>

/* Traps of all accesses to DBG{B,W}{C,V}R<n>_EL1; the bits of HDFGWTR_EL2 are the same */
#define KVM_DEBUG_TOPOLOGY_FGT	(HDFGRTR_EL2_DBGBCRn_EL1 | HDFGRTR_EL2_DBGBVRn_EL1 | \
				 HDFGRTR_EL2_DBGWCRn_EL1 | HDFGRTR_EL2_DBGWVRn_EL1)

#ifdef CONFIG_KVM_ARM64_DEBUG_TOPOLOGY

u64 kvm_debug_topology_writable(struct kvm *kvm);
bool kvm_debug_topology_valid(u64 dfr0, u64 now);
u32 kvm_debug_topology_may_differ(struct kvm *kvm);
bool __kvm_debug_topology_load(struct kvm_vcpu *vcpu);
bool __kvm_debug_topology_has(struct kvm_vcpu *vcpu, u8 op2, u8 crm);
void __kvm_debug_topology_update(struct kvm_vcpu *vcpu, u8 op2, u8 crm);
void kvm_debug_topology_show(struct seq_file *m, struct kvm *kvm);
void kvm_debug_topology_show_vcpu(struct seq_file *m, struct kvm_vcpu *vcpu);
void kvm_debug_topology_create_debugfs(struct kvm *kvm);

/* The ID registers are what they will be: can there be a CPU with other breakpoints? */
static inline void kvm_debug_topology_first_run(struct kvm_vcpu *vcpu)
{
	vcpu->arch.debug_image.differs = kvm_debug_topology_may_differ(vcpu->kvm);
}

/**
 * kvm_debug_topology_load() - Get the vCPU's breakpoints ready for this CPU
 * @vcpu: a vCPU that is being loaded
 *
 * Return: whether the guest's accesses to its registers have to trap here.
 */
static __always_inline bool kvm_debug_topology_load(struct kvm_vcpu *vcpu)
{
	if (likely(!vcpu->arch.debug_image.differs))
		return false;

	/* As many as the VM has: the CPU's registers are the guest's */
	if (vcpu->arch.debug_image.differs == *host_data_ptr(debug_brps) + 1) {
		vcpu->arch.debug_image.in_use = false;
		vcpu->arch.debug_image.brps = 0;
		return false;
	}

	/* As on the CPU that it was loaded on last */
	if (vcpu->arch.debug_image.brps != *host_data_ptr(debug_brps) + 1 &&
	    !__kvm_debug_topology_load(vcpu))
		return false;

	if (vcpu->arch.debug_owner == VCPU_DEBUG_GUEST_OWNED)
		vcpu->arch.debug_owner = VCPU_DEBUG_GUEST_MAPPED;
	return true;
}

/* The guest has come to own the registers. */
static inline void kvm_debug_topology_set_owner(struct kvm_vcpu *vcpu)
{
	guard(preempt)();

	vcpu->arch.debug_owner = vcpu->arch.debug_image.in_use ?
				 VCPU_DEBUG_GUEST_MAPPED : VCPU_DEBUG_GUEST_OWNED;
}

/**
 * kvm_debug_topology_has() - Count a trapped access
 * @vcpu: a vCPU of which an access to a register has trapped
 * @op2: op2 of the register
 * @crm: CRm of the register, its number
 *
 * Return: whether the VM has the register. On a CPU where nothing is mapped this
 * is not asked, as ever.
 */
static inline bool kvm_debug_topology_has(struct kvm_vcpu *vcpu, u8 op2, u8 crm)
{
	guard(preempt)();

	if (!vcpu->arch.debug_image.in_use)
		return true;

	vcpu->stat.debug_reg_exits++;
	return __kvm_debug_topology_has(vcpu, op2, crm);
}

/**
 * kvm_debug_topology_update() - Pass on what a loaded vCPU's guest has written
 * @vcpu: a loaded vCPU
 * @op2: op2 of the register that has changed in vcpu_debug_state
 * @crm: CRm of that register, its number
 */
static inline void kvm_debug_topology_update(struct kvm_vcpu *vcpu, u8 op2, u8 crm)
{
	guard(preempt)();

	if (vcpu->arch.debug_image.in_use)
		__kvm_debug_topology_update(vcpu, op2, crm);
}

/**
 * kvm_debug_topology_stale() - Say that vcpu_debug_state has changed
 * @vcpu: a vCPU that is going to be loaded before it runs
 */
static inline void kvm_debug_topology_stale(struct kvm_vcpu *vcpu)
{
	WRITE_ONCE(vcpu->arch.debug_image.brps, 0);
}

#else

static inline u64 kvm_debug_topology_writable(struct kvm *kvm)
{
	return 0;
}

static inline bool kvm_debug_topology_valid(u64 dfr0, u64 now)
{
	return true;
}

static inline void kvm_debug_topology_first_run(struct kvm_vcpu *vcpu) { }

static inline bool kvm_debug_topology_load(struct kvm_vcpu *vcpu)
{
	return false;
}

static inline bool kvm_debug_topology_has(struct kvm_vcpu *vcpu, u8 op2, u8 crm)
{
	return true;
}

static inline void kvm_debug_topology_update(struct kvm_vcpu *vcpu, u8 op2, u8 crm) { }
static inline void kvm_debug_topology_stale(struct kvm_vcpu *vcpu) { }
static inline void kvm_debug_topology_create_debugfs(struct kvm *kvm) { }

static inline void kvm_debug_topology_set_owner(struct kvm_vcpu *vcpu)
{
	vcpu->arch.debug_owner = VCPU_DEBUG_GUEST_OWNED;
}

#endif /* CONFIG_KVM_ARM64_DEBUG_TOPOLOGY */

#endif /* __ARM64_KVM_DEBUG_TOPOLOGY_H__ */

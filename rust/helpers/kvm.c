// SPDX-License-Identifier: GPL-2.0

#if defined(CONFIG_ARM64) && defined(CONFIG_KVM)

#include <linux/kvm_host.h>

__rust_helper u64 rust_helper_kvm_read_vm_id_reg(struct kvm *kvm, u32 reg)
{
	/* Userspace may be writing another value: see kvm_set_vm_id_reg(). */
	return READ_ONCE(*__vm_id_reg(&kvm->arch, reg));
}

__rust_helper bool rust_helper_kvm_vcpu_features_configured(struct kvm *kvm)
{
	return test_bit(KVM_ARCH_FLAG_VCPU_FEATURES_CONFIGURED, &kvm->arch.flags);
}

__rust_helper bool rust_helper_kvm_vcpu_has_feature(struct kvm *kvm, int feature)
{
	return kvm_vcpu_has_feature(kvm, feature);
}

#endif

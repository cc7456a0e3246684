// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_KVM_ARM64_SPE

#include <asm/kvm_spe.h>

__rust_helper struct kvm_vcpu *rust_helper_kvm_get_vcpu(struct kvm *kvm, int i)
{
	return kvm_get_vcpu(kvm, i);
}

__rust_helper void rust_helper_kvm_spe_request(struct kvm_vcpu *vcpu)
{
	kvm_spe_request(vcpu);
}

__rust_helper void rust_helper_kvm_spe_clear_request(struct kvm_vcpu *vcpu)
{
	kvm_spe_clear_request(vcpu);
}

__rust_helper bool rust_helper_kvm_spe_has_to_stop(struct kvm_vcpu *vcpu)
{
	return kvm_spe_has_to_stop(vcpu);
}

__rust_helper void rust_helper_kvm_spe_request_of(struct kvm *kvm, unsigned long *vcpus)
{
	kvm_spe_request_of(kvm, vcpus);
}

__rust_helper bool rust_helper_kvm_spe_is_fixed(struct kvm *kvm)
{
	return kvm_vm_has_ran_once(kvm) ||
	       test_bit(KVM_ARCH_FLAG_FGU_INITIALIZED, &kvm->arch.flags);
}

__rust_helper bool rust_helper_kvm_spe_has_vgic(struct kvm *kvm)
{
	return irqchip_in_kernel(kvm) && vgic_initialized(kvm);
}

__rust_helper bool rust_helper_kvm_spe_is_timer_irq(struct kvm *kvm, u32 irq)
{
	for (int i = 0; i < NR_KVM_TIMERS; i++)
		if (READ_ONCE(kvm->arch.timer_data.ppi[i]) == irq)
			return true;

	return false;
}

__rust_helper void rust_helper_kvm_spe_add_user(void)
{
	kvm_spe_add_user();
}

#endif

// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C parts of baseline.rs: its parameters, its tracepoint and its debugfs file.
 */

#include <crypto/sha2.h>
#include <linux/debugfs.h>
#include <linux/hex.h>
#include <linux/init.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include <asm/kvm_baseline.h>

#define CREATE_TRACE_POINTS
#include "trace.h"

/* The text on the command line. It can be checked only when all PMUs are known. */
static char *at_boot;
static bool has_booted;

/* Does the same as __kvm_baseline_lower(), and traces a lowered value. */
u64 __kvm_baseline_reset(struct kvm_vcpu *vcpu, u32 id, u64 limit)
{
	u64 value = __kvm_baseline_lower(vcpu, id, limit);

	if (value != limit)
		trace_kvm_baseline_lower(vcpu->vcpu_id, id, limit, value);
	return value;
}

static int baseline_set(const char *val, const struct kernel_param *kp)
{
	if (has_booted)
		return is_kvm_arm_initialised() ? kvm_baseline_replace(val) : -ENODEV;

	kfree(at_boot);
	at_boot = kstrdup(val, GFP_KERNEL);
	return at_boot ? 0 : -ENOMEM;
}

static int baseline_get(char *buffer, const struct kernel_param *kp)
{
	size_t len = is_kvm_arm_initialised() ? kvm_baseline_text(buffer) : 0;

	buffer[len] = '\n';
	return len + 1;
}

static int baseline_sha256_get(char *buffer, const struct kernel_param *kp)
{
	size_t len = is_kvm_arm_initialised() ? kvm_baseline_text(buffer) : 0;
	u8 digest[SHA256_DIGEST_SIZE];
	char *end = buffer;

	if (len) {
		sha256(buffer, len, digest);
		end = bin2hex(buffer, digest, sizeof(digest));
	}
	*end++ = '\n';
	return end - buffer;
}

static const struct kernel_param_ops baseline_ops = {
	.set = baseline_set,
	.get = baseline_get,
};

/* Refuses a value on the command line: the digest follows from the baseline. */
static int baseline_sha256_set(const char *val, const struct kernel_param *kp)
{
	return -EPERM;
}

static const struct kernel_param_ops baseline_sha256_ops = {
	.set = baseline_sha256_set,
	.get = baseline_sha256_get,
};

device_param_cb(baseline, &baseline_ops, NULL, 0644);
MODULE_PARM_DESC(baseline, "ID registers of VMs, where the host's defaults are higher");
device_param_cb(baseline_sha256, &baseline_sha256_ops, NULL, 0444);
MODULE_PARM_DESC(baseline_sha256, "SHA-256 of the baseline's text");

static int __init baseline_boot(void)
{
	/* Userspace may be writing the parameter. */
	kernel_param_lock(THIS_MODULE);
	has_booted = true;
	if (at_boot && is_kvm_arm_initialised())
		kvm_baseline_replace(at_boot);
	else if (at_boot)
		pr_err("kvm: baseline: ignored: KVM has not initialised\n");
	kfree(at_boot);
	at_boot = NULL;
	kernel_param_unlock(THIS_MODULE);
	return 0;
}
late_initcall_sync(baseline_boot);

/* Returns the vCPU feature that a capability offers, or KVM_VCPU_MAX_FEATURES. */
static unsigned int feature_of_cap(long ext)
{
	switch (ext) {
	case KVM_CAP_ARM_EL1_32BIT:
		return KVM_ARM_VCPU_EL1_32BIT;
	case KVM_CAP_ARM_EL2:
		return KVM_ARM_VCPU_HAS_EL2;
	case KVM_CAP_ARM_EL2_E2H0:
		return KVM_ARM_VCPU_HAS_EL2_E2H0;
	case KVM_CAP_ARM_PMU_V3:
		return KVM_ARM_VCPU_PMU_V3;
	case KVM_CAP_ARM_PMU_V3_STRICT:
		return KVM_ARM_VCPU_PMU_V3_STRICT;
	case KVM_CAP_ARM_PTRAUTH_ADDRESS:
		return KVM_ARM_VCPU_PTRAUTH_ADDRESS;
	case KVM_CAP_ARM_PTRAUTH_GENERIC:
		return KVM_ARM_VCPU_PTRAUTH_GENERIC;
	case KVM_CAP_ARM_SVE:
		return KVM_ARM_VCPU_SVE;
	default:
		return KVM_VCPU_MAX_FEATURES;
	}
}

/* Returns whether @kvm, or a new VM if @kvm is NULL, lacks the feature that a capability offers. */
bool kvm_baseline_hides_cap(struct kvm *kvm, long ext)
{
	unsigned int feature = feature_of_cap(ext);

	return feature < KVM_VCPU_MAX_FEATURES &&
	       kvm_baseline_hidden_features(kvm) & BIT(feature);
}

static int baseline_show(struct seq_file *m, void *unused)
{
	struct kvm *kvm = m->private;
	struct kvm_vcpu *vcpu;

	guard(mutex)(&kvm->arch.config_lock);

	vcpu = kvm_get_vcpu(kvm, 0);
	if (vcpu && test_bit(KVM_ARCH_FLAG_VCPU_FEATURES_CONFIGURED, &kvm->arch.flags))
		kvm_baseline_show(m, vcpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(baseline);

void kvm_baseline_create_debugfs(struct kvm *kvm)
{
	if (kvm->arch.baseline)
		debugfs_create_file("baseline", 0400, kvm->debugfs_dentry, kvm, &baseline_fops);
}

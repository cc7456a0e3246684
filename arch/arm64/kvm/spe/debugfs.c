// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C parts of spe.rs: its static key, its tracepoints and its debugfs file.
 */

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/seq_file.h>

#include <asm/kvm_spe.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

DEFINE_STATIC_KEY_FALSE(kvm_spe_used);

static int spe_show(struct seq_file *m, void *unused)
{
	struct kvm *kvm = m->private;
	const struct arm_spe_unit *unit;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	/* The unit can still change */
	guard(mutex)(&kvm->arch.config_lock);

	unit = kvm->arch.spe.unit;
	if (!unit) {
		seq_puts(m, "VM: no SPU\n");
		return 0;
	}
	seq_printf(m, "VM: SPU %d on CPUs %*pbl, interrupt %u\n", unit->type,
		   cpumask_pr_args(unit->cpus), kvm->arch.spe.irq);
	kvm_for_each_vcpu(i, vcpu, kvm)
		kvm_spe_show_vcpu(m, vcpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(spe);

void kvm_spe_create_debugfs(struct kvm *kvm)
{
	debugfs_create_file("spe", 0400, kvm->debugfs_dentry, kvm, &spe_fops);
}

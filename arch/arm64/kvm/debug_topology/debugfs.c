// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C parts of debug_topology.rs: its tracepoint and its debugfs file.
 */

#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/seq_file.h>

#include <asm/kvm_debug_topology.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

static int debug_topology_show(struct seq_file *m, void *unused)
{
	struct kvm *kvm = m->private;
	struct kvm_vcpu *vcpu;
	unsigned long i;

	/* The ID registers can still change */
	guard(mutex)(&kvm->arch.config_lock);

	kvm_debug_topology_show(m, kvm);
	kvm_for_each_vcpu(i, vcpu, kvm)
		kvm_debug_topology_show_vcpu(m, vcpu);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(debug_topology);

void kvm_debug_topology_create_debugfs(struct kvm *kvm)
{
	debugfs_create_file("debug_topology", 0400, kvm->debugfs_dentry, kvm,
			    &debug_topology_fops);
}

/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * Statistical profiling (FEAT_SPE) in guests. The numbers are far from the next free ones of KVM,
 * so that new numbers of KVM do not conflict with them.
 */

#ifndef _UAPI__ASM_KVM_SPE_H
#define _UAPI__ASM_KVM_SPE_H

/* KVM_CHECK_EXTENSION: 1 if some CPU has an SPU that a guest may get */
#define KVM_CAP_ARM_SPE		4096

/* A bit of struct kvm_vcpu_init.features[0] */
#define KVM_ARM_VCPU_SPE	24

/* A group of vCPU attributes; kvm_device_attr.addr points to an int */
#define KVM_ARM_VCPU_SPE_CTRL	64
#define   KVM_ARM_VCPU_SPE_IRQ	0 /* the interrupt, a PPI */
#define   KVM_ARM_VCPU_SPE_INIT	1 /* no value */
#define   KVM_ARM_VCPU_SPE_SPU	2 /* the perf type of an arm_spe_* device */

#endif /* _UAPI__ASM_KVM_SPE_H */

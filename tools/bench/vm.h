/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The smallest VMM: one vCPU, memory slots, no interrupt controller.
 * Whatever fails ends the benchmark.
 */
#ifndef ARMATURE_BENCH_VM_H
#define ARMATURE_BENCH_VM_H

#include <stddef.h>
#include <stdint.h>

struct kvm_run;

struct vm {
	int kvm;
	int fd;
	int vcpu;
	int slots;
	size_t run_size;
	struct kvm_run *run;
	/* The instructions of KVM_CREATE_VM and of KVM_ARM_VCPU_INIT */
	uint64_t create_count;
	uint64_t init_count;
};

void vm_create(struct vm *vm);
void vm_destroy(struct vm *vm);
/* Returns @size bytes of private memory at @where, which is free. */
void *map_anonymous(uintptr_t where, size_t size);

void vm_add_memory(struct vm *vm, uint64_t ipa, void *host, size_t size);
void vm_set_x(struct vm *vm, unsigned int n, uint64_t value);
void vm_set_pc(struct vm *vm, uint64_t value);

/* Returns whether VMs can have a profiling unit. */
int vm_has_spe(void);

/*
 * Creates a VM with an interrupt controller and, if @spe is not 0, the profiling unit with this
 * perf type.
 */
void vm_create_with_gic(struct vm *vm, int spe);

/* Switches the guest's MMU on, with tables of 4 KiB pages, 48 bits and four levels at @tables. */
void vm_set_tables(struct vm *vm, uint64_t tables);

/*
 * Gives the guest 4 breakpoints, of which 2 are context-aware, before it has run.
 * False if this kernel does not do that: then it has as many as the host.
 */
int vm_narrow(struct vm *vm);

/* Runs until the guest stores to an address without memory: the value. */
uint64_t vm_run_to_store(struct vm *vm);

#endif

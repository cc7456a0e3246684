// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench.h"
#include "vm.h"

#define CORE_REG(field)							\
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |		\
	 KVM_REG_ARM_CORE_REG(field))

static void init_vcpu(struct vm *vm)
{
	struct kvm_vcpu_init init;

	check(!ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init), "vCPU target");
	init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
	check(!ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init), "KVM_ARM_VCPU_INIT");
}

static void map_run(struct vm *vm)
{
	int size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	check(size > 0, "KVM_GET_VCPU_MMAP_SIZE");
	vm->run_size = size;
	vm->run = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, vm->vcpu, 0);
	check(vm->run != MAP_FAILED, "mmap of kvm_run");
}

void vm_create(struct vm *vm)
{
	vm->slots = 0;
	vm->kvm = open("/dev/kvm", O_RDWR);
	check(vm->kvm >= 0, "/dev/kvm");
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	check(vm->fd >= 0, "KVM_CREATE_VM");
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	check(vm->vcpu >= 0, "KVM_CREATE_VCPU");
	map_run(vm);
	init_vcpu(vm);
}

void vm_destroy(struct vm *vm)
{
	munmap(vm->run, vm->run_size);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->kvm);
}

void vm_add_memory(struct vm *vm, uint64_t ipa, void *host, size_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = vm->slots++,
		.guest_phys_addr = ipa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host,
	};

	check(!ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region),
	      "KVM_SET_USER_MEMORY_REGION");
}

/* BRPs and CTX_CMPs, numbers less one. */
#define DFR0		ARM64_SYS_REG(3, 0, 0, 5, 0)
#define BRPS(n)		((uint64_t)(n) << 12)
#define CTX_CMPS(n)	((uint64_t)(n) << 28)

static uint64_t get_reg(struct vm *vm, uint64_t id)
{
	uint64_t value;
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	check(!ioctl(vm->vcpu, KVM_GET_ONE_REG, &reg), "KVM_GET_ONE_REG");
	return value;
}

static void set_reg(struct vm *vm, uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&value };

	check(!ioctl(vm->vcpu, KVM_SET_ONE_REG, &reg), "KVM_SET_ONE_REG");
}

static uint64_t writable(struct vm *vm, unsigned int index)
{
	uint64_t masks[KVM_ARM_FEATURE_ID_RANGE_SIZE];
	struct reg_mask_range range = { .addr = (uintptr_t)masks };

	check(!ioctl(vm->fd, KVM_ARM_GET_REG_WRITABLE_MASKS, &range),
	      "KVM_ARM_GET_REG_WRITABLE_MASKS");
	return masks[index];
}

int vm_narrow(struct vm *vm)
{
	uint64_t dfr0 = get_reg(vm, DFR0);

	if (!(writable(vm, KVM_ARM_FEATURE_ID_RANGE_IDX(3, 0, 0, 5, 0)) & BRPS(15)))
		return 0;
	set_reg(vm, DFR0, (dfr0 & ~(BRPS(15) | CTX_CMPS(15))) | BRPS(3) | CTX_CMPS(1));
	return 1;
}

/* User space numbers core registers in 32-bit words: two for an X register. */
void vm_set_x(struct vm *vm, unsigned int n, uint64_t value)
{
	set_reg(vm, CORE_REG(regs.regs[0]) + 2 * n, value);
}

/*
 * KVM_RUN moves the PC past a store that user space has been given only when
 * it is called again; immediate_exit makes that call do nothing else.
 */
static void finish_store(struct vm *vm)
{
	vm->run->immediate_exit = 1;
	check(ioctl(vm->vcpu, KVM_RUN, 0) == -1 && errno == EINTR,
	      "KVM_RUN with immediate_exit");
	vm->run->immediate_exit = 0;
}

void vm_set_pc(struct vm *vm, uint64_t value)
{
	finish_store(vm);
	set_reg(vm, CORE_REG(regs.pc), value);
}

uint64_t vm_run_to_store(struct vm *vm)
{
	uint64_t value;

	check(!ioctl(vm->vcpu, KVM_RUN, 0), "KVM_RUN");
	check(vm->run->exit_reason == KVM_EXIT_MMIO &&
	      vm->run->mmio.is_write && vm->run->mmio.len == sizeof(value),
	      "the guest left for another reason than its store");
	memcpy(&value, vm->run->mmio.data, sizeof(value));
	return value;
}

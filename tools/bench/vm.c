// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../arch/arm64/include/uapi/asm/kvm_spe.h"
#include "bench.h"
#include "vm.h"

/* The interrupt of the unit (Arm BSA) */
#define SPE_PPI			21

#define CORE_REG(field)							\
	(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |		\
	 KVM_REG_ARM_CORE_REG(field))

static void init_vcpu(struct vm *vm, int spe)
{
	struct kvm_vcpu_init init;
	uint64_t before;
	int ret;

	check(!ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init), "vCPU target");
	init.features[0] |= 1U << KVM_ARM_VCPU_PSCI_0_2;
	if (spe)
		init.features[0] |= 1U << KVM_ARM_VCPU_SPE;
	before = counter();
	ret = ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init);
	vm->init_count = between(before, counter());
	check(!ret, "KVM_ARM_VCPU_INIT");
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

static void create(struct vm *vm, int spe)
{
	uint64_t before;

	vm->slots = 0;
	vm->kvm = open("/dev/kvm", O_RDWR);
	check(vm->kvm >= 0, "/dev/kvm");
	before = counter();
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	vm->create_count = between(before, counter());
	check(vm->fd >= 0, "KVM_CREATE_VM");
	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	check(vm->vcpu >= 0, "KVM_CREATE_VCPU");
	map_run(vm);
	init_vcpu(vm, spe);
}

void vm_create(struct vm *vm)
{
	create(vm, 0);
}

static void set_attr(int fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr request = {
		.group = group,
		.attr = attr,
		.addr = (uintptr_t)value,
	};

	check(!ioctl(fd, KVM_SET_DEVICE_ATTR, &request), "KVM_SET_DEVICE_ATTR");
}

static void create_gic(struct vm *vm)
{
	struct kvm_create_device device = { .type = KVM_DEV_TYPE_ARM_VGIC_V3 };
	uint64_t distributor = 0x08000000, redistributors = 0x080a0000;

	check(!ioctl(vm->fd, KVM_CREATE_DEVICE, &device), "KVM_CREATE_DEVICE");
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &distributor);
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST,
		 &redistributors);
	set_attr(device.fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
	close(device.fd);
}

int vm_has_spe(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int has = kvm >= 0 && ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_ARM_SPE) == 1;

	close(kvm);
	return has;
}

void vm_create_with_gic(struct vm *vm, int spe)
{
	int irq = SPE_PPI;

	create(vm, spe);
	create_gic(vm);
	if (!spe)
		return;
	set_attr(vm->vcpu, KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_SPU, &spe);
	set_attr(vm->vcpu, KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_IRQ, &irq);
	set_attr(vm->vcpu, KVM_ARM_VCPU_SPE_CTRL, KVM_ARM_VCPU_SPE_INIT, NULL);
}

void vm_destroy(struct vm *vm)
{
	munmap(vm->run, vm->run_size);
	close(vm->vcpu);
	close(vm->fd);
	close(vm->kvm);
}

void *map_anonymous(uintptr_t where, size_t size)
{
	void *mem = mmap((void *)where, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			 -1, 0);

	check(mem == (void *)where, "mmap of guest memory");
	return mem;
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

/* Arm ARM: write-back memory, inner shareable, for walks as well; 40 bits of physical addresses. */
#define SCTLR_M_C_I	(1UL << 0 | 1UL << 2 | 1UL << 12)
#define TCR_48_BITS	(16UL | 1UL << 8 | 1UL << 10 | 3UL << 12 | 1UL << 23 | 2UL << 32)

void vm_set_tables(struct vm *vm, uint64_t tables)
{
	uint64_t sctlr = ARM64_SYS_REG(3, 0, 1, 0, 0);

	set_reg(vm, ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff);
	set_reg(vm, ARM64_SYS_REG(3, 0, 2, 0, 0), tables);
	set_reg(vm, ARM64_SYS_REG(3, 0, 2, 0, 2), TCR_48_BITS);
	set_reg(vm, sctlr, get_reg(vm, sctlr) | SCTLR_M_C_I);
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

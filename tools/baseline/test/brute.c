// SPDX-License-Identifier: GPL-2.0
/*
 * Tries each value of each field that "baseline show" lists on its standard input, and compares
 * what KVM accepts with the values in the list: they are there if KVM_SET_ONE_REG succeeds, and
 * KVM_GET_ONE_REG returns the same before and after KVM_RUN. Prints TAP.
 *
 * This is written from Documentation/virt/kvm/api.rst, and shares nothing with the tool.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#define CORE(n)		(KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (n))
#define GUEST		0x80000000ull
#define MEMORY_SIZE	0x10000
#define PARTS		2
#define WIDEST		8
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* A field: a register, its lowest bit, and its width */
struct part {
	uint64_t id;
	unsigned int lsb, width;
	uint64_t own;
};

/* Fields that belong together, as a line of "baseline show" describes them */
struct group {
	struct part parts[PARTS];
	int count;
	char name[256];
	const char *list;
};

/* What to try in a field that is too wide for all values: versions of PSCI, and others */
static const uint64_t versions[] = {
	0, 1, 2, 3, 0x10000, 0x10001, 0x10002, 0x10003, 0x10004, 0x20000, 0xffffffff,
};

static int kvm, vm = -1, vcpu = -1;
static struct kvm_run *run;
static void *memory;
static size_t run_size;

static void need(int result, const char *what)
{
	if (result >= 0)
		return;
	printf("Bail out! %s: %s\n", what, strerror(errno));
	exit(1);
}

static bool get(uint64_t id, uint64_t *value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)value };

	return !ioctl(vcpu, KVM_GET_ONE_REG, &reg);
}

static bool set(uint64_t id, uint64_t value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uint64_t)&value };

	return !ioctl(vcpu, KVM_SET_ONE_REG, &reg);
}

static bool has(int capability)
{
	return ioctl(kvm, KVM_CHECK_EXTENSION, capability) > 0;
}

static void feature(struct kvm_vcpu_init *init, unsigned int bit)
{
	init->features[bit / 32] |= 1u << bit % 32;
}

/* Gives the vCPU all features that this host offers. */
static void init_vcpu(void)
{
	struct kvm_device_attr pmu = {
		.group = KVM_ARM_VCPU_PMU_V3_CTRL,
		.attr = KVM_ARM_VCPU_PMU_V3_INIT,
	};
	int sve = KVM_ARM_VCPU_SVE;
	struct kvm_vcpu_init init;

	need(ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init), "KVM_ARM_PREFERRED_TARGET");
	feature(&init, KVM_ARM_VCPU_PSCI_0_2);
	if (has(KVM_CAP_ARM_PMU_V3))
		feature(&init, KVM_ARM_VCPU_PMU_V3);
	if (has(KVM_CAP_ARM_SVE))
		feature(&init, KVM_ARM_VCPU_SVE);
	if (has(KVM_CAP_ARM_PTRAUTH_ADDRESS) && has(KVM_CAP_ARM_PTRAUTH_GENERIC)) {
		feature(&init, KVM_ARM_VCPU_PTRAUTH_ADDRESS);
		feature(&init, KVM_ARM_VCPU_PTRAUTH_GENERIC);
	}
	need(ioctl(vcpu, KVM_ARM_VCPU_INIT, &init), "KVM_ARM_VCPU_INIT");
	if (has(KVM_CAP_ARM_PMU_V3))
		need(ioctl(vcpu, KVM_SET_DEVICE_ATTR, &pmu), "KVM_ARM_VCPU_PMU_V3_INIT");
	if (has(KVM_CAP_ARM_SVE))
		need(ioctl(vcpu, KVM_ARM_VCPU_FINALIZE, &sve), "KVM_ARM_VCPU_FINALIZE");
}

/* Replaces the VM, if there is one. */
static void new_vm(void)
{
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = GUEST,
		.memory_size = MEMORY_SIZE,
		.userspace_addr = (uint64_t)memory,
	};

	if (vm >= 0) {
		munmap(run, run_size);
		close(vcpu);
		close(vm);
	}
	need(vm = ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	need(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "memory");
	need(vcpu = ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	need(run == MAP_FAILED ? -1 : 0, "kvm_run");
	init_vcpu();
}

/* Returns whether the parts have these values. */
static bool is(const struct part *parts, const uint64_t *values, int count)
{
	for (int i = 0; i < count; i++) {
		uint64_t mask = (1ull << parts[i].width) - 1, now;

		if (!get(parts[i].id, &now) || (now >> parts[i].lsb & mask) != values[i])
			return false;
	}
	return true;
}

/*
 * Writes the values, those of one register at once. Returns whether KVM takes all of them, and in
 * changed whether it takes one.
 */
static bool write_parts(const struct part *parts, const uint64_t *values, int count, bool *changed)
{
	bool good = true;

	for (int i = 0; i < count; i++) {
		uint64_t new = parts[i].own;
		bool done = false;

		for (int j = 0; j < count; j++) {
			uint64_t mask = ((1ull << parts[j].width) - 1) << parts[j].lsb;

			if (parts[j].id != parts[i].id)
				continue;
			done |= j < i;
			new = (new & ~mask) | values[j] << parts[j].lsb;
		}
		if (done)
			continue;
		if (set(parts[i].id, new))
			*changed = true;
		else
			good = false;
	}
	return good;
}

/* Returns whether the guest runs up to its store. */
static bool runs(void)
{
	need(set(CORE(0), 0) ? 0 : -1, "x0");
	need(set(CORE(64), GUEST) ? 0 : -1, "pc");
	need(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
	return run->exit_reason == KVM_EXIT_MMIO;
}

/* Returns whether KVM accepts the values of the parts. Leaves a VM that is as good as new. */
static bool accepts(const struct part *parts, const uint64_t *values, int count)
{
	bool changed = false, good;

	good = write_parts(parts, values, count, &changed) && is(parts, values, count) &&
	       runs() && is(parts, values, count);
	if (changed)
		new_vm();
	return good;
}

/* Returns whether a list, "1,2 3,4", has these values. */
static bool listed(const char *list, const uint64_t *values, int count)
{
	char word[64], *end = word;

	for (int i = 0; i < count; i++)
		end += sprintf(end, "%s%llu", i ? "," : "", (unsigned long long)values[i]);
	for (size_t length = strlen(word); (list = strstr(list, word)); list += length)
		if ((list[-1] == ' ' || list[-1] == ':') && strchr(" \n", list[length]))
			return true;
	return false;
}

/* Reads "0x603000000013c020[3:0]+..." at the start of a line. Returns what follows. */
static char *read_parts(char *at, struct group *group)
{
	unsigned int msb;
	int length;

	while (group->count < PARTS) {
		struct part *part = &group->parts[group->count];

		if (sscanf(at, "0x%llx[%u:%u]%n", (unsigned long long *)&part->id, &msb,
			   &part->lsb, &length) != 3)
			break;
		part->width = msb - part->lsb + 1;
		group->count++;
		at += length;
		if (*at != '+')
			break;
		at++;
	}
	return at;
}

/* Reads "PARTS NAME VALUE: VALUES". Returns whether the line is like that. */
static bool read_group(char *line, struct group *group)
{
	char *at = read_parts(line, group), *list = strchr(line, ':');

	while (list && list[1] != ' ')
		list = strchr(list + 1, ':');
	group->list = list;
	return group->count && list && sscanf(at, "%255s", group->name) == 1;
}

/* Reads the registers. Returns how many values there are to try, or 0 if one cannot be read. */
static int read_own(struct group *group)
{
	int values = 1;
	bool bad = false;

	for (int i = 0; i < group->count; i++) {
		struct part *part = &group->parts[i];

		bad |= !get(part->id, &part->own);
		if (part->width <= WIDEST)
			values <<= part->width;
		else
			values = ARRAY_SIZE(versions);
	}
	return bad ? 0 : values;
}

/* Returns whether the list is right about the nth value. */
static bool try(const struct group *group, int n)
{
	unsigned int width = group->parts[0].width;
	uint64_t value[PARTS] = { 0 };
	bool accepted;

	if (width <= WIDEST) {
		value[0] = n & ((1ull << width) - 1);
		value[1] = n >> width;
	} else {
		value[0] = versions[n];
	}
	accepted = is(group->parts, value, group->count) ||
		   accepts(group->parts, value, group->count);
	if (accepted == listed(group->list, value, group->count))
		return true;
	printf("# %s: %d is %saccepted\n", group->name, n, accepted ? "" : "not ");
	return false;
}

/* Tries all values of a group, and prints the result. Returns whether the list is right. */
static bool try_all(struct group *group, int number)
{
	int values = read_own(group), tried = 0;
	bool good = values > 0;

	for (; tried < values && good; tried++)
		good = try(group, tried);
	printf("%s %d - %s, %d values\n", good ? "ok" : "not ok", number, group->name, tried);
	return good;
}

/* Opens KVM, and makes the memory of all VMs, with the guest in it. */
static void open_kvm(void)
{
	int prot = PROT_READ | PROT_WRITE;

	memory = mmap(NULL, MEMORY_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	need(memory == MAP_FAILED ? -1 : 0, "mmap");
	/* str wzr, [x0] */
	*(uint32_t *)memory = 0xb900001f;
	need(kvm = open("/dev/kvm", O_RDWR), "/dev/kvm");
	need(run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
}

int main(void)
{
	static char line[65536];
	int number = 0, wrong = 0;

	open_kvm();
	new_vm();
	puts("TAP version 13");
	while (fgets(line, sizeof(line), stdin)) {
		struct group group = { 0 };

		if (!read_group(line, &group)) {
			printf("Bail out! not a line of baseline show: %s", line);
			return 1;
		}
		wrong += !try_all(&group, ++number);
	}
	printf("1..%d\n", number);
	return wrong || !number;
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What the guest's profiling unit costs: a hypercall while the buffer is off and while it is
 * enabled, a start and a stop as Linux's driver does them at each switch of tasks, and a start at
 * another place, which stage 2 does not map, or maps already.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "guest.h"
#include "vm.h"

#define REPEAT		501
#define WINDOWS		101
#define SZ_4K		0x1000UL
#define SZ_128K		0x20000UL
#define SZ_2M		0x200000UL

#define MMIO_IPA	0x10000000UL
#define CODE_IPA	0x40000000UL
#define TABLES_IPA	0x40200000UL
#define BUFFER_IPA	0x40400000UL
#define BUFFER_SIZE	(8 * SZ_2M)
/* KVM's window */
#define WINDOW		SZ_128K

#define CODE_HOST	0x2000000000UL
#define TABLES_HOST	0x2100000000UL
#define BUFFER_HOST	0x4000000000UL

/* PMBLIMITR_EL1.E */
#define ENABLED		1UL

/*
 * Descriptors (Arm ARM, "VMSAv8-64 descriptor formats"): valid; a table or a page; AF and inner
 * shareable.
 */
#define VALID		1UL
#define TABLE		3UL
#define NORMAL		(1UL << 10 | 3UL << 8)

static void *map_at(uintptr_t where, size_t size)
{
	void *mem = map_anonymous(where, size);

	check(!madvise(mem, size, MADV_NOHUGEPAGE), "madvise");
	return mem;
}

/* An identity mapping with four levels: blocks of 2 MiB, and pages for the buffer. */
static void write_tables(uint64_t (*tables)[512])
{
	enum { L0, L1, L2_LOW, L2, L3 };
	const uint64_t next = TABLES_IPA;

	tables[L0][0] = (next + L1 * SZ_4K) | TABLE;
	tables[L1][0] = (next + L2_LOW * SZ_4K) | TABLE;
	tables[L1][1] = (next + L2 * SZ_4K) | TABLE;
	tables[L2_LOW][MMIO_IPA / SZ_2M] = MMIO_IPA | NORMAL | VALID;
	tables[L2][0] = CODE_IPA | NORMAL | VALID;
	for (size_t i = 0; i < BUFFER_SIZE / SZ_2M; i++)
		tables[L2][(BUFFER_IPA - CODE_IPA) / SZ_2M + i] = (next + (L3 + i) * SZ_4K) | TABLE;
	for (size_t i = 0; i < BUFFER_SIZE / SZ_4K; i++)
		tables[L3 + i / 512][i % 512] = (BUFFER_IPA + i * SZ_4K) | NORMAL | TABLE;
}

static void enter(struct vm *vm, char *loop)
{
	vm_set_x(vm, 19, MMIO_IPA);
	vm_set_x(vm, 20, BUFFER_IPA);
	vm_set_x(vm, 21, WINDOW);
	vm_set_x(vm, 22, (BUFFER_IPA + WINDOW) | ENABLED);
	vm_set_pc(vm, CODE_IPA + (loop - guest_code));
}

static void start(struct vm *vm, char *loop, int type)
{
	size_t size = guest_code_end - guest_code;
	void *code = map_at(CODE_HOST, size), *tables = map_at(TABLES_HOST, SZ_2M);
	void *buffer = map_at(BUFFER_HOST, BUFFER_SIZE);

	memcpy(code, guest_code, size);
	write_tables(tables);
	memset(buffer, 0, BUFFER_SIZE);
	vm_create_with_gic(vm, type);
	vm_add_memory(vm, CODE_IPA, code, size);
	vm_add_memory(vm, TABLES_IPA, tables, SZ_2M);
	vm_add_memory(vm, BUFFER_IPA, buffer, BUFFER_SIZE);
	vm_set_tables(vm, TABLES_IPA);
	enter(vm, loop);
}

static void stop(struct vm *vm)
{
	vm_destroy(vm);
	munmap((void *)CODE_HOST, guest_code_end - guest_code);
	munmap((void *)TABLES_HOST, SZ_2M);
	munmap((void *)BUFFER_HOST, BUFFER_SIZE);
}

static void measure(const char *name, char *loop, int type)
{
	uint64_t figures[REPEAT];
	struct vm vm;

	start(&vm, loop, type);
	for (size_t i = 0; i < REPEAT; i++)
		figures[i] = vm_run_to_store(&vm);
	stop(&vm);
	report(name, figures, REPEAT);
}

/* Each window of the buffer in turn: for the first time, and once more. */
static void measure_windows(int type)
{
	uint64_t figures[WINDOWS];
	struct vm vm;

	start(&vm, guest_spe_windows, type);
	for (size_t i = 0; i < WINDOWS; i++)
		figures[i] = vm_run_to_store(&vm);
	report("spe_start_first", figures, WINDOWS);
	enter(&vm, guest_spe_windows);
	for (size_t i = 0; i < WINDOWS; i++)
		figures[i] = vm_run_to_store(&vm);
	report("spe_start_elsewhere", figures, WINDOWS);
	stop(&vm);
}

/* Returns the perf type of the unit, or 0 if the machine or the kernel has none for guests. */
static int unit_type(void)
{
	FILE *file = fopen("/sys/bus/event_source/devices/arm_spe_0/type", "r");
	int type = 0;

	if (!file)
		return 0;
	check(fscanf(file, "%d", &type) == 1, "type of arm_spe_0");
	fclose(file);
	return vm_has_spe() ? type : 0;
}

void bench_spe(void)
{
	int type = unit_type();

	if (!type)
		return;
	measure("hypercall_gic", guest_hypercall, 0);
	measure("hypercall_spe", guest_hypercall, type);
	measure("hypercall_spe_enabled", guest_spe_enabled, type);
	measure("spe_start_stop", guest_spe_pair, type);
	measure_windows(type);
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What a guest pays for: exits handled in the kernel, exits to user space, and
 * the first execution of a page, where KVM maps it at stage 2 and, without
 * CTR_EL0.DIC, invalidates the instruction cache.
 */
#include <string.h>
#include <sys/mman.h>

#include "bench.h"
#include "guest.h"
#include "vm.h"

#define REPEAT		1001
#define CREATIONS	101
#define SZ_4K		0x1000UL
#define SZ_2M		0x200000UL

#define MMIO_IPA	0x10000000UL
#define CODE_IPA	0x40000000UL
#define TEXT_IPA	0x80000000UL
#define RET		0xd65f03c0U

/* Away from what the kernel places: where memory is decides how it is found. */
#define CODE_HOST	0x2000000000UL
#define TEXT_HOST	0x4000000000UL

/* blr and ret: a call of a page that is mapped already. */
#define MAPPED_CALL	2

/* First calls, @step apart, into @size bytes of guest text. */
struct exec_fault {
	const char *name;
	size_t size;
	size_t step;
	int advice;
	int is_block;
};

/* Every second page, so that the page between tells a block from pages. */
static const struct exec_fault exec_faults[] = {
	{ "exec_fault_4k", 1001 * 2 * SZ_4K, 2 * SZ_4K, MADV_NOHUGEPAGE, 0 },
	{ "exec_fault_2m",       65 * SZ_2M,     SZ_2M, MADV_HUGEPAGE,   1 },
};

static void enter(struct vm *vm, char *loop)
{
	vm_set_x(vm, 19, MMIO_IPA);
	vm_set_pc(vm, CODE_IPA + (loop - guest_code));
}

static void start(struct vm *vm, char *loop, int narrow)
{
	size_t size = guest_code_end - guest_code;
	void *code = map_anonymous(CODE_HOST, size);

	memcpy(code, guest_code, size);
	vm_create(vm);
	if (narrow)
		vm_narrow(vm);
	vm_add_memory(vm, CODE_IPA, code, size);
	enter(vm, loop);
}

static void start_vm(struct vm *vm, char *loop)
{
	start(vm, loop, 0);
}

static void stop_vm(struct vm *vm)
{
	vm_destroy(vm);
	munmap((void *)CODE_HOST, guest_code_end - guest_code);
}

/* Figures that the guest takes itself. */
static void run_guest(char *loop, int narrow, uint64_t *figures)
{
	struct vm vm;

	start(&vm, loop, narrow);
	for (int i = 0; i < REPEAT; i++)
		figures[i] = vm_run_to_store(&vm);
	stop_vm(&vm);
}

static void measure_guest(const char *name, char *loop, int narrow)
{
	uint64_t figures[REPEAT];

	run_guest(loop, narrow, figures);
	report(name, figures, REPEAT);
}

static uint64_t guest_median(char *loop)
{
	uint64_t figures[REPEAT];

	run_guest(loop, 0, figures);
	return median(figures, REPEAT);
}

/* The guest's counter counts as the host's does, around an exit as well. */
static void check_known_lengths(void)
{
	uint64_t empty = guest_median(guest_nop0);
	uint64_t nops = guest_median(guest_nop1000);
	uint64_t exit = guest_median(guest_hypercall);
	uint64_t exit_and_nops = guest_median(guest_hypercall_nop1000);

	check(empty == 0, "an empty region of the guest");
	check(nops == 1000, "1000 instructions of the guest");
	check(exit_and_nops - exit == 1000, "1000 more after a hypercall");
	report_once("self.guest_nop0", empty);
	report_once("self.guest_nop1000", nops);
	report_once("self.guest_hypercall_more", exit_and_nops - exit);
}

/* The first vCPU of a VM sets the VM's ID registers as it is initialised. */
static void measure_creation(void)
{
	uint64_t created[CREATIONS], initialised[CREATIONS];
	struct vm vm;

	for (int i = 0; i < CREATIONS; i++) {
		vm_create(&vm);
		created[i] = vm.create_count;
		initialised[i] = vm.init_count;
		vm_destroy(&vm);
	}
	report("vm_create", created, CREATIONS);
	report("vcpu_init", initialised, CREATIONS);
}

/* KVM_RUN from call to return: enter, a guest instruction or two, leave. */
static void measure_exit(const char *name, char *loop, int narrow)
{
	uint64_t figures[REPEAT], before, after;
	struct vm vm;

	start(&vm, loop, narrow);
	for (int i = 0; i < REPEAT; i++) {
		before = counter();
		vm_run_to_store(&vm);
		after = counter();
		figures[i] = between(before, after);
	}
	stop_vm(&vm);
	report(name, figures, REPEAT);
}

/* A return in each page; the host has it all mapped before the guest runs. */
static void *make_text(const struct exec_fault *test)
{
	char *text = map_anonymous(TEXT_HOST, test->size);

	check(!madvise(text, test->size, test->advice), "madvise");
	for (size_t at = 0; at < test->size; at += SZ_4K)
		*(uint32_t *)(text + at) = RET;
	return text;
}

static void call_text(struct vm *vm, uint64_t first, uint64_t step)
{
	enter(vm, guest_call);
	vm_set_x(vm, 20, TEXT_IPA + first);
	vm_set_x(vm, 21, step);
}

static void check_mapping_size(struct vm *vm, const struct exec_fault *test)
{
	call_text(vm, SZ_4K, test->step);
	check((vm_run_to_store(vm) == MAPPED_CALL) == test->is_block,
	      "stage 2 is not mapped at the size asked for");
}

static void measure_exec_fault(const struct exec_fault *test)
{
	size_t count = test->size / test->step;
	uint64_t figures[REPEAT];
	struct vm vm;

	start_vm(&vm, guest_call);
	vm_add_memory(&vm, TEXT_IPA, make_text(test), test->size);
	call_text(&vm, 0, test->step);
	for (size_t i = 0; i < count; i++)
		figures[i] = vm_run_to_store(&vm);
	check_mapping_size(&vm, test);
	stop_vm(&vm);
	munmap((void *)TEXT_HOST, test->size);
	report(test->name, figures, count);
}

/* A guest that uses its breakpoints; with fewer of them than the host, if it can be. */
static void bench_debug(void)
{
	measure_guest("hypercall_debug", guest_debug_hypercall, 0);
	measure_exit("exit_to_user_debug", guest_debug_store, 0);
	measure_guest("hypercall_debug_mapped", guest_debug_hypercall, 1);
	measure_exit("exit_to_user_debug_mapped", guest_debug_store, 1);
	measure_guest("debug_write", guest_debug_write, 0);
	measure_guest("debug_write_mapped", guest_debug_write, 1);
	measure_guest("debug_write_idle_mapped", guest_debug_write_idle, 1);
}

void bench_kvm(void)
{
	check_known_lengths();
	measure_guest("hypercall", guest_hypercall, 0);
	measure_guest("trap_id_reg", guest_id_reg, 0);
	measure_exit("exit_to_user", guest_store, 0);
	bench_debug();
	for (int i = 0; i < 2; i++)
		measure_exec_fault(&exec_faults[i]);
	measure_creation();
}

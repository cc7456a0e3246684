// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_uncached - What a guest gets for memory that KVM may map Normal
 * Non-cacheable: with arm64.nolse_atomics it has to be Device, as an atomic that
 * is not served by a cache may bring the machine down.
 *
 * The memory is that of nolse_test.ko. What tells the two types apart is an access
 * that is not aligned: it is an Alignment fault on Device memory only.
 *
 *   nolse_uncached [normal|device]	what the guest must get; by default what the
 *					command line asks for
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "../../arm64/lse/lse_state.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define SLOT		10
#define GPA		0x100000000UL
#define PATTERN		0x8877665544332211UL

#define FSC_ALIGNMENT	0x21

static bool alignment_fault;

static void guest_abort(struct ex_regs *regs)
{
	if ((read_sysreg(esr_el1) & ESR_ELx_FSC) == FSC_ALIGNMENT)
		WRITE_ONCE(alignment_fault, true);
	regs->pc += 4;
}

static void guest_code(void)
{
	u64 *memory = (u64 *)GPA, value = 0;

	WRITE_ONCE(memory[0], PATTERN);
	WRITE_ONCE(memory[1], PATTERN);
	dsb(sy);
	GUEST_SYNC1(READ_ONCE(memory[0]));

	asm volatile("ldr %0, [%1]" : "+r" (value) : "r" ((char *)memory + 1) : "memory");
	GUEST_SYNC1(value);
}

/* Runs to the next sync. Returns whether there was one. */
static bool run(struct kvm_vcpu *vcpu, u64 *value)
{
	struct ucall uc;

	if (__vcpu_run(vcpu)) {
		TEST_ASSERT(errno == EFAULT, "KVM_RUN failed, errno %d", errno);
		return false;
	}
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "No sync");
	*value = uc.args[0];
	return true;
}

int main(int argc, char **argv)
{
	bool device = argc == 2 ? !strcmp(argv[1], "device") : lse_contained_by_cmdline();
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	void *memory;
	u64 value = 0;
	bool went_on;
	int fd;

	if (argc == 1 && !device) {
		ksft_print_header();
		ksft_exit_skip("normal, or device: the command line does not say\n");
	}
	if (argc > 2 || (argc == 2 && !device && strcmp(argv[1], "normal"))) {
		fprintf(stderr, "usage: %s [normal|device]\n", argv[0]);
		return KSFT_FAIL;
	}
	ksft_print_header();
	fd = open("/dev/nolse_test", O_RDWR);
	if (fd < 0)
		ksft_exit_skip("no /dev/nolse_test: the module is not loaded\n");
	memory = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	TEST_ASSERT(memory != MAP_FAILED, "mmap() failed, errno %d", errno);
	ksft_set_plan(2);

	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(vcpu);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_DABT_CUR, guest_abort);
	vm_set_user_memory_region(vm, SLOT, 0, GPA, getpagesize(), memory);
	virt_pg_map(vm, GPA, GPA);

	ksft_test_result(run(vcpu, &value) && value == PATTERN,
			 "the guest reads what it wrote\n");

	/* Whose fault it is depends on where the CPU finds it: the guest's, or stage 2's */
	went_on = run(vcpu, &value);
	sync_global_from_guest(vm, alignment_fault);
	ksft_print_msg("an access that is not aligned: %s, 0x%lx\n",
		       !went_on ? "fault of stage 2" :
		       alignment_fault ? "Alignment fault" : "no fault", value);
	if (device)
		ksft_test_result(!went_on || alignment_fault, "the guest has Device memory\n");
	else
		ksft_test_result(went_on && !alignment_fault && value == 0x1188776655443322UL,
				 "the guest has Normal memory\n");
	kvm_vm_free(vm);
	ksft_finished();
}

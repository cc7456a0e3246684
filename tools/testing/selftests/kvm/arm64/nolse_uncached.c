// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_uncached - Check that a contained guest (arm64.nolse_atomics with
 * kvm-arm.nolse_policy=contain) gets only Write-Back memory: its atomics on other
 * memory may bring the machine down. KVM must refuse memory that it would map Normal
 * Non-cacheable or Device, and must not map it Write-Back instead.
 *
 * The same holds for a guest hypervisor's guest, for which KVM makes a shadow stage 2.
 *
 * nolse_test.ko provides the memory. An unaligned access tells the two types apart: it
 * is an Alignment fault on Device memory only.
 *
 *   nolse_uncached [refused|mapped]	whether KVM must refuse or map the memory; by
 *					default "refused" if the command line says
 *					contain. "mapped" executes atomics on memory
 *					that is not Write-Back!
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

#include "../../arm64/nolse/nolse_state.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define SLOT		10
#define GPA		0x100000000UL
#define BEFORE		0x1000UL
#define ADDEND		0x0234UL
#define PATTERN		0x8877665544332211UL
#define NOT_ALIGNED	0x1188776655443322UL

#define FSC_ALIGNMENT	0x21

/* The memory types that KVM maps for guests that are not contained, by mmap() offset. */
static const struct kind {
	const char *name;
	bool device;
	off_t page;
} kinds[] = {
	{ .name = "Normal Non-cacheable", .device = false, .page = 0 },
	{ .name = "Device", .device = true, .page = 1 },
};

/* Guest */

static bool alignment_fault;

static void guest_abort(struct ex_regs *regs)
{
	if ((read_sysreg(esr_el1) & ESR_ELx_FSC) == FSC_ALIGNMENT)
		WRITE_ONCE(alignment_fault, true);
	regs->pc += 4;
}

static void guest_code(void)
{
	u64 *memory = (u64 *)GPA, old, value = 0;

	/* This is the first access, before anything has been mapped. */
	asm volatile(".arch_extension lse\n\t"
		     "ldadd %2, %0, %1"
		     : "=r" (old), "+Q" (*memory) : "r" (ADDEND) : "memory");
	GUEST_SYNC1(old);

	WRITE_ONCE(memory[0], PATTERN);
	WRITE_ONCE(memory[1], PATTERN);
	dsb(sy);
	asm volatile("ldr %0, [%1]" : "+r" (value) : "r" ((char *)memory + 1) : "memory");
	GUEST_SYNC1(value);
	GUEST_DONE();
}

/*
 * A guest hypervisor whose guest uses the hypervisor's code and stage 1, and an identity-mapped
 * stage 2.
 */
#define L2_ENTRIES	512
#define L2_ENTRY(i)	((u64)(i) << 30 | BIT(10) | 3UL << 8 | 3UL << 6 | 0xfUL << 2 | 1)
/* 39 bits from level 1, tables in Write-Back memory, 40 bits out. */
#define L2_VTCR		(BIT(31) | 2UL << 16 | 3UL << 12 | BIT(10) | BIT(8) | BIT(6) | 25)
#define L2_SPSR		(PSR_MODE_EL1h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT)

static u64 l2_table;

/* l2_code: adds x1 to the word at x2. */
asm(".pushsection .text\n"
	".arch_extension lse\n"
	"l2_code:\n"
	"	ldadd	x1, x0, [x2]\n"
	"	hvc	#0\n"
	".popsection\n");

static void guest_hyp_code(void)
{
	write_sysreg_s(read_sysreg(ttbr0_el1), SYS_TTBR0_EL12);
	write_sysreg_s(read_sysreg(tcr_el1), SYS_TCR_EL12);
	write_sysreg_s(read_sysreg(mair_el1), SYS_MAIR_EL12);
	write_sysreg_s(read_sysreg_s(SYS_SCTLR_EL12) | SCTLR_ELx_M | SCTLR_ELx_C | SCTLR_ELx_I,
		       SYS_SCTLR_EL12);
	write_sysreg(L2_VTCR, vtcr_el2);
	write_sysreg(l2_table | 1UL << 48, vttbr_el2);
	write_sysreg(HCR_EL2_RW | HCR_EL2_E2H | HCR_EL2_VM, hcr_el2);

	/* These are ELR_EL2 and SPSR_EL2, since HCR_EL2.E2H is 1 */
	asm volatile("adr	x0, l2_code\n\t"
		     "msr	elr_el1, x0\n\t"
		     "msr	spsr_el1, %0\n\t"
		     "mov	x1, %1\n\t"
		     "mov	x2, %2\n\t"
		     "isb\n\t"
		     "eret"
		     : : "r" (L2_SPSR), "r" (ADDEND), "r" (GPA) : "x0", "x1", "x2", "memory");
}

static void guest_hyp_hvc(struct ex_regs *regs)
{
	GUEST_SYNC1(regs->regs[0]);
}

/* Host */

/* Runs to the next sync. Returns whether the guest reached it. */
static bool run(struct kvm_vcpu *vcpu, u64 *value)
{
	struct ucall uc;

	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	if (__vcpu_run(vcpu)) {
		TEST_ASSERT(errno == EFAULT, "KVM_RUN failed, errno %d", errno);
		return false;
	}
	if (get_ucall(vcpu, &uc) != UCALL_SYNC)
		return false;
	*value = uc.args[0];
	return true;
}

static bool says_where(struct kvm_run *run)
{
	return run->exit_reason == KVM_EXIT_MEMORY_FAULT && !run->memory_fault.flags &&
	       run->memory_fault.gpa == GPA && run->memory_fault.size == getpagesize();
}

static u64 refused(struct kvm_vm *vm)
{
	return vm_get_stat(vm, uncached_refused);
}

#define NR_REFUSED	5

static void test_refused(struct kvm_vcpu *vcpu, u64 *memory, const char *name)
{
	void *other;
	u64 value;

	ksft_test_result(!run(vcpu, &value) && says_where(vcpu->run),
			 "%s: LDADD gives EFAULT, and where\n", name);
	ksft_test_result(!run(vcpu, &value), "%s: so it does again\n", name);
	ksft_test_result(READ_ONCE(*memory) == BEFORE, "%s: LDADD has not executed\n", name);
	ksft_test_result(refused(vcpu->vm) == 2, "%s: both are counted\n", name);

	/* Repeat the access at the same address, now with Write-Back memory. */
	other = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	TEST_ASSERT(other != MAP_FAILED, "mmap() failed, errno %d", errno);
	WRITE_ONCE(*(u64 *)other, BEFORE);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, 0, NULL);
	vm_set_user_memory_region(vcpu->vm, SLOT, 0, GPA, getpagesize(), other);
	ksft_test_result(run(vcpu, &value) && value == BEFORE && *(u64 *)other == BEFORE + ADDEND,
			 "%s: Write-Back memory in its place is mapped\n", name);
}

#define NR_MAPPED	3

static void test_mapped(struct kvm_vcpu *vcpu, u64 *memory, const struct kind *kind)
{
	u64 value = 0;
	bool went_on;

	ksft_test_result(run(vcpu, &value) && value == BEFORE &&
			 READ_ONCE(*memory) == BEFORE + ADDEND,
			 "%s: LDADD executes\n", kind->name);

	/* The CPU may report a fault of the guest's stage 1 or of stage 2 */
	went_on = run(vcpu, &value);
	sync_global_from_guest(vcpu->vm, alignment_fault);
	ksft_print_msg("an access that is not aligned: %s, 0x%lx\n",
		       !went_on ? "fault of stage 2" :
		       alignment_fault ? "Alignment fault" : "no fault", value);
	went_on = went_on && !alignment_fault;
	ksft_test_result(kind->device ? !went_on : went_on && value == NOT_ALIGNED,
			 "%s: that is what it is\n", kind->name);
	ksft_test_result(!refused(vcpu->vm), "%s: nothing is counted\n", kind->name);
}

static u64 *map_memory(const struct kind *kind, int fd)
{
	u64 *memory = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
			   kind->page * getpagesize());

	TEST_ASSERT(memory != MAP_FAILED, "mmap() failed, errno %d", errno);
	WRITE_ONCE(*memory, BEFORE);
	return memory;
}

static struct kvm_vm *create(struct kvm_vcpu **vcpu, void *code, u64 *memory)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, code);

	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(*vcpu);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_DABT_CUR, guest_abort);
	vm_set_user_memory_region(vm, SLOT, 0, GPA, getpagesize(), memory);
	virt_pg_map(vm, GPA, GPA);
	return vm;
}

static void test_kind(const struct kind *kind, int fd, bool contained)
{
	u64 *memory = map_memory(kind, fd);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, guest_code, memory);

	if (contained)
		test_refused(vcpu, memory, kind->name);
	else
		test_mapped(vcpu, memory, kind);
	kvm_vm_free(vm);
	munmap(memory, getpagesize());
}

#define NR_NESTED	1

static void test_nested(const struct kind *kind, int fd, bool contained)
{
	u64 *memory = map_memory(kind, fd), *table, value = 0;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, guest_hyp_code, memory);
	gva_t page = vm_alloc_page(vm);
	bool went_on;
	int i;

	vm_install_sync_handler(vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_HVC64, guest_hyp_hvc);
	table = addr_gva2hva(vm, page);
	for (i = 0; i < L2_ENTRIES; i++)
		table[i] = L2_ENTRY(i);
	l2_table = addr_gva2gpa(vm, page);
	sync_global_to_guest(vm, l2_table);

	went_on = run(vcpu, &value);
	if (contained)
		ksft_test_result(!went_on && says_where(vcpu->run) && *memory == BEFORE &&
				 refused(vm) == 1, "%s: nor has L2\n", kind->name);
	else
		ksft_test_result(went_on && value == BEFORE && *memory == BEFORE + ADDEND,
				 "%s: so it does for L2\n", kind->name);
	kvm_vm_free(vm);
	munmap(memory, getpagesize());
}

int main(int argc, char **argv)
{
	bool contained = argc == 2 ? !strcmp(argv[1], "refused") : nolse_contained_by_cmdline();
	int fd, i, facts = contained ? NR_REFUSED : NR_MAPPED;
	bool nested;

	ksft_print_header();
	if (argc == 1 && !contained)
		ksft_exit_skip("refused, or mapped: the command line does not say\n");
	if (argc > 2 || (argc == 2 && !contained && strcmp(argv[1], "mapped")))
		ksft_exit_fail_msg("usage: %s [refused|mapped]\n", argv[0]);
	fd = open("/dev/nolse_test", O_RDWR);
	if (fd < 0)
		ksft_exit_skip("no /dev/nolse_test: the module is not loaded\n");

	nested = kvm_check_cap(KVM_CAP_ARM_EL2) && getpagesize() == 4096;
	ksft_set_plan(ARRAY_SIZE(kinds) * (facts + (nested ? NR_NESTED : 0)));
	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		test_kind(&kinds[i], fd, contained);
		if (nested)
			test_nested(&kinds[i], fd, contained);
	}
	close(fd);
	ksft_finished();
}

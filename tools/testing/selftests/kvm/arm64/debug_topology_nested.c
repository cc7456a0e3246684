// SPDX-License-Identifier: GPL-2.0-only
/*
 * debug_topology_nested - Check the breakpoints of a guest hypervisor's guest, in
 * a VM that has fewer breakpoints than its host.
 *
 * The traps of the guest hypervisor (L1) come first. Accesses of its guest (L2) that
 * L1 does not trap reach the same registers as L1's own accesses, and are mapped alike.
 *
 *   -p B/C[:B/C...]  breakpoints of each CPU, if CPUs differ from each other:
 *                the facts run on each CPU, and on a vCPU that moves
 */
#include <getopt.h>
#include <sched.h>

#include "debug_topology.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

/* The VM has 4 breakpoints. The last one is context-aware. */
#define VM_BRPS		4
#define VM_CTX_CMPS	1
#define LAST		3

#define LINKED		(BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(LAST))
#define CONTEXT		(BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT))

#define SPSR_EL1H	(PSR_MODE_EL1h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT)
#define SPSR_EL2H	(PSR_MODE_EL2h | PSR_D_BIT | PSR_A_BIT | PSR_I_BIT | PSR_F_BIT)

/* The work of a vCPU, and its result. */
struct job {
	u64 fact;
	u64 line;	/* line of the check that failed, 0 if none */
	u64 info;
};

static struct job job;

/*
 * Guest
 */

static u64 hit_at_el1, hit_at_el2;	/* address of the last breakpoint exception */
static u64 undefined_at_el1;		/* count of UNDEFINED exceptions */
static u64 trapped_esr;			/* ESR of the last trapped access, 0 if none */
static u64 l2_stack[512] __aligned(16);

static void check(bool ok, u64 line, u64 info)
{
	if (ok || job.line)
		return;

	job.line = line;
	job.info = info;
}

#define CHECK(what, info)	check(what, __LINE__, info)

/* at_el1(code, arg, stack) calls code(arg) at EL1, and returns its result. */
asm(".pushsection .text\n"
	"at_el1:\n"
	"	stp	x29, x30, [sp, #-96]!\n"
	"	stp	x19, x20, [sp, #16]\n"
	"	stp	x21, x22, [sp, #32]\n"
	"	stp	x23, x24, [sp, #48]\n"
	"	stp	x25, x26, [sp, #64]\n"
	"	stp	x27, x28, [sp, #80]\n"
	"	msr	elr_el1, x0\n"		/* ELR_EL2, as HCR_EL2.E2H is 1 */
	"	mov	x0, x1\n"
	"	msr	sp_el1, x2\n"
	"	adr	x30, leave_el1\n"
	"	isb\n"
	"	eret\n"
	"leave_el1:\n"
	"	hvc	#0\n"
	"back_at_el2:\n"
	"	ldp	x27, x28, [sp, #80]\n"
	"	ldp	x25, x26, [sp, #64]\n"
	"	ldp	x23, x24, [sp, #48]\n"
	"	ldp	x21, x22, [sp, #32]\n"
	"	ldp	x19, x20, [sp, #16]\n"
	"	ldp	x29, x30, [sp], #96\n"
	"	ret\n"
	"probe_code:\n"
	"	msr	daifclr, #8\n"
	"	isb\n"
	"probe_nop:\n"
	"	nop\n"
	"	msr	daifset, #8\n"
	"	ret\n"
	".popsection\n");

#define PROBE	ADDRESS_OF(probe_nop)

#define CALL(label, arg0, arg1, arg2)						\
	(((u64 (*)(u64, u64, u64))ADDRESS_OF(label))((u64)(arg0), arg1, (u64)(arg2)))

static u64 l2(u64 (*code)(u64), u64 arg)
{
	write_sysreg(SPSR_EL1H, spsr_el1);
	return CALL(at_el1, code, arg, l2_stack + ARRAY_SIZE(l2_stack));
}

/* Arms a linked pair, for @context. */
static u64 arm(u64 context)
{
	write_sysreg(0, oslar_el1);
	write_sysreg(MDSCR_KDE | MDSCR_MDE, mdscr_el1);
	write_sysreg(context, dbgbvr3_el1);
	write_sysreg(CONTEXT, dbgbcr3_el1);
	write_sysreg(PROBE, dbgbvr0_el1);
	write_sysreg(LINKED, dbgbcr0_el1);
	isb();
	return 0;
}

static u64 disarm(u64 unused)
{
	write_sysreg(0, dbgbcr0_el1);
	write_sysreg(0, dbgbcr3_el1);
	isb();
	return 0;
}

static u64 set_context(u64 context)
{
	write_sysreg(context, dbgbvr3_el1);
	isb();
	return 0;
}

static u64 read_back(u64 unused)
{
	return read_sysreg(dbgbcr0_el1) == LINKED && read_sysreg(dbgbcr3_el1) == CONTEXT &&
	       read_sysreg(dbgbvr0_el1) == PROBE;
}

static u64 read_context(u64 unused)
{
	return read_sysreg(dbgbvr3_el1);
}

static u64 write_control(u64 value)
{
	write_sysreg(value, dbgbcr0_el1);
	isb();
	return 0;
}

static u64 read_control(u64 unused)
{
	return read_sysreg(dbgbcr0_el1);
}

/* Writes the control register of breakpoint 4, which a VM with 6 breakpoints has. */
static u64 write_ordinary(u64 control)
{
	write_sysreg(control, dbgbcr4_el1);
	return read_sysreg(dbgbcr4_el1);
}

static u64 absent(u64 unused)
{
	write_sysreg(0, dbgbcr4_el1);
	return read_sysreg(dbgbvr4_el1);
}

/* Executes the instruction that the breakpoint is on, in @context. */
static u64 probe(u64 context)
{
	write_sysreg(context, contextidr_el1);
	isb();
	CALL(probe_code, 0, 0, 0);
	write_sysreg(0, contextidr_el1);
	isb();
	return 0;
}

static bool l2_hits(u64 context)
{
	WRITE_ONCE(hit_at_el1, 0);
	WRITE_ONCE(hit_at_el2, 0);
	l2(probe, context);
	return READ_ONCE(hit_at_el1) == PROBE && !READ_ONCE(hit_at_el2);
}

static bool l2_hits_nothing(u64 context)
{
	l2_hits(context);
	return !READ_ONCE(hit_at_el1) && !READ_ONCE(hit_at_el2);
}

static void set_mdcr(u64 value)
{
	write_sysreg(value, mdcr_el2);
	isb();
}

/* Returns whether L2's last access trapped to L1, with direction @write and register @reg. */
static bool trapped(u64 reg, bool write)
{
	u64 esr = READ_ONCE(trapped_esr);

	WRITE_ONCE(trapped_esr, 0);
	return esr && esr_sys64_to_sysreg(esr) == reg &&
	       (esr & ESR_ELx_SYS64_ISS_DIR_MASK) == !write;
}

static void fact_fires(void)
{
	l2(arm, THIS_CONTEXT);
	CHECK(l2_hits(THIS_CONTEXT), 0);
	CHECK(l2_hits_nothing(OTHER_CONTEXT), 1);
	CHECK(l2_hits_nothing(0), 2);
	l2(set_context, OTHER_CONTEXT);
	CHECK(l2_hits(OTHER_CONTEXT), 3);
	CHECK(l2_hits_nothing(THIS_CONTEXT), 4);
}

static void fact_read_back(void)
{
	l2(arm, THIS_CONTEXT);
	CHECK(l2(read_back, 0), 0);
	CHECK(l2(read_context, 0) == THIS_CONTEXT, 1);
	CHECK(read_back(0), 2);
	CHECK(read_context(0) == THIS_CONTEXT, 3);
	/* Disarm, as a hypervisor does that switches between guests */
	disarm(0);
	CHECK(l2_hits_nothing(THIS_CONTEXT), 4);
	arm(OTHER_CONTEXT);
	CHECK(l2_hits(OTHER_CONTEXT), 5);
	CHECK(l2_hits_nothing(THIS_CONTEXT), 6);
}

static void fact_absent(void)
{
	WRITE_ONCE(undefined_at_el1, 0);
	WRITE_ONCE(trapped_esr, 0);
	l2(absent, 0);
	CHECK(READ_ONCE(undefined_at_el1) == 2, READ_ONCE(undefined_at_el1));
	CHECK(!READ_ONCE(trapped_esr), READ_ONCE(trapped_esr));
}

static void fact_tda(void)
{
	u64 mdcr = read_sysreg(mdcr_el2);

	l2(arm, THIS_CONTEXT);
	WRITE_ONCE(trapped_esr, 0);
	set_mdcr(mdcr | MDCR_EL2_TDA);
	l2(set_context, OTHER_CONTEXT);
	CHECK(trapped(sys_reg(2, 0, 0, LAST, 4), true), 0);
	l2(read_control, 0);
	CHECK(trapped(sys_reg(2, 0, 0, 0, 5), false), 1);
	CHECK(READ_ONCE(undefined_at_el1) == 0, READ_ONCE(undefined_at_el1));
	set_mdcr(mdcr);
	CHECK(read_context(0) == THIS_CONTEXT, 3);
	CHECK(l2_hits(THIS_CONTEXT), 4);
	CHECK(l2_hits_nothing(OTHER_CONTEXT), 5);
	l2(set_context, OTHER_CONTEXT);
	CHECK(!READ_ONCE(trapped_esr), 6);
	CHECK(l2_hits(OTHER_CONTEXT), 7);
}

static void fact_fgt_read(void)
{
	u64 traps = read_sysreg_s(SYS_HDFGRTR_EL2);

	l2(arm, THIS_CONTEXT);
	WRITE_ONCE(trapped_esr, 0);
	write_sysreg_s(traps | HDFGRTR_EL2_DBGBVRn_EL1, SYS_HDFGRTR_EL2);
	isb();
	l2(read_context, 0);
	CHECK(trapped(sys_reg(2, 0, 0, LAST, 4), false), 0);
	CHECK(l2(read_control, 0) == LINKED, 1);
	l2(set_context, OTHER_CONTEXT);
	CHECK(!READ_ONCE(trapped_esr), 2);
	write_sysreg_s(traps, SYS_HDFGRTR_EL2);
	isb();
	CHECK(l2(read_context, 0) == OTHER_CONTEXT, 3);
	CHECK(l2_hits(OTHER_CONTEXT), 4);
}

static void fact_fgt_write(void)
{
	u64 traps = read_sysreg_s(SYS_HDFGWTR_EL2);

	l2(arm, THIS_CONTEXT);
	WRITE_ONCE(trapped_esr, 0);
	write_sysreg_s(traps | HDFGWTR_EL2_DBGBCRn_EL1, SYS_HDFGWTR_EL2);
	isb();
	CHECK(l2(read_control, 0) == LINKED, 0);
	CHECK(!READ_ONCE(trapped_esr), 1);
	l2(set_context, OTHER_CONTEXT);
	CHECK(!READ_ONCE(trapped_esr), 2);
	l2(write_control, 0);
	CHECK(trapped(sys_reg(2, 0, 0, 0, 5), true), 3);
	/* L1's traps do not apply to L1 */
	CHECK(read_control(0) == LINKED, 4);
	write_control(LINKED);
	CHECK(!READ_ONCE(trapped_esr), 5);
	write_sysreg_s(traps, SYS_HDFGWTR_EL2);
	isb();
	CHECK(l2_hits(OTHER_CONTEXT), 6);
	l2(write_control, 0);
	CHECK(!READ_ONCE(trapped_esr), 7);
	CHECK(l2_hits_nothing(OTHER_CONTEXT), 8);
}

static void fact_tde(void)
{
	u64 mdcr = read_sysreg(mdcr_el2);

	l2(arm, THIS_CONTEXT);
	set_mdcr(mdcr | MDCR_EL2_TDE);
	l2_hits(THIS_CONTEXT);
	CHECK(READ_ONCE(hit_at_el2) == PROBE && !READ_ONCE(hit_at_el1), READ_ONCE(hit_at_el2));
	l2_hits(OTHER_CONTEXT);
	CHECK(!READ_ONCE(hit_at_el2) && !READ_ONCE(hit_at_el1), READ_ONCE(hit_at_el2));
	/* TDE traps accesses too, like TDA */
	WRITE_ONCE(trapped_esr, 0);
	l2(set_context, OTHER_CONTEXT);
	CHECK(trapped(sys_reg(2, 0, 0, LAST, 4), true), 0);
	set_mdcr(mdcr);
	CHECK(l2_hits(THIS_CONTEXT), 0);
}

static void fact_arm(void)
{
	l2(arm, THIS_CONTEXT);
}

static void fact_armed(void)
{
	CHECK(l2_hits_nothing(OTHER_CONTEXT), 0);
	CHECK(l2_hits(THIS_CONTEXT), 1);
	CHECK(l2(read_back, 0), 2);
}

static void fact_default(void)
{
	u64 context = BCR_ARMED | BCR_BT(BT_CONTEXT);

	CHECK(l2(write_ordinary, context) == BCR_ARMED, l2(write_ordinary, context));
}

static const struct fact {
	const char *name;
	void (*run)(void);
} facts[] = {
	{ "L2's linked breakpoint fires at EL1", fact_fires },
	{ "L1 and L2 have the same registers", fact_read_back },
	{ "registers beyond the last are undefined for L2", fact_absent },
	{ "L1's MDCR_EL2.TDA comes first", fact_tda },
	{ "L1's HDFGRTR_EL2.DBGBVRn_EL1 comes first", fact_fgt_read },
	{ "L1's HDFGWTR_EL2.DBGBCRn_EL1 comes first", fact_fgt_write },
	{ "L1's MDCR_EL2.TDE has L2's exceptions and accesses", fact_tde },
	/* Not in the loop over facts: run explicitly */
	{ "", fact_arm },
	{ "", fact_armed },
	{ "", fact_default },
};

enum { NR_FACTS = ARRAY_SIZE(facts) - 3, ARM = NR_FACTS, ARMED, DEFAULT };

/* EL1 uses the translation tables of EL2: the same code, at the same addresses. */
static void guest_code(void)
{
	write_sysreg_s(read_sysreg(ttbr0_el1), SYS_TTBR0_EL12);
	write_sysreg_s(read_sysreg(tcr_el1), SYS_TCR_EL12);
	write_sysreg_s(read_sysreg(mair_el1), SYS_MAIR_EL12);
	write_sysreg_s(read_sysreg(vbar_el1), SYS_VBAR_EL12);
	write_sysreg_s(3 << 20, SYS_CPACR_EL12);
	write_sysreg_s(read_sysreg_s(SYS_SCTLR_EL12) | SCTLR_ELx_M | SCTLR_ELx_C | SCTLR_ELx_I,
		       SYS_SCTLR_EL12);
	write_sysreg(HCR_EL2_RW | HCR_EL2_E2H, hcr_el2);
	isb();

	for (;;) {
		job.line = 0;
		WRITE_ONCE(undefined_at_el1, 0);
		facts[job.fact].run();
		GUEST_SYNC(0);
	}
}

static void from_el1_hvc(struct ex_regs *regs)
{
	regs->pc = ADDRESS_OF(back_at_el2);
	regs->pstate = SPSR_EL2H;
}

static void from_el1_trapped(struct ex_regs *regs)
{
	WRITE_ONCE(trapped_esr, read_sysreg(esr_el1));
	regs->pc += 4;
}

static void from_el1_breakpoint(struct ex_regs *regs)
{
	WRITE_ONCE(hit_at_el2, regs->pc);
	regs->pc += 4;
}

static void at_el1_breakpoint(struct ex_regs *regs)
{
	WRITE_ONCE(hit_at_el1, regs->pc);
	regs->pstate |= PSR_D_BIT;
}

static void at_el1_undefined(struct ex_regs *regs)
{
	WRITE_ONCE(undefined_at_el1, undefined_at_el1 + 1);
	regs->pc += 4;
}

/*
 * Host
 */

#define result(ok, fmt, ...)	ksft_test_result(ok, fmt "\n", ##__VA_ARGS__)

static struct kvm_vm *create_topology(struct kvm_vcpu **vcpu, bool narrow)
{
	struct kvm_vm *vm = vm_create_with_one_vcpu(vcpu, guest_code);
	u64 dfr0 = vcpu_get_reg(*vcpu, DFR0);

	TEST_REQUIRE(vcpu_has_el2(*vcpu));
	TEST_REQUIRE(writable_dfr0(vm) & ID_AA64DFR0_EL1_BRPs);
	TEST_REQUIRE(BRPS(dfr0) > VM_BRPS);
	if (narrow)
		vcpu_set_reg(*vcpu, DFR0, with_topology(dfr0, VM_BRPS, VM_CTX_CMPS));

	vm_init_descriptor_tables(vm);
	vcpu_init_descriptor_tables(*vcpu);
	vm_install_sync_handler(vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_HVC64, from_el1_hvc);
	vm_install_sync_handler(vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_SYS64, from_el1_trapped);
	vm_install_sync_handler(vm, VECTOR_SYNC_LOWER_64, ESR_ELx_EC_BREAKPT_LOW,
				from_el1_breakpoint);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_BREAKPT_CUR,
				at_el1_breakpoint);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_UNKNOWN, at_el1_undefined);
	return vm;
}

static struct kvm_vm *create(struct kvm_vcpu **vcpu)
{
	return create_topology(vcpu, true);
}

static bool run_fact(struct kvm_vcpu *vcpu, int fact)
{
	struct ucall uc;

	job.fact = fact;
	sync_global_to_guest(vcpu->vm, job);
	vcpu_run(vcpu);
	get_sync(vcpu, &uc);
	sync_global_from_guest(vcpu->vm, job);
	if (job.line)
		ksft_print_msg("line %lu, detail 0x%lx\n", job.line, job.info);
	return !job.line;
}

static void test_facts(const char *where)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu);
	int i;

	for (i = 0; i < NR_FACTS; i++)
		result(run_fact(vcpu, i), "%s%s", where, facts[i].name);
	kvm_vm_free(vm);

	/* KVM gives a VM with EL2 one context-aware breakpoint, whatever the CPU has */
	vm = create_topology(&vcpu, false);
	result(run_fact(vcpu, DEFAULT), "%sa default VM has one context-aware breakpoint", where);
	kvm_vm_free(vm);
}

static void test_moving(int nr_cpus)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu);
	bool ok = run_fact(vcpu, ARM);
	int i;

	for (i = 0; i < 10 * nr_cpus; i++) {
		pin_self_to_cpu(i % nr_cpus);
		ok &= run_fact(vcpu, ARMED);
	}
	result(ok, "L2's armed breakpoints fire wherever the vCPU goes");
	kvm_vm_free(vm);
}

/* Returns the number of CPUs that differ, or 1. Ends the test if an option is wrong. */
static int parse_options(int argc, char **argv)
{
	struct topology cpus[MAX_CPUS];
	int opt, nr_cpus = 1;

	while ((opt = getopt(argc, argv, "p:")) != -1) {
		nr_cpus = opt == 'p' ? parse_cpus(optarg, cpus) : 0;
		if (!nr_cpus) {
			fprintf(stderr, "usage: %s [-p B/C[:B/C...]]; %s\n", argv[0],
				"B is from 2 to 16, C from 1 to B");
			exit(KSFT_FAIL);
		}
	}
	return nr_cpus;
}

int main(int argc, char **argv)
{
	int cpu, nr_cpus = parse_options(argc, argv);
	struct kvm_vcpu *vcpu;
	char where[32];

	ksft_print_header();
	TEST_REQUIRE(test_supports_el2());
	kvm_vm_free(create(&vcpu));

	if (nr_cpus == 1) {
		ksft_set_plan(NR_FACTS + 1);
		test_facts("");
		ksft_finished();
	}

	ksft_set_plan(nr_cpus * (NR_FACTS + 1) + 1);
	for (cpu = 0; cpu < nr_cpus; cpu++) {
		pin_self_to_cpu(cpu);
		snprintf(where, sizeof(where), "CPU%d: ", cpu);
		test_facts(where);
	}
	test_moving(nr_cpus);
	ksft_finished();
}

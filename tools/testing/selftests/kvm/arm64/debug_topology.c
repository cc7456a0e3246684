// SPDX-License-Identifier: GPL-2.0-only
/*
 * debug_topology - Check that a VM with fewer breakpoints than its host has
 * exactly these breakpoints, and that the context-aware ones work.
 *
 * If the host offers writable fields (KVM_ARM_GET_REG_WRITABLE_MASKS), the test
 * tries every pair of ID_AA64DFR0_EL1.BRPs and CTX_CMPs. VMs with several pairs
 * then check the same facts as a VM with the default. Each fact is a statement of
 * the Arm ARM about a machine with that many breakpoints.
 *
 * The facts are about EL1, so the VMs have no EL2; debug_topology_nested tests VMs
 * that have EL2.
 *
 *   -l               instead, bring CPU1 online after VMs have run
 *   -p B/C[:B/C...]  count of breakpoints and of context-aware ones for each CPU, if
 *                    CPUs differ from each other: the facts run on each CPU, and on a vCPU
 *                    that moves
 *   -n               the host must not offer writable fields
 *   -y               the host must offer writable fields
 */
#include <getopt.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#include "debug_topology.h"
#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "tracefs.h"
#include "ucall.h"

#define MAX_REGS	16
#define MANY		10000

/* The work of a vCPU, and its result. */
struct job {
	u64 fact;
	u64 brps;	/* count of the VM's breakpoints */
	u64 ctx_cmps;	/* count of context-aware ones */
	u64 wrps;	/* count of watchpoints */
	u64 line;	/* line of the check that failed, 0 if none */
	u64 info;
};

static struct job job;

/*
 * Guest
 */

static u64 hit_breakpoint, hit_watchpoint, undefined;
static u64 watched[2] __aligned(16);
static u64 stepped[8], nr_stepped;

/* AArch32 code for EL0: "mrc p14, 0, r0, c0, c0, 0", which is DBGDIDR; "svc #0" */
static u32 aarch32_code[] = { 0xee100e10, 0xef000000 };

static void check(bool ok, u64 line, u64 info)
{
	if (ok || job.line)
		return;

	job.line = line;
	job.info = info;
}

#define CHECK(what, info)	check(what, __LINE__, info)

/*
 * A write and a read of each register (2, 0, 0, n, op2), 16 bytes per pair, and the
 * instructions that breakpoints and watchpoints hit.
 */
asm(".pushsection .text\n"
	"accessors:\n"
	".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
	".irp op2, 4, 5, 6, 7\n"
	"	msr	s2_0_c0_c\\n\\()_\\op2, x0\n"
	"	ret\n"
	"	mrs	x0, s2_0_c0_c\\n\\()_\\op2\n"
	"	ret\n"
	".endr\n"
	".endr\n"
	"probe_code:\n"
	"	msr	daifclr, #8\n"
	"	isb\n"
	"probe_nop:\n"
	"	nop\n"
	"other_nop:\n"
	"	nop\n"
	"	str	x0, [x1]\n"
	"	msr	daifset, #8\n"
	"	ret\n"
	"step_code:\n"
	"	msr	daifclr, #8\n"
	"	msr	mdscr_el1, x1\n"
	"	isb\n"
	"step_write:\n"
	"	msr	dbgbvr0_el1, x0\n"
	"	mrs	x0, dbgbvr0_el1\n"
	"	nop\n"
	"step_end:\n"
	"	msr	daifset, #8\n"
	"	ret\n"
	/*
	 * Run the code at x0 in AArch32 at EL0, until it takes an exception. The upper
	 * halves of registers that AArch32 has may be lost.
	 */
	"aarch32_call:\n"
	"	stp	x19, x20, [sp, #-112]!\n"
	"	stp	x21, x22, [sp, #16]\n"
	"	stp	x23, x24, [sp, #32]\n"
	"	stp	x25, x26, [sp, #48]\n"
	"	stp	x27, x28, [sp, #64]\n"
	"	stp	x29, x30, [sp, #80]\n"
	"	mrs	x1, vbar_el1\n"
	"	str	x1, [sp, #96]\n"
	"	adr	x1, aarch32_vectors\n"
	"	msr	vbar_el1, x1\n"
	"	mov	x1, #0x1d0\n"
	"	msr	spsr_el1, x1\n"
	"	msr	elr_el1, x0\n"
	"	isb\n"
	"	eret\n"
	"	.balign	2048\n"
	"aarch32_vectors:\n"
	"	.skip	0x600\n"
	"	ldr	x1, [sp, #96]\n"
	"	msr	vbar_el1, x1\n"
	"	isb\n"
	"	ldp	x21, x22, [sp, #16]\n"
	"	ldp	x23, x24, [sp, #32]\n"
	"	ldp	x25, x26, [sp, #48]\n"
	"	ldp	x27, x28, [sp, #64]\n"
	"	ldp	x29, x30, [sp, #80]\n"
	"	ldp	x19, x20, [sp], #112\n"
	"	ret\n"
	".popsection\n");

/* The address of breakpoints */
#define PROBE	ADDRESS_OF(probe_nop)
#define OTHER	ADDRESS_OF(other_nop)

enum { BVR_OP2 = 4, BCR_OP2, WVR_OP2, WCR_OP2 };

/* Calls one of the code fragments above. */
static u64 call(u64 code, u64 arg0, u64 arg1)
{
	register u64 x0 asm("x0") = arg0;
	register u64 x1 asm("x1") = arg1;

	asm volatile("blr %2" : "+r" (x0), "+r" (x1) : "r" (code)
		     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
		       "x13", "x14", "x15", "x16", "x17", "x18", "x30", "memory");
	return x0;
}

static void write_reg(int n, int op2, u64 value)
{
	call(ADDRESS_OF(accessors) + 16 * (n * 4 + op2 - 4), value, 0);
}

static u64 read_reg(int n, int op2)
{
	return call(ADDRESS_OF(accessors) + 16 * (n * 4 + op2 - 4) + 8, 0, 0);
}

static void breakpoint(int n, u64 control, u64 value)
{
	write_reg(n, BVR_OP2, value);
	write_reg(n, BCR_OP2, control);
}

static void watchpoint(int n, u64 control, u64 value)
{
	write_reg(n, WVR_OP2, value);
	write_reg(n, WCR_OP2, control);
}

static void reset(void)
{
	int i;

	asm volatile("msr daifset, #8");
	write_sysreg(0, oslar_el1);
	write_sysreg(0, osdlr_el1);
	write_sysreg(0, contextidr_el1);
	for (i = 0; i < job.brps; i++)
		breakpoint(i, 0, 0);
	for (i = 0; i < job.wrps; i++)
		watchpoint(i, 0, 0);
	write_sysreg(MDSCR_KDE | MDSCR_MDE, mdscr_el1);
	isb();
}

static bool is_context_aware(int n)
{
	return n < job.brps && n >= job.brps - job.ctx_cmps;
}

/*
 * Executes both probes and a store to @data, in @context. The exception handler
 * disables debug exceptions, so at most one exception is taken.
 */
static void probe_at(u64 context, u64 *data)
{
	WRITE_ONCE(hit_breakpoint, 0);
	WRITE_ONCE(hit_watchpoint, 0);
	write_sysreg(context, contextidr_el1);
	isb();
	call(ADDRESS_OF(probe_code), context, (u64)data);
	write_sysreg(0, contextidr_el1);
	isb();
}

static void probe(u64 context)
{
	probe_at(context, &watched[0]);
}

static bool hits_probe(u64 context)
{
	probe(context);
	return READ_ONCE(hit_breakpoint) == PROBE && !READ_ONCE(hit_watchpoint);
}

static bool hits_anything(u64 context)
{
	probe(context);
	return READ_ONCE(hit_breakpoint) || READ_ONCE(hit_watchpoint);
}

static bool hits_watched(u64 context)
{
	probe(context);
	return READ_ONCE(hit_watchpoint) == (u64)&watched[0] && !READ_ONCE(hit_breakpoint);
}

/* Returns a value that reads back unchanged, different for each register. */
static u64 value_of(int n)
{
	return 0x0000412345600000UL + n * 0x1000 + 4;
}

static u64 control_of(int n)
{
	u64 bt = is_context_aware(n) ? BT_LINKED_CONTEXT : BT_LINKED_ADDRESS;

	return BCR_BT(bt) | BCR_LBN(n) | BCR_BAS | ((u64)(n % 4) << 1);
}

static u64 wcontrol_of(int n)
{
	return (n & 1 ? WCR_WT : 0) | BCR_LBN(15 - n) | (1UL << (5 + n % 8)) |
	       WCR_LSC | ((u64)(n % 4) << 1);
}

static void fact_read_back(void)
{
	int i;

	reset();
	for (i = 0; i < job.brps; i++)
		breakpoint(i, control_of(i), value_of(i));
	for (i = 0; i < job.wrps; i++)
		watchpoint(i, wcontrol_of(i), value_of(i) & ~7UL);
	for (i = 0; i < job.brps; i++) {
		CHECK(read_reg(i, BCR_OP2) == control_of(i), read_reg(i, BCR_OP2));
		CHECK(read_reg(i, BVR_OP2) == value_of(i), read_reg(i, BVR_OP2));
	}
	for (i = 0; i < job.wrps; i++) {
		CHECK(read_reg(i, WCR_OP2) == wcontrol_of(i), read_reg(i, WCR_OP2));
		CHECK(read_reg(i, WVR_OP2) == (value_of(i) & ~7UL), read_reg(i, WVR_OP2));
	}
}

static void fact_address(void)
{
	int i;

	for (i = 0; i < job.brps; i++) {
		reset();
		breakpoint(i, BCR_ARMED, OTHER);
		isb();
		probe(0);
		CHECK(READ_ONCE(hit_breakpoint) == OTHER, i);
		breakpoint(i, BCR_ARMED, PROBE);
		isb();
		CHECK(hits_probe(OTHER_CONTEXT), i);
		breakpoint(i, BCR_ARMED & ~BCR_E, PROBE);
		isb();
		CHECK(!hits_anything(0), i);
	}
}

static void fact_context(void)
{
	int n;

	for (n = job.brps - job.ctx_cmps; n < job.brps; n++) {
		reset();
		breakpoint(n, BCR_ARMED | BCR_BT(BT_CONTEXT), THIS_CONTEXT);
		isb();
		probe(THIS_CONTEXT);
		CHECK(READ_ONCE(hit_breakpoint), n);
		CHECK(!hits_anything(OTHER_CONTEXT), n);
		CHECK(!hits_anything(0), n);
		breakpoint(n, 0, THIS_CONTEXT);
		isb();
		CHECK(!hits_anything(THIS_CONTEXT), n);
	}
}

static void fact_linked_breakpoint(void)
{
	int i, n;

	for (n = job.brps - job.ctx_cmps; n < job.brps; n++) {
		for (i = 0; i < job.brps; i++) {
			if (i == n)
				continue;
			reset();
			breakpoint(n, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
			breakpoint(i, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n),
				   PROBE);
			isb();
			CHECK(hits_probe(THIS_CONTEXT), n * 16 + i);
			CHECK(!hits_anything(OTHER_CONTEXT), n * 16 + i);
			CHECK(!hits_anything(0), n * 16 + i);
		}
	}
}

static void fact_linked_watchpoint(void)
{
	int i, n;

	for (n = job.brps - job.ctx_cmps; n < job.brps; n++) {
		for (i = 0; i < job.wrps; i++) {
			reset();
			breakpoint(n, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
			watchpoint(i, WCR_ARMED | WCR_WT | BCR_LBN(n), (u64)&watched[0]);
			isb();
			CHECK(hits_watched(THIS_CONTEXT), n * 16 + i);
			CHECK(!hits_anything(OTHER_CONTEXT), n * 16 + i);
			CHECK(!hits_anything(0), n * 16 + i);
		}
	}
}

static void fact_watchpoint(void)
{
	int i;

	for (i = 0; i < job.wrps; i++) {
		reset();
		watchpoint(i, WCR_ARMED, (u64)&watched[0]);
		isb();
		CHECK(hits_watched(OTHER_CONTEXT), i);
		watchpoint(i, WCR_ARMED, (u64)&watched[1]);
		isb();
		CHECK(!hits_anything(0), i);
	}
}

/* A watchpoint covers 16 bytes, and the store is to the last eight of them. */
static void fact_masked_watchpoint(void)
{
	int i;

	for (i = 0; i < job.wrps; i++) {
		reset();
		watchpoint(i, WCR_ARMED, (u64)watched);
		isb();
		probe_at(0, &watched[1]);
		CHECK(!READ_ONCE(hit_watchpoint), i);
		watchpoint(i, WCR_ARMED | WCR_MASK(4), (u64)watched);
		isb();
		probe_at(0, &watched[1]);
		CHECK(READ_ONCE(hit_watchpoint) == (u64)&watched[1], READ_ONCE(hit_watchpoint));
		CHECK(read_reg(i, WCR_OP2) == (WCR_ARMED | WCR_MASK(4)), i);
	}
}

/* Programs the address breakpoint first, and the breakpoint to which it is linked later. */
static void link_later(int n)
{
	reset();
	breakpoint(0, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n), PROBE);
	isb();
	CHECK(!hits_anything(THIS_CONTEXT), 0);
	write_reg(n, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT));
	write_reg(n, BVR_OP2, THIS_CONTEXT);
	isb();
	CHECK(hits_probe(THIS_CONTEXT), 1);
}

/* Changes the context while linked, then disables the match, and enables it again. */
static void change_context(int n)
{
	write_reg(n, BVR_OP2, OTHER_CONTEXT);
	isb();
	CHECK(hits_probe(OTHER_CONTEXT), 2);
	CHECK(!hits_anything(THIS_CONTEXT), 3);
	write_reg(n, BCR_OP2, 0);
	isb();
	CHECK(!hits_anything(OTHER_CONTEXT), 4);
	write_reg(n, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT));
	isb();
	CHECK(hits_probe(OTHER_CONTEXT), 5);
}

/* Changes the link in the control register to a missing breakpoint, then back. */
static void change_link(int n)
{
	write_reg(0, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(15));
	isb();
	if (!is_context_aware(15))
		CHECK(!hits_anything(OTHER_CONTEXT), 6);
	write_reg(0, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n));
	isb();
	CHECK(hits_probe(OTHER_CONTEXT), 7);
}

static void fact_any_order(void)
{
	int n = job.brps - 1;

	link_later(n);
	change_context(n);
	change_link(n);
}

static u64 target_of(int n)
{
	return is_context_aware(n) ? THIS_CONTEXT : (u64)&watched[0];
}

/* Prepares every breakpoint except the first as a target, to find a link that hits it. */
static void arm_targets(void)
{
	int i;

	for (i = 1; i < job.brps; i++)
		breakpoint(i, BCR_ARMED | BCR_BT(is_context_aware(i) ?
						 BT_LINKED_CONTEXT : BT_ADDRESS), target_of(i));
}

/* A link to a breakpoint that does not exist or is not context-aware matches nothing. */
static void fact_bad_link(void)
{
	u64 control, wcontrol;
	int i, lbn, last = job.brps - 1;

	for (lbn = 0; lbn < MAX_REGS; lbn++) {
		if (is_context_aware(lbn))
			continue;
		reset();
		arm_targets();
		control = BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(lbn);
		wcontrol = WCR_ARMED | WCR_WT | BCR_LBN(lbn);
		breakpoint(0, control, PROBE);
		watchpoint(0, wcontrol, (u64)&watched[0]);
		isb();
		CHECK(!hits_anything(THIS_CONTEXT), lbn);
		CHECK(!hits_anything(0), lbn);

		CHECK(read_reg(0, BCR_OP2) == control, lbn);
		CHECK(read_reg(0, BVR_OP2) == PROBE, lbn);
		CHECK(read_reg(0, WCR_OP2) == wcontrol, lbn);
		for (i = 1; i < job.brps; i++)
			CHECK(read_reg(i, BVR_OP2) == target_of(i), lbn);
		/* The other breakpoints still work */
		write_reg(0, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(last));
		isb();
		if (last)
			CHECK(hits_probe(THIS_CONTEXT), lbn);
	}
}

/* A link to a breakpoint of an unlinked type, or to a disabled one, matches nothing. */
static void fact_link_to_unlinked(void)
{
	int n = job.brps - 1;

	reset();
	/* An unlinked context match for EL0 only, which takes no exception at EL1 */
	breakpoint(n, (BCR_ARMED & ~BCR_EL1) | BIT(2) | BCR_BT(BT_CONTEXT), THIS_CONTEXT);
	breakpoint(0, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n), PROBE);
	isb();
	CHECK(!hits_anything(THIS_CONTEXT), 0);
	breakpoint(n, (BCR_ARMED & ~BCR_E) | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
	isb();
	CHECK(!hits_anything(THIS_CONTEXT), 1);
	breakpoint(n, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
	isb();
	CHECK(hits_probe(THIS_CONTEXT), 2);
}

/* BT[3] and BT[1] of a breakpoint that is not context-aware are RES0. */
static void fact_ordinary_types(void)
{
	int bt, i;

	for (i = 0; i < job.brps - job.ctx_cmps; i++) {
		for (bt = 0; bt < 16; bt++) {
			reset();
			breakpoint(i, BCR_BAS | BCR_BT(bt), THIS_CONTEXT);
			CHECK(read_reg(i, BCR_OP2) == (BCR_BAS | BCR_BT(bt & 5)), i * 16 + bt);
		}
		breakpoint(i, BCR_ARMED | BCR_BT(BT_CONTEXT), PROBE);
		isb();
		CHECK(hits_probe(THIS_CONTEXT), i);
	}
}

/* Types that compare registers of EL2 match nothing, since the VM has no EL2. */
static void fact_el2_types(void)
{
	int bt, n;

	for (n = job.brps - job.ctx_cmps; n < job.brps; n++) {
		for (bt = 8; bt < 16; bt++) {
			reset();
			breakpoint(n, BCR_ARMED | BCR_BT(bt), 0);
			if (n)
				breakpoint(0, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n),
					   PROBE);
			isb();
			CHECK(!hits_anything(0), n * 16 + bt);
			CHECK(read_reg(n, BCR_OP2) == (BCR_ARMED | BCR_BT(bt)), n * 16 + bt);
		}
	}
}

/* Registers beyond the VM's last ones are UNDEFINED. */
static void fact_absent(void)
{
	u64 expected = 0;
	int i;

	reset();
	WRITE_ONCE(undefined, 0);
	for (i = 0; i < MAX_REGS; i++) {
		if (i >= job.brps) {
			read_reg(i, BCR_OP2);
			write_reg(i, BCR_OP2, 0);
			read_reg(i, BVR_OP2);
			write_reg(i, BVR_OP2, 0);
			expected += 4;
		}
		if (i >= job.wrps) {
			read_reg(i, WCR_OP2);
			write_reg(i, WCR_OP2, 0);
			read_reg(i, WVR_OP2);
			write_reg(i, WVR_OP2, 0);
			expected += 4;
		}
		CHECK(READ_ONCE(undefined) == expected, i);
	}
}

/* The same before the guest owns the registers: every access traps, mapped or not. */
static void fact_absent_unowned(void)
{
	write_sysreg(0, mdscr_el1);
	GUEST_SYNC(1);
	WRITE_ONCE(undefined, 0);
	if (job.brps < MAX_REGS)
		read_reg(MAX_REGS - 1, BCR_OP2);
	CHECK(READ_ONCE(undefined) == (job.brps < MAX_REGS), undefined);
}

/* In a VM with fewer watchpoints than the CPU, which traps only until it owns the registers. */
static void fact_absent_watchpoint(void)
{
	write_sysreg(0, mdscr_el1);
	GUEST_SYNC(1);
	WRITE_ONCE(undefined, 0);
	read_reg(job.wrps, WCR_OP2);
	CHECK(READ_ONCE(undefined) == 1, undefined);
}

/*
 * HMC, SSC and PMC (PAC in DBGWCR<n>_EL1) select the Exception levels and Security states; the
 * probe runs at Non-secure EL1. SSC is 1 for Non-secure state alone, and 2 for Secure state.
 */
static const struct { u64 control; bool el1; } levels[] = {
	{ BCR_PMC(1), true }, { BCR_PMC(2), false }, { BCR_PMC(3), true },
	{ BCR_HMC | BCR_PMC(1), true }, { BCR_HMC | BCR_PMC(3), true },
	{ BCR_SSC(1) | BCR_PMC(1), true }, { BCR_SSC(1) | BCR_PMC(2), false },
	{ BCR_SSC(2) | BCR_PMC(1), false }, { BCR_SSC(2) | BCR_PMC(3), false },
};

static void fact_exception_levels(void)
{
	u64 control;
	int i, j;

	for (i = 0; i < job.brps; i++) {
		for (j = 0; j < ARRAY_SIZE(levels); j++) {
			reset();
			control = BCR_BAS | BCR_E | levels[j].control;
			breakpoint(i, control, PROBE);
			isb();
			CHECK(hits_probe(0) == levels[j].el1, i * 16 + j);
			CHECK(read_reg(i, BCR_OP2) == control, i * 16 + j);
		}
	}
}

static void fact_watched_levels(void)
{
	u64 control;
	int i, j;

	for (i = 0; i < job.wrps; i++) {
		for (j = 0; j < ARRAY_SIZE(levels); j++) {
			reset();
			control = WCR_BAS | WCR_LSC | BCR_E | levels[j].control;
			watchpoint(i, control, (u64)&watched[0]);
			isb();
			CHECK(hits_watched(0) == levels[j].el1, i * 16 + j);
			CHECK(read_reg(i, WCR_OP2) == control, i * 16 + j);
		}
	}
}

/* Software step works over accesses, which trap if breakpoints are mapped. */
static void fact_step(void)
{
	int i;

	reset();
	WRITE_ONCE(nr_stepped, 0);
	CHECK(call(ADDRESS_OF(step_code), OTHER, MDSCR_KDE | MDSCR_SS) == OTHER, 0);
	write_sysreg(MDSCR_KDE | MDSCR_MDE, mdscr_el1);
	isb();
	CHECK(READ_ONCE(nr_stepped) == 4, nr_stepped);
	for (i = 0; i < 4; i++)
		CHECK(READ_ONCE(stepped[i]) == ADDRESS_OF(step_write) + 4 * i, i);
}

static u32 read_dbgdidr(void)
{
	u32 value = call(ADDRESS_OF(aarch32_call), (u64)aarch32_code, 0);

	CHECK(ESR_ELx_EC(read_sysreg(esr_el1)) == ESR_ELx_EC_SVC32, read_sysreg(esr_el1));
	return value;
}

/* AArch32 at EL0 reads the VM's counts from DBGDIDR, whoever owns the debug registers. */
static void fact_dbgdidr(void)
{
	u32 want = (job.wrps - 1) << 28 | (job.brps - 1) << 24 | (job.ctx_cmps - 1) << 20;

	write_sysreg(0, mdscr_el1);
	GUEST_SYNC(1);
	CHECK((read_dbgdidr() & GENMASK(31, 20)) == want, read_dbgdidr());
	write_sysreg(MDSCR_KDE | MDSCR_MDE, mdscr_el1);
	isb();
	CHECK((read_dbgdidr() & GENMASK(31, 20)) == want, read_dbgdidr());
	GUEST_SYNC(1);
	CHECK((read_dbgdidr() & GENMASK(31, 20)) == want, read_dbgdidr());
	write_sysreg(0, mdscr_el1);
	isb();
	CHECK((read_dbgdidr() & GENMASK(31, 20)) == want, read_dbgdidr());
}

static void fact_os_lock(void)
{
	int n = job.brps - 1;

	reset();
	breakpoint(n, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
	breakpoint(0, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n), PROBE);
	isb();
	CHECK(hits_probe(THIS_CONTEXT), 0);
	write_sysreg(1, oslar_el1);
	isb();
	CHECK(read_sysreg(oslsr_el1) & BIT(1), 1);
	CHECK(!hits_anything(THIS_CONTEXT), 2);
	/* Values written while the OS Lock is set take effect afterwards */
	write_reg(n, BVR_OP2, OTHER_CONTEXT);
	isb();
	write_sysreg(0, oslar_el1);
	isb();
	CHECK(hits_probe(OTHER_CONTEXT), 3);
	CHECK(!hits_anything(THIS_CONTEXT), 4);
}

/* Arms breakpoints and a watchpoint linked to the last breakpoint, for fact_fires(). */
static void fact_arm(void)
{
	int i, n = job.brps - 1;

	reset();
	breakpoint(n, BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT), THIS_CONTEXT);
	for (i = 0; i < n; i++)
		breakpoint(i, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n),
			   i ? OTHER : PROBE);
	for (i = 0; i < job.wrps; i++)
		watchpoint(i, WCR_ARMED | WCR_WT | BCR_LBN(n), (u64)&watched[i % 2]);
	isb();
}

static void fact_fires(void)
{
	int i, n = job.brps - 1;

	CHECK(!hits_anything(OTHER_CONTEXT), 0);
	CHECK(hits_probe(THIS_CONTEXT), 1);
	CHECK(read_reg(n, BCR_OP2) == (BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT)),
	      read_reg(n, BCR_OP2));
	CHECK(read_reg(n, BVR_OP2) == THIS_CONTEXT, read_reg(n, BVR_OP2));
	for (i = 0; i < n; i++)
		CHECK(read_reg(i, BCR_OP2) ==
		      (BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n)), i);
	/* Without the breakpoints, the watchpoint hits */
	write_reg(0, BCR_OP2, 0);
	if (n > 1)
		write_reg(1, BCR_OP2, 0);
	for (i = 2; i < n; i++)
		write_reg(i, BCR_OP2, 0);
	isb();
	CHECK(hits_watched(THIS_CONTEXT), 2);
	CHECK(!hits_anything(OTHER_CONTEXT), 3);
	for (i = 0; i < n; i++)
		write_reg(i, BCR_OP2, BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(n));
	isb();
	CHECK(hits_probe(THIS_CONTEXT), 4);
}

/* Userspace has written another context to the last breakpoint since fact_arm(). */
static void fact_fires_other(void)
{
	CHECK(hits_probe(OTHER_CONTEXT), 0);
	CHECK(!hits_anything(THIS_CONTEXT), 1);
	CHECK(read_reg(job.brps - 1, BVR_OP2) == OTHER_CONTEXT, 2);
}

/* The vCPU was reset since fact_arm(). */
static void fact_disarmed(void)
{
	int i;

	write_sysreg(0, oslar_el1);
	write_sysreg(MDSCR_KDE | MDSCR_MDE, mdscr_el1);
	isb();
	CHECK(!hits_anything(THIS_CONTEXT), 0);
	for (i = 0; i < job.brps; i++)
		CHECK(!(read_reg(i, BCR_OP2) & BCR_E), i);
}

/* Writes a register many times, so that exits can be counted. */
static void fact_many(void)
{
	int i;

	for (i = 0; i < MANY; i++)
		write_reg(0, BVR_OP2, 4 * i);
}

static u64 released;

/* Stays in the guest until userspace has finished its checks. */
static void fact_stay(void)
{
	while (!READ_ONCE(released))
		cpu_relax();
}

/* Only executes the probe, while userspace debugs the guest. */
static void fact_nothing(void)
{
	probe(THIS_CONTEXT);
}

enum where { ALWAYS, WITH_AARCH32, WHERE_MAPPED, WHERE_ORDINARY_MAPPED, BY_HAND };

static const struct fact {
	const char *name;
	void (*run)(void);
	enum where where;
} facts[] = {
	{ "registers read back what was written", fact_read_back, ALWAYS },
	{ "address match at every breakpoint", fact_address, ALWAYS },
	{ "context match at the context-aware ones", fact_context, ALWAYS },
	{ "linked address match, every pair", fact_linked_breakpoint, ALWAYS },
	{ "linked watchpoint, every pair", fact_linked_watchpoint, ALWAYS },
	{ "watchpoints keep their numbers", fact_watchpoint, ALWAYS },
	{ "a watchpoint with a mask", fact_masked_watchpoint, ALWAYS },
	{ "programming order does not matter", fact_any_order, ALWAYS },
	{ "a bad link never fires and disturbs nothing", fact_bad_link, ALWAYS },
	{ "a link to what is not a linked type never fires", fact_link_to_unlinked, ALWAYS },
	{ "OS Lock set and cleared", fact_os_lock, ALWAYS },
	{ "PMC, HMC and SSC choose the exception levels", fact_exception_levels, ALWAYS },
	{ "PAC, HMC and SSC do so for watchpoints", fact_watched_levels, ALWAYS },
	{ "software step over accesses", fact_step, ALWAYS },
	{ "AArch32 at EL0 reads the VM's numbers", fact_dbgdidr, WITH_AARCH32 },
	{ "context types are RES0 in ordinary ones", fact_ordinary_types,
	  WHERE_ORDINARY_MAPPED },
	{ "types of EL2 match nothing and read back", fact_el2_types, WHERE_MAPPED },
	{ "registers beyond the last are undefined", fact_absent, ALWAYS },
	{ "also before the guest owns the registers", fact_absent_unowned, ALWAYS },
	{ "", fact_absent_watchpoint, BY_HAND },
	{ "", fact_fires_other, BY_HAND },
	{ "", fact_disarmed, BY_HAND },
	{ "", fact_arm, BY_HAND },
	{ "", fact_fires, BY_HAND },
	{ "", fact_nothing, BY_HAND },
	{ "", fact_many, BY_HAND },
	{ "", fact_stay, BY_HAND },
};

enum {
	ABSENT_WATCHPOINT = ARRAY_SIZE(facts) - 8, FIRES_OTHER, DISARMED, ARM, FIRES, NOTHING,
	MANY_WRITES, STAY
};

static void guest_code(void)
{
	for (;;) {
		job.line = 0;
		facts[job.fact].run();
		GUEST_SYNC(0);
	}
}

static void guest_breakpoint(struct ex_regs *regs)
{
	WRITE_ONCE(hit_breakpoint, regs->pc);
	regs->pstate |= PSR_D_BIT;
}

static void guest_watchpoint(struct ex_regs *regs)
{
	WRITE_ONCE(hit_watchpoint, read_sysreg(far_el1));
	regs->pstate |= PSR_D_BIT;
}

static void guest_step(struct ex_regs *regs)
{
	u64 nr = READ_ONCE(nr_stepped);

	/* The step may or may not include the ISB */
	if (regs->pc >= ADDRESS_OF(step_write)) {
		WRITE_ONCE(stepped[nr % ARRAY_SIZE(stepped)], regs->pc);
		WRITE_ONCE(nr_stepped, nr + 1);
	}
	/* Step one more instruction, or end stepping */
	regs->pstate |= regs->pc == ADDRESS_OF(step_end) ? PSR_D_BIT : SPSR_SS;
}

static void guest_undefined(struct ex_regs *regs)
{
	WRITE_ONCE(undefined, undefined + 1);
	regs->pc += 4;
}

/*
 * Host
 */

static u64 host_dfr0;
static bool offered;
static u64 dfr0_mask;
static bool aarch32_el0;
static int nr_cpus;
static struct topology cpus[MAX_CPUS];
/* The host must, or must not, offer writable fields. */
static bool want, dont_want, late;

#define result(ok, fmt, ...)	ksft_test_result(ok, fmt "\n", ##__VA_ARGS__)

/* Returns the VM's copy of the job, so that VMs can run at the same time. */
static struct job *job_of(struct kvm_vm *vm)
{
	return addr_gva2hva(vm, (gva_t)&job);
}

static struct kvm_vm *create_vcpus(struct kvm_vcpu **vcpus, int nr)
{
	struct kvm_vm *vm = vm_create_with_vcpus(nr, guest_code, vcpus);
	int i;

	vm_init_descriptor_tables(vm);
	for (i = 0; i < nr; i++)
		vcpu_init_descriptor_tables(vcpus[i]);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_SOFTSTP_CUR, guest_step);
	/* AP[1]: for EL0 */
	*virt_get_pte_hva(vm, (gva_t)aarch32_code) |= BIT(6);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_BREAKPT_CUR, guest_breakpoint);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_WATCHPT_CUR, guest_watchpoint);
	vm_install_sync_handler(vm, VECTOR_SYNC_CURRENT, ESR_ELx_EC_UNKNOWN, guest_undefined);
	*job_of(vm) = (struct job) {
		.brps = BRPS(host_dfr0),
		.ctx_cmps = CTX_CMPS(host_dfr0),
		.wrps = WRPS(host_dfr0),
	};
	return vm;
}

/* Sets ID_AA64DFR0_EL1, and the counts that the guest expects. */
static void narrow(struct kvm_vcpu *vcpu, u64 dfr0)
{
	struct job *its = job_of(vcpu->vm);

	vcpu_set_reg(vcpu, DFR0, dfr0);
	its->brps = BRPS(dfr0);
	its->ctx_cmps = CTX_CMPS(dfr0);
	its->wrps = WRPS(dfr0);
}

static struct kvm_vm *create(struct kvm_vcpu **vcpu, int brps, int ctx_cmps)
{
	struct kvm_vm *vm = create_vcpus(vcpu, 1);

	if (brps)
		narrow(*vcpu, with_topology(host_dfr0, brps, ctx_cmps));
	return vm;
}

/* Runs one fact to its end, or to another exit. */
static bool run_fact(struct kvm_vcpu *vcpu, int fact)
{
	struct job *its = job_of(vcpu->vm);
	struct ucall uc;

	its->fact = fact;
	do {
		vcpu_run(vcpu);
		if (vcpu->run->exit_reason == KVM_EXIT_DEBUG)
			return false;
		get_sync(vcpu, &uc);
	} while (uc.args[1]);
	if (its->line)
		ksft_print_msg("line %lu, detail 0x%lx\n", its->line, its->info);
	return !its->line;
}

static bool is_mapped(int brps, int ctx_cmps, int cpu)
{
	return offered && ((brps ?: BRPS(host_dfr0)) != cpus[cpu].brps ||
			   (ctx_cmps ?: CTX_CMPS(host_dfr0)) != cpus[cpu].ctx_cmps);
}

static bool is_tried(int fact, int brps, int ctx_cmps, int cpu)
{
	switch (facts[fact].where) {
	case ALWAYS:
		return true;
	case WITH_AARCH32:
		/* Otherwise the guest reads the CPU's register, which some emulated CPUs lack */
		return aarch32_el0 && offered;
	case WHERE_MAPPED:
		return is_mapped(brps, ctx_cmps, cpu);
	case WHERE_ORDINARY_MAPPED:
		return is_mapped(brps, ctx_cmps, cpu) && (!brps || ctx_cmps < brps);
	default:
		return false;
	}
}

static void test_facts(const char *name, int brps, int ctx_cmps, int cpu)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	int i;

	for (i = 0; i < ARRAY_SIZE(facts); i++)
		if (is_tried(i, brps, ctx_cmps, cpu))
			result(run_fact(vcpu, i), "%s: %s", name, facts[i].name);
	kvm_vm_free(vm);
}

static bool is_legal(int brps, int ctx_cmps)
{
	int host_brps = BRPS(host_dfr0), host_ctx = CTX_CMPS(host_dfr0);

	if (brps == host_brps && ctx_cmps == host_ctx)
		return true;
	return offered && brps >= 2 && brps <= host_brps && ctx_cmps <= brps &&
	       ctx_cmps <= host_ctx;
}

/* Writes a pair of fields. Returns whether a legal one is in force, and any other is refused. */
static bool write_pair(struct kvm_vcpu *vcpu, int brps, int ctx_cmps)
{
	u64 value = with_topology(host_dfr0, brps, ctx_cmps), was = vcpu_get_reg(vcpu, DFR0);
	bool legal = is_legal(brps, ctx_cmps), ok = true;
	int ret = __vcpu_set_reg(vcpu, DFR0, value);

	if (legal ? ret : ret != -1 || errno != EINVAL) {
		ksft_print_msg("%d/%d: %d, errno %d\n", brps, ctx_cmps, ret, errno);
		ok = false;
	}
	return vcpu_get_reg(vcpu, DFR0) == (legal ? value : was) && ok;
}

static void test_pairs(struct kvm_vcpu *vcpu)
{
	int brps, ctx_cmps, accepted = 0;
	bool ok = true;

	for (brps = 1; brps <= 16; brps++) {
		for (ctx_cmps = 1; ctx_cmps <= 16; ctx_cmps++) {
			ok &= write_pair(vcpu, brps, ctx_cmps);
			accepted += is_legal(brps, ctx_cmps);
		}
	}
	result(ok, "every pair of BRPs and CTX_CMPs, %d of 256 legal", accepted);
}

/* Checks that legal and illegal values are refused alike, and that the register keeps @value. */
static bool is_fixed(struct kvm_vcpu *vcpu, u64 value)
{
	bool ok = true;
	u64 other;
	int brps;

	for (brps = 1; brps <= 16; brps++) {
		other = with_topology(host_dfr0, brps, 3);
		if (other == value)
			continue;
		ok &= __vcpu_set_reg(vcpu, DFR0, other) == -1 && errno == EBUSY &&
		      vcpu_get_reg(vcpu, DFR0) == value;
	}
	return ok;
}

/* Writes every pair of fields, before the first run and after. */
static void test_writes(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, 0, 0);
	u64 value;

	test_pairs(vcpu);
	/* Change back to the default and away again: the order must not matter */
	value = with_topology(host_dfr0, BRPS(host_dfr0), CTX_CMPS(host_dfr0));
	result(!__vcpu_set_reg(vcpu, DFR0, value), "the default may be written again");
	if (offered)
		value = with_topology(host_dfr0, 2, 1);
	narrow(vcpu, value);
	result(run_fact(vcpu, 0), "the last value written is in force");
	result(!__vcpu_set_reg(vcpu, DFR0, value), "after the first run: the same value");
	result(is_fixed(vcpu, value), "after the first run: any other value is EBUSY");
	kvm_vm_free(vm);
}

/* Reads the host's topology, and the fields that userspace may write. */
static void look(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, guest_code);

	dfr0_mask = writable_dfr0(vm);
	offered = dfr0_mask & ID_AA64DFR0_EL1_BRPs;
	host_dfr0 = vcpu_get_reg(vcpu, DFR0);
	aarch32_el0 = FIELD_GET(ID_AA64PFR0_EL1_EL0,
				vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_ID_AA64PFR0_EL1))) ==
		      ID_AA64PFR0_EL1_EL0_AARCH32;
	kvm_vm_free(vm);
}

static void test_mask(void)
{
	result(!!(dfr0_mask & ID_AA64DFR0_EL1_CTX_CMPs) == offered,
	       "both fields are writable, or none");
	result(dfr0_mask & ID_AA64DFR0_EL1_WRPs, "WRPs is writable");
	result(!(want && !offered) && !(dont_want && offered), "this host %s",
	       offered ? "lets a VM have fewer breakpoints" : "has one number for all");
}

static bool has_aarch32_el1(void)
{
	return kvm_has_cap(KVM_CAP_ARM_EL1_32BIT);
}

/*
 * A field in the mask must stay in it. So while it is not known whether the VM will have
 * AArch32 at EL1, the mask must not have the fields.
 */
static void test_mask_before_vcpu(void)
{
	u64 both = ID_AA64DFR0_EL1_BRPs | ID_AA64DFR0_EL1_CTX_CMPs;
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	u64 before = writable_dfr0(vm), after;
	struct kvm_vcpu_init init;

	kvm_get_default_vcpu_target(vm, &init);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	after = writable_dfr0(vm);
	result(after == dfr0_mask && before == (has_aarch32_el1() ? after & ~both : after),
	       "before KVM_ARM_VCPU_INIT the mask has %s",
	       before & both ? "both fields" : "neither field");
	kvm_vm_free(vm);
}

/* FEAT_FGT does not trap AArch32 at EL1: the topology of such a VM cannot be changed. */
static void test_aarch32(void)
{
	struct kvm_vm *vm = vm_create(1);
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);
	struct kvm_vcpu_init init;
	u64 dfr0;
	int ret;

	vm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] = BIT(KVM_ARM_VCPU_EL1_32BIT);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	result(!(writable_dfr0(vm) & (ID_AA64DFR0_EL1_BRPs | ID_AA64DFR0_EL1_CTX_CMPs)),
	       "AArch32 at EL1: the fields are not writable");
	dfr0 = vcpu_get_reg(vcpu, DFR0);
	ret = __vcpu_set_reg(vcpu, DFR0, with_topology(dfr0, 2, 1));
	result(ret == -1 && errno == EINVAL && vcpu_get_reg(vcpu, DFR0) == dfr0 &&
	       !__vcpu_set_reg(vcpu, DFR0, dfr0),
	       "AArch32 at EL1: EINVAL for another value, the same value is accepted");
	kvm_vm_free(vm);
}

/* What a migration saves, and restores. */
struct saved {
	u64 bvr[MAX_REGS], bcr[MAX_REGS], wvr[MAX_REGS], wcr[MAX_REGS];
	u64 mdscr, contextidr;
};

static struct saved save(struct kvm_vcpu *vcpu)
{
	struct saved saved;
	int i;

	for (i = 0; i < MAX_REGS; i++) {
		saved.bvr[i] = vcpu_get_reg(vcpu, BVR(i));
		saved.bcr[i] = vcpu_get_reg(vcpu, BCR(i));
		saved.wvr[i] = vcpu_get_reg(vcpu, WVR(i));
		saved.wcr[i] = vcpu_get_reg(vcpu, WCR(i));
	}
	saved.mdscr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MDSCR_EL1));
	saved.contextidr = vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CONTEXTIDR_EL1));
	return saved;
}

static void restore(struct kvm_vcpu *vcpu, const struct saved *saved)
{
	int i;

	for (i = 0; i < MAX_REGS; i++) {
		vcpu_set_reg(vcpu, WCR(i), saved->wcr[i]);
		vcpu_set_reg(vcpu, BCR(i), saved->bcr[i]);
		vcpu_set_reg(vcpu, BVR(i), saved->bvr[i]);
		vcpu_set_reg(vcpu, WVR(i), saved->wvr[i]);
	}
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_MDSCR_EL1), saved->mdscr);
	vcpu_set_reg(vcpu, KVM_ARM64_SYS_REG(SYS_CONTEXTIDR_EL1), saved->contextidr);
}

/* Returns whether the vCPU has the breakpoints and watchpoints that were saved. */
static bool has_saved(struct kvm_vcpu *vcpu, const struct saved *saved)
{
	struct saved now = save(vcpu);

	return !memcmp(&now, saved, offsetof(struct saved, mdscr));
}

/* Moves the registers to another VM, as a migration does. */
static void test_move(int brps, int ctx_cmps)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	struct saved saved;

	TEST_ASSERT(run_fact(vcpu, ARM), "cannot arm");
	saved = save(vcpu);
	result(saved.bvr[brps - 1] == THIS_CONTEXT &&
	       saved.bcr[brps - 1] == (BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT)) &&
	       saved.bcr[0] == (BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(brps - 1)) &&
	       saved.bvr[0] == PROBE,
	       "%d/%d: userspace reads the guest's view", brps, ctx_cmps);
	kvm_vm_free(vm);

	vm = create(&vcpu, brps, ctx_cmps);
	restore(vcpu, &saved);
	/* In KVM, a new VM starts with the OS Lock clear */
	result(run_fact(vcpu, FIRES), "%d/%d: armed breakpoints fire in the VM they moved to",
	       brps, ctx_cmps);
	result(has_saved(vcpu, &saved), "%d/%d: and are the same", brps, ctx_cmps);
	kvm_vm_free(vm);
}

/* Returns whether userspace has stopped the guest at @pc. */
static bool has_stopped(struct kvm_vcpu *vcpu, u64 pc)
{
	return vcpu->run->exit_reason == KVM_EXIT_DEBUG &&
	       vcpu_get_reg(vcpu, ARM64_CORE_REG(regs.pc)) == pc;
}

/* Userspace debugs the guest, whose own breakpoints work again afterwards. */
static void test_guest_debug(const char *name, int brps, int ctx_cmps)
{
	struct kvm_guest_debug debug = {};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	int last = vm_check_cap(vm, KVM_CAP_GUEST_DEBUG_HW_BPS) - 1;
	bool ok;

	result(last + 1 == BRPS(host_dfr0), "%s: KVM_CAP_GUEST_DEBUG_HW_BPS is the host's", name);
	ok = run_fact(vcpu, ARM);
	debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW;
	debug.arch.dbg_bcr[last] = BCR_ARMED;
	debug.arch.dbg_bvr[last] = PROBE;
	vcpu_guest_debug_set(vcpu, &debug);
	ok &= !run_fact(vcpu, NOTHING) && has_stopped(vcpu, PROBE);
	result(ok, "%s: a hardware breakpoint of userspace", name);

	debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	vcpu_guest_debug_set(vcpu, &debug);
	vcpu_run(vcpu);
	result(has_stopped(vcpu, OTHER), "%s: single-step from there", name);

	debug.control = 0;
	vcpu_guest_debug_set(vcpu, &debug);
	/* Finish the interrupted fact, with the guest's own breakpoints */
	vcpu_run(vcpu);
	result(run_fact(vcpu, FIRES), "%s: the guest's are back afterwards", name);
	kvm_vm_free(vm);
}

/* Accesses trap if, and only if, breakpoints are mapped. */
static void test_traps(const char *name, int brps, int ctx_cmps, int cpu)
{
	bool mapped = is_mapped(brps, ctx_cmps, cpu), ok;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	u64 exits, counted = 0;

	ok = run_fact(vcpu, ARM);
	exits = vcpu_get_stat(vcpu, exits);
	if (offered)
		counted = vcpu_get_stat(vcpu, debug_reg_exits);
	ok &= run_fact(vcpu, MANY_WRITES);
	exits = vcpu_get_stat(vcpu, exits) - exits;
	if (offered)
		counted = vcpu_get_stat(vcpu, debug_reg_exits) - counted;
	/* Interrupts of the host cause exits too, so there may be more than MANY */
	result(ok && counted == (mapped ? MANY : 0) && (exits >= MANY) == mapped,
	       "%s: %s", name, mapped ? "every access traps, and is counted" : "no access traps");
	ksft_print_msg("%lu exits for %u writes\n", exits, MANY);
	kvm_vm_free(vm);
}

static void *run_stay(void *vcpu)
{
	return (void *)(unsigned long)run_fact(vcpu, STAY);
}

/* Returns whether @line shows the right mapping of each breakpoint on this CPU. */
static bool says_mapping(const char *line, int brps, int ctx_cmps, int this_cpu)
{
	int cpu, phys_brps, phys_ctx_cmps, i, len = 0;
	char words[32];

	if (sscanf(line, "vCPU 0: on CPU %d with %d breakpoints, %d context-aware: mapped%n",
		   &cpu, &phys_brps, &phys_ctx_cmps, &len) != 3 || !len ||
	    (nr_cpus > 1 && cpu != this_cpu) ||
	    phys_brps != cpus[this_cpu].brps || phys_ctx_cmps != cpus[this_cpu].ctx_cmps)
		return false;
	for (i = 0; i < brps; i++) {
		line += len;
		len = snprintf(words, sizeof(words), " %d->%d", i,
			       i < brps - ctx_cmps ? i : i + phys_brps - brps);
		if (strncmp(line, words, len))
			return false;
	}
	return !strcmp(line + len, "\n");
}

struct shown {
	bool topology, mapping;
};

/*
 * Returns what the VM's file in debugfs shows. The file shows no mapping while the vCPU is not
 * loaded, so the file is read more than once.
 */
static struct shown read_debugfs(struct kvm_vm *vm, int brps, int ctx_cmps, int cpu)
{
	char line[256], path[256], words[64];
	struct shown shown = {};
	FILE *file;
	int i;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/debug_topology",
		 getpid(), vm->fd);
	snprintf(words, sizeof(words), "VM: %d breakpoints, %d context-aware\n", brps, ctx_cmps);
	for (i = 0; i < 5000 && !shown.mapping; i++) {
		usleep(1000);
		file = fopen(path, "r");
		while (file && fgets(line, sizeof(line), file)) {
			shown.topology |= !strcmp(line, words);
			shown.mapping |= says_mapping(line, brps, ctx_cmps, cpu);
		}
		if (file)
			fclose(file);
	}
	return shown;
}

/* Sets whether the guest leaves fact_stay(). */
static void release(struct kvm_vm *vm, bool leave)
{
	released = leave;
	sync_global_to_guest(vm, released);
}

/* Reads the VM's file in debugfs from another CPU than that of the vCPU. */
static void test_debugfs(const char *name, int brps, int ctx_cmps, int cpu)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	struct shown shown;
	pthread_t thread;
	void *ok;

	if (access("/sys/kernel/debug/kvm", R_OK) || sysconf(_SC_NPROCESSORS_ONLN) < 2) {
		ksft_test_result_skip("%s: no debugfs, or no other CPU\n", name);
		ksft_test_result_skip("%s: no debugfs, or no other CPU\n", name);
		kvm_vm_free(vm);
		return;
	}
	release(vm, false);
	TEST_ASSERT(!pthread_create(&thread, NULL, run_stay, vcpu), "Cannot make a thread");
	if (nr_cpus > 1)
		pin_self_to_cpu((cpu + 1) % nr_cpus);
	shown = read_debugfs(vm, brps, ctx_cmps, cpu);
	release(vm, true);
	pthread_join(thread, &ok);
	if (nr_cpus > 1)
		pin_self_to_cpu(cpu);
	result(ok && shown.topology, "%s: debugfs has the VM's topology", name);
	result(shown.mapping, "%s: debugfs has the mapping of a vCPU that runs", name);
	kvm_vm_free(vm);
}

/* The tracepoint shows a linked pair of the second vCPU. */
static void test_trace(const char *name, int brps, int ctx_cmps, int cpu)
{
	int last = brps - 1, phys = cpus[cpu].brps - 1;
	int phys_first = ctx_cmps < brps ? 0 : phys - last;
	u64 control = BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS);
	char words[2][128];
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm;
	bool ok;

	if (!trace_begin()) {
		ksft_test_result_skip("%s: no tracefs at " TRACE_INSTANCES "\n", name);
		return;
	}
	vm = create_vcpus(vcpus, 2);
	narrow(vcpus[1], with_topology(host_dfr0, brps, ctx_cmps));
	snprintf(words[0], sizeof(words[0]),
		 "kvm_debug_topology_write: vCPU 1: DBGBVR: %d: 0x%x -> %d: 0x%x\n",
		 last, THIS_CONTEXT, phys, THIS_CONTEXT);
	snprintf(words[1], sizeof(words[1]),
		 "kvm_debug_topology_write: vCPU 1: DBGBCR: 0: 0x%lx -> %d: 0x%lx\n",
		 control | BCR_LBN(last), phys_first, control | BCR_LBN(phys));
	trace_write(TRACE_EVENT("kvm_debug_topology_write", "enable"), "1");
	ok = run_fact(vcpus[1], ARM);
	trace_write(TRACE_EVENT("kvm_debug_topology_write", "enable"), "0");
	ok &= trace_count(words[0]) == 1 && trace_count(words[1]) == 1;
	trace_end();
	result(ok, "%s: the tracepoint has the translated link", name);
	kvm_vm_free(vm);
}

/* A vCPU that moves from CPU to CPU, with its breakpoints armed. */
static void test_moving(const char *name, int brps, int ctx_cmps)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	bool ok;
	int i;

	ok = run_fact(vcpu, ARM);
	for (i = 0; i < 10 * nr_cpus; i++) {
		pin_self_to_cpu(i % nr_cpus);
		ok &= run_fact(vcpu, FIRES);
	}
	result(ok, "%s: armed breakpoints fire wherever the vCPU goes", name);
	kvm_vm_free(vm);
}

/* Userspace writes a register of a vCPU that has run. */
static void test_set_after_run(const char *name, int brps, int ctx_cmps)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	bool ok = run_fact(vcpu, ARM) && run_fact(vcpu, FIRES);

	vcpu_set_reg(vcpu, BVR(job_of(vm)->brps - 1), OTHER_CONTEXT);
	ok &= run_fact(vcpu, FIRES_OTHER);
	result(ok, "%s: what userspace writes later is in force", name);
	kvm_vm_free(vm);
}

/* Userspace resets a vCPU that has run. */
static void test_reset(const char *name, int brps, int ctx_cmps)
{
	struct kvm_vcpu_init init;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	u64 sp = vcpu_get_reg(vcpu, ctxt_reg_alias(vcpu, SYS_SP_EL1));
	bool ok = run_fact(vcpu, ARM) && run_fact(vcpu, FIRES);

	kvm_get_default_vcpu_target(vm, &init);
	aarch64_vcpu_setup(vcpu, &init);
	vcpu_init_descriptor_tables(vcpu);
	vcpu_set_reg(vcpu, ctxt_reg_alias(vcpu, SYS_SP_EL1), sp);
	vcpu_arch_set_entry_point(vcpu, guest_code);
	ok &= run_fact(vcpu, DISARMED);
	result(ok, "%s: KVM_ARM_VCPU_INIT disarms them", name);
	kvm_vm_free(vm);
}

static void *narrow_there(void *vcpu)
{
	narrow(vcpu, with_topology(host_dfr0, 4, 1));
	return NULL;
}

/* The thread of another vCPU writes the ID register, after all other registers. */
static void test_id_register_last(void)
{
	u64 control = BCR_ARMED | BCR_BT(BT_LINKED_ADDRESS) | BCR_LBN(3);
	struct kvm_vcpu *vcpus[2];
	struct kvm_vm *vm = create_vcpus(vcpus, 2);
	pthread_t thread;
	int i;

	vcpu_set_reg(vcpus[0], BVR(3), THIS_CONTEXT);
	vcpu_set_reg(vcpus[0], BCR(3), BCR_ARMED | BCR_BT(BT_LINKED_CONTEXT));
	for (i = 0; i < 3; i++) {
		vcpu_set_reg(vcpus[0], BVR(i), i ? OTHER : PROBE);
		vcpu_set_reg(vcpus[0], BCR(i), control);
	}
	for (i = 0; i < WRPS(host_dfr0); i++) {
		vcpu_set_reg(vcpus[0], WVR(i), (u64)&watched[i % 2]);
		vcpu_set_reg(vcpus[0], WCR(i), WCR_ARMED | WCR_WT | BCR_LBN(3));
	}
	vcpu_set_reg(vcpus[0], KVM_ARM64_SYS_REG(SYS_MDSCR_EL1), MDSCR_KDE | MDSCR_MDE);
	TEST_ASSERT(!pthread_create(&thread, NULL, narrow_there, vcpus[1]), "Cannot make a thread");
	pthread_join(thread, NULL);
	result(run_fact(vcpus[0], FIRES), "the ID register last, from another vCPU's thread");
	kvm_vm_free(vm);
}

static bool can_test_wrps(void)
{
	return WRPS(host_dfr0) > 2 && BRPS(host_dfr0) > 4;
}

/* A VM has fewer watchpoints: together with fewer breakpoints (mapped), and alone (not mapped). */
static void test_wrps(void)
{
	u64 wrps = FIELD_PREP(ID_AA64DFR0_EL1_WRPs, 1);
	u64 dfr0 = host_dfr0 & ~ID_AA64DFR0_EL1_WRPs;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, 0, 0);
	bool ok = true;
	int i;

	narrow(vcpu, dfr0 | wrps);
	result(run_fact(vcpu, ABSENT_WATCHPOINT),
	       "two watchpoints: a third is undefined where it traps");
	kvm_vm_free(vm);
	if (!offered)
		return;

	vm = create(&vcpu, 0, 0);
	narrow(vcpu, with_topology(dfr0 | wrps, 4, 1));
	for (i = 0; i < ARRAY_SIZE(facts); i++)
		if (is_tried(i, 4, 1, 0))
			ok &= run_fact(vcpu, i);
	result(ok, "4/1 and two watchpoints: every fact");
	kvm_vm_free(vm);
}

/* Returns how many objects of the size of an image the first run of such a VM allocates. */
static int allocations(int brps, int ctx_cmps)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create(&vcpu, brps, ctx_cmps);
	char pid[16];
	int nr;

	snprintf(pid, sizeof(pid), "%ld", syscall(SYS_gettid));
	trace_write(TRACE_BUFFER "trace", " ");
	trace_write(TRACE_BUFFER "set_event_pid", pid);
	trace_write(TRACE_BUFFER "events/kmem/kmalloc/filter",
		    "bytes_req >= 512 && bytes_req < 1024");
	trace_write(TRACE_BUFFER "events/kmem/kmalloc/enable", "1");
	run_fact(vcpu, NOTHING);
	trace_write(TRACE_BUFFER "events/kmem/kmalloc/enable", "0");
	nr = trace_count("bytes_req=");
	kvm_vm_free(vm);
	return nr;
}

/* KVM allocates memory only for vCPUs whose breakpoints may be mapped. */
static void test_memory(void)
{
	int untouched, narrowed;

	if (!trace_begin() || access(TRACE_BUFFER "events/kmem/kmalloc", R_OK)) {
		ksft_test_result_skip("no kmem events at " TRACE_INSTANCES "\n");
		return;
	}
	untouched = allocations(0, 0);
	narrowed = allocations(2, 1);
	trace_end();
	result(narrowed == untouched + 1, "an image is allocated for a VM that may need one, only");
}

/* Takes the vCPU's CPU offline, or brings it back. */
static void set_online(int cpu, bool online)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	trace_write(path, online ? "1" : "0");
}

static void test_hotplug(int brps, int ctx_cmps)
{
	int cpu = nr_cpus - 1;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	cpu_set_t all;
	bool ok;

	pin_self_to_cpu(cpu);
	vm = create(&vcpu, brps, ctx_cmps);
	ok = run_fact(vcpu, ARM) && run_fact(vcpu, FIRES);
	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	set_online(cpu, false);
	ok &= run_fact(vcpu, FIRES);
	set_online(cpu, true);
	pin_self_to_cpu(cpu);
	ok &= run_fact(vcpu, FIRES);
	result(ok, "armed breakpoints fire while a CPU goes offline and comes back");
	kvm_vm_free(vm);
}

#define STORM		60
#define STORM_VMS	3

static bool storm_over;

static void *run_storm(void *vcpu)
{
	bool ok = run_fact(vcpu, ARM);
	int i;

	for (i = 0; i < STORM; i++)
		ok &= run_fact(vcpu, FIRES);
	return (void *)ok;
}

static noinline void host_target(void)
{
	asm volatile("nop" : : : "memory");
}

/* A breakpoint of a host process hits every time, on any CPU. */
static void *run_host(void *unused)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attr),
		.bp_type = HW_BREAKPOINT_X,
		.bp_addr = (unsigned long)host_target,
		.bp_len = HW_BREAKPOINT_LEN_4,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	int fd = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	u64 calls = 0, hits = 0;

	while (fd >= 0 && !READ_ONCE(storm_over)) {
		host_target();
		calls++;
		usleep(100);
	}
	if (fd < 0 || read(fd, &hits, sizeof(hits)) != sizeof(hits))
		return NULL;
	close(fd);
	ksft_print_msg("%lu of %lu breakpoints of the host\n", hits, calls);
	return (void *)(unsigned long)(calls && hits == calls);
}

static void move(pthread_t thread)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(rand() % nr_cpus, &set);
	pthread_setaffinity_np(thread, sizeof(set), &set);
}

/* Moves all threads until those of VMs have ended. Returns whether all breakpoints have fired. */
static bool move_all(pthread_t host, pthread_t *threads, struct kvm_vcpu **vcpus)
{
	int i, running = STORM_VMS;
	bool ok = true;
	void *ret;

	while (running) {
		usleep(2000);
		move(host);
		for (i = 0; i < STORM_VMS; i++) {
			if (!vcpus[i])
				continue;
			if (pthread_tryjoin_np(threads[i], &ret)) {
				move(threads[i]);
				continue;
			}
			ok &= !!ret;
			kvm_vm_free(vcpus[i]->vm);
			vcpus[i] = NULL;
			running--;
		}
	}
	return ok;
}

/* Several VMs and a debugger on the host move between CPUs independently. */
static void test_storm(void)
{
	static const struct topology vms[STORM_VMS] = { { 0, 0 }, { 4, 1 }, { 2, 1 } };
	pthread_t threads[STORM_VMS], host;
	struct kvm_vcpu *vcpus[STORM_VMS];
	void *ret;
	bool ok;
	int i;

	WRITE_ONCE(storm_over, false);
	TEST_ASSERT(!pthread_create(&host, NULL, run_host, NULL), "Cannot make a thread");
	for (i = 0; i < STORM_VMS; i++) {
		create(&vcpus[i], vms[i].brps, vms[i].ctx_cmps);
		TEST_ASSERT(!pthread_create(&threads[i], NULL, run_storm, vcpus[i]),
			    "Cannot make a thread");
	}
	ok = move_all(host, threads, vcpus);
	WRITE_ONCE(storm_over, true);
	pthread_join(host, &ret);
	result(ok, "three VMs that are moved all the time: breakpoints fire");
	result(ret, "and the host's own fire, each time");
}

/* CPU1 comes online for the first time once VMs have run: these go there, and nothing changes. */
static void test_late(void)
{
	u64 mask = dfr0_mask, dfr0 = host_dfr0;
	struct kvm_vcpu *vcpus[2];
	bool ok[2];
	int i;

	pin_self_to_cpu(0);
	for (i = 0; i < 2; i++) {
		create(&vcpus[i], i ? 4 : 0, i);
		ok[i] = run_fact(vcpus[i], ARM) && run_fact(vcpus[i], FIRES);
	}
	set_online(1, true);
	pin_self_to_cpu(1);
	for (i = 0; i < 2; i++)
		ok[i] &= run_fact(vcpus[i], FIRES);
	result(ok[0], "late: a default VM's armed breakpoints fire on a CPU that it did not know");
	result(ok[1], "late: and those of a VM with fewer");
	for (i = 0; i < 2; i++)
		kvm_vm_free(vcpus[i]->vm);
	look();
	result(dfr0_mask == mask && host_dfr0 == dfr0, "late: what VMs are offered is the same");
}

static const struct topology topologies[] = {
	{ 4, 2 }, { 5, 1 }, { 2, 1 }, { 2, 2 }, { 6, 1 }, { 6, 2 }, { 8, 4 }, { 15, 1 }, { 16, 3 },
};

static bool is_smaller(int i)
{
	int brps = BRPS(host_dfr0), ctx_cmps = CTX_CMPS(host_dfr0);

	return topologies[i].brps <= brps && topologies[i].ctx_cmps <= ctx_cmps &&
	       (topologies[i].brps != brps || topologies[i].ctx_cmps != ctx_cmps);
}

static int plan(void)
{
	int i, cpu, fact, nr = 3 + 1 + 5 + 2 * has_aarch32_el1();

	if (can_test_wrps())
		nr += 1 + offered;
	if (offered)
		nr += nr_cpus > 1 ? 1 + 2 : 1;

	for (cpu = 0; cpu < nr_cpus; cpu++) {
		for (i = -1; i < (offered ? (int)ARRAY_SIZE(topologies) : 0); i++) {
			if (i >= 0 && !is_smaller(i))
				continue;
			for (fact = 0; fact < ARRAY_SIZE(facts); fact++)
				nr += is_tried(fact, i < 0 ? 0 : topologies[i].brps,
					       i < 0 ? 0 : topologies[i].ctx_cmps, cpu);
			nr += 4 + 1 + 2 + (i < 0 ? 0 : 3 + 2 + 1);
		}
	}
	return nr_cpus > 1 ? nr + 1 + 2 * offered : nr;
}

static void test_all(int cpu)
{
	char name[64], where[32] = "";
	int i;

	if (nr_cpus > 1) {
		pin_self_to_cpu(cpu);
		snprintf(where, sizeof(where), "CPU%d: ", cpu);
	}
	snprintf(name, sizeof(name), "%sdefault", where);
	test_facts(name, 0, 0, cpu);
	test_guest_debug(name, 0, 0);
	test_traps(name, 0, 0, cpu);
	test_set_after_run(name, 0, 0);
	test_reset(name, 0, 0);
	for (i = 0; offered && i < ARRAY_SIZE(topologies); i++) {
		int brps = topologies[i].brps, ctx_cmps = topologies[i].ctx_cmps;

		if (!is_smaller(i))
			continue;
		snprintf(name, sizeof(name), "%s%d/%d", where, brps, ctx_cmps);
		test_facts(name, brps, ctx_cmps, cpu);
		test_guest_debug(name, brps, ctx_cmps);
		test_move(brps, ctx_cmps);
		test_traps(name, brps, ctx_cmps, cpu);
		test_set_after_run(name, brps, ctx_cmps);
		test_reset(name, brps, ctx_cmps);
		test_debugfs(name, brps, ctx_cmps, cpu);
		test_trace(name, brps, ctx_cmps, cpu);
	}
}

/* Returns false, after the usage, if an option is wrong. */
static bool parse_options(int argc, char **argv)
{
	bool bad = false;
	int opt;

	while ((opt = getopt(argc, argv, "p:nyl")) != -1) {
		switch (opt) {
		case 'p':
			nr_cpus = parse_cpus(optarg, cpus);
			bad |= !nr_cpus;
			break;
		case 'l':
			late = true;
			break;
		case 'n':
			dont_want = true;
			break;
		case 'y':
			want = true;
			break;
		default:
			bad = true;
		}
	}
	if (bad)
		fprintf(stderr, "usage: %s [-l | -p B/C[:B/C...]] [-n | -y]; %s\n", argv[0],
			"B is from 2 to 16, C from 1 to B");
	return !bad;
}

/* Tests vCPUs that move between CPUs which differ. */
static void test_across_cpus(void)
{
	test_moving("default", 0, 0);
	if (!offered)
		return;

	test_moving("4/1", 4, 1);
	test_id_register_last();
	test_hotplug(4, 1);
	test_storm();
}

int main(int argc, char **argv)
{
	int cpu;

	if (!parse_options(argc, argv))
		return KSFT_FAIL;

	setenv("NV", "0", 1);
	ksft_print_header();
	look();
	if (!nr_cpus)
		cpus[nr_cpus++] = (struct topology){ BRPS(host_dfr0), CTX_CMPS(host_dfr0) };
	if (late) {
		ksft_set_plan(3);
		test_late();
		ksft_finished();
	}
	ksft_set_plan(plan());

	test_mask();
	test_mask_before_vcpu();
	test_writes();
	if (can_test_wrps())
		test_wrps();
	if (offered && nr_cpus == 1)
		test_memory();
	if (has_aarch32_el1())
		test_aarch32();
	for (cpu = 0; cpu < nr_cpus; cpu++)
		test_all(cpu);
	if (nr_cpus > 1)
		test_across_cpus();
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * spe_profile - Check that a guest can profile itself with FEAT_SPE: records are those of
 * its own instructions, the buffer's events and interrupt are those of the architecture,
 * and nothing of the host is seen.
 *
 * Each fact is a statement of the Arm ARM about a machine with FEAT_SPE, or about what
 * PMSCR_EL2 = 0 takes from it.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <linux/bitfield.h>
#include <linux/psci.h>
#include <linux/sizes.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "gic.h"
#include "processor.h"
#include "spe.h"
#include "test_util.h"
#include "ucall.h"

#define PAGES	16
#define TURNS	40000
#define EXPECTED	(TURNS * 4 / PERIOD)
/* The host's timer may interrupt the loop, and a sample may be in flight then, which is lost. */
#define LOST	3

/* Packets: Statistical Profiling Extension protocol packet headers */
#define PACKET_ADDRESS_PA	0xb3
#define PACKET_CONTEXT_EL1	0x64
#define PACKET_CONTEXT_EL2	0x65

/* What the host does at a GUEST_SYNC */
#define STAY	1
#define MOVE	2
#define RESET	3

static u8 *buffer, *unmapped;

/*
 * Guest
 */

static void set_up(void)
{
	set_up_unit();
	for (u64 i = 0; i < PAGES * SZ_4K; i += SZ_4K)
		WRITE_ONCE(buffer[i], 0xff);
}

/* Returns the number of records. */
static u64 stop(void)
{
	return (stop_at() - (u64)buffer) / RECORD;
}

static u64 count(u64 records, bool (*is)(const u8 *record))
{
	u64 n = 0;

	for (u64 i = 0; i < records; i++)
		n += is(buffer + i * RECORD);
	return n;
}

static void guest_samples(void)
{
	u64 records;

	set_up();
	start(buffer, PAGES * SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	records = stop();
	/* A few instructions before and behind the loop are in the population, too. */
	GUEST_ASSERT(records >= EXPECTED - LOST && records <= EXPECTED + 1);
	GUEST_ASSERT(count(records, in_loop) >= records - 1);
	GUEST_ASSERT_EQ(buffer[records * RECORD] | buffer[records * RECORD + 1],
			records * RECORD % SZ_4K ? 0 : 0xff);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
	GUEST_DONE();
}

/* Exits, and other CPUs, while the buffer is enabled: nothing is lost, and nothing twice. */
static void guest_exits(void)
{
	u64 records;

	set_up();
	start(buffer, PAGES * SZ_4K, PMSCR_EL1_E1SPE);
	for (int i = 0; i < 20; i++) {
		loop(TURNS / 20);
		/* Only the loops are profiled. */
		write_sysreg_s(0, SYS_PMSCR_EL1);
		isb();
		GUEST_SYNC(i % 5 == 4 ? MOVE : STAY);
		write_sysreg_s(PMSCR_EL1_E1SPE, SYS_PMSCR_EL1);
		isb();
	}
	records = stop();
	GUEST_ASSERT(records >= EXPECTED - LOST && records <= EXPECTED + 2);
	GUEST_ASSERT(count(records, in_loop) >= records - 2);
	GUEST_DONE();
}

static void guest_full(void)
{
	set_up();
	start(buffer, SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 1);
	/* PMBSR_EL1: EC 0, BSC 1, DL 0; PMBPTR_EL1 within PMSIDR_EL1.MaxSize of the limit */
	GUEST_ASSERT_EQ(status, PMBSR_EL1_S | PMBSR_EL1_BUF_BSC_FULL);
	GUEST_ASSERT_EQ(pointer, (u64)buffer + SZ_4K);
	GUEST_ASSERT_EQ(count(SZ_4K / RECORD, in_loop), SZ_4K / RECORD);
	GUEST_ASSERT_EQ(buffer[SZ_4K], 0xff);
	loop(TURNS);
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 1);
	GUEST_DONE();
}

/* PMBSR_EL1.S is the interrupt's level, whoever writes it. */
static void guest_level(void)
{
	set_up();
	local_irq_disable();
	write_sysreg_s(PMBSR_EL1_S, SYS_PMBSR_EL1);
	isb();
	GUEST_ASSERT(gic_irq_get_pending(SPE_PPI));
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), PMBSR_EL1_S);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 0);
	write_sysreg_s(PMBSR_EL1_S, SYS_PMBSR_EL1);
	isb();
	local_irq_enable();
	isb();
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 1);
	/* A stopped buffer is not written. */
	write_sysreg_s(PMBSR_EL1_S, SYS_PMBSR_EL1);
	isb();
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 2);
	GUEST_DONE();
}

/* The driver's refill: PMBPTR_EL1 is written, and then S cleared, with E set. */
static void guest_refill(void)
{
	set_up();
	local_irq_disable();
	start(buffer, SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), PMBSR_EL1_S | PMBSR_EL1_BUF_BSC_FULL);
	memset(buffer, 0, SZ_4K);
	loop(TURNS);
	GUEST_ASSERT_EQ(count(SZ_4K / RECORD, in_loop), 0);
	write_sysreg_s((u64)buffer, SYS_PMBPTR_EL1);
	write_sysreg_s(0, SYS_PMBSR_EL1);
	isb();
	loop(4000);
	GUEST_ASSERT(stop() >= 4000 * 4 / PERIOD);
	GUEST_DONE();
}

static void guest_fault(void)
{
	set_up();
	start(unmapped, SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	GUEST_ASSERT_EQ(READ_ONCE(interrupts), 1);
	/* EC 0x24, a translation fault at level 0 to 3; PMBPTR_EL1 is the address. */
	GUEST_ASSERT_EQ(status & ~3UL, PMBSR_EL1_S | (u64)PMBSR_EL1_EC_FAULT_S1 << 26 | 4);
	GUEST_ASSERT_EQ(pointer, (u64)unmapped);
	GUEST_DONE();
}

/* PMSCR_EL2 is 0: neither physical addresses nor physical time, nor EL2's context. */
static void guest_private(void)
{
	u64 before, after, records;
	u32 context = 0x12345678;

	set_up();
	write_sysreg(context, contextidr_el1);
	isb();
	before = read_sysreg(cntvct_el0);
	start(buffer, PAGES * SZ_4K, PMSCR_EL1_E1SPE | PMSCR_EL1_PA | PMSCR_EL1_TS | PMSCR_EL1_CX |
	      FIELD_PREP(PMSCR_EL1_PCT, 1));
	for (int i = 0; i < TURNS / 4; i++)
		WRITE_ONCE(interrupts, interrupts);
	records = stop();
	after = read_sysreg(cntvct_el0);
	GUEST_ASSERT(records > 10);
	for (u64 i = 0; i < records; i++) {
		const u8 *record = buffer + i * RECORD;
		u64 time = payload(record, PACKET_TIMESTAMP);

		GUEST_ASSERT_EQ(payload(record, PACKET_ADDRESS_PA), -1UL);
		GUEST_ASSERT_EQ(payload(record, PACKET_CONTEXT_EL2), -1UL);
		GUEST_ASSERT_EQ(payload(record, PACKET_CONTEXT_EL1), context);
		GUEST_ASSERT(time >= before && time <= after);
	}
	GUEST_DONE();
}

/* PMBIDR_EL1.P: this level may use the buffer, whether it is enabled or not. */
static void guest_owner(void)
{
	set_up();
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBIDR_EL1) & PMBIDR_EL1_P, 0);
	start(buffer, PAGES * SZ_4K, 0);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBIDR_EL1) & PMBIDR_EL1_P, 0);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBLIMITR_EL1),
			((u64)buffer + PAGES * SZ_4K) | PMBLIMITR_EL1_E);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), (u64)buffer);
	stop();
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBIDR_EL1) & PMBIDR_EL1_P, 0);
	GUEST_DONE();
}

/* After a reset the guest finds what its next kernel would. */
static void guest_anew(void)
{
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBLIMITR_EL1), 0);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBPTR_EL1), 0);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
	GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMSCR_EL1), 0);
	GUEST_ASSERT(!gic_irq_get_pending(SPE_PPI));
	guest_samples();
}

static void guest_reset_enabled(void)
{
	set_up();
	start(buffer, PAGES * SZ_4K, PMSCR_EL1_E1SPE);
	loop(4000);
	GUEST_SYNC(RESET);
}

static void guest_reset_event(void)
{
	set_up();
	local_irq_disable();
	start(buffer, SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	GUEST_ASSERT(gic_irq_get_pending(SPE_PPI));
	GUEST_SYNC(RESET);
}

static void guest_off(void)
{
	struct arm_smccc_res res;

	set_up();
	start(buffer, PAGES * SZ_4K, PMSCR_EL1_E1SPE);
	loop(4000);
	do_smccc(PSCI_0_2_FN_CPU_OFF, 0, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("CPU_OFF returns %ld", (long)res.a0);
}

static void guest_off_event(void)
{
	struct arm_smccc_res res;

	set_up();
	local_irq_disable();
	start(buffer, SZ_4K, PMSCR_EL1_E1SPE);
	loop(TURNS);
	GUEST_ASSERT(gic_irq_get_pending(SPE_PPI));
	do_smccc(PSCI_0_2_FN_CPU_OFF, 0, 0, 0, 0, 0, 0, 0, &res);
	GUEST_FAIL("CPU_OFF returns %ld", (long)res.a0);
}

/*
 * Host
 */

static const struct fact {
	const char *name;
	void (*code)(void);
	bool goes_off;
} facts[] = {
	{ "PMBIDR_EL1.P is 0, registers read back", guest_owner },
	{ "samples are those of the loop", guest_samples },
	{ "exits and moves lose nothing", guest_exits },
	{ "a full buffer: event, interrupt, pointer", guest_full },
	{ "S is the level of the interrupt", guest_level },
	{ "refill with E set", guest_refill },
	{ "a stage 1 fault: event and address", guest_fault },
	{ "nothing of EL2", guest_private },
	{ "a reset with the buffer enabled", guest_reset_enabled },
	{ "a reset with an event", guest_reset_event },
	{ "CPU_OFF with the buffer enabled", guest_off, true },
	{ "CPU_OFF with an event", guest_off_event, true },
};

static void move(struct kvm_vcpu *vcpu)
{
	if (wrong_cpu < 0)
		return;

	pin_self_to_cpu(wrong_cpu);
	TEST_ASSERT(!__vcpu_run(vcpu) && vcpu->run->exit_reason == KVM_EXIT_FAIL_ENTRY,
		    "KVM_RUN on CPU %d", wrong_cpu);
	pin_self_to_cpu(right_cpu);
}

/* Takes the first page of the buffer away. Returns whether the unit had to be stopped. */
static bool is_stopped(struct kvm_vcpu *vcpu)
{
	u64 kicked = vcpu_get_stat(vcpu, spe_kicked);

	TEST_ASSERT(!madvise(addr_gva2hva(vcpu->vm, (gva_t)buffer), SZ_4K, MADV_DONTNEED),
		    "madvise");
	return vcpu_get_stat(vcpu, spe_kicked) != kicked;
}

/* Nothing of the unit is left, whatever happens to the guest's memory. */
static bool has_forgotten(struct kvm_vcpu *vcpu)
{
	return !vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMBLIMITR_EL1)) &&
	       !vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMBSR_EL1)) && !is_stopped(vcpu);
}

/* Resets the vCPU, which is then as it was after vm_with_spu(). */
static bool reset(struct kvm_vcpu *vcpu)
{
	u64 stack = vcpu_get_reg(vcpu, ctxt_reg_alias(vcpu, SYS_SP_EL1));
	bool forgotten;

	aarch64_vcpu_setup(vcpu, &vcpu->init);
	forgotten = has_forgotten(vcpu);
	vcpu_set_reg(vcpu, ctxt_reg_alias(vcpu, SYS_SP_EL1), stack);
	vcpu_init_descriptor_tables(vcpu);
	vcpu_arch_set_entry_point(vcpu, guest_anew);
	return forgotten;
}

static void on_alarm(int signal) { }

/* Runs a vCPU that switches itself off, and checks that its unit is off, too. */
static bool goes_off(struct kvm_vcpu *vcpu)
{
	struct itimerval often = { .it_interval.tv_usec = 50000, .it_value.tv_usec = 50000 };
	struct kvm_mp_state state;
	struct sigaction action = { .sa_handler = on_alarm };
	bool interrupted;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	do {
		interrupted = __vcpu_run(vcpu) < 0 && errno == EINTR;
		vcpu_mp_state_get(vcpu, &state);
	} while (interrupted && state.mp_state != KVM_MP_STATE_STOPPED);
	often.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &often, NULL);
	return interrupted && has_forgotten(vcpu);
}

/* Runs the guest to its end. Returns whether all was right. */
static bool run_guest(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	for (;;) {
		vcpu_run(vcpu);
		switch (get_ucall(vcpu, &uc)) {
		case UCALL_SYNC:
			if (uc.args[1] == MOVE)
				move(vcpu);
			if (uc.args[1] == RESET && !reset(vcpu))
				return false;
			break;
		case UCALL_DONE:
			return true;
		case UCALL_ABORT:
			ksft_print_msg("%s\n", uc.buffer);
			return false;
		default:
			ksft_print_msg("exit %d\n", vcpu->run->exit_reason);
			return false;
		}
	}
}

static bool holds(const struct fact *fact)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_with_spu(&vcpu, fact->code);
	bool good;

	buffer = (u8 *)vm_alloc_pages(vm, PAGES * SZ_4K / vm->page_size + 1);
	sync_global_to_guest(vm, buffer);
	unmapped = (u8 *)0x7000000000;
	sync_global_to_guest(vm, unmapped);
	good = fact->goes_off ? goes_off(vcpu) : run_guest(vcpu);
	kvm_vm_free(vm);
	return good;
}

int main(void)
{
	ksft_print_header();
	find_unit();
	ksft_set_plan(ARRAY_SIZE(facts));
	pin_self_to_cpu(right_cpu);
	for (int i = 0; i < ARRAY_SIZE(facts); i++)
		ksft_test_result(holds(&facts[i]), "%s\n", facts[i].name);
	ksft_finished();
}

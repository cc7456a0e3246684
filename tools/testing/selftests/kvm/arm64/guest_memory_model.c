// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_memory_model - Check that the memory model of a thread does not apply to guests.
 *
 * For a machine whose CPUs can switch, with memory_model_test.ko loaded: the test
 * reads ACTLR_EL1 from another CPU while the guest runs. If guests have a separate
 * register, a parameter of the module selects it, and the test reads both.
 *
 *   -t	kvm-arm.tso=on: every guest has total store order
 */
#include <pthread.h>
#include <sched.h>
#include <linux/prctl.h>
#include <sys/prctl.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "ucall.h"

#define ACTLR_EnTSO	BIT(1)
#define AIDR_TSO	BIT(9)
#define ROUNDS		20

enum { LOOK, SPIN, WRITE };

struct job {
	u64 op;
	u64 actlr;
	u64 aidr;
	u64 spinning;
};

static struct job job;

static void guest_code(void)
{
	for (;;) {
		switch (READ_ONCE(job.op)) {
		case WRITE:
			write_sysreg(read_sysreg(actlr_el1) ^ ACTLR_EnTSO, actlr_el1);
			isb();
			break;
		case SPIN:
			WRITE_ONCE(job.spinning, 1);
			while (READ_ONCE(job.op) == SPIN)
				;
			WRITE_ONCE(job.spinning, 0);
			break;
		}
		job.actlr = read_sysreg(actlr_el1);
		job.aidr = read_sysreg(aidr_el1);
		GUEST_SYNC(0);
	}
}

static int fd, guests_fd;
static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct job *guest_job;

/* The state of a CPU, as memory_model_test.ko shows it. */
struct seen {
	u64 actlr;
	u64 in_guest;
};

static struct seen see(int fd, int cpu)
{
	struct seen seen;

	TEST_ASSERT(pread(fd, &seen, sizeof(seen), 8 * (cpu + 1)) == sizeof(seen),
		    "no ACTLR_EL1 of CPU%d", cpu);
	seen.actlr &= ACTLR_EnTSO;
	return seen;
}

static u64 actlr_here(void)
{
	return see(fd, -1).actlr;
}

static void run(int op)
{
	struct ucall uc;

	WRITE_ONCE(guest_job->op, op);
	vcpu_run(vcpu);
	TEST_ASSERT(get_ucall(vcpu, &uc) == UCALL_SYNC, "the guest has not come to its end");
}

static void *run_spinning(void *model)
{
	bool good;

	pin_self_to_cpu(1);
	good = !prctl(PR_SET_MEM_MODEL, (unsigned long)model, 0, 0, 0);
	run(SPIN);
	good &= actlr_here() == (model ? ACTLR_EnTSO : 0);
	return (void *)good;
}

static bool stop;

/* A thread with the other model, which shares the guest's CPU. */
static void *competitor(void *model)
{
	pin_self_to_cpu(1);
	prctl(PR_SET_MEM_MODEL, (unsigned long)model, 0, 0, 0);
	while (!READ_ONCE(stop))
		sched_yield();
	return NULL;
}

/*
 * Reads the register of CPU1 until the guest was running there ROUNDS times. Returns
 * how often the register had the bit in these reads.
 */
static int in_guest(int fd)
{
	int seen = 0, set = 0, looks = 0;

	while (seen < ROUNDS) {
		struct seen now = see(fd, 1);

		TEST_ASSERT(++looks < 1000 * ROUNDS, "the guest does not run on CPU1");
		seen += !!now.in_guest;
		set += now.in_guest && now.actlr;
		usleep(5000);
	}
	return set;
}

/* Checks the registers while the guest runs on CPU1, in a thread that has asked for @model. */
static void test_in_force(unsigned long model, u64 guest, bool compete)
{
	const char *name = model ? "a TSO thread" : "a default thread";
	pthread_t thread, other;
	void *back;
	int set;

	WRITE_ONCE(stop, false);
	WRITE_ONCE(guest_job->spinning, 0);
	pthread_create(&thread, NULL, run_spinning, (void *)model);
	while (!READ_ONCE(guest_job->spinning))
		sched_yield();
	if (compete)
		pthread_create(&other, NULL, competitor, (void *)(long)!guest);
	set = in_guest(guests_fd >= 0 ? guests_fd : fd);
	ksft_test_result(set == (guest ? ROUNDS : 0), "%s%s: the guest has %s\n", name,
			 compete ? ", preempted" : "", guest ? "TSO" : "the default");
	if (guests_fd >= 0) {
		set = in_guest(fd);
		ksft_test_result(set == (model ? ROUNDS : 0),
				 "%s%s: the host's register is the thread's\n", name,
				 compete ? ", preempted" : "");
	}
	WRITE_ONCE(stop, true);
	if (compete)
		pthread_join(other, NULL);
	WRITE_ONCE(guest_job->op, LOOK);
	pthread_join(thread, &back);
	ksft_test_result(!!back, "%s%s: has its own back\n", name, compete ? ", preempted" : "");
}

/* Checks ACTLR_EL1 and AIDR_EL1 of the guest, and of a thread that has TSO at first. */
static void test_registers(void)
{
	u64 before;

	run(LOOK);
	before = guest_job->actlr;
	ksft_test_result(!(before & ACTLR_EnTSO), "the guest reads ACTLR_EL1 without the bit\n");
	ksft_test_result(!(guest_job->aidr & AIDR_TSO), "AIDR_EL1 does not advertise it\n");
	ksft_test_result(actlr_here() == ACTLR_EnTSO, "the thread has its own after KVM_RUN\n");
	run(WRITE);
	ksft_test_result(guest_job->actlr == before, "what the guest writes is ignored\n");
	ksft_test_result(actlr_here() == ACTLR_EnTSO, "by the CPU as well\n");
	prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_DEFAULT, 0, 0, 0);
	run(LOOK);
	ksft_test_result(guest_job->actlr == before && !actlr_here(),
			 "the guest reads the same in a default thread\n");
}

int main(int argc, char **argv)
{
	u64 guest = argc == 2 && !strcmp(argv[1], "-t") ? ACTLR_EnTSO : 0;

	ksft_print_header();
	fd = open("/sys/kernel/debug/actlr", O_RDONLY);
	TEST_REQUIRE(fd >= 0);
	guests_fd = open("/sys/kernel/debug/actlr_guests", O_RDONLY);
	TEST_REQUIRE(!prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_TSO, 0, 0, 0) &&
		     prctl(PR_GET_MEM_MODEL, 0, 0, 0, 0) == PR_SET_MEM_MODEL_TSO);
	ksft_set_plan(guests_fd >= 0 ? 18 : 14);

	/* The thread that creates the VM has TSO: the guest must not get its ACTLR_EL1 */
	pin_self_to_cpu(0);
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	guest_job = addr_gva2hva(vm, (gva_t)&job);
	test_registers();
	test_in_force(PR_SET_MEM_MODEL_DEFAULT, guest, false);
	test_in_force(PR_SET_MEM_MODEL_TSO, guest, false);
	test_in_force(PR_SET_MEM_MODEL_DEFAULT, guest, true);
	test_in_force(PR_SET_MEM_MODEL_TSO, guest, true);

	kvm_vm_free(vm);
	ksft_finished();
}

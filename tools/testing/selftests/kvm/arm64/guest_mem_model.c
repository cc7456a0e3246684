// SPDX-License-Identifier: GPL-2.0-only
/*
 * guest_mem_model - Check that the memory model of a thread stays out of guests.
 *
 * For a machine whose CPUs can switch, with memory_model_test.ko loaded:
 * ACTLR_EL1 is looked at from another CPU while the guest runs.
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

static int fd;
static struct kvm_vm *vm;
static struct kvm_vcpu *vcpu;
static struct job *guest_job;

static u64 actlr_of(int cpu)
{
	u64 value;

	TEST_ASSERT(pread(fd, &value, sizeof(value), 8 * (cpu + 1)) == sizeof(value),
		    "cannot see ACTLR_EL1 of CPU%d", cpu);
	return value & ACTLR_EnTSO;
}

static u64 actlr_here(void)
{
	return actlr_of(-1);
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

/* Shares the CPU with the guest, with the other model. */
static void *competitor(void *model)
{
	pin_self_to_cpu(1);
	prctl(PR_SET_MEM_MODEL, (unsigned long)model, 0, 0, 0);
	while (!READ_ONCE(stop))
		sched_yield();
	return NULL;
}

/*
 * The vCPU stays on its CPU. A thread that has just been switched to has its
 * own model until the vCPU is loaded again, and interrupts are taken in between.
 */
static void keep_running(pthread_t thread)
{
	struct sched_param param = { .sched_priority = 1 };

	TEST_ASSERT(!pthread_setschedparam(thread, SCHED_FIFO, &param),
		    "the vCPU's thread cannot be given a real-time priority");
}

/* While the guest runs on CPU1, in a thread that has asked for @model. */
static void test_in_force(unsigned long model, u64 guest, bool compete)
{
	const char *name = model ? "a TSO thread" : "a default thread";
	pthread_t thread, other;
	int i, wrong = 0, guests = 0;
	void *back;

	WRITE_ONCE(stop, false);
	WRITE_ONCE(guest_job->spinning, 0);
	pthread_create(&thread, NULL, run_spinning, (void *)model);
	while (!READ_ONCE(guest_job->spinning))
		sched_yield();
	if (!compete)
		keep_running(thread);
	else
		pthread_create(&other, NULL, competitor, (void *)(long)!guest);
	for (i = 0; i < ROUNDS; i++) {
		u64 now = actlr_of(1);

		/* A competitor's turn is its own affair */
		wrong += !compete && now != guest;
		guests += now == guest;
		usleep(5000);
	}
	WRITE_ONCE(stop, true);
	if (compete) {
		pthread_join(other, NULL);
		keep_running(thread);
	}
	usleep(50000);
	wrong += actlr_of(1) != guest;
	WRITE_ONCE(guest_job->op, LOOK);
	pthread_join(thread, &back);
	ksft_test_result(!wrong && guests, "%s%s: the guest has %s, %d times of %d\n", name,
			 compete ? ", preempted" : "", guest ? "TSO" : "the default",
			 guests, ROUNDS);
	ksft_test_result(!!back, "%s%s: has its own back\n", name, compete ? ", preempted" : "");
}

int main(int argc, char **argv)
{
	u64 guest = argc == 2 && !strcmp(argv[1], "-t") ? ACTLR_EnTSO : 0;
	u64 before;

	ksft_print_header();
	fd = open("/sys/kernel/debug/actlr", O_RDONLY);
	TEST_REQUIRE(fd >= 0);
	TEST_REQUIRE(!prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_TSO, 0, 0, 0) &&
		     prctl(PR_GET_MEM_MODEL, 0, 0, 0, 0) == PR_SET_MEM_MODEL_TSO);
	ksft_set_plan(14);

	/* The thread that makes the VM has TSO: what it reads is not for the guest */
	pin_self_to_cpu(0);
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	guest_job = addr_gva2hva(vm, (gva_t)&job);
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

	test_in_force(PR_SET_MEM_MODEL_DEFAULT, guest, false);
	test_in_force(PR_SET_MEM_MODEL_TSO, guest, false);
	test_in_force(PR_SET_MEM_MODEL_DEFAULT, guest, true);
	test_in_force(PR_SET_MEM_MODEL_TSO, guest, true);

	kvm_vm_free(vm);
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * memory_model - Check the memory model of a thread: PR_{GET,SET}_MEM_MODEL.
 *
 *   memory_model none|fixed|switched	the models that the CPUs of this machine support
 *   memory_model stress N			N times: the model that was set is in force, with
 *					a competitor on the same CPU, and while moving
 *
 * With memory_model_test.ko loaded, the test reads ACTLR_EL1 as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest.h"

#define DEFAULT		PR_SET_MEM_MODEL_DEFAULT
#define TSO		PR_SET_MEM_MODEL_TSO
#define ACTLR_EnTSO	2

#define RE_EXECUTED	"re-executed"

static int actlr_fd = -1;

static int get(void)
{
	return prctl(PR_GET_MEM_MODEL, 0, 0, 0, 0);
}

static int set(unsigned long model)
{
	return prctl(PR_SET_MEM_MODEL, model, 0, 0, 0);
}

/* Returns the model in force on this CPU, or PR_GET_MEM_MODEL's if ACTLR_EL1 cannot be read. */
static int in_force(void)
{
	uint64_t actlr;

	if (actlr_fd < 0 || pread(actlr_fd, &actlr, sizeof(actlr), 0) != sizeof(actlr))
		return get();

	return actlr & ACTLR_EnTSO ? TSO : DEFAULT;
}

static bool has(int model)
{
	return get() == model && in_force() == model;
}

static bool refused(int op, unsigned long a2, unsigned long a3, unsigned long a4, unsigned long a5)
{
	return prctl(op, a2, a3, a4, a5) == -1 && errno == EINVAL;
}

static void test_abi(bool tso)
{
	ksft_test_result(get() == DEFAULT, "a thread starts with the default\n");
	ksft_test_result(set(DEFAULT) == 0 && get() == DEFAULT, "SET(DEFAULT)\n");
	if (tso)
		ksft_test_result(set(TSO) == 0, "SET(TSO)\n");
	else
		ksft_test_result(refused(PR_SET_MEM_MODEL, TSO, 0, 0, 0), "SET(TSO): EINVAL\n");
	set(DEFAULT);
	ksft_test_result(refused(PR_SET_MEM_MODEL, 2, 0, 0, 0) &&
			 refused(PR_SET_MEM_MODEL, -1UL, 0, 0, 0) &&
			 refused(PR_SET_MEM_MODEL, 1UL << 32 | TSO, 0, 0, 0),
			 "unknown models: EINVAL\n");
	ksft_test_result(refused(PR_SET_MEM_MODEL, DEFAULT, 1, 0, 0) &&
			 refused(PR_SET_MEM_MODEL, DEFAULT, 0, 1, 0) &&
			 refused(PR_SET_MEM_MODEL, DEFAULT, 0, 0, 1),
			 "SET with unused arguments: EINVAL\n");
	ksft_test_result(refused(PR_GET_MEM_MODEL, 1, 0, 0, 0) &&
			 refused(PR_GET_MEM_MODEL, 0, 1, 0, 0) &&
			 refused(PR_GET_MEM_MODEL, 0, 0, 1, 0) &&
			 refused(PR_GET_MEM_MODEL, 0, 0, 0, 1),
			 "GET with unused arguments: EINVAL\n");
	ksft_test_result(has(DEFAULT), "and nothing has changed\n");
}

/* Returns the result of @check in a child. */
static bool in_child(pid_t (*make)(void), bool (*check)(void))
{
	int status;
	pid_t pid = make();

	if (!pid)
		_exit(!check());
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool has_tso(void)
{
	return has(TSO);
}

static bool has_default(void)
{
	return has(DEFAULT);
}

static bool set_default_in_child(void)
{
	return set(DEFAULT) == 0 && has(DEFAULT);
}

static void *thread_check(void *check)
{
	return (void *)(intptr_t)((bool (*)(void))check)();
}

static bool in_thread(bool (*check)(void))
{
	pthread_t thread;
	void *good = NULL;

	pthread_create(&thread, NULL, thread_check, check);
	pthread_join(thread, &good);
	return good;
}

static bool across_exec(char **argv)
{
	int status;
	pid_t pid = vfork();

	if (!pid) {
		execl("/proc/self/exe", argv[0], RE_EXECUTED, NULL);
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static int handler_has;

static void handler(int unused)
{
	__atomic_store_n(&handler_has, in_force(), __ATOMIC_RELAXED);
}

static void test_switched(char **argv)
{
	ksft_test_result(set(TSO) == 0 && has(TSO), "TSO is in force\n");
	ksft_test_result(in_child(fork, has_tso), "fork inherits\n");
	ksft_test_result(in_thread(has_tso), "a new thread inherits\n");
	ksft_test_result(in_thread(set_default_in_child) && has(TSO), "threads are independent\n");
	ksft_test_result(in_child(fork, set_default_in_child) && has(TSO),
			 "processes are independent\n");
	ksft_test_result(across_exec(argv) && has(TSO), "execve resets, of vfork's child only\n");
	signal(SIGUSR1, handler);
	handler_has = -1;
	raise(SIGUSR1);
	ksft_test_result(__atomic_load_n(&handler_has, __ATOMIC_RELAXED) == TSO && has(TSO),
			 "a signal handler has the thread's\n");
	sched_yield();
	usleep(1000);
	ksft_test_result(has(TSO), "after sleeping\n");
	ksft_test_result(set(DEFAULT) == 0 && has(DEFAULT), "and back\n");
	ksft_test_result(in_child(fork, has_default), "fork inherits the default\n");
}

/* Stress: another thread keeps the opposite model in force, or moves the first thread. */
static bool stop;
static pid_t subject;

static void *competitor(void *unused)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	sched_setaffinity(0, sizeof(one), &one);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		set(TSO);
		sched_yield();
		set(DEFAULT);
		sched_yield();
	}
	return NULL;
}

static void *mover(void *unused)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), cpu = 0;
	cpu_set_t one;

	set(TSO);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		CPU_ZERO(&one);
		CPU_SET(cpu++ % cpus, &one);
		sched_setaffinity(subject, sizeof(one), &one);
	}
	return NULL;
}

static long lost(long times, void *(*other)(void *))
{
	pthread_t thread;
	long i, bad = 0;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(0, &one);
	subject = getpid();
	sched_setaffinity(0, sizeof(one), &one);
	__atomic_store_n(&stop, false, __ATOMIC_RELAXED);
	pthread_create(&thread, NULL, other, NULL);
	for (i = 0; i < times; i++) {
		set(i & 1 ? TSO : DEFAULT);
		bad += in_force() != (i & 1 ? TSO : DEFAULT);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	set(DEFAULT);
	return bad;
}

static void stress(long times)
{
	long bad;

	ksft_set_plan(3);
	ksft_test_result(actlr_fd >= 0, "ACTLR_EL1 can be seen\n");
	bad = lost(times / 2, competitor);
	ksft_test_result(!bad, "against a competitor: %ld of %ld lost\n", bad, times / 2);
	bad = lost(times / 2, mover);
	ksft_test_result(!bad, "while being moved: %ld of %ld lost\n", bad, times / 2);
}

int main(int argc, char **argv)
{
	actlr_fd = open("/sys/kernel/debug/actlr", O_RDONLY | O_CLOEXEC);
	if (argc == 2 && !strcmp(argv[1], RE_EXECUTED))
		return !has(DEFAULT);

	ksft_print_header();
	if (argc == 3 && !strcmp(argv[1], "stress")) {
		stress(atol(argv[2]));
	} else if (argc == 2 && !strcmp(argv[1], "none")) {
		ksft_set_plan(7);
		test_abi(false);
	} else if (argc == 2 && !strcmp(argv[1], "fixed")) {
		ksft_set_plan(8);
		test_abi(true);
		ksft_test_result(set(TSO) == 0 && get() == DEFAULT,
				 "SET(TSO) succeeds, GET stays the default\n");
	} else if (argc == 2 && !strcmp(argv[1], "switched")) {
		ksft_set_plan(17);
		test_abi(true);
		test_switched(argv);
	} else if (argc == 1) {
		ksft_exit_skip("none, fixed, or switched: what do the CPUs have?\n");
	} else {
		ksft_exit_fail_msg("usage: memory_model none|fixed|switched, or stress N\n");
	}
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0
/*
 * What every process pays for: system calls, futexes and context switches.
 * Each figure is one operation, from the instruction before it in user space
 * to the one after.
 */
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define REPEAT	1001

static uint32_t word_a, word_b;
static int ping[2], pong[2];

static void null_syscall(void)
{
	syscall(SYS_getppid);
}

static void futex_wake(void)
{
	syscall(SYS_futex, &word_a, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* An atomic on user memory by the kernel: LSE, LSUI or LL/SC. */
static void futex_wake_op(void)
{
	syscall(SYS_futex, &word_a, FUTEX_WAKE_OP_PRIVATE, 1, 1L, &word_b,
		FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0));
}

static void pipe_round_trip(void)
{
	char byte = 0;

	check(write(ping[1], &byte, 1) == 1, "write to the pipe");
	check(read(pong[0], &byte, 1) == 1, "read from the pipe");
}

static void yield(void)
{
	sched_yield();
}

static void measure(const char *name, void (*operation)(void))
{
	uint64_t figures[REPEAT], start, end;

	for (int i = 0; i < REPEAT; i++) {
		start = counter();
		operation();
		end = counter();
		figures[i] = between(start, end);
	}
	report(name, figures, REPEAT);
}

static _Noreturn void echo(void)
{
	char byte;

	close(ping[1]);
	while (read(ping[0], &byte, 1) == 1)
		if (write(pong[1], &byte, 1) != 1)
			break;
	_exit(0);
}

/* Two processes: two switches of address space a round trip. */
static void measure_pipe(void)
{
	pid_t child;

	check(!pipe(ping) && !pipe(pong), "pipe");
	child = fork();
	check(child >= 0, "fork");
	if (!child)
		echo();
	measure("switch_process_pipe", pipe_round_trip);
	close(ping[1]);
	waitpid(child, NULL, 0);
}

/* The numbers that x86 emulators use; older headers lack them. */
#ifndef PR_SET_MEM_MODEL
#define PR_SET_MEM_MODEL	0x4d4d444c
#define PR_SET_MEM_MODEL_TSO	1
#endif

static void *yield_until(void *stop)
{
	while (!atomic_load_explicit((atomic_int *)stop, memory_order_relaxed))
		sched_yield();
	return NULL;
}

/* The same with total store order, on CPUs that can switch. */
static void *yield_until_tso(void *stop)
{
	prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_TSO, 0, 0, 0);
	return yield_until(stop);
}

/* Two threads: two switches within one address space a round trip. */
static void measure_yield(const char *name, void *(*other)(void *))
{
	static atomic_int stop;
	pthread_t thread;

	atomic_store(&stop, 0);
	check(!pthread_create(&thread, NULL, other, &stop), "thread");
	measure(name, yield);
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
}

static void check_alternation(void)
{
	check(sched_getscheduler(0) == SCHED_FIFO,
	      "context switches need SCHED_FIFO: run as /init");
}

void bench_host(void)
{
	check_alternation();
	measure("syscall_getppid", null_syscall);
	measure("futex_wake", futex_wake);
	measure("futex_wake_op", futex_wake_op);
	check(word_b == REPEAT, "FUTEX_WAKE_OP did not add");
	measure_pipe();
	measure_yield("switch_thread_yield", yield_until);
	measure_yield("switch_thread_tso", yield_until_tso);
}

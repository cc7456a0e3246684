// SPDX-License-Identifier: GPL-2.0-only
/*
 * litmus [N] - Message passing, load buffering and store buffering between two threads
 * that have asked for total store order, N times each.
 *
 * Outcomes that TSO forbids must not occur. Their absence proves little: a CPU may keep
 * more order than its model requires, and an emulator has the order of its host. For
 * comparison, the test counts the same outcomes for threads with the default.
 */
#include <linux/prctl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "kselftest.h"

#define BATCH	1024
#define LINE	(256 / sizeof(unsigned long))

/* The variables of one run of a test, in different cache lines. */
struct cell {
	unsigned long x;
	unsigned long x_line[LINE - 1];
	unsigned long y;
	unsigned long y_line[LINE - 1];
};

static struct cell cells[BATCH];
static unsigned long read0[BATCH], read1[BATCH];
static pthread_barrier_t barrier;
static int arrived;

static void store(unsigned long *variable)
{
	asm volatile("str %1, %0" : "=Q" (*variable) : "r" (1UL));
}

static unsigned long load(unsigned long *variable)
{
	unsigned long value;

	asm volatile("ldr %0, %1" : "=r" (value) : "Q" (*variable));
	return value;
}

static void fence(void)
{
	asm volatile("dmb ish" : : : "memory");
}

static void mp_writer(struct cell *cell, int i)
{
	store(&cell->x);
	store(&cell->y);
}

static void mp_reader(struct cell *cell, int i)
{
	read0[i] = load(&cell->y);
	read1[i] = load(&cell->x);
}

static void lb_left(struct cell *cell, int i)
{
	read0[i] = load(&cell->x);
	store(&cell->y);
}

static void lb_right(struct cell *cell, int i)
{
	read1[i] = load(&cell->y);
	store(&cell->x);
}

static void sb_left(struct cell *cell, int i)
{
	store(&cell->x);
	read0[i] = load(&cell->y);
}

static void sb_right(struct cell *cell, int i)
{
	store(&cell->y);
	read1[i] = load(&cell->x);
}

static void sb_left_fenced(struct cell *cell, int i)
{
	store(&cell->x);
	fence();
	read0[i] = load(&cell->y);
}

static void sb_right_fenced(struct cell *cell, int i)
{
	store(&cell->y);
	fence();
	read1[i] = load(&cell->x);
}

static const struct litmus {
	const char *name;
	void (*thread[2])(struct cell *cell, int i);
	unsigned long outcome[2];	/* the outcome that is counted */
	bool forbidden;
} tests[] = {
	{ "message passing", { mp_writer, mp_reader }, { 1, 0 }, true },
	{ "load buffering", { lb_left, lb_right }, { 1, 1 }, true },
	/* Allowed: if it never occurs, the threads may not have run at the same time */
	{ "store buffering", { sb_left, sb_right }, { 0, 0 }, false },
	{ "store buffering with barriers", { sb_left_fenced, sb_right_fenced }, { 0, 0 }, true },
};

struct side {
	const struct litmus *test;
	int number;
	int cpu;
	unsigned long model;
	long batches;
	bool in_force;
};

static void *run_side(void *arg)
{
	struct side *side = arg;
	cpu_set_t one;
	long batch;
	int i;

	CPU_ZERO(&one);
	CPU_SET(side->cpu, &one);
	side->in_force = !sched_setaffinity(0, sizeof(one), &one) &&
			 !prctl(PR_SET_MEM_MODEL, side->model, 0, 0, 0);
	for (batch = 0; batch < side->batches; batch++) {
		pthread_barrier_wait(&barrier);
		/* Waking up may take longer than the whole test: wait for both threads to run */
		__atomic_fetch_add(&arrived, 1, __ATOMIC_RELAXED);
		while (__atomic_load_n(&arrived, __ATOMIC_RELAXED) < 2)
			;
		for (i = 0; i < BATCH; i++)
			side->test->thread[side->number](&cells[i], i);
		pthread_barrier_wait(&barrier);
		/* The main thread counts the outcomes, and clears the variables */
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}

/* Returns how often the outcome occurred; -1 if the threads do not have @model. */
static long seen(const struct litmus *test, unsigned long model, const int *cpus, long batches)
{
	struct side sides[2];
	pthread_t threads[2];
	long batch, nr = 0;
	int i;

	for (i = 0; i < 2; i++) {
		sides[i] = (struct side) { test, i, cpus[i], model, batches };
		if (pthread_create(&threads[i], NULL, run_side, &sides[i]))
			ksft_exit_fail_msg("cannot make a thread\n");
	}
	for (batch = 0; batch < batches; batch++) {
		for (i = 0; i < BATCH; i++) {
			cells[i].x = 0;
			cells[i].y = 0;
		}
		arrived = 0;
		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		for (i = 0; i < BATCH; i++)
			nr += read0[i] == test->outcome[0] && read1[i] == test->outcome[1];
		pthread_barrier_wait(&barrier);
	}
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);

	return sides[0].in_force && sides[1].in_force ? nr : -1;
}

/* Finds two CPUs on which this process may run. */
static bool find_cpus(int *cpus)
{
	cpu_set_t set;
	int cpu, nr = 0;

	if (sched_getaffinity(0, sizeof(set), &set))
		return false;
	for (cpu = 0; cpu < CPU_SETSIZE && nr < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[nr++] = cpu;
	return nr == 2;
}

int main(int argc, char **argv)
{
	long times = argc > 1 ? atol(argv[1]) : 1000000, batches, nr;
	int cpus[2], i;

	ksft_print_header();
	if (times < 1)
		ksft_exit_fail_msg("usage: litmus [N]\n");
	if (prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_TSO, 0, 0, 0))
		ksft_exit_skip("no total store order on this machine\n");
	prctl(PR_SET_MEM_MODEL, PR_SET_MEM_MODEL_DEFAULT, 0, 0, 0);
	if (!find_cpus(cpus))
		ksft_exit_skip("two CPUs are needed\n");
	ksft_set_plan(ARRAY_SIZE(tests) - 1);

	batches = (times + BATCH - 1) / BATCH;
	pthread_barrier_init(&barrier, NULL, 3);
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		nr = seen(&tests[i], PR_SET_MEM_MODEL_DEFAULT, cpus, batches);
		ksft_print_msg("%s, default: %ld of %ld\n", tests[i].name, nr, batches * BATCH);
		nr = seen(&tests[i], PR_SET_MEM_MODEL_TSO, cpus, batches);
		if (tests[i].forbidden)
			ksft_test_result(!nr, "%s, TSO: none of %ld\n", tests[i].name,
					 batches * BATCH);
		else
			ksft_print_msg("%s, TSO: %ld\n", tests[i].name, nr);
	}
	ksft_finished();
}

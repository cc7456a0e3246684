// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_futex - Check that the kernel's atomic operations on user memory give
 * exact results, whichever instructions it uses for them: FUTEX_WAKE_OP with
 * every operation, the compare-and-exchange of PI futexes and that of the robust
 * list, alone and with two threads at once.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nolse_state.h"

#define NR_THREADS	2
#define NR_ITERATIONS	20000

static long futex(uint32_t *word, int op, uint32_t val, unsigned long val2,
		  uint32_t *word2, uint32_t val3)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, val2, word2, val3);
}

static uint32_t gettid32(void)
{
	return syscall(SYS_gettid);
}

/* FUTEX_WAKE_OP */

struct wake_op {
	const char *name;
	int op;
	uint32_t old;
	uint32_t arg;
	uint32_t new;
};

/* Arguments are 12 bits, sign-extended. */
static const struct wake_op wake_ops[] = {
	{ "set", FUTEX_OP_SET, 0x5a5, 0x123, 0x123 },
	{ "set, sign-extended", FUTEX_OP_SET, 0x5a5, 0xfff, 0xffffffff },
	{ "add", FUTEX_OP_ADD, 0x5a5, 0x123, 0x6c8 },
	{ "add, carry", FUTEX_OP_ADD, 0xffffffff, 1, 0 },
	{ "or", FUTEX_OP_OR, 0x50, 0x0a, 0x5a },
	{ "andn", FUTEX_OP_ANDN, 0x5f, 0x0a, 0x55 },
	{ "andn, sign-extended", FUTEX_OP_ANDN, 0x7fffffff, 0xffe, 0x1 },
	{ "xor", FUTEX_OP_XOR, 0x5f, 0x0a, 0x55 },
	{ "xor, sign-extended", FUTEX_OP_XOR, 0x5f, 0xfff, 0xffffffa0 },
	{ "or, shifted", FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 0x1, 31, 0x80000001 },
};

static uint32_t parked_on, woken_on;

static void *park(void *arg)
{
	futex(&parked_on, FUTEX_WAIT, 0, 0, NULL, 0);
	return NULL;
}

/*
 * Runs @op on a word on which one thread waits, and wakes the thread if the comparison
 * with the old value succeeds. The waiter sleeps once it can be requeued to that word.
 */
static long wake_op_with_waiter(const struct wake_op *op, int cmp, uint32_t cmparg)
{
	uint32_t nobody = 0, enc = FUTEX_OP(op->op, op->arg, cmp, cmparg);
	pthread_t thread;
	long woken;

	parked_on = 0;
	woken_on = op->old;
	if (pthread_create(&thread, NULL, park, NULL))
		ksft_exit_fail_msg("pthread_create() failed\n");
	while (futex(&parked_on, FUTEX_CMP_REQUEUE, 0, 1, &woken_on, 0) != 1)
		sched_yield();

	woken = futex(&nobody, FUTEX_WAKE_OP, 1, 1, &woken_on, enc);
	if (woken < 1)
		futex(&woken_on, FUTEX_WAKE, 1, 0, NULL, 0);
	pthread_join(thread, NULL);

	return woken;
}

/* Finds the 12-bit comparand whose sign extension equals @val, if there is one. */
static bool comparand(uint32_t val, uint32_t *arg)
{
	*arg = val & 0xfff;
	return (uint32_t)((int32_t)(*arg << 20) >> 20) == val;
}

static void test_wake_op(const struct wake_op *op)
{
	uint32_t arg;
	long woken;

	if (comparand(op->old, &arg)) {
		woken = wake_op_with_waiter(op, FUTEX_OP_CMP_EQ, arg);
		ksft_test_result(woken == 1 && woken_on == op->new,
				 "FUTEX_WAKE_OP %s: %#x becomes %#x, old value compares\n",
				 op->name, op->old, woken_on);
	} else {
		woken = wake_op_with_waiter(op, FUTEX_OP_CMP_NE, 0);
		ksft_test_result(woken == 1 && woken_on == op->new,
				 "FUTEX_WAKE_OP %s: %#x becomes %#x, old value is not 0\n",
				 op->name, op->old, woken_on);
	}

	woken = wake_op_with_waiter(op, FUTEX_OP_CMP_EQ, ~arg & 0x7ff);
	ksft_test_result(!woken && woken_on == op->new,
			 "FUTEX_WAKE_OP %s: a different old value does not compare\n", op->name);
}

/* Two threads at once */

static uint32_t counter, flips, lock;
static unsigned long locked_counter;
static long errors, strangers;

static void note_error(const char *what)
{
	int err = errno;

	if (__atomic_fetch_add(&errors, 1, __ATOMIC_RELAXED))
		return;
	ksft_print_msg("%s: errno %d\n", what, err);
}

static void run_threads(void *(*fn)(void *))
{
	pthread_t threads[NR_THREADS];
	long i;

	errors = 0;
	for (i = 0; i < NR_THREADS; i++)
		if (pthread_create(&threads[i], NULL, fn, (void *)i))
			ksft_exit_fail_msg("pthread_create() failed\n");
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void *adder(void *arg)
{
	uint32_t enc = FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0), nobody = 0;
	int i;

	for (i = 0; i < NR_ITERATIONS; i++)
		if (futex(&nobody, FUTEX_WAKE_OP, 0, 0, &counter, enc) < 0)
			note_error("FUTEX_WAKE_OP");

	return NULL;
}

static void *flipper(void *arg)
{
	uint32_t bit = 1 + (long)arg, nobody = 0;
	uint32_t enc = FUTEX_OP(FUTEX_OP_XOR, bit, FUTEX_OP_CMP_EQ, 0);
	int i;

	/* One more than an even number, so that every bit ends up set. */
	for (i = 0; i <= NR_ITERATIONS; i++)
		if (futex(&nobody, FUTEX_WAKE_OP, 0, 0, &flips, enc) < 0)
			note_error("FUTEX_WAKE_OP");

	return NULL;
}

/* Without a fast path in user space: the kernel does every lock and unlock. */
static void *locker(void *arg)
{
	uint32_t tid = gettid32(), word;
	int i;

	for (i = 0; i < NR_ITERATIONS; i++) {
		if (futex(&lock, FUTEX_LOCK_PI, 0, 0, NULL, 0))
			note_error("FUTEX_LOCK_PI");
		word = __atomic_load_n(&lock, __ATOMIC_RELAXED);
		if ((word & FUTEX_TID_MASK) != tid)
			__atomic_fetch_add(&strangers, 1, __ATOMIC_RELAXED);
		locked_counter++;
		if (futex(&lock, FUTEX_UNLOCK_PI, 0, 0, NULL, 0))
			note_error("FUTEX_UNLOCK_PI");
	}

	return NULL;
}

static void test_threads(void)
{
	run_threads(adder);
	ksft_test_result(counter == NR_THREADS * NR_ITERATIONS && !errors,
			 "FUTEX_WAKE_OP add by %d threads: %u\n", NR_THREADS, counter);

	run_threads(flipper);
	ksft_test_result(flips == 3 && !errors,
			 "FUTEX_WAKE_OP xor by %d threads: %#x\n", NR_THREADS, flips);

	run_threads(locker);
	if (errors)
		ksft_print_msg("%ld calls failed\n", errors);
	ksft_test_result(locked_counter == NR_THREADS * NR_ITERATIONS && !errors,
			 "FUTEX_LOCK_PI by %d threads: %lu\n", NR_THREADS, locked_counter);
	ksft_test_result(!strangers, "FUTEX_LOCK_PI: the owner's TID is in the word\n");
	ksft_test_result(!lock, "FUTEX_UNLOCK_PI leaves the word %#x\n", lock);
}

/* Compare-and-exchange, one thread */

static void test_pi(void)
{
	uint32_t word = 0, tid = gettid32();
	long ret;

	ret = futex(&word, FUTEX_LOCK_PI, 0, 0, NULL, 0);
	ksft_test_result(!ret && word == tid, "FUTEX_LOCK_PI takes a free word\n");

	ret = futex(&word, FUTEX_TRYLOCK_PI, 0, 0, NULL, 0);
	ksft_test_result(ret < 0 && errno == EDEADLK && word == tid,
			 "FUTEX_TRYLOCK_PI by the owner gives EDEADLK\n");

	ret = futex(&word, FUTEX_UNLOCK_PI, 0, 0, NULL, 0);
	ksft_test_result(!ret && !word, "FUTEX_UNLOCK_PI frees the word\n");

	ret = futex(&word, FUTEX_UNLOCK_PI, 0, 0, NULL, 0);
	ksft_test_result(ret < 0 && errno == EPERM && !word,
			 "FUTEX_UNLOCK_PI by another gives EPERM\n");
}

struct robust_lock {
	struct robust_list list;
	uint32_t word;
};

static struct robust_lock robust;
static uint32_t robust_waiters;

/* A thread that exits while it owns the lock. */
static void *robust_owner(void *arg)
{
	static struct robust_list_head head;

	head.list.next = &robust.list;
	head.futex_offset = offsetof(struct robust_lock, word);
	head.list_op_pending = NULL;
	robust.list.next = &head.list;
	robust.word = gettid32() | robust_waiters;
	if (syscall(SYS_set_robust_list, &head, sizeof(head)))
		note_error("set_robust_list()");

	return NULL;
}

static void test_robust(uint32_t waiters, const char *what)
{
	pthread_t thread;

	errors = 0;
	robust_waiters = waiters;
	if (pthread_create(&thread, NULL, robust_owner, NULL))
		ksft_exit_fail_msg("pthread_create() failed\n");
	pthread_join(thread, NULL);

	/* The word is updated before the thread's TID is cleared. */
	ksft_test_result(!errors && robust.word == (FUTEX_OWNER_DIED | waiters),
			 "robust list, %s: the word of a dead owner is %#x\n", what, robust.word);
}

int main(int argc, char *argv[])
{
	enum nolse_state expected = nolse_expected(argc, argv);
	int i;

	ksft_print_header();
	ksft_set_plan(1 + 2 * ARRAY_SIZE(wake_ops) + 4 + 2 + 5);

	nolse_result_state(expected);
	for (i = 0; i < ARRAY_SIZE(wake_ops); i++)
		test_wake_op(&wake_ops[i]);
	test_pi();
	test_robust(0, "no waiters");
	test_robust(FUTEX_WAITERS, "waiters");
	test_threads();

	ksft_finished();
}

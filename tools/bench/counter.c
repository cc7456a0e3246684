// SPDX-License-Identifier: GPL-2.0
/*
 * Proof, in every run, that a difference of counter reads is a number of
 * instructions: regions of known length must measure their length.
 */
#include "bench.h"

#define REPEAT	101

#define NOPS(count)							\
static uint64_t nops_##count(void)					\
{									\
	uint64_t start, end;						\
									\
	asm volatile("mrs %0, cntvct_el0\n"				\
		     ".rept " #count "\n"				\
		     "nop\n"						\
		     ".endr\n"						\
		     "mrs %1, cntvct_el0"				\
		     : "=&r" (start), "=r" (end));			\
	return between(start, end);					\
}

NOPS(0)
NOPS(1)
NOPS(1000)

/* Two instructions a turn, so 2 * @turns. */
static uint64_t loop(uint64_t turns)
{
	uint64_t start, end;

	asm volatile("mrs %0, cntvct_el0\n"
		     "0: subs %2, %2, #1\n"
		     "b.ne 0b\n"
		     "mrs %1, cntvct_el0"
		     : "=&r" (start), "=&r" (end), "+r" (turns) :: "cc");
	return between(start, end);
}

static uint64_t loop_2000(void)
{
	return loop(1000);
}

static void known_length(const char *name, uint64_t (*region)(void),
			 uint64_t length)
{
	uint64_t figures[REPEAT], figure;

	for (int i = 0; i < REPEAT; i++)
		figures[i] = region();
	figure = median(figures, REPEAT);
	check(figure == length, name);
	report_once(name, figure);
}

static uint64_t counter_hz(void)
{
	uint64_t hz;

	asm volatile("mrs %0, cntfrq_el0" : "=r" (hz));
	return hz;
}

void bench_counter(void)
{
	check(counter_hz() == COUNTER_HZ, "the counter does not run at 1 GHz");
	known_length("self.host_nop0", nops_0, 0);
	known_length("self.host_nop1", nops_1, 1);
	known_length("self.host_nop1000", nops_1000, 1000);
	known_length("self.host_loop2000", loop_2000, 2000);
}

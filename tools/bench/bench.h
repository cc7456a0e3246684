/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the benchmark share: the counter that counts
 * instructions, and the line each result is printed on.
 */
#ifndef ARMATURE_BENCH_H
#define ARMATURE_BENCH_H

#include <stddef.h>
#include <stdint.h>

/*
 * One counter tick is one instruction: QEMU's -icount shift=0 advances
 * virtual time by 1 ns an instruction and the counter runs at 1 GHz.  No ISB
 * is needed around the read: QEMU synchronises the count at each access.
 */
#define COUNTER_HZ	1000000000UL

static inline uint64_t counter(void)
{
	uint64_t ticks;

	asm volatile("mrs %0, cntvct_el0" : "=r" (ticks) :: "memory");
	return ticks;
}

/* Instructions strictly between two reads: the second read counts itself. */
static inline uint64_t between(uint64_t start, uint64_t end)
{
	return end - start - 1;
}

/* result.c */
_Noreturn void die(const char *what);
void check(int ok, const char *what);
void report(const char *name, uint64_t *figures, size_t count);
void report_once(const char *name, uint64_t figure);
uint64_t median(uint64_t *figures, size_t count);

/* machine.c */
void machine_up(void);
_Noreturn void machine_down(int status);

/* The benchmarks. */
void bench_counter(void);
void bench_host(void);
void bench_kvm(void);
void bench_spe(void);

#endif

// SPDX-License-Identifier: GPL-2.0
/*
 * Result lines, `bench <name> <instructions> <iterations>`.
 *
 * A benchmark is repeated, and two figures survive: the median, which is what
 * the operation usually costs, and the minimum, the cost of its shortest path.
 * Neither is moved by the few repetitions that a timer tick lands in; a mean
 * would be, by an amount that depends on where the tick happens to fall.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

void die(const char *what)
{
	printf("bench-error %s (errno: %s)\n", what, strerror(errno));
	machine_down(EXIT_FAILURE);
}

void check(int ok, const char *what)
{
	if (!ok)
		die(what);
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Sorts @figures. */
uint64_t median(uint64_t *figures, size_t count)
{
	qsort(figures, count, sizeof(*figures), ascending);
	return figures[count / 2];
}

static void print(const char *name, const char *kind, uint64_t figure,
		  size_t count)
{
	printf("bench %s%s %llu %zu\n", name, kind,
	       (unsigned long long)figure, count);
}

void report(const char *name, uint64_t *figures, size_t count)
{
	print(name, "", median(figures, count), count);
	print(name, ".min", figures[0], count);
}

void report_once(const char *name, uint64_t figure)
{
	print(name, "", figure, 1);
}

// SPDX-License-Identifier: GPL-2.0
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

/* The counter starts at 0 at reset: its first reading is what booting took. */
int main(void)
{
	uint64_t booted = counter();

	machine_up();
	report_once("boot", booted);
	bench_counter();
	bench_host();
	bench_kvm();
	bench_spe();
	printf("bench-end\n");
	machine_down(EXIT_SUCCESS);
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_mte - Check that an asynchronous tag check fault is delivered, whichever
 * kind of atomic the kernel uses to record it: on entry, the kernel sets a flag of
 * the thread atomically.
 */
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kselftest.h"

#ifndef HWCAP2_MTE
#define HWCAP2_MTE		0x40000UL
#endif
#ifndef PROT_MTE
#define PROT_MTE		0x20
#endif
#ifndef SEGV_MTEAERR
#define SEGV_MTEAERR		8
#endif
#define NR_FAULTS		100
#define OTHER_TAG		0x0100000000000000UL

static sig_atomic_t faults, other_signals;

static void handler(int sig, siginfo_t *info, void *context)
{
	if (info->si_code == SEGV_MTEAERR)
		faults++;
	else
		other_signals++;
}

/* Returns a page on which tag check faults of this thread are asynchronous. */
static char *set_up(void)
{
	struct sigaction action = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	unsigned long ctrl = PR_TAGGED_ADDR_ENABLE | PR_MTE_TCF_ASYNC;
	char *page;

	if (sigaction(SIGSEGV, &action, NULL))
		ksft_exit_fail_perror("sigaction");
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, ctrl, 0, 0, 0))
		ksft_exit_fail_perror("PR_SET_TAGGED_ADDR_CTRL");
	page = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE | PROT_MTE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		ksft_exit_fail_perror("mmap(PROT_MTE)");

	return page;
}

int main(void)
{
	char *page;
	int i;

	ksft_print_header();
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		ksft_exit_skip("the machine has no FEAT_MTE\n");
	ksft_set_plan(2);

	page = set_up();
	for (i = 0; i < NR_FAULTS; i++) {
		asm volatile("strb wzr, [%0]"
			     : : "r" ((unsigned long)page | OTHER_TAG) : "memory");
		/* The kernel notices the asynchronous fault on entry */
		getppid();
	}

	ksft_test_result(faults == NR_FAULTS, "each of %d faults is delivered\n", NR_FAULTS);
	ksft_test_result(!other_signals, "and no other signal\n");
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_hwcap - Check that the auxiliary vector, /proc/cpuinfo and the ID
 * registers that the kernel emulates for EL0 show atomic instructions to user
 * space if, and only if, the kernel uses them.
 *
 * The CPU cannot trap the instructions themselves: they execute if the CPU
 * implements them. The second argument "nohw" says that this CPU does not.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#include "nolse_state.h"

#ifndef AT_HWCAP3
#define AT_HWCAP3		29
#endif

#define ISAR0_ATOMIC_SHIFT	20
#define ISAR0_ATOMIC_LSE	2
#define ISAR0_ATOMIC_LSE128	3
#define ISAR3_LSFE_SHIFT	16
#define ISAR3_LSUI_SHIFT	24

#define read_id_field(reg, shift)				\
({								\
	uint64_t __val;						\
								\
	asm("mrs %0, " reg : "=r" (__val));			\
	(unsigned int)(__val >> (shift) & 0xf);			\
})

/* Encodings, since old assemblers do not know the names. */
#define ID_AA64ISAR0_EL1	"S3_0_C0_C6_0"
#define ID_AA64ISAR3_EL1	"S3_0_C0_C6_3"

struct hwcap {
	const char *name;
	const char *cpuinfo;
	unsigned long type;
	unsigned long bit;
};

static const struct hwcap hwcaps[] = {
	{ "HWCAP_ATOMICS", "atomics", AT_HWCAP, HWCAP_ATOMICS },
	{ "HWCAP2_LSE128", "lse128", AT_HWCAP2, HWCAP2_LSE128 },
	{ "HWCAP3_LSFE", "lsfe", AT_HWCAP3, HWCAP3_LSFE },
};

static bool has_hwcap(const struct hwcap *cap)
{
	return getauxval(cap->type) & cap->bit;
}

static bool has_word(char *line, const char *name)
{
	char *word, *save;

	for (word = strtok_r(line, " \t\n", &save); word; word = strtok_r(NULL, " \t\n", &save))
		if (!strcmp(word, name))
			return true;

	return false;
}

/* Returns how many CPUs list @name among their features, and sets @cpus. */
static int cpuinfo_count(const char *name, int *cpus)
{
	FILE *f = fopen("/proc/cpuinfo", "r");
	char line[8192];
	int with = 0;

	*cpus = 0;
	if (!f)
		ksft_exit_fail_perror("/proc/cpuinfo");

	while (fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Features", strlen("Features")))
			continue;
		(*cpus)++;
		with += has_word(line, name);
	}
	fclose(f);

	return with;
}

static void test_cpuinfo(const struct hwcap *cap)
{
	int cpus, with = cpuinfo_count(cap->cpuinfo, &cpus);

	ksft_test_result(cpus && with == (has_hwcap(cap) ? cpus : 0),
			 "/proc/cpuinfo: %d of %d CPUs have \"%s\", as the HWCAP says\n",
			 with, cpus, cap->cpuinfo);
}

/* With FEAT_LSE, FEAT_LSE128 and FEAT_LSFE are optional. */
static void test_hidden(const struct hwcap *cap, enum nolse_state expected)
{
	if (expected == LSE_OFF)
		ksft_test_result(!has_hwcap(cap), "%s is absent\n", cap->name);
	else
		ksft_test_result_skip("%s is %s: optional\n", cap->name,
				      has_hwcap(cap) ? "present" : "absent");
}

static void test_id_regs(void)
{
	unsigned int atomic = read_id_field(ID_AA64ISAR0_EL1, ISAR0_ATOMIC_SHIFT);
	unsigned int lsfe = read_id_field(ID_AA64ISAR3_EL1, ISAR3_LSFE_SHIFT);
	unsigned int lsui = read_id_field(ID_AA64ISAR3_EL1, ISAR3_LSUI_SHIFT);

	ksft_test_result(has_hwcap(&hwcaps[0]) ? atomic >= ISAR0_ATOMIC_LSE : !atomic,
			 "EL0 reads ID_AA64ISAR0_EL1.ATOMIC as %u, as HWCAP_ATOMICS says\n",
			 atomic);
	ksft_test_result(has_hwcap(&hwcaps[1]) == (atomic >= ISAR0_ATOMIC_LSE128),
			 "EL0 reads ID_AA64ISAR0_EL1.ATOMIC as %u, as HWCAP2_LSE128 says\n",
			 atomic);
	ksft_test_result(!!lsfe == has_hwcap(&hwcaps[2]),
			 "EL0 reads ID_AA64ISAR3_EL1.LSFE as %u, as HWCAP3_LSFE says\n", lsfe);
	ksft_test_result(!lsui, "EL0 reads ID_AA64ISAR3_EL1.LSUI as 0: it is for EL1\n");
}

static sigjmp_buf undefined;

static void sigill(int sig)
{
	siglongjmp(undefined, 1);
}

/* Returns whether LDADD executes, and in @exact whether its result is right. */
static bool ldadd_executes(bool *exact)
{
	struct sigaction sa = { .sa_handler = sigill };
	uint64_t word = 40, old;

	sigaction(SIGILL, &sa, NULL);
	if (sigsetjmp(undefined, 1))
		return false;

	asm volatile(".arch_extension lse\n\t"
		     "ldadd %2, %0, %1"
		     : "=r" (old), "+Q" (word) : "r" (2UL) : "memory");
	*exact = old == 40 && word == 42;

	return true;
}

static void test_el0(bool hardware)
{
	bool exact = false, executes = ldadd_executes(&exact);

	if (hardware)
		ksft_test_result(executes && exact,
				 "LDADD at EL0 executes whatever the kernel says\n");
	else
		ksft_test_result(!executes, "LDADD at EL0 is UNDEFINED on a CPU without it\n");
}

int main(int argc, char *argv[])
{
	enum nolse_state expected = nolse_expected(argc, argv);
	bool hardware = argc < 3 || strcmp(argv[2], "nohw");
	int i;

	ksft_print_header();
	if (expected == LSE_UNKNOWN)
		ksft_exit_skip("no arm64.nolse_atomics on the command line: say on or off\n");

	ksft_set_plan(2 * ARRAY_SIZE(hwcaps) + 5);

	nolse_result_state(expected);
	for (i = 1; i < ARRAY_SIZE(hwcaps); i++)
		test_hidden(&hwcaps[i], expected);
	for (i = 0; i < ARRAY_SIZE(hwcaps); i++)
		test_cpuinfo(&hwcaps[i]);
	test_id_regs();
	test_el0(hardware);

	ksft_finished();
}

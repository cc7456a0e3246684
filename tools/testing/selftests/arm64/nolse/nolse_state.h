/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The expected state: whether the kernel uses LSE atomics.
 *
 * The first argument of a test is the expected state, "on" or "off". Without this
 * argument, the state is "off" if the kernel command line has arm64.nolse_atomics;
 * otherwise no state is expected.
 */
#ifndef NOLSE_STATE_H
#define NOLSE_STATE_H

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

#include <asm/hwcap.h>

#include "kselftest.h"

enum nolse_state {
	LSE_UNKNOWN,
	LSE_ON,
	LSE_OFF,
};

/* Returns whether @word is the option; like the kernel, takes '-' for '_' in its name. */
static inline bool nolse_is_option(const char *word)
{
	const char *option = "arm64.nolse_atomics";

	while (*option && (*word == *option || (*word == '-' && *option == '_'))) {
		word++;
		option++;
	}

	return !*option && !*word;
}

static inline bool nolse_is_contain(const char *word)
{
	return !strcmp(word, "kvm-arm.nolse_policy=contain");
}

static inline bool nolse_cmdline_has(bool (*is)(const char *word))
{
	char line[4096] = "", *word, *save;
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);

	for (word = strtok_r(line, "\n ", &save); word; word = strtok_r(NULL, "\n ", &save)) {
		if (!strcmp(word, "--"))
			break;
		if (is(word))
			return true;
	}

	return false;
}

static inline enum nolse_state nolse_state_of_cmdline(void)
{
	return nolse_cmdline_has(nolse_is_option) ? LSE_OFF : LSE_UNKNOWN;
}

/* Returns whether the command line makes KVM contain guests. */
static inline bool nolse_contained_by_cmdline(void)
{
	return nolse_cmdline_has(nolse_is_option) && nolse_cmdline_has(nolse_is_contain);
}

static inline enum nolse_state nolse_expected(int argc, char *argv[])
{
	if (argc < 2)
		return nolse_state_of_cmdline();
	if (!strcmp(argv[1], "on"))
		return LSE_ON;
	if (!strcmp(argv[1], "off"))
		return LSE_OFF;

	ksft_exit_fail_msg("usage: %s [on|off]\n", argv[0]);
}

static inline bool nolse_hwcap(void)
{
	return getauxval(AT_HWCAP) & HWCAP_ATOMICS;
}

/* Prints one TAP line: the kernel is in the expected state. */
static inline void nolse_result_state(enum nolse_state expected)
{
	if (expected == LSE_UNKNOWN)
		ksft_test_result_skip("HWCAP_ATOMICS is %s: neither on nor off is expected\n",
				      nolse_hwcap() ? "present" : "absent");
	else
		ksft_test_result(nolse_hwcap() == (expected == LSE_ON), "HWCAP_ATOMICS is %s\n",
				 expected == LSE_ON ? "present" : "absent");
}

#endif /* NOLSE_STATE_H */

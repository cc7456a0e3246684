// SPDX-License-Identifier: GPL-2.0-only
/*
 * leaves - Leave the CPUs, or this kernel, from a thread with total store order.
 *
 *   leaves suspend		suspend to idle, without the idle state: devices stop and start
 *   leaves hotplug		CPU1 goes offline and comes back
 *   leaves hibernate		write an image to the swap device zram0, and resume from it
 *   leaves kexec IMAGE INITRD CMDLINE
 *   leaves crash IMAGE INITRD CMDLINE
 *				boot IMAGE, after a panic for "crash": the new kernel
 *				must find the model that firmware had left
 *
 * With memory_model_test.ko loaded, the test reads ACTLR_EL1.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kexec.h>
#include <linux/reboot.h>

#include "kselftest.h"

#define TSO		PR_SET_MEM_MODEL_TSO
#define ACTLR_EnTSO	2

static int actlr_fd;

/* Returns whether total store order is in force on @cpu, or on the current CPU if it is -1. */
static bool in_force(int cpu)
{
	uint64_t actlr = 0;

	if (pread(actlr_fd, &actlr, sizeof(actlr), 8 * (cpu + 1)) != sizeof(actlr))
		ksft_exit_fail_msg("cannot see ACTLR_EL1\n");
	return actlr & ACTLR_EnTSO;
}

static bool has_tso(void)
{
	return prctl(PR_GET_MEM_MODEL, 0, 0, 0, 0) == TSO && in_force(-1);
}

static bool pin(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return !sched_setaffinity(0, sizeof(one), &one);
}

static bool put(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return good;
}

static void test_suspend(void)
{
	ksft_set_plan(3);
	/* Do everything except the wait for an interrupt, which needs a wakeup source */
	ksft_test_result(put("/sys/power/pm_test", "platform"), "it will wake up by itself\n");
	ksft_test_result(put("/sys/power/state", "freeze"), "suspends and wakes up\n");
	ksft_test_result(has_tso(), "the thread has TSO\n");
}

static void test_hotplug(void)
{
	static const char online[] = "/sys/devices/system/cpu/cpu1/online";

	ksft_set_plan(5);
	ksft_test_result(pin(1) && has_tso(), "the thread has TSO on CPU1\n");
	ksft_test_result(put(online, "0") && has_tso(), "CPU1 goes: the thread has it elsewhere\n");
	ksft_test_result(put(online, "1") && has_tso(), "CPU1 comes back\n");
	ksft_test_result(!in_force(1), "and starts with the default\n");
	ksft_test_result(pin(1) && has_tso(), "the thread has TSO there again\n");
}

/* The image is read back at once, so nothing needs to survive a reset. */
static void test_hibernate(void)
{
	char dev[16] = "";
	int fd = open("/sys/block/zram0/dev", O_RDONLY);
	bool known = fd >= 0 && read(fd, dev, sizeof(dev) - 1) > 0, ready;

	if (fd >= 0)
		close(fd);
	if (access("/sys/power/disk", F_OK))
		ksft_exit_skip("this kernel cannot hibernate\n");
	ksft_set_plan(3);
	ready = known && put("/sys/power/resume", dev) && put("/sys/power/disk", "test_resume");
	ksft_test_result(ready, "the image will be in zram0, and will be read back\n");
	ksft_test_result(ready && put("/sys/power/state", "disk"), "hibernates and resumes\n");
	ksft_test_result(has_tso(), "the thread has TSO\n");
}

static bool load(char **argv, bool crash)
{
	int image = open(argv[0], O_RDONLY), initrd = open(argv[1], O_RDONLY);

	return image >= 0 && initrd >= 0 &&
	       !syscall(SYS_kexec_file_load, image, initrd, strlen(argv[2]) + 1, argv[2],
			crash ? KEXEC_FILE_ON_CRASH : 0);
}

/* Boots the other kernel, which reports the results. */
static void boot(char **argv, bool crash)
{
	/* The other kernel starts on this CPU */
	pin(0);
	if (!load(argv, crash))
		ksft_exit_fail_msg("%s cannot be loaded\n", argv[0]);
	if (!has_tso())
		ksft_exit_fail_msg("the thread does not have TSO\n");
	sync();
	if (crash)
		put("/proc/sysrq-trigger", "c");
	else
		syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			LINUX_REBOOT_CMD_KEXEC, NULL);
	ksft_exit_fail_msg("this kernel is still there\n");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	bool crash = !strcmp(what, "crash");

	ksft_print_header();
	actlr_fd = open("/sys/kernel/debug/actlr", O_RDONLY);
	if (actlr_fd < 0)
		ksft_exit_skip("memory_model_test.ko is not loaded\n");
	if (prctl(PR_SET_MEM_MODEL, TSO, 0, 0, 0) || !has_tso())
		ksft_exit_skip("no total store order to be switched\n");

	if (argc == 2 && !strcmp(what, "suspend"))
		test_suspend();
	else if (argc == 2 && !strcmp(what, "hotplug"))
		test_hotplug();
	else if (argc == 2 && !strcmp(what, "hibernate"))
		test_hibernate();
	else if (argc == 5 && (crash || !strcmp(what, "kexec")))
		boot(argv + 2, crash);
	else
		ksft_exit_skip("suspend, hotplug, hibernate, kexec or crash: which?\n");
	ksft_finished();
}

// SPDX-License-Identifier: GPL-2.0
/*
 * The benchmark is the machine's /init: it sets the machine up, says which
 * mode KVM came up in, and switches the machine off.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"

static void mount_at(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	check(!mount(type, dir, type, 0, NULL), dir);
}

/*
 * Real-time FIFO at one priority: what runs next is decided by the benchmark
 * alone, and no kernel thread runs inside a measured region.
 */
static void take_the_cpu(void)
{
	struct sched_param prio = { .sched_priority = 1 };

	check(!sched_setscheduler(0, SCHED_FIFO, &prio), "SCHED_FIFO");
	check(!mlockall(MCL_CURRENT), "mlockall");
}

/*
 * /dev/kmsg gives one record a read(); KVM's says "... VHE mode initialized
 * successfully".  Figures of different modes must not be compared.
 */
static void print_kvm_mode(void)
{
	static const char tail[] = " mode initialized successfully";
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char record[1024], *text, *end;
	ssize_t len;

	check(fd >= 0, "/dev/kmsg");
	while ((len = read(fd, record, sizeof(record) - 1)) > 0) {
		record[len] = '\0';
		text = strchr(record, ';');
		end = strstr(record, tail);
		if (!text || !end)
			continue;
		*end = '\0';
		printf("info kvm-mode %s\n", text + 1);
	}
	close(fd);
}

/*
 * The boot figure counts instructions only if the CPU never went idle: idle
 * time passes in the counter too.  Seconds, to a hundredth.
 */
static void print_idle(void)
{
	FILE *uptime = fopen("/proc/uptime", "r");
	char idle[32];

	check(uptime && fscanf(uptime, "%*s %31s", idle) == 1, "/proc/uptime");
	fclose(uptime);
	printf("info boot-idle %s\n", idle);
}

void machine_up(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (getpid() != 1)
		return;
	mount_at("proc", "/proc");
	mount_at("sysfs", "/sys");
	mount_at("devtmpfs", "/dev");
	print_kvm_mode();
	print_idle();
	take_the_cpu();
}

void machine_down(int status)
{
	fflush(NULL);
	if (getpid() != 1)
		exit(status);
	sync();
	reboot(RB_POWER_OFF);
	_exit(EXIT_FAILURE);
}

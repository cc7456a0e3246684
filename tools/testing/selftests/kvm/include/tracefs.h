/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for tracefs: a private buffer, KVM events in it, and counting of its lines.
 */
#ifndef SELFTEST_KVM_TRACEFS_H
#define SELFTEST_KVM_TRACEFS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test_util.h"

#define TRACE_INSTANCES	"/sys/kernel/tracing/instances/"
#define TRACE_BUFFER	TRACE_INSTANCES "kvm_selftest/"
#define TRACE_EVENT(event, file)	TRACE_BUFFER "events/kvm/" event "/" file

static inline void trace_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	TEST_ASSERT(fd >= 0 && write(fd, text, strlen(text)) == strlen(text),
		    "Cannot write '%s' to %s, errno %d", text, path, errno);
	close(fd);
}

/* Creates the buffer. Returns false if there is no tracefs. */
static inline bool trace_begin(void)
{
	if (access(TRACE_INSTANCES, W_OK))
		return false;
	TEST_ASSERT(!mkdir(TRACE_BUFFER, 0700) || errno == EEXIST,
		    "Cannot make " TRACE_BUFFER ", errno %d", errno);
	trace_write(TRACE_BUFFER "trace", " ");
	return true;
}

/* Returns the number of lines of the trace @path that contain @words. */
static inline int trace_count_in(const char *path, const char *words)
{
	FILE *f = fopen(path, "r");
	char line[512];
	int nr = 0;

	TEST_ASSERT(f, "Cannot open %s, errno %d", path, errno);
	while (fgets(line, sizeof(line), f))
		nr += !!strstr(line, words);
	fclose(f);

	return nr;
}

/* Returns the number of lines of the buffer that contain @words. */
static inline int trace_count(const char *words)
{
	return trace_count_in(TRACE_BUFFER "trace", words);
}

static inline void trace_end(void)
{
	rmdir(TRACE_BUFFER);
}

#endif /* SELFTEST_KVM_TRACEFS_H */

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Defines the tracepoint of icache.rs.
 */

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

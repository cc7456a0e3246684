// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traces requests in the kernel proper.
 */

#define CREATE_TRACE_POINTS
#include "trace.h"

void kvm_icache_trace(u64 size, enum kvm_icache_result result)
{
	trace_kvm_icache_inval(size, result);
}

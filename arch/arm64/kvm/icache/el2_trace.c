// SPDX-License-Identifier: GPL-2.0-only
/*
 * Traces requests at EL2.
 */

#include <asm/kvm_hypevents.h>
#include <asm/kvm_icache.h>

void kvm_icache_trace(u64 size, enum kvm_icache_result result)
{
	trace_kvm_icache_inval(size, result);
}

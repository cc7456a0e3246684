// SPDX-License-Identifier: GPL-2.0-only
/*
 * Emits the hypervisor event of el2.rs.
 */

#include <asm/kvm_hypevents.h>
#include <asm/kvm_icache.h>

void __kvm_icache_trace(u64 size, enum kvm_icache_result result)
{
	trace_kvm_icache_inval(size, result);
}

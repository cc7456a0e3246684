// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's own invalidation, for cpu.rs. Built for the kernel proper and for
 * the hypervisor's object.
 */

#include <linux/cacheflush.h>
#include <asm/kvm_icache.h>

void __kvm_icache_inval_all_pou(void)
{
	icache_inval_all_pou();
}

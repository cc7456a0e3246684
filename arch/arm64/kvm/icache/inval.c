// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the inline icache_inval_all_pou() callable from cpu.rs. Built for the kernel
 * proper and for the hypervisor's object.
 */

#include <linux/cacheflush.h>
#include <asm/kvm_icache.h>

void __kvm_icache_inval_all_pou(void)
{
	icache_inval_all_pou();
}

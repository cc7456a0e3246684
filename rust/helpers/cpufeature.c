// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_ARM64

#include <linux/cpufeature.h>
#include <linux/percpu.h>

#include <asm/cpu.h>

__rust_helper bool rust_helper_cpus_have_cap(unsigned int num)
{
	return cpus_have_cap(num);
}

__rust_helper const struct cpuinfo_arm64 *rust_helper_cpuinfo_of(unsigned int cpu)
{
	return per_cpu_ptr(&cpu_data, cpu);
}

#endif

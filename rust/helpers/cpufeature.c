// SPDX-License-Identifier: GPL-2.0

#ifdef CONFIG_ARM64

#include <linux/cpufeature.h>

__rust_helper bool rust_helper_cpus_have_cap(unsigned int num)
{
	return cpus_have_cap(num);
}

#endif

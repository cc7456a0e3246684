// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets tests see ACTLR_EL1, which nothing else in user space can.
 *
 * /sys/kernel/debug/actlr: the 8 bytes at offset 0 are the register of the CPU
 * that the reader runs on, those at 8 * (n + 1) that of CPU n.
 */

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/smp.h>
#include <linux/uaccess.h>

#include <asm/sysreg.h>

static struct dentry *file;

static void read_actlr(void *value)
{
	*(u64 *)value = read_sysreg(actlr_el1);
}

static ssize_t actlr_read(struct file *unused, char __user *buffer, size_t size, loff_t *pos)
{
	loff_t cpu = *pos / sizeof(u64) - 1;
	u64 value;

	if (size != sizeof(value) || *pos % sizeof(value))
		return -EINVAL;
	if (cpu >= 0 && (cpu >= nr_cpu_ids || !cpu_online(cpu)))
		return 0;

	if (cpu < 0)
		read_actlr(&value);
	else if (smp_call_function_single(cpu, read_actlr, &value, true))
		return -ENXIO;

	if (copy_to_user(buffer, &value, sizeof(value)))
		return -EFAULT;
	return sizeof(value);
}

static const struct file_operations actlr_fops = {
	.owner = THIS_MODULE,
	.read = actlr_read,
	.llseek = default_llseek,
};

static int __init memory_model_test_init(void)
{
	file = debugfs_create_file("actlr", 0400, NULL, NULL, &actlr_fops);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit memory_model_test_exit(void)
{
	debugfs_remove(file);
}

module_init(memory_model_test_init);
module_exit(memory_model_test_exit);
MODULE_DESCRIPTION("Shows ACTLR_EL1 to tests of the memory model control");
MODULE_LICENSE("GPL");

// SPDX-License-Identifier: GPL-2.0-only
/*
 * Shows ACTLR_EL1 to tests, since user space cannot read the register otherwise.
 *
 * /sys/kernel/debug/actlr: the 8 bytes at offset 0 are the register of the CPU
 * that the reader runs on, the 8 bytes at 8 * (n + 1) the register of CPU n. A
 * read of 16 bytes returns the register and whether a guest was running on that
 * CPU.
 *
 * /sys/kernel/debug/actlr_guests: the same for the register of guests. The
 * parameter guests=el12 or guests=impdef selects the register of this machine.
 */

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/uaccess.h>

#include <asm/sysreg.h>
#include <asm/virt.h>

static char *guests;
module_param(guests, charp, 0);

static struct dentry *file, *guests_file;

struct seen {
	u64 value;
	/* KVM handles interrupts that a guest took before it clears PF_VCPU */
	u64 in_guest;
};

static void saw(struct seen *seen, u64 value)
{
	seen->value = value;
	seen->in_guest = !!(current->flags & PF_VCPU);
}

static void read_actlr(void *seen)
{
	saw(seen, read_sysreg(actlr_el1));
}

static void read_el12(void *seen)
{
	saw(seen, read_sysreg_s(SYS_ACTLR_EL12));
}

static void read_impdef(void *seen)
{
	saw(seen, read_sysreg_s(sys_reg(3, 6, 15, 14, 6)));
}

static ssize_t actlr_read(struct file *file, char __user *buffer, size_t size, loff_t *pos)
{
	smp_call_func_t read_this = file_inode(file)->i_private;
	loff_t cpu = *pos / sizeof(u64) - 1;
	struct seen seen;

	if ((size != sizeof(seen.value) && size != sizeof(seen)) || *pos % sizeof(seen.value))
		return -EINVAL;
	if (cpu >= 0 && (cpu >= nr_cpu_ids || !cpu_online(cpu)))
		return 0;

	if (cpu < 0)
		read_this(&seen);
	else if (smp_call_function_single(cpu, read_this, &seen, true))
		return -ENXIO;

	if (copy_to_user(buffer, &seen, size))
		return -EFAULT;
	return size;
}

static const struct file_operations actlr_fops = {
	.owner = THIS_MODULE,
	.read = actlr_read,
	.llseek = default_llseek,
};

static int __init memory_model_test_init(void)
{
	smp_call_func_t read_guests = NULL;

	if (guests && !strcmp(guests, "el12"))
		read_guests = read_el12;
	else if (guests && !strcmp(guests, "impdef"))
		read_guests = read_impdef;
	else if (guests)
		return -EINVAL;
	/* The registers of guests exist in VHE mode only */
	if (guests && !is_kernel_in_hyp_mode())
		return -ENODEV;

	file = debugfs_create_file("actlr", 0400, NULL, read_actlr, &actlr_fops);
	if (read_guests)
		guests_file = debugfs_create_file("actlr_guests", 0400, NULL, read_guests,
						  &actlr_fops);
	return PTR_ERR_OR_ZERO(file);
}

static void __exit memory_model_test_exit(void)
{
	debugfs_remove(guests_file);
	debugfs_remove(file);
}

module_init(memory_model_test_init);
module_exit(memory_model_test_exit);
MODULE_DESCRIPTION("Shows ACTLR_EL1 to tests of the memory model control");
MODULE_LICENSE("GPL");

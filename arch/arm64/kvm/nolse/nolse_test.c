// SPDX-License-Identifier: GPL-2.0-only
/*
 * Gives tests memory that KVM does not map Write-Back for a guest. /dev/nolse_test
 * is one page of the memory that the command line hides from the kernel (mem=), at
 * the physical address @phys. The mmap() offset selects how KVM may map the page:
 *
 *   0		Normal Non-cacheable, as vfio_pci_core_mmap() permits
 *   PAGE_SIZE	Device, as for a driver that only remaps memory of its device
 */

#include <linux/fs.h>
#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pfn.h>

static unsigned long phys;
module_param_hw(phys, ulong, iomem, 0444);
MODULE_PARM_DESC(phys, "address of a page that is not the kernel's");

static int uncached_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_end - vma->vm_start != PAGE_SIZE || vma->vm_pgoff > 1)
		return -EINVAL;

	if (!vma->vm_pgoff)
		vm_flags_set(vma, VM_ALLOW_ANY_UNCACHED);
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return remap_pfn_range(vma, vma->vm_start, PHYS_PFN(phys), PAGE_SIZE, vma->vm_page_prot);
}

static const struct file_operations uncached_fops = {
	.owner = THIS_MODULE,
	.mmap = uncached_mmap,
};

static struct miscdevice uncached = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "nolse_test",
	.mode = 0600,
	.fops = &uncached_fops,
};

static int __init nolse_test_init(void)
{
	int ret;

	if (!phys || !PAGE_ALIGNED(phys) || pfn_is_map_memory(PHYS_PFN(phys)))
		return -EINVAL;
	/* Refuse memory of a device that has a driver */
	if (!request_mem_region(phys, PAGE_SIZE, "nolse_test"))
		return -EBUSY;

	ret = misc_register(&uncached);
	if (ret)
		release_mem_region(phys, PAGE_SIZE);
	return ret;
}

static void __exit nolse_test_exit(void)
{
	misc_deregister(&uncached);
	release_mem_region(phys, PAGE_SIZE);
}

module_init(nolse_test_init);
module_exit(nolse_test_exit);
MODULE_DESCRIPTION("Memory that is not Write-Back, for tests of arm64.nolse_atomics");
MODULE_LICENSE("GPL");
MODULE_INFO(test, "Y");

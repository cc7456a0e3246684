// SPDX-License-Identifier: GPL-2.0-only
/*
 * spe_memory - Check that a guest's profile goes on whatever the host does to its memory.
 *
 * One sample in PERIOD is in the buffer, without a gap, and the guest gets no event, unless the
 * memory is gone. Statistics show that the host has done what the test is about.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/bitfield.h>
#include <linux/falloc.h>
#include <linux/sizes.h>

#include "asm/barrier.h"

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "spe.h"
#include "test_util.h"
#include "tracefs.h"
#include "ucall.h"
#include "userfaultfd_util.h"

#define SIZE		SZ_4M
#define TURNS		4000000
#define SHORT_TURNS	400000
#define PAIRS		10000
/* Between one thing that the host does and the next, in microseconds */
#define PAUSE		2000
/* What a unit may have under way, and drops, when the window is full */
#define DROPPED		20
/* KVM's window: 32 pages of 4 KiB */
#define WINDOW		SZ_128K

#define SLOT		10
#define BUFFER_GPA	0x80000000UL
#define BUFFER_GVA	0x80000000UL
#define RING_SIZE	SZ_4K

/*
 * Guest
 */

static u8 *buffer = (u8 *)BUFFER_GVA;
static u64 turns, records, in_loops, gone;

/* Profiles a loop, and counts the records. */
static void profile(u8 *where, u64 size)
{
	start(where, size, PMSCR_EL1_E1SPE);
	loop(turns);
	records = (stop_at() - (u64)where) / RECORD;
	in_loops = 0;
	if (gone)
		return;
	for (u64 i = 0; i < records; i++)
		in_loops += in_loop(where + i * RECORD);
}

static void guest_profile(void)
{
	set_up_unit();
	profile(buffer, SIZE);
	GUEST_DONE();
}

/* The first page is not the first of a window, of a block, or of a table. */
static void guest_odd(void)
{
	set_up_unit();
	profile(buffer + SZ_2M - 3 * SZ_4K, SIZE - SZ_2M);
	GUEST_DONE();
}

static void guest_pairs(void)
{
	set_up_unit();
	for (int i = 0; i < PAIRS; i++) {
		start(buffer, SIZE, PMSCR_EL1_E1SPE);
		loop(100);
		stop_at();
	}
	/* Only the last one counts. */
	profile(buffer, SIZE);
	GUEST_DONE();
}

/* The limit is what the guest has written, whatever the unit has. */
static void guest_limit(void)
{
	u64 limit = ((u64)buffer + SIZE) | PMBLIMITR_EL1_E;

	set_up_unit();
	start(buffer, SIZE, PMSCR_EL1_E1SPE);
	for (int i = 0; i < 100; i++) {
		loop(TURNS / 1000);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBLIMITR_EL1), limit);
		GUEST_ASSERT_EQ(read_sysreg_s(SYS_PMBSR_EL1), 0);
	}
	records = (stop_at() - (u64)buffer) / RECORD;
	GUEST_DONE();
}

/* The buffer gets other pages, at the same address, while it is off. */
static void guest_remap(void)
{
	set_up_unit();
	profile(buffer, SIZE);
	GUEST_SYNC(0);
	asm volatile("tlbi vmalle1is");
	dsb(ish);
	isb();
	profile(buffer, SIZE);
	GUEST_DONE();
}

/*
 * Host
 */

struct run {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	u8 *mem;
	int memfd;
	bool done;
	u64 times;
	u64 unit_shown, buffer_shown;
	u8 *copy;
};

static struct run run;

static bool same(const char *what, u64 value, u64 min, u64 max)
{
	if (value >= min && value <= max)
		return true;

	ksft_print_msg("%s: %lu is not in %lu to %lu\n", what, value, min, max);
	return false;
}

static void read_results(void)
{
	sync_global_from_guest(run.vm, records);
	sync_global_from_guest(run.vm, in_loops);
	sync_global_from_guest(run.vm, interrupts);
	sync_global_from_guest(run.vm, status);
	sync_global_from_guest(run.vm, pointer);
}

/* A few instructions before and behind the loop are in the population, too. */
static bool is_complete(u64 n)
{
	u64 postponed = vcpu_get_stat(run.vcpu, spe_postponed);
	u64 moved = vcpu_get_stat(run.vcpu, spe_moved);
	u64 kicked = vcpu_get_stat(run.vcpu, spe_kicked);
	u64 min, expected = n * 4 / PERIOD;

	ksft_print_msg("records %lu: walked %lu, compared %lu, moved %lu, mapped %lu\n", records,
		       vcpu_get_stat(run.vcpu, spe_walked),
		       vcpu_get_stat(run.vcpu, spe_compared), moved,
		       vcpu_get_stat(run.vcpu, spe_mapped));
	ksft_print_msg("kicked %lu, postponed %lu, the host did it %lu times\n", kicked, postponed,
		       run.times);
	/* While the unit is off nothing is sampled. An exit may lose the sample in flight. */
	min = postponed ? expected / 2 : expected - 1 - moved * DROPPED - kicked;
	return same("records", records, min, expected + 2) &&
	       same("in the loop", in_loops, records - 2, records) &&
	       same("interrupts", interrupts, 0, 0) &&
	       same("faults", vcpu_get_stat(run.vcpu, spe_resolved), 0, 0) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 0, 0);
}

static bool is_undisturbed(void)
{
	return is_complete(TURNS) && same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 0, 0) &&
	       same("moved", vcpu_get_stat(run.vcpu, spe_moved), records * RECORD / WINDOW,
		    records * RECORD / WINDOW + 1);
}

static bool is_short(void)
{
	return is_complete(SHORT_TURNS);
}

static bool has_limit(void)
{
	u64 expected = TURNS / 10 * 4 / PERIOD;

	return same("records", records, expected - 5 * DROPPED, expected + 50) &&
	       same("moved", vcpu_get_stat(run.vcpu, spe_moved), 2, 5);
}

static bool has_compared(void)
{
	return is_complete(SHORT_TURNS) &&
	       same("walked", vcpu_get_stat(run.vcpu, spe_walked), 1, 6) &&
	       same("compared", vcpu_get_stat(run.vcpu, spe_compared), PAIRS, 3 * PAIRS);
}

static bool was_disturbed(void)
{
	return is_complete(TURNS) && same("times", run.times, 2, -1UL) &&
	       same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 1, -1UL);
}

/* The unit is stopped before the change, and does not run into it. */
static bool was_stopped(void)
{
	return is_complete(TURNS) &&
	       same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 1, -1UL) &&
	       same("resolved", vcpu_get_stat(run.vcpu, spe_resolved), 0, 0);
}

/* Nothing has to be stopped. */
static bool was_left_alone(void)
{
	return is_complete(TURNS) && same("times", run.times, 2, -1UL);
}

/* PMBSR_EL1: EC 0x1f, DL; PMBPTR_EL1 is where the memory ends */
static bool has_lost_a_page(void)
{
	return same("interrupts", interrupts, 1, 1) &&
	       same("PMBSR_EL1", status & ~BIT(16), 0x1fUL << 26 | BIT(19) | PMBSR_EL1_S,
		    0x1fUL << 26 | BIT(19) | PMBSR_EL1_S) &&
	       same("PMBPTR_EL1", pointer, BUFFER_GVA, BUFFER_GVA + SIZE) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 1, 1);
}

static bool has_lost_the_second_page(void)
{
	return has_lost_a_page() &&
	       same("PMBPTR_EL1", pointer, BUFFER_GVA + SZ_1M, BUFFER_GVA + SZ_1M);
}

static bool is_as_it_was(void)
{
	return has_lost_a_page() && !memcmp(run.copy, run.mem, SIZE);
}

static bool is_copied(void)
{
	return is_complete(TURNS) && !memcmp(run.copy, run.mem, SIZE);
}

/* Each page has come from userspace, before the unit wrote to it. */
static bool has_arrived(void)
{
	u64 pages = records * RECORD / SZ_4K;

	return is_complete(TURNS) && same("times", run.times, pages, SIZE / SZ_4K);
}

/* Each event is a line of the trace. */
static bool is_traced(void)
{
	u64 walked = vcpu_get_stat(run.vcpu, spe_walked);
	u64 all = walked + vcpu_get_stat(run.vcpu, spe_compared) +
		  vcpu_get_stat(run.vcpu, spe_postponed);
	u64 kicked = vcpu_get_stat(run.vcpu, spe_kicked);
	u64 moved = vcpu_get_stat(run.vcpu, spe_moved);

	return was_disturbed() &&
	       same("traced: enabled", trace_count("kvm_spe_enable: vCPU 0: 0x80"), all,
		    all) &&
	       same("traced: walked", trace_count(": walked\n"), walked, walked) &&
	       same("traced: kicked", trace_count("kvm_spe_kick: vCPU 0: frames 0x"), kicked,
		    kicked) &&
	       same("traced: moved", trace_count("kvm_spe_event: vCPU 0: 0x80"), moved, moved);
}

static bool is_shown(void)
{
	return is_complete(TURNS) && same("the unit is shown", run.unit_shown, 1, -1UL) &&
	       same("the buffer is shown", run.buffer_shown, 1, -1UL);
}

static void write_to(const char *path, const char *text)
{
	int file = open(path, O_WRONLY);

	if (file < 0 || write(file, text, strlen(text)) < 0)
		TEST_FAIL("%s: %s", path, strerror(errno));
	close(file);
}

/* All memory of the process becomes read-only until it is written. */
static void by_fork(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
}

static void by_compaction(void)
{
	write_to("/proc/sys/vm/compact_memory", "1");
}

/* Pages of a block are taken apart, and become one again. */
static void by_collapse(void)
{
	madvise(run.mem + (run.times * 7 % 1024) * SZ_4K, SZ_4K, MADV_PAGEOUT);
	madvise(run.mem, SIZE, MADV_COLLAPSE);
}

static void by_pageout(void)
{
	madvise(run.mem, SIZE, MADV_PAGEOUT);
}

static void by_ksm(void)
{
	madvise(run.mem, SIZE, MADV_MERGEABLE);
	write_to("/sys/kernel/mm/ksm/pages_to_scan", "4000");
	write_to("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	write_to("/sys/kernel/mm/ksm/run", "1");
	usleep(100000);
	madvise(run.mem, SIZE, MADV_UNMERGEABLE);
	write_to("/sys/kernel/mm/ksm/run", "0");
}

/* All pages of the process become idle: their access flags are cleared. */
static void by_idle_tracking(void)
{
	static int pagemap, bitmap;
	u64 entry, bits = -1UL;

	if (!pagemap) {
		pagemap = open("/proc/self/pagemap", O_RDONLY);
		bitmap = open("/sys/kernel/mm/page_idle/bitmap", O_WRONLY);
		TEST_ASSERT(pagemap >= 0 && bitmap >= 0, "page_idle: %s", strerror(errno));
	}
	for (u64 i = 0; i < SIZE; i += SZ_4K) {
		u64 page = ((u64)run.mem + i) / SZ_4K;

		TEST_ASSERT(pread(pagemap, &entry, 8, page * 8) == 8, "pagemap");
		if (entry >> 63)
			pwrite(bitmap, &bits, 8, (entry & GENMASK(54, 0)) / 64 * 8);
	}
}

/* Pages far behind the unit become new ones. */
static void by_punching(void)
{
	fallocate(run.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SIZE - SZ_64K, SZ_64K);
}

/* Somebody looks into debugfs. */
static void by_looking(void)
{
	char path[256], line[256], unit[64], limit[64];
	FILE *file;

	snprintf(unit, sizeof(unit), "VM: SPU %d on CPUs ", unit_type);
	snprintf(limit, sizeof(limit), " to 0x%lx, ready\n", BUFFER_GVA + SIZE);
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/spe", getpid(), run.vm->fd);
	file = fopen(path, "r");
	TEST_ASSERT(file, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof(line), file)) {
		run.unit_shown += strstr(line, unit) == line;
		run.buffer_shown += strstr(line, "vCPU 0: 0x80") == line && strstr(line, limit);
	}
	fclose(file);
}

/* Something else of the process comes and goes all the time. */
static void by_others(void)
{
	void *other = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	munmap(other, SZ_2M);
}

/* A page, once the unit has come near it. */
static void by_munmap(void)
{
	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_512K]))
		usleep(100);
	munmap(run.mem + SZ_1M, SZ_4K);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

/* All of it: nothing is written from then on. */
static void by_deletion(void)
{
	struct kvm_userspace_memory_region2 none = { .slot = SLOT };

	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_512K]))
		usleep(100);
	__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &none);
	memcpy(run.copy, run.mem, SIZE);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

/* A migration: what is dirty is copied, round after round. */
static void copy_dirty(bool clear)
{
	unsigned long dirty[SIZE / SZ_4K / BITS_PER_LONG] = {};

	kvm_vm_get_dirty_log(run.vm, SLOT, dirty);
	if (clear)
		kvm_vm_clear_dirty_log(run.vm, SLOT, dirty, 0, SIZE / SZ_4K);
	for (u64 i = 0; i < SIZE / SZ_4K; i++) {
		if (dirty[i / BITS_PER_LONG] & BIT(i % BITS_PER_LONG))
			memcpy(run.copy + i * SZ_4K, run.mem + i * SZ_4K, SZ_4K);
	}
}

static void by_dirty_log(void)
{
	copy_dirty(false);
}

static void by_manual_dirty_log(void)
{
	copy_dirty(true);
}

/*
 * The end of a block becomes read-only while the unit is at its beginning. That changes the block's
 * only entry, and so what the unit writes to.
 */
static void by_write_protection(void)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = SLOT,
		.flags = KVM_MEM_LOG_DIRTY_PAGES,
		.guest_phys_addr = BUFFER_GPA,
		.memory_size = SIZE,
		.userspace_addr = (u64)run.mem,
	};
	unsigned long all = -1UL;

	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_64K]))
		usleep(100);
	TEST_ASSERT(!__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &region), "dirty logging");
	kvm_vm_clear_dirty_log(run.vm, SLOT, &all, SZ_2M / SZ_4K - BITS_PER_LONG, BITS_PER_LONG);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

/* The same, from the ring of the vCPU, in its own thread. */
static void copy_from_ring(void)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(run.vcpu);
	static u32 next;

	for (;; next++) {
		struct kvm_dirty_gfn *gfn = &ring[next % (RING_SIZE / sizeof(*gfn))];

		/* Pairs with kvm_dirty_gfn_set_dirtied() */
		if (smp_load_acquire(&gfn->flags) != KVM_DIRTY_GFN_F_DIRTY)
			break;
		if ((gfn->slot & 0xffff) == SLOT)
			run.copy[SIZE + gfn->offset] = 1;
		/* Pairs with kvm_dirty_gfn_harvested() */
		smp_store_release(&gfn->flags, KVM_DIRTY_GFN_F_RESET);
		run.times++;
	}
	/* They are clean before they are copied. */
	kvm_vm_reset_dirty_ring(run.vm);
	for (u64 i = 0; i < SIZE / SZ_4K; i++) {
		if (run.copy[SIZE + i])
			memcpy(run.copy + i * SZ_4K, run.mem + i * SZ_4K, SZ_4K);
		run.copy[SIZE + i] = 0;
	}
}

static const struct fact {
	const char *name;
	void (*code)(void);
	u64 turns;
	bool (*holds)(void);
	/* What another thread does meanwhile, again and again */
	void (*disturb)(void);
	enum vm_mem_backing_src_type src;
	u32 flags;
	bool manual, ring, memfd, traced, postcopy;
} facts[] = {
	{ "the window moves, unseen", guest_profile, TURNS, is_undisturbed },
	{ "on shared memory", guest_profile, TURNS, is_undisturbed,
	  .src = VM_MEM_SRC_SHMEM },
	{ "on huge pages", guest_profile, TURNS, is_undisturbed,
	  .src = VM_MEM_SRC_ANONYMOUS_THP },
	{ "on pages of hugetlbfs", guest_profile, TURNS, is_undisturbed,
	  .src = VM_MEM_SRC_ANONYMOUS_HUGETLB },
	{ "on guest_memfd", guest_profile, TURNS, is_undisturbed, .memfd = true },
	{ "guest_memfd that changes elsewhere", guest_profile, TURNS, was_left_alone, by_punching,
	  .memfd = true },
	{ "across blocks and tables", guest_odd, SHORT_TURNS, is_short,
	  .src = VM_MEM_SRC_ANONYMOUS_THP },
	{ "PMBLIMITR_EL1 is the guest's", guest_limit, TURNS, has_limit },
	{ "starts at the same place compare", guest_pairs, SHORT_TURNS, has_compared },
	{ "fork", guest_profile, TURNS, was_disturbed, by_fork },
	{ "compaction", guest_profile, TURNS, was_left_alone, by_compaction },
	{ "collapse and split", guest_profile, TURNS, was_disturbed, by_collapse,
	  .src = VM_MEM_SRC_ANONYMOUS_THP },
	{ "page out", guest_profile, TURNS, was_disturbed, by_pageout },
	{ "page out, traced", guest_profile, TURNS, is_traced, by_pageout, .traced = true },
	{ "postcopy", guest_profile, TURNS, has_arrived, .postcopy = true },
	{ "debugfs", guest_profile, TURNS, is_shown, by_looking },
	{ "page out of shared memory", guest_profile, TURNS, was_disturbed, by_pageout,
	  .src = VM_MEM_SRC_SHMEM },
	{ "merged pages", guest_profile, TURNS, was_left_alone, by_ksm },
	{ "idle page tracking", guest_profile, TURNS, was_left_alone, by_idle_tracking },
	{ "other memory comes and goes", guest_profile, TURNS, was_left_alone, by_others },
	{ "other pages at the same address", guest_remap, SHORT_TURNS, is_short },
	{ "a page that is gone: event and address", guest_profile, TURNS,
	  has_lost_the_second_page, by_munmap },
	{ "a memslot that is gone: nothing is written", guest_profile, TURNS, is_as_it_was,
	  by_deletion },
	{ "dirty bitmap", guest_profile, TURNS, is_copied, by_dirty_log,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES },
	{ "dirty bitmap, manual", guest_profile, TURNS, is_copied, by_manual_dirty_log,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES, .manual = true },
	{ "dirty bitmap on huge pages, manual", guest_profile, TURNS, is_copied,
	  by_manual_dirty_log, VM_MEM_SRC_ANONYMOUS_THP, KVM_MEM_LOG_DIRTY_PAGES, true },
	{ "part of a block becomes read-only", guest_profile, TURNS, was_stopped,
	  by_write_protection, VM_MEM_SRC_ANONYMOUS_HUGETLB, .manual = true },
	{ "dirty ring", guest_profile, TURNS, is_copied,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES, .ring = true },
};

static void *disturb_it(void *fact)
{
	if (wrong_cpu >= 0)
		pin_self_to_cpu(wrong_cpu);
	while (!READ_ONCE(run.done)) {
		((const struct fact *)fact)->disturb();
		run.times++;
		usleep(PAUSE);
	}
	return NULL;
}

/* Gives the guest other memory at the same address. */
static void remap(void)
{
	struct kvm_userspace_memory_region2 region = { .slot = SLOT };
	void *other = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &region);
	region.guest_phys_addr = BUFFER_GPA;
	region.memory_size = SIZE;
	region.userspace_addr = (u64)other;
	TEST_ASSERT(!__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &region), "remap");
}

/* Runs the guest to its end. */
static bool run_guest(const struct fact *fact)
{
	struct ucall uc;

	for (;;) {
		int ret = __vcpu_run(run.vcpu);

		if (run.vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			copy_from_ring();
			continue;
		}
		if (ret) {
			if (errno == EINTR)
				continue;
			ksft_print_msg("KVM_RUN: %s\n", strerror(errno));
			return false;
		}
		switch (get_ucall(run.vcpu, &uc)) {
		case UCALL_SYNC:
			remap();
			continue;
		case UCALL_DONE:
			return true;
		case UCALL_ABORT:
			ksft_print_msg("%s\n", uc.buffer);
			return false;
		default:
			ksft_print_msg("exit %d\n", run.vcpu->run->exit_reason);
			return false;
		}
	}
}

static void set_up(const struct fact *fact)
{
	run = (struct run){};
	run.vm = vm_with_spu(&run.vcpu, fact->code, fact->ring ? RING_SIZE : 0);
	if (fact->manual)
		vm_enable_cap(run.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	if (fact->memfd) {
		run.memfd = vm_create_guest_memfd(run.vm, SIZE, GUEST_MEMFD_FLAG_MMAP |
						  GUEST_MEMFD_FLAG_INIT_SHARED);
		run.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, run.memfd, 0);
		TEST_ASSERT(run.mem != MAP_FAILED, "mmap of guest_memfd");
		vm_set_user_memory_region2(run.vm, SLOT, KVM_MEM_GUEST_MEMFD, BUFFER_GPA, SIZE,
					   run.mem, run.memfd, 0);
	} else {
		vm_userspace_mem_region_add(run.vm, fact->src, BUFFER_GPA, SLOT, SIZE / SZ_4K,
					    fact->flags);
		run.mem = addr_gpa2hva(run.vm, BUFFER_GPA);
	}
	virt_map(run.vm, BUFFER_GVA, BUFFER_GPA, SIZE / SZ_4K);
	run.copy = calloc(1, SIZE + SIZE / SZ_4K);
	turns = fact->turns;
	sync_global_to_guest(run.vm, turns);
	/* Then the guest must not read the buffer. */
	gone = fact->holds == is_as_it_was;
	sync_global_to_guest(run.vm, gone);
}

/* The rest of a postcopy migration: a page arrives when somebody waits for it. */
static int send_page(int mode, int uffd, struct uffd_msg *msg)
{
	struct uffdio_zeropage page = {
		.range.start = msg->arg.pagefault.address & ~(SZ_4K - 1UL),
		.range.len = SZ_4K,
	};

	if (ioctl(uffd, UFFDIO_ZEROPAGE, &page) && errno != EEXIST)
		return -errno;
	run.times++;
	return 0;
}

static void trace_events(const char *on)
{
	trace_write(TRACE_EVENT("kvm_spe_enable", "enable"), on);
	trace_write(TRACE_EVENT("kvm_spe_kick", "enable"), on);
	trace_write(TRACE_EVENT("kvm_spe_event", "enable"), on);
}

static bool holds(const struct fact *fact)
{
	struct uffd_desc *uffd = NULL;
	pthread_t thread;
	bool good;

	set_up(fact);
	if (fact->traced) {
		TEST_ASSERT(trace_begin(), "there is no " TRACE_INSTANCES);
		trace_events("1");
	}
	if (fact->postcopy)
		uffd = uffd_setup_demand_paging(UFFDIO_REGISTER_MODE_MISSING, 0, run.mem, SIZE, 1,
						send_page);
	if (fact->disturb)
		pthread_create(&thread, NULL, disturb_it, (void *)fact);
	good = run_guest(fact);
	WRITE_ONCE(run.done, true);
	if (fact->disturb)
		pthread_join(thread, NULL);
	/* The last round of a migration */
	if (fact->ring)
		copy_from_ring();
	else if (fact->flags)
		fact->disturb();
	if (uffd)
		uffd_stop_demand_paging(uffd);
	read_results();
	good = good && fact->holds();
	if (fact->traced) {
		trace_events("0");
		trace_end();
	}
	free(run.copy);
	kvm_vm_free(run.vm);
	if (fact->memfd) {
		munmap(run.mem, SIZE);
		close(run.memfd);
	}
	return good;
}

int main(void)
{
	ksft_print_header();
	find_unit();
	ksft_set_plan(ARRAY_SIZE(facts));
	pin_self_to_cpu(right_cpu);
	for (int i = 0; i < ARRAY_SIZE(facts); i++)
		ksft_test_result(holds(&facts[i]), "%s\n", facts[i].name);
	ksft_finished();
}

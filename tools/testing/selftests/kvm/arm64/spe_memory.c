// SPDX-License-Identifier: GPL-2.0-only
/*
 * spe_memory - Check that a guest can profile while the host changes the guest's memory.
 *
 * One sample in PERIOD is in the buffer, without a gap, and the guest gets no event, unless the
 * memory is gone. Statistics show that the host has made the change under test.
 *
 * usage: spe_memory [-l] [-o WORDS] [-t TRAPS]
 *   -l		faults of this unit lose data: only the facts in which it faults are checked
 *   -o WORDS	only the facts with these words in their names
 *   -t TRAPS	how often a start and a stop trap (default 3: there is FEAT_FGT)
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
#define SWITCHES	1000
#define BATCH		100
/* The pause between two changes by the host, in microseconds */
#define PAUSE		2000UL
/* The operations that a unit may drop when the window is full, or a page is missing */
#define DROPPED		20
/* KVM's window: 32 pages of 4 KiB */
#define WINDOW		SZ_128K
/* More tables of stage 2 than KVM keeps for a vCPU; pages of the buffer that each maps */
#define TABLES		64
#define TABLE_PAGES	16
/* Before an entry KVM allocates up to 100 times (ATTEMPTS), and so fails at one, and not at two */
#define FAILURES	"150"

/* The page of the buffer that changes, or goes away, while the unit writes elsewhere */
#define ODD_PAGE	16
/* Where the second memslot begins */
#define SPLIT		(SZ_1M + 3 * SZ_4K)
/* What another vCPU writes to: the rest of the unit's block, and the next one */
#define OTHERS		SZ_512K
/* Where a page that was taken away is looked for */
#define LITTER		SZ_64M

#define SLOT		10
#define BUFFER_GPA	0x80000000UL
#define BUFFER_GVA	0x80000000UL
#define NOWHERE_GPA	0x4000000000UL
#define TABLE_GVA	0xc0000000UL
#define RING_SIZE	SZ_4K

/*
 * Guest
 */

static u8 *buffer = (u8 *)BUFFER_GVA;
static u64 turns, records, in_loops, gone;
/* The descriptor of a page, and what it gets */
static u64 *descriptor, other_gpa;
static u64 touched, over;

/* Stops, and counts the records. */
static void read_records(const u8 *where)
{
	records = (stop_at() - (u64)where) / RECORD;
	in_loops = 0;
	if (gone)
		return;
	for (u64 i = 0; i < records; i++)
		in_loops += in_loop(where + i * RECORD);
}

/* Profiles a loop. */
static void profile(u8 *where, u64 size)
{
	start(where, size, PMSCR_EL1_E1SPE);
	loop(turns);
	read_records(where);
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
		if (i % BATCH == 0)
			GUEST_SYNC(0);
		start(buffer, SIZE, PMSCR_EL1_E1SPE);
		loop(100);
		stop_at();
	}
	GUEST_SYNC(0);
	/* Only the last one counts. */
	profile(buffer, SIZE);
	GUEST_DONE();
}

/* The accesses of Linux's driver when it starts and stops the unit, without FEAT_SPEv1p2 */
static void guest_switches(void)
{
	set_up_unit();
	for (int i = 0; i < SWITCHES; i++) {
		if (i % BATCH == 0)
			GUEST_SYNC(0);
		write_sysreg_s((u64)buffer, SYS_PMBPTR_EL1);
		write_sysreg_s(((u64)buffer + SIZE) | PMBLIMITR_EL1_E, SYS_PMBLIMITR_EL1);
		isb();
		write_sysreg_s(0, SYS_PMSFCR_EL1);
		write_sysreg_s(0, SYS_PMSEVFR_EL1);
		write_sysreg_s(0, SYS_PMSLATFR_EL1);
		write_sysreg_s(INTERVAL, SYS_PMSIRR_EL1);
		isb();
		write_sysreg_s(0, SYS_PMSICR_EL1);
		isb();
		write_sysreg_s(PMSCR_EL1_E1SPE, SYS_PMSCR_EL1);
		loop(100);
		write_sysreg_s(0, SYS_PMSCR_EL1);
		isb();
		psb_csync();
		dsb(nsh);
		write_sysreg_s(0, SYS_PMBLIMITR_EL1);
		isb();
		read_sysreg_s(SYS_PMBSR_EL1);
		read_sysreg_s(SYS_PMBPTR_EL1);
		read_sysreg_s(SYS_PMSICR_EL1);
	}
	GUEST_SYNC(0);
	GUEST_DONE();
}

/* Each start needs a table of stage 2, and each loop has a sample. */
static void guest_spread(void)
{
	set_up_unit();
	GUEST_SYNC(0);
	for (int i = 0; i < TABLES; i++) {
		u8 *where = buffer + i * SZ_2M;

		start(where, TABLE_PAGES * SZ_4K, PMSCR_EL1_E1SPE);
		loop(PERIOD);
		records += stop_at() > (u64)where;
	}
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

/* A page gets another place in memory while the unit may write to it. */
static void guest_tables(void)
{
	u64 moved = (u64)buffer + ODD_PAGE * SZ_4K;
	u64 value = *descriptor & ~GENMASK(47, 12);

	set_up_unit();
	start(buffer, SZ_1M, PMSCR_EL1_E1SPE);
	loop(PERIOD);
	WRITE_ONCE(*descriptor, 0);
	dsb(ishst);
	asm volatile("tlbi vaae1is, %0" : : "r" (moved >> 12));
	dsb(ish);
	WRITE_ONCE(*descriptor, value | other_gpa);
	dsb(ishst);
	isb();
	loop(turns - PERIOD);
	read_records(buffer);
	GUEST_DONE();
}

/* Something happens while the buffer is enabled. */
static void guest_paused(void)
{
	set_up_unit();
	start(buffer, SIZE, PMSCR_EL1_E1SPE);
	loop(PERIOD);
	GUEST_SYNC(0);
	loop(turns);
	read_records(buffer);
	GUEST_DONE();
}

static void guest_beside(void)
{
	set_up_unit();
	profile(buffer, OTHERS);
	WRITE_ONCE(over, 1);
	GUEST_DONE();
}

/* The other vCPU writes all around the buffer of guest_beside(). */
static void guest_other(void)
{
	while (!READ_ONCE(over)) {
		for (u64 i = OTHERS; i < SIZE; i += SZ_4K)
			buffer[i]++;
		touched++;
	}
	GUEST_DONE();
}

/*
 * Host
 */

struct run {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu, *other;
	u8 *mem;
	int memfd;
	bool done;
	u64 times;
	/* How often the vCPU was moved, and how often it could not run there */
	u64 moves, refusals;
	pid_t thread;
	pthread_t disturber, other_thread;
	struct uffd_desc *uffd;
	u64 unit_shown, buffer_shown;
	u8 *copy, *litter;
	/* How much memory was searched for a page that was taken away */
	u64 littered;
	bool used_again, moving, other_done;
	/* Exits at the last pause, and the least in a batch of pairs */
	u64 exits, least;
};

static struct run run;
/* A fault of the unit loses data. */
static bool loses;
static unsigned int traps = 3;
static const char *only = "";

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
	sync_global_from_guest(run.vm, touched);
	sync_global_from_guest(run.vm, interrupts);
	sync_global_from_guest(run.vm, status);
	sync_global_from_guest(run.vm, pointer);
}

/* A few instructions before and behind the loop are in the population, too. */
static bool goes_on(u64 n)
{
	u64 postponed = vcpu_get_stat(run.vcpu, spe_postponed);
	u64 moved = vcpu_get_stat(run.vcpu, spe_moved);
	u64 events = moved + vcpu_get_stat(run.vcpu, spe_resolved);
	u64 kicked = vcpu_get_stat(run.vcpu, spe_kicked);
	u64 min, expected = n * 4 / PERIOD;

	ksft_print_msg("records %lu: walked %lu, compared %lu, moved %lu, mapped %lu\n", records,
		       vcpu_get_stat(run.vcpu, spe_walked),
		       vcpu_get_stat(run.vcpu, spe_compared), moved,
		       vcpu_get_stat(run.vcpu, spe_mapped));
	ksft_print_msg("kicked %lu, postponed %lu, the host did it %lu times\n", kicked, postponed,
		       run.times);
	/* While the unit is off nothing is sampled. An exit may lose the sample in flight. */
	min = postponed ? expected / 2 : expected - 1 - events * DROPPED - kicked - run.refusals;
	return same("records", records, min, expected + 2) &&
	       same("in the loop", in_loops, records - 2, records) &&
	       same("interrupts", interrupts, 0, 0) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 0, 0);
}

static bool is_complete(u64 n)
{
	return goes_on(n) && same("faults", vcpu_get_stat(run.vcpu, spe_resolved), 0, 0);
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

/*
 * A pair writes PMBPTR_EL1, PMBLIMITR_EL1, PMSCR_EL1 and again PMSCR_EL1, reads PMBPTR_EL1, and
 * writes PMBLIMITR_EL1. With FEAT_FGT, half of that traps; without, all does.
 */
static bool has_trapped(void)
{
	ksft_print_msg("%lu exits in %u pairs\n", run.least, BATCH);
	/* The host's timer takes the vCPU out, too. */
	return same("traps of a pair", run.least / BATCH, traps, traps);
}

/*
 * Counts the traps of a task switch by Linux's driver. With FEAT_FGT, writes of PMBPTR_EL1 and
 * PMBLIMITR_EL1 trap, and then of PMBLIMITR_EL1 and reads of PMBSR_EL1, PMBPTR_EL1 and PMSICR_EL1.
 */
static bool has_switched(void)
{
	unsigned int expected = traps == 3 ? 6 : 13;

	ksft_print_msg("%lu exits in %u switches\n", run.least, BATCH);
	return same("traps of a switch", run.least / BATCH, expected, expected) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 0, 0);
}

static bool has_compared(void)
{
	return is_complete(SHORT_TURNS) && has_trapped() &&
	       same("walked", vcpu_get_stat(run.vcpu, spe_walked), 1, 6) &&
	       same("compared", vcpu_get_stat(run.vcpu, spe_compared), PAIRS, 3 * PAIRS);
}

static bool was_disturbed_for(u64 n)
{
	return is_complete(n) && same("times", run.times, 2, -1UL) &&
	       same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 1, -1UL);
}

static bool was_disturbed(void)
{
	return was_disturbed_for(TURNS);
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

/* And nothing is stopped, however often other memory changes. */
static bool was_unaffected(void)
{
	return was_left_alone() && same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 0, 0) &&
	       same("postponed", vcpu_get_stat(run.vcpu, spe_postponed), 0, 0);
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

/* Each page has come from userspace, before the unit wrote to it. */
static bool has_arrived(void)
{
	u64 pages = records * RECORD / SZ_4K;

	return is_complete(TURNS) && same("times", run.times, pages, SIZE / SZ_4K);
}

/* The unit has written on, to new pages where the old ones were. */
static bool has_new_pages(void)
{
	u64 expected = TURNS * 4 / PERIOD;
	u64 dropped = DROPPED * (vcpu_get_stat(run.vcpu, spe_moved) +
				 vcpu_get_stat(run.vcpu, spe_kicked));

	ksft_print_msg("records %lu, of which %lu are left, kicked %lu\n", records, in_loops,
		       vcpu_get_stat(run.vcpu, spe_kicked));
	return same("records", records, expected - min(expected / 2, dropped), expected + 2) &&
	       same("records that are left", in_loops, 1, records - 1) &&
	       same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 1, -1UL) &&
	       same("interrupts", interrupts, 0, 0) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 0, 0);
}

/* The unit cannot write anywhere. */
static bool has_lost_the_first_page(void)
{
	return has_lost_a_page() && same("PMBPTR_EL1", pointer, BUFFER_GVA, BUFFER_GVA);
}

/* The mappings have changed while userspace ran, and the unit writes on. */
static bool has_continued(void)
{
	return is_complete(SHORT_TURNS + PERIOD) &&
	       same("kicked", vcpu_get_stat(run.vcpu, spe_kicked), 1, 2);
}

static bool has_lost_the_second_page(void)
{
	return has_lost_a_page() &&
	       same("PMBPTR_EL1", pointer, BUFFER_GVA + SZ_1M, BUFFER_GVA + SZ_1M);
}

/* The page belongs to somebody else, who finds in it what was there before. */
static bool has_left_it_alone(void)
{
	u64 at = BUFFER_GVA + ODD_PAGE * SZ_4K, changed = 0;

	for (u64 i = 0; i < run.littered; i++)
		changed += run.litter[i] != 0xa5;
	return has_lost_a_page() && same("PMBPTR_EL1", pointer, at, at) &&
	       same("the page is used again", run.used_again, 1, 1) &&
	       same("bytes changed elsewhere", changed, 0, 0);
}

static bool has_faulted(u64 status_or_none, u64 resolved)
{
	u64 moved = BUFFER_GVA + ODD_PAGE * SZ_4K;
	/* With DL, the pointer need not be behind the last whole record. */
	u64 space = loses ? RECORD : 0;

	return same("interrupts", interrupts, !!status_or_none, !!status_or_none) &&
	       same("PMBSR_EL1", status & ~BIT(16), status_or_none, status_or_none) &&
	       same("PMBPTR_EL1", pointer, moved - space, moved + space) &&
	       same("resolved", vcpu_get_stat(run.vcpu, spe_resolved), resolved, resolved) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 1, 1);
}

/* PMBSR_EL1: the buffer is full, and data was lost */
#define FULL	(BIT(0) | BIT(19) | PMBSR_EL1_S)

/* The unit faults at a page that has moved, once: the page is mapped, or data was lost. */
static bool has_resolved(void)
{
	if (loses)
		return has_faulted(FULL, 0);

	return goes_on(SHORT_TURNS) &&
	       same("faults", vcpu_get_stat(run.vcpu, spe_resolved), 1, 1) &&
	       same("records there", in_loop(run.mem + SZ_2M), 1, 1) &&
	       same("records where the page was", run.mem[ODD_PAGE * SZ_4K], 0, 0);
}

/* There is no memory where the page has moved to. */
static bool has_found_nothing(void)
{
	return has_faulted(loses ? FULL : 0x1fUL << 26 | BIT(19) | PMBSR_EL1_S, !loses);
}

/* On the wrong CPU nothing is entered, and nothing is lost. */
static bool has_come_back(void)
{
	return has_arrived() && same("moves", run.moves, 2, -1UL) &&
	       same("refusals", run.refusals, wrong_cpu < 0 ? 0 : 1, run.moves);
}

static bool is_not_alone(void)
{
	return was_disturbed_for(SHORT_TURNS) &&
	       same("the other vCPU ends", run.other_done, 1, 1) &&
	       same("its rounds", touched, 2, -1UL);
}

static bool is_as_it_was(void)
{
	return has_lost_a_page() && !memcmp(run.copy, run.mem, SIZE);
}

static bool is_copied(void)
{
	return was_disturbed() && !memcmp(run.copy, run.mem, SIZE);
}

#define FAULTS	"/sys/kernel/debug/fail_page_alloc/"

/* Checks that what could not be allocated is tried again, and the guest gets no event. */
static bool has_tried_again(void)
{
	FILE *file = fopen(FAULTS "times", "r");
	int left = -1;

	TEST_ASSERT(file && fscanf(file, "%d", &left) == 1, FAULTS "times");
	fclose(file);
	return same("failures that are left", left, 0, 0) &&
	       same("postponed", vcpu_get_stat(run.vcpu, spe_postponed), 1, 1) &&
	       same("loops with records", records, TABLES - 1, TABLES) &&
	       same("mapped", vcpu_get_stat(run.vcpu, spe_mapped), TABLES * TABLE_PAGES, -1UL) &&
	       same("interrupts", interrupts, 0, 0) &&
	       same("lost", vcpu_get_stat(run.vcpu, spe_lost), 0, 0);
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

/* Reads the VM's file in debugfs. */
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

/* Maps and unmaps memory of the process, and of the guest, that the unit does not write to. */
static void by_others(void)
{
	void *other = mmap(NULL, SZ_2M, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	munmap(other, SZ_2M);
	TEST_ASSERT(!madvise(run.mem + SIZE, SIZE, MADV_DONTNEED), "madvise");
}

/* Returns the host's page, or 0. */
static u64 page_at(void *where)
{
	u64 entry = 0;
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	TEST_ASSERT(pagemap >= 0 && pread(pagemap, &entry, 8, (u64)where / SZ_4K * 8) == 8,
		    "pagemap");
	close(pagemap);
	return entry & BIT(63) ? entry & GENMASK(54, 0) : 0;
}

/* Unmaps a page once the unit has come near it. */
static void by_munmap(void)
{
	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_512K]))
		usleep(100);
	munmap(run.mem + SZ_1M, SZ_4K);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

/* Makes that page read-only. */
static void by_mprotect(void)
{
	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_512K]))
		usleep(100);
	mprotect(run.mem + SZ_1M, SZ_4K, PROT_READ);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

/* Takes every other 64 KiB away, and gives other pages, as a balloon does. */
static void by_ballooning(void)
{
	u64 at = run.times % (SIZE / SZ_128K) * SZ_128K;

	if (run.memfd)
		fallocate(run.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, SZ_64K);
	else
		madvise(run.mem + at, SZ_64K, MADV_DONTNEED);
}

/* Takes away the page of the table that translates the buffer. */
static void by_pageout_of_tables(void)
{
	u64 table = (u64)virt_get_pte_hva(run.vm, BUFFER_GVA) & ~(SZ_4K - 1UL);

	madvise((void *)table, SZ_4K, MADV_PAGEOUT);
}

/* Makes the buffer read-only, and writable again. */
static void protect(void)
{
	TEST_ASSERT(!mprotect(run.mem, SIZE, PROT_READ) &&
		    !mprotect(run.mem, SIZE, PROT_READ | PROT_WRITE), "mprotect");
}

/* Notes how often a batch of pairs has taken the vCPU out of the guest. */
static void count_exits(void)
{
	u64 exits = vcpu_get_stat(run.vcpu, exits);

	if (run.exits && (!run.least || exits - run.exits < run.least))
		run.least = exits - run.exits;
	run.exits = exits;
}

/* Takes a page of the window away. Somebody else gets it. */
static void give_away(void)
{
	u8 *gone = run.mem + ODD_PAGE * SZ_4K;
	u64 page = page_at(gone);

	munmap(gone, SZ_4K);
	/* So that no CPU keeps a reference */
	by_compaction();
	while (!run.used_again && run.littered < LITTER) {
		u8 *litter = memset(run.litter + run.littered, 0xa5, SZ_4K);

		run.used_again = page && page_at(litter) == page;
		run.littered += SZ_4K;
	}
}

/* Deletes or moves the memslot: the unit writes nothing from then on. */
static void change_slot(const struct kvm_userspace_memory_region2 *region)
{
	while (!READ_ONCE(run.done) && !READ_ONCE(run.mem[SZ_512K]))
		usleep(100);
	TEST_ASSERT(!__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, region), "memslot");
	memcpy(run.copy, run.mem, SIZE);
	while (!READ_ONCE(run.done))
		usleep(1000);
}

static void by_deletion(void)
{
	change_slot(&(struct kvm_userspace_memory_region2) { .slot = SLOT });
}

static void by_moving(void)
{
	change_slot(&(struct kvm_userspace_memory_region2) {
		.slot = SLOT,
		.guest_phys_addr = BUFFER_GPA + SZ_1G,
		.memory_size = SIZE,
		.userspace_addr = (u64)run.mem,
	});
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

/* Sets whether allocations of pages by this thread fail. */
static void fail_allocations(bool fail)
{
	static const char * const setup[][2] = {
		{ FAULTS "task-filter", "Y" }, { FAULTS "ignore-gfp-wait", "N" },
		{ FAULTS "min-order", "0" }, { FAULTS "verbose", "0" },
		{ FAULTS "probability", "100" }, { FAULTS "times", FAILURES },
	};
	static int this_thread;

	for (int i = 0; fail && i < ARRAY_SIZE(setup); i++)
		write_to(setup[i][0], setup[i][1]);
	if (!this_thread)
		this_thread = open("/proc/thread-self/make-it-fail", O_WRONLY);
	if (pwrite(this_thread, fail ? "1" : "0", 1, 0) != 1)
		TEST_FAIL("make-it-fail: %s", strerror(errno));
}

static void start_failing(void)
{
	fail_allocations(true);
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

static const struct fact {
	const char *name;
	void (*code)(void);
	u64 turns;
	bool (*holds)(void);
	/* What another thread does meanwhile, again and again */
	void (*disturb)(void);
	enum vm_mem_backing_src_type src;
	u32 flags;
	/* What the host does when the guest pauses */
	void (*at_pause)(void);
	bool manual, ring, memfd, traced, postcopy, failing, moved;
	/* There is no pause between two changes, and as much memory as the buffer behind it. */
	bool endless;
	/* The buffer has two memslots, or one that is read-only. */
	bool slots, readonly;
	/* What a page's translation becomes */
	u64 other_gpa;
	/* What another vCPU runs */
	void (*other)(void);
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
	{ "starts at the same place compare", guest_pairs, SHORT_TURNS, has_compared,
	  .at_pause = count_exits },
	{ "the driver switches tasks", guest_switches, 0, has_switched, .at_pause = count_exits },
	{ "allocations that fail", guest_spread, 0, has_tried_again, .failing = true,
	  .at_pause = start_failing },
	{ "fork", guest_profile, TURNS, was_disturbed, by_fork },
	{ "compaction", guest_profile, TURNS, was_left_alone, by_compaction },
	{ "collapse and split", guest_profile, TURNS, was_disturbed, by_collapse,
	  .src = VM_MEM_SRC_ANONYMOUS_THP },
	{ "page out", guest_profile, TURNS, was_disturbed, by_pageout },
	{ "page out, traced", guest_profile, TURNS, is_traced, by_pageout, .traced = true },
	{ "postcopy", guest_profile, TURNS, has_arrived, .postcopy = true },
	{ "debugfs", guest_profile, TURNS, is_shown, by_looking },
	{ "page out of stage 1 tables", guest_profile, TURNS, was_disturbed, by_pageout_of_tables },
	{ "mprotect and back", guest_paused, SHORT_TURNS, has_continued, .at_pause = protect },
	{ "a balloon", guest_profile, TURNS, has_new_pages, by_ballooning },
	{ "holes in guest_memfd", guest_profile, TURNS, has_new_pages, by_ballooning,
	  .memfd = true },
	{ "across memslots", guest_profile, TURNS, is_undisturbed, .slots = true },
	{ "page out of shared memory", guest_profile, TURNS, was_disturbed, by_pageout,
	  .src = VM_MEM_SRC_SHMEM },
	{ "merged pages", guest_profile, TURNS, was_disturbed, by_ksm },
	{ "idle page tracking", guest_profile, TURNS, was_left_alone, by_idle_tracking },
	{ "other memory comes and goes", guest_profile, TURNS, was_unaffected, by_others,
	  .endless = true },
	{ "moved while pages are awaited", guest_profile, TURNS, has_come_back, .postcopy = true,
	  .moved = true },
	{ "another vCPU faults all around", guest_beside, SHORT_TURNS, is_not_alone, by_collapse,
	  .src = VM_MEM_SRC_ANONYMOUS_THP, .other = guest_other },
	{ "a page that the guest moves: a fault", guest_tables, SHORT_TURNS, has_resolved,
	  .other_gpa = BUFFER_GPA + SZ_2M },
	{ "a page that the guest moves to nowhere: event and address", guest_tables, SHORT_TURNS,
	  has_found_nothing, .other_gpa = NOWHERE_GPA },
	{ "other pages at the same address", guest_remap, SHORT_TURNS, is_short,
	  .at_pause = remap },
	{ "a page that is gone: event and address", guest_profile, TURNS,
	  has_lost_the_second_page, by_munmap },
	{ "a page that is read-only: event and address", guest_profile, TURNS,
	  has_lost_the_second_page, by_mprotect },
	{ "a memslot that is read-only: event and address", guest_profile, TURNS,
	  has_lost_the_first_page, .readonly = true },
	{ "a page that somebody else gets: nothing is written", guest_paused, SHORT_TURNS,
	  has_left_it_alone, .at_pause = give_away },
	{ "a memslot that is gone: nothing is written", guest_profile, TURNS, is_as_it_was,
	  by_deletion },
	{ "a memslot that moves: nothing is written", guest_profile, TURNS, is_as_it_was,
	  by_moving },
	{ "dirty bitmap", guest_profile, TURNS, is_copied, by_dirty_log,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES },
	{ "dirty bitmap, manual", guest_profile, TURNS, is_copied, by_manual_dirty_log,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES, .manual = true },
	{ "dirty bitmap on huge pages, manual", guest_profile, TURNS, is_copied,
	  by_manual_dirty_log, VM_MEM_SRC_ANONYMOUS_THP, KVM_MEM_LOG_DIRTY_PAGES, .manual = true },
	{ "part of a block becomes read-only", guest_profile, TURNS, was_stopped,
	  by_write_protection, VM_MEM_SRC_ANONYMOUS_HUGETLB, .manual = true },
	{ "dirty ring", guest_profile, TURNS, is_copied,
	  .flags = KVM_MEM_LOG_DIRTY_PAGES, .ring = true },
};

/* A CPU that lacks the unit, or another one, if there is one */
static int other_cpu(void)
{
	if (wrong_cpu >= 0)
		return wrong_cpu;
	return (right_cpu + 1) % sysconf(_SC_NPROCESSORS_ONLN);
}

/* In microseconds */
static u64 now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000UL + time.tv_nsec / 1000;
}

static void *disturb_it(void *context)
{
	const struct fact *fact = context;

	pin_self_to_cpu(other_cpu());
	while (!READ_ONCE(run.done)) {
		u64 begun = now();

		fact->disturb();
		run.times++;
		/* A debug kernel needs long to map a window that was write-protected. */
		if (!fact->endless)
			usleep(fact->flags ? max(PAUSE, 3 * (now() - begun)) : PAUSE);
	}
	return NULL;
}

/* Runs the guest until it says something. Returns false if it cannot run. */
static bool run_on(const struct fact *fact)
{
	for (;;) {
		int ret = __vcpu_run(run.vcpu);

		if (run.vcpu->run->exit_reason == KVM_EXIT_DIRTY_RING_FULL) {
			copy_from_ring();
			continue;
		}
		if (ret) {
			if (errno == EINTR || (fact->failing && errno == ENOMEM))
				continue;
			ksft_print_msg("KVM_RUN: %s\n", strerror(errno));
			return false;
		}
		if (run.vcpu->run->exit_reason != KVM_EXIT_FAIL_ENTRY)
			return true;
		run.refusals++;
		pin_self_to_cpu(right_cpu);
	}
}

/* Runs the guest to its end. */
static bool run_guest(const struct fact *fact)
{
	struct ucall uc;

	while (run_on(fact)) {
		switch (get_ucall(run.vcpu, &uc)) {
		case UCALL_SYNC:
			fact->at_pause();
			break;
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
	return false;
}

/* Lets the guest change the descriptor of a page of the buffer. */
static void show_descriptor(void)
{
	u64 gpa = addr_hva2gpa(run.vm,
			       virt_get_pte_hva(run.vm, BUFFER_GVA + ODD_PAGE * SZ_4K));

	virt_map(run.vm, TABLE_GVA, gpa & ~(SZ_4K - 1UL), 1);
	descriptor = (u64 *)(TABLE_GVA + gpa % SZ_4K);
	sync_global_to_guest(run.vm, descriptor);
	sync_global_to_guest(run.vm, other_gpa);
}

/* Creates the VM, which has no buffer yet. */
static void create_vm(const struct fact *fact)
{
	void *code[] = { fact->code, fact->other };
	struct kvm_vcpu *vcpu[2] = {};

	run = (struct run){ .thread = gettid(), .moving = fact->moved };
	run.vm = vm_with_spus(vcpu, code, fact->other ? 2 : 1, fact->ring ? RING_SIZE : 0);
	run.vcpu = vcpu[0];
	run.other = vcpu[1];
	if (fact->manual)
		vm_enable_cap(run.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
}

/* Replaces the memslot of the buffer by two. */
static void split_slot(void)
{
	struct kvm_userspace_memory_region2 region = { .slot = SLOT };

	TEST_ASSERT(!__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &region), "no memslot");
	for (int i = 0; i < 2; i++) {
		region.slot = SLOT + i;
		/* In the middle of a window */
		region.guest_phys_addr = BUFFER_GPA + i * SPLIT;
		region.memory_size = i ? SIZE - SPLIT : SPLIT;
		region.userspace_addr = (u64)run.mem + i * SPLIT;
		TEST_ASSERT(!__vm_ioctl(run.vm, KVM_SET_USER_MEMORY_REGION2, &region), "memslot");
	}
}

static void add_buffer(const struct fact *fact)
{
	u64 size = fact->failing ? TABLES * SZ_2M : fact->endless ? 2 * SIZE : SIZE;

	if (fact->memfd) {
		run.memfd = vm_create_guest_memfd(run.vm, SIZE, GUEST_MEMFD_FLAG_MMAP |
						  GUEST_MEMFD_FLAG_INIT_SHARED);
		run.mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, run.memfd, 0);
		TEST_ASSERT(run.mem != MAP_FAILED, "mmap of guest_memfd");
		vm_set_user_memory_region2(run.vm, SLOT, KVM_MEM_GUEST_MEMFD, BUFFER_GPA, SIZE,
					   run.mem, run.memfd, 0);
	} else {
		vm_userspace_mem_region_add(run.vm, fact->src, BUFFER_GPA, SLOT, size / SZ_4K,
					    fact->readonly ? KVM_MEM_READONLY : fact->flags);
		run.mem = addr_gpa2hva(run.vm, BUFFER_GPA);
	}
	if (fact->slots)
		split_slot();
	/* Then only tables of stage 2 are to be allocated. */
	for (u64 i = 0; fact->failing && i < size; i += SZ_2M)
		memset(run.mem + i, 0, TABLE_PAGES * SZ_4K);
	virt_map(run.vm, BUFFER_GVA, BUFFER_GPA, size / SZ_4K);
}

static void set_up(const struct fact *fact)
{
	create_vm(fact);
	add_buffer(fact);
	run.copy = calloc(1, SIZE + SIZE / SZ_4K);
	run.litter = mmap(NULL, LITTER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* Its pages are single ones, as the page that was taken away. */
	madvise(run.litter, LITTER, MADV_NOHUGEPAGE);
	turns = fact->turns;
	sync_global_to_guest(run.vm, turns);
	/* Then the guest must not read the buffer. */
	gone = fact->holds == is_as_it_was || fact->other_gpa == NOWHERE_GPA;
	sync_global_to_guest(run.vm, gone);
	other_gpa = fact->other_gpa;
	if (other_gpa)
		show_descriptor();
}

/* Moves the thread of the vCPU to another CPU, while it waits for a page. */
static void move_vcpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	/* An odd period: not always to the right one for the last page of a window */
	CPU_SET(run.moves++ % 3 ? right_cpu : other_cpu(), &cpus);
	TEST_ASSERT(!sched_setaffinity(run.thread, sizeof(cpus), &cpus), "sched_setaffinity");
}

static void *run_other(void *unused)
{
	pin_self_to_cpu(wrong_cpu < 0 ? other_cpu() : right_cpu);
	vcpu_run(run.other);
	run.other_done = get_ucall(run.other, NULL) == UCALL_DONE;
	return NULL;
}

/* The rest of a postcopy migration: a page arrives when somebody waits for it. */
static int send_page(int mode, int uffd, struct uffd_msg *msg)
{
	struct uffdio_zeropage page = {
		.range.start = msg->arg.pagefault.address & ~(SZ_4K - 1UL),
		.range.len = SZ_4K,
	};

	if (run.moving)
		move_vcpu();
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

/* Starts all that happens while the guest runs. */
static void start_others(const struct fact *fact)
{
	if (fact->traced) {
		TEST_ASSERT(trace_begin(), "there is no " TRACE_INSTANCES);
		trace_events("1");
	}
	if (fact->postcopy)
		run.uffd = uffd_setup_demand_paging(UFFDIO_REGISTER_MODE_MISSING, 0, run.mem, SIZE,
						    1, send_page);
	/* The first round of a migration takes longest, and has nothing of the unit. */
	if (fact->flags && !fact->ring)
		fact->disturb();
	if (fact->disturb)
		TEST_ASSERT(!pthread_create(&run.disturber, NULL, disturb_it, (void *)fact),
			    "no thread");
	if (fact->other)
		TEST_ASSERT(!pthread_create(&run.other_thread, NULL, run_other, NULL), "no thread");
}

static void stop_others(const struct fact *fact)
{
	if (fact->other) {
		/* In case the first vCPU could not end the other one */
		over = 1;
		sync_global_to_guest(run.vm, over);
		pthread_join(run.other_thread, NULL);
	}
	if (fact->failing)
		fail_allocations(false);
	WRITE_ONCE(run.done, true);
	if (fact->disturb)
		pthread_join(run.disturber, NULL);
	/* The last round of a migration */
	if (fact->ring)
		copy_from_ring();
	else if (fact->flags)
		fact->disturb();
	if (run.uffd)
		uffd_stop_demand_paging(run.uffd);
}

static void clean_up(const struct fact *fact)
{
	if (fact->traced) {
		trace_events("0");
		trace_end();
	}
	free(run.copy);
	munmap(run.litter, LITTER);
	kvm_vm_free(run.vm);
	pin_self_to_cpu(right_cpu);
	if (fact->memfd) {
		munmap(run.mem, SIZE);
		close(run.memfd);
	}
}

static bool holds(const struct fact *fact)
{
	bool good;

	set_up(fact);
	start_others(fact);
	good = run_guest(fact);
	stop_others(fact);
	read_results();
	good = good && fact->holds();
	clean_up(fact);
	return good;
}

/* A page that was taken away may come back late: then others are tried. */
static bool holds_at_last(const struct fact *fact)
{
	bool good = holds(fact);

	for (int i = 0; fact->at_pause == give_away && !run.used_again && i < 5; i++)
		good = holds(fact);
	return good;
}

/* Returns whether a fact is of interest to this run. */
static bool is_asked(const struct fact *fact)
{
	return (!loses || fact->other_gpa) && strstr(fact->name, only);
}

/* Returns what the kernel lacks for a fact, or NULL. */
static const char *missing_for(const struct fact *fact)
{
	if (fact->failing && access(FAULTS, F_OK))
		return FAULTS;
	if (fact->src == VM_MEM_SRC_ANONYMOUS_THP && !thp_configured())
		return "transparent huge pages";
	return NULL;
}

int main(int argc, char **argv)
{
	int option, n = 0;

	while ((option = getopt(argc, argv, "lo:t:")) != -1) {
		if (option == 'l')
			loses = true;
		else if (option == 'o')
			only = optarg;
		else if (option == 't')
			traps = atoi_positive("TRAPS", optarg);
		else
			ksft_exit_fail_msg("usage: spe_memory [-l] [-o WORDS] [-t TRAPS]\n");
	}
	ksft_print_header();
	find_unit();
	for (int i = 0; i < ARRAY_SIZE(facts); i++)
		n += is_asked(&facts[i]);
	ksft_set_plan(n);
	pin_self_to_cpu(right_cpu);
	for (int i = 0; i < ARRAY_SIZE(facts); i++) {
		const char *missing = missing_for(&facts[i]);

		if (!is_asked(&facts[i]))
			continue;
		if (missing)
			ksft_test_result_skip("%s: no %s\n", facts[i].name, missing);
		else
			ksft_test_result(holds_at_last(&facts[i]), "%s\n", facts[i].name);
	}
	ksft_finished();
}

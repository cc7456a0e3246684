// SPDX-License-Identifier: GPL-2.0-only
/*
 * icache_bound - Check what KVM spends on instruction cache invalidation when
 * guest memory becomes executable.
 *
 * Without CTR_EL0.DIC, KVM grants execute permission on the first instruction
 * fetch from a stage-2 leaf, and invalidates the I-cache before it does so. One
 * leaf (page or block) that becomes executable is one request. A request is
 * served line by line while it covers at most MAX_DVM_OPS lines, by one full
 * invalidation beyond; concurrent requests may share a full invalidation. With
 * FEAT_S2FWB, KVM_ARM_VCPU_INIT of a vCPU that has run is a request for all
 * memory. With CTR_EL0.DIC nothing needs invalidation and every statistic
 * stays 0.
 *
 * Without option: single-vCPU facts, for a page and for a PMD-sized block.
 *   -v N   N vCPUs take an exec fault on N different blocks at the same time
 *   -i N   N vCPUs that have run are initialised at the same time
 *   -r N   rounds of -v or -i
 *   -s     strict: a round costs at most 2 full invalidations. For a machine
 *          where invalidations are slow enough to overlap, and waiting for one
 *          is cheaper; pKVM handles stage-2 faults one at a time, so they do
 *          not overlap there
 *   -o MS  with -v: an invalidation of each round is stopped for MS milliseconds
 *          from outside; no other vCPU may be held up for as long
 *   -b     exec faults over all of a large region (512 MiB unless -m is given)
 *   -p     with -b: back the region by pages instead of blocks
 *
 * Without the statistics the workloads still run, so that executed instructions
 * can be counted from outside on any kernel, and the exit code is KSFT_SKIP.
 */
#include <getopt.h>
#include <linux/bitfield.h>
#include <linux/sizes.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

#include <asm/sysreg.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "tracefs.h"
#include "ucall.h"

/*
 * Unallocated hints, executed as NOP (Arm ARM, "HINT"), bracket every measured
 * phase so that an instruction-counting emulator knows what to count.
 */
#define MARK_START		0x5a
#define MARK_STOP		0x5b

#define MAX_VCPUS		64
#define NR_MANY_PAGES		64
#define WARMUP_UNIT		0
#define STEP_UNIT		1

#define PAGES_SLOT		1
#define BLOCKS_SLOT		2
#define PAGES_GVA		0x100000000UL
#define BLOCKS_GVA		0x1000000000UL

#define INSN_MOV_W0(imm)	(0x52800000U | (u32)(u16)(imm) << 5)
#define INSN_RET		0xd65f03c0U

enum guest_op {
	OP_NONE,	/* nothing: the host acts alone */
	OP_TOUCH,	/* read one word of every unit */
	OP_EXEC,	/* call the code of every unit */
	OP_REWRITE,	/* write the code of every unit, then call it */
	OP_RENDEZVOUS,	/* wait for all vCPUs, then OP_EXEC */
};

/* The work of one vCPU; unit @i must return @value + @i. */
struct job {
	u64 op;
	u64 gva;
	u64 nr;
	u64 stride;
	u64 value;
	u64 round;
	u64 nr_vcpus;
	u64 good;
};

struct shared {
	struct job job[MAX_VCPUS];
	u64 arrived[MAX_VCPUS];
};

/* Guest memory of which every unit is one stage-2 leaf. */
struct area {
	const char *name;
	struct kvm_vm *vm;
	u32 slot;
	size_t unit;
	u64 nr;
	gva_t gva;
	u8 *hva;
};

/* The statistics, summed over all vCPUs of a VM */
struct counts {
	u64 by_line;
	u64 full;
	u64 shared;
};

enum plan {
	PLAN_NOTHING,
	PLAN_BY_LINE,
	PLAN_ALL,
};

static bool have_stats;
static u64 ctr;

static void mark_start(void)
{
	asm volatile("hint %0" : : "i" (MARK_START) : "memory");
}

static void mark_stop(void)
{
	asm volatile("hint %0" : : "i" (MARK_STOP) : "memory");
}

/* Guest */

static void guest_write_code(gva_t gva, u16 value)
{
	u32 *insn = (u32 *)gva;

	WRITE_ONCE(insn[0], INSN_MOV_W0(value));
	WRITE_ONCE(insn[1], INSN_RET);
	asm volatile("dc cvau, %0\n\t"
		     "dsb ish\n\t"
		     "ic ivau, %0\n\t"
		     "dsb ish\n\t"
		     "isb" : : "r" (gva) : "memory");
}

static u64 guest_exec(struct job *job)
{
	u64 good = 0, i;

	for (i = 0; i < job->nr; i++) {
		gva_t code = job->gva + i * job->stride;

		good += ((u32 (*)(void))code)() == (u16)(job->value + i);
	}

	return good;
}

static u64 guest_touch(struct job *job)
{
	u64 i;

	for (i = 0; i < job->nr; i++)
		READ_ONCE(*(u32 *)(job->gva + i * job->stride));

	return job->nr;
}

static u64 guest_rewrite(struct job *job)
{
	u64 i;

	for (i = 0; i < job->nr; i++)
		guest_write_code(job->gva + i * job->stride, job->value + i);

	return guest_exec(job);
}

static u64 guest_rendezvous(struct shared *shared, u64 id)
{
	struct job *job = &shared->job[id];
	u64 i;

	WRITE_ONCE(shared->arrived[id], job->round);
	for (i = 0; i < job->nr_vcpus; i++)
		while (READ_ONCE(shared->arrived[i]) < job->round)
			cpu_relax();

	return guest_exec(job);
}

static u64 guest_do(struct shared *shared, u64 id)
{
	struct job *job = &shared->job[id];

	switch (READ_ONCE(job->op)) {
	case OP_TOUCH:
		return guest_touch(job);
	case OP_EXEC:
		return guest_exec(job);
	case OP_REWRITE:
		return guest_rewrite(job);
	case OP_RENDEZVOUS:
		return guest_rendezvous(shared, id);
	}

	return 0;
}

static void guest_code(struct shared *shared, u64 id)
{
	for (;;) {
		WRITE_ONCE(shared->job[id].good, guest_do(shared, id));
		GUEST_SYNC(id);
	}
}

/* Expected results, from the architecture and the bound */

static size_t block_size(void)
{
	return (size_t)getpagesize() * (getpagesize() / sizeof(u64));
}

static size_t line_size(void)
{
	return 4UL << FIELD_GET(CTR_EL0_IminLine_MASK, ctr);
}

static bool icache_is_pipt(void)
{
	return FIELD_GET(CTR_EL0_L1Ip_MASK, ctr) == CTR_EL0_L1Ip_PIPT;
}

static enum plan plan_of(size_t size)
{
	size_t max_lines = getpagesize() / sizeof(u64);

	if (ctr & CTR_EL0_DIC_MASK)
		return PLAN_NOTHING;
	if (!icache_is_pipt() || size > max_lines * line_size())
		return PLAN_ALL;
	return PLAN_BY_LINE;
}

static struct counts expected(size_t unit, u64 requests)
{
	enum plan plan = plan_of(unit);

	return (struct counts) {
		.by_line = plan == PLAN_BY_LINE ? requests : 0,
		.full = plan == PLAN_ALL ? requests : 0,
	};
}

/* Statistics */

static bool vcpu_has_stat(struct kvm_vcpu *vcpu, const char *name)
{
	struct kvm_binary_stats *stats = &vcpu->stats;
	int i;

	if (!stats->desc) {
		read_stats_header(stats->fd, &stats->header);
		stats->desc = read_stats_descriptors(stats->fd, &stats->header);
	}

	for (i = 0; i < stats->header.num_desc; i++)
		if (!strcmp(get_stats_descriptor(stats->desc, i, &stats->header)->name, name))
			return true;

	return false;
}

static void probe_stats(struct kvm_vcpu *vcpu)
{
	have_stats = kvm_has_cap(KVM_CAP_BINARY_STATS_FD) &&
		     vcpu_has_stat(vcpu, "icache_by_line") &&
		     vcpu_has_stat(vcpu, "icache_full") &&
		     vcpu_has_stat(vcpu, "icache_shared");
	if (!have_stats)
		ksft_print_msg("KVM has no icache statistics (CONFIG_KVM_ARM64_ICACHE_BOUND)\n");
}

static struct counts read_counts(struct kvm_vm *vm)
{
	struct counts sum = {};
	struct kvm_vcpu *vcpu;

	if (!have_stats)
		return sum;

	list_for_each_entry(vcpu, &vm->vcpus, list) {
		sum.by_line += vcpu_get_stat(vcpu, icache_by_line);
		sum.full += vcpu_get_stat(vcpu, icache_full);
		sum.shared += vcpu_get_stat(vcpu, icache_shared);
	}

	return sum;
}

static struct counts counts_since(struct kvm_vm *vm, struct counts from)
{
	struct counts now = read_counts(vm);

	return (struct counts) {
		.by_line = now.by_line - from.by_line,
		.full = now.full - from.full,
		.shared = now.shared - from.shared,
	};
}

static u64 counts_sum(struct counts c)
{
	return c.by_line + c.full + c.shared;
}

/* Prints one TAP line about statistics, or skips it if KVM has none. */
static void result_stats(bool ok, struct counts got, const char *what)
{
	if (!have_stats) {
		ksft_test_result_skip("%s: KVM has no icache statistics\n", what);
		return;
	}

	if (!ok)
		ksft_print_msg("by_line +%lu full +%lu shared +%lu\n",
			       got.by_line, got.full, got.shared);
	ksft_test_result(ok, "%s\n", what);
}

/* Guest memory */

static enum vm_mem_backing_src_type block_backing(void)
{
	switch (block_size()) {
	case SZ_2M:
		return VM_MEM_SRC_ANONYMOUS_HUGETLB_2MB;
	case SZ_32M:
		return VM_MEM_SRC_ANONYMOUS_HUGETLB_32MB;
	case SZ_512M:
		return VM_MEM_SRC_ANONYMOUS_HUGETLB_512MB;
	}

	TEST_FAIL("Unexpected block size %#lx", block_size());
}

static void area_write(struct area *area, u64 i, u16 value)
{
	u32 *insn = (u32 *)(area->hva + i * area->unit);

	WRITE_ONCE(insn[0], INSN_MOV_W0(value));
	WRITE_ONCE(insn[1], INSN_RET);
}

static void area_add(struct area *area, struct kvm_vm *vm,
		     enum vm_mem_backing_src_type src)
{
	size_t size = area->nr * area->unit;
	gpa_t gpa = (u64)area->slot << 32;
	u64 i;

	/* Each slot has its own gpa, aligned to any block size. */
	vm_userspace_mem_region_add(vm, src, gpa, area->slot, size / vm->page_size, 0);

	/* Only the first page of a unit holds code. */
	for (i = 0; i < area->nr; i++)
		virt_pg_map(vm, area->gva + i * area->unit, gpa + i * area->unit);

	area->vm = vm;
	area->hva = addr_gpa2hva(vm, gpa);
}

static struct area pages_area(u64 nr)
{
	return (struct area) {
		.name = "page",
		.slot = PAGES_SLOT,
		.unit = getpagesize(),
		.nr = nr,
		.gva = PAGES_GVA,
	};
}

static struct area blocks_area(u64 nr)
{
	return (struct area) {
		.name = "block",
		.slot = BLOCKS_SLOT,
		.unit = block_size(),
		.nr = nr,
		.gva = BLOCKS_GVA,
	};
}

/* Huge pages: the test grows the pool, and shrinks it again at the end */

static char *pool_path;
static long pool_before = -1;

static long pool_read(void)
{
	FILE *f = fopen(pool_path, "r");
	long nr = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &nr) != 1)
		nr = -1;
	fclose(f);

	return nr;
}

static void pool_write(long nr)
{
	FILE *f = fopen(pool_path, "w");

	if (!f)
		return;
	fprintf(f, "%ld\n", nr);
	fclose(f);
}

static void pool_restore(void)
{
	pool_write(pool_before);
}

static bool blocks_mappable(u64 nr)
{
	size_t size = nr * block_size();
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		    __builtin_ctzl(block_size()) << MAP_HUGE_SHIFT;
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (mem == MAP_FAILED)
		return false;

	munmap(mem, size);
	return true;
}

static bool reserve_blocks(u64 nr)
{
	if (blocks_mappable(nr))
		return true;

	pool_path = strdup_printf("/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages",
				  block_size() / SZ_1K);
	pool_before = pool_read();
	if (pool_before < 0)
		return false;

	atexit(pool_restore);
	pool_write(pool_before + nr);

	return blocks_mappable(nr);
}

/* VM */

static struct shared *shared;

static struct kvm_vm *create_vm(u32 nr_vcpus, u64 extra_pages, struct kvm_vcpu **vcpus)
{
	struct kvm_vm *vm;
	gva_t gva;
	u32 i;

	vm = __vm_create_with_vcpus(VM_SHAPE_DEFAULT, nr_vcpus, extra_pages,
				    guest_code, vcpus);
	gva = vm_alloc(vm, sizeof(*shared), KVM_UTIL_MIN_VADDR);
	shared = addr_gva2hva(vm, gva);
	memset(shared, 0, sizeof(*shared));

	vm_init_descriptor_tables(vm);
	for (i = 0; i < nr_vcpus; i++) {
		vcpu_init_descriptor_tables(vcpus[i]);
		vcpu_args_set(vcpus[i], 2, gva, (u64)i);
	}

	probe_stats(vcpus[0]);

	return vm;
}

static void run_job(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
}

/* Runs @op on @nr units of @area and returns how many returned their value. */
static u64 run_units(struct kvm_vcpu *vcpu, struct area *area, enum guest_op op,
		     u64 first, u64 nr, u16 value)
{
	struct job *job = &shared->job[vcpu->id];

	*job = (struct job) {
		.op = op,
		.gva = area->gva + first * area->unit,
		.nr = nr,
		.stride = area->unit,
		.value = value,
	};
	run_job(vcpu);

	return job->good;
}

/* Makes all guest code executable that the steps use, so that they count nothing else. */
static void warm_up(struct kvm_vcpu *vcpu, struct area *pages)
{
	enum guest_op op;

	for (op = OP_NONE; op <= OP_RENDEZVOUS; op++) {
		area_write(pages, WARMUP_UNIT, op);
		run_units(vcpu, pages, op, WARMUP_UNIT, 1, op);
	}
}

/* Single-vCPU facts */

enum host_op {
	HOST_NOTHING,
	HOST_WRITE,		/* write the code */
	HOST_UNMAP,		/* take the area out of stage 2 */
	HOST_UNMAP_WRITE,
	HOST_DISCARD_WRITE,	/* drop the backing memory, write the code */
};

struct step {
	const char *name;
	enum host_op host;
	enum guest_op guest;
	u64 requests;
};

/* In order: each step starts from the state that the previous one left. */
static const struct step steps[] = {
	{ "code written by the host", HOST_WRITE, OP_EXEC, 1 },
	{ "code already executable", HOST_NOTHING, OP_EXEC, 0 },
	{ "code rewritten by the guest", HOST_NOTHING, OP_REWRITE, 0 },
	{ "code rewritten by the host while unmapped", HOST_UNMAP_WRITE, OP_EXEC, 1 },
	{ "data read of unmapped memory", HOST_UNMAP, OP_TOUCH, 0 },
	{ "execution after a data read", HOST_NOTHING, OP_EXEC, 1 },
	{ "code written by the guest to unmapped memory", HOST_UNMAP, OP_REWRITE, 1 },
	{ "code rewritten by the host after MADV_DONTNEED", HOST_DISCARD_WRITE, OP_EXEC, 1 },
};

static bool step_writes(const struct step *step)
{
	return step->guest == OP_REWRITE || step->host == HOST_WRITE ||
	       step->host == HOST_UNMAP_WRITE || step->host == HOST_DISCARD_WRITE;
}

static void host_prepare(struct area *area, u64 i, enum host_op op, u16 value)
{
	if (op == HOST_UNMAP || op == HOST_UNMAP_WRITE)
		vm_mem_region_reload(area->vm, area->slot);
	if (op == HOST_DISCARD_WRITE)
		TEST_ASSERT(!madvise(area->hva + i * area->unit, area->unit, MADV_DONTNEED),
			    "MADV_DONTNEED failed, errno %d", errno);
	if (op == HOST_WRITE || op == HOST_UNMAP_WRITE || op == HOST_DISCARD_WRITE)
		area_write(area, i, value);
}

static void test_step(struct kvm_vcpu *vcpu, struct area *area, u64 unit,
		      const struct step *step, u16 value)
{
	struct counts want = expected(area->unit, step->requests), got;
	char *what;
	u64 good;

	host_prepare(area, unit, step->host, value);
	got = read_counts(area->vm);
	mark_start();
	good = run_units(vcpu, area, step->guest, unit, 1, value);
	mark_stop();
	got = counts_since(area->vm, got);

	ksft_test_result(good == 1, "%s: %s: the guest sees it\n", area->name, step->name);

	what = strdup_printf("%s: %s: by_line +%lu full +%lu shared +0", area->name,
			     step->name, want.by_line, want.full);
	result_stats(got.by_line == want.by_line && got.full == want.full && !got.shared,
		     got, what);
	free(what);
}

static void test_steps(struct kvm_vcpu *vcpu, struct area *area, u64 unit)
{
	u16 value = 0x100;
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		value += step_writes(&steps[i]);
		test_step(vcpu, area, unit, &steps[i], value);
	}
}

static void skip_steps(const char *name, const char *why)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(steps); i++) {
		ksft_test_result_skip("%s: %s: %s\n", name, steps[i].name, why);
		ksft_test_result_skip("%s: %s: %s\n", name, steps[i].name, why);
	}
}

static void test_many(struct kvm_vcpu *vcpu, struct area *area, u64 first, u64 nr)
{
	struct counts want = expected(area->unit, nr), got;
	u64 good = 0, i;
	char *what;

	got = read_counts(area->vm);
	mark_start();
	for (i = 0; i < nr; i++) {
		area_write(area, first + i, i);
		good += run_units(vcpu, area, OP_EXEC, first + i, 1, i);
	}
	mark_stop();
	got = counts_since(area->vm, got);

	ksft_test_result(good == nr, "%s: %lu one by one: the guest sees all\n",
			 area->name, nr);
	what = strdup_printf("%s: %lu one by one: by_line +%lu full +%lu shared +0",
			     area->name, nr, want.by_line, want.full);
	result_stats(got.by_line == want.by_line && got.full == want.full && !got.shared,
		     got, what);
	free(what);
}

/* Tracepoint kvm:kvm_icache_inval */

/* The invalidations of a pKVM host happen at EL2, and so do their events. */
static bool host_is_protected(void)
{
	int kvm = open_kvm_dev_path_or_exit();
	int vm = ioctl(kvm, KVM_CREATE_VM, (void *)KVM_VM_TYPE_ARM_PROTECTED);

	close(kvm);
	if (vm >= 0)
		close(vm);

	return vm >= 0;
}

#define HYP_TRACE(file)		("/sys/kernel/tracing/remotes/hypervisor/" file)
#define HYP_EVENT(file)		HYP_TRACE("events/hypervisor/kvm_icache_inval/" file)

static const char *trace_unusable(void)
{
	if (ctr & CTR_EL0_DIC_MASK)
		return "CTR_EL0.DIC, nothing to trace";
	if (host_is_protected())
		return access(HYP_EVENT("enable"), W_OK) ? "no hypervisor events" : NULL;
	if (access("/sys/kernel/tracing/events/kvm/kvm_icache_inval", F_OK))
		return "no tracepoint kvm_icache_inval";
	if (!trace_begin())
		return "no tracefs at " TRACE_INSTANCES;
	return NULL;
}

/* Hypervisor events have no filter. */
static void test_hyp_trace(struct kvm_vcpu *vcpu, struct area *area, u64 unit)
{
	const char *result = plan_of(area->unit) == PLAN_ALL ? "full" : "by line";
	char *line = strdup_printf("kvm_icache_inval size=%#zx result=%s\n", area->unit, result);
	int nr;

	host_prepare(area, unit, HOST_UNMAP_WRITE, 0x7ace);
	trace_write(HYP_EVENT("enable"), "1");
	trace_write(HYP_TRACE("tracing_on"), "1");
	run_units(vcpu, area, OP_EXEC, unit, 1, 0x7ace);
	trace_write(HYP_TRACE("tracing_on"), "0");
	trace_write(HYP_EVENT("enable"), "0");
	nr = trace_count_in(HYP_TRACE("trace"), line);
	trace_write(HYP_TRACE("trace"), "0");

	line[strlen(line) - 1] = '\0';
	ksft_test_result(nr == 1, "%s: at EL2: 1 event: %s\n", area->name, line);
	free(line);
}

static void test_trace(struct kvm_vcpu *vcpu, struct area *area, u64 unit)
{
	const char *why = trace_unusable();
	enum plan plan = plan_of(area->unit);
	char *filter;
	int nr;

	if (why) {
		ksft_test_result_skip("%s: kvm_icache_inval: %s\n", area->name, why);
		return;
	}
	if (host_is_protected()) {
		test_hyp_trace(vcpu, area, unit);
		return;
	}

	filter = strdup_printf("size == %zu && result == %d", area->unit, plan);
	host_prepare(area, unit, HOST_UNMAP_WRITE, 0x7ace);
	trace_write(TRACE_EVENT("kvm_icache_inval", "filter"), filter);
	trace_write(TRACE_EVENT("kvm_icache_inval", "enable"), "1");
	run_units(vcpu, area, OP_EXEC, unit, 1, 0x7ace);
	trace_write(TRACE_EVENT("kvm_icache_inval", "enable"), "0");
	nr = trace_count("kvm_icache_inval:");
	trace_end();

	ksft_test_result(nr == 1, "%s: kvm_icache_inval: 1 event with %s\n", area->name, filter);
	free(filter);
}

#define NR_AREA_FACTS		(2 * ARRAY_SIZE(steps) + 1)
#define NR_MANY_FACTS		2

static void test_blocks(struct kvm_vm *vm, struct kvm_vcpu *vcpu)
{
	struct area blocks = blocks_area(1);

	if (!reserve_blocks(blocks.nr)) {
		skip_steps(blocks.name, "no huge page to be had");
		ksft_test_result_skip("block: kvm_icache_inval: no huge page to be had\n");
		return;
	}

	area_add(&blocks, vm, block_backing());
	test_steps(vcpu, &blocks, 0);
	test_trace(vcpu, &blocks, 0);
}

static void test_single(void)
{
	struct area pages = pages_area(STEP_UNIT + 1 + NR_MANY_PAGES);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	ksft_set_plan(2 * NR_AREA_FACTS + NR_MANY_FACTS);

	vm = create_vm(1, 0, &vcpu);
	area_add(&pages, vm, VM_MEM_SRC_ANONYMOUS);
	warm_up(vcpu, &pages);
	test_steps(vcpu, &pages, STEP_UNIT);
	test_trace(vcpu, &pages, STEP_UNIT);
	test_many(vcpu, &pages, STEP_UNIT + 1, NR_MANY_PAGES);
	test_blocks(vm, vcpu);

	kvm_vm_free(vm);
}

/* N vCPUs at the same time */

struct round {
	struct counts counts;
	u64 good;
	u64 held_up;
};

static pthread_barrier_t round_start, round_end;
static struct kvm_vcpu_init vcpu_init;
static u64 nr_rounds = 8, stopped_ms;
static u64 took_ms[MAX_VCPUS];

static u64 now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 round, start;

	/* Round 0 makes the guest's own code executable and is not counted. */
	for (round = 0; round <= nr_rounds; round++) {
		pthread_barrier_wait(&round_start);
		start = now_ms();
		run_job(vcpu);
		took_ms[vcpu->id] = now_ms() - start;
		pthread_barrier_wait(&round_end);
	}

	return NULL;
}

static void *init_thread(void *arg)
{
	struct kvm_vcpu *vcpu = arg;
	u64 round;

	for (round = 0; round < nr_rounds; round++) {
		pthread_barrier_wait(&round_start);
		vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu_init);
		pthread_barrier_wait(&round_end);
	}

	return NULL;
}

static int nth_cpu(cpu_set_t *set, int n)
{
	int cpu;

	n %= CPU_COUNT(set);
	for (cpu = 0; ; cpu++)
		if (CPU_ISSET(cpu, set) && !n--)
			return cpu;
}

static void start_threads(struct kvm_vcpu **vcpus, pthread_t *threads, u32 nr,
			  void *(*thread)(void *))
{
	cpu_set_t set;
	u32 i;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity() failed");
	pthread_barrier_init(&round_start, NULL, nr + 1);
	pthread_barrier_init(&round_end, NULL, nr + 1);

	for (i = 0; i < nr; i++) {
		TEST_ASSERT(!pthread_create(&threads[i], NULL, thread, vcpus[i]),
			    "pthread_create() failed");
		pin_task_to_cpu(threads[i], nth_cpu(&set, i));
	}
}

/* Gives each vCPU the job to call the code of a block, which is not mapped at stage 2. */
static void give_jobs(struct area *blocks, u32 nr, u64 round)
{
	u16 value = round * MAX_VCPUS;
	u32 i;

	vm_mem_region_reload(blocks->vm, blocks->slot);
	for (i = 0; i < nr; i++) {
		area_write(blocks, i, value + i);
		shared->job[i] = (struct job) {
			.op = OP_RENDEZVOUS,
			.gva = blocks->gva + i * blocks->unit,
			.nr = 1,
			.value = value + i,
			.round = round + 1,
			.nr_vcpus = nr,
		};
	}
}

/* Lets all threads do one round, and counts what it costs. */
static struct round measure_round(struct kvm_vm *vm)
{
	struct round res = { .counts = read_counts(vm) };

	mark_start();
	pthread_barrier_wait(&round_start);
	pthread_barrier_wait(&round_end);
	mark_stop();
	res.counts = counts_since(vm, res.counts);

	return res;
}

static struct round run_round(struct area *blocks, u32 nr, u64 round)
{
	struct round res;
	u32 i;

	give_jobs(blocks, nr, round);
	res = measure_round(blocks->vm);
	for (i = 0; i < nr; i++) {
		res.good += shared->job[i].good;
		res.held_up += stopped_ms && took_ms[i] >= stopped_ms;
	}

	return res;
}

/* The cost of all rounds; @max_full and @max_held_up are the maxima of a round. */
struct rounds {
	struct round total;
	u64 max_full;
	u64 max_held_up;
	u64 odd;
};

static void rounds_add(struct rounds *rounds, struct round one, u64 requests)
{
	rounds->total.good += one.good;
	rounds->total.counts.by_line += one.counts.by_line;
	rounds->total.counts.full += one.counts.full;
	rounds->total.counts.shared += one.counts.shared;
	rounds->max_full = max(rounds->max_full, one.counts.full);
	rounds->max_held_up = max(rounds->max_held_up, one.held_up);
	rounds->total.held_up += one.held_up;
	rounds->odd += counts_sum(one.counts) != requests;
}

static struct rounds run_rounds(struct area *blocks, u32 nr)
{
	u64 requests = plan_of(blocks->unit) == PLAN_NOTHING ? 0 : nr, round;
	struct rounds rounds = {};
	struct round one;

	run_round(blocks, nr, 0);
	for (round = 1; round <= nr_rounds; round++) {
		one = run_round(blocks, nr, round);
		ksft_print_msg("round %lu: vcpus %u by_line +%lu full +%lu shared +%lu held %lu\n",
			       round, nr, one.counts.by_line, one.counts.full,
			       one.counts.shared, one.held_up);
		rounds_add(&rounds, one, requests);
	}

	return rounds;
}

#define NR_VCPUS_FACTS		5

static void report_strict(const struct rounds *rounds, bool strict, bool full)
{
	if (strict && full)
		result_stats(rounds->max_full && rounds->max_full <= 2, rounds->total.counts,
			     "strict: 1 or 2 full invalidations in every round");
	else
		ksft_test_result_skip("strict: %s\n", strict ? "nothing needs a full invalidation" :
				      "not asked for (-s)");
}

static void report_rounds(const struct rounds *rounds, u32 nr, bool strict)
{
	bool all = plan_of(block_size()) == PLAN_ALL;
	struct round total = rounds->total;

	ksft_test_result(total.good == nr * nr_rounds,
			 "%u vCPUs, %lu rounds: every guest sees its code\n", nr, nr_rounds);
	result_stats(!rounds->odd, total.counts, "each request is counted once in every round");
	result_stats(!total.counts.by_line || !all, total.counts,
		     "no block is invalidated line by line");
	report_strict(rounds, strict, all);
	if (stopped_ms && all)
		ksft_test_result(rounds->max_held_up == 1 && total.held_up == nr_rounds,
				 "one vCPU is stopped in every round, and holds up no other\n");
	else
		ksft_test_result_skip("stopped: %s\n", stopped_ms ?
				      "blocks need no full invalidation" : "not asked for (-o)");
}

static void test_vcpus(u32 nr, bool strict)
{
	struct area blocks = blocks_area(nr);
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	pthread_t threads[MAX_VCPUS];
	struct rounds rounds;
	struct kvm_vm *vm;
	u32 i;

	ksft_set_plan(NR_VCPUS_FACTS);
	if (!reserve_blocks(nr))
		ksft_exit_skip("No %u huge pages of %#lx bytes to be had\n", nr, block_size());

	vm = create_vm(nr, nr * block_size() / SZ_4K, vcpus);
	area_add(&blocks, vm, block_backing());
	start_threads(vcpus, threads, nr, vcpu_thread);
	rounds = run_rounds(&blocks, nr);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);

	report_rounds(&rounds, nr, strict);
	kvm_vm_free(vm);
}

/* N vCPUs initialised at the same time */

#define NR_INIT_FACTS		3

/* Returns the requests that KVM_ARM_VCPU_INIT of one vCPU makes: with FEAT_S2FWB, one. */
static u64 init_one(struct kvm_vcpu *vcpu)
{
	struct counts got = read_counts(vcpu->vm);

	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &vcpu_init);
	got = counts_since(vcpu->vm, got);
	result_stats(!got.by_line && !got.shared && got.full <= !(ctr & CTR_EL0_DIC_MASK), got,
		     "one vCPU: at most one request, which is full");

	return counts_sum(got);
}

/* Runs all rounds, in which each of @nr vCPUs makes @each requests. */
static struct rounds init_rounds(struct kvm_vm *vm, u32 nr, u64 each)
{
	struct rounds rounds = {};
	struct round one;
	u64 round;

	for (round = 1; round <= nr_rounds; round++) {
		one = measure_round(vm);
		ksft_print_msg("round %lu: inits %u by_line +%lu full +%lu shared +%lu\n",
			       round, nr, one.counts.by_line, one.counts.full,
			       one.counts.shared);
		rounds_add(&rounds, one, each * nr);
	}

	return rounds;
}

static void test_init(u32 nr, bool strict)
{
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	pthread_t threads[MAX_VCPUS];
	struct rounds rounds;
	struct kvm_vm *vm;
	u64 each;
	u32 i;

	ksft_set_plan(NR_INIT_FACTS);
	vm = create_vm(nr, 0, vcpus);
	kvm_get_default_vcpu_target(vm, &vcpu_init);
	for (i = 0; i < nr; i++)
		run_job(vcpus[i]);

	each = init_one(vcpus[0]);
	start_threads(vcpus, threads, nr, init_thread);
	rounds = init_rounds(vm, nr, each);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);

	result_stats(!rounds.odd, rounds.total.counts,
		     "each request is counted once in every round");
	report_strict(&rounds, strict, each);
	kvm_vm_free(vm);
}

/* A large region */

#define NR_BULK_FACTS		3

static void bulk_measure(struct kvm_vcpu *vcpu, struct area *area)
{
	struct counts want = expected(area->unit, area->nr), got;
	u64 good, i;

	for (i = 0; i < area->nr; i++)
		area_write(area, i, i);

	got = read_counts(area->vm);
	mark_start();
	good = run_units(vcpu, area, OP_EXEC, 0, area->nr, 0);
	mark_stop();
	got = counts_since(area->vm, got);

	ksft_print_msg("requests %lu of %zu bytes: by_line +%lu full +%lu shared +%lu\n",
		       area->nr, area->unit, got.by_line, got.full, got.shared);
	ksft_test_result(good == area->nr, "the guest sees all code\n");
	result_stats(counts_sum(got) == counts_sum(want), got, "each request is counted once");
	result_stats(got.by_line == want.by_line, got, "the bound decides by the request's size");
}

static void test_bulk(size_t bytes, bool by_page)
{
	size_t unit = by_page ? getpagesize() : block_size();
	u64 nr = max(bytes / unit, (size_t)1);
	struct area area = by_page ? pages_area(nr) : blocks_area(nr);
	struct area warm = pages_area(1);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	ksft_set_plan(NR_BULK_FACTS);
	if (!by_page && !reserve_blocks(nr))
		ksft_exit_skip("No %lu huge pages of %zu bytes to be had\n", nr, unit);

	vm = create_vm(1, nr * unit / SZ_4K, &vcpu);
	warm.slot = BLOCKS_SLOT + 1;
	warm.gva = BLOCKS_GVA / 2;
	area_add(&warm, vm, VM_MEM_SRC_ANONYMOUS);
	area_add(&area, vm, by_page ? VM_MEM_SRC_ANONYMOUS : block_backing());
	warm_up(vcpu, &warm);
	bulk_measure(vcpu, &area);

	kvm_vm_free(vm);
}

static void help(const char *name)
{
	printf("usage: %s [-v vcpus [-r rounds] [-s] [-o ms]]\n", name);
	printf("       %s -i vcpus [-r rounds] [-s]\n", name);
	printf("       %s -b [-m MiB] [-p]\n", name);
	exit(KSFT_FAIL);
}

struct options {
	u32 vcpus;
	u32 inits;
	bool strict;
	bool bulk;
	bool by_page;
	size_t mib;
};

static struct options parse_options(int argc, char *argv[])
{
	struct options options = { .mib = 512 };
	int opt;

	while ((opt = getopt(argc, argv, "v:i:r:so:bpm:h")) != -1) {
		if (opt == 'v')
			options.vcpus = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 'i')
			options.inits = atoi_positive("Number of vCPUs", optarg);
		else if (opt == 'o')
			stopped_ms = atoi_positive("Milliseconds", optarg);
		else if (opt == 'r')
			nr_rounds = atoi_positive("Number of rounds", optarg);
		else if (opt == 's')
			options.strict = true;
		else if (opt == 'b')
			options.bulk = true;
		else if (opt == 'p')
			options.by_page = true;
		else if (opt == 'm')
			options.mib = atoi_positive("MiB", optarg);
		else
			help(argv[0]);
	}
	TEST_ASSERT(max(options.vcpus, options.inits) <= MAX_VCPUS, "At most %d vCPUs", MAX_VCPUS);

	return options;
}

/* Prints what the expected results follow from. */
static void print_cache(void)
{
	ksft_print_msg("CTR_EL0 %#lx: %s line %zu page %d: %s block %#lx: %s\n", ctr,
		       ctr & CTR_EL0_DIC_MASK ? "DIC" : "no DIC", line_size(), getpagesize(),
		       plan_of(getpagesize()) == PLAN_BY_LINE ? "by line" : "not by line",
		       block_size(), plan_of(block_size()) == PLAN_ALL ? "all" : "not all");
}

/* If facts were skipped for lack of statistics, the test must not pass. */
static void finish(void)
{
	if (have_stats || ksft_get_fail_cnt() || ksft_get_error_cnt())
		ksft_finished();

	ksft_print_cnts();
	exit(KSFT_SKIP);
}

int main(int argc, char *argv[])
{
	struct options options = parse_options(argc, argv);

	test_disable_default_vgic();
	ctr = read_sysreg(ctr_el0);

	ksft_print_header();
	print_cache();

	if (options.vcpus)
		test_vcpus(options.vcpus, options.strict);
	else if (options.inits)
		test_init(options.inits, options.strict);
	else if (options.bulk)
		test_bulk(options.mib * SZ_1M, options.by_page);
	else
		test_single();

	finish();
}

// SPDX-License-Identifier: GPL-2.0-only
/*
 * nolse_bpf - Check that BPF atomics give exact results whichever instructions
 * the JIT emits for them, and that the verifier accepts an atomic read-modify-write
 * of an arena with LSE atomics and refuses it without, as on a CPU without
 * FEAT_LSE (bpf_jit_supports_insn()).
 */
#include <errno.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nolse_state.h"

#define NR_THREADS	2
#define NR_RUNS		500
#define NR_ADDS		100

/* Instructions, named as in linux/filter.h */

#define INSN(c, d, s, o, i) \
	((struct bpf_insn) { .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })

/* A 64-bit immediate takes two slots; IMM64_HIGH() is the second. */
#define LD_IMM64_RAW(dst, src, low)	INSN(BPF_LD | BPF_DW | BPF_IMM, dst, src, 0, low)
#define IMM64_HIGH(val)			INSN(0, 0, 0, 0, (uint64_t)(val) >> 32)
#define LD_IMM64(dst, val)		LD_IMM64_RAW(dst, 0, (uint32_t)(val))
#define LD_MAP_FD(dst, fd)		LD_IMM64_RAW(dst, BPF_PSEUDO_MAP_FD, fd)
#define LD_MAP_VALUE(dst, fd)		LD_IMM64_RAW(dst, BPF_PSEUDO_MAP_VALUE, fd)
#define MOV64_REG(dst, src)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
#define MOV64_IMM(dst, imm)		INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
#define ADD64_IMM(dst, imm)		INSN(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
#define CAST_KERN(dst, src)		INSN(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, \
					     BPF_ADDR_SPACE_CAST, 1)
#define ATOMIC(size, op, dst, src)	INSN(BPF_STX | BPF_ATOMIC | (size), dst, src, 0, op)
#define STX_DW(dst, src, off)		INSN(BPF_STX | BPF_MEM | BPF_DW, dst, src, off, 0)
#define JLT_IMM(dst, imm, off)		INSN(BPF_JMP | BPF_JLT | BPF_K, dst, 0, off, imm)
#define EXIT()				INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

/* bpf(2) */

static char log_buf[1 << 20];

static long bpf(int cmd, union bpf_attr *attr)
{
	return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int prog_load(const struct bpf_insn *insns, size_t cnt)
{
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SYSCALL,
		.prog_flags = BPF_F_SLEEPABLE,
		.insns = (uintptr_t)insns,
		.insn_cnt = cnt,
		.license = (uintptr_t)"GPL",
		.log_level = 1,
		.log_buf = (uintptr_t)log_buf,
		.log_size = sizeof(log_buf),
	};

	log_buf[0] = '\0';
	return bpf(BPF_PROG_LOAD, &attr);
}

static bool prog_run(int fd, uint32_t *retval)
{
	union bpf_attr attr = { .test = { .prog_fd = fd } };
	long ret = bpf(BPF_PROG_TEST_RUN, &attr);

	*retval = attr.test.retval;
	return !ret;
}

/* Loads @insns and runs them once; stores their return value in @retval. */
static bool load_and_run(const struct bpf_insn *insns, size_t cnt, uint32_t *retval)
{
	int fd = prog_load(insns, cnt);
	bool ok;

	if (fd < 0) {
		ksft_print_msg("refused, errno %d: %s\n", errno, log_buf);
		return false;
	}
	ok = prog_run(fd, retval);
	close(fd);

	return ok;
}

static void print_log(void)
{
	char *line, *save;

	for (line = strtok_r(log_buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ksft_print_msg("log: %s\n", line);
}

/* Map values */

struct value {
	uint64_t word;
	uint64_t reg;
};

static int value_map(void)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = sizeof(struct value),
		.max_entries = 1,
	};

	return bpf(BPF_MAP_CREATE, &attr);
}

static bool value_access(int cmd, int fd, struct value *value)
{
	uint32_t key = 0;
	union bpf_attr attr = {
		.map_fd = fd,
		.key = (uintptr_t)&key,
		.value = (uintptr_t)value,
	};

	return !bpf(cmd, &attr);
}

struct atomic_op {
	const char *name;
	int op;
	uint64_t old;
	uint64_t src;
	uint64_t r0;	/* the value with which BPF_CMPXCHG compares */
	uint64_t new;
	bool fetch;	/* whether the old value is returned in a register */
};

static const struct atomic_op atomic_ops[] = {
	{ "add", BPF_ADD, 40, 2, 0, 42, false },
	{ "and", BPF_AND, 0x5f, 0xf5, 0, 0x55, false },
	{ "or", BPF_OR, 0x50, 0x0a, 0, 0x5a, false },
	{ "xor", BPF_XOR, 0x5f, 0x0a, 0, 0x55, false },
	{ "fetch add", BPF_ADD | BPF_FETCH, 40, 2, 0, 42, true },
	{ "fetch and", BPF_AND | BPF_FETCH, 0x5f, 0xf5, 0, 0x55, true },
	{ "fetch or", BPF_OR | BPF_FETCH, 0x50, 0x0a, 0, 0x5a, true },
	{ "fetch xor", BPF_XOR | BPF_FETCH, 0x5f, 0x0a, 0, 0x55, true },
	{ "xchg", BPF_XCHG, 40, 2, 0, 2, true },
	{ "cmpxchg, equal", BPF_CMPXCHG, 40, 2, 40, 2, true },
	{ "cmpxchg, different", BPF_CMPXCHG, 40, 2, 41, 40, true },
};

static void test_value_op(int map, const struct atomic_op *op, int size)
{
	int reg = op->op == BPF_CMPXCHG ? BPF_REG_0 : BPF_REG_2;
	const struct bpf_insn insns[] = {
		LD_MAP_VALUE(BPF_REG_1, map), IMM64_HIGH(0),
		LD_IMM64(BPF_REG_2, op->src), IMM64_HIGH(op->src),
		LD_IMM64(BPF_REG_0, op->r0), IMM64_HIGH(op->r0),
		ATOMIC(size, op->op, BPF_REG_1, BPF_REG_2),
		STX_DW(BPF_REG_1, reg, offsetof(struct value, reg)),
		MOV64_IMM(BPF_REG_0, 0),
		EXIT(),
	};
	uint64_t want = op->fetch ? op->old : op->src;
	struct value value = { .word = op->old };
	uint32_t retval;
	bool ok;

	ok = value_access(BPF_MAP_UPDATE_ELEM, map, &value) &&
	     load_and_run(insns, ARRAY_SIZE(insns), &retval) &&
	     value_access(BPF_MAP_LOOKUP_ELEM, map, &value);
	if (ok && (value.word != op->new || value.reg != want))
		ksft_print_msg("word %#llx, register %#llx\n", (unsigned long long)value.word,
			       (unsigned long long)value.reg);

	ksft_test_result(ok && value.word == op->new && value.reg == want,
			 "map value, %d bits: %s\n", size == BPF_W ? 32 : 64, op->name);
}

static long run_errors;

static void *runner(void *arg)
{
	int fd = (long)arg, i;
	uint32_t retval;

	for (i = 0; i < NR_RUNS; i++)
		if (!prog_run(fd, &retval))
			__atomic_fetch_add(&run_errors, 1, __ATOMIC_RELAXED);

	return NULL;
}

/* Runs a program in all threads at the same time. */
static void run_threads(int fd)
{
	pthread_t threads[NR_THREADS];
	int i;

	for (i = 0; i < NR_THREADS; i++)
		if (pthread_create(&threads[i], NULL, runner, (void *)(long)fd))
			ksft_exit_fail_msg("pthread_create() failed\n");
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

static void test_value_threads(int map)
{
	const struct bpf_insn insns[] = {
		LD_MAP_VALUE(BPF_REG_1, map), IMM64_HIGH(0),
		MOV64_IMM(BPF_REG_3, 0),
		MOV64_IMM(BPF_REG_2, 1),
		ATOMIC(BPF_DW, BPF_ADD | BPF_FETCH, BPF_REG_1, BPF_REG_2),
		ADD64_IMM(BPF_REG_3, 1),
		JLT_IMM(BPF_REG_3, NR_ADDS, -4),
		MOV64_IMM(BPF_REG_0, 0),
		EXIT(),
	};
	int fd = prog_load(insns, ARRAY_SIZE(insns));
	struct value value = {};

	value_access(BPF_MAP_UPDATE_ELEM, map, &value);
	if (fd < 0) {
		ksft_print_msg("refused, errno %d\n", errno);
		print_log();
	}
	run_threads(fd);
	value_access(BPF_MAP_LOOKUP_ELEM, map, &value);
	close(fd);

	ksft_test_result(!run_errors && value.word == NR_THREADS * NR_RUNS * NR_ADDS,
			 "map value: fetch add by %d threads: %llu\n", NR_THREADS,
			 (unsigned long long)value.word);
}

/* Arena */

#define NR_ARENA_FACTS	(ARRAY_SIZE(atomic_ops) * 2 + 2)

struct arena {
	int fd;
	uint64_t *word;
};

static int arena_create(struct arena *arena)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARENA,
		.map_flags = BPF_F_MMAPABLE,
		.max_entries = 1,
	};

	arena->fd = bpf(BPF_MAP_CREATE, &attr);
	if (arena->fd < 0)
		return -errno;

	/* The first mapping in user space sets the arena's address; the write populates it. */
	arena->word = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED, arena->fd, 0);
	if (arena->word == MAP_FAILED)
		return -errno;
	*arena->word = 0;

	return 0;
}

static void arena_accepted(struct arena *arena, const struct atomic_op *op, int bits,
			   const struct bpf_insn *insns, size_t cnt)
{
	uint32_t retval = 0, want = op->fetch ? op->old : op->src;
	bool ok;

	*arena->word = op->old;
	ok = load_and_run(insns, cnt, &retval);
	if (ok && (*arena->word != op->new || retval != want))
		ksft_print_msg("word %#llx, register %#x\n", (unsigned long long)*arena->word,
			       retval);

	ksft_test_result(ok && *arena->word == op->new && retval == want,
			 "arena, %d bits: %s: accepted, right result\n", bits, op->name);
}

static void arena_refused(const struct atomic_op *op, int bits,
			  const struct bpf_insn *insns, size_t cnt)
{
	int fd = prog_load(insns, cnt), err = fd < 0 ? errno : 0;
	bool said = strstr(log_buf, "BPF_ATOMIC stores into R2 arena is not allowed");

	if (fd >= 0)
		close(fd);
	if (err != EACCES || !said) {
		ksft_print_msg("errno %d\n", err);
		print_log();
	}

	ksft_test_result(err == EACCES && said,
			 "arena, %d bits: %s: refused with EACCES and the reason\n",
			 bits, op->name);
}

static void test_arena_op(struct arena *arena, const struct atomic_op *op, int size)
{
	int reg = op->op == BPF_CMPXCHG ? BPF_REG_0 : BPF_REG_3;
	const struct bpf_insn insns[] = {
		LD_MAP_FD(BPF_REG_1, arena->fd), IMM64_HIGH(0),
		LD_IMM64(BPF_REG_2, (uintptr_t)arena->word), IMM64_HIGH((uintptr_t)arena->word),
		CAST_KERN(BPF_REG_2, BPF_REG_2),
		LD_IMM64(BPF_REG_3, op->src), IMM64_HIGH(op->src),
		LD_IMM64(BPF_REG_0, op->r0), IMM64_HIGH(op->r0),
		ATOMIC(size, op->op, BPF_REG_2, BPF_REG_3),
		MOV64_REG(BPF_REG_0, reg),
		EXIT(),
	};
	int bits = size == BPF_W ? 32 : 64;

	if (nolse_hwcap())
		arena_accepted(arena, op, bits, insns, ARRAY_SIZE(insns));
	else
		arena_refused(op, bits, insns, ARRAY_SIZE(insns));
}

/* These are LDAR and STLR, not read-modify-write. */
static void test_arena_load_store(struct arena *arena)
{
	const struct bpf_insn load[] = {
		LD_MAP_FD(BPF_REG_1, arena->fd), IMM64_HIGH(0),
		LD_IMM64(BPF_REG_2, (uintptr_t)arena->word), IMM64_HIGH((uintptr_t)arena->word),
		CAST_KERN(BPF_REG_2, BPF_REG_2),
		ATOMIC(BPF_DW, BPF_LOAD_ACQ, BPF_REG_0, BPF_REG_2),
		EXIT(),
	};
	const struct bpf_insn store[] = {
		LD_MAP_FD(BPF_REG_1, arena->fd), IMM64_HIGH(0),
		LD_IMM64(BPF_REG_2, (uintptr_t)arena->word), IMM64_HIGH((uintptr_t)arena->word),
		CAST_KERN(BPF_REG_2, BPF_REG_2),
		MOV64_IMM(BPF_REG_3, 42),
		ATOMIC(BPF_DW, BPF_STORE_REL, BPF_REG_2, BPF_REG_3),
		MOV64_IMM(BPF_REG_0, 0),
		EXIT(),
	};
	uint32_t retval = 0;
	bool ok;

	*arena->word = 40;
	ok = load_and_run(load, ARRAY_SIZE(load), &retval);
	ksft_test_result(ok && retval == 40, "arena: load-acquire\n");
	ok = load_and_run(store, ARRAY_SIZE(store), &retval);
	ksft_test_result(ok && *arena->word == 42, "arena: store-release\n");
}

static void test_arena(void)
{
	struct arena arena;
	int i, err = arena_create(&arena);

	if (err) {
		for (i = 0; i < NR_ARENA_FACTS; i++)
			ksft_test_result_skip("arena: none to be had, error %d\n", err);
		return;
	}

	for (i = 0; i < ARRAY_SIZE(atomic_ops); i++) {
		test_arena_op(&arena, &atomic_ops[i], BPF_W);
		test_arena_op(&arena, &atomic_ops[i], BPF_DW);
	}
	test_arena_load_store(&arena);
}

int main(int argc, char *argv[])
{
	enum nolse_state expected = nolse_expected(argc, argv);
	int map = value_map(), i;

	ksft_print_header();
	if (map < 0)
		ksft_exit_skip("bpf(BPF_MAP_CREATE): errno %d\n", errno);
	ksft_set_plan(1 + 2 * ARRAY_SIZE(atomic_ops) + 1 + NR_ARENA_FACTS);

	nolse_result_state(expected);
	for (i = 0; i < ARRAY_SIZE(atomic_ops); i++) {
		test_value_op(map, &atomic_ops[i], BPF_W);
		test_value_op(map, &atomic_ops[i], BPF_DW);
	}
	test_value_threads(map);
	test_arena();

	ksft_finished();
}

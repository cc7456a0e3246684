// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_baseline - Check that kvm.baseline= lowers the ID registers of all VMs, and
 * takes what KVM_SET_ONE_REG would take.
 *
 * Every value of every four bits of every ID register is given as a baseline, and
 * to a vCPU of a VM without one: both accept it, or none. VMs that are created
 * afterwards have the value, VMs that exist keep theirs. The test changes the
 * baseline of the machine, and puts back what it found.
 *
 *   -n CHANGES  how often the baseline changes while VMs are created
 *   -p          check only that protected VMs have none
 */
#include <ctype.h>
#include <getopt.h>
#include <linux/arm-smccc.h>
#include <pthread.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"
#include "tracefs.h"
#include "ucall.h"

#define PARAMETERS	"/sys/module/kvm/parameters/"
#define LONGEST		4095

#define REG(r)		{ #r, KVM_ARM64_SYS_REG(SYS_ ## r) }

static const struct reg {
	const char *name;
	u64 id;
} regs[] = {
	REG(ID_PFR0_EL1), REG(ID_PFR1_EL1), REG(ID_DFR0_EL1), REG(ID_AFR0_EL1),
	REG(ID_MMFR0_EL1), REG(ID_MMFR1_EL1), REG(ID_MMFR2_EL1), REG(ID_MMFR3_EL1),
	REG(ID_ISAR0_EL1), REG(ID_ISAR1_EL1), REG(ID_ISAR2_EL1), REG(ID_ISAR3_EL1),
	REG(ID_ISAR4_EL1), REG(ID_ISAR5_EL1), REG(ID_MMFR4_EL1), REG(ID_ISAR6_EL1),
	REG(MVFR0_EL1), REG(MVFR1_EL1), REG(MVFR2_EL1), REG(ID_PFR2_EL1),
	REG(ID_DFR1_EL1), REG(ID_MMFR5_EL1),
	REG(ID_AA64PFR0_EL1), REG(ID_AA64PFR1_EL1), REG(ID_AA64PFR2_EL1),
	REG(ID_AA64ZFR0_EL1), REG(ID_AA64SMFR0_EL1), REG(ID_AA64FPFR0_EL1),
	REG(ID_AA64DFR0_EL1), REG(ID_AA64DFR1_EL1), REG(ID_AA64AFR0_EL1),
	REG(ID_AA64AFR1_EL1), REG(ID_AA64ISAR0_EL1), REG(ID_AA64ISAR1_EL1),
	REG(ID_AA64ISAR2_EL1), REG(ID_AA64ISAR3_EL1), REG(ID_AA64MMFR0_EL1),
	REG(ID_AA64MMFR1_EL1), REG(ID_AA64MMFR2_EL1), REG(ID_AA64MMFR3_EL1),
	REG(ID_AA64MMFR4_EL1), REG(CTR_EL0),
};

static int changes = 2000;
static bool only_protected;

/*
 * The baseline
 */

static void read_parameter(const char *name, char *text, size_t size)
{
	char path[128];
	int fd, len;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0, "Cannot open %s, errno %d", path, errno);
	len = read(fd, text, size - 1);
	TEST_ASSERT(len > 0 && text[len - 1] == '\n', "%s has no line, but %d bytes", path, len);
	text[len - 1] = '\0';
	close(fd);
}

/* Returns 0 or the errno. */
static int set_baseline(const char *text)
{
	static int fd = -1;
	int len = strlen(text);

	if (fd < 0)
		fd = open(PARAMETERS "baseline", O_WRONLY);
	TEST_ASSERT(fd >= 0, "Cannot write the baseline, errno %d", errno);
	/* The kernel gets nothing of an empty write */
	if (!len)
		text = "\n";

	return pwrite(fd, text, len ?: 1, 0) == (len ?: 1) ? 0 : errno;
}

static void lower_case(char *to, const char *from)
{
	do {
		*to++ = tolower(*from);
	} while (*from++);
}

static void spell(char *text, const struct reg *reg, u64 value, u64 mask)
{
	lower_case(text, reg->name);
	sprintf(text + strlen(text), "=0x%lx/0x%lx", value, mask);
}

static int set_bits(const struct reg *reg, u64 value, u64 mask)
{
	char text[128];

	spell(text, reg, value, mask);
	return set_baseline(text);
}

/*
 * VMs
 */

/* A VM with all features that the host offers, except EL2, AArch32 and SPE: as by QEMU. */
static void init_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };

	init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2);
	if (kvm_has_cap(KVM_CAP_ARM_SVE))
		init.features[0] |= BIT(KVM_ARM_VCPU_SVE);
	if (kvm_has_cap(KVM_CAP_ARM_PTRAUTH_ADDRESS) && kvm_has_cap(KVM_CAP_ARM_PTRAUTH_GENERIC))
		init.features[0] |= BIT(KVM_ARM_VCPU_PTRAUTH_ADDRESS) |
				    BIT(KVM_ARM_VCPU_PTRAUTH_GENERIC);
	if (kvm_has_cap(KVM_CAP_ARM_PMU_V3))
		init.features[0] |= BIT(KVM_ARM_VCPU_PMU_V3);
	vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
}

static struct kvm_vm *create_vm(struct kvm_vcpu **vcpu)
{
	struct kvm_vm *vm = vm_create_barebones();

	*vcpu = __vm_vcpu_add(vm, 0);
	init_vcpu(*vcpu);
	return vm;
}

/* Returns the register of a VM that is created now. */
static u64 value_in_new_vm(const struct reg *reg)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu);
	u64 value = vcpu_get_reg(vcpu, reg->id);

	kvm_vm_free(vm);
	return value;
}

/* Gets all registers of a VM that is created now, with EL2 or as by QEMU. */
static void read_all(u64 *values, bool el2)
{
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);

	init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(KVM_ARM_VCPU_HAS_EL2);
	if (el2)
		vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	else
		init_vcpu(vcpu);
	for (int i = 0; i < ARRAY_SIZE(regs); i++)
		values[i] = vcpu_get_reg(vcpu, regs[i].id);
	kvm_vm_free(vm);
}

/* Returns whether userspace can give the vCPU this value, and leaves it as it was. */
static bool can_be_set(struct kvm_vcpu *vcpu, const struct reg *reg, u64 value)
{
	u64 now = vcpu_get_reg(vcpu, reg->id);
	bool ok = !__vcpu_set_reg(vcpu, reg->id, value) && vcpu_get_reg(vcpu, reg->id) == value;

	vcpu_set_reg(vcpu, reg->id, now);
	return ok;
}

/* These follow from the GIC that userspace creates, whatever KVM_SET_ONE_REG says. */
static bool is_of_gic(const struct reg *reg, u64 mask)
{
	switch (reg->id) {
	case KVM_ARM64_SYS_REG(SYS_ID_AA64PFR0_EL1):
		return mask & ID_AA64PFR0_EL1_GIC_MASK;
	case KVM_ARM64_SYS_REG(SYS_ID_AA64PFR2_EL1):
		return mask & ID_AA64PFR2_EL1_GCIE_MASK;
	case KVM_ARM64_SYS_REG(SYS_ID_PFR1_EL1):
		return mask & ID_PFR1_EL1_GIC_MASK;
	default:
		return false;
	}
}

/* A VM that has a PMU has a version of PMUv3: pmu=off takes both away. */
static bool is_no_pmu(const struct reg *reg, u64 value, u64 mask)
{
	if (reg->id != KVM_ARM64_SYS_REG(SYS_ID_AA64DFR0_EL1) ||
	    mask != ID_AA64DFR0_EL1_PMUVer_MASK)
		return false;

	switch (FIELD_GET(ID_AA64DFR0_EL1_PMUVer_MASK, value)) {
	case ID_AA64DFR0_EL1_PMUVer_IMP:
	case ID_AA64DFR0_EL1_PMUVer_V3P1:
	case ID_AA64DFR0_EL1_PMUVer_V3P4:
	case ID_AA64DFR0_EL1_PMUVer_V3P5:
	case ID_AA64DFR0_EL1_PMUVer_V3P7:
		return false;
	default:
		return true;
	}
}

/*
 * Facts
 */

static int accepted, lowered, refused;

/* Returns a register of a new VM as it would be if nothing else followed from the field @mask. */
static u64 value_by_field(const struct reg *reg, u64 own, u64 mask)
{
	u64 got = value_in_new_vm(reg);

	/* Without TCRX, KVM takes what needs it */
	if (reg->id == KVM_ARM64_SYS_REG(SYS_ID_AA64MMFR3_EL1))
		got |= own & ~mask & (ID_AA64MMFR3_EL1_S1PIE_MASK | ID_AA64MMFR3_EL1_S1POE_MASK);
	/* EL1 has no AArch32 if EL0 has none */
	if (reg->id == KVM_ARM64_SYS_REG(SYS_ID_AA64PFR0_EL1) &&
	    mask == ID_AA64PFR0_EL1_EL0_MASK && FIELD_GET(ID_AA64PFR0_EL1_EL1_MASK, got) == 1)
		got = (got & ~ID_AA64PFR0_EL1_EL1_MASK) | (own & ID_AA64PFR0_EL1_EL1_MASK);
	return got;
}

static bool test_value(struct kvm_vcpu *vcpu, const struct reg *reg, u64 own, u64 value, u64 mask)
{
	bool is_own = (own & mask) == value;
	bool expected = is_own || (!is_of_gic(reg, mask) && !is_no_pmu(reg, value, mask) &&
				   can_be_set(vcpu, reg, (own & ~mask) | value));
	int err = set_bits(reg, value, mask);
	u64 got;

	if (err != (expected ? 0 : EINVAL)) {
		ksft_print_msg("%s: 0x%lx/0x%lx on 0x%lx: errno %d, KVM_SET_ONE_REG %s it\n",
			       reg->name, value, mask, own, err, expected ? "takes" : "refuses");
		return false;
	}
	if (!expected) {
		refused++;
		return true;
	}
	accepted++;
	if (is_own)
		return true;
	lowered++;
	got = value_by_field(reg, own, mask);
	if (got != ((own & ~mask) | value)) {
		ksft_print_msg("%s: 0x%lx/0x%lx on 0x%lx: a VM has 0x%lx\n", reg->name, value,
			       mask, own, got);
		return false;
	}
	return true;
}

/* Every value of each four bits; in CTR_EL0, fields are not aligned. */
static bool test_register(struct kvm_vcpu *vcpu, const struct reg *reg)
{
	static const u64 masks_of_ctr[] = {
		CTR_EL0_IminLine_MASK, CTR_EL0_L1Ip_MASK, CTR_EL0_DminLine_MASK,
		CTR_EL0_ERG_MASK, CTR_EL0_CWG_MASK, CTR_EL0_IDC_MASK, CTR_EL0_DIC_MASK,
	};
	bool is_ctr = reg->id == KVM_ARM64_SYS_REG(SYS_CTR_EL0);
	u64 own = vcpu_get_reg(vcpu, reg->id);
	bool ok = true;

	for (int i = 0; i < (is_ctr ? ARRAY_SIZE(masks_of_ctr) : 16); i++) {
		u64 mask = is_ctr ? masks_of_ctr[i] : 0xful << (4 * i);
		u64 step = mask & -mask;

		for (u64 value = 0;; value += step) {
			ok &= test_value(vcpu, reg, own, value, mask);
			if (value == mask)
				break;
		}
	}
	set_baseline("");
	return ok;
}

static void test_registers(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu);

	for (int i = 0; i < ARRAY_SIZE(regs); i++)
		ksft_test_result(test_register(vcpu, &regs[i]), "%s: as by KVM_SET_ONE_REG\n",
				 regs[i].name);
	ksft_test_result(lowered > 50 && refused > 1000,
			 "%d accepted, %d of them lower than the host's; %d refused\n", accepted,
			 lowered, refused);
	kvm_vm_free(vm);
}

/* Fields that hosts have from Armv8.2 on, can be lowered, and are tried in what follows. */
static const struct reg isar0 = REG(ID_AA64ISAR0_EL1);
static const struct reg isar1 = REG(ID_AA64ISAR1_EL1);
static const u64 atomic_mask = ID_AA64ISAR0_EL1_ATOMIC_MASK;
static const u64 dpb_mask = ID_AA64ISAR1_EL1_DPB_MASK;

/* Returns whether the kernel's log has a line with one of the words, of what @kmsg has not read. */
static bool was_logged(int kmsg, const char *words, const char *or_words)
{
	char line[8192];
	bool found = false;
	int len;

	while ((len = read(kmsg, line, sizeof(line) - 1)) > 0 || (len < 0 && errno == EPIPE)) {
		line[len > 0 ? len : 0] = '\0';
		found |= strstr(line, words) || strstr(line, or_words);
	}
	return found;
}

static char too_long[LONGEST + 2], limit[80];

static const struct refusal {
	const char *what, *text, *logged;
} refusals[] = {
	{ "unknown register", "id_aa64isar9_el1=0/0xf", "nothing with that name" },
	{ "another kind of register", "sctlr_el1=0/0xf", "nothing with that name" },
	{ "upper case", "ID_AA64ISAR0_EL1=0/0xf00000", "nothing with that name" },
	{ "beginning of a name", "id_aa64isar0=0/0xf00000", "nothing with that name" },
	{ "unknown key", "color=1", "nothing with that name" },
	{ "a register without a mask", "id_aa64isar0_el1=0", "nothing with that name" },
	{ "a key with a mask", "psci=0x10000/0xf0000", "nothing with that name" },
	{ "a feature that stays", "mte=off", "nothing with that name" },
	{ "a feature twice", "pmu=off,pmu=off", "given twice" },
	{ "a key twice", "psci=0x10000,psci=0x10000", "given twice" },
	{ "no value", "id_aa64isar0_el1", "neither" },
	{ "bad number", "id_aa64isar0_el1=1g/0xf", "no number" },
	{ "bad mask", "id_aa64isar0_el1=0/", "no number" },
	{ "65 bits", "id_aa64isar0_el1=0/0x10000000000000000", "no number" },
	{ "empty mask", "id_aa64isar0_el1=0/0", "mask of 0" },
	{ "bits outside of the mask", "id_aa64isar0_el1=0x1f/0xf", "outside of its mask" },
	{ "reserved bits", "id_aa64isar0_el1=0x1/0x1", "id_aa64isar0_el1[0:0]=0x1" },
	{ "above the limit", "id_aa64isar0_el1=0xf00000/0xf00000", limit },
	{ "part of a field", "id_aa64isar0_el1=0/0x200000", "only a part" },
	{ "twice", "id_aa64isar0_el1=0/0xf00000,id_aa64isar0_el1=0/0xf0", "given twice" },
	{ "good, then bad", "id_aa64isar1_el1=0/0xf,x", "neither" },
	{ "a comma at the end", "id_aa64isar0_el1=0/0xf00000,", "neither" },
	{ "noise", "\001\377=/,,", "no number" },
	{ "too long", too_long, "longer than 4095" },
};

/* Checks that a text is refused, that the log has the reason, and that @before stays. */
static void test_refusal(const struct refusal *refusal, const char *before, int kmsg)
{
	char after[LONGEST + 2];
	bool logged;
	int err;

	lseek(kmsg, 0, SEEK_END);
	err = set_baseline(refusal->text);
	logged = was_logged(kmsg, refusal->logged, refusal->logged);
	read_parameter("baseline", after, sizeof(after));
	if (err != EINVAL || !logged || strcmp(before, after))
		ksft_print_msg("errno %d, %s, %s\n", err, logged ? "logged" : "not logged",
			       strcmp(before, after) ? after : "not changed");
	ksft_test_result(err == EINVAL && logged && !strcmp(before, after),
			 "%s: EINVAL, logged, and nothing changes\n", refusal->what);
}

static void test_refusals(void)
{
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char before[LONGEST + 2];

	TEST_ASSERT(kmsg >= 0, "Cannot open /dev/kmsg, errno %d", errno);
	memset(too_long, '0', LONGEST + 1);
	sprintf(limit, "id_aa64isar0_el1[23:20]=0xf: VMs of this host have 0x%lx",
		FIELD_GET(ID_AA64ISAR0_EL1_ATOMIC_MASK, value_in_new_vm(&isar0)));
	TEST_ASSERT_EQ(set_bits(&isar0, 0, atomic_mask), 0);
	read_parameter("baseline", before, sizeof(before));

	for (int i = 0; i < ARRAY_SIZE(refusals); i++)
		test_refusal(&refusals[i], before, kmsg);
	close(kmsg);
	set_baseline("");
}

/* Checks that what is read can be written, and gives the same; the digest follows it. */
static void test_text(void)
{
	char text[LONGEST + 2], again[LONGEST + 2], digest[80], other[80];
	bool ok;

	TEST_ASSERT_EQ(set_baseline(""), 0);
	read_parameter("baseline", text, sizeof(text));
	read_parameter("baseline_sha256", digest, sizeof(digest));
	ksft_test_result(!*text && !*digest, "No baseline: an empty text and digest\n");

	/* Decimal, and not in the canonical order */
	TEST_ASSERT_EQ(set_baseline("id_aa64isar1_el1=0/15,id_aa64isar0_el1=0/15728640\n"), 0);
	read_parameter("baseline", text, sizeof(text));
	ksft_test_result(!strcmp(text, "id_aa64isar0_el1=0x0/0xf00000,id_aa64isar1_el1=0x0/0xf"),
			 "The text is canonical: %s\n", text);
	read_parameter("baseline_sha256", digest, sizeof(digest));
	/* echo -n "$(cat baseline)" | sha256sum */
	ok = !strcmp(digest, "3cb29e1a7b73e6c6c2b12236c3c9fa72f2d36852e1fc7f299f32e5b1f5a0d117");
	ksft_test_result(ok, "The digest is of the text: %s\n", digest);

	TEST_ASSERT_EQ(set_baseline(text), 0);
	read_parameter("baseline", again, sizeof(again));
	read_parameter("baseline_sha256", other, sizeof(other));
	ksft_test_result(!strcmp(text, again) && !strcmp(digest, other),
			 "The text gives itself\n");
	set_baseline("");
}

/* A VM has what was in force when it was created, not when its vCPU is initialised. */
static void test_existing_vms(void)
{
	struct kvm_vcpu *old_vcpu, *vcpu;
	struct kvm_vm *old = vm_create_barebones(), *vm;
	u64 own = value_in_new_vm(&isar0), got;

	TEST_ASSERT_EQ(set_bits(&isar0, 0, atomic_mask), 0);
	old_vcpu = __vm_vcpu_add(old, 0);
	init_vcpu(old_vcpu);
	got = vcpu_get_reg(old_vcpu, isar0.id);
	ksft_test_result(got == own, "A VM that exists is not changed\n");
	kvm_vm_free(old);

	vm = create_vm(&vcpu);
	set_baseline("");
	got = vcpu_get_reg(vcpu, isar0.id);
	ksft_test_result(got == (own & ~atomic_mask),
			 "A VM keeps its baseline when the host's goes\n");
	got = own & ~(atomic_mask | ID_AA64ISAR0_EL1_CRC32_MASK);
	ksft_test_result(__vcpu_set_reg(vcpu, isar0.id, got) == 0,
			 "Userspace can lower what is left\n");
	ksft_test_result(__vcpu_set_reg(vcpu, isar0.id, own) == 0,
			 "Userspace can give a VM what the host has\n");
	kvm_vm_free(vm);
}

/* Checks that the VM's file in debugfs has the baseline, and the line @want if that @is_lowered. */
static bool is_in_debugfs(struct kvm_vm *vm, const char *want)
{
	char path[128], line[LONGEST + 2];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/baseline", getpid(), vm->fd);
	file = fopen(path, "r");
	TEST_ASSERT(file, "Cannot open %s, errno %d", path, errno);
	while (fgets(line, sizeof(line), file))
		found |= !strcmp(line, want);
	fclose(file);
	return found;
}

/* Numbers and features are listed with registers. */
static void test_debugfs(void)
{
	static const struct reg version = { .id = KVM_REG_ARM_PSCI_VERSION };
	u64 psci = value_in_new_vm(&version);
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char line[64];

	TEST_ASSERT_EQ(set_baseline("psci=0x10000,pmu=off"), 0);
	vm = create_vm(&vcpu);
	set_baseline("");
	snprintf(line, sizeof(line), "psci: 0x%lx -> 0x10000\n", psci);
	ksft_test_result(is_in_debugfs(vm, line) == (psci != 0x10000) &&
			 is_in_debugfs(vm, "pmu: off\n"), "debugfs: numbers and features\n");
	kvm_vm_free(vm);
}

/* The VM's file in debugfs and the trace have both values. */
static void test_statistics(void)
{
	u64 own = value_in_new_vm(&isar0);
	bool is_lowered = own & atomic_mask;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char want[256];

	TEST_ASSERT(trace_begin(), "There is no " TRACE_INSTANCES);
	trace_write(TRACE_EVENT("kvm_baseline_lower", "enable"), "1");
	TEST_ASSERT_EQ(set_bits(&isar0, 0, atomic_mask), 0);
	vm = create_vm(&vcpu);
	snprintf(want, sizeof(want), "kvm_baseline_lower: vCPU 0: ID_AA64ISAR0_EL1: 0x%lx -> 0x%lx",
		 own, own & ~atomic_mask);
	ksft_test_result(trace_count(want) == is_lowered &&
			 trace_count("kvm_baseline_lower") == is_lowered,
			 "The trace: %s\n", want);
	trace_write(TRACE_EVENT("kvm_baseline_lower", "enable"), "0");
	trace_end();

	snprintf(want, sizeof(want), "id_aa64isar0_el1: 0x%lx -> 0x%lx\n", own, own & ~atomic_mask);
	ksft_test_result(is_in_debugfs(vm, want) == is_lowered &&
			 is_in_debugfs(vm, "id_aa64isar0_el1=0x0/0xf00000\n"),
			 "debugfs: %s", want);
	kvm_vm_free(vm);
	set_baseline("");
	test_debugfs();
}

static void guest_code(void)
{
	GUEST_SYNC(read_sysreg(id_aa64isar0_el1));
	GUEST_DONE();
}

/* The guest reads what userspace does, and KVM_RUN changes nothing. */
static void test_guest(void)
{
	u64 before[ARRAY_SIZE(regs)];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	struct ucall uc;
	bool ok = true;

	TEST_ASSERT_EQ(set_bits(&isar0, 0, atomic_mask), 0);
	vm = vm_create_with_one_vcpu(&vcpu, guest_code);
	set_baseline("");

	for (int i = 0; i < ARRAY_SIZE(regs); i++)
		before[i] = vcpu_get_reg(vcpu, regs[i].id);
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	ksft_test_result(!(uc.args[1] & atomic_mask) && uc.args[1],
			 "The guest reads the baseline: 0x%lx\n", uc.args[1]);
	for (int i = 0; i < ARRAY_SIZE(regs); i++) {
		u64 after = vcpu_get_reg(vcpu, regs[i].id);

		/* Without a GIC, there is none in the ID registers from the first run on */
		if (is_of_gic(&regs[i], -1UL) || after == before[i])
			continue;
		ksft_print_msg("%s: 0x%lx, then 0x%lx\n", regs[i].name, before[i], after);
		ok = false;
	}
	ksft_test_result(ok, "The first run changes no ID register\n");
	kvm_vm_free(vm);
}

/* A baseline with what the host cannot give has no part that is in force. */
static void test_all_or_nothing(void)
{
	u64 own = value_in_new_vm(&isar0);
	int err = set_baseline("id_aa64isar0_el1=0/0xf00000,id_aa64isar1_el1=0xf/0xf");

	ksft_test_result(err == EINVAL && value_in_new_vm(&isar0) == own,
			 "No part of a refused baseline\n");
	set_baseline("");
}

/* Returns what a VM has that is created with this baseline, which this host accepts. */
static u64 value_with(const char *text, u64 reg)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 value;

	TEST_ASSERT(!set_baseline(text), "'%s' is refused", text);
	vm = create_vm(&vcpu);
	set_baseline("");
	value = vcpu_get_reg(vcpu, reg);
	kvm_vm_free(vm);
	return value;
}

/* Checks that a number is refused, and that the line which is logged has @own. */
static bool is_refused(const char *key, u64 value, u64 own)
{
	int kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	char text[128], hex[128], decimal[128];
	bool ok, logged;

	sprintf(text, "%s=%lu", key, value);
	sprintf(hex, "baseline: %s=0x%lx: VMs of this host have 0x%lx,", key, value, own);
	sprintf(decimal, "baseline: %s=%lu: VMs of this host have %lu,", key, value, own);
	lseek(kmsg, 0, SEEK_END);
	ok = set_baseline(text) == EINVAL;
	logged = was_logged(kmsg, hex, decimal);
	close(kmsg);
	if (!ok || !logged)
		ksft_print_msg("%s: %s, %s logged\n", text, ok ? "refused" : "accepted",
			       logged ? "is" : "is not");
	return ok && logged;
}

static const struct feature {
	const char *name;
	int cap, bit, other;
} features[] = {
	{ "sve", KVM_CAP_ARM_SVE, KVM_ARM_VCPU_SVE },
	{ "ptrauth", KVM_CAP_ARM_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_ADDRESS,
	  KVM_ARM_VCPU_PTRAUTH_GENERIC },
	{ "pmu", KVM_CAP_ARM_PMU_V3, KVM_ARM_VCPU_PMU_V3 },
	{ "el2", KVM_CAP_ARM_EL2, KVM_ARM_VCPU_HAS_EL2 },
};

/* Checks that a new VM cannot have the feature, and that @old can if the host @had one. */
static bool is_taken(const struct feature *feature, struct kvm_vm *old, bool had)
{
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *old_vcpu, *vcpu;
	bool ok = !kvm_check_cap(feature->cap) && !vm_check_cap(vm, feature->cap) &&
		  !!vm_check_cap(old, feature->cap) == had;

	init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2) | BIT(feature->bit);
	if (feature->other)
		init.features[0] |= BIT(feature->other);
	vcpu = __vm_vcpu_add(vm, 0);
	ok &= __vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) == -1 && errno == EINVAL;
	old_vcpu = __vm_vcpu_add(old, 0);
	/* EL2 needs a GIC, and other things */
	if (feature->bit != KVM_ARM_VCPU_HAS_EL2)
		ok &= !__vcpu_ioctl(old_vcpu, KVM_ARM_VCPU_INIT, &init) == had;
	init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2);
	ok &= !__vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init);
	kvm_vm_free(vm);
	return ok;
}

static void test_feature(const struct feature *feature)
{
	struct kvm_vm *old = vm_create_barebones();
	bool had = kvm_check_cap(feature->cap), ok;
	char text[32];

	sprintf(text, "%s=off", feature->name);
	TEST_ASSERT(!set_baseline(text), "'%s' is refused", text);
	ok = is_taken(feature, old, had);
	if (had)
		ksft_test_result(ok, "%s: not offered, and refused\n", text);
	else
		ksft_test_result_skip("%s: the host has none\n", text);
	kvm_vm_free(old);
	set_baseline("");
}

/* Features that KVM offers: not offered, and refused, but not in VMs that exist. */
static void test_features(void)
{
	for (int i = 0; i < ARRAY_SIZE(features); i++)
		test_feature(&features[i]);
}

static u64 ask(u32 workaround)
{
	struct arm_smccc_res res;

	do_smccc(ARM_SMCCC_ARCH_FEATURES_FUNC_ID, workaround, 0, 0, 0, 0, 0, 0, &res);
	return res.a0;
}

static void firmware_guest(void)
{
	GUEST_SYNC(ask(ARM_SMCCC_ARCH_WORKAROUND_1));
	GUEST_SYNC(ask(ARM_SMCCC_ARCH_WORKAROUND_2));
	GUEST_SYNC(ask(ARM_SMCCC_ARCH_WORKAROUND_3));
	GUEST_DONE();
}

/*
 * Returns what a guest gets as a level: Documentation/virt/kvm/arm/fw-pseudo-registers.rst and
 * SMCCC 1.4, 7.9 to 7.11. Workaround 2 is only offered or not required in KVM.
 */
static s64 answer(int workaround, u64 level)
{
	switch (workaround) {
	case 1:
	case 3:
		return level == 0 ? SMCCC_RET_NOT_SUPPORTED : level == 1 ? 0 : 1;
	default:
		return level == 3 ? SMCCC_RET_NOT_REQUIRED : SMCCC_RET_NOT_SUPPORTED;
	}
}

static const u64 workarounds[] = {
	KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_1,
	KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2,
	KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_3,
};

/* Runs firmware_guest(), and returns what it gets for workaround @n, of which 0 is the first. */
static s64 guest_gets(struct kvm_vcpu *vcpu, int n)
{
	struct ucall uc;

	for (int i = 0; i <= n; i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
	}
	return uc.args[1];
}

/* Without a baseline too, a level that userspace has lowered is that of the VM. */
static void test_stored_workaround(int n, u64 own)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = vm_create_with_one_vcpu(&vcpu, firmware_guest);
	bool ok;

	vcpu_set_reg(vcpu, workarounds[n], 0);
	ok = vcpu_get_reg(vcpu, workarounds[n]) == 0;
	ok &= guest_gets(vcpu, n) == SMCCC_RET_NOT_SUPPORTED;
	ok &= !own || __vcpu_set_reg(vcpu, workarounds[n], own) == -1;
	ksft_test_result(ok, "smccc_wa%d: 0 by KVM_SET_ONE_REG\n", n + 1);
	kvm_vm_free(vm);
}

/* Checks a level of a VM whose host has @own: in userspace and in the guest. */
static bool has_level(int n, const char *text, u64 level, u64 own)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	bool ok;
	s64 got;

	TEST_ASSERT(!set_baseline(text), "'%s' is refused", text);
	vm = vm_create_with_one_vcpu(&vcpu, firmware_guest);
	set_baseline("");
	ok = vcpu_get_reg(vcpu, workarounds[n]) == level;
	/* It can be restored, and nothing that is higher can be set */
	ok &= !__vcpu_set_reg(vcpu, workarounds[n], level);
	ok &= level == own || __vcpu_set_reg(vcpu, workarounds[n], own) == -1;
	got = guest_gets(vcpu, n);
	if (got != answer(n + 1, level)) {
		ksft_print_msg("%s: the guest gets %ld\n", text, got);
		ok = false;
	}
	kvm_vm_free(vm);
	return ok;
}

/* Every level of a workaround that is lower than the host's, in userspace and in a guest. */
static void test_workarounds(void)
{
	for (int n = 0; n < ARRAY_SIZE(workarounds); n++) {
		u64 own = value_with("", workarounds[n]);
		char key[16], text[32];
		bool ok = true;

		sprintf(key, "smccc_wa%d", n + 1);
		for (u64 level = 0; level <= own; level++) {
			sprintf(text, "%s=%lu", key, level);
			if (n == 1 && level && level != own)
				ok &= set_baseline(text) == EINVAL;
			else
				ok &= has_level(n, text, level, own);
		}
		ksft_test_result(ok && is_refused(key, own + 1, own),
				 "%s: every level up to the host's, which is %lu\n", key, own);
		test_stored_workaround(n, own);
	}
}

static void test_firmware(void)
{
	static const struct {
		const char *key;
		u64 id;
	} bitmaps[] = {
		{ "std_bmap", KVM_REG_ARM_STD_BMAP },
		{ "std_hyp_bmap", KVM_REG_ARM_STD_HYP_BMAP },
		{ "vendor_hyp_bmap", KVM_REG_ARM_VENDOR_HYP_BMAP },
		{ "vendor_hyp_bmap2", KVM_REG_ARM_VENDOR_HYP_BMAP_2 },
	};
	u64 latest = value_with("", KVM_REG_ARM_PSCI_VERSION);

	ksft_test_result(value_with("psci=0x10000", KVM_REG_ARM_PSCI_VERSION) == 0x10000 &&
			 value_with("psci=2", KVM_REG_ARM_PSCI_VERSION) == 2 &&
			 is_refused("psci", latest + 1, latest) && is_refused("psci", 1, latest) &&
			 is_refused("psci", 0x10009, latest), "psci: lower versions that exist\n");
	for (int i = 0; i < ARRAY_SIZE(bitmaps); i++) {
		u64 own = value_with("", bitmaps[i].id);
		u64 above = own ? fls64(own) : 0;
		char text[32];
		bool ok;

		sprintf(text, "%s=0", bitmaps[i].key);
		ok = value_with(text, bitmaps[i].id) == 0;
		sprintf(text, "%s=0x%lx", bitmaps[i].key, own & ~1ul);
		ok &= value_with(text, bitmaps[i].id) == (own & ~1ul);
		ksft_test_result(ok && is_refused(bitmaps[i].key, own | BIT(above), own),
				 "%s: any part of the host's 0x%lx\n", bitmaps[i].key, own);
	}
}

static void identity_guest(void)
{
	GUEST_SYNC(read_sysreg(midr_el1));
	GUEST_SYNC(read_sysreg(revidr_el1));
	GUEST_SYNC(read_sysreg(aidr_el1));
	GUEST_DONE();
}

static const struct {
	u64 id, value;
} identity[] = {
	{ KVM_ARM64_SYS_REG(SYS_MIDR_EL1), 0x410fd490 },
	{ KVM_ARM64_SYS_REG(SYS_REVIDR_EL1), 0x12 },
	{ KVM_ARM64_SYS_REG(SYS_AIDR_EL1), 0x34 },
};

/* Checks that userspace reads the baseline's values, and can set these or the host's. */
static bool has_identity(struct kvm_vcpu *vcpu, const u64 *own)
{
	bool ok = true;

	for (int i = 0; i < ARRAY_SIZE(identity); i++) {
		u64 id = identity[i].id;

		ok &= vcpu_get_reg(vcpu, id) == identity[i].value;
		/* As when a VM of a host without the baseline is restored */
		ok &= !__vcpu_set_reg(vcpu, id, own[i]) && vcpu_get_reg(vcpu, id) == own[i];
		ok &= !__vcpu_set_reg(vcpu, id, identity[i].value);
	}
	return ok;
}

/* Checks that the guest reads the baseline's values. */
static bool guest_has_identity(struct kvm_vcpu *vcpu)
{
	struct ucall uc;
	bool ok = true;

	for (int i = 0; i < ARRAY_SIZE(identity); i++) {
		vcpu_run(vcpu);
		TEST_ASSERT_EQ(get_ucall(vcpu, &uc), UCALL_SYNC);
		ok &= uc.args[1] == identity[i].value;
	}
	return ok;
}

/* The CPU is another one, for userspace and for the guest. */
static void test_identity(void)
{
	u64 own[ARRAY_SIZE(identity)];
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	bool ok;

	for (int i = 0; i < ARRAY_SIZE(identity); i++)
		own[i] = value_with("", identity[i].id);
	TEST_ASSERT_EQ(set_baseline("midr_el1=0x410fd490,revidr_el1=0x12,aidr_el1=0x34"), 0);
	vm = vm_create_with_one_vcpu(&vcpu, identity_guest);
	set_baseline("");

	ok = has_identity(vcpu, own);
	ksft_test_result(ok, "MIDR_EL1, REVIDR_EL1, AIDR_EL1: the baseline's, or the host's\n");
	ok &= guest_has_identity(vcpu);
	ksft_test_result(ok, "The guest reads them\n");
	ksft_test_result(__vcpu_set_reg(vcpu, identity[0].id, own[0]) == -1 && errno == EBUSY,
			 "A VM that has run keeps them\n");
	kvm_vm_free(vm);
	ksft_test_result(is_refused("midr_el1", 0x100000000, own[0]), "MIDR_EL1 has 32 bits\n");
}

/* Apple's memory model (AIDR_EL1[9]) stays hidden, whatever the text and userspace say. */
static void test_hidden_identity(void)
{
	u64 aidr = KVM_ARM64_SYS_REG(SYS_AIDR_EL1), midr, want, got;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	midr = value_with("", KVM_ARM64_SYS_REG(SYS_MIDR_EL1));
	want = midr >> 24 == 0x61 ? 1 : 0x201;
	TEST_ASSERT_EQ(set_baseline("aidr_el1=0x201"), 0);
	vm = create_vm(&vcpu);
	set_baseline("");
	got = vcpu_get_reg(vcpu, aidr);
	ksft_test_result(got == want && !__vcpu_set_reg(vcpu, aidr, 0x201) &&
			 vcpu_get_reg(vcpu, aidr) == want,
			 "AIDR_EL1 has nothing that is hidden: 0x%lx\n", got);
	kvm_vm_free(vm);
}

static const struct reg ctr = REG(CTR_EL0);

/* Checks CCSIDR_EL1 with @text, which has lines of 16 bytes, and with lines of 4 bytes. */
static void test_line_size(const char *text)
{
	u32 ccsidr;
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U32 | KVM_REG_ARM_DEMUX |
		      KVM_REG_ARM_DEMUX_ID_CCSIDR,
		.addr = (u64)&ccsidr,
	};
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	TEST_ASSERT_EQ(set_baseline(text), 0);
	vm = create_vm(&vcpu);
	set_baseline("");
	vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	ksft_test_result((ccsidr & 7) == 0, "CCSIDR_EL1 0x%x: lines of 16 bytes\n", ccsidr);
	ksft_test_result(!__vcpu_ioctl(vcpu, KVM_SET_ONE_REG, &reg), "It can be restored\n");
	kvm_vm_free(vm);

	TEST_ASSERT_EQ(set_bits(&ctr, 0, CTR_EL0_DminLine_MASK), 0);
	vm = create_vm(&vcpu);
	set_baseline("");
	vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	ksft_test_result((ccsidr & 7) == 0, "CCSIDR_EL1 0x%x: it has no shorter ones\n", ccsidr);
	kvm_vm_free(vm);
}

/* Caches are described as by the baseline's CTR_EL0: CCSIDR_EL1.LineSize is log2(bytes) - 4. */
static void test_caches(void)
{
	u64 clidr, own = value_in_new_vm(&ctr);
	char text[80];

	spell(text, &ctr, 2ul << CTR_EL0_DminLine_SHIFT,
	      CTR_EL0_DminLine_MASK | CTR_EL0_IDC_MASK | CTR_EL0_DIC_MASK);
	clidr = value_with(text, KVM_ARM64_SYS_REG(SYS_CLIDR_EL1));
	/* Both are needed: a data and an instruction cache, and cleaning to the PoU */
	ksft_test_result((clidr & 7) == 3 && (clidr >> 21 & 7) && (clidr >> 27 & 7),
			 "CLIDR_EL1 0x%lx, of a CTR_EL0 0x%lx without IDC and DIC\n", clidr, own);
	test_line_size(text);
}

static bool is_aa32(const struct reg *reg)
{
	return reg->name[0] == 'M' || strncmp(reg->name, "ID_AA64", 7) ?
	       reg->id != KVM_ARM64_SYS_REG(SYS_CTR_EL0) : false;
}

/* Checks that a register is 0, and that what userspace writes is ignored. */
static bool is_zero(struct kvm_vcpu *vcpu, const struct reg *reg, u64 writable)
{
	bool ok = !vcpu_get_reg(vcpu, reg->id) && !writable;

	/* Registers that every VM reads as 0 refuse it */
	if (reg->id != KVM_ARM64_SYS_REG(SYS_ID_AFR0_EL1) &&
	    reg->id != KVM_ARM64_SYS_REG(SYS_ID_DFR1_EL1))
		ok &= !__vcpu_set_reg(vcpu, reg->id, 0x11111111);
	ok &= !vcpu_get_reg(vcpu, reg->id);
	return ok;
}

/* Checks that all ID registers of AArch32 are 0. */
static bool has_no_aa32(struct kvm_vcpu *vcpu)
{
	u64 masks[KVM_ARM_FEATURE_ID_RANGE_SIZE];
	struct reg_mask_range range = { .addr = (u64)masks };

	vm_ioctl(vcpu->vm, KVM_ARM_GET_REG_WRITABLE_MASKS, &range);
	for (int i = 0; i < ARRAY_SIZE(regs); i++) {
		int index = KVM_ARM_FEATURE_ID_RANGE_IDX(3, 0, 0, regs[i].id >> 3 & 15,
							 regs[i].id & 7);

		if (is_aa32(&regs[i]) && !is_zero(vcpu, &regs[i], masks[index])) {
			ksft_print_msg("%s\n", regs[i].name);
			return false;
		}
	}
	return true;
}

static const struct reg pfr0 = REG(ID_AA64PFR0_EL1);

static void test_aarch32_el0(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu);

	ksft_test_result(has_no_aa32(vcpu), "EL0 without AArch32: its ID registers are 0\n");
	ksft_test_result(__vcpu_set_reg(vcpu, pfr0.id,
					vcpu_get_reg(vcpu, pfr0.id) | BIT(1)) == -1 &&
			 errno == EINVAL, "EL0 cannot be given AArch32\n");
	if (kvm_has_cap(KVM_CAP_ARM_PMU_V3))
		ksft_test_result(vcpu_get_reg(vcpu, KVM_ARM64_SYS_REG(SYS_PMCR_EL0)) & BIT(6),
				 "PMCR_EL0.LC is RES1\n");
	else
		ksft_test_result_skip("PMCR_EL0.LC: the host has none\n");
	kvm_vm_free(vm);
}

static void test_aarch32_el1(bool had)
{
	struct kvm_vcpu_init init = {
		.target = KVM_ARM_TARGET_GENERIC_V8,
		.features[0] = BIT(KVM_ARM_VCPU_EL1_32BIT),
	};
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu = __vm_vcpu_add(vm, 0);

	if (had)
		ksft_test_result(!kvm_check_cap(KVM_CAP_ARM_EL1_32BIT) &&
				 __vcpu_ioctl(vcpu, KVM_ARM_VCPU_INIT, &init) == -1 &&
				 errno == EINVAL, "There is no AArch32 at EL1\n");
	else
		ksft_test_result_skip("AArch32 at EL1: the host has none\n");
	kvm_vm_free(vm);
}

/* A baseline without AArch32 may have the host's own values of the AArch32 ID registers. */
static void test_aarch32_own(void)
{
	static const struct reg dfr0 = REG(ID_DFR0_EL1);
	u64 own = value_in_new_vm(&dfr0);
	char text[256];

	spell(text, &dfr0, own, ~0UL);
	strcat(text, ",id_aa64pfr0_el1=0x1/0xf");
	ksft_test_result(!set_baseline(text), "EL0 without AArch32: the text has %s\n", text);
	set_baseline("");
}

static void test_aarch32(void)
{
	bool el1 = kvm_check_cap(KVM_CAP_ARM_EL1_32BIT);

	test_aarch32_own();
	if (FIELD_GET(ID_AA64PFR0_EL1_EL0_MASK, value_in_new_vm(&pfr0)) < 2) {
		for (int i = 0; i < 4; i++)
			ksft_test_result_skip("AArch32: the host has none\n");
		return;
	}
	TEST_ASSERT_EQ(set_bits(&pfr0, 1, ID_AA64PFR0_EL1_EL0_MASK), 0);
	test_aarch32_el0();
	test_aarch32_el1(el1);
	set_baseline("");
}

static void test_counters(void)
{
	u64 id = KVM_ARM64_SYS_REG(SYS_PMCR_EL0);
	u64 own = kvm_has_cap(KVM_CAP_ARM_PMU_V3) ? value_with("", id) >> 11 & 31 : 0;
	char text[32];

	if (!own) {
		ksft_test_result(is_refused("pmcr_el0.n", 1, 0), "pmcr_el0.n: there is no PMU\n");
		return;
	}
	sprintf(text, "pmcr_el0.n=%lu", own - 1);
	ksft_test_result((value_with(text, id) >> 11 & 31) == own - 1 &&
			 is_refused("pmcr_el0.n", own + 1, own),
			 "pmcr_el0.n: fewer than %lu counters\n", own);
}

static void test_vectors(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 lengths[KVM_ARM64_SVE_VLS_WORDS], longest = 0;
	struct kvm_one_reg reg = { KVM_REG_ARM64_SVE_VLS, (u64)lengths };

	if (!kvm_has_cap(KVM_CAP_ARM_SVE)) {
		ksft_test_result(is_refused("sve", 128, 0), "sve: there is none\n");
		return;
	}
	vm = create_vm(&vcpu);
	vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	for (int i = 0; i < 16; i++)
		if (lengths[0] & BIT(i))
			longest = 128 * (i + 1);
	kvm_vm_free(vm);

	TEST_ASSERT_EQ(set_baseline("sve=128"), 0);
	vm = create_vm(&vcpu);
	set_baseline("");
	vcpu_ioctl(vcpu, KVM_GET_ONE_REG, &reg);
	ksft_test_result(lengths[0] == 1 && is_refused("sve", longest + 128, longest) &&
			 is_refused("sve", 100, longest) && is_refused("sve", 0, longest) &&
			 set_baseline("sve=128,sve=off") == EINVAL &&
			 set_baseline("sve=off,sve=128") == EINVAL,
			 "sve: only the shortest vector, of up to %lu bits\n", longest);
	kvm_vm_free(vm);
}

/* Checks that a baseline cannot change CNTFRQ_EL0 and DCZID_EL0. */
static void test_assertions(void)
{
	u64 frequency = read_sysreg(cntfrq_el0), zero = read_sysreg(dczid_el0);
	char text[64];

	sprintf(text, "cntfrq_el0=%lu,dczid_el0=%lu", frequency, zero);
	ksft_test_result(!set_baseline(text) &&
			 is_refused("cntfrq_el0", frequency + 1, frequency) &&
			 is_refused("dczid_el0", zero ^ 1, zero),
			 "cntfrq_el0 and dczid_el0: only the host's\n");
	set_baseline("");
}

/* A baseline can lower EVT, FWB and IDS of VMs without EL2. */
static void test_mmfr2(void)
{
	static const struct reg mmfr2 = REG(ID_AA64MMFR2_EL1);
	u64 mask = ID_AA64MMFR2_EL1_EVT_MASK | ID_AA64MMFR2_EL1_FWB_MASK |
		   ID_AA64MMFR2_EL1_IDS_MASK;
	char text[80];

	if (!(value_in_new_vm(&mmfr2) & mask)) {
		ksft_test_result_skip("EVT, FWB and IDS: the host has none\n");
		return;
	}
	spell(text, &mmfr2, 0, mask);
	ksft_test_result(!(value_with(text, mmfr2.id) & mask), "EVT, FWB and IDS of 0x%lx\n",
			 value_in_new_vm(&mmfr2));
}

/* A baseline of the host's own values does not change a VM with EL2. */
static void test_el2(void)
{
	u64 own[ARRAY_SIZE(regs)], before[ARRAY_SIZE(regs)], after[ARRAY_SIZE(regs)];
	static char text[LONGEST + 2];
	bool ok = true;

	if (!kvm_check_cap(KVM_CAP_ARM_EL2)) {
		ksft_test_result_skip("EL2: the host has none\n");
		return;
	}
	read_all(own, false);
	read_all(before, true);
	for (int i = 0; i < ARRAY_SIZE(regs); i++) {
		spell(text + strlen(text), &regs[i], own[i], -1UL);
		strcat(text, ",");
	}
	text[strlen(text) - 1] = '\0';
	TEST_ASSERT_EQ(set_baseline(text), 0);
	read_all(after, true);
	for (int i = 0; i < ARRAY_SIZE(regs); i++) {
		if (after[i] == before[i])
			continue;
		ksft_print_msg("%s: 0x%lx, and with the baseline 0x%lx\n", regs[i].name,
			       before[i], after[i]);
		ok = false;
	}
	ksft_test_result(ok, "EL2: the host's own values change nothing\n");
	set_baseline("");
}

/* Gets all registers of a protected VM that is created now. Returns false if the host has none. */
static bool read_protected(u64 *values)
{
	struct kvm_vcpu_init init = { .target = KVM_ARM_TARGET_GENERIC_V8 };
	int kvm = open_kvm_dev_path_or_exit();
	int vm = ioctl(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_PROTECTED), vcpu;

	close(kvm);
	if (vm < 0)
		return false;

	init.features[0] = BIT(KVM_ARM_VCPU_PSCI_0_2);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	TEST_ASSERT(vcpu >= 0 && !ioctl(vcpu, KVM_ARM_VCPU_INIT, &init), "protected: errno %d",
		    errno);
	for (int i = 0; i < ARRAY_SIZE(regs); i++) {
		struct kvm_one_reg reg = { .id = regs[i].id, .addr = (u64)&values[i] };

		TEST_ASSERT(!ioctl(vcpu, KVM_GET_ONE_REG, &reg), "%s of a protected VM: errno %d",
			    regs[i].name, errno);
	}
	close(vcpu);
	close(vm);
	return true;
}

/* Checks that VMs of a hypervisor that does not trust this kernel have no baseline. */
static void test_protected(void)
{
	u64 before[ARRAY_SIZE(regs)], after[ARRAY_SIZE(regs)];
	u64 own = value_in_new_vm(&isar0);

	if (!read_protected(before)) {
		ksft_test_result_skip("Protected VMs: the host has none\n");
		return;
	}
	TEST_ASSERT_EQ(set_bits(&isar0, 0, atomic_mask), 0);
	read_protected(after);
	ksft_test_result(!memcmp(before, after, sizeof(before)) &&
			 value_in_new_vm(&isar0) == (own & ~atomic_mask),
			 "Protected VMs: nothing is lowered\n");
	set_baseline("");
}

static void join(char *text, const char * const *words, int count)
{
	*text = '\0';
	for (int i = 0; i < count; i++) {
		if (i)
			strcat(text, ",");
		strcat(text, words[i]);
	}
}

/* The order and the radix of all that a text can have. */
static void test_canonical(void)
{
	static const char * const words[] = {
		"sve=off", "ptrauth=off", "pmu=off", "el2=off", "aidr_el1=10", "revidr_el1=9",
		"midr_el1=8", "vendor_hyp_bmap2=0", "vendor_hyp_bmap=1", "std_hyp_bmap=0",
		"std_bmap=0", "smccc_wa3=0", "smccc_wa2=0", "smccc_wa1=0", "psci=65536",
		"id_aa64isar0_el1=0/0xf00000",
	};
	static const char * const expected[] = {
		"id_aa64isar0_el1=0x0/0xf00000", "psci=0x10000", "smccc_wa1=0x0", "smccc_wa2=0x0",
		"smccc_wa3=0x0", "std_bmap=0x0", "std_hyp_bmap=0x0", "vendor_hyp_bmap=0x1",
		"vendor_hyp_bmap2=0x0", "midr_el1=0x8", "revidr_el1=0x9", "aidr_el1=0xa",
		"el2=off", "pmu=off", "ptrauth=off", "sve=off",
	};
	char text[LONGEST + 2], want[LONGEST + 2];
	char got[LONGEST + 2];

	join(text, words, ARRAY_SIZE(words));
	join(want, expected, ARRAY_SIZE(expected));
	TEST_ASSERT_EQ(set_baseline(text), 0);
	read_parameter("baseline", got, sizeof(got));
	ksft_test_result(!strcmp(got, want), "All words, in canonical order: %s\n", got);
	set_baseline("");
}

/* What VMs get by one of the baselines that change: two ID registers, and a number. */
struct some {
	u64 isar0, isar1, psci;
};

/* The baselines: some lowered, the host's own values, and none. */
static char texts[3][128];
static bool stop;
static int changed;

static void *change_baselines(void *unused)
{
	while (!READ_ONCE(stop)) {
		TEST_ASSERT_EQ(set_baseline(texts[changed % ARRAY_SIZE(texts)]), 0);
		WRITE_ONCE(changed, changed + 1);
	}
	return NULL;
}

static void spell_some(char *text, struct some value)
{
	spell(text, &isar0, value.isar0, atomic_mask);
	strcat(text, ",");
	spell(text + strlen(text), &isar1, value.isar1, dpb_mask);
	sprintf(text + strlen(text), ",psci=0x%lx", value.psci);
}

/* Returns what a VM has that is created now. */
static struct some read_some(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm = create_vm(&vcpu);
	struct some value = {
		.isar0 = vcpu_get_reg(vcpu, isar0.id) & atomic_mask,
		.isar1 = vcpu_get_reg(vcpu, isar1.id) & dpb_mask,
		.psci = vcpu_get_reg(vcpu, KVM_REG_ARM_PSCI_VERSION),
	};

	kvm_vm_free(vm);
	return value;
}

static bool is_same(struct some a, struct some b)
{
	return a.isar0 == b.isar0 && a.isar1 == b.isar1 && a.psci == b.psci;
}

/* Baselines change while VMs are created: a VM has one of them, whole, or none. */
static void test_changes(void)
{
	struct some own = read_some(), lowered = { .psci = 0x10000 };
	int low = 0, high = 0, mixed = 0;
	pthread_t thread;

	if (!own.isar0 || !own.isar1) {
		ksft_test_result_skip("changes: the host has none of the fields\n");
		return;
	}
	spell_some(texts[0], lowered);
	spell_some(texts[1], own);

	TEST_ASSERT(!pthread_create(&thread, NULL, change_baselines, NULL), "No thread");
	while (READ_ONCE(changed) < changes || !low || !high) {
		struct some got = read_some();

		low += is_same(got, lowered);
		high += is_same(got, own);
		mixed += !is_same(got, lowered) && !is_same(got, own);
	}
	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
	ksft_test_result(!mixed, "%d changes: %d VMs are lowered, %d as the host, %d mixed\n",
			 changed, low, high, mixed);
	set_baseline("");
}

static void test_all(void)
{
	test_registers();
	test_refusals();
	test_text();
	test_existing_vms();
	test_statistics();
	test_guest();
	test_all_or_nothing();
	test_features();
	test_workarounds();
	test_firmware();
	test_identity();
	test_hidden_identity();
	test_caches();
	test_aarch32();
	test_counters();
	test_vectors();
	test_assertions();
	test_mmfr2();
	test_el2();
	test_protected();
	test_canonical();
	test_changes();
}

int main(int argc, char **argv)
{
	char before[LONGEST + 2];
	int opt;

	while ((opt = getopt(argc, argv, "n:p")) != -1) {
		if (opt == 'n')
			changes = atoi_positive("changes", optarg);
		else if (opt == 'p')
			only_protected = true;
		else
			return KSFT_FAIL;
	}
	TEST_REQUIRE(!access(PARAMETERS "baseline", W_OK));

	ksft_print_header();
	ksft_set_plan(only_protected ? 1 : ARRAY_SIZE(regs) + 1 + ARRAY_SIZE(refusals) + 4 + 4 +
		      3 + 2 + 1 + ARRAY_SIZE(features) + 6 + 5 + 5 + 4 + 5 + 1 + 1 + 1 + 1 + 1 +
		      1 + 1 + 1);
	read_parameter("baseline", before, sizeof(before));
	set_baseline("");
	if (only_protected)
		test_protected();
	else
		test_all();
	set_baseline(before);
	ksft_finished();
}

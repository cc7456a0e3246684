// SPDX-License-Identifier: GPL-2.0

//! Features of the CPUs of this machine.
//!
//! CPUs may differ. The kernel records the ID registers of each CPU when it boots ([`recorded`]),
//! combines them into a value that is safe for the system as a whole ([`sanitised`]), and derives
//! its capabilities from this value ([`system_has`]).
//!
//! C header: [`arch/arm64/include/asm/cpufeature.h`](srctree/arch/arm64/include/asm/cpufeature.h)

use super::sysreg::*;
use core::mem::offset_of;
use kernel::{
    bindings,
    cpu::{nr_cpu_ids, CpuId},
    cpumask::Cpumask,
    prelude::*,
    sync::barrier::{smp_mb, Read}, //
};

mod sealed {
    /// Restricts [`RecordedRegister`](super::RecordedRegister) and
    /// [`SanitisedRegister`](super::SanitisedRegister) to the rows of the table in this file.
    pub trait Sealed {}
}

/// A register that the kernel records for each CPU.
pub trait RecordedRegister: SystemRegister + sealed::Sealed {
    /// The row of this register in the table of ID registers.
    const ID: IdRegister;
}

/// A register that has a system-wide value, that is, a row in `arm64_ftr_regs[]`.
///
/// `read_sanitised_ftr_reg()` warns about any other register, so only registers with an existing
/// row may implement this trait. A KUnit test looks up each of them.
pub trait SanitisedRegister: RecordedRegister {}

/// Returns the value of `R` that is safe for all CPUs, with command line overrides applied.
///
/// The value covers the CPUs that have come up so far: a later CPU may still lower it. The result
/// of [`system_has`] is final once all CPUs that firmware describes are up.
///
/// Context: any.
///
/// # Examples
///
/// ```
/// use kernel::arm64::{
///     cpufeature,
///     sysreg::CTR_EL0, //
/// };
///
/// assert!(cpufeature::sanitised::<CTR_EL0>().icache_line_bytes() >= 4);
/// ```
pub fn sanitised<R: SanitisedRegister>() -> R {
    read_sanitised(R::ENCODING).into()
}

fn read_sanitised(register: Encoding) -> u64 {
    // SAFETY: Any number may be looked up, in a static table. A late CPU may change a value
    // there concurrently, with a single store.
    unsafe { bindings::read_sanitised_ftr_reg(register.as_u32()) }
}

/// Returns the value of `R` that `cpu` had when it came up, or [`None`] if it never did.
///
/// This is the hardware's value, without overrides, with three exceptions made by
/// `__cpuinfo_store_cpu()`: `CTR_EL0.IDC` is the effective value, `SMIDR_EL1.SMPS` is masked, and
/// GMID_EL1 is 0 if it must not be read. An AArch32 register is 0 if the CPU has no AArch32 at EL0,
/// and so is any register that the CPU or this kernel does not have.
///
/// Fails at build time without `CONFIG_ARM64_CPU_RECORDS`, which callers must select.
///
/// Context: any, after early boot.
pub fn recorded<R: RecordedRegister>(cpu: CpuId) -> Option<R> {
    const_assert!(
        cfg!(CONFIG_ARM64_CPU_RECORDS),
        "select ARM64_CPU_RECORDS where this is used"
    );

    R::ID.record_of(cpu).map(R::from)
}

/// Returns the CPUs that may ever come up.
fn possible() -> &'static Cpumask {
    // SAFETY: The mask of possible CPUs is valid, and does not change after early boot.
    unsafe { Cpumask::from_raw(&raw const bindings::__cpu_possible_mask) }
}

/// Returns the CPUs that may ever come up, in order.
///
/// Context: any, after early boot.
pub fn possible_cpus() -> impl Iterator<Item = CpuId> {
    (0..nr_cpu_ids())
        .filter_map(CpuId::from_u32)
        .filter(|cpu| possible().test(*cpu))
}

/// Returns whether `f` holds for any CPU that may ever come up. The features of a CPU that has not
/// come up yet are unknown: [`recorded`] returns [`None`] for it.
///
/// Context: any, after early boot.
pub fn any_possible_cpu(f: impl Fn(CpuId) -> bool) -> bool {
    possible_cpus().any(f)
}

/// The byte offset and type of a register in `struct cpuinfo_arm64`.
#[derive(Clone, Copy)]
enum Slot {
    /// A `u64`.
    Aarch64(usize),
    /// A `u32`.
    Aarch32(usize),
}

/// An ID register that the kernel records for each CPU, for code that handles registers as data.
///
/// # Invariants
///
/// `slot` is the offset and type of a field of `struct cpuinfo_arm64`.
#[derive(Clone, Copy)]
pub struct IdRegister {
    name: &'static str,
    fields: &'static [Field],
    slot: Slot,
    sanitised: Option<Encoding>,
}

impl IdRegister {
    /// Returns the architecture's name of this register.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the fields of this register; none if `arch/arm64/tools/sysreg` does not describe it.
    pub fn fields(&self) -> &'static [Field] {
        self.fields
    }

    /// Does the same as [`recorded`](fn@recorded), for this register.
    #[cfg(CONFIG_ARM64_CPU_RECORDS)]
    pub fn recorded(&self, cpu: CpuId) -> Option<u64> {
        self.record_of(cpu)
    }

    fn record_of(&self, cpu: CpuId) -> Option<u64> {
        if !has_record(cpu) {
            return None;
        }
        // SAFETY: `cpu` has a record, and by the invariant of this type `slot` is a field of it.
        Some(unsafe { read_record(cpu, self.slot) })
    }

    /// Does the same as [`sanitised`](fn@sanitised), for this register; returns [`None`] if there
    /// is no such value.
    pub fn sanitised(&self) -> Option<u64> {
        self.sanitised.map(read_sanitised)
    }
}

/// Returns whether `cpu` has ever come up, so that its record can be read.
///
/// The mask is not exported, so this function must not be inlined into a module.
#[inline(never)]
fn has_record(cpu: CpuId) -> bool {
    // SAFETY: The mask is valid. CPUs are added to it concurrently, by atomic operations, and never
    // removed.
    let booted_once = unsafe { Cpumask::from_raw(&raw const bindings::cpus_booted_once_mask) };

    // A CPU is added in `notify_cpu_starting()`, after `cpuinfo_store_cpu()`; this barrier pairs
    // with that of `cpuinfo_store_cpu()`.
    let has = booted_once.test(cpu);
    smp_mb(Read);
    has
}

/// Reads `slot` of the record of `cpu`.
///
/// `cpu_data` is not exported, so this function must not be inlined into a module.
///
/// # Safety
///
/// [`has_record`] has returned true for `cpu`, and `slot` is the offset and type of a field of
/// `struct cpuinfo_arm64`.
#[inline(never)]
unsafe fn read_record(cpu: CpuId, slot: Slot) -> u64 {
    // SAFETY: `cpu` has come up, so it is a possible CPU.
    let record = unsafe { bindings::cpuinfo_of(cpu.as_u32()) };
    // SAFETY: This is the record of a CPU that has come up, and by the caller's contract `slot` is
    // a field of it. A CPU that comes up again may write the record concurrently, in single-copy
    // atomic accesses, with the same value each time.
    unsafe {
        match slot {
            Slot::Aarch64(offset) => record.byte_add(offset).cast::<u64>().read_volatile(),
            Slot::Aarch32(offset) => record.byte_add(offset).cast::<u32>().read_volatile().into(),
        }
    }
}

/// Fails at build time if `struct cpuinfo_arm64` has a register that is not among `slots`, which
/// are distinct.
const fn assert_no_gap(slots: &[Slot]) {
    // Only MPAMIDR_EL1 is not a row.
    let mut aarch64 = size_of::<u64>();
    let mut aarch32 = 0;
    let mut row = 0;

    while row < slots.len() {
        match slots[row] {
            Slot::Aarch64(_) => aarch64 += size_of::<u64>(),
            Slot::Aarch32(_) => aarch32 += size_of::<u32>(),
        }
        row += 1;
    }
    let size = size_of::<bindings::kobject>() + aarch64 + aarch32;
    let size = size.next_multiple_of(align_of::<bindings::cpuinfo_arm64>());
    assert!(size == size_of::<bindings::cpuinfo_arm64>());
}

/// Defines the table of ID registers, and implements the traits of each row.
macro_rules! id_registers {
    ($($kind:ident $register:ident = $width:ident($field:ident);)*) => {
        /// Every ID register that the kernel records for each CPU, except MPAMIDR_EL1, which the
        /// record of the boot CPU contains only after that CPU has been offline.
        ///
        /// This is not a static, so that only its users pay for the 90 KiB with all field names.
        pub const ID_REGISTERS: &[IdRegister] = {
            assert_no_gap(&[$(id_registers!(@slot $width $field),)*]);
            &[$(id_registers!(@row $kind $register $width($field)),)*]
        };

        $(id_registers!(@impl $kind $register $width($field));)*
    };

    (@impl untyped $($row:tt)*) => {};
    (@impl untyped_sanitised $($row:tt)*) => {};
    (@impl recorded $register:ident $($row:tt)*) => {
        impl sealed::Sealed for $register {}
        impl RecordedRegister for $register {
            const ID: IdRegister = id_registers!(@row recorded $register $($row)*);
        }
    };
    (@impl sanitised $register:ident $($row:tt)*) => {
        impl sealed::Sealed for $register {}
        impl RecordedRegister for $register {
            const ID: IdRegister = id_registers!(@row sanitised $register $($row)*);
        }
        impl SanitisedRegister for $register {}
    };

    // INVARIANT: `@slot` takes the offset of a field, whose type it checks.
    (@row untyped $register:ident $width:ident($field:ident)) => {
        IdRegister {
            name: stringify!($register),
            fields: &[],
            slot: id_registers!(@slot $width $field),
            sanitised: None,
        }
    };
    (@row untyped_sanitised $register:ident $width:ident($field:ident)) => {
        ::kernel::macros::paste!(IdRegister {
            name: stringify!($register),
            fields: &[],
            slot: id_registers!(@slot $width $field),
            sanitised: Some(Encoding::of_c(bindings::[<SYS_ $register>])),
        })
    };
    (@row recorded $register:ident $width:ident($field:ident)) => {
        IdRegister {
            name: $register::NAME,
            fields: $register::FIELDS,
            slot: id_registers!(@slot $width $field),
            sanitised: None,
        }
    };
    (@row sanitised $register:ident $width:ident($field:ident)) => {
        IdRegister {
            name: $register::NAME,
            fields: $register::FIELDS,
            slot: id_registers!(@slot $width $field),
            sanitised: Some($register::ENCODING),
        }
    };

    (@slot Aarch64 $field:ident) => {{
        const _: fn(&bindings::cpuinfo_arm64) -> &u64 = |info| &info.$field;
        Slot::Aarch64(offset_of!(bindings::cpuinfo_arm64, $field))
    }};
    (@slot Aarch32 $field:ident) => {{
        const _: fn(&bindings::cpuinfo_32bit) -> &u32 = |info| &info.$field;
        Slot::Aarch32(
            offset_of!(bindings::cpuinfo_arm64, aarch32)
                + offset_of!(bindings::cpuinfo_32bit, $field),
        )
    }};
}

// In the order of `struct cpuinfo_arm64`. `sanitised` rows are in `arm64_ftr_regs[]`; `recorded`
// rows are not; `untyped` rows are not in `arch/arm64/tools/sysreg`.
id_registers! {
    sanitised CTR_EL0 = Aarch64(reg_ctr);
    untyped_sanitised CNTFRQ_EL0 = Aarch64(reg_cntfrq);
    sanitised DCZID_EL0 = Aarch64(reg_dczid);
    untyped   MIDR_EL1 = Aarch64(reg_midr);
    untyped   REVIDR_EL1 = Aarch64(reg_revidr);
    untyped   AIDR_EL1 = Aarch64(reg_aidr);
    sanitised GMID_EL1 = Aarch64(reg_gmid);
    recorded  SMIDR_EL1 = Aarch64(reg_smidr);

    sanitised ID_AA64DFR0_EL1 = Aarch64(reg_id_aa64dfr0);
    sanitised ID_AA64DFR1_EL1 = Aarch64(reg_id_aa64dfr1);
    sanitised ID_AA64ISAR0_EL1 = Aarch64(reg_id_aa64isar0);
    sanitised ID_AA64ISAR1_EL1 = Aarch64(reg_id_aa64isar1);
    sanitised ID_AA64ISAR2_EL1 = Aarch64(reg_id_aa64isar2);
    sanitised ID_AA64ISAR3_EL1 = Aarch64(reg_id_aa64isar3);
    sanitised ID_AA64MMFR0_EL1 = Aarch64(reg_id_aa64mmfr0);
    sanitised ID_AA64MMFR1_EL1 = Aarch64(reg_id_aa64mmfr1);
    sanitised ID_AA64MMFR2_EL1 = Aarch64(reg_id_aa64mmfr2);
    sanitised ID_AA64MMFR3_EL1 = Aarch64(reg_id_aa64mmfr3);
    sanitised ID_AA64MMFR4_EL1 = Aarch64(reg_id_aa64mmfr4);
    sanitised ID_AA64PFR0_EL1 = Aarch64(reg_id_aa64pfr0);
    sanitised ID_AA64PFR1_EL1 = Aarch64(reg_id_aa64pfr1);
    sanitised ID_AA64PFR2_EL1 = Aarch64(reg_id_aa64pfr2);
    sanitised ID_AA64ZFR0_EL1 = Aarch64(reg_id_aa64zfr0);
    sanitised ID_AA64SMFR0_EL1 = Aarch64(reg_id_aa64smfr0);
    sanitised ID_AA64FPFR0_EL1 = Aarch64(reg_id_aa64fpfr0);

    sanitised ID_DFR0_EL1 = Aarch32(reg_id_dfr0);
    sanitised ID_DFR1_EL1 = Aarch32(reg_id_dfr1);
    sanitised ID_ISAR0_EL1 = Aarch32(reg_id_isar0);
    sanitised ID_ISAR1_EL1 = Aarch32(reg_id_isar1);
    sanitised ID_ISAR2_EL1 = Aarch32(reg_id_isar2);
    sanitised ID_ISAR3_EL1 = Aarch32(reg_id_isar3);
    sanitised ID_ISAR4_EL1 = Aarch32(reg_id_isar4);
    sanitised ID_ISAR5_EL1 = Aarch32(reg_id_isar5);
    sanitised ID_ISAR6_EL1 = Aarch32(reg_id_isar6);
    sanitised ID_MMFR0_EL1 = Aarch32(reg_id_mmfr0);
    sanitised ID_MMFR1_EL1 = Aarch32(reg_id_mmfr1);
    sanitised ID_MMFR2_EL1 = Aarch32(reg_id_mmfr2);
    sanitised ID_MMFR3_EL1 = Aarch32(reg_id_mmfr3);
    sanitised ID_MMFR4_EL1 = Aarch32(reg_id_mmfr4);
    sanitised ID_MMFR5_EL1 = Aarch32(reg_id_mmfr5);
    sanitised ID_PFR0_EL1 = Aarch32(reg_id_pfr0);
    sanitised ID_PFR1_EL1 = Aarch32(reg_id_pfr1);
    sanitised ID_PFR2_EL1 = Aarch32(reg_id_pfr2);
    sanitised MVFR0_EL1 = Aarch32(reg_mvfr0);
    sanitised MVFR1_EL1 = Aarch32(reg_mvfr1);
    sanitised MVFR2_EL1 = Aarch32(reg_mvfr2);
}

/// A capability of the system: a row of `arch/arm64/tools/cpucaps`.
///
/// [`cpucap!`](kernel::cpucap!) returns the capability with a given name.
///
/// # Invariants
///
/// The number is below `ARM64_NCAPS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap(u32);

impl Cap {
    /// Returns the capability with a number of `asm/cpucap-defs.h`. Fails at build time if there is
    /// no such capability.
    pub const fn new<const NUMBER: u32>() -> Self {
        const_assert!(NUMBER < bindings::ARM64_NCAPS);

        // INVARIANT: Asserted above.
        Self(NUMBER)
    }
}

/// Returns the [`Cap`](kernel::arm64::cpufeature::Cap) that is `ARM64_<name>` in C.
///
/// # Examples
///
/// ```
/// use kernel::{
///     arm64::cpufeature::system_has,
///     cpucap, //
/// };
///
/// // All of the capabilities are known by the time that a test runs.
/// assert!(system_has(cpucap!(ALWAYS_SYSTEM)));
/// ```
#[macro_export]
macro_rules! cpucap {
    ($name:ident) => {
        ::kernel::macros::paste!(
            ::kernel::arm64::cpufeature::Cap::new::<{ ::kernel::bindings::[<ARM64_ $name>] }>()
        )
    };
}

/// Returns whether the system has `cap`, like `cpus_have_cap()` with a number that is not constant.
///
/// The answer is final once all CPUs that firmware describes are up
/// (`system_capabilities_finalized()`). Until then a capability may appear, or disappear when
/// a CPU without it comes up. The cost is a call, a load and a test. For the hottest paths, C has
/// alternatives, which are patched at boot.
///
/// Context: any.
pub fn system_has(cap: Cap) -> bool {
    // SAFETY: `cpus_have_cap()` accepts any number.
    unsafe { bindings::cpus_have_cap(cap.0) }
}

#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[kunit_tests(rust_kernel_arm64_cpufeature)]
mod tests {
    use super::*;

    use kernel::{
        arm64::sysreg::for_tests::*,
        cpu::nr_cpu_ids,
        fmt,
        interrupt::local_interrupt_disable, //
    };

    /// Logs the register for which a test fails, since KUnit's assertions take no message.
    fn same<T: PartialEq + fmt::Debug>(register: &str, left: T, right: T) -> bool {
        let same = left == right;
        if !same {
            pr_err!("{register}: {left:x?} is not {right:x?}\n");
        }
        same
    }

    fn cpus() -> impl Iterator<Item = CpuId> {
        (0..nr_cpu_ids()).filter_map(CpuId::from_u32)
    }

    /// `arm64_ftr_regs[]` has the encoding of each sanitised register, under the same name.
    #[test]
    fn sanitised_registers_are_those_of_c() {
        for register in ID_REGISTERS {
            let Some(encoding) = register.sanitised else {
                continue;
            };
            // SAFETY: Any number may be looked up, in a static table. A late CPU may change a value
            // there concurrently, with a single store.
            let row = unsafe { bindings::get_arm64_ftr_reg(encoding.as_u32()) };
            assert!(same(register.name, row.is_null(), false));
            // SAFETY: The rows are static, and their names are strings.
            let name = unsafe { CStr::from_char_ptr((*row).name) };
            let name = name.to_str().ok().and_then(|n| n.strip_prefix("SYS_"));
            assert!(same(register.name, name, Some(register.name)));
        }
    }

    /// Each bit of each register has exactly one description.
    #[test]
    fn layouts_are_complete() {
        fn check<R: Layout>() {
            let reserved = [R::RES0, R::RES1, R::UNKN, R::RAZ];
            let mut described = 0;
            for mask in Iterator::chain(R::FIELDS.iter().map(Field::mask), reserved) {
                assert!(same(R::NAME, described & mask, 0));
                described |= mask;
            }
            assert!(same(R::NAME, described, u64::MAX));
        }

        check::<CTR_EL0>();
        check::<CCSIDR_EL1>();
        check::<ID_AA64DFR0_EL1>();
        check::<ID_AA64FPFR0_EL1>();
        check::<ID_AA64ISAR0_EL1>();
        check::<ID_AA64PFR0_EL1>();
        check::<HCR_EL2>();
        check::<FEAT_GCIE_ICH_VMCR_EL2>();
    }

    /// The record of a register is its value, read by the encoding that C has for its name.
    #[test]
    fn recorded_is_what_the_cpu_has() {
        // The record must be that of the CPU that reads the register.
        let _guard = local_interrupt_disable();
        let cpu = CpuId::current();

        for register in ID_REGISTERS {
            let (Slot::Aarch64(_), Some(encoding)) = (register.slot, register.sanitised) else {
                continue;
            };
            // `__read_sysreg_by_encoding()` knows all of (3, 0, 0, x, x), and two others.
            let known = encoding.as_u32() >> 12 == 3 << 7 || encoding == DCZID_EL0::ENCODING;
            if !known {
                continue;
            }
            // SAFETY: The row exists, as tested above.
            let row = unsafe { &*bindings::get_arm64_ftr_reg(encoding.as_u32()) };
            // SAFETY: Every row has an override, which is all zeroes if there is none.
            let overridden = unsafe { (*row.override_).mask };
            // SAFETY: C knows the encoding, and no such register traps at EL1 or above.
            let read = unsafe { bindings::__read_sysreg_by_encoding(encoding.as_u32()) };
            let recorded = register.recorded(cpu).map(|value| value & !overridden);
            assert!(same(register.name, recorded, Some(read & !overridden)));
        }
    }

    #[test]
    fn sanitised_ctr_has_the_smallest_lines() {
        let records = || cpus().filter_map(recorded::<CTR_EL0>);
        let system = sanitised::<CTR_EL0>();

        let smallest = records().map(|ctr| ctr.into_raw() & 0xf).min();
        assert_eq!(smallest, Some(system.IminLine().get()));
        let smallest = records().map(|ctr| ctr.icache_line_bytes()).min();
        assert_eq!(smallest, Some(system.icache_line_bytes()));
        let smallest = records().map(|ctr| (ctr.into_raw() >> 16) & 0xf).min();
        assert_eq!(smallest, Some(system.DminLine().get()));
    }

    #[test]
    fn typed_reads_agree_with_the_table() {
        let Some(row) = ID_REGISTERS.iter().find(|r| r.name() == "ID_AA64PFR0_EL1") else {
            panic!("ID_AA64PFR0_EL1 is missing");
        };
        let system = sanitised::<ID_AA64PFR0_EL1>().into_raw();
        assert_eq!(row.sanitised(), Some(system));
        for cpu in cpus() {
            let recorded = recorded::<ID_AA64PFR0_EL1>(cpu).map(u64::from);
            assert_eq!(row.recorded(cpu), recorded);
        }
    }

    #[test]
    fn this_cpu_is_recorded() {
        // The task may migrate, but any CPU that it runs on has been up.
        assert!(recorded::<CTR_EL0>(CpuId::current()).is_some());
    }

    #[test]
    fn capabilities_follow_the_registers() {
        assert!(system_has(cpucap!(ALWAYS_BOOT)));
        assert!(system_has(cpucap!(ALWAYS_SYSTEM)));
        let dic = sanitised::<CTR_EL0>().DIC().into_bool();
        assert_eq!(system_has(cpucap!(HAS_CACHE_DIC)), dic);
        let sb = sanitised::<ID_AA64ISAR1_EL1>().SB() >= ID_AA64ISAR1_EL1_SB_IMP;
        assert_eq!(system_has(cpucap!(HAS_SB)), sb);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! System registers.
//!
//! Every register and field here is generated from `arch/arm64/tools/sysreg`, as the C macros in
//! `asm/sysreg-defs.h` are, by `arch/arm64/tools/gen_sysreg/gen_sysreg.rs`:
//!
//! - a [`bitfield!`](kernel::bitfield!) type for each register that has a user, such as
//!   [`CTR_EL0`]. It holds a value that was read or will be written; only
//!   [`access`](super::access) touches the register itself;
//! - each enumerator of a field, under its C name and with the type of the field, such as
//!   [`CTR_EL0_L1Ip_VIPT`].
//!
//! The same program generates the C macros as plain numbers, `sysreg-consts.rs`; tests compare
//! the types with these numbers.
//!
//! Methods that interpret a register are written by hand, in `impl` blocks on its type below.
//!
//! # Examples
//!
//! ```
//! use kernel::arm64::sysreg::*;
//!
//! let isar0 = ID_AA64ISAR0_EL1::zeroed().with_ATOMIC(ID_AA64ISAR0_EL1_ATOMIC_IMP);
//!
//! // ID fields are ordered: a higher value implements what the lower ones do.
//! assert!(isar0.ATOMIC() >= ID_AA64ISAR0_EL1_ATOMIC_IMP);
//! assert!(isar0.ATOMIC() < ID_AA64ISAR0_EL1_ATOMIC_FEAT_LSE128);
//! ```

use kernel::bindings;

// `bitfield!` does not document its per-field constants, and derives method and constant names from
// the field names, which have the architecture's case.
#[allow(missing_docs, non_snake_case, non_upper_case_globals)]
mod types {
    include!(concat!(
        env!("OBJTREE"),
        "/arch/arm64/include/generated/rust/sysreg-types.rs"
    ));

    // Any register of `arch/arm64/tools/sysreg` can be added. An unused type costs compile time, so
    // the list has only registers with a user. The enumerators of a register that shares its layout
    // come with the layout.
    sysreg_types! {
        ACTLR_EL1 ACTLR_EL12 AIDR_EL1 CurrentEL IMP_APL_ACTLR_EL12 MIDR_EL1 REVIDR_EL1
        CTR_EL0 DCZID_EL0 GMID_EL1 SMIDR_EL1
        DBGBCRn_EL1 DBGWCRn_EL1
        PMBIDR_EL1 PMBLIMITR_EL1 PMBPTR_EL1 PMBSR_EL1
        PMSCR_EL1 PMSCR_EL12 PMSCR_EL2 PMSEVFR_EL1 PMSFCR_EL1 PMSICR_EL1 PMSIDR_EL1 PMSIRR_EL1
        PMSLATFR_EL1 PMSNEVFR_EL1 MDCR_EL2 TCR_EL1
        ID_AA64DFR0_EL1 ID_AA64DFR1_EL1
        ID_AA64ISAR0_EL1 ID_AA64ISAR1_EL1 ID_AA64ISAR2_EL1 ID_AA64ISAR3_EL1
        ID_AA64MMFR0_EL1 ID_AA64MMFR1_EL1 ID_AA64MMFR2_EL1 ID_AA64MMFR3_EL1 ID_AA64MMFR4_EL1
        ID_AA64PFR0_EL1 ID_AA64PFR1_EL1 ID_AA64PFR2_EL1
        ID_AA64ZFR0_EL1 ID_AA64SMFR0_EL1 ID_AA64FPFR0_EL1
        ID_DFR0_EL1 ID_DFR1_EL1
        ID_ISAR0_EL1 ID_ISAR1_EL1 ID_ISAR2_EL1 ID_ISAR3_EL1 ID_ISAR4_EL1 ID_ISAR5_EL1 ID_ISAR6_EL1
        ID_MMFR0_EL1 ID_MMFR1_EL1 ID_MMFR2_EL1 ID_MMFR3_EL1 ID_MMFR4_EL1 ID_MMFR5_EL1
        ID_PFR0_EL1 ID_PFR1_EL1 ID_PFR2_EL1
        MVFR0_EL1 MVFR1_EL1 MVFR2_EL1
    }

    // Registers for tests only: layouts that are shared, or come with a feature. Hidden from other
    // configurations, so that no other code depends on them.
    #[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
    #[allow(dead_code, unreachable_pub)]
    pub(crate) mod for_tests {
        sysreg_types! { CCSIDR_EL1 CONTEXTIDR_EL1 TTBRx_EL1 TTBR0_EL1 HCR_EL2 ICH_VMCR_EL2 }
    }
}
#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
pub(super) use types::for_tests;
pub use types::*;

/// The macros of `asm/sysreg-defs.h`, with the same names and values.
#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[allow(dead_code, missing_docs, non_upper_case_globals, unreachable_pub)]
mod consts {
    include!(concat!(
        env!("OBJTREE"),
        "/arch/arm64/include/generated/rust/sysreg-consts.rs"
    ));
}

/// The operands of `MRS` and `MSR` that name a system register, as `sys_reg()` packs them in C.
///
/// # Invariants
///
/// Only bits 20:5 are set: this is where the operands are in the instruction (Arm ARM C6.2, `MRS`),
/// with `op0` in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Encoding(u32);

impl Encoding {
    /// Packs the five operands. Fails at build time if one is out of range.
    pub const fn new<
        const OP0: u32,
        const OP1: u32,
        const CRN: u32,
        const CRM: u32,
        const OP2: u32,
    >() -> Self {
        const {
            assert!(OP0 < 4 && OP1 < 8 && CRN < 16 && CRM < 16 && OP2 < 8);
        }

        // INVARIANT: Each operand fits between its shift and the next one, the first at bit 19.
        Self(
            (OP0 << bindings::Op0_shift)
                | (OP1 << bindings::Op1_shift)
                | (CRN << bindings::CRn_shift)
                | (CRM << bindings::CRm_shift)
                | (OP2 << bindings::Op2_shift),
        )
    }

    /// Creates the encoding from the value of a C macro `SYS_<register>`, for constants.
    pub(super) const fn of_c(macro_: u32) -> Self {
        assert!(macro_ & !0x1f_ffe0 == 0);

        // INVARIANT: Asserted above.
        Self(macro_)
    }

    /// Returns the value of the C macro `SYS_<register>`.
    pub const fn as_u32(self) -> u32 {
        self.0
    }
}

/// A field of a register, for code that handles fields as data.
///
/// # Invariants
///
/// `63 >= msb >= lsb`.
#[derive(Debug)]
pub struct Field {
    name: &'static str,
    msb: u32,
    lsb: u32,
    signed: Option<bool>,
    enumerators: &'static [(u64, &'static str)],
}

impl Field {
    /// Returns the architecture's name of this field.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the bits of this field in the register.
    pub const fn mask(&self) -> u64 {
        (u64::MAX >> (63 - self.msb)) & (u64::MAX << self.lsb)
    }

    /// Returns the value of this field in `raw`, not sign extended.
    pub const fn extract(&self, raw: u64) -> u64 {
        (raw & self.mask()) >> self.lsb
    }

    /// Returns the value of this field in `raw` as a number, sign extended if the field is signed
    /// or has 64 bits.
    pub const fn number(&self, raw: u64) -> i64 {
        let value = self.extract(raw);
        let above = 63 - (self.msb - self.lsb);
        match self.signed {
            Some(true) => ((value << above) as i64) >> above,
            _ => value as i64,
        }
    }

    /// Returns the name of `value`, a value that [`Field::extract`] returns.
    ///
    /// [`None`] if the field has no names for its values, or `value` is newer than this kernel.
    pub fn enumerator(&self, value: u64) -> Option<&'static str> {
        let mut enumerators = self.enumerators.iter();
        let (_, name) = enumerators.find(|(other, _)| *other == value)?;
        Some(name)
    }
}

/// 64 bits with named fields: a register, or a layout that several registers share.
pub trait Layout: Copy + From<u64> + Into<u64> {
    /// The name of the register or layout.
    const NAME: &'static str;

    /// The fields, from bit 63 down.
    const FIELDS: &'static [Field];

    /// Bits that read as 0, and must be written as 0, on the hardware that this kernel knows.
    const RES0: u64;

    /// Bits that read as 1, and must be written as 1, on the hardware that this kernel knows.
    const RES1: u64;

    /// Bits that read as an unknown value.
    const UNKN: u64;

    /// Bits that read as 0 and ignore writes.
    const RAZ: u64;
}

/// A system register.
pub trait SystemRegister: Layout {
    /// The operands that name this register.
    const ENCODING: Encoding;
}

/// Bytes in a word, the unit of the line sizes in CTR_EL0.
const WORD_BYTES: usize = 4;

impl CTR_EL0 {
    /// Returns the size in bytes of the smallest line of all instruction caches.
    ///
    /// IminLine is the binary logarithm of the number of words (Arm ARM D24.2, CTR_EL0).
    ///
    /// Always inline: the hypervisor's object uses this function, and cannot call this crate.
    #[inline(always)]
    pub fn icache_line_bytes(self) -> usize {
        WORD_BYTES << self.IminLine().get()
    }
}

impl ID_AA64DFR0_EL1 {
    /// Returns the count of breakpoints up to the last context-aware one.
    ///
    /// BRPs is the number of that breakpoint (Arm ARM D24.2, ID_AA64DFR0_EL1), which is the last
    /// breakpoint without FEAT_Debugv8p9. With FEAT_Debugv8p9, `ID_AA64DFR1_EL1` gives the count
    /// of all breakpoints.
    pub fn breakpoints(self) -> usize {
        1 + self.BRPs().get() as usize
    }

    /// Returns the count of watchpoints; with FEAT_Debugv8p9, 16 if there may be more.
    pub fn watchpoints(self) -> usize {
        1 + self.WRPs().get() as usize
    }

    /// Returns the count of context-aware breakpoints; these are the highest-numbered ones.
    pub fn context_aware_breakpoints(self) -> usize {
        1 + self.CTX_CMPs().get() as usize
    }
}

#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_arm64_sysreg)]
mod tests {
    use super::{for_tests::*, *};

    use kernel::{
        num::Bounded,
        prelude::*, //
    };

    #[test]
    fn raw_value_round_trips() {
        for raw in [0, u64::MAX, 0x5555_5555_5555_5555, 0x9444_c004] {
            assert_eq!(CTR_EL0::from_raw(raw).into_raw(), raw);
            assert_eq!(u64::from(ID_AA64ISAR0_EL1::from(raw)), raw);
        }
    }

    #[test]
    fn field_round_trips_and_leaves_the_rest() {
        let value = Bounded::<u64, 4>::new::<0xa>();
        for raw in [0, u64::MAX] {
            let ctr = CTR_EL0::from_raw(raw).with_DminLine(value);
            assert_eq!(ctr.DminLine(), value);
            let others = !consts::CTR_EL0_DminLine_MASK;
            assert_eq!(ctr.into_raw() & others, raw & others);
        }
        assert!(CTR_EL0::zeroed().try_with_DminLine(16u64).is_err());
    }

    #[test]
    fn types_agree_with_consts() {
        assert_eq!(CTR_EL0::ENCODING.as_u32(), consts::SYS_CTR_EL0);
        assert_eq!(CTR_EL0::IMINLINE_SHIFT, consts::CTR_EL0_IminLine_SHIFT);
        assert_eq!(CTR_EL0::IMINLINE_MASK, consts::CTR_EL0_IminLine_MASK);
        assert_eq!(CTR_EL0_L1Ip_PIPT, consts::CTR_EL0_L1Ip_PIPT);
        assert_eq!(CTR_EL0::RES0, consts::CTR_EL0_RES0);
        assert_eq!(CTR_EL0::RES1, consts::CTR_EL0_RES1);
        // A register that shares a layout has the fields of the layout.
        assert_eq!(TTBR0_EL1::ASID_MASK, consts::TTBRx_EL1_ASID_MASK);
        assert_eq!(TTBR0_EL1::FIELDS.len(), TTBRx_EL1::FIELDS.len());
    }

    #[test]
    fn encodings_agree_with_c() {
        use kernel::bindings::*;

        assert_eq!(
            CTR_EL0::ENCODING,
            Encoding::new::<
                SYS_CTR_EL0_Op0,
                SYS_CTR_EL0_Op1,
                SYS_CTR_EL0_CRn,
                SYS_CTR_EL0_CRm,
                SYS_CTR_EL0_Op2,
            >()
        );
        assert_eq!(
            HCR_EL2::ENCODING,
            Encoding::new::<
                SYS_HCR_EL2_Op0,
                SYS_HCR_EL2_Op1,
                SYS_HCR_EL2_CRn,
                SYS_HCR_EL2_CRm,
                SYS_HCR_EL2_Op2,
            >()
        );
    }

    #[test]
    fn reserved_bits() {
        assert_eq!(CTR_EL0::RES1, 1 << 31);
        assert_eq!(CTR_EL0::RES0 & (0b11 << 30), 1 << 30);
        // Setters preserve all reserved bits.
        let ctr = CTR_EL0::from_raw(0b11 << 30).with_DIC(true);
        assert_eq!(ctr.into_raw() & (0b11 << 30), 0b11 << 30);
    }

    #[test]
    fn signed_fields() {
        let not_implemented = ID_AA64PFR0_EL1::zeroed().with_FP(ID_AA64PFR0_EL1_FP_NI);
        assert_eq!(not_implemented.FP(), 0xf);
        assert_eq!(not_implemented.FP_signed(), -1);
        let fp16 = ID_AA64PFR0_EL1::zeroed().with_FP(ID_AA64PFR0_EL1_FP_FP16);
        assert_eq!(fp16.FP_signed(), 1);
    }

    #[test]
    fn fields_as_data() {
        let Some(field) = ID_AA64ISAR0_EL1::FIELDS
            .iter()
            .find(|f| f.name() == "ATOMIC")
        else {
            panic!("ID_AA64ISAR0_EL1.ATOMIC is missing");
        };
        assert_eq!(field.mask(), 0xf << 20);
        assert_eq!(field.extract((0b0010 << 20) | 1), 0b0010);
        assert_eq!(field.enumerator(0b0010), Some("IMP"));
        // The architecture reserves 1.
        assert_eq!(field.enumerator(0b0001), None);
        assert_eq!(field.number(0xf << 20), 15);
        let Some(field) = ID_AA64PFR0_EL1::FIELDS.iter().find(|f| f.name() == "FP") else {
            panic!("ID_AA64PFR0_EL1.FP is missing");
        };
        assert_eq!(field.number(field.mask()), -1);
    }

    #[test]
    fn prefixed_layout_is_a_type_of_its_own() {
        assert_eq!(FEAT_GCIE_ICH_VMCR_EL2::ENCODING, ICH_VMCR_EL2::ENCODING);
        assert_eq!(FEAT_GCIE_ICH_VMCR_EL2::VPMR_SHIFT, 27);
        assert_eq!(ICH_VMCR_EL2::VPMR_SHIFT, 24);
    }

    #[test]
    fn cache_lines() {
        assert_eq!(CTR_EL0::zeroed().icache_line_bytes(), 4);
        let ctr = CTR_EL0::zeroed().with_const_IminLine::<4>();
        assert_eq!(ctr.icache_line_bytes(), 64);
    }

    #[test]
    fn debug_register_counts() {
        let dfr0 = ID_AA64DFR0_EL1::zeroed()
            .with_const_BRPs::<5>()
            .with_const_CTX_CMPs::<1>()
            .with_const_WRPs::<15>();
        assert_eq!(dfr0.breakpoints(), 6);
        assert_eq!(dfr0.context_aware_breakpoints(), 2);
        assert_eq!(dfr0.watchpoints(), 16);
    }
}

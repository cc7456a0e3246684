// SPDX-License-Identifier: GPL-2.0

// System registers: their encodings and fields by name, and helpers that insert a value into a
// field and extract it. This is not a doc comment, since tools/oracle/payload.rs includes this file
// too, and `include!` does not permit inner attributes.

pub use described::*;
pub use undescribed::*;

/// Constants that gen-sysreg generates from the kernel's description: `SYS_<REGISTER>` is an
/// encoding, `<REGISTER>_<FIELD>` the mask of a field, `<REGISTER>_<FIELD>_<VALUE>` a value of it.
#[allow(dead_code, non_upper_case_globals)]
mod described {
    include!(env!("SYSREG_CONSTS"));
}

/// Constants that the description lacks, with the same kind of names, and the register in the Arm
/// ARM (DDI 0487) that defines them.
#[allow(dead_code, non_upper_case_globals)]
mod undescribed {
    use super::field;

    // DBGBVR<n>_EL1, DBGBCR<n>_EL1, DBGWVR<n>_EL1, DBGWCR<n>_EL1: op0 2, op1 0, CRn 0, CRm n.
    pub const DBGBVRn_EL1_Op2: u32 = 4;
    pub const DBGBCRn_EL1_Op2: u32 = 5;
    pub const DBGWVRn_EL1_Op2: u32 = 6;
    pub const DBGWCRn_EL1_Op2: u32 = 7;

    // DBGBCR<n>_EL1.PMC and DBGWCR<n>_EL1.PAC, with HMC and SSC zero: EL1 alone.
    pub const PMC_EL1: u64 = 0b01;
    pub const PAC_EL1: u64 = 0b01;
    /// DBGBCR<n>_EL1.BAS: an A64 instruction.
    pub const BAS_A64: u64 = 0b1111;
    // DBGWCR<n>_EL1: BAS, all of a doubleword; LSC; WT.
    pub const BAS_DOUBLEWORD: u64 = 0xff;
    pub const LSC_STORES: u64 = 0b10;
    pub const LSC_ALL: u64 = 0b11;

    // ESR_ELx: EC and its values; of the ISS of a trapped MSR or MRS, Direction: 1 for a read; of
    // that of a Watchpoint exception, WnR.
    pub const ESR_ELx_EC: u64 = 0x3f << 26;
    pub const EC_UNKNOWN: u64 = 0x00;
    pub const EC_SVC64: u64 = 0x15;
    pub const EC_HVC64: u64 = 0x16;
    pub const EC_SMC64: u64 = 0x17;
    pub const EC_SYS64: u64 = 0x18;
    pub const EC_BREAKPT_LOW: u64 = 0x30;
    pub const EC_BREAKPT_CUR: u64 = 0x31;
    pub const EC_WATCHPT_LOW: u64 = 0x34;
    pub const EC_WATCHPT_CUR: u64 = 0x35;
    pub const ESR_ELx_SYS64_ISS_DIR: u64 = 1 << 0;
    pub const ESR_ELx_WNR: u64 = 1 << 6;

    // SPSR_ELx: D, A, I, F, and M.
    pub const SPSR_ELx_D: u64 = 1 << 9;
    pub const SPSR_ELx_A: u64 = 1 << 8;
    pub const SPSR_ELx_I: u64 = 1 << 7;
    pub const SPSR_ELx_F: u64 = 1 << 6;
    pub const SPSR_ELx_M_EL0t: u64 = 0b0000;
    pub const SPSR_ELx_M_EL1h: u64 = 0b0101;
    pub const SPSR_ELx_M_EL2h: u64 = 0b1001;

    // SCR_EL3.
    pub const SCR_EL3_NS: u64 = 1 << 0;
    pub const SCR_EL3_HCE: u64 = 1 << 8;
    pub const SCR_EL3_RW: u64 = 1 << 10;
    pub const SCR_EL3_APK: u64 = 1 << 16;
    pub const SCR_EL3_API: u64 = 1 << 17;
    pub const SCR_EL3_FGTEn: u64 = 1 << 27;

    // MDCR_EL3.NSPB and MDCR_EL2.E2PB: the owner of the Profiling Buffer. Without traps, the value
    // of NSPB means Non-secure, and that of E2PB means EL1; E2PB zero means EL2.
    pub const MDCR_EL3_NSPB: u64 = 0b11 << 12;
    pub const NSPB_TRAPPED: u64 = 0b10;
    pub const NSPB_OWN: u64 = 0b11;
    pub const E2PB_TRAPPED: u64 = 0b10;
    pub const E2PB_OWN: u64 = 0b11;

    /// MDCR_EL3.EnPMSN: PMSNEVFR_EL1 is not trapped to EL3.
    pub const MDCR_EL3_EnPMSN: u64 = 1 << 36;
    /// VTTBR_EL2.VMID, of 8 bits.
    pub const VTTBR_EL2_VMID: u64 = 0xff << 48;
    // The operand of a TLBI instruction: ASID; of one for a range of addresses: TG, which is 1 for
    // 4 KiB.
    pub const TLBI_ASID: u64 = 0xffff << 48;
    pub const TLBI_RANGE_TG: u64 = 0b11 << 46;
    pub const TLBI_RANGE_TG_4K: u64 = 1;

    // SCTLR_EL3.M, TCR_EL3: T0SZ and the RES1 bits.
    pub const SCTLR_EL3_M: u64 = 1 << 0;
    pub const TCR_EL3_T0SZ: u64 = 0x3f;
    pub const TCR_EL3_RES1: u64 = 1 << 31 | 1 << 23;
    /// CPTR_EL2 with HCR_EL2.E2H 0: the RES1 bits without FEAT_SVE and FEAT_SME, and no trap.
    pub const CPTR_EL2_RES1: u64 = 0x33ff;
    /// CPACR_EL1.FPEN: nothing is trapped.
    pub const FPEN_NO_TRAP: u64 = 0b11;

    /// MAIR_ELx: Attr0 is Device-nGnRnE; Attr1 is Normal, Write-Back, and allocates.
    pub const MAIR_DEVICE_NORMAL: u64 = field(0xff << 8, 0xff);

    // PMBSR_EL1.MSS: BSC if EC is 0, FSC if EC is a Data Abort.
    pub const BSC_FULL: u64 = 0b000001;
    pub const FSC_TRANSLATION_L1: u64 = 0b000101;
    pub const FSC_TRANSLATION_L3: u64 = 0b000111;
    pub const FSC_ACCESS_L3: u64 = 0b001011;
    pub const FSC_PERMISSION_L1: u64 = 0b001101;
    pub const FSC_PERMISSION_L3: u64 = 0b001111;
    // PMSIDR_EL1.MaxSize: 64 bytes.
    pub const MAXSIZE_64: u64 = 0b0110;
}

/// Returns the encoding of a system register, as in the kernel's `asm/sysreg.h`.
pub const fn sys_reg(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> u32 {
    op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
}

/// Returns the encoding of the debug register with a number, in the family with an op2.
#[allow(dead_code)]
pub const fn debug_register(n: u32, op2: u32) -> u32 {
    sys_reg(2, 0, 0, n, op2)
}

/// Returns op0, op1, CRn, CRm and op2 of an encoding.
#[allow(dead_code)]
pub const fn operands(register: u32) -> [u32; 5] {
    [
        register >> 19 & 3,
        register >> 16 & 7,
        register >> 12 & 15,
        register >> 8 & 15,
        register >> 5 & 7,
    ]
}

/// Returns a register with `value` in the field of `mask`, and zeroes elsewhere.
pub const fn field(mask: u64, value: u64) -> u64 {
    assert!(value <= mask >> mask.trailing_zeros());
    value << mask.trailing_zeros()
}

/// Returns the value of the field of `mask`.
pub const fn field_of(register: u64, mask: u64) -> u64 {
    (register & mask) >> mask.trailing_zeros()
}

// SPDX-License-Identifier: GPL-2.0

//! Registers by the numbers that KVM_GET_ONE_REG has for them
//! (Documentation/virt/kvm/api.rst).

use std::mem::offset_of;

use kvm_bindings::{
    kvm_regs, KVM_REG_ARM64, KVM_REG_ARM64_SYSREG, KVM_REG_ARM64_SYSREG_CRM_SHIFT,
    KVM_REG_ARM_CORE, KVM_REG_SIZE_MASK, KVM_REG_SIZE_SHIFT, KVM_REG_SIZE_U64,
};

/// Encodings and fields of system registers, as gen-sysreg makes them of the kernel's description.
#[allow(dead_code, non_upper_case_globals)]
mod sysreg {
    include!(env!("SYSREG_CONSTS"));
}
use sysreg::{
    ID_AA64DFR0_EL1_BRPs, ID_AA64DFR0_EL1_BRPs_SHIFT, ID_AA64DFR0_EL1_CTX_CMPs,
    ID_AA64DFR0_EL1_CTX_CMPs_SHIFT, SYS_ID_AA64DFR0_EL1, SYS_MIDR_EL1,
};

const ARM64_U64: u64 = KVM_REG_ARM64 | KVM_REG_SIZE_U64;

/// The program counter: `regs.pc`, in units of 32 bits.
pub const PC: u64 =
    ARM64_U64 | KVM_REG_ARM_CORE as u64 | (offset_of!(kvm_regs, regs.pc) / size_of::<u32>()) as u64;

/// ID_AA64DFR0_EL1.
pub const ID_AA64DFR0_EL1: u64 = system(SYS_ID_AA64DFR0_EL1);

/// Returns the number of a system register. Its encoding has the operands of MRS in the order and
/// with the widths that KVM has them in, from op2 on, which is bit 5 of the instruction.
const fn system(encoding: u32) -> u64 {
    const OP2_SHIFT: u32 = 5;

    ARM64_U64 | KVM_REG_ARM64_SYSREG as u64 | (encoding >> OP2_SHIFT) as u64
}

/// Returns whether `id` is an ID register, which has to be restored before the others:
/// KVM decides by them what the others are. They are those from MIDR_EL1 on with a CRm below 8
/// (Arm ARM, "Instruction encodings for non-Debug System Register accesses").
pub const fn is_id(id: u64) -> bool {
    const OTHERS: u64 = (8 << KVM_REG_ARM64_SYSREG_CRM_SHIFT) - 1;

    id & !OTHERS == system(SYS_MIDR_EL1)
}

/// Returns the size of a register in bytes.
pub const fn size(id: u64) -> usize {
    1 << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT)
}

/// A register and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Its number.
    pub id: u64,
    /// Its value, little-endian, [`size`] bytes.
    pub value: Vec<u8>,
}

impl Register {
    /// Puts both together.
    pub fn new(id: u64, value: Vec<u8>) -> Self {
        Self { id, value }
    }

    /// Returns the value of a register of up to 64 bits.
    pub fn as_u64(&self) -> u64 {
        self.value
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// Returns ID_AA64DFR0_EL1 with BRPs and CTX_CMPs for that many.
pub const fn with_breakpoints(dfr0: u64, breakpoints: u64, context_aware: u64) -> u64 {
    let brps = (breakpoints - 1) << ID_AA64DFR0_EL1_BRPs_SHIFT & ID_AA64DFR0_EL1_BRPs;
    let ctx_cmps = (context_aware - 1) << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT & ID_AA64DFR0_EL1_CTX_CMPs;

    dfr0 & !(ID_AA64DFR0_EL1_BRPs | ID_AA64DFR0_EL1_CTX_CMPs) | brps | ctx_cmps
}

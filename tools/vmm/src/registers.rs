// SPDX-License-Identifier: GPL-2.0

//! Registers by the numbers that KVM_GET_ONE_REG has for them
//! (Documentation/virt/kvm/api.rst).

/// KVM_REG_ARM64 | KVM_REG_SIZE_U64.
const ARM64_U64: u64 = 0x6030_0000_0000_0000;

/// The program counter: KVM_REG_ARM_CORE, `regs.pc` in units of 32 bits.
pub const PC: u64 = ARM64_U64 | 0x0010_0000 | 0x40;

/// ID_AA64DFR0_EL1.
pub const ID_AA64DFR0_EL1: u64 = system(3, 0, 0, 5, 0);

/// KVM_REG_ARM64_SYSREG.
const fn system(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    ARM64_U64 | 0x0013_0000 | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2
}

/// Whether `id` is an ID register, which has to be restored before the others:
/// KVM decides by them what the others are.
pub const fn is_id(id: u64) -> bool {
    id >= system(3, 0, 0, 0, 0) && id <= system(3, 0, 0, 7, 7)
}

/// The size of a register in bytes.
pub const fn size(id: u64) -> usize {
    1 << (id >> 52 & 0xf)
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

    /// The value of a register of up to 64 bits.
    pub fn as_u64(&self) -> u64 {
        self.value
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}

/// ID_AA64DFR0_EL1 with BRPs and CTX_CMPs for that many.
pub const fn with_breakpoints(dfr0: u64, breakpoints: u64, context_aware: u64) -> u64 {
    let rest = dfr0 & !(0xf << 12 | 0xf << 28);
    rest | (breakpoints - 1 & 0xf) << 12 | (context_aware - 1 & 0xf) << 28
}

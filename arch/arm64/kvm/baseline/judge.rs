// SPDX-License-Identifier: GPL-2.0

//! Checks that VMs of this host can have the values that a baseline gives a register.
//!
//! A baseline is written for many hosts, so a field with the default value of this host's VMs is
//! accepted, even if this kernel does not know the field or does not let userspace write it.
//! Another value must be one that `KVM_SET_ONE_REG` would accept: [`Registers::lower`] decides this
//! here, and when it lowers the registers of VMs.

use super::Set;

/// The ID registers of VMs of this host.
pub(crate) trait Registers {
    /// Returns the value that VMs have by default.
    fn limit(&self, id: u32) -> u64;
    /// Returns a mask of the field that contains a bit, or 0 if the kernel knows no such field.
    fn field(&self, id: u32, bit: u32) -> u64;
    /// Returns `limit` with the fields in `mask` lowered to the values nearest to `want` that
    /// userspace could set.
    fn lower(&self, id: u32, limit: u64, want: u64, mask: u64) -> u64;
}

/// A reason why VMs of this host cannot have a register's value in a baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A mask has some bits of a field, but not all.
    Part { field: u64, limit: u64 },
    /// VMs have `limit` in these bits, and cannot have the value.
    Beyond { field: u64, limit: u64 },
}

/// The bits of a field, or a bit that belongs to no known field.
pub(crate) struct Bits {
    pub(crate) msb: u32,
    pub(crate) lsb: u32,
}

impl Bits {
    /// Returns the bits of a mask, which has at least one.
    pub(crate) fn of(mask: u64) -> Self {
        Bits {
            msb: u64::BITS - 1 - mask.leading_zeros(),
            lsb: mask.trailing_zeros(),
        }
    }

    /// Returns these bits of `value`, as a number.
    pub(crate) fn get(&self, value: u64) -> u64 {
        value << (u64::BITS - 1 - self.msb) >> (u64::BITS - 1 - self.msb + self.lsb)
    }
}

/// Returns the fields of register `id` that overlap `mask`, and each bit of `mask` without a field.
fn fields<'a>(registers: &'a impl Registers, id: u32, mask: u64) -> impl Iterator<Item = u64> + 'a {
    let mut left = mask;

    core::iter::from_fn(move || {
        let bit = left.trailing_zeros();
        if left == 0 {
            return None;
        }
        let field = match registers.field(id, bit) {
            0 => 1 << bit,
            field => field,
        };
        left &= !field;
        Some(field)
    })
}

/// Checks the value that a baseline gives one register.
///
/// All fields are checked together, since the value of one may require a value of another.
/// The error names the first field that VMs cannot have.
pub(crate) fn check(registers: &impl Registers, set: &Set) -> Result<(), Refusal> {
    let limit = registers.limit(set.id);
    let differs = (limit ^ set.value) & set.mask;

    for field in fields(registers, set.id, differs) {
        if field & !set.mask != 0 {
            return Err(Refusal::Part { field, limit });
        }
    }
    let given = registers.lower(set.id, limit, set.value, set.mask);
    // If several fields are refused together, name the first one that is also refused alone.
    let alone = |field: u64| {
        let given = registers.lower(set.id, limit, set.value, field);
        (given ^ set.value) & field != 0
    };
    let mut refused = fields(registers, set.id, (given ^ set.value) & set.mask);
    let Some(first) = refused.next() else {
        return Ok(());
    };
    let field = Some(first)
        .into_iter()
        .chain(refused)
        .find(|&field| alone(field))
        .unwrap_or(first);

    Err(Refusal::Beyond { field, limit })
}

// SPDX-License-Identifier: GPL-2.0

//! The `kernel` crate as far as pure logic needs it, for the build host.
//!
//! `bitfield`, `num`, `arm64::access` and `arm64::sysreg` are the kernel's own files: `pure.py`
//! puts them beside this one. What they need of the rest of the crate is here, with the same names.

#![allow(clippy::all, dead_code, missing_docs, unused_imports, unused_macros)]
#![allow(macro_expanded_macro_exports_accessed_by_absolute_paths)]

extern crate self as kernel;
extern crate self as pin_init;

// The files of these modules are beside this one only where the crate is built: rustfmt is not to
// look for them here. The attribute makes them count as expanded by a macro.
#[rustfmt::skip]
pub mod bitfield;
#[rustfmt::skip]
pub mod num;
pub mod arm64 {
    //! Register types, and access to those of a fake.
    #[rustfmt::skip]
    pub mod access;
    #[rustfmt::skip]
    pub mod fake;
    #[rustfmt::skip]
    pub mod sysreg;
}

/// `pin_init::Zeroable`.
///
/// # Safety
///
/// A value of all zeroes is valid.
pub unsafe trait Zeroable: Sized {
    /// Returns a value of all zeroes.
    fn zeroed() -> Self {
        // SAFETY: By the contract of the trait.
        unsafe { core::mem::zeroed() }
    }
}

macro_rules! zeroable {
    ($($type:ty)*) => {$(
        // SAFETY: 0 is a number.
        unsafe impl Zeroable for $type {}
    )*};
}
zeroable! { u8 u16 u32 u64 usize i8 i16 i32 i64 isize }

/// A condition that the kernel checks as it is built; here as it runs.
#[macro_export]
macro_rules! build_assert {
    ($($condition:tt)*) => { assert!($($condition)*) };
}

/// A condition on constants.
#[macro_export]
macro_rules! const_assert {
    ($($condition:tt)*) => { const { assert!($($condition)*) } };
}

/// A condition on constants, as an item.
#[macro_export]
macro_rules! static_assert {
    ($($condition:tt)*) => { const _: () = assert!($($condition)*); };
}

/// The macros above, by the path that they have in the kernel.
pub mod build_assert {
    pub use crate::{build_assert, const_assert};
}

/// Errors.
pub mod error {
    /// An errno.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Error(i32);

    /// As in the kernel.
    pub type Result<T = (), E = Error> = core::result::Result<T, E>;

    /// The errnos that are in use.
    pub mod code {
        /// Value too large.
        pub const EOVERFLOW: super::Error = super::Error(-75);
    }
}

/// Formatting.
pub mod fmt {
    pub use core::fmt::*;
}

/// Procedural macros.
pub mod macros {
    pub use paste::paste;
}

/// What every file uses.
pub mod prelude {
    pub use crate::{
        build_assert, const_assert,
        error::{code::*, Error, Result},
        static_assert, Zeroable,
    };
    pub use core::{format_args as fmt, prelude::v1::*};
}

/// The shifts of `sys_reg()` (`asm/sysreg.h`).
#[allow(non_upper_case_globals)]
pub mod bindings {
    pub const Op0_shift: u32 = 19;
    pub const Op1_shift: u32 = 16;
    pub const CRn_shift: u32 = 12;
    pub const CRm_shift: u32 = 8;
    pub const Op2_shift: u32 = 5;
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host, with the small `kernel`
//! crate that tests have. Rules are those of the Arm ARM, cited by section or register.

#![allow(dead_code)]

mod registers;
mod switch;
#[allow(non_upper_case_globals)]
mod sysreg {
    include!(env!("SYSREG_CONSTS"));
}

mod tests {
    mod switching;
    mod views;
}

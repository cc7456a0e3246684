// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host, with the small `kernel`
//! crate that tests have. Rules are those of the Arm ARM, cited by section or register.

#![allow(dead_code)]

mod registers;
mod switch;
mod window;
#[allow(non_upper_case_globals)]
mod sysreg {
    include!(env!("SYSREG_CONSTS"));
}

/// `struct kvm_spe_regs`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Registers {
    pmscr: u64,
    pmsnevfr: u64,
    pmsicr: u64,
    pmsirr: u64,
    pmsfcr: u64,
    pmsevfr: u64,
    pmslatfr: u64,
    pmblimitr: u64,
    pmbptr: u64,
    pmbsr: u64,
}

/// `struct kvm_spe_host`.
#[derive(Default)]
struct Host {
    regs: Registers,
    pmscr_el2: u64,
    mdcr_el2: u64,
}

mod tests {
    mod always;
    mod choices;
    mod memory;
    mod others;
    mod switching;
    mod views;
    mod windows;
}

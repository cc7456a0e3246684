// SPDX-License-Identifier: GPL-2.0

//! The calls around the entry of a guest: in the kernel proper for VHE mode, and a second time in
//! the hypervisor's object for nVHE mode.

use core::mem::{offset_of, size_of};

use kernel::{
    arm64::this_cpu::ThisCpu,
    bindings::{kvm_spe_host, kvm_spe_regs, kvm_vcpu_spe},
    prelude::*,
    static_assert,
};

use super::switch::{Host, Registers, Switch};

/// Asserts that fields of two structures are at the same offset.
macro_rules! same_layout {
    ($ours:ty, $in_c:ty: $($field:ident = $c_field:ident),*) => {
        static_assert!(size_of::<$ours>() == size_of::<$in_c>());
        $(static_assert!(offset_of!($ours, $field) == offset_of!($in_c, $c_field));)*
    };
}

same_layout!(Registers, kvm_spe_regs:
    pmscr = pmscr, pmsnevfr = pmsnevfr, pmsicr = pmsicr, pmsirr = pmsirr,
    pmsfcr = pmsfcr, pmsevfr = pmsevfr, pmslatfr = pmslatfr,
    pmblimitr = pmblimitr, pmbptr = pmbptr, pmbsr = pmbsr);
same_layout!(Host, kvm_spe_host: registers = regs, pmscr_el2 = pmscr_el2, mdcr = mdcr_el2);

/// Calls `f` with a switch of this CPU, the guest's registers, whether its buffer is on, and the
/// host's registers.
///
/// # Safety
///
/// This is EL2 of a CPU with FEAT_SPE, with interrupts masked. `spe` and `host` are valid, and only
/// this CPU accesses them. `e2h` says whether HCR_EL2.E2H is set.
#[inline(always)]
unsafe fn with(
    spe: *mut kvm_vcpu_spe,
    host: *mut kvm_spe_host,
    e2h: bool,
    f: impl FnOnce(Switch<'_, ThisCpu<'_>>, &mut Registers, bool, &mut Host),
) {
    // SAFETY: By the caller's contract.
    let (cpu, fne, fine_grained, enabled) = unsafe {
        (
            ThisCpu::assume(),
            (*spe).fne,
            (*spe).fine_grained,
            (*spe).enabled,
        )
    };
    let switch = Switch {
        cpu: &cpu,
        e2h,
        fne,
        fine_grained,
    };

    // SAFETY: By the caller's contract, and the layouts are the same as asserted above.
    unsafe {
        let guest = &mut *(&raw mut (*spe).regs).cast::<Registers>();
        f(switch, guest, enabled, &mut *host.cast::<Host>());
    }
}

/// Gives the unit to a guest, whose translation and traps are in place.
///
/// # Safety
///
/// As for [`with`].
#[export]
unsafe extern "C" fn __kvm_spe_to_guest(
    spe: *mut kvm_vcpu_spe,
    host: *mut kvm_spe_host,
    e2h: bool,
) {
    // SAFETY: By the caller's contract.
    unsafe {
        with(spe, host, e2h, |switch, guest, enabled, host| {
            switch.give_to_guest(guest, enabled, host)
        })
    };
}

/// Takes the unit from a guest, whose translation and traps are still in place.
///
/// # Safety
///
/// As for [`with`], after [`__kvm_spe_to_guest`].
#[export]
unsafe extern "C" fn __kvm_spe_from_guest(
    spe: *mut kvm_vcpu_spe,
    host: *mut kvm_spe_host,
    e2h: bool,
) {
    // SAFETY: By the caller's contract.
    unsafe {
        with(spe, host, e2h, |switch, guest, enabled, host| {
            switch.take_from_guest(guest, enabled, host)
        })
    };
}

/// Gives the unit back to the host, whose translation and traps are in place.
///
/// # Safety
///
/// As for [`with`], after [`__kvm_spe_from_guest`].
#[export]
unsafe extern "C" fn __kvm_spe_to_host(spe: *mut kvm_vcpu_spe, host: *mut kvm_spe_host, e2h: bool) {
    // SAFETY: By the caller's contract.
    unsafe {
        with(spe, host, e2h, |switch, _, _, host| {
            switch.return_to_host(host)
        })
    };
}

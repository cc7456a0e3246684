// SPDX-License-Identifier: GPL-2.0

//! The calls around the entry of a guest: in the kernel proper for VHE mode, and a second time in
//! the hypervisor's object for nVHE mode.

use kernel::{
    arm64::{
        sysreg::*,
        this_cpu::ThisCpu, //
    },
    bindings::kvm_vcpu_spe,
    prelude::*, //
};

use super::{switch::Switch, Host, Registers};

/// Calls `f` with a switch of this CPU, the guest's registers, PMBLIMITR_EL1 while its buffer is
/// on, and the host's registers.
///
/// # Safety
///
/// This is EL2 of a CPU with FEAT_SPE, with interrupts masked. `spe` and `host` are valid, and only
/// this CPU accesses them. `e2h` says whether HCR_EL2.E2H is set.
#[inline(always)]
unsafe fn with(
    spe: *mut kvm_vcpu_spe,
    host: *mut Host,
    e2h: bool,
    f: impl FnOnce(Switch<'_, ThisCpu<'_>>, &mut Registers, Option<u64>, &mut Host),
) {
    // SAFETY: By the caller's contract.
    unsafe {
        let switch = Switch {
            cpu: &ThisCpu::assume(),
            e2h,
            fne: (*spe).fne,
            fine_grained: (*spe).fine_grained,
        };
        let limit = (*spe).ready.then_some((*spe).limit);

        f(switch, &mut (*spe).regs, limit, &mut *host);
    }
}

/// Gives the unit to a guest, whose translation and traps are in place.
///
/// # Safety
///
/// As for [`with`].
#[export]
unsafe extern "C" fn __kvm_spe_to_guest(spe: *mut kvm_vcpu_spe, host: *mut Host, e2h: bool) {
    // SAFETY: By the caller's contract.
    unsafe {
        with(spe, host, e2h, |switch, guest, limit, host| {
            switch.give_to_guest(guest, limit, host)
        })
    };
}

/// Takes the unit from a guest, whose translation and traps are still in place. Returns whether KVM
/// must make the window ready: the unit had an event, or was off while the buffer was enabled.
///
/// # Safety
///
/// As for [`with`], after [`__kvm_spe_to_guest`].
#[export]
unsafe extern "C" fn __kvm_spe_from_guest(
    spe: *mut kvm_vcpu_spe,
    host: *mut Host,
    e2h: bool,
) -> bool {
    // SAFETY: By the caller's contract.
    unsafe {
        (*spe).pmbsr = (*spe).regs.pmbsr;
        with(spe, host, e2h, |switch, guest, limit, host| {
            switch.take_from_guest(guest, limit.is_some(), host)
        });
        (*spe).event = (*spe).ready && PMBSR_EL1::from_raw((*spe).regs.pmbsr).S().into_bool();
        (*spe).event || ((*spe).enabled && !(*spe).ready)
    }
}

/// Gives the unit back to the host, whose translation and traps are in place.
///
/// # Safety
///
/// As for [`with`], after [`__kvm_spe_from_guest`].
#[export]
unsafe extern "C" fn __kvm_spe_to_host(spe: *mut kvm_vcpu_spe, host: *mut Host, e2h: bool) {
    // SAFETY: By the caller's contract.
    unsafe {
        with(spe, host, e2h, |switch, _, _, host| {
            switch.return_to_host(host)
        })
    };
}

// SPDX-License-Identifier: GPL-2.0

//! The buffer of a vCPU: whether it is enabled, what became of it while the guest ran, and whether
//! the unit gets it at the next entry.

use core::sync::atomic;

use kernel::{
    arm64::sysreg::*,
    bindings,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    tracepoint::declare_trace, //
};

use super::{
    memory::{self, Guest},
    registers::{is_enabled, lost, what_of, Event, Name, Register},
    window::{How, Outcome}, //
};

declare_trace! {
    /// # Safety
    ///
    /// Always safe: the arguments are plain integers.
    unsafe fn kvm_spe_enable(vcpu_id: i32, pmbptr: u64, limit: u64, outcome: u32);

    /// # Safety
    ///
    /// Always safe: the arguments are plain integers.
    unsafe fn kvm_spe_event(vcpu_id: i32, pmbptr: u64, pmbsr: u64, seen: u64);
}

/// Notes that a register was written: if it says where the unit writes, that has to be made ready.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
pub(super) unsafe fn note_write(vcpu: *mut bindings::kvm_vcpu, reg: u32) {
    use Register::{Pmblimitr, Pmbptr, Pmbsr};

    if let Some(Name::Own(Pmblimitr | Pmbptr | Pmbsr)) = Name::of(reg) {
        // SAFETY: By the caller's contract.
        unsafe {
            (*vcpu).arch.spe.ready = false;
            memory::with_faults(vcpu, |faults| faults.forget());
        }
    }
}

/// Adds to a counter that userspace may be reading, and clearing.
///
/// # Safety
///
/// `counter` is one of `vcpu->stat`.
pub(super) unsafe fn add(counter: *mut u64, n: u32) {
    // SAFETY: By the caller's contract.
    unsafe { atomic::AtomicU64::from_ptr(counter) }.fetch_add(n.into(), atomic::Ordering::Relaxed);
}

/// Takes over an event that the unit had while the guest ran.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
pub(super) unsafe fn take_event(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;
        let regs = &raw mut (*spe).regs;

        if !(*spe).event {
            return;
        }
        let seen = event_of_guest(vcpu).into();
        kvm_spe_event((*vcpu).vcpu_id, (*regs).pmbptr, (*regs).pmbsr, seen);
        (*regs).pmbsr = seen;
        ((*spe).event, (*spe).ready) = (false, false);
    }
}

/// Returns what PMBSR_EL1 shows to the guest after an event, and counts what the event was for the
/// host.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
unsafe fn event_of_guest(vcpu: *mut bindings::kvm_vcpu) -> PMBSR_EL1 {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;
        let stat = &raw mut (*vcpu).stat;
        let regs = &raw mut (*spe).regs;
        let resolves = || memory::with_faults(vcpu, |faults| faults.note((*regs).pmbptr));

        match what_of(
            (*regs).pmbsr.into(),
            (*spe).pmbsr.into(),
            (*spe).limit != (*regs).pmblimitr,
        ) {
            Event::OfGuest(seen) => seen,
            Event::WindowFull(seen) => {
                add(&raw mut (*stat).spe_moved, 1);
                memory::with_faults(vcpu, |faults| faults.forget());
                seen
            }
            Event::Fault { event, lost: false } if resolves() == Some(true) => {
                add(&raw mut (*stat).spe_resolved, 1);
                event
            }
            Event::Fault { event, .. } => {
                add(&raw mut (*stat).spe_lost, 1);
                lost(event, PMBSR_EL1_EC_BUF)
            }
        }
    }
}

/// Takes over what the unit and the registers say: whether the guest's buffer is enabled, and
/// whether the unit changes hands at entries from now on. The level of the interrupt is
/// PMBSR_EL1.S.
///
/// The unit changes hands if the buffer is enabled: what is not ready is tried again after the
/// exit. Without fine-grained traps it always does, since PMBIDR_EL1.P says who owns the buffer.
///
/// # Safety
///
/// As for [`__kvm_spe_update`].
unsafe fn refresh(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;

        take_event(vcpu);
        let (kvm, pmbsr) = ((*vcpu).kvm, PMBSR_EL1::from_raw((*spe).regs.pmbsr));
        (*spe).enabled = is_enabled((*spe).regs.pmblimitr.into(), pmbsr);
        (*spe).ready &= (*spe).enabled;
        if !(*spe).enabled {
            memory::disarm(vcpu);
        }
        (*spe).switched = ((*spe).enabled || !(*spe).fine_grained).into();
        // It fails only for an interrupt that does not exist, or belongs to somebody else; the
        // setup has made it this vCPU's.
        bindings::kvm_vgic_inject_irq(
            kvm,
            vcpu,
            (*kvm).arch.spe.irq,
            pmbsr.S().into_bool(),
            spe.cast(),
        );
    }
}

/// Takes over what has changed. What the unit needs is made ready before the next entry.
///
/// Called as the vCPU is loaded, since userspace may have changed registers and the vGIC, and
/// after each change of the registers while it is.
///
/// Context: any.
///
/// # Safety
///
/// `vcpu` is a vCPU of a VM with FEAT_SPE that this task runs.
#[export]
pub(super) unsafe extern "C" fn __kvm_spe_update(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        refresh(vcpu);
        if (*vcpu).arch.spe.enabled && !(*vcpu).arch.spe.ready {
            bindings::kvm_spe_request(vcpu);
        }
    }
}

/// Makes ready what the unit of a vCPU writes next.
///
/// # Safety
///
/// As for [`__kvm_spe_make_ready`].
unsafe fn prepare(vcpu: *mut bindings::kvm_vcpu) -> Outcome {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let regs = &raw const (*vcpu).arch.spe.regs;
        let (pmscr, pmblimitr) = (
            PMSCR_EL1::from_raw((*regs).pmscr),
            PMBLIMITR_EL1::from_raw((*regs).pmblimitr),
        );
        let limit = pmblimitr.into_raw() & PMBLIMITR_EL1::LIMIT_MASK;
        let profiles = pmscr.E1SPE().into_bool() || pmscr.E0SPE().into_bool();

        if pmblimitr.FM() == PMBLIMITR_EL1_FM_DISCARD {
            // Nothing is written.
            memory::disarm(vcpu);
            return Outcome::Ready(limit, How::Compared);
        }
        let made = Guest::with(vcpu, |guest, window| {
            window.make_ready(guest, (*regs).pmbptr, limit)
        });
        match made {
            // Nothing is written yet: the guest may go on to set the buffer up.
            Some(Outcome::Gone) if !profiles => Outcome::Later,
            Some(outcome) => outcome,
            None => Outcome::Later,
        }
    }
}

/// Takes over the outcome, counts it, and returns its name for the tracepoint.
///
/// # Safety
///
/// As for [`__kvm_spe_make_ready`].
unsafe fn conclude(vcpu: *mut bindings::kvm_vcpu, outcome: Outcome) -> u32 {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;
        let stat = &raw mut (*vcpu).stat;

        match outcome {
            Outcome::Gone => {
                add(&raw mut (*stat).spe_lost, 1);
                (*spe).regs.pmbsr = lost((*spe).regs.pmbsr.into(), PMBSR_EL1_EC_IMP_DEF).into();
                refresh(vcpu);
                bindings::kvm_spe_outcome_KVM_SPE_GONE
            }
            Outcome::Ready(limit, how) => {
                (*spe).limit = limit | ((*spe).regs.pmblimitr & !PMBLIMITR_EL1::LIMIT_MASK);
                (*spe).ready = true;
                let How::Walked(mapped) = how else {
                    add(&raw mut (*stat).spe_compared, 1);
                    return bindings::kvm_spe_outcome_KVM_SPE_COMPARED;
                };
                add(&raw mut (*stat).spe_walked, 1);
                add(&raw mut (*stat).spe_mapped, mapped);
                bindings::kvm_spe_outcome_KVM_SPE_WALKED
            }
            // If this task has slept it has a new request, which would keep it from the guest.
            Outcome::Later => {
                add(&raw mut (*stat).spe_postponed, 1);
                bindings::kvm_spe_clear_request(vcpu);
                bindings::kvm_spe_outcome_KVM_SPE_POSTPONED
            }
        }
    }
}

/// Takes over what the unit says, and makes ready what it writes next, if the guest's buffer is
/// enabled. If that does not succeed, the unit stays off until the next exit, or the guest gets an
/// event.
///
/// Context: process; may sleep.
///
/// # Safety
///
/// As for [`__kvm_spe_update`]; `kvm->srcu` is held.
#[export]
unsafe extern "C" fn __kvm_spe_make_ready(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;

        refresh(vcpu);
        (*spe).ready = false;
        if !(*spe).enabled {
            return;
        }
        let pmbptr = (*spe).regs.pmbptr;
        let outcome = conclude(vcpu, prepare(vcpu));
        let limit = if (*spe).ready {
            (*spe).limit & PMBLIMITR_EL1::LIMIT_MASK
        } else {
            pmbptr
        };
        kvm_spe_enable((*vcpu).vcpu_id, pmbptr, limit, outcome);
    }
}

/// Prints the buffer of a vCPU, as far as KVM knows it, and its state. The vCPU may be running: the
/// values may be of different moments.
///
/// Context: process.
///
/// # Safety
///
/// `m` and `vcpu` are valid, and `m` is not shared.
#[export]
unsafe extern "C" fn kvm_spe_show_vcpu(m: *mut bindings::seq_file, vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract. Another task may be changing a value, with one store.
    let (m, id, pmbptr, pmblimitr, enabled, ready) = unsafe {
        let spe = &raw const (*vcpu).arch.spe;
        (
            SeqFile::from_raw(m),
            (*vcpu).vcpu_id,
            (&raw const (*spe).regs.pmbptr).read_volatile(),
            (&raw const (*spe).regs.pmblimitr).read_volatile(),
            (&raw const (*spe).enabled).read_volatile(),
            (&raw const (*spe).ready).read_volatile(),
        )
    };
    let limit = pmblimitr & PMBLIMITR_EL1::LIMIT_MASK;
    let state = match (enabled, ready) {
        (false, _) => "off",
        (true, false) => "waits for memory",
        (true, true) => "ready",
    };

    seq_print!(m, "vCPU {id}: {pmbptr:#x} to {limit:#x}, {state}\n");
}

/// Resets the unit of a vCPU: the buffer is off, and nothing is watched. The interrupt follows when
/// the vCPU is loaded.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
#[export]
unsafe extern "C" fn kvm_spe_reset(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; all of the registers may be 0.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;

        (&raw mut (*spe).regs).write_bytes(0, 1);
        ((*spe).event, (*spe).ready) = (false, false);
        memory::forget(vcpu);
    }
}

/// Disables the buffer of a vCPU that is powered off, and clears its events.
///
/// Context: process.
///
/// # Safety
///
/// As for [`__kvm_spe_update`].
#[export]
unsafe extern "C" fn __kvm_spe_power_off(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        take_event(vcpu);
        (*vcpu).arch.spe.regs.pmblimitr = 0;
        (*vcpu).arch.spe.regs.pmbsr = 0;
        memory::forget(vcpu);
        __kvm_spe_update(vcpu);
    }
}

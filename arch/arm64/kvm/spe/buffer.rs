// SPDX-License-Identifier: GPL-2.0

//! The buffer of a vCPU: whether it is enabled, what became of it while the guest ran, and whether
//! the unit gets it at the next entry.

use core::sync::atomic::Ordering::Relaxed;

use kernel::{
    arm64::sysreg::*,
    bindings,
    kvm::stat_add,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    tracepoint::declare_trace, //
};

use super::{
    attributes::irq_of,
    memory::Guest,
    registers::{is_enabled, lost, what_of, Event, Register},
    vcpu::Spu,
    window::{How, Outcome, Window}, //
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

/// A buffer that a guest has enabled.
struct Enabled {
    pmbptr: u64,
    pmblimitr: PMBLIMITR_EL1,
    /// The guest profiles one of its exception levels.
    profiles: bool,
}

impl Enabled {
    /// Makes ready what the unit writes next.
    fn prepare(&self, guest: &Guest<'_>, window: &mut Window) -> Outcome {
        let limit = self.pmblimitr.into_raw() & PMBLIMITR_EL1::LIMIT_MASK;

        if self.pmblimitr.FM() == PMBLIMITR_EL1_FM_DISCARD {
            // Nothing is written.
            guest.watched().disarm();
            return Outcome::Ready(limit, How::Compared);
        }
        match window.make_ready(guest, self.pmbptr, limit) {
            // Nothing is written yet: the guest may go on to set the buffer up.
            Outcome::Gone if !self.profiles => Outcome::Later,
            outcome => outcome,
        }
    }
}

impl Spu<'_> {
    /// Notes that a register was written: if it says where the unit writes, that has to be made
    /// ready.
    pub(super) fn note_write(&mut self, register: Register) {
        use Register::{Pmblimitr, Pmbptr, Pmbsr};

        if matches!(register, Pmblimitr | Pmbptr | Pmbsr) {
            *self.ready = false;
            self.forget_faults();
        }
    }

    /// Forgets where the unit has faulted.
    fn forget_faults(&self) {
        if let Some(watched) = self.watched {
            watched.faults.forget();
        }
    }

    /// Takes over an event that the unit had while the guest ran.
    pub(super) fn take_event(&mut self) {
        if !*self.event {
            return;
        }
        let (pmbptr, pmbsr) = (self.registers.pmbptr, self.registers.pmbsr);
        let seen = self.event_of_guest().into();

        // SAFETY: The arguments are plain integers.
        unsafe { kvm_spe_event(self.vcpu.id(), pmbptr, pmbsr, seen) };
        self.registers.pmbsr = seen;
        (*self.event, *self.ready) = (false, false);
    }

    /// Returns what PMBSR_EL1 shows to the guest after an event, and counts what the event was for
    /// the host.
    fn event_of_guest(&self) -> PMBSR_EL1 {
        let (pmbptr, pmbsr) = (self.registers.pmbptr, self.registers.pmbsr);
        let is_clipped = *self.limit != self.registers.pmblimitr;
        let resolves = || self.watched.is_some_and(|it| it.faults.note(pmbptr));

        match what_of(pmbsr.into(), self.pmbsr.into(), is_clipped) {
            Event::OfGuest(seen) => seen,
            Event::WindowFull(seen) => {
                stat_add!(self.vcpu, spe_moved, 1);
                self.forget_faults();
                seen
            }
            Event::Fault { event, lost: false } if resolves() => {
                stat_add!(self.vcpu, spe_resolved, 1);
                event
            }
            Event::Fault { event, .. } => {
                stat_add!(self.vcpu, spe_lost, 1);
                lost(event, PMBSR_EL1_EC_BUF)
            }
        }
    }

    /// Sets the level of the vCPU's interrupt.
    fn set_interrupt(&self, level: bool) {
        let (vcpu, kvm) = (self.vcpu.as_raw(), self.vm.as_raw());

        // SAFETY: By the type invariant. It fails only for an interrupt that does not exist, or
        // belongs to somebody else; the setup has made it this vCPU's. The owner is only an
        // identity.
        unsafe {
            let owner = (&raw mut (*vcpu).arch.spe).cast();
            let irq = irq_of(self.vm).load(Relaxed);
            bindings::kvm_vgic_inject_irq(kvm, vcpu, irq, level, owner);
        }
    }

    /// Takes over what the unit and the registers say: whether the guest's buffer is enabled, and
    /// whether the unit changes hands at entries from now on. The level of the interrupt is
    /// PMBSR_EL1.S.
    ///
    /// The unit changes hands if the buffer is enabled: what is not ready is tried again after the
    /// exit. Without fine-grained traps it always does, since PMBIDR_EL1.P says who owns the
    /// buffer.
    fn refresh(&mut self) {
        self.take_event();
        let pmbsr = PMBSR_EL1::from_raw(self.registers.pmbsr);

        *self.enabled = is_enabled(self.registers.pmblimitr.into(), pmbsr);
        *self.ready &= *self.enabled;
        if !*self.enabled {
            if let Some(watched) = self.watched {
                watched.disarm();
            }
        }
        *self.switched = (*self.enabled || !*self.fixed.fine_grained).into();
        self.set_interrupt(pmbsr.S().into_bool());
    }

    /// Takes over what has changed. What the unit needs is made ready before the next entry.
    pub(super) fn update(&mut self) {
        self.refresh();
        if *self.enabled && !*self.ready {
            // SAFETY: By the type invariant.
            unsafe { bindings::kvm_spe_request(self.vcpu.as_raw()) };
        }
    }

    /// Takes over what has changed, and takes the unit away until it is ready. Returns the guest's
    /// buffer; [`None`] if it is not enabled.
    fn begin(&mut self) -> Option<Enabled> {
        self.refresh();
        *self.ready = false;
        self.enabled.then(|| {
            let pmscr = PMSCR_EL1::from_raw(self.registers.pmscr);

            Enabled {
                pmbptr: self.registers.pmbptr,
                pmblimitr: self.registers.pmblimitr.into(),
                profiles: pmscr.E1SPE().into_bool() || pmscr.E0SPE().into_bool(),
            }
        })
    }

    /// Takes over the outcome, counts it, and returns its name for the tracepoint.
    fn conclude(&mut self, outcome: Outcome) -> u32 {
        match outcome {
            Outcome::Gone => {
                stat_add!(self.vcpu, spe_lost, 1);
                let seen = lost(self.registers.pmbsr.into(), PMBSR_EL1_EC_IMP_DEF);
                self.registers.pmbsr = seen.into();
                self.refresh();
                bindings::kvm_spe_outcome_KVM_SPE_GONE
            }
            Outcome::Ready(limit, how) => {
                *self.limit = limit | (self.registers.pmblimitr & !PMBLIMITR_EL1::LIMIT_MASK);
                *self.ready = true;
                let How::Walked(mapped) = how else {
                    stat_add!(self.vcpu, spe_compared, 1);
                    return bindings::kvm_spe_outcome_KVM_SPE_COMPARED;
                };
                stat_add!(self.vcpu, spe_walked, 1);
                stat_add!(self.vcpu, spe_mapped, mapped.into());
                bindings::kvm_spe_outcome_KVM_SPE_WALKED
            }
            Outcome::Later => {
                stat_add!(self.vcpu, spe_postponed, 1);
                // If this task has slept it has a new request, which would keep it from the guest.
                // SAFETY: By the type invariant.
                unsafe { bindings::kvm_spe_clear_request(self.vcpu.as_raw()) };
                bindings::kvm_spe_outcome_KVM_SPE_POSTPONED
            }
        }
    }

    /// Takes over the outcome for a buffer, and traces it.
    fn finish(&mut self, buffer: &Enabled, outcome: Outcome) {
        let outcome = self.conclude(outcome);
        let limit = if *self.ready {
            *self.limit & PMBLIMITR_EL1::LIMIT_MASK
        } else {
            buffer.pmbptr
        };

        // SAFETY: The arguments are plain integers.
        unsafe { kvm_spe_enable(self.vcpu.id(), buffer.pmbptr, limit, outcome) };
    }

    /// Resets the registers: the buffer is off, and nothing is watched.
    fn reset(&mut self) {
        *self.registers = Default::default();
        (*self.event, *self.ready) = (false, false);
        self.forget();
    }

    /// Watches nothing any more.
    fn forget(&self) {
        if let Some(watched) = self.watched {
            watched.forget();
        }
    }

    /// Disables the buffer, and clears its events.
    fn power_off(&mut self) {
        self.take_event();
        (self.registers.pmblimitr, self.registers.pmbsr) = (0, 0);
        self.forget();
        self.update();
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
unsafe extern "C" fn __kvm_spe_update(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: The task that runs a vCPU holds its mutex.
    unsafe { Spu::with(vcpu, |spu| spu.update()) };
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
    // SAFETY: As in `__kvm_spe_update()`. If this task sleeps in `prepare()`, it has neither a `Spu`
    // nor a lock.
    unsafe {
        let Some(buffer) = Spu::with(vcpu, |spu| spu.begin()) else {
            return;
        };
        let outcome = Guest::with(vcpu, |guest, window| buffer.prepare(guest, window));

        Spu::with(vcpu, |spu| {
            spu.finish(&buffer, outcome.unwrap_or(Outcome::Later))
        });
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
    // SAFETY: By the caller's contract. Another task may be changing a value: any will do.
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
    // SAFETY: By the caller's contract.
    unsafe { Spu::with(vcpu, |spu| spu.reset()) };
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
    // SAFETY: As in `__kvm_spe_update()`.
    unsafe { Spu::with(vcpu, |spu| spu.power_off()) };
}

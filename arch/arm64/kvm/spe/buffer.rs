// SPDX-License-Identifier: GPL-2.0

//! The buffer of a vCPU: decides whether it is enabled and whether the unit gets it at the next
//! entry, and handles the events that the unit had while the guest ran.

use kernel::{
    arm64::sysreg::*,
    bindings,
    kvm::{declare_traces, stat_add, Vcpu},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    sync::atomic::Relaxed, //
};

use super::{
    memory::Guest,
    registers::{is_enabled, lost, what_of, Event, Register},
    vcpu::Spu,
    window::{How, Memory as _, Outcome, Window}, //
};

declare_traces! {
    // SAFETY: They record their arguments, which are integers.
    unsafe extern {
        safe fn kvm_spe_enable(vcpu_id: i32, pmbptr: u64, limit: u64, outcome: u32);
        safe fn kvm_spe_event(vcpu_id: i32, pmbptr: u64, pmbsr: u64, seen: u64);
    }
}

/// A buffer that a guest has enabled.
struct Enabled {
    pmbptr: u64,
    pmblimitr: PMBLIMITR_EL1,
    /// The guest profiles one of its exception levels.
    profiles: bool,
}

impl Enabled {
    /// Makes the window ready.
    fn prepare(&self, guest: &Guest<'_>, window: &mut Window) -> Outcome {
        let limit = self.pmblimitr.into_raw() & PMBLIMITR_EL1::LIMIT_MASK;

        if self.pmblimitr.FM() == PMBLIMITR_EL1_FM_DISCARD {
            // The unit writes nothing.
            guest.disarm();
            return Outcome::Ready(limit, How::Compared);
        }
        match window.make_ready(guest, self.pmbptr, limit) {
            // The unit writes nothing yet: the guest may still be setting up the buffer.
            Outcome::Gone if !self.profiles => Outcome::Later,
            outcome => outcome,
        }
    }
}

impl Spu<'_> {
    /// Notes that a register was written. If the register belongs to the buffer, the window must be
    /// made ready again.
    pub(super) fn note_write(&mut self, register: Register) {
        use Register::{Pmblimitr, Pmbptr, Pmbsr};

        if matches!(register, Pmblimitr | Pmbptr | Pmbsr) {
            *self.ready = false;
            self.forget_faults();
        }
    }

    /// Forgets where the unit has faulted.
    fn forget_faults(&mut self) {
        if let Some(faults) = &mut self.faults {
            faults.forget();
        }
    }

    /// Takes over an event that the unit had while the guest ran.
    pub(super) fn take_event(&mut self) {
        if !*self.event {
            return;
        }
        let (pmbptr, pmbsr) = (self.registers.pmbptr, self.registers.pmbsr);
        let seen = self.event_of_guest().into();

        kvm_spe_event(self.vcpu.id(), pmbptr, pmbsr, seen);
        self.registers.pmbsr = seen;
        (*self.event, *self.ready) = (false, false);
    }

    /// Returns the PMBSR_EL1 that the guest sees after an event, and updates the statistics.
    fn event_of_guest(&mut self) -> PMBSR_EL1 {
        let (pmbptr, pmbsr) = (self.registers.pmbptr, self.registers.pmbsr);
        let is_clipped = *self.limit != self.registers.pmblimitr;
        let event = what_of(pmbsr.into(), self.pmbsr.into(), is_clipped);
        let mut resolves = || self.faults.as_mut().is_some_and(|it| it.note(pmbptr));

        match event {
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
        let irq = self.vm.spu().irq.load(Relaxed);

        self.vcpu.set_spu_interrupt(irq, level);
    }

    /// Takes over an event, and derives from the registers whether the guest's buffer is enabled,
    /// whether entries switch the unit, and the level of the interrupt, PMBSR_EL1.S.
    ///
    /// Entries switch the unit if the buffer is enabled: if the window is not ready, KVM tries
    /// again after the exit. Without fine-grained traps, entries always switch the unit, since the
    /// guest can read PMBIDR_EL1.P, which says who owns the buffer.
    fn refresh(&mut self) {
        self.take_event();
        let pmbsr = PMBSR_EL1::from_raw(self.registers.pmbsr);

        *self.enabled = is_enabled(self.registers.pmblimitr.into(), pmbsr);
        *self.ready &= *self.enabled;
        if !*self.enabled {
            if let Some(watch) = self.watch {
                watch.disarm();
            }
        }
        *self.switched = (*self.enabled || !*self.fixed.fine_grained).into();
        self.set_interrupt(pmbsr.S().into_bool());
    }

    /// Takes over changes. If the buffer is enabled but the window is not ready, makes a request.
    pub(super) fn update(&mut self) {
        self.refresh();
        if *self.enabled && !*self.ready {
            self.vcpu.request_window();
        }
    }

    /// Takes over changes, and keeps the unit off until the window is ready. Returns the guest's
    /// buffer; [`None`] if the buffer is not enabled.
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
                // If this task has slept, it has made a new request, which would prevent the entry.
                self.vcpu.clear_window_request();
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

        kvm_spe_enable(self.vcpu.id(), buffer.pmbptr, limit, outcome);
    }

    /// Resets the registers: the buffer is off, and nothing is watched.
    fn reset(&mut self) {
        *self.registers = Default::default();
        (*self.event, *self.ready) = (false, false);
        self.forget();
    }

    /// Watches nothing any more.
    fn forget(&mut self) {
        if let Some(watch) = self.watch {
            watch.forget();
        }
        self.forget_faults();
    }

    /// Disables the buffer, and clears its events.
    fn power_off(&mut self) {
        self.take_event();
        (self.registers.pmblimitr, self.registers.pmbsr) = (0, 0);
        self.forget();
        self.update();
    }
}

/// Takes over changes. If the buffer is enabled but the window is not ready, makes a request.
///
/// Called when the vCPU is loaded, since userspace may have changed registers and the vGIC, and
/// before the vCPU waits for interrupts, if the unit had an event.
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

/// Takes over the unit's event, and makes the window ready if the guest's buffer is enabled. If the
/// window cannot be made ready, the unit stays off until the next exit, or the guest gets an event.
///
/// Context: process; may sleep.
///
/// # Safety
///
/// As for [`__kvm_spe_update`]; `kvm->srcu` is held.
#[export]
unsafe extern "C" fn __kvm_spe_make_ready(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: As in `__kvm_spe_update()`. If this task sleeps in `prepare()`, it has no `Spu`
    // and no lock.
    unsafe {
        let Some(buffer) = Spu::with(vcpu, |spu| spu.begin()) else {
            return;
        };
        let outcome = Guest::with(Vcpu::from_raw(vcpu), |guest, window| {
            buffer.prepare(guest, window)
        });

        Spu::with(vcpu, |spu| {
            spu.finish(&buffer, outcome.unwrap_or(Outcome::Later))
        });
    }
}

/// Prints the buffer of a vCPU, as KVM has last saved it, and its state. The values may be
/// inconsistent if the vCPU is running.
///
/// Context: process.
///
/// # Safety
///
/// `m` and `vcpu` are valid, and `m` is not shared.
#[export]
unsafe extern "C" fn kvm_spe_show_vcpu(m: *mut bindings::seq_file, vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract. Another task may change a value: old and new are valid.
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

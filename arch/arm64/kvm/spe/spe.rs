// SPDX-License-Identifier: GPL-2.0

//! Statistical profiling (FEAT_SPE) in guests.
//!
//! A VM gets the SPU that userspace names, which the CPUs of that unit have. On other CPUs its
//! vCPUs do not run: `KVM_RUN` returns with `KVM_EXIT_FAIL_ENTRY`. Everything else works on any
//! CPU, and touches no register of the unit.
//!
//! While the guest's buffer is enabled, what the unit writes next is mapped at stage 2, and KVM
//! stops the unit before that changes: see `memory.rs` for how, and `window.rs` for what.
//! Otherwise the unit stays off.
//!
//! # Access rules
//!
//! `kvm->arch.spe` changes with `config_lock` held, and no more once a vCPU has run; `relaxed` is a
//! counter. The registers in `vcpu->arch.spe` belong to the task that holds the vCPU's mutex.
//!
//! C header: [`asm/kvm_spe.h`](srctree/arch/arm64/include/asm/kvm_spe.h)

use core::sync::atomic;

use kernel::{
    arm64::{
        cpufeature::system_has,
        sysreg::*, //
    },
    bindings::{
        self,
        kvm_spe_host as Host,
        kvm_spe_regs as Registers, //
    },
    cpucap,
    error::from_result,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    tracepoint::declare_trace, //
};

mod attributes;
mod entry;
mod memory;
mod registers;
mod switch;
mod window;

use memory::Guest;
use registers::{is_enabled, lost, what_of, Event, Name, Register, View};
use window::{How, Outcome};

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

/// True once a CPU has come up that has FEAT_SPE, and whose firmware leaves it to the kernel.
static SEEN: atomic::AtomicBool = atomic::AtomicBool::new(false);

/// Notes that this CPU has FEAT_SPE, and that the kernel may use it.
///
/// Context: any.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
unsafe extern "C" fn kvm_spe_seen() {
    SEEN.store(true, atomic::Ordering::Relaxed);
}

/// Returns whether a VM can get an SPU. In protected mode the hypervisor does not switch it.
///
/// Context: any.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
unsafe extern "C" fn kvm_spe_supported() -> bool {
    SEEN.load(atomic::Ordering::Relaxed) && !system_has(cpucap!(KVM_PROTECTED_MODE))
}

/// Returns the SPU as a VM sees it; [`None`] for a VM without FEAT_SPE.
///
/// # Safety
///
/// `kvm` is a VM. Until a vCPU runs, the answer may be out of date unless `config_lock` is held.
unsafe fn view_of(kvm: *mut bindings::kvm) -> Option<View> {
    // SAFETY: By the caller's contract. Another task may be changing a value, with one store.
    let (dfr0, pmsidr, pmbidr, events) = unsafe {
        (
            bindings::kvm_read_vm_id_reg(kvm, ID_AA64DFR0_EL1::ENCODING.as_u32()),
            (&raw const (*kvm).arch.spe.pmsidr).read_volatile(),
            (&raw const (*kvm).arch.spe.pmbidr).read_volatile(),
            (&raw const (*kvm).arch.spe.events).read_volatile(),
        )
    };

    View::new(
        ID_AA64DFR0_EL1::from_raw(dfr0).PMSVer(),
        pmsidr.into(),
        pmbidr.into(),
        events,
    )
}

/// Returns the place of a register.
fn place(registers: &mut Registers, register: Register) -> &mut u64 {
    match register {
        Register::Pmscr => &mut registers.pmscr,
        Register::Pmsnevfr => &mut registers.pmsnevfr,
        Register::Pmsicr => &mut registers.pmsicr,
        Register::Pmsirr => &mut registers.pmsirr,
        Register::Pmsfcr => &mut registers.pmsfcr,
        Register::Pmsevfr => &mut registers.pmsevfr,
        Register::Pmslatfr => &mut registers.pmslatfr,
        Register::Pmblimitr => &mut registers.pmblimitr,
        Register::Pmbptr => &mut registers.pmbptr,
        Register::Pmbsr => &mut registers.pmbsr,
    }
}

/// The SPU of a vCPU.
struct Spu<'a> {
    view: View,
    registers: &'a mut Registers,
}

impl<'a> Spu<'a> {
    /// Returns the SPU of a vCPU; [`None`] if the VM has none.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose mutex is held for `'a`, and there is no other value for it.
    unsafe fn of(vcpu: *mut bindings::kvm_vcpu) -> Option<Self> {
        // SAFETY: By the caller's contract; a vCPU's VM outlives it.
        unsafe {
            Some(Spu {
                view: view_of((*vcpu).kvm)?,
                registers: &mut (*vcpu).arch.spe.regs,
            })
        }
    }

    /// Returns the value of a register; [`None`] if the VM does not have it.
    fn read(&mut self, encoding: u32) -> Option<u64> {
        let name = Name::of(encoding).filter(|name| self.view.has(*name))?;

        Some(match name {
            Name::Own(register) => *place(self.registers, register),
            Name::Pmsidr => self.view.pmsidr().into(),
            Name::Pmbidr => self.view.pmbidr().into(),
        })
    }

    /// Writes a register. Fails with `ENOENT` if the VM does not have it, and with `EINVAL` if it
    /// has another value that cannot be changed.
    fn write(&mut self, encoding: u32, value: u64) -> Result {
        let known = self.read(encoding).ok_or(ENOENT)?;

        match Name::of(encoding) {
            Some(Name::Own(register)) => {
                *place(self.registers, register) = value & self.view.kept(register);
                Ok(())
            }
            _ if value == known => Ok(()),
            _ => Err(EINVAL),
        }
    }
}

/// Returns whether a VM has the register with this encoding, one of those of FEAT_SPE.
///
/// Context: any.
///
/// # Safety
///
/// `kvm` is a VM.
#[export]
unsafe extern "C" fn kvm_spe_has_reg(kvm: *mut bindings::kvm, reg: u32) -> bool {
    // SAFETY: By the caller's contract.
    let view = unsafe { view_of(kvm) };

    Name::of(reg)
        .zip(view)
        .is_some_and(|(name, view)| view.has(name))
}

/// Performs the guest's access to a register of FEAT_SPE. Returns false if it is UNDEFINED.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU that this task runs; `val` is the value to write, or where to put what is read.
#[export]
unsafe extern "C" fn kvm_spe_access(
    vcpu: *mut bindings::kvm_vcpu,
    reg: u32,
    is_write: bool,
    val: *mut u64,
) -> bool {
    // SAFETY: The task that runs a vCPU holds its mutex.
    unsafe { take_event(vcpu) };
    // SAFETY: As above.
    let Some(mut spu) = (unsafe { Spu::of(vcpu) }) else {
        return false;
    };

    if is_write {
        // SAFETY: By the caller's contract.
        let value = unsafe { *val };
        // A register that identifies the unit cannot be written at all.
        let is_written =
            matches!(Name::of(reg), Some(Name::Own(_))) && spu.write(reg, value).is_ok();
        // SAFETY: By the caller's contract. A vCPU that has run is set up.
        unsafe {
            note_write(vcpu, reg);
            __kvm_spe_update(vcpu);
        }
        return is_written;
    }
    let Some(value) = spu.read(reg) else {
        return false;
    };
    // SAFETY: By the caller's contract.
    unsafe { *val = value };
    true
}

/// Reads a register for userspace. Fails with `ENOENT` if the VM does not have it.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held, and `val` can be written.
#[export]
unsafe extern "C" fn kvm_spe_get_reg(
    vcpu: *mut bindings::kvm_vcpu,
    reg: u32,
    val: *mut u64,
) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract.
        unsafe {
            take_event(vcpu);
            *val = Spu::of(vcpu)
                .and_then(|mut spu| spu.read(reg))
                .ok_or(ENOENT)?
        };
        Ok(0)
    })
}

/// Writes a register for userspace. Fails with `ENOENT` if the VM does not have it, and with
/// `EINVAL` if it identifies the unit and has another value.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
#[export]
unsafe extern "C" fn kvm_spe_set_reg(vcpu: *mut bindings::kvm_vcpu, reg: u32, val: u64) -> c_int {
    from_result(|| {
        // SAFETY: By the caller's contract.
        unsafe { take_event(vcpu) };
        // SAFETY: By the caller's contract.
        let mut spu = unsafe { Spu::of(vcpu) }.ok_or(ENOENT)?;
        spu.write(reg, val)?;
        // SAFETY: By the caller's contract.
        unsafe { note_write(vcpu, reg) };
        Ok(0)
    })
}

/// Stores what the first run of the VM fixes.
///
/// Fine-grained traps do not suffice where a guest could reach PMSDSFR_EL1, which is never
/// switched: FEAT_FGT2 traps it.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex and whose VM's `config_lock` are held.
#[export]
unsafe extern "C" fn kvm_spe_fix(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;
        let pmsidr = PMSIDR_EL1::from_raw((*(*vcpu).kvm).arch.spe.pmsidr);
        let fds = pmsidr.FDS().into_bool();
        let Some(spu) = Spu::of(vcpu) else {
            return;
        };

        // Userspace may have written registers before it has lowered the version.
        for (register, _) in Register::ALL {
            *place(spu.registers, register) &= spu.view.kept(register);
        }
        (*spe).present = true;
        (*spe).fne = pmsidr.FnE().into_bool();
        (*spe).fine_grained =
            system_has(cpucap!(HAS_FGT)) && (!fds || system_has(cpucap!(HAS_FGT2)));
    }
}

/// Notes that a register was written: if it says where the unit writes, that has to be made ready.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
unsafe fn note_write(vcpu: *mut bindings::kvm_vcpu, reg: u32) {
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
unsafe fn add(counter: *mut u64, n: u32) {
    // SAFETY: By the caller's contract.
    unsafe { atomic::AtomicU64::from_ptr(counter) }.fetch_add(n.into(), atomic::Ordering::Relaxed);
}

/// Takes over an event that the unit had while the guest ran.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
unsafe fn take_event(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; only this task accesses the vCPU's state.
    unsafe {
        let spe = &raw mut (*vcpu).arch.spe;
        let stat = &raw mut (*vcpu).stat;
        let regs = &raw mut (*spe).regs;

        if !(*spe).event {
            return;
        }
        let resolves = || memory::with_faults(vcpu, |faults| faults.note((*regs).pmbptr));
        let seen = match what_of(
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
        };
        kvm_spe_event((*vcpu).vcpu_id, (*regs).pmbptr, (*regs).pmbsr, seen.into());
        (*regs).pmbsr = seen.into();
        ((*spe).event, (*spe).ready) = (false, false);
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
unsafe extern "C" fn __kvm_spe_update(vcpu: *mut bindings::kvm_vcpu) {
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

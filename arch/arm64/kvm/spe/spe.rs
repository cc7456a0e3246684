// SPDX-License-Identifier: GPL-2.0

//! Statistical profiling (FEAT_SPE) in guests.
//!
//! A VM gets the SPU that userspace names, which the CPUs of that unit have. On other CPUs its
//! vCPUs do not run: `KVM_RUN` returns with `KVM_EXIT_FAIL_ENTRY`. Everything else works on any
//! CPU, and touches no register of the unit.
//!
//! While the guest's buffer is enabled, what the unit writes next is mapped at stage 2, and KVM
//! stops the unit before that changes: see `memory.rs` for how, and `window.rs` for what.
//! Otherwise the unit stays off: see `buffer.rs`.
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
    prelude::*, //
};

mod attributes;
mod buffer;
mod entry;
mod memory;
mod registers;
mod switch;
mod window;

use buffer::{__kvm_spe_update, note_write, take_event};
use registers::{Name, Register, View};

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
    // SAFETY: By the caller's contract. Another task may be changing a value: what is read was
    // stored at once, and both accesses are marked.
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

impl Spu<'_> {
    /// Calls `f` with the SPU of a vCPU, and returns its result; [`None`] if the VM has no SPU.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose mutex is held. `f` does not access its registers in other ways.
    unsafe fn with<R>(
        vcpu: *mut bindings::kvm_vcpu,
        f: impl FnOnce(&mut Spu<'_>) -> R,
    ) -> Option<R> {
        // SAFETY: By the caller's contract; a vCPU's VM outlives it.
        let mut spu = unsafe {
            Spu {
                view: view_of((*vcpu).kvm)?,
                registers: &mut (*vcpu).arch.spe.regs,
            }
        };

        Some(f(&mut spu))
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
    // SAFETY: The task that runs a vCPU holds its mutex. A vCPU that has run is set up.
    unsafe {
        take_event(vcpu);
        if !is_write {
            let value = Spu::with(vcpu, |spu| spu.read(reg)).flatten();
            return value.inspect(|value| *val = *value).is_some();
        }
        // A register that identifies the unit cannot be written at all.
        let is_written = matches!(Name::of(reg), Some(Name::Own(_)))
            && Spu::with(vcpu, |spu| spu.write(reg, *val)).is_some_and(|it| it.is_ok());
        note_write(vcpu, reg);
        __kvm_spe_update(vcpu);
        is_written
    }
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
            *val = Spu::with(vcpu, |spu| spu.read(reg))
                .flatten()
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
        unsafe {
            take_event(vcpu);
            Spu::with(vcpu, |spu| spu.write(reg, val)).ok_or(ENOENT)??;
            note_write(vcpu, reg);
        }
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
        // Userspace may have written registers before it has lowered the version.
        let mask = |spu: &mut Spu<'_>| {
            for (register, _) in Register::ALL {
                *place(spu.registers, register) &= spu.view.kept(register);
            }
        };

        if Spu::with(vcpu, mask).is_none() {
            return;
        }
        (*spe).present = true;
        (*spe).fne = pmsidr.FnE().into_bool();
        (*spe).fine_grained =
            system_has(cpucap!(HAS_FGT)) && (!fds || system_has(cpucap!(HAS_FGT2)));
    }
}

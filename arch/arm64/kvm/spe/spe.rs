// SPDX-License-Identifier: GPL-2.0

//! Statistical profiling (FEAT_SPE) in guests.
//!
//! A VM gets the SPU that userspace names, and its vCPUs run only on the CPUs of that unit. On
//! other CPUs, `KVM_RUN` returns with `KVM_EXIT_FAIL_ENTRY`. All other calls work on any CPU, and
//! touch no register of the unit.
//!
//! While the guest's buffer is enabled, KVM keeps the window that the unit writes next mapped at
//! stage 2 (`window.rs`), and stops the unit before a mapping of the window changes (`memory.rs`).
//! While the window is not ready, the unit stays off (`buffer.rs`).
//!
//! # Access rules
//!
//! `kvm->arch.spe` changes with `config_lock` held, and only until a vCPU has run, except the
//! counter `relaxed`. `vcpu->arch.spe` belongs to the task that holds the vCPU's mutex. That task
//! may be preempted, and takes over the unit's event when it loads the vCPU again, so interrupts
//! are off while it accesses the registers and the state of the buffer: see `vcpu.rs`.
//!
//! C header: [`asm/kvm_spe.h`](srctree/arch/arm64/include/asm/kvm_spe.h)

use kernel::{
    arm64::cpufeature::system_has,
    bindings::{
        self,
        kvm_spe_host as Host,
        kvm_spe_regs as Registers, //
    },
    cpucap,
    error::from_result,
    kvm::Vm,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

mod attributes;
mod buffer;
mod entry;
mod memory;
mod registers;
mod switch;
mod vcpu;
mod window;

use registers::Name;
use vcpu::{view_of, Spu};

/// True once a CPU has come up that has FEAT_SPE, and whose firmware leaves it to the kernel.
static SEEN: Atomic<bool> = Atomic::new(false);

/// Notes that this CPU has FEAT_SPE, and that the kernel may use it.
///
/// Context: any.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
unsafe extern "C" fn kvm_spe_seen() {
    SEEN.store(true, Relaxed);
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
    SEEN.load(Relaxed) && !system_has(cpucap!(KVM_PROTECTED_MODE))
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
    let view = view_of(unsafe { Vm::from_raw(kvm) });

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
/// `vcpu` is a vCPU that this task runs; `val` has the value to write, or receives the value read.
#[export]
unsafe extern "C" fn kvm_spe_access(
    vcpu: *mut bindings::kvm_vcpu,
    reg: u32,
    is_write: bool,
    val: *mut u64,
) -> bool {
    // SAFETY: The task that runs a vCPU holds its mutex; `val` is valid by the caller's contract.
    unsafe { Spu::with(vcpu, |spu| spu.access(reg, is_write, &mut *val)) }.is_ok()
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
    // SAFETY: By the caller's contract.
    from_result(|| unsafe { Spu::with(vcpu, |spu| spu.read(reg)).map(|it| *val = it) }.map(|()| 0))
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
    // SAFETY: By the caller's contract.
    from_result(|| unsafe { Spu::with(vcpu, |spu| spu.write(reg, val)) }.map(|()| 0))
}

/// Stores the properties of the unit that the first run of the VM fixes.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex and whose VM's `config_lock` are held.
#[export]
unsafe extern "C" fn kvm_spe_fix(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract.
    unsafe { Spu::with(vcpu, |spu| spu.fix()) };
}

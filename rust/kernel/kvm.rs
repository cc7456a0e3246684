// SPDX-License-Identifier: GPL-2.0

//! Kernel-based Virtual Machine.
//!
//! Views of the C structures for components that serve a VM or a vCPU; they own
//! nothing and live no longer than the call from C that hands them out.
//!
//! C header: [`include/linux/kvm_host.h`](srctree/include/linux/kvm_host.h)

use crate::{bindings, types::Opaque};

/// A virtual machine: `struct kvm`.
///
/// # Invariants
///
/// A reference is to a VM that is alive for the lifetime of the reference.
#[repr(transparent)]
pub struct Vm(Opaque<bindings::kvm>);

impl Vm {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `ptr` points to a VM that stays alive for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kvm) -> &'a Self {
        // SAFETY: `Vm` is transparent over `struct kvm`; the rest is the caller's
        // contract. INVARIANT: Likewise.
        unsafe { &*ptr.cast() }
    }

    /// The counters that `KVM_GET_STATS_FD` of the VM shows.
    ///
    /// Several CPUs may change them at the same time: access them atomically.
    pub fn stat(&self) -> *mut bindings::kvm_vm_stat {
        // SAFETY: By the type invariant the pointer is valid; no reference is made.
        unsafe { &raw mut (*self.0.get()).stat }
    }
}

/// A virtual CPU: `struct kvm_vcpu`.
///
/// # Invariants
///
/// A reference is to a vCPU that is alive, as is its VM, for the lifetime of the
/// reference.
#[repr(transparent)]
pub struct Vcpu(Opaque<bindings::kvm_vcpu>);

impl Vcpu {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `ptr` points to a vCPU that stays alive for `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::kvm_vcpu) -> &'a Self {
        // SAFETY: `Vcpu` is transparent over `struct kvm_vcpu`; the rest is the caller's
        // contract. INVARIANT: Likewise; a vCPU never outlives its VM.
        unsafe { &*ptr.cast() }
    }

    /// The VM that this vCPU belongs to.
    pub fn vm(&self) -> &Vm {
        // SAFETY: By the type invariant the pointer is valid, `kvm` is set once when the
        // vCPU is made, and the VM outlives it.
        unsafe { Vm::from_raw((*self.0.get()).kvm) }
    }
}

/// Calls `f` with the vCPU that the current task has loaded on this CPU, if any.
///
/// To be called in the context of that task, where the vCPU cannot be unloaded
/// before `f` returns: not from an interrupt.
pub fn with_running<R>(f: impl FnOnce(&Vcpu) -> R) -> Option<R> {
    // SAFETY: Callable in any context.
    let vcpu = unsafe { bindings::kvm_get_running_vcpu() };
    if vcpu.is_null() {
        return None;
    }
    // SAFETY: The task that has a vCPU loaded holds a reference to it.
    Some(f(unsafe { Vcpu::from_raw(vcpu) }))
}

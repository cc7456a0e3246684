// SPDX-License-Identifier: GPL-2.0

//! References to the statistical profiling units (SPUs) of this machine.
//!
//! C header: [`linux/perf/arm_spe_unit.h`](srctree/include/linux/perf/arm_spe_unit.h)

use super::sysreg::{PMBIDR_EL1, PMSIDR_EL1};
use crate::{
    bindings,
    cpumask::Cpumask,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
    types::Opaque, //
};
use core::{mem::ManuallyDrop, ops::Deref, ptr::NonNull};

/// An SPU that is registered.
///
/// # Invariants
///
/// A reference is to a unit that stays registered for the lifetime of the reference. The fields
/// that describe a registered unit are not written.
#[repr(transparent)]
pub struct Unit(Opaque<bindings::arm_spe_unit>);

// SAFETY: The fields of a registered unit are not written.
unsafe impl Sync for Unit {}

impl Unit {
    /// Returns ID_AA64DFR0_EL1.PMSVer of the unit's CPUs.
    ///
    /// Context: any.
    #[inline]
    pub fn pmsver(&self) -> u32 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).pmsver }
    }

    /// Returns PMSIDR_EL1 of the unit's CPUs.
    ///
    /// Context: any.
    #[inline]
    pub fn pmsidr(&self) -> PMSIDR_EL1 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).pmsidr }.into()
    }

    /// Returns PMBIDR_EL1 of the unit's CPUs, as an exception level reads it that may use the
    /// buffer.
    ///
    /// Context: any.
    #[inline]
    pub fn pmbidr(&self) -> PMBIDR_EL1 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).pmbidr }.into()
    }

    /// Returns the bits of PMSEVFR_EL1 and PMSNEVFR_EL1 that the unit has.
    ///
    /// Context: any.
    #[inline]
    pub fn events(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { (*self.0.get()).events }
    }

    /// Returns the CPUs that have this unit.
    ///
    /// Context: any.
    #[inline]
    pub fn cpus(&self) -> &Cpumask {
        // SAFETY: By the type invariant; the mask is valid as long as the unit.
        unsafe { Cpumask::from_raw((*self.0.get()).cpus) }
    }
}

/// A reference to a unit, and to the module of its driver.
///
/// # Invariants
///
/// `arm_spe_unit_get()` has returned the pointer, and nobody has put the reference.
pub struct UnitRef(NonNull<Unit>);

// SAFETY: Any task may put a reference.
unsafe impl Send for UnitRef {}

impl UnitRef {
    /// Returns the unit whose device has this perf type; [`None`] if there is none, if it differs
    /// from CPU to CPU, or if its module is being removed.
    ///
    /// Context: process; may sleep.
    #[inline]
    pub fn get(type_: c_int) -> Option<Self> {
        // SAFETY: Always safe to call.
        let unit = unsafe { bindings::arm_spe_unit_get(type_) };

        // INVARIANT: The call takes a reference to the unit that it returns.
        NonNull::new(unit.cast_mut().cast()).map(Self)
    }
}

impl Deref for UnitRef {
    type Target = Unit;

    #[inline]
    fn deref(&self) -> &Unit {
        // SAFETY: By the type invariant the driver's module stays. It unregisters its units only
        // when it is removed: its devices cannot be unbound (`suppress_bind_attrs`).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for UnitRef {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { bindings::arm_spe_unit_put(self.0.as_ptr().cast()) };
    }
}

/// A field of a C structure for a unit.
///
/// # Invariants
///
/// The field is null, or points to a unit of which it has a reference. Only this value changes the
/// field, or puts that reference.
pub struct Slot<'a>(&'a Atomic<*mut Unit>);

impl Slot<'_> {
    /// Wraps a pointer from C.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// For as long as the value exists, `field` is valid, only this value changes it, C reads it
    /// with READ_ONCE(), and nobody else puts its reference. It is null, or has got its unit from
    /// [`Slot::replace`].
    #[inline]
    pub unsafe fn from_raw(field: *mut *const bindings::arm_spe_unit) -> Self {
        // SAFETY: By the caller's contract.
        // INVARIANT: By the caller's contract.
        Self(unsafe { Atomic::from_ptr(field.cast()) })
    }

    /// Returns the unit.
    ///
    /// Context: any.
    #[inline]
    pub fn get(&self) -> Option<&Unit> {
        // SAFETY: By the type invariant the field has a reference of the unit, and only
        // `replace()`, which `self` excludes, puts it.
        unsafe { self.0.load(Relaxed).as_ref() }
    }

    /// Replaces the unit, and puts the old one.
    ///
    /// Context: any.
    #[inline]
    pub fn replace(&mut self, unit: UnitRef) {
        // INVARIANT: The field takes over the reference of `unit`.
        let old = self.0.xchg(ManuallyDrop::new(unit).0.as_ptr(), Relaxed);

        // INVARIANT: The field had a reference of `old`, which is now that of the `UnitRef`.
        drop(NonNull::new(old).map(UnitRef));
    }
}

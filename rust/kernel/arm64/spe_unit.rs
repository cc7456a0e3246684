// SPDX-License-Identifier: GPL-2.0

//! References to the statistical profiling units (SPUs) of this machine.
//!
//! C header: [`linux/perf/arm_spe_unit.h`](srctree/include/linux/perf/arm_spe_unit.h)

use super::sysreg::{PMBIDR_EL1, PMSIDR_EL1};
use crate::{
    bindings,
    cpumask::Cpumask,
    prelude::*,
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

    /// Gives the reference away.
    ///
    /// Context: any.
    #[inline]
    pub fn into_raw(self) -> NonNull<Unit> {
        ManuallyDrop::new(self).0
    }

    /// Takes a reference back that was given away.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// [`UnitRef::into_raw`] has returned `unit`, and nobody else takes it back.
    #[inline]
    pub unsafe fn from_raw(unit: NonNull<Unit>) -> Self {
        // INVARIANT: By the caller's contract.
        Self(unit)
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

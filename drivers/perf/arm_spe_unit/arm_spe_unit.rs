// SPDX-License-Identifier: GPL-2.0

//! The statistical profiling units (SPUs) of this machine.
//!
//! The driver of FEAT_SPE registers each unit that it finds. The driver may be a module, so this
//! registry, which KVM uses, is not part of it. A user of a unit holds a reference to the module.
//!
//! C header: [`linux/perf/arm_spe_unit.h`](srctree/include/linux/perf/arm_spe_unit.h)

use core::ptr::{self, null, null_mut};

use kernel::{
    arm64::{
        access::Access,
        sysreg::*,
        this_cpu::ThisCpu, //
    },
    bindings::{self, arm_spe_unit as Unit},
    interrupt::local_interrupt_disable,
    prelude::*,
    sync::global_lock,
};

module! {
    type: Registry,
    name: "arm_spe_unit",
    authors: ["Armature"],
    description: "Registry of statistical profiling units",
    license: "GPL",
}

struct Registry;

impl kernel::Module for Registry {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: This is called once. The driver registers units later, since it is linked after
        // the registry and has the same level of initcalls; VMs exist only later.
        unsafe { UNITS.init() };
        Ok(Self)
    }
}

/// The first unit of the list.
///
/// # Invariants
///
/// Each unit of the list stays valid, and is written only with the lock held, until it is
/// unregistered.
struct First(*mut Unit);

// SAFETY: The units belong to no thread, and are accessed with the lock held.
unsafe impl Send for First {}

global_lock! {
    // SAFETY: `Registry::init()` initialises the lock before it is used.
    unsafe(uninit) static UNITS: Mutex<First> = First(null_mut());
}

impl First {
    /// Puts `unit` at the front of the list.
    ///
    /// # Safety
    ///
    /// `unit` is valid, is in no list, and stays valid until [`First::remove`].
    unsafe fn insert(&mut self, unit: *mut Unit) {
        // SAFETY: By the caller's contract.
        unsafe { (*unit).next = self.0 };
        // INVARIANT: By the caller's contract.
        self.0 = unit;
    }

    /// Takes `unit` out of the list, if it is there.
    fn remove(&mut self, unit: *mut Unit) {
        let mut link = &raw mut self.0;

        // SAFETY: A link is that of `self` or of a unit of the list, which are valid by the type
        // invariant, and the lock is held.
        unsafe {
            while !(*link).is_null() {
                if ptr::eq(*link, unit) {
                    *link = (**link).next;
                    return;
                }
                link = &raw mut (**link).next;
            }
        }
    }

    /// Returns the unit whose device has this perf type, or null.
    fn find(&self, type_: c_int) -> *mut Unit {
        let mut unit = self.0;

        // SAFETY: The units of the list are valid by the type invariant, and the lock is held.
        while !unit.is_null() && unsafe { (*unit).type_ } != type_ {
            // SAFETY: As above.
            unit = unsafe { (*unit).next };
        }
        unit
    }
}

/// Reads the registers that identify the unit of this CPU. `events` are the bits of its
/// PMSEVFR_EL1: the others are RAZ/WI.
///
/// Context: the task stays on this CPU.
///
/// # Safety
///
/// `unit` is valid, and only this function accesses it now. The CPU has FEAT_SPE, and this
/// exception level may use the buffer.
#[export]
unsafe extern "C" fn arm_spe_unit_read(unit: *mut Unit, events: u64) {
    // SAFETY: By the caller's contract.
    unsafe {
        ((*unit).pmsver, (*unit).pmsidr, (*unit).pmbidr) = identity();
        (*unit).events = events;
    }
}

/// Returns the registers that identify the unit of this CPU.
///
/// # Safety
///
/// The task stays on this CPU, which has FEAT_SPE; this exception level may use the buffer.
unsafe fn identity() -> (u32, u64, u64) {
    let guard = local_interrupt_disable();
    let cpu = ThisCpu::new(&guard);
    let version = cpu.read::<ID_AA64DFR0_EL1>().PMSVer().get() as u32;
    // SAFETY: By the caller's contract; reading these registers has no effect.
    let (pmsidr, pmbidr): (PMSIDR_EL1, PMBIDR_EL1) =
        unsafe { (cpu.read_present(), cpu.read_present()) };

    (version, pmsidr.into(), pmbidr.into())
}

/// Checks that this CPU's unit has the registers that have been read on another CPU. Guests cannot
/// have a unit whose registers differ between its CPUs: a vCPU that moves would find other values.
/// Fails with `EINVAL` if guests may already have the unit.
///
/// Context: the task stays on this CPU.
///
/// # Safety
///
/// `unit` is valid; [`arm_spe_unit_read`] has read its registers. The CPU is one of its CPUs.
#[export]
unsafe extern "C" fn arm_spe_unit_check(unit: *mut Unit) -> c_int {
    // SAFETY: By the caller's contract. Only CPUs that come up, one at a time, write `differs`.
    unsafe {
        if identity() == ((*unit).pmsver, (*unit).pmsidr, (*unit).pmbidr) {
            return 0;
        }
        if !(*unit).cpus.is_null() && !(*unit).differs {
            pr_err!("this CPU's SPU differs from that of the unit's other CPUs\n");
            return EINVAL.to_errno();
        }
        pr_warn!("guests cannot have an SPU that differs between CPUs\n");
        (*unit).differs = true;
    }
    0
}

/// Registers a unit whose registers have been read.
///
/// Context: may sleep.
///
/// # Safety
///
/// `unit`, `pmu` and `cpus` stay valid until [`arm_spe_unit_unregister`]; `pmu` is registered.
#[export]
unsafe extern "C" fn arm_spe_unit_register(
    unit: *mut Unit,
    pmu: *const bindings::pmu,
    cpus: *const bindings::cpumask,
) {
    // SAFETY: By the caller's contract; nobody else knows of the unit yet.
    unsafe {
        (*unit).type_ = (*pmu).type_;
        (*unit).owner = (*pmu).module;
        (*unit).cpus = cpus;
        UNITS.lock().insert(unit);
    }
}

/// Removes a unit from the registry. The unit has no users: its module is being removed.
///
/// Context: may sleep.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
unsafe extern "C" fn arm_spe_unit_unregister(unit: *mut Unit) {
    UNITS.lock().remove(unit);
}

/// Returns the unit whose device has this perf type, with a reference to its module; null if there
/// is none, if it differs from CPU to CPU, or if its module is being removed.
///
/// Context: may sleep.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
unsafe extern "C" fn arm_spe_unit_get(type_: c_int) -> *const Unit {
    let units = UNITS.lock();
    let unit = units.find(type_);

    // SAFETY: A unit of the list is valid while the lock is held, and so is its module.
    if unit.is_null() || unsafe { (*unit).differs || !bindings::try_module_get((*unit).owner) } {
        return null();
    }
    unit
}

/// Gives up the reference that [`arm_spe_unit_get`] has returned.
///
/// Context: any.
///
/// # Safety
///
/// `unit` is what [`arm_spe_unit_get`] has returned, and is not used any more.
#[export]
unsafe extern "C" fn arm_spe_unit_put(unit: *const Unit) {
    // SAFETY: By the caller's contract.
    unsafe { bindings::module_put((*unit).owner) };
}

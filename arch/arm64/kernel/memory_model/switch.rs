// SPDX-License-Identifier: GPL-2.0

//! Changes the registers of a CPU in the right order.
//!
//! All accesses of a context must complete under its own memory model. Otherwise, when another
//! model is put in force, stores that are not visible yet could still be reordered.
//! [`Completed`] is the proof that these accesses are complete.
//!
//! Pure logic: the registers are behind [`Access`], for which tests have a fake.

use super::policy::{
    advertises,
    model_in,
    register_of_guests,
    with_model,
    Model,
    Register,
    Unknown, //
};
use kernel::arm64::{
    access::Access,
    sysreg::{
        CurrentEL, CurrentEL_EL_EL2, SystemRegister, ACTLR_EL1, ACTLR_EL12, AIDR_EL1,
        IMP_APL_ACTLR_EL12, MIDR_EL1,
    },
};

/// Returns the model in `register`.
pub(crate) fn model(cpu: &impl Access, register: Register) -> Model {
    match register {
        Register::Own => model_in(cpu.read::<ACTLR_EL1>()),
        // SAFETY: `register_of_guests()` has returned `El12` for this CPU. Reading has no effect.
        Register::El12 => model_in(unsafe { cpu.read_present::<ACTLR_EL12>() }),
        // SAFETY: As for `El12`.
        Register::ImpdefEl12 => model_in(unsafe { cpu.read_present::<IMP_APL_ACTLR_EL12>() }),
    }
}

/// Sets the model in `register`, without changing other bits.
fn set_model(cpu: &impl Access, register: Register, model: Model, _: Completed) {
    match register {
        // SAFETY: Every CPU has ACTLR_EL1.
        Register::Own => unsafe { update::<ACTLR_EL1>(cpu, model) },
        // SAFETY: `register_of_guests()` has returned `El12` for this CPU.
        Register::El12 => unsafe { update::<ACTLR_EL12>(cpu, model) },
        // SAFETY: As for `El12`.
        Register::ImpdefEl12 => unsafe { update::<IMP_APL_ACTLR_EL12>(cpu, model) },
    }
}

/// Sets the model in ACTLR_EL1 by the name `R`.
///
/// # Safety
///
/// The CPU has `R`.
unsafe fn update<R: SystemRegister>(cpu: &impl Access, model: Model) {
    // SAFETY: By the caller's contract. Only this file changes the register, never in an interrupt
    // handler, so the write changes only the bit of the model. It has this meaning because only
    // CPUs that advertise the control come here. The kernel is written for the default model, and
    // total store order allows fewer reorderings.
    unsafe { cpu.write(with_model(cpu.read_present::<R>(), model)) }
}

/// Returns the register of guests, if it is known.
pub(crate) fn register_of_guests_of(cpu: &impl Access) -> Option<Register> {
    // In VHE mode the kernel runs at EL2.
    let vhe = cpu.read::<CurrentEL>().EL() == CurrentEL_EL_EL2;

    register_of_guests(vhe, cpu.read::<MIDR_EL1>())
}

/// Returns whether the CPU has the control: it advertises the control, and writes take effect.
pub(crate) fn has_control(cpu: &impl Access) -> bool {
    advertises(cpu.read::<MIDR_EL1>(), cpu.read::<AIDR_EL1>()) && keeps_models(cpu)
}

/// Proof that the memory accesses of the previous context are complete.
pub(crate) struct Completed(());

impl Completed {
    /// Completes these accesses.
    pub(crate) fn on(cpu: &impl Access) -> Self {
        cpu.complete();
        Self(())
    }

    /// Assumes that these accesses are complete.
    ///
    /// # Safety
    ///
    /// The CPU has executed a DSB since the last access of the previous context.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Puts the model of the next thread in force. The return to user space synchronises the change.
pub(crate) fn switch(cpu: &impl Access, model: Model, completed: Completed) {
    set_model(cpu, Register::Own, model, completed);
}

/// Puts `wanted` in force in `register`, for subsequent kernel code too.
pub(crate) fn put(cpu: &impl Access, register: Register, wanted: Model) {
    if model(cpu, register) != wanted {
        set_model(cpu, register, wanted, Completed::on(cpu));
        cpu.synchronise();
    }
}

/// Returns whether writes of the model to ACTLR_EL1 take effect, and restores the register. A
/// hypervisor may hide the register and ignore writes.
fn keeps_models(cpu: &impl Access) -> bool {
    let found = model(cpu, Register::Own);
    let keeps = |wanted| {
        put(cpu, Register::Own, wanted);
        model(cpu, Register::Own) == wanted
    };
    let both = keeps(Model::Tso) && keeps(Model::Default);

    put(cpu, Register::Own, found);
    both
}

/// The state found when a CPU came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The register that holds the model of guests.
    pub(crate) register: Register,
    /// The model that firmware has left in the kernel's own register.
    pub(crate) own: Model,
    /// The model that firmware has left in `register`; `own` if no separate register is set.
    pub(crate) guests: Model,
}

impl Found {
    /// Returns whether firmware has left total store order in force in either register.
    pub(crate) fn has_tso(self) -> bool {
        self.own == Model::Tso || self.guests == Model::Tso
    }

    /// Encodes `self` as a number other than 0.
    pub(crate) const fn pack(self) -> i8 {
        1 | (self.own as i8) << 1 | (self.guests as i8) << 2 | (self.register as i8) << 3
    }

    /// Returns the model of all guests: total store order if `tso`, otherwise the model that
    /// firmware has left.
    const fn model(self, tso: bool) -> Model {
        if tso {
            Model::Tso
        } else {
            self.guests
        }
    }

    /// Returns whether guests and threads use different registers.
    fn are_apart(self) -> bool {
        self.register != Register::Own
    }

    /// Returns whether a register that only guests use must be set. It is not touched otherwise.
    fn is_set_apart(self, tso: bool) -> bool {
        self.are_apart() && tso
    }
}

impl TryFrom<i8> for Found {
    type Error = Unknown;

    /// Decodes a number from [`Found::pack`]. Fails for 0.
    fn try_from(number: i8) -> Result<Self, Unknown> {
        let number = u8::try_from(number).map_err(|_| Unknown)?;

        if number & 1 == 0 {
            return Err(Unknown);
        }
        Ok(Self {
            register: Register::try_from(number >> 3)?,
            own: Model::try_from(u64::from(number >> 1 & 1))?,
            guests: Model::try_from(u64::from(number >> 2 & 1))?,
        })
    }
}

/// Takes over a CPU whose model of guests is in `register`: sets the default for threads, and the
/// model of guests. Returns the state found.
pub(crate) fn enter(cpu: &impl Access, register: Register, tso: bool) -> Found {
    let own = model(cpu, Register::Own);
    let mut found = Found {
        register,
        own,
        guests: own,
    };

    put(cpu, Register::Own, Model::Default);
    if found.is_set_apart(tso) {
        found.guests = model(cpu, register);
        put(cpu, register, Model::Tso);
    }
    found
}

/// Restores the state found, before the CPU goes to firmware or to another kernel.
pub(crate) fn leave(cpu: &impl Access, tso: bool, found: Found) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, found.guests);
    }
    put(cpu, Register::Own, found.own);
}

/// Restores the models on a CPU that may have lost its registers; `thread` is the current thread's.
pub(crate) fn resume(cpu: &impl Access, tso: bool, found: Found, thread: Model) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, Model::Tso);
    }
    put(cpu, Register::Own, thread);
}

/// Puts the model of guests in force.
pub(crate) fn load_guest(cpu: &impl Access, tso: bool, found: Found) {
    if !found.are_apart() {
        put(cpu, Register::Own, found.model(tso));
    }
}

/// Puts `thread`, the model of a thread, back in force.
pub(crate) fn put_guest(cpu: &impl Access, found: Found, thread: Model) {
    if !found.are_apart() {
        put(cpu, Register::Own, thread);
    }
}

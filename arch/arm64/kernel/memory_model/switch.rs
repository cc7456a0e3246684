// SPDX-License-Identifier: GPL-2.0

//! What is done to the registers of a CPU, and in which order.
//!
//! A memory model governs the accesses that are made under it: those of the context that is left
//! are complete before another model is put in force, or stores that have not become visible yet
//! would be reordered after all. [`Completed`] stands for that.
//!
//! Pure logic: the registers are behind [`Access`], which tests have a fake of.

use super::policy::{
    advertises,
    model_in,
    register_of_guests,
    with_model,
    Model,
    Register, //
};
use kernel::arm64::{
    access::Access,
    sysreg::{
        CurrentEL, CurrentEL_EL_EL2, SystemRegister, ACTLR_EL1, ACTLR_EL12, AIDR_EL1,
        IMP_APL_ACTLR_EL12, MIDR_EL1,
    },
};

/// Returns the model that is set in `register`.
pub(crate) fn model(cpu: &impl Access, register: Register) -> Model {
    match register {
        Register::Own => model_in(cpu.read::<ACTLR_EL1>()),
        // SAFETY: `register_of_guests()` has named it for this CPU. Reading it has no effect.
        Register::El12 => model_in(unsafe { cpu.read_present::<ACTLR_EL12>() }),
        // SAFETY: Likewise.
        Register::ImpdefEl12 => model_in(unsafe { cpu.read_present::<IMP_APL_ACTLR_EL12>() }),
    }
}

/// Sets the model in `register`, and nothing else there.
fn set_model(cpu: &impl Access, register: Register, model: Model, _: Completed) {
    match register {
        // SAFETY: Every CPU has it.
        Register::Own => unsafe { update::<ACTLR_EL1>(cpu, model) },
        // SAFETY: `register_of_guests()` has named it for this CPU.
        Register::El12 => unsafe { update::<ACTLR_EL12>(cpu, model) },
        // SAFETY: Likewise.
        Register::ImpdefEl12 => unsafe { update::<IMP_APL_ACTLR_EL12>(cpu, model) },
    }
}

/// Sets the model in ACTLR_EL1 by the name `R`.
///
/// # Safety
///
/// The CPU has `R`.
unsafe fn update<R: SystemRegister>(cpu: &impl Access, model: Model) {
    // SAFETY: By the caller's contract. Only this file changes the register, and the caller has the
    // CPU for itself, so that only the bit changes that is the model on CPUs which advertise the
    // control, the only ones that come here. The kernel is written for the default model, and the
    // other one allows less.
    unsafe { cpu.write(with_model(cpu.read_present::<R>(), model)) }
}

/// Returns the register of guests, if it is known.
pub(crate) fn register_of_guests_of(cpu: &impl Access) -> Option<Register> {
    // In VHE mode the kernel runs at EL2.
    let vhe = cpu.read::<CurrentEL>().EL() == CurrentEL_EL_EL2;

    register_of_guests(vhe, cpu.read::<MIDR_EL1>())
}

/// Returns whether the CPU has the control: it says so, and keeps what is set.
pub(crate) fn has_control(cpu: &impl Access) -> bool {
    advertises(cpu.read::<MIDR_EL1>(), cpu.read::<AIDR_EL1>()) && keeps_models(cpu)
}

/// The memory accesses of the context that is left are complete.
pub(crate) struct Completed(());

impl Completed {
    /// Completes them.
    pub(crate) fn on(cpu: &impl Access) -> Self {
        cpu.complete();
        Self(())
    }

    /// Takes it for granted that they are.
    ///
    /// # Safety
    ///
    /// The CPU has executed a DSB since the last access of the context that is left.
    pub(crate) unsafe fn assume() -> Self {
        Self(())
    }
}

/// Puts the model of the next thread in force. The way to user space synchronises.
pub(crate) fn switch(cpu: &impl Access, model: Model, completed: Completed) {
    set_model(cpu, Register::Own, model, completed);
}

/// Puts `wanted` in force in `register`, for what the kernel goes on with too.
pub(crate) fn put(cpu: &impl Access, register: Register, wanted: Model) {
    if model(cpu, register) != wanted {
        set_model(cpu, register, wanted, Completed::on(cpu));
        cpu.synchronise();
    }
}

/// Returns whether the CPU keeps what is set in its own register, which is left as it was found.
/// A hypervisor may hide the register and ignore writes.
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

/// What there was to find out when a CPU came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The register that has the model of guests.
    pub(crate) register: Register,
    /// What firmware has left.
    pub(crate) own: Model,
    /// The same as `own` where no register of their own is set.
    pub(crate) guests: Model,
}

impl Found {
    /// Returns whether firmware has left total store order in force for anybody.
    pub(crate) fn has_tso(self) -> bool {
        self.own == Model::Tso || self.guests == Model::Tso
    }

    /// Returns a number other than 0 for it.
    pub(crate) const fn pack(self) -> i8 {
        1 | (self.own as i8) << 1 | (self.guests as i8) << 2 | (self.register as i8) << 3
    }

    /// Returns what a number stands for, or [`None`] if it is 0.
    pub(crate) const fn unpack(number: i8) -> Option<Self> {
        const fn model(bit: i8) -> Model {
            if bit != 0 {
                Model::Tso
            } else {
                Model::Default
            }
        }

        if number == 0 {
            return None;
        }
        Some(Self {
            register: match number >> 3 {
                0 => Register::Own,
                1 => Register::El12,
                _ => Register::ImpdefEl12,
            },
            own: model(number & 2),
            guests: model(number & 4),
        })
    }

    /// Returns the model of all guests: total store order if they are to have it (`tso`), otherwise
    /// what firmware has left.
    const fn model(self, tso: bool) -> Model {
        if tso {
            Model::Tso
        } else {
            self.guests
        }
    }

    /// Returns whether the register of guests is not the one that threads use.
    fn are_apart(self) -> bool {
        self.register != Register::Own
    }

    /// Returns whether a register that is only theirs is to be set. Nothing touches it otherwise.
    fn is_set_apart(self, tso: bool) -> bool {
        self.are_apart() && tso
    }
}

/// Takes over a CPU that has the model of guests in `register`: threads start with the default, and
/// guests get theirs. Returns what was found.
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

/// Leaves a CPU as it was found, to firmware or to another kernel.
pub(crate) fn leave(cpu: &impl Access, tso: bool, found: Found) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, found.guests);
    }
    put(cpu, Register::Own, found.own);
}

/// Goes on where the CPU may have lost its registers, in a thread that has `thread`.
pub(crate) fn resume(cpu: &impl Access, tso: bool, found: Found, thread: Model) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, Model::Tso);
    }
    put(cpu, Register::Own, thread);
}

/// Makes way for a guest.
pub(crate) fn load_guest(cpu: &impl Access, tso: bool, found: Found) {
    if !found.are_apart() {
        put(cpu, Register::Own, found.model(tso));
    }
}

/// Goes back to a thread, which has `thread`.
pub(crate) fn put_guest(cpu: &impl Access, found: Found, thread: Model) {
    if !found.are_apart() {
        put(cpu, Register::Own, thread);
    }
}

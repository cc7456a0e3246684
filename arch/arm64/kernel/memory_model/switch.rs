// SPDX-License-Identifier: GPL-2.0

//! What is done to the registers of a CPU, and in which order.
//!
//! A memory model governs the accesses that are made under it: those of the context that is left
//! are complete before another model is put in force, or stores that have not become visible yet
//! would be reordered after all. [`Completed`] stands for that.
//!
//! Pure logic: the registers are behind [`Cpu`], which tests have a fake of.

use super::policy::{Model, Register};

/// The CPU that this runs on.
pub(crate) trait Cpu {
    /// Returns the model that is set in `register`.
    fn model(&self, register: Register) -> Model;

    /// Sets the model in `register`, and nothing else there.
    fn set_model(&self, register: Register, model: Model, completed: Completed);

    /// Completes the memory accesses so far: a DSB.
    fn complete(&self);

    /// Makes the kernel go on with what has been set: an ISB.
    fn synchronise(&self);
}

/// The memory accesses of the context that is left are complete.
pub(crate) struct Completed(());

impl Completed {
    /// Completes them.
    pub(crate) fn on(cpu: &impl Cpu) -> Self {
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
pub(crate) fn switch(cpu: &impl Cpu, model: Model, completed: Completed) {
    cpu.set_model(Register::Own, model, completed);
}

/// Puts `model` in force in `register`, for what the kernel goes on with too.
pub(crate) fn put(cpu: &impl Cpu, register: Register, model: Model) {
    if cpu.model(register) != model {
        cpu.set_model(register, model, Completed::on(cpu));
        cpu.synchronise();
    }
}

/// Returns whether the CPU keeps what is set in its own register, which is left as it was found.
/// A hypervisor may hide the register and ignore writes.
pub(crate) fn keeps_models(cpu: &impl Cpu) -> bool {
    let found = cpu.model(Register::Own);
    let keeps = |model| {
        put(cpu, Register::Own, model);
        cpu.model(Register::Own) == model
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
pub(crate) fn enter(cpu: &impl Cpu, register: Register, tso: bool) -> Found {
    let own = cpu.model(Register::Own);
    let mut found = Found {
        register,
        own,
        guests: own,
    };

    put(cpu, Register::Own, Model::Default);
    if found.is_set_apart(tso) {
        found.guests = cpu.model(register);
        put(cpu, register, Model::Tso);
    }
    found
}

/// Leaves a CPU as it was found, to firmware or to another kernel.
pub(crate) fn leave(cpu: &impl Cpu, tso: bool, found: Found) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, found.guests);
    }
    put(cpu, Register::Own, found.own);
}

/// Goes on where the CPU may have lost its registers, in a thread that has `thread`.
pub(crate) fn resume(cpu: &impl Cpu, tso: bool, found: Found, thread: Model) {
    if found.is_set_apart(tso) {
        put(cpu, found.register, Model::Tso);
    }
    put(cpu, Register::Own, thread);
}

/// Makes way for a guest.
pub(crate) fn load_guest(cpu: &impl Cpu, tso: bool, found: Found) {
    if !found.are_apart() {
        put(cpu, Register::Own, found.model(tso));
    }
}

/// Goes back to a thread, which has `thread`.
pub(crate) fn put_guest(cpu: &impl Cpu, found: Found, thread: Model) {
    if !found.are_apart() {
        put(cpu, Register::Own, thread);
    }
}

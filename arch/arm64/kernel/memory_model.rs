// SPDX-License-Identifier: GPL-2.0

//! The memory model of a thread.
//!
//! Some CPUs can be told to order memory accesses as x86 does (total store order). Those
//! who translate x86 code want that for the threads that run it, and for no others.
//! [`policy`] says what a request means; this module finds out what the CPUs can do,
//! keeps each thread's model and puts it in force.
//!
//! A thread's model is in `thread.mem_model`, and while it runs in ACTLR_EL1 of its CPU.
//! The two are changed together with interrupts off, so a thread that is preempted or
//! moved finds its own model again: `__switch_to()` compares those of the two threads.
//! While a vCPU is loaded, ACTLR_EL1 has what is in force for guests instead, which is
//! the same for all of them whatever any thread has asked for.
//!
//! C header: [`arch/arm64/include/asm/mem_model.h`](srctree/arch/arm64/include/asm/mem_model.h)

use core::arch::asm;

use kernel::{
    arm64::cpufeature::system_has,
    bindings,
    cpucap,
    interrupt::local_interrupt_disable,
    prelude::*, //
};

#[path = "memory_model/policy.rs"]
mod policy;

use policy::{advertises, request, with_model, without_control, Model, Outcome, Support};

fn support() -> Support {
    if system_has(cpucap!(HAS_TSO_CONTROL)) {
        Support::Switched
    } else if system_has(cpucap!(HAS_TSO_FIXED)) {
        Support::Fixed
    } else {
        Support::None
    }
}

macro_rules! read_sysreg {
    ($register:literal) => {{
        let value: u64;
        // SAFETY: Reading this register has no effect.
        unsafe {
            asm!(
                concat!("mrs {}, ", $register),
                out(reg) value,
                options(nomem, nostack, preserves_flags)
            )
        };
        value
    }};
}

fn read_actlr() -> u64 {
    read_sysreg!("actlr_el1")
}

/// Writes ACTLR_EL1. In force from the next context synchronisation on, which the way
/// to user space or into a guest has.
fn write_actlr(value: u64) {
    // SAFETY: What this register changes here is the order of memory accesses, and to one
    // that allows less; or it had that value before.
    unsafe { asm!("msr actlr_el1, {}", in(reg) value, options(nostack, preserves_flags)) };
}

fn synchronise() {
    // SAFETY: An ISB is always allowed.
    unsafe { asm!("isb", options(nostack, preserves_flags)) };
}

fn put_in_force(model: Model) {
    write_actlr(with_model(read_actlr(), model));
}

/// Whether this CPU has the control: it says so, and the bit keeps what is written to
/// it. A hypervisor may hide the register and ignore writes. It is left as it was found.
fn has_control() -> bool {
    if !advertises(read_sysreg!("midr_el1"), read_sysreg!("aidr_el1")) {
        return false;
    }
    let found = read_actlr();
    let keeps = |model| {
        let wanted = with_model(found, model);
        write_actlr(wanted);
        synchronise();
        read_actlr() == wanted
    };
    let both = keeps(Model::Tso) && keeps(Model::Default);
    write_actlr(found);
    synchronise();
    both
}

/// Whether this CPU can switch. Called on each CPU as it comes up, interrupts off.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn memory_model_has_control() -> bool {
    has_control()
}

/// Puts a model in force on this CPU.
///
/// # Safety
///
/// The system has the control, and preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_load(model: u32) {
    put_in_force(match model {
        x if x == Model::Tso as u32 => Model::Tso,
        _ => Model::Default,
    });
}

/// `PR_GET_MEM_MODEL` of the current thread: the model it has asked for.
///
/// # Safety
///
/// `me` is the current task.
#[export]
pub unsafe extern "C" fn memory_model_get(me: *mut bindings::task_struct) -> c_long {
    // SAFETY: By the caller's contract; only the task itself writes it.
    unsafe { (&raw const (*me).thread.mem_model).read() as c_long }
}

/// `PR_SET_MEM_MODEL` of the current thread: 0, or `-EINVAL` for a model that is
/// unknown or cannot be had.
///
/// # Safety
///
/// `me` is the current task.
#[export]
pub unsafe extern "C" fn memory_model_set(
    me: *mut bindings::task_struct,
    number: c_ulong,
) -> c_long {
    let outcome = Model::new(number as u64).map_or(Outcome::Refuse, |it| request(support(), it));
    match outcome {
        Outcome::Refuse => EINVAL.to_errno() as c_long,
        Outcome::Nothing => 0,
        Outcome::Switch(model) => {
            let _guard = local_interrupt_disable();

            // SAFETY: By the caller's contract. A switch to another thread looks at it, on
            // this CPU, and has to wait for the guard.
            unsafe { (&raw mut (*me).thread.mem_model).write(model as u32) };
            put_in_force(model);
            0
        }
    }
}

/// See `memory_model_hide_aidr()`.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn __memory_model_hide_aidr(aidr: u64) -> u64 {
    without_control(aidr)
}

/// See `memory_model_hide_actlr()`.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn __memory_model_hide_actlr(actlr: u64) -> u64 {
    with_model(actlr, Model::Default)
}

#[cfg(CONFIG_ARM64_MEMORY_MODEL_CONTROL_KUNIT_TEST)]
#[kunit_tests(arm64_memory_model)]
mod tests {
    use super::*;

    /// The numbers are those of existing programs.
    #[test]
    fn numbers() {
        assert_eq!(Model::Default as u32, bindings::PR_SET_MEM_MODEL_DEFAULT);
        assert_eq!(Model::Tso as u32, bindings::PR_SET_MEM_MODEL_TSO);
        assert_eq!(bindings::PR_GET_MEM_MODEL, 0x6d4d444c);
        assert_eq!(bindings::PR_SET_MEM_MODEL, 0x4d4d444c);
    }

    /// Looking for the control leaves the register as it was.
    #[test]
    fn detection_restores() {
        let _guard = local_interrupt_disable();
        let found = read_actlr();

        assert_eq!(has_control(), system_has(cpucap!(HAS_TSO_CONTROL)));
        assert_eq!(read_actlr(), found);
    }

    /// A kernel thread has the default model.
    #[test]
    fn kernel_threads_are_default() {
        let _guard = local_interrupt_disable();

        if system_has(cpucap!(HAS_TSO_CONTROL)) {
            assert_eq!(read_actlr() & policy::ACTLR_EL1_EN_TSO, 0);
        }
    }
}

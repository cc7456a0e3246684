// SPDX-License-Identifier: GPL-2.0

//! The memory model of a thread.
//!
//! Some CPUs can order memory accesses as x86 does (total store order). Translators of x86 code
//! need this order for the threads that run translated code, and for no others.
//! [`policy`] decides what a request means and which register holds a model, [`switch`] changes
//! the registers in the right order; this module detects what the CPUs can do, keeps each
//! thread's model and calls [`switch`].
//!
//! A thread's model is in `thread.memory_model` and, while the thread runs, in ACTLR_EL1 of its
//! CPU. The thread itself changes both together, with preemption off, so a thread that is
//! preempted or moved gets its model back: `__switch_to()` compares the models of the two threads.
//! All guests have the same model, whatever threads have asked for. Where guests use ACTLR_EL1
//! too, it holds the model of guests while a vCPU is loaded.
//!
//! When a CPU comes up, the models that firmware has left in its registers are recorded; they are
//! restored when the CPU leaves.
//!
//! C header: [`asm/memory_model.h`](srctree/arch/arm64/include/asm/memory_model.h)

use core::slice;

use kernel::{
    arm64::{
        access::Access,
        cpufeature::system_has,
        sysreg::{ACTLR_EL1, MIDR_EL1},
        this_cpu::ThisCpu, //
    },
    bindings,
    cpu::CpuId,
    cpucap,
    interrupt::local_interrupt_disable,
    prelude::*,
    sync::atomic::{Atomic, Relaxed}, //
};

mod policy;

mod switch;

use policy::{
    all_always_tso,
    parse_option,
    request,
    Model,
    Outcome,
    Register,
    Support, //
};
use switch::{Completed, Found};

/// For `pr_err!()` and the like.
const __LOG_PREFIX: &[u8] = b"memory_model\0";

/// Whether the command line has `kvm-arm.tso=on`.
#[link_section = ".data..ro_after_init"]
static GUESTS_WANT_TSO: Atomic<bool> = Atomic::new(false);

/// The [`Found`] of each CPU that is up, packed; 0 for other CPUs. Each CPU writes its own entry.
static FOUND: [Atomic<i8>; bindings::NR_CPUS as usize] =
    [const { Atomic::new(0) }; bindings::NR_CPUS as usize];

/// Returns this CPU's entry of [`FOUND`].
fn slot(_: &ThisCpu<'_>) -> Option<&'static Atomic<i8>> {
    FOUND.get(CpuId::current().as_u32() as usize)
}

/// Returns the state found when this CPU came up, or [`None`] if it has not been taken over.
fn found_on(cpu: &ThisCpu<'_>) -> Option<Found> {
    Found::try_from(slot(cpu)?.load(Relaxed)).ok()
}

/// Returns MIDR_EL1 of the current CPU, from which the caller may migrate.
fn midr() -> MIDR_EL1 {
    let guard = local_interrupt_disable();

    ThisCpu::new(&guard).read()
}

/// Returns whether all guests have total store order.
fn guests_have_tso() -> bool {
    system_has(cpucap!(HAS_TSO_GUESTS))
}

fn support() -> Support {
    if system_has(cpucap!(HAS_TSO_CONTROL)) {
        Support::Switched
    } else if system_has(cpucap!(HAS_TSO_FIXED)) {
        Support::Fixed
    } else {
        Support::None
    }
}

/// Returns the model that a value of `thread.memory_model` stands for.
fn model_of_thread(number: u32) -> Model {
    Model::try_from(u64::from(number)).unwrap_or(Model::Default)
}

/// Returns whether this CPU can switch. Called on each CPU as it comes up.
///
/// # Safety
///
/// Preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_has_control() -> bool {
    // SAFETY: By the caller's contract.
    switch::has_control(&unsafe { ThisCpu::assume() })
}

/// Returns whether all guests must have total store order and this CPU can give it to them. Called
/// on each CPU as it comes up.
///
/// # Safety
///
/// Preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_gives_guests_tso() -> bool {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };

    GUESTS_WANT_TSO.load(Relaxed)
        && switch::register_of_guests_of(&cpu).is_some()
        && switch::has_control(&cpu)
}

/// Returns whether all the CPUs that this system may run on always have total store order. These
/// are the CPUs in `cpus`, or this CPU if `cpus` is empty.
///
/// # Safety
///
/// `cpus` has `number` entries, if that is not 0.
#[export]
pub unsafe extern "C" fn memory_model_is_fixed(
    cpus: *const bindings::target_impl_cpu,
    number: u64,
) -> bool {
    if number == 0 {
        return all_always_tso([midr()].into_iter());
    }
    // SAFETY: By the caller's contract.
    let cpus = unsafe { slice::from_raw_parts(cpus, number as usize) };

    all_always_tso(cpus.iter().map(|cpu| MIDR_EL1::from_raw(cpu.midr)))
}

/// Takes over this CPU on a system whose CPUs all have the control: records the models that
/// firmware has left, and sets the default for threads.
///
/// # Safety
///
/// Preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_cpu_enable() {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };
    // If the register of guests is not known, assume that they use ACTLR_EL1.
    let register = switch::register_of_guests_of(&cpu).unwrap_or(Register::Own);
    let found = switch::enter(&cpu, register, guests_have_tso());

    if found.has_tso() {
        pr_info!(
            "CPU{}: firmware has left total store order in force\n",
            CpuId::current().as_u32()
        );
    }
    if let Some(slot) = slot(&cpu) {
        slot.store(found.pack(), Relaxed);
    }
}

/// Restores on this CPU the models that firmware has left.
///
/// # Safety
///
/// The system has the control, preemption is off, and neither a thread nor a guest runs on this CPU
/// before it is taken over again.
#[export]
pub unsafe extern "C" fn memory_model_leave() {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };

    if let Some(found) = found_on(&cpu) {
        switch::leave(&cpu, guests_have_tso(), found);
    }
    if let Some(slot) = slot(&cpu) {
        slot.store(0, Relaxed);
    }
}

/// Restores the models of guests and of the current thread (`thread`) on this CPU, which may have
/// lost its registers.
///
/// # Safety
///
/// The system has the control, and preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_resume(thread: u32) {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };

    if let Some(found) = found_on(&cpu) {
        switch::resume(&cpu, guests_have_tso(), found, model_of_thread(thread));
    }
}

/// Puts the model of the next thread in force.
///
/// # Safety
///
/// The system has the control, preemption is off, and the CPU has executed a DSB since the last
/// access of the thread before.
#[export]
pub unsafe extern "C" fn memory_model_switch(thread: u32) {
    // SAFETY: By the caller's contract.
    let (cpu, completed) = unsafe { (ThisCpu::assume(), Completed::assume()) };

    switch::switch(&cpu, model_of_thread(thread), completed);
}

/// Puts the model of guests in force, if guests use the register of threads.
///
/// # Safety
///
/// The system has the control, and preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_load_guest() {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };

    if let Some(found) = found_on(&cpu) {
        switch::load_guest(&cpu, guests_have_tso(), found);
    }
}

/// Puts `thread`, the model of the current thread, back in force.
///
/// # Safety
///
/// The system has the control, and preemption is off.
#[export]
pub unsafe extern "C" fn memory_model_put_guest(thread: u32) {
    // SAFETY: By the caller's contract.
    let cpu = unsafe { ThisCpu::assume() };

    if let Some(found) = found_on(&cpu) {
        switch::put_guest(&cpu, found, model_of_thread(thread));
    }
}

/// Implements `PR_GET_MEM_MODEL`: returns the model that the current thread has asked for.
///
/// # Safety
///
/// `me` is the current task.
#[export]
pub unsafe extern "C" fn memory_model_get(me: *mut bindings::task_struct) -> c_long {
    // SAFETY: By the caller's contract; only the task itself writes the field.
    unsafe { (&raw const (*me).thread.memory_model).read() as c_long }
}

/// Implements `PR_SET_MEM_MODEL` for the current thread. Returns 0, or `-EINVAL` for a model that
/// is unknown or not available.
///
/// # Safety
///
/// `me` is the current task.
#[export]
pub unsafe extern "C" fn memory_model_set(
    me: *mut bindings::task_struct,
    number: c_ulong,
) -> c_long {
    let outcome =
        Model::try_from(number as u64).map_or(Outcome::Refuse, |it| request(support(), it));
    match outcome {
        Outcome::Refuse => EINVAL.to_errno() as c_long,
        Outcome::Nothing => 0,
        Outcome::Switch(model) => {
            let guard = local_interrupt_disable();
            let cpu = ThisCpu::new(&guard);

            // SAFETY: By the caller's contract. Only the task itself writes the field. Others read
            // it on this CPU only, in a switch to or from the task, which `cpu` excludes.
            unsafe { (&raw mut (*me).thread.memory_model).write(model as u32) };
            switch::put(&cpu, Register::Own, model);
            0
        }
    }
}

/// Reads the value of `kvm-arm.tso=`. Called early, on the boot CPU.
///
/// # Safety
///
/// `arg` is NULL or a string.
#[export]
pub unsafe extern "C" fn memory_model_guests_setup(arg: *mut c_char) -> c_int {
    // SAFETY: By the caller's contract.
    let value = (!arg.is_null()).then(|| unsafe { CStr::from_char_ptr(arg) }.to_bytes());

    match value.and_then(parse_option) {
        Some(model) => {
            GUESTS_WANT_TSO.store(model == Model::Tso, Relaxed);
            0
        }
        None => {
            pr_warn!("kvm-arm.tso= takes on or off: ignored\n");
            EINVAL.to_errno()
        }
    }
}

/// Logs if guests do not get the model that `kvm-arm.tso=` asks for. Called once, when KVM
/// initialises.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn memory_model_guests_init() {
    if !GUESTS_WANT_TSO.load(Relaxed) || guests_have_tso() {
        return;
    }
    match support() {
        Support::Fixed => {}
        Support::None => {
            pr_err!("kvm-arm.tso=on: not available: not all CPUs can switch to total store order\n")
        }
        Support::Switched => pr_err!(
            "kvm-arm.tso=on: not available: the register that guests have in VHE mode is not known \
             for all CPUs\n"
        ),
    }
}

#[cfg(CONFIG_ARM64_MEMORY_MODEL_CONTROL_KUNIT_TEST)]
#[kunit_tests(arm64_memory_model)]
mod tests {
    use super::*;

    /// The numbers are part of the user-space ABI.
    #[test]
    fn numbers() {
        assert_eq!(Model::Default as u32, bindings::PR_SET_MEM_MODEL_DEFAULT);
        assert_eq!(Model::Tso as u32, bindings::PR_SET_MEM_MODEL_TSO);
        assert_eq!(bindings::PR_GET_MEM_MODEL, 0x6d4d444c);
        assert_eq!(bindings::PR_SET_MEM_MODEL, 0x4d4d444c);
    }

    /// The option is in memory that the kernel makes read-only.
    #[test]
    fn read_only_after_init() {
        let start = (&raw const bindings::__start_ro_after_init).addr();
        let end = (&raw const bindings::__end_ro_after_init).addr();

        assert!((start..end).contains(&(&raw const GUESTS_WANT_TSO).addr()));
    }

    /// Detection of the control leaves the register unchanged.
    #[test]
    fn detection_restores() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        let found = cpu.read::<ACTLR_EL1>().into_raw();

        let has = switch::has_control(&cpu);
        assert_eq!(has, system_has(cpucap!(HAS_TSO_CONTROL)));
        assert_eq!(cpu.read::<ACTLR_EL1>().into_raw(), found);
    }

    /// A CPU that resumes gets its thread's model, and a CPU that leaves gets firmware's model, for
    /// any earlier value of the register.
    #[test]
    fn resume_and_leave() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        let model = || switch::model(&cpu, Register::Own);
        let Some(found) = found_on(&cpu) else {
            return;
        };

        switch::put(&cpu, Register::Own, Model::Tso);
        // SAFETY: Interrupts are off. The call restores only state that a running CPU has already.
        unsafe { bindings::__cpu_suspend_exit() };
        assert_eq!(model(), Model::Default);

        switch::put(&cpu, Register::Own, Model::Tso);
        // SAFETY: Nothing else runs on this CPU until it is taken over again.
        unsafe { memory_model_leave() };
        let left = model();
        // SAFETY: `guard` has preemption off.
        unsafe { memory_model_cpu_enable() };
        assert_eq!((left, model()), (found.own, Model::Default));
    }

    /// One CPU without total store order in the list is enough to refuse.
    #[test]
    fn fixed_is_of_all() {
        let cpu = |midr| bindings::target_impl_cpu {
            midr,
            ..Default::default()
        };
        let (a64fx, other) = (cpu(0x460f_0010), cpu(0x410f_d0c0));
        // SAFETY: The numbers are those of the entries.
        let fixed = |cpus: &[_]| unsafe { memory_model_is_fixed(cpus.as_ptr(), cpus.len() as u64) };

        assert!(fixed(&[a64fx, a64fx]));
        assert!(!fixed(&[a64fx, other]));
        assert!(!fixed(&[other, a64fx]));
    }

    /// A kernel thread has the default model.
    #[test]
    fn kernel_threads_are_default() {
        let guard = local_interrupt_disable();

        if system_has(cpucap!(HAS_TSO_CONTROL)) {
            let model = switch::model(&ThisCpu::new(&guard), Register::Own);
            assert_eq!(model, Model::Default);
        }
    }

    /// Firmware's models are recorded for CPUs that are up, and only on machines with the control.
    #[test]
    fn firmware_is_remembered() {
        let guard = local_interrupt_disable();
        let found = found_on(&ThisCpu::new(&guard));

        assert_eq!(found.is_some(), system_has(cpucap!(HAS_TSO_CONTROL)));
    }
}

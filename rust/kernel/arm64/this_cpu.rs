// SPDX-License-Identifier: GPL-2.0

//! The current CPU.

use super::{access::Access, sysreg::SystemRegister};
use core::{arch::asm, marker::PhantomData};
use kernel::{interrupt::LocalInterruptDisabled, types::NotThreadSafe};

/// `MRS X0, <register>` and `MSR <register>, X0` without the operands that name the register (Arm
/// ARM C6.2). [`Encoding`](super::sysreg::Encoding) has these operands at the same bits.
const MRS_X0: u32 = 0xd520_0000;
const MSR_X0: u32 = 0xd500_0000;

/// The current CPU, while the task cannot leave it.
///
/// # Invariants
///
/// While a value exists, the kernel is not preempted: the task stays on the CPU, and no other task
/// runs there.
pub struct ThisCpu<'a>(PhantomData<&'a LocalInterruptDisabled>, NotThreadSafe);

impl<'a> ThisCpu<'a> {
    /// Returns the current CPU for as long as interrupts are off.
    pub fn new(_: &'a LocalInterruptDisabled) -> Self {
        // INVARIANT: In a preemptible kernel the guard keeps interrupts off, so the task is not
        // preempted. In other kernels the guard guarantees nothing, but they are not preempted.
        Self(PhantomData, NotThreadSafe)
    }

    /// Returns the current CPU, for an entry point whose caller has disabled preemption.
    ///
    /// # Safety
    ///
    /// Preemption is off for as long as the returned value exists.
    ///
    /// Always inline: the hypervisor's object uses this function, and cannot call this crate.
    #[inline(always)]
    pub unsafe fn assume() -> Self {
        // INVARIANT: By the caller's contract.
        Self(PhantomData, NotThreadSafe)
    }
}

impl Access for ThisCpu<'_> {
    #[inline]
    unsafe fn read_present<R: SystemRegister>(&self) -> R {
        let value: u64;

        // SAFETY: By the caller's contract.
        unsafe {
            asm!(
                ".inst {mrs}",
                mrs = const { MRS_X0 | R::ENCODING.as_u32() },
                out("x0") value,
                options(nomem, nostack, preserves_flags),
            )
        };
        R::from(value)
    }

    #[inline]
    unsafe fn write<R: SystemRegister>(&self, value: R) {
        let value: u64 = value.into();

        // SAFETY: By the caller's contract. The compiler moves no memory access across the write.
        unsafe {
            asm!(
                ".inst {msr}",
                msr = const { MSR_X0 | R::ENCODING.as_u32() },
                in("x0") value,
                options(nostack, preserves_flags),
            )
        };
    }

    #[inline]
    fn complete(&self) {
        // SAFETY: A barrier changes no state.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    }

    #[inline]
    fn complete_profiling(&self) {
        // SAFETY: A barrier changes no state. `PSB CSYNC` is a hint, which other CPUs ignore.
        unsafe { asm!("hint #17", "dsb nsh", options(nostack, preserves_flags)) };
    }

    #[inline]
    fn synchronise(&self) {
        // SAFETY: A barrier changes no state.
        unsafe { asm!("isb", options(nostack, preserves_flags)) };
    }
}

#[cfg(CONFIG_RUST_ARM64_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_arm64_this_cpu)]
mod tests {
    use super::*;
    use kernel::{
        arm64::{
            cpufeature::recorded,
            sysreg::{for_tests::CONTEXTIDR_EL1, *},
        },
        cpu::CpuId,
        interrupt::local_interrupt_disable,
    };

    /// The instruction reads the register with the given encoding.
    #[test]
    fn reads_are_of_this_cpu() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        let ctr = recorded::<CTR_EL0>(CpuId::current());

        // C records the effective value of CTR_EL0.IDC, which may differ.
        let read = cpu.read::<CTR_EL0>().with_IDC(false).into_raw();
        assert_eq!(ctr.map(|it| it.with_IDC(false).into_raw()), Some(read));
        let el = cpu.read::<CurrentEL>().EL();
        assert!(el == CurrentEL_EL_EL1 || el == CurrentEL_EL_EL2);
    }

    /// A write takes effect. CONTEXTIDR_EL1 is only for tracers, so no code relies on its value.
    #[test]
    fn writes_are_to_the_register() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        // SAFETY: Every CPU has CONTEXTIDR_EL1.
        let found: CONTEXTIDR_EL1 = unsafe { cpu.read_present() };

        for value in [0, 0xffff_ffff, 0x89ab_cdef] {
            // SAFETY: As above, and the value is restored.
            let read: CONTEXTIDR_EL1 = unsafe {
                cpu.write(CONTEXTIDR_EL1::from_raw(value));
                cpu.read_present()
            };
            assert_eq!(read.into_raw(), value);
        }
        // SAFETY: As above.
        unsafe { cpu.write(found) };
    }
}

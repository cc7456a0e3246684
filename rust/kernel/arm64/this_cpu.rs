// SPDX-License-Identifier: GPL-2.0

//! The CPU that this runs on.

use super::{access::Access, sysreg::SystemRegister};
use core::{arch::asm, marker::PhantomData};
use kernel::{interrupt::LocalInterruptDisabled, types::NotThreadSafe};

/// `MRS X0, <register>` and `MSR <register>, X0` without the operands that name the register (Arm
/// ARM C6.2), which [`Encoding`](super::sysreg::Encoding) has in place.
const MRS_X0: u32 = 0xd520_0000;
const MSR_X0: u32 = 0xd500_0000;

/// The CPU that this runs on, while that stays the same.
///
/// # Invariants
///
/// While one exists, the kernel is not preempted: the CPU stays the same, and no other task runs on
/// it.
pub struct ThisCpu<'a>(PhantomData<&'a LocalInterruptDisabled>, NotThreadSafe);

impl<'a> ThisCpu<'a> {
    /// Returns the CPU for as long as interrupts are off.
    pub fn new(_: &'a LocalInterruptDisabled) -> Self {
        // INVARIANT: A preemptible kernel has interrupts off, so that nothing preempts it; one that
        // is not, where the guard promises nothing, is not preempted either.
        Self(PhantomData, NotThreadSafe)
    }

    /// Returns the CPU where the caller of an entry point has seen to it.
    ///
    /// # Safety
    ///
    /// Preemption is off for as long as it exists.
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

        // SAFETY: By the caller's contract. The compiler moves no access to memory across it.
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

    /// The instruction reads the register that its encoding names.
    #[test]
    fn reads_are_of_this_cpu() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        let ctr = recorded::<CTR_EL0>(CpuId::current());

        // C records what is effective as CTR_EL0.IDC.
        let read = cpu.read::<CTR_EL0>().with_IDC(false).into_raw();
        assert_eq!(ctr.map(|it| it.with_IDC(false).into_raw()), Some(read));
        let el = cpu.read::<CurrentEL>().EL();
        assert!(el == CurrentEL_EL_EL1 || el == CurrentEL_EL_EL2);
    }

    /// A write arrives. What tracers see of a task is not relied on by anything.
    #[test]
    fn writes_are_to_the_register() {
        let guard = local_interrupt_disable();
        let cpu = ThisCpu::new(&guard);
        // SAFETY: Every CPU has it.
        let found: CONTEXTIDR_EL1 = unsafe { cpu.read_present() };

        for value in [0, 0xffff_ffff, 0x89ab_cdef] {
            // SAFETY: As above, and it is put back.
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

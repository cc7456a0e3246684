// SPDX-License-Identifier: GPL-2.0

//! Functions of a VM and of its vCPUs on which FEAT_SPE in guests relies.
//!
//! C header: [`asm/kvm_spe.h`](srctree/arch/arm64/include/asm/kvm_spe.h)

use super::{Vcpu, Vm};
use crate::{
    arm64::cpufeature::possible_cpus,
    bindings,
    cpu::CpuId,
    cpumask::CpumaskVar,
    error::to_result,
    prelude::*,
    sync::atomic::Atomic, //
};

/// Counts a VM that has an SPU, until C destroys the VM.
///
/// Context: process; may sleep.
#[inline]
pub fn add_user() {
    // SAFETY: Always safe to call.
    unsafe { bindings::kvm_spe_add_user() };
}

/// The registers that identify the SPU of a VM, and other properties of the SPU, except the unit
/// itself. The task that holds `config_lock` may change them until a vCPU has run, and `relaxed`
/// may be incremented at any time. Other tasks may read them at the same time.
pub struct VmSpu<'a> {
    /// The highest value of ID_AA64DFR0_EL1.PMSVer.
    pub pmsver: &'a Atomic<i8>,
    /// PMSIDR_EL1.
    pub pmsidr: &'a Atomic<u64>,
    /// PMBIDR_EL1, as an exception level reads it that may use the buffer.
    pub pmbidr: &'a Atomic<u64>,
    /// The bits of PMSEVFR_EL1 and PMSNEVFR_EL1 that the unit has.
    pub events: &'a Atomic<u64>,
    /// The interrupt of each vCPU, or 0.
    pub irq: &'a Atomic<u32>,
    /// Counts the permissions that mappings have got. TLBs may hold translations without them.
    pub relaxed: &'a Atomic<u32>,
}

impl Vm {
    /// Returns the properties of the VM's SPU: `kvm->arch.spe`.
    ///
    /// Context: any.
    #[inline]
    pub fn spu(&self) -> VmSpu<'_> {
        // SAFETY: The VM is alive. C reads `pmsver` and `pmsidr` with READ_ONCE() if another task
        // may change them, and `irq` with `config_lock` held.
        unsafe {
            let spe = &raw mut (*self.as_raw()).arch.spe;

            VmSpu {
                pmsver: Atomic::from_ptr((&raw mut (*spe).pmsver).cast()),
                pmsidr: Atomic::from_ptr(&raw mut (*spe).pmsidr),
                pmbidr: Atomic::from_ptr(&raw mut (*spe).pmbidr),
                events: Atomic::from_ptr(&raw mut (*spe).events),
                irq: Atomic::from_ptr(&raw mut (*spe).irq),
                relaxed: Atomic::from_ptr(&raw mut (*spe).relaxed),
            }
        }
    }

    /// Returns whether the VM can no longer get an SPU: a vCPU has run, or is about to. The answer
    /// may be out of date unless `config_lock` is held.
    ///
    /// Context: any.
    #[inline]
    pub fn is_fixed(&self) -> bool {
        // SAFETY: The VM is alive.
        unsafe { bindings::kvm_spe_is_fixed(self.as_raw()) }
    }

    /// Returns whether the VM has a virtual GIC that is initialised. The answer may be out of date
    /// unless `config_lock` is held.
    ///
    /// Context: any.
    #[inline]
    pub fn has_vgic(&self) -> bool {
        // SAFETY: The VM is alive.
        unsafe { bindings::kvm_spe_has_vgic(self.as_raw()) }
    }

    /// Returns whether a private interrupt is that of a timer. The answer may be out of date unless
    /// `config_lock` is held.
    ///
    /// Context: any.
    #[inline]
    pub fn is_timer_interrupt(&self, irq: u32) -> bool {
        // SAFETY: The VM is alive.
        unsafe { bindings::kvm_spe_is_timer_irq(self.as_raw(), irq) }
    }

    /// Sets the CPUs on which the VM may run to those for which `f` holds. Tasks that load a vCPU
    /// meanwhile may find some of the old CPUs and some of the new ones.
    ///
    /// Context: process; `config_lock` is held: otherwise, two tasks may mix their CPUs.
    #[inline]
    pub fn set_supported_cpus(&self, f: impl Fn(CpuId) -> bool) {
        // SAFETY: The VM is alive, and so is its mask. All accesses are single-copy atomic.
        unsafe {
            let mask = CpumaskVar::from_raw(&raw const (*self.as_raw()).arch.supported_cpus);

            for cpu in possible_cpus() {
                if f(cpu) {
                    bindings::cpumask_set_cpu(cpu.as_u32(), mask.as_raw());
                } else {
                    bindings::cpumask_clear_cpu(cpu.as_u32() as c_int, mask.as_raw());
                }
            }
        }
    }

    /// Requests of some vCPUs that their windows are made ready. When this returns, the units of
    /// these vCPUs do not write.
    ///
    /// Context: process; interrupts are on. `mmu_lock` may be held.
    #[inline]
    pub fn request_windows(&self, vcpus: &mut VcpuMask) {
        // SAFETY: The VM is alive, and the mask has a bit for each vCPU.
        unsafe { bindings::kvm_spe_request_of(self.as_raw(), vcpus.0.as_mut_ptr()) };
    }

    /// Invalidates the translations of the VM on all CPUs.
    ///
    /// Context: any.
    #[inline]
    pub fn flush_remote_tlbs(&self) {
        // SAFETY: The VM is alive.
        unsafe { bindings::kvm_arch_flush_remote_tlbs(self.as_raw()) };
    }
}

/// Some vCPUs of a VM.
#[derive(Default)]
pub struct VcpuMask([c_ulong; Self::WORDS]);

impl VcpuMask {
    const BITS: usize = c_ulong::BITS as usize;
    const WORDS: usize = (bindings::KVM_MAX_VCPUS as usize).div_ceil(Self::BITS);

    /// Adds a vCPU.
    ///
    /// Context: any.
    #[inline]
    pub fn set(&mut self, vcpu: &Vcpu) {
        let index = vcpu.index();

        if let Some(word) = self.0.get_mut(index / Self::BITS) {
            *word |= 1 << (index % Self::BITS);
        }
    }

    /// Returns whether there are no vCPUs.
    ///
    /// Context: any.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; Self::WORDS]
    }
}

impl Vcpu {
    /// Requests that the vCPU's window is made ready before the next entry.
    ///
    /// Context: any.
    #[inline]
    pub fn request_window(&self) {
        // SAFETY: The vCPU is alive.
        unsafe { bindings::kvm_spe_request(self.as_raw()) };
    }

    /// Withdraws that request.
    ///
    /// Context: the task that runs the vCPU.
    #[inline]
    pub fn clear_window_request(&self) {
        // SAFETY: The vCPU is alive.
        unsafe { bindings::kvm_spe_clear_request(self.as_raw()) };
    }

    /// Returns a pointer that names this vCPU's SPU as the owner of an interrupt: C compares it.
    fn spu_owner(&self) -> *mut c_void {
        // SAFETY: The vCPU is alive; no reference is made.
        unsafe { (&raw mut (*self.as_raw()).arch.spe).cast() }
    }

    /// Makes the SPU the owner of an interrupt of this vCPU. Fails with `EINVAL` if there is no
    /// such interrupt, with `EEXIST` if it has another owner, and with `EAGAIN` without a virtual
    /// GIC.
    ///
    /// Context: process.
    #[inline]
    pub fn own_spu_interrupt(&self, irq: u32) -> Result {
        // SAFETY: The vCPU is alive.
        to_result(unsafe { bindings::kvm_vgic_set_owner(self.as_raw(), irq, self.spu_owner()) })
    }

    /// Sets the level of an interrupt, if the SPU owns it.
    ///
    /// Context: any.
    #[inline]
    pub fn set_spu_interrupt(&self, irq: u32, level: bool) {
        let (vcpu, kvm) = (self.as_raw(), self.vm().as_raw());

        // SAFETY: Both are alive. The call fails for an interrupt that does not exist, which has no
        // level.
        unsafe { bindings::kvm_vgic_inject_irq(kvm, vcpu, irq, level, self.spu_owner()) };
    }
}

#[cfg(CONFIG_KVM_ARM64_SPE_KUNIT_TEST)]
#[macros::kunit_tests(rust_kernel_arm64_kvm_spe)]
mod tests {
    use super::*;

    /// The mask of a VM is replaced as a whole.
    #[test]
    fn the_mask_of_a_vm_is_replaced() -> Result {
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();
        let is_even = |cpu: CpuId| cpu.as_u32() % 2 == 0;

        // With this option the mask is not part of the structure.
        if cfg!(CONFIG_CPUMASK_OFFSTACK) {
            return Ok(());
        }
        // SAFETY: It is in its own zeroed memory, to which no other code has access.
        let found = unsafe {
            CpumaskVar::from_raw_mut(&raw mut (*kvm).arch.supported_cpus).setall();
            Vm::from_raw(kvm).set_supported_cpus(is_even);
            CpumaskVar::from_raw(&raw const (*kvm).arch.supported_cpus)
        };
        for cpu in possible_cpus() {
            assert_eq!(found.test(cpu), is_even(cpu));
        }
        Ok(())
    }

    /// A mask has the vCPUs that have been added.
    #[test]
    fn a_mask_has_the_vcpus_that_were_added() -> Result {
        let mut vcpu = KVBox::<bindings::kvm_vcpu>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let vcpu = vcpu.as_mut_ptr();
        let mut mask = VcpuMask::default();

        assert!(mask.is_empty());
        for index in [0, 63, 64, bindings::KVM_MAX_VCPUS - 1] {
            // SAFETY: It is in its own zeroed memory, to which no other code has access.
            mask.set(unsafe {
                (*vcpu).vcpu_idx = index as i32;
                Vcpu::from_raw(vcpu)
            });
        }
        assert!(!mask.is_empty());
        let bits: u32 = mask.0.iter().map(|word| word.count_ones()).sum();
        assert_eq!((bits, mask.0[0], mask.0[1]), (4, 1 << 63 | 1, 1));
        Ok(())
    }
}

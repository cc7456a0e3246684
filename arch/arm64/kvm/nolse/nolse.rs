// SPDX-License-Identifier: GPL-2.0

//! KVM on machines that must not use atomic instructions (`arm64.nolse_atomics`).
//!
//! [`policy`] decides whether guests may run; this module takes the decision once, when KVM
//! initialises, and keeps it. If guests are contained, this module counts and logs the memory
//! that they are refused because stage 2 would not map it Write-Back.
//!
//! C header: [`arch/arm64/include/asm/kvm_nolse.h`](srctree/arch/arm64/include/asm/kvm_nolse.h)

use kernel::{
    arm64::{
        cpufeature::{any_possible_cpu, recorded, system_has},
        sysreg::*, //
    },
    bindings,
    cpu::CpuId,
    cpucap,
    kvm::{
        stat_add,
        Vm, //
    },
    pr_warn_once,
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

mod policy;

use policy::{decide, Decision, Policy};

/// For `pr_info!()` and the like.
const __LOG_PREFIX: &[u8] = b"kvm\0";

/// The value of `kvm-arm.nolse_policy=`, as a [`Policy`]. Read-only after init.
#[link_section = ".data..ro_after_init"]
static POLICY: Atomic<u32> = Atomic::new(Policy::Deny as u32);

/// Whether the decision was [`Decision::RunContained`]. Read-only after init.
#[link_section = ".data..ro_after_init"]
static CONTAINED: Atomic<bool> = Atomic::new(false);

/// Returns the policy that the command line gave, or the default.
fn chosen_policy() -> Policy {
    POLICY.load(Relaxed).into()
}

/// Returns whether the command line takes FEAT_LSE away from the kernel.
fn atomics_overridden() -> bool {
    // SAFETY: Written during early boot, before other CPUs run.
    let over = unsafe { (&raw const bindings::id_aa64isar0_override).read() };
    over.mask & ID_AA64ISAR0_EL1::ATOMIC_MASK != 0
        && ID_AA64ISAR0_EL1::from_raw(over.val).ATOMIC() == ID_AA64ISAR0_EL1_ATOMIC_NI
}

/// Returns whether a guest could execute an atomic on the possible CPU `cpu`. A CPU that has not
/// come up yet may have atomics: a late CPU may have features that the system does not use.
fn may_have_atomics(cpu: CpuId) -> bool {
    recorded::<ID_AA64ISAR0_EL1>(cpu)
        .is_none_or(|isar0| isar0.ATOMIC() >= ID_AA64ISAR0_EL1_ATOMIC_IMP)
}

/// Returns whether the kernel avoids atomics that a CPU of this machine has.
///
/// On a machine without FEAT_LSE the command line option has no effect, and guests cannot execute
/// atomics.
fn active() -> bool {
    atomics_overridden() && any_possible_cpu(may_have_atomics)
}

/// Decides whether KVM may initialise, logs the decision, and keeps whether guests are contained.
fn init() -> Result {
    let decision = decide(
        active(),
        system_has(cpucap!(HAS_STAGE2_FWB)),
        chosen_policy(),
    );
    report(decision);
    CONTAINED.store(decision == Decision::RunContained, Relaxed);
    match decision {
        Decision::Run | Decision::RunContained | Decision::RunUncontained => Ok(()),
        Decision::RefuseNoFwb | Decision::RefuseDenied => Err(ENODEV),
    }
}

/// Logs `decision`, in one line.
fn report(decision: Decision) {
    match decision {
        Decision::Run => {}
        Decision::RunContained => {
            pr_info!("guests get no memory but Write-Back (kvm-arm.nolse_policy=contain)\n")
        }
        Decision::RunUncontained => pr_warn!(
            "kvm-arm.nolse_policy=allow: if an atomic can bring this machine down, \
             so can a guest\n"
        ),
        Decision::RefuseNoFwb => pr_err!(
            "disabled: kvm-arm.nolse_policy=contain needs FEAT_S2FWB on every CPU, or a guest \
             can make memory Non-cacheable\n"
        ),
        Decision::RefuseDenied => pr_err!(
            "disabled by arm64.nolse_atomics: kvm-arm.nolse_policy=contain states that atomics \
             on Write-Back memory do no harm, and gives guests no other memory; \
             kvm-arm.nolse_policy=allow states that no atomic does harm\n"
        ),
    }
}

/// Counts that `vm` was refused memory, and logs the first refusal.
fn refused(vm: &Vm) {
    stat_add!(vm, uncached_refused, 1);
    pr_warn_once!(
        "memory that is not Write-Back is refused to guests (kvm-arm.nolse_policy=contain)\n"
    );
}

/// Reads the value of `kvm-arm.nolse_policy=`. Called early, on the boot CPU.
///
/// # Safety
///
/// `arg` is NULL or a string.
#[export]
pub unsafe extern "C" fn kvm_nolse_setup(arg: *mut c_char) -> c_int {
    if arg.is_null() {
        return EINVAL.to_errno();
    }
    // SAFETY: By the caller's contract.
    match Policy::parse(unsafe { CStr::from_char_ptr(arg) }.to_bytes()) {
        Some(policy) => {
            POLICY.store(policy as u32, Relaxed);
            0
        }
        None => {
            pr_warn!("kvm-arm.nolse_policy= takes deny, contain or allow: ignored\n");
            EINVAL.to_errno()
        }
    }
}

/// Decides whether KVM may initialise. Returns 0, or `-ENODEV` after logging the reason.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_nolse_init() -> c_int {
    init().map_or_else(|e| e.to_errno(), |()| 0)
}

/// Returns whether guests are contained.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_nolse_contained() -> bool {
    CONTAINED.load(Relaxed)
}

/// Counts and logs that a contained guest was refused memory.
///
/// # Safety
///
/// `kvm` points to a VM that stays alive during the call.
#[export]
pub unsafe extern "C" fn kvm_nolse_refused(kvm: *mut bindings::kvm) {
    // SAFETY: By the caller's contract.
    refused(unsafe { Vm::from_raw(kvm) });
}

#[cfg(CONFIG_ARM64_NOLSE_ATOMICS_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_nolse)]
mod tests {
    use super::*;

    use kernel::{
        cpu::nr_cpu_ids,
        page::PAGE_SIZE,
        static_lock_class, //
    };

    /// FEAT_S2FWB counts only if every CPU that has come up has it.
    #[test]
    fn fwb_is_of_all_cpus() {
        let fwb = (0..nr_cpu_ids()).filter_map(CpuId::from_u32).all(|cpu| {
            recorded::<ID_AA64MMFR2_EL1>(cpu)
                .is_none_or(|mmfr2| mmfr2.FWB() == ID_AA64MMFR2_EL1_FWB_IMP)
        });
        assert_eq!(system_has(cpucap!(HAS_STAGE2_FWB)), fwb);
    }

    /// The decision in force on this machine follows from the table.
    #[test]
    fn decision_in_force() {
        let decision = decide(
            active(),
            system_has(cpucap!(HAS_STAGE2_FWB)),
            chosen_policy(),
        );
        // KVM may not have initialised: booted at EL1, or kvm-arm.mode=none.
        // SAFETY: Callable in any context.
        if unsafe { bindings::is_kvm_arm_initialised() } {
            assert_eq!(CONTAINED.load(Relaxed), decision == Decision::RunContained);
        }
        if atomics_overridden() {
            assert!(!system_has(cpucap!(HAS_LSE_ATOMICS)));
        }
    }

    /// Both variables are in memory that the kernel makes read-only.
    #[test]
    fn read_only_after_init() {
        let start = (&raw const bindings::__start_ro_after_init).addr();
        let end = (&raw const bindings::__end_ro_after_init).addr();

        for addr in [(&raw const POLICY).addr(), (&raw const CONTAINED).addr()] {
            assert!((start..end).contains(&addr));
        }
    }

    /// A mapping by `kvm_phys_addr_ioremap()` for a VM is refused and counted.
    #[test]
    fn device_memory_is_refused() -> Result {
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();

        // SAFETY: The VM is in zeroed memory that this function owns.
        let counted = || unsafe { (*kvm).stat.uncached_refused };
        if CONTAINED.load(Relaxed) {
            // SAFETY: The call is refused before it accesses more of the VM than its counter.
            let ret = unsafe { bindings::kvm_phys_addr_ioremap(kvm, 0, 0, PAGE_SIZE, true) };

            assert_eq!(ret, EFAULT.to_errno());
            assert_eq!(counted(), 1);
        } else {
            // SAFETY: The VM is as above.
            assert!(!unsafe { kvm_nolse_contained() });
            assert_eq!(counted(), 0);
        }
        Ok(())
    }

    const CD: u64 = 1 << bindings::HCR_EL2_CD_SHIFT;

    /// HCR_EL2.CD and NVHCR_EL2.CD are RES0 for a guest hypervisor that is contained.
    #[test]
    fn cd_of_guest_hypervisors() -> Result {
        let mut kvm = KVBox::<bindings::kvm>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let kvm = kvm.as_mut_ptr();
        let mut vcpu = KVBox::<bindings::kvm_vcpu>::new_uninit(GFP_KERNEL | __GFP_ZERO)?;
        let vcpu = vcpu.as_mut_ptr();
        // In a VM without an exception level, every bit of that level's registers is RES0.
        let levels = ID_AA64PFR0_EL1::zeroed()
            .with_const_EL1::<1>()
            .with_const_EL2::<1>();

        // SAFETY: Both are in zeroed memory that only this function can access, so the lock that
        // the call requires can be a new one.
        unsafe {
            (*vcpu).kvm = kvm;
            // The index of ID_AA64PFR0_EL1: CRm is 4, op2 is 0.
            (*kvm).arch.id_regs[(4 - 1) << 3] = levels.into();
            let lock = &raw mut (*kvm).arch.config_lock;
            let class = static_lock_class!();
            bindings::__mutex_init(lock, c"config_lock".as_char_ptr(), class.as_ptr());
            bindings::mutex_lock(lock);
            assert_eq!(bindings::kvm_init_nv_sysregs(vcpu), 0);
            bindings::mutex_unlock(lock);
        }
        let expected = if CONTAINED.load(Relaxed) { 0 } else { CD };
        for register in [
            bindings::vcpu_sysreg_HCR_EL2,
            bindings::vcpu_sysreg_NVHCR_EL2,
        ] {
            // SAFETY: The VM of the vCPU has the masks.
            let kept = unsafe { bindings::kvm_vcpu_apply_reg_masks(vcpu, register, CD) };

            assert_eq!(kept & CD, expected);
        }
        // SAFETY: The masks come from kzalloc(), and no other reference to them exists.
        unsafe { bindings::kfree((*kvm).arch.sysreg_masks.cast()) };
        Ok(())
    }
}

// SPDX-License-Identifier: GPL-2.0

//! KVM on machines that go without atomic instructions (`arm64.nolse_atomics`).
//!
//! [`policy`] says whether guests may run; this module asks it once, when KVM
//! initialises, and keeps the answer.
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
    prelude::*,
    sync::atomic::{Atomic, Relaxed},
};

#[path = "nolse/policy.rs"]
mod policy;

use policy::{decide, Decision, Policy};

/// For `pr_info!()` and the like.
const __LOG_PREFIX: &[u8] = b"kvm\0";

/// `kvm-arm.nolse_policy=`, as a [`Policy`].
static POLICY: Atomic<u32> = Atomic::new(Policy::Auto as u32);

/// Whether the decision was [`Decision::RunContained`].
static CONTAINED: Atomic<bool> = Atomic::new(false);

fn chosen_policy() -> Policy {
    match POLICY.load(Relaxed) {
        x if x == Policy::Deny as u32 => Policy::Deny,
        x if x == Policy::Allow as u32 => Policy::Allow,
        _ => Policy::Auto,
    }
}

/// Whether the command line takes FEAT_LSE away from the kernel.
fn atomics_overridden() -> bool {
    // SAFETY: Written during early boot, before other CPUs run.
    let over = unsafe { (&raw const bindings::id_aa64isar0_override).read() };
    over.mask & ID_AA64ISAR0_EL1::ATOMIC_MASK != 0
        && ID_AA64ISAR0_EL1::from_raw(over.val).ATOMIC() == ID_AA64ISAR0_EL1_ATOMIC_NI
}

/// Whether a guest could execute an atomic instruction on `cpu`, which is a possible
/// CPU. One that has not come up yet might have them: a late CPU may have features that
/// the system does not use.
fn may_have_atomics(cpu: CpuId) -> bool {
    recorded::<ID_AA64ISAR0_EL1>(cpu)
        .is_none_or(|isar0| isar0.ATOMIC() >= ID_AA64ISAR0_EL1_ATOMIC_IMP)
}

/// Whether the kernel goes without atomics that a CPU of this machine has.
///
/// On a machine without FEAT_LSE the command line option takes nothing away, and
/// guests have nothing to bring the machine down with.
fn active() -> bool {
    atomics_overridden() && any_possible_cpu(may_have_atomics)
}

fn init() -> Result {
    let decision = decide(
        active(),
        system_has(cpucap!(HAS_STAGE2_FWB)),
        chosen_policy(),
    );
    match decision {
        Decision::Run => {}
        Decision::RunContained => {
            pr_info!("guests cannot map memory Non-cacheable (arm64.nolse_atomics)\n");
        }
        Decision::RunUncontained => {
            pr_warn!(
                "kvm-arm.nolse_policy=allow: a guest that uses atomics on \
                 Non-cacheable memory can bring this machine down\n"
            );
        }
        Decision::RefuseNoFwb => {
            pr_err!(
                "disabled: arm64.nolse_atomics needs FEAT_S2FWB on every CPU, or a guest's \
                 atomics can reach the interconnect; if they cannot on this platform, boot with \
                 kvm-arm.nolse_policy=allow\n"
            );
            return Err(ENODEV);
        }
        Decision::RefuseDenied => {
            pr_info!("disabled by kvm-arm.nolse_policy=deny\n");
            return Err(ENODEV);
        }
    }
    CONTAINED.store(decision == Decision::RunContained, Relaxed);
    Ok(())
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
            pr_warn!("kvm-arm.nolse_policy= takes auto, deny or allow: ignored\n");
            EINVAL.to_errno()
        }
    }
}

/// Decides whether KVM may initialise: 0, or `-ENODEV`, having said why.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_nolse_init() -> c_int {
    init().map_or_else(|e| e.to_errno(), |()| 0)
}

/// Whether memory must not be mapped Normal Non-cacheable for guests.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_nolse_contained() -> bool {
    CONTAINED.load(Relaxed)
}

#[cfg(CONFIG_ARM64_NOLSE_ATOMICS_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_nolse)]
mod tests {
    use super::*;

    use kernel::cpu::nr_cpu_ids;

    const POLICIES: [Policy; 3] = [Policy::Auto, Policy::Deny, Policy::Allow];

    /// Every row of the table.
    #[test]
    fn decisions() {
        use Decision::*;
        use Policy::*;

        for (active, fwb, policy, expected) in [
            (true, true, Auto, RunContained),
            (true, false, Auto, RefuseNoFwb),
            (true, true, Deny, RefuseDenied),
            (true, false, Deny, RefuseDenied),
            (true, true, Allow, RunUncontained),
            (true, false, Allow, RunUncontained),
        ] {
            assert_eq!(decide(active, fwb, policy), expected);
        }
        for policy in POLICIES {
            assert_eq!(decide(false, false, policy), Run);
            assert_eq!(decide(false, true, policy), Run);
        }
    }

    #[test]
    fn names() {
        assert_eq!(Policy::parse(b"auto"), Some(Policy::Auto));
        assert_eq!(Policy::parse(b"deny"), Some(Policy::Deny));
        assert_eq!(Policy::parse(b"allow"), Some(Policy::Allow));
        for other in [&b""[..], b"Auto", b"allow ", b"den", b"1"] {
            assert_eq!(Policy::parse(other), None);
        }
    }

    /// FEAT_S2FWB counts only if every CPU that has come up has it.
    #[test]
    fn fwb_is_of_all_cpus() {
        let fwb = (0..nr_cpu_ids()).filter_map(CpuId::from_u32).all(|cpu| {
            recorded::<ID_AA64MMFR2_EL1>(cpu)
                .is_none_or(|mmfr2| mmfr2.FWB() == ID_AA64MMFR2_EL1_FWB_IMP)
        });
        assert_eq!(system_has(cpucap!(HAS_STAGE2_FWB)), fwb);
    }

    /// What is in force on the machine that this runs on follows from the table.
    #[test]
    fn decision_in_force() {
        let decision = decide(
            active(),
            system_has(cpucap!(HAS_STAGE2_FWB)),
            chosen_policy(),
        );
        // KVM may not have been asked: booted at EL1, or kvm-arm.mode=none.
        // SAFETY: Callable in any context.
        if unsafe { bindings::is_kvm_arm_initialised() } {
            assert_eq!(CONTAINED.load(Relaxed), decision == Decision::RunContained);
        }
        if atomics_overridden() {
            assert!(!system_has(cpucap!(HAS_LSE_ATOMICS)));
        }
    }
}

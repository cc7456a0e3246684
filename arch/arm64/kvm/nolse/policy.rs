// SPDX-License-Identifier: GPL-2.0

//! The decision whether KVM may run guests on a machine that an atomic can bring down.
//!
//! Hiding FEAT_LSE in the ID registers is not enough: a guest may execute an atomic
//! all the same. No register tells how the atomic affects the part, so the owner of the
//! machine states it:
//!
//! * A: atomics on Write-Back memory are resolved in the caches, all others bring the machine
//!   down. A guest is contained if it has only Write-Back memory. FEAT_S2FWB makes this
//!   possible: with HCR_EL2.FWB set, memory that stage 2 maps Write-Back is Write-Back
//!   whatever the guest's stage 1 says (Arm ARM, D8.6.6, rule R_RHWZM).
//! * B: atomics on Write-Back memory bring the machine down as well. No guest can be contained.
//! * C: no atomic does harm.
//!
//! Pure logic: no kernel types, no state, every function total.

/// The kind of part, as the owner of the machine states by `kvm-arm.nolse_policy=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Policy {
    /// Nothing is stated, or B: guests never run.
    Deny = 0,
    /// A: guests run if they can be contained.
    Contain = 1,
    /// C: guests run.
    Allow = 2,
}

impl Policy {
    /// Returns the policy called `name`.
    pub(crate) const fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"deny" => Some(Self::Deny),
            b"contain" => Some(Self::Contain),
            b"allow" => Some(Self::Allow),
            _ => None,
        }
    }
}

impl From<u32> for Policy {
    /// Returns the policy with this number; [`Policy::Deny`] if there is none.
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Contain,
            2 => Self::Allow,
            _ => Self::Deny,
        }
    }
}

/// The decision whether guests run, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Guests run: atomics are in use, or no CPU has any.
    Run,
    /// Guests run contained.
    RunContained,
    /// Guests run without restriction.
    RunUncontained,
    /// Guests do not run: their stage 1 could give memory another type than Write-Back.
    RefuseNoFwb,
    /// Guests do not run: the owner has not stated that atomics of guests do no harm.
    RefuseDenied,
}

/// Returns whether guests run, and how.
///
/// * `active`: whether the kernel avoids atomics that its CPUs have.
/// * `fwb`: whether every CPU has FEAT_S2FWB.
pub(crate) const fn decide(active: bool, fwb: bool, policy: Policy) -> Decision {
    match (active, policy, fwb) {
        (false, _, _) => Decision::Run,
        (true, Policy::Deny, _) => Decision::RefuseDenied,
        (true, Policy::Allow, _) => Decision::RunUncontained,
        (true, Policy::Contain, true) => Decision::RunContained,
        (true, Policy::Contain, false) => Decision::RefuseNoFwb,
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Whether KVM may run guests on a machine that an atomic can bring down.
//!
//! Hiding FEAT_LSE from the ID registers binds nobody: a guest may execute an atomic
//! all the same. What the atomic does then is a fact about the part that no register
//! tells, so the owner of the machine states it:
//!
//! * A: atomics on Write-Back memory are resolved in the caches, others bring the machine
//!   down. A guest is contained if it has no other memory. FEAT_S2FWB makes that possible:
//!   with HCR_EL2.FWB set, memory that stage 2 maps Write-Back is Write-Back whatever the
//!   guest's stage 1 says (Arm ARM, D8.6.6, rule R_RHWZM).
//! * B: atomics on Write-Back memory bring it down as well. No guest can be contained.
//! * C: no atomic does harm.
//!
//! Pure logic: no kernel types, no state, every function total.

/// Which part the owner of the machine has: `kvm-arm.nolse_policy=`.
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
    /// Returns the policy of that name.
    pub(crate) const fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"deny" => Some(Self::Deny),
            b"contain" => Some(Self::Contain),
            b"allow" => Some(Self::Allow),
            _ => None,
        }
    }
}

/// Whether guests run, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Atomics are in use: there is nothing to protect.
    Run,
    /// Guests run, and get no memory but Write-Back.
    RunContained,
    /// Guests run as ever.
    RunUncontained,
    /// No guests: stage 1 of one could make memory other than Write-Back.
    RefuseNoFwb,
    /// No guests: nobody has stated that one does no harm.
    RefuseDenied,
}

/// Returns whether guests run, and how.
///
/// * `active`: whether the kernel goes without atomics that its CPUs have.
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

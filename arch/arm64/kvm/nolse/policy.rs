// SPDX-License-Identifier: GPL-2.0

//! Whether KVM may run guests on a machine whose interconnect cannot take an
//! atomic.
//!
//! Hiding FEAT_LSE from the ID registers binds nobody: a guest may execute an
//! atomic all the same, and where it can make memory Non-cacheable that atomic
//! leaves the CPU. FEAT_S2FWB takes that away: with HCR_EL2.FWB set, memory that
//! stage 2 maps Normal Write-Back is cacheable whatever the guest's stage 1 says
//! (Arm ARM, section "Stage 2 memory type and Cacheability attributes when
//! HCR_EL2.FWB is 1"), and what stage 2 would map Normal Non-cacheable can be
//! mapped Device instead.
//!
//! Pure logic: no kernel types, no state, every function total.

/// What the owner of the machine asked for: `kvm-arm.nolse_policy=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Policy {
    /// Guests run where they cannot reach the interconnect with an atomic.
    Auto = 0,
    /// Guests never run.
    Deny = 1,
    /// Guests run: something else keeps their atomics away from the interconnect.
    Allow = 2,
}

impl Policy {
    /// The policy of that name.
    pub(crate) const fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"auto" => Some(Self::Auto),
            b"deny" => Some(Self::Deny),
            b"allow" => Some(Self::Allow),
            _ => None,
        }
    }
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Atomics are in use: there is nothing to protect.
    Run,
    /// Guests run, and never get a Normal Non-cacheable mapping.
    RunContained,
    /// Guests run, although one of them can bring the machine down.
    RunUncontained,
    /// No guests: they could reach the interconnect.
    RefuseNoFwb,
    /// No guests: the owner said so.
    RefuseDenied,
}

/// Decides.
///
/// * `active`: whether the kernel goes without atomics that its CPUs have.
/// * `fwb`: whether every CPU has FEAT_S2FWB.
pub(crate) const fn decide(active: bool, fwb: bool, policy: Policy) -> Decision {
    match (active, policy, fwb) {
        (false, _, _) => Decision::Run,
        (true, Policy::Deny, _) => Decision::RefuseDenied,
        (true, Policy::Allow, _) => Decision::RunUncontained,
        (true, Policy::Auto, true) => Decision::RunContained,
        (true, Policy::Auto, false) => Decision::RefuseNoFwb,
    }
}

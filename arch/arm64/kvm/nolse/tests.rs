// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host with `rustc --test`.
//! This crate root is beside that of the component, so that both find the same modules.

mod policy;

use policy::{decide, Decision::*, Policy};

/// Every row of the table.
#[test]
fn every_decision() {
    for (active, fwb, policy, expected) in [
        (false, false, Policy::Deny, Run),
        (false, false, Policy::Contain, Run),
        (false, false, Policy::Allow, Run),
        (false, true, Policy::Deny, Run),
        (false, true, Policy::Contain, Run),
        (false, true, Policy::Allow, Run),
        (true, false, Policy::Deny, RefuseDenied),
        (true, false, Policy::Contain, RefuseNoFwb),
        (true, false, Policy::Allow, RunUncontained),
        (true, true, Policy::Deny, RefuseDenied),
        (true, true, Policy::Contain, RunContained),
        (true, true, Policy::Allow, RunUncontained),
    ] {
        assert_eq!(
            decide(active, fwb, policy),
            expected,
            "{active} {fwb} {policy:?}"
        );
    }
}

#[test]
fn only_exact_names() {
    assert_eq!(Policy::parse(b"deny"), Some(Policy::Deny));
    assert_eq!(Policy::parse(b"contain"), Some(Policy::Contain));
    assert_eq!(Policy::parse(b"allow"), Some(Policy::Allow));
    for name in [
        "",
        "auto",
        "Contain",
        " contain",
        "contain ",
        "contained",
        "denyy",
        "0",
        "on",
        "allow,deny",
    ] {
        assert_eq!(Policy::parse(name.as_bytes()), None, "{name:?}");
    }
}

#[test]
fn numbers_of_policies() {
    for policy in [Policy::Deny, Policy::Contain, Policy::Allow] {
        assert_eq!(Policy::from(policy as u32), policy);
    }
    for other in [3, 4, u32::MAX] {
        assert_eq!(Policy::from(other), Policy::Deny);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of `arch/arm64/kernel/memory_model/policy.rs` on the build host.

#![allow(dead_code)]

#[path = "../../../arch/arm64/kernel/memory_model/policy.rs"]
mod policy;

use policy::*;

#[test]
fn every_request() {
    use Outcome::*;

    for (support, default, tso) in [
        (Support::None, Nothing, Refuse),
        (Support::Fixed, Nothing, Nothing),
        (
            Support::Switched,
            Switch(Model::Default),
            Switch(Model::Tso),
        ),
    ] {
        assert_eq!(request(support, Model::Default), default);
        assert_eq!(request(support, Model::Tso), tso);
    }
}

#[test]
fn numbers_of_models() {
    assert_eq!(Model::new(0), Some(Model::Default));
    assert_eq!(Model::new(1), Some(Model::Tso));
    for other in [2, 3, 1 << 32, 1 << 32 | 1, u64::MAX] {
        assert_eq!(Model::new(other), None);
    }
}

/// Bit 9 of AIDR_EL1 means something on Apple's CPUs only.
#[test]
fn every_implementer() {
    for implementer in 0..=0xff {
        for rest in [0, !(0xff << 24)] {
            let midr = implementer << 24 | rest;
            assert_eq!(advertises(midr, 1 << 9), implementer == 0x61);
            assert_eq!(advertises(midr, !0), implementer == 0x61);
            assert!(!advertises(midr, 0));
            assert!(!advertises(midr, !(1 << 9)));
        }
    }
}

#[test]
fn one_bit_of_actlr() {
    for actlr in [0, 2, !0, !2, 0x1234_5678_9abc_def0] {
        assert_eq!(with_model(actlr, Model::Tso), actlr | 2);
        assert_eq!(with_model(actlr, Model::Default), actlr & !2);
    }
}

#[test]
fn one_bit_of_aidr() {
    for aidr in [0, 1 << 9, !0, !(1 << 9)] {
        assert_eq!(without_control(aidr), aidr & !(1 << 9));
    }
}

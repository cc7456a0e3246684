// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host with `rustc --test`.
//! This crate root is beside that of the component, so that both find the same modules.
//! The build host's `kernel` crate has a fake of [`Access`](kernel::arm64::access::Access).

#![allow(dead_code)]

mod policy;

mod switch;

use kernel::arm64::{
    fake::{Fake, Step},
    sysreg::*,
};
use policy::*;
use switch::*;

const MODELS: [Model; 2] = [Model::Default, Model::Tso];

/// Returns MIDR_EL1 for an implementer and a part, with the usual architecture field.
fn midr(implementer: u64, part: u64) -> MIDR_EL1 {
    MIDR_EL1::from_raw(implementer << 24 | 0xf << 16 | part << 4)
}

const APPLE: u64 = 0x61;

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
    assert_eq!(Model::try_from(0), Ok(Model::Default));
    assert_eq!(Model::try_from(1), Ok(Model::Tso));
    for other in [2, 3, 1 << 32, 1 << 32 | 1, u64::MAX] {
        assert_eq!(Model::try_from(other), Err(Unknown));
    }
}

#[test]
fn words_of_the_option() {
    assert_eq!(parse_option(b"on"), Some(Model::Tso));
    assert_eq!(parse_option(b"off"), Some(Model::Default));
    for other in [&b""[..], b"On", b"1", b"on ", b"maybe"] {
        assert_eq!(parse_option(other), None);
    }
}

/// Bit 9 of AIDR_EL1 has a meaning on Apple CPUs only.
#[test]
fn every_implementer() {
    for implementer in 0..=0xff {
        for rest in [0, !(0xff << 24)] {
            let midr = MIDR_EL1::from_raw(implementer << 24 | rest);
            let apple = implementer == APPLE;
            for (aidr, says) in [(1 << 9, apple), (!0, apple), (0, false), (!(1 << 9), false)] {
                assert_eq!(advertises(midr, AIDR_EL1::from_raw(aidr)), says);
            }
        }
    }
}

#[test]
fn one_bit_of_actlr() {
    for raw in [0, 2, !0, !2, 0x1234_5678_9abc_def0] {
        let actlr = ACTLR_EL1::from_raw(raw);
        assert_eq!(with_model(actlr, Model::Tso).into_raw(), raw | 2);
        assert_eq!(with_model(actlr, Model::Default).into_raw(), raw & !2);
        for model in MODELS {
            assert_eq!(model_in(with_model(actlr, model)), model);
        }
    }
}

/// One CPU without total store order in the list is enough to refuse, at any position.
#[test]
fn always_tso_is_of_all() {
    let (denver, carmel, a64fx) = (midr(0x4e, 3), midr(0x4e, 4), midr(0x46, 1));
    let n1 = midr(0x41, 0xd0c);
    let all = |midrs: &[MIDR_EL1]| all_always_tso(midrs.iter().copied());

    for good in [&[a64fx][..], &[denver], &[carmel], &[denver, carmel, a64fx]] {
        assert!(all(good));
    }
    for bad in [
        &[][..],
        &[n1],
        &[a64fx, n1],
        &[n1, a64fx],
        &[a64fx, n1, a64fx],
    ] {
        assert!(!all(bad));
    }
    // NVIDIA's Olympus, and parts of other implementers with the same part numbers.
    for other in [
        midr(0x4e, 0x10),
        midr(0x41, 3),
        midr(0x4e, 1),
        midr(0x46, 3),
    ] {
        assert!(!all(&[other]));
    }
}

/// Compares with the list of parts in m1n1's `src/midr.h` and of features in its `src/chickens.c`,
/// copied independently. The latter lacks A14 and A15, and is not sure about M4.
#[test]
fn the_register_of_guests() {
    let first = [0x22, 0x23, 0x24, 0x25, 0x28, 0x29];
    let later = [
        0x32, 0x33, 0x34, 0x35, 0x38, 0x39, 0x42, 0x43, 0x44, 0x45, 0x48, 0x49,
    ];

    for part in 0..=0xfff {
        let expected = if first.contains(&part) {
            Some(Register::ImpdefEl12)
        } else if later.contains(&part) {
            Some(Register::El12)
        } else {
            None
        };
        let apple = midr(APPLE, part);
        assert_eq!(register_of_guests(true, apple), expected, "{part:#x}");
        assert_eq!(register_of_guests(false, apple), Some(Register::Own));
        assert_eq!(register_of_guests(true, midr(0x41, part)), None);
    }
}

/// Returns ACTLR_EL1 with a model, and with other bits that the code must not change.
fn actlr<R: Layout>(model: Model) -> R {
    R::from(0x5a5a_5a5a_5a5a_5a59 | (model as u64) << 1)
}

/// Returns an Apple CPU with the control, in VHE mode, with both registers of guests.
fn cpu(own: Model, guests: Model) -> Fake {
    Fake::default()
        .with(midr(APPLE, 0x22))
        .with(AIDR_EL1::from_raw(1 << 9))
        .with(CurrentEL::from_raw(2 << 2))
        .with::<ACTLR_EL1>(actlr(own))
        .with::<ACTLR_EL12>(actlr(guests))
        .with::<IMP_APL_ACTLR_EL12>(actlr(guests))
}

/// Returns the encoding of the register.
fn encoding(register: Register) -> Encoding {
    match register {
        Register::Own => ACTLR_EL1::ENCODING,
        Register::El12 => ACTLR_EL12::ENCODING,
        Register::ImpdefEl12 => IMP_APL_ACTLR_EL12::ENCODING,
    }
}

/// Changes the model in a register without the kernel's knowledge.
fn lose(cpu: &Fake, register: Register, model: Model) {
    match register {
        Register::Own => cpu.set::<ACTLR_EL1>(actlr(model)),
        Register::El12 => cpu.set::<ACTLR_EL12>(actlr(model)),
        Register::ImpdefEl12 => cpu.set::<IMP_APL_ACTLR_EL12>(actlr(model)),
    }
}

/// Returns the models of the kernel's own register and of that of guests.
fn models(cpu: &Fake, guests: Register) -> (Model, Model) {
    (model(cpu, Register::Own), model(cpu, guests))
}

/// Asserts that every change is between its own DSB and ISB, and changes one bit.
fn check_steps(cpu: &Fake) {
    for steps in cpu.take_steps().chunks(3) {
        let [Step::Complete, Step::Write(_, value), Step::Synchronise] = steps else {
            panic!("{steps:?}");
        };
        assert_eq!(value & !2, 0x5a5a_5a5a_5a5a_5a59);
    }
}

/// Accesses complete before another model is in force; for the same model nothing is done.
#[test]
fn accesses_complete_first() {
    for found in MODELS {
        for wanted in MODELS {
            for register in REGISTERS {
                let cpu = cpu(found, found);
                put(&cpu, register, wanted);
                assert_eq!(model(&cpu, register), wanted);
                let steps = cpu.take_steps();
                assert_eq!(steps.is_empty(), found == wanted);
                if let [first, write, last] = steps[..] {
                    assert_eq!((first, last), (Step::Complete, Step::Synchronise));
                    let value = actlr::<ACTLR_EL1>(wanted).into_raw();
                    assert_eq!(write, Step::Write(encoding(register), value));
                }
            }
        }
    }
}

/// `switch()` adds no DSB to that of `__switch_to()`, and no ISB: the return to user space
/// synchronises.
#[test]
fn a_switch_is_one_write() {
    for wanted in MODELS {
        let cpu = cpu(Model::Default, Model::Default);
        // SAFETY: A fake makes no memory accesses.
        switch(&cpu, wanted, unsafe { Completed::assume() });
        let value = actlr::<ACTLR_EL1>(wanted).into_raw();
        assert_eq!(cpu.take_steps(), [Step::Write(ACTLR_EL1::ENCODING, value)]);
    }
}

/// A CPU has the control if it advertises it and keeps writes; the register is restored.
#[test]
fn detection_restores() {
    for found in MODELS {
        let before = actlr::<ACTLR_EL1>(found).into_raw();
        for (cpu, has) in [
            (cpu(found, found), true),
            (cpu(found, found).ignoring::<ACTLR_EL1>(), false),
        ] {
            assert_eq!(has_control(&cpu), has);
            assert_eq!(cpu.get::<ACTLR_EL1>(), before);
            check_steps(&cpu);
        }
        // Detection writes nothing on a CPU that does not advertise the control.
        for cpu in [
            cpu(found, found).with(AIDR_EL1::from_raw(!(1 << 9))),
            cpu(found, found).with(midr(0x41, 0x22)),
        ] {
            assert!(!has_control(&cpu));
            assert_eq!(cpu.take_steps(), []);
        }
    }
}

/// The register of guests depends on the Exception level of the kernel.
#[test]
fn the_register_of_guests_on_a_cpu() {
    for (el, expected) in [(1, Register::Own), (2, Register::ImpdefEl12)] {
        let cpu = cpu(Model::Default, Model::Default).with(CurrentEL::from_raw(el << 2));
        assert_eq!(register_of_guests_of(&cpu), Some(expected));
    }
    let cpu = cpu(Model::Default, Model::Default).with(midr(APPLE, 0x52));
    assert_eq!(register_of_guests_of(&cpu), None);
}

const REGISTERS: [Register; 3] = [Register::Own, Register::El12, Register::ImpdefEl12];

/// The way in which a CPU serves guests.
#[derive(Clone, Copy)]
struct Guests {
    register: Register,
    tso: bool,
}

fn every_guests() -> impl Iterator<Item = Guests> {
    REGISTERS
        .into_iter()
        .flat_map(|register| [false, true].map(|tso| Guests { register, tso }))
}

/// Returns every combination of models that firmware has left and of ways to serve guests.
fn every_machine() -> impl Iterator<Item = (Fake, Guests)> {
    every_guests().flat_map(|guests| {
        MODELS
            .into_iter()
            .flat_map(move |own| MODELS.map(|theirs| (cpu(own, theirs), guests)))
    })
}

/// The register of guests holds their model, and the kernel's own register the default.
#[test]
fn a_cpu_is_taken_over_and_left_as_found() {
    for (cpu, guests) in every_machine() {
        let before = models(&cpu, guests.register);
        let found = enter(&cpu, guests.register, guests.tso);
        let apart = guests.register != Register::Own;

        assert_eq!(model(&cpu, Register::Own), Model::Default);
        if apart {
            let theirs = if guests.tso { Model::Tso } else { before.1 };
            assert_eq!(model(&cpu, guests.register), theirs);
        }
        // The result does not depend on what has happened since.
        for thread in MODELS {
            put(&cpu, Register::Own, thread);
            load_guest(&cpu, guests.tso, found);
            leave(&cpu, guests.tso, found);
            assert_eq!(models(&cpu, guests.register), before);
        }
        check_steps(&cpu);
    }
}

/// A guest has the static model, whichever thread runs it, and the thread gets its own back.
#[test]
fn guests_have_one_model() {
    for (cpu, guests) in every_machine() {
        let before = model(&cpu, guests.register);
        let found = enter(&cpu, guests.register, guests.tso);
        let static_model = if guests.tso { Model::Tso } else { before };

        for thread in MODELS {
            put(&cpu, Register::Own, thread);
            load_guest(&cpu, guests.tso, found);
            assert_eq!(model(&cpu, guests.register), static_model);
            if guests.register != Register::Own {
                let own = model(&cpu, Register::Own);
                assert_eq!(own, thread, "the host's own is left alone");
            }
            put_guest(&cpu, found, thread);
            assert_eq!(model(&cpu, Register::Own), thread);
        }
        check_steps(&cpu);
    }
}

/// A CPU that has lost its registers gets the models back that were set. A register that only
/// guests use and that was not set is left to firmware.
#[test]
fn registers_that_are_lost_come_back() {
    for (cpu, guests) in every_machine() {
        let found = enter(&cpu, guests.register, guests.tso);
        let apart = guests.register != Register::Own;
        let theirs = model(&cpu, guests.register);

        for thread in MODELS {
            for lost in MODELS {
                lose(&cpu, Register::Own, lost);
                lose(&cpu, guests.register, lost);
                resume(&cpu, guests.tso, found, thread);
                assert_eq!(model(&cpu, Register::Own), thread);
                if apart {
                    let expected = if guests.tso { theirs } else { lost };
                    assert_eq!(model(&cpu, guests.register), expected);
                }
            }
        }
        check_steps(&cpu);
    }
}

#[test]
fn what_was_found_is_packed() {
    for other in (i8::MIN..0).chain((0..=i8::MAX).filter(|it| it & 1 == 0 || it >> 3 > 2)) {
        assert_eq!(Found::try_from(other), Err(Unknown));
    }
    for register in REGISTERS {
        for own in MODELS {
            for theirs in MODELS {
                let found = Found {
                    register,
                    own,
                    guests: theirs,
                };
                assert_ne!(found.pack(), 0);
                assert_eq!(Found::try_from(found.pack()), Ok(found));
            }
        }
    }
}

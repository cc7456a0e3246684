// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, as a program for the build host:
//! `rustc --test`. A crate root beside that of the component, so that both find the same modules.

#![allow(dead_code)]

mod policy;

mod switch;

use policy::*;
use std::cell::{Cell, RefCell};
use switch::*;

const MODELS: [Model; 2] = [Model::Default, Model::Tso];

/// MIDR_EL1 of an implementer and a part; the architecture field is as on all of them.
fn midr(implementer: u64, part: u64) -> Midr {
    Midr(implementer << 24 | 0xf << 16 | part << 4)
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
    assert_eq!(Model::new(0), Some(Model::Default));
    assert_eq!(Model::new(1), Some(Model::Tso));
    for other in [2, 3, 1 << 32, 1 << 32 | 1, u64::MAX] {
        assert_eq!(Model::new(other), None);
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

/// Bit 9 of AIDR_EL1 and bit 1 of ACTLR_EL1 mean something on Apple's CPUs only, and are hidden
/// there only, whether or not the CPU has the control.
#[test]
fn every_implementer() {
    for implementer in 0..=0xff {
        for rest in [0, !(0xff << 24)] {
            let midr = Midr(implementer << 24 | rest);
            let apple = implementer == APPLE;
            assert_eq!(advertises(midr, 1 << 9), apple);
            assert_eq!(advertises(midr, !0), apple);
            assert!(!advertises(midr, 0));
            assert!(!advertises(midr, !(1 << 9)));
            for value in [0, 1 << 9, 2, 6, !0, !(1 << 9), !2] {
                let (aidr, actlr) = if apple { (!(1 << 9), !2) } else { (!0, !0) };
                assert_eq!(visible_aidr(midr, value), value & aidr);
                assert_eq!(visible_actlr(midr, value), value & actlr);
            }
        }
    }
}

#[test]
fn one_bit_of_actlr() {
    for actlr in [0, 2, !0, !2, 0x1234_5678_9abc_def0] {
        assert_eq!(with_model(actlr, Model::Tso), actlr | 2);
        assert_eq!(with_model(actlr, Model::Default), actlr & !2);
        for model in MODELS {
            assert_eq!(model_in(with_model(actlr, model)), model);
        }
    }
}

/// One implementation without total store order is enough, wherever it is in the list.
#[test]
fn always_tso_is_of_all() {
    let (denver, carmel, a64fx) = (midr(0x4e, 3), midr(0x4e, 4), midr(0x46, 1));
    let n1 = midr(0x41, 0xd0c);
    let all = |midrs: &[Midr]| all_always_tso(midrs.iter().copied());

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
    // NVIDIA's Olympus, and parts of these numbers by others.
    for other in [
        midr(0x4e, 0x10),
        midr(0x41, 3),
        midr(0x4e, 1),
        midr(0x46, 3),
    ] {
        assert!(!all(&[other]));
    }
}

/// From the list of parts in m1n1's `src/midr.h` and of features in its `src/chickens.c`, typed
/// once more; A14 and A15 are not in the latter, and it is not sure of M4.
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Complete,
    Set(Register, Model),
    Synchronise,
}

/// A CPU that notes what is done to it.
struct Fake {
    own: Cell<Model>,
    guests: Cell<Model>,
    /// Whether writes are ignored, as under a hypervisor.
    ignores: bool,
    steps: RefCell<Vec<Step>>,
}

impl Fake {
    fn new(own: Model, guests: Model) -> Self {
        Self {
            own: Cell::new(own),
            guests: Cell::new(guests),
            ignores: false,
            steps: RefCell::default(),
        }
    }

    fn cell(&self, register: Register) -> &Cell<Model> {
        match register {
            Register::Own => &self.own,
            _ => &self.guests,
        }
    }

    fn has(&self) -> (Model, Model) {
        (self.own.get(), self.guests.get())
    }

    /// Every change is between a DSB and an ISB of its own.
    fn check_order(&self) {
        for steps in self.steps.borrow().chunks(3) {
            assert!(
                matches!(steps, [Step::Complete, Step::Set(..), Step::Synchronise]),
                "{steps:?}"
            );
        }
    }
}

impl Cpu for Fake {
    fn model(&self, register: Register) -> Model {
        self.cell(register).get()
    }

    fn set_model(&self, register: Register, model: Model, _: Completed) {
        self.steps.borrow_mut().push(Step::Set(register, model));
        if !self.ignores {
            self.cell(register).set(model);
        }
    }

    fn complete(&self) {
        self.steps.borrow_mut().push(Step::Complete);
    }

    fn synchronise(&self) {
        self.steps.borrow_mut().push(Step::Synchronise);
    }
}

/// Accesses are complete before another model is in force, and nothing is done for the same one.
#[test]
fn accesses_complete_first() {
    for found in MODELS {
        for model in MODELS {
            for register in [Register::Own, Register::El12, Register::ImpdefEl12] {
                let cpu = Fake::new(found, found);
                put(&cpu, register, model);
                cpu.check_order();
                assert_eq!(cpu.model(register), model);
                assert_eq!(cpu.steps.borrow().is_empty(), found == model);
            }
        }
    }
}

/// `__switch_to()` has its DSB: the switch adds none, and the way to user space synchronises.
#[test]
fn a_switch_is_one_write() {
    for model in MODELS {
        let cpu = Fake::new(Model::Default, Model::Default);
        // SAFETY: A fake has no accesses.
        switch(&cpu, model, unsafe { Completed::assume() });
        assert_eq!(*cpu.steps.borrow(), [Step::Set(Register::Own, model)]);
    }
}

#[test]
fn detection_restores() {
    for found in MODELS {
        for ignores in [false, true] {
            let mut cpu = Fake::new(found, found);
            cpu.ignores = ignores;
            assert_eq!(keeps_models(&cpu), !ignores);
            assert_eq!(cpu.has(), (found, found));
            cpu.check_order();
        }
    }
}

const REGISTERS: [Register; 3] = [Register::Own, Register::El12, Register::ImpdefEl12];

/// How a CPU serves guests.
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

/// Returns every combination of what firmware has left and of how guests are served.
fn every_machine() -> impl Iterator<Item = (Fake, Guests)> {
    every_guests().flat_map(|guests| {
        MODELS
            .into_iter()
            .flat_map(move |own| MODELS.map(|theirs| (Fake::new(own, theirs), guests)))
    })
}

/// The register of guests has what they are to have; that of the kernel, the default.
#[test]
fn a_cpu_is_taken_over_and_left_as_found() {
    for (cpu, guests) in every_machine() {
        let before = cpu.has();
        let found = enter(&cpu, guests.register, guests.tso);
        let apart = guests.register != Register::Own;

        assert_eq!(cpu.own.get(), Model::Default);
        let theirs = if apart && guests.tso {
            Model::Tso
        } else {
            before.1
        };
        assert_eq!(cpu.guests.get(), theirs);
        // Whatever has happened since.
        for thread in MODELS {
            put(&cpu, Register::Own, thread);
            load_guest(&cpu, guests.tso, found);
            leave(&cpu, guests.tso, found);
            assert_eq!(cpu.has(), before);
        }
        cpu.check_order();
    }
}

/// A guest has the static model, whichever thread runs it, and the thread has its own back.
#[test]
fn guests_have_one_model() {
    for (cpu, guests) in every_machine() {
        let before = cpu.model(guests.register);
        let found = enter(&cpu, guests.register, guests.tso);
        let static_model = if guests.tso { Model::Tso } else { before };

        for thread in MODELS {
            put(&cpu, Register::Own, thread);
            load_guest(&cpu, guests.tso, found);
            assert_eq!(cpu.model(guests.register), static_model);
            if guests.register != Register::Own {
                assert_eq!(cpu.own.get(), thread, "the host's own is left alone");
            }
            put_guest(&cpu, found, thread);
            assert_eq!(cpu.own.get(), thread);
        }
        cpu.check_order();
    }
}

/// A CPU that has lost its registers gets back what was set in them. What only guests use and
/// nothing has set is left to firmware.
#[test]
fn registers_that_are_lost_come_back() {
    for (cpu, guests) in every_machine() {
        let found = enter(&cpu, guests.register, guests.tso);
        let theirs = cpu.guests.get();

        for thread in MODELS {
            for lost in MODELS {
                cpu.own.set(lost);
                if guests.register != Register::Own {
                    cpu.guests.set(lost);
                }
                resume(&cpu, guests.tso, found, thread);
                let apart = guests.register != Register::Own;
                let expected = if apart && !guests.tso { lost } else { theirs };
                assert_eq!(cpu.has(), (thread, expected));
            }
        }
        cpu.check_order();
    }
}

#[test]
fn what_was_found_is_packed() {
    assert_eq!(Found::unpack(0), None);
    for register in REGISTERS {
        for own in MODELS {
            for theirs in MODELS {
                let found = Found {
                    register,
                    own,
                    guests: theirs,
                };
                assert_ne!(found.pack(), 0);
                assert_eq!(Found::unpack(found.pack()), Some(found));
            }
        }
    }
}

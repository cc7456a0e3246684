// SPDX-License-Identifier: GPL-2.0

//! A fake CPU: its registers are numbers, and it records the accesses to them.

use super::{
    access::Access,
    sysreg::{Encoding, SystemRegister},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

/// What was done to a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A DSB.
    Complete,
    /// PSB CSYNC and a DSB.
    CompleteProfiling,
    /// A write of a register.
    Write(Encoding, u64),
    /// An ISB.
    Synchronise,
}

/// A CPU that has the registers which it was given, and no others.
#[derive(Default)]
pub struct Fake {
    registers: RefCell<BTreeMap<Encoding, u64>>,
    fixed: RefCell<BTreeSet<Encoding>>,
    steps: RefCell<Vec<Step>>,
}

impl Fake {
    /// Returns the CPU with register `R`.
    pub fn with<R: SystemRegister>(self, value: R) -> Self {
        self.set(value);
        self
    }

    /// Returns the CPU where writes of `R` are ignored, as under a hypervisor.
    pub fn ignoring<R: SystemRegister>(self) -> Self {
        self.fixed.borrow_mut().insert(R::ENCODING);
        self
    }

    /// Changes a register without recording a step.
    pub fn set<R: SystemRegister>(&self, value: R) {
        self.registers
            .borrow_mut()
            .insert(R::ENCODING, value.into());
    }

    /// Returns a register.
    pub fn get<R: SystemRegister>(&self) -> u64 {
        *self.registers.borrow().get(&R::ENCODING).expect(R::NAME)
    }

    /// Returns the recorded steps, and clears the record.
    pub fn take_steps(&self) -> Vec<Step> {
        self.steps.take()
    }
}

impl Access for Fake {
    unsafe fn read_present<R: SystemRegister>(&self) -> R {
        R::from(self.get::<R>())
    }

    unsafe fn write<R: SystemRegister>(&self, value: R) {
        self.get::<R>();
        self.steps
            .borrow_mut()
            .push(Step::Write(R::ENCODING, value.into()));
        if !self.fixed.borrow().contains(&R::ENCODING) {
            self.set(value);
        }
    }

    fn complete(&self) {
        self.steps.borrow_mut().push(Step::Complete);
    }

    fn complete_profiling(&self) {
        self.steps.borrow_mut().push(Step::CompleteProfiling);
    }

    fn synchronise(&self) {
        self.steps.borrow_mut().push(Step::Synchronise);
    }
}

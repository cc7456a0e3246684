// SPDX-License-Identifier: GPL-2.0

//! Memory that never changes.

use super::super::window::*;
use std::cell::Cell;

/// Memory in which every translation has the same result, and everything can be mapped.
pub(super) struct Always {
    page: Page,
    /// The number of translations.
    pub(super) walks: Cell<usize>,
}

impl Always {
    pub(super) fn new(page: Page) -> Self {
        Self {
            page,
            walks: Cell::new(0),
        }
    }
}

impl Memory for Always {
    fn context(&self, _: u64) -> Context {
        [0; 6]
    }

    fn translate(&self, _: u64, _: &mut dyn FnMut(Descriptor)) -> Page {
        self.walks.set(self.walks.get() + 1);
        self.page
    }

    fn descriptor(&self, _: u64) -> Option<u64> {
        None
    }

    fn gfn(&self, ipa: u64) -> u64 {
        ipa >> 12
    }

    fn updates_tables(&self) -> bool {
        true
    }

    fn watch(&self, _: &Frames) {
        assert_ne!(self.page, Page::Later, "nothing is known");
    }

    fn map(&self, _: Frame) -> Result<bool, Unmapped> {
        Ok(false)
    }

    fn wait(&self) -> bool {
        true
    }

    fn arm(&self) -> bool {
        true
    }

    fn arm_if_mapped(&self, _: &Frames) -> bool {
        true
    }

    fn disarm(&self) {}
}

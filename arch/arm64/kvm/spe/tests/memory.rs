// SPDX-License-Identifier: GPL-2.0

//! A guest whose memory other CPUs change at any time.
//!
//! The simulation has what the protocol rests on: stage 2 with pages and blocks, and stale
//! translations of them; a lock that changes hold for writing, and faults for reading; requests
//! that take the vCPU out of the guest before a change; and a host that takes pages away, gives
//! others back, and harvests which are dirty. Every call of the code under test is a place where
//! other CPUs act. What must hold is checked at each write of the unit: it is to a page that the
//! guest has, it does not fault, and the page is dirty.

use super::{super::window::*, choices::Choices};
use std::cell::RefCell;

/// Frames: three of tables, and those of data.
pub(super) const TABLES: u64 = 3;
pub(super) const FRAMES: usize = 27;
/// The frames that a block has.
pub(super) const BLOCK: usize = 4;
/// The pages of the buffer.
pub(super) const VAS: usize = 64;
/// The address of the buffer.
pub(super) const BASE: u64 = 0x4000_0000;

/// A leaf of stage 2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) write: bool,
    pub(super) young: bool,
    pub(super) block: bool,
    /// The page that it maps.
    pub(super) page: u64,
}

/// What the host has for a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Host {
    /// The page, which is another one after it was taken away.
    pub(super) page: u64,
    pub(super) present: bool,
    pub(super) read_only: bool,
    pub(super) dirty: bool,
}

/// The parts of the protocol that a run leaves out, to test that the checks notice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Broken {
    /// A change does not stop the unit.
    pub(super) no_kick: bool,
    /// A change of a block is reported for one page only.
    pub(super) no_widening: bool,
    /// Faults that are under way are not waited for.
    pub(super) no_drain: bool,
    /// Mappings change their size where a vCPU watches.
    pub(super) no_size_check: bool,
    /// Old translations are left when a mapping gets a permission.
    pub(super) no_flush: bool,
    /// Pages become old though the unit writes to them.
    pub(super) no_young: bool,
    /// The frames are not looked at before the unit is enabled.
    pub(super) no_check: bool,
    /// An entry looks for requests before others see that the vCPU is in the guest.
    pub(super) no_order: bool,
}

/// What the guest and other CPUs do in a run.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// How often the vCPU enters the guest, and how often the unit then writes.
    pub(super) entries: usize,
    pub(super) writes: usize,
    /// The pages of the buffer, those at which the unit may start, and those at which it may start
    /// once memory was gone.
    pub(super) pages: u64,
    pub(super) places: u64,
    pub(super) other_places: u64,
    /// The frames that other CPUs change.
    pub(super) frames: &'static [usize],
}

pub(super) const LONG: Extent = Extent {
    entries: 12,
    writes: 4,
    pages: VAS as u64,
    places: VAS as u64 / 2,
    other_places: VAS as u64 - 1,
    frames: &{
        let mut all = [0; FRAMES];
        let mut i = 0;
        while i < FRAMES {
            all[i] = i;
            i += 1;
        }
        all
    },
};

/// The buffer's pages are the first two frames of a block. Others change a table, the first page,
/// and a frame of the block that the unit does not need.
pub(super) const SHORT: Extent = Extent {
    entries: 2,
    writes: 2,
    pages: 2,
    places: 1,
    other_places: 1,
    frames: &[1, BLOCK, BLOCK + 2],
};

pub(super) struct State {
    pub(super) choices: Choices,
    pub(super) extent: Extent,
    pub(super) broken: Broken,
    pub(super) s2: [Option<Leaf>; FRAMES],
    /// CPUs may have translations without write permission.
    pub(super) stale: [bool; FRAMES],
    pub(super) host: [Host; FRAMES],
    /// The guest's descriptors: of the tables, and of the pages.
    pub(super) descriptors: [u64; 2 + VAS],
    /// A fault on another CPU that maps a block here; whether it has removed the old mappings.
    pub(super) fault: Option<(usize, bool)>,
    pub(super) relaxed: u64,
    pub(super) flushed: u64,
    pub(super) request: bool,
    /// The unit may write.
    pub(super) in_guest: bool,
    /// Others do not see yet that the watch was disarmed; and that it is outdated.
    pub(super) unseen: [bool; 2],
    /// Other CPUs act once in this number of calls.
    pub(super) quiet: u64,
    pub(super) kicks: u64,
    /// How often an address was translated by a walk.
    pub(super) walks: u64,
}

pub(super) struct Sim {
    pub(super) state: RefCell<State>,
    pub(super) watch: RefCell<Watch>,
}

pub(super) const VALID: u64 = 1;
pub(super) const WRITABLE: u64 = 2;
/// The access flag.
pub(super) const ACCESSED: u64 = 1 << 10;
/// Where the used part of a table begins: its last 32 descriptors.
const FIRST: u64 = PAGE - 32 * 8;

impl Sim {
    /// Returns the memory of the `seed`th random run, in which the buffer's pages are anywhere.
    pub(super) fn new(seed: u64, broken: Broken) -> Self {
        let mut choices = Choices::Random(seed * 0x9e37_79b9_7f4a_7c15 | 1);
        let mut descriptors = [0; 2 + VAS];
        for one in &mut descriptors[2..] {
            let frame = TABLES + choices.below(FRAMES as u64 - TABLES);
            *one = frame << 12 | VALID | WRITABLE | ACCESSED;
        }
        let quiet = 2 + choices.below(12);

        Self::with(choices, LONG, broken, descriptors, quiet)
    }

    /// Returns the memory of one of all short runs. The block of the buffer's pages is not mapped;
    /// or is a block; or clean pages, of which CPUs have translations.
    pub(super) fn short(choices: Choices, broken: Broken) -> Self {
        let mut descriptors = [0; 2 + VAS];
        for (i, one) in descriptors[2..].iter_mut().enumerate() {
            *one = ((BLOCK + i) as u64) << 12 | VALID | WRITABLE | ACCESSED;
        }
        let sim = Self::with(choices, SHORT, broken, descriptors, 0);
        {
            let state = &mut *sim.state.borrow_mut();
            let mapped = state.choices.below(3);
            for frame in block_of(BLOCK) {
                let block = mapped == 1;
                state.s2[frame] = (mapped > 0).then_some(Leaf {
                    write: block,
                    young: true,
                    block,
                    page: 0,
                });
                state.stale[frame] = mapped == 2;
                state.host[frame].dirty = block;
            }
        }
        sim
    }

    fn with(
        choices: Choices,
        extent: Extent,
        broken: Broken,
        mut descriptors: [u64; 2 + VAS],
        quiet: u64,
    ) -> Self {
        let host = Host {
            page: 0,
            present: true,
            read_only: false,
            dirty: false,
        };
        descriptors[0] = 1 << 12 | VALID;
        descriptors[1] = 2 << 12 | VALID;

        Self {
            state: RefCell::new(State {
                choices,
                extent,
                broken,
                s2: [None; FRAMES],
                stale: [false; FRAMES],
                host: [host; FRAMES],
                descriptors,
                fault: None,
                relaxed: 0,
                flushed: 0,
                request: false,
                in_guest: false,
                unseen: [false; 2],
                quiet,
                kicks: 0,
                walks: 0,
            }),
            watch: RefCell::new(Watch::new()),
        }
    }

    /// Writes at an address like the unit, by the guest's tables. Fails if the unit must not.
    pub(super) fn write(&self, va: u64) -> Result<(), String> {
        let state = &mut *self.state.borrow_mut();
        let page = ((va - BASE) >> 12) as usize;
        let table = state.descriptors[page / 32] >> 12;
        let descriptor = state.descriptors[2 + page];
        for (frame, write) in [(0, false), (table, false), (descriptor >> 12, true)] {
            let (frame, host) = (frame as usize, state.host[frame as usize]);
            let Some(leaf) = state.s2[frame] else {
                return Err(format!("a fault: frame {frame} is not mapped"));
            };
            if !leaf.young || write && (!leaf.write || state.stale[frame]) {
                return Err(format!("a fault: frame {frame}, {leaf:?}"));
            }
            if leaf.page != host.page {
                return Err(format!(
                    "frame {frame} is a page that the guest does not have"
                ));
            }
            if write && !host.dirty {
                return Err(format!("frame {frame} is clean"));
            }
        }
        Ok(())
    }
}

pub(super) fn block_of(frame: usize) -> core::ops::Range<usize> {
    let start = frame / BLOCK * BLOCK;
    start..(start + BLOCK).min(FRAMES)
}

/// Maps a frame as a page, or adds a permission to it. Returns false if there is no memory.
pub(super) fn map(state: &mut State, frame: usize, write: bool) -> bool {
    let host = &mut state.host[frame];

    if !host.present || write && host.read_only {
        return false;
    }
    match &mut state.s2[frame] {
        Some(leaf) => {
            leaf.young = true;
            if write && !leaf.write {
                state.relaxed += 1;
                leaf.write = true;
            }
        }
        None => {
            state.stale[frame] = !write;
            state.s2[frame] = Some(Leaf {
                write,
                young: true,
                block: false,
                page: host.page,
            });
        }
    }
    host.dirty |= write;
    true
}

impl Memory for Sim {
    fn context(&self, _va: u64) -> Context {
        self.others(false);
        [1; 6]
    }

    fn translate(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Page {
        self.state.borrow_mut().walks += 1;
        let page = (va - BASE) >> 12;
        if page >= VAS as u64 {
            return Page::Unwritable;
        }
        let table = 8 * (page / 32);
        let value = |ipa| self.descriptor(ipa).unwrap();
        seen(Descriptor {
            ipa: table,
            value: value(table),
            size: 32 * PAGE,
        });
        let ipa = (value(table) & !0xfff) + FIRST + 8 * (page % 32);
        seen(Descriptor {
            ipa,
            value: value(ipa),
            size: PAGE,
        });
        let found = value(ipa);
        if found & (VALID | WRITABLE) == VALID | WRITABLE {
            Page::At(found & !0xfff)
        } else {
            Page::Unwritable
        }
    }

    fn descriptor(&self, ipa: u64) -> Option<u64> {
        self.others(false);
        let index = match ipa >> 12 {
            0 => ipa / 8,
            table => 2 + (table - 1) * 32 + ((ipa & 0xfff) - FIRST) / 8,
        };
        Some(self.state.borrow().descriptors[index as usize])
    }

    fn gfn(&self, ipa: u64) -> u64 {
        ipa >> 12
    }

    fn updates_tables(&self) -> bool {
        false
    }

    fn watch(&self, frames: &Frames) {
        self.others(false);
        if !self.state.borrow().broken.no_drain {
            self.end_fault(&mut self.state.borrow_mut());
        }
        self.see_all();
        self.watch.borrow_mut().set(frames);
    }

    fn map(&self, frame: Frame) -> Result<bool, Unmapped> {
        self.others(false);
        let state = &mut *self.state.borrow_mut();
        let index = frame.gfn as usize;
        // An invalidation elsewhere was under way: nothing is mapped.
        if state.quiet < u64::MAX && state.choices.act(64) {
            return Ok(true);
        }
        let mapped = |leaf: Leaf| leaf.young && (leaf.write || !frame.write);
        if state.s2[index].is_some_and(mapped) {
            return Ok(false);
        }
        if map(state, index, frame.write) {
            Ok(true)
        } else {
            Err(Unmapped::Gone)
        }
    }

    fn wait(&self) -> bool {
        self.others(false);
        !self.state.borrow_mut().choices.act(4)
    }

    fn arm(&self) -> bool {
        self.others(false);
        self.see_all();
        let armed = self.watch.borrow().arm(|| true);
        self.others(true);
        armed
    }

    fn arm_if_mapped(&self, frames: &Frames) -> bool {
        self.others(false);
        self.see_all();
        let armed = self.watch.borrow().arm(|| {
            frames.as_slice().iter().all(|frame| {
                self.others(true);
                let state = self.state.borrow();
                let mapped = |leaf: Leaf| leaf.young && (leaf.write || !frame.write);
                state.broken.no_check || state.s2[frame.gfn as usize].is_some_and(mapped)
            })
        });
        self.others(true);
        let state = &mut *self.state.borrow_mut();
        if armed && state.relaxed != state.flushed && !state.broken.no_flush {
            state.flushed = state.relaxed;
            for frame in 0..FRAMES {
                state.stale[frame] = state.s2[frame].is_some_and(|leaf| !leaf.write);
            }
        }
        armed
    }

    fn disarm(&self) {
        self.state.borrow_mut().unseen[0] = true;
    }
}

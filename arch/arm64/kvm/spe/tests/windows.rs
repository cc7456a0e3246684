// SPDX-License-Identifier: GPL-2.0

//! The window, against a guest whose memory other CPUs change at any time.
//!
//! The simulation has what the protocol rests on: stage 2 with pages and blocks, and stale
//! translations of them; a lock that changes hold for writing, and faults for reading; requests
//! that take the vCPU out of the guest before a change; and a host that takes pages away, gives
//! others back, and harvests which are dirty. Every call of the code under test is a place where
//! other CPUs act. What must hold is checked at each write of the unit: it is to a page that the
//! guest has, it does not fault, and the page is dirty.

use super::super::window::*;
use std::cell::RefCell;

/// Frames: three of tables, and those of data.
const TABLES: u64 = 3;
const FRAMES: usize = 27;
/// The frames that a block has.
const BLOCK: usize = 4;
/// The pages of the buffer.
const VAS: usize = 64;
/// The address of the buffer.
const BASE: u64 = 0x4000_0000;

/// A small generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A leaf of stage 2.
#[derive(Clone, Copy, Debug)]
struct Leaf {
    write: bool,
    young: bool,
    block: bool,
    /// The page that it maps.
    page: u64,
}

/// What the host has for a frame.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// The page, which is another one after it was taken away.
    page: u64,
    present: bool,
    read_only: bool,
    dirty: bool,
}

/// What is left out, to see that the checks notice it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Broken {
    /// A change does not stop the unit.
    no_kick: bool,
    /// A change of a block says so of the page alone.
    no_widening: bool,
    /// Faults that are under way are not waited for.
    no_drain: bool,
    /// Mappings change their size where a vCPU watches.
    no_size_check: bool,
    /// Old translations are left when a mapping gets a permission.
    no_flush: bool,
    /// Pages become old though the unit writes to them.
    no_young: bool,
    /// The frames are not looked at before the unit is enabled.
    no_check: bool,
}

struct State {
    random: Random,
    broken: Broken,
    s2: [Option<Leaf>; FRAMES],
    /// CPUs may have translations without write permission.
    stale: [bool; FRAMES],
    host: [Host; FRAMES],
    /// The guest's descriptors: of the tables, and of the pages.
    descriptors: [u64; 2 + VAS],
    /// A fault on another CPU has decided to map a block here; and has removed what was there.
    fault: Option<(usize, bool)>,
    relaxed: u64,
    flushed: u64,
    request: bool,
    /// The unit may write.
    in_guest: bool,
    /// How often other CPUs act: once in so many calls.
    quiet: u64,
    kicks: u64,
}

struct Sim {
    state: RefCell<State>,
    watch: RefCell<Watch>,
}

const VALID: u64 = 1;
const WRITABLE: u64 = 2;

impl Sim {
    fn new(seed: u64, broken: Broken) -> Self {
        let mut random = Random(seed * 0x9e37_79b9_7f4a_7c15 | 1);
        let mut descriptors = [0; 2 + VAS];
        descriptors[0] = 1 << 12 | VALID;
        descriptors[1] = 2 << 12 | VALID;
        for one in &mut descriptors[2..] {
            let frame = TABLES + random.below(FRAMES as u64 - TABLES);
            *one = frame << 12 | VALID | WRITABLE;
        }
        let host = Host {
            page: 0,
            present: true,
            read_only: false,
            dirty: false,
        };
        let quiet = 2 + random.below(12);

        Self {
            state: RefCell::new(State {
                random,
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
                quiet,
                kicks: 0,
            }),
            watch: RefCell::new(Watch::new()),
        }
    }

    /// Lets other CPUs act. `readers_only`: this CPU has the lock for reading.
    fn others(&self, readers_only: bool) {
        loop {
            let state = &mut *self.state.borrow_mut();
            if !state.random.one_in(state.quiet) {
                break;
            }
            let frame = state.random.below(FRAMES as u64) as usize;
            match state.random.below(10) {
                0 if !readers_only => self.take_away(state, frame),
                1 if !readers_only => self.harvest(state, frame),
                2 if !readers_only => self.split(state, frame),
                3 if !readers_only => self.age(state, frame),
                4 => state.host[frame].present = true,
                5 | 6 => self.other_faults(state, frame),
                7 => self.next_of_fault(state),
                8 => state.host[frame].read_only = state.random.one_in(8),
                _ => self.relax(state, frame),
            }
        }
    }

    /// Returns the frames of the leaf at `frame`.
    fn leaf(&self, state: &State, frame: usize) -> core::ops::Range<usize> {
        match state.s2[frame] {
            Some(leaf) if leaf.block => block_of(frame),
            _ => frame..frame + 1,
        }
    }

    /// Mappings of stage 2 are about to change: the lock is held for writing.
    fn before_change(&self, state: &mut State, frame: usize) {
        self.end_fault(state);
        let mut range = self.leaf(state, frame);
        if state.broken.no_widening {
            range = frame..frame + 1;
        }
        let watch = self.watch.borrow();
        if watch.has(range.start as u64, range.end as u64 - 1) && watch.change() {
            state.request = true;
            state.kicks += 1;
            // The exit completes all records.
            state.in_guest &= state.broken.no_kick;
        }
    }

    /// The host takes a page away, for good or to give another one.
    fn take_away(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            state.s2[frame] = None;
            state.stale[frame] = false;
        }
        let host = &mut state.host[frame];
        host.page += 1;
        host.present = state.random.one_in(2);
        host.read_only = false;
    }

    /// What is dirty is harvested, and write-protected.
    fn harvest(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            if let Some(leaf) = &mut state.s2[frame] {
                leaf.write = false;
                state.stale[frame] = true;
            }
            state.host[frame].dirty = false;
        }
    }

    fn split(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            if let Some(leaf) = &mut state.s2[frame] {
                leaf.block = false;
            }
        }
    }

    fn age(&self, state: &mut State, frame: usize) {
        let range = self.leaf(state, frame);
        let watch = self.watch.borrow();
        let keeps = watch.has(range.start as u64, range.end as u64 - 1) && watch.keeps_young();
        if keeps && !state.broken.no_young {
            return;
        }
        for frame in range {
            if let Some(leaf) = &mut state.s2[frame] {
                leaf.young = false;
            }
        }
    }

    /// A fault on another CPU maps a page, or replaces pages by a block: nothing is mapped there
    /// until it ends.
    fn other_faults(&self, state: &mut State, frame: usize) {
        let range = block_of(frame);
        let watched = self
            .watch
            .borrow()
            .has(range.start as u64, range.end as u64 - 1);
        let collapses = range
            .clone()
            .all(|i| state.host[i].present && !state.host[i].read_only)
            && range
                .clone()
                .any(|i| state.s2[i].is_some_and(|leaf| !leaf.block));

        if state.fault.is_some() {
            return;
        }
        if collapses && (!watched || state.broken.no_size_check) {
            state.fault = Some((frame, false));
        } else {
            map(state, frame, false);
        }
    }

    /// Nobody has the lock for reading.
    fn end_fault(&self, state: &mut State) {
        while state.fault.is_some() {
            self.next_of_fault(state);
        }
    }

    fn next_of_fault(&self, state: &mut State) {
        let Some((frame, removed)) = state.fault.take() else {
            return;
        };
        if !removed {
            state.fault = Some((frame, true));
            for frame in block_of(frame) {
                state.s2[frame] = None;
            }
        } else {
            for frame in block_of(frame) {
                let host = &mut state.host[frame];
                host.dirty = true;
                state.stale[frame] = false;
                state.s2[frame] = Some(Leaf {
                    write: true,
                    young: true,
                    block: true,
                    page: host.page,
                });
            }
        }
    }

    /// A write on another CPU adds the permission, and invalidates nothing elsewhere.
    fn relax(&self, state: &mut State, frame: usize) {
        if state.s2[frame].is_some() && state.fault.is_none() {
            map(state, frame, true);
        }
    }

    /// The unit writes at an address, as the guest's tables say.
    fn write(&self, va: u64) -> Result<(), String> {
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

fn block_of(frame: usize) -> core::ops::Range<usize> {
    let start = frame / BLOCK * BLOCK;
    start..(start + BLOCK).min(FRAMES)
}

/// Maps a frame as a page, or adds a permission to it. Returns false if there is no memory.
fn map(state: &mut State, frame: usize, write: bool) -> bool {
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
        let page = (va - BASE) >> 12;
        if page >= VAS as u64 {
            return Page::Unwritable;
        }
        let table = 8 * (page / 32);
        let value = |ipa| self.descriptor(ipa).unwrap();
        seen(Descriptor {
            ipa: table,
            value: value(table),
        });
        let ipa = (value(table) & !0xfff) + 8 * (page % 32);
        seen(Descriptor {
            ipa,
            value: value(ipa),
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
            table => 2 + (table - 1) * 32 + (ipa & 0xfff) / 8,
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
        self.watch.borrow_mut().set(frames);
    }

    fn map(&self, frame: Frame) -> Result<bool, Unmapped> {
        self.others(false);
        let state = &mut *self.state.borrow_mut();
        let index = frame.gfn as usize;
        // An invalidation elsewhere was under way: nothing is mapped.
        if state.quiet < u64::MAX && state.random.one_in(64) {
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
        !self.state.borrow_mut().random.one_in(4)
    }

    fn arm(&self) -> bool {
        self.others(false);
        let armed = self.watch.borrow().arm(|| true);
        self.others(true);
        armed
    }

    fn arm_if_mapped(&self, frames: &Frames) -> bool {
        self.others(false);
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
        self.watch.borrow().disarm();
    }
}

/// What a run has come to, for the judgement that it tests something.
#[derive(Default)]
struct Seen {
    writes: u64,
    compared: u64,
    walked: u64,
    later: u64,
    gone: u64,
    kicks: u64,
}

/// Runs a vCPU that profiles, for some entries.
fn run(seed: u64, broken: Broken, seen: &mut Seen) -> Result<(), String> {
    let sim = Sim::new(seed, broken);
    let mut window = Window::new();
    let mut pointer = BASE + (sim.state.borrow_mut().random.below(VAS as u64 / 2) << 12);
    let limit = BASE + ((VAS as u64) << 12);
    let mut ready = None;

    sim.state.borrow_mut().request = true;
    for _ in 0..12 {
        if core::mem::take(&mut sim.state.borrow_mut().request) || ready.is_none() {
            ready = match window.make_ready(&sim, pointer, limit) {
                Outcome::Ready(limit, How::Compared) => {
                    seen.compared += 1;
                    Some(limit)
                }
                Outcome::Ready(limit, How::Walked(_)) => {
                    seen.walked += 1;
                    Some(limit)
                }
                Outcome::Later => {
                    seen.later += 1;
                    None
                }
                Outcome::Gone => {
                    // The guest gets an event, and starts again elsewhere.
                    seen.gone += 1;
                    pointer = BASE + (sim.state.borrow_mut().random.below(VAS as u64 - 1) << 12);
                    None
                }
            };
        }
        sim.others(false);
        // Interrupts are off: a request is seen, or takes the vCPU out.
        {
            let state = &mut *sim.state.borrow_mut();
            state.in_guest = ready.is_some() && !state.request;
        }
        for _ in 0..4 {
            sim.others(false);
            if !sim.state.borrow().in_guest || Some(pointer) >= ready {
                break;
            }
            sim.write(pointer)?;
            seen.writes += 1;
            pointer += PAGE / 2;
        }
        sim.state.borrow_mut().in_guest = false;
        if Some(pointer) >= ready {
            ready = None;
        }
        if pointer >= limit || sim.state.borrow_mut().random.one_in(4) {
            // The guest starts once more, at a place that it has had, or at another one.
            pointer = BASE + (sim.state.borrow_mut().random.below(3) << 12);
            ready = None;
            sim.watch.borrow().disarm();
        }
    }
    seen.kicks += sim.state.borrow().kicks;
    Ok(())
}

/// Random sequences, as many as SEQUENCES says: the unit writes only to pages that the guest has,
/// faults on none, and none of them is clean.
#[test]
fn nothing_is_written_elsewhere_or_lost() {
    let mut seen = Seen::default();

    let sequences = std::env::var("SEQUENCES").map_or(200_000, |n| n.parse().unwrap());
    for seed in 0..sequences {
        if let Err(why) = run(seed, Broken::default(), &mut seen) {
            panic!("seed {seed}: {why}");
        }
    }
    for (what, n) in [
        ("writes", seen.writes),
        ("compared", seen.compared),
        ("walked", seen.walked),
        ("later", seen.later),
        ("gone", seen.gone),
        ("kicks", seen.kicks),
    ] {
        assert!(n > sequences / 100, "{what}: {n}");
    }
}

/// Each part of the protocol is needed: without it, one of the sequences fails.
#[test]
fn every_part_is_needed() {
    let all = Broken::default();

    for broken in [
        Broken {
            no_kick: true,
            ..all
        },
        Broken {
            no_widening: true,
            ..all
        },
        Broken {
            no_drain: true,
            ..all
        },
        Broken {
            no_size_check: true,
            ..all
        },
        Broken {
            no_flush: true,
            ..all
        },
        Broken {
            no_young: true,
            ..all
        },
        Broken {
            no_check: true,
            ..all
        },
    ] {
        let fails = |seed| run(seed, broken, &mut Seen::default()).is_err();
        assert!((0..500_000).any(fails), "{broken:?} is not noticed");
    }
}

/// Memory in which nothing changes.
fn still() -> Sim {
    let sim = Sim::new(1, Broken::default());
    {
        let state = &mut *sim.state.borrow_mut();
        state.quiet = u64::MAX;
        for (i, one) in state.descriptors[2..].iter_mut().enumerate() {
            *one = (TABLES + i as u64 % (FRAMES as u64 - TABLES)) << 12 | VALID | WRITABLE;
        }
    }
    sim
}

/// A window has at most 32 pages, from that of the pointer, and ends with the buffer.
#[test]
fn ends() {
    let page = |n: u64| BASE + n * PAGE;

    for (pointer, limit, end) in [
        (page(0), page(64), page(32)),
        (page(0) + 64, page(64), page(32)),
        (page(32) - 64, page(64), page(63)),
        (page(40), page(64), page(64)),
        (page(0), page(1), page(1)),
        (page(0), page(32), page(32)),
        (page(0), page(33), page(32)),
    ] {
        let outcome = Window::new().make_ready(&still(), pointer, limit);
        assert!(
            matches!(outcome, Outcome::Ready(found, How::Walked(_)) if found == end),
            "{outcome:x?} for {pointer:x} in {limit:x}"
        );
    }
}

/// Without space below the limit, the limit is what the guest has written, and one page is mapped.
#[test]
fn no_space() {
    for limit in [BASE, BASE + PAGE, 0] {
        let (sim, mut window) = (still(), Window::new());
        let outcome = window.make_ready(&sim, BASE + PAGE, limit);
        // Two tables and a page.
        assert_eq!(outcome, Outcome::Ready(limit, How::Walked(3)));
    }
}

/// The last page of the address space, and the one before, overflow nothing.
#[test]
fn the_end_of_the_address_space() {
    struct Nothing;
    impl Memory for Nothing {
        fn context(&self, _: u64) -> Context {
            [0; 6]
        }
        fn translate(&self, _: u64, _: &mut dyn FnMut(Descriptor)) -> Page {
            Page::At(0x1000)
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
        fn watch(&self, _: &Frames) {}
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
    let last = u64::MAX - 0xfff;

    for pointer in [last - PAGE, last, u64::MAX, last - 31 * PAGE] {
        for limit in [0, last] {
            let outcome = Window::new().make_ready(&Nothing, pointer, limit);
            assert!(matches!(outcome, Outcome::Ready(..)), "{outcome:?}");
        }
    }
}

/// Where stage 1 does not let the unit write, the window ends; if that is the first page, the unit
/// says so.
#[test]
fn what_stage_1_does_not_map() {
    for first in 0..4 {
        let sim = still();
        sim.state.borrow_mut().descriptors[2 + first] &= !WRITABLE;
        let end = BASE + PAGE * first.max(1) as u64;
        let outcome = Window::new().make_ready(&sim, BASE, BASE + 64 * PAGE);
        assert!(matches!(outcome, Outcome::Ready(found, _) if found == end));
    }
}

/// Without space for a record before a page that the unit cannot write, the page is part of the
/// window: the unit says what is wrong. If the host has no memory for it, it is gone.
#[test]
fn no_space_before_what_is_missing() {
    let (first, limit) = (BASE + PAGE, BASE + 64 * PAGE);

    for (space, fits) in [
        (0x1000, true),
        (0x800, true),
        (0x7c0, false),
        (64, false),
        (1, false),
    ] {
        let sim = still();
        sim.state.borrow_mut().descriptors[2 + 1] &= !WRITABLE;
        let end = if fits { first } else { first + PAGE };
        let outcome = Window::new().make_ready(&sim, first - space, limit);
        assert!(
            matches!(outcome, Outcome::Ready(found, _) if found == end),
            "{space:x}"
        );

        let sim = still();
        sim.state.borrow_mut().host[4].present = false;
        let outcome = Window::new().make_ready(&sim, first - space, limit);
        match outcome {
            Outcome::Ready(found, _) => assert!(fits && found == first),
            other => assert!(!fits && other == Outcome::Gone),
        }
    }
}

/// Somebody who is changing the tables all the time does not keep the vCPU.
#[test]
fn what_cannot_be_walked() {
    struct Changing(core::cell::Cell<usize>);
    impl Memory for Changing {
        fn context(&self, _: u64) -> Context {
            [0; 6]
        }
        fn translate(&self, _: u64, _: &mut dyn FnMut(Descriptor)) -> Page {
            self.0.set(self.0.get() + 1);
            Page::Later
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
            panic!("nothing is known")
        }
        fn map(&self, _: Frame) -> Result<bool, Unmapped> {
            panic!("nothing is known")
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
    let memory = Changing(core::cell::Cell::new(0));

    assert_eq!(
        Window::new().make_ready(&memory, BASE, BASE + PAGE),
        Outcome::Later
    );
    assert_eq!(memory.0.get(), ATTEMPTS);
}

/// Where the host has no memory, the window ends; if that is the first page, or what translates it,
/// it is gone.
#[test]
fn what_is_gone() {
    for (frame, end) in [
        (3, None),
        (4, Some(1)),
        (7, Some(4)),
        (0, None),
        (1, None),
        (2, None),
    ] {
        let sim = still();
        sim.state.borrow_mut().host[frame].present = false;
        let outcome = Window::new().make_ready(&sim, BASE, BASE + 20 * PAGE);
        match (frame, end) {
            // The second table translates later pages alone.
            (2, _) => assert!(matches!(outcome, Outcome::Ready(..))),
            (_, None) => assert_eq!(outcome, Outcome::Gone),
            (_, Some(pages)) => {
                let end = BASE + pages * PAGE;
                assert!(matches!(outcome, Outcome::Ready(found, _) if found == end));
            }
        }
    }
}

/// A start at the same place compares, and looks up nothing; after any change of a descriptor, of a
/// register or of a frame it walks.
#[test]
fn the_same_place_compares() {
    let (sim, mut window) = (still(), Window::new());
    let limit = BASE + 64 * PAGE;
    let mut start = |pointer| match window.make_ready(&sim, pointer, limit) {
        Outcome::Ready(_, how) => how == How::Compared,
        other => panic!("{other:?}"),
    };

    assert!(!start(BASE));
    assert!(start(BASE));
    // Further on in the same window, until it is nearly full.
    assert!(start(BASE + 31 * PAGE));
    assert!(!start(BASE + 31 * PAGE + 64));
    assert!(!start(BASE));
    sim.state.borrow_mut().descriptors[2 + 31] ^= 1 << 12;
    assert!(!start(BASE));
    assert!(start(BASE));
    sim.state.borrow_mut().descriptors[2 + 40] ^= 1 << 12;
    assert!(start(BASE));
    sim.take_away(&mut sim.state.borrow_mut(), 10);
    sim.state.borrow_mut().host[10].present = true;
    assert!(!start(BASE));
    assert!(start(BASE));
}

/// Faults in which nothing is lost are resolved, but not for ever at the same place.
#[test]
fn faults() {
    let faults = Faults::new();

    for pointer in [0, BASE] {
        for _ in 0..8 {
            assert!(faults.note(pointer));
        }
        assert!(!faults.note(pointer));
    }
    for i in 0..100 {
        assert!(faults.note(BASE + (i + 1) % 2 * 64));
    }
    for _ in 0..100 {
        assert!(faults.note(BASE));
        faults.forget();
    }
}

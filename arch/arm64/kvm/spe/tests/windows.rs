// SPDX-License-Identifier: GPL-2.0

//! Tests the window with memory that other CPUs change at any time, and with memory that is still.

use super::{super::window::*, always::Always, choices::Choices, memory::*};

/// The numbers of outcomes, to check that the runs test something.
#[derive(Default)]
struct Seen {
    writes: u64,
    compared: u64,
    walked: u64,
    later: u64,
    gone: u64,
    kicks: u64,
}

impl Seen {
    fn of(&mut self, outcome: &Outcome) -> &mut u64 {
        match outcome {
            Outcome::Ready(_, How::Compared) => &mut self.compared,
            Outcome::Ready(_, How::Walked(_)) => &mut self.walked,
            Outcome::Later => &mut self.later,
            Outcome::Gone => &mut self.gone,
        }
    }

    fn by_name(&self) -> [(&'static str, u64); 6] {
        [
            ("writes", self.writes),
            ("compared", self.compared),
            ("walked", self.walked),
            ("later", self.later),
            ("gone", self.gone),
            ("kicks", self.kicks),
        ]
    }
}

/// A vCPU that profiles.
struct Profiler<'a> {
    sim: &'a Sim,
    window: Window,
    pointer: u64,
    limit: u64,
    /// The end of the window, if it is ready.
    ready: Option<u64>,
}

impl<'a> Profiler<'a> {
    /// Returns a vCPU that is about to enter the guest.
    fn new(sim: &'a Sim) -> Self {
        let extent = sim.state.borrow().extent;

        Profiler {
            sim,
            window: Window::new(),
            pointer: Self::place(sim, extent.places),
            limit: BASE + (extent.pages << 12),
            ready: None,
        }
    }

    /// Returns the address of one of the first pages.
    fn place(sim: &Sim, pages: u64) -> u64 {
        BASE + (sim.state.borrow_mut().choices.below(pages) << 12)
    }

    fn one_in(&self, n: u64) -> bool {
        self.sim.state.borrow_mut().choices.one_in(n)
    }

    /// Makes the window ready.
    fn make_ready(&mut self, seen: &mut Seen) {
        let outcome = self.window.make_ready(self.sim, self.pointer, self.limit);

        *seen.of(&outcome) += 1;
        self.ready = match outcome {
            Outcome::Ready(limit, _) => Some(limit),
            Outcome::Later | Outcome::Gone => None,
        };
        if matches!(outcome, Outcome::Gone) {
            // The guest gets an event, and starts again elsewhere.
            let places = self.sim.state.borrow().extent.other_places;
            self.pointer = Self::place(self.sim, places);
        }
    }

    /// Writes until the vCPU leaves the guest, or the window ends.
    fn write(&mut self, seen: &mut Seen) -> Result<(), String> {
        let writes = self.sim.state.borrow().extent.writes;

        for _ in 0..writes {
            self.sim.others(false);
            if !self.sim.state.borrow().in_guest || Some(self.pointer) >= self.ready {
                break;
            }
            self.sim.write(self.pointer)?;
            seen.writes += 1;
            self.pointer += PAGE / 2;
        }
        self.sim.state.borrow_mut().in_guest = false;
        if Some(self.pointer) >= self.ready {
            self.ready = None;
        }
        Ok(())
    }

    /// Starts profiling again at one of the first pages, in some cases after a reset of the vCPU.
    fn start_again(&mut self) {
        let places = self.sim.state.borrow().extent.places;

        self.pointer = Self::place(self.sim, places.min(3));
        self.ready = None;
        if self.one_in(8) {
            self.sim.forget();
        } else {
            self.sim.disarm();
        }
    }
}

/// Runs a vCPU that profiles, for some entries.
fn run(sim: &Sim, seen: &mut Seen) -> Result<(), String> {
    let entries = sim.state.borrow().extent.entries;
    let mut profiler = Profiler::new(sim);

    sim.state.borrow_mut().request = true;
    for _ in 0..entries {
        if core::mem::take(&mut sim.state.borrow_mut().request) || profiler.ready.is_none() {
            profiler.make_ready(seen);
        }
        sim.enter(profiler.ready.is_some());
        profiler.write(seen)?;
        if profiler.pointer >= profiler.limit || profiler.one_in(4) {
            profiler.start_again();
        }
    }
    seen.kicks += sim.state.borrow().kicks;
    Ok(())
}

/// Runs all short sequences in which others act up to `acts` times. Returns their number, or the
/// sequence that fails and the reason.
fn run_all(acts: usize, broken: Broken, seen: &mut Seen) -> Result<u64, String> {
    let mut choices = Some(Choices::All {
        path: vec![],
        done: 0,
        left: acts,
    });
    let mut runs = 0;

    while let Some(these) = choices {
        let sim = Sim::short(these, broken);
        let result = run(&sim, seen);
        let choices_made = sim.state.into_inner().choices;
        if let Err(why) = result {
            return Err(format!("run {runs}: {why}"));
        }
        runs += 1;
        choices = choices_made.next_run(acts);
    }
    Ok(runs)
}

/// Runs SEQUENCES random sequences: the unit does not fault, and writes only to pages that the
/// guest has and that are dirty.
#[test]
fn nothing_is_written_elsewhere_or_lost() {
    let mut seen = Seen::default();

    let sequences = std::env::var("SEQUENCES").map_or(200_000, |n| n.parse().unwrap());
    for seed in 0..sequences {
        if let Err(why) = run(&Sim::new(seed, Broken::default()), &mut seen) {
            panic!("seed {seed}: {why}");
        }
    }
    for (what, n) in seen.by_name() {
        assert!(n > sequences / 100, "{what}: {n}");
    }
}

/// All short sequences in which others act up to twice.
#[test]
fn every_short_sequence() {
    let mut seen = Seen::default();

    let runs = run_all(2, Broken::default(), &mut seen).unwrap();
    for (what, n) in seen.by_name() {
        assert!(n > 0, "{what}: none in {runs} runs");
    }
    println!("{runs} sequences");
}

/// Returns the protocol, each time without one of its parts.
fn without_a_part() -> [Broken; 8] {
    let parts: [fn(&mut Broken); 8] = [
        |broken| broken.no_kick = true,
        |broken| broken.no_widening = true,
        |broken| broken.no_drain = true,
        |broken| broken.no_size_check = true,
        |broken| broken.no_flush = true,
        |broken| broken.no_young = true,
        |broken| broken.no_check = true,
        |broken| broken.no_order = true,
    ];

    parts.map(|leave_out| {
        let mut broken = Broken::default();
        leave_out(&mut broken);
        broken
    })
}

/// Each part of the protocol is needed: without it, one of the random sequences fails.
#[test]
fn every_part_is_needed() {
    for broken in without_a_part() {
        let fails = |seed| run(&Sim::new(seed, broken), &mut Seen::default()).is_err();
        assert!((0..500_000).any(fails), "{broken:?} is not noticed");
    }
}

/// Each part of the protocol is needed: without it, one of the short sequences fails.
#[test]
fn every_part_is_needed_by_a_short_sequence() {
    for broken in without_a_part() {
        let found = (1..=2).find_map(|acts| run_all(acts, broken, &mut Seen::default()).err());
        println!("{broken:?}: {found:?}");
        assert!(found.is_some(), "{broken:?} is not noticed");
    }
}

/// Returns memory in which nothing changes.
fn still() -> Sim {
    let sim = Sim::new(1, Broken::default());
    {
        let state = &mut *sim.state.borrow_mut();
        state.quiet = u64::MAX;
        for (i, one) in state.descriptors[2..].iter_mut().enumerate() {
            *one =
                (TABLES + i as u64 % (FRAMES as u64 - TABLES)) << 12 | VALID | WRITABLE | ACCESSED;
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

/// Pages of one table are walked once, as long as nothing but their addresses differs.
#[test]
fn neighbours_are_not_walked() {
    let page = |n: u64| BASE + n * PAGE;

    for (pointer, changed, walks) in [
        (page(0), None, 1),
        (page(4), None, 2),
        // Another attribute, and the access flag.
        (page(0), Some((9, 1 << 6)), 3),
        (page(0), Some((9, ACCESSED)), 3),
        (page(0), Some((0, 1 << 6)), 2),
        (page(0), Some((31, 1 << 7)), 2),
    ] {
        let (sim, mut window) = (still(), Window::new());
        if let Some((n, bit)) = changed {
            sim.state.borrow_mut().descriptors[2 + n] ^= bit;
        }
        let found = window.make_ready(&sim, pointer, page(64));
        assert!(matches!(found, Outcome::Ready(..)));
        assert_eq!(sim.state.borrow().walks, walks, "{pointer:x} {changed:?}");
    }
}

/// A walk that sets access flags shows that, so that a page whose flag is not set is walked.
#[test]
fn unused_pages_are_walked() {
    let sim = still();

    for one in &mut sim.state.borrow_mut().descriptors[2..] {
        *one &= !ACCESSED;
    }
    let found = Window::new().make_ready(&sim, BASE, BASE + 32 * PAGE);
    assert!(matches!(found, Outcome::Ready(..)));
    assert_eq!(sim.state.borrow().walks, 32);
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
    let last = u64::MAX - 0xfff;

    for pointer in [last - PAGE, last, u64::MAX, last - 31 * PAGE] {
        for limit in [0, last] {
            let outcome = Window::new().make_ready(&Always::new(Page::At(0x1000)), pointer, limit);
            assert!(matches!(outcome, Outcome::Ready(..)), "{outcome:?}");
        }
    }
}

/// The window ends where stage 1 does not let the unit write; if that is the first page, the unit
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

/// If there is no space for a record before a page that the unit cannot write, the window includes
/// the page, and the unit reports the fault. If the host lacks the page, the outcome is `Gone`.
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

/// Tables that change all the time do not delay the vCPU for ever.
#[test]
fn what_cannot_be_walked() {
    let memory = Always::new(Page::Later);

    assert_eq!(
        Window::new().make_ready(&memory, BASE, BASE + PAGE),
        Outcome::Later
    );
    assert_eq!(memory.walks.get(), ATTEMPTS);
}

/// The window ends where the host has no memory; if that is the first page, or what translates it,
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

/// A start at the same place compares without a walk. After a change of a descriptor or a frame of
/// the window, the next start walks.
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
    let mut faults = Faults::new();

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

// SPDX-License-Identifier: GPL-2.0

//! Tests of `arch/arm64/kvm/hyp/icache/{plan,epoch}.rs` on the build host.

#![allow(dead_code)]

#[path = "../../../arch/arm64/kvm/hyp/icache/epoch.rs"]
mod epoch;
#[path = "../../../arch/arm64/kvm/hyp/icache/plan.rs"]
mod plan;
#[allow(non_upper_case_globals)]
mod sysreg {
    include!(env!("SYSREG_CONSTS"));
}

mod plans {
    use super::plan::{line_bytes, plan, Plan};

    /// `MAX_DVM_OPS` with 4 KiB, 16 KiB and 64 KiB pages.
    const MAX_LINES: [u64; 3] = [512, 2048, 8192];

    #[test]
    fn line_size_for_every_iminline() {
        for iminline in 0..16u64 {
            // The other fields of CTR_EL0 make no difference.
            for rest in [0, !0xf] {
                assert_eq!(line_bytes(rest | iminline), 4 << iminline);
            }
        }
    }

    #[test]
    fn exactly_at_the_bound_by_line_and_one_byte_more_all() {
        for iminline in 0..16u64 {
            for max in MAX_LINES {
                let bound = max * (4 << iminline);
                assert_eq!(plan(iminline, false, false, bound, max), Plan::ByLine);
                assert_eq!(plan(iminline, false, false, bound + 1, max), Plan::All);
                assert_eq!(
                    plan(iminline, false, false, bound + (4 << iminline), max),
                    Plan::All
                );
            }
        }
    }

    /// Every size up to past the bound, for lines of 4, 16 and 64 bytes.
    #[test]
    fn every_size_around_the_bound() {
        for iminline in [0, 2, 4] {
            let bound = 512 * (4 << iminline);
            for size in 1..=bound + 300 {
                let expected = if size <= bound {
                    Plan::ByLine
                } else {
                    Plan::All
                };
                assert_eq!(plan(iminline, false, false, size, 512), expected, "{size}");
            }
        }
    }

    #[test]
    fn nothing_for_no_bytes_or_dic() {
        for ctr in 0..16 {
            for aliasing in [false, true] {
                for size in [0, 1, 4096, 2 << 20, u64::MAX] {
                    assert_eq!(plan(ctr, aliasing, true, size, 512), Plan::Nothing);
                }
                assert_eq!(plan(ctr, aliasing, false, 0, 512), Plan::Nothing);
            }
        }
    }

    #[test]
    fn aliasing_is_always_all() {
        for ctr in 0..16 {
            for size in [1, 64, 4096, u64::MAX] {
                assert_eq!(plan(ctr, true, false, size, 8192), Plan::All);
            }
        }
    }

    /// The number of operations that one request broadcasts has a bound.
    #[test]
    fn operations_are_bounded_by_the_request() {
        for iminline in 0..16 {
            for max in MAX_LINES {
                for shift in 0..64 {
                    let size = 1u64 << shift;
                    let operations = match plan(iminline, false, false, size, max) {
                        Plan::Nothing => 0,
                        Plan::ByLine => size.div_ceil(line_bytes(iminline)),
                        Plan::All => 1,
                    };
                    assert!(operations <= max);
                }
            }
        }
    }
}

mod epochs {
    use super::epoch::{Cpu, Epochs, Served, Word};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
    use std::sync::Mutex;
    use std::{thread, time::Duration};

    impl Word for AtomicU64 {
        fn load_acquire(&self) -> u64 {
            self.load(SeqCst)
        }
        fn store_release(&self, value: u64) {
            self.store(value, SeqCst)
        }
        fn change(&self, old: u64, new: u64) -> bool {
            self.compare_exchange(old, new, SeqCst, SeqCst).is_ok()
        }
    }

    const fn epochs() -> Epochs<AtomicU64> {
        Epochs::new(AtomicU64::new(0), AtomicU64::new(0))
    }

    /// CPUs whose instruction cache holds the data as it was at the last invalidation.
    #[derive(Default)]
    struct Machine {
        /// What memory holds at the Point of Unification: a version that only grows.
        memory: AtomicU64,
        /// The version that no cache can be older than.
        fetched: AtomicU64,
        /// Full invalidations executed.
        executed: AtomicU64,
        /// An invalidation is in flight.
        busy: AtomicBool,
        /// How long one takes.
        slow: Duration,
    }

    impl Cpu for &Machine {
        fn complete(&self) {}
        fn invalidate_all(&self) {
            assert!(!self.busy.swap(true, SeqCst), "two at the same time");
            let version = self.memory.load(SeqCst);
            thread::sleep(self.slow);
            self.executed.fetch_add(1, SeqCst);
            self.fetched.store(version, SeqCst);
            self.busy.store(false, SeqCst);
        }
        fn relax(&self) {
            thread::yield_now();
        }
    }

    #[test]
    fn alone_each_request_executes_its_own() {
        let machine = Machine::default();
        let epochs = epochs();
        for n in 1..=100 {
            assert_eq!(epochs.serve(&&machine), Served::Own);
            assert_eq!(machine.executed.load(SeqCst), n);
        }
    }

    /// Whoever returns sees caches at least as new as its own data.
    #[test]
    fn nobody_is_served_by_what_started_too_early() {
        let machine = Machine {
            slow: Duration::from_micros(50),
            ..Default::default()
        };
        let epochs = epochs();
        let stale = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let mine = machine.memory.fetch_add(1, SeqCst) + 1;
                        epochs.serve(&&machine);
                        let fetched = machine.fetched.load(SeqCst);
                        if fetched < mine {
                            stale.lock().unwrap().push((mine, fetched));
                        }
                    }
                });
            }
        });
        assert_eq!(*stale.lock().unwrap(), []);
    }

    /// Every interleaving of the shared accesses of three requests: each is covered by an
    /// invalidation that began after its data was clean, and none waits for ever.
    #[test]
    fn every_interleaving_of_three_requests() {
        let ends = super::schedule::explore(3);
        assert!(ends.states > 1000, "{}", ends.states);
        // As many as there are requests, if each comes when the last is served.
        assert_eq!(ends.executed, [1, 2, 3].into());
        // Two at the most, if all had been made before the first invalidation was over.
        assert_eq!(ends.executed_together, [1, 2].into());
    }
}

/// Runs requests one shared access at a time, in an order that is given.
///
/// A request is a coroutine made of re-execution: to take its next step, it is run again
/// from its beginning with the results of its earlier accesses, and stopped (by unwinding)
/// at the first access that has no result yet.
mod schedule {
    use super::epoch::{Cpu, Epochs, Served, Word};
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashSet};
    use std::panic;

    #[derive(Clone, Copy, PartialEq)]
    enum Access {
        Complete,
        Load(usize),
        Store(usize, u64),
        Change(usize, u64, u64),
        Invalidate,
        Relax,
    }

    /// The results a request has seen, how many of them this run has used up, and where it stopped.
    #[derive(Default)]
    struct Replay {
        results: Vec<u64>,
        next: usize,
        stopped_at: Option<Access>,
    }

    thread_local!(static REPLAY: RefCell<Replay> = RefCell::default());

    struct Stop;

    fn access(access: Access) -> u64 {
        let known = REPLAY.with_borrow_mut(|replay| {
            let known = replay.results.get(replay.next).copied();
            replay.next += 1;
            if known.is_none() {
                replay.stopped_at = Some(access);
            }
            known
        });
        known.unwrap_or_else(|| panic::resume_unwind(Box::new(Stop)))
    }

    struct Modelled(usize);

    impl Word for Modelled {
        fn load_acquire(&self) -> u64 {
            access(Access::Load(self.0))
        }
        fn store_release(&self, value: u64) {
            access(Access::Store(self.0, value));
        }
        fn change(&self, old: u64, new: u64) -> bool {
            access(Access::Change(self.0, old, new)) != 0
        }
    }

    struct ModelledCpu;

    impl Cpu for ModelledCpu {
        fn complete(&self) {
            access(Access::Complete);
        }
        fn invalidate_all(&self) {
            access(Access::Invalidate);
        }
        fn relax(&self) {
            access(Access::Relax);
        }
    }

    static EPOCHS: Epochs<Modelled> = Epochs::new(Modelled(0), Modelled(1));

    /// Where a request with these results stands: done, or about to make an access.
    fn advance(results: &[u64]) -> Result<Served, Access> {
        REPLAY.set(Replay {
            results: results.to_vec(),
            ..Default::default()
        });
        match panic::catch_unwind(|| EPOCHS.serve(&ModelledCpu)) {
            Ok(served) => Ok(served),
            Err(_) => Err(REPLAY.with_borrow(|replay| replay.stopped_at).unwrap()),
        }
    }

    /// Everything that decides what can still happen.
    #[derive(Clone, Hash, PartialEq, Eq)]
    struct State {
        words: [u64; 2],
        /// The results of each request's accesses so far.
        results: Vec<Vec<u64>>,
        /// Whether the data of a request is at the Point of Unification: once it has completed
        /// what it did before.
        clean: Vec<bool>,
        /// Whether an invalidation that started since has been completed.
        covered: Vec<bool>,
        /// Whether a request has changed a word and others need not see that yet.
        unseen: Vec<bool>,
        /// Whose data was clean when a request started the invalidation that it has not completed.
        in_flight: Vec<Option<Vec<bool>>>,
        /// The words as a request last saw them, if it waits for them to change.
        waits_for: Vec<Option<[u64; 2]>>,
        looked: Vec<[u64; 2]>,
        executed: u64,
        /// All requests had been made when the first invalidation was over.
        together: bool,
    }

    #[derive(Default)]
    pub(super) struct Ends {
        pub(super) states: usize,
        /// How many invalidations there were in the end.
        pub(super) executed: BTreeSet<u64>,
        /// The same, of requests that were made together.
        pub(super) executed_together: BTreeSet<u64>,
    }

    /// Visits every state that `cpus` requests can get into.
    pub(super) fn explore(cpus: usize) -> Ends {
        let mut seen = HashSet::new();
        let mut ends = Ends::default();
        let mut todo = vec![State {
            words: [0; 2],
            results: vec![vec![]; cpus],
            clean: vec![false; cpus],
            covered: vec![false; cpus],
            unseen: vec![false; cpus],
            in_flight: vec![None; cpus],
            waits_for: vec![None; cpus],
            looked: vec![[0; 2]; cpus],
            executed: 0,
            together: false,
        }];
        while let Some(state) = todo.pop() {
            if !seen.insert(state.clone()) {
                continue;
            }
            let at: Vec<_> = state.results.iter().map(|r| advance(r)).collect();
            for (at, covered) in at.iter().zip(&state.covered) {
                assert!(at.is_err() || *covered, "served by what started too early");
            }
            if at.iter().all(Result::is_ok) {
                ends.executed.insert(state.executed);
                if state.together {
                    ends.executed_together.insert(state.executed);
                }
                continue;
            }
            let before = todo.len();
            for cpu in 0..cpus {
                if let (Err(access), true) = (at[cpu], state.waits_for[cpu] != Some(state.words)) {
                    todo.push(step(state.clone(), cpu, access));
                }
            }
            assert!(todo.len() > before, "a request waits for ever");
        }
        ends.states = seen.len();
        ends
    }

    fn step(mut state: State, cpu: usize, access: Access) -> State {
        state.waits_for[cpu] = None;
        let result = match access {
            Access::Complete => {
                state.clean[cpu] = true;
                state.unseen[cpu] = false;
                if let Some(clean) = state.in_flight[cpu].take() {
                    for (covered, clean) in state.covered.iter_mut().zip(clean) {
                        *covered |= clean;
                    }
                }
                0
            }
            Access::Load(word) => {
                state.looked[cpu] = state.words;
                state.words[word]
            }
            Access::Store(word, value) => {
                // A request has been made when it has read `started`, its second access.
                state.together |= value == 1 && state.results.iter().all(|r| r.len() >= 2);
                state.words[word] = value;
                0
            }
            Access::Change(word, old, new) => {
                let same = state.words[word] == old;
                if same {
                    state.words[word] = new;
                    state.unseen[cpu] = true;
                }
                same.into()
            }
            Access::Invalidate => {
                assert!(!state.unseen[cpu], "it may start before others see that");
                state.executed += 1;
                state.in_flight[cpu] = Some(state.clean.clone());
                0
            }
            Access::Relax => {
                state.waits_for[cpu] = Some(state.looked[cpu]);
                0
            }
        };
        state.results[cpu].push(result);
        state
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host with `rustc --test`.
//! This crate root is beside that of the component, so that both find the same modules.

#![allow(dead_code)]

mod epoch;
mod plan;

mod plans {
    use super::plan::{self, Plan};
    use kernel::arm64::sysreg::CTR_EL0;

    fn line_bytes(ctr: u64) -> u64 {
        CTR_EL0::from(ctr).icache_line_bytes() as u64
    }

    fn plan(ctr: u64, aliasing: bool, size: u64, max_lines: u64) -> Plan {
        plan::plan(ctr.into(), aliasing, size, max_lines)
    }

    /// CTR_EL0.DIC is bit 29.
    const DIC: u64 = 1 << 29;

    /// `MAX_DVM_OPS` with 4 KiB, 16 KiB and 64 KiB pages.
    const MAX_LINES: [u64; 3] = [512, 2048, 8192];

    #[test]
    fn line_size_for_every_iminline() {
        for iminline in 0..16u64 {
            // The other fields of CTR_EL0 have no effect.
            for rest in [0, !0xf, DIC] {
                assert_eq!(line_bytes(rest | iminline), 4 << iminline);
            }
        }
    }

    #[test]
    fn exactly_at_the_bound_by_line_and_one_byte_more_all() {
        for iminline in 0..16u64 {
            for max in MAX_LINES {
                let bound = max * (4 << iminline);
                assert_eq!(plan(iminline, false, bound, max), Plan::ByLine);
                assert_eq!(plan(iminline, false, bound + 1, max), Plan::All);
                assert_eq!(
                    plan(iminline, false, bound + (4 << iminline), max),
                    Plan::All
                );
            }
        }
    }

    /// Tests every size up to slightly above the bound, for lines of 4, 16 and 64 bytes.
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
                assert_eq!(plan(iminline, false, size, 512), expected, "{size}");
            }
        }
    }

    #[test]
    fn nothing_for_no_bytes_or_dic() {
        for ctr in 0..16 {
            for aliasing in [false, true] {
                for size in [0, 1, 4096, 2 << 20, u64::MAX] {
                    assert_eq!(plan(ctr | DIC, aliasing, size, 512), Plan::Nothing);
                }
                assert_eq!(plan(ctr, aliasing, 0, 512), Plan::Nothing);
            }
        }
    }

    #[test]
    fn aliasing_is_always_all() {
        for ctr in 0..16 {
            for size in [1, 64, 4096, u64::MAX] {
                assert_eq!(plan(ctr, true, size, 8192), Plan::All);
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
                    let operations = match plan(iminline, false, size, max) {
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
    use super::epoch::{Cpu, Epochs, Served, Word, TURNS};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
    use std::sync::Mutex;
    use std::{panic, thread, time::Duration};

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

    /// CPUs whose instruction caches hold the data of the last invalidation.
    #[derive(Default)]
    struct Machine {
        /// The version of the data at the Point of Unification, which only grows.
        memory: AtomicU64,
        /// The oldest version that a cache can hold.
        fetched: AtomicU64,
        /// Number of full invalidations executed.
        executed: AtomicU64,
        /// Number of turns waited.
        waited: AtomicU64,
        /// Whether an invalidation is in flight.
        busy: AtomicBool,
        /// Whether no request gives up, so that two invalidations cannot be in flight.
        patient: bool,
        /// Duration of an invalidation.
        slow: Duration,
    }

    impl Cpu for &Machine {
        fn complete(&self) {}
        fn invalidate_all(&self) {
            let busy = self.busy.swap(true, SeqCst);
            assert!(!busy || !self.patient, "two at the same time");
            let version = self.memory.load(SeqCst);
            thread::sleep(self.slow);
            self.executed.fetch_add(1, SeqCst);
            self.fetched.fetch_max(version, SeqCst);
            self.busy.store(false, SeqCst);
        }
        fn relax(&self) {
            self.waited.fetch_add(1, SeqCst);
            thread::yield_now();
        }
    }

    #[test]
    fn alone_each_request_executes_its_own() {
        for turns in [0, 1, TURNS] {
            let machine = Machine::default();
            let epochs = epochs();
            for n in 1..=100 {
                assert_eq!(epochs.serve(&&machine, turns), Served::Own);
                assert_eq!(machine.executed.load(SeqCst), n);
            }
        }
    }

    /// When a request returns, the caches are at least as new as its data, whether requests
    /// give up never, at times, or always.
    #[test]
    fn nobody_is_served_by_what_started_too_early() {
        for turns in [u32::MAX, 3, 0] {
            let machine = Machine {
                slow: Duration::from_micros(50),
                patient: turns == u32::MAX,
                ..Default::default()
            };
            let epochs = epochs();
            let stale = Mutex::new(Vec::new());
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        for _ in 0..1000 {
                            let mine = machine.memory.fetch_add(1, SeqCst) + 1;
                            epochs.serve(&&machine, turns);
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
    }

    /// Requests that find an owner stopped wait [`TURNS`] turns each, execute one
    /// invalidation each, and leave the numbers to the owner.
    #[test]
    fn an_owner_that_has_stopped_delays_by_the_bound() {
        let machine = Machine::default();
        let started = AtomicU64::new(8);
        let done = AtomicU64::new(7);
        let epochs = Epochs::new(&started, &done);
        for n in 1..=100 {
            assert_eq!(epochs.serve(&&machine, TURNS), Served::Own);
            assert_eq!(machine.executed.load(SeqCst), n);
            assert_eq!(machine.waited.load(SeqCst), n * u64::from(TURNS));
        }
        assert_eq!((started.load(SeqCst), done.load(SeqCst)), (8, 7));

        // The owner continues: the next request is an owner again.
        done.store(8, SeqCst);
        assert_eq!(epochs.serve(&&machine, TURNS), Served::Own);
        assert_eq!((started.load(SeqCst), done.load(SeqCst)), (9, 9));
        assert_eq!(machine.waited.load(SeqCst), 100 * u64::from(TURNS));
    }

    impl Word for &AtomicU64 {
        fn load_acquire(&self) -> u64 {
            (*self).load_acquire()
        }
        fn store_release(&self, value: u64) {
            (*self).store_release(value)
        }
        fn change(&self, old: u64, new: u64) -> bool {
            (*self).change(old, new)
        }
    }

    /// In every interleaving of the shared accesses of three requests, with waits of up to three
    /// turns, and an owner that stops anywhere or nowhere, each request that does not stop
    /// returns within its bound, covered by an invalidation that started after its data was
    /// clean.
    #[test]
    fn every_interleaving_of_three_requests() {
        for turns in 0..=3 {
            let ends = super::schedule::explore(3, turns, true);
            assert!(
                ends.states > [100, 1000, 1000, 1000][turns as usize],
                "{}",
                ends.states
            );
            // Each request executes at most one invalidation.
            let most = if turns == 0 { 3 } else { 1 };
            assert_eq!(ends.executed.first(), Some(&most), "{turns} turns");
            assert_eq!(ends.executed.last(), Some(&3), "{turns} turns");
            // At most two, if all requests had been made before the first invalidation
            // completed and no request gave up.
            if turns > 0 {
                assert_eq!(ends.executed_together.last(), Some(&2), "{turns} turns");
                assert_eq!(ends.executed_together.first(), Some(&1), "{turns} turns");
            }
            assert_eq!(ends.gave_up.last(), Some(&if turns == 0 { 3 } else { 2 }));
            // If an owner has stopped, the other two requests still return.
            assert_eq!(ends.others_of_a_stopped_owner, (turns > 0).then_some(2));
        }
    }

    /// The exploration finds that the barrier in `icache_inval_all_pou()` is missing.
    #[test]
    fn every_interleaving_without_the_last_barrier() {
        let found = panic::catch_unwind(|| super::schedule::explore(3, 2, false).states);
        let said = *found.unwrap_err().downcast::<&str>().unwrap();
        assert_eq!(said, "served by what started too early");
    }
}

/// Runs requests one shared access at a time, in a given order.
///
/// A request is a coroutine by re-execution: each step runs it again from the beginning with
/// the results of its earlier accesses, and stops it (by unwinding) at the first access that
/// has no result yet.
mod schedule {
    use super::epoch::{Cpu, Epochs, Served, Word};
    use std::cell::RefCell;
    use std::collections::{BTreeSet, HashSet};
    use std::panic;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Access {
        Complete,
        Load(usize),
        Store(usize, u64),
        Change(usize, u64, u64),
        Invalidate,
        Relax,
    }

    const STARTED: usize = 0;
    const DONE: usize = 1;

    /// The results that a request has seen, the number of them that this run has consumed, and the
    /// access at which it stopped.
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

    /// `last_barrier`: whether an invalidation ends with a barrier, as it must.
    #[derive(Clone, Copy)]
    struct ModelledCpu {
        last_barrier: bool,
    }

    impl Cpu for ModelledCpu {
        fn complete(&self) {
            access(Access::Complete);
        }
        fn invalidate_all(&self) {
            access(Access::Invalidate);
            if self.last_barrier {
                access(Access::Complete);
            }
        }
        fn relax(&self) {
            access(Access::Relax);
        }
    }

    static EPOCHS: Epochs<Modelled> = Epochs::new(Modelled(STARTED), Modelled(DONE));

    /// Returns the state of a request with these results: served, or about to make an access.
    fn advance(results: &[u64], cpu: ModelledCpu, turns: u32) -> Result<Served, Access> {
        REPLAY.set(Replay {
            results: results.to_vec(),
            ..Default::default()
        });
        match panic::catch_unwind(|| EPOCHS.serve(&cpu, turns)) {
            Ok(served) => Ok(served),
            Err(_) => Err(REPLAY.with_borrow(|replay| replay.stopped_at).unwrap()),
        }
    }

    /// One request.
    #[derive(Clone, Default, Hash, PartialEq, Eq)]
    struct Request {
        /// The results of its accesses so far.
        results: Vec<u64>,
        /// Whether its data is at the Point of Unification: a barrier has completed the clean.
        clean: bool,
        /// Whether an invalidation that started after that has completed.
        covered: bool,
        /// Whether it has changed a word and other CPUs may not see the change yet.
        unseen: bool,
        /// While its invalidation is in flight: which requests' data was clean at the start.
        in_flight: Option<Vec<bool>>,
        /// The number that it owns.
        owns: Option<u64>,
        /// Whether it has executed an invalidation without a number.
        gave_up: bool,
        /// Whether it takes no further step.
        stopped: bool,
    }

    /// The state that determines all further steps.
    #[derive(Clone, Hash, PartialEq, Eq)]
    struct State {
        words: [u64; 2],
        requests: Vec<Request>,
        executed: u64,
        /// Whether all requests had been made when the first numbered invalidation completed.
        together: bool,
    }

    #[derive(Default)]
    pub(super) struct Ends {
        pub(super) states: usize,
        /// The numbers of invalidations executed in all, if no request has stopped.
        pub(super) executed: BTreeSet<u64>,
        /// The same, for requests that were made together and of which none gave up.
        pub(super) executed_together: BTreeSet<u64>,
        /// The numbers of requests that gave up.
        pub(super) gave_up: BTreeSet<usize>,
        /// The smallest number of requests that returned although an owner has stopped.
        pub(super) others_of_a_stopped_owner: Option<usize>,
    }

    /// Visits every state that `cpus` requests can reach.
    pub(super) fn explore(cpus: usize, turns: u32, last_barrier: bool) -> Ends {
        let mut seen = HashSet::new();
        let mut ends = Ends::default();
        let mut todo = vec![State {
            words: [0; 2],
            requests: vec![Request::default(); cpus],
            executed: 0,
            together: false,
        }];
        while let Some(state) = todo.pop() {
            if !seen.insert(state.clone()) {
                continue;
            }
            let at: Vec<_> = state
                .requests
                .iter()
                .map(|r| advance(&r.results, ModelledCpu { last_barrier }, turns))
                .collect();
            check(&state, &at, turns);
            let before = todo.len();
            todo.extend(next(&state, &at));
            if todo.len() == before {
                ends.add(&state, at.iter().filter(|at| at.is_ok()).count());
            }
        }
        ends.states = seen.len();
        ends
    }

    /// Returns the states that follow a state.
    fn next(state: &State, at: &[Result<Served, Access>]) -> Vec<State> {
        let mut states = Vec::new();

        for (cpu, at) in at.iter().enumerate() {
            let (Err(access), false) = (at, state.requests[cpu].stopped) else {
                continue;
            };
            states.push(step(state.clone(), cpu, *access));
            // Requests wait only for owners, so only owners need to stop.
            if state.requests[cpu].owns.is_some() {
                let mut stops = state.clone();
                stops.requests[cpu].stopped = true;
                states.push(stops);
            }
        }
        states
    }

    impl Ends {
        /// Adds a state in which no request can take a step.
        fn add(&mut self, state: &State, returned: usize) {
            let gave_up = state.requests.iter().filter(|r| r.gave_up).count();
            if state.requests.iter().any(|r| r.stopped) {
                let least = self.others_of_a_stopped_owner.unwrap_or(returned);
                self.others_of_a_stopped_owner = Some(least.min(returned));
                return;
            }
            assert_eq!(returned, state.requests.len());
            assert_eq!(state.words[STARTED], state.words[DONE]);
            self.executed.insert(state.executed);
            self.gave_up.insert(gave_up);
            if state.together && gave_up == 0 {
                self.executed_together.insert(state.executed);
            }
        }
    }

    /// Asserts what holds in every state.
    fn check(state: &State, at: &[Result<Served, Access>], turns: u32) {
        let [started, done] = state.words;
        let owners = state.requests.iter().filter(|r| r.owns.is_some()).count();
        assert_eq!(
            started,
            done + owners as u64,
            "one owner at most, while a number is in flight"
        );
        assert!(owners <= 1);
        // A barrier and a read; two accesses and a hint per turn; then the invalidation.
        let bound = 2 + 3 * turns as usize + 5;
        for (request, at) in state.requests.iter().zip(at) {
            assert!(
                at.is_err() || request.covered,
                "served by what started too early"
            );
            assert!(request.results.len() <= bound, "a request has no bound");
        }
    }

    /// Returns the state after a request's next access.
    fn step(mut state: State, cpu: usize, access: Access) -> State {
        let result = match access {
            Access::Complete => state.complete(cpu),
            Access::Load(word) => state.words[word],
            Access::Store(word, value) => state.store(cpu, word, value),
            Access::Change(word, old, new) => state.change(cpu, word, old, new),
            Access::Invalidate => state.invalidate(cpu),
            Access::Relax => 0,
        };
        state.requests[cpu].results.push(result);
        state
    }

    /// The accesses of a request: each changes the state, and returns the access's result.
    impl State {
        fn complete(&mut self, cpu: usize) -> u64 {
            let request = &mut self.requests[cpu];
            request.clean = true;
            request.unseen = false;
            let completed = request.in_flight.take().unwrap_or_default();
            for (request, clean) in self.requests.iter_mut().zip(completed) {
                request.covered |= clean;
            }
            0
        }

        fn store(&mut self, cpu: usize, word: usize, value: u64) -> u64 {
            // A request has been made once it has read `started`, its second access.
            let all_made = self.requests.iter().all(|r| r.results.len() >= 2);
            let owned = self.requests[cpu].owns.take();
            assert_eq!(word, DONE);
            assert_eq!(owned, Some(value), "not the owner's number");
            self.together |= value == 1 && all_made;
            self.words[word] = value;
            0
        }

        fn change(&mut self, cpu: usize, word: usize, old: u64, new: u64) -> u64 {
            let same = self.words[word] == old;
            if same {
                assert_eq!(word, STARTED);
                self.words[word] = new;
                self.requests[cpu].owns = Some(new);
                self.requests[cpu].unseen = true;
            }
            same.into()
        }

        fn invalidate(&mut self, cpu: usize) -> u64 {
            let clean = self.requests.iter().map(|r| r.clean).collect();
            let request = &mut self.requests[cpu];
            assert!(!request.unseen, "it may start before others see that");
            request.gave_up = request.owns.is_none();
            request.in_flight = Some(clean);
            self.executed += 1;
            0
        }
    }
}

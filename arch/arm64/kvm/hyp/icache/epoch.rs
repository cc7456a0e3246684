// SPDX-License-Identifier: GPL-2.0

//! One full invalidation for all who wait for one.
//!
//! `IC IALLUIS` acts on every CPU of the Inner Shareable domain, whoever executes
//! it. So a CPU that needs a full invalidation is served just as well by another
//! CPU's, as long as that one *started* after the data of this request had
//! reached the Point of Unification.
//!
//! Full invalidations are numbered from 1. [`Epochs::started`] is the number of
//! the last one that has begun, [`Epochs::done`] that of the last one that has
//! completed. They differ by one while an invalidation is in flight and are equal
//! otherwise, so that taking `started` from `done` to `done + 1` is both the start
//! of an invalidation and the exclusion of any other.
//!
//! # Ordering
//!
//! Let R be a request and `s` the value of `started` that R reads.
//!
//! * R executes `DSB ISH` before that read, so R's data is at the Point of
//!   Unification, for all CPUs, before the read.
//! * Whoever starts invalidation `n` writes `n` to `started`, executes `DSB ISH`,
//!   and only then `IC IALLUIS`. If `n > s`, R's read came before that write in
//!   the coherence order of `started`; hence R's data was at the Point of
//!   Unification before invalidation `n` took place. Every invalidation numbered
//!   `s + 1` or higher serves R, and none that is numbered lower can be relied on.
//! * Invalidation `n` is complete for all CPUs when the `DSB ISH` behind it is,
//!   and only then is `n` written to `done`, with release. A waiter reads `done`
//!   with acquire, so what it does next, installing the translation table entry
//!   that lets the guest fetch from the page, comes after the invalidation.
//! * No `ISB` is needed here. Until that entry is there, no CPU has an executable
//!   translation of the page, so none has fetched from it; a CPU that returns to the
//!   guest does so by an exception return, which is a context synchronisation event.
//!
//! # Cost
//!
//! Take requests that have all been made, that is have read `started`, before the
//! first invalidation among them is over. One of them starts it. Those that read
//! `started` before that need that very one. Those that read it after need the next
//! one, and the first of them to start it serves all of the others. N requests cost at
//! most two invalidations.

/// A 64-bit variable that all CPUs share.
pub(crate) trait Word {
    /// Reads with acquire semantics.
    fn load_acquire(&self) -> u64;

    /// Writes with release semantics.
    fn store_release(&self, value: u64);

    /// Changes the value from `old` to `new`, with acquire semantics, or reports
    /// that it was something else.
    fn change(&self, old: u64, new: u64) -> bool;
}

/// What a CPU does to its caches.
pub(crate) trait Cpu {
    /// Completes all earlier accesses and cache maintenance, for the Inner
    /// Shareable domain (`DSB ISH`).
    fn complete(&self);

    /// Invalidates all instruction caches of the Inner Shareable domain
    /// (`IC IALLUIS`).
    fn invalidate_all(&self);

    /// One turn of a loop that waits for another CPU.
    fn relax(&self);
}

/// Who executed the invalidation that serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The CPU that asked.
    Own,
    /// Another one.
    Shared,
}

/// Numbers of the full invalidations.
///
/// # Invariants
///
/// `done <= started <= done + 1`, and `started == done + 1` only between the two
/// writes of one CPU in [`Epochs::serve`].
pub(crate) struct Epochs<W> {
    started: W,
    done: W,
}

impl<W: Word> Epochs<W> {
    /// No invalidation has been started. Both words must be 0.
    pub(crate) const fn new(started: W, done: W) -> Self {
        // INVARIANT: Both are 0.
        Self { started, done }
    }

    /// Returns once a full invalidation that started after this call has completed.
    ///
    /// Must not be preempted or interrupted, since others may be waiting for this CPU.
    #[inline]
    pub(crate) fn serve(&self, cpu: &impl Cpu) -> Served {
        cpu.complete();
        let seen = self.started.load_acquire();
        loop {
            let done = self.done.load_acquire();
            if done > seen {
                return Served::Shared;
            }
            // INVARIANT: The change succeeds for one CPU only, when nothing is in
            // flight, and this CPU completes what it started.
            if self.started.change(done, done.wrapping_add(1)) {
                cpu.complete();
                cpu.invalidate_all();
                cpu.complete();
                self.done.store_release(done.wrapping_add(1));
                return Served::Own;
            }
            cpu.relax();
        }
    }
}

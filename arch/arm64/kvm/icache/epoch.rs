// SPDX-License-Identifier: GPL-2.0

//! Sharing of full invalidations between concurrent requests.
//!
//! A *full invalidation* is `IC IALLUIS` and the `DSB ISH` that completes it. It acts
//! on every CPU of the Inner Shareable domain, whichever CPU executes it. So a full
//! invalidation by another CPU serves a request, provided that it *started* after the
//! request's data had reached the Point of Unification.
//!
//! Full invalidations that can be shared are numbered from 1. [`Epochs::started`] is the
//! number of the last one that has started, [`Epochs::done`] that of the last one that
//! has completed. The two differ by one while an invalidation is in flight and are equal
//! otherwise, so changing `started` from `done` to `done + 1` both starts an invalidation
//! and excludes any other. The request that does so is the *owner* of that number, and
//! only the owner writes it to `done`.
//!
//! # Ordering
//!
//! Let R be a request and `s` the value of `started` that R reads.
//!
//! * R executes `DSB ISH` before that read, so R's data is at the Point of
//!   Unification, for all CPUs, before the read.
//! * The owner of `n` writes `n` to `started`, executes `DSB ISH`, and only then
//!   `IC IALLUIS`. If `n > s`, R's read came before that write in the coherence
//!   order of `started`; hence R's data was at the Point of Unification before
//!   invalidation `n` took place. Every invalidation numbered `s + 1` or higher serves
//!   R, and none that is numbered lower can be relied on.
//! * Invalidation `n` is complete for all CPUs when the `DSB ISH` after it completes,
//!   and only then does the owner write `n` to `done`, with release. A waiter reads `done`
//!   with acquire, so its next action, writing the translation table entry of the request,
//!   comes after the invalidation.
//! * Lines that an instruction cache loads after an invalidation come from the Point of
//!   Unification, and are at least as new as the data that was there before. So it does
//!   not matter that the page may have other executable translations, through which CPUs
//!   fetch from it all the time.
//! * No `ISB` is needed here. A request guarantees only that instructions fetched through
//!   *its entry* are no older than its data. Until the entry is written, nothing can have
//!   been fetched through it; a CPU returns to the guest by an exception return, which is a
//!   context synchronisation event. Another entry is covered by the request made for that
//!   entry, and synchronising instructions fetched through it with later writes to the page
//!   is the responsibility of the writer.
//!
//! See the Arm ARM, "Ordering and completion of data and instruction cache
//! instructions" and "Synchronization and coherency issues between data and
//! instruction accesses".
//!
//! # Waiting
//!
//! A request waits for at most [`TURNS`] turns of its loop and then executes an invalidation
//! without a number: it writes neither word, so no other request relies on it, and the
//! reasoning above is unaffected. This invalidation serves the request, whose data was at the
//! Point of Unification before.
//!
//! So the owner may be interrupted, preempted, or, where this machine is itself a VM, not be
//! scheduled, at any point between its writes to `started` and `done`, and it may continue on
//! another CPU, because `__switch_to()` has a `DSB ISH`. Until the owner continues, `started`
//! is `done + 1`, so there is no other owner, each request executes its own invalidation after
//! a bounded wait, and nothing is shared. When the owner continues, it completes invalidation
//! `n` and writes `n` to `done`, which still holds `n - 1`. This write is late, but correct:
//! the invalidation has completed before.
//!
//! At EL2, in protected mode, the same holds, with words that the host cannot write. Only an
//! outer hypervisor can preempt an owner there. A request holds locks of the hypervisor, and
//! the bound limits how long the wait extends this.
//!
//! # Cost
//!
//! A request executes at most one invalidation, so N requests never cost more than N.
//!
//! Consider requests that have all read `started` before the first invalidation among them
//! completes, and whose waits are long enough. One of them starts that invalidation. The
//! requests that read `started` before the start need this invalidation. The requests that
//! read `started` after it need the next one, and the first of them to start it serves all
//! the others. These N requests cost at most two invalidations.

/// Number of turns that a request waits for the invalidations of other requests.
///
/// To limit delays, KVM lets a request broadcast at most `MAX_DVM_OPS` operations (at least 512)
/// before it prefers a full invalidation. A turn broadcasts nothing: it reads two words of one
/// cache line, of which this CPU keeps a copy until an owner writes to it. So a wait of 512 turns
/// takes no longer than a request by line may take. Requests share an invalidation only if it
/// completes within the wait.
pub(crate) const TURNS: u32 = 512;

/// A 64-bit variable that all CPUs share.
pub(crate) trait Word {
    /// Reads with acquire semantics.
    fn load_acquire(&self) -> u64;

    /// Writes with release semantics.
    fn store_release(&self, value: u64);

    /// Changes the value from `old` to `new`, with acquire semantics, and returns `true`. Returns
    /// `false` without writing if the value was not `old`.
    fn change(&self, old: u64, new: u64) -> bool;
}

/// The cache maintenance and barriers of a CPU.
pub(crate) trait Cpu {
    /// Completes all earlier accesses and cache maintenance, for the Inner
    /// Shareable domain (`DSB ISH`).
    fn complete(&self);

    /// Invalidates all instruction caches of the Inner Shareable domain, and completes the
    /// invalidation (`IC IALLUIS`, `DSB ISH`).
    fn invalidate_all(&self);

    /// Ends a turn of a loop that waits for another CPU.
    fn relax(&self);
}

/// The request that executed the invalidation that serves a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// The request itself.
    Own,
    /// Another request.
    Shared,
}

/// Numbers of the full invalidations, in a cache line of their own.
///
/// # Invariants
///
/// `done <= started <= done + 1`. If they differ, one request, the owner, is between its
/// two writes in [`Epochs::serve`], and no other request writes either word.
#[repr(C, align(64))]
pub(crate) struct Epochs<W> {
    started: W,
    done: W,
}

impl<W: Word> Epochs<W> {
    /// Returns numbers that continue from these: two equal values, such as 0, or those
    /// that an owner has left.
    pub(crate) const fn new(started: W, done: W) -> Self {
        // INVARIANT: By the above.
        Self { started, done }
    }

    /// Returns once a full invalidation that started after this call has completed.
    ///
    /// Waits for at most `turns` turns. May be interrupted and preempted.
    #[inline]
    pub(crate) fn serve(&self, cpu: &impl Cpu, turns: u32) -> Served {
        cpu.complete();
        let seen = self.started.load_acquire();
        for _ in 0..turns {
            let done = self.done.load_acquire();
            if done > seen {
                return Served::Shared;
            }
            // INVARIANT: The change succeeds only while no invalidation is in flight, for one
            // request, which becomes the owner.
            if self.started.change(done, done.wrapping_add(1)) {
                cpu.complete();
                cpu.invalidate_all();
                // INVARIANT: This is still the owner's number: no other request has written.
                self.done.store_release(done.wrapping_add(1));
                return Served::Own;
            }
            cpu.relax();
        }
        // The owner makes no progress: execute an invalidation without a number.
        cpu.invalidate_all();
        Served::Own
    }
}

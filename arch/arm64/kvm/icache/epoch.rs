// SPDX-License-Identifier: GPL-2.0

//! One full invalidation for all who wait for one.
//!
//! A *full invalidation* is `IC IALLUIS` and the `DSB ISH` that completes it. It acts
//! on every CPU of the Inner Shareable domain, whoever executes it. So a CPU that
//! needs one is served just as well by another CPU's, as long as that one *started*
//! after the data of this request had reached the Point of Unification.
//!
//! Full invalidations that are shared are numbered from 1. [`Epochs::started`] is the
//! number of the last one that has begun, [`Epochs::done`] that of the last one that
//! has completed. They differ by one while an invalidation is in flight and are equal
//! otherwise, so that taking `started` from `done` to `done + 1` is both the start of an
//! invalidation and the exclusion of any other. Whoever does so is the *owner* of that
//! number, and the only one to write it to `done`.
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
//! * Invalidation `n` is complete for all CPUs when the `DSB ISH` behind it is,
//!   and only then is `n` written to `done`, with release. A waiter reads `done`
//!   with acquire, so what it does next, writing the translation table entry that the
//!   request is made for, comes after the invalidation.
//! * What an instruction cache takes in after an invalidation comes from the Point of
//!   Unification, and is at least as new as the data that was there before. So it does
//!   not matter that the page may have other executable translations, through which CPUs
//!   fetch from it all the time.
//! * No `ISB` is needed here. The promise is about *this entry*: what is fetched through
//!   it is no older than the request's data. Until the entry is written, nothing can have
//!   been fetched through it; a CPU that returns to the guest does so by an exception
//!   return, which is a context synchronisation event. What a CPU has fetched through
//!   another entry was the promise of that entry's request, and synchronising it with
//!   later writes to the page is up to whoever writes them.
//!
//! See the Arm ARM, "Ordering and completion of data and instruction cache
//! instructions" and "Synchronization and coherency issues between data and
//! instruction accesses".
//!
//! # Waiting
//!
//! A request waits for [`TURNS`] turns of its loop and then executes an invalidation of its
//! own, which has no number: it writes neither word, so others do not rely on it, and it
//! changes nothing that is said of numbers. It serves the request, whose data was at the
//! Point of Unification before it.
//!
//! So the owner may be interrupted, preempted, or, where this machine is itself a VM, not be
//! scheduled, at any point between its writes to `started` and `done`, and it may continue on
//! another CPU: `__switch_to()` has a `DSB ISH` for that. For as long as this takes, `started`
//! is `done + 1` and nobody else becomes an owner, each request executes its own
//! invalidation, after a wait that has a bound, and nothing is shared. When the owner
//! goes on, it completes invalidation `n` and writes `n` to `done`, which still has
//! `n - 1`: it is late, but what it says was true earlier.
//!
//! At EL2, in protected mode, the same holds with words that the host cannot write. Nothing
//! preempts an owner there but a hypervisor beneath; a request holds locks of the
//! hypervisor, and holds them for no longer than the bound.
//!
//! # Cost
//!
//! A request executes at most one invalidation, so N requests never cost more than N.
//!
//! Take requests that have all been made, that is have read `started`, before the
//! first invalidation among them is over, and whose waits are long enough. One of them
//! starts it. Those that read `started` before that need that very one. Those that read it
//! after need the next one, and the first of them to start it serves all of the others. N
//! requests cost at most two invalidations.

/// How many turns a request waits for the invalidations of others.
///
/// KVM lets a request broadcast up to `MAX_DVM_OPS` operations, 512 where that is least, before
/// it prefers a full invalidation, so that nobody is held up for longer. A turn broadcasts
/// nothing: it reads two words of one cache line, of which this CPU keeps a copy until an owner
/// writes to it. So a wait of as many turns is within what a request by line may take. Requests
/// share an invalidation only if it completes within the wait.
pub(crate) const TURNS: u32 = 512;

/// A 64-bit variable that all CPUs share.
pub(crate) trait Word {
    /// Reads with acquire semantics.
    fn load_acquire(&self) -> u64;

    /// Writes with release semantics.
    fn store_release(&self, value: u64);

    /// Changes the value from `old` to `new`, with acquire semantics, or reports
    /// that it was something else, in which case nothing is written.
    fn change(&self, old: u64, new: u64) -> bool;
}

/// What a CPU does to its caches.
pub(crate) trait Cpu {
    /// Completes all earlier accesses and cache maintenance, for the Inner
    /// Shareable domain (`DSB ISH`).
    fn complete(&self);

    /// Invalidates all instruction caches of the Inner Shareable domain and
    /// completes that (`IC IALLUIS`, `DSB ISH`).
    fn invalidate_all(&self);

    /// Ends a turn of a loop that waits for another CPU.
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
    /// Returns numbers that go on from these: two of the same value, such as 0, or those
    /// that an owner has left.
    pub(crate) const fn new(started: W, done: W) -> Self {
        // INVARIANT: By the above.
        Self { started, done }
    }

    /// Returns once a full invalidation that started after this call has completed.
    ///
    /// Takes no more than `turns` turns that wait for others. May be interrupted and
    /// preempted.
    #[inline]
    pub(crate) fn serve(&self, cpu: &impl Cpu, turns: u32) -> Served {
        cpu.complete();
        let seen = self.started.load_acquire();
        for _ in 0..turns {
            let done = self.done.load_acquire();
            if done > seen {
                return Served::Shared;
            }
            // INVARIANT: The change succeeds only when nothing is in flight, for one
            // request, which is the owner from then on.
            if self.started.change(done, done.wrapping_add(1)) {
                cpu.complete();
                cpu.invalidate_all();
                // INVARIANT: Still the owner's number: nobody else has written meanwhile.
                self.done.store_release(done.wrapping_add(1));
                return Served::Own;
            }
            cpu.relax();
        }
        // An owner is not getting on: this one has no number.
        cpu.invalidate_all();
        Served::Own
    }
}

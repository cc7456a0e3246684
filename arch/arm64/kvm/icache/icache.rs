// SPDX-License-Identifier: GPL-2.0

//! Instruction-cache invalidation for guest memory, in the kernel proper.
//!
//! Used in VHE and nVHE mode, where the host maintains the guests' stage-2 tables. In
//! protected mode the hypervisor maintains them: see `el2.rs`.
//!
//! C header: [`arch/arm64/include/asm/kvm_icache.h`](srctree/arch/arm64/include/asm/kvm_icache.h)

use kernel::{bindings, prelude::*};

mod cpu;
mod epoch;
mod plan;
mod request;

/// Serves a request for `size` bytes; see `kvm_icache_request()` and
/// `kvm_icache_inval_all()`.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_icache_serve(
    ctr: u64,
    aliasing: bool,
    size: u64,
    max_lines: u64,
) -> bindings::kvm_icache_result {
    request::request(ctr.into(), aliasing, size, max_lines) as bindings::kvm_icache_result
}

#[cfg(CONFIG_KVM_ARM64_ICACHE_BOUND_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_icache)]
mod tests {
    use super::*;

    use super::{
        cpu::{ThisCpu, Word},
        epoch::{self, Cpu, Epochs, Served, Word as _, TURNS},
        plan::{plan, Plan},
        request::{request, Outcome}, //
    };
    use core::{
        cell::Cell,
        mem::{align_of, size_of},
    };
    use kernel::{
        arm64::{cpufeature::sanitised, sysreg::CTR_EL0},
        page::PAGE_SIZE, //
    };

    /// `MAX_DVM_OPS`, that is `PTRS_PER_PTE`.
    const MAX_LINES: u64 = PAGE_SIZE as u64 / 8;

    /// The bound on this machine is that of `__invalidate_icache_max_range()`.
    #[test]
    fn bound_of_this_machine() {
        let ctr = sanitised::<CTR_EL0>();
        let bound = MAX_LINES << (2 + ctr.IminLine().get());
        let without = ctr.with_const_DIC::<0>();
        let with = ctr.with_const_DIC::<1>();

        assert_eq!(plan(without, false, bound, MAX_LINES), Plan::ByLine);
        assert_eq!(plan(without, false, bound + 1, MAX_LINES), Plan::All);
        assert_eq!(plan(with, false, bound + 1, MAX_LINES), Plan::Nothing);
        assert_eq!(plan(without, true, 1, MAX_LINES), Plan::All);
        assert_eq!(plan(without, true, 0, MAX_LINES), Plan::Nothing);
    }

    /// The outcome tells the caller what to do.
    #[test]
    fn outcomes() {
        let ctr = CTR_EL0::zeroed().with_const_IminLine::<4>();

        assert!(request(ctr, false, 0, MAX_LINES) == Outcome::Nothing);
        assert!(request(ctr, false, 64 * MAX_LINES, MAX_LINES) == Outcome::ByLine);
        // Guests may be running, and a full invalidation of theirs may serve these requests.
        for size in [64 * MAX_LINES + 64, u64::MAX] {
            let all = request(ctr, false, size, MAX_LINES);
            assert!(all == Outcome::Full || all == Outcome::Shared);
        }
    }

    /// Without concurrent requests, each one executes its own invalidation.
    #[test]
    fn alone() {
        let epochs = Epochs::new(Word::new(0), Word::new(0));

        for _ in 0..10 {
            assert_eq!(epochs.serve(&ThisCpu, TURNS), Served::Own);
        }
    }

    impl epoch::Word for &Word {
        fn load_acquire(&self) -> u64 {
            Word::load_acquire(self)
        }

        fn store_release(&self, value: u64) {
            Word::store_release(self, value);
        }

        fn change(&self, old: u64, new: u64) -> bool {
            Word::change(self, old, new)
        }
    }

    /// A CPU that counts its operations, and lets the owner of number 1 finish if a request
    /// waits for too many turns.
    struct Counting<'a> {
        done: &'a Word,
        invalidations: Cell<u32>,
        turns: Cell<u32>,
    }

    impl Cpu for Counting<'_> {
        fn complete(&self) {
            ThisCpu.complete();
        }

        fn invalidate_all(&self) {
            self.invalidations.set(self.invalidations.get() + 1);
            ThisCpu.invalidate_all();
        }

        fn relax(&self) {
            self.turns.set(self.turns.get() + 1);
            if self.turns.get() == 10 * TURNS {
                self.done.store_release(1);
            }
            ThisCpu.relax();
        }
    }

    /// A request does not depend on an owner that has stopped, and does not write its number.
    #[test]
    fn owner_that_has_stopped() {
        let started = Word::new(1);
        let done = Word::new(0);
        let cpu = Counting {
            done: &done,
            invalidations: Cell::new(0),
            turns: Cell::new(0),
        };

        let epochs = Epochs::new(&started, &done);
        assert_eq!(epochs.serve(&cpu, TURNS), Served::Own);
        assert_eq!(cpu.turns.get(), TURNS);
        assert_eq!(cpu.invalidations.get(), 1);
        assert_eq!(started.load_acquire(), 1);
        assert_eq!(done.load_acquire(), 0);

        // The owner continues, and requests number their invalidations again.
        done.store_release(1);
        assert_eq!(epochs.serve(&cpu, TURNS), Served::Own);
        assert_eq!(started.load_acquire(), 2);
        assert_eq!(done.load_acquire(), 2);
    }

    /// No other data shares the cache line of the words.
    #[test]
    fn a_line_of_their_own() {
        let line = 1 << bindings::L1_CACHE_SHIFT;

        assert_eq!(align_of::<Epochs<Word>>() % line, 0);
        assert_eq!(size_of::<Epochs<Word>>() % line, 0);
    }

    #[test]
    fn words() {
        let word = Word::new(u64::MAX);

        assert_eq!(word.load_acquire(), u64::MAX);
        assert!(!word.change(0, 1));
        assert_eq!(word.load_acquire(), u64::MAX);
        assert!(word.change(u64::MAX, 7));
        word.store_release(word.load_acquire() * 2);
        assert_eq!(word.load_acquire(), 14);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Changes of other CPUs and the host to the memory of a guest that profiles.

use super::memory::*;

impl Sim {
    /// Lets other CPUs act. `readers_only`: this CPU has the lock for reading.
    pub(super) fn others(&self, readers_only: bool) {
        loop {
            let state = &mut *self.state.borrow_mut();
            if !state.choices.act(state.quiet) {
                break;
            }
            // What the vCPU's task has stored meanwhile is seen now, or later, in any order.
            for which in 0..2 {
                if state.unseen[which] && state.choices.one_in(2) {
                    self.see(state, which);
                }
            }
            let frames = state.extent.frames;
            let frame = frames[state.choices.below(frames.len() as u64) as usize];
            match state.choices.below(10) {
                0 if !readers_only => self.take_away(state, frame),
                1 if !readers_only => self.harvest(state, frame),
                2 if !readers_only => self.split(state, frame),
                3 if !readers_only => self.age(state, frame),
                4 => state.host[frame].present = true,
                5 | 6 => self.other_faults(state, frame),
                7 => self.next_of_fault(state),
                8 => state.host[frame].read_only = state.choices.one_in(8),
                _ => self.relax(state, frame),
            }
        }
    }

    /// Lets others see a store.
    pub(super) fn see(&self, state: &mut State, which: usize) {
        if core::mem::take(&mut state.unseen[which]) {
            match which {
                0 => self.watch.borrow().disarm(),
                _ => self.watch.borrow().outdate(),
            }
        }
    }

    /// Lets others see all stores, as the vCPU's task stores to the flags once more, or takes the
    /// lock.
    pub(super) fn see_all(&self) {
        for which in 0..2 {
            self.see(&mut self.state.borrow_mut(), which);
        }
    }

    /// Resets the vCPU, as its task does.
    pub(super) fn forget(&self) {
        self.state.borrow_mut().unseen = [true; 2];
    }

    /// Enters the guest: others see that, and then the vCPU looks for requests.
    pub(super) fn enter(&self, ready: bool) {
        let ordered = !self.state.borrow().broken.no_order;
        let (mut enters, state) = (ready && !self.state.borrow().request, &self.state);

        if ordered {
            state.borrow_mut().in_guest = ready;
        }
        self.others(false);
        let state = &mut *state.borrow_mut();
        if ordered {
            enters = state.in_guest && !state.request;
        }
        state.in_guest = enters;
    }

    /// Returns the frames of the leaf at `frame`.
    pub(super) fn leaf(&self, state: &State, frame: usize) -> core::ops::Range<usize> {
        match state.s2[frame] {
            Some(leaf) if leaf.block => block_of(frame),
            _ => frame..frame + 1,
        }
    }

    /// Prepares a change of stage-2 mappings; the lock is held for writing.
    pub(super) fn before_change(&self, state: &mut State, frame: usize) {
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

    /// Takes a page away, for good or to give another one.
    pub(super) fn take_away(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            state.s2[frame] = None;
            state.stale[frame] = false;
        }
        let host = &mut state.host[frame];
        host.page += 1;
        host.present = state.choices.one_in(2);
        host.read_only = false;
    }

    /// Harvests what is dirty, and write-protects it.
    pub(super) fn harvest(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            if let Some(leaf) = &mut state.s2[frame] {
                leaf.write = false;
                state.stale[frame] = true;
            }
            state.host[frame].dirty = false;
        }
    }

    pub(super) fn split(&self, state: &mut State, frame: usize) {
        self.before_change(state, frame);
        for frame in self.leaf(state, frame) {
            if let Some(leaf) = &mut state.s2[frame] {
                leaf.block = false;
            }
        }
    }

    pub(super) fn age(&self, state: &mut State, frame: usize) {
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

    /// Maps a page in a fault on another CPU, or replaces pages by a block: nothing is mapped there
    /// until it ends.
    pub(super) fn other_faults(&self, state: &mut State, frame: usize) {
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

    /// Ends a fault: nobody has the lock for reading then.
    pub(super) fn end_fault(&self, state: &mut State) {
        while state.fault.is_some() {
            self.next_of_fault(state);
        }
    }

    pub(super) fn next_of_fault(&self, state: &mut State) {
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

    /// Adds the permission for a write on another CPU, and invalidates nothing elsewhere.
    pub(super) fn relax(&self, state: &mut State, frame: usize) {
        if state.s2[frame].is_some() && state.fault.is_none() {
            map(state, frame, true);
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The choices in a run of a simulation: random ones, or all combinations in turn.

/// The source of the choices.
pub(super) enum Choices {
    /// A small generator of random numbers (xorshift).
    Random(u64),
    /// All combinations, one in each run. `path` has each choice and the number of alternatives; so
    /// far this run has made `done` choices. Others act up to `left` times in the rest of the run.
    All {
        path: Vec<(u64, u64)>,
        done: usize,
        left: usize,
    },
}

impl Choices {
    /// Chooses one of `n`.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        match self {
            Self::Random(state) => {
                *state ^= *state << 13;
                *state ^= *state >> 7;
                *state ^= *state << 17;
                (*state >> 11) % n
            }
            Self::All { path, done, .. } => {
                if *done == path.len() {
                    path.push((0, n));
                }
                *done += 1;
                path[*done - 1].0
            }
        }
    }

    /// Chooses what happens once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        match self {
            Self::Random(_) => self.below(n) == 0,
            Self::All { .. } => self.below(2) == 1,
        }
    }

    /// Returns whether other CPUs act now, as they do once in `quiet` times.
    pub(super) fn act(&mut self, quiet: u64) -> bool {
        match self {
            Self::Random(_) => self.one_in(quiet),
            Self::All { left: 0, .. } => false,
            Self::All { .. } => {
                let acts = self.one_in(quiet);
                if let (true, Self::All { left, .. }) = (acts, self) {
                    *left -= 1;
                }
                acts
            }
        }
    }

    /// Returns the choices of the next run, in which others act `left` times, if there is one.
    pub(super) fn next_run(self, left: usize) -> Option<Self> {
        let Self::All { mut path, .. } = self else {
            return None;
        };
        while let Some((chosen, of)) = path.pop() {
            if chosen + 1 < of {
                path.push((chosen + 1, of));
                return Some(Self::All {
                    path,
                    done: 0,
                    left,
                });
            }
        }
        None
    }
}

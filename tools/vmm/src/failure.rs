// SPDX-License-Identifier: GPL-2.0

//! Errors of the VMM.

use std::{error::Error, fmt};

/// An error: the failed operation, and the cause.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// A result with a [`Failure`].
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Adds the failed operation to an error.
pub trait During<T> {
    /// Converts an error to a [`Failure`] of `what`.
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|why| Failure {
            what: what.into(),
            why: why.into(),
        })
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Where reports are written.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::ffi;

/// A file, or QEMU's log.
pub struct Output(Option<Mutex<File>>);

impl Output {
    /// Creates or truncates the file at once, so that a bad name is found before the machine
    /// starts.
    pub fn new(path: Option<&str>) -> Result<Output, String> {
        let Some(path) = path else {
            return Ok(Output(None));
        };
        let file = File::create(path).map_err(|error| format!("out={path}: {error}"))?;
        Ok(Output(Some(Mutex::new(file))))
    }

    /// Writes whole lines, unbuffered: they are in the file when this returns.
    pub fn write(&self, text: &str) {
        let Some(file) = &self.0 else {
            return ffi::log(text);
        };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(text.as_bytes()) {
            eprintln!("opcodes: cannot write the report: {error}");
        }
    }
}

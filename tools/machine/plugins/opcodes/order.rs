// SPDX-License-Identifier: GPL-2.0

//! Whether accesses of EL0 are complete when ACTLR_EL1 is written, which may change the order they
//! are made in. A vCPU that has executed at EL0 must have executed a DSB since.

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// QEMU's `virt` board has at most 512 CPUs.
const VCPUS: usize = 512;

/// Whether EL0 has executed since the last DSB, on each vCPU.
static INCOMPLETE: [AtomicBool; VCPUS] = [const { AtomicBool::new(false) }; VCPUS];

/// Writes of ACTLR_EL1, and those of them that came too early.
static WRITES: AtomicU64 = AtomicU64::new(0);
static EARLY: AtomicU64 = AtomicU64::new(0);

fn set_incomplete(vcpu: c_uint, incomplete: bool) {
    if let Some(cell) = INCOMPLETE.get(vcpu as usize) {
        cell.store(incomplete, Relaxed);
    }
}

pub extern "C" fn user_cb(vcpu: c_uint, _data: *mut c_void) {
    set_incomplete(vcpu, true);
}

pub extern "C" fn dsb_cb(vcpu: c_uint, _data: *mut c_void) {
    set_incomplete(vcpu, false);
}

pub extern "C" fn actlr_cb(vcpu: c_uint, _data: *mut c_void) {
    WRITES.fetch_add(1, Relaxed);
    if INCOMPLETE
        .get(vcpu as usize)
        .is_none_or(|cell| cell.load(Relaxed))
    {
        EARLY.fetch_add(1, Relaxed);
    }
}

pub fn report() -> String {
    format!(
        "actlr_writes {}\nactlr_early {}\n",
        WRITES.load(Relaxed),
        EARLY.load(Relaxed)
    )
}

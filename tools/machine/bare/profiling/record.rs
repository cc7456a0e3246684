// SPDX-License-Identifier: GPL-2.0

//! What a record says.

use super::{buffer, RECORD};

/// What a record says.
#[derive(Default)]
pub(super) struct Decoded {
    pub(super) pc: u64,
    pub(super) address: Option<u64>,
    pub(super) kind: u8,
    pub(super) subclass: u8,
    pub(super) events: u64,
    pub(super) context: Option<u64>,
    pub(super) context_el2: Option<u64>,
    pub(super) physical: Option<u64>,
    pub(super) total: u64,
    pub(super) time: Option<u64>,
    pub(super) well_formed: bool,
}

/// Takes record `n` apart ("Statistical Profiling Extension sample record
/// specification").
pub(super) fn decode(n: u64) -> Decoded {
    let mut out = Decoded::default();
    let mut at = (buffer() + n * RECORD) as *const u8;
    // SAFETY: The record lies in the buffer, which is disabled.
    let end = unsafe { at.add(RECORD as usize) };

    while at < end {
        // SAFETY: As above.
        let header = unsafe { at.read_volatile() };
        let size = if header & 0xf0 == 0 {
            0
        } else {
            1usize << (header >> 4 & 3)
        };
        let mut value = 0u64;
        // SAFETY: As above; no packet reaches beyond the record.
        unsafe {
            for i in 0..size {
                value |= u64::from(at.add(1 + i).read_volatile()) << (8 * i);
            }
            at = at.add(1 + size);
        }
        match header {
            0x01 | 0x71 => {
                out.time = (header == 0x71).then_some(value);
                out.well_formed = true;
                return out;
            }
            0xb0 => out.pc = value,
            0xb2 => out.address = Some(value),
            0xb1 => {}
            0xb3 => out.physical = Some(value),
            0x64 => out.context = Some(value),
            0x65 => out.context_el2 = Some(value),
            0x52 => out.events = value,
            0x48..=0x4a => {
                out.kind = header & 3;
                out.subclass = value as u8;
            }
            0x98 => out.total = value,
            0x99 | 0x9a => {}
            _ => return out,
        }
    }
    out
}

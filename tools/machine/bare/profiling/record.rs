// SPDX-License-Identifier: GPL-2.0

//! Decodes records ("Statistical Profiling Extension sample record specification").

use super::{buffer, field_of, RECORD};

// Headers of the packets: Address, of an instruction, of a branch's target, of data; Context;
// Counter; Events, of two bytes; Operation Type, by its class; Timestamp. A record ends with
// Timestamp or with End.
const ADDRESS_PC: u8 = 0xb0;
const ADDRESS_TARGET: u8 = 0xb1;
const ADDRESS_VIRTUAL: u8 = 0xb2;
const ADDRESS_PHYSICAL: u8 = 0xb3;
const CONTEXT_EL1: u8 = 0x64;
const CONTEXT_EL2: u8 = 0x65;
const COUNTER_TOTAL: u8 = 0x98;
const COUNTER_ISSUE: u8 = 0x99;
const COUNTER_TRANSLATION: u8 = 0x9a;
const END: u8 = 0x01;
const EVENTS: u8 = 0x52;
const OPERATION_OTHER: u8 = 0x48;
const OPERATION_BRANCH: u8 = 0x4a;
const TIMESTAMP: u8 = 0x71;

/// A header has SZ, the payload's length as a power of two, unless its upper half is zero.
const SZ: u64 = 0b11 << 4;
const UPPER: u8 = 0xf0;
/// The class of an Operation Type packet.
const CLASS: u8 = 0b11;

/// The payload of an Address packet of an instruction: its address; EL and NS.
const PC: u64 = (1 << 56) - 1;
const STATE: u64 = 0b111 << 61;
/// Non-secure EL1.
const NS_EL1: u64 = 0b101;
/// The NS bit of a physical address.
const NS: u64 = 1 << 63;

/// The contents of a record.
#[derive(Default)]
pub(super) struct Decoded {
    pc: u64,
    pub(super) address: Option<u64>,
    pub(super) kind: u8,
    pub(super) subclass: u8,
    pub(super) events: u64,
    pub(super) context: Option<u64>,
    pub(super) context_el2: Option<u64>,
    physical: Option<u64>,
    pub(super) total: u64,
    pub(super) time: Option<u64>,
    pub(super) well_formed: bool,
}

impl Decoded {
    /// Returns the address of the instruction.
    pub(super) fn pc(&self) -> u64 {
        field_of(self.pc, PC)
    }

    /// Returns the physical address of the data.
    pub(super) fn physical(&self) -> Option<u64> {
        self.physical.map(|address| address & !NS)
    }

    /// Returns whether the record is of Non-secure EL1.
    pub(super) fn of_ns_el1(&self) -> bool {
        field_of(self.pc, STATE) == NS_EL1
    }

    /// Adds the contents of a packet; returns whether another packet follows.
    fn packet(&mut self, header: u8, value: u64) -> bool {
        match header {
            END | TIMESTAMP => {
                self.time = (header == TIMESTAMP).then_some(value);
                self.well_formed = true;
                return false;
            }
            ADDRESS_PC => self.pc = value,
            ADDRESS_VIRTUAL => self.address = Some(value),
            ADDRESS_TARGET => {}
            ADDRESS_PHYSICAL => self.physical = Some(value),
            CONTEXT_EL1 => self.context = Some(value),
            CONTEXT_EL2 => self.context_el2 = Some(value),
            EVENTS => self.events = value,
            OPERATION_OTHER..=OPERATION_BRANCH => {
                self.kind = header & CLASS;
                self.subclass = value as u8;
            }
            COUNTER_TOTAL => self.total = value,
            COUNTER_ISSUE | COUNTER_TRANSLATION => {}
            _ => return false,
        }
        true
    }
}

/// Returns the header, the payload and the size of the packet at `at`.
///
/// # Safety
///
/// `at` points to a packet, which is not written meanwhile.
unsafe fn packet(at: *const u8) -> (u8, u64, usize) {
    // SAFETY: By the contract of this function.
    let byte = |i| unsafe { at.add(i).read_volatile() };
    let header = byte(0);
    let size = match header & UPPER {
        0 => 0,
        _ => 1 << field_of(header.into(), SZ),
    };
    let value = (0..size).fold(0, |sum, i| sum | u64::from(byte(1 + i)) << (8 * i));

    (header, value, 1 + size)
}

/// Decodes record `n`.
pub(super) fn decode(n: u64) -> Decoded {
    let mut out = Decoded::default();
    let mut at = (buffer() + n * RECORD) as *const u8;
    // SAFETY: The record lies in the buffer, which is disabled.
    let end = unsafe { at.add(RECORD as usize) };

    while at < end {
        // SAFETY: As above; no packet reaches beyond the record.
        let (header, value, size) = unsafe { packet(at) };
        if !out.packet(header, value) {
            break;
        }
        // SAFETY: As above.
        at = unsafe { at.add(size) };
    }
    out
}

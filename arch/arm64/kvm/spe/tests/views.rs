// SPDX-License-Identifier: GPL-2.0

//! Which registers a VM has, and which bits.

use super::super::{registers::*, sysreg::*};
use kernel::arm64::sysreg::{PMBIDR_EL1, PMSIDR_EL1};
use kernel::num::Bounded;

/// Some filters of events.
const EVENTS: u64 = 0xf0f0_0000_00fe;

/// Returns the view of a VM with this version, on a unit that has everything.
fn view(version: u64) -> Option<View> {
    View::new(
        Version::try_new(version)?,
        PMSIDR_EL1::from_raw(u64::MAX),
        PMBIDR_EL1::from_raw(u64::MAX),
        EVENTS,
    )
}

fn name(encoding: u32) -> Name {
    Name::of(encoding).expect("a register of FEAT_SPE")
}

/// ID_AA64DFR0_EL1.PMSVer: 0 is a VM without FEAT_SPE.
#[test]
fn version_0_has_nothing() {
    assert!(view(0).is_none());
}

/// A VM with FEAT_SPEv1p2 has PMSNEVFR_EL1 if PMSIDR_EL1.FnE is 1.
#[test]
fn the_inverted_filter_needs_version_3_and_fne() {
    for version in 1..=3 {
        let own = view(version).unwrap();
        assert_eq!(own.has(name(SYS_PMSNEVFR_EL1)), version == 3);
        assert_eq!(own.pmsidr().FnE().into_bool(), version == 3);
        assert_eq!(own.kept(Register::Pmsfcr) & 1 << 3 != 0, version == 3);
    }
    let without = PMSIDR_EL1::from_raw(!PMSIDR_EL1_FnE);
    let own = View::new(
        Version::try_new(3u64).unwrap(),
        without,
        PMBIDR_EL1::from_raw(0),
        EVENTS,
    )
    .unwrap();
    assert!(!own.has(name(SYS_PMSNEVFR_EL1)));
}

/// PMSIDR_EL1: what later versions than FEAT_SPEv1p2 announce is hidden; PMBIDR_EL1.P is 0.
#[test]
fn what_is_newer_is_hidden() {
    for version in 1..=3 {
        let own = view(version).unwrap();
        let pmsidr = own.pmsidr().into_raw();
        // FDS, EFT, FPF, ALTCLK and SME, and what has no name yet.
        assert_eq!(
            pmsidr & (1 << 7 | 1 << 26 | 1 << 27 | 0xf << 28 | u64::MAX << 32),
            0
        );
        // FE, FT, FL, ArchInst, LDS, ERnd, Interval, MaxSize, CountSize, Format, PBT
        assert_eq!(pmsidr & 0x01ff_ff3f, 0x01ff_ff3f);
        assert_eq!(own.pmbidr().into_raw(), 0xf2f);
    }
}

/// PMBLIMITR_EL1: FM and PMFZ come with FEAT_SPEv1p2; PMBPTR_EL1 is aligned as PMBIDR_EL1 says.
#[test]
fn reserved_bits_keep_nothing() {
    for version in 1..=3 {
        let own = view(version).unwrap();
        let modes = if version == 3 { 0x26 } else { 0 };
        assert_eq!(own.kept(Register::Pmblimitr), !0xfff | 1 | modes);
        assert_eq!(own.kept(Register::Pmscr), 0xfb);
        assert_eq!(own.kept(Register::Pmsirr), 0xffff_ff01);
        assert_eq!(own.kept(Register::Pmbsr), 0xfc0f_ffff);
    }
    for align in 0..=11 {
        let pmbidr = PMBIDR_EL1::from_raw(align);
        let own = View::new(
            Version::try_new(1u64).unwrap(),
            PMSIDR_EL1::from_raw(0),
            pmbidr,
            EVENTS,
        );
        assert_eq!(own.unwrap().kept(Register::Pmbptr), !((1 << align) - 1));
    }
}

/// PMSLATFR_EL1: "If PMSIDR_EL1.CountSize is 0b0010, MINLAT[15:12] is RES0."
#[test]
fn latencies_have_the_size_of_counters() {
    for (count_size, kept) in [(0b0010, 0xfff), (0b0011, 0xffff)] {
        let pmsidr = PMSIDR_EL1::from_raw(count_size << 16);
        let own = View::new(
            Version::try_new(1u64).unwrap(),
            pmsidr,
            PMBIDR_EL1::from_raw(0),
            EVENTS,
        );
        assert_eq!(own.unwrap().kept(Register::Pmslatfr), kept);
    }
}

/// PMSEVFR_EL1 and PMSNEVFR_EL1: filters of events that the unit does not have are RAZ/WI.
#[test]
fn filters_are_those_of_the_unit() {
    for version in 1..=3 {
        let own = view(version).unwrap();
        let inverted = if version == 3 { EVENTS } else { 0 };
        assert_eq!(own.kept(Register::Pmsevfr), EVENTS);
        assert_eq!(own.kept(Register::Pmsnevfr), inverted);
    }
}

/// Each register has one name.
#[test]
fn names() {
    let encodings = [
        SYS_PMSCR_EL1,
        SYS_PMSNEVFR_EL1,
        SYS_PMSICR_EL1,
        SYS_PMSIRR_EL1,
        SYS_PMSFCR_EL1,
        SYS_PMSEVFR_EL1,
        SYS_PMSLATFR_EL1,
        SYS_PMSIDR_EL1,
        SYS_PMBLIMITR_EL1,
        SYS_PMBPTR_EL1,
        SYS_PMBSR_EL1,
        SYS_PMBIDR_EL1,
    ];
    for (i, one) in encodings.iter().enumerate() {
        for other in &encodings[..i] {
            assert_ne!(name(*one), name(*other));
        }
    }
    assert!(Name::of(SYS_PMSDSFR_EL1).is_none());
    assert!(Name::of(SYS_PMSCR_EL2).is_none());
}

/// A buffer is written if PMBLIMITR_EL1.E is 1 and PMBSR_EL1.S is 0; no other bit matters.
#[test]
fn on_is_enabled_and_not_stopped() {
    for limit in [0, 1, !1, u64::MAX] {
        for status in [0, 1 << 17, !(1 << 17), u64::MAX] {
            let on = limit & 1 == 1 && status >> 17 & 1 == 0;
            assert_eq!(is_enabled(limit.into(), status.into()), on);
        }
    }
}

/// PMBSR_EL1.EC: the guest does not get a fault at stage 2 (0x25) or a granule protection check
/// fault (0x1e), nor a full buffer (EC 0, BSC 1) if the unit has only a part of the buffer and no
/// data is lost (DL). The guest gets all other events unchanged.
#[test]
fn events_of_the_guest() {
    for ec in 0..=0x3f_u64 {
        for mss in 0..=0x3f_u64 {
            for (lost, collided, clipped) in
                [0, 1, 2, 3, 4, 5, 6, 7].map(|i| (i & 1, i >> 1 & 1, i >> 2))
            {
                let status = ec << 26 | lost << 19 | collided << 16 | mss;
                // What software has written, without S.
                let before = 0xa404_5550_u64;
                let seen = what_of((status | 1 << 17).into(), before.into(), clipped != 0);
                let left = (before | collided << 16).into();

                let event = match (ec, mss) {
                    (0x25 | 0x1e, _) => Event::Fault {
                        event: left,
                        lost: lost != 0,
                    },
                    (0, 1) if clipped != 0 && lost == 0 => Event::WindowFull(left),
                    _ => Event::OfGuest((status | 1 << 17).into()),
                };
                assert_eq!(seen, event);
            }
        }
    }
}

/// Lost records: DL and S are 1. A full buffer has BSC 1; an IMPLEMENTATION DEFINED event (EC 0x1f)
/// has MSS 0.
#[test]
fn lost_records() {
    for collided in [0, 1_u64 << 16] {
        let full = lost(collided.into(), Bounded::<u64, 6>::new::<0>());
        let gone = lost(collided.into(), Bounded::<u64, 6>::new::<0x1f>());

        assert_eq!(full.into_raw(), collided | 1 << 19 | 1 << 17 | 1);
        assert_eq!(gone.into_raw(), 0x1f << 26 | collided | 1 << 19 | 1 << 17);
    }
}

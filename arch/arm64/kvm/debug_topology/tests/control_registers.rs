// SPDX-License-Identifier: GPL-2.0

//! Tests the translation of each value of a control register, in every mapping.

use super::*;

/// Returns every value of the fields that decide the translation of DBGBCR<n>_EL1: E, BAS, LBN
/// and BT.
fn controls() -> impl Iterator<Item = u64> {
    (0..2 * 4 * 16 * 16).map(|bits: u64| {
        let (e, bas) = (
            bits & 1,
            [0b0011, 0b1100, 0b1111, 0][bits as usize >> 1 & 3],
        );
        e | (bas << DBGBCRn_EL1_BAS_SHIFT) | ((bits >> 3) << DBGBCRn_EL1_LBN_SHIFT)
    })
}

/// Returns the expected DBGBCR of the CPU for breakpoint `n` of the VM. `linked_to` is the CPU's
/// context-aware breakpoint that the VM's LBN maps to, if any.
fn expected_breakpoint(mapping: Mapping, n: usize, control: u64, linked_to: Option<usize>) -> u64 {
    let bt = (control >> DBGBCRn_EL1_BT_SHIFT) % 16;
    let bt = if mapping.vm().is_context_aware(n) {
        bt
    } else {
        bt & 0b0101
    };
    let types = !(DBGBCRn_EL1_BT_MASK | DBGBCRn_EL1_LBN_MASK);
    let rest = (control & types) | (bt << DBGBCRn_EL1_BT_SHIFT);

    match bt {
        _ if control & 1 == 0 => 0,
        0b0000 | 0b0010 | 0b0011 | 0b0110 | 0b0111 => rest,
        0b0001 => linked_to.map_or(0, |p| rest | ((p as u64) << 16)),
        _ => 0,
    }
}

/// Returns the same for a watchpoint: BT[0] is WT.
fn expected_watchpoint(control: u64, linked_to: Option<usize>) -> u64 {
    let rest = control & !(0b1110 << 20) & !DBGWCRn_EL1_LBN_MASK;

    match control >> DBGWCRn_EL1_WT_SHIFT & 1 == 1 {
        _ if control & 1 == 0 => 0,
        true => linked_to.map_or(0, |p| rest | ((p as u64) << 16)),
        false => rest,
    }
}

#[test]
fn every_type_and_link_in_every_mapping() {
    for mapping in mappings() {
        let guest = guest(mapping);
        for control in controls() {
            let lbn = (control >> DBGBCRn_EL1_LBN_SHIFT) as usize % 16;
            let linked_to = mapping
                .physical(lbn)
                .filter(|_| mapping.vm().is_context_aware(lbn));
            for n in 0..mapping.vm().breakpoints() {
                assert_eq!(
                    guest.breakpoint(n, control.into()).into_raw(),
                    expected_breakpoint(mapping, n, control, linked_to),
                    "{mapping:?} {n} {control:#x}"
                );
            }
            let expected = expected_watchpoint(control, linked_to);
            assert_eq!(guest.watchpoint(3, control.into()).into_raw(), expected);
            assert_eq!(guest.watchpoint(4, control.into()).into_raw(), 0);
        }
    }
}

/// All other bits pass through unchanged, and reserved bits read as 0: tested for every single
/// bit, and for all of them.
#[test]
fn every_bit() {
    let guest = features(topology(4, 2));
    let breakpoint = |n, value: u64| guest.kept_breakpoint(n, value.into()).into_raw();
    let watchpoint = |value: u64| guest.kept_watchpoint(value.into()).into_raw();

    for bit in 0..64 {
        let value = 1u64 << bit;
        let kept = matches!(bit, 0..=2 | 13..=20 | 22);
        let bas = matches!(bit, 5 | 7);
        let expected = value * u64::from(kept) + 3 * value * u64::from(bas);
        assert_eq!(breakpoint(0, value), expected, "{bit}");
        let context = value * u64::from(matches!(bit, 21 | 23));
        assert_eq!(breakpoint(2, value), expected + context, "{bit}");
        let kept = matches!(bit, 0..=20 | 24..=28);
        assert_eq!(watchpoint(value), value * u64::from(kept));
    }
    assert_eq!(breakpoint(3, u64::MAX), 0x00ff_e1e7);
    assert_eq!(breakpoint(0, u64::MAX), 0x005f_e1e7);
    assert_eq!(watchpoint(u64::MAX), 0x1f1f_ffff);
}

/// The address of a watchpoint has no bits 1:0; a breakpoint's register keeps all bits.
#[test]
fn every_bit_of_an_address() {
    let guest = features(topology(4, 2));

    for bit in 0..64 {
        let value = 1u64 << bit;
        let mut view = Registers::default();
        (view.dbg_wvr[1], view.dbg_bvr[1]) = (value, value);
        guest.keep(Register::WatchpointValue(1), &mut view);
        guest.keep(Register::BreakpointValue(1), &mut view);
        assert_eq!(view.dbg_wvr[1], value * u64::from(bit > 1));
        assert_eq!(view.dbg_bvr[1], value);
    }
}

/// The values are those that a bare machine with 6/2 breakpoints and AArch32 at EL0 reads back.
#[test]
fn as_a_machine_reads_back() {
    let host = features(topology(6, 2));

    for (n, written, read) in [(3, 0xe4_0067, 0x44_0067), (0, 0x74_01e5, 0x54_01e5)] {
        assert_eq!(host.kept_breakpoint(n, written.into()).into_raw(), read);
    }
}

#[test]
fn bas_is_for_aarch32() {
    let mut guest = features(topology(4, 2));

    assert_eq!(
        guest.kept_breakpoint(0, (0b0100 << 5).into()).into_raw(),
        0b1100 << 5
    );
    assert_eq!(guest.kept_breakpoint(0, (0b1010 << 5).into()).into_raw(), 0);
    guest.aarch32 = false;
    assert_eq!(
        guest.kept_breakpoint(0, (0b0100 << 5).into()).into_raw(),
        0b1111 << 5
    );
}

#[test]
fn contextidr_types_need_the_feature() {
    let control = |bt: u64| (bt << DBGBCRn_EL1_BT_SHIFT) | 0x1e7;

    for bt in [0b0110, 0b0111] {
        let with = features(topology(4, 2));
        let without = Features {
            contextidr_types: false,
            ..with
        };
        let breakpoint = |features| {
            Guest::new(features, topology(6, 2))
                .unwrap()
                .breakpoint(2, control(bt).into())
                .into_raw()
        };
        assert_eq!(breakpoint(with), control(bt));
        assert_eq!(breakpoint(without), 0);
        assert_eq!(
            without.kept_breakpoint(2, control(bt).into()).into_raw(),
            control(bt)
        );
    }
}

#[test]
fn registers_of_a_trap() {
    let guest = features(topology(4, 2));

    for op2 in 0..=u8::MAX {
        for crm in 0..=u8::MAX {
            let register = Register::new(op2, crm);
            assert_eq!(
                register.is_some(),
                (4..8).contains(&op2) && crm < 16,
                "{op2} {crm}"
            );
            assert!(register.is_none_or(|it| it.encoding() == (op2, crm)));
            // Four breakpoints and four watchpoints.
            assert_eq!(
                register.is_some_and(|it| guest.has(it)),
                register.is_some() && crm < 4
            );
        }
    }
}

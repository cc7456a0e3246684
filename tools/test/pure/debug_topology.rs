// SPDX-License-Identifier: GPL-2.0

//! Tests of `arch/arm64/kvm/debug_topology/{topology,control}.rs` on the build host.

#![allow(dead_code, non_camel_case_types)]

#[path = "../../../arch/arm64/kvm/debug_topology/control.rs"]
mod control;
#[path = "../../../arch/arm64/kvm/debug_topology/topology.rs"]
mod topology;
#[allow(non_upper_case_globals)]
mod sysreg {
    include!(env!("SYSREG_CONSTS"));
}

/// `struct kvm_guest_debug_arch`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Registers {
    dbg_bcr: [u64; 16],
    dbg_bvr: [u64; 16],
    dbg_wcr: [u64; 16],
    dbg_wvr: [u64; 16],
}

use control::*;
use sysreg::*;
use topology::*;

/// ID_AA64DFR0_EL1 with these fields.
fn dfr0(brps: usize, ctx_cmps: usize) -> u64 {
    ((brps as u64) << ID_AA64DFR0_EL1_BRPs_SHIFT)
        | ((ctx_cmps as u64) << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT)
}

/// `breakpoints` of which `context_aware` are.
fn topology(breakpoints: usize, context_aware: usize) -> Topology {
    Topology::of(dfr0(breakpoints - 1, context_aware - 1))
}

/// Every topology that an implementation may have.
fn topologies() -> impl Iterator<Item = Topology> {
    (2..=MAX).flat_map(|b| (1..=b).map(move |c| topology(b, c)))
}

/// Every pair that has a mapping.
fn mappings() -> impl Iterator<Item = Mapping> {
    topologies().flat_map(|vm| topologies().filter_map(move |cpu| Mapping::new(vm, cpu)))
}

fn features(topology: Topology) -> Features {
    Features {
        topology,
        watchpoints: 4,
        contextidr_types: true,
        aarch32: true,
    }
}

fn guest(mapping: Mapping) -> Guest {
    Guest::new(features(mapping.vm()), mapping.cpu()).unwrap()
}

mod counts {
    use super::*;

    #[test]
    fn every_value_of_both_fields() {
        for brps in 0..16 {
            for ctx_cmps in 0..16 {
                // The other fields make no difference.
                for rest in [0, !dfr0(15, 15)] {
                    let it = Topology::of(dfr0(brps, ctx_cmps) | rest);
                    assert_eq!(it.breakpoints(), brps + 1);
                    assert_eq!(it.context_aware(), ctx_cmps.min(brps) + 1);
                }
            }
        }
    }

    #[test]
    fn context_aware_ones_are_the_highest_numbered() {
        for it in topologies() {
            let mine: Vec<_> = (0..2 * MAX).filter(|n| it.is_context_aware(*n)).collect();
            let last: Vec<_> = (it.breakpoints() - it.context_aware()..it.breakpoints()).collect();
            assert_eq!(mine, last);
        }
    }

    /// Every value that user space may try, against every default.
    #[test]
    fn every_pair_that_userspace_may_try() {
        for limit in 0..256 {
            for value in 0..256 {
                let (brps, ctx_cmps) = (value % 16, value / 16);
                let expected = value == limit || (brps >= 1 && ctx_cmps <= brps);
                for rest in [0, !dfr0(15, 15)] {
                    assert_eq!(
                        is_valid(dfr0(brps, ctx_cmps) | rest, dfr0(limit % 16, limit / 16)),
                        expected
                    );
                }
            }
        }
    }
}

/// What ID_AA64DFR0_EL1 and ID_AA64DFR1_EL1 mean, written from the Arm ARM (D2.8.1, D2.8.3, D24.2.80,
/// D24.2.81) by somebody who had not seen the code.
mod identification {
    use super::*;

    /// DFR0.{BRPs, CTX_CMPs}, DFR1.{BRPs, CTX_CMPs}.
    type Fields = (u64, u64, u64, u64);

    /// Registers of the first bank; the first context-aware breakpoint; one past the last.
    type Meaning = (usize, usize, usize);

    /// [`None`] is for values that no implementation has. Rows marked `[id]` follow from the
    /// descriptions of the ID registers alone: D2.8.3 has no such machine. `[lit]`: by the letter
    /// of one sentence.
    #[rustfmt::skip]
    const ROWS: &[(Fields, Option<Meaning>)] = &[
    // 1. ID_AA64DFR1_EL1 fields zero (no Debugv8p9, or Debugv8p9 with 16 or fewer): DFR0.BRPs + 1 breakpoints,
    //    the highest numbered CTX_CMPs + 1 of them are context-aware.
    ((1, 0, 0, 0), Some((2, 1, 2))),
    ((1, 1, 0, 0), Some((2, 0, 2))),
    ((2, 0, 0, 0), Some((3, 2, 3))),
    ((3, 1, 0, 0), Some((4, 2, 4))),
    ((5, 1, 0, 0), Some((6, 4, 6))),
    ((5, 5, 0, 0), Some((6, 0, 6))),
    ((7, 3, 0, 0), Some((8, 4, 8))),
    ((9, 3, 0, 0), Some((10, 6, 10))),
    ((14, 0, 0, 0), Some((15, 14, 15))),
    ((14, 14, 0, 0), Some((15, 0, 15))),
    ((15, 0, 0, 0), Some((16, 15, 16))),
    ((15, 1, 0, 0), Some((16, 14, 16))),
    ((15, 14, 0, 0), Some((16, 1, 16))),
    ((15, 15, 0, 0), Some((16, 0, 16))),

    // 2. DFR1 nonzero but still 16 or fewer breakpoints; DFR1.BRPs repeats DFR0.BRPs (0 or the same is permitted).
    ((5, 1, 5, 0), Some((6, 4, 6))),
    ((5, 1, 5, 1), Some((6, 4, 6))),
    ((1, 0, 1, 0), Some((2, 1, 2))),
    ((15, 3, 15, 3), Some((16, 12, 16))),
    ((15, 15, 15, 15), Some((16, 0, 16))),

    // 3. 17..64 breakpoints, 16 or fewer context-aware, ending at index 15.
    ((15, 0, 16, 0), Some((16, 15, 16))),
    ((15, 1, 16, 1), Some((16, 14, 16))),
    ((15, 3, 19, 0), Some((16, 12, 16))),
    ((15, 3, 31, 3), Some((16, 12, 16))),
    ((15, 7, 47, 0), Some((16, 8, 16))),
    ((15, 14, 32, 14), Some((16, 1, 16))),
    ((15, 0, 63, 0), Some((16, 15, 16))),
    ((15, 3, 63, 3), Some((16, 12, 16))),

    // 4. 17..64 breakpoints, exactly 16 context-aware: 0..15. DFR1.CTX_CMPs is 0 or 15.
    ((15, 15, 16, 0), Some((16, 0, 16))),
    ((15, 15, 16, 15), Some((16, 0, 16))),
    ((15, 15, 63, 0), Some((16, 0, 16))),
    ((15, 15, 63, 15), Some((16, 0, 16))),

    // 5. More than 16 context-aware: numbered from 0, so every one of bank 0 is.
    ((15, 15, 16, 16), Some((16, 0, 16))),
    ((15, 15, 20, 17), Some((16, 0, 16))),
    ((15, 15, 31, 16), Some((16, 0, 16))),
    ((15, 15, 32, 32), Some((16, 0, 16))),
    ((15, 15, 63, 31), Some((16, 0, 16))),
    ((15, 15, 63, 63), Some((16, 0, 16))),

    // 6. 17..64 breakpoints, context-aware ones end at DFR0.BRPs < 15.
    ((1, 0, 16, 0), Some((16, 1, 2))),        // [id]
    ((1, 1, 63, 1), Some((16, 0, 2))),        // [id]
    ((5, 1, 16, 0), Some((16, 4, 6))),        // [id]
    ((5, 1, 31, 1), Some((16, 4, 6))),        // [id]
    ((5, 5, 63, 0), Some((16, 0, 6))),        // [id]
    ((9, 3, 19, 0), Some((16, 6, 10))),       // [id]
    ((11, 3, 47, 3), Some((16, 8, 12))),      // [id]
    ((14, 0, 16, 0), Some((16, 14, 15))),     // [id]
    ((14, 14, 63, 14), Some((16, 0, 15))),    // [id]

    // 7. 16 or fewer breakpoints, context-aware ones end below the top (DFR1.BRPs > DFR0.BRPs).
    ((5, 1, 9, 0), Some((10, 4, 6))),         // [id]
    ((5, 1, 15, 1), Some((16, 4, 6))),        // [id]
    ((1, 0, 2, 0), Some((3, 1, 2))),          // [id]
    ((14, 3, 15, 0), Some((16, 11, 15))),     // [id]

    // 8. Illegal: DFR0.BRPs 0b0000 is reserved, whatever the rest says.
    ((0, 0, 0, 0), None),
    ((0, 0, 1, 0), None),
    ((0, 0, 16, 0), None),
    ((0, 15, 63, 31), None),

    // 9. Illegal: DFR0.CTX_CMPs greater than DFR0.BRPs.
    ((1, 2, 0, 0), None),
    ((5, 6, 0, 0), None),
    ((14, 15, 0, 0), None),
    ((14, 15, 31, 0), None),
    ((14, 15, 31, 31), None),        // more than 16 context-aware needs both DFR0 fields 0b1111

    // 10. Illegal: DFR1.BRPs nonzero but less than DFR0.BRPs.
    ((5, 1, 4, 0), None),
    ((15, 3, 14, 3), None),
    ((15, 0, 1, 0), None),

    // 11. Illegal: DFR1.CTX_CMPs greater than DFR1.BRPs.
    ((15, 15, 20, 21), None),
    ((15, 15, 16, 63), None),
    ((15, 15, 0, 31), None),
    ((5, 1, 0, 1), None),            // [lit] 1 > DFR1.BRPs == 0

    // 12. Illegal: DFR1.CTX_CMPs nonzero, 16 or fewer, and not the same as DFR0.CTX_CMPs.
    ((15, 7, 31, 8), None),
    ((15, 3, 31, 1), None),
    ((15, 15, 31, 14), None),
    ((5, 1, 5, 2), None),

    // 13. Illegal: DFR1.CTX_CMPs says more than 16, DFR0.CTX_CMPs is not 0b1111.
    ((15, 7, 31, 31), None),
    ((15, 14, 63, 16), None),
    ((5, 1, 31, 16), None),

    // 14. Illegal: DFR1 values above 0x3F are reserved.
    ((15, 3, 64, 0), None),
    ((15, 3, 255, 3), None),
    ((15, 15, 63, 64), None),
    ((15, 15, 255, 255), None),
    ];

    fn registers((brps, ctx_cmps, brps1, ctx_cmps1): Fields) -> (u64, u64) {
        let rest = !(ID_AA64DFR0_EL1_BRPs_MASK | ID_AA64DFR0_EL1_CTX_CMPs_MASK);
        (
            (brps << ID_AA64DFR0_EL1_BRPs_SHIFT)
                | (ctx_cmps << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT)
                | rest,
            (brps1 << ID_AA64DFR1_EL1_BRPs_SHIFT) | (ctx_cmps1 << ID_AA64DFR1_EL1_CTX_CMPs_SHIFT),
        )
    }

    #[test]
    fn every_row_of_the_manual() {
        for (fields, meaning) in ROWS {
            let Some((registers_of_bank, first, end)) = *meaning else {
                continue;
            };
            let (dfr0, dfr1) = registers(*fields);
            let it = Topology::of(dfr0);
            assert_eq!(it.ordinary()..it.breakpoints(), first..end, "{fields:?}");
            assert_eq!(
                last_breakpoint(dfr0, dfr1) + 1,
                registers_of_bank,
                "{fields:?}"
            );
        }
    }

    /// What no implementation has does no harm either.
    #[test]
    fn every_value_is_within_the_bank() {
        for brps in 0..16 {
            for ctx_cmps in 0..16 {
                for brps1 in 0..256 {
                    let (dfr0, dfr1) = registers((brps, ctx_cmps, brps1, brps1));
                    assert!(Topology::of(dfr0).breakpoints() <= MAX);
                    assert!(last_breakpoint(dfr0, dfr1) < MAX);
                }
            }
        }
    }

    /// Watchpoints: ID_AA64DFR1_EL1.WRPs is their number less one, unless it is 0.
    #[test]
    fn watchpoints() {
        for (wrps, wrps1, last) in [
            (3, 0, 3),
            (15, 0, 15),
            (3, 3, 3),
            (15, 16, 15),
            (15, 63, 15),
            (3, 9, 9),
        ] {
            let dfr0 = wrps << ID_AA64DFR0_EL1_WRPs_SHIFT;
            let dfr1 = wrps1 << ID_AA64DFR1_EL1_WRPs_SHIFT;
            assert_eq!(last_watchpoint(dfr0, dfr1), last);
        }
    }
}

mod mapping {
    use super::*;

    #[test]
    fn every_pair_of_topologies() {
        for vm in topologies() {
            for cpu in topologies() {
                let expected = vm != cpu
                    && vm.breakpoints() <= cpu.breakpoints()
                    && vm.context_aware() <= cpu.context_aware();
                assert_eq!(Mapping::new(vm, cpu).is_some(), expected, "{vm:?} {cpu:?}");
            }
        }
    }

    /// Each breakpoint has one of the CPU's to itself, and it can do what it must.
    #[test]
    fn every_breakpoint_of_every_mapping() {
        for it in mappings() {
            let physical: Vec<_> = (0..it.vm().breakpoints())
                .map(|n| it.physical(n).unwrap())
                .collect();

            assert!(physical.windows(2).all(|two| two[0] < two[1]), "{it:?}");
            for (n, p) in physical.iter().enumerate() {
                assert!(*p < it.cpu().breakpoints());
                assert!(!it.vm().is_context_aware(n) || it.cpu().is_context_aware(*p));
            }
            for n in it.vm().breakpoints()..2 * MAX {
                assert_eq!(it.physical(n), None);
            }
        }
    }

    #[test]
    fn as_the_specification_has_it() {
        let physical = |vm, cpu| {
            let it = Mapping::new(vm, cpu).unwrap();
            (0..MAX).map_while(|n| it.physical(n)).collect::<Vec<_>>()
        };

        assert_eq!(physical(topology(4, 2), topology(6, 2)), [0, 1, 4, 5]);
        assert_eq!(physical(topology(5, 1), topology(6, 2)), [0, 1, 2, 3, 5]);
        assert_eq!(physical(topology(2, 1), topology(6, 2)), [0, 5]);
        assert_eq!(physical(topology(2, 2), topology(6, 2)), [4, 5]);
        assert_eq!(physical(topology(6, 1), topology(6, 2)), [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            physical(topology(6, 2), topology(16, 4)),
            [0, 1, 2, 3, 14, 15]
        );
    }
}

mod control_registers {
    use super::*;

    /// The bits that decide what becomes of DBGBCR<n>_EL1: E, BAS, LBN and BT.
    fn controls() -> impl Iterator<Item = u64> {
        (0..2 * 4 * 16 * 16).map(|bits: u64| {
            let (e, bas) = (
                bits & 1,
                [0b0011, 0b1100, 0b1111, 0][bits as usize >> 1 & 3],
            );
            e | (bas << DBGBCRn_EL1_BAS_SHIFT) | ((bits >> 3) << DBGBCRn_EL1_LBN_SHIFT)
        })
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
                    let bt = (control >> DBGBCRn_EL1_BT_SHIFT) % 16;
                    let bt = if mapping.vm().is_context_aware(n) {
                        bt
                    } else {
                        bt & 0b0101
                    };
                    let types = !(DBGBCRn_EL1_BT_MASK | DBGBCRn_EL1_LBN_MASK);
                    let rest = (control & types) | (bt << DBGBCRn_EL1_BT_SHIFT);
                    let expected = match bt {
                        _ if control & 1 == 0 => 0,
                        0b0000 | 0b0010 | 0b0011 | 0b0110 | 0b0111 => rest,
                        0b0001 => linked_to.map_or(0, |p| rest | ((p as u64) << 16)),
                        _ => 0,
                    };
                    assert_eq!(
                        guest.breakpoint(n, control),
                        expected,
                        "{mapping:?} {n} {control:#x}"
                    );
                }
                // The same fields, as those of a watchpoint: BT[0] is WT.
                let wt = control >> DBGWCRn_EL1_WT_SHIFT & 1 == 1;
                let rest = control & !(0b1110 << 20) & !DBGWCRn_EL1_LBN_MASK;
                let expected = match wt {
                    _ if control & 1 == 0 => 0,
                    true => linked_to.map_or(0, |p| rest | ((p as u64) << 16)),
                    false => rest,
                };
                assert_eq!(guest.watchpoint(3, control), expected);
                assert_eq!(guest.watchpoint(4, control), 0);
            }
        }
    }

    /// A value passes through unless something above says otherwise, and reserved bits
    /// read as 0: every bit on its own, and all of them.
    #[test]
    fn every_bit() {
        let guest = features(topology(4, 2));

        for bit in 0..64 {
            let value = 1u64 << bit;
            let kept = matches!(bit, 0..=2 | 13..=20 | 22);
            let bas = matches!(bit, 5 | 7);
            let expected = value * u64::from(kept) + 3 * value * u64::from(bas);
            assert_eq!(guest.kept_breakpoint(0, value), expected, "{bit}");
            let context = value * u64::from(matches!(bit, 21 | 23));
            assert_eq!(guest.kept_breakpoint(2, value), expected + context, "{bit}");
            let watchpoint = matches!(bit, 0..=20 | 24..=28);
            assert_eq!(guest.kept_watchpoint(value), value * u64::from(watchpoint));
            let mut view = Registers::default();
            (view.dbg_wvr[1], view.dbg_bvr[1]) = (value, value);
            guest.keep(Register::WatchpointValue(1), &mut view);
            guest.keep(Register::BreakpointValue(1), &mut view);
            assert_eq!(view.dbg_wvr[1], value * u64::from(bit > 1));
            assert_eq!(view.dbg_bvr[1], value);
        }
        assert_eq!(guest.kept_breakpoint(3, u64::MAX), 0x00ff_e1e7);
        assert_eq!(guest.kept_breakpoint(0, u64::MAX), 0x005f_e1e7);
        assert_eq!(guest.kept_watchpoint(u64::MAX), 0x1f1f_ffff);
    }

    /// What a bare machine with 6/2 breakpoints and AArch32 at EL0 reads back.
    #[test]
    fn as_a_machine_reads_back() {
        let host = features(topology(6, 2));

        for (n, written, read) in [(3, 0xe4_0067, 0x44_0067), (0, 0x74_01e5, 0x54_01e5)] {
            assert_eq!(host.kept_breakpoint(n, written), read);
        }
    }

    #[test]
    fn bas_is_for_aarch32() {
        let mut guest = features(topology(4, 2));

        assert_eq!(guest.kept_breakpoint(0, 0b0100 << 5), 0b1100 << 5);
        assert_eq!(guest.kept_breakpoint(0, 0b1010 << 5), 0);
        guest.aarch32 = false;
        assert_eq!(guest.kept_breakpoint(0, 0b0100 << 5), 0b1111 << 5);
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
                    .breakpoint(2, control(bt))
            };
            assert_eq!(breakpoint(with), control(bt));
            assert_eq!(breakpoint(without), 0);
            assert_eq!(without.kept_breakpoint(2, control(bt)), control(bt));
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
}

mod images {
    use super::*;

    /// Small numbers that look random, the same in every run.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }
    }

    fn random(random: &mut Random) -> Registers {
        let mut registers = Registers::default();
        for n in 0..16 {
            registers.dbg_bcr[n] = random.next();
            registers.dbg_bvr[n] = random.next();
            registers.dbg_wcr[n] = random.next();
            registers.dbg_wvr[n] = random.next();
        }
        registers
    }

    /// Registers one by one, in any order, come to the same as all at once; what stands
    /// for nothing is disabled; what is not the VM's is left alone.
    #[test]
    fn in_any_order() {
        let mut seed = Random(1);
        for mapping in mappings() {
            let guest = guest(mapping);
            let written = random(&mut seed);
            let (mut view, mut whole) = (written.clone(), random(&mut seed));
            guest.derive(&mut view, &mut whole);

            let (mut kept, mut image) = (written.clone(), Registers::default());
            let mut order: Vec<(u8, u8)> = (4..8)
                .flat_map(|op2| (0..16).map(move |crm| (op2, crm)))
                .collect();
            for i in (1..order.len()).rev() {
                order.swap(i, seed.next() as usize % (i + 1));
            }
            for (op2, crm) in order {
                let register = Register::new(op2, crm).unwrap();
                let has = features(mapping.vm()).has(register);
                if has {
                    features(mapping.vm()).keep(register, &mut kept);
                }
                let done = guest.update(register, &kept, &mut image);
                assert_eq!(done.is_some(), has);
            }
            assert_eq!((&view, &whole), (&kept, &image));

            // A second time changes nothing: what is read back can be written.
            let again = view.clone();
            guest.derive(&mut view, &mut whole);
            assert_eq!((&view, &whole), (&again, &image));

            let used: Vec<_> = (0..16).filter_map(|n| mapping.physical(n)).collect();
            for p in (0..16).filter(|p| !used.contains(p)) {
                assert_eq!((whole.dbg_bcr[p], whole.dbg_bvr[p]), (0, 0));
            }
            for n in mapping.vm().breakpoints()..16 {
                assert_eq!(view.dbg_bcr[n], written.dbg_bcr[n]);
            }
            assert_eq!(view.dbg_bvr, written.dbg_bvr);
            for n in 0..16 {
                let kept = written.dbg_wvr[n] & if n < 4 { !3 } else { !0 };
                assert_eq!(view.dbg_wvr[n], kept);
            }
        }
    }
}

/// The architecture's rules for what matches, for both sides of a mapping.
mod matches {
    use super::{images::Random, *};

    /// What a CPU of `topology` does at `address`, in a context, with `registers`.
    fn breakpoint(topology: Topology, registers: &Registers, address: u64, context: u64) -> bool {
        let field =
            |n: usize, shift: u32, bits: u32| registers.dbg_bcr[n] >> shift & ((1 << bits) - 1);
        let context_matches = |n: usize, linked: bool| {
            field(n, 0, 1) == 1
                && topology.is_context_aware(n)
                && match field(n, 20, 4) {
                    0b0010 | 0b0110 => !linked && registers.dbg_bvr[n] == context,
                    0b0011 | 0b0111 => registers.dbg_bvr[n] == context,
                    // The CPU has EL2: what compares its registers may match.
                    8.. => true,
                    _ => false,
                }
        };

        (0..topology.breakpoints()).any(|n| {
            field(n, 0, 1) == 1
                && match field(n, 20, 4) {
                    0b0000 => registers.dbg_bvr[n] == address,
                    0b0001 => {
                        registers.dbg_bvr[n] == address
                            && context_matches(field(n, 16, 4) as usize, true)
                    }
                    bt if bt & 1 == 0 => context_matches(n, false),
                    8.. => context_matches(n, false),
                    _ => false,
                }
        })
    }

    fn watchpoint(topology: Topology, registers: &Registers, address: u64, context: u64) -> bool {
        (0..4).any(|n| {
            let control = registers.dbg_wcr[n];
            let lbn = (control >> 16) as usize % 16;
            control & 1 == 1
                && registers.dbg_wvr[n] == address
                && (control >> 20 & 1 == 0
                    || (topology.is_context_aware(lbn)
                        && registers.dbg_bcr[lbn] & 1 == 1
                        && matches!(registers.dbg_bcr[lbn] >> 20 & 15, 0b0011 | 0b0111 | 8..)
                        && (registers.dbg_bcr[lbn] >> 20 & 8 != 0
                            || registers.dbg_bvr[lbn] == context)))
        })
    }

    /// A VM with four values in use, dense enough for links to meet.
    fn random(seed: &mut Random, types: &[u64]) -> Registers {
        let mut registers = Registers::default();
        for n in 0..16 {
            let bits = seed.next();
            let bt = types[(bits >> 8) as usize % types.len()];
            registers.dbg_bcr[n] = (bits & 1) | (bt << 20) | (bits & 0xf_0000);
            registers.dbg_bvr[n] = bits >> 32 & 3;
            registers.dbg_wcr[n] = (bits >> 1 & 1) | (bits >> 40 & 1) << 20 | bits >> 8 & 0xf_0000;
            registers.dbg_wvr[n] = bits >> 34 & 3;
        }
        registers
    }

    /// A CPU with the VM's topology, and a larger one with the image, agree on every hit.
    #[test]
    fn as_on_a_cpu_of_that_topology() {
        let mut seed = Random(7);
        let (mut hits, mut misses) = (0, 0);
        for mapping in mappings() {
            let guest = guest(mapping);
            for _ in 0..20 {
                let mut view = random(&mut seed, &[0, 0, 1, 1, 2, 3, 3, 6, 7]);
                let mut image = Registers::default();
                guest.derive(&mut view, &mut image);
                for (address, context) in (0..16).map(|i| (i / 4, i % 4)) {
                    let native = (
                        breakpoint(mapping.vm(), &view, address, context),
                        watchpoint(mapping.vm(), &view, address, context),
                    );
                    let mapped = (
                        breakpoint(mapping.cpu(), &image, address, context),
                        watchpoint(mapping.cpu(), &image, address, context),
                    );
                    assert_eq!(native, mapped, "{mapping:?} {view:x?}");
                    hits += usize::from(native.0) + usize::from(native.1);
                    misses += usize::from(!native.0) + usize::from(!native.1);
                }
            }
        }
        // Enough of both for the comparison to mean something.
        assert!(hits > 100_000 && misses > 100_000, "{hits} {misses}");
    }

    /// Types that name registers of EL2 match nothing, whatever the CPU's hold.
    #[test]
    fn nothing_of_el2() {
        let mut seed = Random(9);
        for mapping in mappings() {
            let guest = guest(mapping);
            let mut view = random(&mut seed, &[8, 9, 10, 11, 12, 13, 14, 15]);
            // As breakpoints that are not context-aware they would be others.
            for n in 0..mapping.vm().ordinary() {
                view.dbg_bcr[n] = 0;
            }
            view.dbg_wcr
                .iter_mut()
                .for_each(|control| *control |= 1 << 20);
            let mut image = Registers::default();
            guest.derive(&mut view, &mut image);
            for (address, context) in (0..16).map(|i| (i / 4, i % 4)) {
                assert!(!breakpoint(mapping.cpu(), &image, address, context));
                assert!(!watchpoint(mapping.cpu(), &image, address, context));
            }
        }
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Compares matches on both sides of a mapping, by a model of the architecture's rules.

use super::{images::Random, *};

/// Returns whether a breakpoint matches at `address` in `context`, on a CPU with this topology and
/// these registers.
fn breakpoint(topology: Topology, registers: &Registers, address: u64, context: u64) -> bool {
    let field = |n: usize, shift: u32, bits: u32| registers.dbg_bcr[n] >> shift & ((1 << bits) - 1);
    let context_matches = |n: usize, linked: bool| {
        field(n, 0, 1) == 1
            && topology.is_context_aware(n)
            && match field(n, 20, 4) {
                0b0010 | 0b0110 => !linked && registers.dbg_bvr[n] == context,
                0b0011 | 0b0111 => registers.dbg_bvr[n] == context,
                // The CPU has EL2: types that compare EL2's registers may match.
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

/// Returns random registers of a VM. Few values are in use, so that links often match.
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

/// A CPU with the VM's topology and a larger CPU with the image match at the same addresses.
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
    // Both must occur often enough for a meaningful comparison.
    assert!(hits > 100_000 && misses > 100_000, "{hits} {misses}");
}

/// Types that name registers of EL2 match nothing, whatever these registers hold.
#[test]
fn nothing_of_el2() {
    let mut seed = Random(9);
    for mapping in mappings() {
        let guest = guest(mapping);
        let mut view = random(&mut seed, &[8, 9, 10, 11, 12, 13, 14, 15]);
        // In breakpoints that are not context-aware, BT would be another type.
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

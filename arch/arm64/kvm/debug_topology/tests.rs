// SPDX-License-Identifier: GPL-2.0

//! Tests of the pure modules of this component, built for the build host.
//!
//! This crate root is beside that of the component, so that both find the same modules. The
//! modules use a small `kernel` crate for tests, with the kernel's `bitfield`, `num` and
//! `arm64::sysreg`: `rustc --test --extern kernel`. Expected values use the constants of
//! `sysreg-consts.rs`, whose path is in `SYSREG_CONSTS`.

#![allow(dead_code, non_camel_case_types)]

mod topology;
mod translate;
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

use sysreg::*;
use topology::*;
use translate::*;

mod tests {
    use super::*;

    mod control_registers;
    mod identification;
    mod matches;
}

/// Returns ID_AA64DFR0_EL1 with these fields.
fn dfr0(brps: usize, ctx_cmps: usize) -> u64 {
    ((brps as u64) << ID_AA64DFR0_EL1_BRPs_SHIFT)
        | ((ctx_cmps as u64) << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT)
}

/// Returns the topology with these counts.
fn topology(breakpoints: usize, context_aware: usize) -> Topology {
    Topology::of(dfr0(breakpoints - 1, context_aware - 1).into())
}

/// Returns every topology that an implementation may have.
fn topologies() -> impl Iterator<Item = Topology> {
    (2..=MAX).flat_map(|b| (1..=b).map(move |c| topology(b, c)))
}

/// Returns the mapping of every pair that has one.
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
                // The other fields have no effect.
                for rest in [0, !dfr0(15, 15)] {
                    let it = Topology::of((dfr0(brps, ctx_cmps) | rest).into());
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

    /// Tests every value that user space may try, against every default.
    #[test]
    fn every_pair_that_userspace_may_try() {
        for limit in 0..256 {
            for value in 0..256 {
                let (brps, ctx_cmps) = (value % 16, value / 16);
                let expected = value == limit || (brps >= 1 && ctx_cmps <= brps);
                for rest in [0, !dfr0(15, 15)] {
                    assert_eq!(
                        is_valid(
                            (dfr0(brps, ctx_cmps) | rest).into(),
                            dfr0(limit % 16, limit / 16).into()
                        ),
                        expected
                    );
                }
            }
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

    /// Each breakpoint maps to a different one of the CPU, which has the required abilities.
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

mod images {
    use super::*;

    /// A generator of small pseudo-random numbers, the same in every run.
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

    /// Returns op2 and CRm of all registers, in any order.
    fn any_order(seed: &mut Random) -> Vec<(u8, u8)> {
        let mut order: Vec<_> = (4..8)
            .flat_map(|op2| (0..16).map(move |crm| (op2, crm)))
            .collect();

        for i in (1..order.len()).rev() {
            order.swap(i, seed.next() as usize % (i + 1));
        }
        order
    }

    /// Asserts that a VM's registers kept their values, and that the CPU's other registers are 0.
    fn assert_rest(mapping: Mapping, written: &Registers, view: &Registers, image: &Registers) {
        let used: Vec<_> = (0..16).filter_map(|n| mapping.physical(n)).collect();

        for p in (0..16).filter(|p| !used.contains(p)) {
            assert_eq!((image.dbg_bcr[p], image.dbg_bvr[p]), (0, 0));
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

    /// Updating registers one by one, in any order, gives the same image as deriving all at
    /// once. Registers of the CPU that correspond to none of the VM are disabled, and registers
    /// that the VM does not have are left unchanged.
    #[test]
    fn in_any_order() {
        let mut seed = Random(1);
        for mapping in mappings() {
            let guest = guest(mapping);
            let written = random(&mut seed);
            let (mut view, mut whole) = (written.clone(), random(&mut seed));
            guest.derive(&mut view, &mut whole);

            let (mut kept, mut image) = (written.clone(), Registers::default());
            for (op2, crm) in any_order(&mut seed) {
                let register = Register::new(op2, crm).unwrap();
                let has = features(mapping.vm()).has(register);
                if has {
                    features(mapping.vm()).keep(register, &mut kept);
                }
                let done = guest.update(register, &kept, &mut image);
                assert_eq!(done.is_some(), has);
            }
            assert_eq!((&view, &whole), (&kept, &image));

            // A second derivation changes nothing: a value that was read back can be written.
            let again = view.clone();
            guest.derive(&mut view, &mut whole);
            assert_eq!((&view, &whole), (&again, &image));
            assert_rest(mapping, &written, &view, &whole);
        }
    }
}

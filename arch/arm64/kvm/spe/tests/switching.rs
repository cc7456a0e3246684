// SPDX-License-Identifier: GPL-2.0

//! The order in which the unit changes hands.

use super::super::{switch::*, Host, Registers};
use kernel::arm64::{
    fake::{Fake, Step},
    sysreg::*, //
};

/// The modes of KVM: whether HCR_EL2.E2H is set.
const MODES: [(bool, &str); 2] = [(true, "VHE, hVHE"), (false, "nVHE")];

const E: u64 = 1;
const S: u64 = 1 << 17;
/// MDCR_EL2: HPMN, TPM, TPMS, TDA; E2PB is the host's.
const HOST_MDCR: u64 = 6 | 1 << 6 | 1 << 14 | 1 << 9;

/// Returns registers with values that differ from each other and by `salt`.
fn registers(salt: u64, enabled: bool) -> Registers {
    Registers {
        pmscr: salt | 3,
        pmsnevfr: salt + 0x100,
        pmsicr: salt + 0x200,
        pmsirr: salt + 0x300,
        pmsfcr: salt + 0x400,
        pmsevfr: salt + 0x500,
        pmslatfr: salt + 0x600,
        pmblimitr: (salt << 12) | u64::from(enabled),
        pmbptr: salt << 10,
        pmbsr: 0,
    }
}

/// Returns a CPU whose host has these registers, and PMSCR_EL2.
fn cpu(e2h: bool, fne: bool, host: &Registers, pmscr_el2: u64) -> Fake {
    let cpu = Fake::default()
        .with(PMSICR_EL1::from_raw(host.pmsicr))
        .with(PMSIRR_EL1::from_raw(host.pmsirr))
        .with(PMSFCR_EL1::from_raw(host.pmsfcr))
        .with(PMSEVFR_EL1::from_raw(host.pmsevfr))
        .with(PMSLATFR_EL1::from_raw(host.pmslatfr))
        .with(PMBLIMITR_EL1::from_raw(host.pmblimitr))
        .with(PMBPTR_EL1::from_raw(host.pmbptr))
        .with(PMBSR_EL1::from_raw(host.pmbsr))
        .with(PMSCR_EL2::from_raw(pmscr_el2))
        .with(MDCR_EL2::from_raw(HOST_MDCR));
    // A register that is not there must not be touched.
    let cpu = if fne {
        cpu.with(PMSNEVFR_EL1::from_raw(host.pmsnevfr))
    } else {
        cpu
    };
    if e2h {
        cpu.with(PMSCR_EL12::from_raw(host.pmscr))
    } else {
        cpu.with(PMSCR_EL1::from_raw(host.pmscr))
    }
}

fn switch_of(cpu: &Fake, e2h: bool, fne: bool, fine_grained: bool) -> Switch<'_, Fake> {
    Switch {
        cpu,
        e2h,
        fne,
        fine_grained,
    }
}

/// Returns the registers of a CPU.
fn found(cpu: &Fake, e2h: bool, fne: bool) -> Registers {
    Registers {
        pmscr: if e2h {
            cpu.get::<PMSCR_EL12>()
        } else {
            cpu.get::<PMSCR_EL1>()
        },
        pmsnevfr: if fne { cpu.get::<PMSNEVFR_EL1>() } else { 0 },
        pmsicr: cpu.get::<PMSICR_EL1>(),
        pmsirr: cpu.get::<PMSIRR_EL1>(),
        pmsfcr: cpu.get::<PMSFCR_EL1>(),
        pmsevfr: cpu.get::<PMSEVFR_EL1>(),
        pmslatfr: cpu.get::<PMSLATFR_EL1>(),
        pmblimitr: cpu.get::<PMBLIMITR_EL1>(),
        pmbptr: cpu.get::<PMBPTR_EL1>(),
        pmbsr: cpu.get::<PMBSR_EL1>(),
    }
}

/// Calls `f` for each mode, with and without PMSNEVFR_EL1, with FEAT_FGT and without.
fn everywhere(f: impl Fn(bool, bool, bool)) {
    for (e2h, _) in MODES {
        for fne in [false, true] {
            for fine_grained in [false, true] {
                f(e2h, fne, fine_grained);
            }
        }
    }
}

fn place(steps: &[Step], step: Step) -> usize {
    let mut found = steps.iter().enumerate().filter(|(_, one)| **one == step);
    let (first, _) = found
        .next()
        .unwrap_or_else(|| panic!("{step:x?} in {steps:x?}"));
    first
}

fn wrote<R: SystemRegister>(steps: &[Step], value: u64) -> usize {
    place(steps, Step::Write(R::ENCODING, value))
}

/// Returns whether the context is synchronised between two steps.
fn synchronised(steps: &[Step], from: usize, to: usize) -> bool {
    from < to && steps[from..to].contains(&Step::Synchronise)
}

/// Asserts that a guest with the unit gets none of EL2's times, addresses and context
/// (PMSCR_EL2.{PCT, PA, CX}); and that, without fine-grained traps, E2PB and TPMS trap all of EL1's
/// accesses.
fn assert_el2_gives_nothing(cpu: &Fake, fine_grained: bool) {
    let mdcr = if fine_grained {
        HOST_MDCR & !(1 << 14) | 3 << 12
    } else {
        HOST_MDCR | 2 << 12
    };
    assert_eq!(cpu.get::<PMSCR_EL2>(), 0);
    assert_eq!(cpu.get::<MDCR_EL2>(), mdcr);
}

/// Asserts that the unit is off, and the host's.
fn assert_off(cpu: &Fake) {
    assert_eq!(cpu.get::<MDCR_EL2>(), HOST_MDCR);
    assert_eq!(cpu.get::<PMBLIMITR_EL1>(), 0);
    assert_eq!(cpu.get::<PMBSR_EL1>(), 0);
}

/// Gives a unit with the host's registers `own` to a guest with the registers `guest`, and back.
fn there_and_back(on: (bool, bool, bool), own: &Registers, mut guest: Registers) {
    let (e2h, fne, fine_grained) = on;
    let cpu = cpu(e2h, fne, own, 0xfb);
    let switch = switch_of(&cpu, e2h, fne, fine_grained);
    let mut host = Host::default();
    let before = guest;

    // The unit may get a part of the buffer.
    let limit = guest.pmblimitr - 0x1000;
    switch.give_to_guest(&guest, Some(limit), &mut host);
    let loaded = Registers {
        pmblimitr: limit,
        ..guest
    };
    assert_eq!(found(&cpu, e2h, fne), loaded);
    assert_el2_gives_nothing(&cpu, fine_grained);

    // The unit has gone on; the guest has written what it may.
    cpu.set(PMBPTR_EL1::from_raw(guest.pmbptr + 64));
    cpu.set(PMSFCR_EL1::from_raw(7));
    switch.take_from_guest(&mut guest, true, &host);
    assert_off(&cpu);
    let after = Registers {
        pmbptr: before.pmbptr + 64,
        pmsfcr: 7,
        ..before
    };
    assert_eq!(guest, after);
    switch.return_to_host(&host);
    assert_eq!(found(&cpu, e2h, fne), *own);
    assert_eq!(cpu.get::<PMSCR_EL2>(), 0xfb);
}

/// The guest and the host each get all their values back, and never see the other's values.
#[test]
fn everything_comes_back() {
    everywhere(|e2h, fne, fine_grained| {
        for (enabled, event) in [(false, false), (true, false), (false, true)] {
            let mut own = registers(0x10_0000, enabled);
            own.pmbsr = if event { S } else { 0 };
            let mut guest = registers(0x20_0000, true);
            if !fne {
                (own.pmsnevfr, guest.pmsnevfr) = (0, 0);
            }
            there_and_back((e2h, fne, fine_grained), &own, guest);
        }
    });
}

/// A guest whose buffer is off has no buffer, whatever its registers say.
#[test]
fn off_is_off() {
    everywhere(|e2h, fne, fine_grained| {
        let own = registers(0x10_0000, true);
        let mut guest = registers(0x20_0000, true);
        guest.pmbsr = S;
        let before = guest;
        let cpu = cpu(e2h, fne, &own, 0);
        let switch = switch_of(&cpu, e2h, fne, fine_grained);
        let mut host = Host::default();

        switch.give_to_guest(&guest, None, &mut host);
        assert_eq!(cpu.get::<PMBLIMITR_EL1>() & E, 0);
        assert_eq!(cpu.get::<PMBSR_EL1>(), 0);
        switch.take_from_guest(&mut guest, false, &host);
        assert_eq!(guest.pmbsr, before.pmbsr);
        assert_eq!(guest.pmbptr, before.pmbptr);
    });
}

/// The host's records are in memory before its buffer is disabled and before the owner changes:
/// PMSCR_EL2 = 0, ISB, PSB CSYNC, DSB, ISB, PMBLIMITR_EL1 = 0, ISB, MDCR_EL2.
#[test]
fn the_host_is_drained_first() {
    everywhere(|e2h, fne, fine_grained| {
        let own = registers(0x10_0000, true);
        let guest = registers(0x20_0000, true);
        let cpu = cpu(e2h, fne, &own, 3);
        let switch = switch_of(&cpu, e2h, fne, fine_grained);

        switch.give_to_guest(&guest, Some(guest.pmblimitr), &mut Host::default());
        let steps = cpu.take_steps();
        let off = wrote::<PMSCR_EL2>(&steps, 0);
        let drained = place(&steps, Step::CompleteProfiling);
        let disabled = wrote::<PMBLIMITR_EL1>(&steps, 0);
        let owner = wrote::<MDCR_EL2>(&steps, cpu.get::<MDCR_EL2>());
        let enabled = wrote::<PMBLIMITR_EL1>(&steps, guest.pmblimitr);
        let sampled = steps.len() - 1;
        assert!(synchronised(&steps, off, drained));
        assert!(synchronised(&steps, drained, disabled));
        assert!(synchronised(&steps, disabled, owner));
        assert!(synchronised(&steps, owner, enabled));
        // Nothing is sampled before the buffer is complete.
        assert!(synchronised(&steps, enabled, sampled));
        assert!(matches!(steps[sampled], Step::Write(_, value) if value == guest.pmscr));
    });
}

/// A host that profiles nothing costs no PSB CSYNC, which waits.
#[test]
fn an_idle_host_is_not_drained() {
    everywhere(|e2h, fne, fine_grained| {
        let cpu = cpu(e2h, fne, &registers(0x10_0000, false), 0);
        let switch = switch_of(&cpu, e2h, fne, fine_grained);

        switch.give_to_guest(&registers(0x20_0000, true), Some(E), &mut Host::default());
        assert!(!cpu.take_steps().contains(&Step::CompleteProfiling));
    });
}

/// The guest's records are in memory before its buffer, the owner or the traps change.
#[test]
fn the_guest_is_drained_first() {
    everywhere(|e2h, fne, fine_grained| {
        let cpu = cpu(e2h, fne, &registers(0x10_0000, false), 0);
        let switch = switch_of(&cpu, e2h, fne, fine_grained);
        let mut guest = registers(0x20_0000, true);
        let mut host = Host::default();

        switch.give_to_guest(&guest, Some(guest.pmblimitr), &mut host);
        cpu.take_steps();
        switch.take_from_guest(&mut guest, true, &host);
        let steps = cpu.take_steps();
        let off = if e2h {
            wrote::<PMSCR_EL12>(&steps, 0)
        } else {
            wrote::<PMSCR_EL1>(&steps, 0)
        };
        let drained = place(&steps, Step::CompleteProfiling);
        let disabled = wrote::<PMBLIMITR_EL1>(&steps, 0);
        let cleared = wrote::<PMBSR_EL1>(&steps, 0);
        let owner = wrote::<MDCR_EL2>(&steps, HOST_MDCR);
        assert_eq!(off, 0);
        assert!(synchronised(&steps, off, drained));
        assert!(synchronised(&steps, drained, disabled));
        assert!(synchronised(&steps, disabled, cleared));
        assert!(cleared < owner);

        switch.return_to_host(&host);
        let steps = cpu.take_steps();
        // The host's sampling starts once its buffer is complete.
        let enabled = wrote::<PMBLIMITR_EL1>(&steps, host.regs.pmblimitr);
        let sampled = wrote::<PMSCR_EL2>(&steps, host.pmscr_el2);
        assert!(synchronised(&steps, enabled, sampled));
    });
}

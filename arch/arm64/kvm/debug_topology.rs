// SPDX-License-Identifier: GPL-2.0

//! VMs with fewer breakpoints than the CPU that they run on.
//!
//! A VM may have fewer breakpoints because user space said so, to move it between
//! machines that differ, or because the CPUs of this machine differ from each other.
//! On a CPU that has more than the VM, accesses to the registers trap (FEAT_FGT),
//! `vcpu_debug_state` has what the guest wrote, and the CPU gets an image of it in
//! which breakpoints are where [`topology`] says and links mean what [`control`]
//! says. On other CPUs all is as it would be without this: nothing traps.
//!
//! The image is a function of `vcpu_debug_state` and of the CPU's number of
//! breakpoints. It is never read back.
//!
//! C header: [`asm/kvm_debug_topology.h`](srctree/arch/arm64/include/asm/kvm_debug_topology.h)

use kernel::{
    arm64::{
        cpufeature::{any_possible_cpu, recorded, system_has},
        sysreg::*, //
    },
    bindings::{self, kvm_guest_debug_arch as Registers},
    cpu::CpuId,
    cpucap,
    kvm::{Vcpu, Vm},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    tracepoint::declare_trace,
};

/// Register fields, as generated from `arch/arm64/tools/sysreg`.
#[allow(dead_code, missing_docs, non_upper_case_globals, unreachable_pub)]
mod sysreg {
    include!(concat!(
        env!("OBJTREE"),
        "/arch/arm64/include/generated/rust/sysreg-consts.rs"
    ));
}
#[path = "debug_topology/control.rs"]
mod control;
#[path = "debug_topology/topology.rs"]
mod topology;

use control::{has, Guest, Register};
use topology::{all_in_reach, may_be_told, Mapping, Topology, MAX};

declare_trace! {
    /// # Safety
    ///
    /// Always safe: the arguments are plain integers.
    unsafe fn kvm_debug_topology_write(
        op2: u32, number: u32, value: u64, phys_number: u32, phys_value: u64,
    );
}

/// Whether a VM's breakpoints can be mapped at all.
///
/// Without FEAT_FGT every debug register would have to trap, and in protected mode
/// what the host asks for a guest is not for the host to arrange. No CPU may have
/// context-aware breakpoints that are out of reach.
fn offered(vm: &Vm) -> bool {
    system_has(cpucap!(HAS_FGT))
        && !system_has(cpucap!(KVM_PROTECTED_MODE))
        && !vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_EL1_32BIT }>()
        && !any_possible_cpu(|cpu| {
            // The system-wide value of this register is always 0.
            recorded::<ID_AA64DFR1_EL1>(cpu).is_some_and(|dfr1| !all_in_reach(dfr1.into()))
        })
}

/// What `cpu` had when it came up; [`None`] if it never did.
fn topology_of(cpu: CpuId) -> Option<Topology> {
    let dfr0 = recorded::<ID_AA64DFR0_EL1>(cpu)?;
    let dfr1 = recorded::<ID_AA64DFR1_EL1>(cpu)?;

    Some(Topology::of_cpu(dfr0.into(), dfr1.into()))
}

/// What `vm` is told.
fn topology_of_vm(vm: &Vm) -> Topology {
    Topology::of(vm.id_register::<ID_AA64DFR0_EL1>().into())
}

/// How `vm` is to be served on `cpu`; [`None`] if without any mapping.
fn guest_on(vm: &Vm, cpu: CpuId) -> Option<Guest> {
    let dfr0 = vm.id_register::<ID_AA64DFR0_EL1>();

    Some(Guest {
        mapping: Mapping::new(Topology::of(dfr0.into()), topology_of(cpu)?)?,
        watchpoints: dfr0.watchpoints(),
        contextidr_types: dfr0.DebugVer() >= ID_AA64DFR0_EL1_DebugVer_VHE,
        aarch32: vm.id_register::<ID_AA64PFR0_EL1>().EL0() == ID_AA64PFR0_EL1_EL0_AARCH32,
    })
}

/// The breakpoint and watchpoint registers of a vCPU that is loaded on this CPU.
struct Loaded<'a> {
    /// What the guest sees.
    view: &'a mut Registers,
    /// What the CPU gets where it has more breakpoints.
    image: &'a mut Registers,
    /// The number of breakpoints that `image` is for, 0 if it is stale.
    brps: &'a mut u8,
    /// Whether the CPU gets `image`.
    in_use: &'a mut bool,
}

impl Loaded<'_> {
    /// Finds them.
    ///
    /// # Safety
    ///
    /// `vcpu` points to a vCPU that is loaded, or being loaded, on this CPU, and
    /// preemption is off: the vCPU's mutex keeps other tasks away from the registers, and
    /// loading it once more would have to preempt this.
    unsafe fn new(vcpu: *mut bindings::kvm_vcpu) -> Self {
        // SAFETY: By the caller's contract the vCPU is alive and nothing else accesses these.
        unsafe {
            Self {
                view: &mut (*vcpu).arch.vcpu_debug_state,
                image: &mut (*vcpu).arch.debug_image.regs,
                brps: &mut (*vcpu).arch.debug_image.brps,
                in_use: &mut (*vcpu).arch.debug_image.in_use,
            }
        }
    }

    /// Gets ready for `guest`; [`None`] is for a CPU where the registers are the guest's,
    /// which may change them. Returns whether there is a mapping.
    fn serve(self, guest: Option<Guest>) -> bool {
        let brps = guest.map_or(0, |guest| guest.mapping.cpu().breakpoints() as u8);

        *self.in_use = guest.is_some();
        if *self.brps != brps {
            *self.brps = brps;
            if let Some(guest) = guest {
                guest.derive(self.view, self.image);
            }
        }
        guest.is_some()
    }
}

/// Whether `f` holds for any CPU that may ever run, given what is known of it.
fn any_cpu(f: impl Fn(Option<Topology>) -> bool) -> bool {
    any_possible_cpu(|cpu| f(topology_of(cpu)))
}

/// The fields of ID_AA64DFR0_EL1 that user space may write for `kvm`, as a mask.
///
/// # Safety
///
/// `kvm` points to a VM that is alive.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_writable(kvm: *mut bindings::kvm) -> u64 {
    // SAFETY: By the caller's contract.
    if offered(unsafe { Vm::from_raw(kvm) }) {
        sysreg::ID_AA64DFR0_EL1_BRPs_MASK | sysreg::ID_AA64DFR0_EL1_CTX_CMPs_MASK
    } else {
        0
    }
}

/// Whether a VM may be told `dfr0` where `now` is what it has been told so far.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_valid(dfr0: u64, now: u64) -> bool {
    may_be_told(dfr0, now)
}

/// The number of breakpoints of `kvm` if a CPU that may run it has another one, or could
/// have: one that has not come up yet may be anything. Otherwise 0.
///
/// # Safety
///
/// `kvm` points to a VM that is alive, whose ID registers no longer change.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_may_differ(kvm: *mut bindings::kvm) -> u32 {
    // SAFETY: By the caller's contract.
    let vm = unsafe { Vm::from_raw(kvm) };
    let mine = topology_of_vm(vm).breakpoints();

    if offered(vm) && any_cpu(|cpu| cpu.is_none_or(|cpu| cpu.breakpoints() != mine)) {
        mine as u32
    } else {
        0
    }
}

/// See `kvm_debug_topology_load()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU that is being loaded on this CPU; preemption is off.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_load(vcpu: *mut bindings::kvm_vcpu) -> bool {
    // SAFETY: By the caller's contract.
    let this = unsafe { Vcpu::from_raw(vcpu) };
    let guest = this.cpu().and_then(|cpu| guest_on(this.vm(), cpu));

    // SAFETY: By the caller's contract.
    unsafe { Loaded::new(vcpu) }.serve(guest)
}

/// See `kvm_debug_topology_has()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU that is alive, of a VM that has run.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_has(
    vcpu: *mut bindings::kvm_vcpu,
    op2: u8,
    crm: u8,
) -> bool {
    // SAFETY: By the caller's contract.
    let vm = unsafe { Vcpu::from_raw(vcpu) }.vm();
    let watchpoints = vm.id_register::<ID_AA64DFR0_EL1>().watchpoints();

    Register::new(op2, crm).is_some_and(|register| has(topology_of_vm(vm), watchpoints, register))
}

/// See `kvm_debug_topology_update()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU that is loaded on this CPU, with its image in use; preemption
/// is off.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_update(
    vcpu: *mut bindings::kvm_vcpu,
    op2: u8,
    crm: u8,
) {
    // SAFETY: By the caller's contract.
    let this = unsafe { Vcpu::from_raw(vcpu) };
    let guest = this.cpu().and_then(|cpu| guest_on(this.vm(), cpu));
    let (Some(guest), Some(register)) = (guest, Register::new(op2, crm)) else {
        return;
    };
    // SAFETY: By the caller's contract.
    let loaded = unsafe { Loaded::new(vcpu) };
    let Some((phys_number, phys_value)) = guest.update(register, loaded.view, loaded.image) else {
        return;
    };
    let value = register.of(loaded.view);
    // SAFETY: The arguments are plain integers.
    unsafe {
        kvm_debug_topology_write(
            op2.into(),
            crm.into(),
            value,
            phys_number as u32,
            phys_value,
        )
    };
}

/// Prints `count` breakpoints in words.
fn show_topology(m: &SeqFile, it: Topology) {
    seq_print!(
        m,
        "{} breakpoints, {} context-aware",
        it.breakpoints(),
        it.context_aware()
    );
}

/// Prints what the VM has.
///
/// # Safety
///
/// `m` and `kvm` are valid, and `m` is not shared.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_show(
    m: *mut bindings::seq_file,
    kvm: *mut bindings::kvm,
) {
    // SAFETY: By the caller's contract.
    let (m, vm) = unsafe { (SeqFile::from_raw(m), Vm::from_raw(kvm)) };

    seq_print!(m, "VM: ");
    show_topology(m, topology_of_vm(vm));
    seq_print!(m, "\n");
}

/// Prints which of the CPU's breakpoints stand for those of the vCPU.
///
/// # Safety
///
/// `m` and `vcpu` are valid, and `m` is not shared.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_show_vcpu(
    m: *mut bindings::seq_file,
    vcpu: *mut bindings::kvm_vcpu,
) {
    // SAFETY: By the caller's contract.
    let (m, vcpu) = unsafe { (SeqFile::from_raw(m), Vcpu::from_raw(vcpu)) };

    seq_print!(m, "vCPU {}: ", vcpu.id());
    let Some((cpu, topology)) = vcpu.cpu().and_then(|cpu| Some((cpu, topology_of(cpu)?))) else {
        seq_print!(m, "not loaded\n");
        return;
    };
    seq_print!(m, "on CPU {} with ", cpu.as_u32());
    show_topology(m, topology);
    match guest_on(vcpu.vm(), cpu).filter(|_| offered(vcpu.vm())) {
        None => seq_print!(m, ": not mapped\n"),
        Some(guest) => {
            seq_print!(m, ": mapped");
            for n in 0..MAX {
                if let Some(physical) = guest.mapping.physical(n) {
                    seq_print!(m, " {n}->{physical}");
                }
            }
            seq_print!(m, "\n");
        }
    }
}

#[cfg(CONFIG_KVM_ARM64_DEBUG_TOPOLOGY_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_debug_topology)]
mod tests {
    use super::*;

    use kernel::arm64::cpufeature::sanitised;

    /// Each CPU of this machine can run a VM with the numbers that are safe for all.
    #[test]
    fn default_vm_fits_every_cpu() {
        let dfr0 = sanitised::<ID_AA64DFR0_EL1>();
        let vm = Topology::of(dfr0.into());

        assert!(!any_cpu(|cpu| cpu.is_some_and(|cpu| {
            cpu.breakpoints() < vm.breakpoints() || cpu.context_aware() < vm.context_aware()
        })));
        assert!(may_be_told(dfr0.into(), dfr0.into()));
        assert_eq!(vm.breakpoints(), dfr0.breakpoints());
        assert_eq!(vm.context_aware(), dfr0.context_aware_breakpoints());
    }

    /// The registers of a trap are those of the instruction.
    #[test]
    fn registers() {
        assert_eq!(Register::new(4, 15), Some(Register::BreakpointValue(15)));
        assert_eq!(Register::new(5, 0), Some(Register::BreakpointControl(0)));
        assert_eq!(Register::new(6, 3), Some(Register::WatchpointValue(3)));
        assert_eq!(Register::new(7, 7), Some(Register::WatchpointControl(7)));
        assert_eq!(Register::new(1, 0), None);
        assert_eq!(Register::new(4, 16), None);
    }

    /// The traps that are asked for are those of these registers.
    #[test]
    fn fine_grained_traps() {
        let traps = sysreg::HDFGRTR_EL2_DBGBCRn_EL1_MASK
            | sysreg::HDFGRTR_EL2_DBGBVRn_EL1_MASK
            | sysreg::HDFGRTR_EL2_DBGWCRn_EL1_MASK
            | sysreg::HDFGRTR_EL2_DBGWVRn_EL1_MASK;

        assert_eq!(
            traps,
            sysreg::HDFGWTR_EL2_DBGBCRn_EL1_MASK
                | sysreg::HDFGWTR_EL2_DBGBVRn_EL1_MASK
                | sysreg::HDFGWTR_EL2_DBGWCRn_EL1_MASK
                | sysreg::HDFGWTR_EL2_DBGWVRn_EL1_MASK
        );
    }

    /// A linked pair on a CPU with 16 breakpoints, as the CPU gets it.
    #[test]
    fn linked_pair() {
        use sysreg::*;

        const CONTEXT: u64 = (DBGBCRn_EL1_BT_LINKED_CONTEXT << DBGBCRn_EL1_BT_SHIFT) | 0x1e7;
        const LINKED: u64 = (DBGBCRn_EL1_BT_LINKED_ADDRESS << DBGBCRn_EL1_BT_SHIFT) | 0x1e5;
        let dfr0 = |brps: u64, ctx_cmps: u64| {
            (brps << ID_AA64DFR0_EL1_BRPs_SHIFT) | (ctx_cmps << ID_AA64DFR0_EL1_CTX_CMPs_SHIFT)
        };
        let Some(mapping) = Mapping::new(Topology::of(dfr0(5, 1)), Topology::of(dfr0(15, 1)))
        else {
            panic!("a VM with 6 breakpoints fits a CPU with 16");
        };
        let guest = Guest {
            mapping,
            watchpoints: 4,
            contextidr_types: true,
            aarch32: true,
        };
        let mut view = Registers::default();
        let mut image = Registers::default();

        view.dbg_bcr[0] = LINKED | (4 << DBGBCRn_EL1_LBN_SHIFT);
        view.dbg_bvr[0] = 0x1000;
        view.dbg_bcr[4] = CONTEXT;
        view.dbg_bvr[4] = 42;
        guest.derive(&mut view, &mut image);
        assert_eq!(image.dbg_bcr[0], LINKED | (14 << DBGBCRn_EL1_LBN_SHIFT));
        assert_eq!(image.dbg_bvr[0], 0x1000);
        assert_eq!(image.dbg_bcr[14], CONTEXT);
        assert_eq!(image.dbg_bvr[14], 42);
        assert_eq!(image.dbg_bcr[4], 0);
        assert_eq!(view.dbg_bcr[4], CONTEXT);
    }
}

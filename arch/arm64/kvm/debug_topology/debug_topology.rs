// SPDX-License-Identifier: GPL-2.0

//! VMs whose breakpoints differ from those of the CPU that they run on.
//!
//! A VM may have fewer breakpoints, or fewer context-aware ones, because userspace set
//! ID_AA64DFR0_EL1 to move the VM between machines that differ, or because the CPUs of this
//! machine differ from each other. On a CPU whose counts differ from those of the VM, accesses
//! to the registers trap (FEAT_FGT), `vcpu_debug_state` holds the values that the guest wrote,
//! and the CPU gets an image of them: [`topology`] maps the breakpoints, and [`translate`]
//! translates the control registers. On other CPUs no traps are added.
//!
//! The image is a function of `vcpu_debug_state` and of the CPU's topology. It is never read
//! back.
//!
//! # Access rules
//!
//! The ID registers of a VM stop changing when it first runs. [`kvm_debug_topology_fix`]
//! stores their fields in `kvm->arch.debug_topology`, under `config_lock`, and all code
//! that runs later reads this copy. `vcpu_debug_state`, the image and its state, and
//! `arch.debug_image`, which C reads, belong to the task that holds the vCPU's mutex. That task may
//! be preempted, and loads the vCPU again when it continues, so code that accesses them outside of
//! a load runs with preemption off.
//!
//! C header: [`asm/kvm_debug_topology.h`](srctree/arch/arm64/include/asm/kvm_debug_topology.h)

use core::ptr::null_mut;

use kernel::{
    arm64::{
        cpufeature::{any_possible_cpu, recorded, system_has},
        sysreg::*, //
    },
    bindings::{
        self,
        kvm_arch_kvm_debug_topology as Stored,
        kvm_guest_debug_arch as Registers, //
    },
    cpu::CpuId,
    cpucap,
    error::{from_result, to_result},
    kvm::{declare_traces, Vcpu, Vm},
    prelude::*,
    seq_file::SeqFile,
    seq_print,
};

mod topology;
mod translate;

use topology::{is_valid, last_breakpoint, last_watchpoint, Mapping, Topology, MAX};
use translate::{Features, Guest, Register};

declare_traces! {
    // SAFETY: It records its arguments, which are integers.
    unsafe extern {
        safe fn kvm_debug_topology_write(
            vcpu_id: i32, op2: u32, number: u32, value: u64, phys_number: u32, phys_value: u64,
        );
    }
}

/// Returns whether the breakpoints of VMs without AArch32 at EL1 can be mapped.
///
/// Without FEAT_FGT every debug register would have to trap, and in protected mode the host does
/// not set up a guest's traps.
fn supported() -> bool {
    system_has(cpucap!(HAS_FGT)) && !system_has(cpucap!(KVM_PROTECTED_MODE))
}

/// Returns whether the breakpoints of a VM can be mapped.
///
/// FEAT_FGT does not trap AArch32 at EL1. The answer for a VM changes only once: as long as the VM
/// could still get AArch32 at EL1, the answer is no.
fn offered(vm: &Vm) -> bool {
    supported()
        && !vm
            .has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_EL1_32BIT }>()
            .unwrap_or_else(|| system_has(cpucap!(HAS_32BIT_EL1)))
}

/// Returns the topology that `cpu` had when it came up; [`None`] if it has never come up.
fn topology_of(cpu: CpuId) -> Option<Topology> {
    Some(Topology::of(recorded(cpu)?))
}

/// Returns whether `f` holds for any possible CPU; its argument is the topology, if known.
fn any_cpu(f: impl Fn(Option<Topology>) -> bool) -> bool {
    any_possible_cpu(|cpu| f(topology_of(cpu)))
}

/// Returns the debug features that the ID registers of a VM describe.
fn features_of(vm: &Vm) -> Features {
    let dfr0 = vm.id_register::<ID_AA64DFR0_EL1>();

    Features {
        topology: Topology::of(dfr0),
        watchpoints: dfr0.watchpoints(),
        contextidr_types: dfr0.DebugVer() >= ID_AA64DFR0_EL1_DebugVer_VHE,
        aarch32: vm.id_register::<ID_AA64PFR0_EL1>().EL0() == ID_AA64PFR0_EL1_EL0_AARCH32,
    }
}

/// Returns the features that [`kvm_debug_topology_fix`] has stored; [`None`] for a VM with
/// AArch32 at EL1, whose debug registers are those of AArch32.
fn stored(it: Stored) -> Option<Features> {
    (it.breakpoints != 0).then(|| Features {
        topology: Topology::new(it.breakpoints.into(), it.context_aware.into()),
        watchpoints: it.watchpoints.into(),
        contextidr_types: it.contextidr_types,
        aarch32: it.aarch32,
    })
}

/// The state of an [`Image`].
#[derive(Clone, Copy, Default)]
enum State {
    /// Not known for the next load: `vcpu_debug_state` may have changed.
    #[default]
    Stale,
    /// This CPU uses `vcpu_debug_state`.
    Unmapped(CpuId),
    /// This CPU uses the image, which was derived for this guest.
    For(CpuId, Guest),
}

impl State {
    /// Returns whether a load on this CPU changes nothing.
    fn is_known_for(&self, cpu: CpuId) -> bool {
        matches!(*self, Self::Unmapped(known) | Self::For(known, _) if known == cpu)
    }
}

/// The image that a CPU uses in place of `vcpu_debug_state`: `struct kvm_debug_mapping`.
#[derive(Default)]
#[repr(C)]
struct Image {
    /// Must be first, since `kvm_vcpu_arch.debug_image` points to it.
    registers: Registers,
    state: State,
}

/// Exclusive access to the breakpoint and watchpoint registers of a vCPU.
struct Loaded<'a> {
    vcpu: &'a Vcpu,
    features: Features,
    /// The registers as the guest sees them.
    view: &'a mut Registers,
    /// Present if the vCPU may be mapped on some CPU.
    image: Option<&'a mut Image>,
}

/// Calls `f` with the registers of `vcpu`; returns [`None`] for a VM with AArch32 at EL1.
///
/// # Safety
///
/// `vcpu` is alive, of a VM that has run, and its mutex is held by this task, with preemption
/// off.
unsafe fn with_loaded<R>(
    vcpu: *mut bindings::kvm_vcpu,
    f: impl FnOnce(Loaded<'_>) -> R,
) -> Option<R> {
    // SAFETY: By the caller's contract the vCPU and its VM are alive, the topology no longer
    // changes, and no other code accesses the registers and the image before `f` returns.
    let loaded = unsafe {
        Loaded {
            vcpu: Vcpu::from_raw(vcpu),
            features: stored((*(*vcpu).kvm).arch.debug_topology)?,
            view: &mut (*vcpu).arch.vcpu_debug_state,
            image: (*vcpu).arch.debug_mapping.cast::<Image>().as_mut(),
        }
    };

    Some(f(loaded))
}

impl Loaded<'_> {
    /// Derives the image for this CPU. Returns whether the CPU uses the image.
    fn load(self) -> bool {
        let (Some(image), Some(cpu)) = (self.image, self.vcpu.cpu()) else {
            return false;
        };

        let guest = topology_of(cpu).and_then(|topology| Guest::new(self.features, topology));
        image.state = match guest {
            Some(guest) => {
                guest.derive(self.view, &mut image.registers);
                State::For(cpu, guest)
            }
            None => State::Unmapped(cpu),
        };
        guest.is_some()
    }

    /// Performs the access of a trapped instruction: writes `value`, or reads into it. Returns
    /// whether the VM has the register.
    fn access(self, register: Register, is_write: bool, value: &mut u64) -> bool {
        if !self.features.has(register) {
            return false;
        }
        if is_write {
            register.set(self.view, *value);
            self.written(register);
        } else {
            *value = register.of(self.view);
        }
        true
    }

    /// Completes the guest's write to `register`: fixes reserved bits, and updates the image.
    fn written(self, register: Register) {
        self.features.keep(register, self.view);
        let Some(Image {
            registers,
            state: State::For(_, guest),
        }) = self.image
        else {
            return;
        };
        let Some((number, value)) = guest.update(register, self.view, registers) else {
            return;
        };
        let (op2, crm) = register.encoding();
        kvm_debug_topology_write(
            self.vcpu.id(),
            op2.into(),
            crm.into(),
            register.of(self.view),
            number as u32,
            value,
        );
    }
}

/// Returns a mask of the ID_AA64DFR0_EL1 fields that userspace may write for `kvm`, or for any VM
/// without AArch32 at EL1.
///
/// # Safety
///
/// `kvm` is NULL, or points to a VM that is alive, whose `config_lock` is held.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_writable(kvm: *mut bindings::kvm) -> u64 {
    let writable = if kvm.is_null() {
        supported()
    } else {
        // SAFETY: By the caller's contract.
        offered(unsafe { Vm::from_raw(kvm) })
    };

    if writable {
        ID_AA64DFR0_EL1::BRPS_MASK | ID_AA64DFR0_EL1::CTX_CMPS_MASK
    } else {
        0
    }
}

/// Returns whether `dfr0` may replace `now` as ID_AA64DFR0_EL1 of a VM.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_valid(dfr0: u64, now: u64) -> bool {
    is_valid(dfr0.into(), now.into())
}

/// Returns the index of the last breakpoint of the first bank, for a CPU with these values of
/// ID_AA64DFR0_EL1 and ID_AA64DFR1_EL1.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_last_breakpoint(dfr0: u64, dfr1: u64) -> u32 {
    last_breakpoint(dfr0.into(), dfr1.into()) as u32
}

/// Returns the index of the last watchpoint of the first bank, for a CPU with these values of
/// ID_AA64DFR0_EL1 and ID_AA64DFR1_EL1.
///
/// # Safety
///
/// Always safe to call; `#[export]` requires it to be unsafe.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_last_watchpoint(dfr0: u64, dfr1: u64) -> u32 {
    last_watchpoint(dfr0.into(), dfr1.into()) as u32
}

/// Stores the debug features of `kvm`. Its ID registers do not change any more.
///
/// # Safety
///
/// `kvm` points to a VM that has not run, and its `config_lock` is held.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_fix(kvm: *mut bindings::kvm) {
    // SAFETY: By the caller's contract. No vCPU has run, so no other code accesses the field
    // without the lock.
    let (vm, stored) = unsafe { (Vm::from_raw(kvm), &mut (*kvm).arch.debug_topology) };

    if vm.has_vcpu_feature::<{ bindings::KVM_ARM_VCPU_EL1_32BIT }>() == Some(true) {
        return;
    }
    let it = features_of(vm);
    let differs = |cpu| Mapping::new(it.topology, cpu).is_some();
    *stored = Stored {
        breakpoints: it.topology.breakpoints() as u8,
        context_aware: it.topology.context_aware() as u8,
        watchpoints: it.watchpoints as u8,
        contextidr_types: it.contextidr_types,
        aarch32: it.aarch32,
        // A CPU that has not come up yet may have any topology.
        mappable: offered(vm) && any_cpu(|cpu| cpu.is_none_or(differs)),
    };
}

/// Allocates the image of a vCPU. Returns 0, or `-ENOMEM`.
///
/// # Safety
///
/// `vcpu` is alive, its mutex is held by this task, and it is not loaded.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_create(vcpu: *mut bindings::kvm_vcpu) -> c_int {
    // SAFETY: By the caller's contract no other code accesses the field.
    let slot = unsafe { &mut (*vcpu).arch.debug_mapping };

    from_result(|| {
        // An earlier KVM_RUN has allocated the image and then failed.
        if !slot.is_null() {
            return Ok(0);
        }
        let image = KBox::new(Image::default(), GFP_KERNEL_ACCOUNT)?;
        let start: *const Image = &*image;
        // SAFETY: The range is that of the image. In nVHE mode EL2 reads the image.
        to_result(unsafe {
            bindings::kvm_share_hyp(start.cast_mut().cast(), start.add(1).cast_mut().cast())
        })?;
        *slot = KBox::into_raw(image).cast();
        Ok(0)
    })
}

/// Frees the image of a vCPU, if it has one.
///
/// # Safety
///
/// `vcpu` is not used any more.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_destroy(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract no other code accesses the field. A pointer that is not null
    // comes from `KBox::into_raw()`.
    unsafe {
        let image = (*vcpu).arch.debug_mapping.cast::<Image>();
        if !image.is_null() {
            drop(KBox::from_raw(image));
        }
    }
}

/// Prepares a vCPU's breakpoints for this CPU; see `kvm_debug_topology_load()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU with an image that is being loaded on this CPU; preemption is off.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_load(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract, the vCPU has an image, which no other code accesses.
    unsafe {
        let cpu = Vcpu::from_raw(vcpu).cpu();
        let state = &(*(*vcpu).arch.debug_mapping.cast::<Image>()).state;
        if cpu.is_some_and(|cpu| state.is_known_for(cpu)) {
            return;
        }
        let mapped = with_loaded(vcpu, |loaded| loaded.load()) == Some(true);

        (*vcpu).arch.debug_image = if mapped {
            (*vcpu).arch.debug_mapping.cast()
        } else {
            null_mut()
        };
    }
}

/// Notes that the registers of a vCPU have changed; see `kvm_debug_topology_stale()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU with an image that is not loaded, and whose mutex is held by this task.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_stale(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract no other code accesses the image.
    unsafe { (*(*vcpu).arch.debug_mapping.cast::<Image>()).state = State::Stale };
}

/// Returns whether the VM has the register with the encoding (2, 0, 0, `crm`, `op2`).
///
/// # Safety
///
/// `vcpu` points to a vCPU that is alive, of a VM that has run.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_has(
    vcpu: *mut bindings::kvm_vcpu,
    op2: u8,
    crm: u8,
) -> bool {
    // SAFETY: By the caller's contract; the field does not change any more.
    let features = stored(unsafe { (*(*vcpu).kvm).arch.debug_topology });

    match (features, Register::new(op2, crm)) {
        (Some(features), Some(register)) => features.has(register),
        _ => true,
    }
}

/// Completes a write that has trapped; see `kvm_debug_topology_written()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU that this task has loaded; preemption is off.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_written(
    vcpu: *mut bindings::kvm_vcpu,
    op2: u8,
    crm: u8,
) {
    let Some(register) = Register::new(op2, crm) else {
        return;
    };

    // SAFETY: By the caller's contract.
    unsafe { with_loaded(vcpu, |loaded| loaded.written(register)) };
}

/// Performs an access that has trapped; see `kvm_debug_topology_access()`.
///
/// # Safety
///
/// `vcpu` points to a vCPU that this task has loaded; preemption is off. `value` is valid.
#[export]
pub unsafe extern "C" fn __kvm_debug_topology_access(
    vcpu: *mut bindings::kvm_vcpu,
    op2: u8,
    crm: u8,
    is_write: bool,
    value: *mut u64,
) -> bool {
    let Some(register) = Register::new(op2, crm) else {
        return false;
    };

    // SAFETY: By the caller's contract.
    let done = unsafe {
        with_loaded(vcpu, |loaded| {
            loaded.access(register, is_write, &mut *value)
        })
    };
    done == Some(true)
}

/// Prints a topology in words.
fn show_topology(m: &SeqFile, it: Topology) {
    seq_print!(
        m,
        "{} breakpoints, {} context-aware",
        it.breakpoints(),
        it.context_aware()
    );
}

/// Prints the VM's topology.
///
/// # Safety
///
/// `m` and `kvm` are valid, `m` is not shared, and the VM's `config_lock` is held.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_show(
    m: *mut bindings::seq_file,
    kvm: *mut bindings::kvm,
) {
    // SAFETY: By the caller's contract.
    let (m, vm) = unsafe { (SeqFile::from_raw(m), Vm::from_raw(kvm)) };

    seq_print!(m, "VM: ");
    show_topology(m, features_of(vm).topology);
    seq_print!(m, "\n");
}

/// Prints the mapping of the vCPU's breakpoints to the CPU's.
///
/// # Safety
///
/// `m` and `vcpu` are valid, `m` is not shared, and the VM's `config_lock` is held.
#[export]
pub unsafe extern "C" fn kvm_debug_topology_show_vcpu(
    m: *mut bindings::seq_file,
    vcpu: *mut bindings::kvm_vcpu,
) {
    // SAFETY: By the caller's contract.
    let (m, vcpu) = unsafe { (SeqFile::from_raw(m), Vcpu::from_raw(vcpu)) };
    let vm = vcpu.vm();

    seq_print!(m, "vCPU {}: ", vcpu.id());
    let Some((cpu, topology)) = vcpu.cpu().and_then(|cpu| Some((cpu, topology_of(cpu)?))) else {
        seq_print!(m, "not loaded\n");
        return;
    };
    seq_print!(m, "on CPU {} with ", cpu.as_u32());
    show_topology(m, topology);
    match Mapping::new(features_of(vm).topology, topology).filter(|_| offered(vm)) {
        None => seq_print!(m, ": not mapped\n"),
        Some(mapping) => {
            seq_print!(m, ": mapped");
            for n in 0..MAX {
                if let Some(physical) = mapping.physical(n) {
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

    /// Each CPU of this machine has at least the counts of a default VM.
    #[test]
    fn default_vm_fits_every_cpu() {
        let dfr0 = sanitised::<ID_AA64DFR0_EL1>();
        let vm = Topology::of(dfr0);

        assert!(!any_cpu(|cpu| cpu.is_some_and(|cpu| {
            cpu.breakpoints() < vm.breakpoints() || cpu.context_aware() < vm.context_aware()
        })));
        assert!(is_valid(dfr0, dfr0));
        assert_eq!(vm.breakpoints(), dfr0.breakpoints());
        assert_eq!(vm.context_aware(), dfr0.context_aware_breakpoints());
    }

    /// The encoding of a trapped instruction gives the register.
    #[test]
    fn registers() {
        assert_eq!(Register::new(4, 15), Some(Register::BreakpointValue(15)));
        assert_eq!(Register::new(5, 0), Some(Register::BreakpointControl(0)));
        assert_eq!(Register::new(6, 3), Some(Register::WatchpointValue(3)));
        assert_eq!(Register::new(7, 7), Some(Register::WatchpointControl(7)));
        assert_eq!(Register::new(1, 0), None);
        assert_eq!(Register::new(4, 16), None);
    }

    /// The image of a linked pair is correct for a CPU with 16 breakpoints.
    #[test]
    fn linked_pair() {
        let control = DBGBCRn_EL1::from_raw(0x1e5);
        let context = control
            .with_BT(DBGBCRn_EL1_BT_LINKED_CONTEXT)
            .with_const_PMC::<3>();
        let linked = control.with_BT(DBGBCRn_EL1_BT_LINKED_ADDRESS);
        let features = Features {
            topology: Topology::new(6, 2),
            watchpoints: 4,
            contextidr_types: true,
            aarch32: true,
        };
        let Some(guest) = Guest::new(features, Topology::new(16, 2)) else {
            panic!("a VM with 6 breakpoints fits a CPU with 16");
        };
        let mut view = Registers::default();
        let mut image = Registers::default();

        view.dbg_bcr[0] = linked.with_const_LBN::<4>().into();
        view.dbg_bvr[0] = 0x1000;
        view.dbg_bcr[4] = context.into();
        view.dbg_bvr[4] = 42;
        guest.derive(&mut view, &mut image);
        assert_eq!(image.dbg_bcr[0], linked.with_const_LBN::<14>().into_raw());
        assert_eq!(image.dbg_bvr[0], 0x1000);
        assert_eq!(image.dbg_bcr[14], context.into_raw());
        assert_eq!(image.dbg_bvr[14], 42);
        assert_eq!(image.dbg_bcr[4], 0);
        assert_eq!(view.dbg_bcr[4], context.into_raw());
    }
}

// SPDX-License-Identifier: GPL-2.0

//! A VM: its memory, its vCPUs, its interrupt controller.

use std::{
    fs, io,
    os::fd::AsRawFd,
    path::Path,
    sync::{
        atomic::{AtomicBool, Ordering},
        Mutex,
    },
    thread,
    time::Duration,
};

use kvm_bindings::{
    kvm_enable_cap, kvm_vcpu_init, KVM_ARM_VCPU_PMU_V3, KVM_ARM_VCPU_PMU_V3_CTRL,
    KVM_ARM_VCPU_PMU_V3_INIT, KVM_ARM_VCPU_PMU_V3_IRQ, KVM_ARM_VCPU_POWER_OFF,
    KVM_ARM_VCPU_PSCI_0_2, KVM_ARM_VCPU_PTRAUTH_ADDRESS, KVM_ARM_VCPU_PTRAUTH_GENERIC,
    KVM_ARM_VCPU_SVE,
};
use kvm_ioctls::{Cap, Kvm, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

use crate::{
    board::Board,
    failure::{During, Result},
    gic::Gic,
    linux::PMU_INTERRUPT,
    ram::Ram,
    registers::{self, Register, ID_AA64DFR0_EL1},
    spe::{self, Unit},
    vcpu::{Stop, Vcpu},
};

/// What a machine is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The size of memory in bytes.
    pub memory: u64,
    /// The number of vCPUs.
    pub vcpus: u32,
    /// True if it has an interrupt controller.
    pub gic: bool,
    /// What its vCPUs have.
    pub features: Features,
}

/// What vCPUs have if the host offers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Performance monitors.
    pub pmu: bool,
    /// Pointer authentication.
    pub ptrauth: bool,
    /// SVE.
    pub sve: bool,
    /// The longest SVE vector in bits, if it is not the host's.
    pub longest_vector: Option<u64>,
    /// True if they may have an identification that is not the host's.
    pub identity: bool,
}

impl Features {
    /// All that Linux can use.
    pub const ALL: Self = Self {
        pmu: true,
        ptrauth: true,
        sve: true,
        longest_vector: None,
        identity: false,
    };

    /// Fails if one of `wanted` is missing.
    pub fn has_all_of(self, wanted: Self) -> Result {
        for (name, wanted, has) in [
            ("performance monitors", wanted.pmu, self.pmu),
            ("pointer authentication", wanted.ptrauth, self.ptrauth),
            ("SVE", wanted.sve, self.sve),
        ] {
            if wanted && !has {
                return Err("the guest needs it, and this host does not offer it").during(name);
            }
        }
        Ok(())
    }

    /// Returns those that the host offers.
    fn offered(self, vm: &VmFd) -> Self {
        let has = |cap| vm.check_extension(cap);
        Self {
            pmu: self.pmu && has(Cap::ArmPmuV3),
            ptrauth: self.ptrauth && has(Cap::ArmPtrAuthAddress) && has(Cap::ArmPtrAuthGeneric),
            sve: self.sve && has(Cap::ArmSve),
            ..self
        }
    }
}

/// The machine.
pub struct Machine {
    // Dropped in this order: the vCPUs belong to the VM.
    /// Its vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// Its interrupt controller.
    pub gic: Option<Gic>,
    /// The VM and its memory.
    pub ram: Ram,
    /// What it is made of.
    pub shape: Shape,
    /// Its statistical profiling unit.
    pub unit: Option<Unit>,
}

impl Machine {
    /// The interrupt of the serial port, the first one that is shared.
    pub const SERIAL_INTERRUPT: u32 = 0;

    /// Creates a machine that has not run.
    pub fn new(shape: Shape, unit: Option<Unit>) -> Result<Self> {
        Self::with_memory(shape, unit, Ram::map(shape.memory)?)
    }

    /// Creates a machine that has not run, with this memory.
    pub fn with_memory(shape: Shape, unit: Option<Unit>, memory: GuestMemoryMmap) -> Result<Self> {
        let kvm = Kvm::new().during("/dev/kvm")?;
        let ram = Ram::new(kvm.create_vm().during("KVM_CREATE_VM")?, memory)?;
        let shape = Shape {
            features: shape.features.offered(&ram.vm),
            ..shape
        };
        if shape.features.identity {
            allow_identity(&ram.vm)?;
        }
        if unit.is_some() && kvm.check_extension_raw(spe::KVM_CAP_ARM_SPE) != 1 {
            return Err("this host has no SPE for guests").during("KVM_CAP_ARM_SPE");
        }
        let vcpus = create_vcpus(&ram.vm, shape, unit.is_some())?;
        let gic = shape.gic.then(|| Gic::new(&ram.vm, shape.vcpus));
        let gic = gic.transpose()?;
        for vcpu in &vcpus {
            if shape.features.pmu {
                set_up_pmu(vcpu)?;
            }
            if let Some(unit) = &unit {
                unit.give(vcpu)?;
            }
        }
        Ok(Self {
            vcpus,
            gic,
            ram,
            shape,
            unit,
        })
    }

    /// Returns the interrupt of the serial port. It reaches a guest that has an interrupt
    /// controller.
    pub fn serial_interrupt(&self) -> Result<EventFd> {
        let interrupt = EventFd::new(libc::EFD_NONBLOCK).during("eventfd")?;
        if self.gic.is_some() {
            self.ram
                .vm
                .register_irqfd(&interrupt, Self::SERIAL_INTERRUPT)
                .during("KVM_IRQFD")?;
        }
        Ok(interrupt)
    }

    /// Copies a file to memory at `address`.
    pub fn load(&self, path: &Path, address: u64) -> Result {
        let bytes = fs::read(path).during(path.display().to_string())?;
        self.ram
            .memory
            .write_slice(&bytes, GuestAddress(address))
            .during(format!("{} at {address:#x}", path.display()))
    }

    /// Gives the guest these counts of breakpoints and context-aware ones. Must be called before
    /// the first run.
    pub fn set_breakpoints(&self, breakpoints: u64, context_aware: u64) -> Result {
        for vcpu in &self.vcpus {
            let dfr0 = vcpu.get(ID_AA64DFR0_EL1)?.as_u64();
            let dfr0 = registers::with_breakpoints(dfr0, breakpoints, context_aware);
            vcpu.set(&Register::new(ID_AA64DFR0_EL1, dfr0.to_le_bytes().to_vec()))?;
        }
        Ok(())
    }

    /// Runs the vCPUs, each in a thread, until something stops one of them, or `pause` is set and
    /// `ready`, which is then called from time to time, returns true.
    pub fn run(
        &mut self,
        board: &Mutex<Board>,
        pause: &AtomicBool,
        mut ready: impl FnMut(&Ram) -> bool,
    ) -> Result<Stop> {
        let ram = &self.ram;
        let unit = self.unit.as_ref();
        let threads = Threads::default();
        let run = |vcpu: &mut Vcpu| {
            threads.enter();
            let result = vcpu.run(board, unit, &threads.stop);
            threads.leave();
            result
        };

        let stops = thread::scope(|scope| {
            let running: Vec<_> = self
                .vcpus
                .iter_mut()
                .map(|vcpu| scope.spawn(|| run(vcpu)))
                .collect();
            while running.iter().any(|thread| !thread.is_finished()) {
                thread::sleep(Duration::from_millis(5));
                if !threads.are_stopping() && pause.load(Ordering::SeqCst) && ready(ram) {
                    threads.stop();
                }
                threads.kick();
            }
            running
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect::<Result<Vec<_>>>()
        })?;
        let is_off = |stop: &Stop| *stop == Stop::Off;
        Ok(stops.into_iter().find(is_off).unwrap_or(Stop::Paused))
    }
}

/// The threads of vCPUs. All stop when one of them does.
#[derive(Default)]
struct Threads {
    stop: AtomicBool,
    running: Mutex<Vec<libc::pthread_t>>,
}

impl Threads {
    /// Notes that this thread may be in KVM_RUN.
    fn enter(&self) {
        // SAFETY: Always safe to call.
        self.running
            .lock()
            .unwrap()
            .push(unsafe { libc::pthread_self() });
    }

    /// Notes that it no longer is, and stops the others.
    fn leave(&self) {
        // SAFETY: Always safe to call.
        let own = unsafe { libc::pthread_self() };
        self.stop();
        self.running.lock().unwrap().retain(|other| *other != own);
    }

    /// Returns whether all are to stop.
    fn are_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Notes that all are to stop.
    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    /// Takes all threads out of KVM_RUN, if they are to stop.
    fn kick(&self) {
        if self.are_stopping() {
            for thread in self.running.lock().unwrap().iter() {
                // SAFETY: A thread of the list does not end while the list is locked.
                unsafe { libc::pthread_kill(*thread, KICK) };
            }
        }
    }
}

/// The signal that takes a thread out of KVM_RUN.
const KICK: libc::c_int = libc::SIGUSR2;

/// Lets signals interrupt system calls: [`KICK`], and `SIGUSR1`, which calls `pause`.
pub fn handle_signals(pause: extern "C" fn(libc::c_int)) {
    extern "C" fn nothing(_: libc::c_int) {}

    for (signal, handler) in [(KICK, nothing as extern "C" fn(_)), (libc::SIGUSR1, pause)] {
        // SAFETY: All fields of the structure may be 0; the handlers call nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Sets a vCPU's performance monitors up, once there is an interrupt controller.
fn set_up_pmu(vcpu: &Vcpu) -> Result {
    for (attr, value) in [
        (KVM_ARM_VCPU_PMU_V3_IRQ, Some(PMU_INTERRUPT as i32)),
        (KVM_ARM_VCPU_PMU_V3_INIT, None),
    ] {
        vcpu.set_attribute(KVM_ARM_VCPU_PMU_V3_CTRL, attr.into(), value)?;
    }
    Ok(())
}

/// Lets the vCPUs of a VM have another identification than the host's
/// (KVM_CAP_ARM_WRITABLE_IMP_ID_REGS).
fn allow_identity(vm: &VmFd) -> Result {
    const WRITABLE_IMP_ID_REGS: u32 = 239;
    // KVM_ENABLE_CAP: _IOW(KVMIO, 0xa3, struct kvm_enable_cap).
    const ENABLE_CAP: libc::c_ulong = 0x4068_aea3;

    let capability = kvm_enable_cap {
        cap: WRITABLE_IMP_ID_REGS,
        ..Default::default()
    };
    // SAFETY: KVM reads the structure.
    match unsafe { libc::ioctl(vm.as_raw_fd(), ENABLE_CAP as _, &capability) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()).during("KVM_CAP_ARM_WRITABLE_IMP_ID_REGS"),
    }
}

/// Returns whether this host identifies the CPU of VMs otherwise than by these values of
/// [`registers::IDENTITY`], as far as they are known.
pub fn is_other_identity(wanted: impl Fn(u64) -> Option<u64>) -> Result<bool> {
    let kvm = Kvm::new().during("/dev/kvm")?;
    let vm = kvm.create_vm().during("KVM_CREATE_VM")?;
    let shape = Shape {
        vcpus: 1,
        ..Shape::default()
    };
    let vcpus = create_vcpus(&vm, shape, false)?;
    for id in registers::IDENTITY {
        let own = vcpus[0].get(id)?.as_u64();
        if wanted(id).is_some_and(|wanted| wanted != own) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Creates the vCPUs. All but the first are off.
fn create_vcpus(vm: &VmFd, shape: Shape, spe: bool) -> Result<Vec<Vcpu>> {
    let features = shape.features;
    let mut target = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut target)
        .during("KVM_ARM_PREFERRED_TARGET")?;
    (0..shape.vcpus)
        .map(|id| {
            let fd = vm.create_vcpu(id.into()).during("KVM_CREATE_VCPU")?;
            let mut init = target;
            for (there, feature) in [
                (true, KVM_ARM_VCPU_PSCI_0_2),
                (id > 0, KVM_ARM_VCPU_POWER_OFF),
                (features.pmu, KVM_ARM_VCPU_PMU_V3),
                (features.ptrauth, KVM_ARM_VCPU_PTRAUTH_ADDRESS),
                (features.ptrauth, KVM_ARM_VCPU_PTRAUTH_GENERIC),
                (features.sve, KVM_ARM_VCPU_SVE),
                (spe, spe::KVM_ARM_VCPU_SPE),
            ] {
                init.features[0] |= u32::from(there) << feature;
            }
            fd.vcpu_init(&init).during("KVM_ARM_VCPU_INIT")?;
            let vcpu = Vcpu::new(id, fd);
            if features.sve {
                vcpu.set_up_sve(features.longest_vector)?;
            }
            Ok(vcpu)
        })
        .collect()
}

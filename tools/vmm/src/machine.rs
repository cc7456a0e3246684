// SPDX-License-Identifier: GPL-2.0

//! A VM with one vCPU and one region of memory.

use std::{error::Error, fmt, fs, io, os::fd::AsRawFd, path::Path};

use kvm_bindings::{
    kvm_userspace_memory_region, kvm_vcpu_init, KVM_ARM_VCPU_PSCI_0_2, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use crate::registers::{self, Register, ID_AA64DFR0_EL1, PC};

/// The start of memory, as on QEMU's "virt" board.
pub const MEMORY_START: u64 = 0x4000_0000;

/// The size of memory in bytes.
pub const MEMORY_SIZE: usize = 96 << 20;

/// An upper limit on the number of registers that KVM has.
const MAX_REGISTERS: usize = 4096;

/// KVM_GET_REG_LIST: _IOWR(KVMIO, 0xb0, struct kvm_reg_list).
const KVM_GET_REG_LIST: libc::c_ulong = 0xc008_aeb0;

/// An error of the VMM: the failed operation, and the cause.
#[derive(Debug)]
pub struct Failure {
    what: String,
    why: Box<dyn Error>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

/// A result with a [`Failure`].
pub type Result<T = ()> = std::result::Result<T, Failure>;

/// Adds the failed operation to an error.
pub trait During<T> {
    /// Converts an error to a [`Failure`] of `what`.
    fn during(self, what: impl Into<String>) -> Result<T>;
}

impl<T, E: Into<Box<dyn Error>>> During<T> for std::result::Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T> {
        self.map_err(|why| Failure {
            what: what.into(),
            why: why.into(),
        })
    }
}

/// The devices outside the guest's memory.
pub trait Bus {
    /// Handles a guest's store to `address`. Returns whether the vCPU must stop after the store.
    fn write(&mut self, address: u64, data: &[u8]) -> Result<bool>;
}

/// The reason why a vCPU has stopped.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest has switched itself off.
    Off,
    /// The bus has stopped the vCPU, which may continue.
    Bus,
}

/// The machine.
pub struct Machine {
    // Dropped in this order: the vCPU belongs to the VM, which uses the memory.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemoryMmap,
}

impl Machine {
    /// Creates a machine that has not run.
    pub fn new() -> Result<Self> {
        let kvm = Kvm::new().during("/dev/kvm")?;
        let vm = kvm.create_vm().during("KVM_CREATE_VM")?;
        let memory = Self::give_memory(&vm)?;
        let vcpu = vm.create_vcpu(0).during("KVM_CREATE_VCPU")?;
        let mut init = kvm_vcpu_init::default();
        vm.get_preferred_target(&mut init)
            .during("KVM_ARM_PREFERRED_TARGET")?;
        init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
        vcpu.vcpu_init(&init).during("KVM_ARM_VCPU_INIT")?;
        Ok(Self {
            vcpu,
            _vm: vm,
            memory,
        })
    }

    /// Gives a VM its memory, which must live as long as the VM.
    fn give_memory(vm: &VmFd) -> Result<GuestMemoryMmap> {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(MEMORY_START), MEMORY_SIZE)])
            .during("memory")?;
        for (slot, region) in memory.iter().enumerate() {
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: memory
                    .get_host_address(region.start_addr())
                    .during("memory")? as u64,
                flags: 0,
            };
            // SAFETY: The region is mapped for as long as `memory` lives, which the VM
            // does not outlive.
            unsafe { vm.set_user_memory_region(region) }.during("KVM_SET_USER_MEMORY_REGION")?;
        }
        Ok(memory)
    }

    /// Copies a file to memory at `address`.
    pub fn load(&self, path: &Path, address: u64) -> Result {
        let bytes = fs::read(path).during(path.display().to_string())?;
        self.memory
            .write_slice(&bytes, GuestAddress(address))
            .during(format!("{} at {address:#x}", path.display()))
    }

    /// Sets where the vCPU starts.
    pub fn start_at(&self, address: u64) -> Result {
        self.set(&Register::new(PC, address.to_le_bytes().to_vec()))
    }

    /// Gives the guest these counts of breakpoints and context-aware ones. Must be called before
    /// the first run.
    pub fn set_breakpoints(&self, breakpoints: u64, context_aware: u64) -> Result {
        let dfr0 = self.get(ID_AA64DFR0_EL1)?.as_u64();
        let dfr0 = registers::with_breakpoints(dfr0, breakpoints, context_aware);
        self.set(&Register::new(ID_AA64DFR0_EL1, dfr0.to_le_bytes().to_vec()))
    }

    /// Runs the vCPU until something stops it.
    pub fn run(&mut self, bus: &mut dyn Bus) -> Result<Stop> {
        loop {
            match self.vcpu.run().during("KVM_RUN")? {
                VcpuExit::MmioWrite(address, data) => {
                    if bus.write(address, data)? {
                        return Ok(Stop::Bus);
                    }
                }
                VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _) => return Ok(Stop::Off),
                other => return Err(format!("{other:?}")).during("unexpected exit"),
            }
        }
    }

    /// Completes the store at which the vCPU has stopped, without running further instructions.
    ///
    /// KVM steps over an emulated access only at the next KVM_RUN: registers saved
    /// before would make the guest store twice.
    pub fn settle(&mut self) -> Result {
        self.vcpu.set_kvm_immediate_exit(1);
        let result = match self.vcpu.run() {
            Err(e) if e.errno() == libc::EINTR => Ok(()),
            Err(e) => Err(e).during("KVM_RUN"),
            Ok(exit) => Err(format!("{exit:?}")).during("unexpected exit"),
        };
        self.vcpu.set_kvm_immediate_exit(0);
        result
    }

    /// Returns the registers of the vCPU's state, in KVM's order.
    pub fn register_list(&self) -> Result<Vec<u64>> {
        // The list type of kvm-bindings has room for 500 registers; a vCPU may have more.
        let mut list = vec![0; 1 + MAX_REGISTERS];
        list[0] = MAX_REGISTERS as u64;
        // SAFETY: The list begins with the number of entries that follow, and KVM writes at most
        // these entries.
        let result = unsafe {
            libc::ioctl(
                self.vcpu.as_raw_fd(),
                KVM_GET_REG_LIST as _,
                list.as_mut_ptr(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error()).during("KVM_GET_REG_LIST");
        }
        Ok(list[1..=list[0] as usize].to_vec())
    }

    /// Reads a register.
    pub fn get(&self, id: u64) -> Result<Register> {
        let mut value = vec![0; registers::size(id)];
        self.vcpu
            .get_one_reg(id, &mut value)
            .during(format!("KVM_GET_ONE_REG {id:#x}"))?;
        Ok(Register::new(id, value))
    }

    /// Writes a register.
    pub fn set(&self, register: &Register) -> Result {
        self.vcpu
            .set_one_reg(register.id, &register.value)
            .during(format!("KVM_SET_ONE_REG {:#x}", register.id))?;
        Ok(())
    }

    /// Returns the guest's memory.
    pub fn memory(&self) -> &GuestMemoryMmap {
        &self.memory
    }
}

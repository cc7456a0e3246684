// SPDX-License-Identifier: GPL-2.0

//! A VM with one vCPU and one region of memory.

use std::{error::Error, fmt, fs, io, os::fd::AsRawFd, path::Path};

use kvm_bindings::{
    kvm_userspace_memory_region, kvm_vcpu_init, KVM_ARM_VCPU_PSCI_0_2, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use crate::registers::{self, Register, ID_AA64DFR0_EL1, PC};

/// Where memory begins, as on QEMU's "virt" board.
pub const MEMORY_START: u64 = 0x4000_0000;

/// How much there is, in bytes.
pub const MEMORY_SIZE: usize = 96 << 20;

/// More registers than KVM has.
const MAX_REGISTERS: usize = 4096;

/// KVM_GET_REG_LIST: _IOWR(KVMIO, 0xb0, struct kvm_reg_list).
const KVM_GET_REG_LIST: libc::c_ulong = 0xc008_aeb0;

/// What a VMM can fail with: what was to be done, and why it could not.
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

/// Says what was to be done when something fails.
pub trait During<T> {
    /// Makes a [`Failure`] of an error.
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

/// What the guest reaches outside its memory.
pub trait Bus {
    /// Takes what the guest has stored at `address`. True stops the vCPU after the store.
    fn write(&mut self, address: u64, data: &[u8]) -> Result<bool>;
}

/// Why a vCPU no longer runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest has switched itself off.
    Off,
    /// The bus asked for it; the vCPU may run on.
    Bus,
}

/// The machine.
pub struct Machine {
    // The vCPU is of this VM, which uses the memory: in the order in which they go.
    vcpu: VcpuFd,
    _vm: VmFd,
    memory: GuestMemoryMmap,
}

impl Machine {
    /// Makes a machine that has not run.
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

    /// Gives a VM its memory, which has to live as long as it does.
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

    /// Gives the guest `breakpoints`, of which `context_aware` are. To be called before
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

    /// Completes the store that the vCPU stopped at, without running anything after it.
    ///
    /// KVM steps over an emulated access when the vCPU is run next: registers saved
    /// before that would make the guest store twice.
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

    /// Returns the registers that KVM says make up the state of the vCPU, in its order.
    pub fn register_list(&self) -> Result<Vec<u64>> {
        // The list of kvm-bindings ends at 500 registers; a vCPU may have more.
        let mut list = vec![0; 1 + MAX_REGISTERS];
        list[0] = MAX_REGISTERS as u64;
        // SAFETY: The list begins with the number of entries that follow, and KVM writes no
        // more than those.
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

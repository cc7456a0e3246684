// SPDX-License-Identifier: GPL-2.0

//! A vCPU: its registers, and the loop around KVM_RUN.

use std::{
    io,
    os::fd::AsRawFd,
    sync::{
        atomic::{AtomicBool, Ordering},
        Mutex,
    },
};

use kvm_bindings::{
    kvm_device_attr, kvm_mp_state, KVM_ARM_VCPU_SVE, KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED,
    KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::{
    board::Board,
    failure::{During, Result},
    registers::{self, Register, PC, PMCR_EL0, SVE_VLS},
    spe::Unit,
};

/// An upper limit on the number of registers that KVM has.
const MAX_REGISTERS: usize = 4096;

/// KVM_GET_REG_LIST: _IOWR(KVMIO, 0xb0, struct kvm_reg_list).
const KVM_GET_REG_LIST: libc::c_ulong = 0xc008_aeb0;

/// The reason why a vCPU has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest has switched itself off.
    Off,
    /// The vCPU may continue.
    Paused,
}

/// A vCPU.
pub struct Vcpu {
    /// Its number.
    pub id: u32,
    fd: VcpuFd,
}

impl Vcpu {
    /// Wraps a vCPU of KVM.
    pub fn new(id: u32, fd: VcpuFd) -> Self {
        Self { id, fd }
    }

    /// Gives the vCPU, which has been initialised with SVE, vectors of up to `longest` bits, or of
    /// all lengths that the host has. KVM accepts neither another length later, nor any use of the
    /// vCPU before.
    pub fn set_up_sve(&self, longest: Option<u64>) -> Result {
        if let Some(longest) = longest {
            let limited = registers::limit_vectors(&self.get(SVE_VLS)?, longest);
            if registers::longest_vector(&limited) != longest {
                return Err("this host does not have them")
                    .during(format!("SVE vectors of {longest} bits"));
            }
            self.set(&limited)?;
        }
        self.fd
            .vcpu_finalize(&(KVM_ARM_VCPU_SVE as i32))
            .during("KVM_ARM_VCPU_FINALIZE")
    }

    /// Gives the vCPU so many event counters.
    pub fn set_counters(&self, counters: u64) -> Result {
        let pmcr = registers::with_counters(self.get(PMCR_EL0)?.as_u64(), counters);
        self.set(&Register::new(PMCR_EL0, pmcr.to_le_bytes().to_vec()))?;
        self.has_counters(counters)
    }

    /// Fails if the vCPU does not have so many event counters: KVM ignores a number that is too
    /// large.
    pub fn has_counters(&self, counters: u64) -> Result {
        let own = registers::counters(self.get(PMCR_EL0)?.as_u64());
        if own != counters {
            return Err(format!(
                "it is {own} on this host and {counters} for the guest"
            ))
            .during("PMCR_EL0.N");
        }
        Ok(())
    }

    /// Sets where the vCPU starts.
    pub fn start_at(&self, address: u64) -> Result {
        self.set(&Register::new(PC, address.to_le_bytes().to_vec()))
    }

    /// Sets an attribute whose value is an int; [`None`] for an attribute without a value.
    pub fn set_attribute(&self, group: u32, attr: u64, value: Option<i32>) -> Result {
        let attribute = kvm_device_attr {
            group,
            attr,
            addr: value.as_ref().map_or(0, |value| value as *const i32 as u64),
            flags: 0,
        };
        self.fd
            .set_device_attr(&attribute)
            .during(format!("vCPU attribute {attr} of group {group}"))
    }

    /// Runs the vCPU until something stops it. Where it is on a CPU that lacks the VM's `unit`,
    /// moves this thread to one that has it.
    pub fn run(
        &mut self,
        board: &Mutex<Board>,
        unit: Option<&Unit>,
        stop: &AtomicBool,
    ) -> Result<Stop> {
        while !stop.load(Ordering::SeqCst) {
            match self.fd.run() {
                Ok(VcpuExit::MmioWrite(address, data)) => {
                    if board.lock().unwrap().write(address, data)? {
                        return Ok(Stop::Paused);
                    }
                }
                Ok(VcpuExit::MmioRead(address, data)) => {
                    board.lock().unwrap().read(address, data)?;
                }
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN, _)) => return Ok(Stop::Off),
                Ok(VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_RESET, _)) => {
                    return Err("it asks for a reset").during("the guest")
                }
                Ok(VcpuExit::FailEntry(reason, cpu)) => self.move_from(reason, cpu, unit)?,
                Ok(VcpuExit::Intr) => (),
                Ok(other) => return Err(format!("{other:?}")).during("unexpected exit"),
                Err(e) if e.errno() == libc::EINTR => (),
                Err(e) => return Err(e).during("KVM_RUN"),
            }
        }
        Ok(Stop::Paused)
    }

    /// Answers KVM_EXIT_FAIL_ENTRY. Fails if the CPU has the unit: the reason is another one.
    fn move_from(&self, reason: u64, cpu: u32, unit: Option<&Unit>) -> Result {
        let unsupported = reason & u64::from(KVM_EXIT_FAIL_ENTRY_CPU_UNSUPPORTED) != 0;
        match unit {
            Some(unit) if unsupported && !unit.cpus.contains(&(cpu as usize)) => {
                unit.place_this_thread()?;
                eprintln!(
                    "vmm: vCPU {}: CPU {cpu} does not have {}: moved to {}",
                    self.id, unit.name, unit.list
                );
                Ok(())
            }
            _ => Err(format!("reason {reason:#x} on CPU {cpu}")).during("KVM_EXIT_FAIL_ENTRY"),
        }
    }

    /// Completes the store at which the vCPU has stopped, without running further instructions.
    ///
    /// KVM steps over an emulated access only at the next KVM_RUN: registers saved
    /// before would make the guest store twice.
    pub fn settle(&mut self) -> Result {
        self.fd.set_kvm_immediate_exit(1);
        let result = match self.fd.run() {
            Err(e) if e.errno() == libc::EINTR => Ok(()),
            Err(e) => Err(e).during("KVM_RUN"),
            Ok(exit) => Err(format!("{exit:?}")).during("unexpected exit"),
        };
        self.fd.set_kvm_immediate_exit(0);
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
                self.fd.as_raw_fd(),
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
        self.fd
            .get_one_reg(id, &mut value)
            .during(format!("KVM_GET_ONE_REG {id:#x}"))?;
        Ok(Register::new(id, value))
    }

    /// Writes a register.
    pub fn set(&self, register: &Register) -> Result {
        self.fd
            .set_one_reg(register.id, &register.value)
            .during(format!("KVM_SET_ONE_REG {:#x}", register.id))?;
        Ok(())
    }

    /// Returns whether the vCPU runs or is switched off.
    pub fn power(&self) -> Result<u32> {
        Ok(self.fd.get_mp_state().during("KVM_GET_MP_STATE")?.mp_state)
    }

    /// Sets what [`Vcpu::power`] has returned.
    pub fn set_power(&self, mp_state: u32) -> Result {
        self.fd
            .set_mp_state(kvm_mp_state { mp_state })
            .during("KVM_SET_MP_STATE")
    }
}

// SPDX-License-Identifier: GPL-2.0

//! Scratch VMs, in which KVM is asked.

use std::{arch::asm, collections::BTreeMap, io, os::fd::AsRawFd, path::Path};

use kvm_bindings::{
    kvm_device_attr, kvm_enable_cap, kvm_userspace_memory_region, kvm_vcpu_init,
    KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::{
    host::Hex,
    registers::{self, Register},
    Error,
};

mod check;
mod probe;

pub use check::{applied, check};
pub use probe::probe;

const DEVICE: &str = "/dev/kvm";
const PARAMETER: &str = "/sys/module/kvm/parameters/baseline";

/// S3_3_C9_C12_0: it is not in the description of the registers.
const PMCR_EL0: u64 = 0x6030_0000_0013_dce0;
const SVE_VLS: u64 = 0x6060_0000_0015_ffff;

/// KVM_ARM_GET_REG_WRITABLE_MASKS: _IOR(KVMIO, 0xb6, struct reg_mask_range).
const GET_REG_WRITABLE_MASKS: u64 = 0x8040_aeb6;
/// KVM_ENABLE_CAP: _IOW(KVMIO, 0xa3, struct kvm_enable_cap).
const ENABLE_CAP: u64 = 0x4068_aea3;
/// KVM_CAP_ARM_WRITABLE_IMP_ID_REGS.
const WRITABLE_IMPLEMENTATION: u32 = 239;

/// Bits of KVM_ARM_VCPU_INIT, and the capabilities that offer them.
const INIT: &[(&str, u32, u32)] = &[
    ("pmu", 3, 126),
    ("sve", 4, 170),
    ("ptrauth", 5, 171),
    ("ptrauth", 6, 172),
];
const PSCI_0_2: u32 = 1 << 2;
/// KVM_CAP_ARM_EL2.
const EL2: u32 = 240;
const SVE: u32 = 4;

/// The guest: a store to where there is no memory, for which KVM_RUN returns.
const CODE: u32 = 0xb900_001f; // str wzr, [x0]
const MEMORY: u64 = 0x8000_0000;
const PAGE: usize = 0x1_0000;
/// KVM_REG_ARM_CORE_REG(regs.regs[0]) and (regs.pc).
const X0: u64 = 0x6030_0000_0010_0000;
const PC: u64 = 0x6030_0000_0010_0040;

fn failed(what: &str, error: impl std::fmt::Display) -> Error {
    Error(format!("{what}: {error}"))
}

/// A scratch VM with one vCPU. Fields are dropped in this order.
struct Scratch {
    vcpu: VcpuFd,
    vm: VmFd,
    _memory: Memory,
}

/// Anonymous memory of this process, with the guest's code.
struct Memory(*mut libc::c_void);

impl Memory {
    /// Returns memory that is the caller's alone.
    fn new() -> Result<Self, Error> {
        // SAFETY: A new mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(failed("mmap", io::Error::last_os_error()));
        }
        let memory = Self(memory);
        // SAFETY: The mapping is writable, aligned, and large enough.
        unsafe { memory.0.cast::<u32>().write(CODE) };
        Ok(memory)
    }

    /// Returns where a VM has it.
    fn region(&self) -> kvm_userspace_memory_region {
        kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: MEMORY,
            memory_size: PAGE as u64,
            userspace_addr: self.0 as u64,
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: The mapping is this object's, and nobody has a reference to it.
        unsafe { libc::munmap(self.0, PAGE) };
    }
}

/// KVM, and what it offers.
struct Here {
    kvm: Kvm,
    ipa_bits: u32,
}

impl Here {
    fn open() -> Result<Self, Error> {
        if !Path::new(DEVICE).exists() {
            return Err(Error(format!("{DEVICE} is not there: is KVM on?")));
        }
        let kvm = Kvm::new().map_err(|error| {
            failed(
                DEVICE,
                format!("{error}: run this as a user that may open it"),
            )
        })?;
        let ipa_bits = kvm.check_extension_raw(165).max(0) as u32;
        Ok(Self { kvm, ipa_bits })
    }

    fn has(&self, capability: u32) -> i32 {
        self.kvm.check_extension_raw(capability.into())
    }

    fn offers(&self, feature: &str) -> bool {
        let mut bits = INIT.iter().filter(|(name, ..)| *name == feature);
        bits.all(|(_, _, capability)| self.has(*capability) > 0)
    }

    /// Creates a VM whose vCPU has these features, up to a vector length in bits.
    fn scratch(&self, features: &[&str], how: How) -> Result<Scratch, Error> {
        let vm = self.vm(how)?;
        let memory = Memory::new()?;
        // SAFETY: The mapping lives as long as the VM.
        unsafe { vm.set_user_memory_region(memory.region()) }
            .map_err(|error| failed("KVM_SET_USER_MEMORY_REGION", error))?;
        let vcpu = vcpu(&vm, features)?;
        let scratch = Scratch {
            vcpu,
            vm,
            _memory: memory,
        };
        if features.contains(&"sve") {
            scratch.finalize_sve(how.sve_length)?;
        }
        Ok(scratch)
    }

    /// Creates a VM without memory and vCPUs.
    fn vm(&self, how: How) -> Result<VmFd, Error> {
        let bits = match self.ipa_bits {
            0 => 0,
            bits => u64::from(bits.min(40)),
        };
        let vm = self
            .kvm
            .create_vm_with_type(bits)
            .map_err(|error| failed("KVM_CREATE_VM", error))?;
        if how.implementation {
            make_implementation_writable(&vm)?;
        }
        Ok(vm)
    }
}

/// Lets MIDR_EL1, REVIDR_EL1 and AIDR_EL1 of a VM be set.
fn make_implementation_writable(vm: &VmFd) -> Result<(), Error> {
    let capability = kvm_enable_cap {
        cap: WRITABLE_IMPLEMENTATION,
        ..Default::default()
    };
    // SAFETY: KVM reads the structure.
    let result = unsafe { libc::ioctl(vm.as_raw_fd(), ENABLE_CAP as _, &capability) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(failed("KVM_CAP_ARM_WRITABLE_IMP_ID_REGS", error));
    }
    Ok(())
}

/// Creates a vCPU that has these features.
fn vcpu(vm: &VmFd, features: &[&str]) -> Result<VcpuFd, Error> {
    let vcpu = vm
        .create_vcpu(0)
        .map_err(|error| failed("KVM_CREATE_VCPU", error))?;
    let mut init = kvm_vcpu_init::default();
    vm.get_preferred_target(&mut init)
        .map_err(|error| failed("KVM_ARM_PREFERRED_TARGET", error))?;
    init.features[0] |= PSCI_0_2;
    for (_, bit, _) in INIT.iter().filter(|(name, ..)| features.contains(name)) {
        init.features[0] |= 1 << bit;
    }
    vcpu.vcpu_init(&init)
        .map_err(|error| failed("KVM_ARM_VCPU_INIT", error))?;
    if features.contains(&"pmu") {
        let init = kvm_device_attr {
            group: KVM_ARM_VCPU_PMU_V3_CTRL,
            attr: KVM_ARM_VCPU_PMU_V3_INIT.into(),
            ..Default::default()
        };
        vcpu.set_device_attr(&init)
            .map_err(|error| failed("KVM_ARM_VCPU_PMU_V3_INIT", error))?;
    }
    Ok(vcpu)
}

/// How a scratch VM is made.
#[derive(Clone, Copy, Default)]
struct How {
    implementation: bool,
    sve_length: Option<u32>,
}

impl Scratch {
    fn get(&self, id: u64) -> Option<u64> {
        let mut value = [0; 8];
        let size = 1 << (id >> 52 & 0xf);
        self.vcpu.get_one_reg(id, value.get_mut(..size)?).ok()?;
        Some(u64::from_le_bytes(value))
    }

    fn set(&self, id: u64, value: u64) -> bool {
        self.vcpu.set_one_reg(id, &value.to_le_bytes()).is_ok()
    }

    fn lengths(&self) -> Vec<u32> {
        let mut bits = [0; 64];
        if self.vcpu.get_one_reg(SVE_VLS, &mut bits).is_err() {
            return Vec::new();
        }
        // Bit n is the length of n + 1 quadwords.
        let all = (0..512u32).filter(|n| bits[*n as usize / 8] >> (n % 8) & 1 == 1);
        all.map(|n| (n + 1) * 128).collect()
    }

    /// Returns the number of event counters, PMCR_EL0.N.
    fn counters(&self) -> u64 {
        self.get(PMCR_EL0).map_or(0, |value| value >> 11 & 0x1f)
    }

    fn limit_vectors(&self, longest: u32) -> Result<(), Error> {
        let mut bits = [0u8; 64];
        for length in self.lengths().into_iter().filter(|one| *one <= longest) {
            let n = length / 128 - 1;
            bits[n as usize / 8] |= 1 << (n % 8);
        }
        self.vcpu
            .set_one_reg(SVE_VLS, &bits)
            .map(drop)
            .map_err(|error| failed("the lengths of SVE vectors", error))
    }

    /// Finishes a vCPU with SVE, whose vectors are not longer than that.
    fn finalize_sve(&self, longest: Option<u32>) -> Result<(), Error> {
        if let Some(longest) = longest {
            self.limit_vectors(longest)?;
        }
        self.vcpu
            .vcpu_finalize(&(SVE as i32))
            .map_err(|error| failed("KVM_ARM_VCPU_FINALIZE", error))
    }

    /// Runs the guest up to its store.
    fn run(&mut self) -> Result<(), Error> {
        if !self.set(X0, 0) || !self.set(PC, MEMORY) {
            return Err(Error("the vCPU's registers cannot be set".into()));
        }
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::MmioWrite(0, _)) => return Ok(()),
                Ok(other) => return Err(Error(format!("KVM_RUN: unexpected exit {other:?}"))),
                Err(error) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(failed("KVM_RUN", error)),
            }
        }
    }

    /// Returns the bits that can be written, by KVM's account; nothing before Linux 6.7.
    fn told(&self) -> BTreeMap<String, Hex> {
        const COUNT: usize = 3 * 8 * 8;
        let mut masks = [0u64; COUNT];
        let mut range = [0u64; 8];
        range[0] = masks.as_mut_ptr() as u64;
        // SAFETY: KVM writes the masks, of which there are as many as in this array.
        let result = unsafe {
            libc::ioctl(
                self.vm.as_raw_fd(),
                GET_REG_WRITABLE_MASKS as _,
                range.as_mut_ptr(),
            )
        };
        if result < 0 {
            return BTreeMap::new();
        }
        let place = |register: &Register| {
            let encoding = register.id as usize & 0xffff;
            let (op1, crm, op2) = (encoding >> 11 & 7, encoding >> 3 & 0xf, encoding & 7);
            let block = if op1 == 3 { 2 } else { op1 };
            block << 6 | (crm & 7) << 3 | op2
        };
        registers::all()
            .filter(|register| !register.is_pseudo())
            .map(|register| (register.name.to_string(), Hex(masks[place(register)])))
            .filter(|(_, mask)| mask.0 != 0)
            .collect()
    }
}

fn cntfrq_el0() -> u64 {
    let value;
    // SAFETY: Linux lets programs read it.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) value, options(nomem, nostack)) };
    value
}

fn dczid_el0() -> u64 {
    let value;
    // SAFETY: Any program may read it.
    unsafe { asm!("mrs {}, dczid_el0", out(reg) value, options(nomem, nostack)) };
    value
}

// SPDX-License-Identifier: GPL-2.0

//! The interrupt controller, a GICv3 in the kernel, and its state
//! (Documentation/virt/kvm/devices/arm-vgic-v3.rst).

use std::ops::Range;

use kvm_bindings::{
    kvm_create_device, kvm_device_attr, kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
    KVM_DEV_ARM_VGIC_CTRL_INIT, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS,
    KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
    KVM_DEV_ARM_VGIC_GRP_NR_IRQS, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS,
    KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT, KVM_VGIC_V3_ADDR_TYPE_DIST, KVM_VGIC_V3_ADDR_TYPE_REDIST,
};
use kvm_ioctls::{DeviceFd, VmFd};

use crate::failure::{During, Result};

/// The distributor.
pub const DISTRIBUTOR: Range<u64> = 0x0800_0000..0x0801_0000;

/// The start of the redistributors, two frames of 64 KiB a vCPU.
pub const REDISTRIBUTORS: u64 = 0x080a_0000;

/// The size of the redistributor of a vCPU.
pub const REDISTRIBUTOR_SIZE: u64 = 0x2_0000;

/// The interrupts, of which 32 are shared.
const INTERRUPTS: u32 = 64;

/// The most vCPUs: their numbers are in Aff0 of MPIDR_EL1.
pub const MAX_VCPUS: u32 = 16;

/// A group of attributes, one of its attributes, and the value: the state is a list of them.
pub type Word = (u32, u64, u64);

/// The controller.
pub struct Gic {
    fd: DeviceFd,
    vcpus: u32,
}

impl Gic {
    /// Creates the controller of a VM that has all of its vCPUs.
    pub fn new(vm: &VmFd, vcpus: u32) -> Result<Self> {
        let mut device = kvm_create_device {
            type_: kvm_device_type_KVM_DEV_TYPE_ARM_VGIC_V3,
            ..Default::default()
        };
        let fd = vm.create_device(&mut device).during("GICv3")?;
        let gic = Self { fd, vcpus };

        for (kind, address) in [
            (KVM_VGIC_V3_ADDR_TYPE_DIST, DISTRIBUTOR.start),
            (KVM_VGIC_V3_ADDR_TYPE_REDIST, REDISTRIBUTORS),
        ] {
            gic.set(KVM_DEV_ARM_VGIC_GRP_ADDR, kind.into(), address)?;
        }
        gic.set(KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, INTERRUPTS.into())?;
        gic.set(
            KVM_DEV_ARM_VGIC_GRP_CTRL,
            KVM_DEV_ARM_VGIC_CTRL_INIT.into(),
            0,
        )?;
        Ok(gic)
    }

    /// Sets an attribute.
    pub fn set(&self, group: u32, attr: u64, value: u64) -> Result {
        let attribute = kvm_device_attr {
            group,
            attr,
            addr: &raw const value as u64,
            flags: 0,
        };
        // Values of 32 bits are the first half of one of 64 bits: the machine is little-endian.
        self.fd
            .set_device_attr(&attribute)
            .during(format!("GICv3: attribute {attr:#x} of group {group}"))
    }

    /// Returns the value of an attribute.
    fn get(&self, group: u32, attr: u64) -> Result<Word> {
        let mut value = 0u64;
        let mut attribute = kvm_device_attr {
            group,
            attr,
            addr: &raw mut value as u64,
            flags: 0,
        };
        // SAFETY: The kernel writes at most 64 bits.
        unsafe { self.fd.get_device_attr(&mut attribute) }
            .during(format!("GICv3: attribute {attr:#x} of group {group}"))?;
        Ok((group, attr, value))
    }

    /// Returns the state, in the order in which it has to be set. No vCPU is running.
    pub fn state(&self) -> Result<Vec<Word>> {
        let attributes = self.attributes()?;
        attributes
            .into_iter()
            .map(|(group, attr)| self.get(group, attr))
            .collect()
    }

    /// Returns the attributes with state: GICD_IIDR and GICD_CTLR first, then those of each vCPU.
    fn attributes(&self) -> Result<Vec<(u32, u64)>> {
        let mut attributes = Vec::new();
        for register in words(&DISTRIBUTOR_REGISTERS) {
            attributes.push((KVM_DEV_ARM_VGIC_GRP_DIST_REGS, register));
        }
        attributes.push((KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, 32));
        for vcpu in 0..u64::from(self.vcpus) {
            let vcpu = vcpu << KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT;
            for register in words(&REDISTRIBUTOR_REGISTERS) {
                attributes.push((KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, vcpu | register));
            }
            for register in self.interface_registers()? {
                attributes.push((KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, vcpu | register));
            }
            attributes.push((KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO, vcpu));
        }
        Ok(attributes)
    }

    /// Returns the registers of the CPU interface. There is a register of active priorities for
    /// each 5 bits of priority, 2 for 6 and 4 for 7.
    fn interface_registers(&self) -> Result<Vec<u64>> {
        let (_, _, control) = self.get(KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, ICC_CTLR_EL1)?;
        let active = match (control >> PRIBITS_SHIFT & PRIBITS) + 1 {
            7.. => 4,
            6 => 2,
            _ => 1,
        };
        let priorities = (0..active).flat_map(|n| [encoding(12, 8, 4 + n), encoding(12, 9, n)]);
        Ok(INTERFACE_REGISTERS.into_iter().chain(priorities).collect())
    }
}

/// Returns the offsets of the registers of 32 bits in these ranges.
fn words(ranges: &[Range<u64>]) -> impl Iterator<Item = u64> + '_ {
    ranges.iter().flat_map(|range| range.clone().step_by(4))
}

/// Registers of the distributor, for interrupts 32 to 63 (Arm GICv3 specification, "The
/// Distributor register map"): GICD_IIDR, GICD_CTLR, GICD_IGROUPR1, GICD_ICFGR2 and 3,
/// GICD_IPRIORITYR8 to 15, GICD_IROUTER32 to 63, GICD_ISENABLER1, GICD_ISPENDR1, GICD_ISACTIVER1.
const DISTRIBUTOR_REGISTERS: [Range<u64>; 9] = [
    0x0008..0x000c,
    0x0000..0x0004,
    0x0084..0x0088,
    0x0c08..0x0c10,
    0x0420..0x0440,
    0x6100..0x6200,
    0x0104..0x0108,
    0x0204..0x0208,
    0x0304..0x0308,
];

/// Registers of a redistributor ("The Redistributor register map"): GICR_CTLR, GICR_WAKER,
/// GICR_IGROUPR0, GICR_ICFGR1, GICR_IPRIORITYR0 to 7, GICR_ISENABLER0, GICR_ISPENDR0,
/// GICR_ISACTIVER0.
const REDISTRIBUTOR_REGISTERS: [Range<u64>; 8] = [
    0x0_0000..0x0_0004,
    0x0_0014..0x0_0018,
    0x1_0080..0x1_0084,
    0x1_0c04..0x1_0c08,
    0x1_0400..0x1_0420,
    0x1_0100..0x1_0104,
    0x1_0200..0x1_0204,
    0x1_0300..0x1_0304,
];

/// ICC_CTLR_EL1, and PRIbits in it: the number of bits of priority, less one.
const ICC_CTLR_EL1: u64 = encoding(12, 12, 4);
const PRIBITS_SHIFT: u32 = 8;
const PRIBITS: u64 = 7;

/// Registers of the CPU interface, by their encodings ("AArch64 System register descriptions"):
/// ICC_SRE_EL1, ICC_CTLR_EL1, ICC_IGRPEN0_EL1, ICC_IGRPEN1_EL1, ICC_PMR_EL1, ICC_BPR0_EL1,
/// ICC_BPR1_EL1. ICC_AP0R<n>_EL1 and ICC_AP1R<n>_EL1 follow.
const INTERFACE_REGISTERS: [u64; 7] = [
    encoding(12, 12, 5),
    ICC_CTLR_EL1,
    encoding(12, 12, 6),
    encoding(12, 12, 7),
    encoding(4, 6, 0),
    encoding(12, 8, 3),
    encoding(12, 12, 3),
];

/// Returns the encoding of a register with op0 3 and op1 0, for the group of attributes.
const fn encoding(crn: u64, crm: u64, op2: u64) -> u64 {
    3 << 14 | crn << 7 | crm << 3 | op2
}

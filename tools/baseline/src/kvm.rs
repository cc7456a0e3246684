// SPDX-License-Identifier: GPL-2.0

//! Asks KVM: tries in scratch VMs what it accepts.

use std::{
    arch::asm,
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
    fs, io,
    os::fd::AsRawFd,
    path::Path,
};

use kvm_bindings::{
    kvm_create_device, kvm_device_attr, kvm_enable_cap, kvm_userspace_memory_region, kvm_vcpu_init,
    KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, KVM_CREATE_DEVICE_TEST,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

use crate::{
    host::{Choice, Facts, Group, Hex, Host, Implementation, FEATURES},
    merge::Set,
    registers::{self, Field, Register, AIDR_EL1, CLIDR_EL1, MIDR_EL1, REVIDR_EL1},
    text::Text,
    Error,
};

const DEVICE: &str = "/dev/kvm";
const PARAMETER: &str = "/sys/module/kvm/parameters/baseline";

/// S3_3_C9_C12_0: it is not in the description of the registers.
const PMCR_EL0: u64 = 0x6030_0000_0013_dce0;
/// KVM_REG_ARM_DEMUX: CCSIDR_EL1 by the value of CSSELR_EL1.
const DEMUX: u64 = 0x6020_0000_0011_0000;
/// As many as KVM has (CSSELR_MAX): seven levels of caches, of data and of instructions.
const CSSELR_VALUES: u64 = 14;
const SVE_VLS: u64 = 0x6060_0000_0015_ffff;

/// KVM_ARM_GET_REG_WRITABLE_MASKS: _IOR(KVMIO, 0xb6, struct reg_mask_range).
const GET_REG_WRITABLE_MASKS: u64 = 0x8040_aeb6;
/// KVM_CREATE_DEVICE: _IOWR(KVMIO, 0xe0, struct kvm_create_device).
const CREATE_DEVICE: u64 = 0xc00c_aee0;
/// KVM_ENABLE_CAP: _IOW(KVMIO, 0xa3, struct kvm_enable_cap).
const ENABLE_CAP: u64 = 0x4068_aea3;
/// KVM_CAP_ARM_WRITABLE_IMP_ID_REGS.
const WRITABLE_IMPLEMENTATION: u32 = 239;

/// Capabilities by which VMMs decide what a VM has.
const CAPABILITIES: &[(&str, u32)] = &[
    ("ARM_EL1_32BIT", 93),
    ("GUEST_DEBUG_HW_BPS", 119),
    ("GUEST_DEBUG_HW_WPS", 120),
    ("ARM_INJECT_SERROR_ESR", 158),
    ("STEAL_TIME", 187),
    ("ARM_MTE", 205),
    ("ARM_SYSTEM_SUSPEND", 216),
    ("COUNTER_OFFSET", 227),
    ("ARM_WRITABLE_IMP_ID_REGS", 239),
    ("ARM_EL2", 240),
];

/// Bits of KVM_ARM_VCPU_INIT, and the capabilities that offer them.
const INIT: &[(&str, u32, u32)] = &[
    ("pmu", 3, 126),
    ("sve", 4, 170),
    ("ptrauth", 5, 171),
    ("ptrauth", 6, 172),
];
const PSCI_0_2: u32 = 1 << 2;
const SVE: u32 = 4;

/// The version of the interrupt controller, and its type in KVM_CREATE_DEVICE.
const GIC: &[(u32, u32)] = &[(2, 5), (3, 7)];

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

/// Anonymous memory of this process.
struct Memory(*mut libc::c_void);

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
        let bits = match self.ipa_bits {
            0 => 0,
            bits => u64::from(bits.min(40)),
        };
        let vm = self
            .kvm
            .create_vm_with_type(bits)
            .map_err(|error| failed("KVM_CREATE_VM", error))?;
        if how.implementation {
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
        }
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
        let memory = Memory(memory);
        // SAFETY: The mapping is writable, aligned, and large enough.
        unsafe { memory.0.cast::<u32>().write(CODE) };
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: MEMORY,
            memory_size: PAGE as u64,
            userspace_addr: memory.0 as u64,
        };
        // SAFETY: The mapping lives as long as the VM.
        unsafe { vm.set_user_memory_region(region) }
            .map_err(|error| failed("KVM_SET_USER_MEMORY_REGION", error))?;
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
        let scratch = Scratch {
            vcpu,
            vm,
            _memory: memory,
        };
        if features.contains(&"sve") {
            if let Some(longest) = how.sve_length {
                scratch.limit_vectors(longest)?;
            }
            scratch
                .vcpu
                .vcpu_finalize(&(SVE as i32))
                .map_err(|error| failed("KVM_ARM_VCPU_FINALIZE", error))?;
        }
        Ok(scratch)
    }
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

/// Asks this host what it can give to VMs.
pub fn probe(name: Option<String>) -> Result<Host, Error> {
    let host = Here::open()?;
    if fs::read_to_string(PARAMETER).is_ok_and(|text| !text.trim().is_empty()) {
        return Err(Error(format!(
            "this host has a baseline, which hides what it can do: \
             take it away first (echo > {PARAMETER})"
        )));
    }
    let offered = FEATURES.into_iter().filter(|feature| host.offers(feature));
    let offered: Vec<_> = offered.collect();
    let scratch = host.scratch(&offered, How::default())?;
    let values = |scratch: &Scratch| -> BTreeMap<String, Hex> {
        registers::all()
            .filter_map(|register| Some((register.name.into(), Hex(scratch.get(register.id)?))))
            .collect()
    };
    let registers = values(&scratch);
    if !registers.contains_key("ID_AA64PFR0_EL1") {
        return Err(Error("KVM gives no ID registers".into()));
    }

    // Where this VM cannot run, no other one can.
    host.scratch(&offered, How::default())?.run()?;
    let mut features = BTreeMap::new();
    for feature in &offered {
        let others: Vec<_> = offered
            .iter()
            .filter(|one| *one != feature)
            .copied()
            .collect();
        let mut without = values(&host.scratch(&others, How::default())?);
        without.retain(|name, value| registers.get(name) != Some(value));
        features.insert(feature.to_string(), without);
    }

    let mut choices = Vec::new();
    for group in Group::all() {
        let own = group.value(|register| Some(registers.get(register.name)?.0));
        let Some(own) = own else { continue };
        let accepted = accepted(&host, &offered, group, &own, &registers)?;
        if accepted.len() > 1 {
            choices.push(Choice {
                fields: group.names().to_vec(),
                accepted,
            });
        }
    }
    Ok(Host {
        name: name.unwrap_or_else(|| uname().0),
        kernel: uname().1,
        derived_from: None,
        baseline: Path::new(PARAMETER).exists(),
        told: scratch.told(),
        registers,
        choices,
        features,
        implementation: implementation(&host, &scratch),
        facts: facts(&host, &scratch, &offered),
        capabilities: CAPABILITIES
            .iter()
            .map(|(name, number)| (name.to_string(), host.has(*number).into()))
            .collect(),
    })
}

/// Returns the values of a group that KVM takes, keeps, and still has after the VM has run.
fn accepted(
    host: &Here,
    features: &[&str],
    group: &Group,
    own: &[u64],
    registers: &BTreeMap<String, Hex>,
) -> Result<BTreeSet<Vec<u64>>, Error> {
    let mut found = BTreeSet::from([own.to_vec()]);
    let mut scratch = host.scratch(features, How::default())?;
    for value in product(group) {
        if value == own {
            continue;
        }
        let new = changed(group, &value, registers);
        let keeps = |scratch: &Scratch| {
            group.value(|register| scratch.get(register.id)).as_ref() == Some(&value)
        };
        let taken: Vec<_> = new
            .iter()
            .map(|(register, value)| scratch.set(register.id, *value))
            .collect();
        let all = taken.iter().all(|taken| *taken);
        if all && keeps(&scratch) {
            scratch.run()?;
            if keeps(&scratch) {
                found.insert(value);
            }
        }
        // What was taken, and a run, would have a part in the next trial.
        if taken.contains(&true) {
            scratch = host.scratch(features, How::default())?;
        }
    }
    Ok(found)
}

/// Returns all values of a group.
fn product(group: &Group) -> Vec<Vec<u64>> {
    let mut all = vec![Vec::new()];
    for (_, field) in group.parts() {
        let longer = |start: &Vec<u64>| {
            let values = field.tries().into_iter();
            let start = start.clone();
            values.map(move |value| [start.as_slice(), &[value]].concat())
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Returns the registers that a value of a group changes, with their new values.
fn changed(
    group: &Group,
    value: &[u64],
    registers: &BTreeMap<String, Hex>,
) -> Vec<(&'static Register, u64)> {
    let mut new: Vec<(&'static Register, u64)> = Vec::new();
    for ((register, field), value) in group.parts().zip(value) {
        match new.iter_mut().find(|(known, _)| known.id == register.id) {
            Some((_, whole)) => *whole = field.with(*whole, *value),
            None => {
                let own = registers.get(register.name).map_or(0, |own| own.0);
                new.push((register, field.with(own, *value)));
            }
        }
    }
    new
}

fn implementation(host: &Here, scratch: &Scratch) -> Option<Implementation> {
    Some(Implementation {
        midr_el1: Hex(scratch.get(MIDR_EL1)?),
        revidr_el1: Hex(scratch.get(REVIDR_EL1)?),
        aidr_el1: Hex(scratch.get(AIDR_EL1)?),
        writable: host.has(WRITABLE_IMPLEMENTATION) > 0,
    })
}

fn facts(host: &Here, scratch: &Scratch, offered: &[&str]) -> Facts {
    let ccsidr_el1 = (0..CSSELR_VALUES)
        .filter_map(|csselr| Some((csselr.to_string(), Hex(scratch.get(DEMUX | csselr)?))))
        .collect();
    let gic = GIC.iter().filter(|(_, kind)| {
        let mut device = kvm_create_device {
            type_: *kind,
            fd: 0,
            flags: KVM_CREATE_DEVICE_TEST,
        };
        // SAFETY: With the flag, KVM only tests, and gives no file descriptor.
        let result =
            unsafe { libc::ioctl(scratch.vm.as_raw_fd(), CREATE_DEVICE as _, &mut device) };
        result == 0
    });
    // SAFETY: It asks for a number.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    Facts {
        cntfrq_el0: Some(cntfrq_el0()),
        dczid_el0: Some(Hex(dczid_el0())),
        sve_lengths: scratch.lengths(),
        pmu_counters: offered
            .contains(&"pmu")
            .then(|| scratch.get(PMCR_EL0))
            .flatten()
            .map(|value| (value >> 11 & 0x1f) as u32),
        clidr_el1: scratch.get(CLIDR_EL1).map(Hex),
        ccsidr_el1,
        ipa_bits: (host.ipa_bits != 0).then_some(host.ipa_bits),
        gic: gic.map(|(version, _)| *version).collect(),
        page_size: Some(page as u64 / 1024),
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

/// Returns the name of the host and the release of its kernel.
fn uname() -> (String, String) {
    // SAFETY: All fields of the structure are arrays of characters.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: The kernel writes to the structure, which is this function's.
    unsafe { libc::uname(&mut names) };
    let text = |field: &[libc::c_char]| {
        // SAFETY: The kernel ends names by a zero.
        let text = unsafe { CStr::from_ptr(field.as_ptr()) };
        text.to_string_lossy().into_owned()
    };
    (text(&names.nodename), text(&names.release))
}

/// Checks that VMs of this host can have what a text says. Fails with what it refuses first.
pub fn check(text: &Text) -> Result<(), Error> {
    let host = Here::open()?;
    let refuses = |what: String| Err(Error(format!("this host refuses it: {what}")));
    for (what, wanted, own) in [
        ("CNTFRQ_EL0", text.cntfrq_el0, cntfrq_el0()),
        ("DCZID_EL0", text.dczid_el0, dczid_el0()),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| *wanted != own) {
            return refuses(format!("{what} is {own} here, and cannot be {wanted}"));
        }
    }
    // A feature that this host lacks shows in the fields that say whether a VM has it.
    let features: Vec<_> = FEATURES
        .into_iter()
        .filter(|feature| host.offers(feature) && !text.off.iter().any(|off| off == feature))
        .collect();

    let mut how = How::default();
    let mut scratch = host.scratch(&features, how)?;
    if let Some(longest) = text.sve_length {
        if !scratch.lengths().contains(&longest) {
            return refuses(format!("SVE vectors of {longest} bits"));
        }
        how.sve_length = Some(longest);
    }
    if let Some(wanted) = text.pmu_counters {
        let own = scratch.get(PMCR_EL0).map_or(0, |value| value >> 11 & 0x1f);
        if u64::from(wanted) > own {
            return refuses(format!("PMCR_EL0.N: {wanted} event counters, it has {own}"));
        }
    }
    let who = [
        ("MIDR_EL1", MIDR_EL1, text.midr_el1),
        ("REVIDR_EL1", REVIDR_EL1, text.revidr_el1),
        ("AIDR_EL1", AIDR_EL1, text.aidr_el1),
    ];
    let other = |(_, id, wanted): &(_, u64, Option<u64>)| {
        wanted.is_some_and(|wanted| scratch.get(*id) != Some(wanted))
    };
    how.implementation = who.iter().any(other);
    if how.implementation && host.has(WRITABLE_IMPLEMENTATION) <= 0 {
        let (name, id, _) = who.iter().find(|one| other(one)).expect("there is one");
        let own = scratch.get(*id).unwrap_or(0);
        return refuses(format!("{name}: it is {own:#x}, and cannot be changed"));
    }

    scratch = host.scratch(&features, how)?;
    if how.implementation {
        for (name, id, wanted) in who {
            if wanted.is_some_and(|wanted| !scratch.set(id, wanted)) {
                return refuses(name.into());
            }
        }
    }
    for set in &text.sets {
        let register = registers::named(set.register).expect("the text has known ones");
        match scratch.get(register.id) {
            None if set.value == 0 => {}
            None => return refuses(format!("{register}: it is not known here")),
            Some(own) if own & set.mask == set.value => {}
            Some(own) => {
                let new = own & !set.mask | set.value;
                let keeps = |scratch: &Scratch| scratch.get(register.id) == Some(new);
                if !scratch.set(register.id, new) || !keeps(&scratch) {
                    let fresh = host.scratch(&features, how)?;
                    return refuses(refused(register, set, own, &fresh));
                }
            }
        }
    }
    scratch.run()?;
    for set in &text.sets {
        let register = registers::named(set.register).expect("the text has known ones");
        if scratch.get(register.id).unwrap_or(0) & set.mask != set.value {
            return refuses(format!(
                "{register}: another value than {:#x}/{:#x} after the VM has run",
                set.value, set.mask
            ));
        }
    }
    Ok(())
}

/// Names the field of a register that is refused, in a new VM: the one without which the others
/// are accepted, or the first that is not accepted after those above it.
fn refused(register: &Register, set: &Set, own: u64, scratch: &Scratch) -> String {
    let wanted = |field: &Field| field.of(set.value);
    let accepts = |new| scratch.set(register.id, new) && scratch.get(register.id) == Some(new);
    let differs = |field: &&&Field| set.mask & field.mask() != 0 && wanted(field) != field.of(own);
    let fields: Vec<_> = register.fields.iter().collect();
    let fields: Vec<_> = fields.iter().filter(differs).copied().collect();
    let all = own & !set.mask | set.value;
    let alone = fields
        .iter()
        .find(|field| accepts(field.with(all, field.of(own))));
    let mut now = own;
    let mut after = fields.iter().filter(|field| {
        let new = field.with(now, wanted(field));
        let good = accepts(new);
        if good {
            now = new;
        }
        !good
    });
    match alone.or_else(|| after.next()) {
        Some(field) => format!(
            "{register}.{}: it has {} and does not accept {}",
            field.name,
            field.spell(field.of(own)),
            field.spell(wanted(field))
        ),
        None => format!(
            "{register}: it has {own:#x} and does not accept {:#x}",
            set.value
        ),
    }
}

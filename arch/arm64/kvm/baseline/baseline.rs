// SPDX-License-Identifier: GPL-2.0

//! A CPU that all hosts of a fleet can give to VMs (`kvm.baseline=`).
//!
//! The baseline of a host lowers the defaults of the ID registers of all VMs, so that a VMM that
//! does not write ID registers can move VMs between hosts that differ. [`text`] parses the words of
//! the parameter, [`description`] holds their meaning, and [`judge`] refuses values that VMs of
//! this host cannot have: a host accepts a baseline as a whole, or not at all.
//!
//! A VM keeps the baseline that the host had when the VM was created: a new one is a new object.
//!
//! C header: [`asm/kvm_baseline.h`](srctree/arch/arm64/include/asm/kvm_baseline.h)

use core::ptr::null_mut;

use kernel::{
    bindings,
    error::from_result,
    kvm::{
        id_register::{visible_aidr, IdRegister, Owner},
        Vcpu,
        Vm, //
    },
    page::PAGE_SIZE,
    prelude::*,
    seq_file::SeqFile,
    seq_print,
    str::BStr,
    sync::{
        atomic::{Atomic, Relaxed},
        global_lock,
        Arc, //
    }, //
};

mod description;
mod judge;
mod keys;
mod text;

use description::{Baseline, Name, Number};
use keys::IMPLEMENTATION;

/// For `pr_err!()` and the like.
const __LOG_PREFIX: &[u8] = b"kvm\0";

/// A part of a baseline: some bits of an ID register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// The encoding of the register, as `sys_reg()` gives it.
    id: u32,
    /// Whether the text has the encoding, and not the name.
    encoded: bool,
    /// No bit is outside of `mask`.
    value: u64,
    mask: u64,
}

global_lock! {
    // SAFETY: `kvm_baseline_init()` initialises it, and nothing uses it before.
    unsafe(uninit) static CURRENT: Mutex<Option<Arc<Baseline>>> = None;
}

/// True while this host has a baseline. While false, the creation of a VM takes no lock.
static IS_GIVEN: Atomic<bool> = Atomic::new(false);

/// Replaces the baseline of this host. VMs that exist keep theirs.
fn replace(text: &[u8]) -> Result {
    let new = Baseline::new(text)?;
    let mut current = CURRENT.lock();

    IS_GIVEN.store(new.is_some(), Relaxed);
    let old = core::mem::replace(&mut *current, new);
    drop(current);
    drop(old);
    Ok(())
}

/// Returns the baseline of this host.
fn current() -> Option<Arc<Baseline>> {
    if IS_GIVEN.load(Relaxed) {
        CURRENT.lock().clone()
    } else {
        None
    }
}

/// Returns the baseline of a VM.
fn of_vm(vm: &Vm) -> Option<&Baseline> {
    // SAFETY: The VM is alive. Its pointer is null or that of a reference which the VM has; it is
    // stored while the VM is created, and is dropped after the last vCPU.
    unsafe { (*vm.as_raw()).arch.baseline.cast::<Baseline>().as_ref() }
}

/// Returns the value that a vCPU of a VM with this baseline has by default in the ID register `id`,
/// which would be `limit` otherwise.
fn lowered(baseline: &Baseline, vcpu: &Vcpu, id: u32, limit: u64) -> u64 {
    let implementation = IMPLEMENTATION.iter().find(|it| it.0.as_u32() == id);

    if let Some((_, key)) = implementation {
        return match baseline.number(*key) {
            Some(aidr) if *key == keys::AIDR => visible_aidr(aidr),
            number => number.unwrap_or(limit),
        };
    }
    let Some(set) = baseline.set(id) else {
        return limit;
    };
    IdRegister::new(id).map_or(limit, |it| {
        it.lower(Owner::Vcpu(vcpu), limit, set.value, set.mask)
    })
}

/// Prints a baseline's text, and the ID registers, numbers and features that it lowers for a vCPU.
fn show(m: &SeqFile, baseline: &Baseline, vcpu: &Vcpu) {
    seq_print!(m, "{}\n", BStr::from_bytes(&baseline.text));
    for set in &baseline.sets {
        let limit = IdRegister::new(set.id).map_or(0, |it| it.limit(Owner::Vcpu(vcpu)));
        let value = lowered(baseline, vcpu, set.id, limit);

        if value != limit {
            seq_print!(m, "{}: {:#x} -> {:#x}\n", Name(*set), limit, value);
        }
    }
    for (key, limit, value) in baseline.lowered_numbers() {
        let (limit, value) = (Number(key, limit), Number(key, value));
        seq_print!(m, "{}: {} -> {}\n", key.name, limit, value);
    }
    for name in baseline.hidden() {
        seq_print!(m, "{}: off\n", name);
    }
}

/// Initialises the lock of this host's baseline.
///
/// # Safety
///
/// Called once, before VMs exist.
#[export]
pub unsafe extern "C" fn kvm_baseline_init() {
    // SAFETY: By the caller's contract.
    unsafe { CURRENT.init() };
}

/// Replaces the baseline of this host. Returns 0, `-EINVAL` after logging the reason, or `-ENOMEM`.
///
/// Context: may sleep.
///
/// # Safety
///
/// KVM has initialised. `text` is a string.
#[export]
pub unsafe extern "C" fn kvm_baseline_replace(text: *const c_char) -> c_int {
    // SAFETY: By the caller's contract.
    let text = unsafe { CStr::from_char_ptr(text) }.to_bytes();

    from_result(|| replace(text.strip_suffix(b"\n").unwrap_or(text)).map(|()| 0))
}

/// Writes the text of this host's baseline, if any, to a buffer of sysfs. Returns the length of the
/// text.
///
/// Context: may sleep.
///
/// # Safety
///
/// KVM has initialised. `buffer` is valid for writes of a page.
#[export]
pub unsafe extern "C" fn kvm_baseline_text(buffer: *mut u8) -> usize {
    // SAFETY: By the caller's contract.
    let buffer = unsafe { core::slice::from_raw_parts_mut(buffer, PAGE_SIZE) };
    let current = CURRENT.lock();
    let text = current.as_ref().map_or(&[][..], |it| &it.text[..]);

    match buffer.get_mut(..text.len()) {
        Some(start) => {
            start.copy_from_slice(text);
            text.len()
        }
        None => 0,
    }
}

/// Gives a new VM the baseline of this host.
///
/// Context: may sleep.
///
/// # Safety
///
/// KVM has initialised. `kvm` points to a VM that is being created.
#[export]
pub unsafe extern "C" fn __kvm_baseline_take(kvm: *mut bindings::kvm) {
    let Some(baseline) = current() else {
        return;
    };

    // SAFETY: By the caller's contract, nothing else has access to the VM.
    let arch = unsafe { &mut (*kvm).arch };
    let number = |key| baseline.number(key);
    let lower =
        |bitmap: &mut usize, key| *bitmap &= number(key).map_or(usize::MAX, |it| it as usize);
    if IMPLEMENTATION.iter().any(|it| number(it.1).is_some()) {
        arch.flags |= 1 << bindings::KVM_ARCH_FLAG_WRITABLE_IMP_ID_REGS;
    }
    let workarounds = [keys::WA1, keys::WA2, keys::WA3];
    for (limit, key) in arch.wa_limits.iter_mut().zip(workarounds) {
        *limit = number(key).map_or(0, |it| it as u8 + 1);
    }
    if let Some(version) = number(keys::PSCI) {
        arch.psci_version = version as u32;
    }
    let smccc = &mut arch.smccc_feat;
    lower(&mut smccc.std_bmap, keys::STD_BMAP);
    lower(&mut smccc.std_hyp_bmap, keys::STD_HYP_BMAP);
    lower(&mut smccc.vendor_hyp_bmap, keys::VENDOR_HYP_BMAP);
    lower(&mut smccc.vendor_hyp_bmap_2, keys::VENDOR_HYP_BMAP2);
    arch.baseline = baseline.into_raw().cast_mut().cast();
}

/// Drops the VM's reference to its baseline.
///
/// # Safety
///
/// `kvm` points to a VM that is being destroyed, and has no vCPUs.
#[export]
pub unsafe extern "C" fn kvm_baseline_drop(kvm: *mut bindings::kvm) {
    // SAFETY: By the caller's contract. A pointer that is not null comes from
    // `__kvm_baseline_take()`, and nothing uses the baseline through it any more.
    unsafe {
        let baseline = (&raw mut (*kvm).arch.baseline).replace(null_mut());
        if !baseline.is_null() {
            drop(Arc::from_raw(baseline.cast::<Baseline>()));
        }
    }
}

/// Returns the value that a vCPU has by default in the ID register `id`, which would be `limit`
/// without a baseline.
///
/// Context: any.
///
/// # Safety
///
/// `vcpu` points to a vCPU that is alive, whose features are set; `id` is the encoding of an ID
/// register that a VM has.
#[export]
pub unsafe extern "C" fn __kvm_baseline_lower(
    vcpu: *mut bindings::kvm_vcpu,
    id: u32,
    limit: u64,
) -> u64 {
    // SAFETY: By the caller's contract.
    let vcpu = unsafe { Vcpu::from_raw(vcpu) };

    of_vm(vcpu.vm()).map_or(limit, |baseline| lowered(baseline, vcpu, id, limit))
}

/// Returns a number of the VM's baseline, or `otherwise` if it has none.
///
/// # Safety
///
/// `kvm` points to a VM that is alive, and is not being created.
#[export]
pub unsafe extern "C" fn __kvm_baseline_number(
    kvm: *const bindings::kvm,
    key: keys::Id,
    otherwise: u64,
) -> u64 {
    // SAFETY: By the caller's contract.
    of_vm(unsafe { Vm::from_raw(kvm.cast_mut()) })
        .and_then(|it| it.number(key))
        .unwrap_or(otherwise)
}

/// Returns whether the VM has no AArch32 because of its baseline.
///
/// # Safety
///
/// As for [`__kvm_baseline_number`].
#[export]
pub unsafe extern "C" fn __kvm_baseline_hides_aa32(kvm: *const bindings::kvm) -> bool {
    // SAFETY: By the caller's contract.
    of_vm(unsafe { Vm::from_raw(kvm.cast_mut()) }).is_some_and(Baseline::hides_aa32)
}

/// Returns the features that vCPUs of a VM cannot have because of its baseline, as bits
/// `KVM_ARM_VCPU_*`. NULL stands for a VM that is created now.
///
/// Context: may sleep.
///
/// # Safety
///
/// KVM has initialised. `kvm` is NULL, or as for [`__kvm_baseline_number`].
#[export]
pub unsafe extern "C" fn kvm_baseline_hidden_features(kvm: *const bindings::kvm) -> usize {
    if kvm.is_null() {
        return current().map_or(0, |it| it.hidden_features());
    }
    // SAFETY: By the caller's contract.
    of_vm(unsafe { Vm::from_raw(kvm.cast_mut()) }).map_or(0, Baseline::hidden_features)
}

/// Prints the text of a VM's baseline, and the values that it lowers for a vCPU.
///
/// # Safety
///
/// `m` is valid and not shared. `vcpu` is as for [`__kvm_baseline_lower`].
#[export]
pub unsafe extern "C" fn kvm_baseline_show(
    m: *mut bindings::seq_file,
    vcpu: *mut bindings::kvm_vcpu,
) {
    // SAFETY: By the caller's contract.
    let (m, vcpu) = unsafe { (SeqFile::from_raw(m), Vcpu::from_raw(vcpu)) };

    if let Some(baseline) = of_vm(vcpu.vm()) {
        show(m, baseline, vcpu);
    }
}

#[cfg(CONFIG_KVM_ARM64_BASELINE_KUNIT_TEST)]
#[kunit_tests(kvm_arm64_baseline)]
mod tests {
    use super::*;

    use kernel::{
        arm64::sysreg::*,
        fmt::Write,
        kvm::id_register::offered_features,
        str::Formatter, //
    };

    use description::Host;
    use judge::Registers;

    /// Returns the text of the baseline that `text` gives, or the error.
    fn text_of(text: &str) -> Result<KVec<u8>> {
        match Baseline::new(text.as_bytes())? {
            None => Ok(KVec::new()),
            Some(it) => {
                let mut copy = KVec::new();
                copy.extend_from_slice(&it.text, GFP_KERNEL)?;
                Ok(copy)
            }
        }
    }

    /// Returns whether KVM has initialised: not if booted at EL1, or with kvm-arm.mode=none.
    fn has_kvm() -> bool {
        // SAFETY: Callable in any context.
        unsafe { bindings::is_kvm_arm_initialised() }
    }

    /// Returns the text that sets all bits of a register.
    fn whole_register(id: u32, value: u64) -> Result<KVec<u8>> {
        let mut text = KVec::from_elem(0, 128, GFP_KERNEL)?;
        let mut formatter = Formatter::new(&mut text);
        let name = Name(Set {
            id,
            encoded: false,
            value: 0,
            mask: 0,
        });

        assert!(formatter
            .write_fmt(fmt!("{name}={value:#x}/0xffffffffffffffff"))
            .is_ok());
        let len = formatter.bytes_written();
        text.truncate(len);
        Ok(text)
    }

    /// A text that gives a register its default is accepted, and is its own canonical form.
    #[test]
    fn defaults() -> Result {
        if !has_kvm() {
            return Ok(());
        }
        for id in [
            ID_AA64PFR0_EL1::ENCODING,
            ID_AA64DFR0_EL1::ENCODING,
            ID_AA64ISAR0_EL1::ENCODING,
            ID_AA64MMFR2_EL1::ENCODING,
            CTR_EL0::ENCODING,
        ] {
            let limit = Host {
                features: offered_features(),
            }
            .limit(id.as_u32());
            let text = whole_register(id.as_u32(), limit)?;
            let Some(it) = Baseline::new(&text)? else {
                panic!("a text gives a baseline");
            };
            assert_eq!(it.text[..], text[..]);
            assert_eq!(it.set(id.as_u32()).map(|it| it.value), Some(limit));
        }
        Ok(())
    }

    /// Every machine refuses these texts, and accepts an empty text.
    #[test]
    fn refusals() -> Result {
        if !has_kvm() {
            return Ok(());
        }
        assert!(text_of("")?.is_empty());
        for text in [
            "x",
            "id_aa64isar0_el1=0",
            "psci=1",
            "mte=off",
            "sve=off,sve=128",
            ",",
        ] {
            assert!(text_of(text).is_err());
        }
        assert_eq!(text_of("sve=off,psci=2")?[..], b"psci=0x2,sve=off"[..]);
        Ok(())
    }

    /// Names are those of the architecture.
    #[test]
    fn names() {
        let find = |name: &str| IdRegister::find(name.as_bytes()).map(IdRegister::encoding);

        for (name, encoding) in [
            ("id_aa64pfr0_el1", ID_AA64PFR0_EL1::ENCODING),
            ("ctr_el0", CTR_EL0::ENCODING),
        ] {
            assert_eq!(find(name), Some(encoding.as_u32()));
        }
        for name in [
            "",
            "id_aa64pfr0",
            "id_aa64pfr0_el11",
            "ID_AA64PFR0_EL1",
            "midr_el1",
            "clidr_el1",
        ] {
            assert_eq!(find(name), None);
        }
    }
}

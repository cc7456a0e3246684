// SPDX-License-Identifier: GPL-2.0

//! The memory of a guest whose buffer is enabled: what its window is made of, and who stops the
//! unit before the memory changes.
//!
//! # Access rules
//!
//! The frames that a vCPU watches change with `mmu_lock` held for writing, by the task that runs
//! the vCPU. Mappings of stage 2 are removed, or lose permissions, with that lock held for writing
//! too, and [`__kvm_spe_invalidate`] is called before: it notes the change, and requests of a vCPU
//! whose watch is armed that the window is made ready again. The request takes the vCPU out of the
//! guest, which completes all records, before that function returns. A vCPU with a request does
//! not enter, and the watch is armed with the lock held for reading: a change is either seen then,
//! or is requested later.

use core::{
    cell::UnsafeCell,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering}, //
};

use kernel::{
    arm64::{cpufeature::system_has, sysreg::*},
    bindings::{
        self,
        kvm_spe_window as Opaque, //
    },
    cpucap,
    error::to_result,
    prelude::*,
    time::{delay::fsleep, Delta},
    tracepoint::declare_trace, //
};

use super::{
    buffer::add,
    window::{
        Context,
        Descriptor,
        Faults,
        Frame,
        Frames,
        Memory,
        Page,
        Unmapped,
        Watch,
        Window, //
    },
};

declare_trace! {
    /// # Safety
    ///
    /// Always safe: the arguments are plain integers.
    unsafe fn kvm_spe_kick(vcpu_id: i32, first: u64, last: u64);
}

/// What a vCPU needs while its buffer is enabled.
pub(super) struct Watched {
    /// Belongs to the task that runs the vCPU.
    window: UnsafeCell<Window>,
    /// Written by that task with `mmu_lock` held for writing.
    watch: UnsafeCell<Watch>,
    /// Belongs to that task, too.
    faults: Faults,
    /// The value of `kvm->arch.spe.relaxed` whose translations are gone.
    flushed: AtomicU32,
}

impl Watched {
    /// Allocates what a vCPU needs, unless it has it already.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose VM's `config_lock` is held.
    pub(super) unsafe fn allocate(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let new = KBox::new(
            Self {
                window: UnsafeCell::new(Window::new()),
                watch: UnsafeCell::new(Watch::new()),
                faults: Faults::new(),
                flushed: AtomicU32::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: By the caller's contract. Tasks that change mappings may look at it meanwhile.
        let place = unsafe { AtomicPtr::from_ptr(&raw mut (*vcpu).arch.spe.window) };
        let new = KBox::into_raw(new).cast::<Opaque>();

        if place
            .compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: It comes from `into_raw()`, and nobody else has it.
            drop(unsafe { KBox::from_raw(new.cast::<Self>()) });
        }
        Ok(())
    }

    /// Returns what a vCPU has.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU that is there for `'a`.
    unsafe fn of<'a>(vcpu: *mut bindings::kvm_vcpu) -> Option<&'a Self> {
        // SAFETY: By the caller's contract; it is freed with the vCPU.
        unsafe {
            AtomicPtr::from_ptr(&raw mut (*vcpu).arch.spe.window)
                .load(Ordering::Acquire)
                .cast::<Self>()
                .as_ref()
        }
    }
}

/// Frees what a vCPU had.
///
/// Context: process.
///
/// # Safety
///
/// `vcpu` is not used any more.
#[export]
unsafe extern "C" fn kvm_spe_destroy_vcpu(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract; `allocate()` has stored what `into_raw()` returned.
    unsafe {
        let window = (&raw mut (*vcpu).arch.spe.window).replace(ptr::null_mut());
        if !window.is_null() {
            drop(KBox::from_raw(window.cast::<Watched>()));
        }
    }
}

/// The lock of a VM's stage 2, held.
struct MmuLock<const WRITE: bool>(*mut bindings::kvm);

impl<const WRITE: bool> MmuLock<WRITE> {
    /// Takes the lock.
    ///
    /// # Safety
    ///
    /// `kvm` is a VM that stays. The context allows the lock to be taken.
    unsafe fn new(kvm: *mut bindings::kvm) -> Self {
        // SAFETY: By the caller's contract.
        unsafe {
            let lock = &raw mut (*kvm).mmu_lock;
            if WRITE {
                bindings::write_lock(lock);
            } else {
                bindings::read_lock(lock);
            }
        }
        Self(kvm)
    }
}

impl<const WRITE: bool> Drop for MmuLock<WRITE> {
    fn drop(&mut self) {
        // SAFETY: `new()` has taken it.
        unsafe {
            let lock = &raw mut (*self.0).mmu_lock;
            if WRITE {
                bindings::write_unlock(lock);
            } else {
                bindings::read_unlock(lock);
            }
        }
    }
}

/// The memory of a vCPU that this task runs.
///
/// # Invariants
///
/// `vcpu` is loaded by this task, which holds `kvm->srcu`; interrupts are on.
pub(super) struct Guest<'a> {
    vcpu: *mut bindings::kvm_vcpu,
    kvm: *mut bindings::kvm,
    watched: &'a Watched,
}

impl<'a> Guest<'a> {
    /// Calls `f` with the memory and the window of a vCPU that has been set up.
    ///
    /// # Safety
    ///
    /// As for the invariant of the type.
    pub(super) unsafe fn with<R>(
        vcpu: *mut bindings::kvm_vcpu,
        f: impl FnOnce(&Self, &mut Window) -> R,
    ) -> Option<R> {
        // SAFETY: By the caller's contract.
        let (watched, kvm) = unsafe { (Watched::of(vcpu)?, (*vcpu).kvm) };
        // INVARIANT: By the caller's contract.
        let guest = Self { vcpu, kvm, watched };
        // SAFETY: The window belongs to this task, and nothing below `f` takes it once more.
        let window = unsafe { &mut *watched.window.get() };

        Some(f(&guest, window))
    }

    /// Returns a system register of the guest.
    fn register(&self, register: bindings::vcpu_sysreg) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::vcpu_read_sys_reg(self.vcpu, register) }
    }

    /// Arms the watch if nothing has changed, and all of `frames` are mapped.
    fn arm_with(&self, frames: &[Frame]) -> bool {
        // SAFETY: By the type invariant.
        let _lock = unsafe { MmuLock::<false>::new(self.kvm) };
        let is_mapped = |frame: &Frame| {
            // SAFETY: By the type invariant; the lock is held.
            unsafe {
                bindings::kvm_s2_is_mapped(self.kvm, frame.gfn << bindings::PAGE_SHIFT, frame.write)
            }
        };

        // SAFETY: Only this task writes it.
        unsafe { &*self.watched.watch.get() }.arm(|| frames.iter().all(is_mapped))
    }
}

/// What translates, for a walk that shows its descriptors.
struct Walk<'a> {
    kvm: *mut bindings::kvm,
    va: u64,
    seen: &'a mut dyn FnMut(Descriptor),
}

impl Walk<'_> {
    /// Shows the descriptor that the walk is about to read.
    ///
    /// # Safety
    ///
    /// The software walk of stage 1 calls it with a `Walk`.
    unsafe extern "C" fn show(context: *mut bindings::s1_walk_context, walk: *mut c_void) -> c_int {
        // SAFETY: By the caller's contract.
        let (context, walk) = unsafe { (&*context, &mut *walk.cast::<Walk<'_>>()) };
        // SAFETY: The context is valid.
        let info = unsafe { &*context.wi };
        let stride = info.pgshift - 3;
        let shift = (3 - context.level) as u32 * stride + info.pgshift;
        // The table of the first level may have fewer entries.
        let top = if context.level == info.sl {
            64 - info.txsz
        } else {
            shift + stride
        };
        let index = (walk.va & (u64::MAX >> (64 - top))) >> shift;
        let ipa = context.table_ipa | index << 3;

        // The frame matters even if nobody can read it.
        let value = read_descriptor(walk.kvm, ipa).unwrap_or(0);
        let size = if info.be { 0 } else { 1 << shift };
        (walk.seen)(Descriptor { ipa, value, size });
        0
    }
}

/// Reads a descriptor, in the guest's byte order.
fn read_descriptor(kvm: *mut bindings::kvm, ipa: u64) -> Option<u64> {
    let mut value = 0u64;
    let size = size_of::<u64>() as c_ulong;

    // SAFETY: The callers have a VM whose `srcu` is held; the value has this size.
    let ret = unsafe { bindings::kvm_read_guest(kvm, ipa, (&raw mut value).cast(), size) };
    (ret == 0).then_some(value)
}

impl Memory for Guest<'_> {
    fn context(&self, va: u64) -> Context {
        let optional = |has, register| if has { self.register(register) } else { 0 };
        let ttbr = if va >> 55 & 1 != 0 {
            bindings::vcpu_sysreg_TTBR1_EL1
        } else {
            bindings::vcpu_sysreg_TTBR0_EL1
        };

        [
            self.register(bindings::vcpu_sysreg_SCTLR_EL1),
            self.register(bindings::vcpu_sysreg_TCR_EL1),
            self.register(ttbr),
            optional(
                system_has(cpucap!(HAS_TCR2)),
                bindings::vcpu_sysreg_TCR2_EL1,
            ),
            optional(
                system_has(cpucap!(HAS_S1PIE)),
                bindings::vcpu_sysreg_PIR_EL1,
            ),
            optional(
                system_has(cpucap!(HAS_S1POE)),
                bindings::vcpu_sysreg_POR_EL1,
            ),
        ]
    }

    fn translate(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Page {
        // The unit makes a clean page dirty, as the CPU does.
        const DBM: u64 = 1 << 51;

        // The walk may set an access flag, and so make a page dirty.
        if self.has_to_stop() {
            return Page::Later;
        }
        let (ipa, descriptor, writable) = match self.walk(va, seen) {
            Ok(found) => found,
            Err(error) if error == EAGAIN => return Page::Later,
            Err(_) => return Page::Unwritable,
        };
        if writable || descriptor & DBM != 0 && self.updates_tables() && self.has_dirty() {
            Page::At(ipa)
        } else {
            Page::Unwritable
        }
    }

    fn descriptor(&self, ipa: u64) -> Option<u64> {
        read_descriptor(self.kvm, ipa)
    }

    fn gfn(&self, ipa: u64) -> u64 {
        ipa >> bindings::PAGE_SHIFT
    }

    fn updates_tables(&self) -> bool {
        // SAFETY: By the type invariant; it does not change once a vCPU has run.
        let pmbidr = unsafe { PMBIDR_EL1::from_raw((*self.kvm).arch.spe.pmbidr) };
        let tcr = TCR_EL1::from_raw(self.register(bindings::vcpu_sysreg_TCR_EL1));

        pmbidr.F().into_bool() && tcr.HA().into_bool()
    }

    fn watch(&self, frames: &Frames) {
        // SAFETY: By the type invariant. Nobody else has a reference while the lock is held.
        unsafe {
            let _lock = MmuLock::<true>::new(self.kvm);
            (*self.watched.watch.get()).set(frames);
        }
    }

    fn map(&self, frame: Frame) -> Result<bool, Unmapped> {
        let gpa = frame.gfn << bindings::PAGE_SHIFT;

        if self.has_to_stop() {
            return Err(Unmapped::Later);
        }
        // SAFETY: By the type invariant.
        match unsafe { bindings::kvm_s2_populate(self.vcpu, gpa, frame.write) } {
            0 => Ok(false),
            1.. => Ok(true),
            ret if [ENOMEM, EINTR].contains(&Error::from_errno(ret)) => Err(Unmapped::Later),
            _ => Err(Unmapped::Gone),
        }
    }

    fn wait(&self) -> bool {
        if self.has_to_stop() {
            return false;
        }
        fsleep(Delta::from_micros(50));
        true
    }

    fn arm(&self) -> bool {
        self.arm_with(&[])
    }

    fn arm_if_mapped(&self, frames: &Frames) -> bool {
        if !self.arm_with(frames.as_slice()) {
            return false;
        }
        // SAFETY: By the type invariant.
        let relaxed = unsafe { relaxed(self.kvm) }.load(Ordering::Acquire);
        if self.watched.flushed.load(Ordering::Relaxed) != relaxed {
            // SAFETY: By the type invariant.
            unsafe { bindings::kvm_arch_flush_remote_tlbs(self.kvm) };
            self.watched.flushed.store(relaxed, Ordering::Relaxed);
        }
        true
    }

    fn disarm(&self) {
        // SAFETY: Only this task writes it.
        unsafe { &*self.watched.watch.get() }.disarm();
    }
}

impl Guest<'_> {
    /// Walks the guest's stage 1 tables. Returns the address that `va` translates to, the
    /// descriptor of its page, and whether EL1 may write there.
    fn walk(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Result<(u64, u64, bool)> {
        let mut walk = Walk {
            kvm: self.kvm,
            va,
            seen,
        };
        let mut filter = bindings::s1_walk_filter {
            fn_: Some(Walk::show),
            priv_: (&raw mut walk).cast(),
        };
        let mut info = bindings::s1_walk_info {
            filter: &raw mut filter,
            regime: bindings::trans_regime_TR_EL10,
            ..Default::default()
        };
        let mut result = bindings::s1_walk_result::default();

        // SAFETY: By the type invariant. The walk does not keep what it gets.
        to_result(unsafe {
            bindings::__kvm_translate_va(self.vcpu, &raw mut info, &raw mut result, va)
        })?;
        // SAFETY: This is what a walk that has succeeded leaves.
        unsafe {
            let found = result.__bindgen_anon_1.__bindgen_anon_1;
            Ok((found.pa, found.desc, found.pw))
        }
    }

    /// Returns whether userspace has to come first: for a signal, or for the ring of dirty pages,
    /// in which each mapping may take a place.
    fn has_to_stop(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::kvm_spe_has_to_stop(self.vcpu) }
    }

    /// Returns whether the guest lets the hardware note that a page is dirty.
    fn has_dirty(&self) -> bool {
        TCR_EL1::from_raw(self.register(bindings::vcpu_sysreg_TCR_EL1))
            .HD()
            .into_bool()
    }
}

/// Returns the number of permissions that have been added to mappings of a VM. CPUs may still have
/// translations without them.
///
/// # Safety
///
/// `kvm` is a VM that stays for `'a`.
unsafe fn relaxed<'a>(kvm: *mut bindings::kvm) -> &'a AtomicU32 {
    // SAFETY: By the caller's contract.
    unsafe { AtomicU32::from_ptr(&raw mut (*kvm).arch.spe.relaxed) }
}

/// Counts a permission that is about to be added to a mapping.
///
/// Context: any.
///
/// # Safety
///
/// `kvm` is a VM.
#[export]
unsafe extern "C" fn __kvm_spe_relax(kvm: *mut bindings::kvm) {
    // SAFETY: By the caller's contract. Who sees the permission sees that it has been counted.
    unsafe { relaxed(kvm) }.fetch_add(1, Ordering::SeqCst);
}

/// Calls `f` with each vCPU that watches some of the frames from `first` to `last`.
///
/// # Safety
///
/// `kvm` is a VM whose `mmu_lock` is held.
unsafe fn for_each_watching(
    kvm: *mut bindings::kvm,
    first: u64,
    last: u64,
    mut f: impl FnMut(*mut bindings::kvm_vcpu, &Watch),
) {
    for i in 0.. {
        // SAFETY: By the caller's contract.
        let vcpu = unsafe { bindings::kvm_get_vcpu(kvm, i) };
        if vcpu.is_null() {
            break;
        }
        // SAFETY: It is written with the lock held for writing, by the vCPU's task.
        let watch = unsafe { Watched::of(vcpu).map(|watched| &*watched.watch.get()) };
        if let Some(watch) = watch.filter(|watch| watch.has(first, last)) {
            f(vcpu, watch);
        }
    }
}

/// Says that the mappings of the frames from `first` to `last` are about to change. No unit writes
/// to them when this returns.
///
/// Context: `mmu_lock` is held for writing.
///
/// # Safety
///
/// `kvm` is a VM whose `mmu_lock` is held for writing.
#[export]
unsafe extern "C" fn __kvm_spe_invalidate(kvm: *mut bindings::kvm, first: u64, last: u64) {
    const BITS: usize = c_ulong::BITS as usize;
    let mut armed = [0 as c_ulong; (bindings::KVM_MAX_VCPUS as usize).div_ceil(BITS)];
    let mut any = false;

    // SAFETY: By the caller's contract.
    unsafe {
        for_each_watching(kvm, first, last, |vcpu, watch| {
            let index = (*vcpu).vcpu_idx as usize;
            if watch.change() {
                if let Some(word) = armed.get_mut(index / BITS) {
                    *word |= 1 << (index % BITS);
                }
                add(&raw mut (*vcpu).stat.spe_kicked, 1);
                kvm_spe_kick((*vcpu).vcpu_id, first, last);
                any = true;
            }
        });
        if any {
            bindings::kvm_spe_request_of(kvm, armed.as_mut_ptr());
        }
    }
}

/// Returns whether a vCPU watches some of the frames from `first` to `last`.
///
/// Context: `mmu_lock` is held.
///
/// # Safety
///
/// `kvm` is a VM whose `mmu_lock` is held.
#[export]
unsafe extern "C" fn __kvm_spe_is_watched(kvm: *mut bindings::kvm, first: u64, last: u64) -> bool {
    let mut found = false;

    // SAFETY: By the caller's contract.
    unsafe { for_each_watching(kvm, first, last, |_, _| found = true) };
    found
}

/// Returns whether the frames from `first` to `last` are to be left young: a unit may be writing to
/// them. What is watched without that is noted as changed.
///
/// Context: `mmu_lock` is held for writing.
///
/// # Safety
///
/// As for [`__kvm_spe_invalidate`].
#[export]
unsafe extern "C" fn __kvm_spe_keeps_young(kvm: *mut bindings::kvm, first: u64, last: u64) -> bool {
    let mut keeps = false;

    // SAFETY: By the caller's contract.
    unsafe { for_each_watching(kvm, first, last, |_, watch| keeps |= watch.keeps_young()) };
    keeps
}

/// Calls `f` with what counts the faults of the unit.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
pub(super) unsafe fn with_faults<R>(
    vcpu: *mut bindings::kvm_vcpu,
    f: impl FnOnce(&Faults) -> R,
) -> Option<R> {
    // SAFETY: By the caller's contract.
    unsafe { Watched::of(vcpu) }.map(|watched| f(&watched.faults))
}

/// Watches nothing for a vCPU any more.
///
/// # Safety
///
/// `vcpu` is a vCPU whose mutex is held.
pub(super) unsafe fn forget(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract nobody writes it.
    unsafe {
        if let Some(watched) = Watched::of(vcpu) {
            (*watched.watch.get()).forget();
            watched.faults.forget();
        }
    }
}

/// Disarms the watch of a vCPU whose buffer is off.
///
/// # Safety
///
/// `vcpu` is a vCPU that this task runs.
pub(super) unsafe fn disarm(vcpu: *mut bindings::kvm_vcpu) {
    // SAFETY: By the caller's contract only this task writes it.
    unsafe {
        if let Some(watched) = Watched::of(vcpu) {
            (*watched.watch.get()).disarm();
        }
    }
}

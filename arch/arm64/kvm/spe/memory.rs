// SPDX-License-Identifier: GPL-2.0

//! The memory of a guest whose buffer is enabled: maps the frames of the window, and stops the unit
//! before the frames change.
//!
//! # Access rules
//!
//! Only the task that runs a vCPU sets the frames that the vCPU watches, with `mmu_lock` held for
//! writing. Mappings of stage 2 are removed, or lose permissions, with that lock held for writing
//! too, and [`__kvm_spe_invalidate`] is called before: it notes the change, and requests of a vCPU
//! whose watch is armed that the window is made ready again. The request takes the vCPU out of the
//! guest, which completes all records, before that function returns. A vCPU with a request does
//! not enter the guest. The watch is armed with the lock held for reading, so a change is either
//! noted before, and then the watch is not armed, or makes a request.

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
    kvm::{
        stat_add,
        Vcpu,
        Vm, //
    },
    prelude::*,
    time::{delay::fsleep, Delta},
    tracepoint::declare_trace, //
};

use super::{
    vcpu::Identity,
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

/// The window of a vCPU, its watch and its faults.
pub(super) struct Watched {
    /// Belongs to the task that runs the vCPU.
    window: UnsafeCell<Window>,
    /// Set by that task with `mmu_lock` held for writing.
    watch: Watch,
    /// Belongs to that task, too, and is accessed with interrupts off.
    pub(super) faults: Faults,
    /// The value of `kvm->arch.spe.relaxed` at the vCPU's last flush of translations.
    flushed: AtomicU32,
}

impl Watched {
    /// Allocates a vCPU's [`Watched`], if there is none yet.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU whose VM's `config_lock` is held.
    pub(super) unsafe fn allocate(vcpu: *mut bindings::kvm_vcpu) -> Result {
        let new = KBox::new(
            Self {
                window: UnsafeCell::new(Window::new()),
                watch: Watch::new(),
                faults: Faults::new(),
                flushed: AtomicU32::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // SAFETY: By the caller's contract. Tasks that change mappings may read the pointer.
        let place = unsafe { AtomicPtr::from_ptr(&raw mut (*vcpu).arch.spe.window) };
        let new = KBox::into_raw(new).cast::<Opaque>();

        if place
            .compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: `new` comes from `into_raw()`, and no other task has it.
            drop(unsafe { KBox::from_raw(new.cast::<Self>()) });
        }
        Ok(())
    }

    /// Returns a vCPU's [`Watched`], if it is allocated.
    ///
    /// # Safety
    ///
    /// `vcpu` is a vCPU that stays alive for `'a`. This task holds the vCPU's mutex; or it holds
    /// `mmu_lock` for `'a`, and uses `watch` only.
    pub(super) unsafe fn of<'a>(vcpu: *mut bindings::kvm_vcpu) -> Option<&'a Self> {
        // SAFETY: By the caller's contract; it is freed with the vCPU.
        unsafe {
            AtomicPtr::from_ptr(&raw mut (*vcpu).arch.spe.window)
                .load(Ordering::Acquire)
                .cast::<Self>()
                .as_ref()
        }
    }

    /// Stops letting the unit write; for the task that runs the vCPU.
    pub(super) fn disarm(&self) {
        self.watch.disarm();
    }

    /// Watches nothing any more; for the task that holds the vCPU's mutex.
    pub(super) fn forget(&self) {
        self.watch.forget();
        self.faults.forget();
    }
}

/// Frees the [`Watched`] of a vCPU.
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
struct MmuLock<'a, const WRITE: bool>(&'a Vm);

impl<'a, const WRITE: bool> MmuLock<'a, WRITE> {
    /// Takes the lock.
    ///
    /// Context: process; interrupts are on.
    fn new(vm: &'a Vm) -> Self {
        // SAFETY: The VM is alive, and so its lock is initialised.
        unsafe {
            let lock = &raw mut (*vm.as_raw()).mmu_lock;
            if WRITE {
                bindings::write_lock(lock);
            } else {
                bindings::read_lock(lock);
            }
        }
        Self(vm)
    }
}

impl<const WRITE: bool> Drop for MmuLock<'_, WRITE> {
    fn drop(&mut self) {
        // SAFETY: `new()` has taken it.
        unsafe {
            let lock = &raw mut (*self.0.as_raw()).mmu_lock;
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
    vcpu: &'a Vcpu,
    vm: &'a Vm,
    watched: &'a Watched,
}

impl Guest<'_> {
    /// Calls `f` with the memory and the window of a vCPU, and returns its result; [`None`] for a
    /// vCPU that has not been set up.
    ///
    /// # Safety
    ///
    /// As for the invariant of the type. This is not called again before `f` returns.
    pub(super) unsafe fn with<R>(
        vcpu: *mut bindings::kvm_vcpu,
        f: impl FnOnce(&Guest<'_>, &mut Window) -> R,
    ) -> Option<R> {
        // SAFETY: By the caller's contract; the window belongs to this task.
        // INVARIANT: By the caller's contract.
        let (guest, window) = unsafe {
            let watched = Watched::of(vcpu)?;
            let (vcpu, vm) = (Vcpu::from_raw(vcpu), Vm::from_raw((*vcpu).kvm));

            (Guest { vcpu, vm, watched }, &mut *watched.window.get())
        };

        Some(f(&guest, window))
    }

    /// Returns a system register of the guest.
    fn register(&self, register: bindings::vcpu_sysreg) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { bindings::vcpu_read_sys_reg(self.vcpu.as_raw(), register) }
    }

    /// Arms the watch if nothing has changed, and all of `frames` are mapped.
    fn arm_with(&self, frames: &[Frame]) -> bool {
        let _lock = MmuLock::<false>::new(self.vm);
        let is_mapped = |frame: &Frame| {
            let gpa = frame.gfn << bindings::PAGE_SHIFT;

            // SAFETY: The VM is alive, and the lock is held.
            unsafe { bindings::kvm_s2_is_mapped(self.vm.as_raw(), gpa, frame.write) }
        };

        self.watched.watch.arm(|| frames.iter().all(is_mapped))
    }
}

/// The context of a walk of stage 1 that shows its descriptors.
struct Walk<'a> {
    guest: &'a Guest<'a>,
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
        // SAFETY: By the caller's contract; the context is valid.
        let (context, info, walk) = unsafe {
            (
                &*context,
                &*(*context).wi,
                &mut *walk.cast::<Walk<'_>>(), //
            )
        };
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

        // Show the frame even if its descriptor cannot be read.
        let value = walk.guest.descriptor(ipa).unwrap_or(0);
        let size = if info.be { 0 } else { 1 << shift };
        (walk.seen)(Descriptor { ipa, value, size });
        0
    }
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
        let mut value = 0u64;
        let place = (&raw mut value).cast();

        // SAFETY: By the type invariant `srcu` is held; the value has this size.
        let ret = unsafe { bindings::kvm_read_guest(self.vm.as_raw(), ipa, place, 8) };
        (ret == 0).then_some(value)
    }

    fn gfn(&self, ipa: u64) -> u64 {
        ipa >> bindings::PAGE_SHIFT
    }

    fn updates_tables(&self) -> bool {
        let pmbidr = Identity::of(self.vm).pmbidr;
        let tcr = TCR_EL1::from_raw(self.register(bindings::vcpu_sysreg_TCR_EL1));

        pmbidr.F().into_bool() && tcr.HA().into_bool()
    }

    fn watch(&self, frames: &Frames) {
        let _lock = MmuLock::<true>::new(self.vm);

        self.watched.watch.set(frames);
    }

    fn map(&self, frame: Frame) -> Result<bool, Unmapped> {
        let gpa = frame.gfn << bindings::PAGE_SHIFT;

        if self.has_to_stop() {
            return Err(Unmapped::Later);
        }
        // SAFETY: By the type invariant.
        match unsafe { bindings::kvm_s2_populate(self.vcpu.as_raw(), gpa, frame.write) } {
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
        let relaxed = relaxed(self.vm).load(Ordering::Acquire);
        if self.watched.flushed.load(Ordering::Relaxed) != relaxed {
            // SAFETY: The VM is alive.
            unsafe { bindings::kvm_arch_flush_remote_tlbs(self.vm.as_raw()) };
            self.watched.flushed.store(relaxed, Ordering::Relaxed);
        }
        true
    }

    fn disarm(&self) {
        self.watched.disarm();
    }
}

impl Guest<'_> {
    /// Walks the guest's stage 1 tables. Returns the address that `va` translates to, the
    /// descriptor of its page, and whether EL1 may write there.
    fn walk(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Result<(u64, u64, bool)> {
        let mut walk = Walk {
            guest: self,
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

        // SAFETY: By the type invariant. The walk keeps no pointers, and a walk that succeeds sets
        // these fields.
        unsafe {
            let vcpu = self.vcpu.as_raw();

            to_result(bindings::__kvm_translate_va(
                vcpu,
                &raw mut info,
                &raw mut result,
                va,
            ))?;
            let found = result.__bindgen_anon_1.__bindgen_anon_1;
            Ok((found.pa, found.desc, found.pw))
        }
    }

    /// Returns whether KVM must exit to userspace first: for a signal, or to empty the dirty ring,
    /// in which each mapping may use an entry.
    fn has_to_stop(&self) -> bool {
        // SAFETY: By the type invariant.
        unsafe { bindings::kvm_spe_has_to_stop(self.vcpu.as_raw()) }
    }

    /// Returns whether the guest enables the hardware update of the dirty state.
    fn has_dirty(&self) -> bool {
        TCR_EL1::from_raw(self.register(bindings::vcpu_sysreg_TCR_EL1))
            .HD()
            .into_bool()
    }
}

/// Returns the counter of permissions that have been added to mappings of a VM. TLBs may still hold
/// translations without these permissions.
fn relaxed(vm: &Vm) -> &AtomicU32 {
    // SAFETY: The VM is alive, and all accesses are atomic.
    unsafe { AtomicU32::from_ptr(&raw mut (*vm.as_raw()).arch.spe.relaxed) }
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
    // SAFETY: By the caller's contract.
    let vm = unsafe { Vm::from_raw(kvm) };

    // A task that sees the permission must also see the new count.
    relaxed(vm).fetch_add(1, Ordering::SeqCst);
}

/// A VM whose `mmu_lock` is held.
struct Locked<'a>(&'a Vm);

impl<'a> Locked<'a> {
    /// Wraps a pointer from C.
    ///
    /// # Safety
    ///
    /// `kvm` is a VM whose `mmu_lock` is held for `'a`.
    unsafe fn from_raw(kvm: *mut bindings::kvm) -> Self {
        // SAFETY: By the caller's contract.
        Self(unsafe { Vm::from_raw(kvm) })
    }

    /// Returns vCPU `i`, with its watch if it has been set up; [`None`] if there is no such vCPU.
    fn vcpu(&self, i: c_int) -> Option<(&'a Vcpu, Option<&'a Watch>)> {
        // SAFETY: The VM is alive, and its mappings change no more when vCPUs are destroyed;
        // `mmu_lock` is held.
        unsafe {
            let vcpu = bindings::kvm_get_vcpu(self.0.as_raw(), i);

            (!vcpu.is_null()).then(|| {
                let watched = Watched::of(vcpu);
                (Vcpu::from_raw(vcpu), watched.map(|it| &it.watch))
            })
        }
    }

    /// Calls `f` with each vCPU that watches some of the frames from `first` to `last`.
    fn for_each_watching(&self, first: u64, last: u64, mut f: impl FnMut(&Vcpu, &Watch)) {
        for (vcpu, watch) in (0..).map_while(|i| self.vcpu(i)) {
            if let Some(watch) = watch.filter(|watch| watch.has(first, last)) {
                f(vcpu, watch);
            }
        }
    }

    /// Notes that some frames are about to change. If the unit of a vCPU may be writing to them,
    /// requests that the window of that vCPU is made ready again.
    fn invalidate(&self, first: u64, last: u64) {
        const BITS: usize = c_ulong::BITS as usize;
        let mut armed = [0 as c_ulong; (bindings::KVM_MAX_VCPUS as usize).div_ceil(BITS)];
        let mut any = false;

        self.for_each_watching(first, last, |vcpu, watch| {
            if watch.change() {
                let index = vcpu.index();
                if let Some(word) = armed.get_mut(index / BITS) {
                    *word |= 1 << (index % BITS);
                }
                stat_add!(vcpu, spe_kicked, 1);
                // SAFETY: The arguments are plain integers.
                unsafe { kvm_spe_kick(vcpu.id(), first, last) };
                any = true;
            }
        });
        if any {
            // SAFETY: The VM is alive, and the mask has a bit for each vCPU.
            unsafe { bindings::kvm_spe_request_of(self.0.as_raw(), armed.as_mut_ptr()) };
        }
    }

    /// Returns whether a vCPU watches some of the frames.
    fn is_watched(&self, first: u64, last: u64) -> bool {
        let mut found = false;

        self.for_each_watching(first, last, |_, _| found = true);
        found
    }

    /// Returns whether the frames must stay young. A watch that is not armed notes a change.
    fn keeps_young(&self, first: u64, last: u64) -> bool {
        let mut keeps = false;

        self.for_each_watching(first, last, |_, watch| keeps |= watch.keeps_young());
        keeps
    }
}

/// Notes that the mappings of the frames from `first` to `last` are about to change. When this
/// returns, no unit writes to these frames.
///
/// Context: `mmu_lock` is held for writing.
///
/// # Safety
///
/// `kvm` is a VM whose `mmu_lock` is held for writing.
#[export]
unsafe extern "C" fn __kvm_spe_invalidate(kvm: *mut bindings::kvm, first: u64, last: u64) {
    // SAFETY: By the caller's contract.
    unsafe { Locked::from_raw(kvm) }.invalidate(first, last);
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
    // SAFETY: By the caller's contract.
    unsafe { Locked::from_raw(kvm) }.is_watched(first, last)
}

/// Returns whether the frames from `first` to `last` must stay young, since a unit may be writing
/// to them. A watch that is not armed notes a change.
///
/// Context: `mmu_lock` is held for writing.
///
/// # Safety
///
/// As for [`__kvm_spe_invalidate`].
#[export]
unsafe extern "C" fn __kvm_spe_keeps_young(kvm: *mut bindings::kvm, first: u64, last: u64) -> bool {
    // SAFETY: By the caller's contract.
    unsafe { Locked::from_raw(kvm) }.keeps_young(first, last)
}

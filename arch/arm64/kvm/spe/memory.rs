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

use core::{cell::UnsafeCell, ptr};

use kernel::{
    arm64::sysreg::*,
    bindings,
    kvm::{
        declare_traces,
        memory::{Loaded, LockedVm, MmuLock, Stage1, Step},
        spe::VcpuMask,
        stat_add,
        Vcpu,
        Vm, //
    },
    prelude::*,
    sync::atomic::{Acquire, Atomic, Full, Relaxed, Release},
    time::{delay::fsleep, Delta},
};

use super::{
    attributes::Setup,
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

declare_traces! {
    // SAFETY: It records its arguments, which are integers.
    unsafe extern {
        safe fn kvm_spe_kick(vcpu_id: i32, first: u64, last: u64);
    }
}

/// The window of a vCPU, its watch and its faults: `vcpu->arch.spe.window`.
pub(super) struct Watched {
    /// Belongs to the task that runs the vCPU.
    window: UnsafeCell<Window>,
    /// Set by that task with `mmu_lock` held for writing.
    pub(super) watch: Watch,
    /// Belongs to the task that holds the vCPU's mutex, and is accessed with interrupts off.
    pub(super) faults: UnsafeCell<Faults>,
    /// The value of `kvm->arch.spe.relaxed` at the vCPU's last flush of translations.
    flushed: Atomic<u32>,
}

// SAFETY: Only `Guest::with()` and `Spu::with()` access `window` and `faults`, for the task that
// holds the vCPU's mutex. The rest is atomic.
unsafe impl Sync for Watched {}

impl Watched {
    /// Returns the place of a vCPU's [`Watched`]. It changes with the VM's `config_lock` held, and
    /// only once.
    fn place(vcpu: &Vcpu) -> &Atomic<*mut bindings::kvm_spe_window> {
        // SAFETY: The vCPU is alive, and all accesses are atomic.
        unsafe { Atomic::from_ptr(&raw mut (*vcpu.as_raw()).arch.spe.window) }
    }

    /// Allocates a vCPU's [`Watched`], if there is none yet. `_setup` is that of the vCPU's VM.
    pub(super) fn allocate(vcpu: &Vcpu, _setup: &Setup<'_>) -> Result {
        let place = Self::place(vcpu);

        if !place.load(Relaxed).is_null() {
            return Ok(());
        }
        let new = KBox::new(
            Self {
                window: UnsafeCell::new(Window::new()),
                watch: Watch::new(),
                faults: UnsafeCell::new(Faults::new()),
                flushed: Atomic::new(0),
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        // Tasks that change mappings may read the pointer.
        place.store(KBox::into_raw(new).cast(), Release);
        Ok(())
    }

    /// Returns a vCPU's [`Watched`], if it is allocated.
    pub(super) fn of(vcpu: &Vcpu) -> Option<&Self> {
        let found = Self::place(vcpu).load(Acquire).cast::<Self>();

        // SAFETY: Only `allocate()` stores a pointer, and it is freed when the vCPU is not used any
        // more.
        unsafe { found.as_ref() }
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

/// The memory of a vCPU that this task runs.
///
/// # Invariants
///
/// `watched` is that of `vcpu`.
pub(super) struct Guest<'a> {
    vcpu: Loaded<'a>,
    watched: &'a Watched,
}

impl Guest<'_> {
    /// Calls `f` with the memory and the window of a vCPU, and returns its result; [`None`] for a
    /// vCPU that has not been set up.
    ///
    /// # Safety
    ///
    /// As for [`Loaded::new`], until `f` returns. This is not called again before.
    pub(super) unsafe fn with<R>(
        vcpu: &Vcpu,
        f: impl FnOnce(&Guest<'_>, &mut Window) -> R,
    ) -> Option<R> {
        // SAFETY: By the caller's contract; the task that loads a vCPU holds its mutex, and the
        // window belongs to that task. INVARIANT: `watched` is that of `vcpu`.
        let (guest, window) = unsafe {
            let watched = Watched::of(vcpu)?;
            let vcpu = Loaded::new(vcpu);

            (Guest { vcpu, watched }, &mut *watched.window.get())
        };

        Some(f(&guest, window))
    }

    /// Arms the watch if nothing has changed, and all of `frames` are mapped.
    fn arm_with(&self, frames: &[Frame]) -> bool {
        let lock = MmuLock::<false>::new(self.vcpu.vm());

        self.watched.watch.arm(|| {
            frames
                .iter()
                .all(|frame| lock.is_mapped(frame.gfn << bindings::PAGE_SHIFT, frame.write))
        })
    }

    /// Returns whether the guest enables the hardware update of the dirty state.
    fn has_dirty(&self) -> bool {
        TCR_EL1::from_raw(self.vcpu.register(Stage1::Tcr))
            .HD()
            .into_bool()
    }
}

impl Memory for Guest<'_> {
    fn context(&self, va: u64) -> Context {
        use Stage1::{Pir, Por, Sctlr, Tcr, Tcr2, Ttbr0, Ttbr1};

        let ttbr = if va >> 55 & 1 != 0 { Ttbr1 } else { Ttbr0 };

        [Sctlr, Tcr, ttbr, Tcr2, Pir, Por].map(|register| self.vcpu.register(register))
    }

    fn translate(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Page {
        // The unit makes a clean page dirty, as the CPU does.
        const DBM: u64 = 1 << 51;

        // The walk may set an access flag, and so make a page dirty.
        if self.vcpu.has_to_stop() {
            return Page::Later;
        }
        // Show the frame even if its descriptor cannot be read.
        let mut show = |step: Step| {
            seen(Descriptor {
                ipa: step.ipa,
                value: self.descriptor(step.ipa).unwrap_or(0),
                size: if step.is_big_endian { 0 } else { step.size },
            })
        };
        let found = match self.vcpu.translate(va, &mut show) {
            Ok(found) => found,
            Err(error) if error == EAGAIN => return Page::Later,
            Err(_) => return Page::Unwritable,
        };
        let may_become_dirty =
            || found.descriptor & DBM != 0 && self.updates_tables() && self.has_dirty();
        if found.is_writable || may_become_dirty() {
            Page::At(found.ipa)
        } else {
            Page::Unwritable
        }
    }

    fn descriptor(&self, ipa: u64) -> Option<u64> {
        self.vcpu.read(ipa)
    }

    fn gfn(&self, ipa: u64) -> u64 {
        ipa >> bindings::PAGE_SHIFT
    }

    fn updates_tables(&self) -> bool {
        let pmbidr = Identity::of(self.vcpu.vm()).pmbidr;
        let tcr = TCR_EL1::from_raw(self.vcpu.register(Stage1::Tcr));

        pmbidr.F().into_bool() && tcr.HA().into_bool()
    }

    fn watch(&self, frames: &Frames) {
        let _lock = MmuLock::<true>::new(self.vcpu.vm());

        self.watched.watch.set(frames);
    }

    fn map(&self, frame: Frame) -> Result<bool, Unmapped> {
        if self.vcpu.has_to_stop() {
            return Err(Unmapped::Later);
        }
        self.vcpu
            .populate(frame.gfn << bindings::PAGE_SHIFT, frame.write)
            .map_err(|error| match error {
                ENOMEM | EINTR => Unmapped::Later,
                _ => Unmapped::Gone,
            })
    }

    fn wait(&self) -> bool {
        if self.vcpu.has_to_stop() {
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
        let vm = self.vcpu.vm();
        let relaxed = vm.spu().relaxed.load(Acquire);
        if self.watched.flushed.load(Relaxed) != relaxed {
            vm.flush_remote_tlbs();
            self.watched.flushed.store(relaxed, Relaxed);
        }
        true
    }

    fn disarm(&self) {
        self.watched.watch.disarm();
    }
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
    vm.spu().relaxed.fetch_add(1, Full);
}

/// A VM whose `mmu_lock` is held, and the watches of its vCPUs.
struct Watches<'a>(LockedVm<'a>);

impl Watches<'_> {
    /// Calls `f` with each vCPU that watches some of the frames from `first` to `last`.
    fn for_each_watching(&self, first: u64, last: u64, mut f: impl FnMut(&Vcpu, &Watch)) {
        for vcpu in self.0.vcpus() {
            let watch = Watched::of(vcpu).map(|it| &it.watch);

            if let Some(watch) = watch.filter(|watch| watch.has(first, last)) {
                f(vcpu, watch);
            }
        }
    }

    /// Notes that some frames are about to change. If the unit of a vCPU may be writing to them,
    /// requests that the window of that vCPU is made ready again.
    fn invalidate(&self, first: u64, last: u64) {
        let mut armed = VcpuMask::default();

        self.for_each_watching(first, last, |vcpu, watch| {
            if watch.change() {
                armed.set(vcpu);
                stat_add!(vcpu, spe_kicked, 1);
                kvm_spe_kick(vcpu.id(), first, last);
            }
        });
        if !armed.is_empty() {
            self.0.vm().request_windows(&mut armed);
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
/// `kvm` is a VM whose `mmu_lock` is held for writing. No vCPU is being destroyed: mappings do not
/// change any more when C destroys vCPUs.
#[export]
unsafe extern "C" fn __kvm_spe_invalidate(kvm: *mut bindings::kvm, first: u64, last: u64) {
    // SAFETY: By the caller's contract.
    Watches(unsafe { LockedVm::from_raw(kvm) }).invalidate(first, last);
}

/// Returns whether a vCPU watches some of the frames from `first` to `last`.
///
/// Context: `mmu_lock` is held.
///
/// # Safety
///
/// As for [`__kvm_spe_invalidate`], but `mmu_lock` may be held for reading.
#[export]
unsafe extern "C" fn __kvm_spe_is_watched(kvm: *mut bindings::kvm, first: u64, last: u64) -> bool {
    // SAFETY: By the caller's contract.
    Watches(unsafe { LockedVm::from_raw(kvm) }).is_watched(first, last)
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
    Watches(unsafe { LockedVm::from_raw(kvm) }).keeps_young(first, last)
}

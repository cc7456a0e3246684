// SPDX-License-Identifier: GPL-2.0

//! The window: the part of the buffer to which the unit writes next, and the frames that must be
//! mapped at stage 2 meanwhile.
//!
//! The unit does not wait for a page: a fault may lose the data that it was about to write. So the
//! unit gets the buffer only up to the end of a window. The window's pages, and the stage-1 tables
//! that translate them, are mapped. When the window is full, KVM moves it on.
//!
//! Pure logic: the guest's memory is behind [`Memory`], for which tests have a simulation.

use core::sync::atomic::{
    AtomicBool,
    AtomicU64,
    AtomicUsize,
    Ordering::Relaxed, //
};

/// The unit in which `PMBLIMITR_EL1.LIMIT` counts, and the smallest page of a guest.
pub(crate) const PAGE: u64 = 4096;
/// The number of pages in a window. They are in at most 32 frames, for all page sizes.
const PAGES: usize = 32;
const LENGTH: u64 = PAGES as u64 * PAGE;
/// The space that must be left in a window to use it when profiling starts again.
const REST: u64 = PAGE;
/// The levels of stage 1, from -1 to 3.
const LEVELS: usize = 5;
/// A window crosses at most one table boundary at each level, so its descriptors of a level are in
/// at most two frames.
const FRAMES: usize = PAGES + 2 * LEVELS;
/// The descriptors of the pages, and two of each level above.
const DESCRIPTORS: usize = PAGES + 2 * (LEVELS - 1);
/// The number of attempts to make a window ready that changes meanwhile. After them, the vCPU runs
/// with its unit off until the next exit. A fault of the CPU would wait for the memory, too.
pub(crate) const ATTEMPTS: usize = 100;
/// The largest record of any unit (`PMSIDR_EL1.MaxSize`): with less space its buffer is full.
const MAX_RECORD: u64 = 2048;
/// The number of faults in a row at the same address that are resolved.
const FAULTS: u32 = 8;

/// A list of limited length.
#[derive(Clone, Copy)]
struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    const fn new(item: T) -> Self {
        Self {
            items: [item; N],
            len: 0,
        }
    }

    /// Appends an item. Returns false if there is no place.
    fn push(&mut self, item: T) -> bool {
        let Some(place) = self.items.get_mut(self.len) else {
            return false;
        };
        *place = item;
        self.len += 1;
        true
    }

    fn items(&self) -> &[T] {
        self.items.get(..self.len).unwrap_or(&[])
    }

    fn items_mut(&mut self) -> &mut [T] {
        self.items.get_mut(..self.len).unwrap_or(&mut [])
    }
}

/// A page of the host's size in the guest's physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) gfn: u64,
    /// The unit writes to it.
    pub(crate) write: bool,
    /// The first page of the window that needs it.
    pub(crate) page: u64,
}

/// The frames that have to be mapped.
#[derive(Clone, Copy)]
pub(crate) struct Frames(List<Frame, FRAMES>);

impl Frames {
    pub(crate) const fn new() -> Self {
        Self(List::new(Frame {
            gfn: 0,
            write: false,
            page: 0,
        }))
    }

    /// Adds a frame. Returns false if there is no place.
    fn add(&mut self, new: Frame) -> bool {
        for frame in self.0.items_mut() {
            if frame.gfn == new.gfn {
                frame.write |= new.write;
                return true;
            }
        }
        self.0.push(new)
    }

    pub(crate) fn as_slice(&self) -> &[Frame] {
        self.0.items()
    }
}

/// The frames that a vCPU watches. Callers hold the lock of the VM's stage 2, except for
/// [`Watch::disarm`] and [`Watch::forget`].
pub(crate) struct Watch {
    /// The numbers of the frames: the first `len` ones.
    gfns: [AtomicU64; FRAMES],
    len: AtomicUsize,
    /// None of the frames has changed.
    valid: AtomicBool,
    /// The unit may write to them.
    armed: AtomicBool,
}

impl Watch {
    pub(crate) const fn new() -> Self {
        Self {
            gfns: [const { AtomicU64::new(0) }; FRAMES],
            len: AtomicUsize::new(0),
            valid: AtomicBool::new(false),
            armed: AtomicBool::new(false),
        }
    }

    /// Watches these frames from now on. The lock is held for writing.
    pub(crate) fn set(&self, frames: &Frames) {
        let frames = frames.as_slice();

        for (gfn, frame) in self.gfns.iter().zip(frames) {
            gfn.store(frame.gfn, Relaxed);
        }
        self.len.store(frames.len(), Relaxed);
        self.valid.store(true, Relaxed);
    }

    /// Returns whether a watched frame is in `first..=last`, and none of them has changed.
    pub(crate) fn has(&self, first: u64, last: u64) -> bool {
        let mut gfns = self.gfns.iter().take(self.len.load(Relaxed));

        self.valid.load(Relaxed) && gfns.any(|gfn| (first..=last).contains(&gfn.load(Relaxed)))
    }

    /// Notes that one of them is about to change. Returns whether the unit may be writing to it.
    pub(crate) fn change(&self) -> bool {
        self.outdate();
        self.armed.swap(false, Relaxed)
    }

    /// Returns whether one of them is to stay young, since the unit may be writing to it.
    /// Otherwise, notes that it changes.
    pub(crate) fn keeps_young(&self) -> bool {
        let keeps = self.armed.load(Relaxed);

        if !keeps {
            self.outdate();
        }
        keeps
    }

    /// Lets the unit write, and returns true, if no frame has changed and `mapped` returns true.
    pub(crate) fn arm(&self, mapped: impl FnOnce() -> bool) -> bool {
        let arms = self.valid.load(Relaxed) && mapped();

        self.armed.store(arms, Relaxed);
        arms
    }

    /// Stops letting the unit write. Called by the task that runs the vCPU, without the lock: a
    /// task that still sees the watch armed makes an unnecessary request.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Relaxed);
    }

    /// Marks the frames as changed.
    pub(crate) fn outdate(&self) {
        self.valid.store(false, Relaxed);
    }

    /// Stops watching. Called like [`Watch::disarm`]; others may see the two stores in any order.
    pub(crate) fn forget(&self) {
        self.disarm();
        self.outdate();
    }
}

/// The address of the unit's last fault at stage 2, and the number of faults there in a row.
pub(crate) struct Faults {
    pointer: u64,
    count: u32,
}

impl Faults {
    pub(crate) const fn new() -> Self {
        Self {
            pointer: 0,
            count: 0,
        }
    }

    /// Notes a fault in which nothing was lost. Returns whether it is to be resolved.
    pub(crate) fn note(&mut self, pointer: u64) -> bool {
        if pointer != self.pointer {
            *self = Self { pointer, count: 0 };
        }
        self.count += 1;
        self.count <= FAULTS
    }

    /// Notes that the unit has gone on, or starts elsewhere.
    pub(crate) fn forget(&mut self) {
        *self = Self::new();
    }
}

/// A descriptor of stage 1, as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) ipa: u64,
    pub(crate) value: u64,
    /// The size of the range that it translates, in bytes; 0 if `value` has the other byte order.
    pub(crate) size: u64,
}

impl Descriptor {
    const NONE: Self = Self {
        ipa: 0,
        value: 0,
        size: 0,
    };
    /// The access flag. A walk sets it.
    const AF: u64 = 1 << 10;
    /// Bits of the output address that exist for every size of output addresses.
    const ADDRESS: u64 = 0xffff_f000;

    /// Returns the next page's descriptor, and the address of that page, without a walk. `page` is
    /// the address of this descriptor's page. Returns [`None`] if the two descriptors are in
    /// different tables, or may differ in more than the address.
    fn next<M: Memory>(&self, memory: &M, page: u64) -> Option<(Self, u64)> {
        let ipa = self.ipa + 8;

        if self.size != PAGE || ipa % PAGE == 0 || self.value & Self::AF == 0 {
            return None;
        }
        let value = memory.descriptor(ipa)?;
        let moved = value ^ self.value;
        (moved & !Self::ADDRESS == 0).then_some((
            Self {
                ipa,
                value,
                ..*self
            },
            page ^ moved,
        ))
    }
}

/// The registers on which the translation of an address depends.
pub(crate) type Context = [u64; 6];

/// Why memory was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmapped {
    /// There is no such memory.
    Gone,
    /// It may be tried again.
    Later,
}

/// A page of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// It is at this address.
    At(u64),
    /// Stage 1 does not let the unit write to it.
    Unwritable,
    /// The page cannot be translated now.
    Later,
}

/// The guest's memory.
pub(crate) trait Memory {
    /// Returns the registers on which the translation of an address depends.
    fn context(&self, va: u64) -> Context;

    /// Translates the address of a write at EL1. Shows each descriptor before the walk reads it.
    fn translate(&self, va: u64, seen: &mut dyn FnMut(Descriptor)) -> Page;

    /// Reads a descriptor.
    fn descriptor(&self, ipa: u64) -> Option<u64>;

    /// Returns the frame of an address.
    fn gfn(&self, ipa: u64) -> u64;

    /// Returns whether the unit writes to descriptors (TCR_EL1.HA, PMBIDR_EL1.F).
    fn updates_tables(&self) -> bool;

    /// Watches these frames, and no others, from now on. When this returns, no change of them is
    /// under way.
    fn watch(&self, frames: &Frames);

    /// Maps a frame. Returns whether it had to be mapped.
    fn map(&self, frame: Frame) -> Result<bool, Unmapped>;

    /// Lets other tasks complete their changes. Returns false if this task must not wait.
    fn wait(&self) -> bool;

    /// Arms the watch if nothing has changed since [`Memory::watch`]: from now on, a change stops
    /// the unit first.
    fn arm(&self) -> bool;

    /// Does the same if all frames are mapped, and ensures that no CPU has older translations.
    fn arm_if_mapped(&self, frames: &Frames) -> bool;

    /// Disarms the watch.
    fn disarm(&self);
}

/// The outcome of making a window ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The unit may write up to this limit.
    Ready(u64, How),
    /// The unit stays off for now.
    Later,
    /// There is no memory where the unit writes next.
    Gone,
}

/// How a window was made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By comparison with the last one.
    Compared,
    /// By a walk, after which this number of frames had to be mapped.
    Walked(u32),
}

/// The window of a vCPU.
pub(crate) struct Window {
    start: u64,
    end: u64,
    context: Context,
    descriptors: List<Descriptor, DESCRIPTORS>,
    frames: Frames,
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self {
            start: 0,
            end: 0,
            context: [0; 6],
            descriptors: List::new(Descriptor::NONE),
            frames: Frames::new(),
        }
    }

    /// Makes the window ready for writes at `pointer`, in a buffer that ends at `limit`.
    pub(crate) fn make_ready<M: Memory>(
        &mut self,
        memory: &M,
        pointer: u64,
        limit: u64,
    ) -> Outcome {
        let end = end_of(pointer, limit);

        if self.covers(pointer, end) && self.is_unchanged(memory) && memory.arm() {
            return Outcome::Ready(self.end.min(limit), How::Compared);
        }
        let mut mapped = 0;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 && !memory.wait() {
                break;
            }
            match self.try_once(memory, pointer, end, &mut mapped) {
                Ok(()) => {
                    let limit = if pointer < limit { self.end } else { limit };
                    return Outcome::Ready(limit, How::Walked(mapped));
                }
                Err(Unmapped::Gone) => return self.give_up(memory, Outcome::Gone),
                Err(Unmapped::Later) => {}
            }
        }
        self.give_up(memory, Outcome::Later)
    }

    /// Finds the window's frames, maps them, and arms the watch. Returns [`Unmapped::Later`] if
    /// something has changed meanwhile.
    fn try_once<M: Memory>(
        &mut self,
        memory: &M,
        pointer: u64,
        end: u64,
        mapped: &mut u32,
    ) -> Result<(), Unmapped> {
        if !self.walk(memory, pointer, end) {
            return Err(Unmapped::Later);
        }
        memory.watch(&self.frames);
        if memory.arm_if_mapped(&self.frames) {
            return Ok(());
        }
        self.map(memory, pointer, mapped)?;
        if memory.arm_if_mapped(&self.frames) {
            Ok(())
        } else {
            Err(Unmapped::Later)
        }
    }

    /// Disarms the watch, and empties the window. Returns `outcome`.
    fn give_up<M: Memory>(&mut self, memory: &M, outcome: Outcome) -> Outcome {
        memory.disarm();
        self.end = self.start;
        outcome
    }

    /// Returns whether this window is large enough for writes at `pointer`.
    fn covers(&self, pointer: u64, end: u64) -> bool {
        self.start <= pointer && (end <= self.end || pointer.saturating_add(REST) <= self.end)
    }

    /// Returns whether the guest's translation is unchanged.
    fn is_unchanged<M: Memory>(&self, memory: &M) -> bool {
        memory.context(self.start) == self.context
            && self
                .descriptors
                .items()
                .iter()
                .all(|known| memory.descriptor(known.ipa) == Some(known.value))
    }

    /// Finds the frames of the window that begins with the page of `pointer`. The window ends at a
    /// page that stage 1 does not let the unit write: before that page, or after it if there is no
    /// space for a record before it, so that the unit reports the fault. Returns false if the walk
    /// must be repeated.
    fn walk<M: Memory>(&mut self, memory: &M, pointer: u64, end: u64) -> bool {
        let write = memory.updates_tables();
        let mut page = 0;

        self.begin(memory, pointer & !(PAGE - 1));
        // The descriptor of the previous page, and the address of that page.
        let (mut leaf, mut before) = (Descriptor::NONE, None);
        while self.end < end {
            let found = match before.and_then(|at| leaf.next(memory, at)) {
                Some((next, at)) => {
                    leaf = next;
                    self.add_next(memory, next, at, page)
                }
                None => self.add_page(memory, self.end, page, write, &mut leaf),
            };
            before = match found {
                Page::At(at) => Some(at),
                _ => None,
            };

            if found == Page::Later {
                return false;
            }
            if found == Page::Unwritable && self.has_space(pointer) {
                break;
            }
            self.end = self.end.saturating_add(PAGE);
            if found == Page::Unwritable {
                break;
            }
            page += 1;
        }
        true
    }

    /// Begins an empty window.
    fn begin<M: Memory>(&mut self, memory: &M, start: u64) {
        self.start = start;
        self.end = start;
        self.context = memory.context(start);
        self.descriptors.len = 0;
        self.frames = Frames::new();
    }

    /// Returns whether there is space for a record.
    fn has_space(&self, pointer: u64) -> bool {
        pointer.saturating_add(MAX_RECORD) <= self.end
    }

    /// Adds the page at `at`, which `next` translates; its table is known.
    fn add_next<M: Memory>(&mut self, memory: &M, next: Descriptor, at: u64, page: u64) -> Page {
        let frame = Frame {
            gfn: memory.gfn(at),
            write: true,
            page,
        };
        if self.frames.add(frame) && self.descriptors.push(next) {
            Page::At(at)
        } else {
            Page::Later
        }
    }

    /// Adds the page at `va`, and the descriptors that translate it. Stores the last descriptor in
    /// `leaf`. Returns [`Page::Later`] if the arrays have no room.
    fn add_page<M: Memory>(
        &mut self,
        memory: &M,
        va: u64,
        page: u64,
        write: bool,
        leaf: &mut Descriptor,
    ) -> Page {
        let mut fits = true;
        let (frames, descriptors) = (&mut self.frames, &mut self.descriptors);

        let translated = memory.translate(va, &mut |descriptor| {
            let gfn = memory.gfn(descriptor.ipa);
            let mut known = descriptors.items().iter();
            *leaf = descriptor;

            fits &= frames.add(Frame { gfn, write, page })
                && (known.any(|known| *known == descriptor) || descriptors.push(descriptor));
        });
        if let Page::At(ipa) = translated {
            let gfn = memory.gfn(ipa);
            let write = true;
            fits &= frames.add(Frame { gfn, write, page });
        }
        // The arrays have room for all frames and descriptors of a window.
        if fits {
            translated
        } else {
            Page::Later
        }
    }

    /// Maps all frames, and counts new mappings in `mapped`. The window ends before the first page
    /// whose frame is gone; fails with [`Unmapped::Gone`] if that leaves no space for a record.
    fn map<M: Memory>(
        &mut self,
        memory: &M,
        pointer: u64,
        mapped: &mut u32,
    ) -> Result<(), Unmapped> {
        for index in 0..self.frames.0.len {
            let Some(frame) = self.frames.as_slice().get(index).copied() else {
                break;
            };
            match memory.map(frame) {
                Ok(new) => *mapped += u32::from(new),
                Err(Unmapped::Gone) => {
                    self.end = self.start.saturating_add(frame.page * PAGE);
                    self.frames.0.len = index;
                    if !self.has_space(pointer) {
                        return Err(Unmapped::Gone);
                    }
                    break;
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }
}

/// Returns the end of the window at `pointer`. If `pointer` is not below `limit`, the buffer has no
/// space, and the window is one page; the unit decides how it handles this.
fn end_of(pointer: u64, limit: u64) -> u64 {
    let start = pointer & !(PAGE - 1);

    if pointer < limit {
        limit.min(start.saturating_add(LENGTH))
    } else {
        start.saturating_add(PAGE)
    }
}

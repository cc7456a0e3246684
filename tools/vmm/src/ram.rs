// SPDX-License-Identifier: GPL-2.0

//! The VM of KVM and the memory that the guest has.

use kvm_bindings::{kvm_userspace_memory_region, KVM_MEM_LOG_DIRTY_PAGES};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap, GuestMemoryRegion};

use crate::failure::{During, Result};

/// The start of memory, as on QEMU's "virt" board.
pub const START: u64 = 0x4000_0000;

/// The size of a page that is copied, in bytes.
pub const PAGE: usize = 4096;

/// The number of memory's only region.
const SLOT: u32 = 0;

/// A VM and its memory.
pub struct Ram {
    // Dropped in this order: the VM uses the memory.
    /// The VM.
    pub vm: VmFd,
    /// Its memory, one region from [`START`].
    pub memory: GuestMemoryMmap,
}

impl Ram {
    /// Maps `size` bytes, which are 0.
    pub fn map(size: u64) -> Result<GuestMemoryMmap> {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(START), size as usize)]).during("memory")
    }

    /// Gives a VM its memory.
    pub fn new(vm: VmFd, memory: GuestMemoryMmap) -> Result<Self> {
        let ram = Self { vm, memory };
        ram.register(0)?;
        Ok(ram)
    }

    /// Tells KVM of the region, with `flags` of `KVM_SET_USER_MEMORY_REGION`.
    fn register(&self, flags: u32) -> Result {
        let region = kvm_userspace_memory_region {
            slot: SLOT,
            guest_phys_addr: START,
            memory_size: self.size(),
            userspace_addr: self
                .memory
                .get_host_address(GuestAddress(START))
                .during("memory")? as u64,
            flags,
        };
        // SAFETY: The region is mapped for as long as `memory` lives, which the VM
        // does not outlive.
        unsafe { self.vm.set_user_memory_region(region) }.during("KVM_SET_USER_MEMORY_REGION")
    }

    /// Returns the size of memory in bytes.
    pub fn size(&self) -> u64 {
        self.memory.iter().map(GuestMemoryRegion::len).sum()
    }

    /// Sets whether KVM notes which pages are written.
    pub fn log_writes(&self, log: bool) -> Result {
        self.register(if log { KVM_MEM_LOG_DIRTY_PAGES } else { 0 })
    }

    /// Returns the addresses of the pages that have been written since the last call, or since
    /// `log_writes(true)`.
    pub fn written(&self) -> Result<Vec<u64>> {
        let log = self
            .vm
            .get_dirty_log(SLOT, self.size() as usize)
            .during("KVM_GET_DIRTY_LOG")?;
        // SAFETY: Always safe to call.
        let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as u64;
        let pages = 0..self.size() / size;
        Ok(pages
            .filter(|page| log[*page as usize / 64] >> (page % 64) & 1 != 0)
            .flat_map(|page| (page * size..(page + 1) * size).step_by(PAGE))
            .map(|offset| START + offset)
            .collect())
    }

    /// Returns the addresses of the pages that are not all zeroes.
    pub fn used(&self) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for address in (START..START + self.size()).step_by(PAGE) {
            if self.page(address)?.iter().any(|byte| *byte != 0) {
                found.push(address);
            }
        }
        Ok(found)
    }

    /// Returns a copy of the page at `address`.
    pub fn page(&self, address: u64) -> Result<[u8; PAGE]> {
        let mut bytes = [0; PAGE];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .during("memory")?;
        Ok(bytes)
    }
}

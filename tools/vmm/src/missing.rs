// SPDX-License-Identifier: GPL-2.0

//! Memory that arrives while the guest already runs. userfaultfd says which page somebody waits
//! for, KVM included (Documentation/admin-guide/mm/userfaultfd.rst).

use std::{
    collections::HashSet,
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    os::fd::{AsRawFd, FromRawFd},
};

use libc::{c_int, c_ulong};
use linux_raw_sys::{
    general::{
        uffd_msg, uffdio_api, uffdio_copy, uffdio_range, uffdio_register, uffdio_zeropage,
        UFFDIO_REGISTER_MODE_MISSING, UFFD_API, UFFD_EVENT_PAGEFAULT,
    },
    ioctl::{UFFDIO_API, UFFDIO_COPY, UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_ZEROPAGE},
};
use vm_memory::{GuestAddress, GuestMemory};
use vmm_sys_util::ioctl::ioctl_with_mut_ref;

use crate::{
    failure::{During, Result},
    migration::PATIENCE,
    ram::{self, Ram, PAGE},
};

/// Pages of a VM that are not there yet.
pub struct Missing {
    uffd: File,
    /// The VM's memory in this process.
    range: uffdio_range,
    /// The addresses of the pages in the VM.
    pages: HashSet<u64>,
    /// Those for which the other host was asked.
    asked: HashSet<u64>,
}

impl Missing {
    /// Makes accesses to the memory of a VM that has not run wait until the page is there. Pages
    /// that are not in `pages` are 0.
    pub fn new(ram: &Ram, pages: Vec<u64>) -> Result<Self> {
        // SAFETY: Always safe to call.
        if unsafe { libc::sysconf(libc::_SC_PAGESIZE) } != PAGE as libc::c_long {
            return Err("it needs a host with pages of 4 KiB").during("postcopy");
        }
        let start = ram
            .memory
            .get_host_address(GuestAddress(ram::START))
            .during("memory")?;
        let range = uffdio_range {
            start: start as u64,
            len: ram.size(),
        };
        // SAFETY: Always safe to call; the descriptor is new.
        let uffd = unsafe {
            // poll() needs a non-blocking descriptor: the waiting thread may be gone by then.
            match libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) {
                fd @ 0.. => File::from_raw_fd(fd as c_int),
                _ => return Err(io::Error::last_os_error()).during("userfaultfd"),
            }
        };
        let missing = Self {
            uffd,
            range,
            pages: pages.into_iter().collect(),
            asked: HashSet::new(),
        };
        missing.register()?;
        Ok(missing)
    }

    /// Makes a request of userfaultfd, and repeats it while the kernel returns EAGAIN.
    fn request<T>(&self, number: u32, value: &mut T) -> io::Result<()> {
        loop {
            // SAFETY: The kernel reads and writes what `number` says, which the callers pass.
            match unsafe { ioctl_with_mut_ref(&self.uffd, c_ulong::from(number), value) } {
                0 => return Ok(()),
                _ => match io::Error::last_os_error() {
                    why if why.kind() == ErrorKind::WouldBlock => {}
                    why => return Err(why),
                },
            }
        }
    }

    /// Lets accesses to the memory wait from now on.
    fn register(&self) -> Result {
        let mut api = uffdio_api {
            api: UFFD_API.into(),
            features: 0,
            ioctls: 0,
        };
        let mut all = uffdio_register {
            range: self.range,
            mode: UFFDIO_REGISTER_MODE_MISSING.into(),
            ioctls: 0,
        };
        self.request(UFFDIO_API, &mut api).during("UFFDIO_API")?;
        self.request(UFFDIO_REGISTER, &mut all)
            .during("UFFDIO_REGISTER")
    }

    /// Waits until there is something to read, and returns where: from userfaultfd, and from the
    /// other host, which sends all the time.
    fn wait(&self, stream: &TcpStream) -> io::Result<(bool, bool)> {
        let entry = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut both = [entry(self.uffd.as_raw_fd()), entry(stream.as_raw_fd())];
        let limit = PATIENCE.as_millis() as c_int;
        // SAFETY: The kernel writes to the array.
        match unsafe { libc::poll(both.as_mut_ptr(), both.len() as libc::nfds_t, limit) } {
            0 => Err(ErrorKind::TimedOut.into()),
            1.. => Ok((both[0].revents != 0, both[1].revents != 0)),
            _ => match io::Error::last_os_error() {
                why if why.kind() == ErrorKind::Interrupted => Ok((false, false)),
                why => Err(why),
            },
        }
    }

    /// Takes the pages as they come, and asks for those that somebody waits for, until all are
    /// there.
    pub fn arrive(mut self, stream: &mut TcpStream) -> io::Result<()> {
        loop {
            let (waits, comes) = self.wait(stream)?;
            if waits {
                self.ask(stream)?;
            }
            if comes && !self.take(stream)? {
                break;
            }
        }
        let (pages, asked) = (self.pages.len(), self.asked.len());
        if pages > 0 {
            return Err(io::Error::other(format!("{pages} pages are missing")));
        }
        self.request(UFFDIO_UNREGISTER, &mut { self.range })?;
        eprintln!("vmm: all memory is here; {asked} pages were asked for");
        Ok(())
    }

    /// Asks for the page that somebody waits for, if somebody still does, or fills it with zeroes.
    fn ask(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        let mut bytes = [0; size_of::<uffd_msg>()];
        match self.uffd.read_exact(&mut bytes) {
            Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
            result => result?,
        }
        // SAFETY: This is what has been read, and all values are valid.
        let message: uffd_msg = unsafe { std::mem::transmute(bytes) };
        if u32::from(message.event) != UFFD_EVENT_PAGEFAULT {
            return Err(io::Error::other("an event that was not asked for"));
        }
        // SAFETY: The event says so.
        let at = unsafe { message.arg.pagefault.address } & !(PAGE as u64 - 1);
        let page = at - self.range.start + ram::START;
        if self.pages.contains(&page) {
            return match self.asked.insert(page) {
                true => stream.write_all(&page.to_le_bytes()),
                false => Ok(()),
            };
        }
        let mut zero = uffdio_zeropage {
            range: uffdio_range {
                start: at,
                len: PAGE as u64,
            },
            mode: 0,
            zeropage: 0,
        };
        unless_there(self.request(UFFDIO_ZEROPAGE, &mut zero))
    }

    /// Takes a page. Returns false if there are no more.
    fn take(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let (mut number, mut bytes) = ([0; 8], [0; PAGE]);
        stream.read_exact(&mut number)?;
        let page = u64::from_le_bytes(number);
        if page == 0 {
            return Ok(false);
        }
        stream.read_exact(&mut bytes)?;
        if !self.pages.remove(&page) {
            return Err(io::Error::other(format!("page {page:#x} is not missing")));
        }
        let mut copy = uffdio_copy {
            dst: page - ram::START + self.range.start,
            src: bytes.as_ptr() as u64,
            len: PAGE as u64,
            mode: 0,
            copy: 0,
        };
        self.request(UFFDIO_COPY, &mut copy)?;
        Ok(true)
    }
}

/// Ignores that a page is already there: two have waited for it.
fn unless_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(why) if why.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

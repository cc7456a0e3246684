// SPDX-License-Identifier: GPL-2.0

//! The part of QEMU's TCG plugin API, version 4, that is used here; documented in QEMU's
//! "QEMU TCG Plugins". All `unsafe` towards QEMU is in this file.

use std::ffi::{c_char, c_int, c_uint, c_void, CStr, CString};
use std::marker::PhantomData;

/// The API version this module is written for. QEMU refuses to load a plugin whose version it does
/// not support.
#[no_mangle]
#[allow(non_upper_case_globals)]
pub static qemu_plugin_version: c_int = API_VERSION;

pub const API_VERSION: c_int = 4;

pub type Id = u64;

/// `qemu_info_t`; what follows these fields is not used.
#[repr(C)]
pub struct Info {
    target_name: *const c_char,
    version_min: c_int,
    version_cur: c_int,
    system_emulation: bool,
}

impl Info {
    /// Returns why this machine cannot be measured, if it cannot.
    pub fn unsupported(&self) -> Option<String> {
        // SAFETY: `qemu_plugin_install()` is passed a valid, NUL-terminated target name.
        let target = unsafe { CStr::from_ptr(self.target_name) };
        let versions = self.version_min..=self.version_cur;
        match () {
            _ if target != c"aarch64" => Some(format!("cannot decode {target:?}, only aarch64")),
            _ if !self.system_emulation => Some("needs system emulation".into()),
            _ if !versions.contains(&API_VERSION) => Some(format!("no plugin API {API_VERSION}")),
            _ => None,
        }
    }
}

/// A block that is being translated. QEMU passes it by reference to the translation callback.
#[repr(C)]
pub struct Tb([u8; 0]);
#[repr(C)]
struct RawInsn([u8; 0]);
#[repr(C)]
struct RawScoreboard([u8; 0]);
#[repr(C)]
struct RawRegister([u8; 0]);

/// `qemu_plugin_u64`: a counter at `offset` in each vCPU's entry of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawU64 {
    score: *mut RawScoreboard,
    offset: usize,
}

/// The head of GLib's `GArray` and `GByteArray`, which is all that GLib makes public.
#[repr(C)]
struct GArray {
    data: *mut u8,
    len: c_uint,
}

/// `qemu_plugin_reg_descriptor`
#[repr(C)]
struct RegDescriptor {
    handle: *mut RawRegister,
    name: *const c_char,
    feature: *const c_char,
}

/// `QEMU_PLUGIN_CB_NO_REGS`
const NO_REGS: c_int = 0;
/// `QEMU_PLUGIN_INLINE_ADD_U64`
const INLINE_ADD: c_int = 0;

type ExitCb = extern "C" fn(Id, *mut c_void);
type VcpuCb = extern "C" fn(Id, c_uint);
type TransCb = extern "C" fn(Id, *mut Tb);
/// A callback before an instruction executes: vCPU, and the value given at registration.
pub type ExecCb = extern "C" fn(c_uint, *mut c_void);

extern "C" {
    fn qemu_plugin_register_atexit_cb(id: Id, cb: ExitCb, data: *mut c_void);
    fn qemu_plugin_register_vcpu_init_cb(id: Id, cb: VcpuCb);
    fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, cb: TransCb);
    fn qemu_plugin_register_vcpu_insn_exec_cb(
        insn: *mut RawInsn,
        cb: ExecCb,
        flags: c_int,
        data: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        insn: *mut RawInsn,
        op: c_int,
        entry: RawU64,
        imm: u64,
    );
    fn qemu_plugin_tb_n_insns(tb: *const Tb) -> usize;
    fn qemu_plugin_tb_get_insn(tb: *const Tb, idx: usize) -> *mut RawInsn;
    fn qemu_plugin_insn_data(insn: *const RawInsn, dest: *mut c_void, len: usize) -> usize;
    fn qemu_plugin_insn_vaddr(insn: *const RawInsn) -> u64;
    fn qemu_plugin_insn_haddr(insn: *const RawInsn) -> *mut c_void;
    fn qemu_plugin_scoreboard_new(element_size: usize) -> *mut RawScoreboard;
    fn qemu_plugin_u64_sum(entry: RawU64) -> u64;
    fn qemu_plugin_get_registers() -> *mut GArray;
    fn qemu_plugin_read_register(handle: *mut RawRegister, buf: *mut GArray) -> c_int;
    fn qemu_plugin_outs(string: *const c_char);
    fn g_array_free(array: *mut GArray, free_segment: c_int) -> *mut c_char;
    fn g_byte_array_new() -> *mut GArray;
    fn g_byte_array_free(array: *mut GArray, free_segment: c_int) -> *mut u8;
}

/// Registers the plugin's three callbacks.
pub fn register(id: Id, vcpu_init: VcpuCb, translate: TransCb, exit: ExitCb) {
    // SAFETY: `id` is the one QEMU gave us, and the callbacks are functions of the types asked
    // for.
    unsafe {
        qemu_plugin_register_vcpu_init_cb(id, vcpu_init);
        qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
        qemu_plugin_register_atexit_cb(id, exit, std::ptr::null_mut());
    }
}

/// Returns the arguments, which are as QEMU passes them to `qemu_plugin_install()`.
///
/// # Safety
///
/// `argv` points to `argc` NUL-terminated strings.
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<String> {
    let text = |i| {
        // SAFETY: `i` is below `argc`, so the caller's contract covers it.
        let argument = unsafe { CStr::from_ptr(*argv.add(i)) };
        argument.to_string_lossy().into_owned()
    };
    (0..usize::try_from(argc).unwrap_or(0)).map(text).collect()
}

/// Writes to QEMU's log, which shows it with `-d plugin`.
pub fn log(text: &str) {
    let text = CString::new(text).unwrap_or_default();
    // SAFETY: `text` is NUL-terminated and lives across the call.
    unsafe { qemu_plugin_outs(text.as_ptr()) }
}

impl Tb {
    pub fn insns(&self) -> impl Iterator<Item = Insn<'_>> {
        // SAFETY: `self` is the live block that QEMU passed to the callback.
        let n = unsafe { qemu_plugin_tb_n_insns(self) };
        (0..n).map(|i| {
            // SAFETY: As above, and `i` is below the number of instructions.
            let insn = unsafe { qemu_plugin_tb_get_insn(self, i) };
            Insn {
                insn,
                tb: PhantomData,
            }
        })
    }
}

/// An instruction of a block that is being translated.
///
/// # Invariants
///
/// `insn` is QEMU's handle of an instruction of a block that lives for `'a`.
pub struct Insn<'a> {
    insn: *mut RawInsn,
    tb: PhantomData<&'a Tb>,
}

impl Insn<'_> {
    /// Returns the opcode; `None` if QEMU generates an exception without fetching an instruction,
    /// as it does for a misaligned PC.
    pub fn opcode(&self) -> Option<u32> {
        let mut bytes = [0u8; 4];
        // SAFETY: By the type invariant, and `bytes` has room for what is asked for.
        let n = unsafe { qemu_plugin_insn_data(self.insn, bytes.as_mut_ptr().cast(), bytes.len()) };
        // A64 instructions are little-endian whatever the data endianness (Arm ARM, "Instruction
        // endianness").
        (n == bytes.len()).then_some(u32::from_le_bytes(bytes))
    }

    pub fn vaddr(&self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { qemu_plugin_insn_vaddr(self.insn) }
    }

    /// Returns where the opcode lies in QEMU's own address space, if that is RAM.
    pub fn host_address(&self) -> Option<u64> {
        // SAFETY: By the type invariant.
        let address = unsafe { qemu_plugin_insn_haddr(self.insn) } as u64;
        (address != 0).then_some(address)
    }

    /// Adds 1 to the executing vCPU's `counter` each time, before the instruction executes.
    pub fn count(&self, counter: Counter) {
        // SAFETY: By the type invariants of `Insn` and `Counter`.
        unsafe {
            qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(self.insn, INLINE_ADD, counter.0, 1)
        }
    }

    /// Calls `callback` each time, before the instruction executes.
    pub fn call(&self, callback: ExecCb, value: usize) {
        let data = std::ptr::without_provenance_mut(value);
        // SAFETY: By the type invariant; QEMU hands `data` back and does not look behind it.
        unsafe { qemu_plugin_register_vcpu_insn_exec_cb(self.insn, callback, NO_REGS, data) }
    }
}

/// A number of 64-bit counters for each vCPU.
///
/// # Invariants
///
/// `score` is a scoreboard with `counters` 64-bit words for each vCPU, and is never freed.
pub struct Scoreboard {
    score: *mut RawScoreboard,
    counters: usize,
}

// SAFETY: QEMU serialises the functions on scoreboards, and reading a counter that its vCPU is
// adding to yields one of the values it takes.
unsafe impl Send for Scoreboard {}
// SAFETY: As above.
unsafe impl Sync for Scoreboard {}

impl Scoreboard {
    pub fn new(counters: usize) -> Scoreboard {
        // SAFETY: Called from the installation or a callback, where QEMU allows it.
        let score = unsafe { qemu_plugin_scoreboard_new(counters * size_of::<u64>()) };
        Scoreboard { score, counters }
    }

    pub fn counter(&self, index: usize) -> Counter {
        assert!(index < self.counters);
        let offset = index * size_of::<u64>();
        Counter(RawU64 {
            score: self.score,
            offset,
        })
    }

    /// Returns the sum over all vCPUs of each counter.
    pub fn sums(&self) -> Vec<u64> {
        let counters = (0..self.counters).map(|index| self.counter(index));
        counters.map(Counter::sum).collect()
    }
}

/// One counter of a [`Scoreboard`].
///
/// # Invariants
///
/// Lies inside a live scoreboard.
#[derive(Clone, Copy)]
pub struct Counter(RawU64);

impl Counter {
    pub fn sum(self) -> u64 {
        // SAFETY: By the type invariant.
        unsafe { qemu_plugin_u64_sum(self.0) }
    }
}

/// A register of the guest that can be read.
///
/// # Invariants
///
/// The handle of a register that the vCPUs of this machine have.
pub struct Register(*mut RawRegister);

// SAFETY: The handle is a number that QEMU dresses up as a pointer, the same for every vCPU.
unsafe impl Send for Register {}
// SAFETY: As above.
unsafe impl Sync for Register {}

impl Register {
    /// Looks a register up by its GDB name. Call from the vCPU initialisation callback.
    pub fn find(name: &CStr) -> Option<Register> {
        // SAFETY: In the context of a vCPU, by this function's contract; the names are valid C
        // strings; the array is ours to free and is not used afterwards.
        unsafe {
            let array = qemu_plugin_get_registers();
            let descriptors: *const RegDescriptor = (*array).data.cast();
            let mut all = (0..(*array).len as usize).map(|i| &*descriptors.add(i));
            let found = all.find(|descriptor| CStr::from_ptr(descriptor.name) == name);
            let register = found.map(|descriptor| Register(descriptor.handle));
            g_array_free(array, 1);
            register
        }
    }

    /// Reads the low 32 bits of the register of the current vCPU.
    pub fn read(&self) -> Option<u32> {
        // SAFETY: By the type invariant, in the context of a vCPU; the buffer is ours, and `len`
        // bytes of it are initialised.
        unsafe {
            let buffer = g_byte_array_new();
            let size = qemu_plugin_read_register(self.0, buffer);
            let bytes = match size >= 4 && (*buffer).len >= 4 {
                true => Some((*buffer).data.cast::<[u8; 4]>().read_unaligned()),
                false => None,
            };
            g_byte_array_free(buffer, 1);
            bytes.map(u32::from_le_bytes)
        }
    }
}

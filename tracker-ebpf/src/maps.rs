//! The maps, and the few things that are done with them.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_NOEXIST, BPF_SK_STORAGE_GET_F_CREATE, bpf_sock};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf, SkStorage};
use aya_ebpf::helpers::generated::{
    bpf_sk_storage_delete, bpf_sk_storage_get, bpf_spin_lock, bpf_spin_unlock,
};
use aya_ebpf::macros::btf_map;
use tracker_ebpf::abi::{
    ClientAddr, Counter, DEFAULT_MAX_RECORDS, HINTS_BYTES, Hint, MAX_PORTS, Settings, Slot, Used, entries_of,
};
use tracker_ebpf::mark::Mark;

/// One record per client. A plain hash map: an eviction would forget a client who is logged in. Strangers cannot fill it:
/// see [`Used`].
#[btf_map]
static RECORDS: HashMap<ClientAddr, Slot, { entries_of(DEFAULT_MAX_RECORDS) as usize }> = HashMap::new();

/// How many records there are.
#[btf_map]
static USED: Array<Used, 1> = Array::new();

/// What the daemon says, live.
#[btf_map]
static SETTINGS: Array<Settings, 1> = Array::new();

/// Our address at each of the watched places, as [`tracker_ebpf::abi::covers`] compares it; written by the loader.
#[btf_map]
static ADDRESSES: Array<[u64; 2], { MAX_PORTS }> = Array::new();

/// What went wrong, by [`Counter`].
#[btf_map]
static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

/// Wakes user space: only for a client's first and last connection.
#[btf_map]
static HINTS: RingBuf<Hint, { HINTS_BYTES as usize }> = RingBuf::new();

/// The mark on a watched socket. The kernel frees it with the socket.
#[btf_map]
static MARKS: SkStorage<Mark> = SkStorage::new();

/// The settings; without them (never: it is an array) nothing is latched.
#[inline(always)]
pub(crate) fn settings() -> Settings {
    SETTINGS.get(0).copied().unwrap_or_default()
}

/// Our address at one of the watched places.
#[inline(always)]
pub(crate) fn address(place: u32) -> Option<[u64; 2]> {
    ADDRESSES.get(place).copied()
}

/// Counts something that went wrong.
#[inline(always)]
pub(crate) fn count(what: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(what as u32) {
        // SAFETY: this CPU's own slot. A program that interrupts this one on the same CPU can at worst hide one event.
        unsafe { *slot += 1 };
    }
}

/// Tells user space where to look.
#[inline(always)]
pub(crate) fn hint(client: ClientAddr, at: u64, kind: u32, amended: bool) {
    if HINTS.output(Hint { client, at, kind, amended: amended as u32 }, 0).is_err() {
        count(Counter::HintDropped);
    }
}

/// The client's slot.
#[inline(always)]
pub(crate) fn slot(client: &ClientAddr) -> Option<*mut Slot> {
    RECORDS.get_ptr_mut(client)
}

/// What became of an attempt to make a slot.
pub(crate) enum Made {
    /// It is in the map now.
    New,
    /// Another one was there first.
    Exists,
    /// There is no room.
    Full,
}

/// Puts a new slot into the map.
#[inline(always)]
pub(crate) fn make(slot: &Slot) -> Made {
    match RECORDS.insert(slot.client, slot, u64::from(BPF_NOEXIST)) {
        Ok(()) => Made::New,
        Err(EEXIST) => Made::Exists,
        Err(_) => Made::Full,
    }
}

const EEXIST: i32 = -17;

/// Deletes the client's slot.
#[inline(always)]
pub(crate) fn remove(client: &ClientAddr) -> bool {
    RECORDS.remove(client).is_ok()
}

/// Does `work` on the slot under its lock, if it still serves that client. No helper may be called in `work`.
#[inline(always)]
pub(crate) fn locked<T>(
    slot: *mut Slot,
    client: &ClientAddr,
    work: impl FnOnce(&mut Slot) -> T,
) -> Option<T> {
    // SAFETY: the slot comes from a look-up in this run of the program, and the kernel keeps its memory until the end of
    // it. The record is touched only under its lock, here and everywhere else.
    unsafe {
        let lock = (&raw mut (*slot).lock).cast();
        bpf_spin_lock(lock);
        let done = if (*slot).serves(client) { Some(work(&mut *slot)) } else { None };
        bpf_spin_unlock(lock);
        done
    }
}

/// Counts the records: does `work` under the lock. No helper may be called in `work`.
#[inline(always)]
pub(crate) fn tally(work: impl FnOnce(&mut Used) -> bool) -> bool {
    let Some(used) = USED.get_ptr_mut(0) else { return false };
    // SAFETY: the entry of an array stays where it is, and is touched only under its lock.
    unsafe {
        let lock = (&raw mut (*used).lock).cast();
        bpf_spin_lock(lock);
        let done = work(&mut *used);
        bpf_spin_unlock(lock);
        done
    }
}

/// When the slot was made: read without its lock, as below.
#[inline(always)]
pub(crate) fn born(slot: *mut Slot) -> u64 {
    // SAFETY: as below.
    unsafe { (&raw const (*slot).born).read_volatile() }
}

/// When the slot's record was last told of data: read without its lock, so it may be old, or another client's whose slot
/// this has just become. Good for nothing but to decide whether telling it can wait.
#[inline(always)]
pub(crate) fn traffic_at(slot: *mut Slot) -> u64 {
    // SAFETY: the slot comes from a look-up in this run of the program; an aligned word is read whole.
    unsafe { (&raw const (*slot).record.traffic_at).read_volatile() }
}

/// The mark of a socket, if it is watched.
#[inline(always)]
pub(crate) fn mark(socket: *mut bpf_sock) -> Option<&'static mut Mark> {
    // SAFETY: the kernel checks the socket; a mark lives as long as its socket, which outlives this run.
    unsafe { storage(socket, core::ptr::null_mut(), 0).as_mut() }
}

/// Marks a socket, and returns the mark; `None` if that was not possible.
#[inline(always)]
pub(crate) fn set_mark(socket: *mut bpf_sock, mark: &Mark) -> Option<&'static mut Mark> {
    // SAFETY: as above; the kernel only reads the mark.
    unsafe { storage(socket, (&raw const *mark).cast_mut(), u64::from(BPF_SK_STORAGE_GET_F_CREATE)).as_mut() }
}

/// Takes the mark from a socket.
#[inline(always)]
pub(crate) fn clear_mark(socket: *mut bpf_sock) {
    // SAFETY: the kernel checks the socket. A missing mark is no error.
    unsafe { bpf_sk_storage_delete((&raw const MARKS).cast_mut().cast(), socket.cast::<c_void>()) };
}

/// The typed wrapper of aya-ebpf wants another kind of context.
#[inline(always)]
fn storage(socket: *mut bpf_sock, value: *mut Mark, flags: u64) -> *mut Mark {
    // SAFETY: the kernel checks the socket, and copies from `value` only if it is not null.
    unsafe {
        bpf_sk_storage_get((&raw const MARKS).cast_mut().cast(), socket.cast(), value.cast(), flags).cast()
    }
}

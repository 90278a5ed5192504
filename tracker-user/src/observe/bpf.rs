//! The calls of bpf(2) that aya has no function for: a cgroup's link that is found pinned, looked at, and given another
//! program without a gap; and a map that is read many entries at a time.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use tracker_ebpf::abi::{READ_LOCKED, Slot};

use crate::types::ClientAddr;

const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_PROG_TEST_RUN: libc::c_int = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
const BPF_LINK_DETACH: libc::c_int = 34;

const BPF_LINK_TYPE_CGROUP: u32 = 3;

/// Where in a cgroup a program hangs: `enum bpf_attach_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Hook {
    /// `BPF_CGROUP_INET_INGRESS`
    Ingress = 0,
    /// `BPF_CGROUP_INET_EGRESS`
    Egress = 1,
    /// `BPF_CGROUP_SOCK_OPS`
    SockOps = 3,
}

/// What the kernel says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CgroupLink {
    /// The number of its program.
    pub(super) program: u32,
    /// The number of its cgroup, which is its directory's inode; 0 once the cgroup is gone.
    pub(super) cgroup: u64,
    /// The hook's number.
    pub(super) hook: u32,
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

/// `bpf_link_info` of a cgroup's link.
#[repr(C)]
#[derive(Default)]
struct Info {
    kind: u32,
    id: u32,
    program: u32,
    _pad: u32,
    cgroup: u64,
    hook: u32,
    _tail: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    hook: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// What of the command's own structure the kernel writes to, and what comes before; the rest is taken for 0.
#[repr(C)]
struct TestRun {
    program: u32,
    answer: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// So many entries are asked for at once.
const BATCH: usize = 4_096;

/// Where a walk over the record map stands. The kernel goes through the map's buckets one by one, so every entry that
/// stays is told once, whatever comes and goes meanwhile.
pub(super) struct Cursor {
    /// The bucket that comes next; `None` before the first one.
    next: Option<u32>,
    at_the_end: bool,
    keys: Vec<ClientAddr>,
    values: Vec<Slot>,
}

impl Cursor {
    /// A walk in portions of about so many entries, from the beginning of the map.
    pub(super) fn new(portion: usize) -> Self {
        Self {
            next: None,
            at_the_end: false,
            keys: vec![ClientAddr::default(); portion],
            values: vec![Slot::default(); portion],
        }
    }

    /// Whether every entry has been told.
    pub(super) const fn is_at_the_end(&self) -> bool {
        self.at_the_end
    }

    /// Calls `each` with the next portion of entries, each read under its lock. One system call, but for a bucket that
    /// has more entries than there was room for.
    pub(super) fn portion(
        &mut self,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(ClientAddr, &Slot),
    ) -> io::Result<()> {
        while !self.at_the_end {
            let (from, mut to) = (self.next.unwrap_or_default(), 0_u32);
            let mut request = Batch {
                from: if self.next.is_some() { (&raw const from).expose_provenance() as u64 } else { 0 },
                to: (&raw mut to).expose_provenance() as u64,
                keys: self.keys.as_mut_ptr().expose_provenance() as u64,
                values: self.values.as_mut_ptr().expose_provenance() as u64,
                count: self.keys.len() as u32,
                map: number(map),
                element_flags: READ_LOCKED,
                flags: 0,
            };
            #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
            // SAFETY: keys and values have room for `count` entries of the map's sizes, which are those of these types, as
            // was checked when the map was opened; a hash map's place is a u32. All of it outlives the call.
            let outcome = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut request) };
            match outcome {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ENOENT) => self.at_the_end = true,
                    Some(libc::EINTR) => continue,
                    // One bucket has more than there is room for.
                    Some(libc::ENOSPC) => {
                        let room = self.keys.len() * 2;
                        self.keys.resize(room, ClientAddr::default());
                        self.values.resize(room, Slot::default());
                        continue;
                    }
                    _ => return Err(error),
                },
            }
            let told = self.keys.iter().zip(&self.values).take(request.count as usize);
            told.for_each(|(client, slot)| each(*client, slot));
            self.next = Some(to);
            break;
        }
        Ok(())
    }
}

/// Calls `each` with every entry of the record map; see [`Cursor`].
pub(super) fn entries(map: BorrowedFd<'_>, mut each: impl FnMut(ClientAddr, &Slot)) -> io::Result<()> {
    let mut cursor = Cursor::new(BATCH);
    while !cursor.is_at_the_end() {
        cursor.portion(map, &mut each)?;
    }
    Ok(())
}

/// Opens what is pinned at `path`.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut request = Object { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the only pointer is to a string that outlives the call; on success the kernel gives a descriptor that
    // nobody else owns.
    unsafe {
        let fd = bpf(BPF_OBJ_GET, &mut request)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Pins what `fd` is at `path`, where nothing may be.
pub(super) fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut request = Object { path: path.as_ptr().expose_provenance() as u64, fd: number(fd), flags: 0 };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the only pointer is to a string that outlives the call.
    unsafe { bpf(BPF_OBJ_PIN, &mut request) }.map(drop)
}

/// Attaches a program to a cgroup, beside others.
pub(super) fn link(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, hook: Hook) -> io::Result<OwnedFd> {
    // No flag: a cgroup's link always allows others beside it, and the flag that would say so is refused.
    let mut request =
        LinkCreate { program: number(program), target: number(cgroup), hook: hook as u32, flags: 0 };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: no pointer is involved; on success the kernel gives a descriptor that nobody else owns.
    unsafe {
        let fd = bpf(BPF_LINK_CREATE, &mut request)?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Puts another program behind a link: each packet and each event sees either the old one or the new one. `ENOLINK`
/// means that the cgroup is gone.
pub(super) fn replace(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = LinkUpdate { link: number(link), program: number(program), flags: 0, old_program: 0 };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: no pointer is involved.
    unsafe { bpf(BPF_LINK_UPDATE, &mut request) }.map(drop)
}

/// Detaches a link's program, whoever else holds the link.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = number(link);
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: no pointer is involved.
    unsafe { bpf(BPF_LINK_DETACH, &mut request) }.map(drop)
}

/// Runs a program once with this as its packet, and returns what it answers. Neither allocates nor waits.
pub(super) fn run(program: BorrowedFd<'_>, packet: &[u8]) -> io::Result<u32> {
    let mut request = TestRun {
        program: number(program),
        answer: 0,
        size_in: packet.len() as u32,
        size_out: 0,
        data_in: packet.as_ptr().expose_provenance() as u64,
        data_out: 0,
        repeat: 0,
        duration: 0,
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the only pointer is to live bytes of the length given, which are only read. What the kernel writes, answer,
    // size and duration, lies within the request.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut request) }?;
    Ok(request.answer)
}

/// What a link is; `InvalidData` if it is no cgroup's.
pub(super) fn look(link: BorrowedFd<'_>) -> io::Result<CgroupLink> {
    let mut info = Info::default();
    let mut request = InfoByFd {
        fd: number(link),
        length: size_of::<Info>() as u32,
        info: (&raw mut info).expose_provenance() as u64,
    };
    #[expect(unsafe_code, reason = "a system call without a safe wrapper")]
    // SAFETY: the only pointer is to a live struct of plain integers of the length given.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
    if info.kind != BPF_LINK_TYPE_CGROUP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no link to a cgroup"));
    }
    Ok(CgroupLink { program: info.program, cgroup: info.cgroup, hook: info.hook })
}

/// One call. The result is a descriptor for the commands that make one, else 0.
///
/// # Safety
/// `request` must be what `command` expects, and its pointers valid for what the command does with them.
#[expect(unsafe_code, reason = "a system call without a safe wrapper")]
pub(super) unsafe fn bpf<T>(command: libc::c_int, request: &mut T) -> io::Result<i32> {
    // SAFETY: the kernel reads as many bytes of `request` as are given, and takes those it would expect beyond for 0;
    // the rest is the caller's promise.
    let outcome =
        unsafe { libc::syscall(libc::SYS_bpf, command, (&raw mut *request), size_of::<T>() as libc::c_uint) };
    match i32::try_from(outcome) {
        Ok(fd) if fd >= 0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the path has a byte 0 in it"))
}

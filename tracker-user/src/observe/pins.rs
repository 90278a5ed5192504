//! The directory on bpffs where the kernel side is pinned, so that it outlives the daemon.
//!
//! ```text
//! /sys/fs/bpf/tracker              observer.pin-dir; locked (flock) by the daemon that uses it
//! ├── abi-2-5f1d6d8a62f5b7c3       the contract's version and layout
//! │   ├── RECORDS SETTINGS ...     the maps
//! │   └── link-watch ...           the programs' places in the cgroup
//! └── store-9b1c...                the store's note of its last transaction (`witness`)
//! ```
//!
//! What is found there is adopted as a whole or not at all: aya takes any map that is pinned under the right name, so the
//! kinds and sizes are checked here. What is not adopted is set aside, and removed once its successor is attached.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aya::maps::{MapInfo, MapType};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracker_ebpf::abi::{ABI_VERSION, Counter, HINTS_BYTES, LAYOUT, Settings, Slot, Used, entries_of};
use tracker_ebpf::mark::Mark;

use super::bpf::{self, Hook};
use super::error::ObserveError;
use super::witness;
use crate::private;
use crate::types::ClientAddr;

/// The programs that are attached, in the order in which they are: the packet programs are idle until a socket is
/// marked, and then no packet of it is missed.
pub(super) const LINKS: [(&str, Hook); 3] =
    [("received", Hook::Ingress), ("sent", Hook::Egress), ("watch", Hook::SockOps)];

/// The maps, with all that the kernel knows of their form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    kind: MapType,
    key: usize,
    value: usize,
    entries: u32,
}

/// What the maps must be like.
pub(super) fn forms(max_records: u32) -> [Form; 6] {
    let form = |name, kind, key, value, entries| Form { name, kind, key, value, entries };
    [
        form("RECORDS", MapType::Hash, size_of::<ClientAddr>(), size_of::<Slot>(), entries_of(max_records)),
        form("USED", MapType::Array, 4, size_of::<Used>(), 1),
        form("SETTINGS", MapType::Array, 4, size_of::<Settings>(), 1),
        form("COUNTERS", MapType::PerCpuArray, 4, 8, Counter::ALL.len() as u32),
        form("HINTS", MapType::RingBuf, 0, 0, HINTS_BYTES),
        form("MARKS", MapType::SkStorage, 4, size_of::<Mark>(), 0),
    ]
}

impl Form {
    /// What is wrong with a map.
    pub(super) fn differs(&self, map: &MapInfo) -> Option<String> {
        let Self { name, kind, key, value, entries } = *self;
        let is = (map.map_type().ok(), map.key_size() as usize, map.value_size() as usize, map.max_entries());
        let wanted = (Some(kind), key, value, entries);
        (is != wanted).then(|| {
            format!("the map {name} is of another form (kind, key, value, entries: {is:?}, not {wanted:?})")
        })
    }
}

/// What a pin directory holds for this version.
#[derive(Debug)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// Everything, in order. The links come in the order of [`LINKS`].
    Whole(Vec<OwnedFd>),
    /// Something that cannot be gone on with.
    Broken(String),
}

/// Why a pin directory is not used.
#[derive(Debug)]
pub(super) enum Unclaimed {
    /// Nothing can be pinned there; the kernel side can run without.
    Unusable(String),
    /// It must not be used.
    Refused(ObserveError),
}

/// A pin directory that nobody else uses while this lives.
#[derive(Debug)]
pub(super) struct PinDir {
    root: PathBuf,
    /// The lock is the kernel's, and ends with the process, however that ends.
    lock: Mutex<File>,
}

const SET_ASIDE: &str = "old-";
const ABI: &str = "abi-";

impl PinDir {
    /// Takes `root` into possession, and makes it where it is missing.
    pub(super) fn claim(root: &Path) -> Result<Self, Unclaimed> {
        if let Err(why) = is_on_bpffs(root) {
            return Err(Unclaimed::Unusable(why));
        }
        // Whoever may open it could lock it.
        private::directory(root, private::DIRECTORY, is_ours)
            .map_err(|error| Unclaimed::Refused(broken(root, "used", error)))?;
        Self::lock(root).map_err(Unclaimed::Refused)
    }

    fn lock(root: &Path) -> Result<Self, ObserveError> {
        loop {
            let lock = File::open(root).map_err(|error| broken(root, "opened", error))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(ObserveError::PinsInUse { path: root.to_owned() });
                }
                Err(TryLockError::Error(error)) => return Err(broken(root, "locked", error)),
            }
            // Somebody may have removed the directory while we waited for it, and made another.
            let (ours, there) = (lock.metadata(), fs::metadata(root));
            match (ours, there) {
                (Ok(ours), Ok(there)) if ours.ino() == there.ino() => {
                    return Ok(Self { root: root.to_owned(), lock: Mutex::new(lock) });
                }
                (_, Err(error)) => return Err(broken(root, "read", error)),
                _ => {}
            }
        }
    }

    /// Makes the directory again, should somebody have removed it.
    pub(super) fn make(&self) -> Result<(), ObserveError> {
        let abi = self.abi();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&abi)
            .map_err(|error| broken(&abi, "made again", error))?;
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
        if inode(lock.metadata()) != inode(fs::metadata(&self.root)) {
            let again = Self::lock(&self.root)?;
            *lock = again.lock.into_inner().unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Where this version pins.
    pub(super) fn abi(&self) -> PathBuf {
        self.root.join(format!("{ABI}{ABI_VERSION}-{LAYOUT:016x}"))
    }

    /// Where a map or a link is pinned.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.abi().join(name)
    }

    /// Looks at what is there, without changing anything. `cgroup` is where the programs should hang.
    pub(super) fn find(&self, forms: &[Form], cgroup: u64) -> Found {
        if !self.abi().exists() {
            return Found::Nothing;
        }
        let maps = forms.iter().find_map(|form| match MapInfo::from_pin(self.path(form.name)) {
            Ok(map) => form.differs(&map),
            Err(error) => Some(format!("the map {} cannot be opened: {error}", form.name)),
        });
        if let Some(why) = maps {
            return Found::Broken(why);
        }
        let mut links = Vec::with_capacity(LINKS.len());
        for (name, hook) in LINKS {
            match bpf::open(&self.link_path(name)).and_then(|link| Ok((bpf::look(link.as_fd())?, link))) {
                Ok((is, _)) if is.cgroup == 0 => {
                    return Found::Broken(format!("the program {name} was detached: its cgroup is gone"));
                }
                Ok((is, _)) if is.cgroup != cgroup => {
                    return Found::Broken(format!("the program {name} is attached to another cgroup"));
                }
                Ok((is, _)) if is.hook != hook as u32 => {
                    return Found::Broken(format!("the program {name} is attached to another hook"));
                }
                Ok((_, link)) => links.push(link),
                Err(error) => return Found::Broken(format!("the program {name} is not attached: {error}")),
            }
        }
        Found::Whole(links)
    }

    /// Opens all maps, to pin them again should their pins be removed.
    pub(super) fn open_maps(&self, max_records: u32) -> Result<Vec<(&'static str, OwnedFd)>, ObserveError> {
        let open = |form: &Form| {
            let path = self.path(form.name);
            let map = bpf::open(&path).map_err(|error| broken(&path, "opened", error))?;
            Ok((form.name, map))
        };
        forms(max_records).iter().map(open).collect()
    }

    /// Where a link is pinned.
    pub(super) fn link_path(&self, name: &str) -> PathBuf {
        self.path(&format!("link-{name}"))
    }

    /// Makes an empty directory for this version; what is there goes on working under another name.
    pub(super) fn start_afresh(&self) -> Result<(), ObserveError> {
        let abi = self.abi();
        if abi.exists() {
            let aside = (0..)
                .map(|number: u32| self.root.join(format!("{SET_ASIDE}{number}")))
                .find(|path| !path.exists())
                .unwrap_or_else(|| self.root.join(SET_ASIDE));
            fs::rename(&abi, &aside).map_err(|error| broken(&abi, "renamed", error))?;
        }
        DirBuilder::new().mode(0o700).create(&abi).map_err(|error| broken(&abi, "made", error))
    }

    /// Removes what other versions, and runs that did not come to their end, have pinned here: their programs are
    /// detached, their records are gone.
    pub(super) fn remove_others(&self) -> io::Result<usize> {
        let abi = self.abi();
        remove(&self.root, |path| path != abi)
    }
}

/// Detaches the kernel side that is pinned under `root`, and removes the directory. Returns how many versions' there
/// were; `None` if there is no such directory.
pub(super) fn detach(root: &Path) -> Result<Option<usize>, ObserveError> {
    if !root.exists() {
        // Also where it lies in a directory that we may not look into.
        return match fs::metadata(root) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(broken(root, "read", error)),
            _ => Ok(None),
        };
    }
    is_on_bpffs(root).map_err(|why| broken(root, "used", io::Error::new(ErrorKind::InvalidInput, why)))?;
    let directory = PinDir::lock(root)?;
    let emptied = remove(&directory.root, |_| true).and_then(|removed| {
        remove_notes(&directory.root)?;
        Ok(removed)
    });
    let removed = emptied.map_err(|error| broken(root, "emptied", error))?;
    match fs::remove_dir(root) {
        // What others have put there is theirs.
        Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => Err(broken(root, "removed", error)),
        _ => Ok(Some(removed)),
    }
}

/// Whether something of ours is seen to be pinned under `root`; or why nothing can be.
pub(super) fn holds_something(root: &Path) -> Result<bool, String> {
    is_on_bpffs(root)?;
    let entries = match fs::read_dir(root) {
        // Only root looks into it.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            return Ok(false);
        }
        read => read.map_err(|error| broken(root, "read", error).to_string())?,
    };
    Ok(entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(ABI))))
}

/// Removes the directories that are ours by their name, of those that are meant.
fn remove(root: &Path, meant: impl Fn(&Path) -> bool) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(ABI) || name.starts_with(SET_ASIDE));
        if !ours || !meant(&entry.path()) {
            continue;
        }
        for pin in fs::read_dir(entry.path())? {
            fs::remove_file(pin?.path())?;
        }
        fs::remove_dir(entry.path())?;
        removed += 1;
    }
    Ok(removed)
}

/// Removes what the store has noted for its next run.
fn remove_notes(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(witness::PREFIX)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_ours(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        [ABI, SET_ASIDE, witness::PREFIX].into_iter().any(|prefix| name.starts_with(prefix))
    })
}

/// Whether a directory, or the nearest one above it that exists, lies on bpffs.
fn is_on_bpffs(path: &Path) -> Result<(), String> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match statfs(there) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => Ok(()),
        Ok(_) => Err(format!(
            "no bpffs is mounted at {}; mount one (mount -t bpf bpf /sys/fs/bpf), or set observer.pin-dir",
            path.display()
        )),
        Err(error) => Err(format!("{} cannot be looked at: {error}", there.display())),
    }
}

fn broken(path: &Path, what: &'static str, error: io::Error) -> ObserveError {
    ObserveError::Pins { path: path.to_owned(), what, error }
}

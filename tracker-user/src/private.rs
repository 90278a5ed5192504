//! Directories and files of ours that must not be anybody else's: what lies there decides who is logged in, and whoever
//! may open it may lock it. And the memory, in which passwords pass through.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;
use tracing::warn;

/// For nobody but the owner.
pub const DIRECTORY: u32 = 0o700;
/// For nobody but the owner.
pub const FILE: u32 = 0o600;
/// The permission bits, without set-id and sticky.
const PERMISSIONS: u32 = 0o777;

/// Keeps what the process has in memory to itself: it is written into no core dump, whatever collects those, and nobody but
/// root may read it or attach to it.
///
/// # Errors
/// Where the kernel refuses.
pub fn memory() -> io::Result<()> {
    // A dump that is piped to a program does not go by this limit; one that is a file does, also where a program that was
    // started by this one has been made dumpable again.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(set_dumpable(false)?)
}

/// Makes a directory with this mode where it is missing, and closes one that is open wider. `is_ours` says which names in
/// it are ours: a wider one that holds others' things is not closed under them, and what others have put there under a
/// name of ours (a link to another file) is not used.
///
/// # Errors
/// When it cannot be made or closed, belongs to somebody else, or is open wider and holds something of others.
pub fn directory(path: &Path, mode: u32, is_ours: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    if !path.try_exists()? {
        DirBuilder::new().recursive(true).mode(mode).create(path)?;
    }
    let meta = std::fs::metadata(path)?;
    is_owned(meta.uid())?;
    if meta.mode() & PERMISSIONS & !mode == 0 {
        return Ok(());
    }
    holds_ours_only(path, meta.mode(), mode, &is_ours)?;
    let closed = meta.mode() & PERMISSIONS & mode;
    std::fs::set_permissions(path, Permissions::from_mode(closed))?;
    told(path, meta.mode(), closed);
    // What was put there meanwhile.
    holds_ours_only(path, meta.mode(), mode, &is_ours)
}

/// Whether everything in a directory has a name of ours and an owner who may.
fn holds_ours_only(path: &Path, was: u32, mode: u32, is_ours: impl Fn(&OsStr) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        // Of a link this is the owner of the link itself.
        let owner = entry.metadata()?.uid();
        let whose = match is_owned(owner) {
            Ok(()) if is_ours(&name) => continue,
            Ok(()) => "which is not the tracker's".to_owned(),
            Err(_) => format!("which belongs to user {owner}"),
        };
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "others may open it (mode {:04o}) and it holds {}, {whose}; give the tracker a directory of its own, or \
                 remove that and chmod {mode:04o} this one",
                was & 0o7777,
                name.display()
            ),
        ));
    }
    Ok(())
}

/// Closes an open file that others may open.
///
/// # Errors
/// When it cannot be closed, or belongs to somebody else.
pub fn file(file: &File, path: &Path) -> io::Result<()> {
    let meta = file.metadata()?;
    is_owned(meta.uid())?;
    if meta.mode() & PERMISSIONS & !FILE != 0 {
        let closed = meta.mode() & FILE;
        file.set_permissions(Permissions::from_mode(closed))?;
        told(path, meta.mode(), closed);
    }
    Ok(())
}

/// Whether a file or directory is ours.
///
/// # Errors
/// When it belongs to somebody else, or cannot be looked at.
pub fn owned(path: &Path) -> io::Result<()> {
    is_owned(std::fs::metadata(path)?.uid())
}

/// Root's is ours too: root could do anything anyway.
fn is_owned(owner: u32) -> io::Result<()> {
    let us = geteuid().as_raw();
    if owner == us || owner == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("it belongs to user {owner}, and this is user {us}; chown it to {us}, or name another"),
    ))
}

fn told(path: &Path, before: u32, now: u32) {
    let [before, now] = [before & 0o7777, now].map(|mode| format!("{mode:04o}"));
    warn!(path = %path.display(), before, now, "others could open it: it was closed to them");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & PERMISSIONS
    }

    #[test]
    fn what_is_made_is_ours_alone_and_what_is_wider_is_closed() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        directory(&path, DIRECTORY, |_| true).unwrap();
        assert_eq!(mode(&path), DIRECTORY);
        std::fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        std::fs::write(path.join("ours"), "").unwrap();
        directory(&path, DIRECTORY, |name| name == "ours").unwrap();
        assert_eq!(mode(&path), DIRECTORY);
        let there = path.join("ours");
        std::fs::set_permissions(&there, Permissions::from_mode(0o666)).unwrap();
        file(&File::open(&there).unwrap(), &there).unwrap();
        assert_eq!(mode(&there), FILE);
    }

    #[test]
    fn memory_goes_into_no_core_dump() {
        memory().unwrap();
        assert!(!nix::sys::prctl::get_dumpable().unwrap());
        assert_eq!(nix::sys::resource::getrlimit(Resource::RLIMIT_CORE).unwrap(), (0, 0));
    }

    #[test]
    fn a_directory_that_others_use_is_not_closed_under_them() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
        std::fs::write(scratch.path().join("theirs"), "").unwrap();
        let error = directory(scratch.path(), DIRECTORY, |name| name == "ours").unwrap_err();
        assert!(error.to_string().contains("theirs"), "{error}");
        assert_eq!(mode(scratch.path()), 0o755);
        // One that was closed already may hold what it likes.
        std::fs::set_permissions(scratch.path(), Permissions::from_mode(0o700)).unwrap();
        directory(scratch.path(), DIRECTORY, |name| name == "ours").unwrap();
    }

    /// Else a link to another file would be written through with our rights.
    #[test]
    fn what_others_have_planted_under_a_name_of_ours_is_not_used() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state");
        directory(&path, DIRECTORY, |_| true).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
        let link = path.join("ours");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        // Only root can make it somebody else's.
        if std::os::unix::fs::lchown(&link, Some(65_534), None).is_err() {
            return;
        }
        let error = directory(&path, DIRECTORY, |name| name == "ours").unwrap_err().to_string();
        assert!(error.contains("holds ours, which belongs to user 65534"), "{error}");
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        let (us, somebody) = (geteuid().as_raw(), geteuid().as_raw() + 4_711);
        is_owned(us).unwrap();
        is_owned(0).unwrap();
        let error = is_owned(somebody).unwrap_err().to_string();
        assert!(error.contains(&format!("chown it to {us}")), "{error}");
    }
}

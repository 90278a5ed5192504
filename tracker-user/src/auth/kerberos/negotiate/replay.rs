//! The record of used tokens (MIT's replay cache): where it is, and whether it can be used. While it cannot, no token can be
//! accepted, and that is nobody's fault but the gateway's.

use std::ffi::OsStr;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, faccessat};

use crate::auth::kerberos::credential::GssError;

/// The directory where nothing names another (MIT's own default).
const DIRECTORY: &str = "/var/tmp";

/// What the library says (MIT Kerberos 1.20) when it fails at a file: the system's words, and its own for the replay cache. The
/// numbers are of no use: GSSAPI gives them out anew for each mechanism.
const OF_FILES: &[&str] = &[
    "Cannot allocate memory",
    "Device or resource busy",
    "Disk quota exceeded",
    "End-of-file on replay cache",
    "File name too long",
    "File too large",
    "I/O error in replay cache",
    "Input/output error",
    "Insufficient system space to store replay",
    "Is a directory",
    "Message replay detection requires",
    "No locks available",
    "No more memory to allocate",
    "No space left on device",
    "No such device",
    "No such file or directory",
    "Not a directory",
    "Operation not permitted",
    "Permission denied",
    "Read-only file system",
    "Replay cache",
    "Stale file handle",
    "Too many levels of symbolic links",
    "Too many open files",
    "Unsupported replay cache",
    "Value too large for defined data type",
];

/// Whether the library failed at its files rather than at the token. With the keys in memory, the only file of a handshake is
/// the replay cache.
pub(super) fn is_at_fault(error: &GssError) -> bool {
    // `MAJOR (MINOR)`. Names that a client has sent may follow in it, but never begin it.
    let Some((_, minor)) = error.text.split_once(" (") else { return false };
    OF_FILES.iter().any(|words| minor.starts_with(words))
}

/// The record of used tokens cannot be used. Shown with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayProblem {
    /// What is so.
    pub finding: String,
}

impl ReplayProblem {
    /// What helps.
    pub const REMEDY: &'static str = "let the gateway's user write there, and nobody else, and see that the disk has room; or name another \
        directory in KRB5RCACHEDIR (as trackerd.service does), one that outlives the daemon";

    pub(super) fn said(error: &GssError) -> Self {
        Self { finding: format!("the record of used tokens (replay cache) cannot be used: {}", error.text) }
    }
}

impl fmt::Display for ReplayProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.finding, Self::REMEDY)
    }
}

/// The file that is the record of used tokens, by this process's environment and account; `None` where something else than a
/// file is named.
#[must_use]
pub fn replay_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    file(variable("KRB5RCACHENAME").as_deref(), variable("KRB5RCACHEDIR").or(variable("TMPDIR")).as_deref())
}

fn file(name: Option<&OsStr>, directory: Option<&OsStr>) -> Option<PathBuf> {
    let name = name.map_or(&b"dfl:"[..], OsStrExt::as_bytes);
    match name.strip_prefix(b"file2:") {
        Some(path) => Some(Path::new(OsStr::from_bytes(path)).to_owned()),
        None if name == b"dfl:" || name == b"dfl" => {
            let directory = directory.unwrap_or(OsStr::new(DIRECTORY));
            Some(Path::new(directory).join(format!("krb5_{}.rcache2", nix::unistd::geteuid())))
        }
        None => None,
    }
}

/// What keeps this process from writing the record of used tokens, as far as that can be seen without writing it.
#[must_use]
pub fn replay_problem(file: &Path) -> Option<ReplayProblem> {
    let problem = |why: &dyn fmt::Display| {
        Some(ReplayProblem {
            finding: format!(
                "the record of used tokens (replay cache), {}, cannot be used: {why}",
                file.display()
            ),
        })
    };
    let directory = file.parent().unwrap_or(Path::new("/"));
    let (checked, access) = match std::fs::symlink_metadata(file) {
        Ok(meta) => match unfit(&meta) {
            Some(why) => return problem(&why),
            None => (file, AccessFlags::R_OK | AccessFlags::W_OK),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (directory, AccessFlags::W_OK | AccessFlags::X_OK)
        }
        Err(error) => return problem(&error),
    };
    if let Err(error) = faccessat(nix::fcntl::AT_FDCWD, checked, access, AtFlags::AT_EACCESS) {
        return problem(&format_args!("{}: {}", checked.display(), error.desc()));
    }
    match statvfs(directory) {
        Ok(disk) if disk.blocks_available() == 0 && !Uid::effective().is_root() => {
            problem(&"the disk is full")
        }
        Ok(disk) if disk.blocks_free() == 0 => problem(&"the disk is full"),
        _ => None,
    }
}

/// Why the library does not take this file.
fn unfit(meta: &Metadata) -> Option<String> {
    let ours = nix::unistd::geteuid().as_raw();
    if !meta.is_file() {
        Some("it is no file".into())
    } else if meta.uid() != ours {
        Some(format!("it belongs to user {}, not to the gateway's, {ours}", meta.uid()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_fail_by_is_told_from_what_is_wrong_with_a_token() {
        let said = |minor: &str| {
            is_at_fault(&GssError::plain(format!(
                "Unspecified GSS failure. Minor code may provide more information ({minor})"
            )))
        };
        for minor in [
            "No such file or directory (filename: /x/krb5_0.rcache2)",
            "Read-only file system (filename: /x/krb5_0.rcache2)",
            "No space left on device",
            "Replay cache file /x/krb5_0.rcache2 is not owned by uid 0",
            "Permission denied in replay cache code",
            "Insufficient system space to store replay information",
        ] {
            assert!(said(minor), "{minor}");
        }
        for minor in [
            "Request is a replay",
            "Clock skew too great",
            "Invalid argument",
            // What a client has made up.
            "Request ticket server HTTP/Permission denied (Permission denied@R not found in keytab (ticket kvno 4)",
            "Cannot find key for (No space left on device",
        ] {
            assert!(!said(minor), "{minor}");
        }
    }

    #[test]
    fn the_file_is_the_one_that_the_library_takes() {
        let of = |name: Option<&str>, directory: Option<&str>| {
            file(name.map(OsStr::new), directory.map(OsStr::new)).map(|path| path.display().to_string())
        };
        let own = format!("krb5_{}.rcache2", nix::unistd::geteuid());
        assert_eq!(of(None, None), Some(format!("/var/tmp/{own}")));
        assert_eq!(of(Some("dfl:"), Some("/x")), Some(format!("/x/{own}")));
        assert_eq!(of(Some("file2:/x/y"), Some("/z")), Some("/x/y".into()));
        assert_eq!(of(Some("none:"), None), None);
    }

    #[test]
    fn what_cannot_be_written_is_found_before_a_token_comes() {
        let dir = tempfile::tempdir().unwrap();
        let found = |path: &Path| replay_problem(path).map(|problem| problem.to_string());
        assert_eq!(found(&dir.path().join("new")), None);
        let there = dir.path().join("there");
        std::fs::write(&there, "x").unwrap();
        assert_eq!(found(&there), None);
        assert!(
            found(&there.join("below")).unwrap().contains("Not a directory"),
            "{:?}",
            found(&there.join("below"))
        );
        assert!(found(dir.path()).unwrap().contains("it is no file"));
        let missing = found(&dir.path().join("missing/file")).unwrap();
        assert!(missing.contains("No such file") && missing.contains("KRB5RCACHEDIR"), "{missing}");
    }
}

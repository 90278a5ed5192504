//! The keytab as a file: whether it can be what it should be, said before GSSAPI gets to say it worse.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::auth::credential;

/// No keytab is this large.
const MAX_SIZE: u64 = 16 << 20;

/// What is wrong with a keytab, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeytabProblem {
    /// There is no such file.
    #[error(
        "the keytab {} does not exist: export the keys of HTTP/<proxy name>@<REALM> into it (ktadd, ktpass), or set kerberos.keytab",
        .0.display()
    )]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("the keytab {} cannot be read ({why}): make it readable for the gateway's user, and for nobody else", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// It is something else.
    #[error("{} is not a keytab: it must begin with the bytes 05 02; export it again (ktadd, ktpass)", .0.display())]
    NotAKeytab(PathBuf),
    /// There is no key in it.
    #[error("the keytab {} is empty: export the keys of HTTP/<proxy name>@<REALM> into it (ktadd, ktpass)", .0.display())]
    Empty(PathBuf),
    /// GSSAPI does not like it.
    #[error("the keytab {path} is not usable: {why}")]
    Unusable {
        /// The file, or what stands for it.
        path: String,
        /// GSSAPI's words.
        why: String,
    },
}

/// The file that is meant, if it is a file: the configured one, or the one that `KRB5_KTNAME` or the Kerberos
/// configuration names.
pub(super) fn file_meant(configured: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = configured {
        return Some(path.to_path_buf());
    }
    let name = credential::default_name().ok()?;
    let name = OsStr::from_bytes(name.to_bytes()).to_str()?;
    match name.split_once(':') {
        Some(("FILE" | "WRFILE", path)) => Some(path.into()),
        Some((kind, _)) if !kind.contains('/') => None,
        _ => Some(name.into()),
    }
}

/// What changes when the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The file's stamp; `None` if there is none to be had.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

/// Looks whether the file can be a keytab with at least one key.
pub(super) fn check(path: &Path) -> Result<(), KeytabProblem> {
    let unreadable =
        |error: io::Error| KeytabProblem::Unreadable { path: path.to_path_buf(), why: error.to_string() };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(KeytabProblem::Missing(path.to_path_buf()));
        }
        opened => opened.map_err(unreadable)?,
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(KeytabProblem::NotAKeytab(path.to_path_buf()));
    }
    let mut bytes = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut bytes).map_err(unreadable)?;
    match bytes.as_slice() {
        [] => Err(KeytabProblem::Empty(path.to_path_buf())),
        // Version 1 is in the byte order of the machine that wrote it, and has not been written for decades.
        [5, 1, ..] => Ok(()),
        [5, 2, records @ ..] if holds_a_key(records) => Ok(()),
        [5, 2, ..] => Err(KeytabProblem::Empty(path.to_path_buf())),
        _ => Err(KeytabProblem::NotAKeytab(path.to_path_buf())),
    }
}

/// Records are a signed length and that many bytes; a negative length is a hole where a key was removed.
fn holds_a_key(mut records: &[u8]) -> bool {
    while let Some((length, rest)) = records.split_first_chunk::<4>() {
        match i32::from_be_bytes(*length) {
            0 => return false,
            length if length > 0 => return true,
            hole => records = rest.get(hole.unsigned_abs() as usize..).unwrap_or_default(),
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_problem_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keytab");
        let problem = |content: Option<&[u8]>| {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            check(&path).inspect_err(|problem| {
                let text = problem.to_string();
                assert!(text.contains(path.to_str().unwrap()) && !text.contains('\n'), "{text}");
            })
        };
        assert!(matches!(problem(None), Err(KeytabProblem::Missing(_))));
        assert!(matches!(problem(Some(b"")), Err(KeytabProblem::Empty(_))));
        assert!(matches!(problem(Some(b"\x05\x02")), Err(KeytabProblem::Empty(_))));
        assert!(matches!(problem(Some(b"\x05\x02\xff\xff\xff\xfcgone")), Err(KeytabProblem::Empty(_))));
        assert!(matches!(problem(Some(b"\x05\x02\x80\0\0\0")), Err(KeytabProblem::Empty(_))));
        assert!(matches!(problem(Some(b"-----BEGIN")), Err(KeytabProblem::NotAKeytab(_))));
        assert_eq!(problem(Some(b"\x05\x02\xff\xff\xff\xfcgone\0\0\0\x01k")), Ok(()));
        assert!(matches!(check(dir.path()), Err(KeytabProblem::NotAKeytab(_))));
    }

    #[test]
    fn replacing_the_file_changes_its_stamp() {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("keytab"), dir.path().join("new"));
        std::fs::write(&path, b"one").unwrap();
        let before = stamp(&path);
        assert_eq!(stamp(&path), before);
        std::fs::write(&new, b"two").unwrap();
        std::fs::rename(&new, &path).unwrap();
        assert_ne!(stamp(&path), before);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(stamp(&path), None);
    }
}

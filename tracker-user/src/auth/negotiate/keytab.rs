//! The keytab as a file: whether it can be what it should be, said before GSSAPI gets to say it worse.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::auth::credential::{self, GssError, Keytab, KeytabEntry};

/// No keytab is this large.
const MAX_SIZE: u64 = 16 << 20;

/// What is wrong with a keytab. Shown with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeytabProblem {
    /// There is no such file.
    Missing(PathBuf),
    /// It cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words, and whose the file is.
        why: String,
    },
    /// It is something else.
    NotAKeytab(PathBuf),
    /// There is no key in it.
    Empty(PathBuf),
    /// GSSAPI does not like it.
    Unusable {
        /// The file, or what stands for it.
        path: String,
        /// GSSAPI's words.
        why: String,
    },
}

impl KeytabProblem {
    /// What is so.
    #[must_use]
    pub fn finding(&self) -> String {
        match self {
            Self::Missing(path) => format!("the keytab {} does not exist", path.display()),
            Self::Unreadable { path, why } => format!("the keytab {} cannot be read ({why})", path.display()),
            Self::NotAKeytab(path) => format!("{} is not a keytab", path.display()),
            Self::Empty(path) => format!("the keytab {} is empty", path.display()),
            Self::Unusable { path, why } => format!("the keytab {path} is not usable: {why}"),
        }
    }

    /// What helps; `None` where GSSAPI alone knows.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        const EXPORT: &str = "export the keys of HTTP/<proxy name>@<REALM> into it (ktadd, ktpass)";
        match self {
            Self::Missing(_) => Some(format!("{EXPORT}, or set kerberos.keytab")),
            Self::Unreadable { .. } => Some(format!(
                "make it readable for the gateway's user, {}, and for nobody else",
                nix::unistd::geteuid()
            )),
            Self::NotAKeytab(_) => {
                Some("it must begin with the bytes 05 02; export it again (ktadd, ktpass)".into())
            }
            Self::Empty(_) => Some(EXPORT.into()),
            Self::Unusable { .. } => None,
        }
    }
}

impl fmt::Display for KeytabProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.finding())?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, ": {remedy}"))
    }
}

impl std::error::Error for KeytabProblem {}

/// The keytab's keys are in danger. Shown with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// Who else may read the file, or change it.
    pub finding: String,
    /// What helps.
    pub remedy: String,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.finding, self.remedy)
    }
}

/// The file that is meant, if it is a file: the configured one, or the one that `KRB5_KTNAME` or the Kerberos
/// configuration names.
#[must_use]
pub fn file_meant(configured: Option<&Path>) -> Option<PathBuf> {
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

/// What stands in the keytab that is configured, or in the one that is meant where none is.
///
/// # Errors
/// When it cannot be read, with the remedy.
pub fn entries(configured: Option<&Path>) -> Result<Vec<KeytabEntry>, KeytabProblem> {
    let read = Keytab::load(configured).and_then(|keytab| keytab.entries());
    read.map_err(|error| unusable(configured, error))
}

/// What is wrong with the keytab that is configured, or meant, which GSSAPI does not like. The file's own state says more
/// than GSSAPI does, where it says anything.
pub(in crate::auth) fn unusable(configured: Option<&Path>, error: GssError) -> KeytabProblem {
    let file = file_meant(configured);
    match file.as_deref().map(check) {
        Some(Err(problem)) => problem,
        _ => KeytabProblem::Unusable {
            path: file.map_or("of KRB5_KTNAME".into(), |path| path.display().to_string()),
            why: error.text,
        },
    }
}

/// Who else may read the keytab's file, or change it: whoever reads it can make tickets of any user for this gateway.
/// `None` if nobody can, or there is no file.
#[must_use]
pub fn exposure(configured: Option<&Path>) -> Option<Exposure> {
    let path = file_meant(configured)?;
    let meta = std::fs::metadata(&path).ok()?;
    let (mode, owner) = (meta.mode() & 0o7777, meta.uid());
    let ours = nix::unistd::geteuid().as_raw();
    let (what, command) = if mode & 0o004 != 0 {
        ("is readable by everyone", "chmod 600".to_owned())
    } else if mode & 0o022 != 0 {
        ("can be changed by others than its owner", "chmod 600".to_owned())
    } else if owner != ours && owner != 0 {
        ("belongs to another user than the gateway's", format!("chown {ours}"))
    } else {
        return None;
    };
    let path = path.display();
    Some(Exposure {
        finding: format!(
            "the keytab {path} {what} (owner {owner}, mode {mode:04o}): whoever has its keys can pass for any user here"
        ),
        remedy: format!("run {command} {path}, and if somebody may have read it, give the account new keys"),
    })
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
    let unreadable = |error: io::Error| KeytabProblem::Unreadable {
        path: path.to_path_buf(),
        why: format!("{error}{}", whose(path)),
    };
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

/// Whose a file is, if that can be seen.
fn whose(path: &Path) -> String {
    let meta = std::fs::metadata(path);
    meta.map_or_else(
        |_| String::new(),
        |meta| format!("; it belongs to user {} and has mode {:04o}", meta.uid(), meta.mode() & 0o7777),
    )
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
    use std::os::unix::fs::PermissionsExt;

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
    fn a_file_that_others_can_read_or_change_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keytab");
        std::fs::write(&path, b"x").unwrap();
        for (mode, words) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some("readable by everyone")),
            (0o620, Some("can be changed by others")),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let told = exposure(Some(&path));
            assert_eq!(told.is_some(), words.is_some(), "{mode:o}: {told:?}");
            let told = told.map(|told| told.to_string()).unwrap_or_default();
            assert!(told.contains(words.unwrap_or_default()), "{mode:o}");
        }
        assert_eq!(exposure(Some(&dir.path().join("none"))), None);
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

//! The keytab as a file: whether it can be what it should be, said before GSSAPI gets to say it worse.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};

use crate::auth::kerberos::credential::{self, GssError, Keytab, KeytabEntry};

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

/// The account that the gateway runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The numbers of its groups, its own first.
    pub groups: Vec<u32>,
}

impl Account {
    /// This process's own.
    #[must_use]
    pub fn ours() -> Self {
        let own = nix::unistd::getegid().as_raw();
        let others = nix::unistd::getgroups().unwrap_or_default().into_iter().map(nix::unistd::Gid::as_raw);
        let groups = std::iter::once(own).chain(others.filter(|group| *group != own)).collect();
        Self { uid: nix::unistd::geteuid().as_raw(), groups }
    }
}

/// What owner, group and mode say of who may read a keytab.
#[derive(Clone, Copy, Debug)]
struct Rights {
    owner: u32,
    group: u32,
    mode: u32,
}

/// Who else may read the keytab's file, or change it: whoever reads it can make tickets of any user for this gateway.
/// `account` is the one that the gateway runs as; where it is not known, only what is wrong for any is told. `None` if nobody
/// can, or there is no file.
#[must_use]
pub fn exposure(configured: Option<&Path>, account: Option<&Account>) -> Option<Exposure> {
    let path = file_meant(configured)?;
    judge(&path, rights(&path)?, account)
}

/// What keeps the gateway's account from reading the keytab's file, by the file's owner, group and mode.
#[must_use]
pub fn withheld(configured: Option<&Path>, account: &Account) -> Option<Exposure> {
    let path = file_meant(configured)?;
    let rights = rights(&path)?;
    let Rights { owner, group, mode } = rights;
    let may_read = match account.uid {
        0 => true,
        uid if uid == owner => mode & 0o400 != 0,
        _ if account.groups.contains(&group) => mode & 0o040 != 0,
        _ => mode & 0o004 != 0,
    };
    let finding = format!(
        "the keytab {} cannot be read by the gateway's user, {} (owner {owner}, group {group}, mode {mode:04o})",
        path.display(),
        account.uid
    );
    (!may_read)
        .then(|| Exposure { finding, remedy: format!("run {}", fitting(&path, rights, Some(account))) })
}

fn rights(path: &Path) -> Option<Rights> {
    let meta = std::fs::metadata(path).ok()?;
    Some(Rights { owner: meta.uid(), group: meta.gid(), mode: meta.mode() & 0o7777 })
}

fn judge(path: &Path, rights: Rights, account: Option<&Account>) -> Option<Exposure> {
    let Rights { owner, group, mode } = rights;
    let is_foreign = |account: &Account| owner != account.uid && owner != 0;
    let is_foreign_group = |account: &Account| group != 0 && !account.groups.contains(&group);
    let what = if mode & 0o004 != 0 {
        "is readable by everyone"
    } else if mode & 0o022 != 0 {
        "can be changed by others than its owner"
    } else if account.is_some_and(is_foreign) {
        "belongs to another user than the gateway's"
    } else if mode & 0o040 != 0 && account.is_some_and(is_foreign_group) {
        "is readable by a group that is not the gateway's"
    } else {
        return None;
    };
    Some(Exposure {
        finding: format!(
            "the keytab {} {what} (owner {owner}, group {group}, mode {mode:04o}): whoever has its keys can pass for any user here",
            path.display()
        ),
        remedy: format!(
            "run {}, and if somebody may have read it, give the account new keys",
            fitting(path, rights, account)
        ),
    })
}

/// The commands after which the gateway can read the file, and nobody else but root.
fn fitting(path: &Path, Rights { owner, group, .. }: Rights, account: Option<&Account>) -> String {
    let path = path.display();
    match account {
        // What may be the gateway's way to read it is left as it is.
        None => format!("chmod g-w,o-rwx {path}"),
        Some(Account { uid, .. }) if *uid == owner => format!("chmod 600 {path}"),
        Some(Account { groups, .. }) if owner == 0 && groups.contains(&group) => format!("chmod 640 {path}"),
        Some(Account { uid, groups }) if owner == 0 => {
            format!("chgrp {} {path} && chmod 640 {path}", groups.first().unwrap_or(uid))
        }
        Some(Account { uid, .. }) => format!("chown {uid} {path} && chmod 600 {path}"),
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
    let unreadable = |error: io::Error| KeytabProblem::Unreadable {
        path: path.to_path_buf(),
        why: format!("{error}{}", whose(path)),
    };
    // Without it, opening a pipe waits for its other end.
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
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
        // A pipe is not waited for.
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(matches!(check(&pipe), Err(KeytabProblem::NotAKeytab(_))));
    }

    #[test]
    fn a_file_that_others_can_read_or_change_is_told() {
        let account = |uid: u32, groups: &[u32]| Account { uid, groups: groups.to_vec() };
        let (root, daemon) = (account(0, &[0]), account(990, &[991, 992]));
        let told = |owner, group, mode, account: Option<&Account>| {
            judge(Path::new("/k"), Rights { owner, group, mode }, account).map(|told| told.to_string())
        };
        for (owner, group, mode, account) in [
            (0, 0, 0o600, Some(&root)),
            (990, 991, 0o600, Some(&daemon)),
            // Root's own, which the gateway reads by its group: what packages install.
            (0, 991, 0o640, Some(&daemon)),
            (0, 992, 0o640, Some(&daemon)),
            (0, 0, 0o640, Some(&daemon)),
            // Whose it is cannot be judged where nobody knows as what the gateway runs.
            (990, 991, 0o640, None),
        ] {
            assert_eq!(told(owner, group, mode, account), None, "{owner}:{group} {mode:o} {account:?}");
        }
        for (owner, group, mode, account, words, command) in [
            (0, 0, 0o644, Some(&root), "readable by everyone", "chmod 600 /k"),
            (0, 991, 0o644, Some(&daemon), "readable by everyone", "chmod 640 /k"),
            (0, 0, 0o644, Some(&daemon), "readable by everyone", "chgrp 991 /k && chmod 640 /k"),
            (990, 991, 0o644, Some(&daemon), "readable by everyone", "chmod 600 /k"),
            (990, 991, 0o644, None, "readable by everyone", "chmod g-w,o-rwx /k"),
            (0, 0, 0o620, Some(&root), "can be changed by others", "chmod 600 /k"),
            (
                1000,
                1000,
                0o600,
                Some(&daemon),
                "another user than the gateway's",
                "chown 990 /k && chmod 600 /k",
            ),
            (990, 991, 0o600, Some(&root), "another user than the gateway's", "chown 0 /k && chmod 600 /k"),
            (
                0,
                100,
                0o640,
                Some(&daemon),
                "a group that is not the gateway's",
                "chgrp 991 /k && chmod 640 /k",
            ),
        ] {
            let told = told(owner, group, mode, account).unwrap();
            assert!(told.contains(words) && told.contains(&format!("run {command},")), "{told}");
        }
    }

    #[test]
    fn the_file_is_judged_as_it_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keytab");
        std::fs::write(&path, b"x").unwrap();
        let ours = Account::ours();
        for (mode, told) in [(0o600, false), (0o644, true)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(exposure(Some(&path), Some(&ours)).is_some(), told, "{mode:o}");
        }
        assert_eq!(exposure(Some(&dir.path().join("none")), Some(&ours)), None);
        let stranger = Account { uid: 4_000_000_000, groups: vec![4_000_000_000] };
        assert_eq!(withheld(Some(&path), &stranger), None, "everybody may read it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let withheld = withheld(Some(&path), &stranger).unwrap().to_string();
        assert!(withheld.contains("cannot be read by the gateway's user, 4000000000"), "{withheld}");
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

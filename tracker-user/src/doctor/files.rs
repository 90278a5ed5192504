//! The files of the store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::account::Known;
use super::{Case, Check, is_root};
use crate::private;
use crate::store::embedded::{FILE, MARK};
use crate::store::{KEY_FILE as KEY, PREVIOUS_KEY_FILE as PREVIOUS_KEY};

const STORE: &str = "store";
/// Below this the disk is full soon.
const LITTLE: u64 = 100 << 20;
/// Below this no login can be kept.
const NOTHING: u64 = 1 << 20;

pub(super) fn store(case: &Case, account: Option<&Known>) -> Vec<Check> {
    let directory = &case.config.state_dir;
    let mut checks = Vec::new();
    if let Some(problem) = case.daemon.status().and_then(|status| status.store.problem.as_ref()) {
        checks.push(Check::failed(
            STORE,
            problem.clone(),
            "make room, or see to the disk; trackerctl status says when it is well",
        ));
    }
    checks.push(directory_check(directory));
    checks.extend(access_checks(case, account));
    checks.push(free_space(directory));
    if case.config.store.shared.is_some() {
        checks.push(Check::skipped(STORE, "store.shared is set, but this version does not use it yet"));
    }
    checks
}

/// The nearest directory that exists.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn directory_check(directory: &Path) -> Check {
    let (there, shown) = (nearest(directory), directory.display());
    let remedy = "make it, writable for the gateway's user and for nobody else (systemd: StateDirectory=tracker), or set state-dir";
    if there.is_file() {
        return Check::failed(STORE, format!("{shown} is no directory"), remedy);
    }
    if let Err(error) = access(there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let finding = format!("{shown} cannot be written: {}", error.desc());
        return if is_root() {
            Check::failed(STORE, finding, remedy)
        } else {
            Check::skipped(STORE, format!("{finding}; run trackerctl as root, or as the gateway's user"))
        };
    }
    let file = directory.join(FILE);
    match std::fs::metadata(&file) {
        Ok(meta) if meta.len() == 0 => Check::failed(
            STORE,
            format!("{} is empty: no database", file.display()),
            "move it away, and trackerd makes a new one; sessions and settings made by set are lost",
        ),
        Ok(meta) => Check::ok(
            STORE,
            format!("{} has {} KiB, and its directory can be written", file.display(), meta.len() >> 10),
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Check::ok(STORE, format!("{shown} can be written; there is no database yet"))
        }
        Err(error) => Check::failed(STORE, format!("{} cannot be read: {error}", file.display()), remedy),
    }
}

/// Who may open what decides who is logged in.
fn access_checks(case: &Case, account: Option<&Known>) -> Vec<Check> {
    let config = &case.config;
    let state = &config.state_dir;
    let places = [
        ("state-dir", state.clone(), private::DIRECTORY),
        ("state-dir", state.join(FILE), private::FILE),
        ("state-dir", state.join(MARK), private::FILE),
        // Whoever has it reads the second factors in a copy of the database.
        ("state-dir", state.join(KEY), private::FILE),
        ("state-dir", state.join(PREVIOUS_KEY), private::FILE),
        ("observer.pin-dir", config.observer.pin_dir.clone(), private::DIRECTORY),
        // Operators come through it.
        ("run-dir", config.run_dir.clone(), 0o775),
    ];
    let account = account.map(|known| known.account.uid);
    let mut found = Vec::new();
    for (key, path, most) in places {
        let Ok(meta) = std::fs::metadata(&path) else { continue };
        found.extend(account.and_then(|account| judge_owner(key, &path, meta.uid(), account)));
        found.extend(judge_access(key, &path, meta.mode(), most));
    }
    if found.is_empty() {
        return vec![Check::ok(STORE, "nobody else may open what the gateway keeps, as far as it is there")];
    }
    found
}

/// As [`private`] judges it at start.
fn judge_owner(key: &str, path: &Path, owner: u32, account: u32) -> Option<Check> {
    let finding = format!(
        "{} ({key}) belongs to user {owner}, and trackerd runs as user {account}: it will not start",
        path.display()
    );
    let remedy = format!("chown {account} {}, or name another in {key}", path.display());
    (owner != account && owner != 0).then(|| Check::failed(STORE, finding, remedy))
}

fn judge_access(key: &str, path: &Path, mode: u32, most: u32) -> Option<Check> {
    let wider = mode & 0o777 & !most;
    let right = mode & 0o777 & most;
    let finding = format!("others may open {} ({key}, mode {:04o})", path.display(), mode & 0o7777);
    let remedy = format!(
        "chmod {right:04o} {}: a restart of trackerd does it as well; whoever had it open may have locked it",
        path.display()
    );
    (wider != 0).then(|| Check::warning(STORE, finding, remedy))
}

fn free_space(directory: &Path) -> Check {
    let there = nearest(directory);
    match statvfs(there) {
        Ok(disk) => judge_space(there, disk.blocks_available().saturating_mul(disk.fragment_size())),
        Err(error) => {
            Check::skipped(STORE, format!("the free space of {} is not known: {error}", there.display()))
        }
    }
}

fn judge_space(directory: &Path, free: u64) -> Check {
    let finding = format!("{} MiB are free for {}", free >> 20, directory.display());
    let remedy = "make room: while the disk is full nobody is logged in";
    if free < NOTHING {
        Check::failed(STORE, finding, remedy)
    } else if free < LITTLE {
        Check::warning(STORE, finding, remedy)
    } else {
        Check::ok(STORE, finding)
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn space_is_judged_by_what_a_login_needs() {
        let state = |free| judge_space(Path::new("/"), free).state;
        assert_eq!(state(NOTHING - 1), State::Failed);
        assert_eq!(state(LITTLE - 1), State::Warning);
        assert_eq!(state(LITTLE), State::Ok);
    }

    #[test]
    fn what_others_may_open_is_told_with_the_remedy() {
        let path = Path::new("/state");
        assert_eq!(judge_access("state-dir", path, 0o40_700, 0o700), None);
        assert_eq!(judge_access("run-dir", path, 0o40_755, 0o775), None);
        let check = judge_access("state-dir", path, 0o40_755, 0o700).unwrap();
        assert_eq!(check.state, State::Warning);
        assert!(check.remedy.unwrap().starts_with("chmod 0700 /state"), "{}", check.finding);
        assert!(judge_access("run-dir", path, 0o41_777, 0o775).is_some());
    }

    #[test]
    fn what_belongs_to_somebody_else_keeps_the_gateway_from_starting() {
        let path = Path::new("/state");
        for ours in [(7, 7), (0, 7), (0, 0)] {
            assert_eq!(judge_owner("state-dir", path, ours.0, ours.1), None);
        }
        for (owner, account) in [(7, 0), (7, 8)] {
            let check = judge_owner("state-dir", path, owner, account).unwrap();
            assert_eq!(check.state, State::Failed);
            assert!(check.remedy.unwrap().starts_with(&format!("chown {account} /state")));
        }
    }

    #[test]
    fn the_directory_may_still_have_to_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let state = |path: &Path| directory_check(path).state;
        assert_eq!(state(&dir.path().join("a/b")), State::Ok);
        std::fs::write(dir.path().join("file"), "x").unwrap();
        assert_eq!(state(&dir.path().join("file")), State::Failed);
        std::fs::write(dir.path().join(FILE), "").unwrap();
        assert_eq!(state(dir.path()), State::Failed);
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        assert_eq!(state(dir.path()), State::Ok);
    }
}

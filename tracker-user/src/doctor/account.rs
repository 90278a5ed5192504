//! The account that the daemon runs as: what it may read and write is judged for that one, not for whoever asks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::unistd::{Gid, Uid, User};

use super::{Case, within};
use crate::auth::kerberos::negotiate::Account;

/// The unit that docs/trackerd.service is installed as.
const UNIT: &str = "trackerd.service";
/// systemd answers at once, or is not there.
const PATIENCE: Duration = Duration::from_secs(3);

/// An account, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) account: Account,
    pub(super) how: &'static str,
}

/// As what the daemon runs, else as what it would be started; `None` where nothing tells.
pub(super) fn of_the_daemon(case: &Case) -> Option<Known> {
    if let Some(status) = case.daemon.status() {
        return Some(Known { account: status.account.clone(), how: "as which trackerd runs" });
    }
    match of_the_unit() {
        Unit::Account(account) => Some(Known { account, how: "by the unit trackerd.service" }),
        // One that is made for each start cannot be known before.
        Unit::Dynamic => None,
        Unit::None => of_the_owner(&case.config.state_dir)
            .map(|account| Known { account, how: "to which state-dir belongs" }),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Unit {
    /// It has an account of its own, or root's.
    Account(Account),
    /// It gets one at each start.
    Dynamic,
    /// There is no unit, or no account of that name.
    None,
}

fn of_the_unit() -> Unit {
    let ask = || {
        let mut command = Command::new("systemctl");
        command.args(["show", UNIT, "--property=LoadState,User,Group,DynamicUser"]);
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    within(PATIENCE, ask).flatten().map_or(Unit::None, |said| read(&said))
}

/// Reads what `systemctl show` says.
fn read(said: &str) -> Unit {
    let value = |name: &str| {
        said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    if value("LoadState") != "loaded" {
        return Unit::None;
    }
    if value("DynamicUser") == "yes" {
        return Unit::Dynamic;
    }
    let user = value("User");
    let found = if user.is_empty() { User::from_uid(Uid::from_raw(0)) } else { by_name_or_number(user) };
    let Ok(Some(user)) = found else { return Unit::None };
    let group = value("Group");
    let group = nix::unistd::Group::from_name(group).ok().flatten().map_or(user.gid, |group| group.gid);
    Unit::Account(account(&user, group))
}

fn by_name_or_number(user: &str) -> nix::Result<Option<User>> {
    match user.parse() {
        Ok(number) => User::from_uid(Uid::from_raw(number)),
        Err(_) => User::from_name(user),
    }
}

/// The account with all its groups.
fn account(user: &User, group: Gid) -> Account {
    let groups = std::ffi::CString::new(user.name.as_str())
        .ok()
        .and_then(|name| nix::unistd::getgrouplist(&name, group).ok())
        .unwrap_or_default();
    let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
    groups.retain(|other| *other != group.as_raw());
    groups.insert(0, group.as_raw());
    Account { uid: user.uid.as_raw(), groups }
}

/// The owner of a directory that the daemon has made.
fn of_the_owner(directory: &Path) -> Option<Account> {
    let meta = std::fs::metadata(directory).ok().filter(std::fs::Metadata::is_dir)?;
    match User::from_uid(Uid::from_raw(meta.uid())) {
        Ok(Some(user)) => Some(account(&user, user.gid)),
        _ => Some(Account { uid: meta.uid(), groups: vec![meta.gid()] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_says_who_runs_it() {
        let root = |unit: Unit| matches!(&unit, Unit::Account(account) if account.uid == 0 && account.groups.first() == Some(&0));
        assert!(root(read("LoadState=loaded\nUser=\nGroup=\nDynamicUser=no\n")));
        assert!(root(read("LoadState=loaded\nUser=root\nGroup=\n")));
        assert!(root(read("LoadState=loaded\nUser=0\n")));
        assert_eq!(read("LoadState=not-found\nUser=\n"), Unit::None);
        assert_eq!(read("LoadState=loaded\nDynamicUser=yes\nUser=x\n"), Unit::Dynamic);
        assert_eq!(read("LoadState=loaded\nUser=no-such-account-here\n"), Unit::None);
        assert_eq!(read(""), Unit::None);
    }

    #[test]
    fn a_directory_says_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_the_owner(dir.path()).unwrap().uid, nix::unistd::geteuid().as_raw());
        assert_eq!(of_the_owner(&dir.path().join("none")), None);
    }
}

//! Facts about the machine: where the cgroup tree is, which network namespace we are in, whether somebody sets the clock.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// The root of the cgroup v2 tree: of a unified machine, or of one that mounts both kinds.
pub(super) fn cgroup_root() -> Option<PathBuf> {
    cgroup_mount(&std::fs::read_to_string("/proc/self/mounts").ok()?)
}

/// The first mount of the type `cgroup2`: `device directory type options 0 0`.
fn cgroup_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (directory, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(directory))
    })
}

/// Whether this process, and with it the sockets that it makes, is in a cgroup or below it; `None` where that cannot be told.
pub(super) fn is_in_cgroup(cgroup: &Path) -> Option<bool> {
    let own = own_cgroup(&std::fs::read_to_string("/proc/self/cgroup").ok()?)?;
    let own = cgroup_root()?.join(own).canonicalize().ok()?;
    Some(own.starts_with(cgroup.canonicalize().ok()?))
}

/// The line `0::/path`, the path seen from the root of the tree; not one that leads out of it.
fn own_cgroup(cgroups: &str) -> Option<PathBuf> {
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.split('/').any(|part| part == "..")).then(|| PathBuf::from(path))
}

/// The kernel's number for the network namespace of this thread; never used twice while the machine is up.
pub(super) fn netns_cookie() -> io::Result<u64> {
    let probe = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    #[expect(unsafe_code, reason = "nix does not know this option")]
    // SAFETY: both pointers are to live variables, and `length` is the size of the first.
    let outcome = unsafe {
        libc::getsockopt(
            probe.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

const SO_NETNS_COOKIE: libc::c_int = 71;

/// Whether the kernel takes its wall clock for right: some time service keeps it so, whatever its name.
///
/// # Errors
/// When the kernel does not say.
pub fn clock_is_synchronised() -> io::Result<bool> {
    #[expect(unsafe_code, reason = "neither nix nor rustix has this call")]
    // SAFETY: the structure is made of numbers only, so that all zeros is a value of it; with no mode set the call changes
    // nothing and fills it in.
    let (state, status) = unsafe {
        let mut clock: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut clock), clock.status)
    };
    if state < 0 { Err(io::Error::last_os_error()) } else { Ok(status & libc::STA_UNSYNC == 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_is_found_on_both_kinds_of_machine() {
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(cgroup_mount(unified), Some(PathBuf::from("/sys/fs/cgroup")));
        let hybrid =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncg /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(cgroup_mount("tmpfs /tmp tmpfs rw 0 0\n\nbroken"), None);
    }

    #[test]
    fn the_own_cgroup_is_the_one_of_version_2() {
        let both = "7:cpu:/user\n0::/system.slice/tracker.service\n";
        assert_eq!(own_cgroup(both), Some(PathBuf::from("system.slice/tracker.service")));
        assert_eq!(own_cgroup("0::/\n"), Some(PathBuf::new()));
        assert_eq!(own_cgroup("0::/../other\n"), None);
        assert_eq!(own_cgroup("1:cpu:/\n"), None);
        assert_ne!(is_in_cgroup(&cgroup_root().unwrap_or("/".into())), Some(false));
    }

    #[test]
    fn a_namespace_has_a_cookie() {
        assert_eq!(netns_cookie().unwrap(), netns_cookie().unwrap());
    }
}

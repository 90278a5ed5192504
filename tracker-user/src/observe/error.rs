//! What can go wrong while observing, each with its remedy.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;

use tracker_ebpf::abi::MAX_PORTS;

/// Observing failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObserveError {
    /// The process may not use eBPF.
    #[error(
        "{action}: missing privilege; start the daemon as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, \
         or set observer.mode = \"proxy\""
    )]
    MissingPrivilege {
        /// What was tried.
        action: &'static str,
    },
    /// The daemon was built without the eBPF programs.
    #[error("this daemon was built without the eBPF programs; build it with `cargo xtask build`")]
    NoObject,
    /// There is no cgroup v2.
    #[error("no cgroup v2 is mounted; mount one, or name its directory in observer.cgroup")]
    NoCgroup,
    /// The cgroup cannot be opened.
    #[error("cannot open the cgroup {path}: {error}; check observer.cgroup", path = path.display())]
    Cgroup {
        /// Its directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Another daemon uses the pin directory.
    #[error(
        "another trackerd uses the pin directory {path}; stop it, or give this one another observer.pin-dir",
        path = path.display()
    )]
    PinsInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The pin directory cannot be used.
    #[error("the pin directory {path} cannot be {what}: {error}; check observer.pin-dir", path = path.display())]
    Pins {
        /// The directory, or one in it.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Nothing to watch, or too much of it.
    #[error(
        "{0} places to watch; the kernel side watches at 1 to {MAX_PORTS}: check proxy.listen and observer.watch-ports"
    )]
    Ports(usize),
    /// The kernel refused the programs or the maps.
    #[error("{action}: {detail}; the kernel must be 5.15 or newer, with BTF (CONFIG_DEBUG_INFO_BTF)")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// The whole chain of causes.
        detail: String,
    },
    /// The daemon's clock is not the kernel side's.
    #[error(
        "the daemon is in a time namespace whose boot time is not the kernel's{by}: start it outside of one (no `unshare \
         --time`, no time namespace in its container), or set observer.mode = \"proxy\"",
        by = offset.map_or_else(String::new, |seconds| format!(" (by {seconds} s)"))
    )]
    ForeignClock {
        /// By how many seconds, where that is known.
        offset: Option<i64>,
    },
    /// A map could not be read or written.
    #[error("{action}: {detail}")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The whole chain of causes.
        detail: String,
    },
    /// The list of sockets could not be had.
    #[error("cannot list the sockets: {0}; the kernel needs CONFIG_INET_DIAG")]
    Sockets(#[from] io::Error),
    /// There is no room for another client.
    #[error(transparent)]
    Full(#[from] Full),
}

/// There is no room for another client's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {max_records} records for users are in use: this client cannot be tracked; raise observer.max-records"
)]
pub struct Full {
    /// How many there are.
    pub max_records: u32,
}

/// An error of aya's while loading or attaching, told apart.
pub(super) fn kernel(action: &'static str, error: &(dyn std::error::Error + 'static)) -> ObserveError {
    match errno(error) {
        // Not EACCES: that is the verifier's word for a program it does not like.
        Some(libc::EPERM) => ObserveError::MissingPrivilege { action },
        _ => ObserveError::Kernel { action, detail: detail(error) },
    }
}

/// The records cannot be listed.
pub(super) fn listing(error: &std::io::Error) -> ObserveError {
    ObserveError::Kernel { action: "listing the records", detail: error.to_string() }
}

/// An error of aya's while using a map, told apart.
pub(super) fn map(action: &'static str, error: &(dyn std::error::Error + 'static)) -> ObserveError {
    match errno(error) {
        Some(libc::EPERM) => ObserveError::MissingPrivilege { action },
        _ => ObserveError::Map { action, detail: detail(error) },
    }
}

/// The kernel's own number, wherever in the chain of causes it is.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = cause.source();
    }
    None
}

/// The chain of causes in one line.
fn detail(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = cause.source();
    }
    text
}

impl ObserveError {
    /// Whether privileges, not the machine, are what is missing.
    #[must_use]
    pub fn is_privilege(&self) -> bool {
        matches!(self, Self::MissingPrivilege { .. })
            || matches!(self, Self::Cgroup { error, .. } | Self::Pins { error, .. }
                if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether two daemons are in each other's way, which no other way of observing helps against.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::PinsInUse { .. })
    }

    /// The error and its causes in one line, for a person.
    #[must_use]
    pub fn because(&self) -> String {
        self.source().map_or_else(|| self.to_string(), |_| detail(self))
    }
}

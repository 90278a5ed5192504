//! Whether what happens on a connection is seen: on one that nobody sees, no session may be used or held.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::Arc;

use tracker_ebpf::abi::ClientAddr;

use super::{ClientStream, ConnectionId, Connections};

/// Who knows of a socket whether what happens on it is seen.
pub trait Watcher: Send + Sync {
    /// Whether it is.
    fn sees(&self, socket: BorrowedFd<'_>) -> bool;
}

impl Connections {
    /// The same registry, where `watcher` knows what is seen. Without one, everything is.
    #[must_use]
    pub fn watched_by(mut self, watcher: Arc<dyn Watcher>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// The client's connections that are open in the kernel as well, and seen. Costs a system call each.
    #[must_use]
    pub fn seen(&self, client: ClientAddr) -> Vec<ConnectionId> {
        let seen = |connection: &super::Connection| {
            let state = connection.guarded();
            let Some(fd) = state.fd else { return false };
            #[expect(unsafe_code, reason = "the descriptor is kept by number, as the stream owns it")]
            // SAFETY: the stream takes the descriptor out under the lock that is held here before it closes it.
            let socket = unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) };
            self.sees(socket)
        };
        let connections = self.snapshot(client);
        connections.iter().filter(|connection| seen(connection)).map(|connection| connection.id()).collect()
    }

    fn sees(&self, socket: BorrowedFd<'_>) -> bool {
        self.watcher.as_ref().is_none_or(|watcher| watcher.sees(socket))
    }
}

impl ClientStream {
    /// Whether what happens on this connection is seen. Costs a system call.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.registry.sees(self.stream.as_fd())
    }
}

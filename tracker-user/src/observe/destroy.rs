//! Ending connections that another proxy on this host holds: by netlink (`SOCK_DESTROY`), each by its cookie, so that
//! never another socket is hit which has the same addresses a moment later.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::{Mutex, PoisonError};

use netlink_packet_sock_diag::SOCK_DESTROY;
use netlink_packet_sock_diag::inet::SocketId;
use nix::sys::socket::SockProtocol;
use tracing::warn;

use super::netlink::{Door, Netlink};
use super::socket_dump::{client, each_connection, from, request};
use crate::types::ClientAddr;

/// What ends other proxies' connections.
pub(super) struct Destroyer {
    /// Its own door, not the dump's: nobody waits here for a long list to be read.
    door: Door,
    ports: BTreeSet<u16>,
    /// What the kernel said when it did not let us.
    refusal: Mutex<Option<String>>,
}

impl Destroyer {
    /// For the ports of the other proxies.
    pub(super) fn new(ports: &[u16]) -> Self {
        Self {
            door: Door::new(SockProtocol::NetlinkSockDiag),
            ports: ports.iter().copied().collect(),
            refusal: Mutex::default(),
        }
    }

    /// Whether there is anything to end.
    pub(super) fn is_needed(&self) -> bool {
        !self.ports.is_empty()
    }

    /// Ends all connections of these clients to the other proxies, and returns how many each of them had. Connections
    /// that end by themselves meanwhile are not counted, those that are opened meanwhile may stay.
    pub(super) fn destroy(&self, clients: &HashSet<ClientAddr>) -> HashMap<ClientAddr, usize> {
        let mut destroyed = HashMap::new();
        if clients.is_empty() || !self.is_needed() {
            return destroyed;
        }
        let outcome = self.door.with(|socket| {
            for (client, id) in self.find(socket, clients)? {
                match socket.order(SOCK_DESTROY, &request(id)) {
                    Ok(()) => *destroyed.entry(client).or_default() += 1,
                    // It was faster.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.refused(&error);
        }
        destroyed
    }

    /// Why connections of other proxies are not ended; `None` as long as they are.
    pub(super) fn refusal(&self) -> Option<String> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find(
        &self,
        socket: &mut Netlink,
        clients: &HashSet<ClientAddr>,
    ) -> io::Result<Vec<(ClientAddr, SocketId)>> {
        // The kernel picks out one client by itself; for many, reading the list once is cheaper.
        let filter = match clients.iter().next() {
            Some(client) if clients.len() == 1 => from(*client),
            _ => Vec::new(),
        };
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for port in &self.ports {
            for id in [SocketId::new_v4(), SocketId::new_v6()] {
                let id = SocketId { source_port: *port, ..id };
                each_connection(socket, id, &filter, |header| {
                    let Some(client) = client(&header.socket_id) else { return };
                    let meant = clients.contains(&client) && header.socket_id.source_port == *port;
                    if meant && seen.insert(header.socket_id.cookie) {
                        found.push((client, header.socket_id.clone()));
                    }
                })?;
            }
        }
        Ok(found)
    }

    fn refused(&self, error: &io::Error) {
        let text = match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => {
                "kernel without SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY): connections through other proxies stay open \
                 when a session ends; end them in that proxy"
                    .to_owned()
            }
            Some(libc::EPERM) => {
                "no privilege to end other proxies' connections when a session ends: give the daemon CAP_NET_ADMIN"
                    .to_owned()
            }
            _ => format!("connections through other proxies could not be ended with their session: {error}"),
        };
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if refusal.as_ref() != Some(&text) {
            warn!("{text}");
            *refusal = Some(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_allow_is_remembered_with_its_remedy() {
        let destroyer = Destroyer::new(&[8080]);
        assert_eq!(destroyer.refusal(), None);
        for (error, start) in [
            (libc::EOPNOTSUPP, "kernel without SOCK_DESTROY"),
            (libc::EPERM, "no privilege"),
            (libc::EINVAL, "connections through other proxies"),
        ] {
            destroyer.refused(&io::Error::from_raw_os_error(error));
            assert!(destroyer.refusal().is_some_and(|text| text.starts_with(start)));
        }
    }
}

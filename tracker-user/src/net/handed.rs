//! Connections that the gateway makes to itself on a client's behalf: the proxy says whose one is before it makes it, and
//! whoever accepts it asks here.
//!
//! A connection is known by its own end, an address and a port of loopback that the proxy holds. As long as it is announced,
//! the proxy's socket is open: so nobody else on this host can have that end, and be taken for the client.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// So long one is waited for.
pub const WAITS_FOR: Duration = Duration::from_secs(5);
/// So many may be announced,
const MOST: usize = 1_024;
/// and so many of one client.
const OF_CLIENT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Handed(Mutex<HashMap<SocketAddr, Waiting>>);

#[derive(Debug)]
struct Waiting {
    client: ClientAddr,
    until: BootTime,
    taken: oneshot::Sender<()>,
}

/// A connection that will be made. Dropped, it is announced no more: it must be dropped before its socket closes.
#[derive(Debug)]
pub struct Announced {
    handed: Arc<Handed>,
    local: SocketAddr,
    taken: oneshot::Receiver<()>,
}

impl Handed {
    fn waiting(&self) -> MutexGuard<'_, HashMap<SocketAddr, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection from this address of ours will come, and is this client's. `None`: too many are waited for.
    #[must_use]
    pub fn announce(
        self: &Arc<Self>,
        local: SocketAddr,
        client: ClientAddr,
        now: BootTime,
    ) -> Option<Announced> {
        let mut waiting = self.waiting();
        let of_client = waiting.values().filter(|one| one.client == client).count();
        if waiting.len() >= MOST || of_client >= OF_CLIENT || waiting.contains_key(&local) {
            return None;
        }
        let (tell, taken) = oneshot::channel();
        waiting.insert(local, Waiting { client, until: now.after(WAITS_FOR), taken: tell });
        Some(Announced { handed: Arc::clone(self), local, taken })
    }

    /// Whose connection it is that has come from there; once. `None`: nobody's that is known.
    #[must_use]
    pub fn take(&self, from: SocketAddr, now: BootTime) -> Option<ClientAddr> {
        let one = self.waiting().remove(&from).filter(|one| now < one.until)?;
        // Who is not there any more does not want it.
        one.taken.send(()).is_ok().then_some(one.client)
    }
}

impl Announced {
    /// Waits until it is known whether it was accepted as the client's. Bound the time.
    pub async fn is_taken(&mut self) -> bool {
        (&mut self.taken).await.is_ok()
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.handed.waiting().remove(&self.local);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientAddr {
        std::net::Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn local(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[tokio::test]
    async fn a_connection_is_its_clients_once_and_for_a_while() {
        let (handed, now) = (Arc::new(Handed::default()), BootTime::from_nanos(5));
        assert_eq!(handed.take(local(1), now), None, "nobody has announced it");
        let mut one = handed.announce(local(1), client(1), now).unwrap();
        let two = handed.announce(local(2), client(2), now).unwrap();
        assert!(handed.announce(local(1), client(2), now).is_none(), "it is another's");
        assert_eq!(handed.take(local(1), now), Some(client(1)));
        assert!(one.is_taken().await);
        assert_eq!(handed.take(local(1), now), None, "once");
        drop(two);
        assert_eq!(handed.take(local(2), now), None, "it did not come");
        let mut late = handed.announce(local(3), client(3), now).unwrap();
        assert_eq!(handed.take(local(3), now.after(WAITS_FOR)), None);
        assert!(!late.is_taken().await, "and is told so");
    }

    #[test]
    fn what_is_waited_for_is_bounded() {
        let (handed, now) = (Arc::new(Handed::default()), BootTime::from_nanos(5));
        let many = |last: u8, from: u16| -> Vec<_> {
            (from..from + 2_000).map_while(|port| handed.announce(local(port), client(last), now)).collect()
        };
        let own = many(1, 1);
        assert_eq!(own.len(), OF_CLIENT);
        let others: Vec<_> = (2..60).map(|last| many(last, u16::from(last) * 1_000)).collect();
        assert_eq!(own.len() + others.iter().map(Vec::len).sum::<usize>(), MOST);
        drop((own, others));
        assert_eq!(many(1, 1).len(), OF_CLIENT);
    }
}

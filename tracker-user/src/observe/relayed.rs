//! Clients behind a balancer that names them (`proxy.proxy-protocol`). To the kernel side their connections are the
//! balancer's, so the proxy's own eyes keep records of these, beside what the source has of connections that the same clients
//! hold without it. The two together are what is known of a client.
//!
//! These records begin and end with the daemon. A client that is not known to them never had a connection through a
//! balancer, as far as they know: it counts as closed and silent ever since, and the connection that shows otherwise ends a
//! gap. So what nobody watched is never taken for a presence.

use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::record::{Direction, Record};

use super::eyes::Eyes;
use super::{ObserveError, Observer};
use crate::clock::BootTime;
use crate::net::ClientEvents;
use crate::session::Evidence;
use crate::types::ClientAddr;

/// What has to be told of the connections that come through a balancer.
#[must_use]
pub fn relayed_of(observer: &Observer) -> Arc<dyn ClientEvents> {
    Arc::clone(&observer.relayed) as Arc<dyn ClientEvents>
}

impl Observer {
    /// Whether the client has come through a balancer, as far as that is remembered. It is while it has a session.
    #[must_use]
    pub fn is_relayed(&self, client: ClientAddr) -> bool {
        self.relayed.record(client).is_some()
    }

    /// A client with a session comes through a balancer: what is known of that is kept from now on. True if it was not
    /// before.
    pub fn hold_relayed(&self, client: ClientAddr) -> bool {
        self.relayed.hold(client)
    }

    /// Adds to what the source knows of a client what is known of its connections through balancers.
    pub(super) fn with_relayed(&self, client: ClientAddr, known: Option<Evidence>) -> Option<Evidence> {
        let Some(record) = self.relayed.record(client) else { return known };
        Some(self.together(&record, known))
    }

    pub(super) fn together(&self, relayed: &Record, known: Option<Evidence>) -> Evidence {
        let relayed = Evidence::from(relayed);
        known.map_or(relayed, |known| known.merge(relayed, Duration::from_nanos(self.relayed.limit())))
    }

    /// Calls `each` with what is recorded of the clients that the source has no record of.
    pub(super) fn each_only_relayed(
        &self,
        mut each: impl FnMut(ClientAddr, &Evidence),
    ) -> Result<usize, ObserveError> {
        let mut clients = 0;
        for (client, record) in self.relayed.records() {
            if self.record(client)?.is_none() {
                each(client, &Evidence::from(&record));
                clients += 1;
            }
        }
        Ok(clients)
    }
}

impl ClientEvents for Eyes {
    fn opened(&self, client: ClientAddr, at: BootTime) {
        Self::opened(self, client, at);
    }

    fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, ended: bool, at: BootTime) {
        Self::data(self, client, direction, bytes, ended, at);
    }

    fn ended(&self, client: ClientAddr, at: BootTime) {
        Self::ended(self, client, at);
    }

    fn closed(&self, client: ClientAddr, ended: bool, at: BootTime) {
        Self::closed(self, client, ended, at);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tracker_ebpf::abi::{Settings, TRAFFIC_BOTH};

    use super::*;
    use crate::observe::{ObserveOptions, ObserverMode};
    use crate::session::evidence::{Gap, Presence};

    const LIMIT: u64 = 100;
    const CLIENT: ClientAddr = ClientAddr::from_v4([192, 0, 2, 1]);

    fn at(nanos: u64) -> BootTime {
        BootTime::from_nanos(nanos)
    }

    /// An observer without the kernel side, whose source is told by hand as well.
    fn observer() -> Observer {
        let settings = Settings { limit: LIMIT, direction: TRAFFIC_BOTH, ..Settings::default() };
        let options = ObserveOptions { mode: ObserverMode::Proxy, settings, ..ObserveOptions::default() };
        Observer::start(&options).unwrap().0
    }

    fn evidence(observer: &Observer) -> Evidence {
        observer.evidence(CLIENT).unwrap().unwrap()
    }

    #[test]
    fn a_client_is_what_it_does_directly_and_through_balancers() {
        let observer = observer();
        let (direct, relayed) = (observer.eyes().unwrap(), relayed_of(&observer));
        direct.opened(CLIENT, at(1_000));
        observer.ensure(CLIENT, at(1_010)).unwrap();
        relayed.opened(CLIENT, at(1_020));
        direct.closed(CLIENT, false, at(1_030));
        relayed.data(CLIENT, Direction::Received, 5, false, at(1_090));
        let seen = evidence(&observer);
        assert_eq!((seen.open, seen.opened_at, seen.left_at), (1, Some(at(1_020)), Some(at(1_030))));
        assert_eq!((seen.traffic_at, seen.received), (Some(at(1_090)), 5));
        assert_eq!(
            (seen.closed_gap, seen.traffic_gap),
            (None, None),
            "one of the two was there all the time"
        );
        relayed.closed(CLIENT, false, at(1_095));
        assert_eq!(evidence(&observer).presence(), Presence::Closed(Some(at(1_095))));
        direct.opened(CLIENT, at(1_195));
        assert_eq!(evidence(&observer).closed_gap, Some(Gap { start: at(1_095), end: at(1_195) }));
    }

    /// The daemon was late: the first connection through a balancer ends a gap that the source has not latched.
    #[test]
    fn the_first_connection_through_a_balancer_does_not_refresh_what_has_run_out() {
        let observer = observer();
        let (direct, relayed) = (observer.eyes().unwrap(), relayed_of(&observer));
        direct.opened(CLIENT, at(1_000));
        observer.ensure(CLIENT, at(1_010)).unwrap();
        direct.data(CLIENT, Direction::Sent, 5, false, at(1_020));
        direct.closed(CLIENT, false, at(1_030));
        relayed.opened(CLIENT, at(1_130));
        let seen = evidence(&observer);
        assert_eq!(seen.closed_gap, Some(Gap { start: at(1_030), end: at(1_130) }));
        assert_eq!(seen.traffic_at, Some(at(1_020)), "opening a connection is no traffic");
        relayed.data(CLIENT, Direction::Received, 5, false, at(1_131));
        assert_eq!(evidence(&observer).traffic_gap, Some(Gap { start: at(1_020), end: at(1_131) }));
    }

    #[test]
    fn one_that_only_comes_through_a_balancer_is_judged_by_that() {
        let observer = observer();
        let relayed = relayed_of(&observer);
        relayed.opened(CLIENT, at(1_000));
        relayed.data(CLIENT, Direction::Received, 5, false, at(1_001));
        // The proof came with that.
        observer.ensure(CLIENT, at(1_002)).unwrap();
        let seen = evidence(&observer);
        assert_eq!((seen.presence(), seen.closed_gap, seen.traffic_gap), (Presence::Open, None, None));
        assert!(seen.left_at <= Some(at(1_002)), "it has not left since the proof");
        relayed.data(CLIENT, Direction::Sent, 5, false, at(1_150));
        assert_eq!(evidence(&observer).traffic_gap, Some(Gap { start: at(1_002), end: at(1_150) }));
        relayed.closed(CLIENT, false, at(1_200));
        relayed.opened(CLIENT, at(1_299));
        assert_eq!(evidence(&observer).closed_gap, None, "not as long as the timeout");
        relayed.closed(CLIENT, false, at(1_300));
        relayed.opened(CLIENT, at(1_400));
        assert_eq!(evidence(&observer).closed_gap, Some(Gap { start: at(1_300), end: at(1_400) }));
        assert_eq!(evidence(&observer).left_at, Some(at(1_300)));
    }

    #[test]
    fn it_is_forgotten_with_the_session_and_walked_over_like_everybody() {
        let observer = observer();
        let relayed = relayed_of(&observer);
        relayed.opened(CLIENT, at(1_000));
        assert!(
            observer.is_relayed(CLIENT) && observer.hold_relayed(CLIENT) && !observer.hold_relayed(CLIENT)
        );
        observer.ensure(CLIENT, at(1_001)).unwrap();
        for n in 0..200 {
            relayed.opened(Ipv4Addr::from(n).into(), at(1_002));
        }
        let all = observer.all_recorded().unwrap();
        assert_eq!(all.len(), 201, "each once");
        assert_eq!(all.iter().find(|(client, _)| *client == CLIENT).unwrap().1.open, 1);
        let mut told = 0;
        observer.resync(|_, _| told += 1).unwrap();
        assert_eq!(told, 201);
        relayed.closed(CLIENT, false, at(1_003));
        observer.forget(CLIENT).unwrap();
        assert!(observer.is_relayed(CLIENT), "it has a session");
        observer.release(CLIENT).unwrap();
        observer.forget(CLIENT).unwrap();
        assert!(!observer.is_relayed(CLIENT) && observer.evidence(CLIENT).unwrap().is_none());
    }
}

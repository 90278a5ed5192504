//! Connections of balancers that say who the client is (`proxy.proxy-protocol`): their headers are read before anything else,
//! at most some at a time, and each within its time. Who says something wrong is not served, and that is counted and told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Shared;
use super::tally::Tally;
use crate::net::Caller;
use crate::net::proxy_protocol::{Header, Refused, read};

/// A header that has not come within this time will not come. The balancer sends it at once.
pub(super) const HEADER_TIMEOUT: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(10) };

/// How many headers one core waits for. Beyond that the oldest is given up.
pub(super) const MAX_HEADERS: usize = if cfg!(test) { 4 } else { 1024 };

/// Who may say who the client is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balancers(Vec<IpNet>);

impl Balancers {
    /// What is configured.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        Self(networks.to_vec())
    }

    /// Whether what comes from this address begins with a header.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// What became of a connection that began, or should have begun, with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// It is a client's.
    Accepted,
    /// It is the balancer's own: a health check.
    Local,
    /// Its header does not say who the client is; some health checks by version 1 say no more.
    Unknown,
    /// It was closed before anything came: a health check without a header.
    Closed,
    /// It does not begin with a header.
    Missing,
    /// What it begins with is not well formed.
    Malformed,
    /// It names an address that no client has.
    Address,
    /// Nothing, or not all of it, came in time.
    Slow,
    /// Too many others were waited for.
    Crowded,
    /// A header came from somebody who may not send one.
    Untrusted,
}

impl Outcome {
    /// All, as metrics name them.
    pub(super) const ALL: [(Self, &'static str); 10] = [
        (Self::Accepted, "accepted"),
        (Self::Local, "local"),
        (Self::Unknown, "unknown"),
        (Self::Closed, "closed"),
        (Self::Missing, "missing"),
        (Self::Malformed, "malformed"),
        (Self::Address, "address"),
        (Self::Slow, "slow"),
        (Self::Crowded, "crowded"),
        (Self::Untrusted, "untrusted"),
    ];

    /// What operators are told of it, with the remedy; `None` where nothing is wrong.
    const fn sentence(self) -> Option<&'static str> {
        Some(match self {
            Self::Accepted | Self::Local | Self::Unknown | Self::Closed => return None,
            Self::Missing => {
                "connections from proxy.proxy-protocol were refused because they do not begin with a PROXY header: have the balancer \
                 send one (haproxy: send-proxy-v2), or take the address off the list"
            }
            Self::Malformed => {
                "connections from proxy.proxy-protocol were refused because their PROXY header is not well formed: only balancers belong \
                 on the list"
            }
            Self::Address => {
                "connections from proxy.proxy-protocol were refused because their PROXY header names no client: a balancer of the list \
                 itself, or an address that no client can have"
            }
            Self::Slow => {
                "connections from proxy.proxy-protocol were closed because no PROXY header came in time: have the balancer send one"
            }
            Self::Crowded => {
                "connections from proxy.proxy-protocol were closed because too many of them send no PROXY header"
            }
            Self::Untrusted => {
                "PROXY headers came from senders that are not in proxy.proxy-protocol, or behind another one, and were refused: if it is \
                 a balancer, put its address on the list"
            }
        })
    }
}

impl From<Refused> for Outcome {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Closed => Self::Closed,
            Refused::Missing => Self::Missing,
            Refused::Unknown => Self::Unknown,
            Refused::Malformed(_) => Self::Malformed,
            Refused::Address(_) => Self::Address,
        }
    }
}

/// The headers that a core waits for, in the order in which their connections came.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// Whoever loses its sender is given up.
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
    last: Cell<u64>,
}

impl Headers {
    /// Reads the header of a connection that a balancer has begun just now. `None` where it is not a client's, which has been
    /// counted and told.
    pub(super) async fn read(
        &self,
        shared: &Shared,
        stream: &mut TcpStream,
        via: SocketAddr,
    ) -> Option<Caller> {
        let (_under_way, given_up) = self.begin();
        let header = timeout(HEADER_TIMEOUT, read(stream));
        let caller = tokio::select! {
            header = header => match header {
                Ok(Ok(Header::Client(source))) if !is_its_own(source, via) => {
                    Caller::relayed(source, via).and_then(|caller| {
                        // Another one's: it would be judged by what all of its clients do.
                        let is_balancer = shared.options.load().balancers.has(caller.peer.ip());
                        if is_balancer { Err(Refused::Address("its address is a balancer's")) } else { Ok(caller) }
                    })
                }
                Ok(Ok(Header::Local | Header::Client(_))) => {
                    shared.stats.proxy_header(Outcome::Local);
                    return None;
                }
                Ok(Err(refused)) => Err(refused),
                Err(_) => {
                    shared.header_refused(Outcome::Slow, via, &"it did not come in time");
                    return None;
                }
            },
            _ = given_up => {
                shared.header_refused(Outcome::Crowded, via, &"too many others were waited for");
                return None;
            }
            () = shared.stopping.cancelled() => return None,
        };
        match caller {
            Ok(caller) => {
                shared.stats.proxy_header(Outcome::Accepted);
                Some(caller)
            }
            Err(refused) => {
                shared.header_refused(refused.into(), via, &refused);
                None
            }
        }
    }

    fn begin(&self) -> (UnderWay<'_>, oneshot::Receiver<()>) {
        let number = self.last.get() + 1;
        self.last.set(number);
        let (kept, given_up) = oneshot::channel();
        let mut waiting = self.waiting.borrow_mut();
        waiting.insert(number, kept);
        if waiting.len() > MAX_HEADERS {
            waiting.pop_first();
        }
        (UnderWay { all: self, number }, given_up)
    }
}

/// Whether the balancer says that it is the client itself: so haproxy's health checks begin by version 1.
fn is_its_own(source: SocketAddr, via: SocketAddr) -> bool {
    source.ip().to_canonical() == via.ip().to_canonical()
}

/// A header that counts.
struct UnderWay<'a> {
    all: &'a Headers,
    number: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.waiting.borrow_mut().remove(&self.number);
    }
}

/// What operators are told.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Tally<Outcome>>);

impl Told {
    pub(super) fn warnings(&self) -> Vec<String> {
        let tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = tally.recent().filter_map(|(outcome, count)| Some((outcome.sentence()?, count)));
        recent.map(|(sentence, count)| format!("{sentence}; connections so far: {count}")).collect()
    }
}

impl Shared {
    /// Counts a connection that is not served because of what its header says or does not say, and says so now and then.
    pub(super) fn header_refused(&self, outcome: Outcome, from: SocketAddr, why: &dyn std::fmt::Display) {
        self.stats.proxy_header(outcome);
        debug!(%from, "a connection was refused: {why}");
        let Some(sentence) = outcome.sentence() else { return };
        let told = self.balancers_told.0.lock().unwrap_or_else(PoisonError::into_inner).note(outcome);
        if let Some(count) = told {
            warn!(%from, count, "{sentence} (the last one: {why})");
        }
    }
}

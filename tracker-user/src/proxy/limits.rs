//! What strangers may take of the gateway: connections in all and of one client, descriptors, patience. Who is turned away is
//! turned away at accept, counted, and told to operators.

use std::cell::Cell;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv, send};
use tokio::net::TcpStream;
use tracing::warn;

use super::Shared;
use super::penalty;
use super::penalty::Penalties;
use super::tally::Tally;
use crate::clock::{BootTime, boot_now};
use crate::links::shown;
use crate::net::descriptors;
use crate::net::{Caller, ClientStream, Limits, Over, Security};
use crate::types::ClientAddr;

/// How often idle connections are given up because there are too many.
const SHED_EVERY: Duration = Duration::from_secs(1);
/// So many are given up at a time: one of so many.
const SHED_SHARE: usize = 16;

/// Why a connection was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Why {
    /// Its client has as many as one may have.
    Client,
    /// There are as many as there may be.
    All,
    /// Descriptors are short.
    Descriptors,
    /// Its source only fails.
    Penalty,
}

impl Why {
    /// All, as metrics name them.
    pub(super) const ALL: [(Self, &'static str); 4] = [
        (Self::Client, "client"),
        (Self::All, "all"),
        (Self::Descriptors, "descriptors"),
        (Self::Penalty, "penalty"),
    ];
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doorkeeper {
    penalties: Mutex<Penalties>,
    /// Whether anything is known of anybody, readable without the lock.
    known: AtomicBool,
    turned_away: Mutex<Tally<Why>>,
    shed: Mutex<BootTime>,
    /// How often descriptors were found short: whoever holds idle ones gives them up.
    shortages: AtomicU64,
}

impl Doorkeeper {
    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often descriptors were short.
    pub(super) fn shortages(&self) -> u64 {
        self.shortages.load(Relaxed)
    }

    /// What operators should be told.
    pub(super) fn warnings(&self) -> Vec<String> {
        let now = boot_now();
        let mut found = Vec::new();
        let turned_away = self.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
        for (why, count) in turned_away.recent() {
            found.push(format!("{}; connections so far: {count}", sentence(why)));
        }
        drop(turned_away);
        let refused = self.penalties().refused(now);
        if !refused.is_empty() {
            let names: Vec<String> =
                refused.iter().take(5).map(|client| shown(*client).to_string()).collect();
            let more = if refused.len() > names.len() { ", …" } else { "" };
            found.push(format!(
                "{} sources are refused for a while, since all their connections fail: {}{more}; an address of many users belongs \
                 into timeouts.shared-hosts",
                refused.len(),
                names.join(", ")
            ));
        }
        found
    }
}

const fn sentence(why: Why) -> &'static str {
    match why {
        Why::Client => {
            "connections of clients that hold too many were closed (proxy.max-connections-per-client, or half of all)"
        }
        Why::All => "connections were closed because there are too many in all (proxy.max-connections)",
        Why::Descriptors => {
            "connections were closed or origins not reached because descriptors are short: raise the limit of open files \
             (LimitNOFILE=), or lower proxy.max-connections"
        }
        Why::Penalty => "connections were closed because all those of their source fail",
    }
}

impl Shared {
    fn limits(&self) -> Limits {
        let options = self.options.load();
        let all = match options.max_connections {
            0 => descriptors::room_for_clients(),
            most => most,
        };
        // Whatever it is, one client alone does not take all.
        Limits { all, of_client: options.max_connections_per_client.min(all.div_ceil(2)) }
    }

    /// Takes a connection in, if there is room for it; `make_room` gives up what this core can do without.
    pub(super) fn take_in(
        &self,
        caller: Caller,
        stream: TcpStream,
        security: &Security,
        make_room: impl FnOnce() -> bool,
    ) -> Option<ClientStream> {
        if self.is_penalised(caller.client) {
            self.turned_away(Why::Penalty);
            return None;
        }
        if !self.has_descriptors(&stream, make_room) {
            return None;
        }
        match self.connections.accept_within(caller, stream, self.limits()) {
            Ok(taken) => Some(taken),
            Err((Over::Client, stream)) => {
                self.turned_away(Why::Client);
                say_busy(&stream, security);
                None
            }
            Err((Over::All, stream)) => {
                self.turned_away(Why::All);
                say_busy(&stream, security);
                self.shed();
                None
            }
        }
    }

    /// Whether there are descriptors enough to go on with a connection that was accepted.
    pub(super) fn has_descriptors(&self, stream: &TcpStream, make_room: impl FnOnce() -> bool) -> bool {
        descriptors::look();
        if descriptors::in_reserve(stream) && !make_room() {
            self.turned_away(Why::Descriptors);
            self.shed();
            return false;
        }
        true
    }

    /// Descriptors are short: everybody gives up what they can do without.
    pub(super) fn descriptors_are_short(&self) {
        self.doorkeeper.shortages.fetch_add(1, Relaxed);
        self.changed.notify_waiters();
    }

    /// Counts somebody who is turned away, and says so now and then.
    pub(super) fn turned_away(&self, why: Why) {
        self.stats.turned_away(why);
        let told = self.doorkeeper.turned_away.lock().unwrap_or_else(PoisonError::into_inner).note(why);
        if let Some(count) = told {
            warn!(count, "{}", sentence(why));
        }
    }

    /// Ends some connections on which nothing happens and nobody has proved anything, the oldest first, so that others find
    /// room: a crowd that holds its connections keeps nobody out for good.
    fn shed(&self) {
        let now = boot_now();
        {
            let mut shed = self.doorkeeper.shed.lock().unwrap_or_else(PoisonError::into_inner);
            if now.since(*shed) < SHED_EVERY {
                return;
            }
            *shed = now;
        }
        let ended = self.connections.shed(self.connections.len().div_ceil(SHED_SHARE));
        self.stats.shed.inc_by(ended as u64);
    }

    fn is_penalised(&self, client: ClientAddr) -> bool {
        self.doorkeeper.known.load(Relaxed)
            && self.doorkeeper.penalties().refuses(client, boot_now())
            && !self.gate.is_known(client)
    }

    /// A connection has ended on which everything failed.
    fn failed(&self, client: ClientAddr) {
        if self.gate.is_known(client) {
            return;
        }
        let now = boot_now();
        let mut penalties = self.doorkeeper.penalties();
        let begins = penalties.failed(client, now);
        self.doorkeeper.known.store(true, Relaxed);
        let refused = if begins { penalties.refused(now).len() } else { 0 };
        drop(penalties);
        if begins {
            self.stats.penalties.inc();
            if refused == 1 {
                let seconds = penalty::PENALTY.as_secs();
                warn!(%client, seconds, "all connections of a source fail: it is refused for a while");
            }
        }
    }

    fn served(&self, client: ClientAddr) {
        if self.doorkeeper.known.load(Relaxed) {
            let mut penalties = self.doorkeeper.penalties();
            penalties.served(client);
            self.doorkeeper.known.store(!penalties.is_empty(), Relaxed);
        }
    }
}

/// What a connection comes to; told to the doorkeeper when it ends.
pub(super) struct Conduct {
    shared: Arc<Shared>,
    client: ClientAddr,
    has_failed: Cell<bool>,
    is_served: Cell<bool>,
}

impl Conduct {
    pub(super) const fn new(shared: Arc<Shared>, client: ClientAddr) -> Self {
        Self { shared, client, has_failed: Cell::new(false), is_served: Cell::new(false) }
    }

    /// Credentials proved nothing, or what came was no request.
    pub(super) fn fails(&self) {
        self.has_failed.set(true);
    }

    /// Somebody is served on it.
    pub(super) fn serves(&self) {
        if !self.is_served.replace(true) {
            self.shared.served(self.client);
        }
    }
}

impl Drop for Conduct {
    fn drop(&mut self) {
        if self.has_failed.get() && !self.is_served.get() {
            self.shared.failed(self.client);
        }
    }
}

/// One try to say why: a browser shows it, and nobody waits for it.
fn say_busy(stream: &TcpStream, security: &Security) {
    const PAGE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Cache-Control: no-store\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 71\r\n\r\n\
        This proxy has too many open connections at present. Try again later.\r\n";
    // Before a handshake TLS has but one word: a fatal alert (21), internal_error (80; RFC 8446, section 6).
    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 80];
    let words = if security.is_plain() { PAGE } else { ALERT };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // What is left unread would have the kernel reset the connection, and the words with it.
    let _ = recv(stream.as_raw_fd(), &mut [0; 4096], flags);
    let _ = send(stream.as_raw_fd(), words, flags);
}

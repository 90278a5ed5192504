//! A session: a client, a user, how and when that was proved.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use tracker_ebpf::abi::ClientAddr;

use super::device::Device;
use super::event::Reason;
use super::identity::{Identity, Method};
use super::scope::Scope;
use crate::clock::BootTime;
use crate::observe::ConnectionId;

/// The number of a session, never used twice by one gateway. Shown as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for SessionId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Whether requests are served on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Yes, while the judge agrees.
    Active,
    /// No: its timeout ran out at `since`. It waits for its user to prove themselves again, or for its end.
    Stale {
        /// Which timeout.
        reason: Reason,
        /// When.
        since: BootTime,
    },
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number; renewals keep it.
    pub id: SessionId,
    /// The client address.
    pub client: ClientAddr,
    /// The connection, where the session is of no other: on a shared host.
    pub connection: Option<ConnectionId>,
    /// The user.
    pub identity: Arc<Identity>,
    /// How the user proved it, last.
    pub method: Method,
    /// The hardware address behind the client address when its user last proved themselves, where it is known and tells
    /// this client from others.
    pub device: Option<Device>,
    /// When it began, by the proof's admission; renewals keep it, the lifetime counts from it.
    pub created: BootTime,
    /// When its user last proved themselves: when the request was read that brought the proof, a moment before it was
    /// admitted.
    pub authenticated: BootTime,
    /// The proof that the judge counts from. A proof that would move no deadline worth mentioning is only shown: what
    /// the judge goes by is on disk before anyone relies on it, and a client that sends credentials with each request
    /// must not cost a disk write each time.
    pub judged_from: BootTime,
    /// When mode `absolute` began to count: at creation, or at the last renewal of the stale session.
    pub counted_from: BootTime,
    /// Whether requests are served on it.
    pub state: State,
}

impl Session {
    /// What it is of.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        Scope { client: self.client, connection: self.connection }
    }
}

//! Users, with all their clients.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::sessions::recorded;
use super::{Ops, OpsError, Parts};
use crate::clock::{Anchor, BootTime};
use crate::session::{Policy, Session, State};
use crate::types::{ClientAddr, Identity};

/// A user with at least one session.
#[derive(Clone, Debug)]
pub struct User {
    /// Who.
    pub identity: Arc<Identity>,
    /// The addresses of their active sessions, each once.
    pub clients: Vec<ClientAddr>,
    /// The addresses of their stale sessions, each once.
    pub stale_clients: Vec<ClientAddr>,
    /// Licences they take.
    pub licences: u32,
    /// When their first session began.
    pub since: Timestamp,
    /// Open connections of all their clients; on shared hosts, those that they have proved themselves on.
    pub open_connections: u32,
    /// Payload bytes received on these.
    pub bytes_received: u64,
    /// Payload bytes sent on these.
    pub bytes_sent: u64,
}

/// What is known of a user so far.
#[derive(Default)]
struct Gathered {
    sessions: Vec<Held>,
    open_connections: u32,
    bytes_received: u64,
    bytes_sent: u64,
}

/// One of the sessions that a user has.
struct Held {
    created: BootTime,
    client: ClientAddr,
    identity: Arc<Identity>,
    is_active: bool,
}

impl Ops {
    /// The users, by name. A session that begins or ends while they are gathered counts or not.
    ///
    /// # Errors
    /// As [`Self::sessions`].
    pub async fn users(&self) -> Result<Vec<User>, OpsError> {
        self.walk(async |ops| {
            let mut walk = ops.walk_sessions().await?;
            let mut users: HashMap<Arc<Identity>, Gathered> = HashMap::new();
            while let Some(portion) = walk.next().await? {
                for (session, activity) in ops.blocking(|parts| with_counts(parts, portion)).await?? {
                    let user = users.entry(Arc::clone(&session.identity)).or_default();
                    let (open, received, sent) = activity;
                    user.open_connections = user.open_connections.saturating_add(open);
                    user.bytes_received = user.bytes_received.saturating_add(received);
                    user.bytes_sent = user.bytes_sent.saturating_add(sent);
                    let Session { created, client, identity, state, .. } = session;
                    let is_active = state == State::Active;
                    user.sessions.push(Held { created, client, identity, is_active });
                }
            }
            let (anchor, policy) = (Anchor::now(), walk.policy());
            let users = users.into_values().filter_map(|user| user.told(&anchor, policy));
            let mut users: Vec<User> = users.collect();
            users.sort_by(|a, b| name(a).cmp(&name(b)));
            Ok(users)
        })
        .await
    }
}

fn name(user: &User) -> (&str, &str, Option<&str>) {
    (user.identity.user(), user.identity.domain(), user.identity.hidden_realm())
}

/// Connections, and bytes received and sent.
type Counted = (u32, u64, u64);

fn with_counts(parts: &Parts, portion: Vec<Session>) -> Result<Vec<(Session, Counted)>, OpsError> {
    let counted = portion.into_iter().map(|session| {
        let (recorded, _) = recorded(parts, &session)?;
        Ok((session, (recorded.connections(), recorded.received, recorded.sent)))
    });
    counted.collect()
}

impl Gathered {
    fn told(mut self, anchor: &Anchor, policy: &Policy) -> Option<User> {
        self.sessions.sort_by_key(|session| session.created);
        let first = self.sessions.first()?;
        // On a shared host a user may have proved themselves on many connections.
        let of = |is_active: bool| {
            let mut known = HashSet::new();
            let sessions = self.sessions.iter().filter(|session| session.is_active == is_active);
            let clients = sessions.map(|session| session.client).filter(|client| known.insert(*client));
            clients.collect::<Vec<ClientAddr>>()
        };
        let (clients, stale_clients) = (of(true), of(false));
        let devices = clients.iter().filter(|client| !policy.is_guest(**client)).count();
        let devices = u32::try_from(devices).unwrap_or(u32::MAX);
        Some(User {
            identity: Arc::clone(&first.identity),
            clients,
            stale_clients,
            licences: devices.div_ceil(policy.devices_per_user.max(1)),
            since: anchor.wall(first.created),
            open_connections: self.open_connections,
            bytes_received: self.bytes_received,
            bytes_sent: self.bytes_sent,
        })
    }
}

//! How a snapshot is made: all sessions in portions, then all records in one go, by a thread that may block.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use super::rows::{HostRow, Kinds, SessionRow, Usage, UserRow};
use crate::clock::{Anchor, BootTime, boot_now, wall_now};
use crate::ops::sessions::describe;
use crate::ops::walk::newest_first;
use crate::ops::{Activity, Ops, OpsError, Parts, SessionView, Standing};
use crate::session::{Evidence, Policy, Session};
use crate::types::{ClientAddr, SessionId};

/// What had been counted at a moment: received and sent. In order, so that it is found without a table of its own.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) at: BootTime,
    hosts: Vec<(ClientAddr, u64, u64)>,
    /// Of the sessions that are of one connection.
    connections: Vec<(SessionId, u64, u64)>,
}

impl Ops {
    /// What has been counted by now. Of single connections nothing is: their rates begin with the next look.
    pub(super) async fn count(&self) -> Result<Counted, OpsError> {
        let most = self.0.limits.of_snapshot();
        self.blocking(move |parts| {
            let at = boot_now();
            let mut hosts = Vec::new();
            each_record(parts, most, |client, evidence| {
                hosts.push((client, evidence.received, evidence.sent));
            })?;
            hosts.sort_unstable_by_key(|(client, ..)| *client);
            Ok(Counted { at, hosts, connections: Vec::new() })
        })
        .await?
    }

    /// Everybody who is here, with rates since `before`; and what has been counted by now.
    pub(super) async fn gather(&self, before: Arc<Counted>) -> Result<(Snapshot, Counted), OpsError> {
        let most = self.0.limits.of_snapshot();
        let mut walk = self.walk_sessions().await?;
        let mut sessions = Vec::new();
        while let Some(portion) = walk.next().await? {
            sessions.extend(portion);
            if sessions.len() > most {
                return Err(OpsError::TooLarge { most });
            }
        }
        let policy = Arc::clone(walk.policy());
        self.blocking(move |parts| build(parts, sessions, &policy, &before, most)).await?
    }
}

/// Calls `each` with what is recorded of every client.
fn each_record(
    parts: &Parts,
    most: usize,
    mut each: impl FnMut(ClientAddr, &Evidence),
) -> Result<(), OpsError> {
    let (mut walk, mut told) = (parts.observer.walk(), 0);
    while parts.observer.next_portion(&mut walk, |client, evidence| {
        told += 1;
        each(client, evidence);
    })? {
        if told > most {
            return Err(OpsError::TooLarge { most });
        }
    }
    Ok(())
}

fn build(
    parts: &Parts,
    mut sessions: Vec<Session>,
    policy: &Policy,
    before: &Counted,
    most: usize,
) -> Result<(Snapshot, Counted), OpsError> {
    newest_first(&mut sessions, |session: &Session| (session.id, session.scope()));
    sessions.sort_unstable_by_key(|session| (session.client, session.id));
    let known = |client: &ClientAddr| sessions.binary_search_by_key(client, |session| session.client).is_ok();
    let (now, anchor) = (boot_now(), Anchor::now());
    let span = now.since(before.at).max(Duration::from_millis(1)).as_secs_f64();
    let mut evidence: HashMap<ClientAddr, Evidence> = HashMap::with_capacity(sessions.len());
    let mut counted = Counted { at: now, hosts: Vec::new(), connections: Vec::new() };
    let mut hosts = Vec::new();
    each_record(parts, most, |client, recorded| {
        if known(&client) {
            evidence.insert(client, *recorded);
        }
        let earlier = of(&before.hosts, &client);
        let activity = Activity::of(recorded, now, &anchor).since_opened();
        let moved = recorded.received + recorded.sent > 0;
        hosts.push(HostRow {
            client,
            sessions: (0, 0),
            kinds: Kinds::default(),
            opened: activity.opened,
            closed: activity.closed,
            usage: usage(
                &Activity { last_traffic: activity.last_traffic.filter(|_| moved), ..activity },
                earlier,
                span,
            ),
        });
        counted.hosts.push((client, recorded.received, recorded.sent));
    })?;
    hosts.sort_unstable_by_key(|host| host.client);
    counted.hosts.sort_unstable_by_key(|(client, ..)| *client);

    let is_blind = parts.observer.blindness().is_some();
    let mut rows = Vec::with_capacity(sessions.len());
    for session in &sessions {
        let (recorded, relied) = match session.connection {
            // One that is closed ends its session in this moment.
            Some(one) => {
                let recorded = parts.connections.evidence(session.client, one).unwrap_or_default();
                (recorded, recorded)
            }
            None => {
                let recorded = evidence.get(&session.client).copied().unwrap_or_default();
                let relied = if is_blind {
                    parts.observer.evidence(session.client)?.unwrap_or_default()
                } else {
                    recorded
                };
                (recorded, relied)
            }
        };
        let view = describe(parts, session, (&recorded, &relied), policy, &anchor);
        let earlier = match session.connection {
            None => of(&before.hosts, &session.client),
            Some(_) => {
                counted.connections.push((session.id, recorded.received, recorded.sent));
                of(&before.connections, &session.id)
            }
        };
        rows.push(row(view, earlier, span));
    }
    counted.connections.sort_unstable_by_key(|(id, ..)| *id);
    // Both are by address.
    let mut next = 0;
    for host in &mut hosts {
        while rows.get(next).is_some_and(|row: &SessionRow| row.client < host.client) {
            next += 1;
        }
        let from = next;
        while let Some(row) = rows.get(next).filter(|row| row.client == host.client) {
            host.kinds.add(row.standing, row.method);
            next += 1;
        }
        host.sessions = (u32::try_from(from).unwrap_or(u32::MAX), u32::try_from(next).unwrap_or(u32::MAX));
    }
    rows.shrink_to_fit();
    hosts.shrink_to_fit();
    let users = users(&rows, policy);
    Ok((Snapshot { taken: wall_now(), sessions: rows, hosts, users }, counted))
}

/// What had been counted of one, if anything.
fn of<K: Ord + Copy>(counted: &[(K, u64, u64)], key: &K) -> Option<(u64, u64)> {
    let place = counted.binary_search_by_key(key, |(known, ..)| *known).ok()?;
    counted.get(place).map(|(_, received, sent)| (*received, *sent))
}

fn usage(activity: &Activity, earlier: Option<(u64, u64)>, span: f64) -> Usage {
    let (received, sent) = earlier.unwrap_or((activity.bytes_received, activity.bytes_sent));
    let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
    Usage {
        connections: activity.open_connections,
        last_traffic: activity.last_traffic,
        received: activity.bytes_received,
        sent: activity.bytes_sent,
        receive_rate: rate(activity.bytes_received, received),
        send_rate: rate(activity.bytes_sent, sent),
    }
}

fn row(view: SessionView, earlier: Option<(u64, u64)>, span: f64) -> SessionRow {
    SessionRow {
        id: view.id,
        client: view.scope.client,
        port: view.port,
        usage: usage(&view.activity, earlier, span),
        identity: view.identity,
        device: view.device,
        method: view.method,
        standing: view.standing,
        mode: view.mode,
        created: view.created,
        expires: view.expires,
    }
}

/// The users, by name.
pub(super) fn users(rows: &[SessionRow], policy: &Policy) -> Vec<UserRow> {
    let mut by_user: HashMap<&str, Vec<&SessionRow>> = HashMap::new();
    for row in rows {
        by_user.entry(row.identity.key()).or_default().push(row);
    }
    let mut users: Vec<UserRow> =
        by_user.into_values().filter_map(|sessions| user(&sessions, policy)).collect();
    users.sort_unstable_by(|a, b| a.identity.key().cmp(b.identity.key()));
    users
}

fn user(sessions: &[&SessionRow], policy: &Policy) -> Option<UserRow> {
    // The spelling of whoever began first, as `users` has it.
    let first = sessions.iter().min_by_key(|row| (row.created, row.id))?;
    let (mut kinds, mut usage) = (Kinds::default(), Usage::default());
    for row in sessions {
        kinds.add(row.standing, row.method);
        usage.add(&row.usage);
    }
    let at = |wanted: fn(Standing) -> bool| {
        let mut clients: Vec<ClientAddr> =
            sessions.iter().filter(|row| wanted(row.standing)).map(|row| row.client).collect();
        // They come by address.
        clients.dedup();
        clients
    };
    let clients = at(|standing| standing == Standing::Active);
    let mut other_clients = at(|standing| standing != Standing::Active);
    other_clients.retain(|client| clients.binary_search(client).is_err());
    Some(UserRow {
        identity: Arc::clone(&first.identity),
        licences: policy.licences_at(&clients),
        since: first.created,
        clients,
        other_clients,
        kinds,
        usage,
    })
}

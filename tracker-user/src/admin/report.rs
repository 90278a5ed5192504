//! From the table and the records to what the API says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tracker_ebpf::abi::{Counter, strangers_of};
use tracker_ebpf::record::Record;

use super::wire;
use crate::audit::Audit;
use crate::auth::Verifier;
use crate::auth::kerberos::negotiate;
use crate::auth::kerberos::negotiate::Account;
use crate::clock::{Anchor, BootTime, boot_now};
use crate::config::show_span;
use crate::links::shown;
use crate::live::Live;
use crate::net::Connections;
use crate::observe::{Kind, ObserveError, Observer, Pinning};
use crate::proxy::DecisionLog;
use crate::session::{Policy, Session, State, Timeouts, Verdict, judge};
use crate::store::{Journal, Store, StoreError};
use crate::threads::{Busy, Threads};
use crate::tracker::Tracker;
use crate::types::{ClientAddr, Identity};

/// Between the two looks that a rate is made of.
const RATE_SPAN: Duration = Duration::from_millis(500);

/// What the API reports from.
#[derive(Clone)]
pub struct Sources {
    /// The sessions.
    pub tracker: Tracker,
    /// The records.
    pub observer: Arc<Observer>,
    /// The proxy's connections.
    pub connections: Arc<Connections>,
    /// What happened.
    pub audit: Arc<Audit>,
    /// The last decisions about requests that had to prove themselves.
    pub recent: Arc<DecisionLog>,
    /// The configuration in force.
    pub live: Arc<Live>,
    /// What survives.
    pub store: Arc<Store>,
    /// What writes it.
    pub journal: Arc<Journal>,
    /// Who verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Who reads it while others go on.
    pub threads: Arc<Threads>,
    /// When the daemon started.
    pub started: Timestamp,
    /// Where it listens.
    pub listen: Arc<[String]>,
    /// What else an operator should be told.
    pub warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The records cannot be read.
    #[error("the records cannot be read: {0}")]
    Observer(#[from] ObserveError),
    /// The daemon is on its way out.
    #[error("the gateway is stopping")]
    Stopping,
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Too much is asked for at once.
    #[error("{0}: try again")]
    Busy(#[from] Busy),
}

impl Sources {
    /// `status`
    ///
    /// # Errors
    /// When the gateway is stopping.
    pub async fn status(&self) -> Result<wire::Status, ReportError> {
        let counts = self.tracker.ask(|view| {
            let table = view.table;
            let shared = view.overlaps.warnings(&table.policy().timeouts, boot_now());
            (
                table.active(),
                table.len() - table.active(),
                table.active_users(),
                table.licences_used(),
                shared,
            )
        });
        let (active, stale, users, used, shared) = counts.await.ok_or(ReportError::Stopping)?;
        let config = self.live.config();
        let mut warnings = (self.warnings)();
        warnings.extend(self.journal.problem());
        warnings.extend(self.live.warnings());
        warnings.extend(shared);
        let mut errors = BTreeMap::new();
        match self.observer.counters() {
            Ok(counters) => {
                let named = Counter::ALL.iter().zip(counters).filter(|(_, count)| *count > 0);
                errors.extend(named.map(|(counter, count)| (counter.name().to_owned(), count)));
            }
            Err(error) => warnings.push(format!("the observer's counters cannot be read: {error}")),
        }
        let room = self.observer.used().unwrap_or_default();
        let strangers = strangers_of(config.observer.max_records);
        if room.strangers >= u64::from(strangers) {
            warnings.push(format!(
                "{strangers} clients without a session have a record, which is all that there may be: others are watched \
                 without one, and are not among the hosts; users are not concerned"
            ));
        }
        warnings.extend(self.observer.warnings());
        if config.timeouts.judges_devices() {
            warnings.extend(self.observer.devices_problem());
        }
        let (mode, cgroup, pinned, because) = match self.observer.kind() {
            Kind::Ebpf { cgroup, pinning } => {
                let pinned = match pinning {
                    Pinning::Kept { directory, adopted, .. } => {
                        Some(wire::Pinned { directory: directory.display().to_string(), adopted })
                    }
                    Pinning::Lost { .. } => None,
                };
                ("ebpf", Some(cgroup.display().to_string()), pinned, None)
            }
            Kind::Proxy { because } => ("proxy", None, None, Some(because)),
        };
        let records = usize::try_from(room.held + room.strangers).unwrap_or(usize::MAX);
        Ok(wire::Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            account: Account::ours(),
            started: self.started,
            config: self.live.path().map(|path| path.display().to_string()),
            listen: self.listen.to_vec(),
            observer: wire::ObserverStatus {
                mode: mode.into(),
                cgroup,
                pinned,
                because,
                blind: self.observer.blindness().map(|blindness| blindness.why),
                records,
                errors,
            },
            sessions: wire::SessionCounts { active, stale },
            users,
            licences: wire::Licences {
                used,
                max: (config.licences.max_users > 0).then_some(config.licences.max_users),
            },
            connections: self.connections.len(),
            store: wire::StoreStatus {
                path: self.store.path().display().to_string(),
                bytes: self.store.size(),
                waiting: self.journal.waiting(),
                problem: self.journal.problem(),
            },
            replay_cache: wire::ReplayCache {
                file: negotiate::replay_file().map(|file| file.display().to_string()),
                problem: self.verifier.tickets().replay_problem().map(|problem| problem.finding),
            },
            timeouts: in_short(&config.timeouts),
            warnings,
        })
    }

    /// `sessions`, the newest first.
    ///
    /// # Errors
    /// When the gateway is stopping or a record cannot be read.
    pub async fn sessions(&self) -> Result<Vec<wire::Session>, ReportError> {
        let (sessions, policy) = self.snapshot(None).await?;
        self.describe_all(sessions, &policy)
    }

    /// The newest first.
    pub(super) fn describe_all(
        &self,
        mut sessions: Vec<Session>,
        policy: &Policy,
    ) -> Result<Vec<wire::Session>, ReportError> {
        sessions.sort_by_key(|session| std::cmp::Reverse(session.id));
        let anchor = Anchor::now();
        sessions.iter().map(|session| self.describe(session, policy, &anchor)).collect()
    }

    /// `session CLIENT`; `None` if nobody is logged in there.
    ///
    /// # Errors
    /// As `sessions`.
    pub async fn session(&self, client: ClientAddr) -> Result<Option<wire::SessionDetail>, ReportError> {
        let (sessions, policy) = self.snapshot(Some(client)).await?;
        let sessions = self.describe_all(sessions, &policy)?;
        let Some(session) = sessions.first().cloned() else { return Ok(None) };
        let is_shared = policy.timeouts.is_shared(client);
        let anchor = Anchor::now();
        let name = shown(client).to_string();
        let mut connections: Vec<wire::Connection> = self
            .connections
            .of(client)
            .into_iter()
            .map(|connection| wire::Connection {
                port: connection.peer.port(),
                since: anchor.wall(connection.since),
                session: connection.session.map(|id| id.to_string()),
                carries: connection.carries.to_string(),
                bytes_received: connection.rx,
                bytes_sent: connection.tx,
            })
            .collect();
        connections.sort_by_key(|connection| connection.since);
        Ok(Some(wire::SessionDetail {
            session,
            sessions: if is_shared { sessions } else { Vec::new() },
            connections,
            history: self.audit.past(|event| event.client.as_deref() == Some(name.as_str())),
        }))
    }

    /// `users`, by name.
    ///
    /// # Errors
    /// As `sessions`.
    pub async fn users(&self) -> Result<Vec<wire::User>, ReportError> {
        let (sessions, policy) = self.snapshot(None).await?;
        let mut by_user: HashMap<Arc<Identity>, Vec<Session>> = HashMap::new();
        for session in sessions {
            by_user.entry(Arc::clone(&session.identity)).or_default().push(session);
        }
        let anchor = Anchor::now();
        let mut users = Vec::with_capacity(by_user.len());
        for mut sessions in by_user.into_values() {
            sessions.sort_by_key(|session| session.created);
            let Some(first) = sessions.first() else { continue };
            let mut user = wire::User {
                user: first.identity.user().into(),
                domain: first.identity.domain().into(),
                realm: first.identity.hidden_realm().map(Into::into),
                clients: Vec::new(),
                stale_clients: Vec::new(),
                licences: 0,
                since: anchor.wall(first.created),
                open_connections: 0,
                bytes_received: 0,
                bytes_sent: 0,
            };
            let (mut active, mut stale) = (HashSet::new(), HashSet::new());
            for session in &sessions {
                let (record, _) = self.records(session)?;
                user.open_connections += record.connections();
                user.bytes_received += record.rx;
                user.bytes_sent += record.tx;
                let (clients, known) = match session.state {
                    State::Active => (&mut user.clients, &mut active),
                    State::Stale { .. } => (&mut user.stale_clients, &mut stale),
                };
                // On a shared host a user may have proved themselves on many connections.
                if known.insert(session.client) {
                    clients.push(shown(session.client).to_string());
                }
            }
            let devices = u32::try_from(user.clients.len()).unwrap_or(u32::MAX);
            user.licences = devices.div_ceil(policy.devices_per_user.max(1));
            users.push(user);
        }
        users.sort_by(|a, b| (&a.user, &a.domain, &a.realm).cmp(&(&b.user, &b.domain, &b.realm)));
        Ok(users)
    }

    /// `hosts`: every address that the observer knows, the busiest first. Takes half a second, for the rates.
    ///
    /// # Errors
    /// As `sessions`.
    pub async fn hosts(&self) -> Result<Vec<wire::Host>, ReportError> {
        let before: HashMap<ClientAddr, Record> = self.observer.records()?.into_iter().collect();
        let from = boot_now();
        tokio::time::sleep(RATE_SPAN).await;
        let (sessions, _) = self.snapshot(None).await?;
        let mut by_client: HashMap<ClientAddr, Vec<Session>> = HashMap::new();
        for session in sessions {
            by_client.entry(session.client).or_default().push(session);
        }
        let after = self.observer.records()?;
        let anchor = Anchor::now();
        let now = boot_now();
        let span = now.since(from).as_secs_f64().max(1e-3);
        let mut hosts: Vec<wire::Host> = after
            .into_iter()
            .map(|(client, record)| {
                let earlier = before.get(&client).copied().unwrap_or(record);
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
                let sessions = by_client.get(&client).map_or(&[][..], Vec::as_slice);
                let users: BTreeSet<&str> = sessions.iter().map(|session| session.identity.key()).collect();
                let only = sessions.first().filter(|_| users.len() == 1);
                let is_active = |session: &Session| session.state == State::Active;
                let first = sessions.iter().find(|session| is_active(session)).or(sessions.first());
                let moved = record.rx + record.tx > 0;
                let seen = |at: u64| BootTime::from_stamp(at).map(|at| anchor.wall(at));
                wire::Host {
                    client: shown(client).to_string(),
                    user: only.map(|session| session.identity.user().into()),
                    domain: only.map(|session| session.identity.domain().into()),
                    users: if only.is_some() { Vec::new() } else { names(sessions) },
                    state: first.map(|session| state(session).into()),
                    open_connections: record.connections(),
                    receive_rate: rate(record.rx, earlier.rx),
                    send_rate: rate(record.tx, earlier.tx),
                    bytes_received: record.rx,
                    bytes_sent: record.tx,
                    last_traffic: seen(record.traffic_at).filter(|_| moved),
                    inactivity: moved
                        .then(|| now.since(BootTime::from_nanos(record.traffic_at)).as_secs_f64()),
                    opened: seen(record.opened_at),
                    closed: seen(record.closed_by(now.as_nanos())).filter(|_| record.opened_at > 0),
                }
            })
            .collect();
        hosts.sort_by(|a, b| {
            let busy = |host: &wire::Host| host.receive_rate + host.send_rate;
            busy(b).total_cmp(&busy(a)).then_with(|| a.client.cmp(&b.client))
        });
        Ok(hosts)
    }

    pub(super) async fn snapshot(
        &self,
        client: Option<ClientAddr>,
    ) -> Result<(Vec<Session>, Policy), ReportError> {
        let ask = move |view: &crate::tracker::View<'_>| {
            let sessions = match client {
                Some(client) => view.table.of(client).cloned().collect(),
                None => view.table.sessions().cloned().collect(),
            };
            (sessions, view.table.policy().clone())
        };
        self.tracker.ask(ask).await.ok_or(ReportError::Stopping)
    }

    /// What is recorded of a session's client, or of its connection on a shared host; and how far it may be relied upon.
    fn records(&self, session: &Session) -> Result<(Record, Record), ReportError> {
        let Some(connection) = session.connection else {
            let record = self.observer.record(session.client)?.unwrap_or_default();
            return Ok((record, self.observer.evidence(session.client)?.unwrap_or_default()));
        };
        // One that is closed ends its session in this moment.
        let record = self.connections.record(session.client, connection).unwrap_or_default();
        Ok((record, record))
    }

    fn describe(
        &self,
        session: &Session,
        policy: &Policy,
        anchor: &Anchor,
    ) -> Result<wire::Session, ReportError> {
        let (record, evidence) = self.records(session)?;
        let peer = session.connection.and_then(|one| self.connections.peer(session.client, one));
        let now = boot_now();
        let (expires, reason) = match judge(session, &evidence, policy, now) {
            Verdict::Active { deadline, .. } => (deadline, None),
            // The lifetime goes on counting for a stale session.
            Verdict::Stale { reason, .. } => {
                (policy.timeouts.lifetime().map(|lifetime| session.created.after(lifetime)), Some(reason))
            }
            Verdict::Ended { at } => (Some(at), None),
        };
        let seen = |at: u64| BootTime::from_stamp(at).map(|at| anchor.wall(at));
        Ok(wire::Session {
            id: session.id.to_string(),
            client: shown(session.client).to_string(),
            port: peer.map(|peer| peer.port()),
            user: session.identity.user().into(),
            domain: session.identity.domain().into(),
            realm: session.identity.hidden_realm().map(Into::into),
            method: session.method.to_string(),
            state: if reason.is_some() { "stale" } else { state(session) }.into(),
            reason: reason.map(|reason| reason.to_string()),
            mode: policy.timeouts.mode.to_string(),
            created: anchor.wall(session.created),
            authenticated: anchor.wall(session.authenticated),
            open_connections: record.connections(),
            opened: seen(record.opened_at).filter(|_| record.is_open(now.as_nanos())),
            closed: seen(record.closed_by(now.as_nanos())).filter(|_| record.opened_at > 0),
            last_traffic: seen(record.traffic_at),
            expires: expires.map(|at| anchor.wall(at)),
            device: session.device.map(|device| device.to_string()),
            bytes_received: record.rx,
            bytes_sent: record.tx,
        })
    }
}

/// Everybody who has a session there, as shown.
fn names(sessions: &[Session]) -> Vec<String> {
    let names: BTreeSet<String> = sessions.iter().map(|session| session.identity.to_string()).collect();
    names.into_iter().collect()
}

fn state(session: &Session) -> &'static str {
    match session.state {
        State::Active => "active",
        State::Stale { .. } => "stale",
    }
}

/// The timeouts in one line.
fn in_short(timeouts: &Timeouts) -> String {
    let lifetime =
        timeouts.lifetime().map_or_else(|| "no lifetime".into(), |l| format!("lifetime {}", show_span(l)));
    format!("{} in mode {}, {lifetime}", show_span(timeouts.timeout), timeouts.mode)
}

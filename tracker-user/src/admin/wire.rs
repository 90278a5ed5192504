//! What the API says, as types that both sides share. Times are RFC 3339.

mod application_passwords;
mod bans;
mod certificates;
mod decisions;
mod local_users;
mod past;
#[cfg(test)]
mod past_tests;
mod second_factor;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::application_passwords::{
    ApplicationPassword, RevokeApplicationPasswords, RevokedApplicationPasswords,
};
pub use self::bans::{Ban, LiftBans, LiftedBans};
pub use self::certificates::{Certificate, CertificateProblem, Certificates};
pub use self::decisions::{Basic, Decision, Step, Ticket, Walk};
pub use self::local_users::{Disabled, LocalUser, LocalUsers, NewPassword, NewRole, NewUser, UserChanged};
pub use self::past::{Event, PastSession, Waited};
pub use self::second_factor::{Authenticator, FactorsReset, KeyRotated, Passkey, SecondFactor};

use crate::audit::Actor;
use crate::auth::kerberos::negotiate::Account;

/// `GET /v1/status`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The account that it runs as.
    pub account: Account,
    /// When it started.
    pub started: Timestamp,
    /// The configuration file, if there is one.
    pub config: Option<String>,
    /// Where it listens for clients.
    pub listen: Vec<String>,
    /// What watches the clients.
    pub observer: ObserverStatus,
    /// Sessions by state.
    pub sessions: SessionCounts,
    /// Users with an active session.
    pub users: usize,
    /// The gateway's own users.
    #[serde(default)]
    pub local_users: LocalUsers,
    /// Passkeys that users have, by the host that they were made for.
    #[serde(default)]
    pub passkeys: BTreeMap<String, usize>,
    /// Licences.
    pub licences: Licences,
    /// Connections that clients hold to the proxy now.
    pub connections: usize,
    /// Bans from sending passwords that stand.
    #[serde(default)]
    pub bans: usize,
    /// What survives.
    pub store: StoreStatus,
    /// The record of used tokens.
    pub replay_cache: ReplayCache,
    /// The certificates that clients are shown, the default first; none where nothing listens under TLS.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The timeouts in force, in short.
    pub timeouts: String,
    /// What an operator should look at; empty when all is well.
    pub warnings: Vec<String>,
}

/// The record of used tokens, MIT's replay cache.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayCache {
    /// The file; `null` where the environment names something else.
    pub file: Option<String>,
    /// Why it cannot be used; `null` when all is well.
    pub problem: Option<String>,
}

/// The embedded database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreStatus {
    /// The file.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// What is decided, but not on disk yet.
    pub waiting: usize,
    /// What is wrong with it; `null` when all is well.
    pub problem: Option<String>,
}

/// The observer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObserverStatus {
    /// `ebpf`, or `proxy` for the proxy's own eyes.
    pub mode: String,
    /// The cgroup it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Where the kernel side is pinned; absent if it ends with the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pinned>,
    /// Why it is not `ebpf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Why its records cannot be relied upon; absent while they can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind: Option<String>,
    /// Records kept.
    pub records: usize,
    /// What went wrong, by name; only what is not 0.
    pub errors: std::collections::BTreeMap<String, u64>,
}

/// A kernel side that outlives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pinned {
    /// The directory.
    pub directory: String,
    /// Whether it goes on from an earlier run of the daemon.
    pub adopted: bool,
}

/// How many sessions.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SessionCounts {
    /// Served.
    pub active: usize,
    /// Stale: waiting for their user.
    pub stale: usize,
    /// Waiting for a second factor.
    #[serde(default)]
    pub waiting: usize,
}

/// Licences.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Licences {
    /// In use.
    pub used: u32,
    /// The limit; `null` when there is none.
    pub max: Option<u32>,
}

/// A session, in `GET /v1/sessions`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Its number, unique over gateways: `gggggggg-nnnnnnnnnnnnnnnn`, hexadecimal. Take it for a word.
    pub id: String,
    /// The client address.
    pub client: String,
    /// The client's port, where the session is of this connection alone (`timeouts.shared-hosts`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the user proved themselves.
    pub method: String,
    /// `active`, `stale`, or `waiting` for a second factor.
    pub state: String,
    /// Which timeout ran out, when stale.
    pub reason: Option<String>,
    /// The mode it is judged by.
    pub mode: String,
    /// When it began.
    pub created: Timestamp,
    /// When its user last proved themselves.
    pub authenticated: Timestamp,
    /// The client's open connections, with those that it has ended and that are not closed yet; 1 where the session is of one.
    pub open_connections: u32,
    /// Since when the client counts as open; `None` if it does not.
    pub opened: Option<Timestamp>,
    /// When it last came to count as closed.
    pub closed: Option<Timestamp>,
    /// When data last moved.
    pub last_traffic: Option<Timestamp>,
    /// When it goes stale or ends if nothing more happens; `null` while no deadline runs.
    pub expires: Option<Timestamp>,
    /// The hardware address behind the client address, where it is known.
    pub device: Option<String>,
    /// Payload bytes received from the client.
    pub bytes_received: u64,
    /// Payload bytes sent to the client.
    pub bytes_sent: u64,
}

/// `GET /v1/sessions/{client}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionDetail {
    /// The session; on a shared host the newest.
    #[serde(flatten)]
    pub session: Session,
    /// On a shared host the sessions of all its connections, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
    /// The client's connections to the proxy.
    pub connections: Vec<Connection>,
    /// The bans from sending passwords that concern the client or its users, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bans: Vec<Ban>,
    /// What happened on this address, oldest first, as far as it is kept in memory.
    pub history: Vec<Event>,
}

/// A connection of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connection {
    /// The client's port.
    pub port: u16,
    /// The balancer that it came through, `ADDRESS:PORT`; null if it came from the client itself.
    pub via: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// The session it was served on.
    pub session: Option<String>,
    /// What it carries.
    pub carries: String,
    /// Bytes received from the client.
    pub bytes_received: u64,
    /// Bytes sent to the client.
    pub bytes_sent: u64,
}

/// The judge's view of a client: `GET /v1/explain/{client}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The client address.
    pub client: String,
    /// What a request without credentials gets on a new connection: `allow`, `challenge` (407), `step-up` (403) where its
    /// user has to prove a second factor, or `deny` (403) where the conditions do not offer Kerberos to the request that was
    /// described.
    pub decision: String,
    /// Why, in a sentence.
    pub why: String,
    /// Whether it is one of `timeouts.shared-hosts`.
    pub shared: bool,
    /// On a shared host the sessions of its connections, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<Session>,
    /// The address's own session, if there is one.
    pub session: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Their domain.
    pub domain: Option<String>,
    /// What the judge says of it: `active`, `waiting`, `stale` or `ended`.
    pub state: Option<String>,
    /// The mode it is judged by.
    pub mode: String,
    /// When it goes stale or ends if nothing more happens; `null` while no deadline runs.
    pub expires: Option<Timestamp>,
    /// What would end it, or bring it back.
    pub ends: Vec<String>,
    /// Rule by rule, in the order in which they are asked; one of them decides.
    pub findings: Vec<Finding>,
    /// The way through the conditions of the request that was described; `null` if none was.
    pub walk: Option<Walk>,
    /// Where the client is asked for a password.
    #[serde(default)]
    pub basic: Basic,
    /// Somebody has logged out there just now, and nobody is logged in silently until then; `null`: they are.
    #[serde(default)]
    pub held_until: Option<Timestamp>,
    /// The bans from sending passwords that concern it or its users, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bans: Vec<Ban>,
    /// The last decisions about real requests, the newest first.
    pub recent: Vec<Decision>,
    /// What the kernel has recorded of the client; `null` if nothing, or if it cannot be read.
    pub record: Option<Facts>,
}

/// What a rule found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The rule: `shared-host`, `session`, `device`, `record`, `lifetime`, `state`, `gap`, `timeout` or `revalidate`.
    pub rule: String,
    /// In a sentence.
    pub finding: String,
    /// Since when that is so.
    pub since: Option<Timestamp>,
    /// Until when, or when it will be over.
    pub until: Option<Timestamp>,
    /// Whether this is what decides.
    pub decides: bool,
}

/// What the kernel has recorded of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Facts {
    /// Connections open now, with those that the client has ended and that are not closed yet.
    pub open_connections: u32,
    /// When the client last came to count as open.
    pub opened: Option<Timestamp>,
    /// When it last came to count as closed.
    pub closed: Option<Timestamp>,
    /// When data last moved.
    pub last_traffic: Option<Timestamp>,
    /// The last closed period of at least the timeout.
    pub closed_gap: Option<Gap>,
    /// The last silence of at least the timeout.
    pub traffic_gap: Option<Gap>,
    /// Payload bytes received from the client.
    pub bytes_received: u64,
    /// Payload bytes sent to the client.
    pub bytes_sent: u64,
}

/// A gap that is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub until: Timestamp,
}

/// A user with at least one session, in `GET /v1/users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The addresses of their active sessions, each once.
    pub clients: Vec<String>,
    /// The addresses of their stale sessions, each once.
    pub stale_clients: Vec<String>,
    /// Licences they take.
    pub licences: u32,
    /// Their first session's beginning.
    pub since: Timestamp,
    /// Open connections of all their clients; on shared hosts, those that they have proved themselves on.
    pub open_connections: u32,
    /// Payload bytes received on these.
    pub bytes_received: u64,
    /// Payload bytes sent on these.
    pub bytes_sent: u64,
}

/// A client address that the observer knows, in `GET /v1/hosts`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// The address.
    pub client: String,
    /// Who is logged in there; `null` also where several users are.
    pub user: Option<String>,
    /// Their domain.
    pub domain: Option<String>,
    /// Everybody who is logged in there, as shown, where that is more than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// The session's state; on a shared host `active` if one is.
    pub state: Option<String>,
    /// Open connections.
    pub open_connections: u32,
    /// Bytes per second received from the client, over the last half second.
    pub receive_rate: f64,
    /// Bytes per second sent to it.
    pub send_rate: f64,
    /// Payload bytes received from it in all.
    pub bytes_received: u64,
    /// Payload bytes sent to it in all.
    pub bytes_sent: u64,
    /// When data last moved.
    pub last_traffic: Option<Timestamp>,
    /// Seconds since then.
    pub inactivity: Option<f64>,
    /// When the first open connection was opened.
    pub opened: Option<Timestamp>,
    /// When the last connection closed.
    pub closed: Option<Timestamp>,
}

/// `POST /v1/logout`: exactly one of the three.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logout {
    /// This address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// This user, everywhere: bare, `user@realm`, `user@domain` or `domain\user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Everybody.
    #[serde(default)]
    pub all: bool,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LoggedOut {
    /// The sessions that ended.
    pub ended: Vec<EndedSession>,
    /// What an operator should know: the database took no note of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// A session that was ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndedSession {
    /// Its number.
    pub id: String,
    /// Its client.
    pub client: String,
    /// Its user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
}

/// Where a setting's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// The configuration file.
    File,
    /// `trackerctl set`.
    Set,
}

/// A setting, in `GET /v1/settings`, and the answer to `PUT /v1/settings/{key}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setting {
    /// The full key.
    pub key: String,
    /// The value in force, as `set` takes it.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
    /// The value that nobody has to state.
    pub default: String,
    /// What the configuration file says, whether it counts or not; `null` if nothing.
    pub file: Option<String>,
    /// Who set it by `set`; `null` if nobody, or if that is not known.
    pub set_by: Option<Actor>,
    /// When.
    pub set_at: Option<Timestamp>,
    /// Whether `set` changes it, or only the file and a restart.
    pub live: bool,
    /// What it means.
    pub help: String,
}

/// `PUT /v1/settings/{key}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewValue {
    /// The value, as in the file or as a bare number of minutes where a time is meant.
    pub value: String,
}

/// What reading everything again has changed: `POST /v1/reload`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reloaded {
    /// The keys whose values are others now.
    pub changed: Vec<String>,
}

/// Why a request was refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Problem {
    /// In a sentence, with the remedy.
    pub error: String,
}

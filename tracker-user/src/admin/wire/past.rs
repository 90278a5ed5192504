//! The audit trail and the history, as the API says them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::audit::{Actor, Named, TrailEntry};
use crate::links::shown;
use crate::store::{HistoryEntry, StalePeriod, StoredEvent};

/// A line of the audit trail, in `GET /v1/events`. What does not apply is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// What happened: `login`, `renewed`, `stale`, `ended`, `refused`, `banned`, `lifted`, `setting`, `user`,
    /// `admin-login`, `admin-logout`, `licences` or `replaced`.
    pub event: String,
    /// The client address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The user's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// The session's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How the user proved themselves, or tried to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The further factors that were proved with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<String>,
    /// Why: a session's reason, why somebody was refused, or what was done to a setting or a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In a refusal, why in a word; of a ban, what it stands on: `address`, `user` or `pair`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// So many further refusals like this one, within a minute, that have no line of their own; of a ban, so many bans before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The operator whose order it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// In a kick-out, the user who took the address over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How many seconds the session lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// How many of its connections were closed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_closed: Option<usize>,
    /// Payload bytes received from the client during the session; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<u64>,
    /// Payload bytes sent to the client during the session; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<u64>,
    /// The setting that was changed, and to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The setting's value before, or the user's role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The role that the user was given, or that somebody logged in to the web pages has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How many licences are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u32>,
    /// How many there are; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl From<&TrailEntry> for Event {
    fn from(TrailEntry { time, event }: &TrailEntry) -> Self {
        let user = event.user().map(Named::of);
        let factors = event.proved().map(|proved| proved.factors.iter().map(|factor| factor.to_string()));
        Self {
            time: *time,
            event: event.kind().as_str().into(),
            client: event.client().map(|client| shown(client).to_string()),
            realm: user.as_ref().and_then(|user| user.realm.as_deref()).map(Into::into),
            domain: user.as_ref().map(|user| user.domain.clone().into_owned()),
            user: user.map(|user| user.user.into_owned()),
            session: event.session_id().map(|session| session.to_string()),
            method: event.method().map(|method| method.as_str().into()),
            factors: factors.into_iter().flatten().collect(),
            reason: event.reason().map(Into::into),
            cause: event.cause().map(Into::into),
            count: event.count(),
            actor: event.actor().cloned(),
            by: event.by().map(Named::in_short),
            duration: event.duration().map(|duration| duration.as_secs_f64()),
            connections_closed: event.connections_closed(),
            rx: event.traffic().map(|traffic| traffic.rx),
            tx: event.traffic().map(|traffic| traffic.tx),
            setting: event.setting().map(ToString::to_string),
            before: event.before().map(Into::into),
            role: event.role().map(|role| role.as_str().into()),
            used: event.licences().map(|licences| licences.used),
            max: event.licences().map(|licences| licences.max),
        }
    }
}

impl From<StoredEvent> for Event {
    fn from(stored: StoredEvent) -> Self {
        let StoredEvent {
            time,
            event,
            client,
            user,
            domain,
            realm,
            session,
            method,
            factors,
            reason,
            cause,
            count,
            actor,
            by,
            duration,
            connections_closed,
            rx,
            tx,
            setting,
            before,
            role,
            used,
            max,
        } = stored;
        Self {
            time,
            event,
            client,
            user,
            domain,
            realm,
            session,
            method,
            factors,
            reason,
            cause,
            count,
            actor,
            by,
            duration,
            connections_closed,
            rx,
            tx,
            setting,
            before,
            role,
            used,
            max,
        }
    }
}

/// A user's time on an address, in `GET /v1/history`: one entry per session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PastSession {
    /// The session's number.
    pub session: String,
    /// The client address.
    pub client: String,
    /// The user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the user proved themselves first; empty where the login was not kept.
    pub method: String,
    /// The further factors that were proved with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<String>,
    /// When it began.
    pub from: Timestamp,
    /// When it ended; `null` while it runs.
    pub until: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
    /// In a kick-out, the user who took the address over.
    pub by: Option<String>,
    /// When nothing was served on it because its timeout had run out, the newest last.
    pub stale: Vec<Waited>,
    /// How often it went stale.
    pub stale_count: u32,
    /// Payload bytes received from the client during the session; absent while it runs, or where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<u64>,
    /// Payload bytes sent to the client during the session; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<u64>,
    /// `active`, `stale` or `ended`.
    pub state: String,
}

/// A time during which a session waited for its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waited {
    /// When the timeout ran out.
    pub from: Timestamp,
    /// When the user proved themselves again, or the session ended; `null` while it waits.
    pub until: Option<Timestamp>,
    /// Which timeout.
    pub reason: String,
}

impl From<HistoryEntry> for PastSession {
    fn from(entry: HistoryEntry) -> Self {
        let HistoryEntry {
            session,
            client,
            user,
            domain,
            realm,
            method,
            factors,
            from,
            until,
            reason,
            by,
            stale,
            stale_count,
            rx,
            tx,
        } = entry;
        let waits = stale.last().is_some_and(|period| period.until.is_none());
        let state = match (until, waits) {
            (Some(_), _) => "ended",
            (None, true) => "stale",
            (None, false) => "active",
        };
        let waited = |StalePeriod { from, until, reason }| Waited { from, until, reason: reason.to_string() };
        Self {
            session: session.to_string(),
            client,
            user,
            domain,
            realm,
            method: method.map_or_else(String::new, |method| method.to_string()),
            factors: factors.iter().map(ToString::to_string).collect(),
            from,
            until,
            reason: reason.map(|reason| reason.to_string()),
            by,
            stale: stale.into_iter().map(waited).collect(),
            stale_count,
            rx,
            tx,
            state: state.into(),
        }
    }
}

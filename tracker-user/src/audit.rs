//! The audit trail: every login, refusal, timeout, kick-out, logout and change of a setting, in memory for the
//! operator, to followers as it happens, and in the log.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::{IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::info;

/// How many events are kept in memory.
const KEPT: usize = 10_000;
/// How far a follower may fall behind before it loses events; it is told how many.
const FOLLOWER_BACKLOG: usize = 1_024;

/// What kind of event it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A session ended; the reason says why.
    Ended,
    /// A session began.
    Login,
    /// Credentials were offered and refused.
    Refused,
    /// A stale session goes on: its user proved themselves again.
    Renewed,
    /// The database found at start is not the one that this gateway last wrote: nobody in it is logged in. The reason says
    /// what speaks against it.
    Replaced,
    /// A setting was changed.
    Setting,
    /// A session's timeout ran out.
    Stale,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Login => "login",
            Self::Refused => "refused",
            Self::Renewed => "renewed",
            Self::Replaced => "replaced",
            Self::Setting => "setting",
            Self::Stale => "stale",
        }
    }
}

/// One line of the audit trail, as the API and the log show it. What does not apply is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When it happened.
    pub time: Timestamp,
    /// What happened.
    pub event: Kind,
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
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// How the user proved themselves, or tried to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why: a session's reason, or why credentials were refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In a kick-out, the user who took the address over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// How many seconds the session lasted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    /// How many of its connections were closed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_closed: Option<usize>,
    /// The setting that was changed, and to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
}

impl AuditEvent {
    /// An event with nothing but its time and kind.
    #[must_use]
    pub const fn new(time: Timestamp, event: Kind) -> Self {
        Self {
            time,
            event,
            client: None,
            user: None,
            domain: None,
            realm: None,
            session: None,
            method: None,
            reason: None,
            by: None,
            duration: None,
            connections_closed: None,
            setting: None,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Audit {
    kept: Mutex<VecDeque<AuditEvent>>,
    followers: broadcast::Sender<AuditEvent>,
    counted: IntCounterVec,
}

impl Audit {
    /// An empty trail that counts its events in `registry`.
    ///
    /// # Errors
    /// When the metric is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new("tracker_audit_events_total", "Events of the audit trail, by kind and reason");
        let counted = IntCounterVec::new(opts, &["event", "reason"])?;
        registry.register(Box::new(counted.clone()))?;
        // Grown by doubling, it would take two thirds more.
        let kept = Mutex::new(VecDeque::with_capacity(KEPT));
        Ok(Self { kept, followers: broadcast::channel(FOLLOWER_BACKLOG).0, counted })
    }

    /// Adds an event. `reason_label` is the reason as a metric may show it: from a fixed set of words, or empty.
    pub fn record(&self, event: AuditEvent, reason_label: &str) {
        self.counted.with_label_values(&[event.event.as_str(), reason_label]).inc();
        info!(
            target: "audit",
            event = event.event.as_str(),
            client = event.client,
            user = event.user,
            domain = event.domain,
            realm = event.realm,
            session = event.session,
            method = event.method,
            reason = event.reason,
            by = event.by,
            duration = event.duration,
            connections_closed = event.connections_closed,
            setting = event.setting,
        );
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        // Inside the lock, so that whoever reads the past and then follows misses nothing and sees nothing twice.
        if self.followers.receiver_count() > 0 {
            // The last of them may have gone meanwhile.
            let _ = self.followers.send(event.clone());
        }
        kept.push_back(event);
    }

    /// The events kept that `wanted` accepts, oldest first.
    pub fn past(&self, wanted: impl Fn(&AuditEvent) -> bool) -> Vec<AuditEvent> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().filter(|event| wanted(event)).cloned().collect()
    }

    /// The events kept, and all that follow them.
    #[must_use]
    pub fn follow(&self) -> (Vec<AuditEvent>, broadcast::Receiver<AuditEvent>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().cloned().collect(), self.followers.subscribe())
    }
}

//! The audit trail: every login, refusal, timeout, kick-out, logout and change of a setting, in memory for the
//! operator, to followers as it happens, and in the log.

mod actor;
mod refusals;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use tracing::info;

pub use self::actor::{Actor, Via};
use self::refusals::Refusals;
pub use self::refusals::{Ground, Refusal};
use crate::clock::{BootTime, boot_now};
use crate::outside;
use crate::store::{Entry, Journal};

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
    /// Somebody was refused: their credentials, their login, or their request.
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
    /// Why: a session's reason, or why somebody was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In a refusal, why in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// So many further refusals like this one, within a minute, that have no line of their own.
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
    /// The setting that was changed, and to what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// The setting's value before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
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
            cause: None,
            count: None,
            actor: None,
            by: None,
            duration: None,
            connections_closed: None,
            setting: None,
            before: None,
        }
    }

    /// What a peer has a part in is cut to what is shown, and kept in no more memory than it then takes.
    fn make_fit(&mut self) {
        for (text, most) in [
            (&mut self.user, 2 * outside::NAME),
            (&mut self.domain, outside::NAME),
            (&mut self.realm, outside::NAME),
            (&mut self.reason, outside::SENTENCE),
            (&mut self.by, 2 * outside::NAME),
        ] {
            let Some(text) = text else { continue };
            if let Cow::Owned(shorter) = outside::shown(text, most) {
                *text = shorter;
            }
            text.shrink_to_fit();
        }
    }
}

/// How many refusals the store takes at once, and how often one more: what strangers do may not fill a disk. In the 90 days
/// that events are kept it is less than 780,000.
const REFUSALS_AT_ONCE: u32 = 1_000;
const REFUSAL_EVERY: Duration = Duration::from_secs(10);

/// How much of something may still be done, and how it comes back.
#[derive(Debug)]
struct Allowance {
    left: u32,
    /// Since when nothing has come back.
    since: BootTime,
}

impl Allowance {
    const fn full(now: BootTime) -> Self {
        Self { left: REFUSALS_AT_ONCE, since: now }
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: BootTime) -> bool {
        let back = now.since(self.since).as_secs() / REFUSAL_EVERY.as_secs();
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(back).min(REFUSALS_AT_ONCE);
            self.since = self.since.after(REFUSAL_EVERY.saturating_mul(back)).min(now);
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

/// See the module.
#[derive(Debug)]
pub struct Audit {
    kept: Mutex<VecDeque<AuditEvent>>,
    refusals: Mutex<Refusals>,
    followers: broadcast::Sender<AuditEvent>,
    counted: IntCounterVec,
    unkept: IntCounter,
    journal: OnceLock<Arc<Journal>>,
    allowance: Mutex<Allowance>,
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
        let unkept = IntCounter::new(
            "tracker_audit_events_unkept_total",
            "Refusals that memory has but not the store, which takes only so many an hour",
        )?;
        registry.register(Box::new(unkept.clone()))?;
        // Grown by doubling, it would take two thirds more.
        let kept = Mutex::new(VecDeque::with_capacity(KEPT));
        Ok(Self {
            kept,
            refusals: Mutex::default(),
            followers: broadcast::channel(FOLLOWER_BACKLOG).0,
            counted,
            unkept,
            journal: OnceLock::new(),
            allowance: Mutex::new(Allowance::full(boot_now())),
        })
    }

    /// Has events kept by `journal`, too, that nobody else keeps.
    pub fn keep_in(&self, journal: Arc<Journal>) {
        // Set once, at start.
        let _ = self.journal.set(journal);
    }

    /// Keeps an event on disk. What is about a session is there already: the tracker has put it there before it was told.
    fn keep(&self, event: &AuditEvent) {
        let Some(journal) = self.journal.get().filter(|_| event.session.is_none()) else { return };
        let may = event.event != Kind::Refused || {
            let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            allowance.take(boot_now())
        };
        if may {
            journal.submit(vec![Entry::Event(Box::new(event.clone()))], None);
        } else {
            self.unkept.inc();
        }
    }

    /// Adds an event. `reason_label` is the reason as a metric may show it: from a fixed set of words, or empty.
    pub fn record(&self, mut event: AuditEvent, reason_label: &str) {
        event.make_fit();
        self.counted.with_label_values(&[event.event.as_str(), reason_label]).inc();
        self.write(event);
    }

    /// Somebody was refused: it is counted, and told in a line of its own or, where there are too many, as a number.
    pub fn refused(&self, refusal: &Refusal<'_>) {
        self.counted.with_label_values(&[Kind::Refused.as_str(), refusal.label()]).inc();
        let lines = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).note(refusal, boot_now());
        lines.into_iter().for_each(|line| self.write(line));
    }

    /// Tells how many refusals had no line of their own, in the minute that is over, or until now if this is the end.
    pub fn settle_refusals(&self, is_the_end: bool) {
        let lines =
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).settle(boot_now(), is_the_end);
        lines.into_iter().for_each(|line| self.write(line));
    }

    fn write(&self, event: AuditEvent) {
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
            cause = event.cause,
            count = event.count,
            actor = event.actor.as_ref().map(ToString::to_string),
            by = event.by,
            duration = event.duration,
            connections_closed = event.connections_closed,
            setting = event.setting,
            before = event.before,
        );
        self.keep(&event);
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

#[cfg(test)]
mod tests {
    use crate::clock::wall_now;

    use super::*;

    #[test]
    fn refusals_come_back_slowly_and_never_more_than_at_first() {
        let start = boot_now();
        let mut allowance = Allowance::full(start);
        let taken = |allowance: &mut Allowance, now| (0..5_000).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, start), 1_000);
        assert_eq!(taken(&mut allowance, start.after(REFUSAL_EVERY / 2)), 0);
        assert_eq!(taken(&mut allowance, start.after(REFUSAL_EVERY * 3)), 3);
        assert_eq!(taken(&mut allowance, start.after(REFUSAL_EVERY * 7 / 2)), 0);
        assert_eq!(taken(&mut allowance, start.after(REFUSAL_EVERY * 4)), 1, "halves are not lost");
        assert_eq!(taken(&mut allowance, start.after(REFUSAL_EVERY * 9_999)), 1_000);
    }

    #[test]
    fn what_strangers_write_is_bounded_in_memory() {
        let audit = Audit::new(&Registry::new()).unwrap();
        let huge = "\u{202e}x".repeat(16 * 1024);
        let event = AuditEvent { reason: Some(huge), ..AuditEvent::new(wall_now(), Kind::Refused) };
        audit.record(event, "credentials");
        let kept = &audit.past(|_| true)[0];
        let reason = kept.reason.as_ref().unwrap();
        assert!(reason.capacity() <= outside::SENTENCE + 8, "{}", reason.capacity());
        assert!(reason.starts_with("\\u{202e}x") && reason.ends_with('…'), "{reason}");
        // All together: the longest that any of them can be.
        const { assert!(KEPT * (size_of::<AuditEvent>() + 8 * outside::NAME + outside::SENTENCE) <= 48 << 20) };
    }
}

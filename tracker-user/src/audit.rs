//! The audit trail: every login, refusal, timeout, kick-out, logout and change of a setting or a local user, in memory for the
//! operator, to followers as it happens, and in the log.

mod actor;
#[cfg(test)]
pub(crate) mod arbitrary;
mod event;
mod mail;
mod refusals;
mod second_factor;
mod tally;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::broadcast;
use tracing::info;

pub use self::actor::{Actor, Via};
pub use self::event::{
    AdminEvent, BanEvent, Event, Kind, LicencesEvent, LocalUserEvent, Named, RefusedEvent, SessionEvent,
    SettingEvent, TrailEntry,
};
pub use self::mail::{MailEvent, MailTrouble};
use self::refusals::Refusals;
pub use self::refusals::{Ground, Refusal};
pub use self::second_factor::{FactorChange, SecondFactorEvent};
pub use self::tally::Tally;
use crate::clock::boot_now;
use crate::links::shown;
use crate::types::{Method, Role};

/// How many events are kept in memory.
const KEPT: usize = 10_000;
/// How many of them are read at once.
const PORTION: usize = 256;
/// How far a follower may fall behind before it loses events; it is told how many.
const FOLLOWER_BACKLOG: usize = 1_024;

/// Who keeps what nobody else keeps.
type Keeper = Box<dyn Fn(Arc<TrailEntry>) + Send + Sync>;

/// The trail. Entries are shared: memory, followers and the journal hold the same one.
pub struct Audit {
    kept: Mutex<Memory>,
    refusals: Mutex<Refusals>,
    followers: broadcast::Sender<Arc<TrailEntry>>,
    counted: IntCounterVec,
    unkept: IntCounter,
    keeper: OnceLock<Keeper>,
}

/// What memory has of the trail.
struct Memory {
    entries: VecDeque<Arc<TrailEntry>>,
    /// How many were there before the oldest of them.
    forgotten: u64,
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
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
        let kept = Mutex::new(Memory { entries: VecDeque::with_capacity(KEPT), forgotten: 0 });
        Ok(Self {
            kept,
            refusals: Mutex::new(Refusals::new(boot_now())),
            followers: broadcast::channel(FOLLOWER_BACKLOG).0,
            counted,
            unkept,
            keeper: OnceLock::new(),
        })
    }

    /// Has `keeper` keep, too, what is about no session: what is about one, the tracker has put on disk before it is told.
    pub fn keep_in(&self, keeper: Keeper) {
        // Set once, at start.
        let _ = self.keeper.set(keeper);
    }

    /// Adds an event, and has it kept unless it is a session's. Second factors that were not accepted have a line of their own only
    /// until there are too many, as refusals have.
    pub fn record(&self, entry: Arc<TrailEntry>) {
        if let Event::SecondFactor(of) = &entry.event
            && of.what.is_refusal()
        {
            self.counted.with_label_values(&[entry.event.kind().as_str(), of.what.as_str()]).inc();
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let lines = refusals.note_factor(&entry, of, boot_now());
            drop(refusals);
            self.write_refusals(lines);
            return;
        }
        if entry.event.session().is_none()
            && let Some(keeper) = self.keeper.get()
        {
            keeper(Arc::clone(&entry));
        }
        self.record_kept(entry);
    }

    /// Adds an event that is on disk already.
    pub fn record_kept(&self, entry: Arc<TrailEntry>) {
        let event = &entry.event;
        self.counted.with_label_values(&[event.kind().as_str(), event.reason_label()]).inc();
        self.write(entry);
    }

    /// Somebody was refused: it is counted, and told in a line of its own or, where there are too many, as a number.
    pub fn refused(&self, refusal: &Refusal<'_>) {
        self.counted.with_label_values(&[Kind::Refused.as_str(), refusal.label()]).inc();
        let lines = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).note(refusal, boot_now());
        self.write_refusals(lines);
    }

    /// Tells how many refusals had no line of their own, in the minute that is over, or until now if this is the end.
    pub fn settle_refusals(&self, is_the_end: bool) {
        let lines =
            self.refusals.lock().unwrap_or_else(PoisonError::into_inner).settle(boot_now(), is_the_end);
        self.write_refusals(lines);
    }

    fn write_refusals(&self, lines: Vec<refusals::Line>) {
        for refusals::Line { entry, goes_to_disk } in lines {
            if !goes_to_disk {
                self.unkept.inc();
            } else if let Some(keeper) = self.keeper.get() {
                keeper(Arc::clone(&entry));
            }
            self.write(entry);
        }
    }

    fn write(&self, entry: Arc<TrailEntry>) {
        log(&entry.event);
        let mut kept = self.memory();
        if kept.entries.len() == KEPT {
            kept.entries.pop_front();
            kept.forgotten += 1;
        }
        // Inside the lock, so that whoever reads the past and then follows misses nothing and sees nothing twice.
        if self.followers.receiver_count() > 0 {
            // The last of them may have gone meanwhile.
            let _ = self.followers.send(Arc::clone(&entry));
        }
        kept.entries.push_back(entry);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The events kept that `wanted` accepts, oldest first.
    pub fn past(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Arc<TrailEntry>> {
        let (mut past, ()) = self.read(|| ());
        past.retain(|entry| wanted(&entry.event));
        past
    }

    /// The newest events, the newest first; at most `most` of them.
    #[must_use]
    pub fn newest(&self, most: usize) -> Vec<Arc<TrailEntry>> {
        self.memory().entries.iter().rev().take(most.min(PORTION)).cloned().collect()
    }

    /// The events kept, and all that follow them.
    #[must_use]
    pub fn follow(&self) -> (Vec<Arc<TrailEntry>>, broadcast::Receiver<Arc<TrailEntry>>) {
        self.read(|| self.followers.subscribe())
    }

    /// The events kept, and what `at_end` makes before anything follows them. They are read in portions: whoever records
    /// waits for no more than one.
    fn read<T>(&self, at_end: impl FnOnce() -> T) -> (Vec<Arc<TrailEntry>>, T) {
        let (mut read, mut next) = (Vec::with_capacity(KEPT), 0);
        loop {
            let kept = self.memory();
            // What is forgotten meanwhile was older than what has been read, unless whoever reads was very slow.
            let behind = usize::try_from(kept.forgotten.max(next) - kept.forgotten).unwrap_or(usize::MAX);
            read.extend(kept.entries.iter().skip(behind).take(PORTION).cloned());
            if behind.saturating_add(PORTION) >= kept.entries.len() {
                return (read, at_end());
            }
            next = kept.forgotten.max(next) + PORTION as u64;
        }
    }
}

/// The event's line in the log.
fn log(event: &Event) {
    let user = event.user().map(Named::of);
    let proved = event.proved().filter(|proved| !proved.factors.is_empty());
    info!(
        target: "audit",
        event = event.kind().as_str(),
        client = event.client().map(|client| shown(client).to_string()),
        user = user.as_ref().map(|user| &*user.user),
        domain = user.as_ref().map(|user| &*user.domain),
        realm = user.as_ref().and_then(|user| user.realm.as_deref()),
        session = event.session_id().map(|session| session.to_string()),
        method = event.method().map(Method::as_str),
        factors = proved.map(|proved| proved.factors.to_string()),
        reason = event.reason().as_deref(),
        cause = event.cause(),
        count = event.count(),
        actor = event.actor().map(ToString::to_string),
        by = event.by().map(Named::in_short),
        duration = event.duration().map(|duration| duration.as_secs_f64()),
        connections_closed = event.connections_closed(),
        rx = event.traffic().map(|traffic| traffic.rx),
        tx = event.traffic().map(|traffic| traffic.tx),
        setting = event.setting().map(ToString::to_string),
        before = event.before(),
        role = event.role().map(Role::as_str),
        used = event.licences().map(|licences| licences.used),
        max = event.licences().map(|licences| licences.max),
    );
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::outside;

    #[test]
    fn what_strangers_write_is_bounded_in_memory() {
        let audit = Audit::new(&Registry::new()).unwrap();
        let huge = "\u{202e}x".repeat(16 * 1024);
        let client = std::net::IpAddr::from(Ipv4Addr::LOCALHOST).into();
        audit.refused(&Refusal::of_request(client, Ground::Port, None, &huge));
        let kept = &audit.past(|_| true)[0];
        let why = &kept.event.refused().unwrap().why;
        assert!(why.len() <= outside::SENTENCE + 8, "{}", why.len());
        assert!(why.starts_with("\\u{202e}x") && why.ends_with('…'), "{why}");
        // All together: the longest that any of them can be. An identity has a principal (of 512 bytes at most) twice, and
        // a domain; a kick-out names two.
        const { assert!(KEPT * (size_of::<TrailEntry>() + 2 * 6 * outside::NAME + outside::SENTENCE) <= 48 << 20) };
    }

    fn setting(number: usize) -> Arc<TrailEntry> {
        TrailEntry::now(Event::Setting(SettingEvent {
            key: "a.b",
            before: String::new(),
            after: number.to_string(),
            how: "set",
            actor: Actor::unknown(Via::Signal),
        }))
    }

    fn numbers(entries: &[Arc<TrailEntry>]) -> Vec<usize> {
        entries.iter().map(|entry| entry.event.setting().unwrap().after.parse().unwrap()).collect()
    }

    /// The event loop records: it must not wait until somebody has looked through ten thousand events.
    #[test]
    fn whoever_looks_through_the_past_holds_nobody_up() {
        let audit = Audit::new(&Registry::new()).unwrap();
        (0..KEPT + 700).for_each(|number| audit.record(setting(number)));
        let past = audit.past(|_| audit.kept.try_lock().is_ok());
        assert_eq!(numbers(&past), (700..KEPT + 700).collect::<Vec<_>>());
    }

    #[test]
    fn who_follows_misses_nothing_and_sees_nothing_twice() {
        let audit = Audit::new(&Registry::new()).unwrap();
        (0..KEPT).for_each(|number| audit.record(setting(number)));
        std::thread::scope(|scope| {
            // No more than a follower may fall behind.
            scope.spawn(|| (KEPT..KEPT + FOLLOWER_BACKLOG).for_each(|number| audit.record(setting(number))));
            for _ in 0..20 {
                let (mut seen, mut followed) = audit.follow();
                while let Ok(entry) = followed.try_recv() {
                    seen.push(entry);
                }
                let seen = numbers(&seen);
                let first = seen[0];
                assert_eq!(seen, (first..first + seen.len()).collect::<Vec<_>>());
            }
        });
    }

    #[test]
    fn whoever_keeps_the_rest_is_given_what_is_about_no_session() {
        let audit = Audit::new(&Registry::new()).unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keeper = Arc::clone(&kept);
        audit.keep_in(Box::new(move |entry| keeper.lock().unwrap().push(entry)));
        let setting = SettingEvent {
            key: "a.b",
            before: "1".into(),
            after: "2".into(),
            how: "set",
            actor: Actor::unknown(Via::Signal),
        };
        audit.record(TrailEntry::now(Event::Setting(setting)));
        let (past, _) = audit.follow();
        assert_eq!(*kept.lock().unwrap(), past);
        assert_eq!(past[0].event.setting().unwrap().to_string(), "a.b = 2");
    }
}

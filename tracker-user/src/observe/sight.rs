//! The watchdog of the source: does the kernel side still see what happens?
//!
//! A source that has gone silent must neither keep sessions for ever nor end them for nothing. While it is blind, nothing
//! is taken to have happened since it was last known to see: everything counts as closed and silent from that moment on.
//! So no session is served for longer than one timeout after it, or after its user last proved themselves; and whoever
//! proves themselves is served. When it sees again, what went by unseen stays a gap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{error, info};
use tracker_ebpf::abi::Hint;
use tracker_ebpf::record::Record;

use super::error::ObserveError;
use super::{Observer, Source};
use crate::clock::{BootTime, boot_now};
use crate::session::Evidence;
use crate::types::ClientAddr;

/// What is the matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The programs hang nowhere, or elsewhere.
    Detached(String),
    /// The maps cannot be read; the programs go on.
    Unreadable(String),
    /// Connections are open that no program has seen.
    Unseen,
    /// The daemon is not in the cgroup that is watched.
    Outside(String),
}

impl Fault {
    fn text(&self) -> String {
        match self {
            Self::Detached(why) | Self::Unreadable(why) | Self::Outside(why) => why.clone(),
            Self::Unseen => "connections are open that the kernel side has not seen".into(),
        }
    }
}

/// The records cannot be relied upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blindness {
    /// When they last could.
    pub since: BootTime,
    /// What is the matter.
    pub why: String,
}

/// What is known of the source.
#[derive(Debug)]
pub(super) struct Sight {
    state: Mutex<State>,
    /// For the hot path: no lock while all is well.
    blind: AtomicBool,
}

#[derive(Clone, Debug)]
struct State {
    /// Since when everything was watched.
    watched_since: BootTime,
    /// When nothing was the matter, last.
    good_at: BootTime,
    /// When the sockets and the records last agreed on who is connected.
    agreed_at: BootTime,
    fault: Option<Fault>,
    since: BootTime,
    /// When the programs were attached anew because of it, or that was tried.
    mended: Option<BootTime>,
    /// The kernel side has told of a connection since then.
    told: bool,
}

impl Sight {
    /// Everything is watched since `watched_since`.
    pub(super) fn new(watched_since: BootTime) -> Self {
        let now = boot_now();
        let state = State {
            watched_since,
            good_at: now,
            agreed_at: now,
            fault: None,
            since: BootTime::default(),
            mended: None,
            told: false,
        };
        Self { state: Mutex::new(state), blind: AtomicBool::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault, if there is one, and since when nothing is relied upon.
    pub(super) fn fault(&self) -> Option<(Fault, BootTime)> {
        if !self.blind.load(Ordering::Acquire) {
            return None;
        }
        let state = self.state();
        state.fault.clone().map(|fault| (fault, state.since))
    }

    /// Not watched before now.
    pub(super) fn begin_anew(&self) {
        self.state().watched_since = boot_now();
    }

    /// From `since` on nothing is relied upon. True if it was until now.
    fn lose(&self, fault: Fault, since: BootTime) -> bool {
        let mut state = self.state();
        if state.fault.is_some() {
            return false;
        }
        let for_seconds = boot_now().since(since).as_secs();
        error!(for_seconds, "the observer is blind: {}", fault.text());
        (state.fault, state.since, state.mended, state.told) = (Some(fault), since, None, false);
        self.blind.store(true, Ordering::Release);
        true
    }

    fn regain(&self, unwatched: bool) {
        let now = boot_now();
        let mut state = self.state();
        if state.fault.take().is_some() {
            info!("the observer sees again");
        }
        (state.good_at, state.agreed_at) = (now, now);
        if unwatched {
            state.watched_since = now;
        }
        self.blind.store(false, Ordering::Release);
    }
}

impl Observer {
    /// Whether the records cannot be relied upon. What they are taken for then is [`Self::evidence`].
    #[must_use]
    pub fn blindness(&self) -> Option<Blindness> {
        self.sight.fault().map(|(fault, since)| Blindness { since, why: fault.text() })
    }

    /// Since when every connection was watched: who proved themselves before may have left unseen. `None` while the
    /// observer is blind.
    #[must_use]
    pub fn watched_since(&self) -> Option<BootTime> {
        let state = self.sight.state();
        state.fault.is_none().then_some(state.watched_since)
    }

    /// What is known of what the client did, directly and through balancers, as far as it may be relied upon: while the
    /// source is blind, everything direct is closed and silent since it last was not. `None` if the client has no record.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn evidence(&self, client: ClientAddr) -> Result<Option<Evidence>, ObserveError> {
        let record = self.record(client)?;
        let known = match self.sight.fault() {
            None => record,
            Some((_, since)) => Some(as_known(record.unwrap_or_default(), since)),
        };
        Ok(self.with_relayed(client, known.as_ref().map(Evidence::from)))
    }

    /// Whether the programs should be attached anew, by [`Self::resync`].
    #[must_use]
    pub fn wants_mending(&self) -> bool {
        matches!(self.sight.fault(), Some((Fault::Detached(_) | Fault::Unseen, _)))
    }

    /// Looks whether the kernel side is where it should be; costs some system calls. True if nothing is the matter that is
    /// found so: connections that are not seen all the same are a reason to compare the records with the sockets.
    pub fn check(&self) -> bool {
        let Source::Kernel(kernel) = &self.source else { return false };
        let sight = &self.sight;
        let (since, fault) = {
            let state = sight.state();
            (state.good_at, state.fault.clone())
        };
        if let Err(error) = kernel.keep_pins() {
            error!("{}", error.because());
        }
        let found = kernel.detached().map(Fault::Detached).or_else(|| {
            let unreadable = kernel.counters().err()?;
            Some(Fault::Unreadable(format!("the records cannot be read: {}", unreadable.because())))
        });
        match (found, fault) {
            (Some(found), None) => {
                if sight.lose(found, since) {
                    self.note_blindness(Some(since));
                }
                false
            }
            (None, None) => {
                sight.state().good_at = boot_now();
                true
            }
            (Some(Fault::Detached(_)), Some(Fault::Outside(_))) => {
                // Other proxies' connections are seen again, at least. While its cgroup is gone there is nothing to do.
                let _ = kernel.attach_again();
                false
            }
            // The programs went on all the time.
            (None, Some(Fault::Unreadable(_))) => {
                sight.regain(false);
                self.note_blindness(None);
                false
            }
            _ => false,
        }
    }

    /// Whether the record says that a client has connections, of whom the proxy, which alone has any, has none: then some
    /// closing was not told.
    #[must_use]
    pub fn has_missed_the_end(&self, client: ClientAddr) -> bool {
        let Source::Kernel(kernel) = &self.source else { return false };
        !self.destroyer.is_needed()
            && matches!(kernel.record(client), Ok(Some(record)) if record.connections() > 0)
    }

    /// A hint has come in: the kernel side sees something, at least.
    pub fn noticed(&self, hint: &Hint) {
        if hint.amended == 0 && self.sight.blind.load(Ordering::Relaxed) {
            let mut state = self.sight.state();
            state.told |= state.mended.is_some_and(|mended| BootTime::from_nanos(hint.at) > mended);
        }
    }

    /// The daemon is in another cgroup than the one that is watched, from its start on.
    pub(super) fn is_outside(&self, why: String) {
        self.sight.lose(Fault::Outside(why), BootTime::default());
        self.note_blindness(Some(BootTime::default()));
    }

    /// The records know of all whom the sockets show.
    pub(super) fn agreed(&self, at: BootTime) {
        self.sight.state().agreed_at = at;
    }

    /// The records know of nobody whom the sockets show.
    pub(super) fn sees_nothing(&self) {
        let since = self.sight.state().agreed_at;
        if self.sight.lose(Fault::Unseen, since) {
            self.note_blindness(Some(since));
        }
    }

    /// Attaches the programs anew where they are not where they should be. What happened in between nobody knows. Where
    /// that is not possible, the observer stays blind.
    pub(super) fn mend(&self) {
        let first = self.sight.state().mended.is_none();
        if let Err(problem) = self.try_to_mend()
            && first
        {
            error!("the observer stays blind: {}", problem.because());
        }
    }

    fn try_to_mend(&self) -> Result<(), ObserveError> {
        let (Source::Kernel(kernel), Some((fault, since))) = (&self.source, self.sight.fault()) else {
            return Ok(());
        };
        match fault {
            Fault::Detached(_) => {
                self.sight.state().mended = Some(boot_now());
                kernel.attach_again()?;
            }
            Fault::Unseen => {
                let (mended, told) = {
                    let state = self.sight.state();
                    (state.mended.is_some(), state.told)
                };
                if !mended {
                    self.sight.state().mended = Some(boot_now());
                    kernel.attach_again()?;
                }
                // Only what is seen proves that they see.
                if !told {
                    return Ok(());
                }
            }
            Fault::Unreadable(_) | Fault::Outside(_) => return Ok(()),
        }
        self.distrust(since)?;
        self.sight.regain(true);
        self.note_blindness(None);
        Ok(())
    }

    /// Goes on from a daemon that was blind at its end.
    pub(super) fn see_again(&self, since: BootTime) -> Result<(), ObserveError> {
        self.distrust(since)?;
        self.sight.begin_anew();
        self.note_blindness(self.blindness().map(|blindness| blindness.since));
        Ok(())
    }

    /// For the next daemon, in case this one dies meanwhile.
    fn note_blindness(&self, since: Option<BootTime>) {
        let Source::Kernel(kernel) = &self.source else { return };
        let watched_since = self.sight.state().watched_since;
        if let Err(error) = kernel.note_sight(watched_since, since) {
            error!("{}", error.because());
        }
    }
}

/// What can be said of a client when nothing is known since a moment.
fn as_known(record: Record, since: BootTime) -> Record {
    let earlier = |at: u64| BootTime::from_nanos(at).min(since).as_nanos();
    Record {
        open: 0,
        half: 0,
        left_at: if record.open > 0 { since.as_nanos() } else { earlier(record.left_at) },
        closed_at: record.closes_at().map_or_else(|| since.as_nanos(), earlier),
        traffic_at: earlier(record.traffic_at),
        ..record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_to_have_happened_since() {
        let since = BootTime::from_nanos(100);
        let busy =
            Record { open: 3, closed_at: 50, traffic_at: 150, closed_gap_end: 60, ..Record::default() };
        let known = as_known(busy, since);
        assert_eq!((known.open, known.closed_at, known.traffic_at, known.closed_gap_end), (0, 100, 100, 60));
        // What its client had ended before holds nothing for longer than it would have.
        let half = Record { open: 0, half: 1, left_at: 60, held_at: 60, ..busy };
        let known = as_known(half, since);
        assert_eq!((known.open, known.half, known.left_at, known.closed_at), (0, 0, 60, 100));
        let idle = Record { closed_at: 70, traffic_at: 60, ..Record::default() };
        assert_eq!(as_known(idle, since), idle);
        // What a half-blind source says of later is not believed.
        assert_eq!(as_known(Record { closed_at: 170, ..idle }, since).closed_at, 100);
    }
}

//! Detects shared hosts. Do many users sit behind one address? Where they do and it is not in `timeouts.shared-hosts`, each login there is a
//! kick-out: they take turns while their connections overlap.
//!
//! One address is suspected when a kick-out meets a user whose session was still valid and whose connections were still
//! open, or when two users kick each other out by turns within [`WINDOW`]. Somebody who sits down at a computer whose
//! user has gone does neither.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, Reason, What};
use super::settings::Timeouts;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Identity};

/// A user who is kicked out, and kicks out whoever did it within this time, takes turns.
pub const WINDOW: Duration = Duration::from_secs(600);
/// A suspicion that nothing has nourished for this long is dropped.
pub const KEPT: Duration = Duration::from_secs(3600);
/// So many are named at once, the newest.
pub const SHOWN: usize = 20;
/// So many are remembered, so that each is logged once.
const SUSPICIONS: usize = 1_000;
/// So many kick-outs are remembered to see turns.
const KICKS: usize = 1_000;

/// What kick-outs tell about addresses.
#[derive(Debug, Default)]
pub struct SharedHostDetector {
    kicks: VecDeque<Kick>,
    /// The one that was nourished last stands last.
    suspicions: VecDeque<Suspicion>,
}

#[derive(Debug)]
struct Kick {
    client: ClientAddr,
    previous: Arc<Identity>,
    by: Arc<Identity>,
    at: BootTime,
}

/// An address that looks like a shared host.
#[derive(Clone, Debug)]
pub struct Suspicion {
    client: ClientAddr,
    users: [Arc<Identity>; 2],
    last: BootTime,
    times: u64,
}

impl Suspicion {
    /// In a sentence, with the remedy.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { client, users: [a, b], times, .. } = self;
        let often = if *times > 1 { format!(" ({times} times)") } else { String::new() };
        format!(
            "{client}: {a} and {b} take turns while their connections overlap{often}: a shared host? add it to \
             timeouts.shared-hosts"
        )
    }
}

/// What an event adds to the suspicions.
#[derive(Debug)]
pub struct Suspected {
    /// The suspicion as it stands now.
    pub suspicion: Suspicion,
    /// Whether the address was not under suspicion before.
    pub is_new: bool,
}

impl SharedHostDetector {
    /// Looks at an event of which `closed` connections were closed.
    pub fn observe(&mut self, event: &Event, closed: usize) -> Option<Suspected> {
        let What::Ended { reason: Reason::Kicked, by: Some(by), was_stale, .. } = &event.what else {
            return None;
        };
        // On a shared host nobody's login is another's kick-out, but on one connection.
        if event.connection.is_some() {
            return None;
        }
        let (client, previous, at) = (event.client, &event.identity, event.at);
        self.kicks.retain(|kick| at.since(kick.at) < WINDOW);
        let turns = self.kicks.iter().any(|k| k.client == client && k.previous == *by && k.by == *previous);
        if self.kicks.len() == KICKS {
            self.kicks.pop_front();
        }
        self.kicks.push_back(Kick { client, previous: Arc::clone(previous), by: Arc::clone(by), at });
        let overlap = closed > 0 && !was_stale;
        if !overlap && !turns {
            return None;
        }
        self.suspicions.retain(|suspicion| at.since(suspicion.last) < KEPT);
        let known = self.suspicions.iter().position(|suspicion| suspicion.client == client);
        let before = known.and_then(|index| self.suspicions.remove(index));
        let suspicion = Suspicion {
            client,
            users: [Arc::clone(previous), Arc::clone(by)],
            last: at,
            times: before.as_ref().map_or(1, |before| before.times + 1),
        };
        if self.suspicions.len() == SUSPICIONS {
            self.suspicions.pop_front();
        }
        self.suspicions.push_back(suspicion.clone());
        Some(Suspected { suspicion, is_new: before.is_none() })
    }

    /// What an operator should be told at `now`, the newest first: nothing about addresses that are listed by now.
    #[must_use]
    pub fn warnings(&self, timeouts: &Timeouts, now: BootTime) -> Vec<String> {
        let current = self
            .suspicions
            .iter()
            .rev()
            .filter(|s| now.since(s.last) < KEPT && !timeouts.is_shared(s.client));
        current.take(SHOWN).map(Suspicion::sentence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    fn client(number: u16) -> ClientAddr {
        let [high, low] = number.to_be_bytes();
        ClientAddr::from_v4([10, 0, high, low])
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    fn listing(shared: &[&str]) -> Timeouts {
        let shared_hosts = shared.iter().map(|net| net.parse().unwrap()).collect();
        Timeouts { shared_hosts, ..Timeouts::default() }
    }

    fn kick(seconds: u64, of: u16, previous: &str, by: &str, was_stale: bool) -> Event {
        let person = |name: &str| Arc::new(Identity::new(name, "R", ""));
        Event {
            at: at(seconds),
            client: client(of),
            connection: None,
            session: SessionId::test(1),
            identity: person(previous),
            what: What::Ended {
                reason: Reason::Kicked,
                duration: Duration::from_secs(1),
                by: Some(person(by)),
                was_stale,
                traffic_before: None,
            },
        }
    }

    #[test]
    fn a_kick_out_of_somebody_who_is_still_there_is_suspicious() {
        let mut detector = SharedHostDetector::default();
        assert!(detector.observe(&kick(0, 1, "alice", "bob", false), 2).is_some_and(|seen| seen.is_new));
        assert_eq!(
            detector.warnings(&listing(&[]), at(1)),
            ["10.0.0.1: alice and bob take turns while their connections overlap: a shared host? add it to \
             timeouts.shared-hosts"]
        );
        // Again: counted, but no news.
        assert!(detector.observe(&kick(5, 1, "bob", "carol", false), 1).is_some_and(|seen| !seen.is_new));
        let warnings = detector.warnings(&listing(&[]), at(6));
        assert!(
            warnings.len() == 1 && warnings[0].contains("bob and carol") && warnings[0].contains("(2 times)")
        );
    }

    #[test]
    fn who_sits_down_where_somebody_has_left_is_not() {
        let mut detector = SharedHostDetector::default();
        assert!(detector.observe(&kick(0, 1, "alice", "bob", false), 0).is_none(), "nothing was open");
        assert!(detector.observe(&kick(1, 1, "bob", "carol", true), 3).is_none(), "the timeout had run out");
        let logout = What::Ended {
            reason: Reason::Logout,
            duration: Duration::from_secs(1),
            by: None,
            was_stale: false,
            traffic_before: None,
        };
        assert!(detector.observe(&Event { what: logout, ..kick(2, 1, "carol", "x", false) }, 3).is_none());
        assert_eq!(detector.warnings(&listing(&[]), at(3)), [""; 0]);
    }

    #[test]
    fn turns_within_the_window_are_suspicious_on_one_address() {
        let window = WINDOW.as_secs();
        let mut detector = SharedHostDetector::default();
        assert!(detector.observe(&kick(0, 1, "alice", "bob", true), 0).is_none());
        assert!(detector.observe(&kick(1, 2, "bob", "alice", true), 0).is_none(), "another address");
        assert!(
            detector.observe(&kick(window, 1, "bob", "alice", true), 0).is_none(),
            "the window has passed"
        );
        assert!(detector.observe(&kick(window + 9, 1, "alice", "bob", true), 0).is_some());
    }

    #[test]
    fn a_suspicion_expires_and_is_news_again_and_a_listed_address_is_not_named() {
        let kept = KEPT.as_secs();
        let mut detector = SharedHostDetector::default();
        detector.observe(&kick(0, 1, "alice", "bob", false), 1);
        assert_eq!(detector.warnings(&listing(&[]), at(kept - 1)).len(), 1);
        assert_eq!(detector.warnings(&listing(&["10.0.0.0/24"]), at(1)), [""; 0]);
        assert_eq!(detector.warnings(&listing(&[]), at(kept)), [""; 0]);
        assert!(detector.observe(&kick(kept, 1, "bob", "alice", false), 1).is_some_and(|seen| seen.is_new));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_named() {
        let mut detector = SharedHostDetector::default();
        for of in 0..5_000 {
            detector.observe(&kick(u64::from(of) / 100, of, "alice", "bob", false), 1);
        }
        assert!(detector.kicks.len() <= KICKS && detector.suspicions.len() <= SUSPICIONS);
        let warnings = detector.warnings(&listing(&[]), at(60));
        assert!(warnings.len() == SHOWN && warnings[0].starts_with("10.0.19.135:"), "{warnings:?}");
    }
}

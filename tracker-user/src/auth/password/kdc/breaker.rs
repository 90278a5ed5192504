//! Whether a realm's KDC is worth asking. Pure: what happened and when is told, and nothing else is known.
//!
//! The library asks a KDC that is silent for many seconds, and nothing stops it. So once one was silent, nobody asks for a
//! while; then one asks, and the others when that one was answered.

use std::time::Duration;

use crate::clock::BootTime;

/// So long nobody asks a realm that was silent.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// So long the one that asks again may take; the library takes less.
pub(super) const PROBE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// When something was heard last.
    heard: Option<BootTime>,
    /// When somebody was not answered last.
    silent: Option<BootTime>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// All ask.
    #[default]
    Closed,
    /// Nobody asks until then; after it, one does.
    Open(BootTime),
}

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// All.
    All,
    /// One, if it need not wait for anything.
    One,
    /// Nobody.
    Nobody,
}

impl Breaker {
    /// Who may ask at present. Changes nothing.
    pub(super) fn admission(&self, now: BootTime) -> Admission {
        match self.state {
            State::Closed => Admission::All,
            State::Open(until) if now < until => Admission::Nobody,
            State::Open(_) => Admission::One,
        }
    }

    /// Whether somebody may ask, who does so if they may.
    pub(super) fn ask(&mut self, now: BootTime) -> bool {
        match self.admission(now) {
            Admission::All => true,
            Admission::Nobody => false,
            Admission::One => {
                self.state = State::Open(now.after(PROBE));
                true
            }
        }
    }

    /// The KDC has answered somebody.
    pub(super) fn heard(&mut self, now: BootTime) {
        self.heard = Some(now);
        self.state = State::Closed;
    }

    /// The KDC has not answered somebody who began to ask at `begun`. Another who was answered meanwhile knows better. Returns
    /// whether nobody asks from now on who would have.
    pub(super) fn silent(&mut self, begun: BootTime, now: BootTime) -> bool {
        if self.heard.is_some_and(|heard| heard >= begun) {
            return false;
        }
        let was_closed = self.state == State::Closed;
        self.silent = Some(now);
        self.state = State::Open(now.after(PAUSE));
        was_closed
    }

    /// How long ago somebody was not answered, if nobody was since.
    pub(super) fn silent_for(&self, now: BootTime) -> Option<Duration> {
        let silent = self.silent.filter(|_| self.state != State::Closed)?;
        Some(now.since(silent))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Ask,
        Heard,
        /// Of what was asked so many milliseconds ago.
        Silent(u64),
    }

    fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let event = prop_oneof![
            4 => Just(Event::Ask),
            1 => Just(Event::Heard),
            1 => (0..20_000_u64).prop_map(Event::Silent)
        ];
        prop::collection::vec((0..4_000_u64, event), 1..80)
    }

    proptest! {
        /// After a silence nobody asks for the pause, and until something is heard at most one asks in the time that one may
        /// take; when something is heard, all ask at once.
        #[test]
        fn a_dead_kdc_is_left_alone(events in events()) {
            let mut breaker = Breaker::default();
            let mut now = BootTime::from_nanos(1 << 50);
            // The model: since when it is known to be dead, when it was last asked, and when something was heard.
            let (mut dead, mut asked, mut heard) = (None, None, None);
            for (wait, event) in events {
                now = now.after(Duration::from_millis(wait));
                match event {
                    Event::Ask => {
                        let may = breaker.ask(now);
                        let expected = match dead {
                            None => true,
                            Some(since) => {
                                now.since(since) >= PAUSE
                                    && asked.is_none_or(|asked| asked < since || now.since(asked) >= PROBE)
                            }
                        };
                        prop_assert_eq!(may, expected);
                        if may {
                            asked = Some(now);
                        }
                    }
                    Event::Heard => {
                        breaker.heard(now);
                        (dead, heard) = (None, Some(now));
                        prop_assert_eq!(breaker.admission(now), Admission::All);
                    }
                    Event::Silent(ago) => {
                        let begun = now.before(Duration::from_millis(ago));
                        let newly = breaker.silent(begun, now);
                        let counts = heard.is_none_or(|heard| heard < begun);
                        prop_assert_eq!(newly, counts && dead.is_none());
                        if counts {
                            dead = Some(now);
                            asked = None;
                        }
                    }
                }
                prop_assert_eq!(breaker.silent_for(now), dead.map(|since| now.since(since)));
            }
        }
    }

    #[test]
    fn one_asks_again_and_the_others_when_it_was_answered() {
        let at = |seconds| BootTime::default().after(Duration::from_secs(seconds));
        let mut breaker = Breaker::default();
        assert!(breaker.ask(at(0)) && breaker.silent(at(0), at(8)));
        assert!(!breaker.ask(at(9)) && !breaker.silent(at(1), at(9)));
        assert_eq!(breaker.admission(at(14)), Admission::One);
        assert!(breaker.ask(at(14)) && !breaker.ask(at(14)) && !breaker.ask(at(30)));
        breaker.heard(at(31));
        assert!(breaker.ask(at(31)) && breaker.ask(at(31)));
        assert!(!breaker.silent(at(20), at(40)), "another was answered meanwhile");
    }
}

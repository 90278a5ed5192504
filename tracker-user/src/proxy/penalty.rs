//! Sources whose connections only fail are refused for a while, as `OpenSSH` does it (`PerSourcePenalties`).
//!
//! A connection has failed if credentials were refused on it, or what it sent could not be read, or it left a request or a
//! handshake unfinished, and nobody was served on it. One that only met a 407 has not: that is how every browser begins. Each
//! failure fills a source's measure by one, and time empties it; a source whose measure runs over is refused at accept,
//! before anything of it is read. Who is served once begins anew.
//!
//! A source is one client address. A whole IPv6 network is none: an office is one, and whoever fails on purpose there would keep
//! all of it out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// So many failures at once are nobody's malice: all the tabs of a browser without a ticket.
const MEASURE: u32 = 500;
/// It takes so long to empty the measure by one.
const LEAK: Duration = Duration::from_secs(1);
/// So long a source is refused.
pub(super) const PENALTY: Duration = Duration::from_secs(30);
/// So many failures it has after that, before it is refused again.
const AFTER: u32 = 50;
/// So many sources are known at once, at some 200 bytes each; the ones that failed longest ago are forgotten first.
const SOURCES: usize = 4_096;

#[derive(Debug)]
struct Known {
    /// Failures that time has not made up for, at `at`.
    filled: u32,
    at: BootTime,
    refused_until: Option<BootTime>,
    /// When it failed last, in the order of all failures.
    last: u64,
}

/// The sources that have failed; what happens to them is decided here, when is an argument.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    known: HashMap<ClientAddr, Known>,
    by_age: BTreeMap<u64, ClientAddr>,
    count: u64,
}

impl Penalties {
    /// A connection has failed; true if its source is refused from now on.
    pub(super) fn failed(&mut self, source: ClientAddr, now: BootTime) -> bool {
        self.count += 1;
        let known =
            self.known.entry(source).or_insert(Known { filled: 0, at: now, refused_until: None, last: 0 });
        self.by_age.remove(&known.last);
        known.last = self.count;
        self.by_age.insert(self.count, source);
        let emptied = now.since(known.at).as_secs() / LEAK.as_secs();
        if emptied > 0 {
            let emptied = u32::try_from(emptied).unwrap_or(u32::MAX);
            known.filled = known.filled.saturating_sub(emptied);
            known.at = known.at.after(LEAK.saturating_mul(emptied)).min(now);
        }
        known.filled += 1;
        let begins = known.filled > MEASURE && known.refused_until.is_none_or(|until| until <= now);
        if begins {
            known.refused_until = Some(now.after(PENALTY));
        }
        // Connections that were open before go on failing meanwhile.
        known.filled = known.filled.min(MEASURE + 1 - if begins { AFTER } else { 0 });
        if self.known.len() > SOURCES
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.known.remove(&oldest);
        }
        begins
    }

    /// Somebody was served: what was before is forgotten.
    pub(super) fn served(&mut self, source: ClientAddr) {
        if let Some(known) = self.known.remove(&source) {
            self.by_age.remove(&known.last);
        }
    }

    /// Whether the source is refused now.
    pub(super) fn refuses(&self, source: ClientAddr, now: BootTime) -> bool {
        self.known.get(&source).and_then(|known| known.refused_until).is_some_and(|until| now < until)
    }

    /// The sources that are refused now.
    pub(super) fn refused(&self, now: BootTime) -> Vec<ClientAddr> {
        let refused = self.known.iter().filter(|(source, _)| self.refuses(**source, now));
        let mut refused: Vec<ClientAddr> = refused.map(|(source, _)| *source).collect();
        refused.sort_unstable();
        refused
    }

    /// Whether nothing is known of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn source(number: u32) -> ClientAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::default().after(Duration::from_secs(1_000 + seconds))
    }

    #[test]
    fn neighbours_in_one_network_are_sources_of_their_own() {
        let mut penalties = Penalties::default();
        let source = |text: &str| text.parse::<ClientAddr>().unwrap();
        for _ in 0..=MEASURE {
            penalties.failed(source("2001:db8::1"), at(0));
            penalties.failed(source("fe80::1%1"), at(0));
        }
        for (address, is_refused) in
            [("2001:db8::1", true), ("2001:db8::2", false), ("fe80::1%1", true), ("fe80::1%2", false)]
        {
            assert_eq!(penalties.refuses(source(address), at(0)), is_refused, "{address}");
        }
    }

    #[test]
    fn who_only_fails_is_refused_for_a_while_and_again_sooner() {
        let mut penalties = Penalties::default();
        for _ in 0..MEASURE {
            assert!(!penalties.failed(source(1), at(0)));
        }
        assert!(!penalties.refuses(source(1), at(0)));
        assert!(penalties.failed(source(1), at(0)), "the one too many");
        assert!(penalties.refuses(source(1), at(29)) && !penalties.refuses(source(2), at(29)));
        assert_eq!(penalties.refused(at(29)), [source(1)]);
        assert!(!penalties.refuses(source(1), at(30)));
        // Time has made up for 30 besides the 50.
        let more = (0..200).take_while(|_| !penalties.failed(source(1), at(30))).count();
        assert_eq!(more, (AFTER + 30 - 1) as usize);
    }

    #[test]
    fn one_failure_a_second_never_adds_up() {
        let mut penalties = Penalties::default();
        for second in 0..100_000 {
            assert!(!penalties.failed(source(1), at(second)), "{second}");
        }
    }

    #[test]
    fn who_is_served_begins_anew() {
        let mut penalties = Penalties::default();
        for _ in 0..=MEASURE {
            penalties.failed(source(1), at(0));
        }
        penalties.served(source(1));
        assert!(!penalties.refuses(source(1), at(0)) && penalties.is_empty());
        assert!(!penalties.failed(source(1), at(0)));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_failed_longest_ago() {
        let mut penalties = Penalties::default();
        for number in 0..SOURCES as u32 {
            penalties.failed(source(number), at(0));
        }
        penalties.failed(source(0), at(1));
        for number in 0..100 {
            penalties.failed(source(1 << 20 | number), at(2));
        }
        assert_eq!((penalties.known.len(), penalties.by_age.len()), (SOURCES, SOURCES));
        assert!(penalties.known.contains_key(&source(0)) && !penalties.known.contains_key(&source(1)));
    }

    proptest! {
        /// Nobody is refused who has not failed more often than the measure holds since they were last served, nor for longer
        /// than the penalty after their last failure.
        #[test]
        fn nobody_is_refused_without_reason(
            steps in prop::collection::vec((0_u32..3, 0_u32..200, any::<bool>(), 0_u64..20), 1..60),
        ) {
            let mut penalties = Penalties::default();
            let mut failures: HashMap<u32, Vec<u64>> = HashMap::new();
            let mut now = 0;
            for (who, times, is_served, later) in steps {
                now += later;
                if is_served && times == 0 {
                    penalties.served(source(who));
                    failures.remove(&who);
                }
                for _ in 0..times {
                    penalties.failed(source(who), at(now));
                    failures.entry(who).or_default().push(now);
                }
                for who in 0..3 {
                    let past = failures.get(&who).map(Vec::as_slice).unwrap_or_default();
                    let refused = penalties.refuses(source(who), at(now));
                    prop_assert!(!refused || past.len() > MEASURE as usize);
                    let newest = past.last().copied().unwrap_or_default();
                    prop_assert!(!penalties.refuses(source(who), at(newest + PENALTY.as_secs())));
                }
                prop_assert_eq!(penalties.known.len(), penalties.by_age.len());
            }
        }
    }
}

//! The places of connections: how many there are, what each is doing, and who gives way when there are too many. Time is an
//! argument.
//!
//! Whoever waits for their client (for a handshake, a head, a form, or for a page to be read) can be asked to give way; whoever
//! the gateway is working for cannot. Of those who wait, one gives way whose network holds the most: strangers who only hold
//! connections do not keep out those who use them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// How long an answer may take, from its request to the last byte that is read of it.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a client may read nothing of what is there for it.
const STALLED: Duration = Duration::from_secs(20);
/// How long a client may be waited for in any case; each kind of waiting has a shorter time of its own.
const WAITS: Duration = Duration::from_secs(60);
/// So many bytes of unfinished heads and forms are in memory, of all clients together.
const UNFINISHED: usize = 4 << 20;

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// In all,
    pub(super) all: usize,
    /// and of one network.
    pub(super) of_network: usize,
}

impl Limits {
    /// Where so many have room.
    pub(super) const fn of(all: usize) -> Self {
        let quarter = all / 4;
        Self { all, of_network: if quarter < 4 { 4 } else { quarter } }
    }
}

/// What many addresses of one host have in common: an IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network([u8; 16]);

impl From<ClientAddr> for Network {
    fn from(client: ClientAddr) -> Self {
        let mut bytes = client.0;
        if matches!(client.ip(), IpAddr::V6(_)) && client.link().is_none() {
            bytes[8..].fill(0);
        }
        Self(bytes)
    }
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// It waits for its client.
    Waits,
    /// A request is answered.
    Answers,
    /// The same, by an answer that has no end.
    Streams,
}

#[derive(Debug)]
struct Place {
    /// `None` for a proxy in front, behind which all clients may be.
    network: Option<Network>,
    doing: Doing,
    since: BootTime,
    /// Since when its client reads nothing of what is there for it.
    stalled: Option<BootTime>,
    /// How many bytes of an unfinished head or form it has.
    unfinished: usize,
    end: CancellationToken,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The network has as many as it may have, and all of them are in use.
    Network,
    /// The same of all.
    All,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: HashMap<u64, Place>,
    next: u64,
    unfinished: usize,
}

impl Places {
    /// A place for one more. Whoever gives way to it is told by the token that it was given here.
    pub(super) fn take(
        &mut self,
        network: Option<Network>,
        limits: Limits,
        now: BootTime,
    ) -> Result<(u64, CancellationToken), Full> {
        let of_network = |place: &Place| place.network == network;
        if network.is_some()
            && self.taken.values().filter(|place| of_network(place)).count() >= limits.of_network
            && !self.give_way(of_network)
        {
            return Err(Full::Network);
        }
        if self.taken.len() >= limits.all && !self.give_way(|_| true) {
            return Err(Full::All);
        }
        let (id, end) = (self.next, CancellationToken::new());
        self.next += 1;
        let place = Place {
            network,
            doing: Doing::Waits,
            since: now,
            stalled: None,
            unfinished: 0,
            end: end.clone(),
        };
        self.taken.insert(id, place);
        Ok((id, end))
    }

    /// It is over.
    pub(super) fn leave(&mut self, id: u64) {
        if let Some(place) = self.taken.remove(&id) {
            self.unfinished -= place.unfinished;
            place.end.cancel();
        }
    }

    /// What a connection does from now on.
    pub(super) fn note(&mut self, id: u64, doing: Doing, now: BootTime) {
        let Some(place) = self.taken.get_mut(&id) else { return };
        (place.doing, place.since) = (doing, now);
        self.unfinished -= std::mem::take(&mut place.unfinished);
    }

    /// Its client has ceased to read, or has begun again.
    pub(super) fn stall(&mut self, id: u64, is_stalled: bool, now: BootTime) {
        if let Some(place) = self.taken.get_mut(&id) {
            place.stalled = is_stalled.then_some(now);
        }
    }

    /// So many bytes have come. Where there are too many of what is not finished, the one that has the most is ended.
    pub(super) fn read(&mut self, id: u64, bytes: usize) {
        let Some(place) = self.taken.get_mut(&id).filter(|place| place.doing == Doing::Waits) else { return };
        place.unfinished += bytes;
        self.unfinished += bytes;
        if self.unfinished > UNFINISHED
            && let Some((&most, _)) = self.taken.iter().max_by_key(|(_, place)| place.unfinished)
        {
            self.leave(most);
        }
    }

    /// Ends those that take too long; how many.
    pub(super) fn end_overdue(&mut self, now: BootTime) -> usize {
        self.end(|place| {
            let lasts = now.since(place.since);
            let is_stalled = place.stalled.is_some_and(|since| now.since(since) >= STALLED);
            is_stalled
                || match place.doing {
                    Doing::Waits => lasts >= WAITS,
                    Doing::Answers => lasts >= ANSWER,
                    Doing::Streams => false,
                }
        })
    }

    /// Ends those whose answers have no end.
    pub(super) fn end_streams(&mut self) {
        self.end(|place| place.doing == Doing::Streams);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    fn end(&mut self, which: impl Fn(&Place) -> bool) -> usize {
        let ended: Vec<u64> =
            self.taken.iter().filter(|(_, place)| which(place)).map(|(id, _)| *id).collect();
        ended.iter().for_each(|id| self.leave(*id));
        ended.len()
    }

    /// One of these gives way, if one can.
    fn give_way(&mut self, of: impl Fn(&Place) -> bool) -> bool {
        let mut held: HashMap<Option<Network>, usize> = HashMap::new();
        for place in self.taken.values() {
            *held.entry(place.network).or_default() += 1;
        }
        let waits = |place: &Place| place.doing == Doing::Waits || place.stalled.is_some();
        let candidates = self.taken.iter().filter(|(_, place)| waits(place) && of(place));
        let holds = |place: &Place| match place.network {
            Some(_) => held.get(&place.network).copied().unwrap_or_default(),
            None => 0,
        };
        let first = candidates.max_by_key(|(_, place)| (holds(place), std::cmp::Reverse(place.since)));
        let Some((&id, _)) = first else { return false };
        self.leave(id);
        true
    }

    /// Anybody who waits gives way, if somebody does.
    pub(super) fn give_one_up(&mut self) -> bool {
        self.give_way(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_now;

    const LIMITS: Limits = Limits { all: 8, of_network: 4 };
    const SECOND: Duration = Duration::from_secs(1);

    fn network(number: u8) -> Option<Network> {
        Some(ClientAddr::from_v4([192, 0, 2, number]).into())
    }

    #[test]
    fn a_network_is_an_address_or_sixty_four_bits() {
        let of = |text: &str| Network::from(text.parse::<ClientAddr>().unwrap());
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("fe80::1%2"), of("fe80::2%2"));
    }

    #[test]
    fn whoever_holds_the_most_without_using_it_gives_way() {
        let mut now = boot_now();
        let mut places = Places::default();
        let mut take = |places: &mut Places, of| {
            now = now.after(SECOND);
            places.take(of, LIMITS, now)
        };
        let (other, kept) = take(&mut places, network(2)).unwrap();
        let crowd: Vec<_> = (0..20).map(|_| take(&mut places, network(1)).unwrap()).collect();
        assert_eq!(places.len(), 5, "a network has four");
        let lives = |(_, end): &&(u64, CancellationToken)| !end.is_cancelled();
        assert_eq!(crowd.iter().filter(lives).count(), 4);
        assert!(lives(&crowd.last().unwrap()) && !kept.is_cancelled(), "the longest unused goes first");
        places.note(other, Doing::Answers, boot_now());
        let others: Vec<_> = (3..9).map(|number| take(&mut places, network(number)).unwrap()).collect();
        assert_eq!(places.len(), 8);
        assert_eq!(crowd.iter().filter(lives).count(), 1, "then it is like the others");
        assert!(others.iter().all(|other| lives(&other)) && !kept.is_cancelled());
    }

    #[test]
    fn whom_the_gateway_works_for_does_not_give_way() {
        let now = boot_now();
        let mut places = Places::default();
        let ids: Vec<u64> = (0..4).map(|_| places.take(network(1), LIMITS, now).unwrap().0).collect();
        ids.iter().for_each(|id| places.note(*id, Doing::Answers, now));
        assert_eq!(places.take(network(1), LIMITS, now).unwrap_err(), Full::Network);
        for number in 2..6 {
            let (id, _) = places.take(network(number), LIMITS, now).unwrap();
            places.note(id, Doing::Streams, now);
        }
        assert_eq!(places.take(network(9), LIMITS, now).unwrap_err(), Full::All);
        assert_eq!(places.take(None, LIMITS, now).unwrap_err(), Full::All);
        places.stall(ids[0], true, now);
        assert!(places.take(network(9), LIMITS, now).is_ok(), "whoever does not read gives way");
        places.leave(ids[0]);
        places.leave(ids[1]);
        assert_eq!(places.len(), 7);
    }

    #[test]
    fn behind_a_proxy_in_front_there_are_many() {
        let now = boot_now();
        let mut places = Places::default();
        (0..8).for_each(|_| drop(places.take(None, LIMITS, now).unwrap()));
        assert_eq!(places.len(), 8);
    }

    #[test]
    fn each_kind_of_slowness_has_its_time() {
        let start = boot_now();
        let mut places = Places::default();
        let ids: Vec<u64> = (0..4).map(|_| places.take(None, LIMITS, start).unwrap().0).collect();
        places.note(ids[1], Doing::Answers, start);
        places.note(ids[2], Doing::Streams, start);
        places.note(ids[3], Doing::Streams, start);
        places.stall(ids[3], true, start);
        assert_eq!(places.end_overdue(start.after(STALLED - SECOND)), 0);
        places.stall(ids[3], false, start.after(STALLED - SECOND));
        assert_eq!(places.end_overdue(start.after(STALLED)), 0, "it reads again");
        places.stall(ids[3], true, start.after(STALLED));
        assert_eq!(places.end_overdue(start.after(STALLED * 2)), 1);
        assert_eq!(places.end_overdue(start.after(ANSWER)), 2);
        assert_eq!(places.end_overdue(start.after(ANSWER * 100)), 0);
        places.end_streams();
        assert_eq!(places.len(), 0);
    }

    #[test]
    fn unfinished_heads_have_a_limit_together() {
        let now = boot_now();
        let mut places = Places::default();
        let (small, kept) = places.take(network(1), LIMITS, now).unwrap();
        let (large, ended) = places.take(network(2), LIMITS, now).unwrap();
        places.read(small, 100);
        places.read(large, UNFINISHED - 100);
        assert!(!ended.is_cancelled());
        places.read(small, 1);
        assert!(ended.is_cancelled() && !kept.is_cancelled());
        assert_eq!(places.unfinished, 101);
        places.note(small, Doing::Answers, now);
        places.read(small, 1_000);
        assert_eq!(places.unfinished, 0);
    }
}

//! Where people wanted to go who were led to the portal: kept here under a random name, never in an address that others could
//! write. What is given out is good for the client that asked for it, once, and for a minute.
//!
//! Everybody can have something kept here, so what each has room for is bounded: a client's oldest gives way to its own next, and in
//! an IPv6 network of 64 bits, which one host can have alone, the network's. Only where thousands of others come at once, the oldest of
//! all gives way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// So long it is kept for whoever has not come yet.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// So many for one client,
const OF_CLIENT: usize = 8;
/// so many for one network,
const OF_NETWORK: usize = 64;
/// and so many in all.
const MOST: usize = 8_192;
/// All of it takes no more memory, in bytes,
const MOST_BYTES: usize = 4 << 20;
/// where each takes so many besides its address: its name, and its place in each table.
const BESIDES: usize = 320;
/// No address is longer, in bytes.
const LONGEST: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct ReturnTargets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    networks: HashMap<ClientAddr, VecDeque<Target>>,
    /// Each target's number, which count up, and its network: the oldest first, and so the first that is over.
    order: BTreeMap<u64, ClientAddr>,
    last: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Target {
    number: u64,
    client: ClientAddr,
    id: String,
    url: String,
    until: BootTime,
}

impl Target {
    /// How much memory it takes, in bytes.
    const fn size(&self) -> usize {
        size(self.url.len())
    }
}

const fn size(url: usize) -> usize {
    url + BESIDES
}

impl ReturnTargets {
    /// Keeps where a client wanted to go, an `http://` address, and says under which name. `None` if it is too long.
    #[must_use]
    pub fn keep(&self, client: ClientAddr, url: &str, now: BootTime) -> Option<String> {
        if url.len() > LONGEST || !url.starts_with("http://") {
            return None;
        }
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).ok()?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.sweep(now);
        kept.make_room(client, size(url.len()));
        kept.put(client, id.clone(), url, now);
        Some(id)
    }

    /// Whether this client wanted to go there within the last minute, and has not come to log in since.
    #[must_use]
    pub fn wanted(&self, client: ClientAddr, url: &str, now: BootTime) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.networks.get(&client.network()).into_iter().flatten();
        own.filter(|target| target.client == client).any(|target| target.url == url && now < target.until)
    }

    /// This client needs no login any more.
    pub fn forget(&self, client: ClientAddr) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = client.network();
        while let Some(own) = kept.networks.get(&network)
            && let Some(at) = own.iter().position(|target| target.client == client)
        {
            drop(kept.remove(network, at));
        }
    }

    /// Where this client wanted to go, by that name; once.
    #[must_use]
    pub fn take(&self, client: ClientAddr, id: &str, now: BootTime) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let network = client.network();
        let is_it = |target: &Target| target.client == client && target.id == id;
        let at = kept.networks.get(&network)?.iter().position(is_it)?;
        kept.remove(network, at).filter(|target| now < target.until).map(|target| target.url)
    }
}

impl Kept {
    /// Forgets what is over.
    fn sweep(&mut self, now: BootTime) {
        while let Some((network, at)) = self.oldest() {
            let until = self.networks.get(&network).and_then(|own| own.get(at)).map(|target| target.until);
            if until.is_some_and(|until| now < until) {
                return;
            }
            drop(self.remove(network, at));
        }
    }

    /// Has the oldest of this client, of its network, or of all give way.
    fn make_room(&mut self, client: ClientAddr, bytes: usize) {
        let network = client.network();
        if let Some(own) = self.networks.get(&network) {
            let mut its =
                own.iter().enumerate().filter(|(_, target)| target.client == client).map(|(at, _)| at);
            let first = its.next();
            let is_full = its.count() + 1 >= OF_CLIENT;
            if let Some(at) = first.filter(|_| is_full).or_else(|| (own.len() >= OF_NETWORK).then_some(0)) {
                drop(self.remove(network, at));
            }
        }
        while self.order.len() >= MOST || self.bytes + bytes > MOST_BYTES {
            let Some((network, at)) = self.oldest() else { return };
            drop(self.remove(network, at));
        }
    }

    /// Where the oldest of all is.
    fn oldest(&self) -> Option<(ClientAddr, usize)> {
        let (number, network) = self.order.first_key_value()?;
        let at = self.networks.get(network)?.iter().position(|target| target.number == *number)?;
        Some((*network, at))
    }

    fn put(&mut self, client: ClientAddr, id: String, url: &str, now: BootTime) {
        let network = client.network();
        self.last += 1;
        let target =
            Target { number: self.last, client, id, url: url.to_owned(), until: now.after(KEPT_FOR) };
        self.bytes += target.size();
        self.order.insert(self.last, network);
        // Most have one.
        self.networks.entry(network).or_insert_with(|| VecDeque::with_capacity(1)).push_back(target);
    }

    fn remove(&mut self, network: ClientAddr, at: usize) -> Option<Target> {
        let own = self.networks.get_mut(&network)?;
        let target = own.remove(at)?;
        if own.is_empty() {
            self.networks.remove(&network);
        }
        self.order.remove(&target.number);
        self.bytes -= target.size();
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: BootTime = BootTime::from_nanos(5);

    fn client(last: u8) -> ClientAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    fn in_network(host: u64) -> ClientAddr {
        IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(host))).into()
    }

    impl ReturnTargets {
        fn is_tidy(&self, count: usize) -> bool {
            let kept = self.0.lock().unwrap();
            let all = || kept.networks.values().flatten();
            kept.order.len() == count
                && all().count() == count
                && all().map(Target::size).sum::<usize>() == kept.bytes
                && kept.bytes <= MOST_BYTES
                && kept.networks.values().all(|own| !own.is_empty())
        }
    }

    #[test]
    fn a_target_is_for_its_client_once_and_for_a_minute() {
        let targets = ReturnTargets::default();
        let id = targets.keep(client(1), "http://a.test/x?y", NOW).unwrap();
        assert_eq!(targets.take(client(2), &id, NOW), None);
        assert_eq!(targets.take(client(1), "", NOW), None);
        assert!(targets.wanted(client(1), "http://a.test/x?y", NOW));
        assert!(!targets.wanted(client(2), "http://a.test/x?y", NOW));
        assert!(!targets.wanted(client(1), "http://a.test/x", NOW));
        assert!(!targets.wanted(client(1), "http://a.test/x?y", NOW.after(KEPT_FOR)));
        assert_eq!(targets.take(client(1), &id, NOW).as_deref(), Some("http://a.test/x?y"));
        assert_eq!(targets.take(client(1), &id, NOW), None);
        assert!(!targets.wanted(client(1), "http://a.test/x?y", NOW));
        let id = targets.keep(client(1), "http://a.test/", NOW).unwrap();
        assert_eq!(targets.take(client(1), &id, NOW.after(KEPT_FOR)), None);
        for refused in
            ["https://a.test/", "javascript:1", "//a.test", &format!("http://{}", "a".repeat(LONGEST))]
        {
            assert_eq!(targets.keep(client(1), refused, NOW), None, "{refused}");
        }
        assert!(targets.is_tidy(0));
    }

    #[test]
    fn nobody_takes_anothers_place_and_all_is_bounded() {
        let targets = ReturnTargets::default();
        let other = targets.keep(client(2), "http://b.test/", NOW).unwrap();
        let ids: Vec<String> = (0..100_000)
            .filter_map(|n| targets.keep(client(1), &format!("http://a.test/{n}"), NOW))
            .collect();
        assert!(targets.is_tidy(OF_CLIENT + 1));
        let third = client(3);
        (0..3).for_each(|n| drop(targets.keep(third, &format!("http://a.test/{n}"), NOW)));
        targets.forget(third);
        assert!(targets.is_tidy(OF_CLIENT + 1) && !targets.wanted(third, "http://a.test/0", NOW));
        let left = ids.iter().filter(|id| targets.take(client(1), id, NOW).is_some()).count();
        assert_eq!(left, OF_CLIENT);
        assert!(targets.take(client(2), &other, NOW).is_some());
    }

    /// Whoever has an IPv6 network has more addresses than there is room.
    #[test]
    fn a_network_takes_nobody_elses_place() {
        let targets = ReturnTargets::default();
        let other = targets.keep(client(2), "http://b.test/", NOW).unwrap();
        let neighbour = IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8_0000_0001_u128 << 64)).into();
        let near = targets.keep(neighbour, "http://b.test/", NOW).unwrap();
        for host in 0..50_000 {
            targets.keep(in_network(host), "http://a.test/", NOW).unwrap();
        }
        assert!(targets.is_tidy(OF_NETWORK + 2));
        assert!(targets.take(client(2), &other, NOW).is_some());
        assert!(targets.take(neighbour, &near, NOW).is_some());
    }

    #[test]
    fn what_is_over_makes_room_and_where_all_come_at_once_the_oldest_does() {
        let targets = ReturnTargets::default();
        let many = |now| {
            for host in 0..20_000_u32 {
                targets.keep(Ipv4Addr::from(0x0a00_0000 + host).into(), "http://a.test/", now).unwrap();
            }
        };
        let first = targets.keep(client(1), "http://a.test/", NOW).unwrap();
        many(NOW);
        assert!(targets.is_tidy(MOST) && targets.take(client(1), &first, NOW).is_none());
        let later = NOW.after(KEPT_FOR);
        targets.keep(client(1), "http://a.test/", later).unwrap();
        assert!(targets.is_tidy(1));
        let long = format!("http://{}", "a".repeat(LONGEST - 7));
        for host in 0..10_000_u32 {
            targets.keep(Ipv4Addr::from(0x0a00_0000 + host).into(), &long, later).unwrap();
        }
        assert!(targets.is_tidy(MOST_BYTES / size(LONGEST)));
    }
}

//! Where people want to go while they type their passwords: what was kept for the client until it came ([`ReturnTargets`]) is kept
//! for this browser from then on. Nothing of it is ever in an address or a form but its name, which nobody else has a use for.
//!
//! [`ReturnTargets`]: crate::auth::ReturnTargets

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// So long somebody may take to log in.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(15 * 60);
/// So many for one client: its oldest gives way.
const PER_CLIENT: usize = 4;
/// So many for one network: whoever has an IPv6 /64 has as many addresses as they like. Its client that came first gives way.
const PER_NETWORK: usize = 64;
/// So many bytes in all: what clients have who have been silent longest gives way.
const MOST_BYTES: usize = 4 << 20;
/// What a client takes besides the addresses themselves, about.
const EACH: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::portal) struct Pending(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_client: HashMap<ClientAddr, VecDeque<Target>>,
    /// Each client once, in the order in which they came.
    order: VecDeque<ClientAddr>,
    bytes: usize,
}

#[derive(Debug)]
struct Target {
    id: String,
    /// The browser.
    browser: String,
    url: String,
    until: BootTime,
}

impl Pending {
    /// Keeps where the browser at `client` wants to go.
    pub(super) fn keep(&self, client: ClientAddr, browser: &str, id: &str, url: String, now: BootTime) {
        let mut kept = self.kept();
        if let Some(oldest) = kept.by_client.get(&client).filter(|own| own.len() >= PER_CLIENT) {
            let id = oldest.front().map(|target| target.id.clone()).unwrap_or_default();
            kept.remove(client, |target| target.id == id);
        }
        if let Some(first) = kept.gives_way_in_network(client) {
            kept.remove(first, |_| true);
        }
        let Kept { by_client, order, bytes } = &mut *kept;
        let target = Target { id: id.into(), browser: browser.into(), url, until: now.after(KEPT_FOR) };
        *bytes += target.size();
        by_client
            .entry(client)
            .or_insert_with(|| {
                order.push_back(client);
                VecDeque::new()
            })
            .push_back(target);
        while kept.bytes > MOST_BYTES
            && let Some(oldest) = kept.order.front().copied()
        {
            kept.remove(oldest, |_| true);
        }
    }

    /// Where this browser wants to go, by that name.
    pub(super) fn url(&self, client: ClientAddr, browser: &str, id: &str, now: BootTime) -> Option<String> {
        let mut kept = self.kept();
        kept.remove(client, |target| now >= target.until);
        let mut own = kept.by_client.get(&client)?.iter();
        own.find(|target| target.id == id && target.browser == browser).map(|target| target.url.clone())
    }

    /// It is there.
    pub(in crate::portal) fn forget(&self, client: ClientAddr, id: &str) {
        self.kept().remove(client, |target| target.id == id);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Who came first of this client's network, where that has all that it may have.
    fn gives_way_in_network(&self, client: ClientAddr) -> Option<ClientAddr> {
        let mut own = self.order.iter().filter(|known| known.network() == client.network()).peekable();
        let first = own.peek().map(|first| **first);
        let count: usize = own.filter_map(|known| self.by_client.get(known)).map(VecDeque::len).sum();
        first.filter(|_| count >= PER_NETWORK)
    }

    fn remove(&mut self, client: ClientAddr, which: impl Fn(&Target) -> bool) {
        let Some(own) = self.by_client.get_mut(&client) else { return };
        let bytes = &mut self.bytes;
        own.retain(|target| {
            let goes = which(target);
            *bytes -= if goes { target.size() } else { 0 };
            !goes
        });
        if own.is_empty() {
            self.by_client.remove(&client);
            self.order.retain(|known| *known != client);
        }
    }
}

impl Target {
    fn size(&self) -> usize {
        EACH + self.id.len() + self.browser.len() + self.url.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOW: BootTime = BootTime::from_nanos(5);

    fn client(number: u32) -> ClientAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[test]
    fn it_is_for_its_browser_at_its_address_and_for_a_quarter_of_an_hour() {
        let pending = Pending::default();
        pending.keep(client(1), "b", "x", "http://a.test/".into(), NOW);
        let url = |number, browser, id, now| pending.url(client(number), browser, id, now);
        assert_eq!(url(2, "b", "x", NOW), None);
        assert_eq!(url(1, "other", "x", NOW), None);
        assert_eq!(url(1, "b", "y", NOW), None);
        // As often as the form is shown again.
        for _ in 0..3 {
            assert_eq!(url(1, "b", "x", NOW).as_deref(), Some("http://a.test/"));
        }
        pending.forget(client(1), "x");
        assert_eq!(url(1, "b", "x", NOW), None);
        pending.keep(client(1), "b", "x", "http://a.test/".into(), NOW);
        assert_eq!(url(1, "b", "x", NOW.after(KEPT_FOR)), None);
        let kept = pending.kept();
        assert_eq!((kept.bytes, kept.by_client.len(), kept.order.len()), (0, 0, 0));
    }

    #[test]
    fn one_host_with_a_network_of_addresses_takes_nobody_elses_place() {
        let pending = Pending::default();
        pending.keep(client(1), "b", "x", "http://a.test/".into(), NOW);
        let in_network = |host: u64| {
            ClientAddr::from(IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(host))))
        };
        let long = "http://a.test/".to_owned() + &"x".repeat(4_000);
        for host in 0..3_000 {
            pending.keep(in_network(host), "b", "y", long.clone(), NOW);
        }
        assert!(pending.url(client(1), "b", "x", NOW).is_some());
        assert!(pending.url(in_network(2_999), "b", "y", NOW).is_some());
        assert_eq!(pending.kept().by_client.len(), PER_NETWORK + 1);
    }

    #[test]
    fn all_is_bounded_and_nobody_takes_the_place_of_another_who_has_just_come() {
        let pending = Pending::default();
        let long = "http://a.test/".to_owned() + &"x".repeat(4_000);
        for number in 0..3_000 {
            for id in ["1", "2", "3", "4", "5", "6"] {
                pending.keep(client(number), "b", id, long.clone(), NOW);
            }
            assert!(pending.url(client(number), "b", "6", NOW).is_some());
            assert!(pending.url(client(number), "b", "2", NOW).is_none());
        }
        let kept = pending.kept();
        assert!(kept.bytes <= MOST_BYTES && kept.bytes > MOST_BYTES / 2, "{}", kept.bytes);
        assert_eq!(kept.order.len(), kept.by_client.len());
        let held: usize = kept.by_client.values().flatten().map(Target::size).sum();
        assert_eq!(held, kept.bytes);
    }
}

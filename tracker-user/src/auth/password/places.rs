//! How many names with passwords one client may have looked at, or waiting for their answers, at once: so that nobody takes
//! all the places that there are for everybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::local::QUEUE;
use crate::types::ClientAddr;

/// So many of one client. More than the connections that a browser opens to a proxy at once, which is 32; and fewer than may
/// wait for the hashes of local users' passwords, so that a shared host, which has no budget of its own, keeps nobody out.
pub(super) const OF_CLIENT: usize = 48;
const _: () = assert!(OF_CLIENT < QUEUE);
/// So many of one network: whoever has an IPv6 /64 has as many addresses as they like. An office that shares one has room.
const OF_NETWORK: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    clients: HashMap<ClientAddr, usize>,
    networks: HashMap<ClientAddr, usize>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct OwnPlace {
    taken: Arc<Mutex<Taken>>,
    client: ClientAddr,
}

impl Places {
    /// One for this client; `None` if it, or its network, has all that it may have.
    pub(super) fn enter(&self, client: ClientAddr) -> Option<OwnPlace> {
        let mut taken = lock(&self.0);
        let network = client.network();
        let of = |counts: &HashMap<ClientAddr, usize>, key| counts.get(&key).copied().unwrap_or_default();
        if of(&taken.clients, client) >= OF_CLIENT || of(&taken.networks, network) >= OF_NETWORK {
            return None;
        }
        *taken.clients.entry(client).or_default() += 1;
        *taken.networks.entry(network).or_default() += 1;
        Some(OwnPlace { taken: Arc::clone(&self.0), client })
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        give_back(&mut taken.clients, self.client);
        give_back(&mut taken.networks, self.client.network());
    }
}

fn give_back(counts: &mut HashMap<ClientAddr, usize>, key: ClientAddr) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // Nobody panics while holding it.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_client_does_not_take_the_places_of_another() {
        let places = Places::default();
        let [one, other] = [1, 2].map(|number| ClientAddr::from(Ipv4Addr::new(10, 0, 0, number)));
        let mut held: Vec<_> = (0..OF_CLIENT).map(|_| places.enter(one).unwrap()).collect();
        assert!(places.enter(one).is_none() && places.enter(other).is_some());
        held.pop();
        held.push(places.enter(one).unwrap());
        assert!(places.enter(one).is_none());
        held.clear();
        let taken = lock(&places.0);
        assert!(taken.clients.is_empty() && taken.networks.is_empty());
    }

    #[test]
    fn one_network_does_not_take_the_places_of_another() {
        let places = Places::default();
        let address = |number: usize| format!("2001:db8::{number:x}").parse::<ClientAddr>().unwrap();
        let mut held: Vec<_> = (0..OF_NETWORK).map(|number| places.enter(address(number)).unwrap()).collect();
        assert!(places.enter(address(OF_NETWORK)).is_none());
        let other = "2001:db8:0:1::1".parse().unwrap();
        held.push(places.enter(other).unwrap());
        held.clear();
        assert!(places.enter(address(0)).is_some());
    }
}

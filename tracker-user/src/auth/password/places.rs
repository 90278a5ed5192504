//! How many names with passwords one client may have looked at, or waiting for their answers, at once: so that nobody takes
//! all the places that there are for everybody.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::ClientAddr;

/// So many of one client. More than the connections that a browser opens to a proxy at once, which is 32.
const OF_CLIENT: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<ClientAddr, usize>>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct OwnPlace {
    taken: Arc<Mutex<HashMap<ClientAddr, usize>>>,
    client: ClientAddr,
}

impl Places {
    /// One for this client; `None` if it has all that it may have.
    pub(super) fn enter(&self, client: ClientAddr) -> Option<OwnPlace> {
        let mut taken = lock(&self.taken);
        let count = taken.entry(client).or_default();
        if *count >= OF_CLIENT {
            return None;
        }
        *count += 1;
        Some(OwnPlace { taken: Arc::clone(&self.taken), client })
    }
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

fn lock(taken: &Mutex<HashMap<ClientAddr, usize>>) -> MutexGuard<'_, HashMap<ClientAddr, usize>> {
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
        assert!(lock(&places.taken).is_empty());
    }
}

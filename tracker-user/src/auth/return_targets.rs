//! Where people wanted to go who were led to the portal: kept here under a random name, never in an address that others could
//! write. What is given out is good for the client that asked for it, once, and for a minute.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// So long it is kept for whoever has not come yet.
pub const KEPT_FOR: Duration = Duration::from_secs(60);
/// So many for one client: its oldest gives way.
const PER_CLIENT: usize = 8;
/// So many clients: the oldest gives way.
const CLIENTS: usize = 8_192;
/// No longer address is kept, in bytes.
const LONGEST: usize = 4_096;

/// See the module.
#[derive(Debug, Default)]
pub struct ReturnTargets(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    by_client: HashMap<ClientAddr, VecDeque<Target>>,
    order: VecDeque<ClientAddr>,
}

#[derive(Debug)]
struct Target {
    id: String,
    url: String,
    until: BootTime,
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
        let Kept { by_client, order } = &mut *kept;
        if !by_client.contains_key(&client) {
            order.push_back(client);
            while order.len() > CLIENTS {
                if let Some(oldest) = order.pop_front() {
                    by_client.remove(&oldest);
                }
            }
        }
        let own = by_client.entry(client).or_default();
        if own.len() >= PER_CLIENT {
            own.pop_front();
        }
        own.push_back(Target { id: id.clone(), url: url.to_owned(), until: now.after(KEPT_FOR) });
        Some(id)
    }

    /// Where this client wanted to go, by that name; once.
    #[must_use]
    pub fn take(&self, client: ClientAddr, id: &str, now: BootTime) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.by_client.get_mut(&client)?;
        let at = own.iter().position(|target| target.id == id)?;
        own.remove(at).filter(|target| now < target.until).map(|target| target.url)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn client(last: u8) -> ClientAddr {
        Ipv4Addr::new(192, 0, 2, last).into()
    }

    #[test]
    fn a_target_is_for_its_client_once_and_for_a_minute() {
        let (targets, now) = (ReturnTargets::default(), BootTime::from_nanos(5));
        let id = targets.keep(client(1), "http://a.test/x?y", now).unwrap();
        assert_eq!(targets.take(client(2), &id, now), None);
        assert_eq!(targets.take(client(1), "", now), None);
        assert_eq!(targets.take(client(1), &id, now).as_deref(), Some("http://a.test/x?y"));
        assert_eq!(targets.take(client(1), &id, now), None);
        let id = targets.keep(client(1), "http://a.test/", now).unwrap();
        assert_eq!(targets.take(client(1), &id, now.after(KEPT_FOR)), None);
        for refused in
            ["https://a.test/", "javascript:1", "//a.test", &format!("http://{}", "a".repeat(LONGEST))]
        {
            assert_eq!(targets.keep(client(1), refused, now), None, "{refused}");
        }
    }

    #[test]
    fn nobody_takes_anothers_place_and_all_is_bounded() {
        let (targets, now) = (ReturnTargets::default(), BootTime::from_nanos(5));
        let other = targets.keep(client(2), "http://b.test/", now).unwrap();
        let ids: Vec<String> =
            (0..20).filter_map(|n| targets.keep(client(1), &format!("http://a.test/{n}"), now)).collect();
        let left = ids.iter().filter(|id| targets.take(client(1), id, now).is_some()).count();
        assert_eq!(left, PER_CLIENT);
        assert!(targets.take(client(2), &other, now).is_some());
    }
}

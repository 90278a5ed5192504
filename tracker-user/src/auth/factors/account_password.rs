//! The account's own password where a second factor is set up: by Basic it is not enough, as programs cannot be asked for more.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::book::SecondFactors;
use crate::audit::FactorChange;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Factors, Identity, Method};

/// Programs send what stands in their settings with each request: of one user at one address it is told so often.
const TOLD_EVERY: Duration = Duration::from_secs(3_600);
/// Of so many users and addresses is remembered that it was told: the oldest gives way.
const MOST: usize = 4_096;

/// Of whom it was told, and when.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<(Box<str>, ClientAddr), BootTime>);

impl Told {
    /// Whether it is to be told now.
    fn is_due(&mut self, account: &str, client: ClientAddr, now: BootTime) -> bool {
        let key = (account.into(), client);
        if self.0.get(&key).is_some_and(|told| now.since(*told) < TOLD_EVERY) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.retain(|_, told| now.since(*told) < TOLD_EVERY);
        }
        if self.0.len() >= MOST {
            let oldest = self.0.iter().min_by_key(|(_, told)| **told).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| self.0.remove(&oldest));
        }
        self.0.insert(key, now);
        true
    }
}

impl SecondFactors {
    /// Whether the account's own password is enough for this user at the proxy: not where a second factor is missing then.
    #[must_use]
    pub fn password_is_enough(&self, who: &Identity) -> bool {
        self.missing(who, Method::Password, Factors::NONE).is_none()
    }

    /// It was right, and is refused as it is not enough: that stands in the audit trail, once an hour for a user at an address.
    pub fn refuse_password(&self, who: &Identity, client: ClientAddr, now: BootTime) {
        let is_due = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.is_due(who.key(), client, now)
        };
        if is_due {
            self.tell(&Arc::new(who.clone()), Some(client), FactorChange::AccountPassword, None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn it_is_told_once_an_hour_of_each_and_does_not_grow() {
        let client = |number: u32| ClientAddr::from(Ipv4Addr::from(0x0a00_0000 + number));
        let at = |seconds: u64| BootTime::from_nanos(seconds * 1_000_000_000);
        let mut told = Told::default();
        assert!(told.is_due("alice@r", client(1), at(10)) && !told.is_due("alice@r", client(1), at(3_609)));
        assert!(told.is_due("alice@r", client(2), at(11)) && told.is_due("bob@r", client(1), at(11)));
        assert!(
            told.is_due("alice@r", client(1), at(3_610)) && !told.is_due("alice@r", client(1), at(3_611))
        );
        for number in 0..2 * u32::try_from(MOST).unwrap() {
            told.is_due("eve@r", client(number), at(4_000 + u64::from(number)));
        }
        assert!(told.0.len() <= MOST, "{}", told.0.len());
    }
}

//! What browsers have been asked and have not answered yet: challenges, each good for one answer within a minute, from the browser
//! that it was given to. In memory alone, and bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};
use webauthn_rs::prelude::{DiscoverableAuthentication, PasskeyRegistration};

use super::Asking;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Identity};

/// An answer is good for so long.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(60);
/// So many at one address, and in all: the oldest gives way.
const PER_CLIENT: usize = 32;
const MOST: usize = 4_096;

/// What a browser was asked.
#[derive(Debug)]
pub(super) struct Ceremony {
    pub(super) of: Of,
    /// The relying party's ID, and the origin of the page.
    pub(super) host: Box<str>,
    pub(super) origin: Box<str>,
    browser: Box<str>,
    client: ClientAddr,
    begun: BootTime,
}

/// What for.
#[derive(Debug)]
pub(super) enum Of {
    /// To make a passkey for this user, by this handle.
    Registration { user: Box<str>, handle: [u8; 16], state: PasskeyRegistration },
    /// To show one of this user's.
    Second { user: Box<str>, state: DiscoverableAuthentication },
    /// To show one, whoever it is.
    Alone { state: DiscoverableAuthentication },
}

/// All of them, by their number.
#[derive(Debug, Default)]
pub(super) struct Ceremonies(Mutex<HashMap<[u8; 16], Ceremony>>);

impl Ceremony {
    pub(super) fn new(of: Of, host: &str, asking: &Asking<'_>) -> Self {
        let Asking { client, origin, host: _, browser, at } = *asking;
        Self { of, host: host.into(), origin: origin.into(), browser: browser.into(), client, begun: at }
    }

    fn is_good(&self, now: BootTime) -> bool {
        now.since(self.begun) < GOOD_FOR
    }
}

impl Of {
    /// Of whom it is, if that is known.
    pub(super) fn is_of(&self, who: &Identity) -> bool {
        match self {
            Self::Registration { user, .. } | Self::Second { user, .. } => **user == *who.key(),
            Self::Alone { .. } => false,
        }
    }
}

impl Ceremonies {
    fn held(&self) -> MutexGuard<'_, HashMap<[u8; 16], Ceremony>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one; its number, or `None` where the system has no randomness.
    pub(super) fn put(&self, ceremony: Ceremony) -> Option<String> {
        let mut number = [0; 16];
        SystemRandom::new().fill(&mut number).ok()?;
        let (now, client) = (ceremony.begun, ceremony.client);
        let mut held = self.held();
        held.retain(|_, known| known.is_good(now));
        let is_full = held.len() >= MOST;
        if is_full || held.values().filter(|known| known.client == client).count() >= PER_CLIENT {
            let among = held.iter().filter(|(_, known)| is_full || known.client == client);
            let oldest = among.min_by_key(|(_, known)| known.begun).map(|(number, _)| *number);
            oldest.and_then(|oldest| held.remove(&oldest));
        }
        held.insert(number, ceremony);
        Some(data_encoding::HEXLOWER.encode(&number))
    }

    /// Takes out the one of this number, if it is good: whatever comes of it, it is not good again. One that another browser
    /// names stays.
    pub(super) fn take(&self, number: &str, asking: &Asking<'_>) -> Option<Ceremony> {
        let number: [u8; 16] = data_encoding::HEXLOWER.decode(number.as_bytes()).ok()?.try_into().ok()?;
        let mut held = self.held();
        let known = held.get(&number)?;
        if known.client != asking.client || *known.browser != *asking.browser {
            return None;
        }
        held.remove(&number).filter(|known| known.is_good(asking.at) && *known.origin == *asking.origin)
    }
}

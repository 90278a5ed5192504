//! Who is logged in to the pages: a cookie's secret, and what it stands for. Not to be taken for a session of the proxy, which is
//! of an address: this is of a browser.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::clock::BootTime;
use crate::types::{ClientAddr, Identity, Role};

/// The cookie of a web session.
pub(super) const COOKIE: &str = "__Host-tracker";

/// A browser's login to the pages.
#[derive(Clone, Debug)]
pub(super) struct WebSession {
    /// Who.
    pub(super) identity: Arc<Identity>,
    /// What they may do.
    pub(super) role: Role,
    /// The address that it is good for.
    pub(super) client: ClientAddr,
    /// When its user last proved themselves with a password.
    pub(super) authenticated: BootTime,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct WebSessions(Mutex<HashMap<[u8; 32], Arc<WebSession>>>);

impl WebSessions {
    /// Begins one, and returns the secret for its cookie. `None`: the system has no randomness.
    pub(super) fn begin(&self, session: WebSession) -> Option<String> {
        let mut random = [0; 16];
        SystemRandom::new().fill(&mut random).ok()?;
        let secret: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(hash(&secret), Arc::new(session));
        Some(secret)
    }

    /// The one that this secret stands for, at this address.
    pub(super) fn find(&self, secret: &str, client: ClientAddr) -> Option<Arc<WebSession>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&hash(secret)).filter(|session| session.client == client).cloned()
    }

    /// Its user has proved themselves again: it goes on under another secret, which is returned, and the earlier one is worth
    /// nothing any more. `None`: there is no such session any more, or the system has no randomness.
    pub(super) fn prove_again(&self, secret: &str, at: BootTime) -> Option<(String, Arc<WebSession>)> {
        let session = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(&hash(secret))?
        };
        let session = WebSession { authenticated: at, ..(*session).clone() };
        let secret = self.begin(session.clone())?;
        Some((secret, Arc::new(session)))
    }

    /// Ends it.
    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&hash(secret));
    }
}

fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

//! Addresses at which somebody has just logged out, and nobody is to be logged in before they have typed a password.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// See the module. Without a hold, the next request of a browser with a ticket logs its user straight in again.
#[derive(Debug, Default)]
pub struct LogoutHolds(Mutex<HashMap<ClientAddr, BootTime>>);

impl LogoutHolds {
    /// From now on nobody is logged in silently at `client`, until then.
    pub fn hold(&self, client: ClientAddr, until: BootTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(client, until);
    }

    /// Somebody has typed a password there.
    pub fn release(&self, client: ClientAddr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&client);
    }

    /// Until when nobody is logged in silently there; `None`: they are.
    #[must_use]
    pub fn until(&self, client: ClientAddr, now: BootTime) -> Option<BootTime> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *holds.get(&client)?;
        if now < until {
            return Some(until);
        }
        holds.remove(&client);
        None
    }
}

//! What the door asks the regulation. A trait, so that the door can be tried without one.

use std::fmt;
use std::sync::Arc;

use crate::auth::regulation::{Banned, Regulator, Try};
use crate::types::ClientAddr;

/// See [`Regulator`].
pub(super) trait Regulation: fmt::Debug + Send + Sync + 'static {
    /// [`Regulator::begin`].
    fn begin(&self, client: ClientAddr, account: &str) -> Result<Box<dyn Trying>, Banned>;
    /// Whether a ban stands; nothing begins.
    fn is_banned(&self, client: ClientAddr, account: &str) -> bool;
}

/// See [`Try`].
pub(super) trait Trying: Send {
    /// [`Try::succeeded`].
    fn succeeded(self: Box<Self>);
    /// [`Try::failed`].
    fn failed(self: Box<Self>);
    /// [`Try::is_void`].
    fn is_void(self: Box<Self>);
}

impl Regulation for Arc<Regulator> {
    fn begin(&self, client: ClientAddr, account: &str) -> Result<Box<dyn Trying>, Banned> {
        Ok(Box::new(Regulator::begin(self, client, account)?))
    }

    fn is_banned(&self, client: ClientAddr, account: &str) -> bool {
        Regulator::begin(self, client, account).map(Try::is_void).is_err()
    }
}

impl Trying for Try {
    fn succeeded(self: Box<Self>) {
        Self::succeeded(*self);
    }

    fn failed(self: Box<Self>) {
        Self::failed(*self);
    }

    fn is_void(self: Box<Self>) {
        Self::is_void(*self);
    }
}

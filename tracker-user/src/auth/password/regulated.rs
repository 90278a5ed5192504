//! What the door asks the regulation. A trait, so that the door can be tried without one.

use std::fmt;
use std::pin::Pin;

use crate::auth::regulation::{Banned, Regulator, Try};
use crate::types::ClientAddr;

/// A try, when its turn has come.
pub(super) type Begun<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Trying>, Banned>> + Send + 'a>>;

/// See [`Regulator`].
pub(super) trait Regulation: fmt::Debug + Send + Sync + 'static {
    /// [`Regulator::begin_in_turn`].
    fn begin_in_turn<'a>(&'a self, client: ClientAddr, account: &'a str) -> Begun<'a>;
    /// [`Regulator::is_banned`].
    fn is_banned(&self, client: ClientAddr, account: &str) -> bool;
    /// [`Regulator::generation`].
    fn generation(&self) -> u64;
}

/// See [`Try`].
pub(super) trait Trying: Send {
    /// [`Try::succeeded`].
    fn succeeded(self: Box<Self>);
    /// [`Try::failed`]; `is_known`: there is such an account.
    fn failed(self: Box<Self>, is_known: bool);
    /// [`Try::is_void`].
    fn is_void(self: Box<Self>);
}

impl Regulation for Regulator {
    fn begin_in_turn<'a>(&'a self, client: ClientAddr, account: &'a str) -> Begun<'a> {
        Box::pin(async move {
            let begun: Box<dyn Trying> = Box::new(Self::begin_in_turn(self, client, account).await?);
            Ok(begun)
        })
    }

    fn is_banned(&self, client: ClientAddr, account: &str) -> bool {
        Self::is_banned(self, client, account)
    }

    fn generation(&self) -> u64 {
        Self::generation(self)
    }
}

impl Trying for Try {
    fn succeeded(self: Box<Self>) {
        Self::succeeded(*self);
    }

    fn failed(self: Box<Self>, is_known: bool) {
        let own = if is_known { self.known() } else { *self };
        own.failed();
    }

    fn is_void(self: Box<Self>) {
        Self::is_void(*self);
    }
}

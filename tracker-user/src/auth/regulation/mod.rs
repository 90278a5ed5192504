//! Regulation: how many wrong secrets somebody may send, and the bans that follow.

use crate::types::ClientAddr;

/// Decides who may try a secret. All doors share one.
#[derive(Debug)]
pub struct Regulator(());

/// Nothing is looked at for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Banned;

/// A try that is under way. It counts as a wrong one until it is said to be anything else, also where it is dropped: nobody
/// gets more tries by asking for many at once, or by leaving before the answer.
#[derive(Debug)]
pub struct Try(());

impl Regulator {
    /// Begins a try of a secret for `account` ([`crate::types::Identity::key`], or what was typed in lower case where it
    /// names nobody).
    ///
    /// # Errors
    /// While a ban stands on the address, the account, or the two together.
    pub fn begin(&self, _client: ClientAddr, _account: &str) -> Result<Try, Banned> {
        Ok(Try(()))
    }
}

impl Try {
    /// The secret was right.
    pub fn succeeded(self) {}

    /// The secret was wrong.
    pub fn failed(self) {}

    /// Nobody looked at the secret, or it was refused for another reason: it is as if it had not been tried.
    pub fn is_void(self) {}
}

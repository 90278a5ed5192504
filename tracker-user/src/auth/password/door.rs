//! The one door for names with passwords.

use std::sync::Arc;

use super::kdc::Kdc;
use super::local::LocalUsers;
use super::secret::Password;
use crate::auth::outcome::{Failure, Proved};
use crate::auth::regulation::Regulator;
use crate::clock::BootTime;
use crate::types::ClientAddr;

/// What the door works with.
#[derive(Debug)]
pub struct Parts {
    /// Realms.
    pub kdc: Kdc,
    /// The gateway's own users.
    pub local: Arc<LocalUsers>,
    /// Who may try.
    pub regulator: Arc<Regulator>,
}

/// See the module.
#[derive(Debug)]
pub struct Passwords {
    parts: Parts,
}

impl Passwords {
    /// A door.
    #[must_use]
    pub const fn new(parts: Parts) -> Self {
        Self { parts }
    }

    /// Whose name and password these are.
    ///
    /// # Errors
    /// Those of [`Kdc::check`] and [`LocalUsers::check`], and [`super::Cause::Banned`].
    pub async fn verify(
        &self,
        user: &str,
        password: Password,
        _client: ClientAddr,
        _at: BootTime,
    ) -> Result<Proved, Failure> {
        self.parts.kdc.check(user, None, password).await?;
        Err(Failure::Busy)
    }
}

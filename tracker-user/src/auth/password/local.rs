//! A password against the gateway's own list of users.

use super::secret::Password;
use crate::auth::outcome::Failure;
use crate::types::Identity;

/// Verifies passwords of the gateway's own users.
#[derive(Debug)]
pub struct LocalUsers(());

impl LocalUsers {
    /// Whether there is a local user of this name (in lower case), disabled or not.
    #[must_use]
    pub fn knows(&self, _user: &str) -> bool {
        false
    }

    /// Whose password this is. A name that nobody has takes as long as one that somebody has.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with a [`super::Cause`], or [`Failure::Busy`].
    pub async fn check(&self, _user: &str, _password: Password) -> Result<Identity, Failure> {
        Err(Failure::Busy)
    }
}

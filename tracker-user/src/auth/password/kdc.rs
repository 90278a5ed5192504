//! A password against the realm's KDC.

use super::secret::Password;
use crate::auth::outcome::Failure;
use crate::types::Identity;

/// Verifies passwords with the KDC of their realm.
#[derive(Debug)]
pub struct Kdc(());

impl Kdc {
    /// Whose password this is. `realm`: as krb5 spells it; `None` is the default realm.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with a [`super::Cause`]; [`Failure::Unavailable`] where no KDC answers; [`Failure::Busy`].
    pub async fn check(
        &self,
        _user: &str,
        _realm: Option<&str>,
        _password: Password,
    ) -> Result<Identity, Failure> {
        Err(Failure::Unavailable("passwords cannot be verified yet".into()))
    }
}

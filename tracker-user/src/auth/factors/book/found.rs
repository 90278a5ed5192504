//! What is looked up of passkeys, whoever's they are.

use std::collections::BTreeMap;

use super::{Known, SecondFactors, unseal};
use crate::auth::factors::passkeys::RelyingParty;
use crate::types::Identity;

impl SecondFactors {
    /// Whose passkeys know their user by this handle.
    pub(in crate::auth::factors) fn by_passkey_user(&self, handle: &[u8; 16]) -> Option<Identity> {
        let held = self.book.held();
        let key = held.passkeys.user(handle)?;
        let Known::Sealed { sealed, .. } = held.known.get(key)? else { return None };
        let account = unseal(&self.sealer, key, sealed)?;
        Some(Identity::restore(&account.user, &account.domain, key))
    }

    /// Whether anybody has the passkey of this number.
    pub(in crate::auth::factors) fn has_passkey(&self, credential: &[u8]) -> bool {
        self.book.held().passkeys.has(credential)
    }

    /// How many passkeys there are, by the host that they were made for.
    #[must_use]
    pub fn passkey_hosts(&self) -> BTreeMap<String, usize> {
        let held = self.book.held();
        held.passkeys.hosts().map(|(host, count)| (host.to_owned(), count)).collect()
    }

    /// What passkeys are made for.
    #[must_use]
    pub fn relying_party(&self) -> RelyingParty {
        RelyingParty::of(&self.settings.load().host, self.book.held().passkeys.hosts())
    }
}

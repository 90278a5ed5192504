//! What a ban stands on.

use std::sync::Arc;

use ring::hmac;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::clock::BootTime;
use crate::types::{ClientAddr, Identity};

/// An account, without what was typed for it: people type passwords where names belong. A keyed hash, the same for as
/// long as the store keeps the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey(pub [u8; 16]);

/// Makes the keys of names.
#[derive(Clone)]
pub(super) struct Names(hmac::Key);

impl Names {
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The key of an account: one, in whatever form its letters are written (NFC). Who writes them in several has no more
    /// tries for it.
    pub(super) fn of(&self, account: &str) -> NameKey {
        let composed = (!is_nfc(account)).then(|| account.nfc().collect::<String>());
        let tag = hmac::sign(&self.0, composed.as_deref().unwrap_or(account).as_bytes());
        let mut key = [0; 16];
        key.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        NameKey(key)
    }
}

/// What a ban stands on: what it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// An address for all accounts; an IPv6 address stands for its /64.
    Address(ClientAddr),
    /// An account from everywhere.
    User(NameKey),
    /// An account from one address.
    Pair(ClientAddr, NameKey),
}

impl Target {
    /// The words for what bans stand on.
    pub const SCOPES: [&'static str; 3] = ["address", "user", "pair"];

    /// Its word, the same in metrics, on disk, in the audit trail and in the API.
    #[must_use]
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::User(_) => "user",
            Self::Pair(..) => "pair",
        }
    }

    /// The address that it names; of an IPv6 network the one that it begins with.
    #[must_use]
    pub const fn address(self) -> Option<ClientAddr> {
        match self {
            Self::Address(address) | Self::Pair(address, _) => Some(address),
            Self::User(_) => None,
        }
    }

    /// The account that it names.
    #[must_use]
    pub const fn name(self) -> Option<NameKey> {
        match self {
            Self::User(name) | Self::Pair(_, name) => Some(name),
            Self::Address(_) => None,
        }
    }

    /// Whether it names this address, by itself or by its network.
    #[must_use]
    pub fn names_address(self, client: ClientAddr) -> bool {
        match self {
            Self::Address(network) => network == client.network(),
            Self::Pair(address, _) => address == client,
            Self::User(_) => false,
        }
    }
}

/// A ban that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// What it stands on.
    pub target: Target,
    /// The account ([`Identity::key`]), where it is known that there is one; nobody is shown what else was typed.
    pub account: Option<Arc<str>>,
    /// Since when.
    pub since: BootTime,
    /// Until when.
    pub until: BootTime,
    /// The wrong secrets that led to it.
    pub tries: u32,
    /// When somebody last tried, refused or not.
    pub last: BootTime,
}

impl Ban {
    /// Whose account it is about, if there is such an account.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        let (user, realm) = self.account.as_ref()?.rsplit_once('@')?;
        Some(if realm.is_empty() { Identity::local(user) } else { Identity::new(user, realm, realm) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_same_key_under_the_same_secret_alone() {
        let of = |secret, name| Names::new(&[secret; 32]).of(name);
        assert_eq!(of(1, "alice@example.test"), of(1, "alice@example.test"));
        assert_ne!(of(1, "alice@example.test"), of(1, "bob@example.test"));
        assert_ne!(of(1, "alice@example.test"), of(2, "alice@example.test"));
    }

    #[test]
    fn a_name_has_one_key_however_its_letters_are_written() {
        let of = |name| Names::new(&[1; 32]).of(name);
        assert_eq!(of("ju\u{308}rgen@"), of("j\u{fc}rgen@"));
        assert_eq!(of("nguye\u{302}\u{303}n@"), of("nguy\u{1ec5}n@"));
        assert_ne!(of("jurgen@"), of("j\u{fc}rgen@"));
    }

    #[test]
    fn an_address_is_named_by_its_network_and_a_pair_by_itself() {
        let client = |text: &str| text.parse::<ClientAddr>().unwrap();
        let (one, other) = (client("2001:db8::1"), client("2001:db8::2"));
        assert!(Target::Address(one.network()).names_address(other));
        assert!(!Target::Address(one.network()).names_address(client("2001:db8:0:1::1")));
        let name = NameKey([0; 16]);
        assert!(Target::Pair(one, name).names_address(one) && !Target::Pair(one, name).names_address(other));
        assert!(!Target::User(name).names_address(one));
        let v4 = client("192.0.2.1");
        assert!(Target::Address(v4.network()).names_address(v4));
        assert!(!Target::Address(v4.network()).names_address(client("192.0.2.2")));
    }
}

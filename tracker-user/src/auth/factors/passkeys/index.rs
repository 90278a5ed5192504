//! What of passkeys is looked up: whose they are, which there are, and what they were made for.

use std::collections::{BTreeMap, HashMap, HashSet};

use ring::digest::{SHA256, digest};

use crate::auth::factors::account::Account;

/// The SHA-256 of a credential's ID.
type Credential = [u8; 32];

/// What of one account is in the index.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::auth::factors) struct Indexed {
    /// Its user handle, if it has a passkey.
    user: Option<[u8; 16]>,
    credentials: Vec<Credential>,
    hosts: Vec<Box<str>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::auth::factors) struct Index {
    /// By user handle, the key of the identity.
    users: HashMap<[u8; 16], Box<str>>,
    credentials: HashSet<Credential>,
    hosts: BTreeMap<Box<str>, usize>,
}

impl Indexed {
    pub(in crate::auth::factors) fn of(account: &Account) -> Self {
        let user = account.passkey_user.filter(|_| !account.passkeys.is_empty());
        let credentials = account.passkeys.iter().map(|passkey| hash(passkey.credential.cred_id())).collect();
        let hosts = account.passkeys.iter().map(|passkey| passkey.host.as_str().into()).collect();
        Self { user, credentials, hosts }
    }
}

impl Index {
    pub(in crate::auth::factors) fn add(&mut self, key: &str, new: Indexed) {
        let Indexed { user, credentials, hosts } = new;
        self.users.extend(user.map(|user| (user, key.into())));
        self.credentials.extend(credentials);
        for host in hosts {
            *self.hosts.entry(host).or_default() += 1;
        }
    }

    pub(in crate::auth::factors) fn remove(&mut self, old: &Indexed) {
        let Indexed { user, credentials, hosts } = old;
        user.and_then(|user| self.users.remove(&user));
        for credential in credentials {
            self.credentials.remove(credential);
        }
        for host in hosts {
            if let Some(count) = self.hosts.get_mut(host) {
                *count -= 1;
            }
        }
        self.hosts.retain(|_, count| *count > 0);
    }

    /// The key of whose user handle this is.
    pub(in crate::auth::factors) fn user(&self, handle: &[u8; 16]) -> Option<&str> {
        self.users.get(handle).map(|key| &**key)
    }

    /// Whether anybody has this credential.
    pub(in crate::auth::factors) fn has(&self, credential: &[u8]) -> bool {
        self.credentials.contains(&hash(credential))
    }

    /// What passkeys were made for, and how many of each.
    pub(in crate::auth::factors) fn hosts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.hosts.iter().map(|(host, count)| (&**host, *count))
    }
}

fn hash(credential: &[u8]) -> Credential {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, credential).as_ref());
    hash
}

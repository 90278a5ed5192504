//! Which account a typed name means, and who knows its password. A trait, so that the door can be tried without a KDC.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use super::kdc::Kdc;
use super::local::LocalUsers;
use super::name::{Account, BadAccount};
use super::secret::Password;
use crate::auth::kerberos::NameRules;
use crate::auth::outcome::Failure;
use crate::types::Identity;

/// Whose password something is, later.
pub(super) type Checked<'a> = Pin<Box<dyn Future<Output = Result<Identity, Failure>> + Send + 'a>>;

/// Who knows accounts and their passwords.
pub(super) trait Accounts: fmt::Debug + Send + Sync + 'static {
    /// The account that a typed name means.
    fn find(&self, typed: &str, rules: &NameRules) -> Result<Target, BadAccount>;
    /// Which of the account's passwords counts at present: another number when that or the account has changed. `None` where
    /// they are not counted.
    fn generation(&self, target: &Target) -> Option<u64>;
    /// Whether this is the account's password.
    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a>;
}

/// An account, and who knows its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    user: String,
    /// `None`: the gateway's own list of users.
    realm: Option<Option<String>>,
    key: Identity,
}

impl Target {
    /// A user of the gateway's own.
    pub(super) fn local(user: &str) -> Self {
        Self { user: user.to_owned(), realm: None, key: Identity::local(user) }
    }

    /// A user of a realm, or of the default realm, which may have no name.
    pub(super) fn of_realm(user: String, realm: Option<String>) -> Self {
        let key = Identity::new(&user, realm.as_deref().unwrap_or("?"), "");
        Self { user, realm: Some(realm), key }
    }

    /// The account as everybody who regulates it calls it, however it was typed.
    pub(super) fn key(&self) -> &str {
        self.key.key()
    }

    /// Whether it is one of the gateway's own.
    pub(super) const fn is_local(&self) -> bool {
        self.realm.is_none()
    }
}

/// The realms' KDCs, and the gateway's own list of users.
#[derive(Debug)]
pub(super) struct Real {
    kdc: Kdc,
    local: Arc<LocalUsers>,
}

impl Real {
    pub(super) const fn new(kdc: Kdc, local: Arc<LocalUsers>) -> Self {
        Self { kdc, local }
    }
}

impl Accounts for Real {
    fn find(&self, typed: &str, rules: &NameRules) -> Result<Target, BadAccount> {
        Ok(match Account::parse(typed, rules)? {
            Account::Local(user) => Target::local(&user),
            Account::Realm { user, realm } => Target::of_realm(user, Some(realm)),
            Account::Bare(user) if self.local.knows(&user.to_lowercase()) => Target::local(&user),
            Account::Bare(user) => Target::of_realm(user, None),
        })
    }

    fn generation(&self, _target: &Target) -> Option<u64> {
        None
    }

    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a> {
        match &target.realm {
            None => Box::pin(self.local.check(&target.user, password)),
            Some(realm) => Box::pin(self.kdc.check(&target.user, realm.as_deref(), password)),
        }
    }
}

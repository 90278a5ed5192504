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
    /// Whether the account is known to be disabled. A realm says so only where it is asked for a password.
    fn is_disabled(&self, target: &Target) -> bool;

    /// Whether this is the account's password.
    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a>;
}

/// An account, and who knows its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    user: String,
    who: Who,
    key: Box<str>,
}

/// Who knows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    /// The gateway's own list of users.
    Local,
    /// The KDC of this realm, or of the default realm.
    Kdc(Option<String>),
}

impl Target {
    /// A user of the gateway's own, in lower case.
    pub(super) fn local(user: String) -> Self {
        let key = Identity::local(&user).key().into();
        Self { user, who: Who::Local, key }
    }

    /// A user of a realm, or of the default realm; `key` is [`Identity::key`].
    pub(super) fn of_realm(user: String, realm: Option<String>, key: &str) -> Self {
        Self { user, who: Who::Kdc(realm), key: key.into() }
    }

    /// The account as everybody who regulates it calls it, however it was typed.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is one of the gateway's own.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self.who, Who::Local)
    }
}

/// The realms' KDCs, and the gateway's own list of users.
#[derive(Debug)]
pub(super) struct Real {
    kdc: Arc<Kdc>,
    local: Arc<LocalUsers>,
}

impl Real {
    pub(super) const fn new(kdc: Arc<Kdc>, local: Arc<LocalUsers>) -> Self {
        Self { kdc, local }
    }

    fn of_realm(&self, user: String, realm: Option<String>) -> Target {
        // A realm that nobody can be asked about has no accounts; what was typed stands for it.
        let key = self.kdc.key(&user, realm.as_deref()).unwrap_or_else(|| match &realm {
            Some(realm) => Identity::new(&user, realm, "").key().to_owned(),
            None => user.to_lowercase(),
        });
        Target::of_realm(user, realm, &key)
    }
}

impl Accounts for Real {
    fn find(&self, typed: &str, rules: &NameRules) -> Result<Target, BadAccount> {
        Ok(match Account::parse(typed, rules)? {
            Account::Local(user) => Target::local(user),
            Account::Realm { user, realm } => self.of_realm(user, Some(realm)),
            Account::Bare(user) => {
                let lower = user.to_lowercase();
                if self.local.knows(&lower) { Target::local(lower) } else { self.of_realm(user, None) }
            }
        })
    }

    fn generation(&self, target: &Target) -> Option<u64> {
        if target.is_local() { self.local.generation(&target.user) } else { None }
    }

    fn is_disabled(&self, target: &Target) -> bool {
        target.is_local() && !self.local.is_enabled(&target.user)
    }

    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a> {
        match &target.who {
            Who::Local => Box::pin(self.local.check(&target.user, password)),
            Who::Kdc(realm) => Box::pin(self.kdc.check(&target.user, realm.as_deref(), password)),
        }
    }
}

//! A door to try other rooms with: it knows `name:right` for every name but `nobody`, and does as some names say.

use super::accounts::{Accounts, Checked, Target};
use super::cause::Cause;
use super::counters::Counters;
use super::door::{Passwords, Settings};
use super::name::BadAccount;
use super::regulated::{Regulation, Trying};
use super::secret::Password;
use crate::auth::kerberos::NameRules;
use crate::auth::outcome::Failure;
use crate::auth::regulation::Banned;
use crate::types::{ClientAddr, Identity};

#[derive(Debug)]
struct Fakes;

impl Accounts for Fakes {
    fn find(&self, typed: &str, _rules: &NameRules) -> Result<Target, BadAccount> {
        match typed {
            "" => Err(BadAccount::Length),
            user => Ok(Target::of_realm(user.to_lowercase(), None)),
        }
    }

    fn generation(&self, _target: &Target) -> u64 {
        0
    }

    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a> {
        let user = target.key().split('@').next().unwrap_or_default();
        let answer = match (user, password.reveal()) {
            ("down", _) => Err(Failure::Unavailable("no KDC answers".into())),
            ("busy", _) => Err(Failure::Busy),
            ("nobody", _) => Err(Failure::rejected(Cause::UnknownUser, "nobody has this name")),
            (_, "right") => Ok(Identity::new(user, "R", "R")),
            _ => Err(Failure::rejected(Cause::WrongPassword, "the password is wrong")),
        };
        Box::pin(async { answer })
    }
}

/// Everybody may try.
impl Regulation for () {
    fn begin(&self, _client: ClientAddr, account: &str) -> Result<Box<dyn Trying>, Banned> {
        if account.starts_with("banned@") { Err(Banned) } else { Ok(Box::new(())) }
    }

    fn is_banned(&self, client: ClientAddr, account: &str) -> bool {
        self.begin(client, account).is_err()
    }
}

impl Trying for () {
    fn succeeded(self: Box<Self>) {}
    fn failed(self: Box<Self>) {}
    fn is_void(self: Box<Self>) {}
}

/// The door.
pub(crate) fn door() -> Passwords {
    let settings = Settings::default();
    Passwords::with(Box::new(Fakes), Box::new(()), Counters::hidden().unwrap(), settings).unwrap()
}

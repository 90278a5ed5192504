//! A door to try other rooms with: it knows `name:right` for every name but `nobody`, and does as some names say.

use super::accounts::{Accounts, Checked, Target};
use super::cause::Cause;
use super::counters::Counters;
use super::door::{Passwords, Settings};
use super::name::BadAccount;
use super::regulated::{Begun, Regulation, Trying};
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
            user => Ok(Target::of_realm(user.to_lowercase(), None, &format!("{}@r", user.to_lowercase()))),
        }
    }

    fn generation(&self, _target: &Target) -> Option<u64> {
        None
    }

    fn is_disabled(&self, _target: &Target) -> bool {
        false
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

/// Everybody may try, but `banned`.
#[derive(Debug)]
struct Everybody;

impl Regulation for Everybody {
    fn begin_in_turn<'a>(&'a self, client: ClientAddr, account: &'a str) -> Begun<'a> {
        let begun: Result<Box<dyn Trying>, _> =
            if self.is_banned(client, account) { Err(Banned) } else { Ok(Box::new(Everybody)) };
        Box::pin(async { begun })
    }

    fn is_banned(&self, _client: ClientAddr, account: &str) -> bool {
        account.starts_with("banned@")
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl Trying for Everybody {
    fn succeeded(self: Box<Self>) {}
    fn failed(self: Box<Self>, _is_known: bool) {}
    fn is_void(self: Box<Self>) {}
}

/// The door.
pub(crate) fn door() -> Passwords {
    let settings = Settings::default();
    Passwords::with(Box::new(Fakes), Box::new(Everybody), None, Counters::hidden().unwrap(), settings)
        .unwrap()
}

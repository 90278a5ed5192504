//! Further factors: who has set up what, taking that away, and another key for what is kept of it.

use std::sync::Arc;
use std::sync::mpsc;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Ops, OpsError, Parts};
use crate::audit::{Actor, Event, FactorChange, SettingEvent, TrailEntry};
use crate::auth::factors::{self, Account};
use crate::session::Demand;
use crate::store::{Entry, Unkept};
use crate::types::{Identity, UserQuery};

/// What a user has set up. Nothing of it is a secret.
#[derive(Clone, Debug)]
pub struct SecondFactor {
    /// Whose.
    pub identity: Arc<Identity>,
    /// What is demanded of the user; `None`: nothing.
    pub demand: Option<Demand>,
    /// What they have set up; `None`: it cannot be read, and they cannot log in where a factor is asked for.
    pub set_up: Option<SetUp>,
}

/// What somebody has set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetUp {
    /// The authenticator.
    pub authenticator: Option<AuthenticatorView>,
    /// Passkeys, in the order in which they were added.
    pub passkeys: Vec<PasskeyView>,
    /// Where a code is mailed to that resets all of this, but for most of its name.
    pub recovery_address: Option<String>,
    /// So many recovery codes have not been used.
    pub recovery_codes: usize,
    /// So many codes were wrong since one was right.
    pub wrong: u32,
    /// So many that none is looked at any more.
    pub is_locked: bool,
}

/// An app that makes codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthenticatorView {
    /// Since when.
    pub since: Timestamp,
    /// When a code was last right.
    pub used: Timestamp,
    /// By how many steps of 30 s its clock was ahead of the gateway's then.
    pub drift: i64,
}

/// A passkey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasskeyView {
    /// What its user calls it.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
}

impl From<&Account> for SetUp {
    fn from(account: &Account) -> Self {
        let authenticator = account.authenticator.as_ref().map(|of| AuthenticatorView {
            since: of.since,
            used: of.used,
            drift: of.drift,
        });
        let passkeys = account.passkeys.iter().map(|of| PasskeyView {
            name: of.name.clone(),
            since: of.since,
            used: of.used,
        });
        Self {
            authenticator,
            passkeys: passkeys.collect(),
            recovery_address: account.recovery_address.as_ref().map(|address| masked(address)),
            recovery_codes: account.recovery_codes.len(),
            wrong: account.wrong,
            is_locked: account.is_locked(),
        }
    }
}

/// An address, but for most of its name: who looks may recognise it, and nobody learns it.
fn masked(address: &str) -> String {
    let (name, domain) = address.rsplit_once('@').unwrap_or(("", ""));
    let first: String = name.chars().take(1).collect();
    format!("{first}…@{domain}")
}

/// What a reset has come to.
#[derive(Clone, Debug)]
pub struct FactorsReset {
    /// Whose it was.
    pub identity: Arc<Identity>,
    /// What an operator should know: the disk took no note of it, and a restart brings it back.
    pub warning: Option<String>,
}

/// What a change of the key has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRotated {
    /// Which key was in force: a number that says nothing of it,
    pub before: String,
    /// and which one is.
    pub after: String,
    /// Of so many users what is kept can be read under neither.
    pub unreadable: usize,
}

impl Ops {
    /// Everybody who has set something up, by name.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn second_factors(&self) -> Result<Vec<SecondFactor>, OpsError> {
        let all = self.look(async |ops| {
            ops.blocking(|parts| {
                let keys = parts.factors.keys();
                keys.iter().map(|key| view(parts, known(parts, key))).collect::<Vec<SecondFactor>>()
            })
            .await
        });
        let all = all.await?;
        self.fits(all.len())?;
        Ok(all)
    }

    /// What whoever is called so has set up: of the gateway's own users also where that is nothing.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] if that is nobody.
    pub async fn second_factor(&self, user: &str) -> Result<Vec<SecondFactor>, OpsError> {
        let user = user.to_owned();
        self.look(async move |ops| {
            ops.blocking(move |parts| {
                let query = UserQuery::from(user.as_str());
                let mut found = called(parts, &query);
                let local = parts.local_users.user(query.user()).map(|user| Identity::local(&user.name));
                let is_new = |local: &Identity| found.iter().all(|known| **known != *local);
                if let Some(local) = local.filter(|local| local.is_called(&query) && is_new(local)) {
                    found.push(Arc::new(local));
                }
                if found.is_empty() {
                    return Err(nothing(&query));
                }
                Ok(found.into_iter().map(|who| view(parts, who)).collect())
            })
            .await?
        })
        .await
    }

    /// Takes away all that a user has set up, by order of `actor`: authenticator, passkeys, recovery address and codes; what was
    /// remembered under it is worth nothing any more. When this returns it is on disk, with the line of the audit trail, and the
    /// user's sessions are judged by it. Also where it cannot be read.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] if the user has set up nothing; [`OpsError::Ambiguous`] if several are called so.
    pub async fn reset_second_factor(&self, user: &str, actor: Actor) -> Result<FactorsReset, OpsError> {
        let query = UserQuery::from(user);
        self.order(async move |ops| {
            let who = ops.blocking(move |parts| one(parts, &query)).await??;
            let kept = ops.forget_factors(&who, actor).await?;
            let warning =
                kept.err().map(|unkept| format!("{unkept}; a restart before that brings the factor back"));
            Ok(FactorsReset { identity: who, warning })
        })
        .await
    }

    /// Forgets what a user has set up, if there is anything, and tells of it; whether the disk has it.
    pub(super) async fn forget_factors(
        &self,
        who: &Arc<Identity>,
        actor: Actor,
    ) -> Result<Result<(), Unkept>, OpsError> {
        let parts = self.parts();
        let (was, row) = parts.factors.reset(who);
        if !was {
            return Ok(Ok(()));
        }
        let line = factors::line(who, None, FactorChange::Reset, None, Some(actor));
        let (tell, told) = oneshot::channel();
        // Nobody may be left to be told.
        let answer = Box::new(move |kept| drop(tell.send(kept)));
        parts.journal.submit(vec![row, Entry::Event(Arc::clone(&line))], Some(answer));
        let kept = told.await.map_err(|_| OpsError::Stopping)?;
        parts.audit.record_kept(line);
        parts.tracker.enrolled(Arc::clone(who), parts.factors.enrolled(who)).await;
        Ok(kept)
    }

    /// Forgets what users of the gateway's own had set up who were removed, should a crash have kept it: whoever is added by the
    /// same name is somebody else. Called once, before anybody is served.
    pub async fn forget_factors_of_removed_users(&self) {
        let parts = self.parts();
        for key in parts.factors.keys() {
            let Some(name) = key.strip_suffix('@') else { continue };
            if parts.local_users.user(name).is_none() {
                let (_, row) = parts.factors.reset(&Identity::local(name));
                parts.journal.submit(vec![row], None);
            }
        }
    }

    /// Puts another key into force for what is sealed on disk, by order of `actor`. When this returns everything is sealed under it, and
    /// the one before it is gone.
    ///
    /// # Errors
    /// When the disk does not take it; see the error for what that has come to.
    pub async fn rotate_second_factor_key(&self, actor: Actor) -> Result<KeyRotated, OpsError> {
        self.order(async move |ops| {
            ops.blocking(move |parts| {
                let mut turned = (String::new(), String::new());
                let line = |before: String, after: String| {
                    turned = (before.clone(), after.clone());
                    let key = "second-factor.key";
                    TrailEntry::now(Event::Setting(SettingEvent {
                        key,
                        before,
                        after,
                        how: "rotated",
                        actor,
                    }))
                };
                let told = |line| parts.audit.record_kept(line);
                parts.sealer.rotate(&parts.journal, line, told)?;
                let ((before, after), (_, unreadable)) = (turned, parts.factors.count());
                Ok(KeyRotated { before, after, unreadable })
            })
            .await?
        })
        .await
    }
}

/// Forgets what somebody of this name had set up before: whoever is added is somebody else. On disk when this returns. Blocks.
pub(super) fn begin_anew(parts: &Parts, who: &Identity) -> Result<(), OpsError> {
    let (was, row) = parts.factors.reset(who);
    if !was {
        return Ok(());
    }
    let (tell, told) = mpsc::sync_channel(1);
    let answer = move |kept| {
        // Whoever waits for it waits below.
        let _ = tell.send(kept);
    };
    parts.journal.submit(vec![row], Some(Box::new(answer)));
    let kept = told.recv().unwrap_or_else(|_| Err(Unkept::closed()));
    kept.map_err(|unkept| OpsError::Unkept(unkept.problem))
}

/// Whose key this is, as far as it can be read.
fn known(parts: &Parts, key: &str) -> Arc<Identity> {
    let config = parts.configuration.config();
    let identity = config.identity_of(key);
    Arc::new(match parts.factors.account(&identity) {
        Some(account) => config.shown(Identity::restore(&account.user, &account.domain, key)),
        None => identity,
    })
}

fn view(parts: &Parts, identity: Arc<Identity>) -> SecondFactor {
    let set_up = match parts.factors.account(&identity) {
        Some(account) => Some(SetUp::from(&account)),
        None if parts.factors.is_unreadable(&identity) => None,
        None => Some(SetUp::default()),
    };
    let demand = parts.factors.settings().policy.demand(&identity);
    SecondFactor { identity, demand, set_up }
}

/// Those who have set something up and are called so.
fn called(parts: &Parts, query: &UserQuery) -> Vec<Arc<Identity>> {
    let all = parts.factors.keys();
    all.iter().map(|key| known(parts, key)).filter(|who| who.is_called(query)).collect()
}

/// The one who has set something up and is called so.
fn one(parts: &Parts, query: &UserQuery) -> Result<Arc<Identity>, OpsError> {
    let found = called(parts, query);
    match found.as_slice() {
        [] => Err(nothing(query)),
        [one] => Ok(Arc::clone(one)),
        several => {
            let names: Vec<String> = several.iter().map(|who| who.typed()).collect();
            Err(OpsError::Ambiguous(format!(
                "{query} may be {}: name one of them with the domain; nothing was changed",
                names.join(" or ")
            )))
        }
    }
}

fn nothing(query: &UserQuery) -> OpsError {
    OpsError::NotFound(format!(
        "nobody called {query} has set up a second factor: trackerctl second-factor show lists who has"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_recognised_by_who_knows_it_and_told_to_nobody() {
        assert_eq!(masked("alice.smith@example.org"), "a…@example.org");
        assert_eq!(masked("ä@b.test"), "ä…@b.test");
        assert_eq!(masked("nonsense"), "…@");
    }
}

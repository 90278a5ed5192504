//! Passkeys (WebAuthn, level 3): a browser is asked to make one, or to show one, and answers with what the user's device has signed.
//!
//! A device signs only after it has made sure of its user (by a finger, a face, a PIN), and only for the host that the passkey was
//! made for. So one passkey is two factors: it may stand behind a password, or alone. What is asked is good for one answer, within
//! a minute, from the browser that was asked ([`ceremonies`]).

mod attestation;
mod ceremonies;
mod index;
mod relying_party;
#[cfg(test)]
pub(crate) mod soft;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;
use webauthn_rs::prelude::{
    DiscoverableAuthentication, DiscoverableKey, PublicKeyCredential, RegisterPublicKeyCredential, Url, Uuid,
    Webauthn, WebauthnBuilder, WebauthnError,
};

use self::ceremonies::{Ceremonies, Ceremony, GOOD_FOR, Of};
use super::account::{Account, Passkey};
use super::book::{SecondFactors, Sent};
use super::code::{Checked, Wrong};
use crate::audit::FactorChange;
use crate::clock::BootTime;
use crate::outside::{NAME, shown};
use crate::session::Demand;
use crate::store::Entry;
use crate::types::{ClientAddr, Factor, Identity, UserMessage};

pub(super) use self::index::{Index, Indexed};
pub use self::relying_party::{RelyingParty, Unusable};

/// So many a user.
pub const MOST: usize = 10;
/// A name has so many letters at most.
pub const LONGEST_NAME: usize = 64;

/// The page on which a browser is asked, or from which it answers.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// From where.
    pub client: ClientAddr,
    /// The page's origin, as browsers name it: `https://gateway.example.test:4081`.
    pub origin: &'a str,
    /// The host in it, in lower case.
    pub host: &'a str,
    /// What tells this browser from others.
    pub browser: &'a str,
    /// When.
    pub at: BootTime,
}

/// What a browser is asked.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// Its number, which the answer names.
    id: String,
    /// The options, as `navigator.credentials` takes them, but for bytes, which are in base64url (RFC 4648, section 5).
    #[serde(rename = "publicKey")]
    options: Value,
}

/// What comes of a request for a new passkey.
#[derive(Debug)]
pub struct New<'a> {
    /// The number of what was asked.
    pub number: &'a str,
    /// What the browser says of it.
    pub answer: RegisterPublicKeyCredential,
    /// What its user calls it.
    pub name: &'a str,
}

/// What a browser is asked to sign, and where.
struct Posed {
    host: Box<str>,
    origin: Box<str>,
    state: DiscoverableAuthentication,
}

/// Nothing was asked, or the answer is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No passkey can be used on the page.
    Unusable(Unusable),
    /// The answer came too late, for the second time, from another browser, or to another question.
    Late,
    /// Nobody known has this passkey.
    Unknown,
    /// It is not good for the user.
    Wrong(Wrong),
    /// What the browser says of a new passkey cannot be accepted.
    NotMade,
    /// Somebody has this passkey already.
    Known,
    /// The user has as many as they may have.
    Full,
    /// The name is empty, too long, or has characters in it that cannot be seen.
    Name,
    /// Another passkey of the user's has this name.
    NameTaken,
    /// It is the last factor of a user of whom one is demanded.
    Last,
    /// There is no such passkey of the user's.
    Gone,
}

impl From<Unusable> for Refused {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Self::Wrong(wrong)
    }
}

impl Refused {
    /// What happened and what to do, for the person at the browser.
    #[must_use]
    pub fn user_message(&self) -> UserMessage {
        UserMessage::new(match self {
            Self::Unusable(unusable) => return unusable.user_message(),
            Self::Wrong(wrong) => return wrong.user_message(),
            Self::Late => "That took too long, or it was answered already. Try again.",
            Self::Unknown => {
                "This gateway does not know this passkey. Use another one, or log in with your password."
            }
            Self::NotMade => {
                "This device cannot make a passkey that is good here: it has to make sure of its user by a finger, a face or a \
                 PIN. Use another device."
            }
            Self::Known => "This passkey is in use already. Use another device.",
            Self::Full => "You have as many passkeys as you may have. Delete one first.",
            Self::Name => "A passkey needs a name that can be read, of 64 letters at most.",
            Self::NameTaken => "You have a passkey of this name already. Choose another name.",
            Self::Last => "This is your only second factor, and you need one. Set up another one first.",
            Self::Gone => "There is no such passkey any more.",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Passkeys {
    book: Arc<SecondFactors>,
    ceremonies: Ceremonies,
}

impl Passkeys {
    /// Of what is in this book.
    #[must_use]
    pub fn new(book: Arc<SecondFactors>) -> Self {
        Self { book, ceremonies: Ceremonies::default() }
    }

    /// Whether passkeys can be added and used on a page of this host.
    ///
    /// # Errors
    /// Why not.
    pub fn usable(&self, page: &str) -> Result<(), Unusable> {
        self.host(page).map(drop)
    }

    /// Whether a passkey is enough alone on a page of this host.
    ///
    /// # Errors
    /// Why not.
    pub fn usable_alone(&self, page: &str) -> Result<(), Unusable> {
        if self.book.settings().passkey_alone { self.usable(page) } else { Err(Unusable::Off) }
    }

    /// What passkeys on a page of this host are made for.
    fn host(&self, page: &str) -> Result<String, Unusable> {
        if !self.book.settings().passkeys {
            return Err(Unusable::Off);
        }
        self.book.relying_party().on(page).map(str::to_owned)
    }

    /// Asks for a new passkey of the user's: one that the device can find by itself, if it can.
    ///
    /// # Errors
    /// When none can be made.
    pub fn ask_for_new(&self, who: &Identity, asking: &Asking<'_>) -> Result<Asked, Refused> {
        let host = self.host(asking.host)?;
        let account = self.book.readable(who)?;
        if account.passkeys.len() >= MOST {
            return Err(Refused::Full);
        }
        let handle = account.passkey_user.map_or_else(draw, Ok)?;
        let known = account.passkeys.iter().map(|passkey| passkey.credential.cred_id().clone()).collect();
        let name = who.to_string();
        let relying = self.relying(&host, asking.origin)?;
        let (created, state) = relying
            .start_passkey_registration(Uuid::from_bytes(handle), &name, &name, Some(known))
            .map_err(|_| Wrong::Unable)?;
        let mut options = serde_json::to_value(created.public_key).map_err(|_| Wrong::Unable)?;
        let rule = json!({ "residentKey": "preferred", "requireResidentKey": false, "userVerification": "required" });
        if let Some(options) = options.as_object_mut() {
            options.insert("authenticatorSelection".into(), rule);
        }
        let of = Of::Registration { user: who.key().into(), handle, state };
        self.put(Ceremony::new(of, &host, asking), options)
    }

    /// Takes a new passkey, and returns the row that says so on disk. `also` changes what is set up together with the first factor.
    ///
    /// # Errors
    /// When it is not accepted; nothing is changed then.
    pub fn add(
        &self,
        who: &Identity,
        asking: &Asking<'_>,
        new: New<'_>,
        sent: Sent,
        also: impl FnOnce(&mut Account),
    ) -> Result<Entry, Refused> {
        let New { number, mut answer, name } = new;
        let name = readable_name(name)?;
        let ceremony = self.ceremonies.take(number, asking).filter(|ceremony| ceremony.of.is_of(who));
        let Some(Ceremony { of: Of::Registration { handle, state, .. }, host, origin, .. }) = ceremony else {
            return Err(Refused::Late);
        };
        // They may have been switched off, or the host exchanged, meanwhile.
        if *self.host(asking.host)? != *host {
            return Err(Refused::Late);
        }
        answer.response.attestation_object =
            attestation::stripped(&answer.response.attestation_object).ok_or(Refused::NotMade)?;
        let discoverable = answer.extensions.cred_props.as_ref().and_then(|properties| properties.rk);
        let made = self.relying(&host, &origin)?.finish_passkey_registration(&answer, &state);
        let credential = made.map_err(|problem| {
            info!(user = %who, client = %asking.client, %problem, "a new passkey was not accepted");
            Refused::NotMade
        })?;
        if self.book.has_passkey(credential.cred_id()) {
            return Err(Refused::Known);
        }
        let new = Passkey { name, host: host.into(), credential, discoverable, since: sent.wall, used: None };
        let (added, row) = self
            .book
            .change(who, |account| add_to(account, handle, new, also))
            .map_err(|_| Wrong::Unreadable)?;
        added.map(|()| row)
    }

    /// Asks for one of the user's passkeys.
    ///
    /// # Errors
    /// When none can be used.
    pub fn ask_for_own(&self, who: &Identity, asking: &Asking<'_>) -> Result<Asked, Refused> {
        let host = self.host(asking.host)?;
        let account = self.book.readable(who)?;
        if account.passkeys.is_empty() {
            return Err(Wrong::NotEnrolled.into());
        }
        let (mut options, state) = self.ask(&host, asking)?;
        let own = account.passkeys.iter().map(|passkey| {
            let id = data_encoding::BASE64URL_NOPAD.encode(passkey.credential.cred_id());
            json!({ "type": "public-key", "id": id })
        });
        if let Some(options) = options.as_object_mut() {
            options.insert("allowCredentials".into(), own.collect());
        }
        self.put(Ceremony::new(Of::Second { user: who.key().into(), state }, &host, asking), options)
    }

    /// Whether the answer is good, and one of the user's passkeys: it is a further factor then.
    ///
    /// # Errors
    /// When it is not accepted. A wrong one counts as a wrong code does, and stands in the audit trail.
    pub fn check_own(
        &self,
        who: &Arc<Identity>,
        asking: &Asking<'_>,
        number: &str,
        answer: &PublicKeyCredential,
        sent: Sent,
    ) -> Result<Checked, Refused> {
        let ceremony = self.ceremonies.take(number, asking).filter(|ceremony| ceremony.of.is_of(who));
        let Some(Ceremony { of: Of::Second { state, .. }, host, origin, .. }) = ceremony else {
            return Err(Refused::Late);
        };
        self.check(who, Posed { host, origin, state }, asking, answer, sent)
    }

    /// Asks for any passkey of this gateway's, of whoever it is.
    ///
    /// # Errors
    /// When none can be used, or none is enough alone.
    pub fn ask_for_any(&self, asking: &Asking<'_>) -> Result<Asked, Refused> {
        self.usable_alone(asking.host)?;
        let host = self.host(asking.host)?;
        let (options, state) = self.ask(&host, asking)?;
        self.put(Ceremony::new(Of::Alone { state }, &host, asking), options)
    }

    /// Whose passkey it is, if the answer is good: they need neither password nor ticket.
    ///
    /// # Errors
    /// When it is not accepted. A wrong one of a known user counts as a wrong code does, and stands in the audit trail.
    pub fn check_any(
        &self,
        asking: &Asking<'_>,
        number: &str,
        answer: &PublicKeyCredential,
        sent: Sent,
    ) -> Result<(Arc<Identity>, Checked), Refused> {
        let Some(Ceremony { of: Of::Alone { state }, host, origin, .. }) =
            self.ceremonies.take(number, asking)
        else {
            return Err(Refused::Late);
        };
        self.usable_alone(asking.host)?;
        let handle: Option<[u8; 16]> = answer.get_user_unique_id().and_then(|handle| handle.try_into().ok());
        let who = handle.and_then(|handle| self.book.by_passkey_user(&handle)).ok_or(Refused::Unknown)?;
        let who = Arc::new(who);
        let checked = self.check(&who, Posed { host, origin, state }, asking, answer, sent)?;
        Ok((who, checked))
    }

    /// Calls the user's passkey of this id (in base64url) otherwise, and returns the row that says so on disk.
    ///
    /// # Errors
    /// When it cannot be called so.
    pub fn rename(&self, who: &Identity, id: &str, new: &str) -> Result<Entry, Refused> {
        let new = readable_name(new)?;
        self.own(who)?;
        let (done, row) =
            self.book.change(who, |account| rename_in(account, id, new)).map_err(|_| Wrong::Unreadable)?;
        done.map(|()| row)
    }

    /// Deletes the user's passkey of this id (in base64url), and returns its name and the row that says so on disk. With the last
    /// factor the ways to recover go, too.
    ///
    /// # Errors
    /// When there is none of this id, or it is the last factor and one is demanded.
    pub fn remove(&self, who: &Identity, id: &str) -> Result<(String, Entry), Refused> {
        self.own(who)?;
        let is_demanded = self.book.settings().policy.demand(who) == Some(Demand::Always);
        let (done, row) = self
            .book
            .change(who, |account| {
                let removed = remove_from(account, id, is_demanded)?;
                if account.factors().is_empty() {
                    let Account { generation, wrong, .. } = *account;
                    *account = Account { generation, wrong, ..Account::of(who) };
                }
                Ok(removed)
            })
            .map_err(|_| Wrong::Unreadable)?;
        done.map(|name| (name, row))
    }

    /// There are some of the user's.
    fn own(&self, who: &Identity) -> Result<(), Refused> {
        if self.book.readable(who)?.passkeys.is_empty() { Err(Refused::Gone) } else { Ok(()) }
    }

    fn put(&self, ceremony: Ceremony, options: Value) -> Result<Asked, Refused> {
        let id = self.ceremonies.put(ceremony).ok_or(Wrong::Unable)?;
        Ok(Asked { id, options })
    }

    /// Options that any passkey answers.
    fn ask(&self, host: &str, asking: &Asking<'_>) -> Result<(Value, DiscoverableAuthentication), Refused> {
        let relying = self.relying(host, asking.origin)?;
        let (asked, state) = relying.start_discoverable_authentication().map_err(|_| Wrong::Unable)?;
        let options = serde_json::to_value(asked.public_key).map_err(|_| Wrong::Unable)?;
        Ok((options, state))
    }

    fn check(
        &self,
        who: &Arc<Identity>,
        posed: Posed,
        asking: &Asking<'_>,
        answer: &PublicKeyCredential,
        sent: Sent,
    ) -> Result<Checked, Refused> {
        let Posed { host, origin, state } = posed;
        if *self.host(asking.host)? != *host {
            return Err(Refused::Late);
        }
        let relying = self.relying(&host, &origin)?;
        let checked = self.book.attempt(who, FactorChange::WrongPasskey, sent, |account| {
            let handle = answer.get_user_unique_id();
            let is_theirs = handle.is_none_or(|handle| account.passkey_user.is_some_and(|own| own == *handle));
            let own = account.passkeys.iter_mut().find(|own| **own.credential.cred_id() == *answer.get_credential_id());
            let Some(own) = own.filter(|_| is_theirs) else {
                info!(user = %who, client = %asking.client, "a passkey was not accepted: it is none of the user's");
                return Err(Wrong::Passkey);
            };
            match relying.finish_discoverable_authentication_v2(answer, state, DiscoverableKey::from(&own.credential)) {
                Ok(shown) => {
                    own.credential.update_credential(&shown);
                    own.used = Some(sent.wall);
                    Ok((Factor::Passkey, 0))
                }
                Err(problem) => {
                    info!(user = %who, client = %asking.client, passkey = own.name, %problem, "a passkey was not accepted");
                    Err(match problem {
                        WebauthnError::CredentialPossibleCompromise => Wrong::PasskeyCounter,
                        _ => Wrong::Passkey,
                    })
                }
            }
        });
        checked.map_err(Refused::Wrong)
    }

    fn relying(&self, host: &str, origin: &str) -> Result<Webauthn, Wrong> {
        let name = &self.book.settings().issuer;
        let origin = Url::parse(origin).map_err(|_| Wrong::Unable)?;
        let builder = WebauthnBuilder::new(host, &origin).map_err(|_| Wrong::Unable)?;
        builder.rp_name(name).timeout(GOOD_FOR).build().map_err(|_| Wrong::Unable)
    }
}

impl SecondFactors {
    /// What a user has set up, of one of whom nothing is known nothing.
    fn readable(&self, who: &Identity) -> Result<Account, Wrong> {
        match self.account(who) {
            Some(account) => Ok(account),
            None if self.enrolled(who).is_empty() => Ok(Account::of(who)),
            None => Err(Wrong::Unreadable),
        }
    }
}

fn add_to(
    account: &mut Account,
    handle: [u8; 16],
    new: Passkey,
    also: impl FnOnce(&mut Account),
) -> Result<(), Refused> {
    if account.passkeys.len() >= MOST {
        return Err(Refused::Full);
    }
    is_free(account, &new.name, None)?;
    // Two at once that were both the first: their devices know the user by different handles.
    if *account.passkey_user.get_or_insert(handle) != handle {
        return Err(Refused::Late);
    }
    if account.factors().is_empty() {
        also(account);
    }
    account.passkeys.push(new);
    Ok(())
}

fn rename_in(account: &mut Account, id: &str, new: String) -> Result<(), Refused> {
    let at = place(account, id)?;
    is_free(account, &new, Some(at))?;
    if let Some(own) = account.passkeys.get_mut(at) {
        own.name = new;
    }
    Ok(())
}

fn remove_from(account: &mut Account, id: &str, is_demanded: bool) -> Result<String, Refused> {
    let at = place(account, id)?;
    if is_demanded && account.passkeys.len() == 1 && account.authenticator.is_none() {
        return Err(Refused::Last);
    }
    Ok(account.passkeys.remove(at).name)
}

/// Where the passkey of this id is.
fn place(account: &Account, id: &str) -> Result<usize, Refused> {
    let id = data_encoding::BASE64URL_NOPAD.decode(id.as_bytes()).map_err(|_| Refused::Gone)?;
    account.passkeys.iter().position(|own| **own.credential.cred_id() == *id).ok_or(Refused::Gone)
}

/// Whether no passkey but the one at `but` has this name, whatever its case.
fn is_free(account: &Account, name: &str, but: Option<usize>) -> Result<(), Refused> {
    let folded = name.to_lowercase();
    let mut others = account.passkeys.iter().enumerate().filter(|(at, _)| Some(*at) != but);
    if others.any(|(_, own)| own.name.to_lowercase() == folded) { Err(Refused::NameTaken) } else { Ok(()) }
}

/// A name without white space around it, if all of it can be seen.
fn readable_name(name: &str) -> Result<String, Refused> {
    let name = name.trim();
    let is_short = !name.is_empty() && name.chars().count() <= LONGEST_NAME;
    let is_readable = is_short && *shown(name, NAME) == *name;
    if is_readable { Ok(name.to_owned()) } else { Err(Refused::Name) }
}

/// A user handle: it says nothing of its user.
fn draw() -> Result<[u8; 16], Wrong> {
    let mut handle = [0; 16];
    SystemRandom::new().fill(&mut handle).map_err(|_| Wrong::Unable)?;
    Ok(handle)
}

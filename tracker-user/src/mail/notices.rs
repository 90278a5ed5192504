//! Whom the gateway tells by mail what was done to their second factor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::letter::Letter;
use super::mailer::Mailer;
use super::words::{Happened, Notice, write};
use crate::auth::factors::{Mailed, SecondFactors};
use crate::clock::wall_now;
use crate::pages::{Language, Languages};
use crate::store::Entry;
use crate::types::{ClientAddr, Identity};

/// A notice is worth sending for so long.
const WORTH: Duration = Duration::from_secs(24 * 3600);

/// Whose gateway it is, as mails say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct House {
    /// Its name.
    pub organisation: Option<String>,
    /// Whom people turn to.
    pub contact: Option<String>,
    /// The gateway's own name.
    pub host: String,
    /// Where its pages are: `https://host:port`; `None`: nowhere under TLS.
    pub origin: Option<String>,
}

/// See the module.
pub struct Notices {
    mailer: Arc<Mailer>,
    factors: Arc<SecondFactors>,
    languages: Languages,
    house: ArcSwap<House>,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notices").finish_non_exhaustive()
    }
}

impl Notices {
    /// Notices that go by this mailer.
    #[must_use]
    pub fn new(mailer: Arc<Mailer>, factors: Arc<SecondFactors>, languages: Languages, house: House) -> Self {
        Self { mailer, factors, languages, house: ArcSwap::from_pointee(house) }
    }

    /// Says it is another house from now on.
    pub fn configure(&self, house: House) {
        self.house.store(Arc::new(house));
    }

    /// Whether any mail is sent.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.mailer.is_on()
    }

    /// The language of this tag, else English.
    #[must_use]
    pub fn language(&self, tag: &str) -> Language {
        self.languages.choose(Some(tag))
    }

    /// Where a user is told: at their recovery address, and in their own mailbox where it is known. Ask before a reset, which forgets
    /// the one.
    #[must_use]
    pub fn addresses(&self, who: &Identity) -> BTreeSet<String> {
        let account = self.factors.account(who);
        let recovery = account.and_then(|account| account.recovery_address.as_deref().cloned());
        recovery.into_iter().chain(self.factors.settings().mailboxes.own(who)).collect()
    }

    /// Tells a user what was done, at these addresses ([`Self::addresses`]), in this language. `with` is kept in the same transaction:
    /// it is told as soon as that is on disk. Waits for nothing.
    pub fn tell(
        &self,
        who: &Identity,
        to: impl IntoIterator<Item = String>,
        notice: Notice<'_>,
        from: Option<ClientAddr>,
        language: &Language,
        with: Vec<Entry>,
    ) {
        let now = wall_now();
        let until = now.checked_add(WORTH).unwrap_or(Timestamp::MAX);
        let letter = |to| self.letter(who, to, notice, Happened { at: now, client: from }, language, until);
        let letters = to.into_iter().map(letter).collect();
        self.mailer.send_with(with, letters);
    }

    /// Mails a code to the recovery address, and tells the user's own mailbox of it.
    pub fn mail_code(&self, who: &Identity, mailed: Mailed, from: ClientAddr, language: &Language) {
        let Mailed { code, to, until, entries } = mailed;
        let happened = Happened { at: wall_now(), client: Some(from) };
        let worth = happened.at.checked_add(WORTH).unwrap_or(Timestamp::MAX);
        let mut letters = vec![self.letter(
            who,
            (*to).clone(),
            Notice::Code(&code, until),
            happened,
            language,
            // Afterwards the code is none.
            until,
        )];
        let own = self.factors.settings().mailboxes.own(who);
        letters.extend(own.map(|own| self.letter(who, own, Notice::CodeMailed, happened, language, worth)));
        self.mailer.send_with(entries, letters);
    }

    fn letter(
        &self,
        who: &Identity,
        to: String,
        notice: Notice<'_>,
        happened: Happened,
        language: &Language,
        until: Timestamp,
    ) -> Letter {
        let (subject, text) = write(language, &self.house.load(), who, notice, happened);
        let to = Zeroizing::new(to);
        Letter { to, subject, text, written: happened.at, until, about: Some(who.into()) }
    }
}

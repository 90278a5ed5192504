//! Recovery by mail: a code that is mailed to the recovery address resets the second factor, at once or, where it is configured so,
//! after a time in which it can be stopped. All of it stands in the user's account, so that it survives a restart.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::book::{SecondFactors, Sent};
use super::code::Wrong;
use crate::audit::FactorChange;
use crate::store::Entry;
use crate::types::{Factor, Identity};

/// A code has so many characters,
const LENGTH: usize = 8;
/// of these: none is taken for another (I, L, O, U, 0 and 1 are left out).
const ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
/// So long it is good.
pub const GOOD_FOR: Duration = Duration::from_secs(10 * 60);
/// So many may be wrong; then it is good no more.
const TRIES: u8 = 3;
/// A user is mailed one in so long,
const ONE_IN: Duration = Duration::from_secs(60);
/// and so many in a day.
const A_DAY: usize = 5;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How far a user's recovery by mail has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// The code that is good now.
    code: Option<MailedCode>,
    /// When codes were mailed, within a day.
    asked: Vec<Timestamp>,
    /// A reset that waits.
    due: Option<Due>,
}

/// A mailed code, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MailedCode {
    salt: [u8; 16],
    hash: [u8; 32],
    until: Timestamp,
    tries: u8,
}

/// A reset that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Due {
    at: Timestamp,
    /// The SHA-256 of what stops it.
    stop: [u8; 32],
    /// The language in which its user is told of it.
    language: String,
}

/// A code that is to be mailed.
#[derive(Debug)]
pub struct Mailed {
    /// The code.
    pub code: Zeroizing<String>,
    /// To where.
    pub to: Zeroizing<String>,
    /// Until when it is good.
    pub until: Timestamp,
    /// What says so on disk: to be kept before the mail is sent.
    pub entries: Vec<Entry>,
}

/// A mailed code was right.
#[derive(Debug)]
pub enum Recovered {
    /// The second factor is reset. What says so on disk.
    Now(Vec<Entry>),
    /// It will be.
    Later {
        /// When.
        at: Timestamp,
        /// Whoever has this may stop it ([`SecondFactors::stop_by`]).
        stop: Zeroizing<String>,
        /// What says so on disk.
        entries: Vec<Entry>,
    },
}

/// No code is mailed. The person who asked for one is not told which of these it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotMailed {
    /// There is nothing to reset, or nowhere to mail to.
    #[error("no recovery address is known")]
    NoAddress,
    /// One was mailed just now, or there were too many today.
    #[error("too many codes were mailed")]
    TooOften,
    /// A code was right already, and the reset waits.
    #[error("a reset waits already")]
    Waits,
    /// The gateway has no randomness.
    #[error("the system has no randomness")]
    Unable,
}

impl Recovery {
    /// When a reset takes effect that waits.
    pub(super) fn due(&self) -> Option<Timestamp> {
        self.due.as_ref().map(|due| due.at)
    }

    /// A reset that waits does so no more, unless it was begun since `before`; whether there was one.
    pub(super) fn proved_otherwise(&mut self, before: Option<Timestamp>) -> bool {
        let stops = before.is_some() && self.due() == before;
        if stops {
            self.due = None;
        }
        stops
    }

    /// A new code. The one before is good no more.
    fn draw(&mut self, now: Timestamp) -> Result<(Zeroizing<String>, Timestamp), NotMailed> {
        if self.due.is_some() {
            return Err(NotMailed::Waits);
        }
        // What lies in the future was written before the clock was set back: it counts, but not for longer than a day.
        let ago = |asked: &Timestamp| now.duration_since(*asked).unsigned_abs();
        self.asked.retain(|asked| ago(asked) < DAY);
        if self.asked.len() >= A_DAY || self.asked.iter().any(|asked| ago(asked) < ONE_IN) {
            return Err(NotMailed::TooOften);
        }
        let code = draw_code().ok_or(NotMailed::Unable)?;
        let salt = random().ok_or(NotMailed::Unable)?;
        let until = now.checked_add(GOOD_FOR).map_err(|_| NotMailed::Unable)?;
        self.code = Some(MailedCode { salt, hash: hash(&salt, &code), until, tries: 0 });
        self.asked.push(now);
        Ok((code, until))
    }

    /// Whether the code is right. It is spent then; one that was wrong too often is good no more.
    fn spend(&mut self, typed: &str, now: Timestamp) -> bool {
        let Some(own) = &mut self.code else { return false };
        if own.until <= now {
            self.code = None;
            return false;
        }
        if same(&own.hash, &hash(&own.salt, &canonical(typed))) {
            self.code = None;
            return true;
        }
        own.tries += 1;
        if own.tries >= TRIES {
            self.code = None;
        }
        false
    }
}

impl SecondFactors {
    /// A new code for the user, to be mailed to their recovery address. The one before is good no more.
    ///
    /// # Errors
    /// When none is mailed.
    pub fn mail_code(&self, who: &Identity, now: Timestamp) -> Result<Mailed, NotMailed> {
        // Nothing is written for whoever has set up nothing.
        let account = self.account(who).ok_or(NotMailed::NoAddress)?;
        if account.factors().is_empty() || account.recovery_address.is_none() {
            return Err(NotMailed::NoAddress);
        }
        let changed = self.change(who, |account| {
            let to = account.recovery_address.clone().ok_or(NotMailed::NoAddress)?;
            let (code, until) = account.recovery.draw(now)?;
            Ok((code, to, until))
        });
        let (drawn, row) = changed.map_err(|_| NotMailed::Unable)?;
        let (code, to, until) = drawn?;
        Ok(Mailed { code, to, until, entries: vec![row] })
    }

    /// Whether a mailed code is right. Then the second factor is reset, at once or later, and the code is spent. `language`: in
    /// which its user is told of a later one.
    ///
    /// # Errors
    /// When it is not accepted: all tries of an account share its budgets.
    pub fn recover(
        &self,
        who: &Arc<Identity>,
        code: &str,
        language: &str,
        sent: Sent,
    ) -> Result<Recovered, Wrong> {
        let delay = self.settings().recovery_delay;
        let secret = random::<16>().ok_or(Wrong::Unable)?;
        let stop = Zeroizing::new(data_encoding::HEXLOWER.encode(&secret));
        let at = sent.wall.checked_add(delay).map_err(|_| Wrong::Unable)?;
        let checked = self.attempt(who, FactorChange::WrongRecoveryCode, sent, |account| {
            if account.factors().is_empty() {
                return Err(Wrong::NotEnrolled);
            }
            if !account.recovery.spend(code, sent.wall) {
                return Err(Wrong::Code);
            }
            if !delay.is_zero() {
                let stop = digest_of(stop.as_bytes());
                account.recovery.due = Some(Due { at, stop, language: language.to_owned() });
            }
            Ok((Factor::RecoveryCode, 0))
        })?;
        if delay.is_zero() {
            let (_, row) = self.reset(who);
            return Ok(Recovered::Now(vec![row]));
        }
        Ok(Recovered::Later { at, stop, entries: checked.entries })
    }

    /// When a reset of the user takes effect that waits.
    #[must_use]
    pub fn recovery_due(&self, who: &Identity) -> Option<Timestamp> {
        self.waiting_recoveries().into_iter().find(|(key, _)| **key == *who.key()).map(|(_, at)| at)
    }

    /// Stops a reset that waits; what says so on disk. `None`: none waits.
    #[must_use]
    pub fn stop_recovery(&self, who: &Identity) -> Option<Entry> {
        self.recovery_due(who)?;
        let (was, row) = self.change(who, |account| account.recovery.due.take().is_some()).ok()?;
        was.then_some(row)
    }

    /// Whose reset it is that this secret stops.
    #[must_use]
    pub fn stop_by(&self, secret: &str) -> Option<Arc<Identity>> {
        let secret = digest_of(secret.as_bytes());
        self.waiting_recoveries().into_iter().find_map(|(key, _)| {
            let account = self.account_of(&key)?;
            let stops = account.recovery.due.as_ref().is_some_and(|due| same(&due.stop, &secret));
            stops.then(|| Arc::new(Identity::restore(&account.user, &account.domain, &key)))
        })
    }

    /// Whose resets take effect now, and in which language each is told of it: reset them.
    #[must_use]
    pub fn recoveries_due(&self, now: Timestamp) -> Vec<(Arc<Identity>, String)> {
        let due = self.waiting_recoveries().into_iter().filter(|(_, at)| *at <= now);
        due.filter_map(|(key, _)| {
            let account = self.account_of(&key)?;
            let language = account.recovery.due.as_ref()?.language.clone();
            Some((Arc::new(Identity::restore(&account.user, &account.domain, &key)), language))
        })
        .collect()
    }
}

/// A code as it was mailed, however it was typed.
fn canonical(typed: &str) -> Zeroizing<String> {
    // Whoever sends more than that has not typed a code.
    let mut code = Zeroizing::new(String::with_capacity(4 * LENGTH));
    let meant = typed.chars().filter(|c| !c.is_whitespace() && *c != '-').take(LENGTH + 1);
    meant.for_each(|c| code.push(c.to_ascii_uppercase()));
    code
}

fn draw_code() -> Option<Zeroizing<String>> {
    let mut code = Zeroizing::new(String::with_capacity(LENGTH));
    while code.len() < LENGTH {
        let [byte] = random::<1>()?;
        // So that each is as likely as any other.
        let whole = u8::MAX - u8::MAX % 30;
        if byte < whole {
            code.push(char::from(*ALPHABET.get(usize::from(byte % 30))?));
        }
    }
    Some(code)
}

fn hash(salt: &[u8; 16], code: &str) -> [u8; 32] {
    let mut text = Zeroizing::new(Vec::with_capacity(salt.len() + 4 * LENGTH + 8));
    text.extend_from_slice(salt);
    text.extend_from_slice(code.as_bytes());
    digest_of(&text)
}

fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Takes as long whatever differs.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn codes_are_drawn_of_thirty_letters() {
        let mut seen = std::collections::BTreeMap::<u8, u32>::new();
        for _ in 0..3_000 {
            let code = draw_code().unwrap();
            assert_eq!(code.len(), LENGTH);
            code.bytes().for_each(|byte| *seen.entry(byte).or_default() += 1);
        }
        // Each 800 times, but for chance.
        assert!(seen.len() == 30 && seen.values().all(|count| (600..1_000).contains(count)), "{seen:?}");
        assert!(seen.keys().all(|byte| ALPHABET.contains(byte)));
    }

    #[test]
    fn a_code_is_good_once_for_ten_minutes_and_three_tries() {
        let mut own = Recovery::default();
        assert!(!own.spend("", at(0)), "there is none");
        let (code, until) = own.draw(at(0)).unwrap();
        assert_eq!(until, at(600));
        let typed = format!(" {}-{} ", &code[..4].to_lowercase(), &code[4..]);
        assert!(own.clone().spend(&typed, at(599)) && !own.clone().spend(&typed, at(600)));
        let longer = format!("{}X", *code);
        for wrong in ["", "AAAAAAAA", &longer, &code[..7], &"\u{e4}".repeat(100_000)] {
            assert!(!own.clone().spend(wrong, at(1)), "{wrong}");
        }
        assert!(!own.spend("AAAAAAAA", at(1)) && !own.spend("AAAAAAAA", at(1)));
        assert!(own.clone().spend(&code, at(1)), "the third one is right");
        assert!(!own.spend("AAAAAAAA", at(1)) && !own.spend(&code, at(1)), "three were wrong");
        let (next, _) = own.draw(at(60)).unwrap();
        assert!(own.spend(&next, at(61)) && !own.spend(&next, at(61)), "it is spent");
    }

    #[test]
    fn codes_are_mailed_one_a_minute_and_five_a_day_and_the_newest_counts() {
        let mut own = Recovery::default();
        let (first, _) = own.draw(at(0)).unwrap();
        assert_eq!(own.draw(at(59)).err(), Some(NotMailed::TooOften));
        assert!(own.clone().spend(&first, at(59)), "the one that was mailed is good still");
        let (second, _) = own.draw(at(60)).unwrap();
        assert!(!own.spend(&first, at(61)) && own.spend(&second, at(61)));
        for more in 2..5 {
            own.draw(at(60 * more)).unwrap();
        }
        assert_eq!(own.draw(at(600)).err(), Some(NotMailed::TooOften));
        assert_eq!(own.draw(at(24 * 3600 - 1)).err(), Some(NotMailed::TooOften));
        assert!(own.draw(at(24 * 3600)).is_ok(), "the first one was a day ago");
        // A clock that was set back lets nobody be flooded, and locks nobody out for longer than it was wrong and a day.
        let mut ahead = Recovery::default();
        ahead.draw(at(90 * 24 * 3600)).unwrap();
        assert!(ahead.draw(at(0)).is_ok());
    }

    #[test]
    fn while_a_reset_waits_no_code_is_mailed_and_another_proof_stops_it() {
        let due = Due { at: at(60), stop: [0; 32], language: "en".into() };
        let mut own = Recovery { due: Some(due.clone()), ..Recovery::default() };
        assert_eq!(own.draw(at(0)).err(), Some(NotMailed::Waits));
        let mut begun = Recovery { due: Some(due), ..Recovery::default() };
        assert!(!begun.proved_otherwise(None) && begun.due().is_some(), "the mailed code itself begins it");
        let before = own.due();
        assert!(own.proved_otherwise(before) && own.due().is_none());
        assert!(!own.proved_otherwise(own.due()));
    }
}

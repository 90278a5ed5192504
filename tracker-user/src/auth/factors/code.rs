//! Codes that change with time (RFC 6238).

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use totp_rs::{Builder, Secret};
use zeroize::Zeroizing;

use super::account::{Algorithm, Authenticator, Parameters};
use crate::store::Entry;
use crate::types::{Factor, UserMessage};

/// A secret has so many bytes: as many as the hash gives (RFC 4226, section 4).
const SECRET: usize = 20;
/// So many steps a code may be off, either way (RFC 6238, section 5.2).
const DRIFT: u16 = 1;

/// A factor was proved.
#[derive(Debug)]
pub struct Checked {
    /// Which.
    pub factor: Factor,
    /// By how many steps of time the authenticator's clock is ahead, as far as its user should know; 0 of what has no clock.
    pub drift: i64,
    /// That it is spent: to be kept in the transaction of what it is spent for.
    pub entries: Vec<Entry>,
}

/// A factor was not proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It is wrong, or has been used before.
    #[error("the code is wrong, or was used before")]
    Code,
    /// A passkey is none of the user's, or what it has signed is not good.
    #[error("the passkey is none of the user's, or what it signed is not good")]
    Passkey,
    /// A passkey's counter went back.
    #[error("the passkey's counter went back: there may be a copy of it")]
    PasskeyCounter,
    /// Too many were wrong: nothing is looked at for a while.
    #[error("too many codes were wrong: none is looked at for a while")]
    TooMany,
    /// So many were wrong since one was right that only a recovery helps.
    #[error(
        "so many codes were wrong since one was right that none is looked at any more: reset the user's second factor"
    )]
    Locked,
    /// The user has set up nothing of the kind.
    #[error("the user has set up no such factor")]
    NotEnrolled,
    /// The user has set up one already, and has not proved it.
    #[error("the user has set up a factor already, and has not proved it")]
    AlreadyEnrolled,
    /// What the user has set up cannot be read: the key is not the one that it was sealed with.
    #[error(
        "what the user has set up cannot be read; put the key back from the backup, or reset the user's second factor"
    )]
    Unreadable,
    /// The gateway has no randomness.
    #[error("the system has no randomness")]
    Unable,
}

impl Wrong {
    /// Whether something was shown that is not good: such a try counts.
    #[must_use]
    pub const fn is_try(self) -> bool {
        matches!(self, Self::Code | Self::Passkey | Self::PasskeyCounter)
    }

    /// What happened and what to do, for the person at the browser.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Code => {
                "This code is not right, or it has been used already. Wait until your app shows the next one, and check that \
                 your phone's clock is right."
            }
            Self::Passkey => {
                "This passkey is not accepted. Take the one that you have set up here, and let your device make sure that it \
                 is you."
            }
            Self::PasskeyCounter => {
                "This passkey is not accepted, because there may be a copy of it. Use another second factor, delete this \
                 passkey, and tell the help desk."
            }
            Self::TooMany => "Too many codes were wrong. Wait a quarter of an hour, and try again.",
            Self::Locked => {
                "So many codes have been wrong that none is accepted any more. Use a recovery code or recovery by mail, or ask \
                 the help desk."
            }
            Self::NotEnrolled => "You have not set up your second factor yet.",
            Self::AlreadyEnrolled => "You have set up your second factor already. Log in with it first.",
            Self::Unreadable => "The gateway cannot check your second factor at present. Ask the help desk.",
            Self::Unable => "The gateway cannot do this at present. Try again in a moment.",
        })
    }
}

/// A new authenticator, of which no code has been right yet. In memory only.
#[derive(Clone, Debug)]
pub struct Enrolment {
    secret: Zeroizing<Vec<u8>>,
    parameters: Parameters,
}

impl Enrolment {
    /// A new secret; `None` where the system has no randomness.
    #[must_use]
    pub fn draw() -> Option<Self> {
        let mut secret = Zeroizing::new(vec![0; SECRET]);
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self { secret, parameters: Parameters::default() })
    }

    /// The secret as people type it: base32 (RFC 4648, section 6), without padding.
    #[must_use]
    pub fn secret(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::BASE32_NOPAD.encode(&self.secret))
    }

    /// What authenticators read as a picture: `otpauth://totp/…`; of `account` at `issuer`, as the app shows them.
    #[must_use]
    pub fn url(&self, issuer: &str, account: &str) -> Option<Zeroizing<String>> {
        let plain = |text: &str| text.replace(':', " ");
        let of = builder(&self.secret, self.parameters)
            .with_issuer(Some(plain(issuer)))
            .with_account_name(plain(account));
        of.build().ok()?.to_url().ok().map(Zeroizing::new)
    }

    /// The authenticator, if `code` is its code at `now`. That code is spent.
    pub(super) fn activate(&self, code: &str, now: Timestamp) -> Option<Authenticator> {
        let mut new = Authenticator {
            parameters: self.parameters,
            secret: self.secret.clone(),
            last_step: 0,
            drift: 0,
            since: now,
            used: now,
        };
        new.spend(code, now).then_some(new)
    }
}

impl Authenticator {
    /// Whether `code` is this authenticator's at `now`, and was not used before. If so, it is spent.
    pub(super) fn spend(&mut self, code: &str, now: Timestamp) -> bool {
        let Ok(time) = u64::try_from(now.as_second()) else { return false };
        let Ok(totp) = builder(&self.secret, self.parameters).build() else { return false };
        // People type it in groups, as apps show it.
        let code: Zeroizing<String> = Zeroizing::new(code.chars().filter(|c| !c.is_whitespace()).collect());
        let Some(step) = totp.check(&code, time).filter(|step| *step > self.last_step) else { return false };
        let current = time / self.parameters.period.max(1);
        self.drift = step.cast_signed() - current.cast_signed();
        (self.last_step, self.used) = (step, now);
        true
    }
}

fn builder(secret: &[u8], parameters: Parameters) -> Builder {
    let Parameters { algorithm: Algorithm::Sha1, digits, period } = parameters;
    Builder::new()
        .with_algorithm(totp_rs::Algorithm::SHA1)
        .with_digits(digits)
        .with_step_duration(period)
        .with_skew(DRIFT)
        .with_secret(Secret::new(secret.into()))
}

/// The code at a moment, for tests.
#[cfg(test)]
pub(crate) fn code_of(secret: &[u8], time: u64) -> String {
    builder(secret, Parameters::default()).build().unwrap().generate(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// RFC 6238, appendix B: those of SHA-1, of which an authenticator shows the last six digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = b"12345678901234567890";
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code_of(secret, time), code);
        }
    }

    #[test]
    fn a_step_is_good_once_one_step_off_and_never_backwards() {
        let enrolment = Enrolment::draw().unwrap();
        let start = 1_700_000_010;
        let code = |second: u64| code_of(&enrolment.secret, second);
        assert!(enrolment.activate(&code(start - 60), at(1_700_000_010)).is_none());
        let mut own = enrolment.activate(&code(start), at(1_700_000_010)).unwrap();
        assert!(!own.spend(&code(start), at(1_700_000_010)), "the first one is spent");
        assert!(!own.spend(&code(start - 30), at(1_700_000_010)), "one before it");
        // The authenticator's clock is ahead.
        let ahead = code(start + 30);
        assert!(own.spend(&format!(" {} {}", &ahead[..3], &ahead[3..]), at(1_700_000_010)));
        assert_eq!(own.drift, 1);
        assert!(!own.spend(&code(start + 60), at(1_700_000_010)), "two steps off");
        assert!(own.spend(&code(start + 60), at(1_700_000_100)));
        assert_eq!(own.drift, -1);
        for wrong in ["", "0", "12345", "1234567", "abcdef", "\u{0661}23456", "-12345", "+12345"] {
            assert!(!own.spend(wrong, at(1_700_000_200)), "{wrong}");
        }
    }

    #[test]
    fn what_authenticators_read_says_whose_it_is() {
        let enrolment = Enrolment::draw().unwrap();
        let url = enrolment.url("Example: Ltd.", "alice@EXAMPLE.TEST").unwrap();
        let secret = enrolment.secret();
        assert_eq!(secret.len(), 32);
        assert!(
            url.starts_with("otpauth://totp/") && url.contains(&format!("secret={}", *secret)),
            "{}",
            *url
        );
        assert!(url.contains("issuer=Example"), "{}", *url);
    }
}

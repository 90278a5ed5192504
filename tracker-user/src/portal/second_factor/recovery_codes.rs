//! Recovery codes: ten that are printed, each good once in place of the factor that was lost.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::HeaderMap;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::HOME;
use super::fresh::FreshFactor;
use super::give::{failed, finish, keep, sent};
use super::notices::tell_by_mail;
use super::pending::PendingLogin;
use crate::audit::{Actor, FactorChange};
use crate::auth::factors::{Checked, RecoveryCode, Wrong};
use crate::mail::Notice;
use crate::portal::login::{Typed, secure};
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Factor, Identity, UserMessage};

/// So many are made at once,
const COUNT: usize = 10;
/// each of so many bytes, which base32 (RFC 4648, section 6) writes without padding
const BYTES: usize = 10;
/// by so many letters,
const LETTERS: usize = 16;
/// shown in groups of so many.
const GROUP: usize = 4;

/// New ones.
pub(super) struct Drawn {
    /// As they are printed.
    pub(super) shown: Vec<Zeroizing<String>>,
    /// As they are kept.
    pub(super) kept: Vec<RecoveryCode>,
}

/// Ten new ones; `None` without randomness.
pub(super) fn draw() -> Option<Drawn> {
    let (random, mut bytes) = (SystemRandom::new(), Zeroizing::new([0; BYTES]));
    let mut drawn = Drawn { shown: Vec::with_capacity(COUNT), kept: Vec::with_capacity(COUNT) };
    for _ in 0..COUNT {
        random.fill(&mut *bytes).ok()?;
        drawn.shown.push(shown(&bytes));
        drawn.kept.push(hash(&bytes));
    }
    Some(drawn)
}

fn shown(bytes: &[u8; BYTES]) -> Zeroizing<String> {
    let letters = Zeroizing::new(data_encoding::BASE32_NOPAD.encode(bytes));
    // As long as it becomes: a text that grew would leave pieces of it behind.
    let mut text = Zeroizing::new(String::with_capacity(2 * LETTERS));
    for (at, letter) in letters.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            text.push('-');
        }
        text.push(letter);
    }
    text
}

fn hash(bytes: &[u8; BYTES]) -> RecoveryCode {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    RecoveryCode(hash)
}

/// What was typed, without what people put between the letters, and with the letters that they take for others.
fn letters(typed: &str) -> Zeroizing<String> {
    let mut letters = Zeroizing::new(String::with_capacity(LETTERS));
    let plain = typed.chars().filter(char::is_ascii_alphanumeric).map(|c| match c.to_ascii_uppercase() {
        '0' => 'O',
        '1' => 'I',
        '8' => 'B',
        letter => letter,
    });
    letters.extend(plain.take(LETTERS + 1));
    letters
}

/// Whether it could be a recovery code, and no other.
pub(super) fn looks_like(typed: &str) -> bool {
    letters(typed).len() == LETTERS
}

fn read(typed: &str) -> Option<Zeroizing<[u8; BYTES]>> {
    let letters = letters(typed);
    if letters.len() != LETTERS {
        return None;
    }
    let mut bytes = Zeroizing::new([0; BYTES]);
    data_encoding::BASE32_NOPAD.decode_mut(letters.as_bytes(), &mut *bytes).ok()?;
    Some(bytes)
}

/// Takes this code out of those that are left, if it is one. How long that takes says nothing about which.
fn take(left: &mut Vec<RecoveryCode>, typed: &str) -> bool {
    let Some(wanted) = read(typed).map(|bytes| hash(&bytes)) else { return false };
    let differs =
        |known: &RecoveryCode| known.0.iter().zip(wanted.0).fold(0, |all, (a, b)| all | (a ^ b)) != 0;
    let before = left.len();
    left.retain(differs);
    left.len() < before
}

/// Whether what was typed is a recovery code of theirs; it is spent then.
///
/// # Errors
/// When it is not accepted.
pub(super) fn check(site: &Site, visit: &Visit, who: &Arc<Identity>, typed: &str) -> Result<Checked, Wrong> {
    site.parts().factors.attempt(who, FactorChange::WrongRecoveryCode, sent(visit), |account| {
        if account.factors().is_empty() {
            return Err(Wrong::NotEnrolled);
        }
        match take(&mut account.recovery_codes, typed) {
            true => Ok((Factor::RecoveryCode, 0)),
            false => Err(Wrong::Code),
        }
    })
}

/// Tells that one was used.
pub(super) fn used(site: &Site, visit: &Visit, who: &Arc<Identity>) {
    let client = visit.client();
    let actor = Some(Actor::on_portal(who, client));
    site.parts().factors.tell(who, Some(client), FactorChange::RecoveryCodeUsed, None, actor);
    let left = site.parts().factors.account(who).map_or(0, |account| account.recovery_codes.len());
    tell_by_mail(site, visit, who, Notice::RecoveryCodeUsed(left));
}

/// See `second_factor/recovery_code.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/recovery_code.html")]
struct Form {
    page: Page,
    who: String,
    problem: Option<String>,
}

fn ask(visit: &Visit, login: &PendingLogin, problem: Option<UserMessage>) -> Response {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let problem = problem.map(|problem| visit.language().say(&problem));
    answer(visit, status, &Form { page: visit.page(), who: login.identity.to_string(), problem })
}

/// `GET /second-factor/recovery-code`
pub(super) async fn form(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    match site.pending_login(&visit) {
        Some(login) => ask(&visit, &login, None),
        None => Redirect::to(HOME).into_response(),
    }
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    code: Typed,
}

/// `POST /second-factor/recovery-code`
pub(super) async fn give(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(Filled { code: Typed(code) }): Posted<Filled>,
) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to(HOME).into_response() };
    match check(&site, &visit, &login.identity, code.reveal()) {
        Ok(checked) => {
            used(&site, &visit, &login.identity);
            finish(&site, &visit, &login, checked, false).await
        }
        Err(wrong) => match failed(&site, &visit, &headers, &login, wrong).await {
            Ok(_) if wrong == Wrong::Code => ask(&visit, &login, Some(NOT_RIGHT)),
            Ok(problem) => ask(&visit, &login, Some(problem)),
            Err(over) => over,
        },
    }
}

const NOT_RIGHT: UserMessage = UserMessage::new(
    "This recovery code is not right, or it has been used already. Take another one from your list.",
);

/// See `second_factor/recovery_codes.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/recovery_codes.html")]
struct Codes {
    page: Page,
    codes: Vec<Zeroizing<String>>,
    told: Told,
}

/// What else the page says that shows new codes.
#[derive(Default)]
pub(super) struct Told {
    /// The authenticator has just been set up.
    pub(super) is_set_up: bool,
    /// By how many steps its clock is ahead.
    pub(super) drift: i64,
    /// What went wrong afterwards, translated.
    pub(super) problem: Option<String>,
    /// Where it goes on.
    pub(super) onward: String,
}

/// The page that shows new codes, once.
pub(super) fn show(visit: &Visit, codes: Vec<Zeroizing<String>>, told: Told) -> Response {
    answer(visit, StatusCode::OK, &Codes { page: visit.page(), codes, told })
}

#[derive(Deserialize)]
pub(super) struct Make {}

/// `POST /second-factor/recovery-codes`
pub(super) async fn make(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: Make {} }: FreshFactor<Make>,
) -> Response {
    let (factors, who) = (&site.parts().factors, person.identity());
    if factors.enrolled(who).is_empty() {
        return Redirect::to(HOME).into_response();
    }
    let Some(Drawn { shown, kept }) = draw() else { return unable(&visit) };
    let Ok(((), row)) = factors.change(who, |account| account.recovery_codes = kept) else {
        return unable(&visit);
    };
    if let Err(not) = keep(&site, vec![row]).await {
        tracing::warn!(request = visit.number(), problem = not.why, "new recovery codes are not on disk");
        return unable(&visit);
    }
    factors.tell(who, Some(visit.client()), FactorChange::RecoveryCodes, None, Some(actor));
    show(&visit, shown, Told { onward: HOME.to_owned(), ..Told::default() })
}

/// The gateway cannot do it.
pub(super) fn unable(visit: &Visit) -> Response {
    visit.problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "This does not work at the moment",
        &Wrong::Unable.user_message(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_good_once_however_it_is_typed() {
        let Drawn { shown, kept: mut left } = draw().unwrap();
        assert_eq!((shown.len(), left.len()), (COUNT, COUNT));
        assert_eq!(shown[0].len(), LETTERS + 3, "{}", *shown[0]);
        let typed = [
            shown[0].to_string(),
            shown[1].to_lowercase().replace('-', " "),
            format!("  {}\n", shown[2].replace('-', "")),
            shown[3].replace('O', "0").replace('I', "1").replace('B', "8"),
        ];
        for typed in &typed {
            assert!(looks_like(typed) && take(&mut left, typed), "{typed}");
            assert!(!take(&mut left, typed), "{typed}: once");
        }
        assert_eq!(left.len(), COUNT - typed.len());
        for wrong in ["", "AAAA-AAAA-AAAA-AAAA", "123456", "ü", &"A".repeat(10_000), "9999-9999-9999-9999"] {
            assert!(!take(&mut left, wrong), "{wrong}");
        }
        assert!(!looks_like("123 456") && !looks_like(&"A".repeat(17)));
    }
}

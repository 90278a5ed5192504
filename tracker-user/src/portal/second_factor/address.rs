//! The recovery address: where a code is mailed to that resets the second factor.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::fresh::FreshFactor;
use super::give::keep;
use super::manage;
use super::recovery_codes::unable;
use crate::audit::FactorChange;
use crate::portal::page::redirect;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Identity, UserMessage};

/// The longest address there can be (RFC 5321, section 4.5.3.1.3).
pub(super) const LONGEST: usize = 254;

const NO_ADDRESS: UserMessage = UserMessage::new("This is no mail address. Write it as name@example.org.");
const MISSING: UserMessage =
    UserMessage::new("A recovery address is needed: a code is mailed there if you lose your second factor.");
const OWN: UserMessage = UserMessage::new(
    "This is the address of the account itself. Take another one, which you can read without this account.",
);
const OPERATORS: UserMessage = UserMessage::new(
    "This is the mailbox of this gateway's administrators. Take another one, which you can read when you are locked out.",
);

/// What was typed as a recovery address; `None`: nothing, where no mail is sent from here anyway.
///
/// # Errors
/// Why it cannot be one.
pub(super) fn check(
    site: &Site,
    visit: &Visit,
    who: &Identity,
    typed: &str,
) -> Result<Option<Zeroizing<String>>, UserMessage> {
    let typed = typed.trim();
    if typed.is_empty() {
        return if site.parts().factors.settings().mails { Err(MISSING) } else { Ok(None) };
    }
    if typed.len() > LONGEST || !typed.is_ascii() || typed.parse::<lettre::Address>().is_err() {
        return Err(NO_ADDRESS);
    }
    if is_own(who, typed) {
        return Err(OWN);
    }
    let contact = visit.settings().brand.contact.as_deref().unwrap_or_default();
    if site.role_of(who).may_look() && names(contact, typed) {
        return Err(OPERATORS);
    }
    Ok(Some(Zeroizing::new(typed.to_owned())))
}

/// Whether it is the address that the account would have itself.
fn is_own(who: &Identity, address: &str) -> bool {
    let domains = [who.domain(), who.realm()];
    let own = domains.iter().map(|domain| format!("{}@{domain}", who.user()));
    own.chain([who.user().to_owned(), who.to_string()]).any(|own| own.eq_ignore_ascii_case(address))
}

/// Whether a text names this address.
fn names(text: &str, address: &str) -> bool {
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '(' | ')' | '"');
    text.split(is_between).any(|word| word.trim_end_matches('.').eq_ignore_ascii_case(address))
}

/// An address as it is shown to whoever is logged in: enough to know it by.
pub(super) fn hinted(address: &str) -> String {
    let (user, host) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}…@{host}", user.chars().next().unwrap_or_default())
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    address: String,
}

/// `POST /second-factor/recovery-address`
pub(super) async fn change(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: Filled { address } }: FreshFactor<Filled>,
) -> Response {
    let (factors, who) = (&site.parts().factors, Arc::clone(person.identity()));
    if factors.enrolled(&who).is_empty() {
        return redirect(&visit, StatusCode::SEE_OTHER, super::HOME);
    }
    let address = match check(&site, &visit, &who, &address) {
        Ok(address) => address,
        Err(problem) => return manage::with_problem(&site, &visit, &person, &address, &problem),
    };
    let Ok(((), row)) = factors.change(&who, |account| account.recovery_address = address) else {
        return unable(&visit);
    };
    if let Err(not) = keep(&site, vec![row]).await {
        tracing::warn!(request = visit.number(), problem = not.why, "a recovery address is not on disk");
        return unable(&visit);
    }
    factors.tell(&who, Some(visit.client()), FactorChange::RecoveryAddress, None, Some(actor));
    redirect(&visit, StatusCode::SEE_OTHER, "/second-factor?done=address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_own_address_is_known_however_it_is_written() {
        let alice = Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE");
        for own in ["alice@example.test", "Alice@EXAMPLE.TEST", "alice@example"] {
            assert!(is_own(&alice, own), "{own}");
        }
        for other in ["alice@example.org", "alice.b@example.test", "bob@example.test"] {
            assert!(!is_own(&alice, other), "{other}");
        }
        assert!(is_own(&Identity::new("alice@example.org", "EXAMPLE.TEST", ""), "alice@example.org"));
    }

    #[test]
    fn the_administrators_mailbox_is_found_in_what_people_are_told() {
        let contact = "Help desk <help@example.test>, extension 4711, or root@example.test.";
        assert!(names(contact, "Help@Example.test") && names(contact, "root@example.test"));
        assert!(!names(contact, "elp@example.test") && !names("", "help@example.test"));
        assert_eq!(hinted("alice@example.org"), "a…@example.org");
    }
}

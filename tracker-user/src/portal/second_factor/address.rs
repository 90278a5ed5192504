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
use super::notices::tell_of_new_address;
use super::recovery_codes::unable;
use crate::audit::FactorChange;
use crate::auth::factors::{NoRecoveryAddress, RecoveryAddress};
use crate::portal::page::redirect;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Identity, UserMessage};

const MISSING: UserMessage =
    UserMessage::new("A recovery address is needed: a code is mailed there if you lose your second factor.");
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
    let address = RecoveryAddress::parse(typed, who, &site.parts().factors.settings().mailboxes);
    let address = address.map_err(NoRecoveryAddress::user_message)?;
    let contact = visit.settings().brand.contact.as_deref().unwrap_or_default();
    if site.role_of(who).may_look() && names(contact, address.as_str()) {
        return Err(OPERATORS);
    }
    Ok(Some(address.into_text()))
}

/// What its user should think about who has this address.
pub(super) fn advice(site: &Site, who: &Identity, address: &str) -> Option<UserMessage> {
    let mailboxes = &site.parts().factors.settings().mailboxes;
    RecoveryAddress::parse(address, who, mailboxes).ok()?.advice()
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
    let changed = factors.change(&who, |account| std::mem::replace(&mut account.recovery_address, address));
    let Ok((before, row)) = changed else {
        return unable(&visit);
    };
    if let Err(not) = keep(&site, vec![row]).await {
        tracing::warn!(request = visit.number(), problem = not.why, "a recovery address is not on disk");
        return unable(&visit);
    }
    factors.tell(&who, Some(visit.client()), FactorChange::RecoveryAddress, None, Some(actor));
    tell_of_new_address(&site, &visit, &person, before.as_deref().cloned());
    redirect(&visit, StatusCode::SEE_OTHER, "/second-factor?done=address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrators_mailbox_is_found_in_what_people_are_told() {
        let contact = "Help desk <help@example.test>, extension 4711, or root@example.test.";
        assert!(names(contact, "Help@Example.test") && names(contact, "root@example.test"));
        assert!(!names(contact, "elp@example.test") && !names("", "help@example.test"));
        assert_eq!(hinted("alice@example.org"), "a…@example.org");
    }
}

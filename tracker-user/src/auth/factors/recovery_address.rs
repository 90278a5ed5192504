//! The address that a code is mailed to which resets a second factor. It must be another mailbox than the account's own, which may
//! be as closed to its user as the account itself is, and should be outside the account's domain.

use std::collections::BTreeMap;
use std::fmt;

use lettre::Address;
use zeroize::Zeroizing;

use crate::types::{Identity, UserMessage};

/// No address has more bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const MOST: usize = 254;

/// What is known of mailboxes, by configuration alone: that somebody is called `user@realm` does not say that they have a mailbox
/// of this name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailboxes {
    /// The mail domain of each realm's users, by realm in lower case; the gateway's own users have the realm `""`.
    pub domains: BTreeMap<String, String>,
    /// The addresses of the gateway and of those who run it.
    pub gateway: Vec<String>,
}

/// Why an address is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRecoveryAddress {
    /// It is no mail address.
    #[error("it is not a mail address")]
    Malformed,
    /// It is the account's own mailbox.
    #[error("it is the account's own mailbox")]
    Own,
    /// It is the gateway's address, or that of whoever runs it.
    #[error("it is the gateway's or its administrator's address")]
    Gateway,
}

impl NoRecoveryAddress {
    /// What is wrong and what to do, for the person at the browser.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Malformed => "This is not a mail address. Write it like name@example.com.",
            Self::Own => {
                "This is your own account's mailbox: it may be closed to you when you need the code. Choose another address."
            }
            Self::Gateway => {
                "This is the address of the gateway or of its administrator. Choose another address."
            }
        })
    }
}

/// See the module. Wiped when it goes; shown to nobody by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryAddress {
    text: Zeroizing<String>,
    is_inside: bool,
}

impl RecoveryAddress {
    /// The address that `text` is, for this user: its host name in lower case and as DNS has it.
    ///
    /// # Errors
    /// When it is none, or must not be it.
    pub fn parse(text: &str, who: &Identity, mailboxes: &Mailboxes) -> Result<Self, NoRecoveryAddress> {
        let (user, domain) = split(text.trim()).ok_or(NoRecoveryAddress::Malformed)?;
        let own = mailboxes.domains_of(who);
        let is_own = own.contains(&domain) && mailbox(&user) == mailbox(who.user());
        // Some are called by an address.
        if is_own || who.user().eq_ignore_ascii_case(text.trim()) {
            return Err(NoRecoveryAddress::Own);
        }
        let is_it = |gateway: &String| {
            split(gateway).is_some_and(|(name, at)| at == domain && mailbox(&name) == mailbox(&user))
        };
        if mailboxes.gateway.iter().any(is_it) {
            return Err(NoRecoveryAddress::Gateway);
        }
        let is_in = |own: &String| {
            domain.strip_suffix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let is_inside = own.iter().any(is_in);
        Ok(Self { text: Zeroizing::new(format!("{user}@{domain}")), is_inside })
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same, as an account has it.
    #[must_use]
    pub fn into_text(self) -> Zeroizing<String> {
        self.text
    }

    /// What its user should think about, although it may be it.
    #[must_use]
    pub fn advice(&self) -> Option<UserMessage> {
        self.is_inside.then(|| {
            UserMessage::new(
                "This address is in the same domain as your account. One outside is better: it can still be opened when \
                 your account cannot.",
            )
        })
    }
}

impl fmt::Debug for RecoveryAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryAddress").field("is_inside", &self.is_inside).finish_non_exhaustive()
    }
}

impl Mailboxes {
    /// The account's own mailbox, where it is configured which domain it is in.
    #[must_use]
    pub fn own(&self, who: &Identity) -> Option<String> {
        let (user, domain) = split(&format!("{}@{}", who.user(), self.domains.get(who.realm())?))?;
        Some(format!("{user}@{domain}"))
    }

    /// The domains that the user's own mailbox may be in, in lower case.
    fn domains_of(&self, who: &Identity) -> Vec<String> {
        let mut all = vec![who.realm().to_owned()];
        if !who.is_local() {
            all.push(who.domain().to_lowercase());
        }
        all.extend(self.domains.get(who.realm()).map(|domain| domain.to_lowercase()));
        all.retain(|domain| !domain.is_empty());
        all
    }
}

/// The two parts of a mail address: dot-atoms alone (RFC 5322, section 3.2.3), so that nothing in it is anything else in a mail's
/// header or to a mail server. The second is in lower case, and as DNS has it.
fn split(text: &str) -> Option<(String, String)> {
    let address: Address = text.parse().ok().filter(|_| text.len() <= MOST)?;
    let is_atom = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let domain = idna::domain_to_ascii(address.domain()).ok()?;
    let is_domain =
        domain.contains('.') && domain.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    // A last label of digits is somebody's notation of an IP address.
    let is_name = domain.rsplit('.').next()?.contains(|c: char| !c.is_ascii_digit());
    let is_user = !address.user().is_empty() && address.user().chars().all(is_atom);
    (is_domain && is_name && is_user).then(|| (address.user().to_owned(), domain))
}

/// What tells one mailbox of a domain from another: many servers deliver `user+anything` to `user`, and none tells cases apart.
fn mailbox(user: &str) -> String {
    user.split('+').next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailboxes() -> Mailboxes {
        let domains = [("example.test", "mail.example"), ("", "gateway.example")];
        Mailboxes {
            domains: domains.map(|(realm, domain)| (realm.to_owned(), domain.to_owned())).into(),
            gateway: vec!["gateway@example.net".into()],
        }
    }

    fn parse(text: &str, who: &Identity) -> Result<(String, bool), NoRecoveryAddress> {
        let address = RecoveryAddress::parse(text, who, &mailboxes())?;
        Ok((address.as_str().to_owned(), address.advice().is_some()))
    }

    #[test]
    fn it_is_another_mailbox_than_the_accounts_own() {
        let alice = Identity::new("Alice", "EXAMPLE.TEST", "corp.example");
        for own in [
            "alice@example.test",
            "ALICE@Example.Test",
            "alice+recovery@example.test",
            " alice@mail.example ",
            "Alice@CORP.example",
        ] {
            assert_eq!(parse(own, &alice), Err(NoRecoveryAddress::Own), "{own}");
        }
        for (other, kept, advice) in [
            ("alice@example.com", "alice@example.com", false),
            ("bob@example.test", "bob@example.test", true),
            ("alice@sub.mail.example", "alice@sub.mail.example", true),
            ("alice@notexample.test", "alice@notexample.test", false),
            ("A.B@EXAMPLE.com", "A.B@example.com", false),
            ("a@m\u{fc}nchen.example", "a@xn--mnchen-3ya.example", false),
        ] {
            assert_eq!(parse(other, &alice), Ok((kept.to_owned(), advice)), "{other}");
        }
        let named = Identity::new("alice@example.org", "EXAMPLE.TEST", "");
        assert_eq!(parse("alice@example.org", &named), Err(NoRecoveryAddress::Own));
        let admin = Identity::local("admin");
        assert_eq!(parse("Admin+x@gateway.example", &admin), Err(NoRecoveryAddress::Own));
        assert_eq!(parse("gateway@example.net", &admin), Err(NoRecoveryAddress::Gateway));
        assert_eq!(parse("admin@example.test", &admin), Ok(("admin@example.test".into(), false)));
    }

    #[test]
    fn only_plain_addresses_are_taken() {
        let alice = Identity::new("alice", "EXAMPLE.TEST", "");
        let long = format!("a@{}example.com", "a.".repeat(125));
        for wrong in [
            "",
            "@",
            "a@",
            "@example.com",
            "a b@example.com",
            "a@b@example.com",
            "a@example.com\r\nBcc: x@example.com",
            "a\r\n@example.com",
            "\"a b\"@example.com",
            "Alice <a@example.com>",
            "a@example.com,b@example.com",
            "a@[192.0.2.1]",
            "a@192.0.2.1",
            "a@localhost",
            "a@example.com>",
            "\u{fc}@example.com",
            "a@exa\u{0}mple.com",
            long.as_str(),
        ] {
            assert_eq!(parse(wrong, &alice), Err(NoRecoveryAddress::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn the_own_mailbox_is_known_by_configuration_alone() {
        let known = mailboxes();
        let of = |who: Identity| known.own(&who);
        assert_eq!(of(Identity::new("Alice", "EXAMPLE.TEST", "")), Some("Alice@mail.example".into()));
        assert_eq!(of(Identity::local("admin")), Some("admin@gateway.example".into()));
        assert_eq!(of(Identity::new("alice", "OTHER.TEST", "")), None);
        assert_eq!(of(Identity::new("a b", "EXAMPLE.TEST", "")), None);
    }
}

//! Which account a typed name means.
//!
//! Everything is judged before anybody is asked: what is sent to a KDC is a name by the rules of
//! [`crate::auth::kerberos::names`], in which nothing is quoted, so that the name that is asked for is the one that is
//! proved.

use super::super::kerberos::NameRules;
use super::super::kerberos::names::BadName;
use crate::types::LOCAL_DOMAIN;

/// The longest name that is read, in bytes: no directory has longer ones.
const MAX: usize = 512;
/// In the place of a domain that was not typed.
const NO_DOMAIN: &str = "-";

/// Which account a typed name means. Users are spelled as they were typed: realms may tell `Alice` from `alice`, the
/// gateway's own list of users and identities do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The local user of this name, in lower case, said so: `local\\user`, `user@local`.
    Local(String),
    /// The user of this realm: `user@REALM`, `DOMAIN\\user`.
    Realm {
        /// The user.
        user: String,
        /// The realm: as `kerberos.domains` has it (in upper case) where its short name was typed, else as it was typed,
        /// whether there is one of this name or not.
        realm: String,
    },
    /// A bare name: the local user of that name (in lower case) if there is one, else a user of the default realm.
    Bare(String),
}

/// What was typed names no account. The words are for operators, and repeat nothing of it: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAccount {
    /// Nothing was typed, or too much.
    #[error("the name has no characters, or too many")]
    Length,
    /// There is no user or no domain in it, or there are several.
    #[error("the name is none of user, user@REALM and DOMAIN\\user")]
    Form,
    /// Characters that no account name has.
    #[error("the name contains characters that are not accepted in a user name")]
    Odd,
    /// `HTTP/host`, `user/instance`.
    #[error("the name is that of a service or an instance, not of a user: it contains '/'")]
    Service,
    /// `PC-17$`.
    #[error(
        "the name is that of a computer's own account; kerberos.machine-accounts = \"accept\" takes computers for users"
    )]
    Machine,
    /// Several realms have this short name.
    #[error(
        "several realms have the short name that was typed (kerberos.domains): the realm itself has to be typed"
    )]
    Ambiguous,
}

impl From<BadName> for BadAccount {
    fn from(bad: BadName) -> Self {
        match bad {
            BadName::Service(_) => Self::Service,
            BadName::Machine(_) => Self::Machine,
            BadName::Odd(_) => Self::Odd,
            BadName::Form(_) | BadName::NoRule(_) | BadName::Local { .. } | BadName::Rules { .. } => {
                Self::Form
            }
        }
    }
}

impl Account {
    /// Reads a typed name.
    ///
    /// # Errors
    /// Where it names no account.
    pub fn parse(typed: &str, rules: &NameRules) -> Result<Self, BadAccount> {
        if typed.is_empty() || typed.len() > MAX {
            return Err(BadAccount::Length);
        }
        let (user, domain) = match (typed.split_once('\\'), typed.split_once('@')) {
            (Some(_), Some(_)) => return Err(BadAccount::Form),
            (Some((domain, user)), None) | (None, Some((user, domain))) => (user, Some(domain)),
            (None, None) => (typed, None),
        };
        rules.typed(user, domain.unwrap_or(NO_DOMAIN))?;
        let Some(domain) = domain else { return Ok(Self::Bare(user.to_owned())) };
        if domain.eq_ignore_ascii_case(LOCAL_DOMAIN) {
            return Ok(Self::Local(user.to_lowercase()));
        }
        let is_realm = rules.realms().any(|realm| realm.eq_ignore_ascii_case(domain));
        let mut called = rules.called(domain);
        let realm = match (is_realm, called.next(), called.next()) {
            (false, Some(realm), None) => realm,
            (false, Some(_), Some(_)) => return Err(BadAccount::Ambiguous),
            _ => domain,
        };
        Ok(Self::Realm { user: user.to_owned(), realm: realm.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> NameRules {
        NameRules::new(
            true,
            [
                ("Example.Test", "EXAMPLE"),
                ("A.TEST", "CORP"),
                ("B.TEST", "Corp"),
                // One realm's short name is another's name.
                ("OLD.TEST", "A.TEST"),
            ],
        )
    }

    fn parse(typed: &str) -> Result<Account, BadAccount> {
        Account::parse(typed, &rules())
    }

    fn realm(user: &str, realm: &str) -> Account {
        Account::Realm { user: user.into(), realm: realm.into() }
    }

    #[test]
    fn each_form_means_its_account() {
        for (typed, account) in [
            ("alice", Account::Bare("alice".into())),
            ("Alice", Account::Bare("Alice".into())),
            ("o'brien", Account::Bare("o'brien".into())),
            ("名前", Account::Bare("名前".into())),
            ("local", Account::Bare("local".into())),
            ("local\\Alice", Account::Local("alice".into())),
            ("LOCAL\\alice", Account::Local("alice".into())),
            ("Alice@Local", Account::Local("alice".into())),
            ("Alice@OTHER.TEST", realm("Alice", "OTHER.TEST")),
            ("alice@example.test", realm("alice", "example.test")),
            ("EXAMPLE.TEST\\alice", realm("alice", "EXAMPLE.TEST")),
            ("EXAMPLE\\Alice", realm("Alice", "EXAMPLE.TEST")),
            ("example\\alice", realm("alice", "EXAMPLE.TEST")),
            ("alice@Example", realm("alice", "EXAMPLE.TEST")),
            // A realm's own name counts before a short one.
            ("alice@A.TEST", realm("alice", "A.TEST")),
            ("NOBODY\\alice", realm("alice", "NOBODY")),
        ] {
            assert_eq!(parse(typed), Ok(account), "{typed}");
        }
    }

    #[test]
    fn what_names_no_account_is_refused() {
        let long = "a".repeat(MAX + 1);
        for (typed, why) in [
            ("", BadAccount::Length),
            (long.as_str(), BadAccount::Length),
            ("alice\\@x@REALM", BadAccount::Form),
            ("EXAMPLE\\alice@EXAMPLE.TEST", BadAccount::Form),
            ("a@b@c", BadAccount::Form),
            ("alice@", BadAccount::Form),
            ("@EXAMPLE.TEST", BadAccount::Form),
            ("@", BadAccount::Form),
            ("\\", BadAccount::Form),
            ("\\alice", BadAccount::Form),
            ("EXAMPLE\\", BadAccount::Form),
            ("local\\", BadAccount::Form),
            ("alice@EXA/MPLE", BadAccount::Form),
            ("A\\B\\c", BadAccount::Odd),
            ("alice ", BadAccount::Odd),
            ("al\0ice", BadAccount::Odd),
            ("alice\n@R", BadAccount::Odd),
            ("alice@R\u{202e}", BadAccount::Odd),
            ("alice\u{ff20}R", BadAccount::Odd),
            ("HTTP/proxy.example.test", BadAccount::Service),
            ("HTTP/proxy.example.test@EXAMPLE.TEST", BadAccount::Service),
            ("alice/admin", BadAccount::Service),
            ("EXAMPLE\\alice/admin", BadAccount::Service),
            ("local\\alice/admin", BadAccount::Service),
            ("PC-17$", BadAccount::Machine),
            ("EXAMPLE\\PC-17$", BadAccount::Machine),
            ("CORP\\alice", BadAccount::Ambiguous),
            ("alice@corp", BadAccount::Ambiguous),
        ] {
            let refused = parse(typed);
            assert_eq!(refused, Err(why), "{typed:?}");
            assert!(!why.to_string().contains(['\n', '{']), "{why}");
        }
        let accepting = rules().with_machine_accounts(true);
        assert_eq!(Account::parse("PC-17$", &accepting), Ok(Account::Bare("PC-17$".into())));
    }

    #[test]
    fn no_rule_of_krb5_conf_makes_a_user_of_an_instance_that_was_typed() {
        let rules = rules().with_auth_to_local(true).with_machine_accounts(true);
        assert_eq!(Account::parse("alice/admin@EXAMPLE.TEST", &rules), Err(BadAccount::Service));
    }

    proptest! {
        /// Whatever is typed: what is made of it has parts in which nothing separates, quotes or hides, each of them as it
        /// was typed or as the configuration spells it.
        #[test]
        fn parts_are_plain(typed in "(?s).{0,40}|[a-cA-C@\\\\/$ ]{0,12}|(example|local|corp)\\\\[a-z@]{0,4}") {
            let Ok(account) = parse(&typed) else { return Ok(()) };
            let (user, domain) = match &account {
                Account::Local(user) => (user, Some(LOCAL_DOMAIN)),
                Account::Realm { user, realm } => (user, Some(realm.as_str())),
                Account::Bare(user) => (user, None),
            };
            prop_assert!(!user.is_empty() && !user.ends_with('$'));
            for part in [Some(user.as_str()), domain].into_iter().flatten() {
                prop_assert!(!part.contains(['@', '/', '\\', '\0', ' ', '"']) && !part.chars().any(char::is_control));
            }
            prop_assert!(typed.to_lowercase().contains(&user.to_lowercase()));
            if domain.is_none() {
                prop_assert_eq!(user, &typed);
            }
        }

        /// The two ways to write a domain mean the same account.
        #[test]
        fn both_forms_mean_the_same(user in "[a-zA-Z.]{1,8}", domain in "[a-zA-Z.]{1,8}|EXAMPLE|example|local|corp|A\\.TEST") {
            prop_assert_eq!(parse(&format!("{user}@{domain}")), parse(&format!("{domain}\\{user}")));
        }
    }
}

//! From a Kerberos principal to an identity.

use std::collections::HashMap;

use crate::session::Identity;

/// The longest principal that is taken for a user's.
const MAX_PRINCIPAL: usize = 512;

/// How principals become identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    keep_domain: bool,
    /// Realm, in upper case, to the name that people see.
    domains: HashMap<String, String>,
}

impl Default for NameRules {
    fn default() -> Self {
        Self { keep_domain: true, domains: HashMap::new() }
    }
}

/// Why a principal is not a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// `HTTP/host@REALM` and the like.
    #[error("{0} is a service or an instance, not a user: the name contains '/'")]
    Service(String),
    /// Characters that no account name has.
    #[error("the principal {0:?} contains characters that are not accepted in a user name")]
    Odd(String),
    /// There is no user or no realm in it.
    #[error("the principal {0:?} is not of the form user@REALM")]
    Form(String),
}

impl NameRules {
    /// `keep_domain`: identities are shown with their domain. `domains` maps realms to the names that people see.
    pub fn new<R: AsRef<str>, D: Into<String>>(
        keep_domain: bool,
        domains: impl IntoIterator<Item = (R, D)>,
    ) -> Self {
        let domains = domains
            .into_iter()
            .map(|(realm, domain)| (realm.as_ref().to_ascii_uppercase(), domain.into()))
            .collect();
        Self { keep_domain, domains }
    }

    /// The identity of a principal, as GSSAPI displays it.
    ///
    /// # Errors
    /// When it is not a plain user's.
    pub fn identity(&self, principal: &[u8]) -> Result<Identity, BadName> {
        let shown = || {
            let cut = principal.get(..MAX_PRINCIPAL).unwrap_or(principal);
            String::from_utf8_lossy(cut).into_owned()
        };
        if principal.len() > MAX_PRINCIPAL {
            return Err(BadName::Odd(shown()));
        }
        let name = std::str::from_utf8(principal).map_err(|_| BadName::Odd(shown()))?;
        // GSSAPI quotes what would be ambiguous with a backslash: such names are refused whole.
        if name.chars().any(is_odd) {
            return Err(BadName::Odd(shown()));
        }
        if name.contains('/') {
            return Err(BadName::Service(shown()));
        }
        match name.split_once('@') {
            Some((user, realm)) if !user.is_empty() && !realm.is_empty() && !realm.contains('@') => {
                let domain = match self.keep_domain {
                    false => "",
                    true => self.domains.get(&realm.to_ascii_uppercase()).map_or(realm, String::as_str),
                };
                Ok(Identity::new(user, realm, domain))
            }
            _ => Err(BadName::Form(shown())),
        }
    }
}

/// Characters that would make a name ambiguous, or make it look like another one in a log or on a page.
fn is_odd(c: char) -> bool {
    c.is_control()
        || c.is_whitespace()
        || matches!(c, '\\' | '"' | '\'' | '<' | '>' | '&' | '`')
        // Soft hyphen, zero-width and direction marks, byte order mark, replacement character.
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_a_realm() {
        let plain = NameRules::default().identity(b"Alice@EXAMPLE.TEST").unwrap();
        assert_eq!(plain.to_string(), "Alice@EXAMPLE.TEST");
        let mapped = NameRules::new(true, [("example.test", "EXAMPLE")]);
        assert_eq!(mapped.identity(b"alice@EXAMPLE.TEST").unwrap().to_string(), "EXAMPLE\\alice");
        assert_eq!(mapped.identity(b"alice@OTHER.TEST").unwrap().to_string(), "alice@OTHER.TEST");
        let bare = NameRules::new(false, [("EXAMPLE.TEST", "EXAMPLE")]);
        let identity = bare.identity(b"alice@EXAMPLE.TEST").unwrap();
        assert_eq!(identity.to_string(), "alice");
        assert_eq!(identity, plain, "what is shown decides nothing");
        assert_ne!(identity, bare.identity(b"alice@OTHER.TEST").unwrap());
    }

    #[test]
    fn a_machine_account_and_other_ordinary_names() {
        for name in ["pc-17$@EXAMPLE.TEST", "anna.müller@EXAMPLE.TEST", "o_k+1@EXAMPLE.TEST"] {
            assert!(NameRules::default().identity(name.as_bytes()).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let rules = NameRules::default();
        for name in ["HTTP/proxy.test@R", "alice/admin@R", "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS"] {
            assert!(matches!(rules.identity(name.as_bytes()), Err(BadName::Service(_))), "{name}");
        }
        for name in ["alice", "@R", "alice@", "alice@R@S", "", "@"] {
            assert!(matches!(rules.identity(name.as_bytes()), Err(BadName::Form(_))), "{name}");
        }
        for name in
            ["alice\\@corp@R", "al\\/ice@R", "al ice@R", "al\nice@R", "al\0ice@R", "al\u{202e}ice@R", "<b>@R"]
        {
            assert!(matches!(rules.identity(name.as_bytes()), Err(BadName::Odd(_))), "{name:?}");
        }
        assert!(matches!(rules.identity(b"al\xffice@R"), Err(BadName::Odd(_))));
        let long = format!("{}@R", "a".repeat(MAX_PRINCIPAL));
        assert!(matches!(rules.identity(long.as_bytes()), Err(BadName::Odd(_))));
    }
}

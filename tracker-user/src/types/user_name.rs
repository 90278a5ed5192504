//! How users are written: as they are shown, and as an operator may type them.
//!
//! What is shown decides nothing: identities are compared by their key. What is typed may mean several people.

use std::fmt;

use super::identity::LOCAL_DOMAIN;

/// A user as people see one: `DOMAIN\user` where the domain is a short name, `user@REALM` where it is a realm (there is a
/// dot in it), the bare user where there is none.
#[derive(Clone, Copy, Debug)]
pub struct DisplayName<'a> {
    /// The user.
    pub user: &'a str,
    /// The domain as people see it; empty where the configuration strips domains.
    pub domain: &'a str,
}

impl fmt::Display for DisplayName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, domain } = self;
        if domain.is_empty() {
            f.write_str(user)
        } else if domain.contains('.') {
            write!(f, "{user}@{domain}")
        } else {
            write!(f, "{domain}\\{user}")
        }
    }
}

/// A user as an operator types one, in any case: `user`, `user@REALM`, `user@DOMAIN`, `DOMAIN\user` or `REALM\user`. The
/// bare name means everybody who is called so, whatever their realm. The domain `local` means the gateway's own user of that
/// name and nobody else: whoever is of a realm that is called so is meant by the bare name, or by another domain that
/// `kerberos.domains` gives the realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserQuery {
    user: String,
    domain: Option<String>,
}

impl UserQuery {
    /// The user's bare name, in lower case.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The domain, in lower case, as it was typed; `None` for a bare name.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// Whether this means `user` (in lower case) of `realm` (in lower case; empty: the gateway's own), which is shown as
    /// `domain`.
    #[must_use]
    pub fn means(&self, user: &str, realm: &str, domain: &str) -> bool {
        let is_domain = |typed: &String| match typed == LOCAL_DOMAIN {
            true => realm.is_empty(),
            false => !typed.is_empty() && (typed == realm || *typed == domain.to_lowercase()),
        };
        self.user == user && self.domain.as_ref().is_none_or(is_domain)
    }
}

impl fmt::Display for UserQuery {
    /// As it was typed, in lower case: `user` or `user@domain`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

impl From<&str> for UserQuery {
    fn from(text: &str) -> Self {
        let (user, domain) = match (text.split_once('\\'), text.rsplit_once('@')) {
            (Some((domain, user)), _) | (None, Some((user, domain))) => (user, Some(domain)),
            (None, None) => (text, None),
        };
        Self { user: user.to_lowercase(), domain: domain.map(str::to_lowercase) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Identity;

    #[test]
    fn a_user_is_shown_by_the_kind_of_domain() {
        let shown = |user, domain| DisplayName { user, domain }.to_string();
        assert_eq!(shown("Alice", "EXAMPLE.TEST"), "Alice@EXAMPLE.TEST");
        assert_eq!(shown("Alice", "EXAMPLE"), "EXAMPLE\\Alice");
        assert_eq!(shown("Alice", ""), "Alice");
    }

    #[test]
    fn every_form_means_the_user_in_any_case() {
        let mapped = Identity::new("Älfred", "EXAMPLE.TEST", "EXAMPLE");
        for typed in [
            "älfred",
            "ÄLFRED",
            "Älfred@EXAMPLE.TEST",
            "älfred@example.test",
            "älfred@Example",
            "EXAMPLE\\Älfred",
            "example\\älfred",
            "EXAMPLE.TEST\\Älfred",
        ] {
            assert!(mapped.is_called(&typed.into()), "{typed}");
        }
        let stripped = Identity::new("bob", "EXAMPLE.TEST", "");
        for typed in ["bob", "bob@example.test", "Example.Test\\BOB"] {
            assert!(stripped.is_called(&typed.into()), "{typed}");
        }
        let plain = Identity::new("bob", "EXAMPLE.TEST", "EXAMPLE.TEST");
        for typed in ["Bob", "bob@EXAMPLE.TEST", "EXAMPLE.TEST\\bob"] {
            assert!(plain.is_called(&typed.into()), "{typed}");
        }
    }

    #[test]
    fn another_user_or_another_realm_is_not_meant() {
        let mapped = Identity::new("bob", "A.TEST", "A");
        let stripped = Identity::new("bob", "A.TEST", "");
        for typed in [
            "",
            "@",
            "\\",
            "bo",
            "bobb",
            "bob@",
            "\\bob",
            "bob@B.TEST",
            "B\\bob",
            "A\\bob@A.TEST",
            "A\\A\\bob",
            "a.test",
            "@a.test",
        ] {
            assert!(!mapped.is_called(&typed.into()), "{typed}");
            assert!(!stripped.is_called(&typed.into()), "{typed}");
        }
        assert!(!stripped.is_called(&"bob@A".into()), "a short name is known only while it is shown");
    }

    #[test]
    fn the_domain_local_means_the_gateways_own_user_and_nobody_else() {
        let (local, kerberos) = (Identity::local("Bob"), Identity::new("bob", "LOCAL", "LOCAL"));
        for typed in ["bob@local", "LOCAL\\bob", "local\\BOB", "bob@LOCAL"] {
            assert!(local.is_called(&typed.into()) && !kerberos.is_called(&typed.into()), "{typed}");
        }
        assert!(local.is_called(&"bob".into()) && kerberos.is_called(&"bob".into()));
        let mapped = Identity::new("bob", "LOCAL", "CORP");
        assert!(mapped.is_called(&"CORP\\bob".into()) && !local.is_called(&"CORP\\bob".into()));
        assert!(!local.is_called(&"bob@".into()) && !local.is_called(&"bob@example.test".into()));
    }

    #[test]
    fn the_bare_name_means_everybody_who_is_called_so() {
        for realm in ["A.TEST", "B.TEST"] {
            assert!(Identity::new("bob", realm, realm).is_called(&"bob".into()), "{realm}");
        }
    }
}

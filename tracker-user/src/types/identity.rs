//! Who a user is, in canonical form.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::user_name::{DisplayName, UserQuery};

/// The domain of the gateway's own users, as people see and type it.
pub const LOCAL_DOMAIN: &str = "local";

/// The name of the gateway's first own user, who administers it.
pub const ADMINISTRATOR: &str = "admin";

/// A user and the domain (or realm) that vouches for them. Two identities are equal when they are the same person:
/// names are compared without regard to case, as directories do, and the realm always takes part, so that two realms
/// with the same bare name never merge. What is shown keeps its spelling.
#[derive(Clone)]
pub struct Identity {
    /// The user, the domain and the key, one after the other: one piece of memory instead of three.
    text: Box<str>,
    domain_at: usize,
    key_at: usize,
}

impl Identity {
    /// The user `user` of `realm`; `domain` is what people see in the realm's place.
    #[must_use]
    pub fn new(user: &str, realm: &str, domain: &str) -> Self {
        // A realm cannot contain '@' and a user name here never does: the joined key is unambiguous.
        Self::restore(user, domain, &format!("{}@{}", user.to_lowercase(), realm.to_lowercase()))
    }

    /// The gateway's own user of this name. No Kerberos realm is empty, so it is nobody else's, whatever realms are called.
    #[must_use]
    pub fn local(user: &str) -> Self {
        Self::new(user, "", LOCAL_DOMAIN)
    }

    /// Whether it is a user of the gateway's own.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.realm().is_empty()
    }

    /// Whether it is the gateway's first own user, who administers it.
    #[must_use]
    pub fn is_built_in_administrator(&self) -> bool {
        self.key().strip_suffix('@') == Some(ADMINISTRATOR)
    }

    /// An identity as the store kept it: [`Self::key`] is its last part.
    #[must_use]
    pub fn restore(user: &str, domain: &str, key: &str) -> Self {
        let text = [user, domain, key].concat().into();
        Self { text, domain_at: user.len(), key_at: user.len() + domain.len() }
    }

    /// The name, as it was proved.
    #[must_use]
    pub fn user(&self) -> &str {
        self.text.get(..self.domain_at).unwrap_or_default()
    }

    /// The domain as people see it; empty where the configuration strips domains.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.get(self.domain_at..self.key_at).unwrap_or_default()
    }

    /// The canonical form, `user@realm` in lower case: what identities are compared by.
    #[must_use]
    pub fn key(&self) -> &str {
        self.text.get(self.key_at..).unwrap_or_default()
    }

    /// The realm, in lower case, where the domain that people see does not tell it; [`told_realm`] is the way back. A user
    /// of the gateway's own has none, and a realm that is called like their domain is always told.
    #[must_use]
    pub fn hidden_realm(&self) -> Option<&str> {
        Some(self.realm()).filter(|realm| *realm != told_realm(self.domain(), None))
    }

    /// The realm, in lower case.
    #[must_use]
    pub fn realm(&self) -> &str {
        self.key().rsplit_once('@').map_or("", |(_, realm)| realm)
    }

    /// The user as an operator types them so that nobody else is meant, whatever domains are called: see [`UserQuery`].
    #[must_use]
    pub fn typed(&self) -> String {
        let domain = if self.is_local() { LOCAL_DOMAIN } else { self.realm() };
        format!("{}@{domain}", self.user())
    }

    /// Whether `other` is this user, spelled like this.
    #[must_use]
    pub fn is_spelled_like(&self, other: &Self) -> bool {
        (&self.text, self.domain_at, self.key_at) == (&other.text, other.domain_at, other.key_at)
    }

    /// Whether `typed` means this user.
    #[must_use]
    pub fn is_called(&self, typed: &UserQuery) -> bool {
        let user = self.key().rsplit_once('@').map_or(self.key(), |(user, _)| user);
        typed.means(user, self.realm(), self.domain())
    }
}

/// The realm, in lower case, of a user who is shown with this domain and this [`Identity::hidden_realm`]: empty for users of
/// the gateway's own.
#[must_use]
pub fn told_realm(domain: &str, hidden: Option<&str>) -> String {
    match hidden {
        Some(realm) => realm.to_owned(),
        None if domain.eq_ignore_ascii_case(LOCAL_DOMAIN) => String::new(),
        None => domain.to_lowercase(),
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Display for Identity {
    /// As people see it: see [`DisplayName`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DisplayName { user: self.user(), domain: self.domain() }.fmt(f)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self}, {})", self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_person_in_another_case_is_the_same_identity() {
        assert_eq!(
            Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE"),
            Identity::new("alice", "example.test", "")
        );
    }

    #[test]
    fn a_realm_is_named_where_the_domain_does_not_tell_it() {
        for (domain, hidden) in
            [("Example.TEST", None), ("EXAMPLE", Some("example.test")), ("", Some("example.test"))]
        {
            assert_eq!(Identity::new("alice", "EXAMPLE.TEST", domain).hidden_realm(), hidden, "{domain}");
        }
    }

    #[test]
    fn a_user_of_a_realm_that_is_called_local_is_not_the_gateways_own_and_what_is_shown_tells_them_apart() {
        let (local, kerberos) = (Identity::local("Bob"), Identity::new("bob", "LOCAL", "LOCAL"));
        assert_ne!(local, kerberos);
        assert!(local.is_local() && !kerberos.is_local());
        assert_eq!((local.hidden_realm(), kerberos.hidden_realm()), (None, Some("local")));
        let named = Identity::new("bob", "EXAMPLE.TEST", "local");
        let all =
            [local, kerberos, named, Identity::new("bob", "R.TEST", ""), Identity::new("bob", "R.TEST", "R")];
        for identity in &all {
            assert_eq!(told_realm(identity.domain(), identity.hidden_realm()), identity.realm());
            let restored = Identity::restore(identity.user(), identity.domain(), identity.key());
            assert!(restored.is_spelled_like(identity) && restored.is_local() == identity.is_local());
        }
    }

    #[test]
    fn the_same_bare_name_in_two_realms_is_two_people_even_where_domains_are_stripped() {
        assert_ne!(Identity::new("alice", "A.TEST", ""), Identity::new("alice", "B.TEST", ""));
    }
}

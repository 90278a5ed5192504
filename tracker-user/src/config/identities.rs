//! How users are shown whom nobody has just proved themselves to be.

use super::types::Config;
use crate::types::{Identity, LOCAL_DOMAIN};

impl Config {
    /// A user, shown as sessions show them: by the domain that `kerberos.domains` gives their realm.
    #[must_use]
    pub fn shown(&self, identity: Identity) -> Identity {
        let mut domains = self.kerberos.domains.iter();
        match domains.find(|(realm, _)| realm.to_lowercase() == identity.realm()) {
            Some((_, short)) if !identity.is_local() => {
                Identity::restore(identity.user(), short, identity.key())
            }
            _ => identity,
        }
    }

    /// The user of this [`Identity::key`], of whom nothing else is known.
    #[must_use]
    pub fn identity_of(&self, key: &str) -> Identity {
        let (user, realm) = key.rsplit_once('@').unwrap_or((key, ""));
        let domain = if realm.is_empty() { LOCAL_DOMAIN.to_owned() } else { realm.to_uppercase() };
        self.shown(Identity::restore(user, &domain, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_whom_it_is_of() {
        let mut config = Config::default();
        config.kerberos.domains = [("EXAMPLE.TEST".to_owned(), "EXAMPLE".to_owned())].into();
        for (key, display, unambiguous) in [
            ("admin@", "local\\admin", "admin@local"),
            ("alice@example.test", "EXAMPLE\\alice", "alice@example.test"),
            ("bob@other.test", "bob@OTHER.TEST", "bob@other.test"),
        ] {
            let identity = config.identity_of(key);
            assert_eq!((identity.to_string().as_str(), identity.key()), (display, key));
            assert_eq!(identity.typed(), unambiguous);
            assert!(identity.is_called(&unambiguous.into()));
        }
    }
}

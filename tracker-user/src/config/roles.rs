//! What users of realms may do to the gateway, as `portal.administrators` and `portal.viewers` say.

use std::collections::BTreeSet;

use super::Config;
use crate::types::{Identity, LOCAL_DOMAIN, Role, UserQuery};

/// Why an entry gives nobody anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Void {
    /// It does not say which realm.
    NoDomain,
    /// It is of the gateway's own users.
    Local,
    /// Several realms are called so.
    Ambiguous,
}

impl Config {
    /// What a user of a realm may do to the gateway. Each entry means one person, by name and realm; one that could mean
    /// several gives nobody anything.
    #[must_use]
    pub fn role_of(&self, who: &Identity) -> Role {
        let is_in = |list: &[String]| {
            !who.is_local() && list.iter().any(|typed| self.one(typed).is_ok_and(|key| key == *who.key()))
        };
        if is_in(&self.portal.administrators) {
            Role::Administrator
        } else if is_in(&self.portal.viewers) {
            Role::Viewer
        } else {
            Role::User
        }
    }

    /// The one person whom an entry means, in canonical form ([`Identity::key`]).
    fn one(&self, typed: &str) -> Result<String, Void> {
        let typed = UserQuery::from(typed);
        let domain = typed.domain().filter(|domain| !domain.is_empty()).ok_or(Void::NoDomain)?;
        if domain == LOCAL_DOMAIN {
            return Err(Void::Local);
        }
        let realms = self
            .kerberos
            .domains
            .iter()
            .filter(|(realm, short)| short.to_lowercase() == domain || realm.to_lowercase() == domain);
        let realms: BTreeSet<String> = realms.map(|(realm, _)| realm.to_lowercase()).collect();
        let mut realms = realms.into_iter();
        match (realms.next(), realms.next()) {
            (None, _) => Ok(format!("{}@{domain}", typed.user())),
            (Some(realm), None) => Ok(format!("{}@{realm}", typed.user())),
            (Some(_), Some(_)) => Err(Void::Ambiguous),
        }
    }

    /// A sentence for each entry that gives nobody anything.
    pub(super) fn role_warnings(&self) -> impl Iterator<Item = String> {
        let portal = &self.portal;
        let lists = [("portal.administrators", &portal.administrators), ("portal.viewers", &portal.viewers)];
        let entries = lists.into_iter().flat_map(|(key, list)| list.iter().map(move |typed| (key, typed)));
        entries.filter_map(|(key, typed)| {
            let why = match self.one(typed).err()? {
                Void::NoDomain => "does not say of which realm: write user@REALM",
                Void::Local => {
                    "is one of the gateway's own users, whose role is set by trackerctl user role NAME ROLE"
                }
                Void::Ambiguous => "may be a user of several realms (kerberos.domains): write user@REALM",
            };
            Some(format!("{key}: {typed:?} gives nobody anything, as it {why}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(domains: &str, administrators: &str) -> Config {
        let text = format!(
            "kerberos.domains = {{ {domains} }}\nportal.administrators = [{administrators}]\n\
             portal.viewers = [\"vera@A.TEST\", \"alice@A.TEST\"]\n"
        );
        Config::parse(&text, "test").unwrap_or_else(|error| panic!("{error}"))
    }

    /// Who of `alice` in these realms, each shown as such a domain, is an administrator.
    fn administrators(config: &Config, realms: &[(&str, &str)]) -> Vec<String> {
        let people = realms.iter().map(|(realm, shown)| Identity::new("Alice", realm, shown));
        let administrators = people.filter(|who| config.role_of(who) == Role::Administrator);
        administrators.map(|who| who.key().to_owned()).collect()
    }

    const REALMS: [(&str, &str); 5] = [
        ("A.TEST", "CORP"),
        ("B.TEST", "B.TEST"),
        ("CORP", "CORP"),
        ("LOCAL", "LOCAL"),
        ("a.test.evil", "CORP"),
    ];

    #[test]
    fn an_entry_means_one_person_however_it_is_written() {
        for typed in [r"'CORP\alice'", r"'corp\ALICE'", "'Alice@a.test'", r"'A.TEST\alice'", "'alice@CORP'"] {
            let config = config("\"A.TEST\" = \"CORP\"", typed);
            assert_eq!(administrators(&config, &REALMS), ["alice@a.test"], "{typed}");
            assert_eq!(config.role_warnings().count(), 0, "{typed}");
        }
        // A realm that nobody has named is meant by its own name.
        assert_eq!(administrators(&config("", "'alice@corp'"), &REALMS), ["alice@corp"]);
    }

    #[test]
    fn who_is_shown_alike_but_is_somebody_else_gets_nothing() {
        let config = config("\"A.TEST\" = \"CORP\"", r"'CORP\alice'");
        for who in [
            Identity::new("alice", "CORP", "CORP"),
            Identity::new("alice", "B.TEST", "CORP"),
            Identity::new("alicia", "A.TEST", "CORP"),
            Identity::local("alice"),
        ] {
            assert_eq!(config.role_of(&who), Role::User, "{who:?}");
        }
        assert_eq!(config.role_of(&Identity::new("VERA", "a.test", "CORP")), Role::Viewer);
        // In both lists: whoever administers may look, too.
        assert_eq!(config.role_of(&Identity::new("alice", "A.TEST", "")), Role::Administrator);
    }

    #[test]
    fn an_entry_that_may_mean_several_gives_nobody_anything_and_is_told_of() {
        for (domains, typed, says) in [
            ("\"A.TEST\" = \"CORP\", \"B.TEST\" = \"CORP\"", r"'CORP\alice'", "several realms"),
            ("\"A.TEST\" = \"CORP\", \"CORP\" = \"X\"", "'alice@corp'", "several realms"),
            ("", "'alice@local'", "own users"),
        ] {
            let config = config(domains, typed);
            assert_eq!(administrators(&config, &REALMS), [""; 0], "{domains} {typed}");
            let told: Vec<String> = config.warnings();
            assert!(told.iter().any(|said| said.contains(says) && said.contains("alice")), "{told:?}");
        }
    }
}

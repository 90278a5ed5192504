//! Which further factors users must prove, besides the method (`second-factor.*`).

use std::collections::BTreeMap;

use crate::types::{Factor, Factors, Identity, Method};

/// Who must prove a second factor. The default: nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FactorPolicy {
    /// By realm, in lower case; of a realm that is not named, nobody is asked.
    pub realms: BTreeMap<String, Demand>,
    /// Methods that are proof enough alone, as Kerberos is where `second-factor.kerberos` is `trust`.
    pub trusted: Vec<Method>,
}

/// Which of a realm's users are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Who has set a factor up.
    IfEnrolled,
    /// Everybody; who has set none up has to.
    Always,
}

/// What a user has proved, as far as the demand goes.
#[derive(Clone, Copy, Debug)]
pub struct Proven<'a> {
    /// Who they are,
    pub identity: &'a Identity,
    /// by this method,
    pub method: Method,
    /// and by these further factors.
    pub factors: Factors,
    /// The factors that they have set up.
    pub enrolled: Factors,
}

impl FactorPolicy {
    /// Whether anybody is asked at all.
    #[must_use]
    pub fn asks_anybody(&self) -> bool {
        !self.realms.is_empty()
    }

    /// What is demanded of this user; `None`: nothing. The built-in administrator belongs to no domain of anybody's: where
    /// any domain is on, they may set a factor up and are asked for it then, also where the gateway's own users are not.
    #[must_use]
    pub fn demand(&self, identity: &Identity) -> Option<Demand> {
        let of_realm = self.realms.get(identity.realm()).copied();
        let is_alike = self.asks_anybody() && identity.is_built_in_administrator();
        of_realm.or_else(|| is_alike.then_some(Demand::IfEnrolled))
    }

    /// The factor that is missing: one that the user has set up, where there is one. Any one further factor will do.
    #[must_use]
    pub fn missing(&self, proven: &Proven<'_>) -> Option<Factor> {
        let Proven { identity, method, factors, enrolled } = *proven;
        if !self.asks_anybody() || !factors.is_empty() || self.trusted.contains(&method) {
            return None;
        }
        let first = enrolled.iter().next();
        match self.demand(identity)? {
            Demand::IfEnrolled => first,
            Demand::Always => Some(first.unwrap_or(Factor::Totp)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_is_missing_by_realm_method_and_enrolment() {
        let demand = |demand, trusted: &[Method]| FactorPolicy {
            realms: [("example.test".to_owned(), demand)].into(),
            trusted: trusted.to_vec(),
        };
        let always = demand(Demand::Always, &[]);
        let trusting = demand(Demand::Always, &[Method::Kerberos]);
        let optional = demand(Demand::IfEnrolled, &[]);
        let none = Factors::NONE;
        let (totp, passkey) = (none.with(Factor::Totp), none.with(Factor::Passkey));
        let missing = |policy: &FactorPolicy, realm: &str, factors, enrolled| {
            let identity = &Identity::new("alice", realm, "");
            policy.missing(&Proven { identity, method: Method::Kerberos, factors, enrolled })
        };
        assert_eq!(missing(&FactorPolicy::default(), "EXAMPLE.TEST", none, totp), None);
        assert_eq!(missing(&always, "EXAMPLE.TEST", none, none), Some(Factor::Totp));
        assert_eq!(missing(&always, "EXAMPLE.TEST", none, passkey), Some(Factor::Passkey));
        assert_eq!(missing(&always, "EXAMPLE.TEST", totp, passkey), None, "any one will do");
        assert_eq!(missing(&always, "OTHER.TEST", none, totp), None);
        assert_eq!(missing(&trusting, "EXAMPLE.TEST", none, totp), None);
        assert_eq!(missing(&optional, "EXAMPLE.TEST", none, none), None);
        assert_eq!(missing(&optional, "EXAMPLE.TEST", none, totp), Some(Factor::Totp));
        // The built-in administrator belongs to no domain.
        let of = |identity: &Identity, enrolled| {
            let proven = Proven { identity, method: Method::Password, factors: none, enrolled };
            (always.missing(&proven), FactorPolicy::default().missing(&proven))
        };
        assert_eq!(of(&Identity::local("Admin"), totp), (Some(Factor::Totp), None));
        assert_eq!(of(&Identity::local("admin"), none), (None, None));
        assert_eq!(of(&Identity::local("bob"), totp), (None, None));
    }
}

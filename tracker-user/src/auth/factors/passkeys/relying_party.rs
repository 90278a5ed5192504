//! The host that passkeys are made for (the relying party's ID of WebAuthn), and where they can be used.
//!
//! A browser shows a passkey to pages of that host and of hosts below it, and to no other; so the host cannot be changed once a
//! passkey exists. Where `portal.host` has become another, passkeys stop, rather than some going on and others not.

use std::net::IpAddr;

use crate::types::UserMessage;

/// What passkeys are made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelyingParty {
    /// For this host.
    Host(String),
    /// There are passkeys for a host that the portal's is not below any more: none can be added or used.
    Stopped {
        /// What they were made for,
        made_for: String,
        /// how many there are of these,
        count: usize,
        /// and the portal's host.
        host: String,
    },
}

/// No passkey can be used on a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The configuration has them off.
    Off,
    /// The page was reached by an address, or the portal has no name.
    Address {
        /// The name to reach it by, where it has one.
        host: Option<String>,
    },
    /// The page was reached by a name that passkeys are not made for.
    AnotherName {
        /// The name to reach it by.
        host: String,
    },
    /// The portal's host is another than the one that passkeys were made for.
    Stopped,
}

impl Unusable {
    /// Why, and what to do, for the person at the browser.
    #[must_use]
    pub fn user_message(&self) -> UserMessage {
        match self {
            Self::Off => UserMessage::new("Passkeys are not used on this gateway."),
            Self::Address { host: None } => UserMessage::new(
                "Passkeys cannot be used on this gateway: it has no name that browsers know it by.",
            ),
            Self::Address { host: Some(host) } => {
                let message =
                    "Passkeys cannot be used on a page that is reached by an address. Open it by the name ";
                UserMessage::new(message).name(host).then(".")
            }
            Self::AnotherName { host } => {
                let message =
                    "Passkeys cannot be used under this name of the gateway. Open the page by the name ";
                UserMessage::new(message).name(host).then(".")
            }
            Self::Stopped => UserMessage::new(
                "Passkeys do not work at present, because the gateway's name has changed. Use another second factor, and tell \
                 the help desk.",
            ),
        }
    }
}

impl RelyingParty {
    /// What passkeys are made for where the portal's host is `host`, and there are so many passkeys for these hosts already.
    #[must_use]
    pub fn of<'a>(host: &str, known: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let (covering, stray): (Vec<_>, Vec<_>) =
            known.into_iter().partition(|(made_for, _)| covers(made_for, &host));
        let most =
            |of: &[(&str, usize)]| of.iter().max_by_key(|(_, count)| *count).map(|(of, _)| (*of).to_owned());
        match (most(&stray), most(&covering)) {
            (Some(made_for), _) => {
                let count = stray.iter().map(|(_, count)| count).sum();
                Self::Stopped { made_for, count, host }
            }
            (None, Some(kept)) => Self::Host(kept),
            (None, None) => Self::Host(host),
        }
    }

    /// What an operator should look at.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let Self::Stopped { made_for, count, host } = self else { return None };
        let passkeys = if *count == 1 { "1 passkey is".to_owned() } else { format!("{count} passkeys are") };
        Some(format!(
            "{passkeys} for {made_for}, and browsers do not show them to the portal's host, which is {host}: no passkey can be \
             used or added; set portal.host to {made_for} or to a name below it, or reset the second factor of whoever has one"
        ))
    }

    /// The ID to ask for on a page of this host.
    ///
    /// # Errors
    /// When none can be used there.
    pub(super) fn on(&self, page: &str) -> Result<&str, Unusable> {
        let Self::Host(host) = self else { return Err(Unusable::Stopped) };
        let is_address = |name: &str| name.parse::<IpAddr>().is_ok();
        if host.is_empty() || is_address(host) {
            Err(Unusable::Address { host: None })
        } else if is_address(page) {
            Err(Unusable::Address { host: Some(host.clone()) })
        } else if covers(host, page) {
            Ok(host)
        } else {
            Err(Unusable::AnotherName { host: host.clone() })
        }
    }
}

/// Whether browsers show what was made for `made_for` to pages of `host`; both in lower case.
fn covers(made_for: &str, host: &str) -> bool {
    host.strip_suffix(made_for).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_stays_what_the_first_passkey_was_made_for() {
        let of = |host: &str, known: &[(&str, usize)]| RelyingParty::of(host, known.iter().copied());
        let is = |host: &str| RelyingParty::Host(host.to_owned());
        assert_eq!(of("GW.example.test.", &[]), is("gw.example.test"));
        assert_eq!(of("gw.example.test", &[("gw.example.test", 3)]), is("gw.example.test"));
        assert_eq!(of("new.gw.example.test", &[("gw.example.test", 3)]), is("gw.example.test"), "below it");
        let stopped = |made_for: &str, count, host: &str| RelyingParty::Stopped {
            made_for: made_for.to_owned(),
            count,
            host: host.to_owned(),
        };
        let moved = of("other.test", &[("gw.example.test", 3)]);
        assert_eq!(moved, stopped("gw.example.test", 3, "other.test"));
        assert_eq!(
            of("example.test", &[("gw.example.test", 1)]),
            stopped("gw.example.test", 1, "example.test")
        );
        assert_eq!(
            of("xgw.example.test", &[("gw.example.test", 1)]),
            stopped("gw.example.test", 1, "xgw.example.test")
        );
        let mixed = of("gw.example.test", &[("gw.example.test", 9), ("old.test", 1), ("older.test", 2)]);
        assert_eq!(mixed, stopped("older.test", 3, "gw.example.test"));
        let warning = mixed.warning().unwrap();
        assert!(
            warning.starts_with("3 passkeys are for older.test") && warning.contains("is gw.example.test:"),
            "{warning}"
        );
        assert_eq!(is("gw.example.test").warning(), None);
    }

    #[test]
    fn a_page_has_them_under_the_name_and_below_it_and_says_why_elsewhere() {
        let party = RelyingParty::of("gw.example.test", []);
        let name = || "gw.example.test".to_owned();
        assert_eq!(party.on("gw.example.test"), Ok("gw.example.test"));
        assert_eq!(party.on("a.gw.example.test"), Ok("gw.example.test"));
        for (page, why) in [
            ("192.0.2.1", Unusable::Address { host: Some(name()) }),
            ("2001:db8::1", Unusable::Address { host: Some(name()) }),
            ("localhost", Unusable::AnotherName { host: name() }),
            ("example.test", Unusable::AnotherName { host: name() }),
            ("evil-gw.example.test", Unusable::AnotherName { host: name() }),
        ] {
            assert_eq!(party.on(page), Err(why), "{page}");
        }
        for nameless in ["", "192.0.2.1", "2001:db8::1"] {
            let party = RelyingParty::of(nameless, []);
            assert_eq!(party.on(nameless), Err(Unusable::Address { host: None }), "{nameless}");
        }
        let stopped = RelyingParty::of("other.test", [("gw.example.test", 1)]);
        assert_eq!(stopped.on("gw.example.test"), Err(Unusable::Stopped));
    }
}

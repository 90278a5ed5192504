//! What is unwise about who is asked for a second factor.

use std::net::IpAddr;

use super::types::Config;
use super::values::{PasskeyUse, SecondFactorPolicy};
use crate::types::LOCAL_DOMAIN;

/// A sentence each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let domains =
        config.second_factor.domains.iter().filter(|(_, policy)| **policy != SecondFactorPolicy::Off);
    let on: Vec<&String> = domains.map(|(domain, _)| domain).collect();
    let mut found = Vec::new();
    if on.is_empty() {
        return found;
    }
    let known = &config.kerberos.domains;
    for domain in on {
        let is = |other: &str| other.eq_ignore_ascii_case(domain);
        if is(LOCAL_DOMAIN) || known.keys().any(|realm| is(realm)) {
            continue;
        }
        if let Some((realm, _)) = known.iter().find(|(_, short)| is(short)) {
            found.push(format!(
                "second-factor.domains: {domain} is the short name of {realm}: name the realm, as nobody is asked by its short name"
            ));
        } else if !known.is_empty() || !domain.contains('.') {
            found.push(format!(
                "second-factor.domains: {domain} is named nowhere in kerberos.domains: if it is not spelled as the realm is, nobody is asked"
            ));
        }
    }
    let host = config.portal.host.as_deref().unwrap_or_default();
    let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if config.second_factor.passkey != PasskeyUse::Off && is_address {
        found.push(
            "second-factor.passkey: portal.host is an address, and browsers make passkeys for names only: set portal.host to a name"
                .to_owned(),
        );
    }
    let is_required =
        config.second_factor.domains.values().any(|policy| *policy == SecondFactorPolicy::Required);
    if is_required && config.mail.smtp.is_none() {
        found.push(
            "mail.smtp: is not set, and a second factor is required: whoever loses theirs has printed recovery codes, or asks an administrator"
                .to_owned(),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_that_nobody_is_of_is_warned_of() {
        let warned = |domain: &str, policy, known: &[(&str, &str)]| {
            let mut config = Config::default();
            config.second_factor.domains = [(domain.to_owned(), policy)].into();
            let known = known.iter().map(|(realm, short)| ((*realm).to_owned(), (*short).to_owned()));
            config.kerberos.domains = known.collect();
            warnings(&config).join("\n")
        };
        let optional = SecondFactorPolicy::Optional;
        let known: &[(&str, &str)] = &[("EXAMPLE.TEST", "EXAMPLE")];
        assert_eq!(warned("example.test", optional, known), "");
        assert_eq!(warned("EXAMPLE.TEST", optional, &[]), "", "krb5.conf may know it");
        assert_eq!(warned("Local", optional, known), "");
        assert_eq!(warned("NOWHERE", SecondFactorPolicy::Off, known), "");
        assert!(warned("EXAMPLE", optional, known).contains("is the short name of EXAMPLE.TEST"));
        assert!(warned("OTHER.TEST", optional, known).contains("named nowhere"));
        assert!(warned("EXAMPLE", optional, &[]).contains("named nowhere"));
    }

    #[test]
    fn what_cannot_work_is_warned_of_where_anybody_is_asked() {
        let mut config = Config::default();
        config.portal.host = Some("192.0.2.1".into());
        assert_eq!(warnings(&config), [""; 0]);
        config.second_factor.domains = [("local".to_owned(), SecondFactorPolicy::Required)].into();
        let keys = |config: &Config| -> Vec<String> {
            let found = warnings(config);
            found.iter().map(|one| one.split(':').next().unwrap_or_default().to_owned()).collect()
        };
        assert_eq!(keys(&config), ["second-factor.passkey", "mail.smtp"]);
        config.portal.host = Some("gateway.example.test".into());
        config.mail.smtp = Some("smtp://mail.example.test".into());
        assert_eq!(keys(&config), [""; 0]);
        config.portal.host = Some("2001:db8::1".into());
        config.second_factor.passkey = PasskeyUse::Off;
        assert_eq!(keys(&config), [""; 0]);
    }
}

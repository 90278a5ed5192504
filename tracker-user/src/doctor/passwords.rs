//! Passwords against the KDC: whether they are asked for, and whether the KDC that accepts one could prove itself.

use super::{Check, Entries};
use crate::auth::kerberos::negotiate::KeytabProblem;
use crate::auth::kerberos::{kdc_probe, own_services};
use crate::config::{Basic, Config};

const PASSWORDS: &str = "passwords";

pub(super) fn checks(config: &Config, entries: &Entries) -> Vec<Check> {
    if config.proxy.basic == Basic::Never {
        return vec![Check::skipped(PASSWORDS, "no passwords are asked for (proxy.basic = \"never\")")];
    }
    let trusted: Vec<String> = config.kerberos.domains.keys().cloned().collect();
    judge(config.proxy.basic, entries, kdc_probe::default_realm().as_deref(), &trusted)
}

/// `default`: the realm of names without one; `named`: those of `kerberos.domains`.
fn judge(basic: Basic, entries: &Entries, default: Option<&str>, named: &[String]) -> Vec<Check> {
    let entries = match entries {
        Ok(entries) => entries.as_slice(),
        Err(KeytabProblem::Missing(_) | KeytabProblem::Empty(_)) => &[],
        Err(_) => {
            return vec![Check::skipped(
                PASSWORDS,
                "without the keytab, whether a KDC could prove itself is not known; see the check of the keytab",
            )];
        }
    };
    if entries.is_empty() {
        return vec![Check::failed(
            PASSWORDS,
            format!(
                "passwords are asked for (proxy.basic = \"{basic}\"), but no key of this gateway's is in the keytab: a KDC that \
                 accepts a password cannot be told from a false one, so that none of a realm is accepted"
            ),
            "export the key of HTTP/<the proxy's name>@<REALM> into the keytab, or set proxy.basic to \"never\" if there are no \
             local users",
        )];
    }
    let mut checks = Vec::new();
    if default.is_none() {
        checks.push(Check::warning(
            PASSWORDS,
            "krb5.conf names no default_realm: a name without a realm is a local user's or nobody's",
            "set default_realm in krb5.conf ([libdefaults])",
        ));
    }
    let mut realms: Vec<&str> = default.into_iter().collect();
    for realm in named {
        if !realms.iter().any(|known| known.eq_ignore_ascii_case(realm)) {
            realms.push(realm);
        }
    }
    for realm in realms {
        let services = own_services(entries, realm, default);
        let Some(service) = services.first() else { continue };
        let is_own = service.rsplit_once('@').is_some_and(|(_, theirs)| theirs == realm);
        let trust = if is_own { "" } else { ", through the trust between the realms" };
        checks.push(Check::ok(
            PASSWORDS,
            format!("{realm}: a KDC that accepts a password proves itself by the key of {service}{trust}"),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::auth::kerberos::negotiate::KeytabEntry;

    #[test]
    fn who_proves_the_kdc_is_told_for_each_realm() {
        let entry = KeytabEntry { principal: "HTTP/proxy@A.TEST".into(), version: 1, enctype: 18 };
        let entries = Ok(vec![entry]);
        let named = ["A.TEST".to_owned(), "B.TEST".to_owned()];
        let checks = judge(Basic::Always, &entries, Some("A.TEST"), &named);
        let findings: Vec<&str> = checks.iter().map(|check| check.finding.as_str()).collect();
        assert!(checks.iter().all(|check| check.state == State::Ok), "{checks:?}");
        assert_eq!(
            findings,
            [
                "A.TEST: a KDC that accepts a password proves itself by the key of HTTP/proxy@A.TEST",
                "B.TEST: a KDC that accepts a password proves itself by the key of HTTP/proxy@A.TEST, through the trust \
                 between the realms",
            ]
        );
        let without_default = judge(Basic::Always, &entries, None, &[]);
        assert_eq!(without_default.first().map(|check| check.state), Some(State::Warning));
    }

    #[test]
    fn passwords_without_a_key_are_told() {
        for entries in [Ok(Vec::new()), Err(KeytabProblem::Missing("/k".into()))] {
            let checks = judge(Basic::TlsAndLoopback, &entries, Some("A.TEST"), &[]);
            assert_eq!(checks.len(), 1);
            assert_eq!(checks[0].state, State::Failed);
            assert!(checks[0].finding.contains("proxy.basic = \"tls-and-loopback\""), "{checks:?}");
        }
        let unreadable = Err(KeytabProblem::Unreadable { path: "/k".into(), why: "denied".into() });
        assert_eq!(judge(Basic::Always, &unreadable, Some("A.TEST"), &[])[0].state, State::Skipped);
    }
}

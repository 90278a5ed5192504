//! One password against the KDC of a realm: from a user's name to an identity. Blocks; who may ask, and how often, is the
//! caller's affair ([`crate::auth::password::kdc`]).

use tracing::debug;

use super::credential::{self, GssError, Keytab, KeytabEntry, Refused, Said, local_name};
use super::negotiate::{self, Options};
use super::own::own_services;
use crate::auth::kerberos::names::BadName;
use crate::auth::outcome::Failure;
use crate::auth::password::{Cause, Password};
use crate::types::Identity;

/// The realms that may be asked, because somebody who runs this gateway has named them: krb5.conf, the keytab,
/// `kerberos.domains`. No name that a stranger sends has DNS searched for the KDCs of a realm of their choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::auth) struct KnownRealms {
    default: Option<String>,
    /// As krb5 spells them, each once.
    all: Vec<String>,
}

impl KnownRealms {
    /// Reads krb5.conf and the keytab.
    pub(in crate::auth) fn read(options: &Options) -> Self {
        let credential::Realms { default, named } =
            credential::realms().unwrap_or_else(|GssError { text, .. }| {
                debug!(error = text, "the realms of krb5.conf cannot be read");
                credential::Realms::default()
            });
        let entries = negotiate::entries(options.keytab.as_deref()).unwrap_or_default();
        Self::new(default, named, &entries, options)
    }

    fn new(default: Option<String>, named: Vec<String>, entries: &[KeytabEntry], options: &Options) -> Self {
        let mut all: Vec<String> = default.iter().cloned().chain(named).collect();
        all.extend(entries.iter().filter_map(|entry| realm_of(&entry.principal)).map(str::to_owned));
        all.sort_unstable();
        all.dedup();
        // The configuration's are in upper case, whatever they are really called.
        for realm in options.names.realms() {
            if !all.iter().any(|known| known.eq_ignore_ascii_case(realm)) {
                all.push(realm.to_owned());
            }
        }
        Self { default, all }
    }

    /// The default realm.
    pub(in crate::auth) fn default_realm(&self) -> Option<&str> {
        self.default.as_deref()
    }

    /// The realm that is meant, as krb5 spells it: the one of this very name, else the one that differs from it in case only.
    pub(in crate::auth) fn meant(&self, typed: &str) -> Option<&str> {
        if let Some(exact) = self.all.iter().find(|realm| *realm == typed) {
            return Some(exact);
        }
        let mut alike = self.all.iter().filter(|realm| realm.eq_ignore_ascii_case(typed));
        alike.next().filter(|_| alike.next().is_none()).map(String::as_str)
    }
}

/// What a password that proves nobody came to.
#[derive(Debug)]
pub(in crate::auth) struct Unproved {
    /// For whoever asked.
    pub(in crate::auth) failure: Failure,
    /// What it tells of the realm's KDC.
    pub(in crate::auth) kdc: Kdc,
}

/// What a password told of a KDC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Kdc {
    /// It answers.
    Answered,
    /// It does not.
    Silent,
    /// It was not asked, or something else failed.
    Unknown,
}

/// Whose password this is: asks the KDC of `realm` (as krb5 spells it).
pub(in crate::auth) fn prove(
    options: &Options,
    default_realm: Option<&str>,
    user: &str,
    realm: &str,
    password: &Password,
) -> Result<Identity, Unproved> {
    // Whatever read the name: what is asked for is a user's.
    options.names.typed(user, realm).map_err(|bad| bad_name(&bad))?;
    // Read each time: it is small beside what follows, and always the present one.
    let path = options.keytab.as_deref();
    let keytab = Keytab::load(path).and_then(|keytab| Ok((keytab.entries()?, keytab)));
    let (entries, keytab) =
        keytab.map_err(|error| without_keys(negotiate::unusable(path, error).to_string()))?;
    let services = own_services(&entries, realm, default_realm);
    if services.is_empty() {
        return Err(without_keys("the keytab is empty".to_owned()));
    }
    let client = format!("{user}@{realm}");
    let proved = keytab.prove(&client, password, &services).map_err(|refused| {
        let ours = default_realm == Some(realm)
            || entries.iter().any(|entry| realm_of(&entry.principal) == Some(realm));
        unproved(&refused, &client, realm, ours)
    })?;
    // A KDC may know the user by another name, and krb5.conf may let it say so: what counts is whom the ticket names.
    options.names.identity(proved.as_bytes(), local_name).map_err(|bad| bad_name(&bad))
}

/// The part behind the last `@`.
fn realm_of(principal: &str) -> Option<&str> {
    principal.rsplit_once('@').map(|(_, realm)| realm)
}

fn bad_name(bad: &BadName) -> Unproved {
    // The rules of krb5.conf that fail are nobody's fault who types a name.
    let failure = match bad {
        BadName::Rules { .. } => Failure::Unavailable(bad.to_string()),
        _ => rejected(Cause::Name, &bad.to_string()),
    };
    Unproved { failure, kdc: Kdc::Unknown }
}

fn without_keys(problem: String) -> Unproved {
    let failure = Failure::Unavailable(format!(
        "no password can be verified, as no KDC can prove itself without a key of this gateway's: {problem}"
    ));
    Unproved { failure, kdc: Kdc::Unknown }
}

/// What a refusal is to whoever asked. `ours`: it is a realm of this gateway's own.
fn unproved(refused: &Refused, client: &str, realm: &str, ours: bool) -> Unproved {
    let Refused { said, text } = refused;
    let (failure, kdc) = match said {
        Said::WrongPassword => (
            rejected(Cause::WrongPassword, &format!("the password is not {client}'s ({text})")),
            Kdc::Answered,
        ),
        // Neither the name nor the library's words, which repeat it: what nobody is called may be a password.
        Said::UnknownUser => {
            (rejected(Cause::UnknownUser, &format!("nobody in {realm} has this name")), Kdc::Answered)
        }
        Said::Expired => (
            rejected(Cause::Expired, &format!("the password of {client} has expired ({text})")),
            Kdc::Answered,
        ),
        Said::Disabled => (
            rejected(
                Cause::Disabled,
                &format!("the KDC does not let {client} log in by a password ({text})"),
            ),
            Kdc::Answered,
        ),
        Said::FalseKdc => (
            rejected(
                Cause::FalseKdc,
                &format!(
                    "a KDC accepts this password as {client}'s, but cannot prove that it is {realm}'s ({text})"
                ),
            ),
            Kdc::Answered,
        ),
        Said::NoTrust => (
            rejected(Cause::ForeignRealm, &format!("no trust leads from {realm} to this gateway ({text})")),
            Kdc::Answered,
        ),
        Said::NoRealm if !ours => {
            (rejected(Cause::ForeignRealm, &format!("no KDC of {realm} is known ({text})")), Kdc::Unknown)
        }
        Said::NoRealm => {
            let text =
                format!("no KDC of {realm} is known ({text}): name it in krb5.conf, or publish it in DNS");
            (Failure::Unavailable(text), Kdc::Unknown)
        }
        Said::Silent => (Failure::Unavailable(silent(realm, text)), Kdc::Silent),
        Said::Skew => {
            let text = format!(
                "the clock of {realm}'s KDC and this host's differ by too much ({text}): set both by the same time service"
            );
            (Failure::Unavailable(text), Kdc::Answered)
        }
        Said::Other => {
            let text = format!("the password of a user of {realm} could not be verified: {text}");
            (Failure::Unavailable(text), Kdc::Unknown)
        }
    };
    Unproved { failure, kdc }
}

/// No KDC answers, for operators.
pub(in crate::auth) fn silent(realm: &str, why: &str) -> String {
    format!(
        "no KDC of {realm} answers ({why}): see that it runs and can be reached; trackerctl doctor tells more"
    )
}

/// A refusal with its remedy.
pub(in crate::auth) fn rejected(cause: Cause, why: &str) -> Failure {
    match cause.remedy() {
        "" => Failure::rejected(cause, why),
        remedy => Failure::rejected(cause, format!("{why}: {remedy}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::kerberos::NameRules;

    #[test]
    fn only_what_the_operator_has_named_is_known_and_it_is_spelled_as_krb5_does() {
        let names = NameRules::new(true, [("Example.Test", "EXAMPLE"), ("trusted.test", "T")]);
        let options = Options { names, ..Options::default() };
        let entries = [KeytabEntry { principal: "HTTP/proxy@KEYTAB.TEST".into(), version: 1, enctype: 18 }];
        let named = ["EXAMPLE.TEST", "Odd.Test", "ODD.test"].map(str::to_owned).to_vec();
        let known = KnownRealms::new(Some("DEFAULT.TEST".into()), named, &entries, &options);
        for (typed, meant) in [
            ("DEFAULT.TEST", Some("DEFAULT.TEST")),
            ("default.test", Some("DEFAULT.TEST")),
            ("example.test", Some("EXAMPLE.TEST")),
            ("EXAMPLE.TEST", Some("EXAMPLE.TEST")),
            ("keytab.test", Some("KEYTAB.TEST")),
            ("trusted.test", Some("TRUSTED.TEST")),
            ("Odd.Test", Some("Odd.Test")),
            // Which of the two is not said.
            ("odd.test", None),
            ("", None),
            ("EXAMPLE", None),
            ("EVIL.EXAMPLE.TEST", None),
        ] {
            assert_eq!(known.meant(typed), meant, "{typed}");
        }
        assert_eq!(known.default_realm(), Some("DEFAULT.TEST"));
        assert_eq!(KnownRealms::default().meant("EXAMPLE.TEST"), None);
    }

    #[test]
    fn what_is_nobodys_fault_at_the_client_is_no_refusal() {
        let failure = |said, ours| {
            let refused = Refused { said, text: "words".into() };
            unproved(&refused, "alice@R.TEST", "R.TEST", ours)
        };
        for said in [Said::Silent, Said::Skew, Said::Other] {
            let Unproved { failure, .. } = failure(said, false);
            assert!(matches!(failure, Failure::Unavailable(_)), "{said:?}");
        }
        assert!(matches!(failure(Said::NoRealm, true).failure, Failure::Unavailable(_)));
        for (said, label) in [
            (Said::WrongPassword, "wrong-password"),
            (Said::UnknownUser, "unknown-user"),
            (Said::Expired, "password-expired"),
            (Said::Disabled, "account-disabled"),
            (Said::NoTrust, "foreign-realm"),
            (Said::NoRealm, "foreign-realm"),
            (Said::FalseKdc, "false-kdc"),
        ] {
            assert_eq!(failure(said, false).failure.label(), label);
        }
        let told = failure(Said::UnknownUser, false).failure.to_string();
        assert!(!told.contains("alice") && !told.contains("words"), "{told}");
    }
}

//! From a Kerberos principal to an identity.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::outside;
use crate::types::Identity;

/// The longest principal that is taken for a user's.
const MAX_PRINCIPAL: usize = 512;

/// How principals become identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRules {
    keep_domain: bool,
    auth_to_local: bool,
    machine_accounts: bool,
    /// Realm, in upper case, to the name that people see.
    domains: HashMap<String, String>,
}

impl Default for NameRules {
    fn default() -> Self {
        Self { keep_domain: true, auth_to_local: false, machine_accounts: false, domains: HashMap::new() }
    }
}

/// Why a principal is not a user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// `HTTP/host@REALM` and the like.
    #[error("{0} is a service or an instance, not a user: the name contains '/'")]
    Service(String),
    /// `PC-17$@REALM`, or a computer's `host/...` that a rule would make a user of.
    #[error(
        "{0} is a computer's own account, not a person's: a service on it sent the ticket; kerberos.machine-accounts = \"accept\" takes computers for users"
    )]
    Machine(String),
    /// Characters that no account name has.
    #[error("the principal \"{0}\" contains characters that are not accepted in a user name")]
    Odd(String),
    /// There is no user or no realm in it.
    #[error("the principal {0:?} is not of the form user@REALM")]
    Form(String),
    /// `kerberos.auth-to-local` is on, and krb5.conf has no rule for it.
    #[error(
        "no auth_to_local rule makes a local name of the principal {0:?}: add one to krb5.conf, or set kerberos.auth-to-local to false"
    )]
    NoRule(String),
    /// A rule made something of it that is no user name.
    #[error(
        "the auth_to_local rules make {local:?} of the principal {principal:?}, which is not accepted as a user name: change the rule in krb5.conf"
    )]
    Local {
        /// Of what.
        principal: String,
        /// What they made.
        local: String,
    },
    /// The rules could not be asked.
    #[error(
        "the auth_to_local rules could not be applied to the principal {principal:?} ({why}): check krb5.conf"
    )]
    Rules {
        /// To what.
        principal: String,
        /// What the library says.
        why: String,
    },
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
        Self { keep_domain, auth_to_local: false, machine_accounts: false, domains }
    }

    /// The same, where the user's part is what krb5.conf's `auth_to_local` rules make of the principal, if `on`.
    #[must_use]
    pub fn with_auth_to_local(self, on: bool) -> Self {
        Self { auth_to_local: on, ..self }
    }

    /// The same, where computers' own accounts are users, if `accepted`; else they are refused.
    #[must_use]
    pub fn with_machine_accounts(self, accepted: bool) -> Self {
        Self { machine_accounts: accepted, ..self }
    }

    /// Whether `user` and `realm`, as somebody typed them, can name a user: what is refused of a ticket's principal is refused
    /// before anybody is asked about it. A service or an instance is none, whatever krb5.conf would make of it.
    ///
    /// # Errors
    /// When they cannot.
    pub fn typed(&self, user: &str, realm: &str) -> Result<(), BadName> {
        let name = format!("{user}@{realm}");
        plain(name.as_bytes())?;
        if user.is_empty() || realm.is_empty() || user.contains('@') || realm.contains(['@', '/']) {
            return Err(BadName::Form(name));
        }
        if user.contains('/') {
            return Err(BadName::Service(name));
        }
        if !self.machine_accounts && is_machine(user, false) {
            return Err(BadName::Machine(name));
        }
        Ok(())
    }

    /// The realms that have a name of their own for people, in upper case.
    pub fn realms(&self) -> impl Iterator<Item = &str> {
        self.domains.keys().map(String::as_str)
    }

    /// The realms, in upper case, that people know by this name, in any case.
    pub fn called<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a str> {
        let fits = move |name: &str| name.to_lowercase() == domain.to_lowercase();
        self.domains.iter().filter(move |(_, name)| fits(name)).map(|(realm, _)| realm.as_str())
    }

    /// The identity of a principal, as GSSAPI displays it. `local_name` applies the rules of krb5.conf, and is asked only
    /// where they count; `None` is that there is no rule for it. The realm is part of the identity whatever they say.
    ///
    /// # Errors
    /// When it is not a plain user's.
    pub fn identity(
        &self,
        principal: &[u8],
        local_name: impl FnOnce(&str) -> Result<Option<String>, String>,
    ) -> Result<Identity, BadName> {
        let name = plain(principal)?;
        // No part of a plain name has an '@' in it: GSSAPI would quote that.
        let (user, realm) = match name.split_once('@') {
            Some((user, realm)) if !user.is_empty() && !realm.is_empty() && !realm.contains(['@', '/']) => {
                (user, realm)
            }
            _ => return Err(BadName::Form(name.into())),
        };
        // Whatever a rule would make of it: the ticket is the computer's, and whoever sits there would be it.
        if !self.machine_accounts && is_machine(user, self.auth_to_local) {
            return Err(BadName::Machine(name.into()));
        }
        let user = if self.auth_to_local {
            Cow::Owned(by_rules(name, user, local_name)?)
        } else if user.contains('/') {
            return Err(BadName::Service(name.into()));
        } else {
            Cow::Borrowed(user)
        };
        let domain = match self.keep_domain {
            false => "",
            true => self.domains.get(&realm.to_ascii_uppercase()).map_or(realm, String::as_str),
        };
        Ok(Identity::new(&user, realm, domain))
    }
}

/// Whether the user's part of a principal is a computer's: an account of Active Directory (`PC-17$`), or, where rules could
/// make a user of a service, the service that stands for a host.
fn is_machine(user: &str, by_rules: bool) -> bool {
    let first = user.split('/').next().unwrap_or(user);
    user.ends_with('$')
        || first.ends_with('$')
        || by_rules && first != user && first.eq_ignore_ascii_case("host")
}

/// The principal as text, if it is one in which nothing is quoted or hidden.
fn plain(principal: &[u8]) -> Result<&str, BadName> {
    let odd = || BadName::Odd(outside::shown_bytes(principal, outside::NAME));
    if principal.len() > MAX_PRINCIPAL {
        return Err(odd());
    }
    // GSSAPI quotes what would be ambiguous with a backslash: such names are refused whole.
    std::str::from_utf8(principal).ok().filter(|name| !name.chars().any(is_odd)).ok_or_else(odd)
}

/// The user's part by the rules of krb5.conf.
fn by_rules(
    principal: &str,
    user: &str,
    local_name: impl FnOnce(&str) -> Result<Option<String>, String>,
) -> Result<String, BadName> {
    let principal = principal.to_owned();
    match local_name(&principal) {
        // The default rules know no services: whoever wants one to be a user writes a rule for it.
        Ok(None) if user.contains('/') => Err(BadName::Service(principal)),
        Ok(None) => Err(BadName::NoRule(principal)),
        Ok(Some(local)) => {
            // A rule that makes a computer of somebody is a mistake in any case.
            let bad = local.is_empty()
                || (local.ends_with('$') && !user.ends_with('$'))
                || local.contains(['@', '/'])
                || local.chars().any(is_odd);
            if bad { Err(BadName::Local { principal, local }) } else { Ok(local) }
        }
        Err(why) => Err(BadName::Rules { principal, why }),
    }
}

/// Characters that would make a name ambiguous, or make it look like another one in a log or on a page. (Letters that
/// look alike are not among them: what decides is the directory, which knows both.)
pub(in crate::auth) fn is_odd(c: char) -> bool {
    c.is_control() || c.is_whitespace() || is_mark(c) || is_unseen(c) || folds_to_another(c)
}

/// What separates or quotes, and what looks like it. The apostrophe is no quote: there are people called O'Brien.
fn is_mark(c: char) -> bool {
    matches!(c, '\\' | '"' | '<' | '>' | '&' | '`')
        // Quotation marks, small and full-width ones.
        || matches!(c, '\u{ab}' | '\u{bb}' | '\u{2018}'..='\u{201f}' | '\u{2039}' | '\u{203a}' | '\u{ff02}' | '\u{ff07}')
        // What looks like '@', '\' or '/'.
        || matches!(c, '\u{fe6b}' | '\u{ff20}' | '\u{2216}' | '\u{29f5}' | '\u{29f9}' | '\u{fe68}' | '\u{ff3c}')
        || matches!(c, '\u{2044}' | '\u{2215}' | '\u{29f8}' | '\u{ff0f}')
}

/// What takes no room, turns the direction of what follows, or shows as nothing: Unicode's default-ignorable characters,
/// blanks that are no white space, and what stands for something else.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{ffff}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Signs that are another letter in lower case (ohm, kelvin, angstrom, theta): two names would be one.
fn folds_to_another(c: char) -> bool {
    matches!(c, '\u{3f4}' | '\u{2126}' | '\u{212a}' | '\u{212b}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of all the characters that a name may have, no two capitals are one letter in lower case; digraphs have a third form
    /// for titles.
    #[test]
    fn no_two_capitals_are_one_letter() {
        let mut capitals = std::collections::HashMap::new();
        for capital in
            (char::MIN..=char::MAX).filter(|&c| !is_odd(c) && !('\u{1c4}'..='\u{1f2}').contains(&c))
        {
            let small = capital.to_lowercase().collect::<String>();
            if !small.chars().eq([capital]) {
                let other = capitals.insert(small, capital);
                assert_eq!(other, None, "{capital:?}");
            }
        }
    }

    /// The identity by rules that never ask krb5.conf.
    fn identity(rules: &NameRules, principal: impl AsRef<[u8]>) -> Result<Identity, BadName> {
        rules.identity(principal.as_ref(), |principal| panic!("{principal}: krb5.conf does not count"))
    }

    #[test]
    fn a_user_of_a_realm() {
        let plain = identity(&NameRules::default(), "Alice@EXAMPLE.TEST").unwrap();
        assert_eq!(plain.to_string(), "Alice@EXAMPLE.TEST");
        let mapped = NameRules::new(true, [("example.test", "EXAMPLE")]);
        assert_eq!(identity(&mapped, "alice@EXAMPLE.TEST").unwrap().to_string(), "EXAMPLE\\alice");
        assert_eq!(identity(&mapped, "alice@OTHER.TEST").unwrap().to_string(), "alice@OTHER.TEST");
        let bare = NameRules::new(false, [("EXAMPLE.TEST", "EXAMPLE")]);
        let stripped = identity(&bare, "alice@EXAMPLE.TEST").unwrap();
        assert_eq!(stripped.to_string(), "alice");
        assert_eq!(stripped, plain, "what is shown decides nothing");
        assert_ne!(stripped, identity(&bare, "alice@OTHER.TEST").unwrap());
        let same = NameRules::new(true, [("A.TEST", "CORP"), ("B.TEST", "CORP")]);
        let (a, b) = (identity(&same, "alice@A.TEST").unwrap(), identity(&same, "alice@B.TEST").unwrap());
        assert_eq!(a.to_string(), b.to_string());
        assert_ne!(a, b);
    }

    #[test]
    fn ordinary_names() {
        for name in ["anna.müller", "o_k+1", "o'brien", "İbrahim", "名前", "a=b", "x#1", "émile-zola", "кот"]
        {
            let found = identity(&NameRules::default(), format!("{name}@EXAMPLE.TEST")).unwrap();
            assert_eq!((found.user(), found.domain()), (name, "EXAMPLE.TEST"));
        }
    }

    #[test]
    fn a_machine_account_is_a_user_only_where_that_is_wanted() {
        let refusing = NameRules::default();
        let accepting = NameRules::default().with_machine_accounts(true);
        for name in ["PC-17$", "pc-17$", "$"] {
            let principal = format!("{name}@EXAMPLE.TEST");
            assert_eq!(identity(&refusing, &principal), Err(BadName::Machine(principal.clone())));
            assert_eq!(identity(&accepting, &principal).unwrap().user(), name);
        }
        assert!(
            identity(&refusing, "a$b@EXAMPLE.TEST").is_ok(),
            "a dollar elsewhere is a letter like others"
        );
        // Services are no users, whatever is said of computers.
        for rules in [&refusing, &accepting] {
            let refused = identity(rules, "host/pc17.example.test@EXAMPLE.TEST");
            assert!(matches!(refused, Err(BadName::Service(_))), "{refused:?}");
        }
    }

    #[test]
    fn no_rule_makes_a_user_of_a_machine_that_is_refused() {
        let rule = |_: &str| Ok(Some("pc17".to_owned()));
        let rules = NameRules::default().with_auth_to_local(true);
        let accepting = rules.clone().with_machine_accounts(true);
        for principal in
            ["PC-17$@EXAMPLE.TEST", "host/pc17.example.test@EXAMPLE.TEST", "HOST/pc17@EXAMPLE.TEST"]
        {
            let refused = rules.identity(principal.as_bytes(), rule);
            assert!(matches!(refused, Err(BadName::Machine(_))), "{principal}: {refused:?}");
            assert_eq!(accepting.identity(principal.as_bytes(), rule).unwrap().user(), "pc17");
        }
        // Another service is none, and is what the rule makes of it.
        assert!(rules.identity(b"cron/pc17.example.test@EXAMPLE.TEST", rule).is_ok());
        let to_machine = |_: &str| Ok(Some("pc17$".to_owned()));
        assert!(matches!(rules.identity(b"alice@EXAMPLE.TEST", to_machine), Err(BadName::Local { .. })));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let rules = NameRules::default();
        for name in ["HTTP/proxy.test@R", "alice/admin@R", "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS"] {
            assert!(matches!(identity(&rules, name), Err(BadName::Service(_))), "{name}");
        }
        for name in ["alice", "@R", "alice@", "alice@R@S", "", "@", "alice@A/B", "alice@@R"] {
            assert!(matches!(identity(&rules, name), Err(BadName::Form(_))), "{name}");
        }
        assert!(matches!(identity(&rules, b"al\xffice@R"), Err(BadName::Odd(_))));
        let long = format!("{}@R", "a".repeat(MAX_PRINCIPAL));
        assert!(matches!(identity(&rules, long), Err(BadName::Odd(_))));
    }

    #[test]
    fn odd_characters_are_refused_in_user_and_realm() {
        let rules = NameRules::default();
        for odd in [
            // As GSSAPI quotes '@', '/' and itself; and what a domain would look like.
            "\\@",
            "\\/",
            "\\\\",
            "CORP\\",
            // White space and control characters.
            " ",
            "\t",
            "\n",
            "\0",
            "\u{7f}",
            "\u{85}",
            "\u{a0}",
            "\u{2028}",
            "\u{3000}",
            // Quotes and markup.
            "\"",
            "`",
            "<b>",
            "&amp;",
            "«",
            "“",
            "’",
            "\u{ff02}",
            // Turned around, and unseen.
            "\u{61c}",
            "\u{200e}",
            "\u{200f}",
            "\u{202e}",
            "\u{2066}",
            "\u{2069}",
            "\u{200b}",
            "\u{200d}",
            "\u{ad}",
            "\u{feff}",
            "\u{fe0f}",
            "\u{fffd}",
            "\u{fffe}",
            "\u{3164}",
            "\u{2800}",
            "\u{e0041}",
            "\u{e0100}",
            // Other at signs, back and fraction slashes.
            "\u{ff20}",
            "\u{fe6b}",
            "\u{ff3c}",
            "\u{2216}",
            "\u{29f5}",
            "\u{ff0f}",
            "\u{2044}",
            "\u{2215}",
            // The kelvin sign is a k in lower case.
            "\u{212a}",
            "\u{2126}",
            "\u{212b}",
        ] {
            for name in
                [format!("al{odd}ice@R.TEST"), format!("{odd}alice@R.TEST"), format!("alice@R{odd}.TEST")]
            {
                assert!(matches!(identity(&rules, &name), Err(BadName::Odd(_))), "{name:?}");
            }
        }
    }

    #[test]
    fn by_the_rules_of_krb5_conf_the_realm_still_takes_part() {
        let rules = NameRules::new(true, [("A.TEST", "A")]).with_auth_to_local(true);
        let to = |principal: &str, local: Result<Option<&str>, &str>| {
            rules.identity(principal.as_bytes(), |asked| {
                assert_eq!(asked, principal);
                local.map(|local| local.map(Into::into)).map_err(Into::into)
            })
        };
        let a = to("a.smith@A.TEST", Ok(Some("smith"))).unwrap();
        let b = to("smith@B.TEST", Ok(Some("smith"))).unwrap();
        assert_eq!((a.to_string(), b.to_string()), ("A\\smith".to_owned(), "smith@B.TEST".to_owned()));
        assert_ne!(a, b);
        assert_eq!(to("smith/admin@A.TEST", Ok(Some("smith"))).unwrap(), a, "a rule may take instances in");
        assert!(matches!(to("smith/admin@A.TEST", Ok(None)), Err(BadName::Service(_))));
        let none = to("smith@C.TEST", Ok(None)).unwrap_err();
        assert_eq!(none, BadName::NoRule("smith@C.TEST".into()));
        assert!(
            none.to_string().contains("krb5.conf") && none.to_string().contains("kerberos.auth-to-local")
        );
        for local in ["", "B\\smith", "smith@B.TEST", "smith/x", "sm ith", "sm\u{202e}ith"] {
            assert!(matches!(to("smith@A.TEST", Ok(Some(local))), Err(BadName::Local { .. })), "{local:?}");
        }
        let failed = to("smith@A.TEST", Err("bad format")).unwrap_err().to_string();
        assert!(failed.contains("bad format") && failed.contains("check krb5.conf"), "{failed}");
        // What is odd is not even asked about.
        let asked = rules.identity("al\\@ice@A.TEST".as_bytes(), |_| panic!("not to be asked"));
        assert!(matches!(asked, Err(BadName::Odd(_))));
    }
}

//! Which keys may lock people out, the administrator among them, and what to think of before.

/// What to think of before this key is set.
pub(super) fn caution(key: &str) -> Option<&'static str> {
    let (_, caution) = CAUTIONS.iter().find(|(begins, _)| key.starts_with(begins))?;
    Some(caution)
}

/// By how the key begins; the first that fits.
const CAUTIONS: [(&str, &str); 15] = [
    (
        "kerberos.conditions.debugging",
        "Every request with credentials is logged with all that its ticket says.",
    ),
    (
        "kerberos.",
        "Whoever logs in by Kerberos may be locked out by it. Try it at a quiet time, with a client of your own.",
    ),
    (
        "portal.administrators",
        "Whoever is not in the list any more has lost the right at once. That may be you.",
    ),
    ("portal.viewers", "Whoever is not in the list any more has lost the right at once."),
    (
        "portal.host",
        "Pages lead to this name. If it does not lead to this gateway, people cannot log in, nor can you.",
    ),
    (
        "portal.trusted-proxies",
        "Whoever is named here decides whose address a request comes from. Name your own reverse proxies alone.",
    ),
    (
        "proxy.proxy-protocol",
        "Whoever is named here decides whose address a connection comes from. Connections from there without a header are refused.",
    ),
    ("proxy.basic", "Passwords may travel in the clear, or programs that send them may be locked out."),
    ("proxy.max-connections", "Too few, and people wait or are refused."),
    ("proxy.forward-ports", "Pages at ports that are not listed cannot be reached any more."),
    (
        "proxy.connect-ports",
        "Pages at ports that are not listed cannot be reached any more: 443 is that of https.",
    ),
    ("licences.", "With fewer licences than are in use nobody is thrown out, but nobody else can log in."),
    (
        "regulation.",
        "Too strict, and people are banned who mistype; too lenient, and passwords can be guessed.",
    ),
    (
        "timeouts.shared-hosts",
        "At these addresses each connection has to prove itself, whatever sessions there were.",
    ),
    ("tls.", "Whoever does not trust the certificate can use neither the proxy under TLS nor these pages."),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn each_caution_is_of_a_key_and_is_not_hidden_by_another() {
        for (begins, text) in CAUTIONS {
            let shown = keys::all().iter().filter(|key| caution(key.name()) == Some(text));
            assert!(shown.count() > 0, "{begins}");
        }
        assert_eq!(caution("portal.organisation"), None);
    }
}

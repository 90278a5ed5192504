//! What probably helps, by what the library said.

/// Words of the library's text, and what probably helps. The first that is found counts.
const REMEDIES: &[(&str, &str)] = &[
    ("Clock skew", "set the clocks of client, gateway and KDC by the same time service"),
    (
        "replay",
        "the same token was sent twice; if clients do not share it, check for a client that repeats requests",
    ),
    ("Ticket expired", "the user's ticket ran out: log in again, or run kinit"),
    ("not yet valid", "the ticket begins in the future: compare the clocks of client, gateway and KDC"),
    (
        "likely out of date",
        "the keytab is older than the account's present password: export it again; or the ticket is older: log in again",
    ),
    (
        "not found in keytab",
        "the client asked for a name that is not in the keytab: add it (setspn, ktpass or ktadd), or use the right proxy name",
    ),
    (
        "Cannot decrypt ticket",
        "the key in the keytab is not the account's: export it again, and see that no second account has the same name (setspn -X)",
    ),
    (
        "No key table entry found",
        "the client asked for a name that is not in the keytab: add it (setspn, ktpass or ktadd), or use the right proxy name",
    ),
    (
        "Cannot find key",
        "the keytab lacks this name, encryption type or key version: export it again from the KDC",
    ),
    (
        "Wrong principal",
        "the client asked for a name that is not in the keytab: add it, or use the right proxy name",
    ),
    ("Decrypt integrity check failed", "the key in the keytab is not the account's: export it again"),
    (
        "Encryption type",
        "the ticket's encryption type is not permitted here: enable AES for the account, or see permitted_enctypes",
    ),
    ("No credentials were supplied", "the keytab holds no usable key"),
    (
        "mechanism",
        "the client has no Kerberos ticket: check that it reached its KDC and uses the proxy's full name",
    ),
    ("token was invalid", "the token is damaged or was meant for something else"),
    ("malformed", "the token is damaged or was meant for something else"),
];

/// The library's text with the remedy behind it.
pub(super) fn with_remedy(text: &str) -> String {
    match REMEDIES.iter().find(|(words, _)| text.contains(words)) {
        Some((_, remedy)) => format!("{text}: {remedy}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MIT Kerberos 1.20 says it.
    #[test]
    fn what_is_said_gets_its_own_remedy() {
        for (text, remedy) in [
            ("(Request is a replay)", "sent twice"),
            ("(Clock skew too great)", "time service"),
            (
                "(Request ticket server HTTP/p@R kvno 3 not found in keytab; keytab is likely out of date)",
                "older",
            ),
            ("(Request ticket server HTTP/p@R not found in keytab (ticket kvno 4))", "right proxy name"),
            ("(Ticket expired)", "kinit"),
            ("(Token header is malformed or corrupt)", "damaged"),
        ] {
            let said = with_remedy(text);
            assert!(said.starts_with(text) && said.contains(remedy), "{said}");
        }
        assert_eq!(with_remedy("something else"), "something else");
    }
}

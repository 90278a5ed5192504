//! Whether authentication between client and origin is of the message or of the connection.
//!
//! Some schemes (NTLM, Negotiate, what vendors made of them) authenticate the connection that a message came on, and all
//! that follows on it, against the rules of HTTP (RFC 9110, section 3.3). There is no list of those. So it is asked the
//! other way round: what is not known to be of the message alone is taken to be of the connection, and so is whatever
//! does not keep to the grammar of RFC 9110, section 11, since an origin may read it more generously.

/// The schemes of IANA's registry that are of the message: all but Negotiate.
const OF_THE_MESSAGE: [&str; 13] = [
    "Basic",
    "Bearer",
    "Concealed",
    "Digest",
    "DPoP",
    "GNAP",
    "HOBA",
    "Mutual",
    "OAuth",
    "PrivateToken",
    "SCRAM-SHA-1",
    "SCRAM-SHA-256",
    "vapid",
];

/// Whether the value of `Authorization` authenticates its own request, and nothing else for certain.
pub(super) fn are_credentials_of_the_message(value: &[u8]) -> bool {
    value.first() != Some(&b',') && known_schemes(value) == Some(1)
}

/// Whether everything that a value of `WWW-Authenticate` asks for would authenticate one request only.
pub(super) fn is_challenge_of_the_message(value: &[u8]) -> bool {
    matches!(known_schemes(value), Some(1..))
}

/// How many schemes a list of challenges names; `None` if one of them is not known, or if it is no such list. A comma
/// separates schemes as well as the parameters of one: `Basic realm="a", charset="UTF-8", Digest nonce="b"`.
fn known_schemes(value: &[u8]) -> Option<usize> {
    let mut schemes = 0;
    let mut rest = without_space(value);
    while let Some(first) = rest.first() {
        if *first == b',' {
            rest = without_space(rest.get(1..)?);
            continue;
        }
        let (word, after) = token(rest)?;
        if schemes > 0
            && let Some(after) = parameter_value(after)
        {
            rest = element_end(after)?;
            continue;
        }
        if !OF_THE_MESSAGE.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())) {
            return None;
        }
        schemes += 1;
        rest = match after.first() {
            None | Some(b',') => after,
            Some(b' ') => {
                let after = skip(after, |byte| byte == b' ');
                match element_end(token68(after)) {
                    Some(rest) => rest,
                    None => element_end(parameter_value(token(after)?.1)?)?,
                }
            }
            Some(_) => return None,
        };
    }
    Some(schemes)
}

fn skip(bytes: &[u8], of: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().position(|&byte| !of(byte)).unwrap_or(bytes.len());
    bytes.get(end..).unwrap_or_default()
}

fn without_space(bytes: &[u8]) -> &[u8] {
    skip(bytes, |byte| matches!(byte, b' ' | b'\t'))
}

/// What follows an element, if it ends here.
fn element_end(bytes: &[u8]) -> Option<&[u8]> {
    let rest = without_space(bytes);
    matches!(rest.first(), None | Some(b',')).then_some(rest)
}

/// A token and what follows it.
fn token(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let rest = skip(bytes, is_of_token);
    (rest.len() < bytes.len()).then(|| bytes.split_at_checked(bytes.len() - rest.len()))?
}

/// What follows a token68, which may be empty.
fn token68(bytes: &[u8]) -> &[u8] {
    let is_of_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    skip(skip(bytes, is_of_token68), |byte| byte == b'=')
}

/// What follows `= value`.
fn parameter_value(bytes: &[u8]) -> Option<&[u8]> {
    let value = without_space(without_space(bytes).strip_prefix(b"=")?);
    let Some(mut quoted) = value.strip_prefix(b"\"") else {
        return token(value).map(|(_, rest)| rest);
    };
    loop {
        quoted = match quoted {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', _, rest @ ..] | [_, rest @ ..] => rest,
            [] => return None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_bind_nothing_but_their_request() {
        for value in [
            "Basic dXNlcjpwdw==",
            "bearer eyJ.a-b_c~d+e/f=",
            "BASIC  YQ==",
            "Digest username=\"a, NTLM b\", realm=\"\\\"\", nc=00000001 , qop = auth,,uri=\"/\"",
            "DPoP a",
            "Basic",
            "SCRAM-SHA-256 sid=AAAABBBB,data=YQ==",
        ] {
            // An unquoted value with `=` in it is not by the grammar: harmless, it pins.
            let expected = !value.contains("data=");
            assert_eq!(are_credentials_of_the_message(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn credentials_that_may_bind_the_connection() {
        for value in [
            "",
            ",",
            "NTLM YQ==",
            "Negotiate YQ==",
            "NTLM\tYQ==",
            ", NTLM YQ==",
            ", Basic YQ==",
            "Nego2 YQ==",
            "Kerberos YQ==",
            "Basic\tYQ==",
            "Basic YQ==, NTLM YQ==",
            "Basic a=b, NTLM",
            "Basic a=b, NTLM YQ==",
            "Basic YQ== NTLM",
            "Digest a=\"b",
            "Digest a=\"b\\",
            "Digest a=\"b\"c",
            "Digest a=, b",
            "\"Basic\" a",
            "Basic/1 a",
            "Basic: a",
            "=a",
            "a=b",
            "Basic YQ==; x",
            "\u{a0}Basic YQ==",
        ] {
            assert!(!are_credentials_of_the_message(value.as_bytes()), "{value:?}");
        }
    }

    #[test]
    fn challenges() {
        for (value, is_of_the_message) in [
            ("Basic realm=\"a\"", true),
            ("Basic realm=NTLM", true),
            ("Bearer", true),
            ("Basic realm=\"a, NTLM\", charset=\"UTF-8\", Digest nonce=\"x\", qop=\"auth\"", true),
            (",, Basic", true),
            ("Digest, Basic", true),
            ("NTLM", false),
            ("negotiate YQ==", false),
            ("Basic realm=\"a\", Negotiate", false),
            ("Basic realm=\"a\",NTLM", false),
            ("Negotiate, Basic realm=x", false),
            ("Basic realm=My Site", false),
            ("Nego2", false),
            ("", false),
        ] {
            assert_eq!(is_challenge_of_the_message(value.as_bytes()), is_of_the_message, "{value}");
        }
    }

    #[test]
    fn any_bytes_are_looked_at_to_their_end() {
        proptest::proptest!(|(value in "[BasicNTLMDigest,=\"\\\\ \t;a-z]{0,40}")| {
            // Neither panics, and what is of the message names a known scheme first.
            if are_credentials_of_the_message(value.as_bytes()) {
                let (scheme, _) = token(value.trim().as_bytes()).unwrap();
                proptest::prop_assert!(OF_THE_MESSAGE.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes())));
            }
            is_challenge_of_the_message(value.as_bytes());
        });
    }
}

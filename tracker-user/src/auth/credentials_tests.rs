//! Any bytes are some credentials, and exactly one kind of them.

use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::auth::kerberos::token::MAX_TOKEN;

fn parse(field: &str) -> Credentials {
    Credentials::parse(field.as_bytes())
}

fn negotiate(token: &[u8]) -> Credentials {
    Credentials::Negotiate(token.to_vec())
}

fn bad_token(bad: BadToken) -> Credentials {
    Credentials::Malformed(bad.into())
}

fn basic_field(user_pass: impl AsRef<[u8]>) -> String {
    format!("Basic {}", STANDARD.encode(user_pass))
}

fn user_and_password(user_pass: impl AsRef<[u8]>) -> Result<(String, String), BadBasic> {
    match parse(&basic_field(user_pass)) {
        Credentials::Basic { user, password } => Ok((user, password.reveal().to_owned())),
        Credentials::Malformed(Malformed::Basic(bad)) => Err(bad),
        other => panic!("{other:?}"),
    }
}

#[test]
fn tokens_are_taken_out_of_their_field() {
    assert_eq!(parse("Negotiate YWJj"), negotiate(b"abc"));
    assert_eq!(parse("nEGOTIATE   YWJjZA==  "), negotiate(b"abcd"));
    assert_eq!(parse("Negotiate\tYWJjZA"), negotiate(b"abcd"));
    assert_eq!(parse("Negotiate"), bad_token(BadToken::Empty));
    assert_eq!(parse("Negotiate  "), bad_token(BadToken::Empty));
    assert_eq!(parse("Negotiate ===="), bad_token(BadToken::NotBase64));
    for bad in ["Negotiate a b", "Negotiate YW\u{e9}j", "Negotiate YWJj, Basic x", "Negotiate YW-j"] {
        assert_eq!(parse(bad), bad_token(BadToken::NotBase64), "{bad}");
    }
}

#[test]
fn the_largest_token_passes_and_one_byte_more_does_not() {
    let field = |size| Scheme::Negotiate.message(&vec![7; size]);
    assert_eq!(parse(&field(MAX_TOKEN)), negotiate(&[7; MAX_TOKEN]));
    assert_eq!(parse(&field(MAX_TOKEN + 1)), bad_token(BadToken::TooLarge));
    assert_eq!(parse(&field(4 * MAX_TOKEN)), bad_token(BadToken::TooLarge));
}

#[test]
fn of_a_scheme_that_is_not_known_only_the_name_is_kept() {
    for (field, name) in [
        ("", ""),
        ("Bearer c2VjcmV0", "Bearer"),
        ("Digest username=\"a\"", "Digest"),
        ("Basically YQ==", "Basically"),
        ("Negotiate,Basic YQ==", "Negotiate?Basic"),
        // Without its scheme, this is the secret.
        ("YWxpY2U6c2VjcmV0", "?"),
        ("hunter2  ", "?"),
        ("ntlm", "ntlm"),
        ("\u{1b}[31m x", "??31m"),
        ("a-very-long-name-of-a-scheme x", "a-very-long-name"),
    ] {
        let credentials = parse(field);
        assert_eq!(credentials, Credentials::Unknown(name.into()), "{field}");
        assert_eq!((credentials.scheme(), credentials.scheme_name()), (None, name));
    }
}

#[test]
fn names_and_passwords() {
    let both = |user: &str, password: &str| Ok((user.to_owned(), password.to_owned()));
    // RFC 7617, section 2 and 2.1: its own examples.
    assert_eq!(parse("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").scheme(), Some(Scheme::Basic));
    assert_eq!(user_and_password("Aladdin:open sesame"), both("Aladdin", "open sesame"));
    assert!(matches!(parse("bAsIc  dGVzdDoxMjPCow=="), Credentials::Basic { user, password }
        if user == "test" && password.reveal() == "123£"));
    // The first colon ends the name; either part may be empty.
    assert_eq!(user_and_password("a:b:c:"), both("a", "b:c:"));
    assert_eq!(user_and_password(":"), both("", ""));
    assert_eq!(user_and_password("a:"), both("a", ""));
    assert_eq!(user_and_password("EXAMPLE\\anna.müller:名前"), both("EXAMPLE\\anna.müller", "名前"));
    for (bad, why) in [
        (&b"alice"[..], BadBasic::NoColon),
        (b"al\xffice:x", BadBasic::NotUtf8),
        (b"alice:caf\xe9", BadBasic::NotUtf8),
        (b"al\nice:x", BadBasic::Control),
        (b"alice:x\0", BadBasic::Control),
        (b"alice:\xc2\x85", BadBasic::Control),
    ] {
        assert_eq!(user_and_password(bad), Err(why), "{bad:?}");
    }
    let bad = |field| match parse(field) {
        Credentials::Malformed(Malformed::Basic(bad)) => bad,
        other => panic!("{other:?}"),
    };
    assert_eq!([bad("Basic"), bad("Basic  ")], [BadBasic::Empty; 2]);
    assert_eq!([bad("Basic x:y"), bad("Basic YTpi, Negotiate x"), bad("Basic =")], [BadBasic::NotBase64; 3]);
    let long = |size: usize| format!("a:{}", "x".repeat(size - 2));
    assert!(user_and_password(long(MAX_BASIC)).is_ok());
    assert_eq!(user_and_password(long(MAX_BASIC + 1)), Err(BadBasic::TooLarge));
    assert_eq!(user_and_password(long(50 * MAX_BASIC)), Err(BadBasic::TooLarge));
}

#[test]
fn no_secret_is_shown() {
    for field in [
        basic_field("alice:c3Bhbmlzaw"),
        format!("Basic {}", "c3Bhbmlzaw".repeat(2)),
        "Bearer c3Bhbmlzaw".to_owned(),
        basic_field("c3Bhbmlzaw"),
    ] {
        let credentials = parse(&field);
        let shown = format!("{credentials} {credentials:?} {:?}", credentials.scheme_name());
        assert!(!shown.contains("c3Bhbmlzaw"), "{shown}");
    }
}

/// Which kind a field is by its grammar, said a second time and plainly.
fn kind(field: &[u8]) -> &'static str {
    let text: String = field.iter().map(|&b| char::from(b)).collect();
    let scheme = text.split_ascii_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    match scheme.as_str() {
        "negotiate" => "negotiate",
        "basic" => "basic",
        _ => "unknown",
    }
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    let scheme = prop::sample::select(vec!["Negotiate", "basic", "BASIC", "NTLM", "Bearer", "", "nego"]);
    let space = prop::sample::select(vec!["", " ", "  ", "\t", ","]);
    let rest = prop_oneof![
        any::<Vec<u8>>(),
        any::<Vec<u8>>().prop_map(|bytes| STANDARD.encode(bytes).into_bytes()),
        "[a-z:é]{0,40}".prop_map(|text| STANDARD.encode(text).into_bytes()),
    ];
    (scheme, space, rest)
        .prop_map(|(scheme, space, rest)| [scheme.as_bytes(), space.as_bytes(), &rest].concat())
}

proptest! {
    #[test]
    fn any_bytes_are_credentials_of_one_kind(field in prop_oneof![any::<Vec<u8>>(), field()]) {
        let credentials = Credentials::parse(&field);
        let of = match &credentials {
            Credentials::Negotiate(token) => {
                prop_assert!(!token.is_empty() && token.len() <= MAX_TOKEN);
                // What it says is what is sent back for it.
                prop_assert_eq!(&parse(&Scheme::Negotiate.message(token)), &credentials);
                "negotiate"
            }
            Credentials::Malformed(Malformed::Negotiate(_)) => "negotiate",
            Credentials::Basic { user, password } => {
                prop_assert!(!user.contains(':'));
                let again = basic_field(format!("{user}:{}", password.reveal()));
                prop_assert_eq!(&parse(&again), &credentials);
                "basic"
            }
            Credentials::Malformed(Malformed::Basic(_)) => "basic",
            Credentials::Unknown(name) => {
                prop_assert!(name.len() <= MAX_SCHEME && name.is_ascii());
                "unknown"
            }
        };
        prop_assert_eq!(of, kind(&field));
    }
}

//! What stays between two hops, and what a proxy adds.

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA, WWW_AUTHENTICATE,
};

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
pub(super) const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
pub(super) const PROXY_SUPPORT: HeaderName = HeaderName::from_static("proxy-support");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields of a request that are for this hop only. `Expect` is answered by us, as we read the body.
const REQUEST_HOP: [HeaderName; 10] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHORIZATION,
    PROXY_AUTHENTICATE,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    EXPECT,
    HTTP2_SETTINGS,
];

/// Fields of a response that are for this hop only; an origin has no business asking for proxy credentials.
const RESPONSE_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    PROXY_SUPPORT,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What `Connection` must not name: the message would lose its meaning or its frame.
const END_TO_END: [HeaderName; 4] = [HOST, CONTENT_LENGTH, TRAILER, VIA];

/// What was asked of this hop before its fields were removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// The protocol to change to, if it is one that may pass.
    pub(super) upgrade: Option<HeaderValue>,
}

/// Removes a request's hop-by-hop fields.
pub(super) fn strip_request(headers: &mut HeaderMap) -> Hop {
    let upgrade = upgrade(headers);
    let trailers = tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    strip(headers, &REQUEST_HOP);
    Hop { trailers, upgrade }
}

/// Removes a response's hop-by-hop fields. Returns the protocol that the origin changes to.
pub(super) fn strip_response(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = upgrade(headers);
    strip(headers, &RESPONSE_HOP);
    upgrade
}

fn strip(headers: &mut HeaderMap, hop: &[HeaderName]) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok())
            .filter(|name| !END_TO_END.contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in hop {
        headers.remove(name);
    }
}

/// The protocol named in `Upgrade`, if `Connection` says that it is meant, and if it may pass: other versions of HTTP,
/// and TLS, would take what follows out of the proxy's sight.
fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(UPGRADE)?;
    if !tokens(headers, &CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    let unsafe_to_pass = |protocol: &str| {
        let name = protocol.split('/').next().unwrap_or_default().trim();
        ["h2c", "h2", "h3", "http", "tls"].iter().any(|other| name.eq_ignore_ascii_case(other))
    };
    (!tokens(headers, &UPGRADE).any(unsafe_to_pass)).then(|| value.clone())
}

/// The members of a comma-separated field, over all its lines; lines that are no text are passed over.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// Whether a client wants its connection closed, in the words that old clients have for proxies.
pub(super) fn wants_close(headers: &HeaderMap) -> bool {
    tokens(headers, &PROXY_CONNECTION).any(|token| token.eq_ignore_ascii_case("close"))
}

/// Whether this proxy has seen the message before.
pub(super) fn is_loop(headers: &HeaderMap, own: &str) -> bool {
    // Via: 1.1 name (comment)
    tokens(headers, &VIA)
        .any(|hop| hop.split_ascii_whitespace().nth(1).is_some_and(|name| name.eq_ignore_ascii_case(own)))
}

/// Our line of `Via`.
pub(super) fn via(own: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("1.1 {own}")).ok()
}

/// Whether a handshake that belongs to the connection, not to the request, goes on between client and origin.
pub(super) fn binds_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    headers.get_all(field).iter().any(|value| {
        let scheme = value.as_bytes().split(|b| matches!(b, b' ' | b',')).next().unwrap_or_default();
        [&b"Negotiate"[..], b"NTLM", b"Kerberos"].iter().any(|bound| scheme.eq_ignore_ascii_case(bound))
    })
}

/// The field that says so in a response.
pub(super) const ORIGIN_CHALLENGE: HeaderName = WWW_AUTHENTICATE;

/// Leaves at most one `Content-Length`, and that one true.
pub(super) fn fix_length(headers: &mut HeaderMap, exact: Option<u64>) {
    let is_true = |value: &HeaderValue| {
        exact.is_some_and(|exact| value.to_str().is_ok_and(|text| text.parse() == Ok(exact)))
    };
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let keep = match (lengths.next(), lengths.next()) {
        (None, _) => true,
        (Some(only), None) => is_true(only),
        _ => false,
    };
    if !keep {
        headers.remove(CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_request_keeps_only_what_is_for_the_origin() {
        let mut headers = map(&[
            ("host", "a.test"),
            ("connection", "close, X-Own"),
            ("connection", "keep-alive, content-length, Host, bad name"),
            ("keep-alive", "5"),
            ("x-own", "1"),
            ("x-other", "2"),
            ("content-length", "3"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Negotiate YQ=="),
            ("te", "gzip, Trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("trailer", "x-sum"),
            ("upgrade", "websocket"),
            ("http2-settings", "x"),
        ]);
        assert!(wants_close(&headers));
        assert_eq!(strip_request(&mut headers), Hop { trailers: true, upgrade: None });
        assert_eq!(names(&headers), ["content-length", "host", "trailer", "x-other"]);
    }

    #[test]
    fn only_protocols_that_the_proxy_may_not_see_into_pass() {
        let websocket = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade(&websocket).unwrap(), "websocket");
        for protocol in ["h2c", "H2C, websocket", "TLS/1.0", "HTTP/2.0"] {
            let headers = map(&[("connection", "upgrade"), ("upgrade", protocol)]);
            assert_eq!(upgrade(&headers), None, "{protocol}");
        }
    }

    #[test]
    fn an_origin_cannot_ask_for_proxy_credentials() {
        let mut headers = map(&[
            ("proxy-authenticate", "Basic realm=x"),
            ("connection", "x-a"),
            ("x-a", "1"),
            ("server", "s"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(strip_response(&mut headers), None);
        assert_eq!(names(&headers), ["server"]);
    }

    #[test]
    fn loops_are_seen_by_name_only() {
        let headers = map(&[("via", "1.0 fred, 1.1 tracker-7 (x)"), ("via", "1.1 other")]);
        assert!(is_loop(&headers, "tracker-7") && is_loop(&headers, "OTHER"));
        assert!(!is_loop(&headers, "tracker") && !is_loop(&headers, "1.1") && !is_loop(&headers, "(x)"));
    }

    #[test]
    fn one_true_length_is_left() {
        for (lengths, exact, left) in [
            (&["5"][..], Some(5), 1),
            (&["5"], None, 0),
            (&["5"], Some(6), 0),
            (&["5", "5"], Some(5), 0),
            (&["5, 5"], Some(5), 0),
            (&[], Some(5), 0),
        ] {
            let mut headers = HeaderMap::new();
            for length in lengths {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(length));
            }
            fix_length(&mut headers, exact);
            assert_eq!(headers.len(), left, "{lengths:?} {exact:?}");
        }
    }

    #[test]
    fn schemes_that_bind_the_connection() {
        for (value, binds) in [
            ("NTLM", true),
            ("negotiate YQ==", true),
            ("Negotiate, Basic realm=x", true),
            ("Basic realm=NTLM", false),
            ("Bearer x", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN_CHALLENGE, HeaderValue::from_static(value));
            assert_eq!(binds_connection(&headers, &ORIGIN_CHALLENGE), binds, "{value}");
        }
    }
}

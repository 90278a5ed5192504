//! Where a request wants to go: `host:port`, read strictly.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use super::exchange::Reply;
use super::message::{Method, RequestHead};
use crate::outside;
use crate::types::{UserMessage, is_host_name};

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: Host,
    pub(super) port: u16,
    /// `host:port` in lower case: what connections are shared by, and what logs show.
    pub(super) key: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Address(IpAddr),
    /// In lower case, with its last dot if it has one.
    Name(Box<str>),
}

impl Host {
    /// The name as lists have it: without a last dot. `None` for an address.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Address(_) => None,
            Self::Name(name) => Some(name.strip_suffix('.').unwrap_or(name)),
        }
    }
}

/// Why a destination cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadDestination {
    #[error("the address must not contain a user name or password")]
    UserInfo,
    #[error("the host name is missing or contains characters that host names do not have")]
    Host,
    #[error("the port is missing or not a number from 1 to 65535")]
    Port,
}

impl BadDestination {
    /// For the person at the client.
    pub(super) const fn user_words(self) -> &'static str {
        match self {
            Self::UserInfo => "the address must not contain a user name or password.",
            Self::Host => "the host name is missing or contains characters that host names do not have.",
            Self::Port => "the port is missing or not a number from 1 to 65535.",
        }
    }
}

impl Destination {
    /// Reads `host`, `host:port`, `[IPv6]` or `[IPv6]:port`. Without a default, the port must be there.
    pub(super) fn parse(authority: &str, default_port: Option<u16>) -> Result<Self, BadDestination> {
        if authority.contains('@') {
            return Err(BadDestination::UserInfo);
        }
        let (host, port) = if let Some(literal) = authority.strip_prefix('[') {
            let (address, rest) = literal.split_once(']').ok_or(BadDestination::Host)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| BadDestination::Host)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(BadDestination::Host),
            };
            (Host::Address(address.into()), port)
        } else {
            let (host, port) =
                authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
            (Self::host(host)?, port)
        };
        // "host:" means the default (RFC 3986, section 3.2.3).
        let port = match port.filter(|port| !port.is_empty()) {
            None => default_port.ok_or(BadDestination::Port)?,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(BadDestination::Port)?
            }
            Some(_) => return Err(BadDestination::Port),
        };
        let key = match &host {
            Host::Address(IpAddr::V4(address)) => format!("{address}:{port}"),
            Host::Address(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            Host::Name(name) => format!("{name}:{port}"),
        };
        Ok(Self { host, port, key: key.into() })
    }

    /// A name or an IPv4 address. Other numeric forms (`127.1`, `0x7f000001`) are names here; the resolver turns them
    /// into the address that the guard then sees.
    fn host(text: &str) -> Result<Host, BadDestination> {
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Host::Address(address.into()));
        }
        if !is_host_name(text) {
            return Err(BadDestination::Host);
        }
        Ok(Host::Name(text.to_ascii_lowercase().into()))
    }
}

impl Destination {
    /// Where a request is meant to go; only for one whose form is right.
    pub(super) fn of(head: &RequestHead) -> Result<Self, Reply> {
        let authority = std::str::from_utf8(head.authority()).map_err(|_| BadDestination::Host);
        let default_port = (head.method() != Method::Connect).then_some(80);
        authority.and_then(|authority| Self::parse(authority, default_port)).map_err(|problem| {
            let message = UserMessage::new("The request's target cannot be used: ");
            Reply::bad_request(&message.then(problem.user_words()))
        })
    }
}

/// Whether a target has the form that a proxy is asked in: a complete `http://` address, or for CONNECT a host and a port.
pub(super) fn check_form(head: &RequestHead) -> Result<(), Reply> {
    if head.method() == Method::Connect {
        if head.authority().iter().any(|b| matches!(b, b'/' | b'?' | b'#')) {
            let text = "A CONNECT request names a host and a port, and nothing else.";
            return Err(Reply::bad_request(&UserMessage::new(text)));
        }
        return Ok(());
    }
    let scheme = head.scheme();
    if scheme.eq_ignore_ascii_case(b"http") {
        return Ok(());
    }
    if scheme.is_empty() {
        return Err(Reply::bad_request(&UserMessage::new(
            "This is a proxy, not a web server. Set it as the proxy of your browser, and ask for complete addresses (http://...).",
        )));
    }
    let scheme = outside::shown_bytes(scheme, outside::WORD);
    let message = UserMessage::new("This proxy fetches http:// addresses; for ").name(&scheme);
    Err(Reply::bad_request(&message.then(":// the client has to ask for a tunnel (CONNECT).")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        for (text, key) in [
            ("example.test", "example.test:80"),
            ("Example.TEST:8080", "example.test:8080"),
            ("example.test.", "example.test.:80"),
            ("example.test:", "example.test:80"),
            ("a_b-c.test:1", "a_b-c.test:1"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("[2001:DB8::1]", "[2001:db8::1]:80"),
            ("[::ffff:192.0.2.1]:81", "[::ffff:192.0.2.1]:81"),
            ("2130706433", "2130706433:80"),
            ("0x7f000001", "0x7f000001:80"),
        ] {
            assert_eq!(&*Destination::parse(text, Some(80)).unwrap().key, key, "{text}");
        }
        let dotted = Destination::parse("Example.test.", Some(80)).unwrap();
        assert_eq!(dotted.host.name(), Some("example.test"));
    }

    #[test]
    fn what_is_not() {
        use BadDestination::{Host, Port, UserInfo};
        let long_label = "a".repeat(64);
        let long_name = "abc.".repeat(64);
        for (text, why) in [
            ("user@example.test", UserInfo),
            ("user:password@example.test:80", UserInfo),
            ("", Host),
            (".", Host),
            (":80", Host),
            ("a..b", Host),
            (".a", Host),
            ("a b", Host),
            ("a%00b", Host),
            ("a\tb", Host),
            ("münchen.test", Host),
            ("[::1", Host),
            ("::1", Host),
            ("[::1]x", Host),
            ("[fe80::1%eth0]", Host),
            ("[192.0.2.1]", Host),
            ("[]", Host),
            (&long_label, Host),
            (&long_name, Host),
            ("a:0", Port),
            ("a:65536", Port),
            ("a:+80", Port),
            ("a:80x", Port),
            ("a:8 0", Port),
        ] {
            assert_eq!(Destination::parse(text, Some(80)), Err(why), "{text:?}");
        }
        assert_eq!(Destination::parse("a.test", None), Err(Port));
        assert_eq!(Destination::parse("a.test:", None), Err(Port));
    }
}

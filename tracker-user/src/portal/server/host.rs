//! Under which name a request came, and whether that is one of ours. A page that others have pointed at this address by a name of
//! their own (DNS rebinding) is answered with nothing but that.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::HOST;
use http::request::Parts as Head;
use http::{Method, Version};

use crate::clock::{BootTime, boot_now};
use crate::links::own_addresses;
use crate::types::ClientAddr;

/// No name is longer (RFC 1035), with a port behind it.
const LONGEST: usize = 264;
/// An address that is not known to be ours may have become so since.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The name of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// In lower case, without a dot at the end; of an address, as it is written usually.
    pub(super) host: String,
    /// What stands before the first slash of a page's address, as browsers write it in `Origin`: in lower case, without the port
    /// that everybody knows.
    pub(super) authority: String,
    address: Option<IpAddr>,
}

/// A request has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unnamed;

/// The name that a request was made by (RFC 9112, section 3.2): the address itself has it, or the one field `Host`.
pub(super) fn named(head: &Head, is_tls: bool) -> Result<Named, Unnamed> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (Some(field), None) => Some(field.to_str().map_err(|_| Unnamed)?),
        (None, _) if head.version < Version::HTTP_11 && head.uri.authority().is_some() => None,
        _ => return Err(Unnamed),
    };
    let whole = match (head.uri.authority(), head.uri.scheme_str()) {
        // The far end of a tunnel: it is refused, whatever its name is.
        (Some(_), None) if head.method == Method::CONNECT => field.ok_or(Unnamed)?,
        (Some(authority), Some(scheme)) if scheme == if is_tls { "https" } else { "http" } => {
            authority.as_str()
        }
        (None, None) => field.ok_or(Unnamed)?,
        _ => return Err(Unnamed),
    };
    parse(whole, is_tls).ok_or(Unnamed)
}

fn parse(text: &str, is_tls: bool) -> Option<Named> {
    if text.len() > LONGEST {
        return None;
    }
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        (address, rest)
    } else {
        text.find(':').map_or((text, ""), |colon| text.split_at(colon))
    };
    let port: Option<u16> = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    let address: Option<IpAddr> = if text.starts_with('[') {
        Some(host.parse::<Ipv6Addr>().ok()?.to_canonical())
    } else {
        host.parse().ok()
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = host.strip_suffix('.').unwrap_or(host);
    if address.is_none() && (name.is_empty() || !name.bytes().all(is_word)) {
        return None;
    }
    let usual = if is_tls { 443 } else { 80 };
    let mut authority = if text.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    if let Some(port) = port.filter(|port| *port != usual) {
        authority.push_str(&format!(":{port}"));
    }
    authority.make_ascii_lowercase();
    let host = address.map_or_else(|| name.to_ascii_lowercase(), |address| address.to_string());
    Some(Named { host, authority, address })
}

/// The addresses that this host has, as far as they were last looked up.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses(Mutex<Looked>);

#[derive(Debug, Default)]
struct Looked {
    addresses: Vec<IpAddr>,
    at: Option<BootTime>,
}

impl OwnAddresses {
    fn has(&self, address: IpAddr) -> bool {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = boot_now();
        if !looked.addresses.contains(&address) && looked.at.is_none_or(|at| now.since(at) >= LOOK_AGAIN) {
            *looked = Looked { addresses: own_addresses(), at: Some(now) };
        }
        looked.addresses.contains(&address)
    }

    /// Whether a request by this name is for us: `names` are those that clients use (in lower case), and the addresses are ours.
    /// The loopback's are for whoever comes from there.
    pub(super) fn is_ours(&self, named: &Named, names: &[String], peer: ClientAddr) -> bool {
        let is_near = peer.ip().is_loopback();
        if names.contains(&named.host) {
            return true;
        }
        match named.address {
            Some(address) if address.is_loopback() => is_near,
            Some(address) => self.has(address),
            None => is_near && named.host == "localhost",
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(method: &str, uri: &str, version: Version, hosts: &[&str], is_tls: bool) -> Result<Named, Unnamed> {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        named(&request.body(()).unwrap().into_parts().0, is_tls)
    }

    #[test]
    fn a_name_is_read_as_it_is_meant() {
        for (text, host, authority) in [
            ("proxy.example.test", "proxy.example.test", "proxy.example.test"),
            ("Proxy.Example.TEST:4081", "proxy.example.test", "proxy.example.test:4081"),
            ("proxy.example.test.:4081", "proxy.example.test", "proxy.example.test.:4081"),
            ("gw:443", "gw", "gw"),
            ("gw:", "gw", "gw"),
            ("192.0.2.1:4081", "192.0.2.1", "192.0.2.1:4081"),
            ("[2001:DB8:0::1]:4081", "2001:db8::1", "[2001:db8:0::1]:4081"),
            ("[::ffff:192.0.2.1]", "192.0.2.1", "[::ffff:192.0.2.1]"),
            ("2130706433", "2130706433", "2130706433"),
        ] {
            let named = of("GET", "/", Version::HTTP_11, &[text], true).unwrap();
            assert_eq!((named.host.as_str(), named.authority.as_str()), (host, authority), "{text}");
        }
        for text in [
            "",
            ".",
            "gw:99999",
            "gw:80:81",
            "gw:+80",
            "user@gw",
            "gw/",
            "g w",
            "[gw]",
            "[::1",
            "[::1]x",
            "::1",
            "[fe80::1%2]",
            "gw?",
            &"x".repeat(300),
        ] {
            assert_eq!(of("GET", "/", Version::HTTP_11, &[text], true), Err(Unnamed), "{text}");
        }
    }

    #[test]
    fn there_is_one_name_and_the_address_itself_has_it_first() {
        let host = |uri, version, hosts: &[&str], is_tls| {
            of("GET", uri, version, hosts, is_tls).map(|named| named.host)
        };
        let ours = Ok("gw".to_owned());
        assert_eq!(host("/", Version::HTTP_11, &[], true), Err(Unnamed));
        assert_eq!(host("/", Version::HTTP_10, &[], true), Err(Unnamed));
        assert_eq!(host("/", Version::HTTP_10, &["gw"], true), ours);
        assert_eq!(host("/", Version::HTTP_11, &["gw", "gw"], true), Err(Unnamed));
        assert_eq!(
            host("https://gw:4081/", Version::HTTP_11, &["other"], true),
            ours,
            "RFC 9112, section 3.2.2"
        );
        assert_eq!(host("https://gw:4081/", Version::HTTP_11, &[], true), Err(Unnamed));
        assert_eq!(host("http://gw/", Version::HTTP_10, &[], false), ours);
        assert_eq!(host("http://gw/", Version::HTTP_11, &["gw"], true), Err(Unnamed));
        assert_eq!(host("ftp://gw/", Version::HTTP_11, &["gw"], false), Err(Unnamed));
        assert_eq!(host("https://user@gw/", Version::HTTP_11, &["gw"], true), Err(Unnamed));
        let tunnel = of("CONNECT", "other:443", Version::HTTP_11, &["gw"], true).map(|named| named.host);
        assert_eq!(tunnel, ours);
    }

    #[test]
    fn only_our_names_and_addresses_are_ours_and_those_of_the_loopback_near_at_hand() {
        let (own, names) = (OwnAddresses::default(), ["gw".to_owned()]);
        let is_ours =
            |text: &str, peer: &str| own.is_ours(&parse(text, true).unwrap(), &names, peer.parse().unwrap());
        let (far, near) = ("192.0.2.99", "127.0.0.1");
        for (text, from_afar, from_near) in [
            ("GW:4081", true, true),
            ("other", false, false),
            ("gw.evil.test", false, false),
            ("localhost", false, true),
            ("127.0.0.1", false, true),
            ("127.3.3.3", false, true),
            ("[::1]", false, true),
            ("192.0.2.1", false, false),
            ("0.0.0.0", false, false),
            ("2130706433", false, false),
        ] {
            assert_eq!((is_ours(text, far), is_ours(text, near)), (from_afar, from_near), "{text}");
        }
        let mine = own_addresses().into_iter().find(|address| address.is_ipv4() && !address.is_loopback());
        assert!(mine.is_none_or(|mine| is_ours(&mine.to_string(), far)));
    }
}

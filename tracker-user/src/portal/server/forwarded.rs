//! For whom a proxy in front asks.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::types::ClientAddr;

const FIELD: &str = "x-forwarded-for";

/// A proxy in front has said something that is nobody's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// Who a request comes from. What it says itself (`X-Forwarded-For`) counts only where a proxy in front has said it: from the end
/// that `peer` has written, as far as there are such proxies, and one further. What stands before that, anybody may have written.
pub(super) fn client(
    headers: &HeaderMap,
    peer: ClientAddr,
    trusted: &[IpNet],
) -> Result<ClientAddr, Garbage> {
    let is_trusted = |client: ClientAddr| trusted.iter().any(|network| network.contains(&client.ip()));
    let mut client = peer;
    let mut fields = headers.get_all(FIELD).iter().collect::<Vec<_>>();
    fields.reverse();
    let hops = fields.into_iter().flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    for hop in hops {
        if !is_trusted(client) {
            return Ok(client);
        }
        client = address(hop).ok_or(Garbage)?;
    }
    Ok(client)
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`; mapped addresses are IPv4.
fn address(hop: &[u8]) -> Option<ClientAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    let address: IpAddr = match hop.parse::<SocketAddr>() {
        // One with a link names an interface of somebody else's.
        Ok(SocketAddr::V6(v6)) if v6.scope_id() != 0 => return None,
        Ok(with_port) => with_port.ip(),
        Err(_) => hop.parse().ok().or_else(|| in_brackets().map(IpAddr::V6))?,
    };
    let address = address.to_canonical();
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast() => None,
        IpAddr::V4(v4) => Some(v4.into()),
        // A link-local one means nobody without its link.
        IpAddr::V6(v6) if v6.is_unspecified() || v6.is_multicast() => None,
        IpAddr::V6(v6) => ClientAddr::from_v6(v6.octets(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FIELD, field.parse().unwrap());
        }
        let trusted = ["10.0.0.0/24", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
        let client = client(&headers, peer.parse().unwrap(), &trusted);
        client.ok().map(|client| client.to_string())
    }

    #[test]
    fn only_a_proxy_in_front_is_believed_and_only_as_far_as_it_can_know() {
        for (peer, fields, client) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.7"], "192.0.2.1"),
            ("192.0.2.1", &["garbage"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["garbage,, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1", "198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["1.1.1.1, 198.51.100.7, 10.0.0.2", "10.0.0.3"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.9,10.0.0.8"], "10.0.0.9"),
            ("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]"], "2001:db8::7"),
            ("2001:db8:ffff::1", &["2001:db8::7 ,\t10.0.0.2"], "2001:db8::7"),
        ] {
            assert_eq!(of(peer, fields).as_deref(), Some(client), "{peer} {fields:?}");
        }
    }

    #[test]
    fn what_a_proxy_in_front_says_that_is_no_address_is_refused() {
        for field in [
            "",
            "unknown",
            "garbage",
            "198.51.100.7,",
            "198.51.100.7, x",
            "198.51.100.07",
            "fe80::1",
            "fe80::1%2",
            "[fe80::1%2]:80",
            "_hidden",
            "for=198.51.100.7",
            "198.51.100.7 1.1.1.1",
            "0.0.0.0",
            "255.255.255.255",
            "::",
            "ff02::1",
        ] {
            assert_eq!(of("10.0.0.1", &[field]), None, "{field:?}");
        }
    }
}

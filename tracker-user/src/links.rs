//! Client addresses as people write them: a link-local one (RFC 4007, section 11) with the name of the interface by which
//! it is reached, as in `fe80::1%eth0`. Inside, interfaces have numbers.

use std::ffi::CString;
use std::fmt;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{if_indextoname, if_nametoindex};
use tracker_ebpf::abi::NoClient;

use crate::types::ClientAddr;

/// The client as people should see it: see the module. An interface that has no name, or has gone, is shown by its number.
#[must_use]
pub fn shown(client: ClientAddr) -> Shown {
    let name = client
        .link()
        .and_then(|link| if_indextoname(link).ok())
        .filter(|name| name.to_str().is_ok_and(|name| !name.is_empty()));
    Shown { client, name }
}

/// See [`shown`].
#[derive(Debug)]
pub struct Shown {
    client: ClientAddr,
    name: Option<CString>,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_ref().and_then(|name| name.to_str().ok()) {
            Some(name) => write!(f, "{}%{name}", self.client.ip()),
            None => self.client.fmt(f),
        }
    }
}

/// The client that a text means, with its interface by name or by number.
///
/// # Errors
/// When it is no address, or a link-local one without an interface that exists.
pub fn parse(text: &str) -> Result<ClientAddr, NoClient> {
    let Some((address, link)) = text.split_once('%') else { return text.parse() };
    match if_nametoindex(link) {
        Ok(number) => format!("{address}%{number}").parse(),
        Err(_) => text.parse(),
    }
}

/// The addresses of this host, those of its loopback included.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    let all = getifaddrs().into_iter().flatten();
    all.filter_map(|interface| interface.address.and_then(address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_has_its_name_and_its_number() {
        let lo = if_nametoindex("lo").unwrap();
        let client =
            ClientAddr::from_v6("fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets(), lo).unwrap();
        assert_eq!(shown(client).to_string(), "fe80::1%lo");
        for text in ["fe80::1%lo".to_owned(), format!("fe80::1%{lo}"), format!("FE80:0::1%{lo}")] {
            assert_eq!(parse(&text), Ok(client), "{text}");
        }
        let nowhere = format!("fe80::1%{}", u32::MAX);
        assert_eq!(shown(parse(&nowhere).unwrap()).to_string(), nowhere);
        for text in ["fe80::1", "fe80::1%nonesuch", "fe80::1%"] {
            assert_eq!(parse(text), Err(NoClient::NoLink), "{text}");
        }
        assert_eq!(parse("2001:db8::1%lo"), Err(NoClient::NoAddress));
        assert_eq!(shown(parse("192.0.2.1").unwrap()).to_string(), "192.0.2.1");
    }
}

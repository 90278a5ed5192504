//! Values that are right one by one and wrong together.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::problem::Refusal;
use super::span;
use super::types::Config;
use super::values::{AllowedDestination, Basic};

/// What is wrong with several keys together.
#[derive(Debug, PartialEq)]
pub(super) struct Conflict {
    /// The full names of the keys, the one to blame first.
    pub(super) keys: [&'static str; 2],
    pub(super) refusal: Refusal,
}

impl Conflict {
    fn new(keys: [&'static str; 2], message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { keys, refusal: Refusal::new(message, remedy) }
    }
}

/// Everything for which a configuration is refused although each of its values is right.
pub(super) fn combinations(config: &Config) -> Vec<Conflict> {
    let mut found = clashes(config);
    found.extend(socket_path(&config.run_dir));
    // Of two keys that belong together, one can be set before the other: each pair has an order that `set` allows.
    if config.tls.certificate.is_some() && config.tls.key.is_none() {
        found.push(Conflict::new(
            ["tls.certificate", "tls.key"],
            "is of no use without its private key",
            "set tls.key first, or leave both empty",
        ));
    }
    if config.acme.directory.is_some() && config.acme.domains.is_empty() {
        found.push(Conflict::new(
            ["acme.directory", "acme.domains"],
            "there is nothing to have certified",
            "set acme.domains first, to the names of this host",
        ));
    }
    if config.mail.smtp.is_some() && config.mail.from.is_none() {
        found.push(Conflict::new(
            ["mail.smtp", "mail.from"],
            "mail would have no sender",
            "set mail.from first, to the gateway's own mail address",
        ));
    }
    found
}

/// Addresses that two parts of the gateway want to listen on.
fn clashes(config: &Config) -> Vec<Conflict> {
    let mut taken: Vec<(&'static str, SocketAddr)> = Vec::new();
    taken.extend(config.proxy.listen.iter().map(|address| ("proxy.listen", *address)));
    taken.extend(config.tls.proxy_listen.iter().map(|address| ("tls.proxy-listen", *address)));
    // The rest is not bound yet where it is off.
    let single = [
        ("portal.http", config.portal.http),
        ("portal.https", config.portal.https),
        ("acme.http", config.acme.http.filter(|_| config.acme.directory.is_some())),
        ("metrics.listen", config.metrics.listen),
    ];
    taken.extend(single.into_iter().filter_map(|(key, address)| Some((key, address?))));
    let mut found = Vec::new();
    for (index, (key, address)) in taken.iter().enumerate() {
        for (other_key, other) in taken.iter().take(index) {
            if overlap(*address, *other) {
                let message = format!("{address} and {other} ({other_key}) are in each other's way");
                let remedy = "give one of them another port, or an address of its own";
                found.push(Conflict::new([key, other_key], message, remedy));
            }
        }
    }
    found
}

/// Whether the kernel would refuse to bind both. Port 0 is a new one each time.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_family = a.is_ipv4() == b.is_ipv4();
    let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && same_family && same_address
}

/// A unix socket's address holds 107 bytes of path.
fn socket_path(run_dir: &Path) -> Option<Conflict> {
    let length = run_dir.join("admin.sock").as_os_str().len();
    (length > 107).then(|| {
        let message = format!("the path of the admin socket in it has {length} bytes, and 107 is the most");
        Conflict::new(["run-dir", "run-dir"], message, "choose a directory with a shorter path")
    })
}

/// What is allowed, and probably not meant.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let timeouts = &config.timeouts;
    if let Some(lifetime) = timeouts.lifetime().filter(|lifetime| *lifetime < timeouts.timeout) {
        found.push(format!(
            "timeouts.proxy-auth-lifetime-timeout: {} is shorter than proxy-auth-timeout, {}: every session ends by its lifetime, and the timeout never comes to bear",
            span::show(lifetime),
            span::show(timeouts.timeout),
        ));
    }
    if config.proxy.connect_ports.is_empty() {
        found.push("proxy.connect-ports: is empty: no https site can be reached".to_owned());
    }
    if config.proxy.forward_ports.is_empty() {
        found.push("proxy.forward-ports: is empty: no http site can be reached".to_owned());
    }
    for destination in &config.proxy.allow_destinations {
        if matches!(destination, AllowedDestination::Network(network) if network.prefix_len() == 0) {
            found.push(format!(
                "proxy.allow-destinations: {destination} lets clients reach the gateway itself and the services of its host; name only what they need"
            ));
        }
    }
    let beyond_this_host = |address: &SocketAddr| !is_loopback(address.ip());
    if config.proxy.basic == Basic::Always && config.proxy.listen.iter().any(beyond_this_host) {
        found.push("proxy.basic: always sends passwords over the network in the clear".to_owned());
    }
    if config.tls.key.is_some() && config.tls.certificate.is_none() {
        found.push("tls.key: is not used without tls.certificate".to_owned());
    }
    if !config.kerberos.keep_domain && config.kerberos.domains.len() > 1 {
        found.push(
            "kerberos.keep-domain: is false with several domains: users of one name in two of them look the same, though they are two"
                .to_owned(),
        );
    }
    let short = config.kerberos.domains.values().map(|name| name.to_lowercase());
    let mut short: Vec<_> = short.collect();
    short.sort_unstable();
    for pair in short.windows(2).filter(|pair| pair.first() == pair.last()) {
        let name = pair.first().map(String::as_str).unwrap_or_default();
        found.push(format!(
            "kerberos.domains: several realms are called {name:?}: users of one name in two of them look the same, though they are two"
        ));
    }
    found
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

//! Values that are right one by one and wrong together.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::listeners::Listen;
use super::problem::Refusal;
use super::second_factor;
use super::span;
use super::types::Config;
use super::values::{AllowedDestination, Basic};

/// So many wrong passwords usually lock an account in Active Directory.
const DIRECTORY_LOCKS_AT: u32 = 5;
/// And it usually forgets them so long after the last one.
const DIRECTORY_COUNTS_FOR: Duration = Duration::from_secs(30 * 60);

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
    found.extend(keys_of_certificates(config.tls.certificate.len(), config.tls.key.len()));
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
    let names_a_user = |url: &str| {
        url.split_once("://")
            .and_then(|(_, rest)| rest.rsplit_once('@'))
            .is_some_and(|(user, _)| !user.is_empty())
    };
    if config.mail.smtp.as_deref().is_some_and(names_a_user) && config.mail.password_file.is_none() {
        found.push(Conflict::new(
            ["mail.smtp", "mail.password-file"],
            "names a user without a password",
            "set mail.password-file first, to the file that it is in",
        ));
    }
    found
}

/// Certificates without a private key.
fn keys_of_certificates(certificates: usize, keys: usize) -> Option<Conflict> {
    let [message, remedy] = match (certificates, keys) {
        _ if certificates <= keys => return None,
        (1, _) => [
            "is of no use without its private key".to_owned(),
            "set tls.key first, or leave both empty".into(),
        ],
        _ => [
            format!("names {certificates} certificates, and tls.key {keys} private keys"),
            "set tls.key first, to as many keys in the same order".into(),
        ],
    };
    Some(Conflict::new(["tls.certificate", "tls.key"], message, remedy))
}

/// Addresses that two parts of the gateway want to listen on.
fn clashes(config: &Config) -> Vec<Conflict> {
    // Only addresses of one family and port can be in each other's way. Port 0 is a new one each time.
    let mut groups: HashMap<(bool, u16), Group> = HashMap::new();
    let mut found = Vec::new();
    for Listen { key, address, .. } in config.listeners() {
        if address.port() == 0 {
            continue;
        }
        let group = groups.entry((address.is_ipv4(), address.port())).or_default();
        for (_, other_key, other) in group.in_the_way_of(address.ip()) {
            let message = format!("{address} and {other} ({other_key}) are in each other's way");
            let remedy = "give one of them another port, or an address of its own";
            found.push(Conflict::new([key, other_key], message, remedy));
        }
        group.add(key, address);
    }
    found
}

/// When it was added, of which key, and where.
type Taken = (usize, &'static str, SocketAddr);

/// Addresses of one family and port.
#[derive(Default)]
struct Group {
    added: usize,
    by_address: HashMap<IpAddr, Vec<Taken>>,
}

impl Group {
    fn add(&mut self, key: &'static str, address: SocketAddr) {
        self.by_address.entry(address.ip()).or_default().push((self.added, key, address));
        self.added += 1;
    }

    /// Those for which the kernel would refuse to bind both, in the order in which they were added: the same address, and
    /// the one that stands for all of them.
    fn in_the_way_of(&self, address: IpAddr) -> Vec<Taken> {
        let mut found: Vec<Taken> = match address.is_unspecified() {
            true => self.by_address.values().flatten().copied().collect(),
            false => {
                let any = [address, unspecified(address)].into_iter();
                any.filter_map(|one| self.by_address.get(&one)).flatten().copied().collect()
            }
        };
        found.sort_unstable_by_key(|(added, ..)| *added);
        found
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
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
    found.extend(balancers(config));
    let beyond_this_host = |address: &SocketAddr| !is_loopback(address.ip());
    if config.proxy.basic == Basic::Always && config.proxy.listen.iter().any(beyond_this_host) {
        found.push("proxy.basic: always sends passwords over the network in the clear".to_owned());
    }
    let regulation = &config.regulation;
    if regulation.max_retries == 0 {
        found.push(
            "regulation.max-retries: is 0: passwords can be tried without end, and accounts be locked in the directory by it"
                .to_owned(),
        );
    } else if regulation.max_retries.saturating_add(1) >= DIRECTORY_LOCKS_AT {
        found.push(format!(
            "regulation.max-retries: with {}, {} wrong passwords for a name reach the directory before it is banned here: Active Directory's usual lock-out is {DIRECTORY_LOCKS_AT} within 30 minutes, so that anybody can lock others out of it",
            regulation.max_retries,
            regulation.max_retries.saturating_add(1),
        ));
    } else if regulation.find_time < DIRECTORY_COUNTS_FOR {
        found.push(format!(
            "regulation.find-time: {} is shorter than Active Directory usually counts, {}: tries that are forgotten here add up there, and lock accounts",
            span::show(regulation.find_time),
            span::show(DIRECTORY_COUNTS_FOR),
        ));
    }
    match (config.tls.certificate.len(), config.tls.key.len()) {
        (0, 1..) => found.push("tls.key: is not used without tls.certificate".to_owned()),
        (certificates, keys) if keys > certificates => found.push(format!(
            "tls.key: names {keys} private keys, and tls.certificate {certificates} certificates: the last keys are not used"
        )),
        _ => {}
    }
    found.extend(config.role_warnings());
    found.extend(second_factor::warnings(config));
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

/// What is wrong with the balancers that are believed.
fn balancers(config: &Config) -> Vec<String> {
    let all = &config.proxy.proxy_protocol;
    let mut found = Vec::new();
    for network in all.iter().filter(|network| network.prefix_len() == 0) {
        found.push(format!(
            "proxy.proxy-protocol: {network} lets everybody say who they are, and nobody reach the proxy without a balancer; name the balancers only"
        ));
    }
    for shared in &config.timeouts.shared_hosts {
        if all.iter().any(|network| network.prefix_len() > 0 && network.contains(shared)) {
            found.push(format!(
                "timeouts.shared-hosts: {shared} has no effect: it is in proxy.proxy-protocol, and a balancer that names its clients is none itself"
            ));
        }
    }
    found
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_budget_that_lets_accounts_be_locked_in_the_directory_is_warned_of() {
        let warned = |max_retries: u32, find_minutes: u64| {
            let mut config = Config::default();
            config.regulation.max_retries = max_retries;
            config.regulation.find_time = Duration::from_secs(60 * find_minutes);
            let found = warnings(&config).into_iter().find(|one| one.starts_with("regulation."));
            found.map(|one| one.split(':').next().unwrap_or_default().to_owned())
        };
        assert_eq!(warned(3, 30), None, "the defaults");
        assert_eq!(warned(1, 1_440), None);
        for (max_retries, find_minutes, key) in
            [(0, 30, "max-retries"), (4, 30, "max-retries"), (100, 30, "max-retries"), (3, 29, "find-time")]
        {
            assert_eq!(warned(max_retries, find_minutes), Some(format!("regulation.{key}")));
        }
    }

    /// Whether the kernel would refuse to bind both.
    fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
        let same_family = a.is_ipv4() == b.is_ipv4();
        let same_address = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() == b.port() && a.port() != 0 && same_family && same_address
    }

    fn address() -> impl Strategy<Value = SocketAddr> {
        let ip = prop::sample::select(vec!["0.0.0.0", "10.0.0.1", "10.0.0.2", "::", "::1", "fd77::1"]);
        (ip, 0..3_u16).prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
    }

    proptest! {
        #[test]
        fn whoever_is_in_another_ones_way_is_found_once(
            proxy in prop::collection::vec(address(), 0..12), tls in prop::collection::vec(address(), 0..12),
        ) {
            let mut config = Config::default();
            (config.portal.http, config.portal.https, config.acme.http, config.metrics.listen) = (None, None, None, None);
            let all: Vec<SocketAddr> = proxy.iter().chain(&tls).copied().collect();
            (config.proxy.listen, config.tls.proxy_listen) = (proxy, tls);
            let mut expected = Vec::new();
            for (index, one) in all.iter().enumerate() {
                let others = all.iter().take(index).filter(|other| overlap(*one, **other));
                expected.extend(others.map(|other| format!("{one} and {other} (")));
            }
            let found: Vec<String> = clashes(&config).into_iter().map(|clash| clash.refusal.message).collect();
            prop_assert_eq!(found.len(), expected.len());
            prop_assert!(found.iter().zip(&expected).all(|(found, expected)| found.starts_with(expected)));
        }
    }
}

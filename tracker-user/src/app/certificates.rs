//! The certificates of listeners under TLS: what is configured, or one of the gateway's own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::auth::kerberos::negotiate;
use crate::config::Config;
use crate::links::own_addresses;
use crate::net::certificates::{CertificateError, Keeper, Own};
use crate::threads::Threads;

/// How often it is looked whether files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The keeper of the certificates, where something listens under TLS. Those that were set live and cannot be used do not keep
/// the gateway from starting: it begins with what the file says, as it would have gone on with it.
pub(super) fn keeper(config: &Config, file: &Config) -> Result<Option<Arc<Keeper>>, CertificateError> {
    if !config.needs_certificate() {
        return Ok(None);
    }
    let (keytab, host) = (config.kerberos.keytab.clone(), config.portal.host.clone());
    let names = move || known_names(keytab.as_deref(), host.as_deref(), own_addresses());
    let own = Own { directory: config.state_dir.clone(), names: Arc::new(names) };
    let (wanted, stated) = (config.tls.pairs(), file.tls.pairs());
    let keeper = match Keeper::start(wanted.clone(), own.clone()) {
        Err(_) if wanted != stated => {
            let keeper = Keeper::start(stated, own)?;
            keeper.want(wanted);
            // It tells what is wrong with them, and takes them up once they are mended.
            keeper.reread();
            keeper
        }
        started => started?,
    };
    Ok(Some(Arc::new(keeper)))
}

/// The names that clients may reach the pages by, without addresses. Blocks: it reads the keytab and the hosts.
pub(super) fn reached_by(config: &Config) -> Vec<String> {
    let host = config.portal.host.as_deref();
    let mut names = known_names(config.kerberos.keytab.as_deref(), host, Vec::new());
    // This one is everybody's.
    names.retain(|name| name != "localhost");
    let spns = config.kerberos.conditions.spns.iter().map(String::as_str);
    // Perhaps an address, in any of the ways to write it.
    let usual = |name: &str| match name.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => name.trim_end_matches('.').to_ascii_lowercase(),
    };
    names.extend(spns.chain(host).map(usual));
    names.sort_unstable();
    names.dedup();
    names
}

fn known_names(keytab: Option<&std::path::Path>, host: Option<&str>, addresses: Vec<IpAddr>) -> Vec<String> {
    let entries = negotiate::entries(keytab).unwrap_or_default();
    let services: Vec<String> = entries.into_iter().map(|entry| entry.principal).collect();
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    names(host, &hostname(), &services, &hosts, addresses)
}

/// Keeps the certificates up to date. Ends only with the daemon.
pub(super) async fn keep(keeper: Arc<Keeper>, threads: Arc<Threads>) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let keeper = Arc::clone(&keeper);
        // Without a thread now there is one at the next look.
        if let Ok(done) = threads.run(move || keeper.look()) {
            let _ = done.await;
        }
    }
}

/// The name that this host has.
pub(super) fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

/// The names and addresses for a certificate of the gateway's own: what clients may reach it by, the most likely first.
fn names(
    portal: Option<&str>,
    hostname: &str,
    services: &[String],
    hosts: &str,
    addresses: Vec<IpAddr>,
) -> Vec<String> {
    // `HTTP/NAME@REALM`: by these names clients ask for tickets.
    let services = services.iter().filter_map(|principal| {
        let (service, rest) = principal.split_once('/')?;
        let (name, _) = rest.rsplit_once('@')?;
        service.eq_ignore_ascii_case("HTTP").then_some(name)
    });
    let candidates = portal.into_iter().chain(services).chain(full_names(hostname, hosts)).chain([hostname]);
    let mut known = BTreeSet::new();
    let mut names: Vec<String> =
        candidates.map(str::to_ascii_lowercase).filter(|name| is_name(name)).collect();
    names.push("localhost".into());
    // Link-local addresses are nobody's without their link, and loopback is what everybody has.
    let lasting = addresses.into_iter().filter(|address| match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_unspecified(),
    });
    names.extend(lasting.map(|address| address.to_string()));
    names.retain(|name| known.insert(name.clone()));
    names
}

/// The other names on the line of `/etc/hosts` that has the host's own: its full name is the first of them.
fn full_names<'a>(hostname: &'a str, hosts: &'a str) -> impl Iterator<Item = &'a str> {
    let words = |line: &'a str| line.split('#').next().unwrap_or_default().split_whitespace().skip(1);
    let has_it = move |line: &'a str| words(line).any(|word| word.eq_ignore_ascii_case(hostname));
    let lines = hosts.lines().filter(move |line| !hostname.is_empty() && has_it(line));
    lines.flat_map(words).filter(|name| name.contains('.'))
}

/// Whether it can stand in a certificate as a DNS name.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label) && name.parse::<IpAddr>().is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_ones_own_is_for_all_that_clients_may_call_the_host() {
        let services =
            ["HTTP/Proxy.Example.Test@EXAMPLE.TEST", "host/gw@EXAMPLE.TEST", "HTTP/p@E", "HTTP/a b@E"]
                .map(str::to_owned);
        let hosts = "127.0.0.1 localhost\n127.0.1.1 gw.example.test gw # ours\n192.0.2.9 other.test other\n";
        let addresses = ["127.0.0.1", "192.0.2.7", "fe80::1", "2001:db8::7", "169.254.1.1"]
            .map(|text| text.parse().unwrap());
        assert_eq!(
            names(Some("portal.test"), "gw", &services, hosts, addresses.to_vec()),
            [
                "portal.test",
                "proxy.example.test",
                "p",
                "gw.example.test",
                "gw",
                "localhost",
                "127.0.0.1",
                "192.0.2.7",
                "2001:db8::7"
            ]
        );
        assert_eq!(names(None, "", &[], "127.0.0.1 localhost.localdomain", Vec::new()), ["localhost"]);
        assert_eq!(names(Some("192.0.2.7"), "localhost", &[], "", Vec::new()), ["localhost"]);
    }
}

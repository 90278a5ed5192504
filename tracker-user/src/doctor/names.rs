//! The names that clients reach the gateway by: resolvable, an address record rather than an alias, and one of this host's.

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::dns::{Dns, NoRecords, Record};
use super::{Check, within};
use crate::links::own_addresses;

const NAME: &str = "name";
const DNS: &str = "dns";
const HOSTS: &str = "/etc/hosts";
/// How long the system's resolver may take for one name.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a name.
#[derive(Debug)]
struct Facts<'a> {
    name: &'a str,
    /// In `/etc/hosts`.
    hosts: Vec<IpAddr>,
    /// By the system's resolver.
    system: Result<Vec<IpAddr>, String>,
    /// By the name servers.
    dns: Result<Vec<Record>, NoRecords>,
    /// What those addresses lead back to, where they do.
    back: Vec<(IpAddr, Vec<String>)>,
    /// The addresses of this host.
    own: &'a [IpAddr],
    /// The names that the keytab has keys for.
    known: &'a [String],
}

/// Looks at the host names that the keytab has keys for, or should have.
pub(super) fn checks(names: &[String]) -> Vec<Check> {
    if names.is_empty() {
        return vec![Check::skipped(
            NAME,
            "neither keytab nor kerberos.conditions.spns says which names clients use",
        )];
    }
    let own = own_addresses();
    let hosts = std::fs::read_to_string(HOSTS).unwrap_or_default();
    let mut dns = Dns::of_this_host();
    let mut silent = None;
    // Once the resolver hangs, it does so for every name.
    let mut hangs = false;
    let mut checks = Vec::new();
    for name in names {
        let records = dns.addresses(name);
        if let Err(NoRecords::Silent(why)) = &records {
            silent = Some(why.clone());
        }
        let asked = name.clone();
        let resolved = if hangs { None } else { within(PATIENCE, move || resolve(&asked)) };
        hangs = resolved.is_none();
        let system = resolved.unwrap_or_else(|| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let mut facts = Facts {
            name,
            hosts: in_hosts(&hosts, name),
            system,
            dns: records,
            back: Vec::new(),
            own: &own,
            known: names,
        };
        facts.back = facts
            .addresses()
            .into_iter()
            .filter_map(|address| Some((address, dns.names(address).ok()?)))
            .filter(|(_, names)| !names.is_empty())
            .collect();
        checks.extend(judge(&facts));
    }
    if let Some(why) = silent {
        checks.push(Check::warning(
            DNS,
            format!("no name server of /etc/resolv.conf answers ({why}): what clients get for these names is not known"),
            "name a server in /etc/resolv.conf that knows the clients' names",
        ));
    }
    checks
}

impl Facts<'_> {
    /// What clients get, as far as that can be told from here.
    fn addresses(&self) -> Vec<IpAddr> {
        let records = self.dns.as_deref().unwrap_or_default();
        let mut addresses: Vec<IpAddr> = records
            .iter()
            .filter_map(|record| if let Record::Address(address) = record { Some(*address) } else { None })
            .collect();
        if addresses.is_empty() {
            addresses = self.system.clone().unwrap_or_default();
        }
        if addresses.is_empty() {
            addresses.clone_from(&self.hosts);
        }
        addresses
    }

    /// The name that it is an alias of, at the end of all aliases.
    fn alias(&self) -> Option<&str> {
        let aliases = self.dns.as_deref().unwrap_or_default().iter().rev();
        aliases
            .filter_map(|record| if let Record::Alias(name) = record { Some(name.as_str()) } else { None })
            .next()
    }
}

/// Every problem of a name, or that there is none.
fn judge(facts: &Facts<'_>) -> Vec<Check> {
    let Facts { name, hosts, system, dns, back, own, known } = facts;
    let addresses = facts.addresses();
    let shown = || addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if addresses.is_empty() {
        let why = match (dns, system) {
            (Err(NoRecords::NoSuchName), _) => "the name servers say that there is none".to_owned(),
            (Ok(_), _) => "it has no address".to_owned(),
            (_, Err(why)) => why.clone(),
            (Err(NoRecords::Silent(why)), Ok(_)) => why.clone(),
        };
        return vec![Check::failed(
            NAME,
            format!("{name} cannot be resolved: {why}"),
            "publish an A or AAAA record with this gateway's address",
        )];
    }
    let mut problems = Vec::new();
    if let Some(alias) = facts.alias() {
        let remedy = format!("make {name} an A or AAAA record of its own");
        problems.push(if known.iter().any(|known| known == alias) {
            Check::warning(
                NAME,
                format!("{name} is an alias (CNAME) of {alias}: browsers ask for HTTP/{alias}, of which the keytab has a key"),
                remedy,
            )
        } else {
            Check::failed(
                NAME,
                format!("{name} is an alias (CNAME) of {alias}: browsers ask for HTTP/{alias}, and the keytab has no key of that"),
                format!("{remedy}; or give the account HTTP/{alias} as well, and export that key, too"),
            )
        });
    }
    let is_own = |address: &IpAddr| own.contains(address) || address.is_loopback();
    if !addresses.iter().any(is_own) {
        problems.push(Check::warning(
            NAME,
            format!("{name} is {}, which is not this host", shown()),
            "right behind a load balancer or NAT, if all its gateways have the same keytab; else correct the record",
        ));
    }
    for (address, names) in back {
        // That it is an alias was said already.
        let is_told = |back: &String| known.contains(back) || facts.alias() == Some(back.as_str());
        if !names.iter().any(is_told) {
            problems.push(Check::warning(
                NAME,
                format!(
                    "{name} is {address}, which leads back to {}: clients that go by that ask for a key that the keytab lacks",
                    names.join(", ")
                ),
                format!("let the PTR record of {address} be {name}, or set rdns = false in the clients' krb5.conf"),
            ));
        }
    }
    if matches!(dns, Err(NoRecords::NoSuchName)) {
        problems.push(Check::warning(
            NAME,
            format!("{name} is {} on this host only: the name servers do not know it", shown()),
            "publish an A or AAAA record, if clients do not have it in a file of their own",
        ));
    }
    if problems.is_empty() {
        problems.push(Check::ok(NAME, well(facts, &shown(), hosts)));
    }
    problems
}

/// How a name stands that nothing is wrong with.
fn well(facts: &Facts<'_>, shown: &str, hosts: &[IpAddr]) -> String {
    let by = match (&facts.dns, hosts) {
        (Ok(_), []) => "by address records in DNS",
        (Ok(_), _) => "by address records in DNS, and in /etc/hosts",
        (Err(_), []) => "by the system's resolver",
        (Err(_), _) => "by /etc/hosts: clients need it in theirs, or in DNS",
    };
    let back = match facts.back.as_slice() {
        [] => String::new(),
        _ => ", and leads back".to_owned(),
    };
    format!("{} is {shown}, this host, {by}{back}", facts.name)
}

fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 0).to_socket_addrs().map_err(|error| {
        // "failed to lookup address information: Name or service not known"
        let text = error.to_string();
        text.rsplit_once(": ").map_or(text.clone(), |(_, why)| why.to_owned())
    })?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// The addresses of a name in the text of `/etc/hosts`: an address, then its names, up to a `#`.
fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Report, State};
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A name that resolves to 192.0.2.1, which is this host's, by DNS.
    fn judged(change: impl FnOnce(&mut Facts<'_>)) -> (State, String) {
        let (own, known) = ([ip("192.0.2.1")], ["proxy.example.test".to_owned()]);
        let mut facts = Facts {
            name: "proxy.example.test",
            hosts: Vec::new(),
            system: Ok(vec![ip("192.0.2.1")]),
            dns: Ok(vec![Record::Address(ip("192.0.2.1"))]),
            back: vec![(ip("192.0.2.1"), vec!["proxy.example.test".into()])],
            own: &own,
            known: &known,
        };
        change(&mut facts);
        let checks = judge(&facts);
        assert!(checks.iter().all(|c| (c.state <= State::Ok) == c.remedy.is_none()), "{checks:?}");
        let said = checks.iter().map(|check| check.finding.clone()).collect::<Vec<_>>().join("\n");
        (Report::new(checks).worst, said)
    }

    #[test]
    fn a_name_with_an_address_record_of_this_host_is_good() {
        let (state, said) = judged(|_| {});
        assert_eq!(state, State::Ok);
        assert_eq!(
            said,
            "proxy.example.test is 192.0.2.1, this host, by address records in DNS, and leads back"
        );
        assert_eq!(judged(|facts| facts.back.clear()).0, State::Ok);
    }

    #[test]
    fn an_alias_is_judged_by_whether_its_name_has_a_key() {
        let alias = |name: &str| Ok(vec![Record::Alias(name.into()), Record::Address(ip("192.0.2.1"))]);
        let (state, said) = judged(|facts| facts.dns = alias("gate.example.test"));
        assert_eq!(state, State::Failed);
        assert!(said.contains("browsers ask for HTTP/gate.example.test"), "{said}");
        let known = ["proxy.example.test".to_owned(), "gate.example.test".to_owned()];
        let checks = judge(&Facts {
            name: "proxy.example.test",
            hosts: Vec::new(),
            system: Err("unasked".into()),
            dns: alias("gate.example.test"),
            back: vec![(ip("192.0.2.1"), vec!["gate.example.test".into()])],
            own: &[ip("192.0.2.1")],
            known: &known,
        });
        assert_eq!(Report::new(checks).worst, State::Warning);
    }

    #[test]
    fn a_name_in_the_hosts_file_is_fine_while_dns_says_nothing_else() {
        let (state, said) = judged(|facts| {
            facts.dns = Err(NoRecords::Silent("127.0.0.1: nobody listens there".into()));
            facts.hosts = vec![ip("192.0.2.1")];
        });
        assert!(state == State::Ok && said.contains("by /etc/hosts"), "{said}");
        let (state, said) = judged(|facts| facts.dns = Err(NoRecords::NoSuchName));
        assert!(state == State::Warning && said.contains("on this host only"), "{said}");
    }

    #[test]
    fn what_leads_elsewhere_or_nowhere_is_told() {
        let (state, said) = judged(|facts| {
            facts.dns = Err(NoRecords::NoSuchName);
            facts.system = Err("Name or service not known".into());
        });
        assert!(state == State::Failed && said.contains("cannot be resolved"), "{said}");
        let (state, said) = judged(|facts| facts.own = &[]);
        assert!(state == State::Warning && said.contains("not this host"), "{said}");
        let (state, said) =
            judged(|facts| facts.back = vec![(ip("192.0.2.1"), vec!["old.example.test".into()])]);
        assert!(state == State::Warning && said.contains("leads back to old.example.test"), "{said}");
    }

    #[test]
    fn the_hosts_file_is_read_as_the_system_does() {
        let text = "127.0.0.1 localhost\n# 192.0.2.9 proxy\n192.0.2.1\tgate Proxy # x proxy2\n2001:db8::1 proxy\nbroken proxy\n";
        assert_eq!(in_hosts(text, "proxy"), [ip("192.0.2.1"), ip("2001:db8::1")]);
        assert!(in_hosts(text, "proxy2").is_empty() && in_hosts(text, "x").is_empty());
    }
}

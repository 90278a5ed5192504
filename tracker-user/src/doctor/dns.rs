//! Questions to the name servers of `/etc/resolv.conf`. The system's resolver answers with addresses, from wherever; what a
//! browser goes by is in the records: whether a name is an alias, and what an address leads back to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, RCODE, TYPE};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// How long one server is waited for, twice. One that is silent is not asked again.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// An answer by UDP without extensions is no longer (RFC 1035); servers may send more all the same.
const LARGEST: usize = 4_096;

/// The part of a record that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME: the name is another one's.
    Alias(String),
    /// PTR: the name of an address.
    Pointer(String),
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoRecords {
    /// The servers say that there is no such name.
    NoSuchName,
    /// No server answers, or none that knows.
    Silent(String),
}

/// The name servers.
#[derive(Debug)]
pub(super) struct Dns {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    /// What became of the servers that are not asked any more.
    failures: Vec<String>,
    asked: u16,
}

impl Dns {
    /// The servers that this host is configured with.
    pub(super) fn of_this_host() -> Self {
        let text = std::fs::read(RESOLV_CONF).unwrap_or_default();
        // A line that is not understood is left out, as the system's resolver does.
        let (config, _) = resolv_conf::Config::parse_with_errors(&text);
        let servers = config.get_nameservers_or_local();
        Self {
            servers: servers.into_iter().map(|server| SocketAddr::new(server.into(), PORT)).collect(),
            search: config.get_last_search_or_domain().cloned().collect(),
            failures: Vec::new(),
            asked: 0,
        }
    }

    /// The addresses of a name, and what it is an alias of. A name without a dot is looked for in the domains that are searched.
    pub(super) fn addresses(&mut self, name: &str) -> Result<Vec<Record>, NoRecords> {
        let mut names = vec![name.to_owned()];
        if !name.contains('.') {
            names = self.search.iter().map(|domain| format!("{name}.{domain}")).chain(names).collect();
        }
        let mut last = Err(NoRecords::NoSuchName);
        for name in names {
            let mut found = self.records(&name, TYPE::A);
            if let Ok(records) = &mut found {
                // It exists: that is enough for an answer, with or without addresses of the other family.
                let more = self.records(&name, TYPE::AAAA).unwrap_or_default();
                records.extend(more.into_iter().filter(|record| matches!(record, Record::Address(_))));
            }
            match found {
                Err(NoRecords::NoSuchName) => last = found,
                found => return found,
            }
        }
        last
    }

    /// The names that an address leads back to.
    pub(super) fn names(&mut self, address: IpAddr) -> Result<Vec<String>, NoRecords> {
        let records = self.records(&reverse(address), TYPE::PTR)?;
        let name = |record| if let Record::Pointer(name) = record { Some(name) } else { None };
        Ok(records.into_iter().filter_map(name).collect())
    }

    fn records(&mut self, name: &str, kind: TYPE) -> Result<Vec<Record>, NoRecords> {
        while let Some(server) = self.servers.first().copied() {
            self.asked = self.asked.wrapping_add(1);
            let answer = exchange(server, self.asked, name, kind);
            match answer {
                Ok(answer) => return answer,
                Err(error) => {
                    let why = match error.kind() {
                        _ if is_silence(&error) => format!("no answer within {} s", (PATIENCE * 2).as_secs()),
                        io::ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
                        _ => error.to_string(),
                    };
                    self.failures.push(format!("{}: {why}", server.ip()));
                    self.servers.remove(0);
                }
            }
        }
        Err(NoRecords::Silent(self.failures.join(", ")))
    }
}

/// Asks one server. The outer error is the server's failure to answer.
fn exchange(
    server: SocketAddr,
    id: u16,
    name: &str,
    kind: TYPE,
) -> io::Result<Result<Vec<Record>, NoRecords>> {
    let bad = |error: simple_dns::SimpleDnsError| io::Error::other(error.to_string());
    let mut query = Packet::new_query(id);
    query.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).map_err(bad)?;
    query.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    let query = query.build_bytes_vec().map_err(bad)?;

    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; LARGEST];
    let mut ask = || socket.send(&query).and_then(|_| socket.recv(&mut buffer));
    // A datagram can be lost.
    let length = ask().or_else(|error| if is_silence(&error) { ask() } else { Err(error) })?;
    let answer = Packet::parse(buffer.get(..length).unwrap_or_default()).map_err(bad)?;
    if answer.id() != id {
        return Err(io::Error::other("an answer to another question"));
    }
    match answer.rcode() {
        RCODE::NoError => Ok(Ok(records(&answer))),
        RCODE::NameError => Ok(Err(NoRecords::NoSuchName)),
        other => Err(io::Error::other(format!("the server answers {other:?}"))),
    }
}

/// Whether it was waited for in vain.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn records(answer: &Packet<'_>) -> Vec<Record> {
    let record = |data: &RData<'_>| match data {
        RData::A(a) => Some(Record::Address(Ipv4Addr::from(a.address).into())),
        RData::AAAA(aaaa) => Some(Record::Address(Ipv6Addr::from(aaaa.address).into())),
        RData::CNAME(name) => Some(Record::Alias(name.0.to_string().to_ascii_lowercase())),
        RData::PTR(name) => Some(Record::Pointer(name.0.to_string().to_ascii_lowercase())),
        _ => None,
    };
    answer.answers.iter().filter_map(|answer| record(&answer.rdata)).collect()
}

/// The name under which an address' names stand.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits = v6.octets().into_iter().rev().flat_map(|byte| [byte & 0xf, byte >> 4]);
            digits.map(|digit| format!("{digit:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_backwards() {
        assert_eq!(reverse("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            reverse("2001:db8::567:89ab".parse().unwrap()),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }

    #[test]
    fn a_server_that_does_not_answer_is_asked_once() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut dns = Dns { servers: vec![closed], search: Vec::new(), failures: Vec::new(), asked: 0 };
        let silent = NoRecords::Silent("127.0.0.1: nobody listens there".to_owned());
        assert_eq!(dns.addresses("proxy.example.test"), Err(silent.clone()));
        assert_eq!(dns.names("192.0.2.1".parse().unwrap()), Err(silent));
        assert_eq!(dns.asked, 1);
    }
}

//! Asks the KDC what it makes of a keytab's services: does it know them, under which key does it give tickets for them, and
//! does the keytab open those. That is what a browser's ticket will meet.
//!
//! A service logs in as itself and asks for a ticket to itself: one question. Where the KDC lets no service log in (Active
//! Directory, unless the account's UPN is the service's name), another principal of the keytab does, such as the machine's
//! account, and asks for the service as a browser's user would. Where there is none, a ticket of whoever runs this will do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::Sender;

use jiff::{SignedDuration, Timestamp};

use super::credential::{self, KdcLine, KeytabEntry};
pub use super::credential::{Refusal, Why};
use super::kdc_reply::{self, Reply};
use super::negotiate::{self, KeytabProblem};

/// So many principals of a realm are tried to log in with, where a service cannot.
const LOGINS: usize = 8;
/// ServiceAnswer for where no answer told the time: any refusal does.
const NOBODY: &str = "tracker-doctor/asks-the-time";

/// What the probe has come to know, as it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeEvent {
    /// The library turned to a KDC.
    Tried(Place),
    /// A KDC answered.
    Answered(Place),
    /// The library looks for the address of a KDC of this name.
    Resolving(String),
    /// The library looked for KDCs in DNS, under this name.
    LookedFor(String),
    /// From now on it is this realm that is asked.
    Realm(String),
    /// The realm is not asked any more.
    Unreachable {
        /// The realm.
        realm: String,
        /// Why.
        refusal: Refusal,
    },
    /// The KDC's clock minus this host's.
    Clock {
        /// Whose KDC.
        realm: String,
        /// By how much it is ahead.
        ahead: SignedDuration,
    },
    /// A service, and all there is to know of it.
    Service(ServiceAnswer),
}

/// Where a KDC is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `UDP` or `TCP`.
    pub protocol: &'static str,
    /// Address and port.
    pub address: String,
}

/// What the KDC said of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAnswer {
    /// The service, with its realm.
    pub service: String,
    /// The ticket, or why there was none.
    pub answer: Result<Ticket, Refusal>,
    /// Who asked, if not the service itself.
    pub by: Option<String>,
    /// Where nobody could ask: another principal of the keytab that the KDC knows but does not let in, and why.
    pub shut_out: Option<(String, Refusal)>,
}

/// A ticket to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The version of the key that it is made with, if the KDC says so.
    pub version: Option<u32>,
    /// Its encryption type.
    pub enctype: i32,
    /// Whether a key of the keytab opens it.
    pub opens: bool,
}

/// The encryption types that the Kerberos configuration permits, by number.
///
/// # Errors
/// In the library's words, when there is no telling.
pub fn permitted() -> Result<Vec<i32>, String> {
    credential::permitted().map_err(|error| error.text)
}

/// The realm of names without one, if krb5.conf has one.
#[must_use]
pub fn default_realm() -> Option<String> {
    credential::realms().ok()?.default
}

/// Asks for `services` (names with a realm), and tells what comes of it. Blocks, and may do so for long where a KDC is
/// silent. Whoever listens may go away.
///
/// # Errors
/// When the keytab cannot be read.
pub fn probe(
    keytab: Option<&Path>,
    services: &[String],
    events: &Sender<ProbeEvent>,
) -> Result<(), KeytabProblem> {
    let entries = negotiate::entries(keytab)?;
    let traced_events = events.clone();
    let traced = move |line: &str| {
        if let Some(event) = traced_event(line) {
            // Nobody listens any more: then nobody needs to know.
            let _ = traced_events.send(event);
        }
    };
    let line = KdcLine::open(keytab, traced);
    let line = line.map_err(|error| negotiate::unusable(keytab, error))?;
    let mut probe = Probe { line, events, clocks: BTreeSet::new() };
    let mut realms: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for service in services {
        realms.entry(realm_of(service)).or_default().push(service);
    }
    for (realm, services) in realms {
        probe.report(ProbeEvent::Realm(realm.to_owned()));
        if let Err(refusal) = probe.realm(realm, &services, &entries) {
            probe.report(ProbeEvent::Unreachable { realm: realm.to_owned(), refusal });
        }
    }
    Ok(())
}

/// The part behind the last `@`; empty for a name without.
fn realm_of(principal: &str) -> &str {
    principal.rsplit_once('@').map_or("", |(_, realm)| realm)
}

/// What a line of the library's trace tells: `[PID] TIME: TEXT`.
fn traced_event(line: &str) -> Option<ProbeEvent> {
    let line = line.trim_end();
    if let Some((_, name)) = line.split_once("Sending DNS SRV query for ") {
        return Some(ProbeEvent::LookedFor(name.trim_end_matches('.').to_owned()));
    }
    if let Some((_, name)) = line.split_once("Resolving hostname ") {
        return Some(ProbeEvent::Resolving(name.to_owned()));
    }
    let place = |(kind, protocol)| {
        let (_, rest) = line.split_once(kind)?;
        let address = rest.split_whitespace().next()?.trim_end_matches(':');
        Some(Place { protocol, address: address.to_owned() })
    };
    let place = [(" dgram ", "UDP"), (" stream ", "TCP")].into_iter().find_map(place)?;
    Some(if line.contains("Received answer") {
        ProbeEvent::Answered(place)
    } else {
        ProbeEvent::Tried(place)
    })
}

/// A question about a service that has no ticket yet, and why.
struct Open<'a> {
    service: &'a str,
    refusal: Option<Refusal>,
}

struct Probe<'a> {
    line: KdcLine,
    events: &'a Sender<ProbeEvent>,
    /// The realms whose clock is known.
    clocks: BTreeSet<String>,
}

impl Probe<'_> {
    fn report(&self, event: ProbeEvent) {
        let _ = self.events.send(event);
    }

    /// Asks for the services of one realm. Fails when the realm does not answer.
    fn realm(&mut self, realm: &str, services: &[&str], entries: &[KeytabEntry]) -> Result<(), Refusal> {
        let mut principals: Vec<&str> = Vec::new();
        for entry in entries.iter().filter(|entry| realm_of(&entry.principal) == realm) {
            if !principals.contains(&entry.principal.as_str()) {
                principals.push(&entry.principal);
            }
        }
        let mut open = Vec::new();
        // Who has logged in, before those who have not tried.
        let mut able: Vec<&str> = Vec::new();
        let mut unable: Vec<&str> = Vec::new();
        for service in services {
            if !principals.contains(service) {
                open.push(Open { service, refusal: None });
                continue;
            }
            let (refused, ticket) = self.log_in(realm, service, Some(service))?;
            match ticket {
                Some(ticket) => {
                    self.report(ProbeEvent::Service(ServiceAnswer {
                        service: (*service).into(),
                        answer: Ok(ticket),
                        by: None,
                        shut_out: None,
                    }));
                }
                None => open.push(Open { service, refusal: refused.clone() }),
            }
            if refused.is_none() { able.push(service) } else { unable.push(service) }
        }
        let untried = principals.iter().filter(|name| !able.contains(name) && !unable.contains(name));
        let candidates: Vec<&str> = able.iter().chain(untried).copied().take(LOGINS).collect();
        self.ask_for(realm, &open, &candidates)?;
        if !self.clocks.contains(realm)
            && let Some(anybody) = principals.first()
        {
            self.log_in(realm, anybody, Some(NOBODY))?;
        }
        Ok(())
    }

    /// Asks for services as a user does, with the ticket that the first of `candidates` gets who is let in, else with one of
    /// whoever runs this.
    fn ask_for(&mut self, realm: &str, open: &[Open<'_>], candidates: &[&str]) -> Result<(), Refusal> {
        if open.is_empty() {
            return Ok(());
        }
        let mut by = None;
        let known = |refusal: &Refusal| refusal.why != Why::ClientUnknown;
        let refused = open.iter().filter_map(|open| Some((open.service.to_owned(), open.refusal.clone()?)));
        let mut shut_out = refused.into_iter().find(|(_, refusal)| known(refusal));
        for candidate in candidates {
            let Some(refusal) = self.log_in(realm, candidate, None)?.0 else {
                by = Some((*candidate).to_owned());
                break;
            };
            if shut_out.is_none() && known(&refusal) {
                shut_out = Some(((*candidate).to_owned(), refusal));
            }
        }
        if by.is_none() {
            // No ticket is no reason to say anything: who runs this need not be a user of the realm.
            by = self.line.borrow(realm).ok();
            self.read_replies(realm, None);
        }
        for Open { service, refusal } in open {
            let answer = match &by {
                Some(by) => {
                    let refused = self.line.ask(by, service).err();
                    let ticket = self.read_replies(realm, None);
                    let ticket = ticket.ok_or_else(|| refused.unwrap_or_else(silence));
                    ServiceAnswer {
                        service: (*service).to_owned(),
                        answer: ticket,
                        by: Some(by.clone()),
                        shut_out: None,
                    }
                }
                None => {
                    let shut_out = shut_out.clone().filter(|_| !refusal.as_ref().is_some_and(known));
                    let answer = Err(refusal.clone().unwrap_or_else(nobody));
                    ServiceAnswer { service: (*service).to_owned(), answer, by: None, shut_out }
                }
            };
            self.report(ProbeEvent::Service(answer));
        }
        Ok(())
    }

    /// Logs in. What was said is the refusal, if it was one, and the ticket, which a refused client may have been sent too:
    /// it could not make use of it. Fails when the realm does not answer.
    fn log_in(
        &mut self,
        realm: &str,
        client: &str,
        service: Option<&str>,
    ) -> Result<(Option<Refusal>, Option<Ticket>), Refusal> {
        let outcome = self.line.log_in(client, service);
        let ticket = self.read_replies(realm, outcome.as_ref().ok().copied());
        match outcome {
            Err(refusal) if matches!(refusal.why, Why::NoAnswer | Why::NoAddress | Why::NoRealm) => {
                Err(refusal)
            }
            outcome => Ok((outcome.err(), ticket)),
        }
    }

    /// What the KDC said to the last question: its time, told on, and the last ticket.
    fn read_replies(&mut self, realm: &str, seconds: Option<i64>) -> Option<Ticket> {
        let mut found = None;
        let mut clock = None;
        for reply in self.line.replies() {
            match kdc_reply::read(&reply.message) {
                Some(Reply::Refusal(theirs)) => clock = Some(theirs.duration_since(reply.at)),
                Some(Reply::Ticket { version, enctype, der }) => {
                    found = Some(Ticket { version, enctype, opens: self.line.opens(der) });
                    // It has whole seconds only: a refusal, which has more, counts before it.
                    let theirs = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
                    clock = clock.or_else(|| theirs.map(|theirs| within_second(theirs, reply.at)));
                }
                None => {}
            }
        }
        if let Some(ahead) = clock
            && self.clocks.insert(realm.to_owned())
        {
            self.report(ProbeEvent::Clock { realm: realm.to_owned(), ahead });
        }
        found
    }
}

/// The difference to a time of which only the second is known: the middle of what that leaves open, or none if that is one
/// of the possibilities.
fn within_second(theirs: Timestamp, ours: Timestamp) -> SignedDuration {
    const HALF: SignedDuration = SignedDuration::from_millis(500);
    let middle = theirs.duration_since(ours).saturating_add(HALF);
    if middle.abs() <= HALF { SignedDuration::ZERO } else { middle }
}

fn silence() -> Refusal {
    Refusal { why: Why::Other, text: "the KDC's answer has no ticket".to_owned() }
}

fn nobody() -> Refusal {
    Refusal { why: Why::Other, text: "no principal of the keytab may log in to ask for it".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MIT Kerberos 1.20 says it.
    #[test]
    fn the_trace_tells_whom_the_library_turned_to() {
        let place = |protocol, address: &str| Place { protocol, address: address.into() };
        for (line, event) in [
            (
                "Sending initial UDP request to dgram 10.77.0.1:88",
                Some(ProbeEvent::Tried(place("UDP", "10.77.0.1:88"))),
            ),
            (
                "TCP error connecting to stream [fd77::1]:88: 111/Connection refused",
                Some(ProbeEvent::Tried(place("TCP", "[fd77::1]:88"))),
            ),
            (
                "Received answer (240 bytes) from dgram 10.77.0.1:88",
                Some(ProbeEvent::Answered(place("UDP", "10.77.0.1:88"))),
            ),
            (
                "Sending DNS SRV query for _kerberos._udp.EXAMPLE.TEST.",
                Some(ProbeEvent::LookedFor("_kerberos._udp.EXAMPLE.TEST".into())),
            ),
            ("Resolving hostname kdc.example.test", Some(ProbeEvent::Resolving("kdc.example.test".into()))),
            ("Getting initial credentials for HTTP/proxy.example.test@EXAMPLE.TEST", None),
        ] {
            assert_eq!(traced_event(&format!("[4711] 1785499200.123456: {line}\n")), event, "{line}");
        }
    }

    #[test]
    fn a_time_of_whole_seconds_is_not_taken_to_be_exact() {
        let ours: Timestamp = "2026-07-31T12:00:00.7Z".parse().unwrap();
        let ahead = |theirs: &str| within_second(theirs.parse().unwrap(), ours).as_millis();
        assert_eq!(ahead("2026-07-31T12:00:00Z"), 0);
        assert_eq!(ahead("2026-07-31T12:00:01Z"), 800);
        assert_eq!(ahead("2026-07-31T11:59:59Z"), -1_200);
        assert_eq!(ahead("2026-07-31T12:10:00Z"), 599_800);
    }

    #[test]
    fn the_realm_is_what_stands_last() {
        assert_eq!(realm_of("HTTP/a@b@EXAMPLE.TEST"), "EXAMPLE.TEST");
        assert_eq!(realm_of("alice"), "");
    }
}

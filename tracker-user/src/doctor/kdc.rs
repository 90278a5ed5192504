//! The KDC: whether it answers, what it makes of the keytab's services, and how its clock stands to ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use jiff::SignedDuration;

use super::kerberos::Services;
use super::{Check, Entries, listed};
use crate::auth::kerberos::enctype;
use crate::auth::kerberos::kdc_probe::{self, Place, ProbeEvent, Refusal, ServiceAnswer, Ticket, Why};
use crate::auth::kerberos::negotiate::KeytabEntry;
use crate::clock::boot_now;

const KDC: &str = "kdc";
const KEY: &str = "service-key";
const CLOCK: &str = "clock";
/// A realm of which no KDC has answered for so long is given up. The library itself would go on for some 15 s.
const SILENCE: Duration = Duration::from_secs(6);
/// All questions together take at most this long.
const PATIENCE: Duration = Duration::from_secs(20);
/// Kerberos refuses what is older or newer (`clockskew` in krb5.conf, and Active Directory's policy).
const TOO_MUCH: SignedDuration = SignedDuration::from_mins(5);
/// What helps where no principal of the keytab can ask.
const BORROWED: &str =
    "run kinit as any user of the realm and trackerctl doctor again, which then asks with that user's ticket";
/// Clocks that are looked after do not differ by that much.
const SUSPICIOUS: SignedDuration = SignedDuration::from_secs(60);

pub(super) fn checks(entries: &Entries, services: &Services, keytab: Option<&Path>) -> Vec<Check> {
    let Ok(entries) = entries else {
        return vec![Check::skipped(KDC, "without a keytab there is nothing to ask a KDC about")];
    };
    if services.principals.is_empty() {
        return vec![Check::skipped(KDC, "the keytab has no service to ask a KDC about")];
    }
    let mut minutes = Minutes::default();
    listen(keytab, &services.principals, &mut minutes);
    let mut checks = minutes.checks(entries, &services.principals);
    if services.left_out > 0 {
        checks.push(Check::skipped(KEY, format!("{} more services were not asked about", services.left_out)));
    }
    checks
}

/// Has the questions asked on a thread that is left behind if they take too long.
fn listen(keytab: Option<&Path>, services: &[String], minutes: &mut Minutes) {
    let (tell, told) = mpsc::channel();
    let (keytab, services) = (keytab.map(Path::to_path_buf), services.to_vec());
    let asks = thread::Builder::new()
        .name("doctor-kdc".into())
        .spawn(move || kdc_probe::probe(keytab.as_deref(), &services, &tell));
    let begun = boot_now();
    let mut realm_begun = begun;
    loop {
        let left = PATIENCE.saturating_sub(boot_now().since(begun));
        let silent = minutes.realms.last().is_none_or(|realm| realm.answered.is_empty());
        let patience =
            if silent { left.min(SILENCE.saturating_sub(boot_now().since(realm_begun))) } else { left };
        match told.recv_timeout(patience) {
            Ok(event) => {
                if matches!(event, ProbeEvent::Realm(_)) {
                    realm_begun = boot_now();
                }
                minutes.note(event);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => return minutes.give_up(),
        }
    }
    if let Ok(asks) = asks
        && let Ok(Err(problem)) = asks.join()
    {
        minutes.problem = Some(problem.to_string());
    }
}

/// A realm, as far as it was asked.
#[derive(Debug, Default)]
struct Realm {
    name: String,
    /// Addresses, each with the protocols.
    tried: BTreeMap<String, BTreeSet<&'static str>>,
    answered: BTreeMap<String, BTreeSet<&'static str>>,
    /// Names of KDCs that were to be resolved.
    resolved: BTreeSet<String>,
    /// Names under which KDCs were looked for in DNS.
    looked_for: BTreeSet<String>,
    /// It took too long.
    given_up: bool,
    unreachable: Option<Refusal>,
}

/// What was said, in order.
#[derive(Debug, Default)]
struct Minutes {
    realms: Vec<Realm>,
    clocks: Vec<(String, SignedDuration)>,
    services: Vec<ServiceAnswer>,
    problem: Option<String>,
}

impl Minutes {
    fn note(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Realm(name) => self.realms.push(Realm { name, ..Realm::default() }),
            ProbeEvent::Clock { realm, ahead } => self.clocks.push((realm, ahead)),
            ProbeEvent::Service(asked) => self.services.push(asked),
            event => {
                if let Some(realm) = self.realms.last_mut() {
                    realm.note(event);
                }
            }
        }
    }

    /// The realm that was being asked has not answered in time.
    fn give_up(&mut self) {
        if let Some(realm) = self.realms.last_mut() {
            realm.given_up = true;
        }
    }

    fn checks(&self, entries: &[KeytabEntry], services: &[String]) -> Vec<Check> {
        let mut checks: Vec<Check> = self.realms.iter().map(Realm::check).collect();
        let asked = |service: &String| self.services.iter().find(|asked| asked.service == *service);
        checks.extend(services.iter().filter_map(asked).map(|asked| service_check(asked, entries)));
        let rest: Vec<String> = services.iter().filter(|service| asked(service).is_none()).cloned().collect();
        checks.extend(unasked(rest, entries));
        checks.extend(self.clocks.iter().map(|(realm, ahead)| clock_check(realm, *ahead)));
        if self.clocks.is_empty() {
            checks.push(Check::skipped(CLOCK, "no KDC has told its time"));
        }
        if let Some(problem) = &self.problem {
            checks.push(Check::failed(KDC, problem.clone(), "see docs/OPERATIONS.md, Kerberos"));
        }
        checks
    }
}

/// `192.0.2.1:88 by TCP and UDP`
fn places(places: &BTreeMap<String, BTreeSet<&'static str>>) -> String {
    let words = |(address, protocols): (&String, &BTreeSet<&'static str>)| {
        let protocols: Vec<String> = protocols.iter().map(|protocol| (*protocol).to_owned()).collect();
        format!("{address} by {}", listed(&protocols))
    };
    listed(&places.iter().map(words).collect::<Vec<_>>())
}

impl Realm {
    fn note(&mut self, event: ProbeEvent) {
        match event {
            ProbeEvent::Tried(Place { protocol, address }) => {
                self.tried.entry(address).or_default().insert(protocol);
            }
            ProbeEvent::Answered(Place { protocol, address }) => {
                self.answered.entry(address).or_default().insert(protocol);
            }
            ProbeEvent::Resolving(name) => {
                self.resolved.insert(name);
            }
            ProbeEvent::LookedFor(name) => {
                self.looked_for.insert(name);
            }
            ProbeEvent::Unreachable { refusal, .. } => self.unreachable = Some(refusal),
            ProbeEvent::Realm(_) | ProbeEvent::Clock { .. } | ProbeEvent::Service(_) => {}
        }
    }

    /// Who says where the KDCs are.
    fn source(&self) -> &'static str {
        if self.looked_for.is_empty() { "from krb5.conf" } else { "from DNS" }
    }

    fn check(&self) -> Check {
        let Self { name, tried, answered, .. } = self;
        if self.unreachable.is_none() && !answered.is_empty() {
            let late = if self.given_up { ", but not to all questions in time" } else { "" };
            let finding = format!("{name}: a KDC answers at {} ({}){late}", places(answered), self.source());
            return if self.given_up {
                Check::warning(
                    KDC,
                    finding,
                    "run trackerctl doctor again; see the KDC's load, and the network to it",
                )
            } else {
                Check::ok(KDC, finding)
            };
        }
        let within = if self.given_up { format!(" within {} s", SILENCE.as_secs()) } else { String::new() };
        if !tried.is_empty() {
            return Check::failed(
                KDC,
                format!("{name}: no KDC answers{within}; tried {} ({})", places(tried), self.source()),
                "see that the KDC runs, and that its port is open from here by UDP and TCP. The gateway can accept tickets \
                 without the KDC, but clients get theirs from it",
            );
        }
        self.not_found(&within)
    }

    /// There is no address of a KDC.
    fn not_found(&self, within: &str) -> Check {
        let Self { name, resolved, looked_for, unreachable, .. } = self;
        let names = |names: &BTreeSet<String>| listed(&names.iter().cloned().collect::<Vec<_>>());
        if !resolved.is_empty() {
            return Check::failed(
                KDC,
                format!(
                    "{name}: the KDC's name cannot be resolved{within}: {} ({})",
                    names(resolved),
                    self.source()
                ),
                format!("correct the name in krb5.conf ([realms] {name}) or the SRV records; or mend DNS"),
            );
        }
        let searched = if looked_for.is_empty() {
            "krb5.conf names none".to_owned()
        } else {
            format!("krb5.conf names none, and DNS tells of none{within} under {}", names(looked_for))
        };
        let words = unreachable.as_ref().map_or_else(String::new, |refusal| format!(": {}", refusal.text));
        Check::failed(
            KDC,
            format!("{name}: no KDC is known for this realm; {searched}{words}"),
            format!(
                "name one in krb5.conf ([realms] {name} = {{ kdc = ... }}), or publish SRV records _kerberos._udp.{name} \
                 and _kerberos._tcp.{name}; if the realm's name is wrong, export the keytab again"
            ),
        )
    }
}

/// The services that the KDC was not asked about, as it did not answer.
fn unasked(services: Vec<String>, entries: &[KeytabEntry]) -> Vec<Check> {
    let has_key = |service: &String| entries.iter().any(|entry| entry.principal == *service);
    let (known, unknown): (Vec<String>, Vec<String>) = services.into_iter().partition(has_key);
    let warning = |service: &String| {
        Check::warning(
            KEY,
            format!(
                "{service}: clients use this name, the keytab has no key of it, and the KDC could not be asked"
            ),
            "add its key to the keytab; none is needed where the name belongs to the account of another key in it",
        )
    };
    let mut checks: Vec<Check> = unknown.iter().map(warning).collect();
    if !known.is_empty() {
        checks.push(Check::skipped(KEY, format!("the KDC could not be asked about {}", listed(&known))));
    }
    checks
}

fn clock_check(realm: &str, ahead: SignedDuration) -> Check {
    let by = ahead.abs();
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let measured = if by < SignedDuration::from_secs(1) {
        "the KDC's clock and this host's agree within a second".to_owned()
    } else {
        format!("the KDC's clock is {} {direction} this host's", span(by))
    };
    let finding = format!("{realm}: {measured}");
    let remedy = "set both clocks by the same time service (chrony, systemd-timesyncd; Active Directory: w32tm on the DC)";
    if by >= TOO_MUCH {
        Check::failed(CLOCK, format!("{finding}: beyond five minutes tickets are refused"), remedy)
    } else if by >= SUSPICIOUS {
        Check::warning(CLOCK, format!("{finding}; from five minutes on tickets are refused"), remedy)
    } else {
        Check::ok(CLOCK, finding)
    }
}

/// `42 s`, `10 min 3 s`, `25 h 10 min`.
fn span(duration: SignedDuration) -> String {
    match duration.saturating_add(SignedDuration::from_millis(500)).as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// `HTTP/proxy.example.test` without its realm, as setspn wants it.
fn without_realm(principal: &str) -> &str {
    principal.rsplit_once('@').map_or(principal, |(name, _)| name)
}

fn service_check(asked: &ServiceAnswer, entries: &[KeytabEntry]) -> Check {
    let service = &asked.service;
    let keys: Vec<&KeytabEntry> = entries.iter().filter(|entry| entry.principal == *service).collect();
    let newest = keys.iter().map(|entry| entry.version).max();
    match &asked.answer {
        Ok(ticket) => ticket_check(service, *ticket, newest, &keys),
        Err(refusal) => match &asked.shut_out {
            Some((who, why)) => shut_out_check(service, who, why, entries),
            None => refusal_check(service, refusal, newest, asked.by.as_deref()),
        },
    }
}

/// Nobody could ask for the service; of `who` the KDC says at least why not.
fn shut_out_check(service: &str, who: &str, refusal: &Refusal, entries: &[KeytabEntry]) -> Check {
    let newest = entries.iter().filter(|entry| entry.principal == who).map(|entry| entry.version).max();
    let version = newest.map_or_else(String::new, |newest| format!(" (version {newest})"));
    if refusal.why == Why::WrongKey {
        return Check::failed(
            KEY,
            format!(
                "{service}: could not be asked for; of {who} the KDC refuses the keytab's key{version}: it is not the \
                 account's present one"
            ),
            "export the account's keys again, of all its names, if the service is that account's; else take the old key out",
        );
    }
    Check::warning(
        KEY,
        format!("{service}: could not be asked for; {who} may not log in to do so: {}", refusal.text),
        format!("{BORROWED}; or let {who} log in"),
    )
}

fn ticket_check(service: &str, ticket: Ticket, newest: Option<u32>, keys: &[&KeytabEntry]) -> Check {
    let Ticket { version, enctype, opens } = ticket;
    let words = enctype::in_words(enctype);
    let theirs = match version {
        Some(version) => format!("the KDC's key is version {version}, {words}"),
        None => format!("the KDC's key is {words}, of a version that it does not tell"),
    };
    if opens {
        let how =
            if newest.is_some() { "the keytab has it" } else { "the keytab has it, under another name" };
        let finding = format!("{service}: {theirs}; {how}");
        return if enctype::is_weak(enctype) {
            Check::warning(
                KEY,
                format!("{finding}. Today's KDCs and clients refuse such tickets by default"),
                "let the account have AES (Active Directory: 24 in msDS-SupportedEncryptionTypes, then a new password; \
                 kadmin: ktadd), and export its key again",
            )
        } else {
            Check::ok(KEY, finding)
        };
    }
    let name = without_realm(service);
    let again = format!(
        "export the key again (kadmin: ktadd {name}; Active Directory: ktpass for the account that setspn -Q {name} names); \
         trackerd takes the new keytab up by itself"
    );
    let Some(newest) = newest else {
        return Check::failed(
            KEY,
            format!("{service}: {theirs}, and the keytab has no key that opens its tickets"),
            format!(
                "add its key to the keytab (kadmin: ktadd {name}). Active Directory: if setspn -Q {name} names the keytab's \
                 account, that has got a new key since: export it again; else move the name there (setspn -D, setspn -S)"
            ),
        );
    };
    let same_version = |entry: &&&KeytabEntry| version.is_none_or(|version| entry.version == version);
    let held: Vec<String> =
        keys.iter().filter(same_version).map(|entry| enctype::in_words(entry.enctype)).collect();
    let has_enctype = keys.iter().filter(same_version).any(|entry| entry.enctype == enctype);
    match version {
        Some(version) if held.is_empty() && version > newest => Check::failed(
            KEY,
            format!(
                "{service}: {theirs}; the newest in the keytab is version {newest}: the account has got a new key since"
            ),
            again,
        ),
        Some(version) if held.is_empty() && version < newest => Check::failed(
            KEY,
            format!(
                "{service}: {theirs}; the newest in the keytab is version {newest}: this KDC is behind, or the account was restored"
            ),
            format!("wait until the KDCs are of one state; if they are, {again}"),
        ),
        _ if !has_enctype && !held.is_empty() => Check::failed(
            KEY,
            format!("{service}: {theirs}, but the keytab has only {} of it", listed(&held)),
            format!("export it with all encryption types of the account (ktpass -crypto All), or: {again}"),
        ),
        _ => Check::failed(
            KEY,
            format!(
                "{service}: {theirs}, and the keytab's key of the same kind is another one: it is not this account's"
            ),
            format!("see which account has the name (setspn -Q {name}; twice: setspn -X), and {again}"),
        ),
    }
}

fn refusal_check(service: &str, refusal: &Refusal, newest: Option<u32>, by: Option<&str>) -> Check {
    let name = without_realm(service);
    let text = &refusal.text;
    let create = format!(
        "create it and export its key (kadmin: addprinc -randkey {name}, ktadd {name}; Active Directory: setspn -S {name} on \
         the keytab's account, whose key it has then). If Active Directory has it already, two accounts may have it, and it \
         answers the same: setspn -Q {name} lists them, setspn -X finds all such"
    );
    let asked = by.map_or_else(String::new, |by| format!(" (asked by {by})"));
    match refusal.why {
        Why::ServiceUnknown => Check::failed(
            KEY,
            format!("{service}: the KDC has no such service{asked}, or has it twice"),
            create,
        ),
        Why::ClientUnknown => Check::warning(
            KEY,
            format!(
                "{service}: could not be asked for: the KDC lets nobody log in by this name, nor by another of the keytab. \
                 Active Directory never does unless it is the account's UPN; MIT Kerberos does if there is such a service"
            ),
            format!("{BORROWED}. In MIT Kerberos: kadmin: addprinc -randkey {name}, ktadd {name}"),
        ),
        Why::Duplicate => Check::failed(
            KEY,
            format!("{service}: the KDC has this name for several accounts, and gives no ticket for it"),
            format!(
                "leave it to one account: setspn -Q {name} lists them, setspn -D {name} <account> takes it from one"
            ),
        ),
        Why::WrongKey => Check::failed(
            KEY,
            format!(
                "{service}: the KDC refuses the keytab's key{}: it is not the account's present one",
                newest.map_or_else(String::new, |newest| format!(" (version {newest})"))
            ),
            format!(
                "export the key again (kadmin: ktadd {name}; Active Directory: ktpass, which gives the account a new password)"
            ),
        ),
        Why::Locked => Check::failed(
            KEY,
            format!("{service}: the account is locked or disabled ({text})"),
            "enable or unlock the account: its key could not be tried, and clients may get no ticket for it until then",
        ),
        Why::Expired => Check::warning(
            KEY,
            format!(
                "{service}: the account's password has expired ({text}), so that its key could not be tried"
            ),
            "let service accounts' passwords not expire, and export the key anew",
        ),
        Why::Enctype => Check::failed(
            KEY,
            format!(
                "{service}: the KDC has no key of an encryption type that the keytab has and this host permits ({text})"
            ),
            "enable AES for the account (msDS-SupportedEncryptionTypes 24), give it a new password, and export its key again",
        ),
        Why::Skew => Check::failed(
            KEY,
            format!("{service}: the clocks differ by too much to ask ({text})"),
            "set the clocks first; see the check of the clock",
        ),
        Why::NoAnswer | Why::NoAddress | Why::NoRealm | Why::Other => Check::warning(
            KEY,
            format!("{service}: could not be asked for{asked}: {text}"),
            format!("{BORROWED}; kvno {name} shows what the KDC gives"),
        ),
    }
}

#[cfg(test)]
mod tests;

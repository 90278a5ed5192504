//! What is made of a KDC's answers, of its silence and of its clock.

use super::*;
use crate::doctor::State;

const PROXY: &str = "HTTP/proxy.example.test@EXAMPLE.TEST";

fn entry(version: u32, enctype: i32) -> KeytabEntry {
    KeytabEntry { principal: PROXY.into(), version, enctype }
}

fn ticket(version: Option<u32>, enctype: i32, opens: bool, entries: &[KeytabEntry]) -> Check {
    let answer = Ok(Ticket { version, enctype, opens });
    service_check(&ServiceAnswer { service: PROXY.into(), answer, by: None, shut_out: None }, entries)
}

#[test]
fn what_opens_is_good_whatever_the_numbers_say() {
    for version in [Some(2), Some(3), None] {
        assert_eq!(ticket(version, 18, true, &[entry(2, 18)]).state, State::Ok);
    }
    assert!(ticket(Some(2), 18, true, &[]).finding.contains("under another name"));
}

#[test]
fn what_does_not_open_is_told_apart() {
    let said = |version, enctype, entries: &[KeytabEntry], words: &str| {
        let check = ticket(version, enctype, false, entries);
        assert_eq!(check.state, State::Failed);
        assert!(check.finding.contains(words), "{words:?} in {}", check.finding);
        assert!(check.remedy.is_some());
    };
    said(
        Some(3),
        18,
        &[entry(2, 18)],
        "version 3, aes256-cts-hmac-sha1-96; the newest in the keytab is version 2",
    );
    said(Some(1), 18, &[entry(2, 18)], "the newest in the keytab is version 2: this KDC is behind");
    said(Some(2), 23, &[entry(2, 18)], "the keytab has only aes256-cts-hmac-sha1-96");
    said(Some(2), 18, &[entry(2, 18)], "it is not this account's");
    said(None, 18, &[entry(2, 18)], "it is not this account's");
    said(Some(2), 18, &[], "the keytab has no key that opens");
}

#[test]
fn every_refusal_has_a_remedy() {
    for (why, state, words) in [
        (Why::ServiceUnknown, State::Failed, "setspn -X"),
        (Why::ClientUnknown, State::Warning, "kinit"),
        (Why::Duplicate, State::Failed, "setspn -D"),
        (Why::WrongKey, State::Failed, "ktadd"),
        (Why::Locked, State::Failed, "enable"),
        (Why::Expired, State::Warning, "expire"),
        (Why::Enctype, State::Failed, "AES"),
        (Why::Skew, State::Failed, "clock"),
        (Why::Other, State::Warning, "kvno"),
    ] {
        let answer = Err(Refusal { why, text: "its words".into() });
        let check = service_check(
            &ServiceAnswer { service: PROXY.into(), answer, by: None, shut_out: None },
            &[entry(2, 18)],
        );
        assert_eq!(check.state, state, "{why:?}");
        assert!(check.remedy.as_ref().unwrap().contains(words), "{why:?}: {check:?}");
    }
}

#[test]
fn a_weak_ticket_is_warned_of_though_it_opens() {
    let check = ticket(Some(2), 23, true, &[entry(2, 18), entry(2, 23)]);
    assert_eq!(check.state, State::Warning);
    assert!(check.finding.contains("rc4-hmac (weak); the keytab has it"), "{check:?}");
    assert!(check.remedy.unwrap().contains("AES"));
}

#[test]
fn who_is_shut_out_says_more_than_who_is_unknown() {
    let account = KeytabEntry { principal: "svc-proxy@EXAMPLE.TEST".into(), version: 4, enctype: 18 };
    let judged = |why| {
        let unknown = Refusal { why: Why::ClientUnknown, text: "its words".into() };
        let shut_out = Some((account.principal.clone(), Refusal { why, text: "other words".into() }));
        let asked = ServiceAnswer { service: PROXY.into(), answer: Err(unknown), by: None, shut_out };
        service_check(&asked, &[entry(4, 18), account.clone()])
    };
    let rolled = judged(Why::WrongKey);
    assert_eq!(rolled.state, State::Failed);
    let words = "of svc-proxy@EXAMPLE.TEST the KDC refuses the keytab's key (version 4)";
    assert!(rolled.finding.contains(words), "{rolled:?}");
    let locked = judged(Why::Locked);
    assert_eq!(locked.state, State::Warning);
    assert!(locked.finding.ends_with("svc-proxy@EXAMPLE.TEST may not log in to do so: other words"));
}

#[test]
fn clocks_are_judged_by_what_kerberos_takes() {
    let judged = |seconds| clock_check("R", SignedDuration::from_secs(seconds));
    for (seconds, state) in [
        (0, State::Ok),
        (59, State::Ok),
        (60, State::Warning),
        (-299, State::Warning),
        (300, State::Failed),
        (-86_400, State::Failed),
    ] {
        assert_eq!(judged(seconds).state, state, "{seconds}");
    }
    assert!(judged(0).finding.contains("agree within a second"));
    assert!(judged(603).finding.contains("is 10 min 3 s ahead of this host's"));
    assert!(judged(-42).finding.contains("is 42 s behind this host's"));
}

#[test]
fn a_realm_that_does_not_answer_is_told_from_one_that_nobody_knows() {
    let mut minutes = Minutes::default();
    let place = |protocol, address: &str| Place { protocol, address: address.into() };
    let refused = |why, realm: &str| {
        let refusal = Refusal { why, text: "its words".into() };
        ProbeEvent::Unreachable { realm: realm.into(), refusal }
    };
    minutes.note(ProbeEvent::Realm("B".into()));
    minutes.note(ProbeEvent::LookedFor("_kerberos._udp.B".into()));
    minutes.note(refused(Why::NoRealm, "B"));
    minutes.note(ProbeEvent::Realm("C".into()));
    minutes.note(ProbeEvent::Answered(place("TCP", "192.0.2.3:88")));
    minutes.note(ProbeEvent::Realm("D".into()));
    minutes.note(ProbeEvent::Resolving("kdc.d.test".into()));
    minutes.note(refused(Why::NoAddress, "D"));
    minutes.note(ProbeEvent::Realm("A".into()));
    minutes.note(ProbeEvent::Tried(place("UDP", "192.0.2.1:88")));
    minutes.note(ProbeEvent::Tried(place("TCP", "192.0.2.1:88")));
    minutes.give_up();
    let services = [PROXY.to_owned(), "HTTP/web.example.test@EXAMPLE.TEST".to_owned()];
    let found = minutes.checks(&[entry(2, 18)], &services);
    let said: Vec<&str> = found.iter().map(|check| check.finding.as_str()).collect();
    assert_eq!(
        said[0],
        "B: no KDC is known for this realm; krb5.conf names none, and DNS tells of none under _kerberos._udp.B: its words"
    );
    assert_eq!(said[1], "C: a KDC answers at 192.0.2.3:88 by TCP (from krb5.conf)");
    assert_eq!(said[2], "D: the KDC's name cannot be resolved: kdc.d.test (from krb5.conf)");
    assert_eq!(said[3], "A: no KDC answers within 6 s; tried 192.0.2.1:88 by TCP and UDP (from krb5.conf)");
    assert_eq!((found[4].state, found[5].state), (State::Warning, State::Skipped), "{said:?}");
    assert_eq!(said[6], "no KDC has told its time");
}

//! Passwords against real KDCs, through the proxy: a true one, a false one of the same realm, a trusted one, none at all.

use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use lab::client::{Curl, Reply};
use lab::wait::until;
use lab::{Lab, PROXY_NAME};

use crate::common::{ORIGIN, SOON, is_for_people, lasting, session};

/// Passwords may come from anywhere, and a wrong one is no reason yet to listen to nobody.
const SETTINGS: &str = "[proxy]
basic = \"always\"
[regulation]
max-retries = 100
[kerberos.domains]
\"EXAMPLE.TEST\" = \"EXAMPLE\"
";
/// Nobody answers there, and nothing says so.
const BLACKHOLE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 99);

/// A request with a name and a password, sent unasked.
fn send(lab: &Lab, client: usize, user: &str, password: &str) -> Result<Reply> {
    curl(lab, client, user, password).get(ORIGIN)
}

fn curl<'a>(lab: &'a Lab, client: usize, user: &str, password: &str) -> Curl<'a> {
    lab.curl(client).arg("--proxy-basic").arg("--proxy-user").arg(&format!("{user}:{password}"))
}

/// The last refusal of this client's that has this cause.
fn is_refused_as(lab: &Lab, client: usize, cause: &str) -> Result<()> {
    until(&format!("a refusal as {cause}"), SOON, || {
        let events = lab.gateway.ask(&["events"]).ok()?;
        let events = lab::answers::list(&events, "events");
        let fits = |event: &&&serde_json::Value| {
            event["client"] == lab.address(client).as_str() && event["cause"] == cause
        };
        events.iter().find(fits).map(|_| ())
    })
    .with_context(|| format!("log of trackerd:\n{}", lab.gateway.log()))
}

#[test]
fn a_right_password_is_a_session_of_its_user() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let cache = lab.scratch.join("the-library's-cache");
    lab.gateway.run_under(["env".into(), format!("KRB5CCNAME={}", cache.display())]);
    lab.gateway.configure(SETTINGS)?;
    lab.realm.require_preauthentication("alice")?;
    let other = lab.realm.trusted(&lab.net.gateway)?;
    other.add_user("alice", "another-pw")?;
    lab.gateway.start()?;
    for (client, user, password, shown, domain) in [
        (0, "alice", "alice-pw", "alice", "EXAMPLE"),
        (0, "alice@EXAMPLE.TEST", "alice-pw", "alice", "EXAMPLE"),
        (0, "alice@example.test", "alice-pw", "alice", "EXAMPLE"),
        (0, "EXAMPLE\\alice", "alice-pw", "alice", "EXAMPLE"),
        (0, "example.test\\alice", "alice-pw", "alice", "EXAMPLE"),
        (0, "alice@Example", "alice-pw", "alice", "EXAMPLE"),
        // One that the KDC asks for no proof before it gives a ticket.
        (1, "bob", "bob-pw", "bob", "EXAMPLE"),
        (1, "alice@OTHER.TEST", "another-pw", "alice", "OTHER.TEST"),
    ] {
        let reply = send(&lab, client, user, password)?;
        assert_eq!(reply.code, 200, "{user}: {reply:?}\n{}", lab.gateway.log());
        let session = session(&lab, client)?;
        let found = (session.user.as_str(), session.domain.as_str(), session.method.as_str());
        assert_eq!(found, (shown, domain, "password"), "{user}: {session:?}");
        lab.gateway.ask(&["logout", "--all"])?;
    }
    assert!(!cache.exists(), "no ticket is kept");
    for log in [lab.gateway.log(), lab.gateway.ask(&["events"])?.to_string()] {
        assert!(!log.contains("-pw"), "a password is told: {log}");
    }
    Ok(())
}

#[test]
fn whatever_is_wrong_with_a_password_the_person_is_told_the_same() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, SETTINGS)?;
    for (options, name) in [
        ("+requires_preauth -pwexpire yesterday", "late"),
        ("+requires_preauth -allow_tix", "locked"),
        ("", "PC-17$"),
    ] {
        lab.realm.add_user_with(options, name, "their-pw")?;
    }
    lab.realm.require_preauthentication("alice")?;
    let mut pages = Vec::new();
    for (user, password, cause) in [
        ("alice", "wrong", "wrong-password"),
        ("bob", "wrong", "wrong-password"),
        ("nobody", "alice-pw", "unknown-user"),
        ("late", "their-pw", "password-expired"),
        ("locked", "their-pw", "account-disabled"),
        ("alice@STRANGE.TEST", "alice-pw", "foreign-realm"),
        ("PC-17$", "their-pw", "bad-name"),
        (&format!("HTTP/{PROXY_NAME}"), "x", "bad-name"),
        ("alice\\@x@EXAMPLE.TEST", "alice-pw", "bad-name"),
        ("a@b@c", "alice-pw", "bad-name"),
        ("alice", "", "password-length"),
    ] {
        let reply = send(&lab, 0, user, password)?;
        assert_eq!(reply.code, 407, "{user}: {reply:?}");
        is_refused_as(&lab, 0, cause).with_context(|| user.to_owned())?;
        assert!(lab.gateway.session(&lab.address(0))?.is_none(), "{user}");
        is_for_people(&lab, &reply.text())?;
        assert!(!reply.text().contains(cause), "{user}: {}", reply.text());
        pages.push(lasting(&reply.text()));
    }
    let first = &pages[0];
    assert!(pages.iter().all(|page| page == first), "{pages:#?}");
    assert_eq!(send(&lab, 0, "alice", "alice-pw")?.code, 200);
    Ok(())
}

#[test]
fn a_false_kdc_of_the_same_realm_lets_nobody_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, SETTINGS)?;
    lab.realm.stop_kdc();
    let false_one = lab.realm.false_one(&lab.net.gateway)?;
    false_one.add_user("alice", "chosen")?;
    // It knows the service's name, too, and gives tickets for it.
    false_one.add_service(&format!("HTTP/{PROXY_NAME}"), &lab.scratch.join("false.keytab"))?;
    let reply = send(&lab, 0, "alice", "chosen")?;
    assert_eq!(reply.code, 407, "{reply:?}");
    is_refused_as(&lab, 0, "false-kdc")?;
    assert!(lab.gateway.session(&lab.address(0))?.is_none());
    drop(false_one);
    lab.realm.start_kdc(&lab.net.gateway)?;
    until("the true KDC's word to count", SOON * 4, || {
        (send(&lab, 0, "alice", "alice-pw").ok()?.code == 200).then_some(())
    })?;
    assert_eq!(session(&lab, 0)?.user, "alice");
    Ok(())
}

#[test]
fn without_a_kdc_nobody_is_let_in_and_nothing_counts_as_a_try() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    // Few tries, so that one that counted would be seen.
    let mut lab = Lab::start_with(2, &SETTINGS.replace("100", "3"))?;
    lab.realm.stop_kdc();
    for _ in 0..12 {
        let reply = send(&lab, 0, "alice", "wrong")?;
        assert_eq!(reply.code, 503, "{reply:?}");
        is_for_people(&lab, &reply.text())?;
    }
    lab.realm.start_kdc(&lab.net.gateway)?;
    until("the KDC to be asked again", SOON * 4, || {
        (send(&lab, 0, "alice", "alice-pw").ok()?.code == 200).then_some(())
    })?;

    // One that says nothing: passwords wait for a while, tickets and other sessions do not.
    lab.gateway.ask(&["logout", "--all"])?;
    let cache = lab.tickets("bob")?;
    lab.realm.fetch(&lab.net.gateway, &cache, &format!("HTTP/{PROXY_NAME}"))?;
    lab.realm.look_for_kdc_at(BLACKHOLE)?;
    std::thread::scope(|scope| -> Result<()> {
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let curl = curl(&lab, 0, "alice", "alice-pw");
                scope.spawn(move || curl.get(ORIGIN))
            })
            .collect();
        let reply = lab.curl(1).tickets(&cache).get(ORIGIN)?;
        assert_eq!(reply.code, 200, "{reply:?}");
        for waiting in waiting {
            let reply = waiting.join().expect("no panic")?;
            assert_eq!(reply.code, 503, "{reply:?}");
        }
        Ok(())
    })?;
    // The library is still at it: the daemon ends all the same, and well.
    let ended = lab.gateway.stop()?;
    assert!(ended.success(), "{ended}\n{}", lab.gateway.log());
    Ok(())
}

#[test]
fn no_password_stays_in_the_daemons_memory() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, SETTINGS)?;
    let number = lab.gateway.pid();
    let (right, wrong) = (format!("right-{number}-secret"), format!("wrong-{number}-secret"));
    lab.realm.add_user_with("+requires_preauth", "dora", &right)?;
    for (password, code) in [(&wrong, 407), (&right, 200)] {
        let reply = send(&lab, 0, "dora", password)?;
        assert_eq!(reply.code, code, "{reply:?}\n{}", lab.gateway.log());
        // Also as it came: Basic is base64 of both, whose last letters depend on what follows.
        let sent = STANDARD_NO_PAD.encode(format!("dora:{password}"));
        for form in [password.clone(), sent[..sent.len() - 4].to_owned()] {
            until("the password to be gone", Duration::from_secs(20), || {
                (in_memory(number, form.as_bytes()).ok()? == 0).then_some(())
            })
            .with_context(|| form.clone())?;
        }
    }
    assert!(in_memory(number, b"dora")? > 0, "what is there would be found");
    Ok(())
}

/// How often these bytes are in what a process can write to.
fn in_memory(pid: i32, needle: &[u8]) -> Result<usize> {
    let proc = Path::new("/proc").join(pid.to_string());
    let memory = std::fs::File::open(proc.join("mem"))?;
    let mut found = 0;
    for line in std::fs::read_to_string(proc.join("maps"))?.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap_or_default();
        let (start, end) = range.split_once('-').context("a range of addresses")?;
        let (mut at, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        // In pieces that overlap: a process may have reserved much.
        let mut piece = vec![0; 16 << 20];
        while at < end {
            let length = usize::try_from(end - at)?.min(piece.len());
            // What cannot be read is a device's.
            if memory.read_exact_at(&mut piece[..length], at).is_err() {
                break;
            }
            let first = needle[0];
            let starts = piece[..length].iter().enumerate().filter(|(_, byte)| **byte == first);
            found += starts.filter(|(start, _)| piece[*start..length].starts_with(needle)).count();
            if length < piece.len() {
                break;
            }
            at += (length - needle.len() + 1) as u64;
        }
    }
    Ok(found)
}

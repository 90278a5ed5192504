//! Bad input: a clear error, nothing lost, no panic.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::gateway::{self, PROXY_PORT};
use lab::net::GATEWAY_V6;

use crate::common::{ORIGIN, SOON, is_for_people, is_let_through, is_refused_for, session, url};

/// The gateway goes on: the session is there, a new one can be made, and nothing in the log looks like a panic.
fn is_unharmed(lab: &Lab) -> Result<()> {
    assert!(is_let_through(lab, 0));
    assert!(session(lab, 0)?.is_of("alice"));
    lab.login(1, "bob")?;
    let log = lab.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn a_huge_token_and_a_huge_head_are_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    for size in [64 * 1024, 1024 * 1024] {
        let mut raw = lab.raw(0)?;
        let token = "QUJD".repeat(size / 4);
        // It may answer, and close, before all of it is sent.
        let sent = raw.get(ORIGIN, &lab::raw::credentials(&token));
        let code = raw.head().map(|head| head.code);
        let refused = matches!(code, Ok(400 | 403 | 407 | 413 | 431));
        assert!(refused || sent.is_err(), "{size}: {code:?}");
    }
    is_unharmed(&lab)
}

#[test]
fn nonsense_on_the_wire_is_answered_or_closed() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    for nonsense in [
        "\r\n\r\n\r\n".to_owned(),
        "HELO mail\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET http:// HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET ftp://origin.example.test/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "GET http://user:secret@origin.example.test:99999/ HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
        "CONNECT / HTTP/1.1\r\n\r\n".to_owned(),
        "CONNECT http://x/ HTTP/1.1\r\n\r\n".to_owned(),
        format!("POST {ORIGIN} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
        format!("POST {ORIGIN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03 a TLS client hello, more or less".to_owned(),
        "\0".repeat(2_000),
    ] {
        let mut raw = lab.raw(0)?;
        // Refused with a status, or closed; never silence, and never an answer of the origin.
        let _ = raw.send(&nonsense);
        let _ = raw.half_close();
        let answer = raw.rest().unwrap_or_default();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(!text.contains("the origin greets you"), "{nonsense:?}: {text}");
        assert!(!text.starts_with("HTTP/1.1 200"), "{nonsense:?}: {text}");
    }
    is_unharmed(&lab)
}

/// A client that cannot be tracked could not be told from the next one on its address: it is not logged in, and told so.
#[test]
fn a_full_record_map_logs_nobody_in_and_forgets_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, "[observer]\nmax-records = 1\n")?;
    // Strangers take none of the room.
    let [a, b, c, d] = lab.net.many_addresses(1)?;
    let to = SocketAddrV6::new(GATEWAY_V6, PROXY_PORT, 0, 0);
    let crowd = |n: u16| lab.net.clients[1].ns.connect_from(Ipv6Addr::new(a, b, c, d, 0, 0, 0, n), to);
    let _crowd: Vec<_> = (1..=20).map(crowd).collect::<Result<_>>()?;
    lab.login(0, "alice")?;
    let reply = lab.curl_as(1, "bob")?.get(ORIGIN)?;
    assert_eq!(reply.code, 503, "{reply:?}");
    let page = reply.text();
    assert!(page.contains("cannot be logged in") && !page.contains("max-records"), "for people: {page}");
    is_for_people(&lab, &page)?;
    is_refused_for(&lab, 1, &["observer.max-records"])?;
    assert!(lab.gateway.events()?.iter().any(|event| event.text.contains(r#""cause":"untracked""#)));
    assert!(is_let_through(&lab, 0), "who is logged in stays logged in");
    assert_eq!(lab.gateway.sessions()?.len(), 1);
    // Who leaves makes room.
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    lab.login(1, "bob")
}

/// RFC 9112, section 6.1: a message with both framings ought to be handled as an error; what another server makes of it
/// is how requests are smuggled.
#[test]
fn two_framings_are_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    for lengths in
        ["Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 5\r\nContent-Length: 6\r\n"]
    {
        let mut raw = lab.raw(0)?;
        let target = url("headers");
        raw.send(format!("POST {target} HTTP/1.1\r\nHost: x\r\n{lengths}\r\n3\r\nabc\r\n0\r\n\r\n"))?;
        assert_eq!(raw.head()?.code, 400, "{lengths:?}");
    }
    is_unharmed(&lab)
}

#[test]
fn an_empty_keytab_is_named() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    let empty = lab.scratch.write("empty.keytab", "")?;
    lab.gateway.configure(&format!("[kerberos]\nkeytab = \"{}\"\n", empty.display()))?;
    match lab.gateway.start() {
        // It may refuse to start; then its log says why.
        Err(_) => {}
        Ok(()) => {
            let reply = lab.curl_as(0, "alice")?.get(ORIGIN)?;
            assert!(reply.code >= 400, "{reply:?}");
            assert_eq!(lab.gateway.sessions()?, []);
        }
    }
    let log = lab.gateway.log();
    assert!(log.contains("keytab"), "the log must name the keytab: {log}");
    assert!(!log.contains("panicked"), "{log}");
    Ok(())
}

#[test]
fn a_keytab_that_comes_later_is_used() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    let hidden = lab.scratch.join("hidden.keytab");
    std::fs::rename(&lab.keytab, &hidden)?;
    if lab.gateway.start().is_ok() {
        assert_ne!(lab.curl_as(0, "alice")?.get(ORIGIN)?.code, 200);
        std::fs::rename(&hidden, &lab.keytab)?;
        lab::wait::until("a login with the new keytab", SOON, || lab.login(0, "alice").ok())?;
    }
    assert!(lab.gateway.log().contains("keytab"), "{}", lab.gateway.log());
    Ok(())
}

#[test]
fn a_missing_kdc_does_not_matter_to_the_gateway() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    // Bob has the service's ticket already; carol has none and will get none.
    let bob = lab.credentials(1, "bob")?;
    let carol = lab.tickets("carol")?;
    lab.realm.stop_kdc();
    assert!(is_let_through(&lab, 0));
    let mut raw = lab.raw(1)?;
    raw.get(ORIGIN, &bob)?;
    assert_eq!(raw.answer()?.0.code, 200, "tickets are verified with the keytab alone");
    let reply = lab.curl(1).tickets(&carol).limit(Duration::from_secs(60)).get(ORIGIN)?;
    assert!(session(&lab, 1)?.is_of("bob"), "{reply:?}");
    lab.realm.start_kdc(&lab.net.gateway)?;
    lab.login(1, "carol")
}

#[test]
fn a_broken_configuration_is_refused_with_every_problem() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    lab.gateway.write(
        "[proxy]
listen = [\"not an address\"]
[timeouts]
proxy-auth-timeout = \"20000m\"
proxy-re-authentication-mode = \"sometimes\"
shared-hosts = [\"10.0.0.0/99\"]
colour = \"blue\"
",
    )?;
    let (code, said) = lab.gateway.check_config()?;
    assert_eq!(code, Some(64), "{said}");
    for key in ["listen", "proxy-auth-timeout", "proxy-re-authentication-mode", "shared-hosts", "colour"] {
        assert!(said.contains(key), "{key} is not named:\n{said}");
    }
    for line in ["2", "4", "5", "6", "7"] {
        assert!(said.contains(line), "line {line} is not named:\n{said}");
    }
    lab.gateway.start_unready()?;
    assert_eq!(lab.gateway.wait()?.code(), Some(64), "and it does not start: {}", lab.gateway.log());

    lab.gateway.write("this is no toml")?;
    assert_eq!(lab.gateway.check_config()?.0, Some(64));
    Ok(())
}

#[test]
fn a_good_configuration_is_accepted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    lab.gateway.configure("[timeouts]\nproxy-auth-timeout = 10\n")?;
    let (code, said) = lab.gateway.check_config()?;
    assert_eq!(code, Some(0), "{said}");
    // An empty file is a good one: every key is optional.
    lab.gateway.write("")?;
    let (code, said) = lab.gateway.check_config()?;
    assert_eq!(code, Some(0), "{said}");
    Ok(())
}

#[test]
fn a_taken_port_is_named() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    let _taken = lab.net.gateway.listen("0.0.0.0:3128".parse()?)?;
    lab.gateway.start_unready()?;
    let status = lab.gateway.wait()?;
    assert!(!status.success());
    assert!(lab.gateway.log().contains("3128"), "{}", lab.gateway.log());
    Ok(())
}

#[test]
fn a_damaged_database_is_not_a_panic() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    lab.gateway.stop()?;
    for entry in std::fs::read_dir(lab.scratch.join("state"))?.flatten() {
        if entry.file_type()?.is_file() {
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).truncate(true).mode(0o600).open(entry.path())?;
            std::io::Write::write_all(&mut &file, b"this was a database")?;
        }
    }
    // To start empty or to refuse are both fine, if it says so.
    let started = lab.gateway.start();
    let log = lab.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    if started.is_err() {
        assert!(log.contains("state"), "the log must name the file: {log}");
    }
    Ok(())
}

//! The proxy's port under TLS, and who comes to it: half-open and slow handshakes, other protocols, garbage; and TLS where
//! there is none.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::certificates::{Authority, Wish};
use lab::client::Curl;
use lab::gateway::Gateway;
use lab::secure::{Shaker, address, settings};
use lab::wait::silence;

use crate::common::{ORIGIN, SOON, is_for_people};

/// As many as one client may have by default.
const HALF_OPEN: usize = 1_000;
/// A handshake has so long, and a loaded machine is late.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// Of a slow handshake, one of these a second.
const BYTE: Duration = Duration::from_secs(1);

/// A lab whose proxy is under TLS, too; and the authority that clients trust.
fn start(clients: usize) -> Result<(Lab, Authority)> {
    let mut lab = Lab::prepare(clients, &lab::gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    lab.gateway.configure(&settings(&root.issue(Wish::names("DNS:proxy.example.test"))?))?;
    lab.gateway.start()?;
    Ok((lab, root))
}

#[test]
fn a_thousand_half_open_handshakes_keep_nobody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start(3)?;
    lab.login(0, "alice")?;
    // Client 1 begins and says no more, some of them with a byte. Client 2 takes its time, and means well.
    let mut slow = lab.net.clients[2].ns.connect(address())?;
    slow.set_read_timeout(Some(HANDSHAKE))?;
    let mut shaker = Shaker::new(root.certificate())?;
    let hello = shaker.says()?;
    let (first, rest) = hello.split_at(8);
    let mut half_open = Vec::new();
    for (number, byte) in first.iter().enumerate() {
        slow.write_all(&[*byte])?;
        while half_open.len() < HALF_OPEN * (number + 1) / first.len() {
            let mut raw = lab.raw_to_tls(1)?;
            if half_open.len() % 2 == 0 {
                raw.send([0x16])?;
            }
            half_open.push(raw);
        }
        let reply = lab.curl_by_tls(0, root.certificate()).get(ORIGIN)?;
        ensure!(reply.code == 200, "with {} half open: {reply:?}", half_open.len());
        silence(BYTE);
    }
    slow.write_all(rest)?;
    while !shaker.is_done() {
        shaker.hears(&mut slow)?;
        slow.write_all(&shaker.says()?)?;
    }
    let said = shaker.asks(&mut slow, &format!("GET {ORIGIN} HTTP/1.1\r\nHost: x\r\n\r\n"), 12)?;
    ensure!(said.starts_with("HTTP/1.1 407"), "{said}");

    // In the end they are closed, and what they held is free.
    for raw in &mut half_open {
        ensure!(raw.ended_within(HANDSHAKE)?, "a half-open handshake is not given up");
    }
    let reply = lab.curl_by_tls(0, root.certificate()).get(ORIGIN)?;
    ensure!(reply.code == 200, "{reply:?}");
    Ok(())
}

#[test]
fn a_handshake_of_a_byte_a_second_is_given_up_in_time() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start(2)?;
    lab.login(0, "alice")?;
    let hello = Shaker::new(root.certificate())?.says()?;
    let mut all = Vec::new();
    for _ in 0..100 {
        all.push(lab.raw_to_tls(1)?);
    }
    let mut sent = 0;
    let mut open = all.len();
    for byte in &hello {
        // Those that are given up refuse it.
        open = all.iter_mut().filter_map(|raw| raw.send([*byte]).ok()).count();
        sent += 1;
        if open == 0 {
            break;
        }
        if sent % 10 == 0 {
            let reply = lab.curl_by_tls(0, root.certificate()).get(ORIGIN)?;
            ensure!(reply.code == 200, "{reply:?}");
        }
        silence(BYTE);
    }
    ensure!(open == 0 && sent < hello.len(), "{open} went on for {sent} s");
    ensure!(sent >= 25, "given up after {sent} s: an honest client may be slow");
    Ok(())
}

#[test]
fn ten_thousand_handshakes_that_fail_shut_their_client_out_and_nobody_else() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start(2)?;
    lab.login(0, "alice")?;
    let turned_away = |lab: &Lab| -> Result<f64> {
        Ok(lab.gateway.metric("tracker_proxy_turned_away_total")?.unwrap_or(0.0))
    };
    let before = turned_away(&lab)?;
    // 500 failures are forgiven; from then on its connections are not even looked at.
    for number in 0..10_000 {
        let Ok(mut raw) = lab.raw_to_tls(1) else { continue };
        let _ = raw.send(b"\x16\x03\x01\x00\x05nonsense");
        let _ = raw.reset();
        if number >= 500 && turned_away(&lab)? > before {
            break;
        }
    }
    ensure!(turned_away(&lab)? > before, "nobody was turned away\n{}", lab.gateway.log());
    let reply = lab.curl_by_tls(0, root.certificate()).get(ORIGIN)?;
    ensure!(reply.code == 200, "{reply:?}");
    Ok(())
}

#[test]
fn what_is_no_handshake_is_refused_at_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start(2)?;
    lab.login(0, "alice")?;

    // HTTP: told what is wrong, in HTTP.
    let mut raw = lab.raw_to_tls(1)?;
    raw.get(ORIGIN, "")?;
    let (head, body) = raw.answer()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    ensure!(head.code == 400 && body.contains("https://"), "{head:?} {body}");
    is_for_people(&lab, &body)?;
    ensure!(raw.ended_within(SOON)?, "it stays open");
    let mut raw = lab.raw_to_tls(1)?;
    let head = raw.tunnel("origin.example.test:443", "")?;
    ensure!(head.code == 400, "{head:?}");

    // Garbage of several kinds, and records that promise more than anybody may have.
    let huge = {
        // A ClientHello of 16 MiB, in records of 16 KiB.
        let mut bytes = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        bytes.resize(5 + 0x4000, 0);
        for _ in 0..64 {
            bytes.extend([0x16, 3, 1, 0x40, 0]);
            bytes.resize(bytes.len() + 0x4000, 0);
        }
        bytes
    };
    let cases: [(&str, Vec<u8>); 6] = [
        ("zeros", vec![0; 4096]),
        ("binary", (0..=255).cycle().skip(128).take(4096).collect()),
        ("SSL 2", vec![0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80, 2, 0, 0x80, 3, 0, 0x80]),
        ("an alert", vec![0x15, 3, 1, 0, 2, 2, 40]),
        ("data", [&[0x17, 3, 3, 0, 64][..], &[7; 64]].concat()),
        ("a huge ClientHello", huge),
    ];
    for (what, bytes) in cases {
        let mut raw = lab.raw_to_tls(1)?;
        // It may be refused before all of it is sent.
        let _ = raw.send(&bytes);
        ensure!(raw.ended_within(SOON)?, "{what} is waited for");
        let reply = lab.curl_by_tls(0, root.certificate()).get(ORIGIN)?;
        ensure!(reply.code == 200, "after {what}: {reply:?}");
    }
    Ok(())
}

#[test]
fn tls_where_there_is_none_is_answered_at_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start(1)?;
    let mut raw = lab.raw(0)?;
    raw.send(Shaker::new(root.certificate())?.says()?)?;
    let head = raw.head().context("a ClientHello on the plain port")?;
    ensure!(head.code == 400, "{head:?}");
    ensure!(raw.ended_within(SOON)?, "it stays open");
    // And as a client sees it.
    let proxy = Gateway::proxy_url().replace("http:", "https:");
    let client = &lab.net.clients[0].ns;
    let reply = Curl::new(client, &lab.scratch, &lab.realm, &proxy).get(ORIGIN)?;
    ensure!(reply.exit == 35 && reply.seconds < 10.0, "{reply:?}");
    Ok(())
}

#[test]
fn a_client_that_does_not_trust_the_certificate_sends_no_credentials() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, _) = start(1)?;
    let other = Authority::root(&lab.scratch, "other")?;
    let curl = lab.curl_by_tls(0, other.certificate()).tickets(&lab.tickets("alice")?);
    let reply = curl.get(ORIGIN)?;
    // CURLE_PEER_FAILED_VERIFICATION
    ensure!(reply.exit == 60, "{reply:?}");
    ensure!(lab.gateway.sessions()?.is_empty(), "{}", lab.gateway.log());
    Ok(())
}

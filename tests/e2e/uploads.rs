//! Much content that meets an answer which nobody waited for, from real clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::client::Reply;
use lab::raw::Raw;
use lab::wait::{silence, until};
use lab::{Lab, firefox};

use crate::common::{PAST_TIMEOUT, SOON, becomes_stale, mode, url};

/// More than lies in the buffers between a client and the gateway.
const SIZE: usize = 20_000_000;

fn file(lab: &Lab) -> Result<PathBuf> {
    lab.scratch.write("upload", vec![b'u'; SIZE])
}

/// How much of its file curl has sent; it was told to say so on its standard error.
const SAY_HOW_MUCH: [&str; 2] = [
    "--write-out",
    "%{http_code} %{http_connect} %{num_connects} %{time_total}%{stderr}uploaded=%{size_upload}\n",
];

fn uploaded(reply: &Reply) -> Result<usize> {
    let said = reply.stderr.rsplit_once("uploaded=").with_context(|| format!("{reply:?}"))?.1;
    Ok(said.trim().parse()?)
}

#[test]
fn curl_sends_nothing_that_the_origin_does_not_want() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let file = file(&lab)?;
    let curl = || SAY_HOW_MUCH.iter().fold(lab.curl(0).upload(&file), |curl, word| curl.arg(word));
    // curl itself expects 100 before it sends as much; it waits for a minute here, not for its usual second.
    let patient = || curl().arg("--expect100-timeout").arg("60");
    let reply = patient().get(&url("status/401"))?;
    assert_eq!((reply.code, uploaded(&reply)?), (401, 0), "{reply:?}");
    let reply = patient().get(&url("count"))?;
    assert_eq!((reply.code, uploaded(&reply)?), (200, SIZE), "{reply:?}");
    assert!(reply.heads.first().is_some_and(|head| head.contains(" 100 ")), "the origin's word: {reply:?}");
    // Our own answers come without a 100 as well.
    let reply = patient().get("http://127.0.0.1/")?;
    assert_eq!((reply.code, uploaded(&reply)?), (403, 0), "{reply:?}");
    let reply = SAY_HOW_MUCH.iter().fold(lab.curl(1).upload(&file), |curl, word| curl.arg(word));
    let reply = reply.arg("--expect100-timeout").arg("60").get(&url("count"))?;
    assert_eq!((reply.code, uploaded(&reply)?), (407, 0), "{reply:?}");

    // An origin that never says 100: curl waits for a second, and sends.
    let quiet = lab.net.origin.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8081)))?;
    std::thread::scope(|scope| {
        let served = scope.spawn(move || -> Result<usize> {
            let mut raw = Raw::accept(&quiet)?;
            raw.head_of_request()?;
            let content = raw.exactly(SIZE)?;
            raw.send("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")?;
            Ok(content.len())
        });
        let reply = curl().get("http://origin.example.test:8081/")?;
        assert_eq!(reply.code, 200, "{reply:?}");
        assert_eq!(served.join().expect("the origin")?, SIZE);
        Ok(())
    })
}

/// curl reads while it sends: it stops, and comes again with its ticket.
#[test]
fn curl_uploads_after_its_session_has_run_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("session"))?;
    let file = file(&lab)?;
    for expect in ["Expect: 100-continue", "Expect:"] {
        lab.login(0, "alice")?;
        becomes_stale(&lab, 0)?;
        let curl = lab.curl_as(0, "alice")?.arg("--proxy-anyauth").header(expect).upload(&file);
        let reply = curl.get(&url("count"))?;
        assert_eq!((reply.code, reply.exit), (200, 0), "{expect}: {reply:?}");
        assert!(reply.text().contains("20000000"), "{expect}: {reply:?}");
        assert!(
            reply.heads.iter().any(|head| head.contains(" 407 ")),
            "{expect}: it was asked first: {reply:?}"
        );
    }
    Ok(())
}

/// Firefox reads nothing before it has sent all: it must get to read the challenge all the same.
#[test]
fn firefox_uploads_after_its_session_has_run_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("absolute"))?;
    let page = url(&format!("post?bytes={SIZE}&ms={}", PAST_TIMEOUT.as_millis()));
    let cache = lab.tickets("alice")?;
    let _firefox = firefox::open(&lab.scratch, &lab.net.clients[0].ns, &lab.realm, &cache, &page)?;
    let lines = || {
        let log = lab.gateway.log();
        let of_upload = |line: &&str| line.contains(" method=POST ") && line.contains(" path=\"/count\" ");
        log.lines().filter(of_upload).map(str::to_owned).collect::<Vec<_>>()
    };
    let has =
        |status: &str| lines().iter().any(|line| line.contains(&format!(" status={status} "))).then_some(());
    let patience = Duration::from_secs(60);
    until("the upload to arrive", patience, || has("200")).with_context(|| format!("{:?}", lines()))?;
    assert!(has("407").is_some(), "it was asked first: {:?}", lines());
    assert_eq!(lab.origin.received(), SIZE as u64);
    until("the page to say so", SOON, || (lab.origin.done() > 0).then_some(()))
}

/// The same by hand, on a slow line: what decides is whether something comes, not how much.
#[test]
fn a_slow_client_that_reads_only_at_its_end_hears_the_challenge() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut raw = lab.raw(0)?;
    raw.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", url("count"), 8 << 20))?;
    for _ in 0..8 {
        silence(Duration::from_millis(700));
        raw.send(vec![b'x'; 1 << 20])?;
    }
    assert_eq!(raw.answer()?.0.code, 407);
    raw.get(&url("count"), &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.answer()?.0.code, 200, "and can answer it there");
    Ok(())
}

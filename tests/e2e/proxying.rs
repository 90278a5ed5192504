//! The explicit proxy as such: what goes in comes out, in every shape HTTP has, and only to where it may.

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::origin::{ECHO_PORT, RESET_PORT, SINK_PORT};
use lab::raw::Raw;
use lab::wait::{Stopwatch, until};

use crate::common::{ORIGIN, SOON, is_for_people, url};

/// A gateway on which alice has logged in from client 0.
fn logged_in() -> Result<Lab> {
    let lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"10m\"\n")?;
    lab.login(0, "alice")?;
    Ok(lab)
}

/// What the origin says it has received.
fn seen(raw: &mut Raw) -> Result<serde_json::Value> {
    let (head, body) = raw.answer()?;
    assert_eq!(head.code, 200, "{head:?}");
    Ok(serde_json::from_slice(&body)?)
}

#[test]
fn every_method_passes() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT", "MADEUP"] {
        let reply = lab.curl(0).method(method).get(&url("headers"))?;
        let seen: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        assert_eq!((reply.code, seen["method"].as_str()), (200, Some(method)), "{reply:?}");
    }
    let reply = lab.curl(0).arg("--head").get(&url("bytes/1000"))?;
    assert_eq!((reply.code, reply.header("content-length")), (200, vec!["1000".to_owned()]), "{reply:?}");
    for code in ["204", "304", "404", "500"] {
        assert_eq!(lab.curl(0).get(&url(&format!("status/{code}")))?.code.to_string(), code);
    }
    Ok(())
}

#[test]
fn the_origin_gets_its_own_form_and_no_secrets() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut raw = lab.raw(0)?;
    let credentials = lab.credentials(0, "alice")?;
    raw.get(
        &url("headers?x=1"),
        &format!(
            "{credentials}Proxy-Connection: keep-alive\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: 300\r\nTE: gzip\r\nX-Stays: 1\r\nCookie: a=b\r\n"
        ),
    )?;
    let seen = seen(&mut raw)?;
    assert_eq!(seen["target"], "/headers?x=1", "origin form");
    let headers = &seen["headers"];
    for gone in ["proxy-authorization", "proxy-connection", "x-hop", "keep-alive", "upgrade"] {
        assert!(headers.get(gone).is_none(), "{gone} reached the origin: {seen}");
    }
    assert_eq!((headers["x-stays"].as_str(), headers["cookie"].as_str()), (Some("1"), Some("a=b")));
    assert_eq!(headers["host"], "origin.example.test");
    assert!(headers.get("te").is_none_or(|te| te == "trailers"), "{seen}");
    Ok(())
}

#[test]
fn bodies_stream_both_ways() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let file = lab.scratch.write("upload", vec![b'u'; 5_000_000])?;
    let reply = lab.curl(0).upload(&file).get(&url("count"))?;
    assert_eq!(reply.text(), "{\"length\":5000000,\"trailers\":{}}", "{}", reply.stderr);
    let reply = lab.curl(0).header("Transfer-Encoding: chunked").upload(&file).get(&url("echo"))?;
    assert_eq!((reply.code, reply.body.len()), (200, 5_000_000), "{}", reply.stderr);
    for path in ["bytes/5000000", "chunked/5000000"] {
        let reply = lab.curl(0).get(&url(path))?;
        assert_eq!((reply.exit, reply.code, reply.body.len()), (0, 200, 5_000_000), "{}", reply.stderr);
    }

    // Nothing is held back: the first part of the answer is there before the last part of the request is sent.
    let mut raw = lab.raw(0)?;
    raw.send(format!("POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", url("echo")))?;
    raw.send("5\r\nfirst\r\n")?;
    assert_eq!(raw.head()?.code, 200);
    assert_eq!((raw.line()?.as_str(), raw.exactly(5)?), ("5", b"first".to_vec()));
    raw.send("6\r\nsecond\r\n0\r\n\r\n")?;
    raw.exactly(2)?;
    assert_eq!(raw.chunks()?.0, b"second");

    let watch = Stopwatch::start();
    let mut raw = lab.raw(0)?;
    raw.get(&url("drip?n=100&ms=100"), "")?;
    raw.head()?;
    raw.line()?;
    assert!(watch.elapsed() < SOON, "the first chunk is not held back");
    Ok(())
}

#[test]
fn a_large_body_takes_no_memory() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let resident = || -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.gateway.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let before = resident()?;
    let reply = lab.curl(0).limit(Duration::from_secs(60)).arg("--limit-rate").arg("60M");
    let reply = reply.get(&url("chunked/100000000"))?;
    assert_eq!((reply.code, reply.body.len()), (200, 100_000_000), "{}", reply.stderr);
    let grown = resident()? - before;
    assert!(grown < 20_000, "{grown} kB more for a 100 MB body");
    Ok(())
}

#[test]
fn expect_continue_is_the_origins_to_answer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let ask = |credentials: &str| {
        format!(
            "POST {} HTTP/1.1\r\nHost: x\r\n{credentials}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            url("count")
        )
    };
    let mut raw = lab.raw(0)?;
    raw.send(ask(""))?;
    assert_eq!(raw.head()?.code, 407, "the challenge comes instead of 100: no body is wasted");

    let mut raw = lab.raw(0)?;
    raw.send(ask(&lab.credentials(0, "alice")?))?;
    assert_eq!(raw.head()?.code, 100, "the origin's word");
    raw.send("hello")?;
    let (head, body) = raw.answer()?;
    assert_eq!((head.code, body.as_slice()), (200, b"{\"length\":5,\"trailers\":{}}".as_slice()));
    Ok(())
}

#[test]
fn trailers_pass_both_ways() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut raw = lab.raw(0)?;
    raw.get(&url("trailers"), "TE: trailers\r\nConnection: TE\r\n")?;
    assert_eq!(raw.head()?.code, 200);
    let (body, trailers) = raw.chunks()?;
    assert_eq!(
        (body.as_slice(), trailers.as_str()),
        (b"body with trailers\n".as_slice(), "x-checksum: ok\n")
    );

    raw.send(format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n",
        url("count")
    ))?;
    let counted = seen(&mut raw)?;
    assert_eq!((counted["length"].as_u64(), counted["trailers"]["x-sum"].as_str()), (Some(5), Some("42")));
    Ok(())
}

#[test]
fn an_http_1_0_client_is_served() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut raw = lab.raw(0)?;
    raw.send(format!("GET {} HTTP/1.0\r\n\r\n", url("chunked/100000")))?;
    let head = raw.head()?;
    assert_eq!((head.code, head.header("transfer-encoding")), (200, None), "1.0 knows no chunks: {head:?}");
    assert_eq!(raw.rest()?.len(), 100_000, "the end of the connection is the end of the body");
    Ok(())
}

#[test]
fn connections_are_kept_to_clients_and_to_origins() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut raw = lab.raw(0)?;
    let before = lab.origin.connections();
    for number in 0..20 {
        raw.get(ORIGIN, "")?;
        assert_eq!(raw.answer()?.0.code, 200, "request {number}");
    }
    let made = lab.origin.connections() - before;
    assert!(made <= 1, "{made} connections to the origin for 20 requests");

    // Pipelined: two requests in one packet.
    raw.send(format!("GET {ORIGIN} HTTP/1.1\r\nHost: x\r\n\r\n").repeat(2))?;
    assert_eq!((raw.answer()?.0.code, raw.answer()?.0.code), (200, 200));

    raw.get(ORIGIN, "Connection: close\r\n")?;
    raw.answer()?;
    assert!(raw.ended_within(SOON)?, "unless the client wants no more");
    Ok(())
}

#[test]
fn an_origin_that_closed_its_idle_connection_is_no_error() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, "")?;
    raw.answer()?;
    // From the origin's end, behind the proxy's back; -K destroys the sockets.
    lab.net.origin.run(&["ss", "-K", "-tn", "state", "established", "( sport = :80 )"])?;
    until("the origin to forget", SOON, || (lab.origin.open() == 0).then_some(()))?;
    raw.get(ORIGIN, "")?;
    assert_eq!(raw.answer()?.0.code, 200);
    Ok(())
}

#[test]
fn ipv6_literals_and_ports_work() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    for host in ["[fd78::2]", "[fd78::2]:80", "10.78.0.2", "origin6.example.test", "origin.example.test:80"] {
        let reply = lab.curl(0).arg("--globoff").get(&format!("http://{host}/"))?;
        assert_eq!(
            (reply.code, reply.text().as_str()),
            (200, "the origin greets you\n"),
            "{host}: {reply:?}"
        );
    }
    let mut raw = lab.raw(0)?;
    assert_eq!(raw.tunnel(&format!("[fd78::2]:{ECHO_PORT}"), "")?.code, 200);
    raw.send("six")?;
    assert_eq!(raw.exactly(3)?, b"six");
    Ok(())
}

#[test]
fn an_upgrade_is_passed_on() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut raw = lab.raw(0)?;
    raw.get(&url("upgrade"), "Connection: Upgrade\r\nUpgrade: echo\r\n")?;
    let head = raw.head()?;
    assert_eq!((head.code, head.header("upgrade")), (101, Some("echo")), "{head:?}");
    raw.send("hello")?;
    assert_eq!(raw.exactly(5)?, b"hello");
    raw.half_close()?;
    assert_eq!(raw.rest()?, b"bye\n");
    Ok(())
}

#[test]
fn tunnels_carry_bytes_and_half_closes() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut echo = lab.raw(0)?;
    assert_eq!(echo.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?.code, 200);
    echo.send("hello")?;
    echo.half_close()?;
    assert_eq!(echo.rest()?, b"hellobye\n", "what comes after the half-close arrives");

    let mut sink = lab.raw(0)?;
    assert_eq!(sink.tunnel(&format!("origin.example.test:{SINK_PORT}"), "")?.code, 200);
    sink.send(vec![0; 3_000_000])?;
    sink.half_close()?;
    assert_eq!(sink.rest()?, b"3000000\n");

    // Data sent right behind the request, before the answer, belongs to the tunnel.
    let mut eager = lab.raw(0)?;
    let to = format!("origin.example.test:{ECHO_PORT}");
    eager.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\nearly"))?;
    assert_eq!(eager.head()?.code, 200);
    assert_eq!(eager.exactly(5)?, b"early");

    let mut reset = lab.raw(0)?;
    assert_eq!(reset.tunnel(&format!("origin.example.test:{RESET_PORT}"), "")?.code, 200);
    reset.send("x")?;
    assert!(reset.ended_within(SOON)?, "the far end's reset reaches the client");
    Ok(())
}

#[test]
fn tunnels_go_only_to_the_agreed_ports() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    for to in ["origin.example.test:25", "origin.example.test:22"] {
        let mut raw = lab.raw(0)?;
        assert_eq!(raw.tunnel(to, "")?.code, 403, "{to}");
    }
    for to in ["origin.example.test", "origin.example.test:0", "origin.example.test:99999", ":80"] {
        let mut raw = lab.raw(0)?;
        let code = raw.tunnel(to, "")?.code;
        assert!(code == 400 || code == 403, "{to}: {code}");
    }
    Ok(())
}

/// RFC 9931: what a client sends behind a CONNECT was meant for the tunnel, and may be somebody else's words.
#[test]
fn behind_a_tunnel_that_is_not_made_nothing_is_served() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let smuggled = format!("GET {ORIGIN} HTTP/1.1\r\nHost: x\r\n\r\n");
    let before = lab.origin.requests();
    for (client, to, codes) in [
        (0, "origin.example.test", [400, 400]),
        (0, "origin.example.test:25", [403, 403]),
        (0, "127.0.0.1:443", [403, 403]),
        (0, "origin.example.test:443", [502, 502]),
        (0, "nowhere.example.test:443", [502, 504]),
        (0, "blackhole.example.test:443", [504, 504]),
        (1, "origin.example.test:443", [407, 407]),
    ] {
        for is_late in [false, true] {
            let mut raw = lab.raw(client)?;
            raw.wait_for(Duration::from_secs(30))?;
            let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
            raw.send(if is_late { request } else { request + &smuggled })?;
            let (head, _) = raw.answer()?;
            assert!(codes.contains(&head.code), "{to}: {head:?}");
            if is_late {
                // It may have been told that this is the end.
                let _ = raw.send(&smuggled);
            }
            assert!(raw.ended_within(SOON)? && raw.rest_is_empty(), "{to}, {is_late}");
        }
    }
    assert_eq!(lab.origin.requests(), before);
    Ok(())
}

/// NTLM and its like authenticate a connection to the origin: it is one user's.
#[test]
fn nobody_gets_an_origin_connection_on_which_somebody_else_may_have_logged_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for credentials in ["NTLM YQ==", "NTLM\tYQ==", ", NTLM YQ==", "Nego2 YQ=="] {
        let (alice, bob) = (lab.credentials(0, "alice")?, lab.credentials(0, "bob")?);
        let mut raw = lab.raw(0)?;
        let mut served_on = |headers: &str| -> Result<u64> {
            raw.get(&url("headers"), headers)?;
            seen(&mut raw)?["connection"].as_u64().ok_or_else(|| anyhow::anyhow!("no number"))
        };
        let own = served_on(&format!("{alice}Authorization: {credentials}\r\n"))?;
        assert_eq!(served_on("")?, own, "{credentials}: it stays alice's");
        let open = lab.origin.open();
        assert_ne!(served_on(&bob)?, own, "{credentials}: and is not bob's");
        until("alice's to be closed", SOON, || (lab.origin.open() <= open).then_some(()))?;
        assert_ne!(served_on("")?, own, "{credentials}");
        lab.gateway.ctl(&["logout", "--all"])?;
    }
    Ok(())
}

#[test]
fn a_failed_origin_gets_a_clear_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    for (target, codes) in [
        ("http://nowhere.example.test/", [502, 504]),
        ("http://origin.example.test:8181/", [502, 502]),
        ("http://blackhole.example.test/", [504, 504]),
    ] {
        let reply = lab.curl(0).limit(Duration::from_secs(60)).get(target)?;
        assert!(codes.contains(&reply.code), "{target}: {reply:?}");
        assert!(reply.text().contains(".example.test"), "the page names the destination: {reply:?}");
        is_for_people(&lab, &reply.text())?;
        assert!(
            !reply.text().contains("10.78.0."),
            "where the gateway finds it is the operator's: {reply:?}"
        );
    }
    // What the system said stands in the access log.
    let told =
        || lab.gateway.log().contains("10.78.0.2:8181 cannot be reached (Connection refused").then_some(());
    until("the access log to say why a destination was not reached", SOON, told)?;
    let reply = lab.curl(0).get("https://nowhere.example.test/")?;
    assert_eq!(reply.exit, 56, "{reply:?}");
    assert!([502, 504].contains(&reply.connect_code), "{reply:?}");
    let reply = lab.curl(0).get(&url("close"))?;
    // In the middle of the body (18), or before the head was sent (52): never a whole answer.
    assert!(
        [18, 52].contains(&reply.exit),
        "a body that breaks off breaks off at the client, too: {reply:?}"
    );
    Ok(())
}

/// Destinations that nobody may reach through the gateway, in the many ways to write them.
const FORBIDDEN: [&str; 22] = [
    "127.0.0.1",
    "127.0.0.1:9477",
    "127.1",
    "127.9.9.9",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0.0.0.0",
    "[::]",
    "[::1]",
    "[::1]:9477",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "localhost",
    "LOCALHOST.",
    "loopback.example.test",
    "169.254.169.254",
    "[::ffff:169.254.169.254]",
    "metadata.example.test",
    "[fe80::1]",
    "10.77.0.1:9477",
    "proxy.example.test",
];

#[test]
fn the_gateway_itself_and_its_surroundings_are_out_of_reach() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    for host in FORBIDDEN {
        let mut raw = lab.raw(0)?;
        raw.send(format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))?;
        let (head, body) = raw.answer()?;
        // What is no host name at all may be called that instead.
        assert!([400, 403].contains(&head.code), "{host}: {head:?} {}", String::from_utf8_lossy(&body));
        let plain = host.rsplit_once(":9477").map_or(host, |(host, _)| host);
        let mut raw = lab.raw(0)?;
        let code = raw.tunnel(&format!("{plain}:443"), "")?.code;
        assert!([400, 403].contains(&code), "CONNECT {plain}: {code}");
    }
    for own in ["10.78.0.1", "[fd77::1]", "[fd78::1]"] {
        let mut raw = lab.raw(0)?;
        raw.get(&format!("http://{own}/"), "")?;
        assert_eq!(raw.answer()?.0.code, 403, "{own} is the gateway, too");
    }
    let mut raw = lab.raw(0)?;
    raw.get("http://mixed.example.test/", "")?;
    let (head, body) = raw.answer()?;
    let good = head.code == 200 && body == b"the origin greets you\n";
    assert!(good || head.code == 403, "a bad address among good ones is never connected to: {head:?}");
    Ok(())
}

#[test]
fn allow_destinations_opens_what_it_names_and_no_more() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nallow-destinations = [\"allowed.example.test\", \"169.254.0.0/16\"]\n")?;
    lab.login(0, "alice")?;
    let reply = lab.curl(0).get("http://allowed.example.test:9477/live")?;
    assert_eq!(reply.code, 200, "{reply:?}");
    assert_eq!(lab.curl(0).get("http://loopback.example.test:9477/live")?.code, 403);
    assert_eq!(lab.curl(0).get("http://127.0.0.1:9477/live")?.code, 403);
    let reply = lab.curl(0).get("http://metadata.example.test/")?;
    assert!([502, 504].contains(&reply.code), "allowed, but there is nobody: {reply:?}");
    Ok(())
}

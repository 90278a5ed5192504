//! The lab without the gateway: if these fail, look here first.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use lab::net::{ORIGIN_V4, ORIGIN_V6};
use lab::origin::{DRIP_PORT, ECHO_PORT, RESET_PORT, SINK_PORT};
use lab::raw::{Raw, token};
use lab::{Lab, PROXY_NAME};

fn lab() -> Lab {
    Lab::prepare(2, Path::new("/nonexistent")).unwrap()
}

#[test]
fn hosts_reach_who_they_should() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = lab();
    let reply = lab.curl(0).direct().limit(Duration::from_secs(1)).get("http://origin.example.test/")?;
    assert_ne!(reply.exit, 0, "a client must not reach the origin past the proxy: {reply:?}");
    let listener = lab.net.gateway.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 3128)))?;
    assert!(lab.raw(0).is_ok() && lab.raw(1).is_ok());
    let seen = [listener.accept()?.1.ip(), listener.accept()?.1.ip()];
    assert_eq!(seen.map(|ip| ip.to_string()), [lab.address(0), lab.address(1)]);

    lab.net.take_over(0, 1)?;
    assert_eq!(lab.address(0), lab.address(1));
    let _connection = lab.raw(1)?;
    assert_eq!(listener.accept()?.1.ip().to_string(), lab.address(0));
    Ok(())
}

#[test]
fn the_realm_gives_tickets_and_curl_makes_tokens() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = lab();
    let cache = lab.tickets("alice")?;
    let host = &lab.net.clients[0].ns;
    let one = token(host, &lab.realm, &cache, PROXY_NAME)?;
    let two = token(host, &lab.realm, &cache, PROXY_NAME)?;
    assert!(one.starts_with("YII"), "{one}");
    assert_ne!(one, two);
    assert!(token(host, &lab.realm, Path::new("/nonexistent"), PROXY_NAME).is_err());

    lab.realm.stop_kdc();
    assert!(lab.tickets("bob").is_err());
    lab.realm.start_kdc(&lab.net.gateway)?;
    lab.tickets("bob")?;
    Ok(())
}

#[test]
fn the_origin_serves() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = lab();
    let ns = &lab.net.gateway;
    for address in [SocketAddr::from((ORIGIN_V4, 80)), SocketAddr::from((ORIGIN_V6, 80))] {
        let mut raw = Raw::connect(ns, address)?;
        raw.get("http://x/", "")?;
        assert_eq!(raw.answer()?.1, b"the origin greets you\n");
        raw.get("http://x/bytes/100000", "")?;
        assert_eq!(raw.answer()?.1.len(), 100_000);
        raw.get("http://x/chunked/100000", "")?;
        assert_eq!(raw.answer()?.1.len(), 100_000);
        // hyper sends trailers only to those who ask for them.
        raw.get("http://x/trailers", "TE: trailers\r\n")?;
        raw.head()?;
        assert_eq!(raw.chunks()?, (b"body with trailers\n".to_vec(), "x-checksum: ok\n".to_owned()));
        raw.get("http://x/drip?n=3&ms=1", "")?;
        assert_eq!(raw.answer()?.1, b"0\n1\n2\n");
        raw.get("http://x/headers", "X-One: 1\r\n")?;
        let seen: serde_json::Value = serde_json::from_slice(&raw.answer()?.1)?;
        assert_eq!(seen["headers"]["x-one"], "1");
        raw.get("http://x/status/418", "")?;
        assert_eq!(raw.answer()?.0.code, 418);
        raw.send("POST http://x/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")?;
        assert_eq!(raw.answer()?.1, b"hello");
        raw.get("http://x/upgrade", "Connection: upgrade\r\nUpgrade: echo\r\n")?;
        assert_eq!(raw.head()?.code, 101);
        raw.send("hi")?;
        assert_eq!(raw.exactly(2)?, b"hi");
        let mut raw = Raw::connect(ns, address)?;
        raw.get("http://x/close", "")?;
        assert!(raw.answer().is_err());
    }
    assert_eq!(lab.origin.connections(), 4);
    assert_eq!(lab.origin.requests(), 20);

    let mut echo = Raw::connect(ns, (ORIGIN_V4, ECHO_PORT).into())?;
    echo.send("hello")?;
    echo.half_close()?;
    assert_eq!(echo.rest()?, b"hellobye\n");
    let mut sink = Raw::connect(ns, (ORIGIN_V4, SINK_PORT).into())?;
    sink.send(vec![0; 100_000])?;
    sink.half_close()?;
    assert_eq!(sink.rest()?, b"100000\n");
    let mut drip = Raw::connect(ns, (ORIGIN_V4, DRIP_PORT).into())?;
    assert_eq!(drip.exactly(2)?, b"..");
    let mut reset = Raw::connect(ns, (ORIGIN_V4, RESET_PORT).into())?;
    reset.send("x")?;
    assert!(reset.rest().is_err());
    Ok(())
}

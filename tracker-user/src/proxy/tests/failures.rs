//! What does not go through, and how it is said.

use super::*;

async fn page(lab: &Lab, to: &str, more: &str) -> (u16, String) {
    let mut client = lab.client().await;
    let answer = client.ask(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n")).await;
    assert!(!answer.text().contains("anybody"), "pages name no user");
    (answer.status(), answer.text())
}

#[tokio::test]
async fn origins_that_cannot_be_reached() {
    let lab = Lab::open();
    let closed = Origin::new().await.address();
    let (status, text) = page(&lab, &closed.to_string(), "").await;
    assert!(
        status == 502 && text.contains(&closed.to_string()) && text.contains("refused"),
        "{status} {text}"
    );
    let (status, text) = page(&lab, "does-not-exist.invalid", "").await;
    assert!(status == 502 && text.contains("cannot be resolved"), "{status} {text}");
}

#[tokio::test]
async fn destinations_that_are_refused() {
    let lab = Lab::new(FakeGate { open: true, ..FakeGate::default() }, ProxyOptions::default());
    for to in
        ["127.0.0.1", "[::1]", "localhost", "127.1", "2130706433", "0x7f000001", "0", "[::ffff:127.0.0.1]"]
    {
        let (status, text) = page(&lab, to, "").await;
        assert!(status == 403 && text.contains("does not connect"), "{to}: {status} {text}");
    }
    let (status, text) = page(&lab, "169.254.169.254", "").await;
    assert!(status == 403 && text.contains("metadata"), "{status} {text}");
    assert_eq!(lab.stats.destinations_refused.get(), 9);

    // A name on the list goes wherever it leads.
    let (to, _) = Origin::new().await.serve(OK);
    let allow_destinations = AllowList::new(&[AllowedDestination::Host("localhost".to_owned())]);
    lab.running.configure(ProxyOptions { allow_destinations, ..ProxyOptions::default() });
    assert_eq!(page(&lab, &format!("LocalHost:{}", to.port()), "").await.0, 200);
    assert_eq!(page(&lab, &to.to_string(), "").await.0, 403);
}

#[tokio::test]
async fn requests_that_are_not_for_a_proxy() {
    let lab = Lab::open();
    for (request, status, words) in [
        ("GET / HTTP/1.1\r\nHost: proxy.test\r\n\r\n", 400, "This is a proxy"),
        ("OPTIONS * HTTP/1.1\r\nHost: proxy.test\r\n\r\n", 400, "This is a proxy"),
        ("GET origin.test:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "This is a proxy"),
        ("GET https://origin.test/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "tunnel"),
        ("GET ftp://origin.test/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "ftp:"),
        ("GET http://user:pw@origin.test/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "password"),
        ("GET http://a%00b/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""),
        ("GET http://a:99999/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""),
        ("GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", 400, "Host"),
        ("CONNECT /x HTTP/1.1\r\nHost: x\r\n\r\n", 400, ""),
        ("CONNECT http://a.test:443/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "CONNECT"),
        ("CONNECT a.test HTTP/1.1\r\nHost: x\r\n\r\n", 400, "port"),
        ("CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 400, "content"),
        ("CONNECT a.test:25 HTTP/1.1\r\nHost: x\r\n\r\n", 403, "port 25"),
        (
            "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 a, 1.0 Tracker (x)\r\n\r\n",
            508,
            "come back",
        ),
    ] {
        let answer = lab.client().await.ask(request).await;
        assert_eq!(answer.status(), status, "{request}");
        assert!(answer.text().contains(words), "{request}: {}", answer.text());
        let ends = status == 400 || request.starts_with("CONNECT");
        assert_eq!(answer.field("connection"), ends.then_some("close"), "{request}");
    }
}

/// What two parsers could read in two ways is not passed on.
#[tokio::test]
async fn messages_that_could_smuggle_others() {
    let lab = Lab::open();
    let (to, connections) = Origin::new().await.serve(OK);
    for smuggling in [
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "Content-Length: +3\r\n\r\nabc",
        "Content-Length: 3 3\r\n\r\nabc",
        "Content-Length: 30\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\nabc",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "X-A: 1\r\n folded\r\n\r\n",
        "X-A : 1\r\n\r\n",
        "X-A: 1\rX-B: 2\r\n\r\n",
        "X-A: 1\x002\r\n\r\n",
    ] {
        let mut client = lab.client().await;
        let answer = client.ask(format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\n{smuggling}")).await;
        assert_eq!(answer.status(), 400, "{smuggling:?}");
        assert!(client.is_closed().await, "{smuggling:?}");
    }
    assert_eq!(connections.load(Relaxed), 0);
}

#[tokio::test]
async fn origins_that_answer_badly() {
    let lab = Lab::open();
    for (far, words) in [
        ("", "closed the connection"),
        ("SSH-2.0-x\r\n", "not HTTP"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "coding"),
        ("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "credentials"),
        ("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", ""),
    ] {
        let origin = Origin::new().await;
        let to = origin.address().to_string();
        tokio::spawn(async move {
            let mut peer = origin.accept().await;
            peer.read(true).await;
            peer.send(far).await;
        });
        let (status, text) = page(&lab, &to, "").await;
        assert!(status == 502 && text.contains(words), "{far:?}: {status} {text}");
    }
}

#[tokio::test]
async fn an_origin_that_never_comes_to_its_answer() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    let _ = far.0.get_mut().write_all("HTTP/1.1 102 Wait\r\n\r\n".repeat(2000).as_bytes()).await;
    let mut interim = 0;
    let last = loop {
        let head = client.head().await;
        if head.status() != 102 {
            break head;
        }
        interim += 1;
    };
    assert_eq!((last.status(), interim), (502, 1000));
}

#[tokio::test]
async fn an_origin_that_takes_too_long() {
    let response_timeout = Duration::from_millis(100);
    let gate = FakeGate { open: true, ..FakeGate::default() };
    let lab = Lab::new(gate, ProxyOptions { response_timeout, ..options(443) });
    let origin = Origin::new().await;
    let to = origin.address().to_string();
    let (status, text) = page(&lab, &to, "").await;
    assert!(status == 504 && text.contains("in time"), "{status} {text}");

    // As long as the request is being sent, the origin is not late.
    let mut client = lab.client().await;
    client.send(format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")).await;
    for byte in ["a", "b", "c", "d", "e"] {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.send(byte).await;
    }
    let _timed_out = origin.accept().await;
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send(OK).await;
    assert_eq!(client.answer().await.status(), 200);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_seen_to_break_off() {
    let lab = Lab::open();
    for head in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
        let origin = Origin::new().await;
        let mut client = lab.client().await;
        client.send(format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
        let mut far = origin.accept().await;
        far.read(true).await;
        far.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        drop(far);
        client.head().await;
        let mut rest = Vec::new();
        let _ = within(client.0.read_to_end(&mut rest)).await;
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.len() < 10 && !rest.contains("\r\n0\r\n"), "{rest:?}");
    }
    within(lab.idle_origins(0)).await;
}

#[tokio::test]
async fn a_pooled_connection_that_has_died_is_not_the_clients_trouble() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let request = format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address());
    let mut client = lab.client().await;
    client.send(&request).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send(OK).await;
    client.answer().await;
    drop(far);
    client.send(&request).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send(OK).await;
    assert_eq!(client.answer().await.status(), 200);

    // It dies while the request is on its way: a harmless one is sent again, after a pause in which that is likely.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.send(&request).await;
    far.read(true).await;
    drop(far);
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send(OK).await;
    assert_eq!(client.answer().await.status(), 200);

    // One that may change something is not.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.send(request.replace("GET", "DELETE")).await;
    far.read(true).await;
    drop(far);
    assert_eq!(client.answer().await.status(), 502);
}

#[tokio::test]
async fn a_connection_with_a_broken_request_is_not_used_again() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client
        .send(format!(
            "POST http://{}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc",
            origin.address()
        ))
        .await;
    let mut far = origin.accept().await;
    far.head().await;
    let mut part = [0; 3];
    far.0.read_exact(&mut part).await.unwrap();
    drop(client);
    assert!(far.is_closed().await);
    within(lab.idle_origins(0)).await;
}

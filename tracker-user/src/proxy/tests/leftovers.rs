//! What comes on a connection behind a refusal.

use super::*;

/// So much is in nobody's buffers.
const MUCH: usize = 32 << 20;

fn connect(to: &str, more: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

/// RFC 9931: a client may have sent its tunnel's first bytes, which are somebody else's words.
#[tokio::test]
async fn what_follows_a_tunnel_that_is_not_made_is_no_request() {
    let open = || FakeGate { open: true, ..FakeGate::default() };
    let (to, connections) = Origin::new().await.serve(OK);
    let smuggled = format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let nobody = Origin::new().await.address();
    for (gate, target, credentials, status) in [
        (open(), "a.test", "", 400),
        (open(), "192.0.2.1:443", "Content-Length: 3\r\n", 400),
        (open(), "a.test:25", "", 403),
        (open(), "127.0.0.1:443", "", 403),
        (FakeGate::default(), "a.test:443", "", 407),
        (FakeGate::default(), "a.test:443", &*negotiate("bad"), 407),
        (FakeGate::default(), "a.test:443", &*negotiate("first"), 407),
        (FakeGate::default(), "a.test:443", &*negotiate("ntlm"), 403),
        (
            FakeGate { licences_used_up: true, ..FakeGate::default() },
            "a.test:443",
            &*negotiate("user a"),
            403,
        ),
        (open(), "does-not-exist.invalid:443", "", 502),
        (open(), &*nobody.to_string(), "", 502),
        (FakeGate::default(), "a.test:443", &*negotiate("busy"), 503),
    ] {
        let mut allowed = options(443);
        allowed.connect_ports.push(PortRange::one(nobody.port()));
        if target == "127.0.0.1:443" {
            allowed.allow_destinations = AllowList::default();
        }
        let lab = Lab::new(gate, allowed);
        // In one packet with it, and after the answer.
        for is_late in [false, true] {
            let mut client = lab.client().await;
            let request = connect(target, credentials);
            let answer = if is_late {
                let answer = client.ask(request).await;
                let _ = client.0.get_mut().write_all(smuggled.as_bytes()).await;
                answer
            } else {
                client.ask(request + &smuggled).await
            };
            assert_eq!(answer.status(), status, "{target} {credentials}");
            let ends = !is_late || status != 407;
            assert_eq!(
                answer.field("connection"),
                ends.then_some("close"),
                "{target} {credentials} {is_late}"
            );
            assert!(client.is_closed().await, "{target} {credentials} {is_late}: nothing but the refusal");
        }
    }
    assert_eq!(connections.load(Relaxed), 0);
}

/// Browsers answer a challenge on the connection that it came on.
#[tokio::test]
async fn after_a_challenge_the_same_tunnel_may_be_asked_for_with_credentials() {
    let origin = Origin::new().await;
    let to = origin.address().to_string();
    let lab = Lab::new(FakeGate::default(), options(origin.address().port()));
    let mut client = lab.client().await;
    for credentials in ["", "Proxy-Authorization: Basic YQ==\r\n", &*negotiate("bad"), &*negotiate("first")] {
        let challenge = client.ask(connect(&to, credentials)).await;
        assert_eq!((challenge.status(), challenge.field("connection")), (407, None), "{credentials}");
    }
    client.send(connect(&to, &negotiate("second"))).await;
    assert_eq!(client.head().await.status(), 200);
    client.send("x").await;
    assert_eq!(within(origin.accept().await.0.read_u8()).await.unwrap(), b'x');
}

#[tokio::test]
async fn after_a_challenge_to_a_connect_nothing_else_is_served() {
    let lab = Lab::closed();
    let (to, connections) = Origin::new().await.serve(OK);
    let get = |more: &str| format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    for next in [
        connect("a.test:443", ""),
        connect("b.test:443", &negotiate("user alice")),
        connect("A.test:443", &negotiate("user alice")),
        get(""),
        get(&negotiate("user alice")),
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03 a TLS client hello\r\n\r\n".to_owned(),
    ] {
        let mut client = lab.client().await;
        assert_eq!(client.ask(connect("a.test:443", "")).await.status(), 407);
        client.send(&next).await;
        assert!(client.is_closed().await, "{next}: without an answer");
    }
    assert_eq!((connections.load(Relaxed), lab.stats.proofs_accepted.get()), (0, 0));
}

/// A client that reads nothing before it has sent everything, as Firefox and Java.
#[tokio::test]
async fn a_client_that_reads_only_when_it_has_sent_all_gets_to_read_the_answer() {
    let forbidden = ProxyOptions { allow_destinations: AllowList::default(), ..options(443) };
    let refusing = Lab::new(FakeGate { open: true, ..FakeGate::default() }, forbidden);
    let length = format!("Content-Length: {MUCH}\r\n\r\n");
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{MUCH:x}\r\n");
    for (lab, framing, status, ends) in [
        (&Lab::closed(), &length, 407, false),
        (&Lab::closed(), &chunked, 407, false),
        (&refusing, &length, 403, true),
        (&refusing, &chunked, 403, false),
    ] {
        let mut client = lab.client().await;
        client.send(format!("POST http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n{framing}")).await;
        within(client.send(vec![b'x'; MUCH])).await;
        if framing == &chunked {
            client.send("\r\n0\r\n\r\n").await;
        }
        let answer = client.answer().await;
        assert_eq!(
            (answer.status(), answer.field("connection")),
            (status, ends.then_some("close")),
            "{framing}"
        );
        if ends {
            assert!(matches!(within(client.0.read(&mut [0])).await, Ok(0)), "an end, and no reset");
        } else {
            let next = client.ask("GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert_eq!(next.status(), status, "{framing}");
        }
    }
}

/// A handshake that goes on needs its connection, however much comes.
#[tokio::test]
async fn a_handshake_survives_a_large_upload() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let first = negotiate("first");
    client
        .send(format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\n{first}Content-Length: {MUCH}\r\n\r\n"))
        .await;
    within(client.send(vec![b'x'; MUCH])).await;
    let challenge = client.answer().await;
    assert_eq!((challenge.status(), challenge.field("connection")), (407, None));
    let second = negotiate("second");
    let answer = client.ask(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{second}\r\n")).await;
    assert_eq!(answer.status(), 200);
}

/// The same for an origin that answers before it has read the request.
#[tokio::test]
async fn an_early_answer_of_the_origin_arrives() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let to = origin.address();
    tokio::spawn(async move {
        let mut far = origin.accept().await;
        far.head().await;
        far.send("HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n").await;
    });
    let mut client = lab.client().await;
    client.send(format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {MUCH}\r\n\r\n")).await;
    within(client.send(vec![b'x'; MUCH])).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (401, Some("close")));
}

/// What a client had still to say must not cost it what it was told.
#[tokio::test]
async fn an_answer_arrives_whole_where_more_requests_were_sent_behind_the_last() {
    const ANSWER: usize = 4 << 20;
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let to = origin.address();
    let request = |more: &str| format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let mut client = lab.client().await;
    client.send(request("Connection: close\r\n") + &request("").repeat(10_000)).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER}\r\n\r\n")).await;
    let (answer, ()) = tokio::join!(client.answer(), far.send(vec![b'x'; ANSWER]));
    assert_eq!((answer.status(), answer.body.len()), (200, ANSWER));
    assert!(matches!(within(client.0.read(&mut [0])).await, Ok(0)), "an end, and no reset");
}

/// Who does not come to an end is not listened to for ever.
#[tokio::test]
async fn a_client_that_is_silent_behind_a_refusal_is_given_up() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let request = "POST http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\nabc";
    assert_eq!(client.ask(request).await.status(), 407);
    within(async {
        while !lab.connections.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

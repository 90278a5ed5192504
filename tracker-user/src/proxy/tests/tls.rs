//! The proxy on a listener under TLS, with a real client of it.

use std::rc::Rc;

use prometheus::IntCounter;
use rustls::pki_types::CertificateDer;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::testing;
use crate::proxy::front::http1::Heads;
use crate::proxy::handshakes::{Handshakes, MAX_HANDSHAKES, Outcome};

/// A proxy under TLS that serves everybody, and its certificate.
fn lab(options: ProxyOptions) -> (Lab, CertificateDer<'static>) {
    let (server, certificate) = testing::server();
    let endpoint = endpoint(Security::Tls(Arc::new(server)));
    let gate = FakeGate { open: true, ..FakeGate::default() };
    (Lab::on(&endpoint, gate, options, 1), certificate)
}

/// Waits until so many handshakes came to this.
async fn counted(lab: &Lab, outcome: Outcome, count: u64) {
    while lab.stats.handshakes(outcome) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn client(lab: &Lab, certificate: &CertificateDer<'static>) -> Peer<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(lab.address).await.unwrap();
    Peer::new(within(testing::connect(socket, certificate)).await)
}

#[tokio::test]
async fn requests_are_served_in_turn_on_one_connection() {
    let (origin, connections) = Origin::new().await.serve(OK);
    let (lab, certificate) = lab(options(443));
    let mut client = client(&lab, &certificate).await;
    let mut received = 0;
    for _ in 0..3 {
        let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        received += request.len() as u64;
        let answer = client.ask(request).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    }
    assert_eq!(connections.load(Relaxed), 1);
    let info = lab.connections.of("127.0.0.1".parse().unwrap()).pop().unwrap();
    assert_eq!(info.rx, received, "the requests' bytes, and nothing of TLS");
    assert_eq!((lab.stats.connections.get(), lab.stats.connections_open.get()), (1, 1));
    // Told that this is the last one, the client sees a clean end.
    client.send(format!("GET http://{origin}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await;
    assert_eq!(client.answer().await.status(), 200);
    let mut rest = Vec::new();
    within(client.0.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

/// Where an answer ends with the connection, only TLS's own end says that it is whole.
#[tokio::test]
async fn the_end_of_a_whole_answer_is_told_and_that_of_a_broken_one_is_not() {
    for (answer, is_whole) in [
        ("HTTP/1.0 200 OK\r\n\r\nall of it", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nall of it", false),
    ] {
        let origin = Origin::new().await;
        let (lab, certificate) = lab(options(443));
        let mut client = client(&lab, &certificate).await;
        client.send(format!("GET http://{0}/ HTTP/1.0\r\nHost: {0}\r\n\r\n", origin.address())).await;
        let mut far = origin.accept().await;
        far.read(true).await;
        far.send(answer).await;
        drop(far);
        assert_eq!(client.head().await.status(), 200);
        let mut rest = Vec::new();
        let end = within(client.0.read_to_end(&mut rest)).await;
        assert_eq!((rest.as_slice(), end.is_ok()), (&b"all of it"[..], is_whole), "{end:?}");
    }
}

/// Much content both ways: it is copied, and all of it arrives.
#[tokio::test]
async fn long_contents_arrive_both_ways() {
    let origin = Origin::new().await;
    let (lab, certificate) = lab(options(443));
    let mut client = client(&lab, &certificate).await;
    let content = "0123456789".repeat(300_000);
    let head = format!(
        "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: {1}\r\n\r\n",
        origin.address(),
        content.len()
    );
    let length = head.len() as u64;
    let play = async {
        let mut far = origin.accept().await;
        let request = far.read(true).await;
        assert!(request.text() == content);
        far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len())).await;
        far
    };
    let ask = async {
        client.send(head + &content).await;
        let answer = client.answer().await;
        assert!(answer.status() == 200 && answer.text() == content);
    };
    let (_far, ()) = tokio::join!(play, ask);
    let info = lab.connections.of("127.0.0.1".parse().unwrap()).pop().unwrap();
    assert_eq!(info.rx, length + content.len() as u64);
}

#[tokio::test]
async fn a_tunnel_with_half_close_both_ways() {
    for client_first in [true, false] {
        let origin = Origin::new().await;
        let (lab, certificate) = lab(options(origin.address().port()));
        let mut client = client(&lab, &certificate).await;
        client.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\nearly", origin.address())).await;
        assert_eq!(client.head().await.status(), 200);
        let mut far = origin.accept().await;
        let mut early = [0; 5];
        within(far.0.read_exact(&mut early)).await.unwrap();
        assert_eq!(&early, b"early");
        let large = vec![7; 1_000_000];
        if client_first {
            client.0.get_mut().shutdown().await.unwrap();
            assert!(far.is_closed().await, "the end has been passed on");
            far.send(&large).await;
            far.0.get_mut().shutdown().await.unwrap();
            let mut all = Vec::new();
            within(client.0.read_to_end(&mut all)).await.unwrap();
            assert!(all == large, "the other direction went on");
        } else {
            far.0.get_mut().shutdown().await.unwrap();
            assert!(client.is_closed().await, "the end has been passed on");
            client.send(&large).await;
            client.0.get_mut().shutdown().await.unwrap();
            let mut all = Vec::new();
            within(far.0.read_to_end(&mut all)).await.unwrap();
            assert!(all == large, "the other direction went on");
        }
        while lab.stats.tunnels_open.get() > 0 || !lab.connections.is_empty() {
            tokio::task::yield_now().await;
        }
        let (up, down) = if client_first { (5, 1_000_000) } else { (1_000_005, 0) };
        assert_eq!((lab.stats.bytes_received.get(), lab.stats.bytes_sent.get()), (up, down));
    }
}

/// Whoever speaks plain HTTP is told so in the clear, and no request gets through; others are served all the while.
#[tokio::test]
async fn who_speaks_no_tls_is_told_so() {
    let (origin, connections) = Origin::new().await.serve(OK);
    let (lab, certificate) = lab(options(443));
    let mut plain = lab.client().await;
    let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    let answer = plain.ask(&request).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("speaks TLS"), "{}", answer.text());
    assert!(plain.is_closed().await);
    let mut garbage = lab.client().await;
    garbage.send([0, 1, 2, 3]).await;
    let mut rest = Vec::new();
    let _ = within(garbage.0.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "nothing that it could read");
    assert_eq!((connections.load(Relaxed), lab.stats.connections.get()), (0, 0));
    within(counted(&lab, Outcome::Plain, 2)).await;
    assert_eq!(client(&lab, &certificate).await.ask(request).await.status(), 200);
    assert_eq!(lab.stats.handshakes(Outcome::Full), 1);
}

/// A connection that is turned away gets the one word that TLS has before a handshake.
#[tokio::test]
async fn who_is_one_too_many_gets_an_alert() {
    let (lab, certificate) = lab(ProxyOptions { max_connections_per_client: 1, ..options(443) });
    let _first = client(&lab, &certificate).await;
    let mut second = lab.client().await;
    let mut rest = Vec::new();
    let _ = within(second.0.read_to_end(&mut rest)).await;
    assert_eq!(rest, [21, 3, 3, 0, 2, 2, 80]);
}

/// Those who only begin handshakes make room for those who finish them, the oldest first.
#[tokio::test]
async fn the_oldest_of_too_many_handshakes_is_given_up() {
    let (origin, _) = Origin::new().await.serve(OK);
    let (lab, certificate) = lab(options(443));
    let mut silent = Vec::new();
    for count in 1..=MAX_HANDSHAKES {
        silent.push(lab.client().await);
        while lab.connections.len() < count {
            tokio::task::yield_now().await;
        }
    }
    let mut served = client(&lab, &certificate).await;
    assert!(silent.remove(0).is_closed().await);
    assert_eq!(lab.connections.len(), MAX_HANDSHAKES, "the others wait, and one is served");
    let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    assert_eq!(served.ask(request).await.status(), 200);
    // A stop does not wait for them, however long it waits for others.
    drop(served);
    within(lab.running.drain(Duration::from_secs(60))).await;
    assert!(lab.connections.is_empty() && silent.remove(0).is_closed().await);
}

/// Whoever says nothing is closed in time; on a clock of its own.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_takes_too_long_is_given_up() {
    let connections = Arc::new(Connections::new(None));
    let (stream, mut far) = testing::accepted(&connections).await;
    let (server, _) = testing::server();
    let heads = Rc::new(Heads::with(0, IntCounter::new("x", "x").unwrap()));
    let begun = tokio::time::Instant::now();
    let done = Handshakes::default().run(stream, &server, &heads).await;
    assert!(done.stream.is_none() && done.outcome == Outcome::TimedOut && !done.is_offence);
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert!(connections.is_empty());
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
}

/// What has come of a first message waits in memory; of all of them together that is bounded, however many there are.
#[tokio::test]
async fn messages_without_an_end_take_no_more_memory_than_unfinished_heads() {
    let connections = Arc::new(Connections::new(None));
    let (server, _) = testing::server();
    let ended = IntCounter::new("x", "x").unwrap();
    let (heads, handshakes) = (Rc::new(Heads::with(60_000, ended.clone())), Handshakes::default());
    let part =
        [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[3; 16_380], &[22, 3, 1, 0x40, 0][..], &[3; 16_000]]
            .concat();
    let (first, mut first_far) = testing::accepted(&connections).await;
    let (second, mut second_far) = testing::accepted(&connections).await;
    let (first, second) = (handshakes.run(first, &server, &heads), handshakes.run(second, &server, &heads));
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    first_far.write_all(&part).await.unwrap();
    let a_while = Duration::from_millis(100);
    assert!(tokio::time::timeout(a_while, &mut first).await.is_err(), "there is room for one");
    second_far.write_all(&part).await.unwrap();
    let done = tokio::select! {
        done = &mut first => done,
        _ = &mut second => panic!("the one that came first makes room"),
    };
    assert_eq!((done.outcome, done.is_offence, ended.get()), (Outcome::Ended, false, 1));
    assert!(tokio::time::timeout(a_while, &mut second).await.is_err());
    assert_eq!((connections.len(), ended.get()), (1, 1));
}

/// A source that only ruins handshakes is refused for a while; one that opens connections and does not need them is not.
#[tokio::test]
async fn who_only_ruins_handshakes_is_refused_for_a_while() {
    let (server, certificate) = testing::server();
    let lab = Lab::on(&endpoint(Security::Tls(Arc::new(server))), FakeGate::default(), options(443), 1);
    for _ in 0..600 {
        drop(lab.client().await);
    }
    within(counted(&lab, Outcome::Unused, 600)).await;
    // Nor one that does not trust the certificate.
    let (_, stranger) = testing::server();
    let socket = TcpStream::connect(lab.address).await.unwrap();
    assert!(within(testing::try_connect(socket, &stranger)).await.is_err());
    within(counted(&lab, Outcome::Refused, 1)).await;
    assert_eq!(lab.stats.penalties.get(), 0);
    // Half a message, one that is none, and no TLS at all.
    let ruins = [&b"\x16\x03\x01"[..], b"\x16\x03\x01\x00\x05hello", b"GET /", b"\0"];
    let mut sent = 0;
    while lab.stats.penalties.get() == 0 {
        assert!(sent < 2_000, "nobody is refused");
        let mut ruined = lab.client().await;
        let _ = ruined.0.write_all(ruins[sent % ruins.len()]).await;
        sent += 1;
        // The gateway has a thread of its own, which may be behind. Half of them are no TLS.
        while lab.stats.penalties.get() == 0 && lab.stats.handshakes(Outcome::Plain) + 20 < (sent / 2) as u64
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(sent > 500, "{sent}");
    let socket = TcpStream::connect(lab.address).await.unwrap();
    assert!(within(testing::try_connect(socket, &certificate)).await.is_err());
}

/// A connection that is closed in order is closed as TLS has it: nobody has cut it.
#[tokio::test]
async fn an_orderly_end_is_told() {
    // Idle for too long; retired by a stop.
    for idle in [Duration::from_millis(50), Duration::from_secs(60)] {
        let (origin, _) = Origin::new().await.serve(OK);
        let (lab, certificate) = lab(ProxyOptions { idle_timeout: idle, ..options(443) });
        let mut client = client(&lab, &certificate).await;
        let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        assert_eq!(client.ask(request).await.status(), 200);
        if idle > Duration::from_secs(1) {
            within(lab.running.clone().drain(Duration::from_secs(60))).await;
        }
        let mut rest = Vec::new();
        within(client.0.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty());
    }
}

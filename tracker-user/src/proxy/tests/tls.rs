//! The proxy on a listener under TLS, with a real client of it.

use rustls::pki_types::CertificateDer;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::testing;
use crate::proxy::handshakes::{Handshakes, MAX_HANDSHAKES};

/// A proxy under TLS that serves everybody, and its certificate.
fn lab(options: ProxyOptions) -> (Lab, CertificateDer<'static>) {
    let (server, certificate) = testing::server();
    let endpoint = endpoint(Security::Tls(Arc::new(server)));
    let gate = FakeGate { open: true, ..FakeGate::default() };
    (Lab::on(&endpoint, gate, options, 1), certificate)
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

/// Whoever speaks no TLS gets no words and no request through; others are served all the while.
#[tokio::test]
async fn what_is_no_tls_is_closed_without_an_answer() {
    let (origin, connections) = Origin::new().await.serve(OK);
    let (lab, certificate) = lab(options(443));
    let mut plain = lab.client().await;
    let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
    plain.send(&request).await;
    let mut rest = Vec::new();
    let _ = within(plain.0.read_to_end(&mut rest)).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP"), "an alert of TLS at most");
    assert_eq!((connections.load(Relaxed), lab.stats.connections.get()), (0, 0));
    assert_eq!(client(&lab, &certificate).await.ask(request).await.status(), 200);
}

/// A connection that is turned away is closed: a page in the clear would be no TLS.
#[tokio::test]
async fn who_is_one_too_many_is_closed_without_a_word() {
    let (lab, certificate) = lab(ProxyOptions { max_connections_per_client: 1, ..options(443) });
    let _first = client(&lab, &certificate).await;
    let mut second = lab.client().await;
    let mut rest = Vec::new();
    let _ = within(second.0.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
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
    let begun = tokio::time::Instant::now();
    assert!(Handshakes::default().run(stream, &server).await.is_none());
    assert_eq!(begun.elapsed().as_secs(), 30);
    assert!(connections.is_empty());
    assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
}

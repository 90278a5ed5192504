//! Clients under TLS that come in pieces, leave in the middle, or do not read.

use rustls::pki_types::CertificateDer;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::net::testing;

fn lab(connect_port: u16) -> (Lab, CertificateDer<'static>) {
    let (server, certificate) = testing::server();
    let endpoint = endpoint(Security::Tls(Arc::new(server)));
    let gate = FakeGate { open: true, ..FakeGate::default() };
    (Lab::on(&endpoint, gate, options(connect_port), 1), certificate)
}

async fn client(lab: &Lab, certificate: &CertificateDer<'static>) -> Peer<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(lab.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    Peer::new(within(testing::connect(socket, certificate)).await)
}

async fn is_empty(lab: &Lab) {
    within(async {
        while !lab.connections.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// Content that breaks off is not made whole, although the client's TCP has ended as if it had said all.
#[tokio::test]
async fn an_upload_that_ends_without_tls_saying_so_is_not_whole() {
    for (framing, content) in [
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
        ("Content-Length: 6", "abc"),
    ] {
        for says_so in [true, false] {
            let origin = Origin::new().await;
            let (lab, certificate) = lab(443);
            let mut client = client(&lab, &certificate).await;
            let head =
                format!("POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\n{framing}\r\n\r\n", origin.address());
            client.send(head + content).await;
            let mut far = origin.accept().await;
            far.head().await;
            if says_so {
                client.0.get_mut().shutdown().await.unwrap();
            } else {
                client.0.get_mut().get_mut().0.shutdown().await.unwrap();
            }
            let mut rest = Vec::new();
            let _ = within(far.0.read_to_end(&mut rest)).await;
            assert!(
                !rest.ends_with(b"0\r\n\r\n") && rest.len() < 6 + 8,
                "{:?}",
                String::from_utf8_lossy(&rest)
            );
            is_empty(&lab).await;
        }
    }
}

/// What the kernel and TLS hold for a client that does not read is not waited for when its connection is ended.
#[tokio::test]
async fn a_client_that_does_not_read_can_be_ended() {
    for tunnel in [false, true] {
        let origin = Origin::new().await;
        let (lab, certificate) = lab(origin.address().port());
        let mut client = client(&lab, &certificate).await;
        if tunnel {
            client.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
        } else {
            client.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address())).await;
        }
        let mut far = origin.accept().await;
        if !tunnel {
            far.head().await;
            far.send("HTTP/1.1 200 OK\r\n\r\n").await;
        }
        let chunk = vec![7; 1 << 16];
        while timeout(Duration::from_millis(300), far.0.get_mut().write_all(&chunk)).await.is_ok() {}
        assert_eq!(lab.connections.end_all(), 1);
        is_empty(&lab).await;
        within(async { while far.0.get_mut().write_all(&chunk).await.is_ok() {} }).await;
        let mut all = Vec::new();
        assert!(within(client.0.read_to_end(&mut all)).await.is_err(), "no clean end");
    }
}

/// A client that has said its last word gets all of its answer, and after it the end.
#[tokio::test]
async fn who_has_said_all_gets_the_whole_answer() {
    let origin = Origin::new().await;
    let (lab, certificate) = lab(443);
    let mut client = client(&lab, &certificate).await;
    client.send(format!("GET http://{0}/ HTTP/1.1\r\nHost: {0}\r\n\r\n", origin.address())).await;
    client.0.get_mut().shutdown().await.unwrap();
    let mut far = origin.accept().await;
    far.head().await;
    let content = "x".repeat(2_000_000);
    far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len())).await;
    assert!(client.answer().await.text() == content);
    assert!(client.is_closed().await);
    is_empty(&lab).await;
}

/// One that reads nothing before it has sent all gets an answer that came early, and its whole upload is taken.
#[tokio::test]
async fn an_early_answer_is_read_after_the_upload() {
    let origin = Origin::new().await;
    let (lab, certificate) = lab(443);
    let mut client = client(&lab, &certificate).await;
    let content = vec![b'x'; 5_000_000];
    let head = format!(
        "POST http://{0}/ HTTP/1.1\r\nHost: {0}\r\nContent-Length: {1}\r\n\r\n",
        origin.address(),
        content.len()
    );
    let early = async {
        let mut far = origin.accept().await;
        far.head().await;
        far.send("HTTP/1.1 403 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").await;
        // Closed on what it has not read, it would take its answer back.
        far
    };
    let upload = async {
        client.send(head).await;
        client.send(&content).await;
        client.answer().await
    };
    let (_far, answer) = tokio::join!(early, upload);
    assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
    drop(client);
    is_empty(&lab).await;
}

/// A record that is none breaks a tunnel on both sides.
#[tokio::test]
async fn garbage_in_a_tunnel_breaks_it() {
    let origin = Origin::new().await;
    let (lab, certificate) = lab(origin.address().port());
    let mut client = client(&lab, &certificate).await;
    client.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
    assert_eq!(client.head().await.status(), 200);
    let mut far = origin.accept().await;
    client
        .0
        .get_mut()
        .get_mut()
        .0
        .write_all(&[0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
        .await
        .unwrap();
    let mut rest = Vec::new();
    let _ = within(far.0.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    is_empty(&lab).await;
}

/// A handshake may come byte by byte, and the request with it.
#[tokio::test]
async fn a_handshake_may_come_in_any_pieces() {
    let (origin, _) = Origin::new().await.serve(OK);
    let (lab, certificate) = lab(443);
    let socket = TcpStream::connect(lab.address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (near, far) = tokio::io::duplex(1 << 20);
    let (mut from, mut back) = tokio::io::split(far);
    let (mut read, mut write) = socket.into_split();
    let pieces = tokio::spawn(async move {
        let mut byte = [0; 1];
        while let Ok(1) = from.read(&mut byte).await {
            write.write_all(&byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    tokio::spawn(async move { tokio::io::copy(&mut read, &mut back).await });
    let stream = within(testing::connect(near, &certificate)).await;
    let mut client = Peer::new(stream);
    let answer = client.ask(format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n")).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
    drop(client);
    within(pieces).await.unwrap();
}

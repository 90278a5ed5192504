//! Connections that begin with a PROXY header, from who may send one and from who may not.

use super::*;
use crate::net::testing;
use crate::proxy::balancer::{MAX_HEADERS, Outcome};

/// A proxy that takes loopback for balancers, and these options.
fn options_behind() -> ProxyOptions {
    let balancers = Balancers::new(&["127.0.0.1/32".parse().unwrap(), "192.0.2.128/25".parse().unwrap()]);
    ProxyOptions { balancers, ..options(443) }
}

fn behind(security: Security, options: ProxyOptions) -> Lab {
    let gate = FakeGate { open: true, ..FakeGate::default() };
    Lab::on(&endpoint(security), gate, options, 1)
}

const HEADER: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 4660 3128\r\n";
/// The same in version 2.
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\x12\x34\x0c\x38";
/// A health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn request(origin: SocketAddr) -> String {
    format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n")
}

/// Waits until this many connections have come to this.
async fn counted(lab: &Lab, outcome: Outcome, count: u64) {
    within(async {
        while lab.stats.proxy_headers(outcome) != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn requests_are_the_clients_whom_the_header_names_in_whatever_pieces_it_comes() {
    let (origin, _) = Origin::new().await.serve(OK);
    let lab = behind(Security::Plain, options_behind());
    for header in [HEADER.as_bytes(), BINARY] {
        for cut in [0, 1, 11, 12, 15, 16, 20, header.len() - 1, header.len()] {
            let mut client = lab.client().await;
            client.0.get_ref().set_nodelay(true).unwrap();
            let (first, rest) = header.split_at(cut);
            client.send(first).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
            client.send(rest).await;
            assert_eq!(client.ask(request(origin)).await.status(), 200);
            let info = lab.connections.of("192.0.2.7".parse().unwrap()).pop().unwrap();
            let own_end = client.0.get_ref().local_addr().unwrap();
            assert_eq!((info.peer.to_string().as_str(), info.via), ("192.0.2.7:4660", Some(own_end)));
            assert_eq!(info.rx, request(origin).len() as u64, "the header is not the client's");
        }
    }
    counted(&lab, Outcome::Accepted, 18).await;
    assert!(lab.connections.of("127.0.0.1".parse().unwrap()).is_empty());
    assert_eq!(lab.running.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn under_tls_the_header_comes_before_the_handshake() {
    let (origin, _) = Origin::new().await.serve(OK);
    let (server, certificate) = testing::server();
    let lab = behind(Security::Tls(Arc::new(server)), options_behind());
    for header in [HEADER.as_bytes(), BINARY] {
        let mut socket = TcpStream::connect(lab.address).await.unwrap();
        socket.write_all(header).await.unwrap();
        let mut client = Peer::new(within(testing::connect(socket, &certificate)).await);
        assert_eq!(client.ask(request(origin)).await.status(), 200);
        assert_eq!(lab.connections.of("192.0.2.7".parse().unwrap()).len(), 1);
        drop(client);
        within(async {
            while !lab.connections.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_balancer_that_does_not_say_who_the_client_is_is_refused_and_never_penalised() {
    let (origin, connections) = Origin::new().await.serve(OK);
    let lab = behind(Security::Plain, options_behind());
    let bad: [(&[u8], Outcome); 6] = [
        (request(origin).leak().as_bytes(), Outcome::Missing),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 66000 3128\r\n", Outcome::Malformed),
        (b"PROXY TCP4 127.0.0.2 198.51.100.1 4660 3128\r\n", Outcome::Address),
        (b"PROXY TCP4 192.0.2.200 198.51.100.1 4660 3128\r\n", Outcome::Address),
        (b"PROXY UNKNOWN\r\n", Outcome::Unknown),
        (b"", Outcome::Closed),
    ];
    const TIMES: u64 = 120;
    for (bytes, outcome) in bad {
        let before = lab.stats.proxy_headers(outcome);
        for _ in 0..TIMES {
            let mut client = lab.client().await;
            client.send(bytes).await;
            client.0.get_mut().shutdown().await.unwrap();
            assert!(client.is_closed().await, "{}", bytes.escape_ascii());
        }
        counted(&lab, outcome, before + TIMES).await;
    }
    assert_eq!(connections.load(Relaxed), 0);
    let warnings = lab.running.warnings().join("\n");
    for words in ["do not begin with a PROXY header", "send-proxy-v2", "not well formed", "names no client"] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    assert!(!warnings.contains("refused for a while"), "{warnings}");
    // 720 failures later its clients are served.
    let mut client = lab.client().await;
    assert_eq!(client.ask(HEADER.to_owned() + &request(origin)).await.status(), 200);
}

#[tokio::test]
async fn a_health_check_is_closed_in_order_and_is_nothing_to_tell() {
    let lab = behind(Security::Plain, options_behind());
    // The last one says that the balancer is the client.
    let own: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 3128\r\n";
    let unknown: &[u8] = b"PROXY UNKNOWN\r\n";
    for (check, outcome) in [(LOCAL, Outcome::Local), (unknown, Outcome::Unknown), (own, Outcome::Local)] {
        let before = lab.stats.proxy_headers(outcome);
        let mut client = lab.client().await;
        client.send(check).await;
        assert_eq!(within(client.0.read(&mut [0; 1])).await.unwrap(), 0, "an end, and no reset");
        counted(&lab, outcome, before + 1).await;
    }
    assert_eq!(lab.running.warnings(), Vec::<String>::new());
    assert!(lab.connections.is_empty());
}

#[tokio::test]
async fn a_header_from_somebody_else_or_behind_another_is_refused_and_told() {
    let (origin, connections) = Origin::new().await.serve(OK);
    let untrusting = Lab::open();
    let trusting = behind(Security::Plain, options_behind());
    for header in [HEADER.as_bytes(), BINARY] {
        for (lab, first) in [(&untrusting, &b""[..]), (&trusting, HEADER.as_bytes())] {
            let mut client = lab.client().await;
            let answer = client.ask([first, header, request(origin).as_bytes()].concat()).await;
            assert_eq!(answer.status(), 400);
            assert!(client.is_closed().await);
        }
        assert!(untrusting.connections.of("192.0.2.7".parse().unwrap()).is_empty());
    }
    for lab in [&untrusting, &trusting] {
        counted(lab, Outcome::Untrusted, 2).await;
        assert!(lab.running.warnings().concat().contains("put its address on the list"));
    }
    assert_eq!(connections.load(Relaxed), 0);
}

#[tokio::test]
async fn headers_that_do_not_come_are_given_up_the_oldest_first() {
    let (origin, _) = Origin::new().await.serve(OK);
    let lab = behind(Security::Plain, options_behind());
    let mut waiting = Vec::new();
    for _ in 0..MAX_HEADERS + 2 {
        let mut client = lab.client().await;
        client.send("PROXY TCP4 ").await;
        waiting.push(client);
    }
    counted(&lab, Outcome::Crowded, 2).await;
    for client in &mut waiting[..2] {
        assert!(client.is_closed().await);
    }
    // The others had their time.
    counted(&lab, Outcome::Slow, MAX_HEADERS as u64).await;
    let mut client = lab.client().await;
    assert_eq!(client.ask(HEADER.to_owned() + &request(origin)).await.status(), 200);
}

#[tokio::test]
async fn limits_and_penalties_are_the_clients_own() {
    let (origin, _) = Origin::new().await.serve(OK);
    let options = ProxyOptions { max_connections_per_client: 2, ..options_behind() };
    let lab = behind(Security::Plain, options);
    let header = |client: u8| format!("PROXY TCP4 192.0.2.{client} 198.51.100.1 4660 3128\r\n");
    let mut held = Vec::new();
    for client in [7, 7, 8, 8] {
        let mut peer = lab.client().await;
        assert_eq!(peer.ask(header(client) + &request(origin)).await.status(), 200);
        held.push(peer);
    }
    let mut peer = lab.client().await;
    assert_eq!(peer.ask(header(7) + &request(origin)).await.status(), 503);
    assert!(lab.running.warnings().concat().contains("max-connections-per-client"));
}

/// Who is waiting for a header when the proxy stops is not waited for.
#[tokio::test]
async fn a_stop_does_not_wait_for_headers() {
    let lab = behind(Security::Plain, options_behind());
    let mut client = lab.client().await;
    client.send("PROXY ").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    within(lab.running.clone().drain(Duration::from_secs(60))).await;
    assert!(client.is_closed().await);
}

//! CONNECT and changes of protocol.

use super::*;

async fn lab() -> (Lab, Origin) {
    let origin = Origin::new().await;
    let lab = Lab::new(FakeGate { open: true, ..FakeGate::default() }, options(origin.address().port()));
    (lab, origin)
}

#[tokio::test]
async fn a_tunnel_with_half_close_both_ways() {
    for client_first in [true, false] {
        let (lab, origin) = lab().await;
        let mut client = lab.client().await;
        // The first bytes come with the request.
        client.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\nearly", origin.address())).await;
        let answer = client.head().await;
        assert_eq!((answer.status(), answer.field("content-length")), (200, None));
        assert_eq!(answer.field("transfer-encoding"), None);
        let mut far = origin.accept().await;
        let mut early = [0; 5];
        far.0.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        assert_eq!(lab.stats.tunnels_open.get(), 1);
        let info = &lab.connections.of("127.0.0.1".parse().unwrap())[0];
        assert_eq!(info.carries.to_string(), format!("CONNECT {}", origin.address()));

        let (mut first, mut second) = if client_first { (client, far) } else { (far, client) };
        first.0.get_mut().shutdown().await.unwrap();
        assert!(second.is_closed().await, "the end has been passed on");
        second.send(vec![7; 1_000_000]).await;
        second.0.get_mut().shutdown().await.unwrap();
        let mut all = Vec::new();
        within(first.0.read_to_end(&mut all)).await.unwrap();
        assert_eq!(all.len(), 1_000_000, "the other direction went on");
        while lab.stats.tunnels_open.get() > 0 || !lab.connections.is_empty() {
            tokio::task::yield_now().await;
        }
        let (up, down) = if client_first { (5, 1_000_000) } else { (1_000_005, 0) };
        assert_eq!((lab.stats.bytes_received.get(), lab.stats.bytes_sent.get()), (up, down));
    }
}

#[tokio::test]
async fn a_tunnel_carries_the_gateways_proof() {
    let origin = Origin::new().await;
    let lab = Lab::new(FakeGate::default(), options(origin.address().port()));
    let mut client = lab.client().await;
    let connect = |more: &str| format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n{more}\r\n", origin.address());
    assert_eq!(client.ask(connect("")).await.status(), 407);
    client.send(connect(&negotiate("user alice"))).await;
    let answer = client.head().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.field("proxy-authenticate").is_some());
}

#[tokio::test]
async fn a_tunnel_that_cannot_be_made() {
    let (lab, origin) = lab().await;
    let to = origin.address();
    drop(origin);
    let mut client = lab.client().await;
    let answer = client.ask(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    assert!(answer.status() == 502 && answer.text().contains("refused"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_reset_ends_both_sides() {
    let (lab, origin) = lab().await;
    let mut client = lab.client().await;
    client.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
    client.head().await;
    let far = origin.accept().await.0.into_inner();
    nix::sys::socket::setsockopt(
        &far,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .unwrap();
    drop(far);
    assert!(client.is_closed().await);
    while !lab.connections.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_change_of_protocol_becomes_a_tunnel() {
    let (lab, origin) = lab().await;
    let mut client = lab.client().await;
    client
        .send(format!(
            "GET http://{}/chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n",
            origin.address()
        ))
        .await;
    let mut far = origin.accept().await;
    let request = far.head().await;
    assert_eq!((request.field("connection"), request.field("upgrade")), (Some("upgrade"), Some("websocket")));
    far.send("HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\nhello").await;
    let answer = client.head().await;
    assert_eq!(
        (answer.status(), answer.field("upgrade"), answer.field("x")),
        (101, Some("websocket"), Some("1"))
    );
    assert_eq!(answer.field("connection"), Some("upgrade"));
    let mut hello = [0; 5];
    client.0.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
    client.send("bye").await;
    let mut bye = [0; 3];
    far.0.read_exact(&mut bye).await.unwrap();
    assert_eq!(&bye, b"bye");
}

#[tokio::test]
async fn an_origin_that_does_not_change_the_protocol_just_answers() {
    let lab = Lab::open();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let upgrade =
        format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    for _ in 0..2 {
        assert_eq!(client.ask(&upgrade).await.text(), "ok");
    }
}

/// HTTP/2 in clear text would hide further requests from the proxy.
#[tokio::test]
async fn other_versions_of_http_are_not_changed_to() {
    let (lab, origin) = lab().await;
    let mut client = lab.client().await;
    client
        .send(format!(
            "GET http://{}/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n",
            origin.address()
        ))
        .await;
    let request = origin.accept().await.head().await;
    assert_eq!((request.field("upgrade"), request.field("http2-settings")), (None, None));
}

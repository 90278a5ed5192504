//! Beginnings and ends of connections.

use super::*;

fn client_address() -> ClientAddr {
    "127.0.0.1".parse().unwrap()
}

#[tokio::test]
async fn destroying_a_session_ends_its_tunnels_and_pending_requests_and_no_others() {
    let origin = Origin::new().await;
    let to = origin.address();
    let lab = Lab::new(FakeGate::default(), options(to.port()));
    let login = |user: &str| negotiate(&format!("user {user}"));
    let connect = |user: &str| format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n{}\r\n", login(user));

    let mut tunnel = lab.client().await;
    tunnel.send(connect("alice")).await;
    tunnel.head().await;
    let mut tunnel_far = origin.accept().await;
    let mut pending = lab.client().await;
    pending.send(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    let mut pending_far = origin.accept().await;
    pending_far.head().await;
    let mut other = lab.client().await;
    other.send(connect("bob")).await;
    other.head().await;
    let mut other_far = origin.accept().await;

    assert_eq!(lab.connections.destroy(client_address(), SessionId::test(1), None), 2);
    for peer in [&mut tunnel, &mut tunnel_far, &mut pending, &mut pending_far] {
        assert!(peer.is_closed().await);
    }
    other.send("x").await;
    assert_eq!(within(other_far.0.read_u8()).await.unwrap(), b'x');
    assert_eq!(lab.connections.of(client_address()).len(), 1);
}

#[tokio::test]
async fn slow_heads_and_long_silences_end() {
    let short = Duration::from_millis(150);
    let gate = FakeGate { open: true, ..FakeGate::default() };
    let options = ProxyOptions { header_timeout: short, idle_timeout: 3 * short, ..options(443) };
    let lab = Lab::new(gate, options);
    let (to, _) = Origin::new().await.serve(OK);
    let request = format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n");

    // One byte at a time is not enough.
    let mut slow = lab.client().await;
    let started = boot_now();
    let drip = async {
        for byte in request.bytes() {
            if slow.0.get_mut().write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    drip.await;
    assert!(slow.is_closed().await);
    assert!(boot_now().since(started) > short);

    // Between requests there is more time than within a head, and then it ends cleanly.
    let mut idle = lab.client().await;
    for _ in 0..2 {
        assert_eq!(idle.ask(&request).await.status(), 200);
        tokio::time::sleep(2 * short).await;
    }
    assert_eq!(idle.ask(&request).await.status(), 200);
    assert!(matches!(within(idle.0.read(&mut [0])).await, Ok(0)));
}

#[tokio::test]
async fn a_long_answer_is_not_a_silence() {
    let short = Duration::from_millis(50);
    let gate = FakeGate { open: true, ..FakeGate::default() };
    let lab = Lab::new(gate, ProxyOptions { header_timeout: short, idle_timeout: short, ..options(443) });
    let origin = Origin::new().await;
    let mut client = lab.client().await;
    client.send(format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    far.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
    tokio::time::sleep(6 * short).await;
    far.send("k").await;
    assert_eq!(client.answer().await.text(), "ok");
}

#[tokio::test]
async fn draining_lets_what_is_served_end() {
    let origin = Origin::new().await;
    let to = origin.address();
    let lab = Lab::new(FakeGate { open: true, ..FakeGate::default() }, options(to.port()));
    let (mut busy, mut idle, mut tunnel) = (lab.client().await, lab.client().await, lab.client().await);
    let request = format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    busy.send(&request).await;
    let mut far = origin.accept().await;
    far.read(true).await;
    tunnel.send(format!("CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
    tunnel.head().await;
    let mut tunnel_far = origin.accept().await;
    while lab.connections.len() < 3 {
        tokio::task::yield_now().await;
    }

    let address = lab.address;
    let drained = tokio::spawn(lab.running.drain(Duration::from_millis(500)));
    assert!(idle.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err() || lab.connections.len() < 3);
    far.send(OK).await;
    let answer = busy.answer().await;
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("ok", Some("close")));
    tunnel.send("x").await;
    assert_eq!(within(tunnel_far.0.read_u8()).await.unwrap(), b'x', "until the grace is over");
    within(drained).await.unwrap();
    assert!(tunnel.is_closed().await && tunnel_far.is_closed().await);
    assert!(lab.connections.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_leave_nothing_behind() {
    let gate = FakeGate { open: true, ..FakeGate::default() };
    let lab = Arc::new(Lab::with_workers(gate, options(443), 3));
    let (to, _) = Origin::new().await.serve(OK);
    let mut clients = Vec::new();
    for number in 0..50 {
        let lab = Arc::clone(&lab);
        clients.push(tokio::spawn(async move {
            for _ in 0..10 {
                let mut client = lab.client().await;
                client.send(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
                // Some leave before the answer.
                if number % 3 > 0 {
                    assert_eq!(client.answer().await.status(), 200);
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    while !lab.connections.is_empty() || lab.stats.connections_open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

use crate::clock::boot_now;

/// Refusals of requests that were sent one behind the other fill what the kernel takes; nobody waits for ever for room.
#[tokio::test]
async fn who_does_not_take_a_refusal_is_let_go() {
    let gate = FakeGate { open: true, ..FakeGate::default() };
    let lab = Lab::new(gate, ProxyOptions { header_timeout: Duration::from_millis(200), ..options(443) });
    let mut client = lab.client().await;
    let requests = "GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    within(async { while client.0.get_mut().write_all(requests.as_bytes()).await.is_ok() {} }).await;
}

//! Whose an origin's connection is that somebody may have authenticated themselves on.

use super::*;

/// The number of the origin's connection that a request came on.
fn served_on(answer: &Message) -> usize {
    assert_eq!(answer.status(), 200, "{}", answer.head);
    answer.text().parse().unwrap()
}

/// Answers every request with the number of its connection, and counts those that are open.
fn numbered(origin: Origin) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, open) = (origin.address(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&open);
    tokio::spawn(async move {
        for number in 1_usize.. {
            let Ok((stream, _)) = origin.0.accept().await else { return };
            let counter = Arc::clone(&counter);
            counter.fetch_add(1, Relaxed);
            tokio::spawn(async move {
                let mut peer = Peer::new(stream);
                while !peer.0.fill_buf().await.unwrap_or_default().is_empty() {
                    peer.read(true).await;
                    let text = number.to_string();
                    peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()))
                        .await;
                }
                counter.fetch_sub(1, Relaxed);
            });
        }
    });
    (address, open)
}

fn get(to: SocketAddr, more: &str) -> String {
    format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

async fn open_are(open: &AtomicUsize, count: usize) {
    within(async {
        while open.load(Relaxed) != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_next_user_of_a_clients_connection_never_gets_the_first_ones() {
    for credentials in [
        "Authorization: NTLM YQ==\r\n",
        "Authorization: NTLM\tYQ==\r\n",
        "Authorization: , NTLM YQ==\r\n",
        "Authorization: Nego2 YQ==\r\n",
        "Authorization: Basic YQ==\r\nAuthorization: NTLM YQ==\r\n",
        "Authorization:\r\n",
    ] {
        let lab = Lab::closed();
        let (to, open) = numbered(Origin::new().await);
        let mut client = lab.client().await;
        let of_alice = client.ask(get(to, &format!("{}{credentials}", negotiate("user alice")))).await;
        assert_eq!(served_on(&of_alice), 1);
        assert_eq!(served_on(&client.ask(get(to, "")).await), 1, "{credentials}: it stays hers");
        assert_eq!(lab.stats.origins_idle.get(), 0, "{credentials}: and nobody else's");
        assert_eq!(
            served_on(&lab.client().await.ask(get(to, "")).await),
            2,
            "{credentials}: nor another connection's"
        );

        let of_bob = client.ask(get(to, &negotiate("user bob"))).await;
        assert_eq!(served_on(&of_bob), 2, "{credentials}: bob gets one that proves nobody");
        open_are(&open, 1).await;
    }
}

#[tokio::test]
async fn on_a_shared_host_too() {
    let lab = Lab::new(FakeGate { shared: true, ..FakeGate::default() }, options(443));
    let (to, open) = numbered(Origin::new().await);
    let mut client = lab.client().await;
    let login =
        |user: &str| get(to, &format!("{}Authorization: NTLM YQ==\r\n", negotiate(&format!("user {user}"))));
    assert_eq!(served_on(&client.ask(login("alice")).await), 1);
    assert_eq!(served_on(&client.ask(login("bob")).await), 2);
    assert_eq!(served_on(&client.ask(get(to, "")).await), 2);
    open_are(&open, 1).await;
}

#[tokio::test]
async fn a_session_that_ended_takes_it_along() {
    let lab = Lab::closed();
    let (to, open) = numbered(Origin::new().await);
    let mut client = lab.client().await;
    let login = get(to, &format!("{}Authorization: NTLM YQ==\r\n", negotiate("user alice")));
    assert_eq!(served_on(&client.ask(&login).await), 1);
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(client.ask(get(to, "")).await.status(), 407);
    assert_eq!(served_on(&client.ask(&login).await), 2, "the same user, but another session");
    open_are(&open, 1).await;
}

#[tokio::test]
async fn what_authenticates_its_request_alone_shares() {
    let lab = Lab::closed();
    let (to, _) = numbered(Origin::new().await);
    let mut client = lab.client().await;
    for credentials in ["Basic YQ==", "Bearer a.b", "Digest username=\"a\", uri=\"/\""] {
        let request = get(to, &format!("{}Authorization: {credentials}\r\n", negotiate("user alice")));
        assert_eq!(served_on(&client.ask(request).await), 1, "{credentials}");
        within(lab.idle_origins(1)).await;
    }
    assert_eq!(served_on(&lab.client().await.ask(get(to, "")).await), 1);
}

//! What goes through, and how.

use super::*;

#[tokio::test]
async fn a_request_reaches_the_origin_in_its_form_and_the_answer_comes_back() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let to = origin.address();
    let mut client = lab.client().await;
    client
        .send(format!(
            "GET http://{to}/path?q=1 HTTP/1.1\r\nHost: wrong.test\r\nX-Own: 1\r\nX-Other: 2\r\n\
             Connection: x-own\r\nProxy-Connection: keep-alive\r\nProxy-Foo: 3\r\n\r\n"
        ))
        .await;
    let mut far = origin.accept().await;
    let request = far.read(true).await;
    assert_eq!(request.start, "GET /path?q=1 HTTP/1.1\r\n");
    assert_eq!(request.field("host"), Some(to.to_string().as_str()));
    assert_eq!((request.field("x-own"), request.field("x-other")), (None, Some("2")));
    assert_eq!((request.field("proxy-connection"), request.field("connection")), (None, None));
    assert_eq!(request.field("via"), Some("1.1 tracker"));
    far.send("HTTP/1.1 299 Fine\r\nConnection: x-hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\nVia: 1.0 far\r\nContent-Length: 5\r\n\r\nhello").await;
    let answer = client.answer().await;
    assert_eq!((answer.start.as_str(), answer.text().as_str()), ("HTTP/1.1 299 Fine\r\n", "hello"));
    assert_eq!((answer.field("x-hop"), answer.field("proxy-authenticate")), (None, None));
    assert!(answer.head.contains("Via: 1.0 far\r\nVia: 1.1 tracker\r\n"), "{}", answer.head);
    assert_eq!(lab.gate.sessions.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn both_sides_keep_their_connections() {
    let lab = Lab::open();
    let (to, connections) = Origin::new().await.serve(OK);
    for _ in 0..2 {
        let mut client = lab.client().await;
        for _ in 0..3 {
            let answer = client.ask(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert_eq!((answer.status(), answer.text().as_str()), (200, "ok"));
        }
    }
    assert_eq!(connections.load(Relaxed), 1, "one connection served all six");
    assert_eq!(lab.stats.origins_reused.get(), 5);
    within(lab.idle_origins(1)).await;
    lab.running.configure(options(443));
    within(lab.idle_origins(0)).await;
}

#[tokio::test]
async fn content_streams_both_ways_with_trailers() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let to = origin.address();
    let mut client = lab.client().await;
    client
        .send(format!(
            "PROPFROB http://{to}/ HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
        ))
        .await;
    let mut far = origin.accept().await;
    let head = far.head().await;
    assert_eq!(head.start, "PROPFROB / HTTP/1.1\r\n");
    assert_eq!((head.field("te"), head.field("connection")), (Some("trailers"), Some("TE")));
    assert_eq!(far.line().await + &far.line().await, "5\r\nfirst\r\n", "before the rest was sent");
    far.send("HTTP/1.1 200 OK\r\nTrailer: X-Far\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nback\r\n").await;
    let answer = client.head().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(client.line().await + &client.line().await, "4\r\nback\r\n", "while the request goes on");
    client.send("6\r\nsecond\r\n0\r\nX-Sum: 7\r\n\r\n").await;
    assert_eq!(far.line().await + &far.line().await, "6\r\nsecond\r\n");
    assert_eq!(far.line().await + &far.line().await + &far.line().await, "0\r\nX-Sum: 7\r\n\r\n");
    far.send("0\r\nX-Far: 8\r\n\r\n").await;
    assert_eq!(client.line().await + &client.line().await + &client.line().await, "0\r\nX-Far: 8\r\n\r\n");
}

#[tokio::test]
async fn a_get_with_chunked_content_keeps_it() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    let request = format!(
        "GET http://{}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        origin.address()
    );
    client.send(request).await;
    assert_eq!(origin.accept().await.read(true).await.text(), "abc");
}

#[tokio::test]
async fn much_content_in_constant_memory() {
    const SIZE: usize = 64 << 20;
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let to = origin.address();
    let echo = tokio::spawn(async move {
        let mut far = origin.accept().await;
        far.head().await;
        far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        let early = far.0.buffer().to_vec();
        far.send(early).await;
        let (mut read, mut write) = far.0.into_inner().into_split();
        tokio::io::copy(&mut read, &mut write).await.unwrap()
    });
    let client = TcpStream::connect(lab.address).await.unwrap();
    let (read, mut write) = client.into_split();
    write
        .write_all(
            format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n").as_bytes(),
        )
        .await
        .unwrap();
    let sender = tokio::spawn(async move {
        let chunk = vec![9; 1 << 16];
        for _ in 0..SIZE / chunk.len() {
            write.write_all(&chunk).await.unwrap();
        }
        write
    });
    let mut read = BufReader::new(read);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        read.read_line(&mut line).await.unwrap();
    }
    let received = tokio::io::copy(&mut read.take(SIZE as u64), &mut tokio::io::sink()).await.unwrap();
    assert_eq!(received, SIZE as u64);
    drop(sender.await.unwrap());
    echo.abort();
}

/// Long content is spliced: it must arrive as it was, end where it says, and leave both connections usable.
#[tokio::test]
async fn long_content_arrives_unharmed_both_ways_on_kept_connections() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let content: Vec<u8> = (0..3_000_001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let to = origin.address();
    let served = content.clone();
    let far = tokio::spawn(async move {
        let mut far = origin.accept().await;
        for _ in 0..3 {
            let request = far.read(true).await;
            assert!(request.body == served, "{} bytes arrived", request.body.len());
            far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len())).await;
            far.send(&request.body).await;
        }
    });
    let mut client = lab.client().await;
    for _ in 0..3 {
        let head =
            format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", content.len());
        client.send(head).await;
        client.send(&content).await;
        assert!(client.answer().await.body == content);
    }
    within(far).await.unwrap();
    within(lab.idle_origins(1)).await;
    assert_eq!(lab.stats.bytes_received.get(), 3 * content.len() as u64);
    assert_eq!(lab.stats.bytes_sent.get(), 3 * content.len() as u64);
}

fn expecting(to: SocketAddr, version: &str, expects: &str, length: usize) -> String {
    format!(
        "PUT http://{to}/ HTTP/{version}\r\nHost: x\r\nExpect: {expects}\r\nContent-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn content_is_sent_when_the_origin_wants_it() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(expecting(origin.address(), "1.1", "100-continue", 3)).await;
    let mut far = origin.accept().await;
    assert_eq!(far.head().await.field("expect"), Some("100-continue"));
    far.send("HTTP/1.1 100 Go on\r\n\r\n").await;
    assert_eq!(client.head().await.start, "HTTP/1.1 100 Go on\r\n", "the origin's, not ours");
    client.send("abc").await;
    let mut content = [0; 3];
    within(far.0.read_exact(&mut content)).await.unwrap();
    assert_eq!(&content, b"abc");
    far.send(OK).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
}

/// An origin of HTTP/1.0, or one that does not care: the client waits for as long as it likes.
#[tokio::test]
async fn a_client_that_waits_no_longer_is_not_held_up() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(expecting(origin.address(), "1.1", "100-continue", 3)).await;
    let mut far = origin.accept().await;
    far.head().await;
    client.send("abc").await;
    let mut content = [0; 3];
    within(far.0.read_exact(&mut content)).await.unwrap();
    far.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
}

/// Nobody knows whether the content comes: what follows cannot be told from it.
#[tokio::test]
async fn an_answer_in_the_place_of_100_ends_the_connection() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(expecting(origin.address(), "1.1", "100-continue", 20_000_000)).await;
    let mut far = origin.accept().await;
    far.head().await;
    far.send("HTTP/1.1 401 Who\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (401, Some("close")));
    drop(client);
    assert!(far.is_closed().await, "not a byte of the content");
}

#[tokio::test]
async fn expectations_that_we_do_not_know_are_the_origins() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(expecting(origin.address(), "1.1", "miracles", 3) + "abc").await;
    let mut far = origin.accept().await;
    let request = far.read(true).await;
    assert_eq!((request.field("expect"), request.text().as_str()), (Some("miracles"), "abc"));
    far.send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 417);

    // HTTP/1.0 knows no 100, neither to ask for it nor to be told.
    let mut old = lab.client().await;
    old.send(expecting(origin.address(), "1.0", "100-continue", 3) + "abc").await;
    assert_eq!(far.read(true).await.field("expect"), None);
    far.send(format!("HTTP/1.1 100 Go on\r\n\r\n{OK}")).await;
    assert_eq!(old.answer().await.status(), 200);
}

#[tokio::test]
async fn old_clients_are_served_in_their_version() {
    let lab = Lab::open();
    let (to, _) = Origin::new()
        .await
        .serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let mut client = lab.client().await;
    let answer = client.ask(format!("GET http://{to}/ HTTP/1.0\r\n\r\n")).await;
    assert_eq!((answer.start.as_str(), answer.text().as_str()), ("HTTP/1.0 200 OK\r\n", "ok"));
    assert_eq!(answer.field("transfer-encoding"), None);

    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    for _ in 0..2 {
        let answer = client.ask(format!("GET http://{to}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.field("connection")), (200, Some("keep-alive")));
    }
}

#[tokio::test]
async fn answers_without_content_keep_what_they_say_of_it() {
    let lab = Lab::open();
    for (method, far, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", Some("999")),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 999\r\n\r\n", Some("999")),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        let (to, _) = Origin::new().await.serve(far);
        let mut client = lab.client().await;
        for _ in 0..2 {
            client.send(format!("{method} http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            let answer = client.read(false).await;
            assert_eq!(answer.start.split(' ').nth(1), far.split(' ').nth(1), "{far}");
            assert_eq!(answer.field("content-length"), length, "{far}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection() {
    let (lab, origin) = (Lab::open(), Origin::new().await);
    let mut client = lab.client().await;
    client.send(format!("GET http://{}/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.address())).await;
    let mut far = origin.accept().await;
    far.head().await;
    far.send("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    drop(far);
    let answer = client.answer().await;
    assert_eq!((answer.text().as_str(), answer.field("transfer-encoding")), ("all of it", Some("chunked")));
}

#[tokio::test]
async fn max_forwards_counts_down_to_us() {
    let lab = Lab::open();
    let origin = Origin::new().await;
    let to = origin.address();
    let mut client = lab.client().await;
    let ask = |method: &str, left: u32| {
        format!("{method} http://{to}/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: {left}\r\n\r\n")
    };
    assert_eq!(client.ask(ask("OPTIONS", 0)).await.status(), 200);
    assert_eq!(client.ask(ask("TRACE", 0)).await.status(), 405);
    client.send(ask("OPTIONS", 3)).await;
    assert_eq!(origin.accept().await.read(true).await.field("max-forwards"), Some("2"));
}

/// An origin that authenticates connections must not see two clients on one.
#[tokio::test]
async fn a_connection_that_is_authenticated_to_the_origin_is_never_shared() {
    let lab = Lab::open();
    let (to, connections) =
        Origin::new().await.serve("HTTP/1.1 401 Who\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n");
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    for _ in 0..2 {
        for client in [&mut one, &mut two] {
            let answer = client.ask(format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n\r\n")).await;
            assert_eq!(answer.field("proxy-support"), Some("Session-Based-Authentication"));
        }
    }
    assert_eq!((connections.load(Relaxed), lab.stats.origins_idle.get()), (2, 0));
}

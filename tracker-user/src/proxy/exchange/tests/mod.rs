//! Exchanges that are no connection: the same authorisation, forwarding and tunnels, several at once on one peer.

mod stream;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use self::stream::{Stream, head};
use super::{Peer, serve};
use crate::auth::Channel;
use crate::net::ClientStream;
use crate::proxy::message::Content;
use crate::proxy::tests::{FakeGate, Lab, OK, Origin, negotiate, options, within};
use crate::proxy::worker::Worker;
use crate::types::SessionId;

/// A connection on which nothing is ever read or written: its exchanges come from memory.
struct Carrier {
    lab: Lab,
    peer: Peer,
    stream: ClientStream,
    _far: tokio::net::TcpStream,
}

impl Carrier {
    async fn new(lab: Lab) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, from) = listener.accept().await.unwrap();
        let stream = lab.connections().accept(from.ip().into(), from, near);
        let worker = Rc::new(Worker::new(lab.shared(), 1));
        let peer = Peer::new(worker, Arc::clone(stream.connection()), false, Channel::Plain);
        Self { lab, peer, stream, _far: far }
    }

    /// A GET on a stream of its own.
    async fn get(&self, number: u32, authority: &str, fields: &[(&str, &str)]) -> Stream {
        let mut stream = Stream::new(&self.peer, number, Content::None, &[]);
        let head = head("GET", authority, "/x?y", Content::None, fields);
        assert!(within(serve(&self.peer, head, &mut stream)).await.is_none());
        stream
    }

    fn carried(&self) -> String {
        let connection = self.stream.connection();
        self.lab.connections().of(connection.client()).remove(0).carries.to_string()
    }
}

/// The value of `Proxy-Authorization` with a token in it.
fn token(text: &str) -> String {
    negotiate(text).trim().split_once(": ").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_stream_is_challenged_logs_in_and_is_served_like_a_connection() {
    let (to, connections) = Origin::new().await.serve(OK);
    let to = to.to_string();
    let carrier = Carrier::new(Lab::closed()).await;

    let challenged = carrier.get(1, &to, &[]).await.got;
    assert_eq!((challenged.status, challenged.is_whole), (407, true));
    assert_eq!(challenged.field("Proxy-Authenticate"), Some("Negotiate"));
    assert!(!carrier.peer.is_proved());

    let proved = carrier.get(3, &to, &[("proxy-authorization", &token("user alice"))]).await.got;
    assert_eq!((proved.status, &*proved.content, proved.is_whole), (200, &b"ok"[..], true));
    assert!(proved.field("Proxy-Authenticate").unwrap().starts_with("Negotiate "), "the gateway's own proof");
    assert_eq!(proved.field("Via"), Some("1.1 tracker"));
    assert_eq!(proved.field("Content-Length"), None, "framing is the front's");

    let known = carrier.get(5, &to, &[]).await.got;
    assert_eq!((known.status, known.field("Proxy-Authenticate")), (200, None));
    assert_eq!(
        connections.load(std::sync::atomic::Ordering::Relaxed),
        1,
        "the origin's connection is pooled"
    );
}

#[tokio::test]
async fn content_without_a_length_goes_on_in_chunks_and_answers_come_without_framing() {
    let origin = Origin::new().await;
    let to = origin.address().to_string();
    let carrier = Carrier::new(Lab::open()).await;
    let mut stream = Stream::new(&carrier.peer, 1, Content::Unknown, &[b"hello ", b"world"]);
    let head = head("POST", &to, "", Content::Unknown, &[("te", "trailers"), ("x-own", "1")]);
    let answering = async {
        let mut far = origin.accept().await;
        let request = far.read(true).await;
        far.send(
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n",
        )
        .await;
        far.send("2\r\nok\r\n0\r\n\r\n").await;
        request
    };
    let (tunnel, request) = tokio::join!(serve(&carrier.peer, head, &mut stream), answering);
    assert!(tunnel.is_none());
    assert_eq!((request.start(), request.field("host")), ("POST / HTTP/1.1\r\n", Some(&*to)));
    assert_eq!((request.text().as_str(), request.field("x-own")), ("hello world", Some("1")));
    let got = stream.got;
    assert_eq!((got.interim.as_slice(), got.status, &*got.content), (&[103][..], 200, &b"ok"[..]));
    assert_eq!((got.field("x"), got.field("transfer-encoding")), (Some("1"), None));
}

#[tokio::test]
async fn several_exchanges_are_under_way_at_once_and_end_with_their_connection() {
    let (slow, quick) = (Origin::new().await, Origin::new().await.serve(OK).0.to_string());
    let waiting = slow.address().to_string();
    let carrier = Carrier::new(Lab::closed()).await;
    let login = token("user alice");
    assert_eq!(carrier.get(1, &quick, &[("proxy-authorization", &login)]).await.got.status, 200);
    let connection = carrier.stream.connection();
    connection.end_exchange(1);

    let mut pending = Stream::new(&carrier.peer, 3, Content::None, &[]);
    let unanswered = serve(&carrier.peer, head("GET", &waiting, "/", Content::None, &[]), &mut pending);
    {
        let mut unanswered = pin!(unanswered);
        let others = async {
            let mut far = slow.accept().await;
            far.read(true).await;
            assert_eq!(carrier.get(5, &quick, &[]).await.got.status, 200, "one does not wait for the other");
            assert_eq!(carrier.carried(), format!("GET {waiting}, GET {quick}"));
            connection.end_exchange(5);
            assert_eq!(carrier.carried(), format!("GET {waiting}"));
            let session = connection.session().unwrap();
            assert_eq!(carrier.lab.connections().destroy(connection.client(), session, None), 1);
            far
        };
        let ended = poll_fn(|cx| connection.poll_until_end(cx, unanswered.as_mut()));
        let (ended, _far) = within(async { tokio::join!(ended, others) }).await;
        assert!(ended.is_none(), "whatever was under way has been dropped");
    }
    assert_eq!((pending.got.status, pending.got.is_whole), (0, false));
}

#[tokio::test]
async fn a_stream_becomes_a_tunnel_and_the_others_go_on() {
    let origin = Origin::new().await;
    let (port, to) = (origin.address().port(), origin.address().to_string());
    let (other, _) = Origin::new().await.serve(OK);
    let carrier = Carrier::new(Lab::new(FakeGate::default(), options(port))).await;
    let login = token("user alice");
    let mut stream = Stream::new(&carrier.peer, 1, Content::None, &[]);
    let request = head("CONNECT", &to, "", Content::None, &[("proxy-authorization", &login)]);
    let (tunnel, mut far) = tokio::join!(serve(&carrier.peer, request, &mut stream), origin.accept());
    assert_eq!(stream.got.status, 200);
    assert!(stream.got.field("Proxy-Authenticate").is_some());
    let mut io = tunnel.unwrap().io;
    io.write_all(b"there").await.unwrap();
    far.send("and back").await;
    let mut back = [0; 8];
    within(io.read_exact(&mut back)).await.unwrap();
    assert_eq!(&back, b"and back");
    assert_eq!(carrier.get(3, &other.to_string(), &[]).await.got.status, 200);
    assert_eq!(carrier.carried(), format!("CONNECT {to}, GET {other}"));
}

#[tokio::test]
async fn a_stream_that_was_reset_leaves_its_origin_alone() {
    let origin = Origin::new().await;
    let to = origin.address().to_string();
    let carrier = Carrier::new(Lab::open()).await;
    let mut stream = Stream::new(&carrier.peer, 1, Content::None, &[]);
    stream.is_reset = true;
    let request = head("GET", &to, "/", Content::None, &[]);
    let (tunnel, mut far) = tokio::join!(serve(&carrier.peer, request, &mut stream), origin.accept());
    assert!(tunnel.is_none() && stream.got.status == 0);
    far.read(true).await;
    assert!(far.is_closed().await);
}

/// One exchange binds the connection and asks; another is not served meanwhile on what has not been answered yet.
#[tokio::test]
async fn a_session_is_cleared_only_when_it_was_asked_for_after_the_binding() {
    let Carrier { peer, .. } = &Carrier::new(Lab::closed()).await;
    let cleared = || [1, 2].map(|session| peer.is_cleared_for(SessionId::test(session)));
    peer.bind(SessionId::test(1));
    assert_eq!(cleared(), [false, false]);
    peer.bind(SessionId::test(2));
    peer.set_cleared(SessionId::test(1), true);
    assert_eq!(cleared(), [false, false], "the answer came too late");
    peer.set_cleared(SessionId::test(2), true);
    assert_eq!(cleared(), [false, true]);
    peer.bind(SessionId::test(2));
    assert_eq!(cleared(), [false, false]);
}

/// What has a default port for a request has none for a tunnel, although the names are the same.
#[tokio::test]
async fn a_tunnel_needs_its_port_even_where_a_request_needed_none() {
    let carrier = Carrier::new(Lab::open()).await;
    let mut stream = Stream::new(&carrier.peer, 1, Content::None, &[]);
    // Nothing is forwarded to port 80 of this address.
    stream.is_reset = true;
    let forwarded = serve(&carrier.peer, head("GET", "192.0.2.1", "/", Content::None, &[]), &mut stream);
    let _ = tokio::time::timeout(Duration::from_millis(20), forwarded).await;
    let mut stream = Stream::new(&carrier.peer, 3, Content::None, &[]);
    let request = head("CONNECT", "192.0.2.1", "", Content::None, &[]);
    assert!(within(serve(&carrier.peer, request, &mut stream)).await.is_none());
    assert_eq!(stream.got.status, 400);
}

/// A connection that one user has proved themselves on to an origin is not given to the next, whenever it comes back.
#[tokio::test]
async fn what_one_user_proved_to_an_origin_is_no_others_although_streams_overlap() {
    let origin = Origin::new().await;
    let to = origin.address().to_string();
    let carrier = Carrier::new(Lab::closed()).await;
    let (alice, bob) = (token("user alice"), token("user bob"));
    let mut first = Stream::new(&carrier.peer, 1, Content::None, &[]);
    let fields = [("proxy-authorization", &*alice), ("authorization", "NTLM YQ==")];
    let request = head("GET", &to, "/", Content::None, &fields);
    let others = async {
        let mut alices = origin.accept().await;
        alices.read(true).await;
        let mut second = Stream::new(&carrier.peer, 3, Content::None, &[]);
        let request = head("GET", &to, "/", Content::None, &[("proxy-authorization", &bob)]);
        let answering = async {
            let mut bobs = origin.accept().await;
            bobs.read(true).await;
            // The first one's answer comes when the second one is served: it is the second one's user who would read it.
            alices.send(OK).await;
            bobs.send(OK).await;
            bobs
        };
        let (_, bobs) = tokio::join!(serve(&carrier.peer, request, &mut second), answering);
        assert_eq!(second.got.status, 200);
        (alices, bobs)
    };
    let (_, (mut alices, _)) =
        within(async { tokio::join!(serve(&carrier.peer, request, &mut first), others) }).await;
    assert_eq!((first.got.status, first.got.is_whole), (0, false), "it broke off with its user");
    let next = carrier.get(5, "192.0.2.1:25", &[]).await;
    assert_eq!(next.got.status, 403, "whatever the next request is");
    assert!(alices.is_closed().await, "the first one's connection has gone");
}

/// A kick-out spares the connection that it came on, and with it the exchanges of the user before: they break off, wherever
/// they are.
#[tokio::test]
async fn what_is_under_way_for_one_user_is_not_told_to_the_next() {
    let (origin, quick) = (Origin::new().await, Origin::new().await.serve(OK).0.to_string());
    let to = origin.address().to_string();
    let carrier = Carrier::new(Lab::closed()).await;
    let (alice, bob) = (token("user alice"), token("user bob"));
    let mut first = Stream::new(&carrier.peer, 1, Content::None, &[]);
    let request = head("GET", &to, "/", Content::None, &[("proxy-authorization", &alice)]);
    let others = async {
        let mut far = origin.accept().await;
        far.read(true).await;
        far.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfor ").await;
        // The same user's proofs and requests leave it alone.
        let again = [("proxy-authorization", &*token("once alice"))];
        assert_eq!(carrier.get(3, &quick, &again).await.got.status, 200);
        assert_eq!(carrier.get(5, &quick, &[("proxy-authorization", &bob)]).await.got.status, 200);
        far.send("alice").await;
        assert!(far.is_closed().await, "the origin's connection ends with it");
    };
    within(async { tokio::join!(serve(&carrier.peer, request, &mut first), others) }).await;
    assert_eq!((first.got.content.as_slice(), first.got.is_whole), (&b"for "[..], false));
}

//! The gateway's own pages: who is led there, and how the proxy brings its clients to them.

use super::*;
use crate::auth::kerberos::Conditions;
use crate::clock::boot_now;
use crate::net::Handed;
use crate::proxy::{OwnPages, Way};

const LOGIN: &str = "https://proxy.test:4081/login";

/// Options with pages whose inner listener is `inner`; `with` changes them.
fn options_with(inner: SocketAddr, with: impl FnOnce(&mut OwnPages)) -> (ProxyOptions, Arc<Handed>) {
    let handed = Arc::new(Handed::default());
    let way = |port: u16| Some(Way { listens: SocketAddr::from(([0, 0, 0, 0], port)), inner });
    let mut pages = OwnPages {
        origin: Some("https://proxy.test:4081".into()),
        names: vec!["proxy.test".into()],
        plain: way(4080),
        secure: way(4081),
        shared_hosts: Vec::new(),
        handed: Arc::clone(&handed),
    };
    with(&mut pages);
    (ProxyOptions { own_pages: Some(Arc::new(pages)), ..options(443) }, handed)
}

fn nowhere() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

/// The conditions offer nobody anything.
fn offering_nothing(options: ProxyOptions) -> Lab {
    Lab::new(FakeGate::default(), ProxyOptions { conditions: Arc::new(Conditions::default()), ..options })
}

fn get(url: &str, fields: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

const PAGE: &str = "Accept: text/html\r\n";

#[tokio::test]
async fn who_opens_a_page_is_led_to_log_in_and_everything_else_is_told_where() {
    let lab = offering_nothing(options_with(nowhere(), |_| ()).0);
    let mut client = lab.client().await;
    let led = client.ask(get("http://a.test/x?y", PAGE)).await;
    assert_eq!(led.status(), 302);
    let id = led.field("location").unwrap().strip_prefix(&format!("{LOGIN}?to=")).unwrap().to_owned();
    assert!(led.field("content-security-policy").unwrap().contains("default-src 'none'"));
    assert_eq!(led.field("cache-control"), Some("no-store"));
    let targets = Arc::clone(&lab.shared().targets);
    assert_eq!(targets.take("192.0.2.1".parse().unwrap(), &id, boot_now()), None, "another client's");
    let target = targets.take("127.0.0.1".parse().unwrap(), &id, boot_now());
    assert_eq!(target.as_deref(), Some("http://a.test/x?y"));
    assert_eq!((lab.stats.led_to_login.get(), lab.gate.refused.lock().unwrap().len()), (1, 0));

    let told = client.ask(get("http://a.test/i.png", "Accept: image/*\r\n")).await;
    assert_eq!((told.status(), told.field("location")), (403, None));
    assert!(told.text().contains(&format!("<a href=\"{LOGIN}\">")), "{}", told.text());
    let told = client.ask("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(told.status(), 403);
    assert_eq!(lab.gate.refused.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn where_something_is_offered_the_page_behind_the_challenge_leads_on() {
    let lab = Lab::new(FakeGate::default(), options_with(nowhere(), |_| ()).0);
    let mut client = lab.client().await;
    let page = client.ask(get("http://a.test/", PAGE)).await;
    assert_eq!((page.status(), page.field("location")), (407, None));
    assert!(page.text().contains(&format!("<a href=\"{LOGIN}?to=")), "{}", page.text());
    assert!(page.text().contains(&format!("content=\"0; url={LOGIN}?to=")), "{}", page.text());
    let other = client.ask(get("http://a.test/", "")).await;
    assert!(!other.text().contains("http-equiv"), "{}", other.text());
    assert!(other.text().contains(&format!("<a href=\"{LOGIN}\">")), "{}", other.text());
    // What its browser sent will never do: nothing else is left.
    let refused = client.ask(get("http://a.test/z", &(PAGE.to_owned() + &negotiate("ntlm")))).await;
    assert_eq!(refused.status(), 302);
    let bad = lab.client().await.ask(get("http://a.test/z", &(PAGE.to_owned() + &negotiate("bad")))).await;
    assert_eq!(bad.status(), 407);
    assert!(bad.text().contains(&format!("<a href=\"{LOGIN}?to=")), "{}", bad.text());
    assert!(!bad.text().contains("http-equiv"), "it says why: {}", bad.text());
}

#[tokio::test]
async fn nobody_is_led_where_nobody_could_log_in() {
    let none = offering_nothing(options(443));
    let shared = offering_nothing(
        options_with(nowhere(), |pages| pages.shared_hosts = vec!["127.0.0.0/8".parse().unwrap()]).0,
    );
    let plain = offering_nothing(options_with(nowhere(), |pages| pages.origin = None).0);
    for lab in [none, shared, plain] {
        let answer = lab.client().await.ask(get("http://a.test/", PAGE)).await;
        assert_eq!(answer.status(), 403);
        assert!(!answer.text().contains("<a "), "{}", answer.text());
    }
}

/// A page in place of the portal's, which says whose connection it came on.
async fn pages() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn a_client_is_brought_to_the_pages_without_a_login_and_by_connections_of_its_own() {
    let (listener, inner) = pages().await;
    let (options, handed) = options_with(inner, |_| ());
    let lab = Lab::new(FakeGate::default(), options);
    let serving = async {
        for number in 0..3 {
            let (stream, from) = listener.accept().await.unwrap();
            assert_eq!(handed.take(from, boot_now()), Some("127.0.0.1".parse().unwrap()));
            let mut far = Peer::new(stream);
            let request = far.read(true).await;
            for never in ["proxy-authorization", "x-forwarded-for", "forwarded"] {
                assert_eq!(request.field(never), None);
            }
            far.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}")).await;
        }
        listener
    };
    let asking = async {
        let mut client = lab.client().await;
        for number in ["0", "1"] {
            let credentials = negotiate("user alice");
            let answer = client.ask(get("http://proxy.test:4080/", &credentials)).await;
            assert_eq!((answer.status(), &*answer.text()), (200, number), "no connection is used twice");
        }
        client.send("CONNECT proxy.test:4081 HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200);
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.text(), "2");
    };
    let (_listener, ()) = within(async { tokio::join!(serving, asking) }).await;
    assert!(lab.gate.sessions.lock().unwrap().is_empty(), "it is no proof");
    while lab.stats.own_pages.get() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!((lab.stats.bytes_received.get(), lab.stats.bytes_sent.get()), (0, 0), "and nobody's traffic");
}

#[tokio::test]
async fn other_places_of_this_host_stay_closed_and_a_portal_that_takes_nobody_is_told_of() {
    let (listener, inner) = pages().await;
    let (options, _handed) = options_with(inner, |_| ());
    let lab =
        Lab::new(FakeGate::default(), ProxyOptions { allow_destinations: AllowList::default(), ..options });
    let mut client = lab.client().await;
    for elsewhere in
        ["http://proxy.test:4081/", "http://proxy.test:9477/", "http://proxy.test/", "http://127.0.0.1:4080/"]
    {
        assert_eq!(client.ask(get(elsewhere, "")).await.status(), 407, "{elsewhere}");
    }
    drop(listener);
    let answer = client.ask(get("http://proxy.test:4080/", "")).await;
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{}", answer.text());
}

#[tokio::test]
async fn pages_are_in_the_readers_language_and_each_has_a_number() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let number = |text: &str| {
        let (_, rest) = text.split_once("<code>").unwrap();
        rest.split_once("</code>").unwrap().0.to_owned()
    };
    let first = client.ask(get("http://a.test/", "Accept-Language: de-AT, en;q=0.5\r\n")).await;
    assert!(
        first.text().contains("<html lang=\"de\">") && first.text().contains("vom Proxy"),
        "{}",
        first.text()
    );
    let second = client.ask(get("http://a.test/", &negotiate("bad"))).await;
    assert!(second.text().contains("<html lang=\"de\">"), "{}", second.text());
    let (first, second) = (number(&first.text()), number(&second.text()));
    assert!(
        first.ends_with("-1")
            && second.ends_with("-2")
            && first[..first.len() - 2] == second[..second.len() - 2]
    );
    let other = lab.client().await.ask("nonsense\r\n\r\n").await;
    assert!(
        other.text().contains("<html lang=\"en\">") && number(&other.text()).ends_with("-1"),
        "{}",
        other.text()
    );
}

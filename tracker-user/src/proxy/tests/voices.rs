//! What people at clients read: every refusal, every denial and every page of the gateway, and that nothing in it is meant
//! for the operator.

use std::io;

use super::*;
use crate::auth::kerberos;
use crate::auth::kerberos::conditions::{Denied, Step};
use crate::auth::password;
use crate::auth::{Cause, NoOffer};
use crate::config::keys;
use crate::pages::Languages;
use crate::proxy::destination::{BadDestination, Destination};
use crate::proxy::http1::{BadFraming, BadRequest, BadResponse};
use crate::proxy::{dial, forward, guard};
use crate::session::Refused;
use crate::types::UserMessage;

/// What an operator would be told: a key, a path, a command, and a name of the gateway's inside.
const OPERATORS: &str =
    "raise licences.max-users, see /var/lib/tracker/tracker.redb or run trackerctl doctor (os error 111)";

/// Commands and files that only an operator has. (`kinit` and `klist` are a user's own.)
const OPERATORS_TOOLS: [&str; 12] = [
    "trackerctl",
    "trackerd",
    "systemctl",
    "journalctl",
    "setspn",
    "ktpass",
    "ktadd",
    "kadmin",
    "keytab",
    "krb5.conf",
    ".toml",
    "os error",
];

/// Fails if a text that a person reads has something in it that is meant for an operator.
fn is_for_people(text: &str) {
    for key in keys::all() {
        let short = key.name().rsplit('.').next().unwrap();
        // A key of one plain word ("host") is a word like others; one with a hyphen is not.
        for name in [key.name(), short].into_iter().filter(|name| name.contains(['.', '-'])) {
            assert!(!text.contains(name), "the key {name}: {text}");
        }
    }
    for tool in OPERATORS_TOOLS {
        assert!(!text.contains(tool), "{tool}: {text}");
    }
    let words = text.split_whitespace().map(|word| word.trim_start_matches(['(', '"', '\'', '`', '<', '[']));
    for word in words {
        assert!(!word.starts_with('/') || word == "/", "a path: {text}");
    }
    assert!(!text.contains("tracker.redb") && !text.contains("max-users"), "{text}");
}

/// The same, of something that has a voice for the operator too, which must be told apart.
fn is_a_message(message: &UserMessage) {
    let text = message.as_str();
    is_for_people(text);
    assert!(
        text.len() > 8 && text.chars().next().is_some_and(|c| !c.is_lowercase() || text.contains(':')),
        "{text}"
    );
    assert!(text.ends_with('.') && !text.contains("..") && !text.contains("  "), "a sentence: {text}");
    is_translated(message);
}

/// Fails if a text that a person reads is English in German.
fn is_translated(message: &UserMessage) {
    let german = Languages::default().choose(Some("de"));
    let known = |text: &str| german.get(text.trim()).is_some();
    let parts = message.parts();
    assert!(
        known(&message.template()) || parts.iter().all(|words| words.trim().is_empty() || known(words)),
        "German lacks {:?}",
        message.template()
    );
    let said = german.say(message);
    is_for_people(&said);
    assert!(said != message.as_str() && !said.contains("{}"), "{said}");
}

/// What is checked here would be found.
#[test]
fn operators_words_are_told_from_peoples() {
    for bad in [
        OPERATORS,
        "set kerberos.keytab",
        "see max-users",
        "a path: /etc/x",
        "(/etc/x)",
        "raise licences.max-users",
        "run trackerctl status",
    ] {
        assert!(std::panic::catch_unwind(|| is_for_people(bad)).is_err(), "{bad}");
    }
    is_for_people("Ask for http://origin.test/ with your host name (or run kinit), and / is no path.");
}

#[test]
fn credentials_that_prove_nothing() {
    let causes = kerberos::Cause::ALL.map(Cause::Kerberos).into_iter().chain([Cause::Scheme]);
    for cause in causes {
        is_a_message(&cause.user_message());
        is_for_people(cause.heading().as_str());
        is_translated(&cause.heading());
        is_for_people(cause.label());
        let rejection = Rejection { cause, why: OPERATORS.into(), answer: None };
        let failure = Failure::Rejected(rejection);
        assert_eq!((failure.user_message(), failure.label()), (cause.user_message(), cause.label()));
        assert!(failure.to_string().contains(OPERATORS), "the operator is told");
        is_a_message(&NoOffer::Suppressed(cause).user_message());
    }
    for failure in [Failure::Busy, Failure::TimedOut, Failure::Unavailable(OPERATORS.into())] {
        // A new kind belongs into this list.
        match &failure {
            Failure::Rejected(_) | Failure::Busy | Failure::TimedOut | Failure::Unavailable(_) => {}
        }
        is_a_message(&failure.user_message());
        is_for_people(failure.label());
    }
}

/// Nobody learns from a page which names there are.
#[test]
fn passwords_that_prove_nothing() {
    let one = Cause::Password(password::Cause::WrongPassword);
    for cause in password::Cause::ALL.map(Cause::Password) {
        is_a_message(&cause.user_message());
        is_for_people(cause.heading().as_str());
        is_translated(&cause.heading());
        is_for_people(cause.page_label());
        let shown = |cause: Cause| (cause.user_message(), cause.heading(), cause.page_label());
        // What is told of application passwords tells nothing of names.
        let is_told = matches!(cause, Cause::Password(cause) if cause.is_told());
        assert_eq!(shown(cause) == shown(one), !is_told, "{cause:?}");
        let offer = NoOffer::Suppressed(cause);
        assert_eq!((offer.user_message(), offer.label()), (cause.user_message(), cause.page_label()));
    }
}

#[test]
fn a_logout_hold() {
    is_a_message(&NoOffer::Held.user_message());
    is_translated(&NoOffer::Held.heading());
}

#[test]
fn conditions_that_offer_nothing() {
    for step in [Step::Disabled, Step::Cookie, Step::Addresses, Step::Names, Step::Url, Step::Browser] {
        match step {
            Step::Disabled | Step::Cookie | Step::Addresses | Step::Names | Step::Url | Step::Browser => {}
        }
        let denied = Denied { step, why: OPERATORS };
        let offer = NoOffer::Conditions(denied);
        is_translated(&offer.heading());
        is_a_message(&offer.user_message());
        is_a_message(&step.user_message());
        is_for_people(offer.heading().as_str());
        is_for_people(offer.label());
        assert!(denied.to_string().contains(OPERATORS), "the operator is told");
    }
}

#[test]
fn proofs_that_are_not_admitted() {
    let policy = [Refused::Licences { max: 7 }, Refused::SharedHost, Refused::Overtaken];
    let others = [
        Refusal::Stopping,
        Refusal::NotKept(OPERATORS.into()),
        Refusal::AnotherDevice,
        Refusal::Revoked,
        Refusal::Held,
        Refusal::Untracked(OPERATORS.into()),
    ];
    for refusal in policy.into_iter().map(Refusal::Policy).chain(others) {
        match &refusal {
            Refusal::Policy(Refused::Licences { .. } | Refused::SharedHost | Refused::Overtaken)
            | Refusal::Stopping
            | Refusal::NotKept(_)
            | Refusal::AnotherDevice
            | Refusal::Revoked
            | Refusal::Held
            | Refusal::Untracked(_) => {}
        }
        is_a_message(&refusal.user_message());
        assert_ne!(refusal.user_message().as_str(), refusal.to_string(), "two voices");
    }
}

#[test]
fn destinations_that_are_not_reached() {
    use guard::Denied;
    let destination = Destination::parse("wiki.example.test:8080", None).unwrap();
    let address: std::net::IpAddr = "10.77.0.9".parse().unwrap();
    let error = || io::Error::other(OPERATORS);
    let errors = [
        error(),
        io::ErrorKind::ConnectionRefused.into(),
        io::ErrorKind::ConnectionReset.into(),
        io::ErrorKind::HostUnreachable.into(),
        io::ErrorKind::TimedOut.into(),
        io::Error::from_raw_os_error(111),
    ];
    let denied = [
        Denied::Loopback,
        Denied::Unspecified,
        Denied::LinkLocal,
        Denied::Multicast,
        Denied::Broadcast,
        Denied::Metadata,
        Denied::Reserved,
        Denied::Own,
    ];
    let to = SocketAddr::new(address, 8080);
    let failures = [
        dial::Failure::Name(error()),
        dial::Failure::NameTimeout,
        dial::Failure::NoAddress,
        dial::Failure::Busy,
        dial::Failure::Short,
        dial::Failure::Unknown { address },
        dial::Failure::ConnectTimeout { address: to },
        dial::Failure::OwnPages,
    ];
    let errors = errors.map(|error| dial::Failure::Connect { address: to, error });
    let denied = denied.map(|why| dial::Failure::Denied { address, why });
    for failure in failures.into_iter().chain(errors).chain(denied) {
        use dial::Failure as F;
        match &failure {
            F::Name(_) | F::NameTimeout | F::NoAddress | F::Busy | F::Short | F::Unknown { .. } => {}
            F::ConnectTimeout { .. } | F::Connect { .. } | F::OwnPages => {}
            F::Denied { why, .. } => match why {
                Denied::Loopback | Denied::Unspecified | Denied::LinkLocal | Denied::Multicast => {}
                Denied::Broadcast | Denied::Metadata | Denied::Reserved | Denied::Own => {}
            },
        }
        let message = failure.user_message(&destination);
        is_a_message(&message);
        let text = message.as_str();
        assert!(text.contains("wiki.example.test:8080"), "what the client itself asked for: {text}");
        assert!(
            !text.contains("10.77.0.9") && !text.contains("itself"),
            "the gateway's view of the network: {text}"
        );
    }
}

#[test]
fn messages_that_cannot_be_read() {
    let framings = [BadFraming::Length, BadFraming::Coding, BadFraming::Both];
    let requests = framings.map(BadRequest::Framing).into_iter().chain([
        BadRequest::Syntax(httparse::Error::Token),
        BadRequest::TooLarge,
        BadRequest::OldCoding,
        BadRequest::ProxyHeader,
    ]);
    for bad in requests {
        match bad {
            BadRequest::Syntax(_) | BadRequest::TooLarge | BadRequest::Framing(_) => {}
            BadRequest::OldCoding | BadRequest::ProxyHeader => {}
        }
        is_a_message(&bad.user_message());
    }
    let answers = framings.map(BadResponse::Framing).into_iter().chain([
        BadResponse::Syntax,
        BadResponse::TooLarge,
        BadResponse::Endless,
    ]);
    for bad in answers {
        match bad {
            BadResponse::Syntax | BadResponse::TooLarge | BadResponse::Endless | BadResponse::Framing(_) => {}
        }
        is_a_message(&forward::bad_answer(bad, UserMessage::new("").name("a.test:80")));
    }
    for bad in [BadDestination::UserInfo, BadDestination::Host, BadDestination::Port] {
        match bad {
            BadDestination::UserInfo | BadDestination::Host | BadDestination::Port => {}
        }
        is_for_people(bad.user_words());
    }
}

/// The text of a page, as a browser shows it.
fn shown(html: &str) -> String {
    let body = html.split_once("<body>").map_or(html, |(_, body)| body);
    let mut text = String::new();
    let mut in_tag = false;
    for c in body.chars() {
        match c {
            '<' => in_tag = true,
            '>' => {
                in_tag = false;
                text.push(' ');
            }
            c if !in_tag => text.push(c),
            _ => {}
        }
    }
    text.replace("&#39;", "'")
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
}

/// As they come over the wire: all that a client can make the gateway say by itself.
#[tokio::test]
async fn pages() {
    let closed = Origin::new().await.address();
    let at = |text: &str| format!("{text} HTTP/1.1\r\nHost: x\r\nAccept-Language: de\r\n");
    let to_wire = [
        (at("GET /"), 400),
        (at("GET https://a.test/"), 400),
        (at("GET http://u:p@a.test/"), 400),
        (at("GET http://a.test:0/"), 400),
        (at("GET http://a%00b/"), 400),
        (at("GET http://a.test/") + "Host: y\r\n", 400),
        (at("GET http://a.test/") + &negotiate("user alice") + &negotiate("user bob"), 400),
        (at("GET http://a.test/") + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", 400),
        (at("GET http://a.test/") + "Via: 1.1 tracker\r\n", 508),
        (at("GET http://a.test/") + &format!("X: {}\r\n", "x".repeat(200 * 1024)), 431),
        (at("GET http://127.0.0.1:25/"), 403),
        (at("GET http://[::1]/"), 403),
        (at("GET http://169.254.169.254/"), 403),
        (at("GET http://does-not-exist.invalid/"), 502),
        (at(&format!("GET http://{closed}/")), 502),
        (at("CONNECT /x"), 400),
        (at("CONNECT a.test:25"), 403),
        (at("CONNECT a.test:443") + "Content-Length: 1\r\n", 400),
    ];
    let open = Lab::open_to_loopback();
    for (request, status) in to_wire {
        let answer = open.client().await.ask(request.clone() + "\r\n").await;
        assert_eq!(answer.status(), status, "{request}");
        let could_be_read = !request.contains("Transfer-Encoding") && status != 431;
        is_a_page(&answer.text(), could_be_read);
    }

    let ask = |credentials: &str| at("GET http://a.test/") + credentials + "\r\n";
    let closed = Lab::closed();
    for (credentials, status) in [
        (String::new(), 407),
        (negotiate("bad"), 407),
        (negotiate("ntlm"), 403),
        (negotiate("first"), 407),
        (negotiate("busy"), 503),
        (negotiate("down"), 503),
        ("Proxy-Authorization: Negotiate %\r\n".into(), 407),
        ("Proxy-Authorization: Basic c2VjcmV0OnNlY3JldA==\r\n".into(), 407),
        ("Proxy-Authorization: Basic %\r\n".into(), 407),
    ] {
        let answer = closed.client().await.ask(ask(&credentials)).await;
        assert_eq!(answer.status(), status, "{credentials}");
        is_a_page(&answer.text(), true);
    }
    let full = Lab::new(FakeGate { licences_used_up: true, ..FakeGate::default() }, options(443));
    let answer = full.client().await.ask(ask(&negotiate("user alice"))).await;
    assert_eq!(answer.status(), 403);
    is_a_page(&answer.text(), true);
}

/// Fails if a page says something that is not for its reader, or in another language than it says it is in.
fn is_a_page(html: &str, is_german: bool) {
    let text = shown(html);
    is_for_people(&text);
    assert!(html.contains(if is_german { "lang=\"de\"" } else { "lang=\"en\"" }), "{html}");
    let english = [" the ", " your ", "The ", "Your ", " from "];
    assert_eq!(english.iter().any(|word| text.contains(word)), !is_german, "{text}");
    assert!(html.contains("<code>c"), "its number: {html}");
}

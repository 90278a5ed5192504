//! Names with passwords, where they are asked for and where they come unasked.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::auth::kerberos::Conditions;
use crate::auth::kerberos::conditions::ConditionSettings;
use crate::proxy::decision_log::DecisionResult;

const BASIC: &str = "Basic realm=\"proxy\", charset=\"UTF-8\"";

fn basic(name: &str, password: &str) -> String {
    format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

fn get(to: SocketAddr, more: &str) -> String {
    format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

fn with_basic(basic: Basic) -> ProxyOptions {
    ProxyOptions { basic, ..options(443) }
}

fn lab() -> Lab {
    Lab::new(FakeGate::default(), with_basic(Basic::TlsAndLoopback))
}

/// Kerberos is offered to nobody.
fn without_kerberos() -> ProxyOptions {
    let settings = ConditionSettings { browsers: Vec::new(), ..ConditionSettings::default() };
    ProxyOptions {
        conditions: Arc::new(Conditions::new(&settings).unwrap()),
        ..with_basic(Basic::TlsAndLoopback)
    }
}

/// What an answer asks for.
fn offered(answer: &Message) -> Vec<&str> {
    let fields = answer.head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(name, _)| *name == "Proxy-Authenticate").map(|(_, value)| value).collect()
}

#[tokio::test]
async fn it_is_offered_behind_negotiate_and_proves_its_user() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let challenge = client.ask(get(to, "")).await;
    assert_eq!((challenge.status(), offered(&challenge)), (407, vec!["Negotiate", BASIC]));
    assert!(challenge.text().contains("Kerberos") && challenge.text().contains("name and password"));
    let login = client.ask(get(to, &basic("alice", "right"))).await;
    assert_eq!((login.status(), offered(&login).len()), (200, 0));
    assert_eq!(client.ask(get(to, "")).await.status(), 200, "and then none are needed");
    assert_eq!(lab.gate.sessions.lock().unwrap().values().next().unwrap().identity.user(), "alice");

    // Programs send it with each request, on each connection: it proves nothing anew while the session stands.
    for _ in 0..3 {
        assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), 200);
        let mut other = lab.client().await;
        for _ in 0..2 {
            assert_eq!(other.ask(get(to, &basic("Alice", "right"))).await.status(), 200);
        }
    }
    assert_eq!(lab.stats.proofs_accepted.get(), 1);
    // Where it does not, it is a proof.
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), 200);
    assert_eq!(lab.stats.proofs_accepted.get(), 2);
    let recent = lab.decisions.of("127.0.0.1".parse().unwrap());
    let by_password = |record: &super::super::decision_log::DecisionRecord| {
        matches!(&record.result, DecisionResult::Accepted { method: Method::Password, ticket: None, .. })
    };
    assert_eq!(recent.iter().filter(|record| by_password(record)).count(), 2);
}

#[tokio::test]
async fn where_it_may_not_be_asked_for_it_is_as_if_it_were_not_there() {
    let (to, _) = Origin::new().await.serve(OK);
    for (setting, schemes, status) in [
        (Basic::Never, vec!["Negotiate"], 407),
        (Basic::TlsAndLoopback, vec!["Negotiate", BASIC], 200),
        (Basic::Always, vec!["Negotiate", BASIC], 200),
    ] {
        let lab = Lab::new(FakeGate::default(), with_basic(setting));
        let mut client = lab.client().await;
        assert_eq!(offered(&client.ask(get(to, "")).await), schemes);
        assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), status, "{setting:?}");
        // It did not travel: this is loopback.
        assert_eq!(lab.stats.passwords_in_the_clear.get(), 0);
        let refused = lab.gate.refused.lock().unwrap();
        assert_eq!(refused.len(), usize::from(status == 407));
        assert!(refused.iter().all(|why| why.contains("Basic") && !why.contains("alice")), "{refused:?}");
        assert!(lab.gate.methods.lock().unwrap().iter().all(Option::is_none));
    }
}

#[tokio::test]
async fn under_tls_it_is_asked_for() {
    let (to, _) = Origin::new().await.serve(OK);
    let (server, certificate) = crate::net::testing::server();
    let endpoint = endpoint(Security::Tls(Arc::new(server)));
    let lab = Lab::on(&endpoint, FakeGate::default(), with_basic(Basic::TlsAndLoopback), 1);
    let socket = TcpStream::connect(lab.address).await.unwrap();
    let mut client = Peer::new(within(crate::net::testing::connect(socket, &certificate)).await);
    assert_eq!(offered(&client.ask(get(to, "")).await), ["Negotiate", BASIC]);
    assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), 200);
}

/// The way back that a browser without a ticket needs, or one that the conditions leave out.
#[tokio::test]
async fn it_is_what_is_left_where_kerberos_is_not_offered() {
    let lab = Lab::new(FakeGate::default(), without_kerberos());
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let challenge = client.ask(get(to, "")).await;
    assert_eq!((challenge.status(), offered(&challenge)), (407, vec![BASIC]));
    assert!(!challenge.text().contains("Kerberos"), "{}", challenge.text());
    // A ticket is not looked at there.
    assert_eq!(offered(&client.ask(get(to, &negotiate("user bob"))).await), [BASIC]);
    assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), 200);
}

#[tokio::test]
async fn schemes_are_given_up_one_by_one() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let ntlm = client.ask(get(to, &negotiate("ntlm"))).await;
    assert_eq!(
        (ntlm.status(), offered(&ntlm)),
        (407, vec![BASIC]),
        "whoever has no ticket may have a password"
    );
    for _ in 0..2 {
        let refused = client.ask(get(to, &basic("alice", "wrong"))).await;
        assert_eq!((refused.status(), offered(&refused)), (407, vec![BASIC]));
        assert!(refused.text().contains("not accepted") && refused.text().contains("(password)"));
    }
    let over = client.ask(get(to, &basic("nobody", "wrong"))).await;
    assert_eq!((over.status(), offered(&over).len()), (403, 0));
    assert!(over.text().contains("not accepted") && over.text().contains("(password)"), "{}", over.text());
    assert_eq!(client.ask(get(to, "")).await.status(), 403);
    // What is right is right all the same, and then all is forgotten.
    assert_eq!(client.ask(get(to, &basic("alice", "right"))).await.status(), 200);
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(offered(&client.ask(get(to, "")).await), ["Negotiate", BASIC]);
    // The other way round: a browser that is refused for its password still has its ticket.
    for _ in 0..3 {
        client.ask(get(to, &basic("alice", "wrong"))).await;
    }
    assert_eq!(offered(&client.ask(get(to, "")).await), ["Negotiate"]);
    let methods = lab.gate.methods.lock().unwrap();
    assert_eq!(methods[0], None, "NTLM is no method of ours");
    assert!(methods[1..].iter().all(|method| *method == Some(Method::Password)), "{methods:?}");
}

#[tokio::test]
async fn six_refusals_of_whatever_scheme_close_the_connection() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    for number in 1..=6 {
        let credentials = if number % 2 == 0 { basic("alice", "wrong") } else { negotiate("bad") };
        let answer = client.ask(get(to, &credentials)).await;
        assert_eq!(answer.field("connection"), (number == 6).then_some("close"), "{number}");
    }
    assert!(client.is_closed().await);
}

/// Credentials that are volunteered are verified, as a ticket is: what they say of the user has to be right.
#[tokio::test]
async fn on_a_session_another_users_takes_over_and_a_wrong_one_is_refused() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    assert_eq!(client.ask(get(to, &negotiate("user alice"))).await.status(), 200);
    assert_eq!(client.ask(get(to, &basic("alice", "wrong"))).await.status(), 407);
    assert_eq!(client.ask(get(to, "")).await.status(), 200, "the session stands");
    assert_eq!(client.ask(get(to, &basic("bob", "right"))).await.status(), 200);
    let user = || lab.gate.sessions.lock().unwrap().values().next().unwrap().identity.user().to_owned();
    assert_eq!(user(), "bob");
    // What is remembered of another user is a proof, too.
    let mut other = lab.client().await;
    assert_eq!(other.ask(get(to, &negotiate("user alice"))).await.status(), 200);
    assert_eq!((client.ask(get(to, &basic("bob", "right"))).await.status(), user()), (200, "bob".into()));
    // Alice's proof on this connection was of her session, which is over.
    assert_eq!((other.ask(get(to, &basic("alice", "right"))).await.status(), user()), (200, "alice".into()));
}

#[tokio::test]
async fn what_nobody_could_look_at_is_put_off() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    for name in ["down", "busy"] {
        let answer = lab.client().await.ask(get(to, &basic(name, "x"))).await;
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{name}");
    }
    assert_eq!(*lab.gate.methods.lock().unwrap(), [Some(Method::Password)], "that no KDC answers is told");
    let banned = lab.client().await.ask(get(to, &basic("banned", "right"))).await;
    assert_eq!((banned.status(), banned.field("retry-after")), (407, None));
}

#[tokio::test]
async fn a_further_factor_is_asked_for_after_it() {
    let gate = FakeGate { missing: Some(Factor::Totp), ..FakeGate::default() };
    let lab = Lab::new(gate, with_basic(Basic::Always));
    for _ in 0..2 {
        let answer =
            lab.client().await.ask(get("192.0.2.1:80".parse().unwrap(), &basic("alice", "right"))).await;
        assert_eq!((answer.status(), offered(&answer).len()), (403, 0));
        assert!(answer.text().contains("second"), "{}", answer.text());
    }
}

#[tokio::test]
async fn each_connection_of_a_shared_host_proves_itself() {
    let lab = Lab::new(FakeGate { shared: true, ..FakeGate::default() }, with_basic(Basic::Always));
    let (to, _) = Origin::new().await.serve(OK);
    for (name, proofs) in [("alice", 1), ("bob", 2), ("alice", 3)] {
        let mut client = lab.client().await;
        assert_eq!(client.ask(get(to, "")).await.status(), 407);
        for _ in 0..2 {
            assert_eq!(client.ask(get(to, &basic(name, "right"))).await.status(), 200);
        }
        assert_eq!(lab.stats.proofs_accepted.get(), proofs);
    }
}

#[tokio::test]
async fn what_is_no_name_and_password_is_refused_and_told() {
    let lab = lab();
    let (to, _) = Origin::new().await.serve(OK);
    for (value, why) in [
        ("Basic", "empty"),
        ("Basic %", "not base64"),
        ("Basic YWxpY2U=", "no colon"),
        ("Basic /////w==", "not UTF-8"),
        ("Basic OnJpZ2h0", "bad-name"),
        ("Basic YWxpY2U6", "password-length"),
    ] {
        lab.gate.refused.lock().unwrap().clear();
        let answer = lab.client().await.ask(get(to, &format!("Proxy-Authorization: {value}\r\n"))).await;
        assert_eq!((answer.status(), offered(&answer)), (407, vec!["Negotiate", BASIC]), "{value}");
        assert!(answer.text().contains("(password)"), "{}", answer.text());
        let refused = lab.gate.refused.lock().unwrap();
        assert!(refused.len() == 1 && refused[0].contains(why), "{value}: {refused:?}");
    }
}

/// Whatever the form of the request, and wherever it stands in it.
#[tokio::test]
async fn it_never_reaches_an_origin() {
    let lab = lab();
    let origin = Origin::new().await;
    let to = origin.address();
    let secret = basic("alice", "right");
    let mut client = lab.client().await;
    let mut far = None;
    for more in [
        secret.clone(),
        secret.replace("Proxy-A", "proxy-a").replace("Basic", "bAsIc"),
        format!("Connection: proxy-authorization\r\n{secret}"),
        format!("X-Before: 1\r\n{secret}X-After: 1\r\n"),
    ] {
        let request = get(to, &more);
        let (answer, came) = tokio::join!(client.ask(request), async {
            if far.is_none() {
                far = Some(origin.accept().await);
            }
            let far = far.as_mut().unwrap();
            let came = far.read(true).await;
            far.send(OK).await;
            came
        });
        assert_eq!(answer.status(), 200);
        let came = format!("{}{}", came.start(), came.head).to_lowercase();
        assert!(!came.contains("basic") && !came.contains("proxy-auth"), "{came}");
        assert!(!came.contains("ywxpy2u6cmlnaHQ".to_lowercase().as_str()), "{came}");
    }
    let repeated = client.ask(get(to, &format!("{secret}{secret}"))).await;
    assert_eq!(repeated.status(), 400);
}

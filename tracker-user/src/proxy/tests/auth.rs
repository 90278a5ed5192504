//! Who is served.

use super::*;
use crate::proxy::decision_log::DecisionResult;

fn get(to: SocketAddr, more: &str) -> String {
    format!("GET http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}\r\n")
}

#[tokio::test]
async fn a_challenge_then_a_login_and_then_no_credentials_are_needed() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let challenge = client.ask(get(to, "")).await;
    assert_eq!(challenge.status(), 407);
    assert_eq!(challenge.field("proxy-authenticate"), Some("Negotiate"));
    assert!(challenge.text().contains("Kerberos") && challenge.body.len() < 2000);

    let login = client.ask(get(to, &negotiate("user alice"))).await;
    assert_eq!((login.status(), login.text().as_str()), (200, "ok"));
    let proof = Scheme::Negotiate.message(b"mutual");
    assert_eq!(login.field("proxy-authenticate"), Some(proof.as_str()));

    for client in [&mut client, &mut lab.client().await] {
        let answer = client.ask(get(to, "")).await;
        assert_eq!((answer.status(), answer.field("proxy-authenticate")), (200, None));
    }
    let info = &lab.connections.of("127.0.0.1".parse().unwrap())[0];
    assert_eq!((info.session, info.carries.to_string().as_str()), (Some(SessionId::test(1)), "idle"));
    assert_eq!((lab.stats.challenges.get(), lab.stats.proofs_accepted.get()), (1, 1));

    // The tracker decides, not the connection.
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(client.ask(get(to, "")).await.status(), 407);
}

#[tokio::test]
async fn a_handshake_over_two_legs() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let first = client.ask(get(to, &negotiate("first"))).await;
    let go_on = Scheme::Negotiate.message(b"go on");
    assert_eq!((first.status(), first.field("proxy-authenticate")), (407, Some(go_on.as_str())));
    assert_eq!(client.ask(get(to, &negotiate("second"))).await.status(), 200);

    // The handshake belongs to its connection.
    lab.gate.sessions.lock().unwrap().clear();
    client.ask(get(to, &negotiate("first"))).await;
    assert_eq!(lab.client().await.ask(get(to, &negotiate("second"))).await.status(), 407);
    // And does not outlive a request without credentials.
    assert_eq!(client.ask(get(to, "")).await.status(), 407);
    assert_eq!(client.ask(get(to, &negotiate("second"))).await.status(), 407);
}

#[tokio::test]
async fn the_connection_stays_usable_when_a_post_is_challenged() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let post = |more: &str| format!("POST http://{to}/ HTTP/1.1\r\nHost: x\r\n{more}");
    // Known length, in one piece and in several; chunked; all of it read and thrown away.
    let large = "x".repeat(300_000);
    let known = post(&format!("Content-Length: {}\r\n\r\n{large}", large.len()));
    let chunked =
        post(&format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len()));
    for request in [known, chunked] {
        let challenge = client.ask(request).await;
        assert_eq!((challenge.status(), challenge.field("connection")), (407, None));
    }
    let login = post(&format!("Content-Length: 3\r\n{}\r\nabc", negotiate("user alice")));
    assert_eq!(client.ask(login).await.status(), 200);
}

#[tokio::test]
async fn a_challenge_comes_before_the_content() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let expecting = |more: &str| {
        format!(
            "POST http://{to}/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n{more}\r\n"
        )
    };
    let mut client = lab.client().await;
    let challenge = client.ask(expecting("")).await;
    assert_eq!((challenge.status(), challenge.field("connection")), (407, Some("close")), "and no 100");
    assert!(matches!(within(client.0.read(&mut [0])).await, Ok(0)));

    // Where a handshake needs its connection, the content has to come.
    let mut client = lab.client().await;
    let challenge = client.ask(expecting(&negotiate("first"))).await;
    assert_eq!((challenge.status(), challenge.field("connection")), (407, None));
    client.send("abc").await;
    assert_eq!(client.ask(get(to, &negotiate("second"))).await.status(), 200);
}

#[tokio::test]
async fn a_challenge_to_old_clients_and_to_head() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let old = "GET http://192.0.2.1/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        let challenge = client.ask(old).await;
        assert_eq!((challenge.status(), challenge.field("connection")), (407, Some("keep-alive")));
    }
    client.send("HEAD http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.read(false).await.status(), 407);
    assert_eq!(client.ask(old).await.status(), 407);
}

fn with(credentials: &str) -> String {
    format!("GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n{credentials}\r\n")
}

#[tokio::test]
async fn refused_credentials_are_asked_for_again_but_not_for_ever() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let reject = Scheme::Negotiate.message(b"rejected");
    for (credentials, answer) in
        [(negotiate("bad"), reject.as_str()), ("Proxy-Authorization: Negotiate %\r\n".into(), "Negotiate")]
    {
        let challenge = client.ask(with(&credentials)).await;
        assert_eq!((challenge.status(), challenge.field("connection")), (407, None), "{credentials}");
        assert_eq!(challenge.field("proxy-authenticate"), Some(answer), "{credentials}");
    }
    // The third time is the last: from now on the connection is told what to do instead.
    for credentials in ["Proxy-Authorization: Negotiate %%%\r\n", "", "Proxy-Authorization: Negotiate\r\n"] {
        let page = client.ask(with(credentials)).await;
        assert_eq!((page.status(), page.field("connection")), (403, None), "{credentials}");
        assert_eq!(page.field("proxy-authenticate"), None, "{credentials}");
        assert!(page.text().contains("could not be understood"), "{}", page.text());
    }
    assert_eq!(client.ask(with(&negotiate("bad"))).await.status(), 403);
    let last = client.ask(with(&negotiate("bad"))).await;
    assert_eq!((last.status(), last.field("connection")), (403, Some("close")));
    assert!(
        last.text().contains("a key that this proxy does not have") && last.text().contains("(wrong-key)")
    );
    assert!(client.is_closed().await);
    let refused = lab.gate.refused.lock().unwrap();
    assert_eq!(refused.len(), 6);
}

const NOT_OFFERED: [&str; 4] = ["Basic c2VjcmV0", "Bearer c2VjcmV0", "NTLM c2VjcmV0", "Digest c2VjcmV0"];

/// A password that was left in some program's setting.
#[tokio::test]
async fn credentials_that_nobody_asked_for_do_not_void_a_session() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    lab.client().await.ask(get(to, &negotiate("user alice"))).await;
    let mut client = lab.client().await;
    for credentials in NOT_OFFERED {
        let answer = client.ask(get(to, &format!("Proxy-Authorization: {credentials}\r\n"))).await;
        assert_eq!(answer.status(), 200, "{credentials}");
    }
    assert!(lab.gate.refused.lock().unwrap().is_empty());
    // What can be verified is: somebody else, and nobody.
    assert_eq!(client.ask(get(to, &negotiate("bad"))).await.status(), 407);
    assert_eq!(client.ask(get(to, &negotiate("user bob"))).await.status(), 200);
    assert_eq!(lab.gate.sessions.lock().unwrap().values().next().unwrap().identity.user(), "bob");
}

#[tokio::test]
async fn without_a_session_they_are_as_if_they_were_not_there_and_told_once() {
    let lab = Lab::closed();
    for credentials in NOT_OFFERED {
        lab.gate.refused.lock().unwrap().clear();
        let mut client = lab.client().await;
        for _ in 0..8 {
            let challenge = client.ask(with(&format!("Proxy-Authorization: {credentials}\r\n"))).await;
            assert_eq!((challenge.status(), challenge.field("connection")), (407, None), "{credentials}");
            assert_eq!(challenge.field("proxy-authenticate"), Some("Negotiate"), "{credentials}");
        }
        let refused = lab.gate.refused.lock().unwrap();
        assert_eq!(refused.len(), 1, "{refused:?}");
        let scheme = credentials.split(' ').next().unwrap();
        assert!(refused[0].contains(scheme) && !refused[0].contains("c2Vj"), "{}", refused[0]);
    }
    assert_eq!(lab.stats.proofs_refused.get(), 4);
}

/// HTTP libraries that were given a header send it with each request.
#[tokio::test]
async fn the_token_that_proved_a_connections_user_may_be_repeated_there_and_nowhere_else() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let once = get(to, &negotiate("once alice"));
    let mut client = lab.client().await;
    for _ in 0..3 {
        assert_eq!(client.ask(&once).await.status(), 200);
    }
    assert_eq!(lab.stats.proofs_accepted.get(), 1, "it proved its user once");
    assert_eq!(lab.client().await.ask(&once).await.status(), 407, "another connection");

    // Another user, who came by another connection: the connection's own token is no longer its user's.
    let mut gone = lab.client().await;
    assert_eq!(gone.ask(get(to, &negotiate("once bob"))).await.status(), 200);
    assert_eq!(client.ask(&once).await.status(), 407);
    assert_eq!(gone.ask(get(to, &negotiate("once bob"))).await.status(), 200);
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(gone.ask(get(to, &negotiate("once bob"))).await.status(), 407, "the session is over");
    // A new one of the same user is not the one that it proved.
    assert_eq!(lab.client().await.ask(get(to, &negotiate("user bob"))).await.status(), 200);
    assert_eq!(gone.ask(get(to, &negotiate("once bob"))).await.status(), 407);
}

#[tokio::test]
async fn the_last_token_of_a_handshake_may_be_repeated_on_a_shared_host() {
    let lab = Lab::new(FakeGate { shared: true, ..FakeGate::default() }, options(443));
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    client.ask(get(to, &negotiate("first"))).await;
    for _ in 0..2 {
        assert_eq!(client.ask(get(to, &negotiate("second"))).await.status(), 200);
    }
    assert_eq!(client.ask(get(to, &negotiate("once bob"))).await.status(), 200);
    assert_eq!(client.ask(get(to, &negotiate("second"))).await.status(), 407, "bob's connection now");
}

#[tokio::test]
async fn after_ntlm_negotiate_is_not_offered_there_again_but_a_ticket_is_still_good() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    assert_eq!(client.ask(get(to, "")).await.status(), 407);
    let page = client.ask(get(to, &negotiate("ntlm"))).await;
    for page in [page, client.ask(get(to, "")).await] {
        assert_eq!((page.status(), page.field("proxy-authenticate")), (403, None));
        assert!(page.text().contains("NTLM") && page.text().contains("full name"), "{}", page.text());
    }
    assert_eq!(lab.client().await.ask(get(to, "")).await.status(), 407, "another connection is asked");
    assert_eq!(client.ask(get(to, &negotiate("user alice"))).await.status(), 200);
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(client.ask(get(to, "")).await.status(), 407, "and that is forgotten with it");
}

#[tokio::test]
async fn what_was_decided_is_remembered_but_not_what_a_session_clears() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let secret = format!("GET http://{to}/path?secret=1 HTTP/1.1\r\nHost: x\r\nUser-Agent: test/1\r\n\r\n");
    client.ask(secret).await;
    client.ask(get(to, &negotiate("bad"))).await;
    client.ask(get(to, &negotiate("first"))).await;
    client.ask(get(to, &negotiate("second"))).await;
    client.ask(get(to, "")).await;
    let recent = lab.decisions.of("127.0.0.1".parse().unwrap());
    let results: Vec<_> = recent.iter().rev().map(|decided| &decided.result).collect();
    assert!(
        matches!(
            results.as_slice(),
            [
                DecisionResult::Challenged(_),
                DecisionResult::Refused { cause: crate::auth::Cause::Kerberos(Cause::WrongKey), .. },
                DecisionResult::Continued,
                DecisionResult::Accepted { .. }
            ]
        ),
        "{results:?}"
    );
    let first = recent.last().unwrap();
    assert_eq!(
        (first.url.as_str(), first.user_agent.as_deref()),
        (&*format!("http://{to}/path"), Some("test/1"))
    );
    assert_eq!(first.findings.len(), 6, "every step is told");
}

#[tokio::test]
async fn two_sets_of_credentials_are_none() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let both = negotiate("user alice") + &negotiate("user bob");
    let answer = client.ask(format!("GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n{both}\r\n")).await;
    assert_eq!(answer.status(), 400);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn what_the_gateway_cannot_do_now_is_no_challenge() {
    let lab = Lab::closed();
    let mut client = lab.client().await;
    let ask = |token: &str| format!("GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n{}\r\n", negotiate(token));
    let busy = client.ask(ask("busy")).await;
    assert_eq!((busy.status(), busy.field("retry-after")), (503, Some("1")));
    let down = client.ask(ask("down")).await;
    assert_eq!(down.status(), 503);
    assert!(!down.text().contains("gone"), "the reason is for the operator");
    assert_eq!(*lab.gate.refused.lock().unwrap(), ["the keytab is gone"]);
}

#[tokio::test]
async fn without_a_licence_the_page_says_so_and_names_nobody() {
    let lab = Lab::new(FakeGate { licences_used_up: true, ..FakeGate::default() }, options(443));
    let request = format!("GET http://192.0.2.1/ HTTP/1.1\r\nHost: x\r\n{}\r\n", negotiate("user alice"));
    let answer = lab.client().await.ask(request).await;
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("has licences for") && !answer.text().contains("alice"));
}

#[tokio::test]
async fn who_has_to_prove_a_second_factor_is_told_so_with_credentials_and_without() {
    let lab = Lab::new(FakeGate { missing: Some(Factor::Totp), ..FakeGate::default() }, options(443));
    let (to, connections) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    assert_eq!(client.ask(get(to, "")).await.status(), 407, "nobody is known yet");
    for credentials in [negotiate("user alice"), String::new(), negotiate("user alice")] {
        let answer = client.ask(get(to, &credentials)).await;
        assert_eq!(answer.status(), 403);
        let text = answer.text();
        assert!(
            text.contains("A second factor is needed") && text.contains("your authenticator app"),
            "{text}"
        );
        assert!(!text.contains("alice") && answer.field("Proxy-Authenticate").is_none(), "{text}");
    }
    assert_eq!(connections.load(Relaxed), 0, "nothing was passed on");
}

#[tokio::test]
async fn where_no_proof_would_help_none_is_asked_for() {
    let denial = Some(Denial::Unwatched);
    let lab = Lab::new(FakeGate { denial, ..FakeGate::default() }, options(443));
    let answer = lab.client().await.ask(get("192.0.2.1:80".parse().unwrap(), "")).await;
    assert_eq!((answer.status(), answer.field("Proxy-Authenticate")), (503, None));
}

#[tokio::test]
async fn on_a_shared_host_each_connection_proves_itself() {
    let lab = Lab::new(FakeGate { shared: true, ..FakeGate::default() }, options(443));
    let (to, _) = Origin::new().await.serve(OK);
    let (mut one, mut two) = (lab.client().await, lab.client().await);
    assert_eq!(one.ask(get(to, &negotiate("user alice"))).await.status(), 200);
    assert_eq!(one.ask(get(to, "")).await.status(), 200);
    assert_eq!(two.ask(get(to, "")).await.status(), 407);
    assert_eq!(two.ask(get(to, &negotiate("user bob"))).await.status(), 200);
    let sessions: Vec<Scope> = lab.gate.sessions.lock().unwrap().keys().copied().collect();
    assert!(sessions.len() == 2 && sessions.iter().all(|scope| scope.connection.is_some()), "{sessions:?}");

    // The tracker decides, not the connection.
    lab.gate.sessions.lock().unwrap().clear();
    assert_eq!(one.ask(get(to, "")).await.status(), 407);
}

#[tokio::test]
async fn a_ticket_with_many_groups_passes_and_a_larger_head_is_told() {
    let lab = Lab::closed();
    let (to, _) = Origin::new().await.serve(OK);
    let mut client = lab.client().await;
    let large = format!("user alice{}", " ".repeat(60_000));
    assert_eq!(client.ask(get(to, &negotiate(&large))).await.status(), 200);
    let pad = |size| get(to, &format!("X-Pad: {}\r\n", "x".repeat(size)));
    assert_eq!(client.ask(pad(128 * 1024)).await.status(), 200);
    let too_large = client.ask(pad(200 * 1024)).await;
    assert_eq!(too_large.status(), 431);
}

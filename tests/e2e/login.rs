//! Logging in by Kerberos, and what is remembered of it.

use anyhow::Result;
use lab::answers::{Session, list};
use lab::origin::ECHO_PORT;
use lab::{Lab, PROXY_NAME};

use crate::common::{ORIGIN, SOON, is_let_through, session, status_without_credentials};

#[test]
fn without_credentials_there_is_a_challenge() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let reply = lab.curl(0).get(ORIGIN)?;
    assert_eq!(reply.code, 407, "{reply:?}");
    assert!(reply.header("proxy-authenticate").contains(&"Negotiate".to_owned()), "{reply:?}");
    assert!(!reply.body.is_empty(), "a person should be told why");
    assert_eq!(lab.origin.requests(), 0);
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn a_login_is_remembered_for_the_address() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let reply = lab.curl_as(0, "alice")?.get(ORIGIN)?;
    assert_eq!((reply.code, reply.text().as_str()), (200, "the origin greets you\n"), "{reply:?}");
    let first = session(&lab, 0)?;
    assert!(first.is_of("alice") && first.is_active(), "{first:?}");
    assert!(!first.id.is_empty() && !first.created.is_empty() && first.mode == "session", "{first:?}");

    assert!(is_let_through(&lab, 0), "no credentials are needed now");
    assert_eq!(status_without_credentials(&lab, 1), 407, "another address is another client");
    lab.login(1, "bob")?;
    assert!(session(&lab, 1)?.is_of("bob"));
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.id, first.id, "the same user goes on with the same session");
    assert_eq!(lab.gateway.sessions()?.len(), 2);
    Ok(())
}

#[test]
fn a_session_has_every_field_of_the_contract() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let document = lab.gateway.ask(&["sessions"])?;
    let object = list(&document, "sessions").into_iter().next().cloned().unwrap_or_default();
    for field in Session::FIELDS {
        assert!(object.get(field).is_some(), "{field} is missing in {object}");
    }
    Ok(())
}

#[test]
fn the_connection_stays_usable_across_the_challenge() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, "")?;
    assert_eq!(raw.answer()?.0.code, 407);
    raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.answer()?.0.code, 200);
    raw.get(ORIGIN, "")?;
    assert_eq!(raw.answer()?.0.code, 200, "browsers send no token with later requests");
    Ok(())
}

#[test]
fn a_tunnel_is_challenged_on_the_same_connection() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let to = format!("origin.example.test:{ECHO_PORT}");
    let mut raw = lab.raw(0)?;
    raw.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"))?;
    let (head, _) = raw.answer()?;
    assert_eq!((head.code, head.header("proxy-authenticate")), (407, Some("Negotiate")), "{head:?}");
    assert_eq!(raw.tunnel(&to, &lab.credentials(0, "alice")?)?.code, 200);
    raw.send("hello")?;
    assert_eq!(raw.exactly(5)?, b"hello");
    Ok(())
}

#[test]
fn a_garbage_token_is_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for token in
        ["!!!", "", "Z2FyYmFnZQ==", "YIIBAAYGKwYBBQUC", "TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAA="]
    {
        let reply = lab.curl(0).header(&format!("Proxy-Authorization: Negotiate {token}")).get(ORIGIN)?;
        assert!([400, 403, 407].contains(&reply.code), "{token}: {reply:?}");
    }
    assert_eq!(lab.gateway.sessions()?, []);
    assert_eq!(lab.origin.requests(), 0);
    let refusal = || {
        let events = lab.gateway.events().ok()?;
        events.into_iter().find(|event| event.client == lab.address(0))
    };
    lab::wait::until("a refusal in the audit trail", SOON, refusal)?;
    lab.login(0, "alice")
}

#[test]
fn a_ticket_for_a_key_that_is_new_in_the_keytab_is_accepted_at_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let principal = format!("HTTP/{PROXY_NAME}");
    for round in 0..3 {
        lab.realm.renew_service(&principal, &lab.keytab)?;
        let tickets = lab.realm.kinit(&lab.net.gateway, "bob", "bob-pw")?;
        let reply = lab.curl(1).tickets(&tickets).get(ORIGIN)?;
        assert_eq!(reply.code, 200, "round {round}: {reply:?}");
        lab.login(0, "alice")?;
    }
    assert!(session(&lab, 0)?.is_of("alice") && session(&lab, 1)?.is_of("bob"));
    Ok(())
}

#[test]
fn a_ticket_for_another_service_is_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.realm.add_service("HTTP/other.example.test", &lab.scratch.join("other.keytab"))?;
    let cache = lab.tickets("alice")?;
    let token = lab::raw::token(&lab.net.clients[0].ns, &lab.realm, &cache, "other.example.test")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &lab::raw::credentials(&token))?;
    let (head, _) = raw.answer()?;
    assert!([403, 407].contains(&head.code), "{head:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn it_works_by_ipv6_and_on_a_dual_stack_listener() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nlisten = [\"[::]:3128\"]\n")?;
    lab.login(0, "alice")?;
    assert!(session(&lab, 0)?.is_of("alice"), "a mapped address is shown as IPv4");
    let six = lab.net.clients[0].v6.to_string();
    let token =
        lab::raw::token(&lab.net.clients[0].ns, &lab.realm, &lab.tickets("bob")?, "proxy6.example.test")?;
    let mut raw = lab.raw6(0)?;
    raw.get(ORIGIN, &lab::raw::credentials(&token))?;
    assert_eq!(raw.answer()?.0.code, 200);
    let session = lab.gateway.session(&six)?.unwrap_or_default();
    assert!(session.is_of("bob"), "{session:?}");
    Ok(())
}

#[test]
fn on_a_shared_host_every_connection_proves_itself() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[timeouts]\nshared-hosts = [\"10.77.0.11/32\"]\n")?;
    let mut alice = lab.raw(0)?;
    alice.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(alice.answer()?.0.code, 200);
    alice.get(ORIGIN, "")?;
    assert_eq!(alice.answer()?.0.code, 200, "the connection is proved");
    assert_eq!(status_without_credentials(&lab, 0), 407, "its neighbour is not");
    let mut bob = lab.raw(0)?;
    bob.get(ORIGIN, &lab.credentials(0, "bob")?)?;
    assert_eq!(bob.answer()?.0.code, 200);
    alice.get(ORIGIN, "")?;
    assert_eq!(alice.answer()?.0.code, 200, "nobody is kicked out on a shared host");
    Ok(())
}

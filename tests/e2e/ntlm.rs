//! Genuine NTLM, which has no place here: clients that have nothing better are told so, once.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::gateway::bin_dir;
use lab::ntlm::{Ntlm, bare};
use lab::raw::{Raw, credentials};
use lab::realm::NO_TICKETS;
use lab::wait::until;
use serde_json::Value;

use crate::common::{ORIGIN, SOON, requests, session};

/// More requests than a client needs that does not try again and again.
const FEW: usize = 10;

/// Insists on the page that says what is wrong, and asks for nothing.
fn is_told(raw: &mut Raw, when: &str) -> Result<()> {
    let (head, body) = raw.answer().with_context(|| when.to_owned())?;
    ensure!(head.code == 403, "{when}: {head:?}");
    ensure!(head.header("proxy-authenticate").is_none(), "{when}: {head:?}");
    says_what_to_do(&String::from_utf8_lossy(&body)).context(when.to_owned())
}

fn says_what_to_do(page: &str) -> Result<()> {
    for words in ["NTLM", "full name", "ticket"] {
        ensure!(page.contains(words), "no {words:?} in {page}");
    }
    Ok(())
}

/// How many tokens of a kind there were, by the metrics.
fn counted(lab: &Lab, kind: &str) -> Result<f64> {
    let name = format!("tracker_negotiate_tokens_total{{kind=\"{kind}\"}} ");
    let metrics = lab.gateway.metrics()?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

#[test]
fn a_client_that_has_only_ntlm_is_told_so_and_asked_no_more_on_that_connection() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let ns = &lab.net.clients[0].ns;
    let wrapped = Ntlm::new(&lab.scratch)?.spnego(ns, &lab.realm, None)?;
    for (kind, token) in [("ntlm", bare(ns)?), ("spnego-ntlm", wrapped)] {
        let mut raw = lab.raw(0)?;
        raw.get(ORIGIN, "")?;
        assert_eq!(raw.answer()?.0.header("proxy-authenticate"), Some("Negotiate"), "{kind}");
        raw.get(ORIGIN, &credentials(&token))?;
        is_told(&mut raw, &format!("{kind}: the request with the token"))?;
        raw.get(ORIGIN, "")?;
        is_told(&mut raw, &format!("{kind}: the next one without"))?;
        assert!(counted(&lab, kind)? >= 1.0, "{kind}");
        assert_eq!(lab.gateway.sessions()?, [], "{kind}");

        let mut other = lab.raw(0)?;
        other.get(ORIGIN, "")?;
        let (head, _) = other.answer()?;
        assert_eq!((head.code, head.header("proxy-authenticate")), (407, Some("Negotiate")), "{kind}");

        raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
        assert_eq!(raw.answer()?.0.code, 200, "{kind}: a ticket is good on that connection too");
        let mut tunnel = lab.raw(1)?;
        let to = "origin.example.test:443";
        tunnel.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{}\r\n", credentials(&token)))?;
        is_told(&mut tunnel, &format!("{kind}: for a tunnel"))?;
        assert!(tunnel.ended_within(SOON)?, "{kind}");
        lab.gateway.ask(&["logout", &lab.address(0)])?;
    }
    let refusal = |event: &lab::answers::Event| {
        event.kind == "refused" && event.client == lab.address(0) && event.text.contains("NTLM")
    };
    until("both refusals in the audit trail", SOON, || {
        (lab.gateway.events().ok()?.iter().filter(|event| refusal(event)).count() >= 2).then_some(())
    })
}

#[test]
fn real_clients_with_ntlm_do_not_loop() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let ntlm = Ntlm::new(&lab.scratch)?;

    // A scheme that nobody offered.
    let password = ["--proxy-ntlm", "--proxy-user", "EXAMPLE\\alice:alice-pw"];
    let reply = password.iter().fold(lab.curl(0), |curl, word| curl.arg(word)).get(ORIGIN)?;
    assert!([403, 407].contains(&reply.code), "{reply:?}");
    let curl = lab.curl(0).tickets(Path::new(NO_TICKETS)).environment(ntlm.environment());
    let reply = curl.get(ORIGIN)?;
    assert_eq!(reply.code, 403, "{reply:?}");
    says_what_to_do(&reply.text())?;
    assert!(requests(&lab, 0)? <= FEW, "{}", lab.gateway.log());

    let chromium = lab.chromium(1).environment(ntlm.environment());
    let page = chromium.dom(ORIGIN)?;
    assert!(page.dom.contains("name=\"password\""), "nothing is left but the form: {page:?}");
    assert!(requests(&lab, 1)? <= FEW, "{}", lab.gateway.log());
    let page = chromium.dom("https://origin.example.test/")?;
    assert!(page.stderr.contains("Page load failed"), "{page:?}");
    assert!(requests(&lab, 1)? <= 2 * FEW, "{}", lab.gateway.log());
    assert_eq!(lab.gateway.sessions()?, []);
    assert_eq!(lab.origin.requests(), 0);
    chromium.screenshot(ORIGIN, &lab.scratch.join("ntlm.png"))
}

#[test]
fn who_has_a_ticket_may_have_ntlm_besides() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let (ntlm, ns) = (Ntlm::new(&lab.scratch)?, &lab.net.clients[0].ns);
    let token = ntlm.spnego(ns, &lab.realm, Some(&lab.tickets("alice")?))?;
    let explained = lab.gateway.ask(&["decode", &token])?;
    let text = explained.to_string();
    assert!(text.contains("Kerberos 5") && text.contains("NTLM"), "both are offered: {text}");
    let verdict = verdict(&explained);
    assert!(verdict.starts_with("Kerberos") && verdict.contains("accepted"), "{verdict}");
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &credentials(&token))?;
    assert_eq!(raw.answer()?.0.code, 200);
    assert!(session(&lab, 0)?.is_of("alice"));

    let page = lab.chromium_as(1, "bob")?.environment(ntlm.environment()).dom(ORIGIN)?;
    assert!(page.dom.contains("the origin greets you"), "{page:?}");
    assert!(session(&lab, 1)?.is_of("bob"));
    Ok(())
}

/// What follows from a token, by `trackerctl decode`.
fn verdict(explained: &Value) -> String {
    let lines = explained.as_array().into_iter().flatten();
    let verdict = lines.filter(|line| line["what"] == "verdict").find_map(|line| line["is"].as_str());
    verdict.unwrap_or_default().to_owned()
}

#[test]
fn decode_knows_ntlm_when_it_sees_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::prepare(1, &bin_dir()?)?;
    let ns = &lab.net.clients[0].ns;
    let wrapped = Ntlm::new(&lab.scratch)?.spnego(ns, &lab.realm, None)?;
    for token in [bare(ns)?, wrapped] {
        // As it stands in a header, and alone; no gateway runs.
        for text in [credentials(&token), token] {
            let verdict = verdict(&lab.gateway.ask(&["decode", &text])?);
            assert!(verdict.starts_with("NTLM") && verdict.contains("refused"), "{text}: {verdict}");
        }
    }
    Ok(())
}

//! A real browser: Chromium, by http and https, with a ticket and without.

use anyhow::Result;
use lab::Lab;
use lab::wait::until;

use crate::common::{ORIGIN, SOON, requests, session, status_without_credentials};

/// The origin's front page by https.
const SECURE: &str = "https://origin.example.test/";
/// What stands on it.
const GREETING: &str = "the origin greets you";
/// More requests than Chromium needs for a page and its icon, asked for twice each; a loop makes hundreds.
const FEW: usize = 10;

#[test]
fn chromium_with_a_ticket_is_logged_in_without_a_word() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let chromium = lab.chromium_as(0, "alice")?;
    for url in [ORIGIN, SECURE] {
        assert_eq!(lab.gateway.sessions()?, [], "each kind of page has to prove itself");
        let page = chromium.dom(url)?;
        assert!(page.dom.contains(GREETING), "{url}: {page:?}");
        let session = session(&lab, 0)?;
        assert!(session.is_of("alice") && session.is_active(), "{url}: {session:?}");
        lab.gateway.ask(&["logout", &lab.address(0)])?;
    }
    Ok(())
}

#[test]
fn chromium_without_a_ticket_shows_what_to_do_and_stops_asking() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let said = lab.curl(0).get(ORIGIN)?.text();
    for words in ["Kerberos", "kinit", "full name"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // It leads on to where its user can log in all the same.
    let page = lab.chromium(0).dom(ORIGIN)?;
    for words in ["<form", "name=\"password\"", "name=\"to\""] {
        assert!(page.dom.contains(words), "{words}: {page:?}");
    }
    assert!(requests(&lab, 0)? <= FEW, "{}", lab.gateway.log());

    // Of an answer to CONNECT no browser shows more than its own words.
    let page = lab.chromium(1).dom(SECURE)?;
    assert!(page.stderr.contains("Page load failed") && !page.dom.contains(GREETING), "{page:?}");
    assert!(requests(&lab, 1)? <= FEW, "{}", lab.gateway.log());

    lab.gateway.configure("[kerberos.conditions]\nbrowsers = [\"Firefox/\"]\n")?;
    until("curl to be refused as Chromium will be", SOON, || {
        (status_without_credentials(&lab, 0) == 403).then_some(())
    })?;
    // Not even a ticket helps where nobody asks for it: people are led to the form, and asked there.
    let chromium = lab.chromium_as(0, "alice")?;
    let page = chromium.dom(ORIGIN)?;
    assert!(page.dom.contains("name=\"password\"") && page.dom.contains("name=\"to\""), "{page:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    assert_eq!(lab.origin.requests(), 0);
    // TRACKER_KEEP=1 keeps it to be looked at.
    chromium.screenshot(ORIGIN, &lab.scratch.join("not-offered.png"))
}

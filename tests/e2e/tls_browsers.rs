//! Real browsers, by a PAC file that names the proxy under TLS.

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::certificates::{Authority, Wish};
use lab::firefox;
use lab::secure::{PAC, settings};
use lab::wait::until;

use crate::common::{ORIGIN, session};

/// The origin's front page by https.
const SECURE: &str = "https://origin.example.test/";
/// What stands on it.
const GREETING: &str = "the origin greets you";
/// A browser on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// A lab whose proxy is under TLS, too; and the authority that clients trust.
fn start() -> Result<(Lab, Authority)> {
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    let certificate = root.intermediate("below")?.issue(Wish::names("DNS:proxy.example.test"))?;
    lab.gateway.configure(&settings(&certificate))?;
    lab.gateway.start()?;
    Ok((lab, root))
}

#[test]
fn chromium_is_logged_in_over_tls_by_a_pac_file() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start()?;
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let chromium = lab.chromium_as(0, "alice")?.pac(PAC).trusts(root.certificate());
    for url in [ORIGIN, SECURE] {
        assert_eq!(lab.gateway.sessions()?, [], "each kind of page has to prove itself");
        let page = chromium.dom(url)?;
        assert!(page.dom.contains(GREETING), "{url}: {page:?}\n{}", lab.gateway.log());
        let session = session(&lab, 0)?;
        assert!(session.is_of("alice") && session.is_active(), "{url}: {session:?}");
        lab.gateway.ask(&["logout", &lab.address(0)])?;
    }
    // Where it does not trust the certificate, nothing is sent that could log anybody in.
    let stranger = Authority::root(&lab.scratch, "stranger")?;
    let page = lab.chromium_as(1, "bob")?.pac(PAC).trusts(stranger.certificate()).dom(ORIGIN)?;
    assert!(!page.dom.contains(GREETING), "{page:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn firefox_is_logged_in_over_tls_by_a_pac_file() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start()?;
    let ns = &lab.net.clients[0].ns;
    let _firefox = firefox::open_by_pac(
        &lab.scratch,
        ns,
        &lab.realm,
        &lab.tickets("alice")?,
        (PAC, root.certificate()),
        ORIGIN,
    )?;
    until("Firefox to load the page", PATIENCE, || (lab.origin.requests() > 0).then_some(()))?;
    assert!(session(&lab, 0)?.is_of("alice"));
    Ok(())
}

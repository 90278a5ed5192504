//! Kerberos with `second-factor.kerberos = "step-up"`: a ticket alone begins a session that waits for the second factor.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::web::Web;

use crate::common::{ORIGIN, is_for_people, is_let_through, session};
use crate::factor_codes::{OPTIONAL, give, leads_to, password, set_up};

fn settings() -> String {
    format!("[second-factor]\nkerberos = \"step-up\"\n{OPTIONAL}")
}

fn licences(lab: &Lab) -> Result<u64> {
    Ok(lab.gateway.ask(&["status"])?["licences"]["used"].as_u64().unwrap_or(u64::MAX))
}

#[test]
fn a_ticket_waits_for_the_second_factor_and_is_led_to_where_it_is_given() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, &settings())?;
    let (_, authenticator, _) = set_up(&lab, 1, "alice")?;
    let before = licences(&lab)?;
    // Who has set nothing up is not asked.
    lab.login(0, "bob")?;
    lab.gateway.ask(&["logout", &lab.address(0)])?;

    // A program with a ticket: refused, with a way on; and again, also with another ticket.
    for _ in 0..3 {
        let refused = lab.curl_as(0, "alice")?.get(ORIGIN)?;
        ensure!(refused.code == 403, "{refused:?}\n{}", lab.gateway.log());
        let text = refused.text();
        ensure!(text.contains("A second factor is needed") && text.contains("/login\""), "{text}");
        ensure!(session(&lab, 0)?.state == "waiting");
    }
    let refused = lab.curl(0).get(ORIGIN)?;
    ensure!(
        refused.code == 403 && refused.header("proxy-authenticate").is_empty(),
        "nothing to answer: {refused:?}"
    );
    is_for_people(&lab, &refused.text())?;
    let german = lab.curl(0).header("Accept-Language: de").get(ORIGIN)?;
    ensure!(german.text().contains("zweiter Faktor"), "{}", german.text());
    let tunnel = lab.curl_as(0, "alice")?.get("https://origin.example.test/")?;
    ensure!(tunnel.connect_code == 403, "{tunnel:?}");
    // Whoever opens a page is led there, with and without a ticket.
    for curl in [lab.curl(0), lab.curl_as(0, "alice")?] {
        let led = curl.header("Accept: text/html").get(ORIGIN)?;
        let to = led.header("location");
        ensure!(led.code == 302 && to.len() == 1 && to[0].contains("/login?to="), "{led:?}");
    }
    ensure!(licences(&lab)? == before, "who waits takes no licence");
    for words in [vec!["sessions"], vec!["status"]] {
        let shown = lab.gateway.shown(&words)?;
        ensure!(shown.contains("waiting for the second factor"), "{shown}");
    }
    let explained = lab.gateway.shown(&["explain", &lab.address(0)])?;
    for words in ["waiting for the second factor", "10m without it: the login is forgotten"] {
        ensure!(explained.contains(words), "{explained}");
    }
    let filtered = lab.gateway.shown(&["sessions", "--filter", "state=waiting"])?;
    ensure!(filtered.contains("alice"), "{filtered}");

    // The code completes it.
    let web = Web::new(&lab, 0);
    let page = password(&web, "alice")?;
    let given = give(&web, &page, &authenticator.code()?)?;
    // Of an authenticator whose clock is ahead that is told in between.
    let is_in = leads_to(&given, "/") || given.text().contains("You are logged in");
    ensure!(is_in, "{given:?}\n{}", lab.gateway.log());
    ensure!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0));
    // A ticket by itself takes nothing from it.
    ensure!(lab.curl_as(0, "alice")?.get(ORIGIN)?.code == 200);
    ensure!(session(&lab, 0)?.is_active());
    Ok(())
}

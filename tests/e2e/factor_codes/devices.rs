//! Remembered browsers.

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::client::Reply;
use lab::web::Web;

use super::{CODE, HOME, OPTIONAL, SET_UP, activate, begins, is_in, leads_to, password, reasons, set_up};
use crate::common::is_let_through;

/// The cookie that an answer sets for a browser to be remembered by.
fn device(reply: &Reply) -> Option<String> {
    let set = reply.header("set-cookie");
    let line = set.iter().find_map(|line| line.strip_prefix("__Host-tracker-device="))?;
    Some(line.split(';').next().unwrap_or_default().to_owned())
}

#[test]
fn a_remembered_browser_is_its_users_under_its_enrolment_until_it_is_forgotten() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab =
        Lab::start_with(2, &format!("{OPTIONAL}[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\n"))?;
    let (_, alices, _) = set_up(&lab, 1, "alice")?;
    let (_, bobs, _) = set_up(&lab, 1, "bob")?;
    let (_, carols, _) = set_up(&lab, 1, "carol")?;
    let jar = {
        let web = Web::new(&lab, 0);
        let page = password(&web, "alice")?;
        ensure!(page.text().contains("for 30 days"), "{}", page.text());
        let fields = [("code", alices.code()?), ("remember", "yes".to_owned())];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        let done = web.post(&page, CODE, &fields)?;
        ensure!(is_in(&done, "/"), "{done:?}");
        let secret = device(&done).context("no cookie")?;
        ensure!(secret.len() == 32, "128 bits: {secret}");
        let line = done.header("set-cookie").join("\n");
        ensure!(line.contains("Max-Age=2592000") && line.contains("HttpOnly") && line.contains("Secure"));

        // The same browser is not asked again, also after a restart.
        ensure!(leads_to(&begins(&web, "alice")?, "/") && is_let_through(&lab, 0));
        // Another user's login in it is; and what a thief of the cookie gets is nothing without alice's password.
        ensure!(leads_to(&begins(&web, "bob")?, HOME), "bob is asked");
        let thief = Web::new(&lab, 1);
        thief.is_nobody()?;
        let form = thief.get("/login")?;
        let token = lab::web::token(&form)?;
        let fields = [("token", token.as_str()), ("name", "bob"), ("password", "bob-pw")];
        let cookie = format!("Cookie: __Host-tracker-device={secret}");
        let led = thief.ask(&Web::url("/login"), &fields, &["Sec-Fetch-Site: same-origin", &cookie])?;
        ensure!(leads_to(&led, HOME), "{led:?}");
        let listed = web_of(&web, "alice")?;
        ensure!(listed.contains(lab::web::USER_AGENT) && listed.contains(&lab.address(0)), "{listed}");
        web.jar().clone()
    };
    lab.gateway.restart()?;
    let web = Web::with_jar(&lab, 0, &jar);
    ensure!(leads_to(&begins(&web, "alice")?, "/"), "{}", lab.gateway.log());

    // A remembered browser is no fresh factor.
    let form = web.get(HOME)?;
    ensure!(web.post(&form, SET_UP, &[])?.text().contains("name=\"factor-code\""));
    // Forgotten at once.
    let name = between(&form.text(), "name=\"of\" value=\"", "\"").context("no browser is listed")?;
    let done = web.post(&form, "/second-factor/devices/forget", &[("of", &name)])?;
    ensure!(leads_to(&done, "/second-factor?done=forgotten"), "{done:?}");
    ensure!(leads_to(&begins(&web, "alice")?, HOME), "asked again");

    // With another authenticator all of them are.
    let page = web.get(HOME)?;
    let code = alices.code()?;
    ensure!(is_in(&web.post(&page, CODE, &[("code", &code), ("remember", "yes")])?, "/"));
    ensure!(leads_to(&begins(&web, "alice")?, "/"));
    let form = web.get(HOME)?;
    let code = alices.code()?;
    ensure!(leads_to(&web.post(&form, SET_UP, &[("factor-code", &code)])?, SET_UP));
    activate(&web, &web.get(SET_UP)?)?;
    ensure!(leads_to(&begins(&web, "alice")?, HOME), "the enrolment is another one");

    // Nobody who administers is remembered, nor anybody where the setting says so.
    let page = password(&Web::new(&lab, 0), "carol")?;
    ensure!(!page.text().contains("name=\"remember\""), "{}", page.text());
    let carol = Web::new(&lab, 0);
    let page = password(&carol, "carol")?;
    let done = carol.post(&page, CODE, &[("code", &carols.code()?), ("remember", "yes")])?;
    ensure!(is_in(&done, "/") && device(&done).is_none(), "{done:?}");
    lab.gateway.ask(&["set", "second-factor.remember", "0s"])?;
    let bob = Web::new(&lab, 0);
    let page = password(&bob, "bob")?;
    ensure!(!page.text().contains("name=\"remember\""), "{}", page.text());
    let done = bob.post(&page, CODE, &[("code", &bobs.code()?), ("remember", "yes")])?;
    ensure!(is_in(&done, "/") && device(&done).is_none(), "{done:?}");

    let told = reasons(&lab, "second-factor")?;
    for word in ["device-remembered", "device-forgotten"] {
        ensure!(
            told.iter().any(|reason| reason.starts_with(word) && reason.ends_with(lab::web::USER_AGENT)),
            "{word}: {told:?}"
        );
    }
    Ok(())
}

/// The page of what this user has set up, who logs in with their password.
fn web_of(web: &Web<'_>, user: &str) -> Result<String> {
    let done = begins(web, user)?;
    ensure!(is_in(&done, "/"), "{done:?}");
    Ok(web.get(HOME)?.text())
}

fn between(text: &str, before: &str, after: &str) -> Option<String> {
    Some(text.split_once(before)?.1.split_once(after)?.0.to_owned())
}

//! Setting up, and what it is good for afterwards.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::oath::Authenticator;
use lab::web::Web;

use super::{
    ACTIVATE, CODE, HOME, OPTIONAL, REQUIRED, SET_UP, activate, are_good_html, begins, codes_on, give, is_in,
    leads_to, log_in_with, logins, password, reasons, set_up,
};
use crate::common::{is_for_people, is_let_through, session, status_without_credentials};
use crate::portal_login::log_in;

#[test]
fn who_has_set_one_up_is_asked_for_a_code_that_is_good_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, OPTIONAL)?;
    let web = Web::new(&lab, 0);
    ensure!(leads_to(&log_in(&web, "alice", "alice-pw")?, "/"), "nothing is set up yet");
    let own = web.get("/")?;
    ensure!(own.text().contains("href=\"/second-factor\""), "{}", own.text());
    let manage = web.get(HOME)?;
    ensure!(manage.text().contains("Start 2FA setup"), "{}", manage.text());
    is_for_people(&lab, &manage.text())?;
    ensure!(leads_to(&web.post(&web.get(SET_UP)?, SET_UP, &[])?, SET_UP));
    let page = web.get(SET_UP)?;
    ensure!(page.header("cache-control") == ["no-store"], "{page:?}");
    is_for_people(&lab, &page.text())?;
    let authenticator = Authenticator::on(&page)?;
    ensure!(authenticator.secret().len() == 32, "160 bits");
    let again = Authenticator::on(&web.get(SET_UP)?)?;
    ensure!(again.secret() == authenticator.secret(), "the same over reloads");

    // A wrong code and an address of the account's own switch nothing on.
    let wrong = web.post(&page, ACTIVATE, &[("code", &authenticator.wrong(1)?)])?;
    ensure!(wrong.code == 422 && wrong.text().contains("This code is not right"), "{wrong:?}");
    let code = authenticator.code()?;
    for address in ["Alice@Example.Test", "nothing", "a@b@c"] {
        let refused = web.post(&page, ACTIVATE, &[("code", &code), ("address", address)])?;
        ensure!(refused.code == 422 && codes_on(&refused).is_empty(), "{address}: {refused:?}");
    }
    let done = web.post(&page, ACTIVATE, &[("code", &code), ("address", "alice@example.org")])?;
    ensure!(done.code == 200 && codes_on(&done).len() == 10, "{done:?}\n{}", done.text());
    assert!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0), "who set it up has proved it");
    let shown = web.get(HOME)?;
    are_good_html(&lab, &[&page, &wrong, &done, &shown])?;
    let shown = shown.text();
    ensure!(shown.contains("a…@example.org") && !shown.contains("alice@example.org"), "{shown}");
    ensure!(shown.contains("Recovery codes left: <strong>10</strong>"), "{shown}");

    // In another browser: the code that switched it on is spent, the next one is good, once.
    let other = Web::new(&lab, 1);
    let asked = password(&other, "alice")?;
    ensure!(asked.text().contains("autocomplete=\"one-time-code\""), "{}", asked.text());
    is_for_people(&lab, &asked.text())?;
    assert_eq!(session(&lab, 1)?.state, "waiting");
    assert_ne!(status_without_credentials(&lab, 1), 200);
    let own = other.get("/")?.text();
    ensure!(own.contains("waits for a second factor") && own.contains("href=\"/second-factor\""), "{own}");
    let recovery = other.get("/second-factor/recovery-code")?;
    are_good_html(&lab, &[&asked, &recovery])?;
    let spent = give(&other, &asked, &code)?;
    ensure!(spent.code == 403 && spent.text().contains("used already"), "{spent:?}");
    let next = authenticator.code()?;
    ensure!(is_in(&give(&other, &asked, &next)?, "/"), "{}", lab.gateway.log());
    assert!(session(&lab, 1)?.is_active() && is_let_through(&lab, 1));
    let third = Web::new(&lab, 1);
    let asked = password(&third, "alice")?;
    assert_eq!(give(&third, &asked, &next)?.code, 403, "once");
    // A code of half a minute from now: the clock of whatever made it is ahead, and its user is told.
    let ahead = give(&third, &asked, &authenticator.ahead()?)?;
    ensure!(ahead.code == 200 && ahead.text().contains("clock is ahead"), "{ahead:?}\n{}", ahead.text());
    ensure!(third.get(HOME)?.text().contains("clock is ahead"));
    are_good_html(&lab, &[&ahead])?;

    assert_eq!(reasons(&lab, "second-factor")?, ["enrolled"]);
    let refused = reasons(&lab, "second-factor-refused")?;
    assert_eq!(refused, ["wrong-code", "wrong-code", "wrong-code"]);
    let told = lab.gateway.log() + &lab.gateway.ask(&["events"])?.to_string();
    ensure!(!told.contains(authenticator.secret()) && !told.contains(&next), "a secret is told");
    Ok(())
}

#[test]
fn where_one_is_demanded_nothing_but_the_set_up_works() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, REQUIRED)?;
    let web = Web::new(&lab, 0);
    let page = password(&web, "alice")?;
    let first = Authenticator::on(&page)?;
    assert_eq!(session(&lab, 0)?.state, "waiting");
    ensure!(web.get("/status")?.code == 302 && status_without_credentials(&lab, 0) != 200);
    // A second browser is at the same point, with a secret of its own.
    let other = Web::new(&lab, 0);
    let second = password(&other, "alice")?;
    ensure!(Authenticator::on(&second)?.secret() != first.secret());
    let (own, _) = activate(&web, &page)?;
    assert_eq!(own.secret(), first.secret());
    assert!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0), "by the code that switched it on");
    assert_eq!(logins(&lab)?, 1);
    // What the other one was setting up takes nobody's place.
    let late = Authenticator::on(&second)?;
    let refused = other.post(&second, ACTIVATE, &[("code", &late.code()?)])?;
    ensure!(codes_on(&refused).is_empty() && leads_to(&refused, SET_UP), "{refused:?}");
    ensure!(leads_to(&other.get(SET_UP)?, HOME), "they are asked for the code");
    let asked = other.get(HOME)?;
    assert_eq!(give(&other, &asked, &late.code()?)?.code, 403);
    // Nor can it be removed.
    ensure!(leads_to(&web.get("/second-factor/remove")?, HOME));
    let form = web.get(HOME)?;
    ensure!(leads_to(&web.post(&form, "/second-factor/remove", &[])?, HOME));
    log_in_with(&Web::new(&lab, 0), "alice", &own.code()?)
}

/// A login alone changes nothing of what is set up (django-multifactor#107): a factor is asked for once more.
#[test]
fn a_login_alone_changes_nothing_of_what_is_set_up() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(2, OPTIONAL)?;
    let (jar, own, codes) = {
        let (web, own, codes) = set_up(&lab, 0, "alice")?;
        (web.jar().clone(), own, codes)
    };
    // What is proved in a login is not known after a restart; the login itself is.
    lab.gateway.restart()?;
    let web = Web::with_jar(&lab, 0, &jar);
    let form = web.get(HOME)?;
    ensure!(form.text().contains("Authenticator app"), "still logged in: {}", form.text());
    for (path, fields) in [
        (SET_UP, &[][..]),
        ("/second-factor/remove", &[]),
        ("/second-factor/recovery-codes", &[]),
        ("/second-factor/recovery-address", &[("address", "evil@example.org")]),
    ] {
        let asked = web.post(&form, path, fields)?;
        ensure!(asked.code == 200 && asked.text().contains("name=\"factor-code\""), "{path}: {asked:?}");
        ensure!(codes_on(&asked).is_empty(), "{path}");
    }
    let asked = web.get("/second-factor/remove")?;
    ensure!(asked.text().contains("name=\"factor-code\""));
    are_good_html(&lab, &[&asked])?;
    let stolen = web.post(&form, ACTIVATE, &[("code", "123456")])?;
    ensure!(leads_to(&stolen, SET_UP), "nothing is under way: {stolen:?}");
    let kept = web.get(HOME)?.text();
    ensure!(!kept.contains("e…@example.org") && kept.contains("<strong>10</strong>"), "{kept}");

    // With a code it is done at once, and the change was carried along; a wrong one does nothing.
    let wrong = own.wrong(7)?;
    let path = "/second-factor/recovery-address";
    let asked = web.post(&form, path, &[("address", "b@example.org"), ("factor-code", &wrong)])?;
    ensure!(asked.code == 403 && asked.text().contains("value=\"b@example.org\""), "{}", asked.text());
    let code = own.code()?;
    let done = web.post(&asked, path, &[("address", "b@example.org"), ("factor-code", &code)])?;
    ensure!(leads_to(&done, "/second-factor?done=address"), "{done:?}");
    ensure!(web.get(HOME)?.text().contains("b…@example.org"));
    // Fresh for a while: ten new codes, and those from before are void.
    let made = web.post(&form, "/second-factor/recovery-codes", &[])?;
    let new = codes_on(&made);
    ensure!(new.len() == 10 && !new.iter().any(|code| codes.contains(code)), "{new:?}");
    let other = Web::new(&lab, 0);
    password(&other, "alice")?;
    let path = "/second-factor/recovery-code";
    let form = other.get(path)?;
    let void = other.post(&form, path, &[("code", &codes[0])])?;
    ensure!(void.code == 403 && void.text().contains("not right"), "{void:?}");
    let typed = new[0].to_lowercase().replace('-', " ");
    ensure!(leads_to(&other.post(&form, path, &[("code", &typed)])?, "/"));
    ensure!(other.get(HOME)?.text().contains("Recovery codes left: <strong>9</strong>"));
    let again = Web::new(&lab, 1);
    password(&again, "alice")?;
    let form = again.get(path)?;
    assert_eq!(again.post(&form, path, &[("code", &new[0])])?.code, 403, "once");

    // Removed by whoever has just proved one: the password is enough again.
    let form = other.get("/second-factor/remove")?;
    ensure!(leads_to(&other.post(&form, "/second-factor/remove", &[])?, "/second-factor?done=removed"));
    ensure!(leads_to(&begins(&Web::new(&lab, 0), "alice")?, "/"));
    let told = reasons(&lab, "second-factor")?;
    // Since the restart.
    assert_eq!(told, ["recovery-address", "recovery-codes", "recovery-code-used", "removed"]);
    assert!(reasons(&lab, "second-factor-refused")?.contains(&"wrong-recovery-code".to_owned()));
    Ok(())
}

/// 200 parallel posts of one code from two connections are one login.
#[test]
fn however_often_a_code_is_sent_at_once_there_is_one_login() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, OPTIONAL)?;
    let (_, own, _) = set_up(&lab, 1, "alice")?;
    let before = logins(&lab)?;
    let web = Web::new(&lab, 0);
    let page = password(&web, "alice")?;
    let fields = format!("token={}&code={}", lab::web::token(&page)?, own.code()?);
    let one = || {
        let curl =
            lab.curl(0).direct().arg("--insecure").arg("--cookie").arg(&web.jar().display().to_string());
        let curl = curl.header("Sec-Fetch-Site: same-origin").data(&fields);
        let curl = curl.arg("--write-out").arg("%{http_code} %{redirect_url} %{num_connects}\\n");
        // One connection: each number is one request.
        let mut command =
            curl.arg("--output").arg("/dev/null").command(&Web::url(&format!("{CODE}?[1-100]")));
        command.stdout(std::process::Stdio::piped()).spawn()
    };
    let running = [one()?, one()?];
    let mut answers = Vec::new();
    for child in running {
        let output = child.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let connects: u32 =
            text.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).sum();
        ensure!(connects == 1, "one connection: {text}");
        answers.extend(text.lines().map(str::to_owned));
    }
    assert_eq!(answers.len(), 200);
    let home = format!("303 {} ", Web::url("/"));
    let is_good = |answer: &&String| answer.starts_with(&home) || answer.starts_with("200 ");
    let good = answers.iter().filter(is_good).count();
    assert_eq!(good, 1, "{answers:#?}");
    assert_eq!(logins(&lab)?, before + 1);
    assert!(session(&lab, 0)?.is_active());
    Ok(())
}

//! Guessing is stopped: in a login, of an account, from an address.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::oath::Authenticator;
use lab::web::Web;

use super::{CODE, HOME, OPTIONAL, give, is_in, leads_to, password, reasons, set_up};

/// So many wrong codes in a login are the last.
const TRIES: usize = 5;

/// One login's worth of wrong codes.
fn guess(lab: &Lab, client: usize, user: &str, own: &Authenticator) -> Result<()> {
    let web = Web::new(lab, client);
    let page = password(&web, user)?;
    for number in 0..TRIES - 1 {
        let wrong = give(&web, &page, &own.wrong(number)?)?;
        ensure!(wrong.code == 403 && wrong.text().contains("name=\"code\""), "{number}: {}", wrong.text());
    }
    let over = give(&web, &page, &own.wrong(99)?)?;
    let text = over.text();
    ensure!(over.code == 403 && text.contains("name=\"password\"") && text.contains("once more"), "{text}");
    ensure!(leads_to(&web.get(HOME)?, "/login"), "the login is over");
    ensure!(lab.gateway.session(&lab.address(client))?.is_none(), "nor does anything wait");
    // Nothing of it is left to go on with.
    let late = web.post(&web.get("/login")?, CODE, &[("code", "123456")])?;
    ensure!(leads_to(&late, HOME), "{late:?}");
    Ok(())
}

#[test]
fn wrong_codes_are_counted_in_a_login_of_an_account_and_from_an_address() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, OPTIONAL)?;
    let (_, alices, codes) = set_up(&lab, 1, "alice")?;
    let (_, bobs, _) = set_up(&lab, 1, "bob")?;
    let (_, carols, _) = set_up(&lab, 1, "carol")?;
    guess(&lab, 0, "alice", &alices)?;
    guess(&lab, 0, "alice", &alices)?;
    // Ten of an account: the right one is not looked at either, from anywhere; nor is a recovery code.
    for client in [0, 2] {
        let web = Web::new(&lab, client);
        let page = password(&web, "alice")?;
        let refused = give(&web, &page, &alices.code()?)?;
        ensure!(refused.code == 403 && refused.text().contains("Too many codes"), "{}", refused.text());
        let path = "/second-factor/recovery-code";
        let refused = web.post(&web.get(path)?, path, &[("code", &codes[0])])?;
        ensure!(refused.text().contains("Too many codes"), "{}", refused.text());
    }
    // Thirty from an address: nobody's is looked at there. Elsewhere it is.
    guess(&lab, 0, "bob", &bobs)?;
    guess(&lab, 0, "bob", &bobs)?;
    guess(&lab, 0, "carol", &carols)?;
    let web = Web::new(&lab, 0);
    let page = password(&web, "carol")?;
    for number in 0..TRIES - 1 {
        give(&web, &page, &carols.wrong(number)?)?;
    }
    let code = carols.code()?;
    let elsewhere = Web::new(&lab, 2);
    let asked = password(&elsewhere, "carol")?;
    ensure!(is_in(&give(&elsewhere, &asked, &code)?, "/"), "the 30th has not come yet");
    let last = give(&web, &page, &carols.wrong(98)?)?;
    ensure!(last.text().contains("name=\"password\""), "{}", last.text());
    let web = Web::new(&lab, 0);
    let page = password(&web, "carol")?;
    let refused = give(&web, &page, &carols.code()?)?;
    ensure!(refused.code == 403 && refused.text().contains("Too many codes"), "{}", refused.text());
    assert!(reasons(&lab, "second-factor-refused")?.contains(&"too-many".to_owned()));
    Ok(())
}

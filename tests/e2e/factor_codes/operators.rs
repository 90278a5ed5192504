//! Administrators, and the built-in one.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::client::Reply;
use lab::web::Web;

use super::{CODE, HOME, REQUIRED, activate, is_in, leads_to, reasons};

const ADMINISTRATORS: &str = "[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\nviewers = [\"bob@EXAMPLE.TEST\"]\n\
    contact = \"Help desk <help@example.org>\"\n";

fn enter(web: &Web<'_>, user: &str, password: &str, next: &str) -> Result<Reply> {
    let form = web.get(&format!("/admin/login?next={next}"))?;
    web.post(&form, "/admin/login", &[("name", user), ("password", password), ("next", next)])
}

#[test]
fn administrators_go_the_same_way_and_are_led_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, &format!("{REQUIRED}{ADMINISTRATORS}"))?;
    for user in ["carol", "bob"] {
        let web = Web::new(&lab, 0);
        let led = enter(&web, user, &format!("{user}-pw"), "/admin/bans")?;
        ensure!(leads_to(&led, HOME), "{led:?}");
        ensure!(web.get("/admin/bans")?.code == 302, "the password alone opens nothing");
        let page = web.get(HOME)?;
        ensure!(page.text().contains("Never take the mailbox"), "{}", page.text());
        let (own, _) = activate(&web, &page)?;
        assert_eq!(web.get("/admin/bans")?.code, 200);
        let top = web.get("/status")?.text();
        ensure!(top.contains("<a href=\"/second-factor\">Second factor</a>"), "{top}");
        assert_eq!(lab.gateway.sessions()?, [], "for the administration, not for the proxy");

        let web = Web::new(&lab, 1);
        ensure!(leads_to(&enter(&web, user, &format!("{user}-pw"), "/admin/bans")?, HOME));
        let page = web.get(HOME)?;
        ensure!(!page.text().contains("name=\"remember\""), "{}", page.text());
        assert_eq!(web.post(&page, CODE, &[("code", &own.wrong(3)?)])?.code, 403);
        let done = web.post(&page, CODE, &[("code", &own.code()?)])?;
        ensure!(is_in(&done, "/admin/bans"), "{done:?}");
        assert_eq!(web.get("/admin/bans")?.code, 200);
    }
    // Of five wrong ones the last leads back to the administration's password.
    let web = Web::new(&lab, 0);
    enter(&web, "bob", "bob-pw", "/status")?;
    let page = web.get(HOME)?;
    let mut last = Reply::default();
    for _ in 0..5 {
        last = web.post(&page, CODE, &[("code", "000000")])?;
    }
    ensure!(last.text().contains("action=\"/admin/login\""), "{}", last.text());
    // A user of the same name is told nothing by a wrong role.
    let web = Web::new(&lab, 0);
    assert_eq!(enter(&web, "alice", "alice-pw", "/status")?.code, 403);
    let told = reasons(&lab, "second-factor")?;
    assert_eq!(told, ["enrolled", "enrolled"]);
    Ok(())
}

/// The recovery address of an administrator is not the mailbox that users are told to write to.
#[test]
fn an_administrators_recovery_address_is_not_the_help_desks() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &format!("{REQUIRED}{ADMINISTRATORS}"))?;
    let web = Web::new(&lab, 0);
    enter(&web, "carol", "carol-pw", "/status")?;
    let page = web.get(HOME)?;
    let own = lab::oath::Authenticator::on(&page)?;
    let fields = [("address", "Help@example.org".to_owned()), ("code", own.code()?)];
    let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
    let refused = web.post(&page, super::ACTIVATE, &fields)?;
    ensure!(refused.code == 422 && refused.text().contains("locked out"), "{}", refused.text());
    Ok(())
}

/// The built-in administrator belongs to no domain: where one is on they may set a factor up, and are asked for it then.
#[test]
fn the_built_in_administrator_sets_one_up_where_any_domain_is_on() -> Result<()> {
    const PASSWORD: &str = "korrekt Pferd Batterie";
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, "")?;
    let first = std::fs::read_to_string(lab.scratch.join("state/administrator-password"))?;
    let jar = {
        let web = Web::new(&lab, 0);
        let form = web.get("/password?then=admin")?;
        let fields = [
            ("name", "admin"),
            ("current", first.trim()),
            ("new", PASSWORD),
            ("repeat", PASSWORD),
            ("then", "admin"),
        ];
        ensure!(leads_to(&web.post(&form, "/password", &fields)?, "/admin/login"));
        ensure!(leads_to(&enter(&web, "admin", PASSWORD, "/status")?, "/status"));
        let page = web.get(HOME)?.text();
        ensure!(page.contains("No second factor is asked for"), "{page}");
        ensure!(!web.get("/status")?.text().contains("Set up 2FA"));
        web.jar().clone()
    };
    lab.gateway.ask(&["set", "second-factor.domains", "EXAMPLE.TEST=optional"])?;
    lab.gateway.restart()?;
    let web = Web::with_jar(&lab, 0, &jar);
    let top = web.get("/status")?.text();
    ensure!(top.contains("<a href=\"/second-factor\">Set up 2FA</a>"), "{top}");
    let start = web.get(super::SET_UP)?;
    ensure!(leads_to(&web.post(&start, super::SET_UP, &[])?, super::SET_UP));
    let (own, _) = activate(&web, &web.get(super::SET_UP)?)?;
    assert_eq!(web.get("/status")?.code, 200, "who has just set it up goes on");
    let again = Web::new(&lab, 0);
    ensure!(leads_to(&enter(&again, "admin", PASSWORD, "/status")?, HOME));
    let page = again.get(HOME)?;
    ensure!(is_in(&again.post(&page, CODE, &[("code", &own.code()?)])?, "/status"));
    Ok(())
}

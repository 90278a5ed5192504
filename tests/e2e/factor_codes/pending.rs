//! Logins between the two factors, and what ends them.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::oath::Authenticator;
use lab::web::Web;

use super::{ACTIVATE, HOME, leads_to, log_in};
use crate::portal_login::add_user;

const PASSWORD: &str = "korrekt Pferd Batterie";
const REQUIRED: &str = "[second-factor.domains]\nlocal = \"required\"\n";

/// Whoever has given the password of a user who has set up nothing yet must not make the account theirs afterwards.
/// What ends a login that is pending.
type Ending = fn(&Lab, &Web<'_>) -> Result<()>;

#[test]
fn a_pending_login_ends_with_its_user_and_with_a_logout_at_its_address() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, REQUIRED)?;
    let endings: [(&str, Ending); 3] = [
        ("disabled", |lab, _| lab.gateway.ask(&["user", "disable", "disabled"]).map(drop)),
        ("removed", |lab, _| lab.gateway.ask(&["user", "remove", "removed"]).map(drop)),
        ("away", |_, web| {
            let page = web.get("/internal/logout")?;
            ensure!(web.post(&page, "/internal/logout", &[])?.code == 200);
            Ok(())
        }),
    ];
    for (user, end) in endings {
        add_user(&lab, user, PASSWORD)?;
        let web = Web::new(&lab, 0);
        let led = log_in(&web, &format!("{user}@local"), PASSWORD)?;
        ensure!(leads_to(&led, HOME), "{user}: {led:?}\n{}", led.text());
        let page = web.get(HOME)?;
        let own = Authenticator::on(&page)?;
        end(&lab, &web)?;
        let late = web.post(&page, ACTIVATE, &[("code", &own.code()?), ("address", "")])?;
        ensure!(!late.text().contains("class=\"codes\""), "{user}: {}", late.text());
        let shown = web.get(HOME)?;
        ensure!(leads_to(&shown, "/login"), "{user}: {shown:?}\n{}", shown.text());
        assert_eq!(lab.gateway.sessions()?, [], "{user}");
    }
    Ok(())
}

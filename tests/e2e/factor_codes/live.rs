//! The domains' settings, live: by the file, the command and the page.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::wait::until;
use lab::web::Web;

use super::{HOME, OPTIONAL, begins, leads_to, log_in_with, password, set_up};
use crate::common::{SOON, session};

const KEY: &str = "second-factor.domains";

#[test]
fn off_keeps_what_is_set_up_and_on_again_asks_for_it_by_file_command_and_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let administrators = "[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\n";
    let mut lab = Lab::start_with(3, &format!("{OPTIONAL}{administrators}"))?;
    let own = set_up(&lab, 1, "alice")?.1;
    let is_asked = |lab: &Lab| -> Result<bool> { Ok(leads_to(&begins(&Web::new(lab, 0), "alice")?, HOME)) };
    ensure!(is_asked(&lab)?);

    lab.gateway.configure("[second-factor.domains]\n\"EXAMPLE.TEST\" = \"off\"\n")?;
    until("the file to be read", SOON, || is_asked(&lab).ok().filter(|is_asked| !is_asked))?;
    let web = Web::new(&lab, 0);
    begins(&web, "alice")?;
    let page = web.get(HOME)?.text();
    ensure!(page.contains("What you have set up is kept"), "{page}");

    lab.gateway.ask(&["set", KEY, "EXAMPLE.TEST=optional"])?;
    ensure!(is_asked(&lab)?, "by the command");
    log_in_with(&Web::new(&lab, 0), "alice", &own.code()?)?;

    // By the page: everybody has to. Whoever administers by it has none, and is logged in no more.
    let admin = Web::new(&lab, 2);
    let form = admin.get("/admin/login")?;
    ensure!(admin.post(&form, "/admin/login", &[("name", "carol"), ("password", "carol-pw")])?.code == 303);
    let form = admin.get(&format!("/admin/settings/edit?key={KEY}"))?;
    let fields = [("key", KEY), ("value", "EXAMPLE.TEST=required")];
    let done = admin.post(&form, "/admin/settings/set", &fields)?;
    ensure!(done.code == 303, "{done:?}\n{}", done.text());
    let page = admin.get("/status")?;
    ensure!(page.code == 302 && page.header("location").concat().starts_with("/admin/login"), "{page:?}");
    let bob = Web::new(&lab, 2);
    let page = password(&bob, "bob")?;
    ensure!(page.text().contains("class=\"qr\""), "bob has to set one up: {}", page.text());
    assert_eq!(session(&lab, 2)?.state, "waiting");
    Ok(())
}

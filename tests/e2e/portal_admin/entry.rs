//! Logging in to the administration, and proving oneself again before a change.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::pages::SETTINGS;
use lab::web::Web;

use super::{FIRST, SECOND, change, enter, operator, orders, setting, user};
use crate::common::{is_for_people, is_let_through, is_refused_for, session};

const KEY: &str = "timeouts.proxy-auth-timeout";

/// An administrator at alice's computer does not throw her out, and is nobody to the proxy.
#[test]
fn a_login_to_the_administration_is_none_to_the_proxy() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    let begun = session(&lab, 0)?;
    let at_alices = operator(&lab, 0, "carol", "carol-pw")?;
    assert!(session(&lab, 0)?.is_of("alice") && is_let_through(&lab, 0), "{begun:?}");
    operator(&lab, 1, "carol", "carol-pw")?;
    assert_eq!(lab.gateway.sessions()?.len(), 1, "no session of the proxy begins");
    assert!(!is_let_through(&lab, 1));
    assert_eq!(lab.gateway.ask(&["status"])?["licences"]["used"], 1);
    let form = at_alices.get("/admin/logout")?;
    assert_eq!(at_alices.post(&form, "/admin/logout", &[])?.code, 303);
    assert_eq!(at_alices.get("/status")?.code, 302, "out again");
    assert!(session(&lab, 0)?.is_of("alice") && is_let_through(&lab, 0), "and alice is still there");
    let events = lab.gateway.ask(&["events"])?.to_string();
    for words in ["admin-login", "admin-logout", "carol", &lab.address(0)] {
        assert!(events.contains(words), "{words}: {events}");
    }
    Ok(())
}

/// Whoever is neither is told what a wrong password is told.
#[test]
fn only_administrators_and_viewers_come_in_and_nobody_learns_who_is_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, &format!("{SETTINGS}[regulation]\nmax-retries = 100\n"))?;
    user(&lab, &["add", "robert"], FIRST)?;
    let mut told = Vec::new();
    for (name, password) in
        [("alice", "alice-pw"), ("carol", "surely not hers"), ("robert", FIRST), ("nobody-at-all", "x y z")]
    {
        let refused = enter(&Web::new(&lab, 1), name, password)?;
        let text = refused.text();
        ensure!(refused.code == 403 && !text.contains(password), "{name}: {refused:?}");
        let (said, _) = text.split_once("<footer>").context("a footer")?;
        let (_, said) = said.split_once("class=\"problem\"").context("a problem")?;
        let (said, _) = said.split_once("</div>").context("its end")?;
        told.push(said.to_owned());
    }
    assert!(told.iter().all(|said| *said == told[0]), "{told:#?}");
    is_refused_for(&lab, 1, &["neither an administrator nor a viewer"])?;
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn the_first_administrator_changes_the_password_first_and_then_administers() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "")?;
    let first = fs::read_to_string(lab.scratch.join("state/administrator-password"))?.trim().to_owned();
    let web = Web::new(&lab, 0);
    let led = enter(&web, "admin", &first)?;
    ensure!(led.text().contains("has to be changed"), "{led:?}");
    ensure!(led.text().contains("href=\"/password?then=admin\""), "{}", led.text());
    assert_eq!(web.get("/status")?.code, 302, "it opens nothing yet");
    let form = web.get("/password?then=admin")?;
    let fields =
        [("name", "admin"), ("current", &*first), ("new", SECOND), ("repeat", SECOND), ("then", "admin")];
    let done = web.post(&form, "/password", &fields)?;
    ensure!(done.code == 303 || done.code == 200, "{done:?}");
    assert_eq!(lab.gateway.sessions()?, [], "for the administration, not for the proxy");
    if web.get("/status")?.code != 200 {
        ensure!(done.header("location").concat().starts_with("/admin/login"), "{done:?}");
        ensure!(enter(&web, "admin", SECOND)?.code == 303);
    }
    assert_eq!(web.get("/admin")?.header("location"), ["/status"]);
    assert_eq!(web.get("/admin/local-users")?.code, 200);
    assert_eq!(enter(&Web::new(&lab, 0), "admin", &first)?.code, 403, "the first one is worth nothing");
    change(&web, &edit(), "/admin/settings/set", &[("key", KEY), ("value", "7m")])?;
    assert_eq!(setting(&lab, KEY)?["value"], "7m");
    Ok(())
}

fn edit() -> String {
    format!("/admin/settings/edit?key={KEY}")
}

/// So much later the gateway's clock is in [`later`], in seconds.
const LATER: &str = "660";

/// Has the gateway run where this is the boot, by what the kernel says of it.
fn in_boot(lab: &mut Lab, boot: &str, under: &str) -> Result<()> {
    let file = lab.scratch.write("boot-id", boot)?;
    let bind = format!("mount --bind {} /proc/sys/kernel/random/boot_id", file.display());
    lab.gateway.run_under([
        "unshare",
        "--mount",
        "sh",
        "-c",
        &format!("{bind} && exec {under} \"$@\""),
        "sh",
    ]);
    Ok(())
}

/// Starts the gateway anew in the same boot, in which more time has gone by. What it keeps of a boot is good in a time namespace
/// by the name of both, so that is what the boot had to be called before.
fn later(lab: &mut Lab) -> Result<()> {
    lab.gateway.stop()?;
    in_boot(lab, "lab", &format!("unshare --time --boottime {LATER}"))?;
    lab.gateway.start()
}

/// More than ten minutes after the password was typed a change asks for it again; a wrong one counts as any other.
#[test]
fn a_change_wants_a_fresh_login_after_ten_minutes() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = format!("{SETTINGS}[observer]\nmode = \"proxy\"\n[regulation]\nmax-retries = 2\n");
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    in_boot(&mut lab, &format!("lab+{LATER}"), "")?;
    lab.gateway.configure(&settings)?;
    lab.gateway.start()?;
    user(&lab, &["add", "anna", "--administrator"], FIRST)?;
    user(&lab, &["add", "bert", "--administrator"], SECOND)?;
    let (jar, other_jar) = {
        let web = operator(&lab, 1, "anna", FIRST)?;
        change(&web, &edit(), "/admin/settings/set", &[("key", KEY), ("value", "7m")])?;
        let other = operator(&lab, 1, "bert", SECOND)?;
        (fs::read(web.jar())?, fs::read(other.jar())?)
    };
    later(&mut lab)?;

    let web = Web::new(&lab, 1);
    fs::write(web.jar(), jar)?;
    let form = web.get(&edit())?;
    assert_eq!(form.code, 200, "to look at things it is good still: {form:?}");
    let told = orders(&lab)?.len();
    let set = [("key", KEY), ("value", "9m")];
    let asked = web.post(&form, "/admin/settings/set", &set)?;
    let text = asked.text();
    ensure!(asked.code == 200 && text.contains("Confirm that it is you"), "{asked:?}\n{text}");
    ensure!(text.contains("name=\"value\" value=\"9m\"") && text.contains("value=\"anna@local\""), "{text}");
    assert_eq!(text.matches("name=\"token\"").count(), 1, "{text}");
    assert_eq!(setting(&lab, KEY)?["value"], "7m", "nothing is done yet");

    let confirm = |name: &str, password: &str| {
        let more = [("confirm-name", name), ("confirm-password", password)];
        web.post(&asked, "/admin/settings/set", &[&set[..], &more].concat())
    };
    let wrong = confirm("anna@local", "not hers")?;
    ensure!(wrong.code == 403 && wrong.text().contains("Not accepted:"), "{wrong:?}");
    is_for_people(&lab, &wrong.text().replace(KEY, ""))?;
    let another = confirm("bert@local", SECOND)?;
    ensure!(another.code == 403, "somebody else's password is none: {another:?}");
    assert_eq!((setting(&lab, KEY)?["value"].clone(), orders(&lab)?.len()), ("7m".into(), told));

    let done = confirm("anna@local", FIRST)?;
    ensure!(done.code == 303, "{done:?}\n{}", done.text());
    assert_eq!(setting(&lab, KEY)?["value"], "9m");
    change(&web, &edit(), "/admin/settings/unset", &[("key", KEY)])?;

    // Wrong ones are counted where those of every other form are.
    let web = Web::new(&lab, 1);
    fs::write(web.jar(), other_jar)?;
    let asked = web.get("/admin/local-users/add")?;
    ensure!(asked.text().contains("Confirm that it is you"), "{asked:?}");
    let confirm = |password: &str| {
        let fields = [
            ("next", "/admin/local-users/add"),
            ("confirm-name", "bert@local"),
            ("confirm-password", password),
        ];
        web.post(&asked, "/admin/confirm", &fields)
    };
    for number in 0..2 {
        ensure!(confirm(&format!("wrong {number}"))?.code == 403);
    }
    let banned = confirm(SECOND)?;
    assert_eq!(banned.code, 403, "banned: the right one is not looked at: {banned:?}");
    let bans = lab.gateway.ask(&["bans"])?.to_string();
    assert!(bans.contains("bert") && bans.contains(&lab.address(1)), "{bans}");
    Ok(())
}

//! What the changes do that an administrator orders by the pages, and who is told to have ordered them.

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::pages::SETTINGS;
use lab::wait::until;
use lab::web::Web;
use serde_json::Value;

use super::{FIRST, SECOND, change, enter, local_users, operator, orders, setting, user};
use crate::common::{ORIGIN, SOON, has_ended, is_let_through, session, status_without_credentials};

const KEY: &str = "timeouts.proxy-auth-timeout";

/// Where carol sits, who administers.
const DESK: usize = 3;

/// Whether an order is carol's, from her desk, by the pages.
fn is_carols(lab: &Lab, actor: &Value) -> bool {
    let user = actor["user"].as_str().unwrap_or_default().to_lowercase();
    user.contains("carol") && actor["client"] == lab.address(DESK) && actor["via"] == "portal"
}

/// The status of a request through the proxy with this name and password.
fn code(lab: &Lab, client: usize, name: &str, password: &str) -> Result<u16> {
    let curl = lab.curl(client).arg("--proxy-basic").arg("--proxy-user").arg(&format!("{name}:{password}"));
    Ok(curl.get(ORIGIN)?.code)
}

#[test]
fn a_user_is_added_and_logged_out_wherever_they_are_when_disabled_or_removed() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = format!("{SETTINGS}[proxy]\nbasic = \"always\"\n[regulation]\nmax-retries = 0\n");
    let lab = Lab::start_with(4, &settings)?;
    let web = operator(&lab, DESK, "carol", "carol-pw")?;
    let add = |name: &str, password: &str, again: &str| {
        let form = web.get("/admin/local-users/add")?;
        let fields = [("name", name), ("role", "user"), ("password", password), ("password-again", again)];
        web.post(&form, "/admin/local-users/add", &fields)
    };
    // What is wrong is told at its field, and the password is not shown again.
    for (name, password, again, field) in [
        ("Otto", FIRST, SECOND, "id=\"password-again\""),
        ("Otto", "short", "short", "id=\"password\""),
        ("a b", FIRST, FIRST, "id=\"name\""),
        ("ADMIN", FIRST, FIRST, "id=\"name\""),
    ] {
        let refused = add(name, password, again)?;
        let text = refused.text();
        ensure!(matches!(refused.code, 409 | 422), "{name}: {refused:?}");
        let input = text.split("<input ").find(|input| input.contains(field)).context("the field")?;
        ensure!(input.contains("aria-invalid=\"true\""), "{name}: {text}");
        ensure!(!text.contains(FIRST) && text.contains(&format!("value=\"{name}\"")), "{text}");
    }
    assert_eq!(local_users(&lab)?.len(), 1);

    ensure!(add("Otto", FIRST, FIRST)?.code == 303);
    assert_eq!(code(&lab, 0, "otto", FIRST)?, 200);
    assert!(session(&lab, 0)?.is_of("otto"));
    let page = "/admin/local-users/edit?name=Otto";
    change(&web, page, "/admin/local-users/disable", &[("name", "Otto")])?;
    assert_eq!(status_without_credentials(&lab, 0), 407, "logged out at once");
    assert_eq!(code(&lab, 0, "otto", FIRST)?, 407, "and not in again");
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;
    change(&web, page, "/admin/local-users/enable", &[("name", "otto")])?;
    assert_eq!(code(&lab, 1, "otto", FIRST)?, 200);
    let given = [("name", "Otto"), ("password", SECOND), ("password-again", SECOND)];
    change(&web, "/admin/local-users/password?name=Otto", "/admin/local-users/password", &given)?;
    assert_eq!((status_without_credentials(&lab, 1), code(&lab, 1, "otto", FIRST)?), (407, 407));
    assert_eq!(code(&lab, 1, "otto", SECOND)?, 200);

    // A role of one's own counts at the next request, and its end ends the login.
    change(&web, page, "/admin/local-users/role", &[("name", "Otto"), ("role", "viewer")])?;
    assert!(is_let_through(&lab, 1), "no session ends by it");
    let otto = operator(&lab, 2, "otto", SECOND)?;
    assert_eq!((otto.get("/admin/events")?.code, otto.get("/admin/local-users/add")?.code), (200, 403));
    change(&web, page, "/admin/local-users/role", &[("name", "Otto"), ("role", "user")])?;
    assert_eq!(otto.get("/admin/events")?.code, 302);

    change(&web, "/admin/local-users/remove?name=Otto", "/admin/local-users/remove", &[("name", "Otto")])?;
    assert_eq!(status_without_credentials(&lab, 1), 407);
    let form = web.get("/admin/logout")?;
    assert_eq!(web.post(&form, "/admin/local-users/enable", &[("name", "Otto")])?.code, 404);
    let told: Vec<Value> =
        orders(&lab)?.into_iter().filter(|event| event["event"] == "user").skip(1).collect();
    let reasons: Vec<&str> = told.iter().filter_map(|event| event["reason"].as_str()).collect();
    assert_eq!(reasons, ["added", "disabled", "enabled", "password", "role", "role", "removed"]);
    assert!(told.iter().all(|event| is_carols(&lab, &event["actor"])), "{told:#?}");
    Ok(())
}

/// Neither oneself nor the last one: whoever is in can always get in again.
#[test]
fn nobody_locks_themselves_or_everybody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    user(&lab, &["password", "admin"], FIRST)?;
    let admin = operator(&lab, 2, "admin", FIRST)?;
    let carol = operator(&lab, DESK, "carol", "carol-pw")?;
    let own = admin.get("/admin/local-users/edit?name=admin")?;
    assert!(own.text().contains("This is you") && !own.text().contains("method=\"post\""), "{}", own.text());
    let before = local_users(&lab)?;
    for (web, words) in [(&admin, "yourself"), (&carol, "only local user")] {
        let form = web.get("/admin/logout")?;
        for (path, more) in [("role", Some(("role", "viewer"))), ("disable", None), ("remove", None)] {
            let fields: Vec<_> = [("name", "ADMIN")].into_iter().chain(more).collect();
            let refused = web.post(&form, &format!("/admin/local-users/{path}"), &fields)?;
            ensure!(refused.code == 409 && refused.text().contains(words), "{path}: {}", refused.text());
        }
    }
    assert_eq!(local_users(&lab)?, before);

    // A setting takes the right from nobody who sets it.
    let key = "portal.administrators";
    let page = format!("/admin/settings/edit?key={key}");
    for (path, more) in [("set", Some(("value", "bob@EXAMPLE.TEST")))] {
        let form = carol.get(&page)?;
        ensure!(form.text().contains("id=\"caution\""), "{}", form.text());
        let fields: Vec<_> = [("key", key)].into_iter().chain(more).collect();
        let refused = carol.post(&form, &format!("/admin/settings/{path}"), &fields)?;
        ensure!(
            refused.code == 409 && refused.text().contains("administer the gateway no more"),
            "{refused:?}"
        );
    }
    assert_eq!(carol.get("/admin/settings")?.code, 200);
    // Another can, and it counts at once.
    change(&admin, &page, "/admin/settings/set", &[("key", key), ("value", "bob@EXAMPLE.TEST")])?;
    assert_eq!(carol.get("/admin/settings")?.code, 302);
    assert_eq!(enter(&Web::new(&lab, DESK), "carol", "carol-pw")?.code, 403);
    Ok(())
}

#[test]
fn a_setting_is_set_and_taken_back_and_says_who_did_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, &format!("{SETTINGS}[timeouts]\nproxy-auth-timeout = \"11m\"\n"))?;
    let web = operator(&lab, DESK, "carol", "carol-pw")?;
    let page = format!("/admin/settings/edit?key={KEY}");
    let shown = change(&web, &page, "/admin/settings/set", &[("key", KEY), ("value", "420s")])?.text();
    for words in ["<code>7m</code>", "<code>11m</code>", "carol", &lab.address(DESK), "Take back"] {
        ensure!(shown.contains(words), "{words}: {shown}");
    }
    let told = setting(&lab, KEY)?;
    assert_eq!((&told["value"], &told["source"]), (&"7m".into(), &"set".into()), "{told}");
    let actor = told.as_object().context("an object")?.values().find(|value| value.get("via").is_some());
    ensure!(actor.is_some_and(|actor| is_carols(&lab, actor)), "{told}");

    // A bad value is told at the field, which has it still.
    for (value, code) in [("soon", 422), ("-1", 422), ("<b>", 422), (&*"9".repeat(9_000), 422)] {
        let form = web.get(&page)?;
        let refused = web.post(&form, "/admin/settings/set", &[("key", KEY), ("value", value)])?;
        let text = refused.text();
        ensure!(refused.code == code, "{value:.20}: {refused:?}");
        let input = text.split("<input id=\"value\"").nth(1).context("the field")?;
        let (input, _) = input.split_once('>').context("its end")?;
        ensure!(input.contains("aria-invalid=\"true\"") && input.contains("problem"), "{input}");
        ensure!(text.contains("id=\"problem\"") && !text.contains("<b>"), "{text}");
        ensure!(value.starts_with('<') || input.contains(&format!("value=\"{value}\"")), "{input}");
    }
    assert_eq!(setting(&lab, KEY)?["value"], "7m");
    let form = web.get(&page)?;
    let post = |path: &str, fields: &[(&str, &str)]| web.post(&form, path, fields);
    assert_eq!(post("/admin/settings/set", &[("key", "no.such.key"), ("value", "1")])?.code, 422);
    assert_eq!(
        post("/admin/settings/set", &[("key", "portal.https"), ("value", "127.0.0.1:4444")])?.code,
        409
    );

    let shown = change(&web, &page, "/admin/settings/unset", &[("key", KEY)])?.text();
    ensure!(shown.contains("<code>11m</code>") && !shown.contains("Take back"), "{shown}");
    let told = setting(&lab, KEY)?;
    assert_eq!((&told["value"], &told["source"]), (&"11m".into(), &"file".into()), "{told}");
    assert_eq!(post("/admin/settings/unset", &[("key", KEY)])?.code, 404, "there is nothing to take back");
    let told: Vec<Value> = orders(&lab)?.into_iter().filter(|event| event["event"] == "setting").collect();
    assert!(told.len() == 2 && told.iter().all(|event| is_carols(&lab, &event["actor"])), "{told:#?}");

    // All keys are there, and those that may lock people out say so.
    let all = web.get("/admin/settings")?.text();
    let keys = lab.gateway.ask(&["get"])?;
    for key in lab::answers::list(&keys, "settings") {
        let name = key["key"].as_str().context("a name")?;
        ensure!(all.contains(&format!("?key={name}\"")), "{name} is not there");
    }
    for key in ["portal.host", "portal.administrators", "kerberos.spns", "licences.max-users"] {
        let page = web.get(&format!("/admin/settings/edit?key={key}"))?.text();
        ensure!(!page.contains("name=\"value\"") || page.contains("id=\"caution\""), "{key}: {page}");
    }
    Ok(())
}

#[test]
fn a_ban_is_shown_and_lifted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, &format!("{SETTINGS}[regulation]\nmax-retries = 2\n"))?;
    let victim = Web::new(&lab, 1);
    let form = victim.get("/login")?;
    let log_in = |password: &str| {
        Ok::<_, anyhow::Error>(
            victim.post(&form, "/login", &[("name", "alice"), ("password", password)])?.code,
        )
    };
    for wrong in ["wrong", "wrong again"] {
        assert_eq!(log_in(wrong)?, 403);
    }
    assert_eq!(log_in("alice-pw")?, 403, "banned");
    let web = operator(&lab, DESK, "carol", "carol-pw")?;
    let page = web.get("/admin/bans")?;
    ensure!(page.text().contains("alice") && page.text().contains(&lab.address(1)), "{}", page.text());
    let refused = web.post(&page, "/admin/bans", &[("of", "nobody-at-all")])?;
    ensure!(refused.code == 404 && refused.text().contains("aria-invalid=\"true\""), "{refused:?}");
    let lifted = change(&web, "/admin/bans", "/admin/bans", &[("of", &lab.address(1))])?;
    ensure!(lifted.text().contains("Nobody is banned"), "{}", lifted.text());
    assert_eq!(log_in("alice-pw")?, 303, "{}", lab.gateway.log());
    let told = orders(&lab)?;
    let line = told.iter().find(|event| event["event"] == "lifted").context("a line")?;
    assert!(is_carols(&lab, &line["actor"]), "{line}");
    Ok(())
}

#[test]
fn the_trail_and_the_history_say_who_and_from_where() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    let web = operator(&lab, DESK, "carol", "carol-pw")?;
    let page = format!("/admin/settings/edit?key={KEY}");
    change(&web, &page, "/admin/settings/set", &[("key", KEY), ("value", "7m")])?;
    ensure!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit == 0);
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;
    let desk = lab.address(DESK);

    let events = web.get("/admin/events")?.text();
    for words in [KEY, "carol", desk.as_str(), "alice", "bob"] {
        ensure!(events.contains(words), "{words}: {events}");
    }
    let filtered = web.get("/admin/events?kind=setting")?.text();
    ensure!(filtered.contains(KEY) && !filtered.contains("alice"), "{filtered}");
    let filtered = web.get(&format!("/admin/events?client={}", lab.address(1)))?.text();
    ensure!(filtered.contains("bob") && !filtered.contains("alice"), "{filtered}");
    let bad = web.get("/admin/events?client=nowhere")?;
    ensure!(bad.code == 422 && bad.text().contains("is no address"), "{bad:?}");
    let file = web.get("/admin/events.csv?kind=setting")?;
    let text = file.text();
    let (head, rows) = text.split_once("\r\n").context("a head")?;
    assert_eq!(head, "time,event,client,user,realm,session,method,what,actor,from");
    let rows: Vec<&str> = rows.lines().collect();
    ensure!(rows.len() == 1 && rows[0].contains("carol"), "{text}");
    ensure!(rows[0].ends_with(&format!(",{desk}")), "from where: {text}");
    assert_eq!(file.header("content-disposition"), ["attachment; filename=\"events.csv\""]);

    let history = web.get("/admin/history")?.text();
    for words in ["alice", &lab.address(0), "admin", "bob", "still there"] {
        ensure!(history.contains(words), "{words}: {history}");
    }
    let of_bob = web.get("/admin/history?user=bob")?.text();
    ensure!(of_bob.contains(&lab.address(1)) && !of_bob.contains("alice"), "{of_bob}");
    let none = web.get("/admin/history?at=2001-01-01T00:00")?.text();
    ensure!(none.contains("There is nothing of the kind"), "{none}");
    let text = web.get("/admin/history.csv?user=alice")?.text();
    let rows: Vec<&str> = text.lines().skip(1).collect();
    ensure!(rows.len() == 1 && rows[0].starts_with(&lab.address(0)) && rows[0].contains("alice"), "{text}");
    ensure!(rows[0].contains(",admin,"), "{text}");
    // Whose order that was, the trail tells.
    let text = web.get("/admin/events.csv?kind=ended")?.text();
    let end = text.lines().find(|line| line.contains(&lab.address(0))).context("an end")?;
    ensure!(end.contains("root"), "{text}");
    Ok(())
}

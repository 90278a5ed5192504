//! What somebody has set up is shown, and taken away: by command and page, with the daemon up and down.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::web::Web;

use super::{gets_in, is_asked, settings, told};
use crate::common::is_let_through;
use crate::factor_codes::set_up;

#[test]
fn an_operator_sees_what_is_set_up_and_takes_it_away_by_command_and_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, &settings())?;
    let gateway = &lab.gateway;
    assert_eq!(gateway.shown(&["second-factor", "show"])?.trim(), "nobody has set up a second factor");
    let (_, own, codes) = set_up(&lab, 0, "alice")?;
    set_up(&lab, 1, "bob")?;
    let shown = gateway.ask(&["second-factor", "show", "EXAMPLE.TEST\\ALICE"])?;
    let of = &list(&shown, "second factors")[0];
    assert_eq!((of["user"].as_str(), of["demand"].as_str()), (Some("alice"), Some("optional")));
    assert_eq!((of["recovery_codes"].as_u64(), of["locked"].as_bool()), (Some(10), Some(false)));
    assert!(of["authenticator"]["since"].is_string() && of["passkeys"] == serde_json::json!([]), "{of}");
    let text = gateway.shown(&["second-factor", "show", "alice"])?;
    assert!(text.contains("authenticator: since ") && text.contains("recovery codes left: 10"), "{text}");
    for secret in codes.iter().map(String::as_str).chain([own.secret()]) {
        assert!(!text.contains(secret) && !shown.to_string().contains(secret), "{text}");
    }
    assert_eq!(list(&gateway.ask(&["second-factor", "show"])?, "all").len(), 2);
    let nobody = gateway.ctl(&["second-factor", "show", "mallory"])?;
    assert!(nobody.exit == 1 && nobody.stderr.contains("nobody called mallory"), "{nobody:?}");

    assert!(is_asked(&lab, 0, "alice")?);
    let reset = gateway.ask(&["second-factor", "reset", "alice@EXAMPLE.TEST"])?;
    assert_eq!((reset["user"].as_str(), reset["offline"].as_bool()), (Some("alice"), Some(false)));
    assert!(!is_asked(&lab, 0, "alice")?);
    assert_eq!(gateway.ctl(&["second-factor", "reset", "alice"])?.exit, 1, "there is nothing any more");
    let events = told(&lab, "reset")?;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0]["user"] == "alice" && events[0]["actor"]["uid"] == 0, "{events:?}");

    // And by the page, where a viewer may look.
    let web = Web::new(&lab, 2);
    let form = web.get("/admin/login")?;
    ensure!(web.post(&form, "/admin/login", &[("name", "carol"), ("password", "carol-pw")])?.code == 303);
    let page = web.get("/admin/second-factor")?;
    let text = page.text();
    assert!(text.contains("bob@EXAMPLE.TEST") && text.contains("The built-in administrator"), "{text}");
    assert!(!text.contains("alice@EXAMPLE.TEST"), "{text}");
    let done = web.post(&page, "/admin/second-factor/reset", &[("user", "bob@example.test")])?;
    assert_eq!(done.header("location"), ["/admin/second-factor?done=reset"], "{done:?}");
    assert!(web.get("/admin/second-factor?done=reset")?.text().contains("The second factor was reset."));
    assert!(!is_asked(&lab, 1, "bob")?);
    let events = told(&lab, "reset")?;
    assert!(events[1]["user"] == "bob" && events[1]["actor"]["via"] == "portal", "{events:?}");
    let own = web.post(&page, "/admin/second-factor/reset", &[("user", "Carol@example.test")])?;
    assert_eq!(own.code, 409, "nobody's password alone takes their second factor away");
    Ok(())
}

#[test]
fn with_the_daemon_down_it_is_done_in_its_database() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(3, &settings())?;
    let config = lab.gateway.config().display().to_string();
    let (_, _, _) = set_up(&lab, 0, "alice")?;
    let (_, bob, _) = set_up(&lab, 1, "bob")?;
    lab.login(2, "carol")?;
    let reset = |lab: &Lab, user: &str, more: &[&str]| {
        lab.gateway.ctl(&[&["second-factor", "reset", user, "--config", &config], more].concat())
    };
    let refused = reset(&lab, "alice", &["--offline"])?;
    assert!(refused.exit == 1 && refused.stderr.contains("is in use"), "{refused:?}");
    assert!(is_asked(&lab, 0, "alice")?);

    // Also behind a crash: who is logged in stays so.
    lab.gateway.kill();
    let missing = reset(&lab, "mallory", &[])?;
    assert!(missing.exit == 1 && missing.stderr.contains("nobody called mallory"), "{missing:?}");
    let done = reset(&lab, "alice@EXAMPLE.TEST", &[])?;
    assert_eq!((done.exit, done.json["offline"].as_bool()), (0, Some(true)), "{done:?}");
    let none = lab.scratch.write("none.toml", "state-dir = \"/nonexistent\"\n")?;
    let none = none.display().to_string();
    let refused = lab.gateway.ctl(&["second-factor", "reset", "alice", "--offline", "--config", &none])?;
    assert!(refused.exit == 1 && refused.stderr.contains("there is no database"), "{refused:?}");
    lab.gateway.start()?;
    assert!(!is_asked(&lab, 0, "alice")?);
    assert!(is_let_through(&lab, 2), "carol's session went on\n{}", lab.gateway.log());
    let events = told(&lab, "reset")?;
    assert!(events.len() == 1 && events[0]["actor"]["via"] == "offline", "{events:?}");
    assert_eq!(events[0]["actor"]["uid"], 0);
    assert!(gets_in(&lab, 1, "bob", &bob)?);

    lab.gateway.stop()?;
    assert_eq!(reset(&lab, "bob", &["--offline"])?.exit, 0);
    lab.gateway.start()?;
    assert!(!is_asked(&lab, 1, "bob")?);
    Ok(())
}

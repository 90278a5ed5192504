//! A person's own password at the portal: the first one of the built-in administrator, and anybody's at any time.

use std::fs;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::web::Web;

use crate::common::{has_ended, is_for_people, is_let_through, is_refused_for, session};
use crate::portal_login::{add_user, log_in};

const FIRST: &str = "korrekt Pferd Batterie";
const SECOND: &str = "noch ein gutes Wort";

#[test]
fn the_first_password_of_the_administrator_is_changed_by_logging_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "")?;
    let file = lab.scratch.join("state/administrator-password");
    let first = fs::read_to_string(&file).context("the first password")?.trim().to_owned();
    let web = Web::new(&lab, 0);
    let form = log_in(&web, "local\\admin", &first)?;
    assert_eq!(form.code, 200, "{form:?}");
    let text = form.text();
    assert!(text.contains("has to be changed") && text.contains("action=\"/password\""), "{text}");
    assert!(!text.contains(&first), "{text}");
    assert_eq!(lab.gateway.sessions()?, []);

    let change = |current: &str, new: &str, repeat: &str| {
        let fields = [
            ("name", "local\\admin"),
            ("current", current),
            ("new", new),
            ("repeat", repeat),
            ("then", "login"),
        ];
        web.post(&form, "/password", &fields)
    };
    for (new, repeat, words) in [
        ("short", "short", "fewer than 8 characters"),
        (SECOND, "another one", "differ"),
        ("password", "password", "guessed first"),
        ("administrator", "administrator", "guessed first"),
        (&"x y".repeat(50), &"x y".repeat(50), "longer than 128"),
        (&first, &first, "the one that you have"),
    ] {
        let refused = change(&first, new, repeat)?;
        assert!(refused.code == 422 && refused.text().contains(words), "{new}: {refused:?}");
        is_for_people(&lab, &refused.text())?;
    }
    assert_eq!(change("not the first", SECOND, SECOND)?.code, 403);
    assert!(file.exists());
    let done = change(&first, SECOND, SECOND)?;
    assert_eq!(
        (done.code, done.header("location")),
        (303, vec!["/".into()]),
        "{done:?}\n{}",
        lab.gateway.log()
    );
    assert!(session(&lab, 0)?.is_of("admin"));
    assert!(!file.exists(), "the first password is forgotten");
    let trail = lab.gateway.ask(&["events"])?.to_string();
    assert!(trail.contains("\"via\":\"portal\"") && !trail.contains(SECOND), "{trail}");
    assert_eq!(log_in(&Web::new(&lab, 0), "admin", &first)?.code, 403);
    Ok(())
}

#[test]
fn a_local_user_changes_their_password_at_any_time() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[regulation]\nmax-retries = 3\n")?;
    add_user(&lab, "robert", FIRST)?;
    let web = Web::new(&lab, 0);
    log_in(&web, "robert", FIRST)?;
    log_in(&Web::new(&lab, 1), "robert", FIRST)?;
    let form = web.get("/password")?;
    assert!(form.text().contains("value=\"robert\""), "{}", form.text());
    let done = web.post(
        &form,
        "/password",
        &[("name", "robert"), ("current", FIRST), ("new", SECOND), ("repeat", SECOND)],
    )?;
    assert_eq!(done.code, 303, "{done:?}");
    assert!(has_ended(&lab, 1, "admin") && !is_let_through(&lab, 1), "wherever he was logged in");
    assert!(session(&lab, 0)?.is_of("robert") && is_let_through(&lab, 0), "but here he is again");

    // Nobody is logged out by another's change.
    lab.login(1, "alice")?;
    let web = Web::new(&lab, 1);
    let form = web.get("/password")?;
    let done = web.post(
        &form,
        "/password",
        &[("name", "robert"), ("current", SECOND), ("new", FIRST), ("repeat", FIRST)],
    )?;
    assert!(done.code == 200 && done.text().contains("Your password was changed"), "{done:?}");
    assert!(session(&lab, 1)?.is_of("alice"));

    // Of a realm, who knows the password is told where.
    let form = web.get("/password")?;
    let told = web.post(
        &form,
        "/password",
        &[("name", "alice"), ("current", "alice-pw"), ("new", FIRST), ("repeat", FIRST)],
    )?;
    assert!(told.text().contains("that of your domain"), "{told:?}");
    let wrong = |number: usize| {
        let current = format!("wrong {number}");
        web.post(
            &form,
            "/password",
            &[("name", "alice"), ("current", &current), ("new", FIRST), ("repeat", FIRST)],
        )
    };
    let (first, second, third) = (wrong(1)?, wrong(2)?, wrong(3)?);
    assert!([&first, &second, &third].iter().all(|page| page.code == 403), "{first:?}");
    is_refused_for(&lab, 1, &["kdc"]).or_else(|_| is_refused_for(&lab, 1, &["password"]))?;
    // Wrong ones count.
    assert_eq!(log_in(&Web::new(&lab, 1), "alice", "alice-pw")?.code, 403);
    Ok(())
}

//! Forms that the administrator never filled in: of other sites, and without what only their browser has.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::pages::SETTINGS;
use lab::web::{Web, token};

use super::roles::actions;
use super::{FIRST, local_users, operator, orders, setting, user};
use crate::common::is_let_through;

#[test]
fn no_form_of_elsewhere_does_anything() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    user(&lab, &["add", "vera", "--viewer"], FIRST)?;
    let web = operator(&lab, 3, "carol", "carol-pw")?;
    let other = operator(&lab, 3, "carol", "carol-pw")?;
    let good = token(&web.get("/admin/logout")?)?;
    let others = token(&other.get("/admin/logout")?)?;
    let own = format!("Origin: {}", Web::url(""));
    let before = (local_users(&lab)?, setting(&lab, "timeouts.proxy-auth-timeout")?, orders(&lab)?.len());
    let actions = actions(&lab);
    ensure!(actions.len() > 10, "{actions:?}");
    for (path, form) in &actions {
        let forgeries: [(Option<&str>, &[&str]); 9] = [
            (None, &["Sec-Fetch-Site: same-origin"]),
            (Some(""), &["Sec-Fetch-Site: same-origin"]),
            (Some(&others), &["Sec-Fetch-Site: same-origin", &own]),
            (Some(&good), &["Sec-Fetch-Site: cross-site"]),
            (Some(&good), &["Sec-Fetch-Site: same-site"]),
            (Some(&good), &["Sec-Fetch-Site: none"]),
            (Some(&good), &["Origin: https://evil.example.test"]),
            (Some(&good), &["Origin: null"]),
            (Some(&good), &["Sec-Fetch-Site: same-origin", "Origin: http://proxy.example.test:4080"]),
        ];
        for (token, headers) in forgeries {
            let mut fields: Vec<(&str, &str)> = token.map(|token| ("token", token)).into_iter().collect();
            fields.extend(form.iter().map(|(name, value)| (*name, value.as_str())));
            // Whatever a form lacks, it is one.
            fields.push(("other", "x"));
            let reply = web.ask(&Web::url(path), &fields, headers)?;
            ensure!(
                reply.code == 403 && reply.text().contains("not valid any more"),
                "{path} {headers:?}: {reply:?}"
            );
        }
    }
    let now = (local_users(&lab)?, setting(&lab, "timeouts.proxy-auth-timeout")?, orders(&lab)?.len());
    assert_eq!(now, before);
    assert!(is_let_through(&lab, 0) && web.get("/status")?.code == 200, "nobody was logged out");
    // The same from here is done.
    let fields = [("token", good.as_str()), ("key", "timeouts.proxy-auth-timeout"), ("value", "7m")];
    let done = web.ask(&Web::url("/admin/settings/set"), &fields, &["Sec-Fetch-Site: same-origin", &own])?;
    assert_eq!(done.code, 303, "{done:?}");
    Ok(())
}

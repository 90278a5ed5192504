//! Administration by the pages: who may do what, what each change does and who is told to have made it.

mod changes;
mod entry;
mod forged;
mod roles;

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::client::Reply;
use lab::web::Web;
use serde_json::Value;

/// Good passwords.
const FIRST: &str = "korrekt Pferd Batterie";
const SECOND: &str = "noch ein gutes Wort";

/// Somebody who has logged in to the administration on this client.
fn operator<'a>(lab: &'a Lab, client: usize, user: &str, password: &str) -> Result<Web<'a>> {
    let web = Web::new(lab, client);
    let done = enter(&web, user, password)?;
    ensure!(done.code == 303 && done.header("location") == ["/status"], "{done:?}\n{}", lab.gateway.log());
    Ok(web)
}

/// Fills in the form of the administration's login.
fn enter(web: &Web<'_>, user: &str, password: &str) -> Result<Reply> {
    let form = web.get("/admin/login")?;
    web.post(&form, "/admin/login", &[("name", user), ("password", password)])
}

/// `trackerctl user …`, with a password on standard input; must be done.
fn user(lab: &Lab, arguments: &[&str], input: &str) -> Result<()> {
    let mut command = lab.gateway.trackerctl();
    command.arg("user").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Where none is needed nobody reads it.
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(())
}

/// A change by the form of `page`, sent to `path`; must lead on to a page, which is returned.
fn change(web: &Web<'_>, page: &str, path: &str, fields: &[(&str, &str)]) -> Result<Reply> {
    let form = web.get(page)?;
    let done = web.post(&form, path, fields)?;
    ensure!(done.code == 303, "{path} {fields:?}: {done:?}\n{}", done.text());
    let to = done.header("location").concat();
    let shown = web.get(&to)?;
    ensure!(shown.code == 200 && shown.text().contains("role=\"status\""), "{to}: {}", shown.text());
    Ok(shown)
}

/// What `trackerctl get` says of a key.
fn setting(lab: &Lab, key: &str) -> Result<Value> {
    let told = lab.gateway.ask(&["get", key])?;
    let found = list(&told, "settings").first().map(|setting| (*setting).clone());
    Ok(found.unwrap_or(told))
}

/// The local users by name, as they stand.
fn local_users(lab: &Lab) -> Result<Vec<Value>> {
    let mut users = lab.gateway.ask(&["user", "list"])?.as_array().cloned().unwrap_or_default();
    // A login to the pages is one, and no change.
    for user in &mut users {
        user["last_login"].take();
    }
    Ok(users)
}

/// The orders that the audit trail tells of, the newest last; a login to the pages is none.
fn orders(lab: &Lab) -> Result<Vec<Value>> {
    let told = lab.gateway.ask(&["events"])?;
    let is_order = |event: &&Value| {
        let is_login = event["event"].as_str().is_some_and(|kind| kind.starts_with("admin-"));
        event.get("actor").is_some() && !is_login
    };
    Ok(list(&told, "events").into_iter().filter(is_order).cloned().collect())
}

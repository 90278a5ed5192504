//! Codes as the second factor, by curl: set up, given, spent, guessed, remembered and recovered. The authenticator is oathtool.

mod budgets;
mod crash;
mod devices;
mod live;
mod operators;
mod set_up;

use anyhow::{Result, ensure};
use lab::answers::list;
use lab::client::Reply;
use lab::oath::Authenticator;
use lab::web::Web;
use lab::{Lab, npm};

use crate::portal_login::log_in;

/// The realm's users may set up a second factor;
pub(crate) const OPTIONAL: &str = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\n";
/// or they have to.
pub(crate) const REQUIRED: &str = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"required\"\n";

/// Where all of it begins.
pub(crate) const HOME: &str = "/second-factor";
const SET_UP: &str = "/second-factor/set-up";
const ACTIVATE: &str = "/second-factor/activate";
pub(crate) const CODE: &str = "/second-factor/code";

/// Whether these pages are good HTML, where that can be looked at.
fn are_good_html(lab: &Lab, pages: &[&Reply]) -> Result<()> {
    let Some(tools) = npm::tools() else { return Ok(()) };
    let file =
        |(number, page): (usize, &&Reply)| lab.scratch.write(&format!("page{number}.html"), &page.body);
    let files = pages.iter().enumerate().map(file).collect::<Result<Vec<_>>>()?;
    let faults = tools.validate(&files)?;
    ensure!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

/// Whether an answer leads to a page.
pub(crate) fn leads_to(reply: &Reply, to: &str) -> bool {
    matches!(reply.code, 302 | 303) && reply.header("location") == [to]
}

/// Whether somebody is in, and led there: at once, or first to what they should know of their phone's clock.
pub(crate) fn is_in(reply: &Reply, to: &str) -> bool {
    let told = reply.code == 200 && reply.text().contains(&format!("class=\"target\" href=\"{to}\""));
    told || leads_to(reply, to)
}

/// Gives the password where nobody is logged in.
fn begins(web: &Web<'_>, user: &str) -> Result<Reply> {
    web.is_nobody()?;
    log_in(web, user, &format!("{user}-pw"))
}

/// Gives the password; a second factor is asked for then.
pub(crate) fn password(web: &Web<'_>, user: &str) -> Result<Reply> {
    let done = begins(web, user)?;
    ensure!(leads_to(&done, HOME), "{user}: {done:?}\n{}", done.text());
    web.get(HOME)
}

/// Gives a code for a login that waits for it.
pub(crate) fn give(web: &Web<'_>, page: &Reply, code: &str) -> Result<Reply> {
    web.post(page, CODE, &[("code", code)])
}

/// Logs in with both factors.
pub(crate) fn log_in_with(web: &Web<'_>, user: &str, code: &str) -> Result<()> {
    let page = password(web, user)?;
    let done = give(web, &page, code)?;
    ensure!(is_in(&done, "/"), "{user}: {done:?}\n{}", done.text());
    Ok(())
}

/// The recovery codes on a page.
fn codes_on(page: &Reply) -> Vec<String> {
    let text = page.text();
    let list = text.split_once("<ol class=\"codes\">").map_or("", |(_, rest)| rest);
    let list = list.split("</ol>").next().unwrap_or_default();
    let code = |item: &str| Some(item.split_once("<code>")?.1.split('<').next()?.to_owned());
    list.split("<li>").filter_map(code).collect()
}

/// Sets up an authenticator by this page, which shows the secret.
fn activate(web: &Web<'_>, page: &Reply) -> Result<(Authenticator, Vec<String>)> {
    let own = Authenticator::on(page)?;
    let done = web.post(page, ACTIVATE, &[("code", &own.code()?), ("address", "")])?;
    let codes = codes_on(&done);
    ensure!(done.code == 200 && codes.len() == 10, "{done:?}\n{}", done.text());
    Ok((own, codes))
}

/// Somebody whose domain leaves it to them logs in with their password and sets one up.
pub(crate) fn set_up<'a>(
    lab: &'a Lab,
    client: usize,
    user: &str,
) -> Result<(Web<'a>, Authenticator, Vec<String>)> {
    let web = Web::new(lab, client);
    let done = log_in(&web, user, &format!("{user}-pw"))?;
    ensure!(leads_to(&done, "/"), "{user}: {done:?}\n{}", lab.gateway.log());
    let start = web.get(SET_UP)?;
    let begun = web.post(&start, SET_UP, &[])?;
    ensure!(leads_to(&begun, SET_UP), "{begun:?}\n{}", begun.text());
    let (own, codes) = activate(&web, &web.get(SET_UP)?)?;
    Ok((web, own, codes))
}

/// The reasons of the audit trail's events of this kind, the oldest first.
pub(crate) fn reasons(lab: &Lab, kind: &str) -> Result<Vec<String>> {
    let told = lab.gateway.ask(&["events"])?;
    let of = list(&told, "events").into_iter().filter(|event| event["event"] == kind);
    Ok(of.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect())
}

/// How many sessions of the proxy began.
fn logins(lab: &Lab) -> Result<usize> {
    Ok(lab.gateway.events()?.iter().filter(|event| event.kind == "login").count())
}

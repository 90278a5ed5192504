//! Pages of others, open in the browser of an administrator: whatever they send, nothing changes.

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::origin;
use lab::pages::{self, SETTINGS, Who};
use lab::wait::{PAGE, until};
use lab::web::Web;

use crate::common::session;

/// The addresses that end a session.
const LOGOUTS: [&str; 2] = ["/internal/logout", "/logout"];
/// What any of the changes would need, but for the token of a form.
const FIELDS: [(&str, &str); 6] = [
    ("key", "timeouts.proxy-auth-timeout"),
    ("value", "77m"),
    ("name", "admin"),
    ("role", "viewer"),
    ("of", "10.77.0.11"),
    ("to", "/"),
];
/// Where changes are made.
const CHANGES: [&str; 8] = [
    "/admin/settings/set",
    "/admin/settings/unset",
    "/admin/local-users/disable",
    "/admin/local-users/remove",
    "/admin/bans",
    "/admin/account/end-others",
    "/admin/logout",
    "/status/session/10.77.0.11/end",
];

/// All ways to the logout, without TLS and with it.
fn logouts() -> Vec<String> {
    LOGOUTS.iter().flat_map(|path| [Web::plain_url(path), Web::url(path)]).collect()
}

/// Pages that ask for an address by themselves: name and content. Each says that it is done by its title.
fn pages() -> Vec<(&'static str, String)> {
    let all = logouts();
    let each = |make: &dyn Fn(&str) -> String| all.iter().map(|url| make(url)).collect::<String>();
    let fields: String =
        FIELDS.iter().map(|(name, value)| format!("<input name={name} value={value}>")).collect();
    let targets: Vec<String> = CHANGES.iter().map(|path| Web::url(path)).chain(logouts()).collect();
    let forms: String = targets
        .iter()
        .enumerate()
        .map(|(number, url)| {
            format!(
                "<iframe name=f{number}></iframe><form method=post action=\"{url}\" target=f{number}>{fields}</form>\
                 <iframe name=g{number}></iframe><form method=get action=\"{url}\" target=g{number}>{fields}</form>\
                 <iframe name=h{number}></iframe><form method=post enctype=text/plain action=\"{url}\" target=h{number}>{fields}</form>"
            )
        })
        .collect();
    let list = serde_json::json!(targets).to_string();
    let body: String = FIELDS.iter().map(|(name, value)| format!("{name}={value}&")).collect();
    vec![
        ("images", format!("{}<script>onload = () => document.title = 'done'</script>", each(&|url| format!("<img src=\"{url}\">")))),
        ("frames", format!("{}<script>onload = () => document.title = 'done'</script>", each(&|url| format!("<iframe src=\"{url}\"></iframe>")))),
        (
            "scripts, styles and hints",
            format!(
                "{}<script>onload = () => document.title = 'done'</script>",
                each(&|url| format!(
                    "<script src=\"{url}\"></script><link rel=stylesheet href=\"{url}\"><link rel=prefetch href=\"{url}\">\
                     <link rel=preload as=fetch href=\"{url}\"><object data=\"{url}\"></object><video src=\"{url}\"></video>"
                ))
            ),
        ),
        ("forms", format!("{forms}<script>for (const form of document.forms) form.submit(); setTimeout(() => document.title = 'done', 3000)</script>")),
        (
            "fetch",
            format!(
                "<script>(async () => {{ for (const url of {list}) for (const method of ['GET', 'POST']) for (const mode of ['no-cors', 'cors']) {{
                   const body = method == 'POST' ? new URLSearchParams('{body}') : undefined;
                   try {{ await fetch(url, {{ method, mode, body, credentials: 'include', referrerPolicy: 'no-referrer', redirect: 'follow' }}) }} catch {{}}
                   navigator.sendBeacon(url, new URLSearchParams('{body}'));
                 }} document.title = 'done' }})()</script>"
            ),
        ),
    ]
}

/// What nothing of this may have changed.
fn unharmed(lab: &Lab, what: &str) -> Result<()> {
    let session = session(lab, 0).with_context(|| what.to_owned())?;
    ensure!(session.is_of("alice") && session.is_active(), "{what}: {session:?}");
    let settings = lab.gateway.ask(&["get", "proxy-auth-timeout"])?;
    ensure!(!settings.to_string().contains("77"), "{what}: {settings}");
    // The login of the one who administers.
    let events = lab.gateway.ask(&["events"])?.to_string();
    ensure!(events.matches(r#""via":"portal""#).count() == 1, "{what}: {events}");
    Ok(())
}

#[test]
fn pages_of_others_change_nothing_in_an_administrators_browser() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(SETTINGS)?;
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    lab.gateway.configure("[regulation]\nmax-retries = 0\n")?;
    // Alice's session, and beside it in the same browser somebody who may do everything.
    lab.login(0, "alice")?;
    let mut browser = pages::browser(&lab, 0, Who::Administrator, "en")?;
    unharmed(&lab, "at first")?;
    for scheme in ["http", "https"] {
        for hidden in [false, true] {
            let head = if hidden { "<meta name=referrer content=no-referrer>" } else { "" };
            for (name, content) in pages() {
                let what = format!("{name} on an {scheme} page, referrer hidden: {hidden}");
                let page = origin::page(&format!("<!DOCTYPE html>{head}<title>at it</title><body>{content}"));
                browser.open(&format!("{scheme}://origin.example.test{page}"))?;
                until("the page to have done all it can", PAGE, || {
                    browser.title().ok().filter(|title| title == "done")
                })
                .with_context(|| what.clone())?;
                unharmed(&lab, &what)?;
            }
        }
    }
    // Led there as a whole, they see a page that asks, and it is still theirs to say no.
    for scheme in ["http", "https"] {
        for to in logouts() {
            let page = origin::page(&format!(
                "<!DOCTYPE html><meta name=referrer content=no-referrer><title>at it</title><a href=\"{to}\">win a prize</a>"
            ));
            browser.open(&format!("{scheme}://origin.example.test{page}"))?;
            browser.clicks("a")?;
            browser.arrives(|url| url.contains(":4081/"))?;
            until("a question", PAGE, || browser.has("main form button").ok().filter(|has| *has))?;
            unharmed(&lab, &format!("a link to {to} on an {scheme} page"))?;
        }
    }
    // The browser was one that can do both.
    browser.open(&Web::url("/admin/settings/edit?key=timeouts.proxy-auth-timeout"))?;
    browser.script("document.querySelector('#value').value = ''", &[])?;
    browser.types("#value", "77m")?;
    browser.clicks("main form button")?;
    until("the setting to be changed", PAGE, || {
        let settings = lab.gateway.ask(&["get", "proxy-auth-timeout"]).ok()?;
        settings.to_string().contains("77").then_some(())
    })
    .with_context(|| format!("{:?}", browser.text()))?;
    browser.open(&Web::url("/logout"))?;
    until("the session to be ended", PAGE, || {
        lab.gateway.session(&lab.address(0)).is_ok_and(|session| session.is_none()).then_some(())
    })
}

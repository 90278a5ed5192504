//! Logging in on the portal by Kerberos: by the conditions of the configuration, for curl and for Chromium.

use anyhow::Result;
use lab::Lab;
use lab::client::Curl;
use lab::web::Web;

use crate::common::{is_refused_for, session};

/// curl that logs in by Kerberos, if it is asked to.
fn negotiating<'a>(lab: &'a Lab, client: usize, user: &str) -> Result<Curl<'a>> {
    let curl = lab.curl_as(client, user)?.direct().arg("--insecure");
    Ok(curl.arg("--negotiate").arg("--user").arg(":"))
}

#[test]
fn a_ticket_logs_in_where_the_conditions_offer_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[kerberos.conditions]\nspns = [\"proxy.example.test\"]\n")?;
    // Without one, the form is the page.
    let web = Web::new(&lab, 1);
    for path in ["/login", "/"] {
        let asked = Web::new(&lab, 1).get(path)?;
        assert_eq!(asked.code, 401, "{path}: {asked:?}");
        assert_eq!(asked.header("www-authenticate"), ["Negotiate"], "{asked:?}");
        assert!(asked.text().contains("type=\"password\""), "{}", asked.text());
    }
    // Not again after that: a browser would ask its user at each page.
    assert_eq!(web.get("/login")?.code, 401);
    let second = web.get("/login")?;
    assert!(second.code == 200 && second.header("www-authenticate").is_empty(), "{second:?}");
    assert!(second.text().contains("/login?again=1"), "{}", second.text());
    assert_eq!(web.get("/login?again=1")?.code, 401);

    let done = negotiating(&lab, 0, "alice")?.get(&Web::url("/login"))?;
    assert_eq!(
        (done.code, done.header("location")),
        (303, vec!["/".into()]),
        "{done:?}\n{}",
        lab.gateway.log()
    );
    let mutual = done.header("www-authenticate");
    assert!(mutual.len() == 1 && mutual[0].len() > 40, "the gateway proves itself: {mutual:?}");
    let begun = session(&lab, 0)?;
    assert!(begun.is_of("alice") && begun.method == "kerberos", "{begun:?}");
    let explained = lab.gateway.ask(&["explain", &lab.address(0)])?.to_string();
    assert!(explained.contains("https://proxy.example.test/login"), "{explained}");

    // Led on, she is told who she is.
    let jar = lab.scratch.unused("cookies").display().to_string();
    let jar = negotiating(&lab, 0, "alice")?
        .arg("--location")
        .arg("--cookie")
        .arg(&jar)
        .arg("--cookie-jar")
        .arg(&jar);
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    let own = jar.get(&Web::url("/"))?;
    assert!(own.code == 200 && own.text().contains("<strong>alice@"), "{own:?}");
    // Who is in is asked for nothing.
    let own = Web::new(&lab, 0).get("/")?;
    assert!(own.code == 200 && own.header("www-authenticate").is_empty(), "{own:?}");
    Ok(())
}

#[test]
fn a_ticket_is_not_asked_for_where_it_is_not_to_be() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, "[kerberos.conditions]\nspns = [\"other.example.test\"]\n")?;
    let by_name = negotiating(&lab, 0, "alice")?.get(&Web::url("/login"))?;
    assert!(by_name.code == 200 && by_name.header("www-authenticate").is_empty(), "{by_name:?}");
    assert!(by_name.text().contains("type=\"password\""), "{}", by_name.text());
    assert_eq!(lab.gateway.sessions()?, []);
    let explained = lab.gateway.ask(&["explain", &lab.address(0)])?.to_string();
    assert!(explained.contains("spns"), "{explained}");

    let conditions =
        "[kerberos.conditions]\nspns = []\nbrowsers = [\"Firefox/\"]\nurl-deny = [\"^/login[?]to=\"]\n";
    lab.gateway.configure(conditions)?;
    let agent = "Mozilla/5.0 Firefox/140.0";
    lab::wait::until("the settings to count", crate::common::SOON, || {
        let reply =
            lab.curl(0).direct().arg("--insecure").arg("--user-agent").arg(agent).get(&Web::url("/login"));
        (reply.ok()?.code == 401).then_some(())
    })?;
    for (path, agent, cookie, code) in [
        ("/login", agent, "a=b", 401),
        ("/login", "Mozilla/5.0 Chrome/150.0", "a=b", 200),
        ("/login?to=x", agent, "a=b", 200),
        ("/login", agent, "a=b; PstarNoKerberos=1", 200),
    ] {
        let curl =
            lab.curl(0).direct().arg("--insecure").arg("--user-agent").arg(agent).arg("--cookie").arg(cookie);
        let reply = curl.get(&Web::url(path))?;
        assert_eq!(reply.code, code, "{path} {agent} {cookie}: {reply:?}");
    }
    // What asks for no page is asked for nothing.
    let head = lab.curl(0).direct().arg("--insecure").arg("--head").arg("--user-agent").arg(agent);
    let head = head.get(&Web::url("/login"))?;
    assert!(head.code == 200 && head.header("www-authenticate").is_empty(), "{head:?}");
    Ok(())
}

#[test]
fn a_bad_ticket_shows_the_form_and_says_what_is_wrong() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "")?;
    let send = |field: &str| {
        lab.curl(0)
            .direct()
            .arg("--insecure")
            .header(&format!("Authorization: {field}"))
            .get(&Web::url("/login"))
    };
    for (field, words) in [
        ("Negotiate TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==", "NTLM login"),
        ("NTLM TlRMTVNTUAABAAAAl4II4gAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==", "NTLM login"),
        ("Negotiate %%%", "could not be understood"),
    ] {
        let shown = send(field)?;
        assert!(shown.code == 403 && shown.header("www-authenticate").is_empty(), "{field}: {shown:?}");
        assert!(
            shown.text().contains(words) && shown.text().contains("type=\"password\""),
            "{}",
            shown.text()
        );
    }
    is_refused_for(&lab, 0, &["ntlm"])?;
    // A ticket is good once, whichever page it was sent to.
    let token = lab.credentials(0, "alice")?;
    let token = token.trim_start_matches("Proxy-Authorization: ").trim();
    let first = send(token)?;
    assert_eq!(first.code, 303, "{first:?}");
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    let second = send(token)?;
    assert!(second.code == 403 && second.text().contains("used before"), "{second:?}");
    is_refused_for(&lab, 0, &["replay"])?;
    // A password in a header is nothing that was asked for.
    assert_eq!(send("Basic YWxpY2U6YWxpY2UtcHc=")?.code, 401);
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn a_browser_opts_out_and_in_again() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, "")?;
    let web = Web::new(&lab, 0);
    let form = web.get("/login")?;
    assert_eq!(form.code, 401);
    assert!(form.text().contains("Do not log in automatically"), "{}", form.text());
    let done = web.post(&form, "/login/automatic", &[("out", "yes")])?;
    assert_eq!((done.code, done.header("location")), (303, vec!["/login".into()]), "{done:?}");
    let cookies = done.header("set-cookie");
    let set = cookies.iter().find(|cookie| cookie.starts_with("PstarNoKerberos=1;"));
    let set = set.unwrap_or_else(|| panic!("{cookies:?}"));
    for part in ["Path=/", "Secure", "Max-Age=31536000"] {
        assert!(set.contains(part), "{set}");
    }
    let out = web.get("/login?again=1")?;
    assert!(out.code == 200 && out.text().contains("is not logged in by itself"), "{out:?}");
    // Not by another site.
    let foreign =
        web.ask(&Web::url("/login/automatic"), &[("out", "no")], &["Sec-Fetch-Site: cross-site"])?;
    assert_eq!(foreign.code, 403, "{foreign:?}");
    web.post(&out, "/login/automatic", &[("out", "no")])?;
    assert_eq!(web.get("/login?again=1")?.code, 401);

    lab.gateway.configure("[kerberos.conditions]\nopt-out-cookie = \"\"\n")?;
    let web = Web::new(&lab, 0);
    lab::wait::until("the form to be gone", crate::common::SOON, || {
        let page = web.get("/login").ok()?.text();
        (!page.contains("/login/automatic") && page.contains("type=\"password\"")).then_some(())
    })?;
    Ok(())
}

#[test]
fn chromium_with_a_ticket_is_logged_in_by_opening_the_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut browser = lab.browser(0).direct().tickets(&lab.tickets("alice")?).chromium()?;
    browser.open(&Web::url("/"))?;
    browser.reads("alice")?;
    let begun = session(&lab, 0)?;
    assert!(begun.is_of("alice") && begun.method == "kerberos", "{begun:?}");
    // Without one, the form is the page, and stays it.
    let mut browser = lab.browser(1).direct().chromium()?;
    for _ in 0..2 {
        browser.open(&Web::url("/login"))?;
        browser.reads("Password")?;
    }
    browser.types("#name", "bob")?;
    browser.types("#password", "bob-pw")?;
    browser.clicks("form.login button")?;
    browser.reads("bob")?;
    assert!(session(&lab, 1)?.method == "password");
    Ok(())
}

#[test]
fn after_a_logout_only_a_password_logs_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "[portal]\nlogout-hold = \"10m\"\n")?;
    assert_eq!(negotiating(&lab, 0, "alice")?.get(&Web::url("/login"))?.code, 303);
    assert_eq!(lab.curl(0).direct().get(&Web::plain_url("/internal/logout"))?.code, 200);
    assert_eq!(lab.gateway.sessions()?, []);
    for path in ["/login", "/"] {
        let page = negotiating(&lab, 0, "alice")?.get(&Web::url(path))?;
        assert!(page.code == 200 && page.header("www-authenticate").is_empty(), "{page:?}");
        assert!(
            page.text().contains("After a logout nobody is logged in without a password"),
            "{}",
            page.text()
        );
    }
    // A ticket that nobody asked for is not looked at.
    let token = lab.credentials(0, "alice")?;
    let field = token.trim_start_matches("Proxy-").trim();
    let page = lab.curl(0).direct().arg("--insecure").header(field).get(&Web::url("/login"))?;
    assert_eq!(page.code, 200, "{page:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    assert_eq!(crate::portal_login::log_in(&Web::new(&lab, 0), "bob", "bob-pw")?.code, 303);
    assert!(session(&lab, 0)?.is_of("bob"));
    // Who has typed one has ended it.
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    assert_eq!(negotiating(&lab, 0, "alice")?.get(&Web::url("/login"))?.code, 303);
    Ok(())
}

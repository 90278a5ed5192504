//! What every page of the portal stands on: names, proxies in front, slowness and crowds, forms of other sites, and logins to the
//! pages that are stolen, fixed or kept.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::client::Reply;
use lab::gateway::{PORTAL_PORT, PORTAL_TLS_PORT};
use lab::net::{GATEWAY_V4, GATEWAY_V6};
use lab::raw::Raw;
use lab::wait::until;
use lab::web::{Web, token};
use nix::sys::signal::Signal;

use crate::common::{SOON, logged, session};
use crate::portal_login::log_in;

/// How long the slow are waited for at most, and some more.
const PATIENCE: Duration = Duration::from_secs(45);
/// A page that everybody gets, without TLS as well.
const PICTURE: &str = "/assets/icon.svg";
/// Nobody is asked for a ticket, so that the first page is shown to whoever has none.
const NO_TICKETS: &str = "[kerberos.conditions]\ndisabled = true\n";
const ADMIN: &str = "[portal]\nadministrators = [\"alice@EXAMPLE.TEST\"]\nviewers = [\"bob@EXAMPLE.TEST\"]\n";

fn pages(lab: &Lab, client: usize) -> Result<Raw> {
    Raw::connect(&lab.net.clients[client].ns, SocketAddr::from((GATEWAY_V4, PORTAL_PORT)))
}

fn secure_pages(lab: &Lab, client: usize) -> Result<Raw> {
    Raw::connect(&lab.net.clients[client].ns, SocketAddr::from((GATEWAY_V4, PORTAL_TLS_PORT)))?.secure()
}

/// A request for a page on a connection that may stay open.
fn ask(raw: &mut Raw, path: &str) -> Result<()> {
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: proxy.example.test\r\n\r\n"))
}

/// The answer to a head as it stands here.
fn answer(lab: &Lab, tls: bool, head: &str) -> Result<(u16, String)> {
    let mut raw = if tls { secure_pages(lab, 0)? } else { pages(lab, 0)? };
    raw.send(format!("{head}\r\n\r\n"))?;
    let (head, body) = raw.answer()?;
    Ok((head.code, String::from_utf8_lossy(&body).into_owned()))
}

/// One series of a metric, with its labels.
fn series(lab: &Lab, name: &str) -> Result<f64> {
    let metrics = lab.gateway.metrics()?;
    let values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Ok(values.sum())
}

fn refused(lab: &Lab, cause: &str) -> Result<f64> {
    series(lab, &format!("tracker_portal_refused_total{{cause=\"{cause}\"}}"))
}

/// An operator's login.
fn log_in_as_operator(web: &Web<'_>, name: &str) -> Result<Reply> {
    let form = web.get("/admin/login")?;
    web.post(
        &form,
        "/admin/login",
        &[("name", name), ("password", &format!("{name}-pw")), ("next", "/status")],
    )
}

fn is_operator(web: &Web<'_>) -> Result<bool> {
    Ok(web.get("/status")?.code == 200)
}

#[test]
fn every_kind_of_answer_has_the_fields_that_keep_browsers_safe() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, NO_TICKETS)?;
    let large = format!("name={}", "x".repeat(20_000));
    let web = |path: &str, more: &[&str]| {
        let mut curl = lab.curl(0).direct().arg("--insecure");
        for word in more {
            curl = curl.arg(word);
        }
        curl.get(&Web::url(path))
    };
    for (path, more, code) in [
        ("/", &[][..], 200),
        ("/", &["--head"], 200),
        ("/", &["--no-alpn", "--http1.0"], 200),
        ("/assets/style.css", &[], 200),
        ("/assets/logo", &[], 404),
        ("/there-is-no-such-page", &[], 404),
        ("/assets/style.css", &["--request", "POST"], 405),
        ("/", &["--request", "OPTIONS"], 405),
        ("/", &["--request", "TRACE"], 405),
        ("/", &["--request", "DELETE"], 405),
        ("/", &["--header", "Host: evil.test"], 421),
        ("/", &["--header", "Host: a b"], 400),
        ("/login", &["--data", "name=alice&password=alice-pw"], 403),
        ("/login", &["--data", &large], 413),
        ("/login", &["--header", "Expect:", "--data", &large], 413),
        ("/admin", &[], 302),
    ] {
        let reply = web(path, more)?;
        assert_eq!(reply.code, code, "{path} {more:?}: {reply:?}\n{}", lab.gateway.log());
        let field = |name: &str| reply.header(name).join("|");
        assert!(field("content-security-policy").starts_with("default-src 'none'"), "{reply:?}");
        assert!(!field("content-security-policy").contains("unsafe"), "{reply:?}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            // Browsers would look for TLS at 4080.
            ("strict-transport-security", ""),
        ] {
            assert_eq!(field(name), value, "{name} of {path} {more:?}: {reply:?}");
        }
        let kept = if path == "/assets/style.css" && code == 200 { "max-age=300" } else { "no-store" };
        assert_eq!(field("cache-control"), kept, "{path}: {reply:?}");
        for cookie in reply.header("set-cookie") {
            assert!(
                cookie.starts_with("__Host-") && cookie.contains("; Secure; HttpOnly; SameSite="),
                "{cookie}"
            );
        }
        assert!(code != 405 || more.is_empty() || !field("allow").is_empty(), "{reply:?}");
    }
    let plain = lab.curl(0).direct().get(&Web::plain_url("/"))?;
    assert!(
        plain.header("strict-transport-security").is_empty() && plain.header("set-cookie").is_empty(),
        "{plain:?}"
    );
    let hint = lab.curl(0).direct().get(&format!("http://proxy.example.test:{PORTAL_TLS_PORT}/"))?;
    assert!(hint.code == 400 && hint.text().contains("https://"), "{hint:?}");
    // The line of the log has the page's number, and never what stands behind the path.
    let page = web("/nowhere?secret=Gruezi", &[])?;
    let text = page.text();
    let number =
        text.rsplit_once("<code>").and_then(|(_, rest)| rest.split_once("</code>")).context("a number")?.0;
    logged(&lab, &[number, "/nowhere", "404", &lab.address(0)])?;
    let log = lab.gateway.log();
    assert!(!log.contains("Gruezi"), "{log}");
    assert!(series(&lab, "tracker_portal_requests_total{code=\"404\"}")? >= 3.0);
    Ok(())
}

#[test]
fn only_the_gateways_own_names_are_answered() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "[kerberos.conditions]\nspns = [\"gw-alias.example.test\"]\n")?;
    let (v4, v6) = (GATEWAY_V4.to_string(), format!("[{GATEWAY_V6}]"));
    for (host, code) in [
        ("proxy.example.test", 200),
        ("PROXY.example.test.:4080", 200),
        ("proxy.example.test:1", 200),
        ("gw-alias.example.test:4080", 200),
        (v4.as_str(), 200),
        (&format!("{v4}:4080"), 200),
        (&format!("{v6}:4080"), 200),
        (&format!("[::ffff:{v4}]"), 200),
        ("evil.test", 421),
        ("proxy.example.test.evil.test", 421),
        ("xproxy.example.test", 421),
        ("localhost", 421),
        ("127.0.0.1", 421),
        ("[::1]:4080", 421),
        ("192.0.2.1", 421),
        ("origin.example.test", 421),
        ("", 400),
        ("[::1", 400),
        ("proxy.example.test:x", 400),
        ("user@proxy.example.test", 400),
    ] {
        let (got, page) = answer(&lab, false, &format!("GET {PICTURE} HTTP/1.1\r\nHost: {host}"))?;
        assert_eq!(got, code, "{host}: {page}");
        if code == 421 {
            assert!(
                !page.contains("href=\"/") && !page.contains("src=") && !page.contains("<form"),
                "{page}"
            );
            assert!(page.contains("https://proxy.example.test:4081/"), "{page}");
        }
    }
    for (tls, head, code) in [
        (false, "GET /assets/icon.svg HTTP/1.1", 400),
        (false, "GET /assets/icon.svg HTTP/1.0", 400),
        (false, "GET /assets/icon.svg HTTP/1.0\r\nHost: proxy.example.test", 200),
        (false, "GET /assets/icon.svg HTTP/1.1\r\nHost: proxy.example.test\r\nHost: proxy.example.test", 400),
        (false, "GET http://proxy.example.test:4080/assets/icon.svg HTTP/1.1\r\nHost: evil.test", 200),
        (false, "GET http://evil.test/ HTTP/1.1\r\nHost: proxy.example.test", 421),
        (false, "GET https://proxy.example.test/ HTTP/1.1\r\nHost: proxy.example.test", 400),
        (
            true,
            "GET https://proxy.example.test:4081/assets/icon.svg HTTP/1.1\r\nHost: proxy.example.test",
            200,
        ),
        (true, "GET http://proxy.example.test/ HTTP/1.1\r\nHost: proxy.example.test", 400),
        (true, "GET /assets/icon.svg HTTP/1.1\r\nHost: evil.test\r\nCookie: __Host-tracker=x", 421),
        (false, "CONNECT origin.example.test:443 HTTP/1.1\r\nHost: origin.example.test:443", 421),
        (false, "CONNECT origin.example.test:443 HTTP/1.1\r\nHost: proxy.example.test", 405),
        (false, "OPTIONS * HTTP/1.1\r\nHost: proxy.example.test", 405),
    ] {
        assert_eq!(answer(&lab, tls, head)?.0, code, "{head}\n{}", lab.gateway.log());
    }
    assert!(refused(&lab, "host")? > 10.0);
    Ok(())
}

#[test]
fn whom_a_proxy_in_front_asks_for_is_believed_from_it_alone() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let (front, other) = (lab.address(0), lab.address(1));
    lab.gateway.configure(&format!(
        "[portal]\ntrusted-proxies = [\"{front}\"]\n[regulation]\nmax-retries = 2\n{NO_TICKETS}"
    ))?;
    lab.gateway.start()?;
    for (client, fields, whom) in [
        (0, &[][..], Some(front.as_str())),
        (0, &["198.51.100.7"], Some("198.51.100.7")),
        (0, &["8.8.8.8, 198.51.100.7:81"], Some("198.51.100.7")),
        (0, &["garbage, 198.51.100.7"], Some("198.51.100.7")),
        (0, &["198.51.100.7", &front], Some("198.51.100.7")),
        (0, &["[2001:db8::7]"], Some("2001:db8::7")),
        (0, &["::ffff:198.51.100.8"], Some("198.51.100.8")),
        (0, &["unknown"], None),
        (0, &["198.51.100.7,"], None),
        (1, &["198.51.100.7"], Some(other.as_str())),
        (1, &["unknown"], Some(other.as_str())),
    ] {
        let fields: Vec<String> = fields.iter().map(|field| format!("X-Forwarded-For: {field}")).collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let page = Web::new(&lab, client).ask(&Web::url("/"), &[], &fields)?;
        assert_eq!(page.code, if whom.is_some() { 200 } else { 400 }, "{client} {fields:?}: {page:?}");
        if let Some(whom) = whom {
            let text = page.text();
            let (_, rest) = text.rsplit_once("<code>").context("a number")?;
            let number = rest.split_once("</code>").context("a number")?.0;
            let line = logged(&lab, &[number])?;
            assert!(
                line.contains(&format!("client={whom} ")) || line.contains(&format!("\"{whom}\"")),
                "{line}"
            );
        }
    }
    assert!(refused(&lab, "forwarded")? >= 2.0);
    // A session is of the client behind, and wrong passwords ban the client behind, never the proxy in front.
    let behind = ["X-Forwarded-For: 198.51.100.9", "Sec-Fetch-Site: same-origin"];
    let web = Web::new(&lab, 0);
    for password in ["one", "two", "three", "four"] {
        let form = web.ask(&Web::url("/login"), &[], &behind)?;
        let fields =
            [("token", token(&form)?), ("name", "alice".to_owned()), ("password", password.to_owned())];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        web.ask(&Web::url("/login"), &fields, &behind)?;
    }
    let bans = lab.gateway.ask(&["bans"])?.to_string();
    assert!(bans.contains("198.51.100.9") && !bans.contains(&front), "{bans}");
    Ok(())
}

#[test]
fn the_slow_and_the_large_are_left() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, "")?;
    let host = "Host: proxy.example.test\r\n";
    // All at once: each takes its time.
    let mut silent = pages(&lab, 0)?;
    let mut slow_head = pages(&lab, 0)?;
    slow_head.send(format!("GET / HTTP/1.1\r\n{host}X-Slow: "))?;
    let mut idle = pages(&lab, 0)?;
    ask(&mut idle, PICTURE)?;
    assert_eq!(idle.answer()?.0.code, 200);
    let mut slow_form = pages(&lab, 0)?;
    slow_form.send(format!("POST /logout HTTP/1.1\r\n{host}Content-Length: 100\r\n\r\ntoken="))?;
    let mut reader = pages(&lab, 0)?;
    let many = format!("GET /assets/style.css HTTP/1.1\r\n{host}\r\n").repeat(4_000);
    reader.send(many)?;
    let mut large = pages(&lab, 1)?;
    large.send(format!("GET / HTTP/1.1\r\n{host}X-Large: {}\r\n\r\n", "x".repeat(100 * 1024)))?;
    assert_eq!(large.answer()?.0.code, 431);
    let mut many = pages(&lab, 1)?;
    many.send(format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(120)))?;
    assert_eq!(many.answer()?.0.code, 431);
    let mut ticket = pages(&lab, 1)?;
    ticket.send(format!(
        "GET / HTTP/1.1\r\n{host}Authorization: Negotiate {}\r\n\r\n",
        "x".repeat(64 * 1024)
    ))?;
    assert_ne!(ticket.answer()?.0.code, 431, "tickets have their place");

    let (head, _) = slow_form.answer()?;
    assert_eq!(head.code, 408, "{head:?}");
    assert!(head.header("content-security-policy").is_some(), "{head:?}");
    for (who, raw) in
        [("silent", &mut silent), ("a head", &mut slow_head), ("idle", &mut idle), ("a form", &mut slow_form)]
    {
        assert!(raw.ended_within(PATIENCE)?, "{who} stays");
    }
    until("whoever does not read is left", PATIENCE, || (refused(&lab, "slow").ok()? > 0.0).then_some(()))?;
    assert_eq!(Web::new(&lab, 1).get(PICTURE)?.code, 200);
    Ok(())
}

#[test]
fn a_crowd_of_idle_connections_keeps_nobody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(2, "")?;
    let mut kept = pages(&lab, 1)?;
    ask(&mut kept, PICTURE)?;
    assert_eq!(kept.answer()?.0.code, 200);
    let crowd = (0..600).map(|_| pages(&lab, 0)).collect::<Result<Vec<_>>>()?;
    assert_eq!(Web::new(&lab, 1).get(PICTURE)?.code, 200, "another one is served");
    ask(&mut kept, PICTURE)?;
    assert_eq!(kept.answer()?.0.code, 200, "and keeps the connection");
    assert_eq!(Web::new(&lab, 0).get(PICTURE)?.code, 200, "so is whoever sits where the crowd is");
    assert!(lab.gateway.metric("tracker_portal_connections")? < Some(300.0), "{}", lab.gateway.metrics()?);
    assert_eq!(crowd.len(), 600);
    drop(crowd);
    until("they are gone", SOON, || {
        (lab.gateway.metric("tracker_portal_connections").ok()?? < 4.0).then_some(())
    })
}

#[test]
fn at_a_stop_who_is_being_answered_is_answered_and_the_idle_are_let_go() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, "")?;
    let (mut idle, mut form) = (pages(&lab, 0)?, pages(&lab, 0)?);
    ask(&mut idle, PICTURE)?;
    assert_eq!(idle.answer()?.0.code, 200);
    form.send(
        "POST /logout HTTP/1.1\r\nHost: proxy.example.test\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n",
    )?;
    assert_eq!(form.head()?.code, 100, "its content is waited for");
    form.send("tok")?;
    lab.gateway.signal(Signal::SIGTERM)?;
    assert!(idle.ended_within(SOON)?, "an idle connection stays");
    form.send("en=x")?;
    let (head, _) = form.answer()?;
    assert!((400..500).contains(&head.code) && head.header("connection") == Some("close"), "{head:?}");
    assert!(lab.gateway.wait()?.success());
    Ok(())
}

#[test]
fn a_form_that_another_site_has_sent_does_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "[regulation]\nmax-retries = 100\n")?;
    let web = Web::new(&lab, 0);
    let form = web.get("/login")?;
    let right = token(&form)?;
    let stranger = token(&Web::new(&lab, 0).get("/login")?)?;
    let own = format!("Origin: https://proxy.example.test:{PORTAL_TLS_PORT}");
    let send = |token: &str, headers: &[&str]| {
        web.ask(
            &Web::url("/login"),
            &[("token", token), ("name", "alice"), ("password", "alice-pw")],
            headers,
        )
    };
    for (token, headers) in [
        (right.as_str(), &["Sec-Fetch-Site: cross-site"][..]),
        (&right, &["Sec-Fetch-Site: same-site"]),
        (&right, &["Sec-Fetch-Site: none"]),
        (&right, &["Origin: https://evil.test"]),
        (&right, &["Origin: null"]),
        (&right, &["Origin: http://proxy.example.test:4080"]),
        (&right, &["Sec-Fetch-Site: same-origin", "Origin: https://evil.test"]),
        (&right, &["Content-Type: text/plain"]),
        (&stranger, &[own.as_str()]),
        ("", &[own.as_str()]),
        ("x", &[own.as_str()]),
    ] {
        let reply = send(token, headers)?;
        assert_eq!(reply.code, 403, "{token} {headers:?}: {reply:?}");
        assert!(lab.gateway.sessions()?.is_empty(), "{token} {headers:?}");
    }
    // Without cookies a token is nobody's.
    let reply = Web::new(&lab, 0).ask(
        &Web::url("/login"),
        &[("token", &right), ("name", "alice"), ("password", "alice-pw")],
        &[],
    )?;
    assert!(reply.code == 403 && lab.gateway.sessions()?.is_empty(), "{reply:?}");
    assert!(refused(&lab, "form")? >= 12.0, "{}", lab.gateway.metrics()?);
    let reply = send(&right, &["Sec-Fetch-Site: same-origin", &own])?;
    assert_eq!(reply.code, 303, "{reply:?}");
    session(&lab, 0)?;
    // The same form once more is of a browser that was not logged in: nothing happens.
    assert_eq!(send(&right, &["Sec-Fetch-Site: same-origin", &own])?.code, 403);
    Ok(())
}

#[test]
fn a_login_to_the_pages_is_of_one_browser_at_one_address() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    lab.gateway.configure(ADMIN)?;
    lab.gateway.start()?;
    {
        let web = Web::new(&lab, 0);
        // Somebody has put a secret of their own choice into the browser (fixation): the login takes another one.
        let fixed = "0123456789abcdef0123456789abcdef";
        let before = web.ask(&Web::url("/admin/login"), &[], &[])?;
        let form = token(&before)?;
        let cookie = format!("Cookie: __Host-tracker-admin={fixed}");
        let done = web.ask(
            &Web::url("/admin/login"),
            &[("token", &form), ("name", "alice"), ("password", "alice-pw"), ("next", "/status")],
            &["Sec-Fetch-Site: same-origin", &cookie],
        )?;
        let given = done.header("set-cookie").join("\n");
        assert!(
            done.code != 303 || given.contains("__Host-tracker-admin=") && !given.contains(fixed),
            "{done:?}"
        );
        let stranger = lab.curl(0).direct().arg("--insecure").header(&cookie).get(&Web::url("/status"))?;
        assert_ne!(stranger.code, 200, "{stranger:?}");
    }
    let web = Web::new(&lab, 0);
    let done = log_in_as_operator(&web, "alice")?;
    assert_eq!(done.code, 303, "{done:?}\n{}", lab.gateway.log());
    let cookies = done.header("set-cookie").join("\n");
    assert!(cookies.contains("__Host-tracker-admin=") && cookies.contains("SameSite=Strict"), "{cookies}");
    assert!(is_operator(&web)? && lab.gateway.sessions()?.is_empty(), "nobody's session is begun by it");
    // A viewer may look as well, and whoever is neither may not be in.
    let viewer = Web::new(&lab, 0);
    assert_eq!(log_in_as_operator(&viewer, "bob")?.code, 303);
    assert!(is_operator(&viewer)?);
    // Stolen: from elsewhere the cookie is nothing, and that stands in the trail.
    let thief = Web::new(&lab, 1);
    fs::copy(web.jar(), thief.jar())?;
    assert!(!is_operator(&thief)?);
    let stolen = lab.gateway.ask(&["events"])?.to_string();
    assert!(stolen.contains("web-session") && stolen.contains(&lab.address(1)), "{stolen}");
    assert!(is_operator(&web)?, "its owner goes on");
    // A new login is a new secret; the one before is worth nothing.
    let old = lab.scratch.unused("old-cookies");
    fs::copy(web.jar(), &old)?;
    let form = web.get("/admin/logout")?;
    let again = [("name", "alice"), ("password", "alice-pw"), ("next", "/status")];
    assert_eq!(web.post(&form, "/admin/login", &again)?.code, 303);
    let before = Web::new(&lab, 0);
    fs::copy(&old, before.jar())?;
    assert!(is_operator(&web)? && !is_operator(&before)?);
    // It outlives a restart, as does a user's with the session that it goes with.
    let user = Web::new(&lab, 0);
    assert_eq!(log_in(&user, "carol", "carol-pw")?.code, 303);
    let names = |page: &Reply| page.text().contains("carol");
    assert!(names(&user.get("/")?));
    let jars = [web.jar().clone(), viewer.jar().clone(), user.jar().clone()];
    drop((web, viewer, user, thief, before));
    lab.gateway.restart()?;
    let [web, viewer, user] = jars.map(|jar| {
        let web = Web::new(&lab, 0);
        fs::copy(jar, web.jar()).map(|_| web)
    });
    let (web, viewer, user) = (web?, viewer?, user?);
    assert!(is_operator(&web)? && is_operator(&viewer)? && names(&user.get("/")?), "{}", lab.gateway.log());
    // Whoever may look no more is out at once, and so is a user whose session has ended.
    assert_eq!(lab.gateway.ctl(&["set", "portal.viewers", "[]"])?.exit, 0);
    assert!(!is_operator(&viewer)? && is_operator(&web)?);
    assert_eq!(lab.gateway.ctl(&["set", "portal.viewers", "[\"bob@EXAMPLE.TEST\"]"])?.exit, 0);
    assert!(!is_operator(&viewer)?, "that does not come back");
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    assert!(!names(&user.get("/")?));
    assert_eq!(log_in(&Web::new(&lab, 0), "carol", "carol-pw")?.code, 303);
    assert!(!names(&user.get("/")?), "of a session that has ended");
    // Logged out of the pages: the secret is worth nothing, in another browser as well, and after a restart.
    let copy = lab.scratch.unused("copied-cookies");
    fs::copy(web.jar(), &copy)?;
    let ask = web.get("/admin/logout")?;
    web.post(&ask, "/admin/logout", &[])?;
    assert!(!is_operator(&web)?);
    drop((web, viewer, user));
    lab.gateway.restart()?;
    let after = Web::new(&lab, 0);
    fs::copy(&copy, after.jar())?;
    assert!(!is_operator(&after)?);
    Ok(())
}

#[test]
fn a_logo_that_is_no_picture_is_refused_and_holds_nothing_up() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, NO_TICKETS)?;
    let (text, endless) = (lab.scratch.write("logo.svg", b"no picture")?, lab.scratch.join("pipe.png"));
    nix::unistd::mkfifo(&endless, nix::sys::stat::Mode::S_IRUSR)?;
    let missing = lab.scratch.join("missing.png");
    for path in [Path::new("/proc/kmsg"), &endless, &missing, lab.scratch.path(), &text] {
        let path = path.to_str().context("a path")?;
        let refused = lab.gateway.ctl(&["set", "portal.logo", path])?;
        ensure!(refused.exit == 64, "{path}: {refused:?}");
        let kept = lab.gateway.ask(&["get", "portal.logo"])?;
        assert_eq!(kept["value"], "", "{path}: {kept}");
    }
    let picture = b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec();
    let picture = lab.scratch.write("picture.svg", picture)?;
    let set = lab.gateway.ctl(&["set", "portal.logo", picture.to_str().context("a path")?])?;
    ensure!(set.exit == 0, "{set:?}");
    assert_eq!(Web::new(&lab, 0).get("/assets/logo")?.code, 200);
    Ok(())
}

//! Logging in by the form of the portal: who is let in, who is not and what they are told, and where they are led.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::client::Reply;
use lab::wait::until;
use lab::web::{Web, token};
use lab::{Lab, PROXY_NAME};

use crate::common::{
    ORIGIN, SOON, has_ended, is_for_people, is_let_through, is_refused_for, lasting, session,
    status_without_credentials, url,
};

const PASSWORD: &str = "korrekt Pferd Batterie";
/// Wrong passwords are no reason yet to listen to nobody.
const LENIENT: &str = "[regulation]\nmax-retries = 100\n";

/// A local user with this password.
pub(crate) fn add_user(lab: &Lab, name: &str, password: &str) -> Result<()> {
    let mut command = lab.gateway.trackerctl();
    command.args(["user", "add", name]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(password.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

/// Fills the form in.
pub(crate) fn log_in(web: &Web<'_>, name: &str, password: &str) -> Result<Reply> {
    let form = web.get("/login")?;
    web.post(&form, "/login", &[("name", name), ("password", password)])
}

/// A page without what is different each time it is shown, and without what was typed as a name.
fn nameless(page: &Reply, name: &str) -> String {
    lasting(&page.text()).replace(&format!("value=\"{name}\""), "value=\"NAME\"")
}

#[test]
fn people_log_in_by_the_form_and_are_as_anybody_else() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    add_user(&lab, "Robert", PASSWORD)?;
    for (user, password, domain) in [("alice", "alice-pw", "EXAMPLE.TEST"), ("robert", PASSWORD, "local")] {
        let web = Web::new(&lab, 0);
        let done = log_in(&web, user, password)?;
        assert_eq!(
            (done.code, done.header("location")),
            (303, vec!["/".into()]),
            "{done:?}\n{}",
            lab.gateway.log()
        );
        let begun = session(&lab, 0)?;
        assert!(begun.is_of(user) && begun.method == "password" && begun.domain == domain, "{begun:?}");
        assert!(is_let_through(&lab, 0), "the address is logged in");
        // Their own browser is told the name; another one at the address is not.
        let own = web.get("/")?;
        assert!(own.code == 200 && own.text().to_lowercase().contains(user), "{own:?}");
        assert!(own.text().contains("action=\"/logout\""), "{own:?}");
        let stranger = Web::new(&lab, 0).get("/")?.text();
        assert!(stranger.contains("Somebody is logged in from your address"), "{stranger}");
        assert!(!stranger.to_lowercase().contains(user), "{stranger}");
        let form = Web::new(&lab, 0).get("/login")?.text();
        assert!(form.contains("they are logged out by it") && !form.to_lowercase().contains(user), "{form}");
        is_for_people(&lab, &own.text())?;
        is_for_people(&lab, &form)?;
    }
    assert!(has_ended(&lab, 0, "kicked"), "who logs in takes the place: {:?}", lab.gateway.events()?);
    let log = lab.gateway.log() + &lab.gateway.ask(&["events"])?.to_string();
    assert!(!log.contains("alice-pw") && !log.contains(PASSWORD), "a password is told: {log}");
    let elsewhere = Web::new(&lab, 1).get("/login")?.text();
    assert!(!elsewhere.contains("Somebody is logged in"), "{elsewhere}");
    Ok(())
}

#[test]
fn without_tls_there_is_no_cookie_and_no_field_for_a_password() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, LENIENT)?;
    let web = Web::new(&lab, 0);
    let id = "0123456789abcdef0123456789abcdef";
    for (asked, led) in [
        ("/login".to_owned(), "/login".to_owned()),
        (format!("/login?to={id}"), format!("/login?to={id}")),
        ("/login?to=http://evil.test/&x=1".into(), "/login".into()),
        ("/login?to=//evil.test".into(), "/login".into()),
        ("/password?x=1".into(), "/password".into()),
        ("/".into(), "/".into()),
    ] {
        let reply = web.ask(&Web::plain_url(&asked), &[], &[])?;
        assert_eq!((reply.code, reply.header("location")), (302, vec![Web::url(&led)]), "{asked}: {reply:?}");
        assert!(reply.header("set-cookie").is_empty() && !reply.text().contains("password"), "{reply:?}");
    }
    // Nor is one taken.
    let form = web.get("/login")?;
    let token = token(&form)?;
    let fields = [("token", token.as_str()), ("name", "alice"), ("password", "alice-pw")];
    let reply = web.ask(&Web::plain_url("/login"), &fields, &[])?;
    assert_eq!(reply.code, 403, "{reply:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn whatever_is_wrong_the_page_is_the_same() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, LENIENT)?;
    add_user(&lab, "robert", PASSWORD)?;
    let web = Web::new(&lab, 0);
    let (long, longest) = ("x".repeat(129), "ü".repeat(300));
    let mut pages = Vec::new();
    web.get("/login")?;
    for (name, password, cause) in [
        ("alice", "wrong", "wrong-password"),
        ("robert", "wrong", "wrong-password"),
        ("nobody", "wrong", "unknown-user"),
        ("local\\nobody", "wrong", "unknown-user"),
        ("alice@STRANGE.TEST", "wrong", "foreign-realm"),
        ("PC-17$", "wrong", "bad-name"),
        ("\"><script>", "wrong", "bad-name"),
        ("", "wrong", "bad-name"),
        ("alice", "", "password-length"),
        ("alice", &long, "password-length"),
        ("robert", &longest, "password-length"),
    ] {
        let page = log_in(&web, name, password)?;
        assert_eq!(page.code, 403, "{name}: {page:?}");
        assert!(page.seconds >= 0.2, "{name}: it takes its time: {}", page.seconds);
        let shown = name.replace('"', "&#34;").replace('<', "&#60;").replace('>', "&#62;");
        assert!(page.text().contains(&format!("value=\"{shown}\"")), "the name is kept: {}", page.text());
        assert!(
            !page.text().contains(&long) && !page.text().contains("value=\"wrong"),
            "the password is not"
        );
        is_for_people(&lab, &page.text())?;
        is_refused_for(&lab, 0, &[""])?;
        let events = lab.gateway.ask(&["events"])?.to_string();
        assert!(events.contains(&format!("\"cause\":\"{cause}\"")), "{name}: {events}");
        pages.push(nameless(&page, &shown));
    }
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:#?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn who_is_banned_is_told_no_more_and_basic_and_the_form_count_together() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nbasic = \"always\"\n[regulation]\nmax-retries = 3\n")?;
    let web = Web::new(&lab, 0);
    web.get("/login")?;
    let wrong = log_in(&web, "alice", "wrong 1")?;
    for number in 2..=3 {
        let user = format!("alice:wrong {number}");
        lab.curl(0).arg("--proxy-basic").arg("--proxy-user").arg(&user).get(ORIGIN)?;
    }
    let banned = log_in(&web, "alice", "alice-pw")?;
    assert_eq!(banned.code, 403, "the right password: {banned:?}");
    assert_eq!(nameless(&banned, "alice"), nameless(&wrong, "alice"));
    is_refused_for(&lab, 0, &["too many wrong passwords"])?;
    assert_eq!(log_in(&Web::new(&lab, 1), "alice", "alice-pw")?.code, 303, "elsewhere she is not");
    Ok(())
}

#[test]
fn a_false_kdc_lets_nobody_in_and_without_one_everybody_is_asked_to_try_again() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, LENIENT)?;
    let web = Web::new(&lab, 0);
    web.get("/login")?;
    let wrong = log_in(&web, "alice", "wrong")?;
    lab.realm.stop_kdc();
    let web = Web::new(&lab, 0);
    let away = log_in(&web, "alice", "alice-pw")?;
    assert_eq!(away.code, 503, "{away:?}");
    assert_eq!(away.header("retry-after").len(), 1, "{away:?}");
    is_for_people(&lab, &away.text())?;
    let false_one = lab.realm.false_one(&lab.net.gateway)?;
    false_one.add_user("alice", "chosen")?;
    false_one.add_service(&format!("HTTP/{PROXY_NAME}"), &lab.scratch.join("false.keytab"))?;
    let refused = until("the false KDC to be asked", SOON * 4, || {
        log_in(&web, "alice", "chosen").ok().filter(|page| page.code != 503)
    })?;
    assert_eq!(refused.code, 403, "{refused:?}");
    is_refused_for(&lab, 0, &["kdc"])?;
    let heading = "This name and password were not accepted";
    assert!(refused.text().contains(heading) && wrong.text().contains(heading), "{refused:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn good_passwords_that_let_nobody_in_say_why() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[licences]\nmax-users = 1\n")?;
    assert_eq!(log_in(&Web::new(&lab, 0), "alice", "alice-pw")?.code, 303);
    let full = log_in(&Web::new(&lab, 1), "bob", "bob-pw")?;
    assert_eq!(full.code, 403, "{full:?}");
    assert!(full.text().contains("licences"), "{}", full.text());
    is_for_people(&lab, &full.text())?;
    is_refused_for(&lab, 1, &["licences"])?;
    assert!(session(&lab, 0)?.is_of("alice"), "nobody who is in is harmed");
    assert_eq!(status_without_credentials(&lab, 1), 407);

    let shared = format!("[licences]\nmax-users = 0\n[timeouts]\nshared-hosts = [\"{}\"]\n", lab.address(1));
    lab.gateway.configure(&shared)?;
    let web = Web::new(&lab, 1);
    let page = until("the address to be shared", SOON, || {
        web.get("/login").ok().filter(|page| page.text().contains("share your address"))
    })?;
    assert!(page.code == 200 && !page.text().contains("type=\"password\""), "{page:?}");
    assert!(web.get("/")?.text().contains("share your address"));
    // A form from before.
    let form = web.get("/password")?;
    let tried = web.post(&form, "/login", &[("name", "bob"), ("password", "bob-pw")])?;
    assert!(tried.code == 403 && tried.text().contains("many people"), "{tried:?}");
    assert!(lab.gateway.session(&lab.address(1))?.is_none());
    Ok(())
}

/// Where the proxy leads a page that somebody asks for without a session.
fn led(lab: &Lab, client: usize, wanted: &str) -> Result<String> {
    let curl = lab.curl(client).header("Accept: text/html,*/*").header("Sec-Fetch-Mode: navigate");
    let reply = curl.arg("--user-agent").arg(lab::web::USER_AGENT).get(wanted)?;
    ensure!(reply.code == 302, "{reply:?}");
    let location = reply.header("location").pop().context("a Location")?;
    let path = location.strip_prefix(&Web::url("")).with_context(|| location.clone())?;
    Ok(path.to_owned())
}

#[test]
fn after_the_login_people_are_led_to_exactly_where_they_wanted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&format!("{LENIENT}[kerberos.conditions]\ndisabled = true\n"))?;
    let wanted = url("status/200?a=1&b=%22x%22&c='y'#");
    let wanted = wanted.trim_end_matches('#');
    let path = led(&lab, 0, wanted)?;
    assert!(path.starts_with("/login?to=") && !path.contains("origin"), "{path}");
    let id = path.trim_start_matches("/login?to=");
    // Not another client's, whoever comes first.
    let other = Web::new(&lab, 1);
    assert!(!other.get(&path)?.text().contains("name=\"to\""));

    let web = Web::new(&lab, 0);
    let form = web.get(&path)?;
    assert!(form.text().contains(&format!("name=\"to\" value=\"{id}\"")), "{}", form.text());
    // Again and again, while she types; another browser does not get it.
    let form = {
        ensure!(form.code == 200);
        web.get(&path)?
    };
    assert!(!Web::new(&lab, 0).get(&path)?.text().contains("name=\"to\""));
    let wrong = web.post(&form, "/login", &[("name", "alice"), ("password", "wrong"), ("to", id)])?;
    assert!(wrong.code == 403 && wrong.text().contains(id), "{wrong:?}");
    let done = web.post(&wrong, "/login", &[("name", "alice"), ("password", "alice-pw"), ("to", id)])?;
    assert_eq!(done.code, 200, "{done:?}");
    let escaped = wanted.replace('&', "&#38;").replace('\'', "&#39;").replace('"', "&#34;");
    let refresh = format!("<meta http-equiv=\"refresh\" content=\"0; url={escaped}\">");
    assert!(
        done.text().contains(&refresh) && done.text().contains(&format!("href=\"{escaped}\"")),
        "{}",
        done.text()
    );
    assert_eq!(lab.curl(0).get(wanted)?.code, 200);
    // Once.
    let again = web.get(&path)?;
    assert!(!again.text().contains("name=\"to\""), "{}", again.text());
    Ok(())
}

#[test]
fn nothing_in_an_address_or_a_form_is_a_target() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "")?;
    for target in [
        "http://evil.test/",
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test",
        "javascript:alert(1)",
        "0123456789abcdef0123456789abcdef",
        "\r\nLocation: http://evil.test/",
    ] {
        let web = Web::new(&lab, 0);
        let encoded: String = target.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let form = web.get(&format!("/login?to={encoded}&url={encoded}&next={encoded}"))?;
        assert!(!form.text().contains("evil"), "{}", form.text());
        let fields =
            [("name", "alice"), ("password", "alice-pw"), ("to", target), ("url", target), ("next", target)];
        let done = web.post(&form, "/login", &fields)?;
        assert_eq!((done.code, done.header("location")), (303, vec!["/".into()]), "{target}: {done:?}");
        assert!(!done.heads.concat().contains("evil") && !done.text().contains("evil"), "{done:?}");
    }
    Ok(())
}

#[test]
fn a_form_that_another_site_has_sent_logs_nobody_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, "")?;
    let web = Web::new(&lab, 0);
    let form = web.get("/login")?;
    let token = token(&form)?;
    let fields = |token| [("token", token), ("name", "alice"), ("password", "alice-pw")];
    for (token, from) in [
        ("", "same-origin"),
        ("0000", "same-origin"),
        (token.as_str(), "cross-site"),
        (token.as_str(), "same-site"),
    ] {
        let sent = web.ask(&Web::url("/login"), &fields(token), &[&format!("Sec-Fetch-Site: {from}")])?;
        assert_eq!(sent.code, 403, "{token} {from}: {sent:?}");
    }
    // A token of another browser's.
    let other = Web::new(&lab, 0);
    other.get("/login")?;
    assert_eq!(other.ask(&Web::url("/login"), &fields(&token), &[])?.code, 403);
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn chromium_fills_in_the_form_and_arrives_where_it_wanted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &format!("{LENIENT}[kerberos.conditions]\ndisabled = true\n"))?;
    let wanted = url("headers?of=this&page=%22x%22");
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&wanted)?;
    browser.arrives(|url| url.starts_with(&Web::url("/login?to=")))?;
    assert_eq!(lab.origin.requests(), 0);
    browser.types("#name", "alice")?;
    browser.types("#password", "wrong")?;
    browser.clicks("form.login button")?;
    browser.reads("were not accepted")?;
    browser.types("#password", "alice-pw")?;
    browser.clicks("form.login button")?;
    browser.arrives(|url| url == wanted)?;
    assert!(session(&lab, 0)?.is_of("alice"));
    Ok(())
}

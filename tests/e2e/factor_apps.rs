//! Application passwords by real programs: what opens the proxy, what does not, and what takes effect with the next request.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::client::Reply;
use lab::web::Web;

use crate::common::{ORIGIN, is_for_people, session, status_without_credentials, url};
use crate::factor_codes::{OPTIONAL, reasons, set_up};
use crate::portal_login::log_in;

const HOME: &str = "/app-passwords";
const NEW: &str = "/app-passwords/new";

/// Passwords are asked for everywhere, also in the clear.
fn settings() -> String {
    format!("{OPTIONAL}[proxy]\nbasic = \"always\"\n")
}

/// A request of a client with a name and a password.
fn by_basic(lab: &Lab, client: usize, user: &str, password: &str) -> Result<Reply> {
    lab.curl(client).arg("--proxy-basic").arg("--proxy-user").arg(&format!("{user}:{password}")).get(ORIGIN)
}

/// Makes an application password in this browser, and returns it.
fn make(web: &Web<'_>, name: &str, networks: &str) -> Result<String> {
    let form = web.get(NEW)?;
    ensure!(form.code == 200, "{form:?}\n{}", form.text());
    let made = web.post(&form, NEW, &[("name", name), ("expires", ""), ("networks", networks)])?;
    ensure!(made.code == 200 && made.header("cache-control") == ["no-store"], "{made:?}\n{}", made.text());
    let text = made.text();
    let (_, rest) = text.split_once("<code id=\"password\" translate=\"no\">").context("the password")?;
    let password = rest.split('<').next().unwrap_or_default().to_owned();
    ensure!(password.starts_with("tap_") && password.len() == 40, "{text}");
    ensure!(!web.get(HOME)?.text().contains(&password[12..]), "it is shown once");
    Ok(password)
}

fn listed(lab: &Lab, user: &str) -> Result<Vec<serde_json::Value>> {
    let all = lab.gateway.ask(&["app-password", "list", user])?;
    Ok(list(&all, "app-passwords").into_iter().cloned().collect())
}

fn bans(lab: &Lab) -> Result<usize> {
    Ok(list(&lab.gateway.ask(&["bans"])?, "bans").len())
}

/// Whether a text stands in a file of this directory.
fn stands_in(directory: &Path, text: &str) -> Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() && std::fs::read(&path)?.windows(text.len()).any(|part| part == text.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_program_goes_by_an_application_password_and_not_by_the_accounts() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(3, &settings())?;
    ensure!(by_basic(&lab, 1, "alice", "alice-pw")?.code == 200, "as long as nothing is set up");
    lab.gateway.ask(&["logout", &lab.address(1)])?;
    let (web, ..) = set_up(&lab, 0, "alice")?;
    is_for_people(&lab, &web.get(HOME)?.text())?;
    let password = make(&web, "curl on the build host", "")?;

    // Somebody else sits there: their session is not touched by what is not enough.
    lab.login(1, "bob")?;
    for number in 0..50 {
        let refused = by_basic(&lab, 1, "alice", "alice-pw")?;
        ensure!(refused.code == 407, "{number}: {refused:?}\n{}", lab.gateway.log());
        let text = refused.text();
        ensure!(text.contains("application password") && text.contains("/login\""), "{text}");
        if number == 0 {
            is_for_people(&lab, &text)?;
        }
    }
    ensure!(bans(&lab)? == 0, "nobody is banned for what is right");
    ensure!(session(&lab, 1)?.is_of("bob") && status_without_credentials(&lab, 1) == 200);
    let told = reasons(&lab, "second-factor-refused")?;
    ensure!(told == ["account-password"], "once an hour: {told:?}");
    // Whoever opens a page is led to where more can be proved.
    let page = lab.curl(1).header("Accept: text/html").arg("--proxy-basic").arg("--proxy-user");
    let led = page.arg("alice:alice-pw").get(ORIGIN)?;
    let to = led.header("location");
    ensure!(led.code == 302 && to.iter().all(|to| to.contains("/login?to=")) && to.len() == 1, "{led:?}");
    let german = lab.curl(1).header("Accept-Language: de").arg("--proxy-basic").arg("--proxy-user");
    let german = german.arg("alice:alice-pw").get(ORIGIN)?;
    ensure!(german.text().contains("Anwendungspasswort"), "{}", german.text());

    // The application password takes over, as any proof of another user's does.
    let served = by_basic(&lab, 1, "alice", &password)?;
    ensure!(served.code == 200, "{served:?}\n{}", lab.gateway.log());
    let begun = session(&lab, 1)?;
    ensure!(begun.is_of("alice") && begun.method == "application-password", "{begun:?}");
    // Real programs.
    let proxy = format!("http://alice:{password}@127.0.0.1:3128");
    for words in [
        &["wget", "-q", "-O", "-", "--tries=1", "--timeout=10"][..],
        &[
            "python3",
            "-c",
            "import sys, urllib.request\nprint(urllib.request.urlopen(sys.argv[1], timeout=10).read())",
        ],
    ] {
        let mut program = lab.net.gateway.command(words[0]);
        program.args(&words[1..]).arg(url("headers")).env("http_proxy", &proxy).env_remove("no_proxy");
        let output = program.output()?;
        ensure!(output.status.success(), "{words:?} {output:?}\n{}", lab.gateway.log());
        ensure!(!String::from_utf8_lossy(&output.stdout).contains("tap_"), "the origin sees no credentials");
    }

    // It opens no page, right or not.
    for typed in [password.as_str(), "tap_00000000"] {
        let other = Web::new(&lab, 2);
        let refused = log_in(&other, "alice", typed)?;
        ensure!(
            refused.code == 403 && refused.text().contains("This is an application password"),
            "{refused:?}"
        );
        let form = other.get("/admin/login")?;
        let refused = other.post(&form, "/admin/login", &[("name", "alice"), ("password", typed)])?;
        ensure!(
            refused.code == 403 && refused.text().contains("This is an application password"),
            "{refused:?}"
        );
    }
    ensure!(bans(&lab)? == 0);

    // A kill loses nothing of it, nor does a stop.
    lab.gateway.kill();
    lab.gateway.start()?;
    ensure!(by_basic(&lab, 2, "alice", &password)?.code == 200);
    lab.gateway.restart()?;
    let [one] = <[_; 1]>::try_from(listed(&lab, "alice")?).map_err(|all| anyhow::anyhow!("{all:?}"))?;
    ensure!(
        one["name"] == "curl on the build host" && one["last_client"] == lab.address(2).as_str(),
        "{one:#}"
    );
    ensure!(one["last_used"].is_string() && one["expires"].is_null(), "{one:#}");
    for (what, at) in [("state", lab.scratch.join("state")), ("log", lab.scratch.path().to_owned())] {
        ensure!(!stands_in(&at, &password[12..])?, "the secret stands in the {what}");
    }
    ensure!(!lab.gateway.log().contains(&password[12..]));
    Ok(())
}

#[test]
fn what_is_deleted_or_comes_from_elsewhere_is_refused_with_the_next_request() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, &settings())?;
    let (web, ..) = set_up(&lab, 0, "alice")?;
    let near = make(&web, "near", &lab.address(1))?;
    let program = make(&web, "program", "")?;

    ensure!(by_basic(&lab, 1, "alice", &near)?.code == 200);
    let refused = by_basic(&lab, 2, "alice", &near)?;
    ensure!(refused.code == 407 && refused.text().contains("not good from your computer"), "{refused:?}");
    // Typing errors are no tries.
    let last = if program.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{last}", &program[..39]);
    for _ in 0..10 {
        let refused = by_basic(&lab, 2, "alice", &mistyped)?;
        ensure!(
            refused.code == 407 && refused.text().contains("was not typed as it was shown"),
            "{refused:?}"
        );
    }
    ensure!(bans(&lab)? == 0);
    // Another user's name: wrong, and counted as one try however often it comes.
    for _ in 0..10 {
        let refused = by_basic(&lab, 2, "bob", &program)?;
        ensure!(refused.code == 407 && refused.text().contains("Check both"), "{refused:?}");
    }
    ensure!(bans(&lab)? == 0);
    let told = reasons(&lab, "second-factor-refused")?;
    ensure!(told == ["wrong-app-password: program"], "once, and which: {told:?}");

    // On a connection that is kept, too.
    let field = format!("Proxy-Authorization: Basic {}\r\n", base64(&format!("alice:{program}")));
    let mut kept = lab.raw(2)?;
    for _ in 0..3 {
        kept.get(ORIGIN, &field)?;
        ensure!(kept.answer()?.0.code == 200);
    }
    // Alice's session at her own computer stands by her password and a code: it does not end with it.
    let page = web.get(HOME)?;
    let id = &program[4..12];
    ensure!(page.text().contains(id), "{}", page.text());
    let gone = web.post(&page, "/app-passwords/delete", &[("id", id)])?;
    ensure!(gone.code == 303 && gone.header("location") == ["/app-passwords?done=deleted"], "{gone:?}");
    let ended = lab.gateway.session(&lab.address(2))?;
    ensure!(ended.is_none(), "{ended:?}");
    ensure!(session(&lab, 0)?.is_active());
    ensure!(by_basic(&lab, 2, "alice", &program)?.code == 407);
    ensure!(by_basic(&lab, 1, "alice", &near)?.code == 200, "the other one is good all the same");

    // By an operator.
    let revoked = lab.gateway.ask(&["app-password", "revoke", "alice"])?;
    ensure!(list(&revoked["revoked"], "revoked").len() == 1 && revoked["sessions_ended"] == 1, "{revoked:#}");
    ensure!(by_basic(&lab, 1, "alice", &near)?.code == 407);
    ensure!(lab.gateway.ctl(&["app-password", "revoke", "alice"])?.exit == 1);
    let told = reasons(&lab, "second-factor")?;
    let of = |reason: &str| told.iter().filter(|told| told.starts_with(reason)).count();
    ensure!((of("app-password-made"), of("app-password-deleted")) == (2, 2), "{told:?}");
    Ok(())
}

/// What goes behind `Basic`.
fn base64(text: &str) -> String {
    use std::fmt::Write as _;
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits =
            (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or_default()));
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at) & 63) as usize];
            let letter = if at <= chunk.len() { char::from(letter) } else { '=' };
            let _ = out.write_char(letter);
        }
    }
    out
}

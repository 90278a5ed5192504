//! Names with passwords by the Basic scheme: real programs, a real KDC, under TLS and on loopback, and where it is not asked for.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use lab::client::Curl;
use lab::gateway::PROXY_PORT;
use lab::ns::Ns;
use lab::wait::until;
use lab::{Lab, PROXY_NAME};

use crate::common::{
    ORIGIN, SOON, is_for_people, is_refused_for, lasting, session, status_without_credentials, url,
};

/// Where the proxy is under TLS.
const TLS_PORT: u16 = 3129;
const TLS: &str = "[tls]\nproxy-listen = [\"0.0.0.0:3129\"]\n";
const BASIC: &str = "Basic realm=\"proxy\", charset=\"UTF-8\"";
/// Sends the password unasked.
const URLLIB: &str = "import sys, urllib.request\nsys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())";
const REQUESTS: &str = "import sys, requests\nr = requests.get(sys.argv[1], timeout=10)\nr.raise_for_status()\nsys.stdout.write(r.text)";

/// curl through the proxy under TLS, with a name and a password, sent unasked.
fn by_tls<'a>(lab: &'a Lab, client: usize, user: &str) -> Curl<'a> {
    let proxy = format!("https://{PROXY_NAME}:{TLS_PORT}");
    let curl = Curl::new(&lab.net.clients[client].ns, &lab.scratch, &lab.realm, &proxy);
    curl.arg("--proxy-insecure").arg("--proxy-basic").arg("--proxy-user").arg(user)
}

/// The value of a metric with labels.
fn counted(lab: &Lab, metric: &str) -> Result<f64> {
    let metrics = lab.gateway.metrics()?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    Ok(value.with_context(|| format!("no {metric}"))?.parse()?)
}

fn by(lab: &Lab, who: &str) -> Result<f64> {
    counted(lab, &format!("tracker_password_accepted_total{{by=\"{who}\"}}"))
}

fn because(lab: &Lab, cause: &str) -> Result<f64> {
    counted(lab, &format!("tracker_password_refused_total{{cause=\"{cause}\"}}"))
}

/// Logs whoever is there out, and waits until that is so.
fn logout(lab: &Lab, client: &str) -> Result<()> {
    lab.gateway.ask(&["logout", client])?;
    until("the session to be gone", SOON, || lab.gateway.session(client).ok()?.is_none().then_some(()))
}

/// Runs a subcommand that reads a password from its standard input.
fn with_password(lab: &Lab, arguments: &[&str], password: &str) -> Result<()> {
    let mut command = lab.gateway.trackerctl();
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("its input")?.write_all(format!("{password}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(())
}

/// Each program that is told of the proxy by its environment, with what it takes to fetch a page.
fn programs(ns: &Ns, proxy: &str) -> Vec<Command> {
    let commands: [&[&str]; 4] = [
        &["curl", "-sS", "--fail", "--max-time", "10"],
        &["wget", "-q", "-O", "-", "--tries=1", "--timeout=10"],
        &["python3", "-c", URLLIB],
        &["python3", "-c", REQUESTS],
    ];
    let made = commands.iter().filter(|words| words[..] != commands[3][..] || has_requests()).map(|words| {
        let mut command = ns.command(words[0]);
        command.args(&words[1..]).env_remove("no_proxy").env_remove("NO_PROXY");
        command
            .env("http_proxy", proxy)
            .env("PATH", "/usr/bin:/bin")
            .env("KRB5CCNAME", lab::realm::NO_TICKETS);
        command
    });
    made.collect()
}

/// Whether Debian's python3-requests is installed.
fn has_requests() -> bool {
    Command::new("/usr/bin/python3")
        .args(["-c", "import requests"])
        .output()
        .is_ok_and(|output| output.status.success())
}

#[test]
fn programs_log_in_by_name_and_password_on_loopback_and_a_logout_forgets() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let ns = &lab.net.gateway;
    let mut asked = 0.0;
    for mut program in programs(ns, &format!("http://alice:alice-pw@127.0.0.1:{PROXY_PORT}")) {
        let output = program.arg(url("headers")).output()?;
        ensure!(output.status.success(), "{program:?} {output:?}\n{}", lab.gateway.log());
        let seen = String::from_utf8_lossy(&output.stdout).to_lowercase();
        ensure!(
            !seen.contains("proxy-auth") && !seen.contains("ywxpy2u6"),
            "the origin sees no credentials: {seen}"
        );
        let session = lab.gateway.session("127.0.0.1")?.context("a session")?;
        ensure!(session.is_of("alice") && session.method == "password", "{session:?}");
        asked += 1.0;
        ensure!(by(&lab, "kdc")? == asked, "the KDC is asked again after each logout: {program:?}");
        logout(&lab, "127.0.0.1")?;
    }
    // git, which has to be told that Basic will do.
    let mut git = ns.command("git");
    git.args(["-c", "http.proxyAuthMethod=basic", "ls-remote", &url("repo.git")]);
    git.env("http_proxy", format!("http://bob:bob-pw@127.0.0.1:{PROXY_PORT}"))
        .env("GIT_TERMINAL_PROMPT", "0");
    let requests = lab.origin.requests();
    git.output().context("is git installed?")?;
    ensure!(lab.origin.requests() > requests, "git has reached the origin\n{}", lab.gateway.log());
    ensure!(lab.gateway.session("127.0.0.1")?.context("a session")?.is_of("bob"));
    logout(&lab, "127.0.0.1")?;
    // apt, by the program that it downloads with.
    let file = lab.scratch.unused("downloaded");
    let mut apt = ns.command("/usr/lib/apt/apt-helper");
    apt.args(["-o", &format!("Acquire::http::Proxy=http://carol:carol-pw@127.0.0.1:{PROXY_PORT}")]);
    apt.args(["-o", "APT::Sandbox::User=root", "download-file", ORIGIN]).arg(&file);
    let output = apt.output().context("is apt installed?")?;
    ensure!(output.status.success(), "{output:?}\n{}", lab.gateway.log());
    ensure!(std::fs::read_to_string(&file)?.contains("greets you"));
    ensure!(lab.gateway.session("127.0.0.1")?.context("a session")?.is_of("carol"));
    let log = lab.gateway.log();
    ensure!(
        !log.contains("alice-pw") && !log.contains("bob-pw") && !log.to_lowercase().contains("ywxpy2u6"),
        "{log}"
    );
    Ok(())
}

#[test]
fn under_tls_a_password_is_asked_for_and_elsewhere_it_is_not_looked_at() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(TLS)?;
    let proxy = format!("https://{PROXY_NAME}:{TLS_PORT}");
    let curl = || Curl::new(&lab.net.clients[0].ns, &lab.scratch, &lab.realm, &proxy).arg("--proxy-insecure");
    let challenge = curl().get(ORIGIN)?;
    assert_eq!(
        (challenge.code, challenge.header("proxy-authenticate")),
        (407, vec!["Negotiate".into(), BASIC.into()])
    );
    is_for_people(&lab, &challenge.text())?;
    assert!(challenge.text().contains("name and password"), "{}", challenge.text());

    // On the plain port the very same is as if it were not there, and the operator is told.
    let plain = lab.curl(0).arg("--proxy-basic").arg("--proxy-user").arg("alice:alice-pw").get(ORIGIN)?;
    assert_eq!(
        (plain.code, plain.header("proxy-authenticate")),
        (407, vec!["Negotiate".into()]),
        "{plain:?}"
    );
    assert_eq!(lab.gateway.sessions()?, []);
    is_refused_for(&lab, 0, &["Basic", "in the clear"])?;
    let told = lab.gateway.ask(&["status"])?.to_string();
    assert!(told.contains("in the clear") && !told.contains("alice"), "{told}");
    assert_eq!(counted(&lab, "tracker_proxy_passwords_in_the_clear_total")?, 1.0);
    assert_eq!(by(&lab, "kdc")?, 0.0);

    for target in [ORIGIN.to_owned(), url("headers")] {
        let reply = by_tls(&lab, 0, "alice:alice-pw").get(&target)?;
        assert_eq!(reply.code, 200, "{reply:?}\n{}", lab.gateway.log());
        assert!(!reply.text().to_lowercase().contains("proxy-auth"), "{}", reply.text());
    }
    let first = session(&lab, 0)?;
    assert!(
        first.is_of("alice") && first.method == "password" && first.domain == "EXAMPLE.TEST",
        "{first:?}"
    );
    assert_eq!((by(&lab, "kdc")?, by(&lab, "remembered")?), (1.0, 1.0), "it was asked for once");
    // By whatever name.
    for name in ["Alice@EXAMPLE.TEST:alice-pw", "alice@example.test:alice-pw"] {
        assert_eq!(by_tls(&lab, 0, name).get(ORIGIN)?.code, 200, "{name}");
    }
    assert_eq!(session(&lab, 0)?.id, first.id);
    let explained = lab.gateway.ask(&["explain", &lab.address(0)])?;
    assert!(explained["basic"]["tls"] == true && explained["basic"]["plain"] == false, "{explained}");
    assert!(explained["recent"].to_string().contains("\"proved_by\":\"password\""), "{explained}");

    // A tunnel, too; and another user takes over.
    let _tls = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let tunnel = by_tls(&lab, 0, "bob:bob-pw").arg("--insecure").get("https://origin.example.test/")?;
    assert_eq!((tunnel.connect_code, tunnel.code), (200, 200), "{tunnel:?}");
    assert!(session(&lab, 0)?.is_of("bob"));

    lab.gateway.configure("[proxy]\nbasic = \"never\"\n")?;
    logout(&lab, &lab.address(0))?;
    until("Basic to be offered no more", SOON, || {
        (curl().get(ORIGIN).ok()?.header("proxy-authenticate") == ["Negotiate"]).then_some(())
    })?;
    assert_eq!(by_tls(&lab, 0, "bob:bob-pw").get(ORIGIN)?.code, 407);
    Ok(())
}

/// What is left for browsers that the conditions leave out, or that have nothing but NTLM.
#[test]
fn where_kerberos_is_not_offered_a_password_is() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = format!("{TLS}[kerberos.conditions]\nbrowsers = [\"Firefox/\"]\n");
    let lab = Lab::start(&settings)?;
    let proxy = format!("https://{PROXY_NAME}:{TLS_PORT}");
    let curl = Curl::new(&lab.net.clients[0].ns, &lab.scratch, &lab.realm, &proxy).arg("--proxy-insecure");
    let challenge = curl.get(ORIGIN)?;
    assert_eq!((challenge.code, challenge.header("proxy-authenticate")), (407, vec![BASIC.into()]));
    assert_eq!(by_tls(&lab, 0, "alice:alice-pw").get(ORIGIN)?.code, 200);
    assert_eq!(lab.curl(1).get(ORIGIN)?.code, 403, "and where neither is, nothing");
    let explained = lab.gateway.ask(&["explain", &lab.address(1), "--user-agent", "curl/7"])?;
    assert!(
        explained["decision"] == "challenge" && explained["why"].to_string().contains("under TLS"),
        "{explained}"
    );
    Ok(())
}

#[test]
fn wrong_passwords_are_refused_and_one_that_was_left_over_bans_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(TLS)?;
    for _ in 0..6 {
        let refused = by_tls(&lab, 0, "alice:left-over").get(ORIGIN)?;
        assert_eq!(refused.code, 407, "{refused:?}");
        is_for_people(&lab, &refused.text())?;
    }
    is_refused_for(&lab, 0, &["wrong-password"])?;
    let events = lab.gateway.ask(&["events"])?.to_string();
    assert!(!events.contains("left-over") && events.contains("\"method\":\"password\""), "{events}");
    assert_eq!(because(&lab, "banned")?, 0.0);
    assert_eq!(by_tls(&lab, 0, "alice:alice-pw").get(ORIGIN)?.code, 200, "{}", lab.gateway.log());
    // The session stands, and credentials that are volunteered have to be right all the same.
    assert_eq!(by_tls(&lab, 0, "alice:left-over").get(ORIGIN)?.code, 407);
    assert_eq!(by_tls(&lab, 0, ":").get(ORIGIN)?.code, 407);
    assert_eq!(status_without_credentials(&lab, 0), 200);

    let pages: Vec<String> = ["one", "two", "three", "four", "alice-pw"]
        .iter()
        .map(|password| Ok(lasting(&by_tls(&lab, 1, &format!("alice:{password}")).get(ORIGIN)?.text())))
        .collect::<Result<_>>()?;
    assert!(pages.iter().all(|page| *page == pages[0]), "a ban looks like a wrong password: {pages:#?}");
    let nobody = lasting(&by_tls(&lab, 1, "nobody-at-all:x").get(ORIGIN)?.text());
    assert_eq!(nobody, pages[0], "and so does a name that nobody has");
    assert!(because(&lab, "banned")? >= 1.0);
    assert_eq!(session(&lab, 0)?.user, "alice", "elsewhere her session stands");
    Ok(())
}

#[test]
fn without_a_kdc_passwords_are_put_off_and_nobody_is_banned() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(TLS)?;
    assert_eq!(by_tls(&lab, 1, "bob:bob-pw").get(ORIGIN)?.code, 200);
    lab.realm.stop_kdc();
    for _ in 0..4 {
        let off = by_tls(&lab, 0, "alice:whatever").get(ORIGIN)?;
        assert_eq!((off.code, off.header("retry-after")), (503, vec!["1".to_owned()]), "{off:?}");
    }
    assert_eq!(by_tls(&lab, 1, "bob:bob-pw").get(ORIGIN)?.code, 200, "who is remembered is served");
    assert_eq!(because(&lab, "banned")?, 0.0);
    let warned = |lab: &Lab| -> Result<bool> {
        let warnings = lab.gateway.ask(&["status"])?["warnings"].to_string();
        Ok(warnings.contains("no KDC of EXAMPLE.TEST answers"))
    };
    assert!(warned(&lab)?, "the page sends people to the operator, and the operator to status");
    lab.realm.start_kdc(&lab.net.gateway)?;
    until("the KDC to be asked again", SOON * 6, || {
        (by_tls(&lab, 0, "alice:alice-pw").get(ORIGIN).ok()?.code == 200).then_some(())
    })?;
    assert!(!warned(&lab)?, "it answers again");
    Ok(())
}

#[test]
fn local_users_log_in_and_are_gone_with_their_password() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(TLS)?;
    with_password(&lab, &["user", "add", "dora"], "correct horse battery")?;
    let dora =
        |password: &str| by_tls(&lab, 0, &format!("dora:{password}")).get(ORIGIN).map(|reply| reply.code);
    assert_eq!(dora("correct horse battery")?, 200, "{}", lab.gateway.log());
    let first = session(&lab, 0)?;
    assert!(first.is_of("dora") && first.domain == "local" && first.method == "password", "{first:?}");
    assert_eq!(by(&lab, "local")?, 1.0);
    assert_eq!(dora("correct horse battery")?, 200);
    assert_eq!((by(&lab, "local")?, by(&lab, "remembered")?), (1.0, 1.0));
    with_password(&lab, &["user", "password", "dora"], "another correct horse")?;
    until("her session to end", SOON, || lab.gateway.session(&lab.address(0)).ok()?.is_none().then_some(()))?;
    assert_eq!(dora("correct horse battery")?, 407);
    assert_eq!(dora("another correct horse")?, 200);
    Ok(())
}

/// Browsers take what comes first, where they can.
#[test]
fn browsers_with_a_ticket_take_it_where_a_password_is_offered_too() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nbasic = \"always\"\n")?;
    assert_eq!(lab.curl(0).get(ORIGIN)?.header("proxy-authenticate"), ["Negotiate", BASIC]);
    let page = lab.chromium_as(0, "alice")?.dom(ORIGIN)?;
    assert!(page.dom.contains("greets you"), "{page:?}");
    let _firefox =
        lab::firefox::open(&lab.scratch, &lab.net.clients[1].ns, &lab.realm, &lab.tickets("bob")?, ORIGIN)?;
    until("Firefox to log in", SOON * 12, || lab.gateway.session(&lab.address(1)).ok()?.map(drop))?;
    for (client, user) in [(0, "alice"), (1, "bob")] {
        let session = session(&lab, client)?;
        assert!(session.is_of(user) && session.method == "kerberos", "{session:?}");
    }
    Ok(())
}

#[test]
fn what_the_daemon_has_in_memory_goes_into_no_core_dump() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", lab.gateway.pid()))?;
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).context("the limit")?;
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    Ok(())
}

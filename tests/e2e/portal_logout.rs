//! The logout URL, as the scripts of a logoff open it: by real wget, with the commands that the vendor's document has.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::certificates::{Authority, Wish};
use lab::gateway::PORTAL_PORT;
use lab::net::GATEWAY_V4;
use lab::origin::ECHO_PORT;
use lab::wait::until;
use lab::web::Web;
use lab::{Lab, gateway};

use crate::common::{ORIGIN, SOON, has_ended, is_let_through, session, status_without_credentials};

/// What every script is told, whether somebody was logged in or not.
const DONE: &str = "Nobody is logged in from this address any more.\n";

/// wget on a client, as a script runs it; what it was answered, which it writes into a file of the working directory.
fn wget(lab: &Lab, client: usize, arguments: &[&str]) -> Result<(Output, String)> {
    let directory = lab.scratch.unused("wget");
    std::fs::create_dir_all(&directory)?;
    // Entering a mount namespace leads to its root.
    let mut command = lab.net.clients[client].ns.command("sh");
    command.args(["-c", "cd \"$0\" && exec wget \"$@\""]).arg(&directory);
    command.args(arguments).env("HOME", &directory).env_remove("http_proxy");
    let output = command.stdin(Stdio::null()).output().context("is wget installed?")?;
    let saved = std::fs::read_to_string(directory.join("logout")).unwrap_or_default();
    Ok((output, saved))
}

/// The same, which must work.
fn logs_out(lab: &Lab, client: usize, arguments: &[&str]) -> Result<String> {
    let (output, saved) = wget(lab, client, arguments)?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}\n{}", lab.gateway.log());
    ensure!(output.stdout.is_empty() && output.stderr.is_empty(), "-q is quiet: {output:?}");
    Ok(saved)
}

/// A lab whose certificate an authority has signed that clients may trust.
fn start(settings: &str) -> Result<(Lab, Authority)> {
    let mut lab = Lab::prepare(3, &gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    let certificate = root.issue(Wish::names("DNS:proxy.example.test"))?;
    lab.gateway.configure(&certificate.settings())?;
    lab.gateway.configure(settings)?;
    lab.gateway.start()?;
    Ok((lab, root))
}

fn plain() -> String {
    Web::plain_url("/internal/logout")
}

#[test]
fn the_vendors_commands_log_out_and_free_the_licence() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start("[licences]\nmax-users = 1\n")?;
    let authority = format!("--ca-certificate={}", root.certificate().display());
    let secure = Web::url("/internal/logout");
    let commands: [&[&str]; 5] = [
        &["-q", &plain()],
        &[&authority, "-q", &secure],
        &["--no-check-certificate", "-q", &secure],
        &["-q", &Web::plain_url("/logout")],
        &["--no-check-certificate", "-q", &Web::url("/logout")],
    ];
    for command in commands {
        lab.login(0, "alice")?;
        let before = session(&lab, 0)?;
        let mut tunnel = lab.raw(0)?;
        tunnel.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?;
        let mut idle = lab.raw(0)?;
        idle.get(ORIGIN, "")?;
        ensure!(idle.answer()?.0.code == 200, "alice is logged in");
        ensure!(lab.curl_as(1, "bob")?.get(ORIGIN)?.code == 403, "there is one licence");

        let said = logs_out(&lab, 0, command)?;
        ensure!(said == DONE, "{command:?}: {said}");
        // All of that was so before wget had its answer.
        ensure!(lab.gateway.sessions()?.is_empty(), "{command:?}");
        ensure!(tunnel.ended_within(SOON)? && idle.ended_within(SOON)?, "{command:?}: a connection is open");
        ensure!(status_without_credentials(&lab, 1) == 407, "{command:?}: the next user is asked");
        lab.login(1, "bob")?;
        ensure!(logs_out(&lab, 1, command)? == DONE, "{command:?}");

        // Once more, where nobody is logged in any more, and where nobody ever was: the very same.
        for client in [0, 2] {
            ensure!(logs_out(&lab, client, command)? == DONE, "{command:?}");
        }
        let ended: Vec<_> = lab.gateway.events()?;
        let ended = ended.iter().filter(|event| event.text.contains(&before.id) && event.reason == "logout");
        ensure!(ended.count() == 1, "one end, with its reason");
    }
    // Without trust there is no logout, and wget says so.
    let (output, _) = wget(&lab, 0, &["-q", &secure])?;
    ensure!(output.status.code() == Some(5), "{output:?}");
    Ok(())
}

#[test]
fn an_answer_is_short_plain_text_and_only_a_get_of_a_script_acts() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let curl = || lab.curl(0).direct().arg("--insecure");
    let secure = Web::url("/internal/logout");
    let is_in = || is_let_through(&lab, 0);
    const BROWSER: &str = "User-Agent: Mozilla/5.0 (X11; Linux x86_64)";

    // Where a browser is sent on 4080, and how far that goes.
    for url in [plain(), Web::plain_url("/logout")] {
        for header in [BROWSER, "Accept-Language: de", "Referer: http://evil.test/", "Origin: null"] {
            let reply = curl().header(header).get(&url)?;
            let there = url.replace("http:", "https:").replace(":4080", ":4081");
            ensure!(reply.code == 302 && reply.header("location") == [there], "{header}: {reply:?}");
        }
    }
    for (url, method) in [(&plain(), "-I"), (&secure, "-I")] {
        ensure!(curl().arg(method).get(url)?.code == 200, "HEAD");
    }
    for header in
        ["Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch"]
    {
        for url in [&plain(), &secure] {
            let reply = curl().header(header).header("Sec-Fetch-Site: none").get(url)?;
            ensure!(reply.code == 503, "{header}: {reply:?}");
        }
    }
    for headers in [
        &["Sec-Fetch-Site: cross-site"][..],
        &["Sec-Fetch-Site: same-site"],
        &["Sec-Fetch-Site: same-origin"],
        &["Sec-Fetch-Site: none", "Origin: https://evil.test"],
        &["Sec-Fetch-Site: none", "Referer: https://evil.test/"],
        &["Referer: https://evil.test/"],
        &[BROWSER],
    ] {
        let reply = headers.iter().fold(curl(), |curl, header| curl.header(header)).get(&secure)?;
        ensure!(
            reply.code == 200 && reply.text().contains("<form method=\"post\""),
            "{headers:?}: {reply:?}"
        );
    }
    // A form that another site sends has no token; nor has one without.
    for headers in [&["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"][..], &[]] {
        let call = headers.iter().fold(curl(), |curl, header| curl.header(header)).data("token=1");
        ensure!(call.get(&Web::url("/logout"))?.code == 403, "{headers:?}");
    }
    ensure!(is_in(), "nothing of that has logged alice out");
    ensure!(!has_ended(&lab, 0, "logout"), "not even for a moment");

    // The page that asks, and its form.
    let web = Web::new(&lab, 0);
    let page = web.get("/logout")?;
    let done = web.post(&page, "/logout", &[])?;
    ensure!(
        done.code == 200 && done.text().contains("Nobody is logged in from this computer any more"),
        "{done:?}"
    );
    ensure!(
        done.text().contains("happens again") && done.text().contains("href=\"/login\""),
        "{}",
        done.text()
    );
    ensure!(status_without_credentials(&lab, 0) == 407 && has_ended(&lab, 0, "logout"));

    // PowerShell calls itself a browser, and is a script. A bookmark comes from nowhere.
    for header in [
        "User-Agent: Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.1682",
        "X: 1",
    ] {
        for url in [&plain(), &secure] {
            lab.login(0, "alice")?;
            let reply = curl().header(header).get(url)?;
            ensure!(reply.code == 200 && reply.text() == DONE && reply.body.len() < 1024, "{reply:?}");
            ensure!(reply.header("content-type") == ["text/plain; charset=utf-8"], "{reply:?}");
            ensure!(!is_in());
        }
    }
    lab.login(0, "alice")?;
    let reply = curl().header(BROWSER).header("Sec-Fetch-Site: none").get(&secure)?;
    ensure!(
        reply.text().contains("Nobody is logged in from this computer any more") && !is_in(),
        "{reply:?}"
    );
    let german = curl().header("Accept-Language: de").header("Sec-Fetch-Site: none").get(&secure)?;
    ensure!(german.text().contains("niemand mehr angemeldet"), "{german:?}");
    Ok(())
}

#[test]
fn a_logout_outlives_a_crash_and_so_does_its_hold() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[portal]\nlogout-hold = \"1h\"\n[proxy]\nbasic = \"always\"\n")?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    ensure!(logs_out(&lab, 0, &["-q", &plain()])? == DONE);
    for round in 0..2 {
        // Neither a ticket nor a password that a browser has kept: nothing that comes by itself.
        let ticket = lab.curl_as(0, "alice")?.get(ORIGIN)?;
        let password = lab.curl(0).arg("--proxy-user").arg("alice:alice-pw").get(ORIGIN)?;
        for reply in [ticket, password] {
            ensure!(reply.code != 200 && reply.header("proxy-authenticate").is_empty(), "{round}: {reply:?}");
        }
        ensure!(lab.gateway.session(&lab.address(0))?.is_none(), "round {round}");
        ensure!(is_let_through(&lab, 1), "bob has not logged out");
        let explained = lab.gateway.ask(&["explain", &lab.address(0)])?;
        ensure!(explained["decision"] == "deny" && explained["held_until"].is_string(), "{explained:#}");
        let shown = lab.gateway.shown(&["explain", &lab.address(0)])?;
        ensure!(shown.contains("has logged out"), "{shown}");
        lab.gateway.kill();
        lab.gateway.start()?;
    }
    // Who was logged in all the time is; whose time is over is let in silently again.
    ensure!(is_let_through(&lab, 1));
    lab.gateway.ctl(&["set", "portal.logout-hold", "1s"])?;
    until("the hold to be over", SOON * 2, || {
        (lab.curl_as(0, "alice").ok()?.get(ORIGIN).ok()?.code == 200).then_some(())
    })?;
    ensure!(lab.gateway.ask(&["explain", &lab.address(0)])?["held_until"].is_null());
    // Who has a session of their own again is not held by the earlier one.
    lab.gateway.ctl(&["set", "portal.logout-hold", "1h"])?;
    lab.gateway.kill();
    lab.gateway.start()?;
    ensure!(is_let_through(&lab, 0));
    Ok(())
}

#[test]
fn many_users_of_one_address_are_not_logged_out_by_one_of_them() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[timeouts]\nshared-hosts = [\"10.77.0.11\"]\n[portal]\nlogout-hold = \"1h\"\n")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    ensure!(raw.answer()?.0.code == 200);
    let said = logs_out(&lab, 0, &["-q", &plain()])?;
    ensure!(said.starts_with("Nothing was done"), "{said}");
    raw.get(ORIGIN, "")?;
    ensure!(raw.answer()?.0.code == 200, "alice goes on");
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &lab.credentials(0, "bob")?)?;
    ensure!(raw.answer()?.0.code == 200, "and nobody is held");
    Ok(())
}

/// Asks for the logout from one of many addresses, when all the others do.
fn log_out_from(address: Ipv4Addr, together: &Barrier) -> Result<String> {
    let mut stream =
        lab::ns::connect_from_here(address, std::net::SocketAddrV4::new(GATEWAY_V4, PORTAL_PORT))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    together.wait();
    let request =
        "GET /internal/logout HTTP/1.1\r\nHost: proxy.example.test:4080\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Logs alice in from all these addresses of a client, by one curl.
fn log_in_from(lab: &Lab, addresses: &[Ipv4Addr]) -> Result<()> {
    let one = |address: &Ipv4Addr| {
        format!(
            "url = \"{ORIGIN}\"\ninterface = \"{address}\"\nproxy = \"{}\"\nproxy-negotiate\nproxy-user = \":\"\n\
             output = \"/dev/null\"\nwrite-out = \"%{{http_code}}\\n\"\n",
            gateway::Gateway::proxy_url()
        )
    };
    let config: Vec<String> = addresses.iter().map(one).collect();
    let config = lab.scratch.write("many.curlrc", config.join("next\n"))?;
    let mut curl = lab.net.clients[0].ns.command("curl");
    curl.args(["-sS", "--config"]).arg(config).envs(lab.realm.environment());
    let output = curl.env("KRB5CCNAME", lab.tickets("alice")?).output()?;
    let served = String::from_utf8_lossy(&output.stdout).lines().filter(|line| *line == "200").count();
    ensure!(
        served == addresses.len(),
        "{served} of {}: {}",
        addresses.len(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn two_hundred_at_once_while_two_thousand_are_logged_in_and_each_exact() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[portal]\nlogout-hold = \"1h\"\n")?;
    // A client host with as many addresses as are wanted.
    lab.net.clients[0].ns.ip("route add local 10.99.0.0/16 dev lo")?;
    lab.net.gateway.ip("route add 10.99.0.0/16 via 10.77.0.11")?;
    let all: Vec<Ipv4Addr> = (0..2_000).map(|number| Ipv4Addr::from_bits(0x0a63_0001 + number)).collect();
    log_in_from(&lab, &all)?;
    ensure!(lab.gateway.sessions()?.len() == all.len());
    let (leaving, staying): (Vec<_>, Vec<_>) = all.iter().partition(|address| address.octets()[3] % 10 == 0);
    let together = &Barrier::new(leaving.len());
    let answers = lab.net.clients[0].ns.inside(|| {
        std::thread::scope(|scope| {
            // Threads are in the namespace of whoever starts them.
            let threads: Vec<_> =
                leaving.iter().map(|address| scope.spawn(|| log_out_from(*address, together))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<Vec<_>>>()
        })
    })?;
    let left: std::collections::BTreeSet<SocketAddr> = lab
        .gateway
        .sessions()?
        .iter()
        .map(|session| Ok(SocketAddr::new(session.client.parse()?, 0)))
        .collect::<Result<_>>()?;
    for answer in &answers {
        ensure!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(DONE), "{answer}");
    }
    let expected = staying.iter().map(|address| SocketAddr::new((*address).into(), 0)).collect();
    ensure!(left == expected, "{} are left, of {}", left.len(), staying.len());
    let events = lab.gateway.events()?;
    let logouts = events.iter().filter(|event| event.reason == "logout").count();
    ensure!(logouts == leaving.len(), "{logouts}");
    Ok(())
}

/// The scripts in docs/logoff that a Linux host runs.
#[test]
fn the_linux_scripts_log_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root) = start("")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/logoff/linux/tracker-logoff");
    let run = |environment: &[(&str, &str)]| -> Result<Output> {
        let mut command = lab.net.clients[0].ns.command("sh");
        command.arg(&script).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().copied()).stdin(Stdio::null());
        Ok(command.output()?)
    };
    let authority = root.certificate().display().to_string();
    let secure = [("TRACKER_GATEWAY", "proxy.example.test"), ("TRACKER_CA", authority.as_str())];
    let unencrypted = [("TRACKER_GATEWAY", "proxy.example.test"), ("TRACKER_SCHEME", "http")];
    for environment in [&secure[..], &unencrypted] {
        lab.login(0, "alice")?;
        // What PAM calls it for when somebody comes does nothing; nor for those who have no desktop.
        let opened = [environment, &[("PAM_TYPE", "open_session")]].concat();
        ensure!(run(&opened)?.status.success() && is_let_through(&lab, 0));
        let closed = [environment, &[("PAM_TYPE", "close_session"), ("PAM_USER", "alice")]].concat();
        let output = run(&closed)?;
        ensure!(output.status.success() && output.stdout.is_empty(), "{output:?}");
        ensure!(lab.gateway.sessions()?.is_empty());
        lab.login(0, "alice")?;
        ensure!(run(environment)?.status.success() && lab.gateway.sessions()?.is_empty(), "by systemd");
    }
    // Nobody waits at a logoff for a gateway that does not answer, or that is not the right one.
    lab.login(0, "alice")?;
    let output = run(&[("TRACKER_GATEWAY", "proxy.example.test")])?;
    ensure!(
        !output.status.success() && is_let_through(&lab, 0),
        "a certificate that is not trusted: {output:?}"
    );
    let output = run(&[("TRACKER_GATEWAY", "blackhole.example.test"), ("PAM_TYPE", "close_session")])?;
    ensure!(!output.status.success(), "{output:?}");
    Ok(())
}

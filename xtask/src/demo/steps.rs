//! The steps. Two people, alice and bob; two hosts, and later both have the same address.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::{same_user, setting};
use lab::origin::ECHO_PORT;
use lab::wait::{Stopwatch, until};
use lab::web::Web;

use super::show::Show;

/// The page everyone asks for.
const PAGE: &str = "http://origin.example.test/";
/// How long anything may take that is not a timeout.
const SOON: Duration = Duration::from_secs(10);

/// One step: acts, shows, checks.
type Step = fn(&mut Lab, &mut Show) -> Result<()>;

/// All of them, in order; each starts where the one before ended.
pub(super) const ALL: [Step; 13] = [
    challenge, login, table, diagnosis, closure, hole, kick_out, expiry, tunnel, under_tls, passwords, pages,
    numbers,
];

/// Runs `trackerctl` for people and shows it.
fn ctl(lab: &Lab, show: &Show, words: &[&str]) -> Result<String> {
    let output = lab.gateway.trackerctl().args(words).output()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    show.command("gateway", &format!("trackerctl {}", words.join(" ")));
    show.output(&text);
    Ok(text)
}

/// Who the gateway takes a client for: user and state, or nothing.
fn who(lab: &Lab, client: usize) -> Result<Option<(String, String)>> {
    Ok(lab.gateway.session(&lab.address(client))?.map(|session| (session.user, session.state)))
}

/// True if the client is taken for `user` and needs no credentials now.
fn is_taken_for(lab: &Lab, client: usize, user: &str) -> Result<bool> {
    Ok(who(lab, client)?.is_some_and(|(name, state)| same_user(&name, user) && state == "active"))
}

/// Waits until the client has this many connections open, as recorded.
fn wait_for_open(lab: &Lab, client: usize, count: u64) -> Result<()> {
    let address = lab.address(client);
    until(&format!("{count} open connections of {address}"), SOON, || {
        let host = lab.gateway.host(&address).ok().flatten()?;
        (host.open_connections == count).then_some(())
    })
}

fn challenge(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("Nobody has logged in: the gateway asks who is there");
    let reply = lab.curl(0).get(PAGE)?;
    show.curl("client1", &reply);
    show.check("407, and Negotiate is offered", {
        reply.code == 407 && reply.header("proxy-authenticate").iter().any(|value| value == "Negotiate")
    });
    show.check("the origin has heard nothing of it", lab.origin.requests() == 0);
    show.end();
    Ok(())
}

fn login(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("Alice has a Kerberos ticket: she is logged in without noticing");
    let reply = lab.curl_as(0, "alice")?.get(PAGE)?;
    show.curl("client1", &reply);
    show.check("the page of the origin", reply.code == 200);
    let reply = lab.curl(0).get(PAGE)?;
    show.curl("client1", &reply);
    show.check("the address is known now: no credentials are needed", reply.code == 200);
    show.end();
    Ok(())
}

fn table(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("What the operator sees");
    ctl(lab, show, &["sessions"])?;
    ctl(lab, show, &["status"])?;
    show.check("alice on the first client's address", is_taken_for(lab, 0, "alice")?);
    show.end();
    Ok(())
}

/// An NTLM NEGOTIATE message, as Windows sends it where it has no ticket.
const NTLM: &str = "TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAA=";

fn diagnosis(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("Somebody cannot log in: who says why");
    show.say("The second client has no ticket, and sends NTLM instead, as browsers do:");
    let reply = lab.curl(1).header(&format!("Proxy-Authorization: Negotiate {NTLM}")).get(PAGE)?;
    show.curl("client2", &reply);
    show.check("a page that says so, and no challenge that would make a password box pop up again", {
        reply.code == 403 && reply.text().contains("NTLM") && reply.header("proxy-authenticate").is_empty()
    });
    let address = lab.address(1);
    let told = ctl(lab, show, &["explain", &address])?;
    show.check("the operator reads what happened, and what helps", told.contains("refused (ntlm)"));
    let told = ctl(lab, show, &["doctor"])?;
    show.check("everything that a login depends on has been looked at, and nothing failed", {
        told.contains("service-key") && told.contains("0 failed")
    });
    show.end();
    Ok(())
}

fn closure(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("The moment of closure, as the kernel saw it");
    let mut browser = lab.raw(0)?;
    browser.get(PAGE, "")?;
    browser.answer()?;
    wait_for_open(lab, 0, 1)?;
    show.say("A browser of alice holds one idle connection:");
    ctl(lab, show, &["hosts"])?;
    let session = lab.gateway.session(&lab.address(0))?.context("no session")?;
    show.check("while it is open, no deadline runs", session.expires.is_none());
    show.say("It is killed: the kernel sends a RST.");
    let watch = Stopwatch::start();
    browser.reset()?;
    wait_for_open(lab, 0, 0)?;
    let noticed = watch.elapsed();
    ctl(lab, show, &["hosts"])?;
    ctl(lab, show, &["session", &lab.address(0)])?;
    let host = lab.gateway.host(&lab.address(0))?.context("no record")?;
    let session = lab.gateway.session(&lab.address(0))?.context("no session")?;
    let expires = session.expires.unwrap_or_default();
    show.say(&format!("closed at {}, runs out at {expires}", host.closed));
    show.check("the record has the moment of closure, and the timeout runs from it", {
        !host.closed.is_empty() && !expires.is_empty()
    });
    show.check(
        &format!("seen through two runs of trackerctl within {} ms", noticed.as_millis()),
        noticed < Duration::from_secs(2),
    );
    show.end();
    Ok(())
}

fn hole(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("Another person on the same address, inside the timeout");
    lab.gateway.ask(&["set", "proxy-auth-timeout", "60s"])?;
    ctl(lab, show, &["set", "device-change", "ignore"])?;
    // Whatever the steps before took: alice is fresh.
    lab.login(0, "alice")?;
    lab.net.take_over(0, 1)?;
    show.say(&format!("The second host now has {}, the first is cut off.", lab.address(1)));
    let reply = lab.curl(1).get(PAGE)?;
    show.curl("client2", &reply);
    show.check("taken for alice: the vendors' documented hole (device-change = ignore)", reply.code == 200);
    wait_for_open(lab, 1, 0)?;
    ctl(lab, show, &["set", "revalidate", "on-reopen"])?;
    let reply = lab.curl(1).get(PAGE)?;
    show.curl("client2", &reply);
    show.check("with on-reopen the first new connection is asked: the hole is closed", reply.code == 407);
    ctl(lab, show, &["set", "revalidate", "on-timeout"])?;
    show.end();
    Ok(())
}

fn kick_out(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("The kick-out: bob shows his own ticket");
    let before = lab.gateway.session(&lab.address(1))?.context("no session")?;
    let reply = lab.curl_as(1, "bob")?.get(PAGE)?;
    show.curl("client2", &reply);
    show.check("bob is served", reply.code == 200);
    let after = lab.gateway.session(&lab.address(1))?.context("no session")?;
    ctl(lab, show, &["sessions"])?;
    show.check("it is bob's session now, a new one", after.is_of("bob") && after.id != before.id);
    ctl(lab, show, &["events"])?;
    let events = lab.gateway.events()?;
    let kicked = events.iter().any(|event| event.reason == "kicked" && same_user(&event.user, "alice"));
    show.check("the audit trail says that alice was kicked out", kicked);
    show.end();
    Ok(())
}

fn expiry(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("After the timeout, and who is kicked out then");
    lab.gateway.ask(&["set", "proxy-re-authentication-mode", "traffic"])?;
    let mut bobs = lab.raw(1)?;
    let head = bobs.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?;
    bobs.send("ping")?;
    show.say("Bob holds a tunnel, on which nothing moves. In mode `traffic` that is no sign of life:");
    show.check("the tunnel is open", head.code == 200 && bobs.exactly(4)? == b"ping");
    ctl(lab, show, &["set", "proxy-auth-timeout", "3s"])?;
    let watch = Stopwatch::start();
    until("bob's session to be stale", SOON, || {
        who(lab, 1).ok().flatten().filter(|(_, state)| state == "stale")
    })?;
    show.say(&format!("{:.1} s later:", watch.elapsed().as_secs_f64()));
    ctl(lab, show, &["sessions"])?;
    let reply = lab.curl(1).get(PAGE)?;
    show.curl("client2", &reply);
    show.check("stale: the next request must prove itself", reply.code == 407);
    show.check("bob's tunnel is as it was", !bobs.ended_within(Duration::from_millis(200))?);
    let reply = lab.curl_as(1, "alice")?.get(PAGE)?;
    show.curl("client2", &reply);
    show.check("alice proves herself and is served", reply.code == 200 && is_taken_for(lab, 1, "alice")?);
    show.check("bob is kicked out: his tunnel is destroyed", bobs.ended_within(SOON)?);
    ctl(lab, show, &["set", "proxy-re-authentication-mode", "session"])?;
    ctl(lab, show, &["set", "proxy-auth-timeout", "60s"])?;
    show.end();
    Ok(())
}

fn tunnel(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("A tunnel, as https uses it");
    let reply = lab.curl_as(1, "alice")?.arg("--proxytunnel").get(PAGE)?;
    show.curl("client2", &reply);
    show.check("CONNECT, and the page through the tunnel", reply.connect_code == 200 && reply.code == 200);
    let reply = lab.curl(1).get("http://127.0.0.1:9477/metrics")?;
    show.curl("client2", &reply);
    show.check("the gateway's own ports are out of reach through it", reply.code == 403);
    show.end();
    Ok(())
}

/// The certificate that the gateway has made for itself, in a file of its own, as an operator would hand it out.
fn certificate(lab: &Lab) -> Result<PathBuf> {
    let state = lab.gateway.config().with_file_name("state");
    let pem = std::fs::read_to_string(state.join("self-signed.pem"))?;
    let (_, own) = pem.split_once("-----BEGIN CERTIFICATE-----").context("no certificate")?;
    let (own, _) = own.split_once("-----END CERTIFICATE-----").context("no end")?;
    let text = format!("-----BEGIN CERTIFICATE-----{own}-----END CERTIFICATE-----\n");
    lab.scratch.write("gateway.pem", text)
}

fn under_tls(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("The proxy under TLS, where secrets are safe");
    show.say("At its first start the gateway has made a certificate for itself:");
    let told = ctl(lab, show, &["certificate"])?;
    show.check("for the name by which clients reach it", told.contains(lab::PROXY_NAME));
    ctl(lab, show, &["logout", "--all"])?;
    let trusted = certificate(lab)?;
    let alice = lab.tickets("alice")?;
    let curl = lab.curl_by_tls(1, &trusted).tickets(&alice);
    let reply = curl.get(PAGE)?;
    show.curl("client2", &reply);
    show.check("alice is logged in by her ticket as on the plain port", {
        reply.code == 200 && is_taken_for(lab, 1, "alice")?
    });
    ctl(lab, show, &["logout", "--all"])?;
    show.end();
    Ok(())
}

fn passwords(lab: &mut Lab, show: &mut Show) -> Result<()> {
    const GOOD: &str = "a long and good one";
    show.step("A name and a password, for whoever has no ticket");
    show.command("gateway", "trackerctl user add carol");
    let mut adding = lab.gateway.trackerctl();
    adding.args(["user", "add", "carol"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut adding = adding.spawn()?;
    adding.stdin.take().context("no pipe")?.write_all(format!("{GOOD}\n").as_bytes())?;
    show.output(&String::from_utf8_lossy(&adding.wait_with_output()?.stdout));
    let trusted = certificate(lab)?;
    let by_password = |password: &str| {
        let curl = lab.curl_by_tls(1, &trusted).arg("--proxy-basic").arg("--proxy-user");
        curl.arg(&format!("carol:{password}")).get(PAGE)
    };
    let reply = by_password(GOOD)?;
    show.curl("client2", &reply);
    ctl(lab, show, &["sessions"])?;
    show.check("carol is logged in, under TLS", reply.code == 200 && is_taken_for(lab, 1, "carol")?);
    ctl(lab, show, &["logout", "--all"])?;
    show.say("Somebody guesses:");
    for guess in ["carol", "Carol2026", "password"] {
        show.curl("client2", &by_password(guess)?);
    }
    ctl(lab, show, &["bans"])?;
    let reply = by_password(GOOD)?;
    show.check(
        "after three wrong ones the right one is refused too, with the same answer",
        reply.code == 407,
    );
    ctl(lab, show, &["bans", "lift", "carol"])?;
    show.check("the ban is lifted: she is served", by_password(GOOD)?.code == 200);
    show.end();
    Ok(())
}

fn pages(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("The pages: a form for whoever has neither, and the logout URL");
    ctl(lab, show, &["logout", "--all"])?;
    let browser = Web::new(lab, 1);
    let form = browser.get("/login")?;
    show.curl("client2", &form);
    let reply = browser.post(&form, "/login", &[("name", "bob"), ("password", "bob-pw")])?;
    show.curl("client2", &reply);
    show.check("bob is logged in by the form, as by any other way", is_taken_for(lab, 1, "bob")?);
    show.check("his requests need nothing more", lab.curl(1).get(PAGE)?.code == 200);
    show.say("What a logoff script runs:");
    let url = Web::plain_url("/internal/logout");
    show.command("client2", &format!("wget -q -O - {url}"));
    let host = lab.net.clients.get(1).context("no second client")?;
    show.output(&host.ns.run(&["wget", "-q", "-O", "-", &url])?);
    ctl(lab, show, &["sessions"])?;
    show.check("the session is gone", lab.gateway.session(&lab.address(1))?.is_none());
    show.end();
    Ok(())
}

fn numbers(lab: &mut Lab, show: &mut Show) -> Result<()> {
    show.step("Tuning and numbers");
    ctl(lab, show, &["set", "proxy-auth-timeout", "10m"])?;
    let now = setting(&lab.gateway.ask(&["get", "proxy-auth-timeout"])?, "proxy-auth-timeout");
    show.check("the timeout was changed on the running gateway", now == "10m");
    show.command("gateway", &format!("curl http://127.0.0.1:{}/metrics", lab::gateway::METRICS_PORT));
    let metrics = lab.gateway.metrics()?;
    let values: Vec<&str> =
        metrics.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).collect();
    show.output(&values.join("\n"));
    show.check("numbers that name nobody", {
        values.iter().any(|line| line.starts_with("tracker_"))
            && !metrics.contains("alice")
            && !metrics.contains("carol")
    });
    ctl(lab, show, &["logout", "--all"])?;
    show.check("all logged out", lab.gateway.sessions()?.is_empty());
    show.end();
    Ok(())
}

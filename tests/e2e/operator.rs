//! What an operator does: look, tune, end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::answers::{self, list, same_user, setting};
use lab::wait::until;
use nix::sys::signal::Signal;

use crate::common::{
    ORIGIN, SOON, becomes_stale, has_ended, is_let_through, session, status_without_credentials,
};

#[test]
fn the_views_show_what_there_is() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    assert!(!answers::observer(&lab.gateway.ask(&["status"])?).is_empty());
    assert_eq!(lab.gateway.sessions()?.len(), 2);
    let one = answers::session(&lab.gateway.ask(&["session", &lab.address(0)])?);
    assert!(one.is_of("alice") && one.client == lab.address(0), "{one:?}");
    let users = lab.gateway.ask(&["users"])?;
    let names: Vec<String> = list(&users, "users")
        .iter()
        .map(|user| user["user"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(names.iter().any(|name| same_user(name, "alice")) && names.len() == 2, "{users}");
    let host = lab.gateway.host(&lab.address(0))?.expect("a host");
    assert!(host.received > 100 && host.sent > 100, "payload bytes are counted: {host:?}");
    assert!(!host.closed.is_empty(), "{host:?}");

    for command in ["status", "sessions", "users", "hosts", "events"] {
        let output = lab.gateway.trackerctl().arg(command).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && !text.trim().is_empty(), "{command}: {output:?}");
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{command}: a table for people");
    }
    Ok(())
}

#[test]
fn logout_ends_sessions_at_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    let mut open = lab.raw(0)?;
    open.get(ORIGIN, "")?;
    open.answer()?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    assert!(open.ended_within(SOON)?, "open connections are closed");
    assert_eq!(status_without_credentials(&lab, 0), 407);
    assert!(is_let_through(&lab, 1));
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;

    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.ctl(&["logout", "--user", "bob"])?.exit, 0);
    assert_eq!(lab.gateway.sessions()?.len(), 1);
    assert_eq!(lab.gateway.ctl(&["logout", "--all"])?.exit, 0);
    assert_eq!(lab.gateway.sessions()?, []);
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 1, "there is no such session");
    Ok(())
}

#[test]
fn a_logout_survives_a_crash() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    Ok(())
}

#[test]
fn set_takes_effect_at_once_and_survives_a_restart() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let before = session(&lab, 0)?;
    assert_eq!(lab.gateway.ctl(&["set", "proxy-auth-timeout", "1s"])?.exit, 0);
    let stale = becomes_stale(&lab, 0)?;
    assert_eq!(stale.id, before.id);
    let shown = setting(&lab.gateway.ask(&["get", "proxy-auth-timeout"])?, "proxy-auth-timeout");
    assert_eq!(shown, "1s");
    lab.gateway.restart()?;
    assert_eq!(setting(&lab.gateway.ask(&["get", "proxy-auth-timeout"])?, "proxy-auth-timeout"), "1s");
    // A bare number is minutes, as the vendor has it.
    assert_eq!(lab.gateway.ctl(&["set", "proxy-auth-timeout", "10"])?.exit, 0);
    assert_eq!(setting(&lab.gateway.ask(&["get", "proxy-auth-timeout"])?, "proxy-auth-timeout"), "10m");
    let all = lab.gateway.ask(&["get"])?.to_string();
    assert!(all.contains("proxy-re-authentication-mode") && all.contains("revalidate"), "{all}");
    Ok(())
}

#[test]
fn set_refuses_what_the_vendor_refuses() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for (key, value) in [
        ("proxy-auth-timeout", "0"),
        ("proxy-auth-timeout", "10001"),
        ("proxy-auth-timeout", "soon"),
        ("proxy-re-authentication-mode", "sometimes"),
        ("proxy-auth-lifetime-timeout", "4"),
        ("proxy-auth-lifetime-timeout", "65536"),
        ("no-such-key", "1"),
    ] {
        let answer = lab.gateway.ctl(&["set", key, value])?;
        assert!([1, 64].contains(&answer.exit), "{key} {value}: {answer:?}");
        assert!(answer.stderr.contains(key) || answer.stdout.contains(key), "it names the key: {answer:?}");
    }
    assert_eq!(lab.gateway.ctl(&["set", "proxy-auth-lifetime-timeout", "3s"])?.exit, 0, "a unit of seconds");
    Ok(())
}

/// Programs that follow the events stay for as long as they like: all places of operators must not be theirs.
#[test]
fn whoever_follows_the_events_leaves_room_for_orders() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut followers = Vec::new();
    for _ in 0..40 {
        let mut follower = UnixStream::connect(lab.gateway.socket())?;
        follower.write_all(b"GET /v1/events?follow=1 HTTP/1.1\r\nhost: trackerd\r\n\r\n")?;
        // Begun before the next one comes, or refused.
        let mut answer = [0; 512];
        follower.set_read_timeout(Some(SOON))?;
        let read = follower.read(&mut answer)?;
        let answer = String::from_utf8_lossy(answer.get(..read).unwrap_or_default()).into_owned();
        if answer.starts_with("HTTP/1.1 503") {
            break;
        }
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        followers.push(follower);
    }
    assert!(followers.len() >= 8, "{}", followers.len());
    assert_eq!(lab.gateway.ctl(&["logout", "--all"])?.exit, 0);
    let one_more = lab.gateway.ctl(&["events", "--follow"])?;
    assert!(one_more.exit == 1 && one_more.stderr.contains("follow the events already"), "{one_more:?}");
    // A place is free as soon as somebody leaves, also while nothing happens.
    drop(followers);
    until("a place", SOON, || {
        let mut follower = UnixStream::connect(lab.gateway.socket()).ok()?;
        follower.write_all(b"GET /v1/events?follow=1 HTTP/1.1\r\nhost: trackerd\r\n\r\n").ok()?;
        let mut answer = [0; 12];
        follower.read_exact(&mut answer).ok()?;
        (&answer == b"HTTP/1.1 200").then_some(())
    })
}

/// Programs that were stopped in the middle of a request, or of reading an answer, do not keep the operator out for good.
#[test]
fn whoever_does_not_go_on_leaves_room_for_others() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let head = "HTTP/1.1\r\nhost: trackerd\r\n";
    let half_a_body = format!("POST /v1/logout {head}content-length: 100\r\n\r\n{{");
    // More than the socket's buffers take.
    let unread = format!("GET /v1/settings {head}\r\n").repeat(200);
    for request in [half_a_body, unread] {
        let mut held = Vec::new();
        for _ in 0..28 {
            let mut one = UnixStream::connect(lab.gateway.socket())?;
            one.set_nonblocking(true)?;
            // What has no place yet is in the buffers, too.
            let _ = one.write(request.as_bytes());
            held.push(one);
        }
        until("a place", SOON * 6, || (lab.gateway.ctl(&["status"]).ok()?.exit == 0).then_some(()))?;
        drop(held);
    }
    Ok(())
}

#[test]
fn exit_codes_are_the_contracts() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    assert_eq!(lab.gateway.ctl(&["status"])?.exit, 0);
    assert_eq!(lab.gateway.ctl(&["session", "10.77.0.200"])?.exit, 1);
    assert_eq!(lab.gateway.ctl(&["session", "not an address"])?.exit, 64);
    assert_eq!(lab.gateway.ctl(&["no-such-command"])?.exit, 64);
    assert_eq!(lab.gateway.ctl(&["logout"])?.exit, 64, "logout of whom?");
    lab.gateway.stop()?;
    let answer = lab.gateway.ctl(&["status"])?;
    assert_eq!(answer.exit, 69, "{answer:?}");
    assert!(answer.stderr.contains("admin.sock"), "it says where it looked: {answer:?}");
    Ok(())
}

#[test]
fn the_admin_socket_is_not_for_everyone() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let socket = std::fs::metadata(lab.gateway.socket())?;
    assert_eq!(socket.mode() & 0o777, 0o660, "{:o}", socket.mode());
    Ok(())
}

/// As what cleans up in /run does.
#[test]
fn a_removed_admin_socket_is_made_anew() -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    std::fs::remove_file(lab.gateway.socket())?;
    until("the socket", SOON, || (lab.gateway.ctl(&["status"]).ok()?.exit == 0).then_some(()))?;
    let socket = std::fs::metadata(lab.gateway.socket())?;
    assert_eq!(socket.mode() & 0o777, 0o660, "{:o}", socket.mode());
    lab.login(0, "alice")
}

#[test]
fn the_audit_trail_tells_the_story() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    lab.login(0, "bob")?;
    lab.gateway.ctl(&["logout", &lab.address(0)])?;
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;
    let events = lab.gateway.events()?;
    let place = |user: &str, reason: &str| {
        events.iter().position(|event| same_user(&event.user, user) && event.reason == reason)
    };
    let (kicked, admin) = (place("alice", "kicked"), place("bob", "admin"));
    let login = events.iter().position(|event| same_user(&event.user, "alice"));
    assert!(login.is_some() && login < kicked && kicked < admin, "{events:#?}");
    Ok(())
}

#[test]
fn the_access_log_has_a_line_for_every_request() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let line = || {
        let log = lab.gateway.log();
        let found = log.lines().any(|line| {
            ["10.77.0.11", "alice", "GET", "origin.example.test", "200"]
                .iter()
                .all(|word| line.contains(word))
        });
        found.then_some(())
    };
    until("an access log line with client, user, method, destination and status", SOON, line)
}

#[test]
fn the_file_is_reread_on_save_and_on_sighup() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"7m\"\n")?;
    let timeout = |lab: &Lab| -> Option<String> {
        Some(setting(&lab.gateway.ask(&["get", "proxy-auth-timeout"]).ok()?, "proxy-auth-timeout"))
    };
    assert_eq!(timeout(&lab).as_deref(), Some("7m"));
    lab.gateway.configure("[timeouts]\nproxy-auth-timeout = \"8m\"\n")?;
    until("the saved file to be read", SOON, || (timeout(&lab).as_deref() == Some("8m")).then_some(()))?;

    let good = std::fs::read_to_string(lab.gateway.config())?;
    lab.gateway.write("[timeouts]\nproxy-auth-timeout = \"9999999m\"\nno-such-key = 1\n")?;
    let refused = || {
        let log = lab.gateway.log();
        (log.contains("proxy-auth-timeout") && log.contains("no-such-key")).then_some(())
    };
    until("a log line that names both problems", SOON, refused)?;
    assert_eq!(timeout(&lab).as_deref(), Some("8m"), "the running settings stay");

    // In place, as `cat >` writes, and a signal.
    std::fs::write(lab.gateway.config(), good.replace("8m", "6m"))?;
    lab.gateway.signal(Signal::SIGHUP)?;
    until("the file to be read", SOON, || (timeout(&lab).as_deref() == Some("6m")).then_some(()))?;
    lab.login(0, "alice")
}

#[test]
fn follow_shows_events_as_they_happen() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let file = lab.scratch.join("followed");
    let mut command = lab.gateway.trackerctl();
    command.args(["--json", "events", "--follow"]).stdout(std::fs::File::create(&file)?);
    let _follower = lab.scratch.spawn(&mut command)?;
    // It may start late: log in anew until it is seen.
    until("an event", SOON * 2, || {
        lab.login(0, "alice").ok()?;
        lab.gateway.ctl(&["logout", "--all"]).ok()?;
        lab::wait::silence(Duration::from_millis(200));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().any(|line| line.contains("alice") && line.starts_with('{')).then_some(())
    })
}

#[test]
fn helpers_for_the_shell_are_there() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.gateway.stop()?;
    for words in [&["completions", "bash"][..], &["man"], &["--help"], &["--version"]] {
        let output = lab.gateway.trackerctl().args(words).output()?;
        assert!(output.status.success() && !output.stdout.is_empty(), "{words:?}: {output:?}");
    }
    for shell in ["bash", "zsh", "fish"] {
        // Whoever reads has gone before the first word.
        let (read, write) = std::io::pipe()?;
        drop(read);
        let output = lab.gateway.trackerctl().args(["completions", shell]).stdout(write).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{shell}: {said}");
    }
    Ok(())
}

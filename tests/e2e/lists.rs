//! `trackerctl` for those with many rows: filtered, sorted, cut, again and again; and what shells are offered.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use lab::Lab;
use serde_json::Value;

use crate::common::{ORIGIN, url};

fn json(lab: &Lab, arguments: &[&str]) -> Result<Vec<Value>> {
    let said = lab.gateway.ask(arguments)?;
    Ok(said.as_array().context("a list")?.clone())
}

fn of(rows: &[Value], field: &str) -> Vec<String> {
    rows.iter().map(|row| row[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn started() -> Result<Lab> {
    let lab = Lab::start_with(3, "")?;
    for (client, user) in [(0, "alice"), (1, "bob"), (2, "carol")] {
        lab.login(client, user)?;
    }
    // The second client moves most.
    for _ in 0..3 {
        assert_eq!(lab.curl(1).get(ORIGIN)?.code, 200);
    }
    Ok(lab)
}

#[test]
fn sessions_hosts_users_and_history_are_filtered_sorted_and_cut() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = started()?;
    let addresses: Vec<String> = (0..3).map(|client| lab.address(client)).collect();
    assert_eq!(of(&json(&lab, &["sessions", "--sort", "client"])?, "client"), addresses);
    let reversed: Vec<String> = addresses.iter().rev().cloned().collect();
    assert_eq!(of(&json(&lab, &["sessions", "--sort=-client"])?, "client"), reversed);
    assert_eq!(of(&json(&lab, &["sessions", "--filter", "BOB"])?, "user"), ["bob"]);
    assert_eq!(of(&json(&lab, &["sessions", "-f", "user~bob", "-f", "open>999"])?, "user"), [""; 0]);
    assert_eq!(of(&json(&lab, &["hosts", "--sort=-sent", "--limit", "1"])?, "client"), [&*addresses[1]]);
    assert_eq!(
        of(&json(&lab, &["users", "-f", "devices=1", "-s", "-user", "-n", "2"])?, "user"),
        ["carol", "bob"]
    );
    let cut = json(&lab, &["sessions", "--columns", "user,open", "--sort", "user", "--limit", "1"])?;
    let cut = cut[0].as_object().context("an object")?;
    assert_eq!(cut.keys().collect::<Vec<_>>(), ["open", "user"]);
    assert!(
        cut["open"].is_number() && cut["user"].as_str().is_some_and(|user| user.starts_with("alice")),
        "{cut:?}"
    );
    assert_eq!(of(&json(&lab, &["history", "--filter", "carol"])?, "user"), ["carol"]);
    let kinds = json(&lab, &["events", "--kind", "login", "--limit", "2"])?;
    assert_eq!(of(&kinds, "event"), ["login", "login"]);
    assert_eq!(
        of(
            &json(&lab, &["events", "--user", "alice", "--client", &addresses[0], "--kind", "login"])?,
            "user"
        ),
        ["alice"]
    );
    assert!(json(&lab, &["events", "--user", "alice", "--client", &addresses[1]])?.is_empty());

    let shown = lab.gateway.shown(&["sessions", "--sort", "user", "--limit", "2"])?;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("CLIENT") && lines[1].contains("alice") && lines[2].contains("bob"),
        "{shown}"
    );
    assert!(lines[3].starts_with("1 more"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours where there is no terminal: {shown}");
    let painted = lab.gateway.shown(&["--color", "always", "sessions"])?;
    assert!(painted.contains("\u{1b}[32mactive\u{1b}[0m"), "{painted}");

    for wrong in
        [&["sessions", "--sort", "size"][..], &["hosts", "--filter", "size>3"], &["users", "--columns", "x"]]
    {
        let answer = lab.gateway.ctl(wrong)?;
        assert!(answer.exit == 64 && answer.stderr.contains("there is no column"), "{wrong:?}: {answer:?}");
    }
    Ok(())
}

#[test]
fn a_list_is_watched_and_top_shows_what_moves() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = started()?;
    let mut command = lab.gateway.trackerctl();
    command.args(["--json", "sessions", "--watch", "1"]).stdout(Stdio::piped());
    let mut child = lab.scratch.spawn(&mut command)?;
    let stdout = child.child().and_then(|child| child.stdout.take()).context("a pipe")?;
    let mut lines = BufReader::new(stdout).lines();
    for _ in 0..2 {
        let rows: Value = serde_json::from_str(&lines.next().context("a document a line")??)?;
        assert_eq!(rows.as_array().map(Vec::len), Some(3));
    }
    drop(child);

    assert_eq!(lab.curl(0).get(&url("/"))?.code, 200);
    let top = lab.gateway.ask(&["top"])?;
    assert_eq!(top["status"]["sessions"]["active"], 3);
    assert_eq!(top["hosts"].as_array().map(Vec::len), Some(3));
    let shown = lab.gateway.shown(&["top", "--filter", "alice"])?;
    assert!(shown.contains("sessions 3 active, 0 stale") && shown.contains("1 of 3"), "{shown}");
    Ok(())
}

#[test]
fn a_configuration_is_checked_without_a_daemon() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.gateway.stop()?;
    let good = lab.gateway.config().display().to_string();
    let answer = lab.gateway.ctl(&["check", &good])?;
    assert!(answer.exit == 0 && answer.json["problems"].as_array().is_some_and(Vec::is_empty), "{answer:?}");
    let bad = lab
        .scratch
        .write("bad.toml", "[timeouts]\nproxy-auth-timeout = \"0s\"\n[proxy]\nlisten = [\"x\"]\n")?;
    let answer = lab.gateway.ctl(&["check", &bad.display().to_string()])?;
    let told = answer.json["problems"].to_string();
    assert!(
        answer.exit == 64 && told.contains("proxy-auth-timeout") && told.contains("proxy.listen"),
        "{answer:?}"
    );
    Ok(())
}

/// What the shell is offered for the last of these words.
fn offered(lab: &Lab, words: &[&str]) -> Result<Vec<String>> {
    let mut command = lab.gateway.trackerctl();
    let place = (words.len()).to_string();
    command.env("COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", place);
    command.env("_CLAP_COMPLETE_COMP_TYPE", "9").env("TRACKER_SOCKET", lab.gateway.socket());
    let output = command.arg("--").arg("trackerctl").args(words).output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn a_shell_is_offered_keys_values_users_and_clients() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = started()?;
    let has = |words: &[&str], wanted: &str| -> Result<()> {
        let all = offered(&lab, words)?;
        assert!(all.iter().any(|one| one == wanted), "{words:?}: {all:?}");
        Ok(())
    };
    has(&["sess"], "sessions")?;
    has(&["set", "timeouts.proxy-re"], "timeouts.proxy-re-authentication-mode")?;
    has(&["set", "proxy-re-authentication-mode", ""], "traffic")?;
    has(&["logout", ""], &lab.address(1))?;
    let users = offered(&lab, &["logout", "--user", ""])?;
    assert!(users.iter().any(|user| user.starts_with("carol")), "{users:?}");
    Ok(())
}

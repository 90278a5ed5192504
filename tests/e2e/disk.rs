//! The disk under the store: full, read-only, damaged. A clear error, nobody back who had ended, no logout lost.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lab::answers::{Event, list};
use lab::wait::until;
use lab::{Lab, gateway};

use crate::common::{ORIGIN, SOON, is_for_people, is_let_through, session, status_without_credentials};

/// How long it may take until a disk is found to have room again.
const RECOVERY: Duration = Duration::from_secs(15);

/// A lab whose state directory is a small disk of its own, in the gateway's namespace. The gateway is not started yet.
fn lab_on_a_small_disk(clients: usize) -> Result<Lab> {
    let lab = Lab::prepare(clients, &gateway::bin_dir()?)?;
    let state = state(&lab);
    lab.net.gateway.run(&["mount", "-t", "tmpfs", "-o", "size=6m", "tracker-state", &state])?;
    Ok(lab)
}

/// Alice and bob are logged in, and the disk has become full since: the page that refuses carol is given too.
fn lab_on_a_full_disk() -> Result<(Lab, String)> {
    let mut lab = lab_on_a_small_disk(3)?;
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    fill(&lab)?;
    let page = until_refused(&lab, 2)?;
    Ok((lab, page))
}

fn state(lab: &Lab) -> String {
    lab.scratch.join("state").display().to_string()
}

fn fill(lab: &Lab) -> Result<()> {
    let script = format!("cat /dev/zero > '{}/filler' 2>/dev/null || true", state(lab));
    lab.net.gateway.run(&["sh", "-c", &script]).map(drop)
}

fn make_room(lab: &Lab) -> Result<()> {
    lab.net.gateway.run(&["rm", &format!("{}/filler", state(lab))]).map(drop)
}

/// Logs carol in and out again until the disk takes no more: the database has some room of its own.
fn until_refused(lab: &Lab, client: usize) -> Result<String> {
    until("the full disk to be noticed", SOON * 6, || {
        let reply = lab.curl_as(client, "carol").ok()?.get(ORIGIN).ok()?;
        if reply.code == 503 {
            return Some(reply.text());
        }
        assert_eq!(reply.code, 200, "{reply:?}");
        lab.gateway.ctl(&["logout", &lab.address(client)]).ok()?;
        None
    })
}

#[test]
fn a_full_disk_logs_nobody_in_and_brings_nobody_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, page) = lab_on_a_full_disk()?;
    assert!(page.contains("cannot be logged in") && !page.contains("make room"), "for people: {page}");
    is_for_people(&lab, &page)?;
    let told = |event: &Event| {
        event.text.contains(r#""cause":"not-kept""#)
            && event.reason.contains("make room")
            && event.reason.contains("state-dir")
    };
    assert!(lab.gateway.events()?.iter().any(told), "for operators: {:#?}", lab.gateway.events());
    assert!(is_let_through(&lab, 0) && is_let_through(&lab, 1), "who is logged in stays so");
    let status = lab.gateway.ask(&["status"])?;
    assert!(status["warnings"].to_string().contains("make room"), "{status:#}");
    assert!(status["store"]["problem"].is_string(), "{status:#}");
    assert!(status["store"]["waiting"].as_u64() > Some(0), "{status:#}");
    let known = list(&lab.gateway.ask(&["history"])?, "history").len();
    assert!(known >= 2, "the past can still be read");

    // The logout is answered, and said to be known to the mark only.
    let answer = lab.gateway.ctl(&["logout", &lab.address(0)])?;
    assert_eq!(answer.exit, 0, "{answer:?}");
    let warning = answer.json["warning"].as_str().unwrap_or_default().to_owned();
    assert!(warning.contains("a restart now would log everybody out"), "{answer:?}");
    assert_eq!(status_without_credentials(&lab, 0), 407);

    // Killed and started with the disk still full: it runs, and alice is not back.
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(status_without_credentials(&lab, 0), 407, "{}", lab.gateway.log());
    assert_eq!(lab.curl_as(1, "bob")?.get(ORIGIN)?.code, 503, "{}", lab.gateway.log());
    assert!(lab.gateway.ask(&["status"])?["warnings"].to_string().contains("make room"));

    make_room(&lab)?;
    until("logins to work again", RECOVERY, || lab.login(1, "bob").ok())?;
    let bob = session(&lab, 1)?;
    assert!(!lab.gateway.ask(&["status"])?["warnings"].to_string().contains("make room"));
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(session(&lab, 1)?.id, bob.id, "and what is kept now comes back");
    assert_eq!(status_without_credentials(&lab, 0), 407);
    assert!(!lab.gateway.log().contains("panicked"));
    Ok(())
}

#[test]
fn a_disk_that_was_full_for_a_while_costs_nobody_their_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, _) = lab_on_a_full_disk()?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    make_room(&lab)?;
    until("logins to work again", RECOVERY, || lab.login(2, "carol").ok())?;
    let tenures = lab.gateway.ask(&["history", "--client", &lab.address(0)])?;
    assert_eq!(list(&tenures, "history")[0]["reason"], "admin", "what ended meanwhile is kept: {tenures:#}");
    // What was refused never happened.
    let refused = lab.gateway.ask(&["history", "--client", &lab.address(2)])?;
    let running = list(&refused, "history").iter().filter(|row| row["until"].is_null()).count();
    assert_eq!(running, 1, "{refused:#}");
    lab.gateway.kill();
    lab.gateway.start()?;
    assert!(is_let_through(&lab, 1) && is_let_through(&lab, 2), "the mark was lifted: {}", lab.gateway.log());
    assert_eq!(status_without_credentials(&lab, 0), 407);
    Ok(())
}

#[test]
fn a_read_only_state_directory_is_refused_with_the_remedy() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = lab_on_a_small_disk(1)?;
    // Once without anything in it, once with a database.
    for _ in 0..2 {
        lab.net.gateway.run(&["mount", "-o", "remount,ro", &state(&lab)])?;
        lab.gateway.start_unready()?;
        assert_eq!(lab.gateway.wait()?.code(), Some(1), "{}", lab.gateway.log());
        let log = lab.gateway.log();
        assert!(log.contains(&state(&lab)) && log.contains("make it writable"), "{log}");
        lab.net.gateway.run(&["mount", "-o", "remount,rw", &state(&lab)])?;
        lab.gateway.start()?;
        lab.gateway.stop()?;
    }
    Ok(())
}

#[test]
fn a_file_torn_by_a_crash_is_refused_or_brings_nobody_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let address = lab.address(0);
    for _ in 0..3 {
        lab.login(0, "alice")?;
        lab.login(1, "bob")?;
        assert_eq!(lab.gateway.ctl(&["logout", &address])?.exit, 0);
    }
    lab.gateway.kill();
    let state = lab.scratch.join("state");
    let files: Vec<(PathBuf, Vec<u8>)> = std::fs::read_dir(&state)?
        .map(|entry| entry.map(|entry| entry.path()))
        .map(|path| path.and_then(|path| Ok((path.clone(), std::fs::read(path)?))))
        .collect::<Result<_, _>>()?;
    let database = files.iter().find(|(path, _)| path.extension().is_some_and(|end| end == "redb"));
    let (path, whole) = database.expect("a database").clone();
    let (mut served, mut refused) = (0, 0);
    for round in 0..30_usize {
        for (path, content) in &files {
            std::fs::write(path, content)?;
        }
        let mut torn = whole.clone();
        let at = whole.len() * (round * 7 % 30) / 30 + round * 131;
        match round % 3 {
            0 => torn.truncate(at),
            1 => torn[at..(at + 5_000).min(whole.len())].fill(0),
            // The header and the pages behind it are where the last commit is.
            _ => torn[round * 97..round * 97 + 8].fill(0xa5),
        }
        std::fs::write(&path, &torn)?;
        lab.gateway.start_unready()?;
        let ready = until("ready or ended", SOON * 2, || match lab.gateway.http("/ready") {
            Ok((200, _)) => Some(true),
            _ => (!std::path::Path::new(&format!("/proc/{}", lab.gateway.pid())).exists()
                || is_zombie(lab.gateway.pid()))
            .then_some(false),
        })?;
        if ready {
            served += 1;
            assert_eq!(status_without_credentials(&lab, 0), 407, "round {round}: {}", lab.gateway.log());
            lab.login(0, "alice")?;
            lab.gateway.kill();
        } else {
            refused += 1;
            assert_eq!(lab.gateway.wait()?.code(), Some(1), "round {round}: {}", lab.gateway.log());
            assert!(std::fs::read(&path)? == torn, "round {round}: the file was touched");
        }
    }
    let log = lab.gateway.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.contains("restore it from a backup, or move it away"), "{log}");
    assert!(served > 0 && refused > 0, "{served} {refused}");
    Ok(())
}

/// Ended, but not waited for yet.
fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

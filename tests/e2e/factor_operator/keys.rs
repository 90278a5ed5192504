//! Another key, and a key that is not the right one.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::list;
use lab::web::Web;

use super::{gets_in, settings};
use crate::factor_codes::{give, password, set_up};

const KEY: &str = "second-factor.key";
const PREVIOUS: &str = "second-factor.key.previous";

#[test]
fn the_key_is_changed_while_it_is_used_and_a_crash_at_any_point_loses_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, &settings())?;
    let state = lab.scratch.join("state");
    let key = || Ok::<_, anyhow::Error>(fs::read_to_string(state.join(KEY))?);
    let (_, alice, _) = set_up(&lab, 0, "alice")?;
    let (_, bob, _) = set_up(&lab, 0, "bob")?;
    let first = key()?;
    let rotated = lab.gateway.ask(&["second-factor", "rotate-key"])?;
    assert!(rotated["before"] != rotated["after"] && rotated["unreadable"] == 0, "{rotated}");
    assert!(key()? != first && !state.join(PREVIOUS).exists());
    assert!(gets_in(&lab, 0, "alice", &alice)?, "rows in memory are read");
    let settings = lab.gateway.ask(&["events", "--kind", "setting"])?;
    let told = list(&settings, "events").into_iter().any(|event| event["reason"] == "rotated");
    assert!(told, "{settings}");

    for round in 0..6 {
        let mut order = lab.gateway.trackerctl();
        order.args(["second-factor", "rotate-key"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut order = order.spawn()?;
        thread::sleep(Duration::from_millis(4 + 3 * round));
        lab.gateway.kill();
        order.wait()?;
        lab.gateway.start()?;
        assert!(!state.join(PREVIOUS).exists(), "round {round}: a start brings it to its end");
        assert_eq!(lab.gateway.metric("tracker_second_factor_users_unreadable")?, Some(0.0), "round {round}");
    }
    assert!(gets_in(&lab, 0, "bob", &bob)?);

    // As a crash leaves it between the new key and the rows: what is on disk is under the old one.
    lab.gateway.kill();
    let old = key()?;
    fs::rename(state.join(KEY), state.join(PREVIOUS))?;
    fs::write(state.join(KEY), format!("{}\n", "5a".repeat(32)))?;
    lab.gateway.start()?;
    assert!(!state.join(PREVIOUS).exists());
    assert!(gets_in(&lab, 0, "alice", &alice)?);
    lab.gateway.restart()?;
    assert!(gets_in(&lab, 0, "bob", &bob)?, "all rows are under the new one");
    lab.gateway.stop()?;
    fs::write(state.join(KEY), old)?;
    lab.gateway.start()?;
    assert_eq!(lab.gateway.metric("tracker_second_factor_users_unreadable")?, Some(2.0));
    Ok(())
}

#[test]
fn without_its_key_nobody_gets_in_and_nothing_is_lost() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, &settings())?;
    let path = lab.scratch.join("state").join(KEY);
    let (_, alice, _) = set_up(&lab, 0, "alice")?;
    lab.gateway.stop()?;
    let right = fs::read_to_string(&path)?;
    fs::write(&path, format!("{}\n", "00".repeat(32)))?;
    lab.gateway.start()?;
    let status = lab.gateway.ask(&["status"])?;
    let warnings = status["warnings"].as_array().context("warnings")?;
    assert!(warnings.iter().any(|one| one.to_string().contains("second-factor.key")), "{warnings:?}");
    let web = Web::new(&lab, 0);
    let page = password(&web, "alice")?;
    let refused = give(&web, &page, &alice.code()?)?;
    assert!(
        refused.code >= 400 && refused.text().contains("cannot check"),
        "{refused:?}\n{}",
        refused.text()
    );
    let shown = lab.gateway.shown(&["second-factor", "show"])?;
    assert!(shown.contains("unreadable") && shown.contains("alice"), "{shown}");
    lab.gateway.stop()?;
    fs::write(&path, &right)?;
    lab.gateway.start()?;
    assert!(gets_in(&lab, 0, "alice", &alice)?);
    // What is no key is no reason to make another one.
    lab.gateway.stop()?;
    fs::write(&path, "nonsense")?;
    assert!(lab.gateway.start().is_err());
    lab.gateway.kill();
    assert_eq!(fs::read_to_string(&path)?, "nonsense");
    fs::write(&path, &right)?;
    lab.gateway.start()?;
    // And with the wrong one, a reset is the way out.
    lab.gateway.stop()?;
    fs::write(&path, format!("{}\n", "00".repeat(32)))?;
    lab.gateway.start()?;
    lab.gateway.ask(&["second-factor", "reset", "alice"])?;
    assert!(!super::is_asked(&lab, 0, "alice")?);
    Ok(())
}

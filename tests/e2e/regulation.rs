//! Wrong passwords: who is banned, and what an operator sees and does of it.

use anyhow::Result;
use lab::Lab;
use lab::answers::{list, setting};
use serde_json::{Value, json};

#[test]
fn where_nobody_is_banned_there_is_nothing_to_show_or_lift() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.ask(&["bans"])?, json!([]));
    assert_eq!(lab.gateway.shown(&["bans"])?.trim(), "nobody is banned");
    for of in [lab.address(0).as_str(), "alice", "EXAMPLE.TEST\\alice", "2001:db8::/64", "no such name"] {
        let answer = lab.gateway.ctl(&["bans", "lift", of])?;
        assert_eq!(answer.exit, 1, "{of}: {answer:?}");
        assert!(answer.stderr.contains("no ban names"), "{answer:?}");
    }
    assert_eq!(lab.gateway.ctl(&["bans", "lift"])?.exit, 64);
    assert_eq!(lab.gateway.ask(&["status"])?["bans"], 0);
    for metric in ["tracker_regulation_bans_active", "tracker_regulation_bans_total"] {
        assert_eq!(lab.gateway.metric(metric)?, Some(0.0), "{metric}");
    }
    assert_eq!(lab.gateway.metric("tracker_regulation_refused_total")?, Some(0.0));
    Ok(())
}

#[test]
fn regulation_is_tuned_live_and_warned_of_where_it_does_not_protect_the_directory() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[regulation]\nban-time = \"90s\"\n")?;
    let warned =
        |status: &Value| list(status, "warnings").iter().any(|one| one.to_string().contains("regulation."));
    assert!(!warned(&lab.gateway.ask(&["status"])?));
    for (key, value) in [("max-retries", "4"), ("find-time", "45m")] {
        assert_eq!(lab.gateway.ctl(&["set", &format!("regulation.{key}"), value])?.exit, 0, "{key}");
    }
    assert!(warned(&lab.gateway.ask(&["status"])?), "5 wrong passwords would reach the directory");
    for (key, value) in [("max-retries", "101"), ("find-time", "0"), ("ban-time", "25h")] {
        assert_eq!(lab.gateway.ctl(&["set", &format!("regulation.{key}"), value])?.exit, 64, "{key} {value}");
    }
    lab.gateway.restart()?;
    for (key, value) in [("max-retries", "4"), ("find-time", "45m"), ("ban-time", "90s")] {
        let shown =
            setting(&lab.gateway.ask(&["get", &format!("regulation.{key}")])?, &format!("regulation.{key}"));
        assert_eq!(shown, value, "{key}");
    }
    assert_eq!(lab.gateway.ctl(&["unset", "regulation.max-retries"])?.exit, 0);
    assert!(!warned(&lab.gateway.ask(&["status"])?));
    Ok(())
}

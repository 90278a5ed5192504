//! Where a setting's value comes from: the defaults, the file, what an operator has set; the newest word counts.

use anyhow::Result;
use lab::Lab;
use lab::wait::until;
use serde_json::Value;

use crate::common::SOON;

const KEY: &str = "proxy-auth-timeout";

fn get(lab: &Lab) -> Result<Value> {
    lab.gateway.ask(&["get", KEY])
}

/// Waits until the value in force is this one, from there.
fn is(lab: &Lab, value: &str, source: &str) -> Result<Value> {
    let found = || get(lab).ok().filter(|found| found["value"] == value && found["source"] == source);
    until(&format!("{KEY} to be {value} from {source}"), SOON, found)
}

/// Writes the timeout into the file, or leaves it out.
fn write(lab: &mut Lab, timeout: Option<&str>) -> Result<()> {
    let text = std::fs::read_to_string(lab.gateway.config())?;
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("proxy-auth-timeout")).collect();
    let line = timeout.map(|timeout| format!("proxy-auth-timeout = \"{timeout}\"\n")).unwrap_or_default();
    lab.gateway.write(&without.join("\n").replace("[timeouts]\n", &format!("[timeouts]\n{line}")))
}

#[test]
fn the_newest_word_counts_and_the_default_is_a_word_when_it_is_written() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\ntraffic-direction = \"both\"\n")?;
    let silent = is(&lab, "10m", "default")?;
    assert!(silent["file"].is_null() && silent["set_by"].is_null() && silent["default"] == "10m", "{silent}");
    // What the file states is the file's, and be it the default.
    let stated = lab.gateway.ask(&["get", "traffic-direction"])?;
    assert_eq!((&stated["source"], &stated["file"]), (&"file".into(), &"both".into()), "{stated}");

    lab.gateway.ctl(&["set", KEY, "5"])?;
    let set = is(&lab, "5m", "set")?;
    assert_eq!((&set["set_by"]["user"], &set["file"]), (&"root".into(), &Value::Null), "{set}");
    assert!(set["set_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{set}");
    write(&mut lab, Some("10m"))?;
    is(&lab, "10m", "file")?;

    // Set again, it stands over what the file said before, also after a restart, and when its line goes.
    lab.gateway.ctl(&["set", KEY, "6"])?;
    lab.gateway.restart()?;
    let set = is(&lab, "6m", "set")?;
    assert_eq!(set["file"], "10m", "what stands underneath: {set}");
    let shown = lab.gateway.shown(&["get"])?;
    let line = shown.lines().find(|line| line.contains("timeouts.proxy-auth-timeout ")).unwrap_or_default();
    assert!(line.contains("6m") && line.contains("by root; the file says 10m"), "{shown}");
    write(&mut lab, None)?;
    until("the line to be gone", SOON, || get(&lab).ok().filter(|found| found["file"].is_null()))?;
    is(&lab, "6m", "set")?;
    // Written again, while the daemon is down, it is a new word.
    lab.gateway.stop()?;
    write(&mut lab, Some("10m"))?;
    lab.gateway.start()?;
    is(&lab, "10m", "file").map(drop)
}

#[test]
fn unset_gives_the_word_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"7m\"\n")?;
    let nothing = lab.gateway.ctl(&["unset", KEY])?;
    assert_eq!(nothing.exit, 1, "{nothing:?}");
    assert!(
        nothing.stderr.contains("was not set") && nothing.stderr.contains("configuration file"),
        "{nothing:?}"
    );
    for value in ["5m", "6m"] {
        lab.gateway.ctl(&["set", KEY, value])?;
        is(&lab, value, "set")?;
    }
    let unset = lab.gateway.ctl(&["unset", KEY])?;
    assert_eq!((unset.exit, &unset.json["value"], &unset.json["source"]), (0, &"7m".into(), &"file".into()));
    is(&lab, "7m", "file")?;
    lab.gateway.restart()?;
    is(&lab, "7m", "file")?;
    assert_eq!(lab.gateway.ctl(&["unset", "no-such-key"])?.exit, 64);
    // Where the file says nothing, the default is left.
    lab.gateway.ctl(&["set", "max-users", "9"])?;
    let unset = lab.gateway.ctl(&["unset", "max-users"])?;
    assert_eq!((&unset.json["value"], &unset.json["source"]), (&"0".into(), &"default".into()), "{unset:?}");
    Ok(())
}

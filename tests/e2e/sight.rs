//! The watchdog of the source: what if the kernel side does not see any more?

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::until;

use crate::common::{
    SOON, becomes_stale, has_open, is_let_through, mode, session, status_without_credentials,
};

fn tunnel(lab: &Lab, client: usize, user: &str) -> Result<Raw> {
    let mut raw = lab.raw(client)?;
    let credentials = lab.credentials(client, user)?;
    let head = raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), &credentials)?;
    assert_eq!(head.code, 200, "{head:?}");
    Ok(raw)
}

fn works(raw: &mut Raw) -> Result<()> {
    raw.send("ping")?;
    assert_eq!(raw.exactly(4)?, b"ping");
    Ok(())
}

#[test]
fn programs_that_somebody_detached_are_attached_again() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[observer]\nmode = \"ebpf\"\n")?;
    let mut alices = tunnel(&lab, 0, "alice")?;
    has_open(&lab, 0, 1)?;
    assert_eq!(lab.gateway.metric("tracker_observer_blind")?, Some(0.0));
    let pinned = fs::read_dir(lab.scratch.pin_dir())?.flatten().map(|entry| entry.path());
    let abi = pinned.into_iter().find(|path| path.is_dir()).context("nothing is pinned")?;
    let detached =
        Command::new("bpftool").args(["link", "detach", "pinned"]).arg(abi.join("link-watch")).status()?;
    assert!(detached.success());

    until("the programs to be attached again", SOON * 2, || {
        lab.gateway.log().contains("the observer sees again").then_some(())
    })?;
    let log = lab.gateway.log();
    let alarms = log.lines().filter(|line| line.contains("the observer is blind")).count();
    assert_eq!(alarms, 1, "{log}");
    until("the metric to say so", SOON, || {
        (lab.gateway.metric("tracker_observer_blind").ok()? == Some(0.0)).then_some(())
    })?;
    // Nobody was thrown out for that moment, and everything is counted once.
    assert!(is_let_through(&lab, 0));
    works(&mut alices)?;
    has_open(&lab, 0, 1)?;
    let more = lab.raw(0)?;
    has_open(&lab, 0, 2)?;
    drop((more, alices));
    has_open(&lab, 0, 0)
}

/// A cgroup without processes.
struct Cgroup(PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

fn empty_cgroup(lab: &Lab) -> Result<Cgroup> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let root = mounts.lines().find_map(|line| {
        line.split(' ').nth(2).filter(|kind| *kind == "cgroup2").and(line.split(' ').nth(1))
    });
    let path = PathBuf::from(root.context("no cgroup v2")?).join(lab.scratch.name());
    fs::create_dir(&path)?;
    Ok(Cgroup(path))
}

#[test]
fn a_daemon_that_cannot_see_itself_serves_nobody_beyond_the_timeout() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let cgroup = empty_cgroup(&lab)?;
    let observer = format!("[observer]\nmode = \"ebpf\"\ncgroup = \"{}\"\n", cgroup.0.display());
    lab.gateway.configure(&(mode("session") + &observer))?;
    lab.gateway.start()?;
    let status = lab.gateway.ask(&["status"])?;
    assert!(status["observer"]["blind"].as_str().is_some_and(|why| why.contains("cgroup")), "{status}");
    assert!(status["warnings"].to_string().contains("the observer is blind"), "{status}");
    until("the metric to say so", SOON, || {
        (lab.gateway.metric("tracker_observer_blind").ok()? == Some(1.0)).then_some(())
    })?;

    // Logins go on; but that the connection stays open is something that nobody sees.
    let mut alices = tunnel(&lab, 0, "alice")?;
    assert!(is_let_through(&lab, 0));
    assert!(session(&lab, 0)?.expires.is_some());
    let before = becomes_stale(&lab, 0)?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    lab.login(0, "alice")?;
    let after = session(&lab, 0)?;
    assert!(after.is_active() && after.id == before.id);
    works(&mut alices)?;

    // Asked to look at each new connection, it trusts none that it did not see proved.
    lab.gateway.ask(&["set", "proxy-auth-timeout", "10m"])?;
    lab.login(0, "alice")?;
    assert!(is_let_through(&lab, 0));
    lab.gateway.ask(&["set", "revalidate", "on-reopen"])?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    lab.login(0, "alice")?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    drop(lab);
    drop(cgroup);
    Ok(())
}

#[test]
fn a_kernel_side_that_is_new_lets_nobody_in_who_may_have_come_back_unseen() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[observer]\nmode = \"ebpf\"\n[timeouts]\nrevalidate = \"on-reopen\"\n")?;
    lab.login(0, "alice")?;
    has_open(&lab, 0, 0)?;
    lab.gateway.stop()?;
    let config = lab.gateway.config().display().to_string();
    assert_eq!(lab.gateway.ctl(&["detach", "--config", &config])?.exit, 0);
    lab.gateway.start()?;
    assert!(session(&lab, 0)?.is_active());
    assert_eq!(status_without_credentials(&lab, 0), 407);
    lab.login(0, "alice")?;
    has_open(&lab, 0, 0)?;
    assert_eq!(status_without_credentials(&lab, 0), 407, "and seen, it is the usual rule");
    Ok(())
}

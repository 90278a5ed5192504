//! No more threads, no more descriptors, files that may not grow: the daemon goes on serving whom it knows, and recovers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::net::ORIGIN_V4;
use lab::wait::until;

use crate::common::{ORIGIN, SOON, is_let_through, logged};

/// A limit on the number of threads of one process: a directory of the kernel's `pids` controller.
struct Pids(PathBuf);

impl Pids {
    /// No more threads than the process has now. `None` where the controller is not to be had.
    fn freeze(pid: i32, name: &str) -> Result<Option<Self>> {
        let Some(parent) = controller(pid) else { return Ok(None) };
        let pids = Self(parent.join(name.replace('.', "-")));
        std::fs::create_dir(&pids.0).with_context(|| format!("{}", pids.0.display()))?;
        std::fs::write(pids.0.join("cgroup.procs"), pid.to_string())?;
        pids.set(std::fs::read_to_string(pids.0.join("pids.current"))?.trim())?;
        Ok(Some(pids))
    }

    fn set(&self, most: &str) -> Result<()> {
        Ok(std::fs::write(self.0.join("pids.max"), most)?)
    }

    /// How often somebody was refused a thread.
    fn refused(&self) -> u64 {
        let events = std::fs::read_to_string(self.0.join("pids.events")).unwrap_or_default();
        events.lines().find_map(|line| line.strip_prefix("max ")?.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Pids {
    fn drop(&mut self) {
        let _ = self.set("max");
        if let (Some(parent), Ok(procs)) =
            (self.0.parent(), std::fs::read_to_string(self.0.join("cgroup.procs")))
        {
            for pid in procs.lines() {
                let _ = std::fs::write(parent.join("cgroup.procs"), pid);
            }
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// The directory of the process in the hierarchy that counts threads, of either version.
fn controller(pid: i32) -> Option<PathBuf> {
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mounts = std::fs::read_to_string("/proc/mounts").ok()?;
    let mount = |fits: &dyn Fn(&[&str]) -> bool| {
        mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find(|words| fits(words))
            .map(|words| words[1].to_owned())
    };
    let first = own.lines().find_map(|line| line.split_once(":pids:").map(|(_, path)| path.to_owned()));
    if let Some(path) = first {
        let at = mount(&|words| words[2] == "cgroup" && words[3].split(',').any(|option| option == "pids"))?;
        return Some(Path::new(&at).join(path.trim_start_matches('/')));
    }
    let path = own.lines().find_map(|line| line.strip_prefix("0::").map(str::to_owned))?;
    let at = mount(&|words| words[2] == "cgroup2")?;
    let directory = Path::new(&at).join(path.trim_start_matches('/'));
    let enabled = std::fs::write(directory.join("cgroup.subtree_control"), "+pids").is_ok();
    enabled.then_some(directory)
}

fn is_alive(lab: &Lab) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", lab.gateway.pid())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn without_another_thread_names_are_resolved_and_everybody_is_served() -> Result<()> {
    const NAMES: usize = 60;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    for number in 0..NAMES {
        lab.net.add_name(ORIGIN_V4.into(), &format!("n{number}.example.test"))?;
    }
    // What was started for the login has ended by then, as far as it ends.
    lab::wait::silence(Duration::from_secs(11));
    let Some(pids) = Pids::freeze(lab.gateway.pid(), lab.scratch.name())? else {
        println!("skipped: no pids controller");
        return Ok(());
    };
    std::thread::scope(|scope| -> Result<()> {
        let net = &lab.net;
        let part = |from: usize| -> Result<()> {
            let mut raw = lab::raw::Raw::connect(
                &net.clients[0].ns,
                (lab::net::GATEWAY_V4, lab::gateway::PROXY_PORT).into(),
            )?;
            for number in (from..NAMES).step_by(6) {
                raw.get(&format!("http://n{number}.example.test/"), "")?;
                let (head, _) = raw.answer()?;
                anyhow::ensure!(head.code == 200, "n{number}: {head:?}");
            }
            Ok(())
        };
        let parts: Vec<_> = (0..6).map(|from| scope.spawn(move || part(from))).collect();
        parts.into_iter().try_for_each(|part| part.join().expect("no panic"))
    })?;
    // The store is read and the sockets are walked by threads, too.
    assert_eq!(lab.gateway.ctl(&["history"])?.exit, 0);
    assert_eq!(lab.gateway.ctl(&["events", "--since", "1h"])?.exit, 0);
    lab.login(1, "bob")?;
    assert!(is_alive(&lab) && !lab.gateway.log().contains("panicked"), "{}", lab.gateway.log());
    println!("{} threads were refused", pids.refused());
    drop(pids);
    lab.login(1, "carol")
}

#[test]
fn files_that_may_not_grow_are_a_full_disk_and_no_end() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let fill = |lab: &Lab| {
        lab.login(1, "bob").and_then(|()| lab.gateway.ctl(&["logout", &lab.address(1)]).map(drop))
    };
    // Neither log nor database may be written beyond this.
    lab.gateway.limit("fsize", "4096")?;
    until("the database to take no more", SOON * 2, || fill(&lab).is_err().then_some(()))?;
    assert!(is_alive(&lab), "{}", lab.gateway.log());
    assert!(is_let_through(&lab, 0), "who is logged in stays so");
    let mut raw = lab.raw(0)?;
    for _ in 0..60 {
        raw.get(ORIGIN, "")?;
        assert_eq!(raw.answer()?.0.code, 200);
    }
    until("both to be told", SOON, || {
        let warnings = lab.gateway.ask(&["status"]).ok()?["warnings"].to_string();
        let ready = lab.gateway.http("/ready").ok()?.1;
        let words = ["make room", "standard output cannot be written"];
        words.iter().all(|words| warnings.contains(words) && ready.contains(words)).then_some(())
    })?;

    lab.gateway.limit("fsize", "unlimited")?;
    until("logins to work again", SOON * 3, || lab.login(1, "bob").ok())?;
    until("nothing to be wrong", SOON, || {
        let warnings = lab.gateway.ask(&["status"]).ok()?["warnings"].to_string();
        (!warnings.contains("make room") && !warnings.contains("standard output")).then_some(())
    })?;
    lab.gateway.restart()?;
    assert!(is_let_through(&lab, 0) && is_let_through(&lab, 1), "{}", lab.gateway.log());
    assert!(!lab.gateway.log().contains("panicked"));
    Ok(())
}

/// A limit that is lowered below what is open: nothing new can be opened by anybody until something is closed.
#[test]
fn a_lowered_limit_of_descriptors_ends_and_spins_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let mut held = lab.raw(0)?;
    held.get(ORIGIN, "")?;
    assert_eq!(held.answer()?.0.code, 200);
    lab.gateway.limit("nofile", "8")?;
    // Connections wait in the kernel; what is open goes on, as far as it needs nothing new.
    let _waiting: Vec<_> = (0..5).map(|_| lab.raw(1)).collect::<Result<_>>()?;
    for _ in 0..20 {
        held.get(ORIGIN, "")?;
        let (head, _) = held.answer()?;
        assert!([200, 502, 503].contains(&head.code), "{head:?}");
        lab::wait::silence(Duration::from_millis(100));
    }
    assert!(is_alive(&lab));
    logged(&lab, &["no connection can be accepted"])?;
    let told = lab.gateway.log().matches("no connection can be accepted").count();
    assert!((1..=4).contains(&told), "once for each core and minute, not for each try: {told}");
    lab.gateway.limit("nofile", "4096")?;
    until("bob to be served", SOON, || lab.login(1, "bob").ok())?;
    assert!(is_let_through(&lab, 0));
    assert!(!lab.gateway.log().contains("panicked"), "{}", lab.gateway.log());
    Ok(())
}

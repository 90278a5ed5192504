//! The machine: who keeps its clock, and whether the kernel side works on it.

use std::path::Path;

use super::{Case, Check, State, is_root};
use crate::admin::wire::Status;
use crate::config::{Config, ObserverMode, SecondFactorPolicy};
use crate::observe::{self, ObserveError, Rehearsal};

const TIME: &str = "time-service";
const EBPF: &str = "ebpf";
const CGROUP: &str = "cgroup";
/// The programs that keep a clock, by what the kernel calls them (15 characters at most).
const SERVICES: [&str; 6] = ["chronyd", "ntpd", "systemd-timesyn", "openntpd", "ntp-daemon", "ptp4l"];

/// Also what depends on it besides tickets.
pub(super) fn time_service(config: &Config) -> Check {
    let synchronised = observe::clock_is_synchronised().map_err(|error| error.to_string());
    let check = judge_time(synchronised, running_service());
    let asks = config.second_factor.domains.values().any(|policy| *policy != SecondFactorPolicy::Off);
    if asks { for_codes(check) } else { check }
}

/// The same where codes go by the clock.
fn for_codes(check: Check) -> Check {
    if check.state != State::Warning {
        return check;
    }
    let finding = format!(
        "{}; codes of the second factor go by it, too, and are wrong beyond 30 seconds",
        check.finding
    );
    Check { finding, ..check }
}

/// The time service that runs on this machine.
fn running_service() -> Option<&'static str> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut names = processes.filter_map(|process| std::fs::read_to_string(process.path().join("comm")).ok());
    names.find_map(|name| SERVICES.into_iter().find(|service| *service == name.trim_end()))
}

fn judge_time(synchronised: Result<bool, String>, service: Option<&str>) -> Check {
    match (synchronised, service) {
        (Ok(true), Some(service)) => {
            Check::ok(TIME, format!("{service} keeps the clock, and the kernel takes it for right"))
        }
        (Ok(true), None) => {
            Check::ok(TIME, "the kernel takes the clock for right (kept from outside this system)")
        }
        (Ok(false), Some(service)) => Check::warning(
            TIME,
            format!("{service} runs, but the kernel does not take the clock for right yet"),
            "see that it reaches its servers (chronyc sources, ntpq -p, timedatectl timesync-status)",
        ),
        (Ok(false), None) => Check::warning(
            TIME,
            "no time service keeps the clock: it will drift, and beyond five minutes tickets are refused",
            "install one (chrony or systemd-timesyncd), by the servers that the KDC goes by",
        ),
        (Err(why), _) => {
            Check::skipped(TIME, format!("the kernel does not say whether the clock is right: {why}"))
        }
    }
}

pub(super) fn kernel_side(case: &Case) -> Vec<Check> {
    match case.daemon.status() {
        Some(status) => running(status, case.config.observer.mode),
        None if case.config.observer.mode == ObserverMode::Proxy => {
            vec![Check::skipped(EBPF, "observer.mode = \"proxy\": the kernel side is not wanted")]
        }
        None => {
            let Config { observer, .. } = &case.config;
            rehearsed(
                &observe::rehearse(observer.cgroup.as_deref(), &observer.pin_dir),
                observer.mode,
                &observer.pin_dir,
            )
        }
    }
}

/// What the daemon says.
fn running(status: &Status, mode: ObserverMode) -> Vec<Check> {
    let observer = &status.observer;
    if observer.mode != "ebpf" {
        let because = observer.because.as_deref().unwrap_or("it does not say why");
        return vec![if mode == ObserverMode::Proxy {
            Check::ok(
                EBPF,
                "the daemon observes with the proxy's own eyes, as observer.mode = \"proxy\" asks for",
            )
        } else {
            Check::warning(
                EBPF,
                format!("the daemon observes with the proxy's own eyes, not in the kernel: {because}"),
                "mend the reason and restart trackerd: what happens while it is down, and on other proxies, is not seen",
            )
        }];
    }
    let pinned = match &observer.pinned {
        Some(pinned) => format!("pinned in {}", pinned.directory),
        None => "not pinned".to_owned(),
    };
    let mut checks = vec![match &observer.blind {
        None => Check::ok(
            EBPF,
            format!("the daemon observes in the kernel; {} records, {pinned}", observer.records),
        ),
        Some(why) => Check::failed(
            EBPF,
            format!("the daemon observes in the kernel, but it does not see everything: {why}"),
            "see trackerctl status; restart trackerd if it stays so",
        ),
    }];
    if let Some(cgroup) = &observer.cgroup {
        checks.push(Check::ok(CGROUP, format!("the programs are attached to {cgroup}")));
    }
    checks
}

/// What can be said without the daemon. `mode` says whether it can do without the kernel side.
fn rehearsed(found: &Rehearsal, mode: ObserverMode, pin_dir: &Path) -> Vec<Check> {
    let bad = |name, error: &ObserveError| {
        let text = error.because();
        let (finding, remedy) = text.rsplit_once("; ").unwrap_or((&text, "see docs/OPERATIONS.md"));
        if error.is_privilege() && !is_root() {
            Check::skipped(name, format!("{finding}; run trackerctl as root to have it tried"))
        } else if mode == ObserverMode::Ebpf {
            Check::failed(name, finding, remedy)
        } else {
            Check::warning(name, format!("{finding}: the daemon will use the proxy's own eyes"), remedy)
        }
    };
    let pinned = match &found.pinned {
        Ok(true) => format!("; what an earlier run has pinned in {} goes on watching", pin_dir.display()),
        Ok(false) | Err(_) => String::new(),
    };
    let mut checks = vec![match &found.programs {
        Ok(()) => Check::ok(EBPF, format!("the kernel takes the programs{pinned}")),
        Err(error) => bad(EBPF, error),
    }];
    if let Err(why) = &found.pinned {
        let (finding, remedy) = why.split_once("; ").unwrap_or((why, "see observer.pin-dir"));
        checks.push(Check::warning(
            EBPF,
            format!("{finding}: what happens while the daemon is down is not seen"),
            remedy,
        ));
    }
    checks.push(match &found.cgroup {
        Ok(path) => Check::ok(CGROUP, format!("{} is there", path.display())),
        Err(error) => bad(CGROUP, error),
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::super::{Report, State};
    use super::*;

    #[test]
    fn the_clock_is_judged_by_the_kernel_first() {
        let state = |synchronised: Result<bool, &str>, service| {
            judge_time(synchronised.map_err(str::to_owned), service).state
        };
        assert_eq!(state(Ok(true), None), State::Ok);
        assert_eq!(state(Ok(true), Some("chronyd")), State::Ok);
        assert_eq!(state(Ok(false), Some("chronyd")), State::Warning);
        assert_eq!(state(Ok(false), None), State::Warning);
        assert_eq!(state(Err("no"), None), State::Skipped);
        // Where codes go by it, that is told with it.
        let told = |synchronised| for_codes(judge_time(Ok(synchronised), Some("chronyd"))).finding;
        assert!(told(false).contains("second factor") && !told(true).contains("second factor"));
    }

    #[test]
    fn what_the_kernel_refuses_matters_as_much_as_the_configuration_says() {
        let found = |programs| Rehearsal { cgroup: Ok("/sys/fs/cgroup".into()), programs, pinned: Ok(false) };
        let worst = |found: &Rehearsal, mode| Report::new(rehearsed(found, mode, Path::new("/p"))).worst;
        assert_eq!(worst(&found(Ok(())), ObserverMode::Ebpf), State::Ok);
        assert_eq!(worst(&found(Err(ObserveError::NoObject)), ObserverMode::Auto), State::Warning);
        assert_eq!(worst(&found(Err(ObserveError::NoObject)), ObserverMode::Ebpf), State::Failed);
        let unpinned = Rehearsal { pinned: Err("nothing is mounted; mount it".into()), ..found(Ok(())) };
        let checks = rehearsed(&unpinned, ObserverMode::Auto, Path::new("/p"));
        assert_eq!(checks[1].remedy.as_deref(), Some("mount it"));
    }
}

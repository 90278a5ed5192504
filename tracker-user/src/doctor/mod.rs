//! `trackerctl doctor`: looks at everything that a login depends on, and says for each thing how it is and what helps.
//!
//! It works without the daemon, and is most needed then; if the daemon answers, what it knows is asked rather than guessed.
//! Nothing is changed, nothing is written, and whoever does not answer (a KDC, a name server) is waited for a few seconds at
//! most. Each check gathers facts, then judges them in a function of its own that asks nobody.

mod account;
mod certificate;
mod configuration;
mod dns;
mod files;
mod host;
mod kdc;
mod kerberos;
mod mail;
mod names;
mod passkeys;
mod passwords;
mod ports;
mod setup;

pub use self::configuration::check_certificates;
pub use self::passkeys::check_passkeys;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::admin::wire;
use crate::auth::kerberos::negotiate::{self, KeytabEntry, KeytabProblem};
use crate::config::{Config, ConfigError};

/// How a thing is. The order is that of gravity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was not looked at; the finding says why.
    Skipped,
    /// It is as it should be.
    Ok,
    /// It works, or may work; somebody should look.
    Warning,
    /// It does not work.
    Failed,
}

impl State {
    /// The state in one word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What kind of thing; several checks may be of one kind.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, in a sentence.
    pub finding: String,
    /// What helps; `None` where nothing needs help.
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: &'static str, state: State, finding: impl Into<String>, remedy: Option<String>) -> Self {
        Self { name, state, finding: finding.into(), remedy }
    }

    fn ok(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, State::Ok, finding, None)
    }

    fn skipped(name: &'static str, finding: impl Into<String>) -> Self {
        Self::new(name, State::Skipped, finding, None)
    }

    fn warning(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Warning, finding, Some(remedy.into()))
    }

    fn failed(name: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, State::Failed, finding, Some(remedy.into()))
    }
}

/// All that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The gravest state.
    pub worst: State,
    /// Check by check, in the order in which they are best read.
    pub checks: Vec<Check>,
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let worst = checks.iter().map(|check| check.state).max().unwrap_or(State::Skipped);
        Self { worst, checks }
    }
}

/// What is to be looked at.
#[derive(Debug)]
pub struct Case {
    /// The configuration's file; `None` where there is none, and the defaults are in force.
    pub path: Option<PathBuf>,
    /// The configuration, with what the daemon was told by `set`; of a bad file, what can be understood.
    pub config: Config,
    /// What is wrong with the file.
    pub problem: Option<ConfigError>,
    /// The daemon.
    pub daemon: Daemon,
}

/// What the daemon says.
#[derive(Debug)]
pub enum Daemon {
    /// It runs.
    Runs(Box<wire::Status>),
    /// It does not answer; why.
    Silent(String),
    /// Its socket may not be opened; in words.
    Closed(String),
}

impl Daemon {
    const fn status(&self) -> Option<&wire::Status> {
        match self {
            Self::Runs(status) => Some(status),
            Self::Silent(_) | Self::Closed(_) => None,
        }
    }
}

/// Looks at everything.
#[must_use]
pub fn examine(case: &Case) -> Report {
    let keytab = case.config.kerberos.keytab.as_deref();
    let entries = negotiate::entries(keytab);
    let services = kerberos::services(&entries, &case.config.kerberos.conditions.spns);
    // All of them wait for others: side by side, it takes as long as the slowest of them.
    let (kdc, mail, names) = thread::scope(|scope| {
        let kdc = scope.spawn(|| kdc::checks(&entries, &services, keytab));
        let mail = scope.spawn(|| mail::check(&case.config));
        let names = names::checks(&services.hosts);
        // Their panics would be this thread's.
        let kdc = kdc.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (kdc, mail.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), names)
    });
    let mut checks = setup::checks(case);
    let account = account::of_the_daemon(case);
    checks.extend(kerberos::checks(&entries, keytab, account.as_ref()));
    checks.push(kerberos::replay_cache(case.daemon.status(), account.as_ref()));
    checks.extend(kdc);
    checks.extend(passwords::checks(&case.config, &entries));
    checks.push(mail);
    checks.push(host::time_service(&case.config));
    checks.extend(names);
    checks.extend(host::kernel_side(case));
    checks.extend(ports::checks(&case.config, case.daemon.status()));
    checks.extend(certificate::checks(case, &services.hosts, account.as_ref()));
    checks.extend(files::store(case, account.as_ref()));
    Report::new(checks)
}

/// What stands in the keytab.
type Entries = Result<Vec<KeytabEntry>, KeytabProblem>;

/// Does `work` on a thread of its own, and gives it up after `limit`: what hangs in a C library cannot be ended otherwise.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = mpsc::channel();
    let started = thread::Builder::new().name("doctor".into()).spawn(move || {
        // Whoever waited may have given up.
        let _ = done.send(work());
    });
    started.ok().and_then(|_| result.recv_timeout(limit).ok())
}

/// Whether what only root may see can be seen.
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `a, b and c`.
fn listed(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_state_counts() {
        let check = |state| Check::new("x", state, "found", None);
        let worst = |states: &[State]| Report::new(states.iter().copied().map(check).collect()).worst;
        assert_eq!(worst(&[]), State::Skipped);
        assert_eq!(worst(&[State::Ok, State::Skipped]), State::Ok);
        assert_eq!(worst(&[State::Ok, State::Warning, State::Ok]), State::Warning);
        assert_eq!(worst(&[State::Failed, State::Warning]), State::Failed);
    }

    #[test]
    fn what_hangs_is_given_up() {
        let (_keep, hangs) = mpsc::channel::<()>();
        assert_eq!(within(Duration::from_millis(20), move || hangs.recv().is_ok()), None);
        assert_eq!(within(Duration::from_secs(60), || 7), Some(7));
    }

    #[test]
    fn lists_read_as_people_write_them() {
        let words = |words: &[&str]| listed(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["a"]), "a");
        assert_eq!(words(&["a", "b", "c"]), "a, b and c");
    }
}

//! The configuration and the daemon.

use super::{Case, Check, Daemon};
use crate::admin::wire::{LocalUsers, Status};
use crate::config::ConfigError;

const CONFIGURATION: &str = "configuration";
const DAEMON: &str = "daemon";
const LOCAL_USERS: &str = "local-users";

pub(super) fn checks(case: &Case) -> Vec<Check> {
    let mut checks = configuration(case);
    match &case.daemon {
        Daemon::Runs(status) => checks.extend(daemon(status, env!("CARGO_PKG_VERSION"))),
        Daemon::Silent(why) => checks.push(Check::failed(
            DAEMON,
            why.clone(),
            "start it (systemctl start trackerd); if it does not start, its log and the checks below say why",
        )),
        Daemon::Closed(why) => checks.push(Check::skipped(DAEMON, why.clone())),
    }
    checks
}

fn configuration(case: &Case) -> Vec<Check> {
    let name =
        case.path.as_ref().map_or_else(|| "there is no file".into(), |path| path.display().to_string());
    let problems: Vec<Check> = match &case.problem {
        None => Vec::new(),
        Some(error @ ConfigError::Unreadable { source, .. }) => {
            let remedy = match source.kind() {
                std::io::ErrorKind::PermissionDenied => "run trackerctl as root, or as the gateway's user",
                _ => "name the file with --config",
            };
            vec![Check::failed(CONFIGURATION, error.to_string(), remedy)]
        }
        Some(ConfigError::Invalid { path, problems }) => {
            let told = |problem: &crate::config::Problem| {
                let place = match problem.line {
                    0 => path.display().to_string(),
                    line => format!("{}:{line}", path.display()),
                };
                let key = if problem.key.is_empty() { String::new() } else { format!(" {}:", problem.key) };
                Check::failed(
                    CONFIGURATION,
                    format!("{place}:{key} {}", problem.message),
                    problem.remedy.clone(),
                )
            };
            problems.iter().map(told).collect()
        }
    };
    let bad = !problems.is_empty();
    let mut checks = problems;
    if bad {
        checks.push(Check::skipped(
            CONFIGURATION,
            "the checks below go by what can be understood of the file, and by the defaults",
        ));
    }
    for warning in case.config.warnings() {
        checks.push(Check::warning(CONFIGURATION, warning, "see docs/CONFIGURATION.md"));
    }
    for warning in case.config.not_in_effect_warnings() {
        checks.push(Check::warning(CONFIGURATION, warning, "remove it, or leave it for a later version"));
    }
    if !bad {
        let finding = match &case.path {
            Some(_) => format!("{name} is good"),
            None => format!("{name}; every setting has its default"),
        };
        checks.insert(0, Check::ok(CONFIGURATION, finding));
    }
    checks
}

/// What the daemon says of itself, seen from a trackerctl of `version`.
fn daemon(status: &Status, version: &str) -> Vec<Check> {
    let finding = format!("trackerd {} runs, process {}", status.version, status.pid);
    let first = if status.version == version {
        Check::ok(DAEMON, finding)
    } else {
        Check::warning(
            DAEMON,
            format!("{finding}, and trackerctl is of version {version}"),
            "install both of one version, and restart trackerd",
        )
    };
    let has_its_own_check = |warning: &&String| status.local_users.warning.as_ref() == Some(*warning);
    let warnings = status.warnings.iter().filter(|warning| !has_its_own_check(warning)).map(|warning| {
        Check::warning(DAEMON, warning.clone(), "trackerctl status shows it until it is mended")
    });
    std::iter::once(first).chain(warnings).chain([local_users(&status.local_users)]).collect()
}

/// The gateway's own users.
fn local_users(users: &LocalUsers) -> Check {
    match &users.warning {
        Some(warning) => Check::warning(LOCAL_USERS, warning.clone(), "trackerctl user password admin"),
        None if users.count == 1 => Check::ok(LOCAL_USERS, "the gateway has 1 user of its own"),
        None => Check::ok(LOCAL_USERS, format!("the gateway has {} users of its own", users.count)),
    }
}

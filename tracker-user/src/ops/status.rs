//! What runs, and how it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use tracker_ebpf::abi::{Counter, strangers_of};

use super::local_users::first_password_warning;
use super::{Ops, OpsError, Parts};
use crate::auth::kerberos::negotiate;
use crate::clock::boot_now;
use crate::config::Config;
use crate::net::certificates::Shown;
use crate::observe::Kind;
use crate::session::{LicenceLevel, Timeouts};

/// What runs, and how it is.
#[derive(Clone, Debug)]
pub struct Status {
    /// When the daemon started.
    pub started: Timestamp,
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// Where it listens for clients.
    pub listen: Arc<[String]>,
    /// What watches the clients.
    pub observer: Kind,
    /// Why its records cannot be relied upon; `None` while they can.
    pub blind: Option<String>,
    /// How many records there are.
    pub records: u64,
    /// What went wrong while observing, by name; only what is not 0.
    pub errors: BTreeMap<&'static str, u64>,
    /// Sessions that are served.
    pub active: usize,
    /// Sessions whose timeout ran out, which wait for their user.
    pub stale: usize,
    /// Sessions that wait for a second factor.
    pub waiting: usize,
    /// Users with an active session.
    pub users: usize,
    /// The gateway's own users.
    pub local_users: LocalUsersStatus,
    /// Passkeys that users have, by the host that they were made for.
    pub passkeys: BTreeMap<String, usize>,
    /// Licences.
    pub licences: Licences,
    /// Connections that clients hold to the proxy now.
    pub connections: usize,
    /// Bans from sending passwords that stand.
    pub bans: usize,
    /// What survives.
    pub store: StoreStatus,
    /// The record of used tokens.
    pub replay_cache: ReplayCache,
    /// The certificates that clients are shown, the default first.
    pub certificates: Vec<Shown>,
    /// The timeouts in force.
    pub timeouts: Timeouts,
    /// What an operator should look at; empty when all is well.
    pub warnings: Vec<String>,
}

/// The gateway's own users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUsersStatus {
    /// How many there are, logged in or not.
    pub count: usize,
    /// What an operator should look at, which is among the warnings, too; `None` when all is well.
    pub warning: Option<String>,
}

/// Licences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Licences {
    /// In use.
    pub used: u32,
    /// The limit; `None` when there is none.
    pub max: Option<u32>,
}

/// The embedded database.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What is decided, but not on disk yet.
    pub waiting: usize,
    /// What is wrong with it; `None` when all is well.
    pub problem: Option<String>,
}

/// The record of used tokens, MIT's replay cache.
#[derive(Clone, Debug)]
pub struct ReplayCache {
    /// The file; `None` where the environment names something else.
    pub file: Option<PathBuf>,
    /// Why it cannot be used; `None` when all is well.
    pub problem: Option<String>,
}

/// What the loop counts.
struct Counts {
    active: usize,
    stale: usize,
    waiting: usize,
    users: usize,
    licences: u32,
    shared: Vec<String>,
}

impl Ops {
    /// What runs, and how it is. Nothing is counted for it: the counts are kept as things happen.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn status(&self) -> Result<Status, OpsError> {
        self.look(async |ops| {
            let counts = ops.parts().tracker.ask(|view| Counts {
                active: view.table.active(),
                stale: view.table.len() - view.table.active() - view.table.waiting(),
                waiting: view.table.waiting(),
                users: view.table.active_users(),
                licences: view.table.licences_used(),
                shared: view.shared_hosts.warnings(&view.table.policy().timeouts, boot_now()),
            });
            let counts = counts.await.ok_or(OpsError::Stopping)?;
            ops.blocking(|parts| status(parts, counts)).await
        })
        .await
    }
}

fn status(parts: &Parts, counts: Counts) -> Status {
    let config = parts.configuration.config();
    let mut warnings = (parts.warnings)();
    warnings.extend(parts.journal.problem());
    warnings.extend(parts.configuration.warnings());
    let local_users = LocalUsersStatus {
        count: parts.local_users.count(),
        warning: first_password_warning(&parts.local_users, &parts.store),
    };
    warnings.extend(local_users.warning.clone());
    warnings.extend(counts.shared);
    warnings.extend(scarce(counts.licences, config.licences.max_users));
    warnings.extend(parts.regulator.warnings());
    let mut errors = BTreeMap::new();
    match parts.observer.counters() {
        Ok(counters) => {
            let named = Counter::ALL.iter().zip(counters).filter(|(_, count)| *count > 0);
            errors.extend(named.map(|(counter, count)| (counter.name(), count)));
        }
        Err(error) => warnings.push(format!("the observer's counters cannot be read: {error}")),
    }
    let room = parts.observer.used().unwrap_or_default();
    warnings.extend(strangers(&config, room.strangers));
    warnings.extend(parts.observer.warnings());
    if config.timeouts.judges_devices() {
        warnings.extend(parts.observer.devices_problem());
    }
    Status {
        started: parts.started,
        config: parts.configuration.path().cloned(),
        listen: Arc::clone(&parts.listen),
        observer: parts.observer.kind(),
        blind: parts.observer.blindness().map(|blindness| blindness.why),
        records: room.held + room.strangers,
        errors,
        active: counts.active,
        stale: counts.stale,
        waiting: counts.waiting,
        users: counts.users,
        local_users,
        passkeys: parts.factors.passkey_hosts(),
        licences: Licences {
            used: counts.licences,
            max: (config.licences.max_users > 0).then_some(config.licences.max_users),
        },
        connections: parts.connections.len(),
        bans: parts.regulator.banned(),
        store: StoreStatus {
            path: parts.store.path().to_owned(),
            bytes: parts.store.size(),
            waiting: parts.journal.waiting(),
            problem: parts.journal.problem(),
        },
        replay_cache: ReplayCache {
            file: negotiate::replay_file(),
            problem: parts.verifier.tickets().replay_problem().map(|problem| problem.finding),
        },
        certificates: parts.certificates.as_ref().map(|keeper| keeper.shown()).unwrap_or_default(),
        timeouts: config.timeouts.clone(),
        warnings,
    }
}

/// Licences are about to run out, or have.
fn scarce(used: u32, max: u32) -> Option<String> {
    let what = match LicenceLevel::of(used, max) {
        LicenceLevel::Available => return None,
        LicenceLevel::Scarce => "soon nobody else can log in",
        LicenceLevel::Exhausted => "nobody else can log in",
    };
    Some(format!(
        "{used} of {max} licences are in use: {what}; log users out (trackerctl logout), or raise licences.max-users"
    ))
}

/// All records that strangers may have are taken.
fn strangers(config: &Config, taken: u64) -> Option<String> {
    let most = strangers_of(config.observer.max_records);
    (taken >= u64::from(most)).then(|| {
        format!(
            "{most} clients without a session have a record, which is all that there may be: others are watched without \
             one, and are not among the hosts; users are not concerned"
        )
    })
}

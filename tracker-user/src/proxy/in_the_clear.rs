//! Passwords that have come without TLS where none is asked for: programs send what stands in their settings unasked. They are
//! not looked at, but whoever reads the network has read them, and the operator is the one who can change that.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::IntCounter;
use tracing::warn;

use super::stats::Stats;
use crate::clock::{BootTime, boot_now};
use crate::links::shown;
use crate::types::ClientAddr;

/// How often it is logged.
const LOG_EVERY: Duration = Duration::from_secs(3600);
/// How long operators are told of it.
const TOLD_FOR: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Passwords {
    count: IntCounter,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    came: Option<(ClientAddr, BootTime)>,
    logged: Option<BootTime>,
}

impl Passwords {
    /// None so far.
    pub(super) fn new(stats: &Stats) -> Self {
        Self { count: stats.passwords_in_the_clear.clone(), last: Mutex::default() }
    }

    /// One has come from this client. Whose it is, is not looked at.
    pub(super) fn note(&self, client: ClientAddr) {
        self.count.inc();
        let now = boot_now();
        let mut last = self.last();
        last.came = Some((client, now));
        if last.logged.is_none_or(|at| now.since(at) >= LOG_EVERY) {
            last.logged = Some(now);
            drop(last);
            warn!(client = %shown(client), "{}", sentence());
        }
    }

    /// What operators should be told.
    pub(super) fn warning(&self, now: BootTime) -> Option<String> {
        let (client, _) = self.last().came.filter(|(_, at)| now.since(*at) < TOLD_FOR)?;
        Some(format!("{}; {} so far, the last from {}", sentence(), self.count.get(), shown(client)))
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // Nobody panics while holding it.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn sentence() -> &'static str {
    "programs send passwords over the network in the clear, where the proxy asks for none: give them the proxy under TLS \
     (tls.proxy-listen), or take the password out of their settings"
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn it_is_told_for_a_while_and_without_a_name() {
        let passwords = Passwords::new(&Stats::new().unwrap());
        assert_eq!(passwords.warning(boot_now()), None);
        passwords.note(Ipv4Addr::new(10, 0, 0, 7).into());
        passwords.note(Ipv4Addr::new(10, 0, 0, 8).into());
        let told = passwords.warning(boot_now()).unwrap();
        assert!(told.ends_with("; 2 so far, the last from 10.0.0.8"), "{told}");
        assert_eq!(passwords.warning(boot_now().after(TOLD_FOR)), None);
    }
}

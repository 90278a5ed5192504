//! The records against the sockets: every minute, and when the observer missed something.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info, warn};
use tracker_ebpf::abi::Counter;

use super::core::{Core, PER_TURN, RESYNC_EVERY};
use crate::clock::{BootTime, boot_now};
use crate::observe::{ObserveError, Resync};
use crate::session::{Evidence, State};
use crate::types::ClientAddr;

/// The record of a client without session or connection is kept for this long after it was last used.
const RECORD_RETENTION: Duration = Duration::from_secs(600);

/// What a resync found, and the clients whose records nobody has used for long.
pub(super) type Outcome = Result<(Resync, Vec<ClientAddr>), ObserveError>;
/// A resync under way.
pub(super) type Running = oneshot::Receiver<Outcome>;

impl Core {
    pub(super) fn read_counters(&mut self) {
        self.check_health();
        let counters = match self.observer.counters() {
            Ok(counters) => counters,
            Err(error) => return warn!(%error, "the observer's counters cannot be read"),
        };
        let amiss = amiss(&counters);
        if amiss != self.amiss {
            warn!(
                events = amiss.wrapping_sub(self.amiss),
                "the observer missed something: comparing with the sockets"
            );
            self.amiss = amiss;
            self.compare_with_sockets();
        }
    }

    /// Compares the records with the sockets, and once more if something looks wrong: a difference counts when it is seen
    /// twice.
    pub(super) fn compare_with_sockets(&mut self) {
        self.look_twice = true;
        self.start_resync();
    }

    fn start_resync(&mut self) {
        if self.resync.is_some() {
            return;
        }
        let observer = Arc::clone(&self.observer);
        // A dump of many sockets takes its time; nobody waits for it.
        let took = self.metrics.resync.clone();
        let running = self.threads.run(move || {
            let began = boot_now();
            let old = began.before(RECORD_RETENTION);
            let mut unused = Vec::new();
            let resync = observer.resync(|client, evidence| {
                if evidence.connections() == 0 && evidence.last_active(began) < old {
                    unused.push(client);
                }
            })?;
            took.observe(boot_now().since(began).as_secs_f64());
            Ok((resync, unused))
        });
        match running {
            Ok(running) => self.resync = Some(running),
            Err(busy) => warn!(%busy, "the records are compared with the sockets later"),
        }
    }

    /// Forgets the record of a client without session. Only the loop begins sessions, so nobody logs in meanwhile.
    fn forget(&self, client: ClientAddr) -> bool {
        if self.table.session(client).is_some() {
            return false;
        }
        let forgotten = self.observer.forget(client);
        if let Err(error) = &forgotten {
            info!(%client, %error, "an idle record was not forgotten");
        }
        forgotten.is_ok()
    }

    /// Whoever has no session needs no record of their own any more.
    pub(super) fn release(&self, client: ClientAddr) {
        if self.table.session(client).is_none()
            && let Err(error) = self.observer.release(client)
        {
            error!(%client, %error, "a record that nobody needs is still kept");
        }
    }

    /// The same for all that an earlier run of the daemon has left behind.
    pub(super) fn release_all(&self) {
        match self.observer.held() {
            Ok(held) => held.into_iter().for_each(|client| self.release(client)),
            Err(error) => error!(%error, "the records cannot be read: some may be kept that nobody needs"),
        }
    }

    /// When the client was last active, to be kept: after a reboot the records are gone, and this is what is known. Only
    /// what may have moved since the last sweep is worth a write.
    pub(super) fn seen(&self, client: ClientAddr, evidence: &Evidence) -> Option<(ClientAddr, BootTime)> {
        let now = boot_now();
        let last = evidence.last_active(now);
        let is_active = self.table.session(client).is_some_and(|session| session.state == State::Active);
        let moved = now.since(last) < RESYNC_EVERY * 2;
        (is_active && moved).then_some((client, last))
    }

    pub(super) fn resynced(&mut self, outcome: Outcome) {
        self.metrics.resyncs.inc();
        self.health_changed();
        let (resync, idle) = match outcome {
            Ok(done) => done,
            Err(error) => return error!(%error, "the records could not be compared with the sockets"),
        };
        let Resync { clients, connections, repaired, suspected, .. } = resync;
        self.metrics.clients.set(clients as i64);
        self.metrics.connections.set(connections as i64);
        if suspected > 0 && std::mem::take(&mut self.look_twice) {
            self.start_resync();
        }
        if repaired > 0 {
            self.metrics.repaired.inc_by(repaired as u64);
            warn!(repaired, "records differed from the sockets and were repaired");
        }
        self.to_forget = idle;
        self.refresh_all();
    }

    /// In portions: many may have been left alone at the same time, and everybody else waits.
    pub(super) fn forget_some(&mut self) {
        let rest = self.to_forget.len().saturating_sub(PER_TURN);
        for client in self.to_forget.split_off(rest) {
            self.forget(client);
        }
        if rest == 0 {
            self.to_forget = Vec::new();
        }
    }
}

/// How often the observer could not tell of something: the sockets tell the rest.
pub(super) fn amiss(counters: &[u64; Counter::ALL.len()]) -> u64 {
    counters.get(Counter::HintDropped as usize).copied().unwrap_or(0)
}

/// Waits for the task, if there is one, and takes it away.
pub(super) async fn finished(task: &mut Option<Running>) -> Outcome {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await;
    *task = None;
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            error!(%error, "the resync failed");
            std::future::pending().await
        }
    }
}

//! When payload moves on connections under TLS: the proxy knows, the kernel side is told.
//!
//! The record stays the one truth, and what has been told survives the daemon. A system call with every read would be too
//! dear, so each client has a rhythm ([`rhythm`]): what moves when the record has not been told for that long is told at
//! once, by whoever moved it; what moves sooner is kept, and told
//!
//! * before anything later is, so that a silence begins where it began,
//! * before the client's record is read for a decision,
//! * by the event loop ([`Stamps::tell_some`]) when the rhythm is over, and when the connection is dropped.
//!
//! So nobody decides by less than is known, and a crash loses no more than the last of what moved within one rhythm. No lock is
//! held while the kernel is told, and nobody waits for somebody else's telling; told twice it changes nothing.

mod stamp;

use std::fmt;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;
use tracker_ebpf::abi::{AMEND_TRAFFIC, Amendment};

use self::stamp::Stamp;
use super::amend;
use super::error::ObserveError;
use crate::clock::{BootTime, boot_now};
use crate::net::Payload;
use crate::types::ClientAddr;

/// The longest rhythm, in nanoseconds.
const SLOWEST: u64 = 1_000_000_000;

/// How long what moved may be kept, in nanoseconds: so short that the timeout is hardly longer for it after a crash.
const fn rhythm(limit: u64) -> u64 {
    let part = limit / 64;
    if limit == 0 || part > SLOWEST { SLOWEST } else { part }
}

/// The stamps of all clients that have a connection under TLS.
pub(super) struct Stamps {
    /// The program `amend`.
    amend: OwnedFd,
    rhythm: AtomicU64,
    clients: DashMap<ClientAddr, Arc<Stamp>>,
    kept: Mutex<Kept>,
    /// There is something in an empty list.
    begun: Notify,
}

/// The stamps that are to be told when the rhythm is over, each once.
#[derive(Default)]
struct Kept {
    /// Since when there is one.
    since: BootTime,
    stamps: Vec<Arc<Stamp>>,
}

/// A connection's way to its client's stamp.
struct OfConnection {
    stamps: Arc<Stamps>,
    stamp: Arc<Stamp>,
}

/// The way to the client's stamp for one more connection.
pub(super) fn of_connection(stamps: &Arc<Stamps>, client: ClientAddr) -> Box<dyn Payload> {
    let entry = stamps.clients.entry(client).or_insert_with(|| Arc::new(Stamp::of(client)));
    entry.one_more();
    let stamp = Arc::clone(&entry);
    drop(entry);
    Box::new(OfConnection { stamps: Arc::clone(stamps), stamp })
}

impl Stamps {
    /// None yet; `amend` is the program, and a silence of `limit` is latched.
    pub(super) fn new(amend: OwnedFd, limit: u64) -> Self {
        Self {
            amend,
            rhythm: AtomicU64::new(rhythm(limit)),
            clients: DashMap::new(),
            kept: Mutex::default(),
            begun: Notify::new(),
        }
    }

    pub(super) fn program(&self) -> BorrowedFd<'_> {
        self.amend.as_fd()
    }

    /// Silences of `limit` are latched from now on.
    pub(super) fn apply(&self, limit: u64) {
        self.rhythm.store(rhythm(limit), Relaxed);
    }

    /// Tells the record what is kept of this client, if anything is.
    pub(super) fn tell(&self, client: ClientAddr) -> Result<(), ObserveError> {
        let stamp = self.clients.get(&client).map(|stamp| Arc::clone(&stamp));
        stamp.map_or(Ok(()), |stamp| self.tell_kept(&stamp))
    }

    /// Waits until a rhythm is over in which something was kept. Costs nothing while nothing is.
    pub(super) async fn due(&self) {
        loop {
            let since = {
                let kept = self.kept();
                (!kept.stamps.is_empty()).then_some(kept.since)
            };
            let Some(since) = since else {
                self.begun.notified().await;
                continue;
            };
            let rhythm = Duration::from_nanos(self.rhythm.load(Relaxed));
            let left = rhythm.saturating_sub(boot_now().since(since));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Tells the records what is kept of at most `most` clients.
    pub(super) fn tell_some(&self, most: usize) -> Result<(), ObserveError> {
        let some = {
            let mut kept = self.kept();
            let rest = kept.stamps.len().saturating_sub(most);
            kept.stamps.split_off(rest)
        };
        let mut outcome = Ok(());
        for stamp in some {
            // First: whatever is kept from here on lists it anew.
            stamp.is_listed_no_more();
            outcome = outcome.and(self.tell_kept(&stamp));
        }
        outcome
    }

    fn moved(&self, stamp: &Arc<Stamp>, now: u64) {
        let tell = |before, at| self.tell_record(stamp.client(), before, at);
        if !stamp.moved(now, self.rhythm.load(Relaxed), tell) {
            return;
        }
        let mut kept = self.kept();
        let is_first = kept.stamps.is_empty();
        if is_first {
            kept.since = BootTime::from_nanos(now);
        }
        kept.stamps.push(Arc::clone(stamp));
        drop(kept);
        if is_first {
            self.begun.notify_one();
        }
    }

    fn tell_kept(&self, stamp: &Stamp) -> Result<(), ObserveError> {
        stamp.tell_kept(|at| self.tell_record(stamp.client(), at, at))
    }

    /// A client without a record has nobody who has to know.
    fn tell_record(&self, client: ClientAddr, before: u64, at: u64) -> Result<(), ObserveError> {
        let amendment = Amendment { client, kind: AMEND_TRAFFIC, at, before, ..Amendment::default() };
        amend::run(self.program(), &amendment).map(drop)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Payload for OfConnection {
    fn moved(&self, at: BootTime) {
        self.stamps.moved(&self.stamp, at.as_nanos());
    }
}

impl Drop for OfConnection {
    fn drop(&mut self) {
        let Self { stamps, stamp } = self;
        // What fails now fails for whoever reads the record, too.
        let _ = stamps.tell_kept(stamp);
        stamps.clients.remove_if(&stamp.client(), |_, stamp| stamp.was_the_last());
    }
}

impl fmt::Debug for OfConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stamp.fmt(f)
    }
}

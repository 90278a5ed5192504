//! One look at everything for all who watch: every session, host and user, with rates, at most once a second.
//!
//! A snapshot is made when somebody looks and the last one is older than that, once for all who wait for it; nobody who looks, no
//! snapshot. It is made on the operations' threads, in one go over the records, and it is gone half a minute after the last look.

mod gather;
mod rows;
mod select;
#[cfg(test)]
pub(super) mod tests;
mod value;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use self::gather::Counted;
pub use self::rows::{HostRow, Kinds, SessionRow, Usage, UserRow};
pub use self::select::{Row, Select, Selection, StandingFilter, Table};
pub use self::value::{Column, Value};
use super::{Limits, Ops, OpsError};
use crate::clock::{BootTime, boot_now};

/// A snapshot is shown for so long; a little less than the second at which viewers look again.
const FRESH: Duration = Duration::from_millis(900);
/// One that took long is shown for so many times as long: however many sessions there are, a twentieth of a core makes them.
const PACE: u32 = 20;
/// No longer, all the same.
const FRESH_MOST: Duration = Duration::from_secs(20);
/// So long after the last look it is forgotten. Rates are over no longer a time either.
const KEPT: Duration = Duration::from_secs(30);
/// A snapshot has no more sessions, and no more hosts.
pub(super) const MOST: usize = 131_072;

/// Everybody who is here.
#[derive(Debug)]
pub struct Snapshot {
    /// When it was made.
    pub taken: Timestamp,
    /// By address, then by number.
    pub sessions: Vec<SessionRow>,
    /// By address.
    pub hosts: Vec<HostRow>,
    /// By name.
    pub users: Vec<UserRow>,
}

/// The snapshot that is there, and what the next one is made from.
#[derive(Default)]
pub(super) struct Snapshots {
    kept: Mutex<Kept>,
    /// Held by whoever makes one.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    last: Option<Last>,
    /// What had been counted by then, and when that was.
    counted: Option<Arc<Counted>>,
    looked: BootTime,
    /// Somebody will forget it.
    is_swept: bool,
}

struct Last {
    snapshot: Arc<Snapshot>,
    fresh_until: BootTime,
}

impl Snapshots {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one that is there, if it is fresh; and a note that somebody looked.
    fn fresh(&self, now: BootTime) -> Option<Arc<Snapshot>> {
        let mut kept = self.kept();
        kept.looked = now;
        kept.last.as_ref().filter(|last| now < last.fresh_until).map(|last| Arc::clone(&last.snapshot))
    }

    /// What had been counted not long before `now`.
    fn counted(&self, now: BootTime) -> Option<Arc<Counted>> {
        let kept = self.kept();
        kept.counted.clone().filter(|counted| now.since(counted.at) <= KEPT)
    }
}

impl Ops {
    /// Everybody who is here, as of no more than about a second ago. The first look after a while takes half a second, for the
    /// rates.
    ///
    /// # Errors
    /// As [`Self::sessions`]; and [`OpsError::TooLarge`] where there are more than [`MOST`].
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, OpsError> {
        if let Some(snapshot) = self.0.snapshots.fresh(boot_now()) {
            return Ok(snapshot);
        }
        self.look(async |ops| {
            let snapshots = &ops.0.snapshots;
            let _making = snapshots.making.lock().await;
            if let Some(snapshot) = snapshots.fresh(boot_now()) {
                return Ok(snapshot);
            }
            let _place = ops.place().await?;
            let before = match snapshots.counted(boot_now()) {
                Some(before) => before,
                None => {
                    let before = ops.count().await?;
                    tokio::time::sleep(ops.0.limits.rate_span).await;
                    Arc::new(before)
                }
            };
            let begun = boot_now();
            let (snapshot, counted) = ops.gather(before).await?;
            let (snapshot, now) = (Arc::new(snapshot), boot_now());
            let fresh = (now.since(begun) * PACE).clamp(FRESH, FRESH_MOST);
            let is_swept = {
                let mut kept = snapshots.kept();
                kept.last = Some(Last { snapshot: Arc::clone(&snapshot), fresh_until: begun.after(fresh) });
                kept.counted = Some(Arc::new(counted));
                std::mem::replace(&mut kept.is_swept, true)
            };
            if !is_swept {
                ops.0.runtime.spawn(ops.clone().sweep());
            }
            Ok(snapshot)
        })
        .await
    }

    /// Forgets the snapshot when nobody has looked for a while.
    async fn sweep(self) {
        loop {
            tokio::time::sleep(KEPT).await;
            let mut kept = self.0.snapshots.kept();
            if boot_now().since(kept.looked) >= KEPT {
                *kept = Kept::default();
                return;
            }
        }
    }

    /// A part of a table, and the snapshot that it is of.
    ///
    /// # Errors
    /// As [`Self::snapshot`].
    pub async fn select(&self, wanted: Select) -> Result<(Arc<Snapshot>, Selection), OpsError> {
        let snapshot = self.snapshot().await?;
        self.look(async move |ops| {
            ops.blocking(move |_| {
                let selection = snapshot.select(&wanted);
                (snapshot, selection)
            })
            .await
        })
        .await
    }
}

impl Limits {
    /// How many sessions or hosts a snapshot may have.
    fn of_snapshot(&self) -> usize {
        self.entries.min(MOST)
    }
}

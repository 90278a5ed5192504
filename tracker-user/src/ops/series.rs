//! What there was over the last hour, day and week: noted every few seconds, kept in the store once a minute, so that a restart
//! keeps it.

mod kept;
mod measures;
#[cfg(test)]
mod tests;
mod timeline;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use self::measures::{COUNTS, LEVELS};
pub use self::measures::{Count, Level};
pub use self::timeline::{Bucket, Span};
use self::timeline::{Buckets, Reading};
use super::{Ops, OpsError};
use crate::clock::wall_now;
use crate::store::{Entry, Store};

/// How often something is noted. What happened may stand so much too late in a bucket.
const EVERY: Duration = Duration::from_secs(10);

/// What there was in a span, bucket by bucket.
#[derive(Clone, Debug)]
pub struct Timeline {
    /// Which span.
    pub span: Span,
    /// When the last bucket began.
    pub last: Timestamp,
    /// The oldest first; `None`: nothing was noted, as the gateway did not run.
    pub buckets: Vec<Option<Bucket>>,
}

/// Who keeps them.
pub(super) struct Keeper(Mutex<State>);

struct State {
    buckets: Buckets,
    /// The levels that were last seen.
    levels: [u64; LEVELS],
    /// The minute that was last kept.
    kept: i64,
}

impl Keeper {
    /// With what the store has.
    pub(super) fn new(store: &Store) -> Self {
        let mut buckets = Buckets::default();
        match store.series() {
            Ok(kept) => kept.into_iter().filter_map(|kept| kept::read(&kept)).for_each(|(span, bucket)| {
                buckets.restore(span, bucket);
            }),
            Err(error) => tracing::warn!(%error, "what there was before cannot be read, and is not drawn"),
        }
        Self(Mutex::new(State { buckets, levels: [0; LEVELS], kept: minute(wall_now()) }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn minute(moment: Timestamp) -> i64 {
    moment.as_second().div_euclid(60)
}

impl Ops {
    /// Notes for ever what there is.
    pub async fn keep_series(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            // Without the loop nothing is noted, and it is the end.
            if self.note_levels().await.is_err() {
                return;
            }
            self.note(false);
        }
    }

    /// Keeps what has been noted, at the end.
    pub fn settle_series(&self) {
        self.note(true);
    }

    /// What there was until now, over the last hour, day and week.
    ///
    /// # Errors
    /// When the gateway is stopping.
    pub async fn series(&self) -> Result<[Timeline; 3], OpsError> {
        self.note_levels().await?;
        self.note(false);
        let (now, state) = (wall_now(), self.0.series.state());
        Ok(Span::ALL.map(|span| {
            let begun = minute(now).div_euclid(span.width()) * span.width() * 60;
            let last = Timestamp::from_second(begun).unwrap_or(now);
            Timeline { span, last, buckets: state.buckets.until(span, minute(now)) }
        }))
    }

    async fn note_levels(&self) -> Result<(), OpsError> {
        let counts = self.parts().tracker.ask(|view| {
            (
                view.table.active() as u64,
                view.table.active_users() as u64,
                u64::from(view.table.licences_used()),
            )
        });
        let (sessions, users, licences) = counts.await.ok_or(OpsError::Stopping)?;
        let mut levels = [0; LEVELS];
        for level in Level::ALL {
            let value = match level {
                Level::Sessions => sessions,
                Level::Users => users,
                Level::Licences => licences,
                Level::Connections => self.parts().connections.len() as u64,
            };
            if let Some(slot) = levels.get_mut(level.place()) {
                *slot = value;
            }
        }
        self.0.series.state().levels = levels;
        Ok(())
    }

    /// Notes what has been counted; what is noted is kept when a minute is over, or at the end.
    fn note(&self, is_the_end: bool) {
        let (tally, moved) = (self.parts().audit.tally(), self.parts().connections.totals());
        let mut counts = [0; COUNTS];
        for count in Count::all() {
            let value = match count {
                Count::Logins => tally.logins,
                Count::KickOuts => tally.kick_outs,
                Count::Received => moved.rx,
                Count::Sent => moved.tx,
                Count::Refused(ground) => tally.refused.get(ground).copied().unwrap_or_default(),
            };
            if let Some(slot) = counts.get_mut(count.place()) {
                *slot = value;
            }
        }
        let now = minute(wall_now());
        let changed = {
            let mut state = self.0.series.state();
            let levels = state.levels;
            state.buckets.note(now, &Reading { counts, levels });
            if now == state.kept && !is_the_end {
                return;
            }
            state.kept = now;
            state.buckets.take_changed()
        };
        let entries = changed.iter().map(|(span, bucket)| Entry::Series(kept::written(*span, bucket)));
        self.parts().journal.submit(entries.collect(), None);
    }
}

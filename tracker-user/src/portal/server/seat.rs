//! A connection's place, as whoever serves it holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::places::{Doing, Full, Limits, Network, Places};
use crate::clock::boot_now;
use crate::net::descriptors;
use crate::portal::stats::Stats;

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Seats(Arc<Inner>);

struct Inner {
    places: Mutex<Places>,
    /// Somebody has come, or everybody has gone.
    changed: Notify,
    stats: Stats,
}

impl Seats {
    pub(super) fn new(stats: Stats) -> Self {
        Self(Arc::new(Inner { places: Mutex::default(), changed: Notify::new(), stats }))
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; `None` as the network of a proxy in front.
    pub(super) fn take(&self, network: Option<Network>) -> Result<Held, Full> {
        let limits = Limits::of(descriptors::room_for_pages());
        let mut places = self.places();
        let (id, end) = places.take(network, limits, boot_now())?;
        self.0.stats.connections.set(i64::try_from(places.len()).unwrap_or(i64::MAX));
        if places.len() == 1 {
            self.0.changed.notify_waiters();
        }
        Ok(Held { seat: Seat { seats: self.clone(), id }, end })
    }

    /// Somebody gives way: descriptors are short.
    pub(super) fn give_one_up(&self) -> bool {
        self.places().give_one_up()
    }

    /// Ends those that take too long.
    pub(super) fn end_overdue(&self) {
        let ended = self.places().end_overdue(boot_now());
        self.0.stats.refused("slow").inc_by(ended as u64);
    }

    /// Ends those whose answers have no end.
    pub(super) fn end_streams(&self) {
        self.places().end_streams();
    }

    /// Ready when there is somebody, or nobody, any more.
    pub(super) async fn until(&self, somebody: bool) {
        loop {
            let changed = self.0.changed.notified();
            if (self.places().len() > 0) == somebody {
                return;
            }
            changed.await;
        }
    }
}

/// A place that somebody has. It is free again when this is dropped.
pub(super) struct Held {
    seat: Seat,
    end: CancellationToken,
}

impl Held {
    /// For whoever tells what the connection does.
    pub(super) fn seat(&self) -> Seat {
        self.seat.clone()
    }

    /// Ready when it must be given up.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Seats(inner) = &self.seat.seats;
        let mut places = self.seat.seats.places();
        places.leave(self.seat.id);
        inner.stats.connections.set(i64::try_from(places.len()).unwrap_or(i64::MAX));
        if places.len() == 0 {
            inner.changed.notify_waiters();
        }
    }
}

/// Whose place it is, to say what the connection does. Where it has gone, nothing happens.
#[derive(Clone)]
pub(super) struct Seat {
    seats: Seats,
    id: u64,
}

impl Seat {
    pub(super) fn note(&self, doing: Doing) {
        self.seats.places().note(self.id, doing, boot_now());
    }

    pub(super) fn stall(&self, is_stalled: bool) {
        self.seats.places().stall(self.id, is_stalled, boot_now());
    }

    pub(super) fn read(&self, bytes: usize) {
        self.seats.places().read(self.id, bytes);
    }
}

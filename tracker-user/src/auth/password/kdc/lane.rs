//! The way to one realm's KDC: how many may be on it, how many may wait for it, and whether it is worth waiting for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::breaker::{Admission, Breaker};
use crate::auth::outcome::Failure;
use crate::clock::{BootTime, boot_now};

/// So many passwords of a realm may be verified, or wait for it, at once.
const PLACES: usize = 128;
/// More realms than this are not told apart: krb5.conf names no more.
const MOST: usize = 1024;

/// The ways to all realms that were asked.
#[derive(Debug)]
pub(super) struct Lanes {
    slots: usize,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    places: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
    died: Notify,
}

/// The right to ask: for as long as the library may be at it, whoever still waits for what it says.
#[derive(Debug)]
pub(super) struct Pass {
    #[expect(dead_code, reason = "held for its drop")]
    slot: OwnedSemaphorePermit,
}

/// The right to wait.
#[derive(Debug)]
pub(super) struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Why nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dead;

impl Lanes {
    /// Each realm's KDC is asked by at most `slots` at once.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots, lanes: Mutex::default() }
    }

    /// The way to a realm that is known.
    ///
    /// # Errors
    /// [`Failure::Busy`] where there are too many realms.
    pub(super) fn of(&self, realm: &str) -> Result<Arc<Lane>, Failure> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(realm) {
            return Ok(Arc::clone(lane));
        }
        if lanes.len() >= MOST {
            return Err(Failure::Busy);
        }
        let lane = Arc::new(Lane::new(self.slots));
        lanes.insert(realm.to_owned(), Arc::clone(&lane));
        Ok(lane)
    }

    /// The realms whose KDC is silent, and how long ago it was last, in the order of their names.
    pub(super) fn silent(&self) -> Vec<(String, Duration)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = lanes.iter().filter_map(|(realm, lane)| Some((realm.clone(), lane.silent_for()?)));
        let mut silent: Vec<(String, Duration)> = silent.collect();
        silent.sort();
        silent
    }
}

impl Lane {
    fn new(slots: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            slots: Arc::new(Semaphore::new(slots)),
            breaker: Mutex::default(),
            died: Notify::new(),
        }
    }

    /// A place to wait at.
    ///
    /// # Errors
    /// [`Failure::Busy`] when there is none.
    pub(super) fn enter(&self) -> Result<Place, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| Failure::Busy)
    }

    /// Waits for one's turn to ask.
    ///
    /// # Errors
    /// At once where the KDC is known to be silent, and as soon as that is known.
    pub(super) async fn turn(&self) -> Result<Pass, Dead> {
        let died = self.died.notified();
        tokio::pin!(died);
        // From here on it is told, whatever the breaker says a moment later.
        died.as_mut().enable();
        let slots = Arc::clone(&self.slots);
        let admission = self.breaker().admission(boot_now());
        let slot = match admission {
            Admission::Nobody => return Err(Dead),
            Admission::One => slots.try_acquire_owned().map_err(|_| Dead)?,
            Admission::All => tokio::select! {
                biased;
                () = died => return Err(Dead),
                slot = slots.acquire_owned() => slot.map_err(|_| Dead)?,
            },
        };
        if self.breaker().ask(boot_now()) { Ok(Pass { slot }) } else { Err(Dead) }
    }

    /// The KDC has answered.
    pub(super) fn heard(&self) {
        self.breaker().heard(boot_now());
    }

    /// The KDC has not answered somebody who began to ask at `begun`: whoever waits need not.
    pub(super) fn silent(&self, begun: BootTime) {
        let died = self.breaker().silent(begun, boot_now());
        if died {
            self.died.notify_waiters();
        }
    }

    /// How long ago the KDC has not answered somebody, if it has answered nobody since.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        self.breaker().silent_for(boot_now())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_kdc_that_dies_is_told_at_once() {
        let lane = Arc::new(Lane::new(1));
        let begun = boot_now();
        let asking = lane.turn().await.unwrap();
        let waiting = tokio::spawn({
            let lane = Arc::clone(&lane);
            async move { lane.turn().await.err() }
        });
        tokio::task::yield_now().await;
        lane.silent(begun);
        assert_eq!(waiting.await.unwrap(), Some(Dead), "though the only slot is taken");
        assert!(lane.turn().await.is_err());
        // The answer comes after all.
        lane.heard();
        drop(asking);
        assert!(lane.turn().await.is_ok());
    }

    #[tokio::test]
    async fn places_and_realms_are_bounded() {
        let lanes = Lanes::new(1);
        let lane = lanes.of("R.TEST").unwrap();
        let places: Vec<Place> = (0..PLACES).map(|_| lane.enter().unwrap()).collect();
        assert!(matches!(lane.enter(), Err(Failure::Busy)));
        assert!(lanes.of("OTHER.TEST").unwrap().enter().is_ok(), "another realm has its own");
        drop(places);
        assert!(lanes.of("R.TEST").unwrap().enter().is_ok());
        for number in 2..MOST {
            lanes.of(&number.to_string()).unwrap();
        }
        assert!(lanes.of("one too many").is_err() && lanes.of("R.TEST").is_ok());
    }
}

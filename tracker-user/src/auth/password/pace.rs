//! When a refused password is answered: so that how long it took tells nothing of why.
//!
//! A wrong password takes a KDC two exchanges, a name that nobody has takes it one, a local user's password takes a slow
//! hash, and a ban takes nothing at all. Whoever may measure that learns which names there are. So no refusal is answered
//! before [`FLOOR`] has passed, which is longer than any of them takes; and where one took longer all the same, its answer
//! waits for the next step of a coarse scale, each twice the one before. What is left is blurred by a random part.
//!
//! Whoever waits holds no thread, only a [`Place`]; there are so many of them, and they are given out before anything is
//! looked at: one that had to be refused a place afterwards would be told in how long a time the looking was done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::outcome::Failure;
use crate::clock::BootTime;

/// No refusal is answered sooner: some times longer than a KDC, or the hash of a local user's password, takes, so that a
/// machine which is busy does not put the one on the first step and the other on the next.
pub const FLOOR: Duration = Duration::from_millis(250);
/// The random part is less than this.
pub const JITTER: Duration = Duration::from_millis(25);
/// So many names with passwords may be looked at, or wait for their answers, at once. Each is a task that sleeps.
pub const PLACES: usize = 4096;

/// See the module.
#[derive(Debug)]
pub struct Pace {
    places: Arc<Semaphore>,
}

/// The right to be looked at, and to wait for the answer. It is given back when it is dropped.
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Default for Pace {
    fn default() -> Self {
        Self::new(PLACES)
    }
}

impl Pace {
    /// A pace for so many at once.
    #[must_use]
    pub fn new(places: usize) -> Self {
        Self { places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))) }
    }

    /// A place: to be taken before the name is looked at, and held until the answer is given.
    ///
    /// # Errors
    /// [`Failure::Busy`] when there is none.
    pub fn enter(&self) -> Result<Place, Failure> {
        Arc::clone(&self.places).try_acquire_owned().map(Place).map_err(|_| Failure::Busy)
    }

    /// When a refusal that was begun at `begun`, and is known at `now`, is answered: never before `now`. `random` is any
    /// number that nobody can guess.
    #[must_use]
    pub fn until(&self, begun: BootTime, now: BootTime, random: u64) -> BootTime {
        let taken = now.since(begun);
        let mut step = FLOOR;
        while step < taken {
            step = step.saturating_mul(2);
        }
        let part = u64::try_from(JITTER.as_nanos()).unwrap_or(u64::MAX);
        // The end of time comes before `now` where a clock is far beyond any sense.
        begun.after(step).after(Duration::from_nanos(random % part)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> BootTime {
        BootTime::from_nanos(nanos)
    }

    proptest! {
        /// Whatever it took, the answer is not given before the floor, nor before it is known; it is given at a step of the
        /// scale and a random part later, and waits less than the time that it took, the floor and the random part.
        #[test]
        fn answers_keep_to_the_scale(begun in 0..1_u64 << 60, taken in 0..60_000_000_000_u64, random: u64) {
            let (pace, now) = (Pace::default(), at(begun + taken));
            let until = pace.until(at(begun), now, random);
            prop_assert!(until >= now);
            let (whole, taken) = (until.since(at(begun)), Duration::from_nanos(taken));
            prop_assert!(whole >= FLOOR);
            prop_assert!(whole <= FLOOR.max(taken * 2) + JITTER);
            let on_scale = (0..32).map(|n| FLOOR * 2_u32.pow(n % 31)).any(|step| (step..step + JITTER).contains(&whole));
            prop_assert!(on_scale, "{whole:?}");
        }

        /// Two refusals of one step cannot be told apart: with the same random part they are answered at the same time.
        #[test]
        fn what_happened_within_a_step_is_not_told(
            begun in 0..1_u64 << 60, step in 0..8_u32, one in 0.0..1.0_f64, other in 0.0..1.0_f64, random: u64,
        ) {
            let most = FLOOR * 2_u32.pow(step);
            let least = if step == 0 { Duration::ZERO } else { most / 2 + Duration::from_nanos(1) };
            let now = |part: f64| at(begun).after(least + (most - least).mul_f64(part));
            let pace = Pace::default();
            prop_assert_eq!(
                pace.until(at(begun), now(one), random), pace.until(at(begun), now(other), random)
            );
        }

        /// Any moments and numbers: no panic, and never an answer before it is known.
        #[test]
        fn no_clock_is_too_odd(begun: u64, now: u64, random: u64) {
            prop_assert!(Pace::new(1).until(at(begun), at(now), random) >= at(now));
        }
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let pace = Pace::new(2);
        let (first, _second) = (pace.enter().unwrap(), pace.enter().unwrap());
        assert!(matches!(pace.enter(), Err(Failure::Busy)));
        drop(first);
        assert!(pace.enter().is_ok());
        assert!(Pace::new(usize::MAX).enter().is_ok());
    }
}

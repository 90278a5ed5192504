//! Addresses at which somebody has just logged out, and nobody is to be logged in before they have typed a password.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// See the module. Without a hold, the next request of a browser with a ticket logs its user straight in again.
///
/// How long they last is `portal.logout-hold`, for all of them: a change concerns those that stand, too.
#[derive(Debug, Default)]
pub struct LogoutHolds(Mutex<Holds>);

#[derive(Debug, Default)]
struct Holds {
    lasts: Duration,
    by_client: HashMap<ClientAddr, Hold>,
    /// The same in the order in which they give way.
    order: BTreeSet<(Hold, ClientAddr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hold {
    /// Whether somebody was logged in.
    ended_a_session: bool,
    /// When they logged out.
    since: BootTime,
}

impl LogoutHolds {
    /// So many at once: the one that ends first gives way, and before all others those of addresses where nobody was logged in,
    /// which cost whoever asks for them nothing.
    pub const MOST: usize = 32_768;

    /// None yet; they will last for so long, and be none where that is no time.
    #[must_use]
    pub fn lasting(lasts: Duration) -> Self {
        Self(Mutex::new(Holds { lasts, ..Holds::default() }))
    }

    /// From now on they last for so long, counted from the logout of each.
    pub fn configure(&self, lasts: Duration) {
        self.lock().lasts = lasts;
    }

    /// How long they last.
    #[must_use]
    pub fn lasts(&self) -> Duration {
        self.lock().lasts
    }

    /// Somebody logs out at `client`: from now on nobody is logged in silently there. Where nobody was logged in, a hold that
    /// stands already stays as it is: asking again does not lengthen it.
    pub fn hold(&self, client: ClientAddr, ended_a_session: bool, now: BootTime) {
        let mut holds = self.lock();
        if ended_a_session || holds.until(client, now).is_none() {
            holds.insert(client, Hold { ended_a_session, since: now }, now);
        }
    }

    /// Logouts of an earlier run.
    pub fn restore(&self, logouts: impl IntoIterator<Item = (ClientAddr, BootTime)>, now: BootTime) {
        let mut holds = self.lock();
        for (client, since) in logouts {
            holds.insert(client, Hold { ended_a_session: true, since: since.min(now) }, now);
        }
    }

    /// Somebody has typed a good password there. Call it before the proof is handed to the tracker, which begins no session
    /// where a hold stands.
    pub fn release(&self, client: ClientAddr) {
        self.lock().remove(client);
    }

    /// Until when nobody is logged in silently there; `None`: they are.
    #[must_use]
    pub fn until(&self, client: ClientAddr, now: BootTime) -> Option<BootTime> {
        self.lock().until(client, now)
    }

    fn lock(&self) -> MutexGuard<'_, Holds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holds {
    fn until(&self, client: ClientAddr, now: BootTime) -> Option<BootTime> {
        let until = self.by_client.get(&client)?.since.after(self.lasts);
        (now < until).then_some(until)
    }

    fn insert(&mut self, client: ClientAddr, hold: Hold, now: BootTime) {
        self.remove(client);
        self.remove_ended(now);
        if self.lasts.is_zero() {
            return;
        }
        self.by_client.insert(client, hold);
        self.order.insert((hold, client));
        if self.by_client.len() > LogoutHolds::MOST
            && let Some((_, first)) = self.order.pop_first()
        {
            self.by_client.remove(&first);
        }
    }

    fn remove(&mut self, client: ClientAddr) {
        if let Some(hold) = self.by_client.remove(&client) {
            self.order.remove(&(hold, client));
        }
    }

    /// Each is removed once: what that takes, whoever asked for it has paid for.
    fn remove_ended(&mut self, now: BootTime) {
        let first = BootTime::default().before(Duration::MAX);
        for ended_a_session in [false, true] {
            let of_kind = (Hold { ended_a_session, since: first }, ClientAddr([0; 16]))..;
            while let Some(&(hold, client)) = self.order.range(of_kind.clone()).next()
                && hold.ended_a_session == ended_a_session
                && hold.since.after(self.lasts) <= now
            {
                self.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> ClientAddr {
        std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    const fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_hold_lasts_for_as_long_as_the_setting_says_now() {
        let holds = LogoutHolds::lasting(MINUTE);
        holds.hold(client(1), true, at(100));
        assert_eq!(holds.until(client(1), at(159)), Some(at(160)));
        assert_eq!(holds.until(client(1), at(160)), None);
        assert_eq!(holds.until(client(2), at(100)), None);
        holds.configure(2 * MINUTE);
        assert_eq!(holds.until(client(1), at(160)), Some(at(220)), "longer");
        holds.configure(Duration::ZERO);
        assert_eq!(holds.until(client(1), at(100)), None, "off");
        holds.hold(client(2), true, at(100));
        holds.configure(MINUTE);
        assert_eq!(holds.until(client(2), at(100)), None, "what was none does not become one");
        assert_eq!(LogoutHolds::default().lasts(), Duration::ZERO);
    }

    #[test]
    fn asking_again_lengthens_nothing_and_a_password_ends_it() {
        let holds = LogoutHolds::lasting(MINUTE);
        holds.hold(client(1), false, at(100));
        holds.hold(client(1), false, at(130));
        assert_eq!(holds.until(client(1), at(130)), Some(at(160)));
        holds.hold(client(1), true, at(140));
        assert_eq!(holds.until(client(1), at(140)), Some(at(200)), "somebody has logged out again");
        holds.release(client(1));
        assert_eq!(holds.until(client(1), at(140)), None);
        holds.hold(client(1), false, at(150));
        assert_eq!(holds.until(client(1), at(150)), Some(at(210)));
    }

    #[test]
    fn what_an_earlier_run_held_goes_on_and_never_for_longer() {
        let holds = LogoutHolds::lasting(MINUTE);
        holds.restore([(client(1), at(70)), (client(2), at(500)), (client(3), at(10))], at(100));
        let until = [1, 2, 3].map(|number| holds.until(client(number), at(100)));
        assert_eq!(until, [Some(at(130)), Some(at(160)), None], "the wall clock was set back");
    }

    /// Whoever asks from many addresses where nobody is logged in takes no user's hold away.
    #[test]
    fn it_is_bounded_and_those_of_nobody_give_way_first() {
        let holds = LogoutHolds::lasting(MINUTE);
        holds.hold(client(0), true, at(0));
        let most = u32::try_from(LogoutHolds::MOST).unwrap();
        (1..=most).for_each(|number| holds.hold(client(number), false, at(1)));
        assert!(holds.until(client(0), at(2)).is_some());
        assert!(holds.until(client(1), at(2)).is_none() && holds.until(client(most), at(2)).is_some());
        holds.hold(client(7), true, at(100));
        assert_eq!(holds.lock().by_client.len(), 1, "what is over takes no room");
    }

    proptest! {
        /// Against a list of what happened.
        #[test]
        fn it_is_as_the_past_says(
            events in prop::collection::vec((0_u32..4, 0_u64..40, 0_u8..4), 0..40),
        ) {
            let holds = LogoutHolds::lasting(MINUTE);
            let (mut model, mut now): (HashMap<u32, u64>, u64) = (HashMap::new(), 0);
            for (number, later, what) in events {
                now += later;
                let stands = model.get(&number).is_some_and(|since| now < since + 60);
                match what {
                    0 => {
                        holds.release(client(number));
                        model.remove(&number);
                    }
                    kind => {
                        holds.hold(client(number), kind == 1, at(now));
                        if kind == 1 || !stands {
                            model.insert(number, now);
                        }
                    }
                }
                for number in 0..4 {
                    let since = model.get(&number).filter(|since| now < *since + 60);
                    prop_assert_eq!(holds.until(client(number), at(now)), since.map(|since| at(since + 60)));
                }
                let held = holds.lock();
                prop_assert_eq!(held.by_client.len(), held.order.len());
            }
        }
    }
}

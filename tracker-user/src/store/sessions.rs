//! A session in the form in which it leaves the daemon: on disk, and later to other gateways. In the same boot it comes
//! back with the same clock, anywhere else by wall time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::text;
use crate::clock::{Anchor, BootTime};
use crate::session::{Reason, Session, State};
use crate::types::{ClientAddr, Device, Factor, Identity, Method, SessionId, Traffic};

/// See the module. A moment is kept in nanoseconds since `booted`, so that it has its wall time wherever it is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortableSession {
    #[serde(with = "text")]
    id: SessionId,
    #[serde(with = "text")]
    client: ClientAddr,
    user: String,
    domain: String,
    key: String,
    #[serde(with = "text")]
    method: Method,
    #[serde(with = "text::list", default)]
    factors: Vec<Factor>,
    #[serde(with = "text::list", default)]
    enrolled: Vec<Factor>,
    #[serde(with = "text::optional", default)]
    device: Option<Device>,
    created: i64,
    authenticated: i64,
    judged_from: i64,
    counted_from: i64,
    stale: Option<Stale>,
    /// What had been counted for the client at login: bytes received and sent, by the counters of that boot.
    #[serde(default)]
    traffic_before: Option<(u64, u64)>,
    /// The boot that the numbers above belong to.
    boot: String,
    /// The wall time at the beginning of that boot, as the wall clock was set when this was written.
    booted: Timestamp,
}

/// It waits for its user.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Stale(#[serde(with = "text")] Reason, i64);

impl PortableSession {
    /// What is to be kept of `session`.
    #[must_use]
    pub fn new(session: &Session, boot: &str, anchor: &Anchor) -> Self {
        let Session {
            id,
            client,
            // Kept are the sessions of addresses.
            connection: _,
            identity,
            method,
            factors,
            enrolled,
            device,
            created,
            authenticated,
            judged_from,
            counted_from,
            state,
            traffic_before,
        } = session;
        Self {
            id: *id,
            client: *client,
            user: identity.user().into(),
            domain: identity.domain().into(),
            key: identity.key().to_string(),
            method: *method,
            factors: factors.iter().collect(),
            enrolled: enrolled.iter().collect(),
            device: *device,
            created: nanos(*created),
            authenticated: nanos(*authenticated),
            judged_from: nanos(*judged_from),
            counted_from: nanos(*counted_from),
            stale: match state {
                // Whether a factor is missing is judged by the policy that is in force then.
                State::Active | State::Waiting { .. } => None,
                State::Stale { reason, since } => Some(Stale(*reason, nanos(*since))),
            },
            traffic_before: traffic_before.map(|Traffic { rx, tx }| (rx, tx)),
            boot: boot.into(),
            booted: anchor.wall(BootTime::default()),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> SessionId {
        self.id
    }

    /// Whether its times are of another boot than `boot`.
    #[must_use]
    pub fn is_of_another_boot(&self, boot: &str) -> bool {
        self.boot != boot
    }

    /// The session, in this boot's time. `seen` is when the client was last known to be active.
    ///
    /// After a reboot nothing is open any more, and wall time decides: every clock has run at least since the client was
    /// last seen. A wall clock that was set back would give sessions time they do not have: what would lie in the future
    /// ends the session's validity at once.
    #[must_use]
    pub fn restore(&self, boot: &str, anchor: &Anchor, now: BootTime, seen: Option<i64>) -> Option<Session> {
        let same_boot = self.boot == boot;
        let moment = |nanos: i64| {
            let there = BootTime::from_nanos(nanos.cast_unsigned());
            if same_boot { there } else { anchor.boot(shift(self.booted, nanos)) }
        };
        let mut session = Session {
            id: self.id,
            client: self.client,
            connection: None,
            identity: Identity::restore(&self.user, &self.domain, &self.key).into(),
            method: self.method,
            factors: self.factors.iter().copied().collect(),
            enrolled: self.enrolled.iter().copied().collect(),
            device: self.device,
            created: moment(self.created),
            authenticated: moment(self.authenticated),
            judged_from: moment(self.judged_from),
            counted_from: moment(self.counted_from),
            state: match self.stale {
                None => State::Active,
                Some(Stale(reason, since)) => State::Stale { reason, since: moment(since) },
            },
            // After a reboot the counters begin anew.
            traffic_before: self.traffic_before.filter(|_| same_boot).map(|(rx, tx)| Traffic { rx, tx }),
        };
        if !same_boot {
            // Interfaces have other numbers now, perhaps each other's.
            if session.client.link().is_some() {
                return None;
            }
            session.judged_from = session.judged_from.max(seen.map_or(session.judged_from, moment));
            if session.judged_from > now || session.created > now {
                session.state = State::Stale { reason: Reason::ClosedTimeout, since: now };
            }
        }
        Some(session)
    }
}

pub(super) fn nanos(moment: BootTime) -> i64 {
    moment.as_nanos().cast_signed()
}

pub(super) fn shift(moment: Timestamp, nanos: i64) -> Timestamp {
    moment.checked_add(SignedDuration::from_nanos(nanos)).unwrap_or(moment)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::boot_now;
    use crate::types::Factors;

    fn session(now: BootTime) -> Session {
        Session {
            id: SessionId::test(77),
            client: ClientAddr::from_v4([10, 0, 0, 1]),
            connection: None,
            identity: Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE").into(),
            method: Method::Kerberos,
            factors: Factors::NONE.with(Factor::Totp),
            enrolled: Factors::NONE.with(Factor::Totp).with(Factor::Passkey),
            device: Device::new(&[2, 0, 0, 0, 0, 1]),
            created: now.before(Duration::from_secs(100)),
            authenticated: now.before(Duration::from_secs(50)),
            judged_from: now.before(Duration::from_secs(60)),
            counted_from: now.before(Duration::from_secs(70)),
            state: State::Stale { reason: Reason::TrafficTimeout, since: now.before(Duration::from_secs(1)) },
            traffic_before: Some(Traffic { rx: 3, tx: u64::MAX }),
        }
    }

    #[test]
    fn in_the_same_boot_everything_comes_back_as_it_was() {
        let (now, anchor) = (boot_now(), Anchor::now());
        let before = session(now);
        let text = serde_json::to_string(&PortableSession::new(&before, "this", &anchor)).unwrap();
        let stored: PortableSession = serde_json::from_str(&text).unwrap();
        let after = stored.restore("this", &anchor, now, None).unwrap();
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
    }

    #[test]
    fn after_a_reboot_wall_time_goes_on_and_activity_moves_the_clock() {
        let (now, anchor) = (boot_now(), Anchor::now());
        let before = session(now);
        let mut stored = PortableSession::new(&before, "earlier", &anchor);
        // The earlier boot had been up for a day longer.
        let day = 86_400_000_000_000;
        for moment in [&mut stored.created, &mut stored.judged_from] {
            *moment += day;
        }
        stored.booted = shift(stored.booted, -day);
        let close = |a: BootTime, b: BootTime| a.since(b) + b.since(a) < Duration::from_millis(1);
        let seen = nanos(now.before(Duration::from_secs(10))) + day;
        let after = stored.restore("this", &anchor, now, Some(seen)).unwrap();
        assert!(close(after.created, before.created), "{after:?}");
        assert!(close(after.judged_from, now.before(Duration::from_secs(10))), "{after:?}");
        assert!(
            matches!(after.state, State::Stale { reason: Reason::TrafficTimeout, since } if close(since, now.before(Duration::from_secs(1)).before(Duration::from_nanos(day.cast_unsigned())))),
            "{after:?}"
        );
        assert_eq!(after.traffic_before, None, "the counters began anew");
    }

    #[test]
    fn a_wall_clock_set_back_over_a_reboot_gives_nobody_time() {
        let (now, anchor) = (boot_now(), Anchor::now());
        let active = Session { state: State::Active, ..session(now) };
        let mut stored = PortableSession::new(&active, "earlier", &anchor);
        stored.booted = shift(stored.booted, 3_600_000_000_000);
        let after = stored.restore("this", &anchor, now, None).unwrap();
        assert!(matches!(after.state, State::Stale { .. }));
    }
}

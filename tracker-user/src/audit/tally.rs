//! What the trail has counted since the start, for whoever draws it.

use prometheus::core::Collector as _;

use super::{Audit, Ground, Kind};
use crate::session::Reason;

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sessions that began.
    pub logins: u64,
    /// Sessions that ended because another user proved themselves.
    pub kick_outs: u64,
    /// Refusals, in the order of [`Ground::LABELS`].
    pub refused: [u64; Ground::KINDS],
}

impl Audit {
    /// What has been counted so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for family in self.counted.collect() {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    let pair = metric.get_label().iter().find(|pair| pair.name() == name);
                    pair.map_or("", |pair| pair.value())
                };
                // Whole, and far below what a float has whole numbers for.
                let count = metric.get_counter().get_value() as u64;
                let (event, reason) = (label("event"), label("reason"));
                if event == Kind::Login.as_str() {
                    tally.logins += count;
                } else if event == Kind::Ended.as_str() && reason == Reason::Kicked.as_str() {
                    tally.kick_outs += count;
                } else if event == Kind::Refused.as_str() {
                    let place = Ground::LABELS.iter().position(|label| *label == reason);
                    if let Some(refused) = place.and_then(|place| tally.refused.get_mut(place)) {
                        *refused += count;
                    }
                }
            }
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;
    use crate::audit::Refusal;
    use crate::types::ClientAddr;

    #[test]
    fn refusals_are_counted_by_their_grounds() {
        let audit = Audit::new(&Registry::new()).unwrap();
        let client = ClientAddr::from_v4([192, 0, 2, 1]);
        for ground in
            [Ground::Credentials("ntlm"), Ground::Credentials("expired"), Ground::Port, Ground::Licences]
        {
            audit.refused(&Refusal::of_request(client, ground, None, "why"));
        }
        let tally = audit.tally();
        assert_eq!((tally.logins, tally.kick_outs), (0, 0));
        let counted = Ground::LABELS.into_iter().zip(tally.refused).filter(|(_, count)| *count > 0);
        let counted: Vec<(&str, u64)> = counted.collect();
        assert_eq!(counted, [("credentials", 2), ("licences", 1), ("port", 1)]);
        assert_eq!(audit.newest(2).len(), 2);
    }
}

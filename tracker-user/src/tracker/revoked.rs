//! Whose sessions were ended because of a change of who they are or what they prove themselves by. Credentials that were
//! under way meanwhile were verified by what counted before: they prove nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::Identity;

/// Credentials are verified within seconds; those that take longer than this are not verified at all.
const KEPT: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Revoked(HashMap<Arc<Identity>, BootTime>);

impl Revoked {
    /// What this person has sent up to now proves nothing any more.
    pub(super) fn note(&mut self, who: Arc<Identity>, now: BootTime) {
        self.0.retain(|_, at| now.since(*at) < KEPT);
        self.0.insert(who, now);
    }

    /// Whether credentials of this person that had come by `at` prove nothing.
    pub(super) fn covers(&self, who: &Identity, at: BootTime) -> bool {
        // Nearly always there is nobody.
        !self.0.is_empty() && self.0.get(who).is_some_and(|revoked| at <= *revoked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_proves_nothing_and_what_comes_later_does() {
        let at = |seconds: u64| BootTime::from_nanos(seconds * 1_000_000_000);
        let (local, kerberos) = (Identity::local("bob"), Identity::new("bob", "LOCAL", "LOCAL"));
        let mut revoked = Revoked::default();
        assert!(!revoked.covers(&local, at(1)));
        revoked.note(Arc::new(local.clone()), at(10));
        assert!(revoked.covers(&Identity::local("BOB"), at(10)) && revoked.covers(&local, at(1)));
        assert!(!revoked.covers(&local, at(11)) && !revoked.covers(&kerberos, at(10)));
        revoked.note(Arc::new(local.clone()), at(20));
        assert!(revoked.covers(&local, at(11)));
        revoked.note(Arc::new(kerberos), at(1_000));
        assert_eq!(revoked.0.len(), 1, "it does not grow");
    }
}

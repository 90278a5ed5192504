//! What the tests of the core share: the table asked by a record, as the loop does with what it reads; and policies.

use tracker_ebpf::record::Record;

use super::*;
use crate::clock::BootTime;
use crate::types::Scope;

impl Facts<'_> {
    /// What is known of a client that has been watched all the time, on a new connection.
    pub(super) const fn of(evidence: &Evidence, now: BootTime) -> Facts<'_> {
        let watched_since = Some(BootTime::from_nanos(0));
        Facts { evidence: Some(evidence), device: None, watched_since, arrival: Arrival::NEW, now }
    }
}

impl Table {
    /// [`Self::check`] with what a record says, on a new connection.
    pub(super) fn check_by(
        &mut self,
        scope: impl Into<Scope>,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Decision {
        self.check(scope, &Facts::of(&Evidence::from(record), now), out)
    }

    /// [`Self::refresh`] with what a record says.
    pub(super) fn refresh_by(
        &mut self,
        scope: impl Into<Scope>,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        self.refresh(scope, &Evidence::from(record), now, out);
    }

    /// [`Self::prove`] with what a record says.
    pub(super) fn prove_by(
        &mut self,
        proof: &Proof,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, Refused> {
        self.prove(proof, &Evidence::from(record), now, out)
    }
}

/// A policy with these timeouts, and without limits.
pub(super) fn policy(timeouts: Timeouts) -> Policy {
    Policy {
        timeouts,
        max_users: 0,
        devices_per_user: 5,
        guests: Vec::new(),
        factors: FactorPolicy::default(),
        since: BootTime::default(),
    }
}
